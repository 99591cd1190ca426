//! The same workload changes every metric of ours by the same amount as etcd's, or a reason for the difference is
//! documented.

use std::thread;
use std::time::Duration;

use std::collections::{BTreeMap, BTreeSet};

use quoin_conformance::metrics::{Exposition, Played, compare, families, play};
use quoin_conformance::{Kind, Launch, Server, Trouble, members::start_together, wait};
use tokio::runtime::Runtime;

use crate::common::asking::ask;

const PATIENCE: Duration = Duration::from_secs(30);
/// A real etcd measures round trips after half a minute, ours sooner.
const ROUND_TRIPS: &str = "etcd_network_peer_round_trip_time_seconds";
/// The families that the alerts and the dashboard of etcd's mixin name, besides those of a round trip.
const MIXIN: [&str; 17] = [
    "etcd_disk_backend_commit_duration_seconds",
    "etcd_disk_wal_fsync_duration_seconds",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_network_client_grpc_received_bytes_total",
    "etcd_network_client_grpc_sent_bytes_total",
    "etcd_network_peer_received_bytes_total",
    "etcd_network_peer_sent_bytes_total",
    "etcd_network_peer_sent_failures_total",
    "etcd_server_has_leader",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_proposals_applied_total",
    "etcd_server_proposals_committed_total",
    "etcd_server_quota_backend_bytes",
    "grpc_server_handled_total",
    "grpc_server_handling_seconds",
    "grpc_server_started_total",
];
const STEP: Duration = Duration::from_millis(50);

fn played(kind: Kind) -> Result<Played, Trouble> {
    play(Launch::of(kind)?)
}

#[test]
fn metrics_change_as_etcds_do() {
    let (etcd, ours) = thread::scope(|scope| {
        let etcd = scope.spawn(|| played(Kind::Etcd));
        let ours = [Kind::QuoinTokio, Kind::QuoinSmol].map(|kind| (kind, scope.spawn(move || played(kind))));
        let joined = ours.map(|(kind, thread)| (kind, thread.join().expect("a workload ends")));
        (etcd.join().expect("a workload ends"), joined)
    });
    let etcd = etcd.expect("etcd plays the workload");
    for (kind, ours) in ours {
        let ours = ours.unwrap_or_else(|trouble| panic!("{}: {trouble}", kind.name()));
        let differences = compare(&etcd, &ours);
        let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "{}:\n{}", kind.name(), lines.join("\n"));
    }
}

#[test]
fn the_basic_families_are_those_of_etcd() {
    let etcd = Launch::of(Kind::Etcd).and_then(Launch::start).expect("etcd starts");
    for kind in [Kind::QuoinTokio, Kind::QuoinSmol] {
        let server = Launch::of(kind).and_then(Launch::start).expect("ours starts");
        let compared = || -> Result<Vec<String>, Trouble> {
            let (etcd, ours) = (Exposition::of(&etcd)?, Exposition::of(&server)?);
            let handling = |of: &Exposition| of.families.contains_key("grpc_server_handling_seconds");
            assert_eq!((handling(&etcd), handling(&ours)), (false, false));
            Ok(families(&etcd, &ours).iter().map(ToString::to_string).collect())
        };
        // Some appear once the cluster has agreed on its version, shortly after it serves.
        let same = wait::until(PATIENCE, STEP, || compared().expect("metrics").is_empty().then_some(()));
        assert!(
            same.is_some(),
            "{}:\n{}",
            kind.name(),
            compared().expect("metrics").join("\n")
        );
    }
}

/// What three members count while one of them is away, and misses so much that it is sent a snapshot.
struct Counted {
    families: BTreeMap<String, quoin_conformance::metrics::Kind>,
    /// Families with a sample that is not zero.
    moved: BTreeSet<String>,
}

impl Counted {
    fn of(servers: &[Server]) -> Result<Self, Trouble> {
        let (mut all, mut moved) = (BTreeMap::new(), BTreeSet::new());
        for server in servers {
            let found = Exposition::of(server)?;
            let families = found.samples.iter().filter(|(_, value)| **value != 0.0);
            moved.extend(families.filter_map(|(series, _)| Some(found.family(series)?.0.to_owned())));
            all.extend(found.families);
        }
        Ok(Self { families: all, moved })
    }

    fn moved(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.moved.contains(*name))
    }
}

/// Plays the story to a cluster, and waits until all of `families` have moved.
fn three_members(kind: Kind, families: &[&str]) -> Result<Counted, Trouble> {
    let launch = Launch::of(kind)?
        .flag("--metrics=extensive")
        .flag("--snapshot-count=10")
        .flag("--experimental-snapshot-catchup-entries=5");
    let mut servers = start_together([launch.clone(), launch.clone(), launch])?;
    let runtime = Runtime::new().map_err(|error| Trouble::new(error.to_string()))?;
    let put = |server: &Server, value: &str| {
        ask(&runtime, server, |mut client| async move {
            client.put("key", value, None).await
        });
    };
    servers[2].kill()?;
    for number in 0..40 {
        put(&servers[number % 2], "while one member is away");
    }
    servers[2].restart()?;
    put(&servers[2], "it has caught up");
    let moved = wait::until(PATIENCE, STEP, || {
        Counted::of(&servers)
            .is_ok_and(|counted| counted.moved(families))
            .then_some(())
    });
    let counted = Counted::of(&servers)?;
    match moved {
        Some(()) => Ok(counted),
        None => {
            let missing = families.iter().filter(|name| !counted.moved.contains(**name));
            Err(Trouble::new(format!("unmoved: {:?}", missing.collect::<Vec<_>>())))
        }
    }
}

#[test]
fn three_members_count_their_traffic_as_etcds_do() {
    let snapshots = [
        "etcd_network_snapshot_receive_success",
        "etcd_network_snapshot_send_success",
        "etcd_network_disconnected_peers_total",
    ];
    let expected = [&MIXIN[..], &snapshots].concat();
    let (etcd, ours) = thread::scope(|scope| {
        let etcd = scope.spawn(|| three_members(Kind::Etcd, &expected));
        let ours = three_members(Kind::QuoinTokio, &[&expected[..], &[ROUND_TRIPS]].concat());
        (etcd.join().expect("a story ends"), ours)
    });
    let (etcd, ours) = (etcd.expect("etcd's members"), ours.expect("our members"));
    let network = etcd
        .families
        .iter()
        .filter(|(name, _)| name.starts_with("etcd_network_"));
    for (name, kind) in network {
        assert_eq!(ours.families.get(name), Some(kind), "the kind of {name}");
        let moves = (etcd.moved.contains(name), ours.moved.contains(name));
        assert!(moves != (true, false), "{name} changes in etcd, but not here");
    }
}
