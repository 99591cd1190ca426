//! When a member wants to be woken, and why: one table keyed by a closed enum. It holds no clock.

use crate::time::Instant;

/// Why a member wants to be woken.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Timer {
    /// Committed entries wait for the next turn, because this one was long enough.
    Apply,
    /// The auto-compactor samples or compacts.
    AutoCompact,
    /// The next bounded step of a physical compaction.
    CompactStep,
    /// The earliest deadline of a proposal or a transfer.
    Deadline,
    /// Leases are looked over for expiry.
    Expiry,
    /// The member's own attributes are proposed again.
    Publish,
    /// Pending linearizable reads ask again, or the earliest of them is late.
    Read,
    /// A removed member has had its time to say goodbye.
    Removed,
    /// One tick of consensus.
    Tick,
    /// The leader compares the members' versions.
    Version,
}

impl Timer {
    /// Every timer, in the order of declaration.
    const ALL: [Self; 10] = [
        Self::Apply,
        Self::AutoCompact,
        Self::CompactStep,
        Self::Deadline,
        Self::Expiry,
        Self::Publish,
        Self::Read,
        Self::Removed,
        Self::Tick,
        Self::Version,
    ];
}

/// The table. An empty slot is a timer that is not running.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers {
    slots: [Option<Instant>; Timer::ALL.len()],
}

impl Timers {
    /// Starts `timer`, or moves it.
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        self.slots[timer as usize] = Some(at);
    }

    /// Starts `timer`, moves it, or stops it.
    pub(crate) fn put(&mut self, timer: Timer, at: Option<Instant>) {
        self.slots[timer as usize] = at;
    }

    /// Stops `timer`.
    pub(crate) fn clear(&mut self, timer: Timer) {
        self.slots[timer as usize] = None;
    }

    /// When `timer` fires, if it runs.
    pub(crate) fn at(&self, timer: Timer) -> Option<Instant> {
        self.slots[timer as usize]
    }

    /// Stops and returns the earliest timer that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let (at, timer) = self.deadline()?;
        if at > now {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }

    /// The earliest timer.
    pub(crate) fn deadline(&self) -> Option<(Instant, Timer)> {
        Timer::ALL
            .iter()
            .filter_map(|&timer| self.at(timer).map(|at| (at, timer)))
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_timer_fires_first_and_once() {
        let mut timers = Timers::default();
        assert_eq!(timers.deadline(), None);
        timers.set(Timer::Tick, Instant::from_nanos(20));
        timers.set(Timer::Read, Instant::from_nanos(10));
        assert_eq!(timers.deadline(), Some((Instant::from_nanos(10), Timer::Read)));
        assert_eq!(timers.pop_due(Instant::from_nanos(9)), None);
        assert_eq!(timers.pop_due(Instant::from_nanos(25)), Some(Timer::Read));
        assert_eq!(timers.pop_due(Instant::from_nanos(25)), Some(Timer::Tick));
        assert_eq!(timers.pop_due(Instant::from_nanos(25)), None);
    }

    #[test]
    fn every_timer_has_its_own_slot() {
        for (slot, timer) in Timer::ALL.iter().enumerate() {
            assert_eq!(*timer as usize, slot, "{timer:?} stands at its place");
        }
    }
}
