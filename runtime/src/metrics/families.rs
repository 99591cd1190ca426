//! The families by group, each declared in one place: its field, its type, etcd's name, its help and its buckets.
//!
//! No field is visible outside this crate, so the compiler reports one that is never set.

use prometheus::{CounterVec, GaugeVec, Histogram, HistogramVec, IntCounter, IntGauge};

use super::make::{Buckets, Make};

/// Declares a group of metrics and how each is made and registered.
macro_rules! group {
    ($(#[$doc:meta])* $group:ident {
        $($field:ident: $type:ty = $make:ident($name:literal, $help:literal $(, $more:expr)* $(,)?);)+
    }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $group {
            $(
                #[doc = concat!("`", $name, "`")]
                pub(crate) $field: $type,
            )+
        }

        impl $group {
            pub(super) fn new(make: &Make) -> Self {
                Self {
                    $($field: make.$make($name, $help $(, $more)*),)+
                }
            }
        }
    };
}

/// The buckets of most of etcd's durations on disk: 1 ms to 8 s.
const DISK: Buckets = Buckets::Doubling(0.001, 14);
/// The buckets of etcd's durations of requests: 0.1 ms to 52 s.
const REQUEST: Buckets = Buckets::Doubling(0.0001, 20);
/// The buckets of etcd's durations of hashes: 10 ms to 164 s.
const HASH: Buckets = Buckets::Doubling(0.01, 15);

group! {
    /// Writes of the log, of snapshot files and of the backing store.
    Disk {
        wal_fsync_seconds: Histogram = histogram(
            "etcd_disk_wal_fsync_duration_seconds",
            "How long syncs of the write-ahead log took.",
            DISK,
        );
        wal_write_bytes: IntGauge = gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the write-ahead log.");
        wal_write_seconds: Histogram = histogram(
            "etcd_disk_wal_write_duration_seconds",
            "How long writes to the write-ahead log took.",
            DISK,
        );
        backend_commit_seconds: Histogram = histogram(
            "etcd_disk_backend_commit_duration_seconds",
            "How long commits of the backing store took.",
            DISK,
        );
        backend_defrag_seconds: Histogram = histogram(
            "etcd_disk_backend_defrag_duration_seconds",
            "How long defragmentations took.",
            Buckets::Doubling(0.1, 13),
        );
        backend_snapshot_seconds: Histogram = histogram(
            "etcd_disk_backend_snapshot_duration_seconds",
            "How long sending backups took.",
            Buckets::Doubling(0.01, 17),
        );
        defrag_inflight: IntGauge = gauge("etcd_disk_defrag_inflight", "Whether a defragmentation runs.");
        snap_db_fsync_seconds: Histogram = histogram(
            "etcd_snap_db_fsync_duration_seconds",
            "How long syncs of files of snapshots from peers took.",
            DISK,
        );
        snap_db_save_seconds: Histogram = histogram(
            "etcd_snap_db_save_total_duration_seconds",
            "How long receiving and saving files of snapshots from peers took in all.",
            Buckets::Doubling(0.1, 10),
        );
        snap_fsync_seconds: Histogram = histogram(
            "etcd_snap_fsync_duration_seconds",
            "How long writing and syncing snapshot files took.",
            DISK,
        );
        snap_marshalling_seconds: Histogram = histogram(
            "etcd_debugging_snap_save_marshalling_duration_seconds",
            "How long encoding snapshots took.",
            DISK,
        );
        snap_save_seconds: Histogram = histogram(
            "etcd_debugging_snap_save_total_duration_seconds",
            "How long saving snapshots took in all.",
            DISK,
        );
    }
}

group! {
    /// Leases granted, renewed, ended.
    Lease {
        granted: IntCounter = counter("etcd_debugging_lease_granted_total", "Leases granted.");
        renewed: IntCounter = counter(
            "etcd_debugging_lease_renewed_total",
            "Renewals by this member as the leader.",
        );
        revoked: IntCounter = counter("etcd_debugging_lease_revoked_total", "Leases that ended.");
        expired: IntCounter = counter(
            "etcd_debugging_server_lease_expired_total",
            "Expired leases that this member revoked as the leader.",
        );
        ttl_seconds: Histogram = histogram(
            "etcd_debugging_lease_ttl_total",
            "Times to live of leases, in seconds.",
            Buckets::Doubling(1.0, 24),
        );
    }
}

group! {
    /// Keys, history and watchers.
    Mvcc {
        puts: IntCounter = counter("etcd_mvcc_put_total", "Puts seen by this member.");
        deletes: IntCounter = counter("etcd_mvcc_delete_total", "Deletes seen by this member.");
        ranges: IntCounter = counter("etcd_mvcc_range_total", "Ranges seen by this member.");
        txns: IntCounter = counter("etcd_mvcc_txn_total", "Transactions seen by this member.");
        hash_seconds: Histogram = histogram("etcd_mvcc_hash_duration_seconds", "How long full hashes took.", HASH);
        hash_revision_seconds: Histogram = histogram(
            "etcd_mvcc_hash_rev_duration_seconds",
            "How long hashes of a revision took.",
            HASH,
        );
        db_bytes: IntGauge = gauge("etcd_mvcc_db_total_size_in_bytes", "Bytes the backing store takes on disk.");
        db_in_use_bytes: IntGauge = gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes on disk that hold data.");
        current_revision: IntGauge = gauge("etcd_debugging_mvcc_current_revision", "The store's revision.");
        compact_revision: IntGauge = gauge("etcd_debugging_mvcc_compact_revision", "The last compaction's revision.");
        keys: IntGauge = gauge("etcd_debugging_mvcc_keys_total", "Number of keys.");
        compacted_revisions: IntCounter = counter(
            "etcd_debugging_mvcc_db_compaction_keys_total",
            "Revisions of keys that compactions deleted.",
        );
        compaction_last_seconds: IntGauge = gauge(
            "etcd_debugging_mvcc_db_compaction_last",
            "When the last compaction finished, in seconds since 1970.",
        );
        compaction_pause_milliseconds: Histogram = histogram(
            "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
            "How long the store was held by each step of a compaction.",
            Buckets::Doubling(1.0, 13),
        );
        compaction_milliseconds: Histogram = histogram(
            "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
            "How long compactions took in all.",
            Buckets::Doubling(100.0, 14),
        );
        put_bytes: IntGauge = gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes put, seen by this member.");
        events: IntCounter = counter("etcd_debugging_mvcc_events_total", "Events sent to watchers.");
        pending_events: IntGauge = gauge("etcd_debugging_mvcc_pending_events_total", "Events that wait to be sent.");
        slow_watchers: IntGauge = gauge("etcd_debugging_mvcc_slow_watcher_total", "Watchers that catch up.");
        watch_streams: IntGauge = gauge("etcd_debugging_mvcc_watch_stream_total", "Watch streams.");
        watchers: IntGauge = gauge("etcd_debugging_mvcc_watcher_total", "Watchers.");
    }
}

group! {
    /// Consensus, health, and what the member is.
    Server {
        has_leader: IntGauge = gauge("etcd_server_has_leader", "Whether a leader is known.");
        is_leader: IntGauge = gauge("etcd_server_is_leader", "Whether this member is the leader.");
        is_learner: IntGauge = gauge("etcd_server_is_learner", "Whether this member is a learner.");
        promotions: IntCounter = counter(
            "etcd_server_learner_promote_successes",
            "Learners that this member as the leader promoted.",
        );
        promotion_failures: CounterVec = counters(
            "etcd_server_learner_promote_failures",
            "Promotions of learners that failed on this member as the leader, by reason.",
            &["Reason"],
        );
        leader_changes: IntCounter = counter("etcd_server_leader_changes_seen_total", "Changes of leader seen.");
        heartbeat_failures: IntCounter = counter(
            "etcd_server_heartbeat_send_failures_total",
            "Heartbeats that this member as the leader sent too late.",
        );
        proposals_committed: IntGauge = gauge("etcd_server_proposals_committed_total", "The committed index.");
        proposals_applied: IntGauge = gauge("etcd_server_proposals_applied_total", "The applied index.");
        proposals_pending: IntGauge = gauge(
            "etcd_server_proposals_pending",
            "Proposals that wait to be committed and applied.",
        );
        proposals_failed: IntCounter = counter("etcd_server_proposals_failed_total", "Proposals that failed.");
        slow_applies: IntCounter = counter("etcd_server_slow_apply_total", "Requests that took long to apply.");
        slow_read_indexes: IntCounter = counter(
            "etcd_server_slow_read_indexes_total",
            "Linearizable reads that were not confirmed in time.",
        );
        read_indexes_failed: IntCounter = counter(
            "etcd_server_read_indexes_failed_total",
            "Confirmations of reads that failed because the leader changed.",
        );
        snapshot_applies: IntGauge = gauge(
            "etcd_server_snapshot_apply_in_progress_total",
            "Whether a leader's snapshot is being taken over.",
        );
        auth_revision: IntGauge = gauge("etcd_debugging_auth_revision", "The revision of users, roles and permissions.");
        quota_bytes: IntGauge = gauge("etcd_server_quota_backend_bytes", "Bytes the backing store may take.");
        apply_seconds: HistogramVec = histograms(
            "etcd_server_apply_duration_seconds",
            "How long applying requests took.",
            &["version", "op", "success"],
            REQUEST,
        );
        range_seconds: HistogramVec = histograms(
            "etcd_server_range_duration_seconds",
            "How long ranges took.",
            &["success"],
            REQUEST,
        );
        version: GaugeVec = gauges("etcd_server_version", "The version of etcd served: 1.", &["server_version"]);
        build: GaugeVec = gauges("quoin_build_info", "The version of Quoin: 1.", &["version"]);
        id: GaugeVec = gauges("etcd_server_id", "This member's id in hex: 1.", &["server_id"]);
        cluster_version: GaugeVec = gauges(
            "etcd_cluster_version",
            "The cluster's version: 1.",
            &["cluster_version"],
        );
        alarms: GaugeVec = gauges(
            "etcd_debugging_server_alarms",
            "Alarms that are set, by member.",
            &["server_id", "alarm_type"],
        );
        features: GaugeVec = gauges(
            "etcd_server_feature_enabled",
            "Which feature gates are on.",
            &["name", "stage"],
        );
        health_success: IntCounter = counter("etcd_server_health_success", "Health checks answered well.");
        health_failures: IntCounter = counter("etcd_server_health_failures", "Health checks answered badly.");
        healthcheck: GaugeVec = gauges(
            "etcd_server_healthcheck",
            "The last result of each health check.",
            &["type", "name"],
        );
        healthchecks: CounterVec = counters(
            "etcd_server_healthchecks_total",
            "Results of health checks.",
            &["type", "name", "status"],
        );
        scrapes: CounterVec = counters("promhttp_metric_handler_requests_total", "Scrapes by HTTP status.", &["code"]);
        scrapes_in_flight: IntGauge = gauge("promhttp_metric_handler_requests_in_flight", "Scrapes being answered.");
    }
}
