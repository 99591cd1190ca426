//! Third-party clients play their fast scenarios on a real etcd and on ours on tokio, and one scenario for each method
//! on our other servers. `-- --ignored --nocapture` plays every scenario on every server.

use std::collections::BTreeMap;

use quoin_conformance::{
    Kind, Setup,
    clients::{self, Depth},
    outcome::{Outcome, Told, Verdict},
    wait,
};

/// The smallest number of scenarios of each client, by the first words of its name.
const LEAST: [(&str, usize); 6] = [
    ("etcdctl 3.4", 6),
    ("etcdctl 3.5", 6),
    ("Python etcd3", 30),
    ("Python aetcd", 30),
    ("Node etcd3", 30),
    ("Go clientv3", 35),
];

#[test]
fn clients_work_with_ours_as_with_a_real_etcd() {
    let plan = [
        (Kind::QuoinTokio, Depth::Fast),
        (Kind::QuoinSmol, Depth::Smoke),
        (Kind::QuoinAsyncStd, Depth::Smoke),
    ];
    let mut told = Vec::new();
    clients::fast(&plan, &mut |one| told.extend(one.outcome())).expect("the clients and the servers are available");
    judge(&told);
}

#[test]
fn a_client_works_with_three_members_as_with_three_of_a_real_etcd() {
    go_client_works(
        Setup {
            members: 3,
            ..Setup::ALONE
        },
        Kind::QuoinTokio,
    );
}

#[test]
fn a_client_works_with_a_secured_member_as_with_a_real_etcd() {
    let secured = Setup {
        is_secured: true,
        ..Setup::ALONE
    };
    go_client_works(secured, Kind::QuoinSmol);
}

fn go_client_works(setup: Setup, kind: Kind) {
    let mut told = Vec::new();
    let plan = [(kind, Depth::Smoke)];
    clients::fast_in(setup, "Go clientv3", &plan, &mut |one| told.extend(one.outcome()))
        .expect("servers of this set-up");
    assert!(told.len() >= 20, "only {} scenarios", told.len());
    assert_eq!(failed(&told), Vec::<String>::new());
}

#[test]
#[ignore = "takes minutes; the report plays it"]
fn every_scenario_of_every_client() {
    let begun = wait::now();
    let mut told = Vec::new();
    let mut tell = |one: Told| {
        let outcome = one.outcome();
        if let Some(failed) = outcome.as_ref().filter(|outcome| !outcome.passed()) {
            println!("{failed:?}");
        }
        told.extend(outcome);
    };
    clients::run(&Kind::OURS, Setup::ALONE, &mut tell).expect("the clients and the servers are available");
    let mut passed: BTreeMap<(String, Kind), (usize, usize)> = BTreeMap::new();
    for outcome in &told {
        let row = passed.entry((outcome.client.clone(), outcome.server)).or_default();
        row.0 += usize::from(outcome.passed());
        row.1 += 1;
    }
    for ((client, kind), (passed, all)) in passed {
        println!("{client:34} {:16} {passed} of {all}", kind.name());
    }
    println!("after {:?}", begun.elapsed());
    judge(&told);
}

/// A scenario that a real etcd fails proves nothing, and one that only ours fails is a bug.
fn judge(told: &[Outcome]) {
    for kind in [Kind::Etcd, Kind::QuoinTokio] {
        for (client, least) in LEAST {
            let of_it = |one: &&Outcome| one.server == kind && one.client.starts_with(client);
            let count = told.iter().filter(of_it).count();
            assert!(count >= least, "{client} with {}: only {count} scenarios", kind.name());
        }
    }
    let failed = failed(told);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The scenarios that failed, with the reasons.
fn failed(told: &[Outcome]) -> Vec<String> {
    told.iter()
        .filter_map(|one| {
            let (Verdict::Failed(reason) | Verdict::Differs(reason)) = &one.verdict else {
                return None;
            };
            Some(format!(
                "{} with {}: {}: {reason}",
                one.client,
                one.server.name(),
                one.scenario
            ))
        })
        .collect()
}
