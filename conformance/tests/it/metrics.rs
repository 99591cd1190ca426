//! The same workload changes every metric of ours by the same amount as etcd's, or a reason for the difference is
//! documented.

use std::thread;
use std::time::Duration;

use quoin_conformance::metrics::{Exposition, Played, compare, families, play};
use quoin_conformance::{Kind, Launch, Trouble, wait};

const PATIENCE: Duration = Duration::from_secs(30);
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
