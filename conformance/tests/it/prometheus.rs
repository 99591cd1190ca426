//! A real Prometheus scrapes our members as it scrapes etcd's, and evaluates the alerts of etcd's mixin over both.

use std::collections::BTreeSet;
use std::time::Duration;

use quoin_conformance::members::start_together;
use quoin_conformance::metrics::{Prometheus, remarks};
use quoin_conformance::{Kind, Launch, Server, Trouble, wait};
use tokio::runtime::Runtime;

use crate::common::asking::ask;

const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(500);
/// A real etcd measures its first round trip after half a minute.
const LATER_IN_ETCD: &str = "etcdMemberCommunicationSlow of etcd";

/// The alerts of etcd's mixin: what each looks at, and when it fires.
const ALERTS: [(&str, &str, &str); 15] = [
    (
        "etcdMembersDown",
        "max without (endpoint) (sum without (instance) (up == bool 0) \
         or count without (To) (sum without (instance) (rate(etcd_network_peer_sent_failures_total[120s])) > 0.01))",
        "> 0",
    ),
    (
        "etcdInsufficientMembers",
        "sum without (instance) (up == bool 1) - (count without (instance) (up) + 1) / 2",
        "< 0",
    ),
    ("etcdNoLeader", "etcd_server_has_leader", "== 0"),
    (
        "etcdHighNumberOfLeaderChanges",
        "increase(max without (instance) (etcd_server_leader_changes_seen_total)[15m:1s])",
        ">= 4",
    ),
    (
        "etcdHighNumberOfFailedGRPCRequests",
        "100 * sum without (grpc_type, grpc_code) (rate(grpc_server_handled_total\
         {grpc_code=~\"Unknown|FailedPrecondition|ResourceExhausted|Internal|Unavailable|DataLoss|DeadlineExceeded\"}[5m])) \
         / sum without (grpc_type, grpc_code) (rate(grpc_server_handled_total[5m]))",
        "> 5",
    ),
    (
        "etcdGRPCRequestsSlow",
        "histogram_quantile(0.99, sum without (grpc_type) \
         (rate(grpc_server_handling_seconds_bucket{grpc_method!=\"Defragment\", grpc_type=\"unary\"}[5m])))",
        "> 5",
    ),
    (
        "etcdMemberCommunicationSlow",
        "histogram_quantile(0.99, rate(etcd_network_peer_round_trip_time_seconds_bucket[5m]))",
        "> 5",
    ),
    (
        "etcdHighNumberOfFailedProposals",
        "rate(etcd_server_proposals_failed_total[15m])",
        "> 5",
    ),
    (
        "etcdHighFsyncDurations",
        "histogram_quantile(0.99, rate(etcd_disk_wal_fsync_duration_seconds_bucket[5m]))",
        "> 5",
    ),
    (
        "etcdHighCommitDurations",
        "histogram_quantile(0.99, rate(etcd_disk_backend_commit_duration_seconds_bucket[5m]))",
        "> 5",
    ),
    (
        "etcdDatabaseQuotaLowSpace",
        "100 * last_over_time(etcd_mvcc_db_total_size_in_bytes[5m]) / last_over_time(etcd_server_quota_backend_bytes[5m])",
        "> 95",
    ),
    (
        "etcdExcessiveDatabaseGrowth",
        "predict_linear(etcd_mvcc_db_total_size_in_bytes[4h], 60) / etcd_server_quota_backend_bytes",
        "> 1",
    ),
    (
        "etcdDatabaseHighFragmentationRatio",
        "last_over_time(etcd_mvcc_db_total_size_in_use_in_bytes[5m]) / last_over_time(etcd_mvcc_db_total_size_in_bytes[5m])",
        "< 0.5 and etcd_mvcc_db_total_size_in_use_in_bytes > 104857600",
    ),
    (
        "etcdTraffic",
        "rate(etcd_network_client_grpc_received_bytes_total[1m]) + rate(etcd_network_client_grpc_sent_bytes_total[1m])",
        "< 0",
    ),
    (
        "etcdPeerTraffic",
        "sum without (From) (rate(etcd_network_peer_received_bytes_total[1m])) \
         + on (instance, job) group_left sum without (To) (rate(etcd_network_peer_sent_bytes_total[1m]))",
        "< 0",
    ),
];

fn cluster(kinds: [Kind; 3]) -> Result<Vec<Server>, Trouble> {
    let launches: Result<Vec<Launch>, Trouble> = kinds
        .into_iter()
        .map(|kind| Ok(Launch::of(kind)?.flag("--metrics=extensive")))
        .collect();
    start_together(launches?)
}

#[test]
fn prometheus_scrapes_our_members_and_evaluates_the_alerts_of_the_mixin() {
    let etcd = cluster([Kind::Etcd; 3]).expect("etcd's members start");
    let ours = cluster([Kind::QuoinTokio, Kind::QuoinSmol, Kind::QuoinTokio]).expect("our members start");
    let addresses = |servers: &[Server]| servers.iter().map(Server::address).collect();
    let jobs = [("etcd", addresses(&etcd)), ("quoin", addresses(&ours))];
    let alerts = ALERTS.map(|(name, looks_at, fires)| (name, format!("({looks_at}) {fires}")));
    let prometheus = Prometheus::start(&jobs, &alerts).expect("Prometheus starts");

    let runtime = Runtime::new().expect("a runtime");
    // A rate needs two scrapes between which something happened, and a client of every member.
    let missing = wait::until(PATIENCE, STEP, || {
        for server in etcd.iter().chain(&ours) {
            ask(&runtime, server, |mut client| async move {
                client.put("a", "b", None).await
            });
        }
        missing(&prometheus).is_empty().then_some(())
    });
    assert!(missing.is_some(), "no data for {:#?}", self::missing(&prometheus));
    let scraped = prometheus
        .ask("up == 1 and scrape_samples_scraped > 300")
        .expect("an answer");
    assert_eq!(scraped.len(), 6, "{scraped:?}");
    let states = wait::until(PATIENCE, STEP, || prometheus.alerts().expect("an answer"));
    for (name, state) in states.expect("the alerts are evaluated") {
        assert_eq!(state, "ok inactive", "{name}");
    }
}

/// What the alerts look at and has no value, by job.
fn missing(prometheus: &Prometheus) -> Vec<String> {
    let mut missing = Vec::new();
    for (name, looks_at, _) in ALERTS {
        let found = prometheus.ask(looks_at).expect("a query that Prometheus accepts");
        let jobs: BTreeSet<&str> = found
            .iter()
            .filter(|(_, value)| !value.is_nan())
            .filter_map(|(labels, _)| labels.get("job").map(String::as_str))
            .collect();
        for job in ["etcd", "quoin"] {
            let what = format!("{name} of {job}");
            if !jobs.contains(job) && what != LATER_IN_ETCD {
                missing.push(what);
            }
        }
    }
    missing
}

#[test]
fn promtool_finds_no_fault_that_it_does_not_find_with_etcd() {
    let remarks_of = |kind: Kind| {
        let server = Launch::of(kind)
            .and_then(|launch| launch.flag("--metrics=extensive").start())
            .expect("a server");
        remarks(&server).expect("metrics that promtool reads")
    };
    let etcd = remarks_of(Kind::Etcd);
    assert!(!etcd.is_empty(), "promtool finds fault with some of etcd's names");
    for kind in [Kind::QuoinTokio, Kind::QuoinSmol] {
        let ours = remarks_of(kind);
        let new: Vec<&String> = ours.difference(&etcd).collect();
        assert!(new.is_empty(), "{}: {new:#?}", kind.name());
    }
}
