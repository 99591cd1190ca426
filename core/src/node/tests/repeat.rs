//! The same seed and the same inputs give the same effects, byte for byte.

use std::time::Duration;

use super::put;
use super::world::World;
use crate::id::MemberId;
use crate::node::Request;
use crate::proto::etcdserverpb::LeaseGrantRequest;

/// The effects of three members in half a minute with faults.
fn run(seed: u64) -> Vec<String> {
    let mut world = World::with(3, seed, |config| config.member.snapshot_count = 20);
    world.record = Some(Vec::new());
    world.leader();
    for round in 0..60_u64 {
        let id = MemberId(1 + round % 3);
        world.loss_percent = round % 20;
        match (world.machines[&id].node.is_some(), round % 10) {
            (false, _) => {
                world.start(id);
                world.connect(id);
            }
            (true, 7) => world.crash(id),
            (true, 8) => {
                world.ask(id, Request::LeaseGrant(LeaseGrantRequest { id: 0, ttl: 3 }));
            }
            (true, 9) => {
                world.ask(id, Request::Read);
            }
            (true, _) => {
                world.ask(id, put(&format!("k{round}"), "v"));
            }
        }
        world.run(Duration::from_millis(250));
    }
    world.record.take().unwrap()
}

#[test]
fn a_run_repeats_byte_for_byte() {
    let (first, again) = (run(42), run(42));
    let differing = first.iter().zip(&again).find(|(one, other)| one != other);
    assert_eq!(differing, None, "the first difference");
    assert_eq!(first.len(), again.len());
    assert!(first.len() > 500, "{} effects", first.len());
    assert_ne!(first, run(43), "another seed gives another run");
}
