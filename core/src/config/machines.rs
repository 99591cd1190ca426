//! The configurations of the machines, derived from etcd's settings.

use std::time::Duration;

use super::{AutoCompaction, Config, Gate, Url};
use crate::id::MemberId;
use crate::store::StoreConfig;
use crate::{member, node};

impl Config {
    /// The node's configuration, for the member `id`.
    #[must_use]
    pub fn node_config(&self, id: MemberId) -> node::Config {
        node::Config {
            member: self.member_config(id),
            quota_bytes: self.quota_backend_bytes,
            auto_compaction: match self.auto_compaction {
                AutoCompaction::Off => None,
                AutoCompaction::Periodic(period) => Some(node::Retention::Period(period)),
                AutoCompaction::Revision(kept) => {
                    let kept = i64::try_from(kept).unwrap_or(i64::MAX);
                    Some(node::Retention::Revisions(kept))
                }
            },
            compaction_batch_limit: count(self.compaction_batch_limit),
            compaction_sleep_interval: self.compaction_sleep_interval,
            max_cluster_version: self.max_cluster_version,
            ..node::Config::new(id)
        }
    }

    /// The store's configuration.
    #[must_use]
    pub fn store_config(&self) -> StoreConfig {
        StoreConfig {
            min_lease_ttl_seconds: self.member_config(MemberId::NONE).min_lease_ttl_seconds(),
            max_learners: count(self.max_learners),
            persist_lease_checkpoints: self.feature_gates.enabled(Gate::LeaseCheckpointPersist),
        }
    }

    /// The timeout of a request, unless its client sets a shorter one.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        self.member_config(MemberId::NONE).request_timeout()
    }

    fn member_config(&self, id: MemberId) -> member::Config {
        member::Config {
            heartbeat_interval: Duration::from_millis(self.heartbeat_ms),
            election_timeout: Duration::from_millis(self.election_ms),
            initial_election_tick_advance: self.initial_election_tick_advance,
            pre_vote: self.pre_vote,
            strict_reconfig_check: self.strict_reconfig_check,
            snapshot_count: self.snapshot_count,
            snapshot_catchup_entries: self.snapshot_catchup_entries,
            max_request_bytes: count(self.max_request_bytes),
            lease_checkpoint: self.feature_gates.enabled(Gate::LeaseCheckpoint),
            name: self.name.clone(),
            client_urls: self.advertise_client_urls.iter().map(Url::to_string).collect(),
            ..member::Config::new(id)
        }
    }
}

fn count(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
