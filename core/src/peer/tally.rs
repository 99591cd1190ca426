//! The counts of the peer machine by peer, for the host's metrics, by the rules of etcd's. No decision depends on them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::MemberId;

/// The counts of one peer since the host last took them. Those of [`MemberId::NONE`] are of senders that are not known,
/// and of heartbeats of links, which name no sender.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PeerCounts {
    /// How often the peer became active.
    pub activated: u64,
    /// How often it became inactive.
    pub deactivated: u64,
    /// Bytes of messages and snapshots that arrived complete.
    pub received_bytes: u64,
    /// Messages that arrived and could not be read, or for which the node had no room.
    pub receive_failures: u64,
    /// Bytes of messages given to the host, and of snapshots that the peer has taken.
    pub sent_bytes: u64,
    /// Messages that found no room or were not taken, streams that broke, and snapshots that were not taken.
    pub send_failures: u64,
    /// The time from each request for the peer's version to the head of its answer, without that for the connection.
    pub round_trips: Vec<Duration>,
    /// Snapshots that arrive.
    pub receiving: SnapshotCounts,
    /// Snapshots that are sent.
    pub sending: SnapshotCounts,
}

/// The counts of snapshots in one direction.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SnapshotCounts {
    /// Transfers that began.
    pub begun: u64,
    /// How long each successful transfer took.
    pub succeeded: Vec<Duration>,
    /// Transfers that failed, and requests refused before they began.
    pub failed: u64,
    /// The failures among them of transfers that had begun.
    pub broken: u64,
}

/// The counts of all peers.
#[derive(Debug, Default)]
pub(super) struct PeerTally(BTreeMap<MemberId, PeerCounts>);

impl PeerTally {
    pub(super) fn of(&mut self, peer: MemberId) -> &mut PeerCounts {
        self.0.entry(peer).or_default()
    }

    /// Takes the counts that are not all zero. Peers keep their places, so that a turn allocates nothing for them.
    pub(super) fn take(&mut self, mut with: impl FnMut(MemberId, PeerCounts)) {
        for (peer, counts) in &mut self.0 {
            if *counts != PeerCounts::default() {
                with(*peer, std::mem::take(counts));
            }
        }
    }
}
