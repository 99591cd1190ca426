//! Every metric by etcd's name, as handles resolved once. The code that measures has the handles; none is global.
//!
//! Facts of the member's state (revisions, sizes, indices) are not counted continuously but set when a client asks for
//! the metrics: see [`Metrics::render`]. Core's counts come from the node as a [`Tally`](quoin_core::node::Tally) each
//! turn, from the watch hub as counts and from the lanes as observations: [`sources`] adds them.

mod families;
mod grpc;
mod make;
mod network;
mod own;
mod process;
pub(crate) mod sources;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::{Histogram, Registry, TextEncoder};
use quoin_core::store::KeyCounts;

use families::{Disk, Lease, Mvcc, Server};
use grpc::Grpc;
pub(crate) use grpc::MethodMetrics;
use make::Make;
use network::Network;
pub(crate) use own::LaneName;
use own::Own;
pub use own::{QueueState, Stage};
use process::Process;
pub(crate) use process::descriptor_limit;

/// All metrics of a member. No handle is visible outside this crate, so the compiler reports one that is never set.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The log and the backing store on disk.
    pub(crate) disk: Disk,
    /// Calls of clients.
    pub(crate) grpc: Grpc,
    /// Leases.
    pub(crate) lease: Lease,
    /// Keys and their history.
    pub(crate) mvcc: Mvcc,
    /// Traffic with peers.
    pub(crate) network: Network,
    /// Metrics that only Quoin has.
    pub(crate) own: Own,
    /// Consensus, health, and what the member is.
    pub(crate) server: Server,
    /// Durations of ranges that failed, and of those that succeeded.
    range_seconds: [Histogram; 2],
    process: Process,
    scraping: Mutex<()>,
}

/// The content type of `/metrics`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Metrics {
    /// Every metric at zero. `extensive` adds the histogram of calls (`--metrics=extensive`).
    pub fn new(extensive: bool, server_version: &str, product_version: &str) -> Self {
        let make = Make {
            registry: Registry::new(),
        };
        let server = Server::new(&make);
        let metrics = Self {
            disk: Disk::new(&make),
            grpc: Grpc::new(&make, extensive),
            lease: Lease::new(&make),
            mvcc: Mvcc::new(&make),
            network: Network::new(&make),
            own: Own::new(&make),
            range_seconds: ["false", "true"].map(|success| server.range_seconds.with_label_values(&[success])),
            server,
            process: Process::new(&make),
            scraping: Mutex::new(()),
            registry: make.registry,
        };
        let server = &metrics.server;
        server.version.with_label_values(&[server_version]).set(1.0);
        server.build.with_label_values(&[product_version]).set(1.0);
        for code in ["200", "500", "503"] {
            server.scrapes.with_label_values(&[code]).inc_by(0.0);
        }
        metrics
    }

    /// Adds operations on keys.
    pub(crate) fn count_keys(&self, counts: &KeyCounts) {
        let KeyCounts {
            ranges,
            puts,
            deletes,
            txns,
            put_bytes,
        } = *counts;
        let mvcc = &self.mvcc;
        let counters = [
            (&mvcc.ranges, ranges),
            (&mvcc.puts, puts),
            (&mvcc.deletes, deletes),
            (&mvcc.txns, txns),
        ];
        // Adding zero would still take the counter's cache line from the other threads.
        for (counter, count) in counters.into_iter().filter(|(_, count)| *count > 0) {
            counter.inc_by(count);
        }
        if put_bytes > 0 {
            mvcc.put_bytes.add(whole(put_bytes));
        }
    }

    /// A client's range was answered.
    pub(crate) fn range_took(&self, took: Duration, succeeded: bool) {
        self.range_seconds[usize::from(succeeded)].observe(took.as_secs_f64());
    }

    /// Everything in Prometheus' text format, after `refresh` has set the facts of the member's state. One scrape runs
    /// at a time, because it raises counters to totals that are counted elsewhere.
    pub fn render(&self, refresh: impl FnOnce(&Self)) -> String {
        let _one_at_a_time = self.scraping.lock().unwrap_or_else(PoisonError::into_inner);
        self.server.scrapes_in_flight.inc();
        refresh(self);
        self.process.refresh();
        let mut text = String::new();
        let encoded = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text);
        self.server.scrapes_in_flight.dec();
        match encoded {
            Ok(()) => text,
            // Only a metric without a name or samples could fail, and all have both.
            Err(error) => format!("# {error}\n"),
        }
    }
}

/// A count in the type of gauges.
pub(crate) fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_kind_of_metric() {
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
    fn the_histogram_of_calls_exists_only_with_extensive_metrics() {
        let name = "grpc_server_handling_seconds";
        assert!(!Metrics::new(false, "3.6.9", "0").render(|_| ()).contains(name));
        assert!(Metrics::new(true, "3.6.9", "0").render(|_| ()).contains(name));
    }
}
