//! The lives of leases by the committed log, and when they may end by true time.

use std::collections::BTreeMap;
use std::time::Duration;

use quoin_core::id::MemberId;
use quoin_core::time::Instant;

use super::LeaseRules;

/// How long before a change of leader a client may have sent a request that the new leader still handles.
pub(super) const LATE_RENEWAL: Duration = Duration::from_secs(15);

/// A lease from its grant to its end.
#[derive(Clone, Debug)]
pub(super) struct Life {
    /// The entry that granted it.
    pub(super) granted: u64,
    /// The term of that entry.
    pub(super) term: u64,
    /// The entry that ended it.
    pub(super) revoked: Option<u64>,
    /// Seconds granted.
    pub(super) ttl: i64,
    /// A moment before which no member can have applied the grant.
    pub(super) since: Instant,
    /// The fewest seconds left by any checkpoint.
    pub(super) checkpoint: Option<i64>,
    /// The term in which the newest leader began, and the seconds that the log left the lease there.
    pub(super) inherited: Option<(u64, i64)>,
    /// When its end was first handed to the log of a leader that found its time over, and that leader's term.
    pub(super) ending: Option<(Instant, u64)>,
    /// When a client last requested a renewal.
    pub(super) asked: Option<Instant>,
    /// When the last renewal was requested that was answered with success.
    pub(super) renewed: Option<Instant>,
}

impl Life {
    /// Whether it existed after the entry at `index`.
    pub(super) fn covers(&self, index: u64) -> bool {
        self.granted <= index && self.revoked.is_none_or(|revoked| index < revoked)
    }

    /// The earliest moments from which its time may count while `reign` lasts (its grant, the beginning of the reign,
    /// its last renewal), each with the time that it has from there.
    pub(super) fn terms(&self, reign: &Reign, rules: &LeaseRules) -> impl Iterator<Item = (Instant, Duration)> {
        let ttl = seconds(self.ttl);
        let is_own = self.term == reign.term;
        let granted = is_own.then_some((self.since, ttl));
        let is_undisturbed = self.asked.is_none_or(|asked| asked + LATE_RENEWAL < reign.since);
        let extended = if is_undisturbed {
            rules.election_timeout
        } else {
            Duration::ZERO
        };
        let left = match self.inherited {
            Some((term, left)) if term == reign.term => seconds(left),
            // Not known yet: any checkpoint so far may count.
            _ => self.checkpoint.map_or(ttl, seconds).min(ttl),
        };
        let promoted = (!is_own).then_some((reign.since, left.saturating_add(extended)));
        let renewed = self
            .renewed
            .filter(|asked| *asked >= reign.since)
            .map(|asked| (asked, ttl));
        [granted, promoted, renewed].into_iter().flatten()
    }
}

/// Seconds of a TTL; a negative one counts as none.
pub(super) fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

/// The leader of a term.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reign {
    pub(super) term: u64,
    pub(super) leader: MemberId,
    /// When its first entry was handed to the leader's log.
    pub(super) since: Instant,
    /// That entry.
    pub(super) first: u64,
}

/// All leases that ever existed.
#[derive(Debug, Default)]
pub(super) struct Lives {
    by_id: BTreeMap<i64, Vec<Life>>,
    /// The number of leases after each entry that changed it.
    counts: BTreeMap<u64, usize>,
    live: usize,
}

impl Lives {
    /// An entry granted a lease.
    pub(super) fn grant(&mut self, id: i64, life: Life) {
        self.live += 1;
        self.counts.insert(life.granted, self.live);
        self.by_id.entry(id).or_default().push(life);
    }

    /// An entry ended a lease, if that existed.
    pub(super) fn revoke(&mut self, id: i64, index: u64) {
        if let Some(life) = self.live_mut(id) {
            life.revoked = Some(index);
            self.live -= 1;
            self.counts.insert(index, self.live);
        }
    }

    /// The lease in the committed log.
    pub(super) fn live(&self, id: i64) -> Option<&Life> {
        self.by_id.get(&id)?.last().filter(|life| life.revoked.is_none())
    }

    pub(super) fn live_mut(&mut self, id: i64) -> Option<&mut Life> {
        let last = self.by_id.get_mut(&id)?.last_mut();
        last.filter(|life| life.revoked.is_none())
    }

    /// The entry at `index` is the first of `term`: its leader gives every lease the time that the log left it, which
    /// may be that of a checkpoint.
    pub(super) fn open(&mut self, term: u64, left: impl Fn(i64) -> i64) {
        for (id, lives) in &mut self.by_id {
            if let Some(life) = lives.last_mut().filter(|life| life.revoked.is_none()) {
                let remaining = left(*id);
                let whole = if remaining > 0 { remaining } else { life.ttl };
                life.inherited = Some((term, whole.min(life.ttl)));
            }
        }
    }

    /// All leases in the committed log.
    pub(super) fn all_live(&self) -> impl Iterator<Item = (i64, &Life)> {
        self.by_id.keys().filter_map(|id| Some((*id, self.live(*id)?)))
    }

    /// The lease after the entry at `index`.
    pub(super) fn at(&self, id: i64, index: u64) -> Option<&Life> {
        self.by_id.get(&id)?.iter().rev().find(|life| life.covers(index))
    }

    /// Whether such a lease ever existed.
    pub(super) fn was_ever(&self, id: i64) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Whether the lease existed at some time from the entry at `index` on.
    pub(super) fn was_since(&self, id: i64, index: u64) -> bool {
        self.since(id, index).next().is_some()
    }

    /// All grants of the lease that existed at some time from the entry at `index` on.
    pub(super) fn since(&self, id: i64, index: u64) -> impl Iterator<Item = &Life> {
        let lives = self.by_id.get(&id).into_iter().flatten();
        lives.filter(move |life| life.revoked.is_none_or(|end| end > index))
    }

    /// The number of leases after the entry at `index`.
    pub(super) fn count_at(&self, index: u64) -> usize {
        self.counts.range(..=index).next_back().map_or(0, |(_, count)| *count)
    }

    /// Whether an entry after `from` and up to `to` granted or ended one.
    pub(super) fn changed_between(&self, from: u64, to: u64) -> bool {
        self.counts
            .range(from + 1..=to.max(from + 1))
            .any(|(index, _)| *index <= to)
    }
}
