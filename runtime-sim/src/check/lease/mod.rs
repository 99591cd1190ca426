//! Leases (C24–C31): when they end by true time, which members end them and with which keys, and the answers to
//! clients.
//!
//! - C24 no leader ends a lease before its time has passed by a clock that is at most as fast as allowed, counted from
//!   the grant, the last renewal answered to a client, and the leader's own start; no other member ends one
//! - C25 a member that answers a renewal with success led after the request, and the lease exists
//! - C26 all keys of a lease that ends, and no others, are deleted at one revision
//! - C27 the remaining time in an answer is at most what was granted and at least what must be left; checkpoints for
//!   later leaders are checked in `checkpoints`
//! - C28 after healing, a lease that is not renewed ends
//! - C29 grants are answered and refused as etcd does
//! - C30 no key is attached to a lease that does not exist
//! - C31 members have the leases of the log, also after a restart and a snapshot
//!
//! A lease's time is bounded by observations before the fact (an entry handed to the leader's log, a client's request),
//! so that there is no false alarm; a true one may be late by the time between them.

mod answers;
mod checkpoints;
mod lives;
mod scan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prost::Message as _;
use quoin_core::id::MemberId;
use quoin_core::mvcc::{Event, EventKind};
use quoin_core::proto::etcdserverpb::{InternalRaftRequest, LeaseCheckpoint};
use quoin_core::proto::raftpb::{Entry, Message, MessageType};
use quoin_core::store::View;
use quoin_core::time::Instant;

use self::answers::Question;
use self::checkpoints::Checkpoints;
use self::lives::{Life, Lives, Reign, seconds};
use super::{Asked, Checker, Truth};
use crate::observe::{Observation, OpId, Verdict, ensure};
use quoin_model::call::Call;
use quoin_model::etcd::Rules;

/// Election timeouts without disturbance after which there is a leader that counts time.
const SETTLING_ELECTIONS: u32 = 10;

/// The time between the expiry of a lease and its end: the leader looks twice a second, proposes a few at a time, and
/// repeats a proposal after seconds.
const REVOCATION: Duration = Duration::from_secs(10);

/// The limits of clocks, and the settings of members.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LeaseRules {
    /// How wrong a member's monotonic clock may be, in percent, either way.
    pub drift_percent: u32,
    /// `--election-timeout`, the smallest of all members: a new leader adds it to every lease. Zero if it is not known.
    pub election_timeout: Duration,
    /// Whether leaders write checkpoints: all of them or none; `None` if that differs.
    pub checkpoints: Option<bool>,
}

impl Default for LeaseRules {
    fn default() -> Self {
        Self {
            drift_percent: 5,
            election_timeout: Duration::ZERO,
            checkpoints: None,
        }
    }
}

impl LeaseRules {
    /// The rules for members started with `rules`: their shortest lease is one and a half election timeouts, rounded
    /// up, which gives a lower bound of the election timeout.
    #[must_use]
    pub fn of(rules: Rules) -> Self {
        let whole = u64::try_from(rules.min_lease_ttl - 1).unwrap_or(0);
        Self {
            election_timeout: Duration::from_millis(whole.saturating_mul(1_000) / 3 * 2),
            checkpoints: rules.checkpoints,
            ..Self::default()
        }
    }

    /// The least true time in which a member's clock can advance by `time`.
    fn at_least(&self, time: Duration) -> Duration {
        let per_mille = 1_000 - self.drift_percent.min(100) * 10;
        Duration::from_nanos(nanos(time) / 1_000 * u64::from(per_mille))
    }

    /// The longest time by which a clock advances in the true time `time`, or the longest true time in which it
    /// advances by `time`.
    fn at_most(&self, time: Duration) -> Duration {
        let per_mille = 1_000 + self.drift_percent.min(100) * 11;
        Duration::from_nanos((nanos(time) / 1_000).saturating_mul(u64::from(per_mille)))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Checks everything about leases.
#[derive(Debug)]
pub struct LeaseChecker {
    rules: LeaseRules,
    lives: Lives,
    /// The number of committed entries taken in.
    looked: u64,
    /// When a grant was first handed to a log.
    grants: BTreeMap<i64, Instant>,
    /// Committed revocations, by index.
    revocations: BTreeMap<u64, i64>,
    /// Ids of the requests to revoke that were checked.
    seen: BTreeSet<u64>,
    /// When a client last requested a renewal of this id. It may do so before any member has visibly applied the grant,
    /// and be answered after a change of leader.
    asked: BTreeMap<i64, Instant>,
    /// Leases that clients asked to revoke, with the bits by which a request's id names its proposer.
    ended_by_clients: BTreeSet<(u64, i64)>,
    /// The leader of each term.
    reigns: BTreeMap<u64, Reign>,
    checkpoints: Checkpoints,
    questions: BTreeMap<OpId, Question>,
    /// The last entry that each member has applied.
    applied: BTreeMap<MemberId, u64>,
    /// After healing: the time by which each lease must have ended.
    due: BTreeMap<Instant, Vec<(i64, u64)>>,
    healed: Option<(Instant, Duration)>,
}

impl Default for LeaseChecker {
    fn default() -> Self {
        Self::new(LeaseRules::default())
    }
}

impl Checker for LeaseChecker {
    fn see(&mut self, at: Instant, seen: &Observation<'_>, truth: &Truth) -> Verdict {
        if self.looked != truth.committed() {
            self.catch_up(at, truth);
        }
        if self.due.first_key_value().is_some_and(|(due, _)| *due <= at) {
            self.collect(at, truth)?;
        }
        self.checkpoints.look(at, &self.lives, truth)?;
        match *seen {
            Observation::Handed { member, entries, .. } => self.handed(at, member, entries, truth),
            Observation::Sent { member, message, .. } => self.sent(member, message),
            Observation::Published {
                member,
                view,
                events,
                restored,
                ..
            } => {
                self.checkpoints.published(at, member, &self.lives, truth);
                self.published(member, view, events, restored, truth)
            }
            Observation::Started { member, view, .. } => {
                self.applied.insert(member, view.applied_index);
                self.compare_whole(member, view, truth)
            }
            Observation::Invoked { op, member, call, .. } => {
                self.invoked(at, op, member, call, truth);
                Ok(())
            }
            Observation::Replied { op, member, result } => self.replied(at, op, member, result, truth),
            Observation::Healed { election_timeout, .. } => {
                self.heal(at, election_timeout);
                Ok(())
            }
            Observation::Finished => self.finished(truth),
            _ => Ok(()),
        }
    }
}

impl LeaseChecker {
    /// A checker without observations, for members with these `rules`.
    #[must_use]
    pub fn new(rules: LeaseRules) -> Self {
        Self {
            rules,
            lives: Lives::default(),
            looked: 0,
            grants: BTreeMap::new(),
            revocations: BTreeMap::new(),
            seen: BTreeSet::new(),
            asked: BTreeMap::new(),
            ended_by_clients: BTreeSet::new(),
            reigns: BTreeMap::new(),
            checkpoints: Checkpoints::new(rules),
            questions: BTreeMap::new(),
            applied: BTreeMap::new(),
            due: BTreeMap::new(),
            healed: None,
        }
    }

    /// Takes in what was committed since.
    fn catch_up(&mut self, at: Instant, truth: &Truth) {
        if truth.committed() < self.looked {
            // A new cluster was formed, and what the log had beyond is dropped.
            self.looked = 0;
            self.lives = Lives::default();
            self.grants.clear();
            self.revocations.clear();
            self.applied.clear();
            self.due.clear();
            self.checkpoints.stop();
            self.healed = None;
        }
        while self.looked < truth.committed() {
            self.looked += 1;
            let Some(committed) = truth.entry(self.looked) else {
                return;
            };
            let (index, term) = (self.looked, committed.entry.term);
            if self.reigns.get(&term).is_some_and(|reign| reign.first == index) {
                let left = |id| truth.model().lease_at(id, index).map_or(0, |lease| lease.remaining_ttl);
                self.lives.open(term, left);
            }
            let Asked::Request(request) = &committed.asked else {
                continue;
            };
            if let Some(grant) = &request.lease_grant {
                self.granted(at, grant.id, index, term, truth);
            }
            // A user may not end every lease.
            if let Some(revoke) = &request.lease_revoke
                && truth.model().lease_at(revoke.id, index).is_none()
            {
                self.grants.remove(&revoke.id);
                self.lives.revoke(revoke.id, index);
                self.checkpoints.ended(revoke.id);
                self.revocations.insert(index, revoke.id);
            }
            let written = request.lease_checkpoint.iter().flat_map(|request| &request.checkpoints);
            for checkpoint in written {
                if let Some(life) = self.lives.live(checkpoint.id) {
                    self.checkpoints.schedule(at, checkpoint.id, life, truth);
                }
            }
        }
    }

    fn granted(&mut self, at: Instant, id: i64, index: u64, term: u64, truth: &Truth) {
        if self.lives.live(id).is_some() {
            return;
        }
        let Some(lease) = truth.model().lease_at(id, index) else {
            return;
        };
        let life = Life {
            granted: index,
            term,
            revoked: None,
            ttl: lease.granted_ttl,
            since: self.grants.get(&id).copied().unwrap_or(at),
            checkpoint: None,
            inherited: None,
            ending: None,
            asked: self.asked.get(&id).copied(),
            renewed: None,
        };
        self.expect_end(at, id, &life);
        self.checkpoints.schedule(at, id, &life, truth);
        self.lives.grant(id, life);
    }

    /// A member handed entries to its log.
    fn handed(&mut self, at: Instant, member: MemberId, entries: &[Entry], truth: &Truth) -> Verdict {
        for entry in entries {
            let newest = self.reigns.last_key_value().map_or(0, |(term, _)| *term);
            if entry.term > newest {
                // Other members have an entry of the term only after its leader has sent it.
                let reign = Reign {
                    term: entry.term,
                    leader: member,
                    since: at,
                    first: entry.index,
                };
                self.reigns.insert(entry.term, reign);
                self.checkpoints.reign(entry.term, member, entry.index);
            }
            if !scan::is_about_leases(&entry.data) {
                continue;
            }
            let Ok(request) = InternalRaftRequest::decode(entry.data.clone()) else {
                continue;
            };
            if let Some(grant) = &request.lease_grant {
                self.grants.entry(grant.id).or_insert(at);
            }
            if let Some(checkpoints) = &request.lease_checkpoint {
                for checkpoint in &checkpoints.checkpoints {
                    self.written(at, member, entry.term, checkpoint, truth)?;
                }
            }
            if request.lease_revoke.is_some() {
                let reign = self.reigns.get(&entry.term).copied();
                self.revocation(at, &request, reign, member)?;
            }
        }
        Ok(())
    }

    /// A member was handed a checkpoint of a lease.
    fn written(
        &mut self,
        at: Instant,
        member: MemberId,
        term: u64,
        checkpoint: &LeaseCheckpoint,
        truth: &Truth,
    ) -> Verdict {
        let (id, remaining) = (checkpoint.id, checkpoint.remaining_ttl);
        let reign = self.reigns.get(&term).filter(|reign| reign.leader == member).copied();
        if let Some(reign) = reign {
            let terms = self
                .lives
                .live(id)
                .into_iter()
                .flat_map(|life| life.terms(&reign, &self.rules));
            let left = terms.map(|(since, time)| time.saturating_sub(self.rules.at_most(at.saturating_since(since))));
            let floor = left
                .max()
                .map_or(0, |left| i64::try_from(left.as_secs()).unwrap_or(i64::MAX));
            self.checkpoints.written(at, term, id, remaining, floor, truth)?;
        }
        if remaining <= 0 {
            return Ok(());
        }
        if let Some(life) = self.lives.live_mut(id) {
            life.checkpoint = Some(life.checkpoint.map_or(remaining, |before| before.min(remaining)));
        }
        Ok(())
    }

    /// A member that does not lead forwards proposals.
    fn sent(&mut self, member: MemberId, message: &Message) -> Verdict {
        if message.msg_type != MessageType::MsgPropose as i32 {
            return Ok(());
        }
        for entry in &message.entries {
            if scan::is_about_leases(&entry.data)
                && let Ok(request) = InternalRaftRequest::decode(entry.data.clone())
                && request.lease_revoke.is_some()
            {
                self.revocation(Instant::ZERO, &request, None, member)?;
            }
        }
        Ok(())
    }

    /// A member proposed the end of a lease (C24).
    fn revocation(
        &mut self,
        at: Instant,
        request: &InternalRaftRequest,
        reign: Option<Reign>,
        member: MemberId,
    ) -> Verdict {
        let request_id = request.header.as_ref().map_or(request.id, |header| header.id);
        let id = request.lease_revoke.as_ref().map_or(0, |revoke| revoke.id);
        let proposer = request_id >> 48;
        if self.ended_by_clients.contains(&(proposer, id)) || !self.seen.insert(request_id) {
            return Ok(());
        }
        let leader = reign.map(|reign| reign.leader);
        ensure(leader.is_some_and(|leader| bits(leader) == proposer), "C24", || {
            format!(
                "lease {id} is ended by member ..{proposer:x}, which does not lead (request {request_id:x}, seen at {member})"
            )
        })?;
        let (Some(reign), Some(life)) = (reign, self.lives.live(id)) else {
            return Ok(());
        };
        if self
            .reigns
            .last_key_value()
            .is_some_and(|(newest, _)| *newest > reign.term)
        {
            // This leader has not learned that it is deposed. Entries that it appends in its old term are never
            // committed.
            return Ok(());
        }
        let rules = self.rules;
        for (since, time) in life.terms(&reign, &rules) {
            let end = since + rules.at_least(time);
            ensure(at >= end, "C24", || {
                format!(
                    "lease {id} of {time:?} counted from {since} is ended at {at}, before {end}: {life:?}, {reign:?}"
                )
            })?;
        }
        if let Some(life) = self.lives.live_mut(id) {
            life.ending = life
                .ending
                .filter(|(_, term)| *term == reign.term)
                .or(Some((at, reign.term)));
        }
        Ok(())
    }

    fn published(&mut self, member: MemberId, view: &View, events: &[Event], restored: bool, truth: &Truth) -> Verdict {
        let index = view.applied_index;
        let before = self.applied.insert(member, index).unwrap_or(0);
        if restored {
            return self.compare_whole(member, view, truth);
        }
        for event in events {
            if event.kind == EventKind::Put && event.kv.lease != 0 {
                self.attached(member, event, truth)?;
            }
        }
        if index <= before {
            return Ok(());
        }
        if let Some((first, _)) = self.revocations.range(before + 1..=index).next() {
            self.keys_gone(member, *first..=index, events, truth)?;
        }
        if self.lives.changed_between(before, index) {
            self.compare(member, view)?;
        }
        Ok(())
    }

    /// A key is attached to a lease (C30).
    fn attached(&self, member: MemberId, event: &Event, truth: &Truth) -> Verdict {
        let (id, revision) = (event.kv.lease, event.kv.mod_revision);
        let index = truth.model().index_of_revision(revision).unwrap_or(0);
        let is_there = self.lives.at(id, index.saturating_sub(1)).is_some();
        ensure(is_there, "C30", || {
            format!(
                "member {member} has {:?} at revision {revision} on lease {id}, which is not there before entry {index}",
                event.kv.key
            )
        })
    }

    /// A member has applied revocations (C26).
    fn keys_gone(
        &self,
        member: MemberId,
        indexes: std::ops::RangeInclusive<u64>,
        events: &[Event],
        truth: &Truth,
    ) -> Verdict {
        let model = truth.model();
        for (index, id) in self.revocations.range(indexes) {
            let lease = model.lease_at(*id, index - 1);
            let keys = lease.map(|lease| lease.keys).unwrap_or_default();
            if keys.is_empty() {
                continue;
            }
            let revision = model.revision_at(index - 1) + 1;
            let gone = events.iter().filter(|event| event.kv.mod_revision == revision);
            let are_those = gone
                .clone()
                .map(|event| (event.kind, &event.kv.key))
                .eq(keys.iter().map(|key| (EventKind::Delete, key)));
            ensure(are_those, "C26", || {
                let gone: Vec<_> = gone.map(|event| (event.kind, &event.kv.key)).collect();
                format!(
                    "at the end of lease {id} revision {revision} of member {member} deletes {keys:?}, not {gone:?}"
                )
            })?;
        }
        Ok(())
    }

    /// A member's leases by id and TTL (C31).
    fn compare(&self, member: MemberId, view: &View) -> Verdict {
        let index = view.applied_index;
        let (found, expected) = (view.leases.len(), self.lives.count_at(index));
        ensure(found == expected, "C31", || {
            format!("member {member} has {found} leases after entry {index}, where there are {expected}")
        })?;
        for (id, lease) in view.leases.iter() {
            let life = self.lives.at(id, index);
            let ttl = lease.ttl();
            ensure(life.is_some_and(|life| life.ttl == ttl), "C31", || {
                format!("member {member} has lease {id} of {ttl} s after entry {index}, where the log says {life:?}")
            })?;
        }
        Ok(())
    }

    /// A member's leases with their keys (C31).
    fn compare_whole(&self, member: MemberId, view: &View, truth: &Truth) -> Verdict {
        self.compare(member, view)?;
        let index = view.applied_index;
        for lease in truth.model().leases_at(index) {
            let keys = view.leases.get(lease.id).map(|lease| lease.keys().cloned().collect());
            let keys: Vec<_> = keys.unwrap_or_default();
            ensure(keys == lease.keys, "C31", || {
                let id = lease.id;
                format!(
                    "member {member} has {keys:?} on lease {id} after entry {index}, not {:?}",
                    lease.keys
                )
            })?;
        }
        Ok(())
    }

    fn heal(&mut self, at: Instant, election_timeout: Duration) {
        self.healed = Some((at, election_timeout));
        let live: Vec<_> = self.lives.all_live().map(|(id, life)| (id, life.clone())).collect();
        for (id, life) in live {
            self.expect_end(at, id, &life);
        }
    }

    /// After healing: a lease must end in time if it is not renewed from now on.
    fn expect_end(&mut self, now: Instant, id: i64, life: &Life) {
        let Some((healed, election_timeout)) = self.healed else {
            return;
        };
        let settled = now.max(healed) + election_timeout * SETTLING_ELECTIONS;
        let time = self.rules.at_most(seconds(life.ttl).saturating_add(election_timeout));
        let end = settled + time + REVOCATION;
        self.due.entry(end).or_default().push((id, life.granted));
    }

    /// Leases that should have ended by now (C28).
    fn collect(&mut self, now: Instant, truth: &Truth) -> Verdict {
        let later = self.due.split_off(&now.after(Duration::from_nanos(1)));
        let due = std::mem::replace(&mut self.due, later);
        for (end, leases) in due {
            for (id, granted) in leases {
                let Some(life) = self.lives.live(id).filter(|life| life.granted == granted).cloned() else {
                    continue;
                };
                let (healed, election_timeout) = self.healed.unwrap_or_default();
                // Without a leader no lease ends. That there is one in time is another promise (L1, L4).
                let led = truth.led_since().unwrap_or(now);
                let asked = life.asked.unwrap_or(healed).max(healed).max(led);
                let time = self.rules.at_most(seconds(life.ttl).saturating_add(election_timeout));
                let true_end = asked + election_timeout * SETTLING_ELECTIONS + time + REVOCATION;
                ensure(true_end > now, "C28", || {
                    format!("lease {id} had to end by {end} and is still there: {life:?}")
                })?;
                self.due.entry(true_end).or_default().push((id, granted));
            }
        }
        Ok(())
    }

    /// At the end every running member is compared once more, with all keys.
    fn finished(&self, truth: &Truth) -> Verdict {
        for (member, facts) in truth.members() {
            if let Some(view) = facts.view.as_ref().filter(|_| facts.is_up) {
                self.compare_whole(member, view, truth)?;
            }
        }
        Ok(())
    }

    fn invoked(&mut self, at: Instant, op: OpId, member: MemberId, call: &Call, truth: &Truth) {
        match call {
            Call::LeaseRevoke(revoke) => {
                self.ended_by_clients.insert((bits(member), revoke.id));
            }
            Call::LeaseKeepAlive { id } => {
                self.asked.insert(*id, at);
                if let Some(life) = self.lives.live_mut(*id) {
                    life.asked = Some(at);
                }
                self.checkpoints.asked(at, *id);
                self.ask(op, at, *id, truth);
            }
            Call::LeaseGrant(grant) => self.ask(op, at, grant.id, truth),
            Call::LeaseTimeToLive(request) => self.ask(op, at, request.id, truth),
            Call::Put(put) if put.lease != 0 => self.ask(op, at, put.lease, truth),
            Call::LeaseLeases => self.ask(op, at, 0, truth),
            _ => {}
        }
    }
}

/// The bits of a request's id by which it names the member that proposed it.
fn bits(member: MemberId) -> u64 {
    member.0 & 0xffff
}
