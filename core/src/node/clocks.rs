//! Lease clocks: when each lease ends. Only the leader counts time; on other members no lease expires.
//!
//! A lease expires only after its remaining time has passed on this member's clock since it was granted or renewed, or
//! since the member became leader. That is the whole TTL, or less for a new leader if the lease was checkpointed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::bug;
use crate::time::Instant;

/// How long a revocation may take before the lease is due again.
const REVOKE_RETRY: Duration = Duration::from_secs(3);

/// How often the remaining time of a long lease is written to the log.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How many leases may expire per second after a change of leader. Further expiries are delayed.
const EXPIRIES_PER_SECOND: u32 = 750;

/// With fewer leases than this, no expiry is delayed.
const SPREAD_MIN_LEASES: usize = 1_000;

/// One lease's clock.
#[derive(Clone, Copy, Debug)]
struct Clock {
    ttl: i64,
    /// The seconds left at the last checkpoint; 0 means the whole TTL.
    remaining: i64,
    /// When the lease expires; `None` while this member does not count time.
    expiry: Option<Instant>,
    /// Its place in the queue: the expiry, or the time of the next attempt to revoke the lease.
    due: Option<Instant>,
    /// The time of its next checkpoint.
    checkpoint: Option<Instant>,
}

impl Clock {
    /// The clock of a lease on a member that does not count time.
    fn stopped(ttl: i64, remaining: i64) -> Self {
        Self {
            ttl,
            remaining,
            expiry: None,
            due: None,
            checkpoint: None,
        }
    }

    /// The seconds the clock starts with.
    fn seconds(&self) -> i64 {
        if self.remaining > 0 { self.remaining } else { self.ttl }
    }
}

/// The result of a renewal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Renewal {
    /// A checkpoint in the log has less time. It must be cleared first, because a new leader would use it.
    Checkpointed,
    /// The lease has expired. The client is answered once it is revoked.
    Expired,
    /// The lease has this many seconds again.
    Renewed(i64),
    /// The lease does not exist.
    Unknown,
}

/// The leases of a member at one moment, and when each ends. A clone shares the list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaseTimes(Arc<[(Option<Instant>, i64)]>);

impl LeaseTimes {
    /// The number of leases.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no leases.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ids of the leases by expiry, then by id. By id alone if this member does not count time.
    #[must_use]
    pub fn by_expiry(&self) -> Vec<i64> {
        let mut times = self.0.to_vec();
        times.sort_unstable();
        times.into_iter().map(|(_, id)| id).collect()
    }
}

impl FromIterator<(Option<Instant>, i64)> for LeaseTimes {
    fn from_iter<I: IntoIterator<Item = (Option<Instant>, i64)>>(times: I) -> Self {
        Self(times.into_iter().collect())
    }
}

/// All lease clocks of a member.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    clocks: BTreeMap<i64, Clock>,
    /// The leases by when they are due; empty unless this member counts time.
    queue: BTreeSet<(Instant, i64)>,
    /// The leases by their next checkpoint; empty unless this member counts time and checkpoints.
    checkpoints: BTreeSet<(Instant, i64)>,
    primary: bool,
    checkpointing: bool,
}

impl Clocks {
    /// The clocks of recovered leases: id, seconds granted, seconds left at the last checkpoint.
    pub(super) fn new(leases: impl IntoIterator<Item = (i64, i64, i64)>, checkpointing: bool) -> Self {
        let clock = |(id, ttl, remaining)| (id, Clock::stopped(ttl, remaining));
        Self {
            clocks: leases.into_iter().map(clock).collect(),
            checkpointing,
            ..Self::default()
        }
    }

    /// A lease was granted.
    pub(super) fn granted(&mut self, now: Instant, id: i64, ttl: i64) {
        self.revoked(id);
        self.clocks.insert(id, Clock::stopped(ttl, 0));
        if self.primary {
            self.refresh(now, id, Duration::ZERO);
        }
    }

    /// A checkpoint of a lease's remaining time was applied.
    pub(super) fn checkpointed(&mut self, now: Instant, id: i64, remaining: i64) {
        let Some(clock) = self.clocks.get_mut(&id) else { return };
        if bug!(TakesNoCheckpointBack) && remaining == 0 && !self.primary {
            return;
        }
        clock.remaining = remaining;
        if self.primary {
            self.schedule_checkpoint(now, id);
        }
    }

    /// A lease is gone.
    pub(super) fn revoked(&mut self, id: i64) {
        let Some(clock) = self.clocks.remove(&id) else { return };
        clock.due.map(|due| self.queue.remove(&(due, id)));
        clock.checkpoint.map(|at| self.checkpoints.remove(&(at, id)));
    }

    /// A client renews a lease. The caller has confirmed that this member still leads.
    pub(super) fn renew(&mut self, now: Instant, id: i64) -> Renewal {
        let Some(clock) = self.clocks.get(&id).copied() else {
            return Renewal::Unknown;
        };
        if clock.expiry.is_some_and(|expiry| expiry <= now) && !bug!(RenewsEndedLease) {
            return Renewal::Expired;
        }
        if clock.remaining > 0 {
            return Renewal::Checkpointed;
        }
        self.refresh(now, id, Duration::ZERO);
        Renewal::Renewed(clock.ttl)
    }

    /// This member begins to count time: every lease gets its remaining time, plus `extend`.
    pub(super) fn promote(&mut self, now: Instant, extend: Duration) {
        self.primary = true;
        for id in self.ids().collect::<Vec<_>>() {
            self.refresh(now, id, extend);
            if bug!(ExpiresAtOnce)
                && let Some(clock) = self.clocks.get_mut(&id)
            {
                clock.expiry = Some(now);
                self.enqueue(id, now);
            }
        }
        if bug!(SkipsCheckpoints) {
            self.checkpoints.clear();
            self.clocks.values_mut().for_each(|clock| clock.checkpoint = None);
        }
        if self.clocks.len() >= SPREAD_MIN_LEASES {
            self.spread(now);
        }
    }

    /// This member stops counting time.
    pub(super) fn demote(&mut self) {
        self.primary = false;
        self.queue.clear();
        self.checkpoints.clear();
        for clock in self.clocks.values_mut() {
            *clock = Clock::stopped(clock.ttl, clock.remaining);
        }
    }

    /// All leases and when they end, unsorted: readers sort them on their own threads.
    pub(super) fn times(&self) -> LeaseTimes {
        self.clocks.iter().map(|(id, clock)| (clock.expiry, *id)).collect()
    }

    /// Takes up to `limit` leases that have expired. One that still exists after [`REVOKE_RETRY`] is taken again.
    pub(super) fn take_expired(&mut self, now: Instant, limit: usize) -> Vec<i64> {
        let due: Vec<_> = self
            .queue
            .iter()
            .take_while(|(due, _)| *due <= now)
            .take(limit)
            .map(|(_, id)| *id)
            .collect();
        for &id in &due {
            self.enqueue(id, now + REVOKE_RETRY);
        }
        due
    }

    /// Whether a lease has ended by this member's clock.
    pub(super) fn is_expired(&self, now: Instant, id: i64) -> bool {
        self.clocks
            .get(&id)
            .and_then(|clock| clock.expiry)
            .is_some_and(|expiry| expiry <= now)
    }

    /// Takes up to `limit` leases whose checkpoint is due, with the seconds left.
    pub(super) fn take_checkpoints(&mut self, now: Instant, limit: usize) -> Vec<(i64, i64)> {
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(&(at, id)) = self.checkpoints.first()
            && at <= now
        {
            self.checkpoints.pop_first();
            let Some(clock) = self.clocks.get_mut(&id) else {
                continue;
            };
            clock.checkpoint = None;
            let Some(expiry) = clock.expiry.filter(|expiry| *expiry > now) else {
                continue;
            };
            let left = expiry.saturating_since(now);
            let left = i64::try_from(left.as_secs()).unwrap_or(i64::MAX) + i64::from(left.subsec_nanos() > 0);
            if left < clock.ttl {
                found.push((id, left));
            }
        }
        found
    }

    /// The whole seconds left of a lease and the seconds granted, if this member counts time and the lease has not
    /// expired.
    pub(super) fn time_left(&self, now: Instant, id: i64) -> Option<(i64, i64)> {
        let clock = self.clocks.get(&id)?;
        let expiry = clock.expiry.filter(|expiry| *expiry > now)?;
        Some((
            i64::try_from(expiry.saturating_since(now).as_secs()).unwrap_or(i64::MAX),
            clock.ttl,
        ))
    }

    /// Whether this member counts time.
    pub(super) fn is_primary(&self) -> bool {
        self.primary
    }

    /// The leases that have a clock, in the order of their ids.
    pub(super) fn ids(&self) -> impl Iterator<Item = i64> {
        self.clocks.keys().copied()
    }

    /// Asserts that the queue and the clocks agree, and that clocks run only if this member counts time.
    pub(super) fn check(&self) {
        let due = self.clocks.values().filter(|clock| clock.due.is_some()).count();
        assert_eq!(due, self.queue.len(), "every running clock is in the queue once");
        let checkpoints = self.clocks.values().filter(|clock| clock.checkpoint.is_some()).count();
        assert_eq!(
            checkpoints,
            self.checkpoints.len(),
            "a lease has one next checkpoint at most"
        );
        assert!(self.primary || checkpoints == 0, "only the leader checkpoints");
        for (id, clock) in &self.clocks {
            assert_eq!(
                clock.expiry.is_some(),
                self.primary,
                "lease {id} counts time exactly on the leader"
            );
            assert!(clock.due >= clock.expiry, "lease {id} is not due before it ends");
        }
    }

    /// Restarts a clock with the lease's remaining time from `now`, plus `extend`.
    fn refresh(&mut self, now: Instant, id: i64, extend: Duration) {
        let Some(clock) = self.clocks.get_mut(&id) else { return };
        let expiry = now + extend + Duration::from_secs(u64::try_from(clock.seconds()).unwrap_or(0));
        clock.expiry = Some(expiry);
        self.enqueue(id, expiry);
        self.schedule_checkpoint(now, id);
    }

    fn enqueue(&mut self, id: i64, due: Instant) {
        let Some(clock) = self.clocks.get_mut(&id) else { return };
        if let Some(before) = clock.due.replace(due) {
            self.queue.remove(&(before, id));
        }
        self.queue.insert((due, id));
    }

    fn schedule_checkpoint(&mut self, now: Instant, id: i64) {
        let Some(clock) = self.clocks.get_mut(&id) else { return };
        let worth_it = self.checkpointing && clock.seconds() > CHECKPOINT_INTERVAL.as_secs() as i64;
        let next = worth_it.then(|| now + CHECKPOINT_INTERVAL);
        if let Some(before) = std::mem::replace(&mut clock.checkpoint, next) {
            self.checkpoints.remove(&(before, id));
        }
        self.checkpoints.extend(next.map(|at| (at, id)));
    }

    /// Spreads the ends of leases if too many end within the same second. No end moves earlier.
    fn spread(&mut self, now: Instant) {
        let second = Duration::from_secs(1);
        let order: Vec<_> = self.queue.iter().copied().collect();
        let Some(&(first, _)) = order.first() else { return };
        let (mut base, mut next, mut count) = (first, first + second, 0);
        for (expiry, id) in order {
            if expiry > next {
                (base, next, count) = (expiry, expiry + second, 1);
                continue;
            }
            count += 1;
            if count <= EXPIRIES_PER_SECOND {
                continue;
            }
            let window = second * count / EXPIRIES_PER_SECOND;
            let delay = window.saturating_sub(expiry.saturating_since(base));
            next = base + delay;
            let Some(clock) = self.clocks.get_mut(&id) else {
                continue;
            };
            clock.expiry = Some(expiry + delay);
            self.enqueue(id, expiry + delay);
            self.schedule_checkpoint(now, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [i64; 0] = [];

    fn secs(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn leader(leases: &[(i64, i64, i64)]) -> Clocks {
        let mut clocks = Clocks::new(leases.iter().copied(), true);
        clocks.promote(Instant::ZERO, Duration::from_secs(1));
        clocks.check();
        clocks
    }

    #[test]
    fn a_lease_never_ends_early() {
        let mut clocks = leader(&[]);
        clocks.granted(secs(1), 7, 10);
        assert_eq!(
            clocks.take_expired(Instant::from_nanos(secs(11).as_nanos() - 1), 9),
            NONE
        );
        assert_eq!(clocks.time_left(secs(3), 7), Some((8, 10)));
        assert_eq!(clocks.renew(secs(9), 7), Renewal::Renewed(10));
        assert_eq!(clocks.take_expired(secs(18), 9), NONE);
        assert_eq!(clocks.take_expired(secs(19), 9), [7]);
        assert_eq!(clocks.take_expired(secs(19), 9), NONE, "its revocation is pending");
        assert_eq!(clocks.renew(secs(20), 7), Renewal::Expired);
        assert_eq!(clocks.time_left(secs(20), 7), None);
        assert_eq!(
            clocks.take_expired(secs(22), 9),
            [7],
            "it still exists after three seconds"
        );
        clocks.revoked(7);
        clocks.check();
        assert_eq!(clocks.renew(secs(23), 7), Renewal::Unknown);
    }

    #[test]
    fn a_new_leader_restarts_every_clock_and_a_deposed_one_stops_them() {
        let mut clocks = Clocks::new([(1, 10, 0), (2, 600, 4)], false);
        assert_eq!(
            clocks.take_expired(Instant::MAX, 9),
            NONE,
            "a follower finds nothing expired"
        );
        clocks.promote(secs(100), Duration::from_secs(1));
        assert_eq!(
            clocks.time_left(secs(100), 1),
            Some((11, 10)),
            "the whole TTL and an election timeout"
        );
        assert_eq!(
            clocks.time_left(secs(100), 2),
            Some((5, 600)),
            "the checkpoint's remaining time and an election timeout"
        );
        clocks.demote();
        clocks.check();
        assert_eq!(clocks.take_expired(Instant::MAX, 9), NONE);
        assert_eq!(clocks.time_left(secs(100), 1), None);
    }

    #[test]
    fn expired_leases_come_in_batches_oldest_first() {
        let mut clocks = leader(&[(3, 5, 0), (1, 6, 0), (2, 7, 0)]);
        assert_eq!(clocks.take_expired(secs(60), 2), [3, 1]);
        assert_eq!(clocks.take_expired(secs(60), 2), [2]);
    }

    #[test]
    fn long_leases_are_checkpointed_until_they_are_renewed() {
        let mut clocks = leader(&[(1, 1_000, 0), (2, 100, 0)]);
        assert_eq!(clocks.take_checkpoints(secs(299), 9), []);
        assert_eq!(
            clocks.take_checkpoints(secs(300), 9),
            [(1, 701)],
            "a short lease is not checkpointed"
        );
        clocks.checkpointed(secs(300), 1, 701);
        assert_eq!(clocks.take_checkpoints(secs(600), 9), [(1, 401)]);
        clocks.checkpointed(secs(600), 1, 401);
        assert_eq!(clocks.renew(secs(601), 1), Renewal::Checkpointed);
        clocks.checkpointed(secs(602), 1, 0);
        assert_eq!(clocks.renew(secs(602), 1), Renewal::Renewed(1_000));
        assert_eq!(clocks.time_left(secs(602), 1), Some((1_000, 1_000)));
        clocks.check();
    }

    #[test]
    fn a_follower_clears_a_checkpoint_that_the_log_clears() {
        let mut clocks = Clocks::new([(1, 1_000, 0)], true);
        clocks.checkpointed(secs(1), 1, 701);
        clocks.checkpointed(secs(2), 1, 0);
        clocks.promote(secs(3), Duration::from_secs(1));
        assert_eq!(clocks.time_left(secs(3), 1), Some((1_001, 1_000)));
    }

    #[test]
    fn many_leases_ending_at_once_are_spread_out_and_none_ends_earlier() {
        let leases: Vec<_> = (1..=3_000).map(|id| (id, 10, 0)).collect();
        let mut clocks = leader(&leases);
        clocks.check();
        let by = |clocks: &mut Clocks, at: u64| {
            let ended = clocks.take_expired(secs(at), usize::MAX);
            ended.iter().for_each(|id| clocks.revoked(*id));
            ended.len()
        };
        assert_eq!(by(&mut clocks, 10), 0);
        let (first, all) = (by(&mut clocks, 11), 3_000);
        assert!((700..=800).contains(&first), "{first} in the first second");
        let rest: Vec<_> = (12..=15).map(|at| by(&mut clocks, at)).collect();
        assert_eq!(
            first + rest.iter().sum::<usize>(),
            all,
            "{rest:?}: three thousand take four seconds"
        );
        assert!(rest.iter().all(|count| *count <= 800), "{rest:?}");
    }

    #[test]
    fn huge_and_negative_ttls_are_bounded() {
        let mut clocks = leader(&[(i64::MIN, 9_000_000_000, 0), (-1, -5, 0)]);
        assert_eq!(clocks.take_expired(secs(1), 9), [-1], "a negative TTL is over at once");
        assert_eq!(
            clocks.time_left(secs(0), i64::MIN),
            Some((9_000_000_001, 9_000_000_000))
        );
    }
}
