//! Metrics that only Quoin has. OPERATING.md says what to do about each.

use std::time::Duration;

use prometheus::{Counter, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge};

use super::make::{Buckets, Make};
use super::whole;

/// The names of the lanes, as in [`LaneName`].
const LANES: [&str; 2] = ["log", "table"];
/// The names of the stages, as in [`Stage`].
const STAGES: [&str; 2] = ["queue", "commit"];

/// Queues, lanes, stages of requests, and how far parts of the member are behind.
#[derive(Debug)]
pub(crate) struct Own {
    connections: GaugeVec,
    connections_max: GaugeVec,
    lanes: [LaneMetrics; 2],
    queue_items: GaugeVec,
    queue_refused: IntCounterVec,
    stages: [Histogram; 2],
    /// `quoin_node_turn_seconds`
    pub(crate) turn_seconds: Histogram,
    /// `quoin_raft_term`
    pub(crate) term: IntGauge,
    /// `quoin_table_lag_entries`
    pub(crate) table_lag: IntGauge,
    /// `quoin_watch_lag_revisions`
    pub(crate) watch_lag: IntGauge,
    /// `quoin_watch_skipped_publications_total`
    pub(crate) watch_skipped: IntCounter,
}

/// The work of a lane.
#[derive(Debug)]
struct LaneMetrics {
    busy_seconds: Counter,
    jobs: IntCounter,
}

/// A lane.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LaneName {
    Log,
    Table,
}

/// A part of the time that a request to the node takes.
#[derive(Clone, Copy, Debug)]
pub enum Stage {
    /// From the service to the node's turn.
    Queue,
    /// From the node's turn to the answer: log, quorum, apply.
    Commit,
}

/// A queue at one moment.
#[derive(Clone, Copy, Debug)]
pub struct QueueState {
    /// Its name.
    pub name: &'static str,
    /// What waits in it.
    pub items: usize,
    /// What it has refused since the start because it was full.
    pub refused: u64,
}

impl Own {
    pub(super) fn new(make: &Make) -> Self {
        let busy = make.counters(
            "quoin_lane_busy_seconds_total",
            "Time that a lane spent on writes and syncs, in seconds.",
            &["lane"],
        );
        let jobs = make.int_counters("quoin_lane_jobs_total", "Jobs that a lane carried out.", &["lane"]);
        let stages = make.histograms(
            "quoin_request_stage_seconds",
            "How long requests to the node were in each stage.",
            &["stage"],
            Buckets::Doubling(0.0001, 20),
        );
        Self {
            connections: make.gauges("quoin_connections", "Open connections.", &["port"]),
            connections_max: make.gauges(
                "quoin_connections_max",
                "Most connections that are open at a time.",
                &["port"],
            ),
            lanes: LANES.map(|lane| LaneMetrics {
                busy_seconds: busy.with_label_values(&[lane]),
                jobs: jobs.with_label_values(&[lane]),
            }),
            queue_items: make.gauges("quoin_queue_items", "What waits in a queue.", &["queue"]),
            queue_refused: make.int_counters(
                "quoin_queue_refused_total",
                "What a queue refused because it was full.",
                &["queue"],
            ),
            stages: STAGES.map(|stage| stages.with_label_values(&[stage])),
            turn_seconds: make.histogram(
                "quoin_node_turn_seconds",
                "How long turns of the node took.",
                Buckets::Doubling(0.0001, 16),
            ),
            term: make.gauge("quoin_raft_term", "The term of consensus."),
            table_lag: make.gauge(
                "quoin_table_lag_entries",
                "Applied entries that are not durable in the table yet.",
            ),
            watch_lag: make.gauge(
                "quoin_watch_lag_revisions",
                "Revisions that the slowest watcher is behind.",
            ),
            watch_skipped: make.counter(
                "quoin_watch_skipped_publications_total",
                "How often watchers were sent to the history because too many changes waited for them.",
            ),
        }
    }

    /// A lane carried out jobs.
    pub(crate) fn lane_ran(&self, lane: LaneName, jobs: usize, took: Duration) {
        let metrics = &self.lanes[lane as usize];
        metrics.busy_seconds.inc_by(took.as_secs_f64());
        metrics.jobs.inc_by(jobs as u64);
    }

    /// A request left a stage.
    pub(crate) fn stage_took(&self, stage: Stage, took: Duration) {
        self.stages[stage as usize].observe(took.as_secs_f64());
    }

    /// Sets the state of a queue.
    pub(crate) fn set_queue(&self, state: QueueState) {
        let QueueState { name, items, refused } = state;
        self.queue_items
            .with_label_values(&[name])
            .set(whole(items as u64) as f64);
        let counter = self.queue_refused.with_label_values(&[name]);
        counter.inc_by(refused.saturating_sub(counter.get()));
    }

    /// Sets how many connections a port has, and how many it may have.
    pub(crate) fn set_connections(&self, port: &str, open: usize, most: usize) {
        self.connections.with_label_values(&[port]).set(open as f64);
        self.connections_max.with_label_values(&[port]).set(most as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn the_guide_explains_each_metric() {
        let metrics = Metrics::new(false, "3.6.9", "0");
        let own = &metrics.own;
        own.lane_ran(LaneName::Log, 2, Duration::from_secs(1));
        own.stage_took(Stage::Queue, Duration::from_millis(1));
        own.set_connections("client", 3, 100);
        for refused in [4, 6] {
            let name = "node";
            own.set_queue(QueueState {
                name,
                items: 5,
                refused,
            });
        }
        let text = metrics.render(|_| ());
        for line in [
            "quoin_lane_jobs_total{lane=\"log\"} 2",
            "quoin_lane_busy_seconds_total{lane=\"log\"} 1",
            "quoin_request_stage_seconds_count{stage=\"queue\"} 1",
            "quoin_connections{port=\"client\"} 3",
            "quoin_queue_items{queue=\"node\"} 5",
            "quoin_queue_refused_total{queue=\"node\"} 6",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis missing in\n{text}");
        }
        let guide = include_str!("../../../OPERATING.md");
        let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE quoin_"));
        let names: Vec<&str> = families.filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(names.len(), 13, "{names:?}");
        for name in names {
            let explained = [format!("`quoin_{name}`"), format!("`quoin_{name}{{")];
            assert!(
                explained.iter().any(|text| guide.contains(text)),
                "OPERATING.md lacks quoin_{name}"
            );
        }
    }
}
