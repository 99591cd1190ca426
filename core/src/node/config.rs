//! The settings of a node.

use std::time::Duration;

use crate::id::MemberId;
use crate::limits::COMPACTION_BATCH_REVISIONS;
use crate::member;
use crate::version::Version;

use super::Retention;

/// The settings of a node.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member's part.
    pub member: member::Config,
    /// `--quota-backend-bytes`; `None` is no quota.
    pub quota_bytes: Option<u64>,
    /// `--auto-compaction-mode` and `--auto-compaction-retention`.
    pub auto_compaction: Option<Retention>,
    /// `--compaction-batch-limit`.
    pub compaction_batch_limit: usize,
    /// `--compaction-sleep-interval`.
    pub compaction_sleep_interval: Duration,
    /// The version this member runs; the cluster version is the least of its members' versions.
    pub server_version: Version,
    /// `--max-cluster-version`: the highest cluster version that this member sets; `None` means the present one.
    pub max_cluster_version: Option<Version>,
}

impl Config {
    /// etcd's defaults for the member `id`.
    #[must_use]
    pub fn new(id: MemberId) -> Self {
        Self {
            member: member::Config::new(id),
            quota_bytes: Some(2 * 1024 * 1024 * 1024),
            auto_compaction: None,
            compaction_batch_limit: COMPACTION_BATCH_REVISIONS,
            compaction_sleep_interval: Duration::from_millis(10),
            server_version: Version::V3_6,
            max_cluster_version: None,
        }
    }
}
