//! Metrics of the connections with peers, under etcd's names. A series exists once there is something to count, as in
//! etcd.

use prometheus::{CounterVec, GaugeVec, HistogramVec};
use quoin_core::id::MemberId;
use quoin_core::peer::{PeerCounts, SnapshotCounts};
use quoin_core::store::Cluster;

use super::make::{Buckets, Make};

/// The buckets of etcd's durations of snapshots between members: 0.1 s to 51 s.
const SNAPSHOT: Buckets = Buckets::Doubling(0.1, 10);

/// etcd's label for the sender of a snapshot that was refused for its headers.
const UNKNOWN_SENDER: &str = "UNKNOWN_SNAPSHOT_SENDER";

/// Traffic with peers.
#[derive(Debug)]
pub(crate) struct Network {
    active: GaugeVec,
    disconnected: CounterVec,
    known: GaugeVec,
    received_bytes: CounterVec,
    receive_failures: CounterVec,
    sent_bytes: CounterVec,
    send_failures: CounterVec,
    round_trip_seconds: HistogramVec,
    snapshots_received: Snapshots,
    snapshots_sent: Snapshots,
}

/// Snapshots in one direction.
#[derive(Debug)]
struct Snapshots {
    succeeded: CounterVec,
    failed: CounterVec,
    in_flight: GaugeVec,
    seconds: HistogramVec,
}

impl Snapshots {
    /// `names` are those of etcd's families, in the order of the fields; `peer` is the label of the other member.
    fn new(make: &Make, names: [&str; 4], peer: &str, what: &str) -> Self {
        let [succeeded, failed, in_flight, seconds] = names;
        Self {
            succeeded: make.counters(succeeded, &format!("Snapshots {what} a peer."), &[peer]),
            failed: make.counters(failed, &format!("Snapshots {what} a peer that failed."), &[peer]),
            in_flight: make.gauges(in_flight, &format!("Snapshots being {what} a peer."), &[peer]),
            seconds: make.histograms(
                seconds,
                &format!("How long snapshots {what} a peer took."),
                &[peer],
                SNAPSHOT,
            ),
        }
    }

    fn add(&self, peer: &str, counts: &SnapshotCounts, failed_label: &str) {
        let SnapshotCounts {
            begun,
            succeeded,
            failed,
            broken,
        } = counts;
        for took in succeeded {
            self.seconds.with_label_values(&[peer]).observe(took.as_secs_f64());
        }
        add(&self.succeeded, &[peer], succeeded.len() as u64);
        add(&self.failed, &[failed_label], *failed);
        let over = succeeded.len() as u64 + broken;
        if *begun > 0 || over > 0 {
            self.in_flight
                .with_label_values(&[peer])
                .add(*begun as f64 - over as f64);
        }
    }
}

fn add(counter: &CounterVec, labels: &[&str], count: u64) {
    if count > 0 {
        counter.with_label_values(labels).inc_by(count as f64);
    }
}

impl Network {
    pub(super) fn new(make: &Make) -> Self {
        let both = ["Local", "Remote"];
        let received = [
            "etcd_network_snapshot_receive_success",
            "etcd_network_snapshot_receive_failures",
            "etcd_network_snapshot_receive_inflights_total",
            "etcd_network_snapshot_receive_total_duration_seconds",
        ];
        let sent = [
            "etcd_network_snapshot_send_success",
            "etcd_network_snapshot_send_failures",
            "etcd_network_snapshot_send_inflights_total",
            "etcd_network_snapshot_send_total_duration_seconds",
        ];
        Self {
            active: make.gauges("etcd_network_active_peers", "Whether a peer is connected.", &both),
            disconnected: make.counters(
                "etcd_network_disconnected_peers_total",
                "How often the connection with a peer was lost.",
                &both,
            ),
            known: make.gauges("etcd_network_known_peers", "Whether a member is in the cluster.", &both),
            received_bytes: make.counters(
                "etcd_network_peer_received_bytes_total",
                "Bytes of messages and snapshots received from a peer.",
                &["From"],
            ),
            receive_failures: make.counters(
                "etcd_network_peer_received_failures_total",
                "Messages of a peer that could not be read or were dropped.",
                &["From"],
            ),
            sent_bytes: make.counters(
                "etcd_network_peer_sent_bytes_total",
                "Bytes of messages and snapshots sent to a peer.",
                &["To"],
            ),
            send_failures: make.counters(
                "etcd_network_peer_sent_failures_total",
                "Messages that could not be sent to a peer.",
                &["To"],
            ),
            round_trip_seconds: make.histograms(
                "etcd_network_peer_round_trip_time_seconds",
                "How long a peer took to answer a small request.",
                &["To"],
                Buckets::Doubling(0.0001, 16),
            ),
            snapshots_received: Snapshots::new(make, received, "From", "received from"),
            snapshots_sent: Snapshots::new(make, sent, "To", "sent to"),
        }
    }

    /// Adds the counts of a peer of the member `local`.
    pub(crate) fn add(&self, local: MemberId, peer: MemberId, counts: &PeerCounts) {
        let PeerCounts {
            activated,
            deactivated,
            received_bytes,
            receive_failures,
            sent_bytes,
            send_failures,
            round_trips,
            receiving,
            sending,
        } = counts;
        let (local, label) = (local.to_string(), peer.to_string());
        let peer_label = [label.as_str()];
        let both = [local.as_str(), label.as_str()];
        if *activated > 0 || *deactivated > 0 {
            let change = *activated as f64 - *deactivated as f64;
            self.active.with_label_values(&both).add(change);
        }
        add(&self.disconnected, &both, *deactivated);
        add(&self.received_bytes, &peer_label, *received_bytes);
        add(&self.receive_failures, &peer_label, *receive_failures);
        add(&self.sent_bytes, &peer_label, *sent_bytes);
        add(&self.send_failures, &peer_label, *send_failures);
        for took in round_trips {
            self.round_trip_seconds
                .with_label_values(&peer_label)
                .observe(took.as_secs_f64());
        }
        let sender = if peer == MemberId::NONE { UNKNOWN_SENDER } else { &label };
        self.snapshots_received.add(&label, receiving, sender);
        self.snapshots_sent.add(&label, sending, &label);
    }

    /// A message of a peer was dropped because the node has no room for it.
    pub(crate) fn dropped(&self, peer: MemberId) {
        add(&self.receive_failures, &[&peer.to_string()], 1);
    }

    /// Sets which members the cluster has, and which it had.
    pub(crate) fn set_known(&self, local: MemberId, cluster: &Cluster) {
        let local = local.to_string();
        let members = cluster.members().map(|member| (member.id, 1.0));
        for (member, is_known) in members.chain(cluster.removed().map(|id| (id, 0.0))) {
            self.known
                .with_label_values(&[&local, &member.to_string()])
                .set(is_known);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::metrics::Metrics;

    use super::*;

    #[test]
    fn a_peers_counts_have_etcds_labels() {
        let metrics = Metrics::new(false, "3.6.9", "0");
        let sending = SnapshotCounts {
            begun: 2,
            succeeded: vec![Duration::from_millis(150)],
            ..SnapshotCounts::default()
        };
        let counts = PeerCounts {
            activated: 2,
            deactivated: 1,
            sent_bytes: 7,
            round_trips: vec![Duration::from_micros(150)],
            sending,
            ..PeerCounts::default()
        };
        metrics.network.add(MemberId(0xa), MemberId(0xb), &counts);
        let mut stranger = PeerCounts::default();
        stranger.receiving.failed = 1;
        metrics.network.add(MemberId(0xa), MemberId::NONE, &stranger);
        let text = metrics.render(|_| ());
        for line in [
            "etcd_network_active_peers{Local=\"a\",Remote=\"b\"} 1",
            "etcd_network_disconnected_peers_total{Local=\"a\",Remote=\"b\"} 1",
            "etcd_network_peer_sent_bytes_total{To=\"b\"} 7",
            "etcd_network_peer_round_trip_time_seconds_bucket{To=\"b\",le=\"0.0001\"} 0",
            "etcd_network_peer_round_trip_time_seconds_bucket{To=\"b\",le=\"0.0002\"} 1",
            "etcd_network_snapshot_send_success{To=\"b\"} 1",
            "etcd_network_snapshot_send_inflights_total{To=\"b\"} 1",
            "etcd_network_snapshot_receive_failures{From=\"UNKNOWN_SNAPSHOT_SENDER\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis missing in\n{text}");
        }
        assert!(!text.contains("etcd_network_peer_received_bytes_total"), "nothing came");
        assert!(!text.contains("etcd_network_snapshot_send_failures"), "nothing failed");
    }
}
