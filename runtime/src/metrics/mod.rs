//! Every metric by etcd's name, as handles resolved once; whoever measures holds them, nothing is global.
//!
//! What is a fact of the member's state (revisions, sizes, indices) is not counted along the way but set when somebody
//! asks: see [`Metrics::render`].

mod grpc;
mod process;

use std::sync::{Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntGauge, Opts, Registry,
    TextEncoder,
};

pub use grpc::{Clients, Grpc, MethodMetrics};
use process::Process;

/// All metrics of a member.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The log and the backing store on disk.
    pub disk: Disk,
    /// Calls of clients.
    pub grpc: Grpc,
    /// Leases.
    pub lease: Lease,
    /// Keys and their history.
    pub mvcc: Mvcc,
    /// Consensus, health, and what the member is.
    pub server: Server,
    process: Process,
    scraping: Mutex<()>,
}

/// Writes of the log, of snapshot files and of the backing store.
#[derive(Debug)]
pub struct Disk {
    /// `etcd_disk_wal_fsync_duration_seconds`
    pub wal_fsync_seconds: Histogram,
    /// `etcd_disk_wal_write_bytes_total`, a gauge in etcd too
    pub wal_write_bytes: IntGauge,
    /// `etcd_disk_wal_write_duration_seconds`
    pub wal_write_seconds: Histogram,
    /// `etcd_disk_backend_commit_duration_seconds`
    pub backend_commit_seconds: Histogram,
    /// `etcd_disk_backend_defrag_duration_seconds`
    pub backend_defrag_seconds: Histogram,
    /// `etcd_disk_defrag_inflight`
    pub defrag_inflight: IntGauge,
    /// `etcd_snap_fsync_duration_seconds`
    pub snap_fsync_seconds: Histogram,
    /// `etcd_debugging_snap_save_total_duration_seconds`
    pub snap_save_seconds: Histogram,
}

/// Leases granted, renewed, revoked.
#[derive(Debug)]
pub struct Lease {
    /// `etcd_debugging_lease_granted_total`
    pub granted: IntCounter,
    /// `etcd_debugging_lease_renewed_total`
    pub renewed: IntCounter,
    /// `etcd_debugging_lease_revoked_total`
    pub revoked: IntCounter,
    /// `etcd_debugging_lease_ttl_total`
    pub ttl_seconds: Histogram,
}

/// Keys, history and watchers.
#[derive(Debug)]
pub struct Mvcc {
    /// `etcd_mvcc_put_total`
    pub puts: IntCounter,
    /// `etcd_mvcc_delete_total`
    pub deletes: IntCounter,
    /// `etcd_mvcc_range_total`
    pub ranges: IntCounter,
    /// `etcd_mvcc_txn_total`
    pub txns: IntCounter,
    /// `etcd_mvcc_hash_duration_seconds`
    pub hash_seconds: Histogram,
    /// `etcd_mvcc_hash_rev_duration_seconds`
    pub hash_revision_seconds: Histogram,
    /// `etcd_mvcc_db_total_size_in_bytes`
    pub db_bytes: IntGauge,
    /// `etcd_mvcc_db_total_size_in_use_in_bytes`
    pub db_in_use_bytes: IntGauge,
    /// `etcd_mvcc_db_open_read_transactions`
    pub open_reads: IntGauge,
    /// `etcd_debugging_mvcc_current_revision`
    pub current_revision: IntGauge,
    /// `etcd_debugging_mvcc_compact_revision`
    pub compact_revision: IntGauge,
    /// `etcd_debugging_mvcc_keys_total`
    pub keys: IntGauge,
    /// `etcd_debugging_mvcc_db_compaction_keys_total`
    pub compacted_revisions: IntCounter,
    /// `etcd_debugging_mvcc_db_compaction_last`
    pub compaction_last_seconds: IntGauge,
    /// `etcd_debugging_mvcc_db_compaction_total_duration_milliseconds`
    pub compaction_milliseconds: Histogram,
    /// `etcd_debugging_mvcc_total_put_size_in_bytes`
    pub put_bytes: IntGauge,
    /// `etcd_debugging_mvcc_events_total`
    pub events: IntCounter,
    /// `etcd_debugging_mvcc_pending_events_total`
    pub pending_events: IntGauge,
    /// `etcd_debugging_mvcc_slow_watcher_total`
    pub slow_watchers: IntGauge,
    /// `etcd_debugging_mvcc_watch_stream_total`
    pub watch_streams: IntGauge,
    /// `etcd_debugging_mvcc_watcher_total`
    pub watchers: IntGauge,
}

/// Consensus, health, and what the member is.
#[derive(Debug)]
pub struct Server {
    /// `etcd_server_has_leader`
    pub has_leader: IntGauge,
    /// `etcd_server_is_leader`
    pub is_leader: IntGauge,
    /// `etcd_server_is_learner`
    pub is_learner: IntGauge,
    /// `etcd_server_leader_changes_seen_total`
    pub leader_changes: IntCounter,
    /// `etcd_server_heartbeat_send_failures_total`
    pub heartbeat_failures: IntCounter,
    /// `etcd_server_proposals_committed_total`, a gauge in etcd too
    pub proposals_committed: IntGauge,
    /// `etcd_server_proposals_applied_total`, a gauge in etcd too
    pub proposals_applied: IntGauge,
    /// `etcd_server_proposals_pending`
    pub proposals_pending: IntGauge,
    /// `etcd_server_proposals_failed_total`
    pub proposals_failed: IntCounter,
    /// `etcd_server_slow_apply_total`
    pub slow_applies: IntCounter,
    /// `etcd_server_slow_read_indexes_total`
    pub slow_read_indexes: IntCounter,
    /// `etcd_server_read_indexes_failed_total`
    pub read_indexes_failed: IntCounter,
    /// `etcd_server_snapshot_apply_in_progress_total`
    pub snapshot_applies: IntGauge,
    /// `etcd_server_quota_backend_bytes`
    pub quota_bytes: IntGauge,
    /// `etcd_server_apply_duration_seconds`
    pub apply_seconds: HistogramVec,
    /// `etcd_server_range_duration_seconds` of ranges that succeeded
    pub range_seconds: Histogram,
    /// `etcd_server_range_duration_seconds` of ranges that failed
    pub range_failed_seconds: Histogram,
    /// `etcd_debugging_server_lease_expired_total`
    pub lease_expired: IntCounter,
    /// `etcd_server_health_success`
    pub health_success: IntCounter,
    /// `etcd_server_health_failures`
    pub health_failures: IntCounter,
    /// `etcd_server_healthcheck`
    pub healthcheck: GaugeVec,
    /// `etcd_server_healthchecks_total`
    pub healthchecks: CounterVec,
    /// `etcd_server_id`
    pub id: GaugeVec,
    /// `etcd_cluster_version`
    pub cluster_version: GaugeVec,
    /// `etcd_debugging_server_alarms`
    pub alarms: GaugeVec,
    /// `etcd_server_feature_enabled`
    pub features: GaugeVec,
    /// `promhttp_metric_handler_requests_total`
    pub scrapes: CounterVec,
}

/// What `/metrics` is answered with.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Metrics {
    /// Every metric at zero. `extensive` adds the histogram of calls (`--metrics=extensive`).
    pub fn new(extensive: bool, server_version: &str, product_version: &str) -> Self {
        let make = Make {
            registry: Registry::new(),
        };
        let metrics = Self {
            disk: Disk::new(&make),
            grpc: Grpc::new(&make, extensive),
            lease: Lease::new(&make),
            mvcc: Mvcc::new(&make),
            server: Server::new(&make),
            process: Process::new(&make),
            scraping: Mutex::new(()),
            registry: make.registry.clone(),
        };
        let version = make.gauges(
            "etcd_server_version",
            "Which etcd this is on the wire: 1.",
            &["server_version"],
        );
        version.with_label_values(&[server_version]).set(1.0);
        let build = make.gauges("quoin_build_info", "Which Quoin this is: 1.", &["version"]);
        build.with_label_values(&[product_version]).set(1.0);
        for code in ["200", "500", "503"] {
            metrics.server.scrapes.with_label_values(&[code]).inc_by(0.0);
        }
        metrics
    }

    /// Everything in Prometheus' text format, after `refresh` has set what is a fact of the member's state. One scrape
    /// at a time: totals that others count are caught up with here.
    pub fn render(&self, refresh: impl FnOnce(&Self)) -> String {
        let _one_at_a_time = self.scraping.lock().unwrap_or_else(PoisonError::into_inner);
        refresh(self);
        self.process.refresh();
        let mut text = String::new();
        match TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            Ok(()) => text,
            // Only a metric without a name or samples could fail, and all have both.
            Err(error) => format!("# {error}\n"),
        }
    }
}

/// Makes metrics and registers them.
pub(crate) struct Make {
    registry: Registry,
}

impl Make {
    fn register<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        self.registry
            .register(Box::new(collector.clone()))
            .expect("every name is used once");
        collector
    }

    pub(crate) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(name, help).expect("a valid name"))
    }

    pub(crate) fn float_counter(&self, name: &str, help: &str) -> Counter {
        self.register(Counter::new(name, help).expect("a valid name"))
    }

    pub(crate) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        self.register(CounterVec::new(Opts::new(name, help), labels).expect("valid names"))
    }

    pub(crate) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::new(name, help).expect("a valid name"))
    }

    pub(crate) fn float_gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(Gauge::new(name, help).expect("a valid name"))
    }

    pub(crate) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.register(GaugeVec::new(Opts::new(name, help), labels).expect("valid names"))
    }

    fn histogram(&self, name: &str, help: &str, buckets: Buckets) -> Histogram {
        let options = HistogramOpts::new(name, help).buckets(buckets.bounds());
        self.register(Histogram::with_opts(options).expect("valid names and buckets"))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: Buckets) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.bounds());
        self.register(HistogramVec::new(options, labels).expect("valid names and buckets"))
    }
}

/// Bounds that grow by doubling: the first, and how many.
#[derive(Clone, Copy)]
struct Buckets(f64, usize);

impl Buckets {
    fn bounds(self) -> Vec<f64> {
        std::iter::successors(Some(self.0), |bound| Some(bound * 2.0))
            .take(self.1)
            .collect()
    }
}

/// The buckets of most of etcd's durations on disk.
const DISK: Buckets = Buckets(0.001, 14);

impl Disk {
    fn new(make: &Make) -> Self {
        Self {
            wal_fsync_seconds: make.histogram(
                "etcd_disk_wal_fsync_duration_seconds",
                "How long syncs of the write-ahead log took.",
                DISK,
            ),
            wal_write_bytes: make.gauge(
                "etcd_disk_wal_write_bytes_total",
                "Bytes written to the write-ahead log.",
            ),
            wal_write_seconds: make.histogram(
                "etcd_disk_wal_write_duration_seconds",
                "How long writes to the write-ahead log took.",
                DISK,
            ),
            backend_commit_seconds: make.histogram(
                "etcd_disk_backend_commit_duration_seconds",
                "How long commits of the backing store took.",
                DISK,
            ),
            backend_defrag_seconds: make.histogram(
                "etcd_disk_backend_defrag_duration_seconds",
                "How long defragmentations took.",
                Buckets(0.1, 13),
            ),
            defrag_inflight: make.gauge("etcd_disk_defrag_inflight", "Whether a defragmentation runs."),
            snap_fsync_seconds: make.histogram(
                "etcd_snap_fsync_duration_seconds",
                "How long syncs of snapshot files took.",
                DISK,
            ),
            snap_save_seconds: make.histogram(
                "etcd_debugging_snap_save_total_duration_seconds",
                "How long saving snapshots took in all.",
                DISK,
            ),
        }
    }
}

impl Lease {
    fn new(make: &Make) -> Self {
        Self {
            granted: make.counter("etcd_debugging_lease_granted_total", "Leases granted."),
            renewed: make.counter(
                "etcd_debugging_lease_renewed_total",
                "Renewals seen by this member as leader.",
            ),
            revoked: make.counter("etcd_debugging_lease_revoked_total", "Leases revoked."),
            ttl_seconds: make.histogram(
                "etcd_debugging_lease_ttl_total",
                "Times to live of leases.",
                Buckets(1.0, 24),
            ),
        }
    }
}

impl Mvcc {
    fn new(make: &Make) -> Self {
        let hash = Buckets(0.01, 15);
        Self {
            puts: make.counter("etcd_mvcc_put_total", "Puts seen by this member."),
            deletes: make.counter("etcd_mvcc_delete_total", "Deletes seen by this member."),
            ranges: make.counter("etcd_mvcc_range_total", "Ranges seen by this member."),
            txns: make.counter("etcd_mvcc_txn_total", "Transactions seen by this member."),
            hash_seconds: make.histogram("etcd_mvcc_hash_duration_seconds", "How long hashes of all took.", hash),
            hash_revision_seconds: make.histogram(
                "etcd_mvcc_hash_rev_duration_seconds",
                "How long hashes of a revision took.",
                hash,
            ),
            db_bytes: make.gauge(
                "etcd_mvcc_db_total_size_in_bytes",
                "Bytes the backing store takes on disk.",
            ),
            db_in_use_bytes: make.gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of it that hold data."),
            open_reads: make.gauge("etcd_mvcc_db_open_read_transactions", "Reads under way."),
            current_revision: make.gauge("etcd_debugging_mvcc_current_revision", "The store's revision."),
            compact_revision: make.gauge(
                "etcd_debugging_mvcc_compact_revision",
                "The last compaction's revision.",
            ),
            keys: make.gauge("etcd_debugging_mvcc_keys_total", "Keys there are."),
            compacted_revisions: make.counter(
                "etcd_debugging_mvcc_db_compaction_keys_total",
                "Revisions of keys that compactions deleted.",
            ),
            compaction_last_seconds: make.gauge(
                "etcd_debugging_mvcc_db_compaction_last",
                "When the last compaction finished, in seconds since 1970.",
            ),
            compaction_milliseconds: make.histogram(
                "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
                "How long compactions took in all.",
                Buckets(100.0, 14),
            ),
            put_bytes: make.gauge(
                "etcd_debugging_mvcc_total_put_size_in_bytes",
                "Bytes put, as this member saw.",
            ),
            events: make.counter("etcd_debugging_mvcc_events_total", "Events sent to watchers."),
            pending_events: make.gauge(
                "etcd_debugging_mvcc_pending_events_total",
                "Events that wait to be sent.",
            ),
            slow_watchers: make.gauge("etcd_debugging_mvcc_slow_watcher_total", "Watchers that catch up."),
            watch_streams: make.gauge("etcd_debugging_mvcc_watch_stream_total", "Watch streams."),
            watchers: make.gauge("etcd_debugging_mvcc_watcher_total", "Watchers."),
        }
    }
}

impl Server {
    fn new(make: &Make) -> Self {
        let quick = Buckets(0.0001, 20);
        let range = make.histograms(
            "etcd_server_range_duration_seconds",
            "How long ranges took.",
            &["success"],
            quick,
        );
        let check = ["type", "name"];
        Self {
            has_leader: make.gauge("etcd_server_has_leader", "Whether a leader is known."),
            is_leader: make.gauge("etcd_server_is_leader", "Whether this member is the leader."),
            is_learner: make.gauge("etcd_server_is_learner", "Whether this member is a learner."),
            leader_changes: make.counter("etcd_server_leader_changes_seen_total", "Changes of leader seen."),
            heartbeat_failures: make.counter(
                "etcd_server_heartbeat_send_failures_total",
                "Heartbeats that left too late.",
            ),
            proposals_committed: make.gauge("etcd_server_proposals_committed_total", "The index committed."),
            proposals_applied: make.gauge("etcd_server_proposals_applied_total", "The index applied."),
            proposals_pending: make.gauge("etcd_server_proposals_pending", "Proposals that wait for their commit."),
            proposals_failed: make.counter("etcd_server_proposals_failed_total", "Proposals that failed."),
            slow_applies: make.counter("etcd_server_slow_apply_total", "Requests that took long to apply."),
            slow_read_indexes: make.counter(
                "etcd_server_slow_read_indexes_total",
                "Confirmations of reads that were sent again.",
            ),
            read_indexes_failed: make.counter(
                "etcd_server_read_indexes_failed_total",
                "Confirmations of reads that failed.",
            ),
            snapshot_applies: make.gauge(
                "etcd_server_snapshot_apply_in_progress_total",
                "Whether a leader's snapshot is taken over.",
            ),
            quota_bytes: make.gauge("etcd_server_quota_backend_bytes", "Bytes the backing store may take."),
            apply_seconds: make.histograms(
                "etcd_server_apply_duration_seconds",
                "How long applying requests took.",
                &["version", "op", "success"],
                quick,
            ),
            range_seconds: range.with_label_values(&["true"]),
            range_failed_seconds: range.with_label_values(&["false"]),
            lease_expired: make.counter("etcd_debugging_server_lease_expired_total", "Leases that expired."),
            health_success: make.counter("etcd_server_health_success", "Health checks answered well."),
            health_failures: make.counter("etcd_server_health_failures", "Health checks answered badly."),
            healthcheck: make.gauges(
                "etcd_server_healthcheck",
                "The last result of each health check.",
                &check,
            ),
            healthchecks: make.counters(
                "etcd_server_healthchecks_total",
                "Results of health checks.",
                &["type", "name", "status"],
            ),
            id: make.gauges("etcd_server_id", "This member's id in hex: 1.", &["server_id"]),
            cluster_version: make.gauges(
                "etcd_cluster_version",
                "The cluster's version: 1.",
                &["cluster_version"],
            ),
            alarms: make.gauges(
                "etcd_debugging_server_alarms",
                "Alarms that are set, by member.",
                &["server_id", "alarm_type"],
            ),
            features: make.gauges(
                "etcd_server_feature_enabled",
                "Which feature gates are on.",
                &["name", "stage"],
            ),
            scrapes: make.counters(
                "promhttp_metric_handler_requests_total",
                "Scrapes by HTTP status.",
                &["code"],
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_holds_every_kind_of_metric() {
        let metrics = Metrics::new(false, "3.6.9", "0.1.0");
        metrics.disk.wal_fsync_seconds.observe(0.0015);
        metrics.mvcc.puts.inc();
        let text = metrics.render(|_| ());
        for line in [
            "# TYPE etcd_server_proposals_applied_total gauge",
            "# TYPE etcd_disk_wal_write_bytes_total gauge",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"} 0",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.002\"} 1",
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"} 1",
            "etcd_mvcc_put_total 1",
            "etcd_server_version{server_version=\"3.6.9\"} 1",
            "quoin_build_info{version=\"0.1.0\"} 1",
            "etcd_server_range_duration_seconds_count{success=\"true\"} 0",
            "grpc_server_started_total{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis missing in\n{text}");
        }
    }

    #[test]
    fn the_histogram_of_calls_is_there_on_demand_only() {
        let name = "grpc_server_handling_seconds";
        assert!(!Metrics::new(false, "3.6.9", "0").render(|_| ()).contains(name));
        assert!(Metrics::new(true, "3.6.9", "0").render(|_| ()).contains(name));
    }
}
