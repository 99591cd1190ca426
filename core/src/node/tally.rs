//! The counts of a turn, for the host's metrics. No decision depends on them.

use std::time::Duration;

use crate::error::Error;
use crate::id::MemberId;
use crate::member::Dropped;
use crate::store::{Counts, VersionChange};

/// The counts of one turn.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Requests applied and the operations on keys in them.
    pub applied: Counts,
    /// Counts of leases.
    pub leases: LeaseCounts,
    /// Steps of compactions in which revisions were deleted.
    pub compaction_steps: u64,
    /// A compaction that has deleted its last revision.
    pub compacted: Option<CompactionEnd>,
    /// The target of a downgrade that began.
    pub downgrade: Option<String>,
    /// Messages from peers that were dropped because of their content.
    pub dropped: Vec<Dropped>,
    /// Heartbeats that left too late.
    pub late_heartbeats: Vec<LateHeartbeat>,
    /// The member has another leader than before, or none any more.
    pub leader: Option<LeaderChange>,
    /// Learners promoted by this member as leader.
    pub promotions: u64,
    /// Why promotions failed on this member as leader, in the words of etcd's metric.
    pub promotion_failures: Vec<&'static str>,
    /// The cluster version was set.
    pub version: Option<VersionChange>,
}

/// A change of leader.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LeaderChange {
    /// The previous leader, or none.
    pub from: MemberId,
    /// The new leader, or none.
    pub to: MemberId,
    /// The new term.
    pub term: u64,
}

/// Counts of leases.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LeaseCounts {
    /// The TTL, in seconds, of each lease granted.
    pub granted: Vec<i64>,
    /// Leases renewed by this member as leader.
    pub renewed: u64,
    /// Leases that ended, for whatever reason.
    pub revoked: u64,
    /// Leases among them that this member revoked as leader, because they had expired.
    pub expired: u64,
}

/// The end of a compaction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CompactionEnd {
    /// Its revision.
    pub revision: i64,
    /// The time from its first deletion to its last.
    pub took: Duration,
}

/// A heartbeat that left more than two heartbeat intervals after the previous one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LateHeartbeat {
    /// The receiver.
    pub to: MemberId,
    /// How much later than two intervals.
    pub exceeded: Duration,
}

impl Tally {
    /// A promotion ended. A member that does not lead counts none: its client's request goes on to the leader.
    pub(super) fn promoted(&mut self, error: Option<Error>) {
        match error {
            None => self.promotions += 1,
            Some(Error::NotLeader) => {}
            // etcd's metric has the texts from before they are translated for clients.
            Some(Error::MemberNotFound) => self.promotion_failures.push("membership: ID not found"),
            Some(Error::MemberNotLearner) => {
                self.promotion_failures
                    .push("membership: can only promote a learner member");
            }
            Some(error) => self.promotion_failures.push(error.message()),
        }
    }

    /// Whether all counts are zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
