//! When heartbeats were last sent. A heartbeat that leaves late shows that this member is too busy to lead.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::MemberId;
use crate::time::Instant;

use super::Member;

/// How many intervals may pass between two heartbeats to a peer, as in etcd.
const PATIENCE_INTERVALS: u32 = 2;

/// The last heartbeat to each peer since the leader last changed.
#[derive(Debug, Default)]
pub(super) struct Heartbeats(BTreeMap<MemberId, Instant>);

impl Heartbeats {
    /// The leader changed.
    pub(super) fn reset(&mut self) {
        self.0.clear();
    }

    /// A heartbeat is sent: returns by how much it is later than `patience` after the previous one.
    fn sent(&mut self, now: Instant, to: MemberId, patience: Duration) -> Option<Duration> {
        let before = self.0.insert(to, now)?;
        let exceeded = now.saturating_since(before).saturating_sub(patience);
        (!exceeded.is_zero()).then_some(exceeded)
    }
}

impl Member {
    /// A heartbeat is sent to a peer: returns by how much it is late, if it is.
    pub(crate) fn heartbeat_sent(&mut self, now: Instant, to: MemberId) -> Option<Duration> {
        let patience = self.config.heartbeat_interval * PATIENCE_INTERVALS;
        self.heartbeats.sent(now, to, patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_late_after_two_intervals() {
        let at = |millis| Instant::ZERO + Duration::from_millis(millis);
        let mut heartbeats = Heartbeats::default();
        let mut sent = |now, to| heartbeats.sent(at(now), MemberId(to), Duration::from_millis(200));
        assert_eq!(sent(0, 1), None, "the first one has no predecessor");
        assert_eq!(sent(200, 1), None);
        assert_eq!(sent(200, 2), None);
        assert_eq!(sent(430, 1), Some(Duration::from_millis(30)));
        assert_eq!(sent(500, 1), None);
        heartbeats.reset();
        assert_eq!(heartbeats.sent(at(9_000), MemberId(1), Duration::ZERO), None);
    }
}
