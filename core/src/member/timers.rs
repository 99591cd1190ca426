//! The timers of consensus, proposals and reads: one table keyed by a closed enum.

use crate::time::Instant;

/// The timers of a member.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum MemberTimer {
    /// The earliest deadline of a proposal or a transfer.
    Deadline,
    /// The member proposes its name and client URLs.
    Publish,
    /// Pending linearizable reads ask again, or the earliest of them is late.
    Read,
    /// A removed member has sent the commit index to the others for long enough.
    Removed,
    /// One tick of consensus.
    Tick,
}

impl MemberTimer {
    /// Every timer, in the order of declaration.
    const ALL: [Self; 5] = [Self::Deadline, Self::Publish, Self::Read, Self::Removed, Self::Tick];
}

/// The table. An empty slot is a timer that is not running.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    slots: [Option<Instant>; MemberTimer::ALL.len()],
}

impl Timers {
    /// Starts `timer`, or moves it.
    pub(super) fn set(&mut self, timer: MemberTimer, at: Instant) {
        self.slots[timer as usize] = Some(at);
    }

    /// Starts `timer`, moves it, or stops it.
    pub(super) fn put(&mut self, timer: MemberTimer, at: Option<Instant>) {
        self.slots[timer as usize] = at;
    }

    fn at(&self, timer: MemberTimer) -> Option<Instant> {
        self.slots[timer as usize]
    }

    /// Stops and returns the earliest timer that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<MemberTimer> {
        let (at, timer) = self.deadline()?;
        if at > now {
            return None;
        }
        self.put(timer, None);
        Some(timer)
    }

    /// The earliest timer.
    pub(super) fn deadline(&self) -> Option<(Instant, MemberTimer)> {
        MemberTimer::ALL
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
        timers.set(MemberTimer::Tick, Instant::from_nanos(20));
        timers.set(MemberTimer::Read, Instant::from_nanos(10));
        assert_eq!(timers.deadline(), Some((Instant::from_nanos(10), MemberTimer::Read)));
        assert_eq!(timers.pop_due(Instant::from_nanos(9)), None);
        assert_eq!(timers.pop_due(Instant::from_nanos(25)), Some(MemberTimer::Read));
        assert_eq!(timers.pop_due(Instant::from_nanos(25)), Some(MemberTimer::Tick));
        assert_eq!(timers.pop_due(Instant::from_nanos(25)), None);
    }

    #[test]
    fn every_timer_has_its_own_slot() {
        for (slot, timer) in MemberTimer::ALL.iter().enumerate() {
            assert_eq!(*timer as usize, slot, "{timer:?} is in the wrong place");
        }
    }
}
