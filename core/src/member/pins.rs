//! Which entries a leader keeps for followers that receive a snapshot and continue after it.
//!
//! A snapshot may take minutes to arrive. If the entries after it were dropped meanwhile, its receiver would need
//! another snapshot at once, again and again. As in etcd, they are kept until 30 seconds after its arrival. In this
//! time the follower acknowledges the snapshot and gets the next entries.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::bug;
use crate::id::MemberId;
use crate::time::Instant;

/// How long entries are kept after their follower has the snapshot.
const RELEASE_AFTER: Duration = Duration::from_secs(30);

/// The entries that are kept for one follower.
#[derive(Clone, Copy, Debug)]
struct Pin {
    /// The snapshot's index.
    index: u64,
    /// When the entries may be dropped; `None` while the snapshot is on its way.
    until: Option<Instant>,
}

/// The entries that are kept for all followers.
#[derive(Debug, Default)]
pub(crate) struct Pins(BTreeMap<MemberId, Pin>);

impl Pins {
    /// A snapshot is sent to a follower.
    pub(crate) fn sent(&mut self, to: MemberId, index: u64) {
        self.0.insert(to, Pin { index, until: None });
    }

    /// The snapshot has reached the follower, or is lost. Consensus sends another one in place of a lost one.
    pub(crate) fn ended(&mut self, now: Instant, to: MemberId, received: bool) {
        if !received {
            self.0.remove(&to);
        } else if let Some(pin) = self.0.get_mut(&to) {
            pin.until = Some(now + RELEASE_AFTER);
        }
    }

    /// The index after which every entry must be kept; `u64::MAX` if no follower needs that. `is_follower` says whether
    /// this member, as the leader, still sends the log to a member.
    pub(crate) fn first(&mut self, now: Instant, is_follower: impl Fn(MemberId) -> bool) -> u64 {
        self.0
            .retain(|id, pin| is_follower(*id) && pin.until.is_none_or(|until| now < until));
        let first = self.0.values().map(|pin| pin.index).min().filter(|_| !bug!(UnpinsTail));
        first.unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    const TWO: MemberId = MemberId(2);
    const THREE: MemberId = MemberId(3);

    #[test]
    fn entries_are_kept_until_a_while_after_the_snapshot_arrived() {
        let mut pins = Pins::default();
        assert_eq!(pins.first(at(0), |_| true), u64::MAX);
        pins.sent(TWO, 10);
        pins.sent(THREE, 20);
        assert_eq!(pins.first(at(9_999), |_| true), 10, "however long it takes");
        pins.ended(at(100), TWO, true);
        assert_eq!(pins.first(at(129), |_| true), 10);
        assert_eq!(pins.first(at(130), |_| true), 20);
        pins.ended(at(130), THREE, false);
        assert_eq!(pins.first(at(130), |_| true), u64::MAX);
    }

    #[test]
    fn nothing_is_kept_for_a_member_that_is_no_longer_sent_the_log() {
        let mut pins = Pins::default();
        pins.sent(TWO, 10);
        assert_eq!(pins.first(at(0), |id| id != TWO), u64::MAX);
        assert_eq!(pins.first(at(0), |_| true), u64::MAX, "not even if it comes back");
    }
}
