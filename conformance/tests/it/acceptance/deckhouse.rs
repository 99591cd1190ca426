//! Deckhouse: a probe that also a learner passes.

use quoin_conformance::{Kind, Launch};

use super::{client, on_each, runtime, until_probed};
use crate::tls::free;

const PROBE: &str = "/readyz?exclude=non_learner";

#[test]
fn deckhouse_probes_a_learner() {
    on_each(a_learner_is_ready);
}

fn a_learner_is_ready(kind: Kind) {
    let program = || Launch::of(kind).expect("a program");
    let one = ("one", free());
    let mut voter = program().member("one", &[one]).start().expect("a healthy server");
    let at = voter.address();
    until_probed(&mut voter, at, PROBE);
    let two = ("two", free());
    runtime().block_on(async {
        let options = etcd_client::MemberAddOptions::new().with_is_learner();
        let mut client = client(&voter).await;
        let added = client.member_add([two.1.to_string()], Some(options)).await;
        added.expect("a learner is added");
    });
    let learner = program().member("two", &[one, two]);
    let learner = learner.flag("--initial-cluster-state=existing");
    let mut learner = learner.spawn().expect("a process");
    let at = learner.address();
    until_probed(&mut learner, at, PROBE);
    until_probed(&mut learner, at, "/livez");
}
