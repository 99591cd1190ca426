//! The settings of a member.

use std::time::Duration;

use crate::id::MemberId;
use crate::limits::{MAX_APPEND_BYTES, MAX_REQUEST_BYTES, SNAPSHOT_CATCHUP_ENTRIES, SNAPSHOT_COUNT_ENTRIES};

/// The settings of a member.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member's id.
    pub id: MemberId,
    /// `--heartbeat-interval`: one tick of consensus.
    pub heartbeat_interval: Duration,
    /// `--election-timeout`.
    pub election_timeout: Duration,
    /// `--initial-election-tick-advance`.
    pub initial_election_tick_advance: bool,
    /// `--pre-vote`.
    pub pre_vote: bool,
    /// `--strict-reconfig-check`.
    pub strict_reconfig_check: bool,
    /// `--snapshot-count`.
    pub snapshot_count: u64,
    /// `--snapshot-catchup-entries`.
    pub snapshot_catchup_entries: u64,
    /// `--max-request-bytes`.
    pub max_request_bytes: usize,
    /// Bytes of entries in one append, at most, unless a single entry is longer.
    pub max_append_bytes: usize,
    /// Feature gate `LeaseCheckpoint`.
    pub lease_checkpoint: bool,
    /// `--name`, which this member publishes in the cluster.
    pub name: String,
    /// `--advertise-client-urls`, which this member publishes in the cluster.
    pub client_urls: Vec<String>,
}

impl Config {
    /// etcd's defaults for the member `id`.
    #[must_use]
    pub fn new(id: MemberId) -> Self {
        Self {
            id,
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            initial_election_tick_advance: true,
            pre_vote: true,
            strict_reconfig_check: true,
            snapshot_count: SNAPSHOT_COUNT_ENTRIES,
            snapshot_catchup_entries: SNAPSHOT_CATCHUP_ENTRIES,
            max_request_bytes: MAX_REQUEST_BYTES,
            max_append_bytes: MAX_APPEND_BYTES,
            lease_checkpoint: false,
            name: "default".to_owned(),
            client_urls: Vec::new(),
        }
    }

    /// The timeout of a request, unless its client sets a shorter one.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + self.election_timeout * 2
    }

    /// The least TTL of a lease: one and a half election timeouts, in whole seconds.
    #[must_use]
    pub fn min_lease_ttl_seconds(&self) -> i64 {
        let seconds = (self.election_timeout * 3 / 2).as_millis().div_ceil(1000);
        i64::try_from(seconds).unwrap_or(i64::MAX)
    }

    /// Ticks of an election timeout.
    pub(super) fn election_ticks(&self) -> usize {
        let tick = self.heartbeat_interval.as_nanos().max(1);
        usize::try_from(self.election_timeout.as_nanos() / tick)
            .unwrap_or(usize::MAX / 4)
            .clamp(2, usize::MAX / 4)
    }
}
