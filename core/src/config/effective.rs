//! The effective settings of a start, as one log line in etcd's words. Operators and tools use the line to compare
//! starts.

use std::time::Duration;

use super::cluster::InitialCluster;
use super::gates::Gate;
use super::gotext::format_duration;
use super::model::{AllowList, AutoCompaction, ClusterState, Config};
use super::notice::Notice;
use super::settings::Settings;
use super::url::Url;
use crate::version::{Build, PRODUCT_VERSION, SERVER_VERSION};

const NANOS_PER_MILLISECOND: u64 = 1_000_000;

/// etcd's line `starting an etcd server`, with its names and types of fields.
pub(super) fn starting(settings: &Settings, config: &Config, build: Build<'_>) -> Notice {
    let notice = Notice::info("starting an etcd server")
        .with("etcd-version", SERVER_VERSION)
        .with("quoin-version", PRODUCT_VERSION)
        .with("git-sha", build.git_sha)
        .with("toolchain", build.toolchain)
        .with("platform", build.platform);
    cluster(settings, config, member(config, notice))
}

fn member(c: &Config, notice: Notice) -> Notice {
    let wal_dir = c.wal_dir.clone().unwrap_or_default();
    notice
        .with("name", &c.name)
        .with("data-dir", &c.data_dir)
        .with("wal-dir", &wal_dir)
        .with("wal-dir-dedicated", wal_dir)
        .with("member-dir", format!("{}/member", c.data_dir.trim_end_matches('/')))
        .with("force-new-cluster", c.force_new_cluster)
        .with("heartbeat-interval", milliseconds(c.heartbeat_ms))
        // Raft counts the timeout in whole heartbeats.
        .with(
            "election-timeout",
            milliseconds(c.election_ticks().saturating_mul(c.heartbeat_ms)),
        )
        .with("initial-election-tick-advance", c.initial_election_tick_advance)
        .with("snapshot-count", c.snapshot_count)
        .with("max-wals", c.max_wals)
        .with("max-snapshots", c.max_snapshots)
        .with("snapshot-catchup-entries", c.snapshot_catchup_entries)
        .with("initial-advertise-peer-urls", texts(&c.advertise_peer_urls))
        .with("listen-peer-urls", texts(&c.listen_peer_urls))
        .with("advertise-client-urls", texts(&c.advertise_client_urls))
        .with("listen-client-urls", texts(&c.listen_client_urls))
        .with("listen-client-http-urls", texts(&c.listen_client_http_urls))
        .with("listen-metrics-urls", texts(&c.listen_metrics_urls))
        .with("cors", names(&c.cors))
        .with("host-whitelist", names(&c.host_whitelist))
}

fn cluster(settings: &Settings, c: &Config, notice: Notice) -> Notice {
    // Unreadable values are shown as they were written; bootstrap decides whether they matter.
    let initial = InitialCluster::parse(&c.initial_cluster).map(|cluster| cluster.to_string());
    let state = match c.initial_cluster_state {
        ClusterState::Existing => "existing",
        ClusterState::New => "new",
    };
    let retention = match c.auto_compaction {
        AutoCompaction::Off => Duration::ZERO,
        AutoCompaction::Periodic(period) => period,
        // etcd keeps the number of revisions in a duration and shows it as one.
        AutoCompaction::Revision(kept) => Duration::from_nanos(kept),
    };
    let quota = c
        .quota_backend_bytes
        .map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    notice
        .with("initial-cluster", initial.unwrap_or_else(|_| c.initial_cluster.clone()))
        .with("initial-cluster-state", state)
        .with("initial-cluster-token", &c.initial_cluster_token)
        .with(
            "quota-backend-bytes",
            quota.unwrap_or_else(|| settings.int("quota-backend-bytes")),
        )
        .with("max-request-bytes", c.max_request_bytes)
        .with("max-concurrent-streams", u64::from(c.max_concurrent_streams))
        .with("pre-vote", c.pre_vote)
        .with("strict-reconfig-check", c.strict_reconfig_check)
        .with("feature-gates", c.feature_gates.to_text())
        .with(
            "initial-corrupt-check",
            c.feature_gates.enabled(Gate::InitialCorruptCheck),
        )
        .with(
            "corrupt-check-time-interval",
            duration(c.corrupt_check_time.unwrap_or_default()),
        )
        .with(
            "compact-check-time-enabled",
            c.feature_gates.enabled(Gate::CompactHashCheck),
        )
        .with("compact-check-time-interval", duration(c.compact_hash_check_time))
        .with("auto-compaction-mode", settings.text("auto-compaction-mode"))
        .with("auto-compaction-retention", duration(retention))
        .with("auto-compaction-interval", duration(retention))
        .with("discovery-url", settings.text("discovery"))
        .with("discovery-proxy", settings.text("discovery-proxy"))
        .with("downgrade-check-interval", duration(c.downgrade_check_time))
        .with("max-learners", c.max_learners)
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(Url::to_string).collect()
}

fn names(list: &AllowList) -> Vec<String> {
    match list {
        AllowList::Any => vec!["*".to_owned()],
        AllowList::Only(names) => names.iter().cloned().collect(),
    }
}

fn milliseconds(ms: u64) -> String {
    format_duration(i64::try_from(ms.saturating_mul(NANOS_PER_MILLISECOND)).unwrap_or(i64::MAX))
}

fn duration(span: Duration) -> String {
    format_duration(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX))
}
