//! What a turn did, in numbers, for the host's metrics. Nothing is decided by them.

use std::time::Duration;

use crate::id::MemberId;
use crate::member::Dropped;
use crate::store::{Counts, VersionChange};

/// What one turn did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Requests applied and what they did to keys.
    pub applied: Counts,
    /// Leases.
    pub leases: LeaseCounts,
    /// How often this member deleted some of what compactions have superseded.
    pub compaction_steps: u64,
    /// A compaction whose last superseded revision was deleted.
    pub compacted: Option<CompactionEnd>,
    /// Messages of peers that were dropped for what they say.
    pub dropped: Vec<Dropped>,
    /// Heartbeats that left too late.
    pub late_heartbeats: Vec<LateHeartbeat>,
    /// The leader is another than before, or there is none any more.
    pub leader: Option<LeaderChange>,
    /// The cluster version was set.
    pub version: Option<VersionChange>,
}

/// A change of leader.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LeaderChange {
    /// The leader before, or none.
    pub from: MemberId,
    /// The leader now, or none.
    pub to: MemberId,
    /// The term now.
    pub term: u64,
}

/// What happened to leases.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LeaseCounts {
    /// Seconds of each lease granted.
    pub granted: Vec<i64>,
    /// Leases renewed by this member, which leads.
    pub renewed: u64,
    /// Leases that ended, for whatever reason.
    pub revoked: u64,
    /// Of these, those that this member, which leads, ended because their time was up.
    pub expired: u64,
}

/// The end of a compaction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CompactionEnd {
    /// Its revision.
    pub revision: i64,
    /// How long it took since the first superseded revision was looked for.
    pub took: Duration,
}

/// A heartbeat that left more than two heartbeat intervals after the one before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LateHeartbeat {
    /// To whom.
    pub to: MemberId,
    /// How much later than two intervals.
    pub exceeded: Duration,
}

impl Tally {
    /// Whether nothing was done that is counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
