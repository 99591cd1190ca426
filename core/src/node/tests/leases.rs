//! Leases through the node: they end on time, not before, and only by the present leader.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::value;
use super::world::World;
use crate::error::Error;
use crate::id::MemberId;
use crate::node::{Request, Response};
use crate::proto::etcdserverpb::{InternalRaftRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest};
use crate::proto::raftpb::Entry;
use crate::store;

const ME: MemberId = MemberId(1);

fn grant(id: i64, ttl: i64) -> Request {
    Request::LeaseGrant(LeaseGrantRequest { id, ttl })
}

fn attach(key: &str, lease: i64) -> Request {
    Request::Put(PutRequest {
        key: key.to_owned().into(),
        value: "v".into(),
        lease,
        ..PutRequest::default()
    })
}

fn left(world: &mut World, id: MemberId, lease: i64) -> (i64, i64, Vec<Bytes>) {
    match world
        .call(id, Request::LeaseTimeToLive { id: lease, keys: true })
        .unwrap()
    {
        Response::TimeToLive { ttl, granted_ttl, keys } => (ttl, granted_ttl, keys.iter().cloned().collect()),
        other => panic!("{other:?}"),
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn an_expired_lease_is_revoked_on_time_with_its_keys() {
    let mut world = World::new(1, 1);
    world.leader();
    world.call(ME, grant(7, 10)).unwrap();
    world.call(ME, attach("k", 7)).unwrap();
    assert_eq!(left(&mut world, ME, 7), (9, 10, vec!["k".into()]));
    world.run(secs(8));
    assert_eq!(
        world.call(ME, Request::LeaseRenew { id: 7 }),
        Ok(Response::Renewed { ttl: 10 })
    );
    world.run(Duration::from_millis(9_900));
    assert_eq!(
        value(&world.node(ME).view(), "k"),
        Some("v".into()),
        "not before its time"
    );
    world.run(Duration::from_millis(700));
    assert_eq!(value(&world.node(ME).view(), "k"), None);
    assert_eq!(left(&mut world, ME, 7), (-1, 0, vec![]));
    assert_eq!(
        world.call(ME, Request::LeaseRenew { id: 7 }),
        Ok(Response::Renewed { ttl: 0 })
    );
    let revoke = Request::LeaseRevoke(LeaseRevokeRequest { id: 7 });
    assert_eq!(world.call(ME, revoke), Err(Error::LeaseNotFound));
}

#[test]
fn the_leader_lists_leases_by_expiry_and_a_follower_by_id() {
    let mut world = World::new(3, 3);
    let leader = world.leader();
    let follower = world.followers()[0];
    for (id, ttl) in [(1, 30), (2, 15), (3, 20)] {
        world.call(leader, grant(id, ttl)).unwrap();
    }
    world.run(secs(1));
    let listed = |world: &mut World, id| match world.call(id, Request::LeaseLeases).unwrap() {
        Response::Leases { leases } => leases.by_expiry(),
        other => panic!("{other:?}"),
    };
    assert_eq!(listed(&mut world, leader), [2, 3, 1]);
    assert_eq!(listed(&mut world, follower), [1, 2, 3]);
    world.run(secs(9));
    world.call(leader, Request::LeaseRenew { id: 2 }).unwrap();
    assert_eq!(listed(&mut world, leader), [3, 2, 1]);
}

#[test]
fn a_lease_granted_without_id_gets_one() {
    let mut world = World::new(1, 1);
    world.leader();
    let ids: std::collections::BTreeSet<i64> = (0..5)
        .map(|_| match world.call(ME, grant(0, 1)).unwrap() {
            Response::Applied(store::Response::LeaseGrant(granted)) => {
                assert_eq!(granted.ttl, 2, "the shortest lease is one and a half elections");
                granted.id
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(ids.len() == 5 && ids.iter().all(|id| *id > 0), "{ids:?}");
}

#[test]
fn many_leases_end_without_a_flood_of_revocations() {
    let mut world = World::new(1, 1);
    world.leader();
    for id in 1..=300 {
        world.ask(ME, grant(id, 5));
    }
    world.run(secs(4));
    assert_eq!(world.node(ME).view().leases.len(), 300);
    world.run(secs(3));
    assert_eq!(world.node(ME).view().leases.len(), 0);
}

#[test]
fn only_the_leader_keeps_leases_alive() {
    let mut world = World::new(3, 3);
    let leader = world.leader();
    let follower = world.followers()[0];
    world.call(follower, grant(7, 5)).unwrap();
    assert_eq!(
        world.call(leader, Request::LeaseRenew { id: 7 }),
        Ok(Response::Renewed { ttl: 5 })
    );
    assert_eq!(
        world.call(follower, Request::LeaseRenew { id: 7 }),
        Err(Error::NotLeader)
    );
    assert_eq!(
        world.call(follower, Request::LeaseTimeToLive { id: 7, keys: false }),
        Err(Error::NotLeader)
    );
}

#[test]
fn a_new_leader_restarts_the_time_of_every_lease() {
    let mut world = World::new(3, 3);
    let old = world.leader();
    world.call(old, grant(7, 5)).unwrap();
    world.call(old, attach("k", 7)).unwrap();
    world.run(secs(4));
    world.crash(old);
    let new = world.leader();
    let (ttl, granted, _) = left(&mut world, new, 7);
    assert!(ttl >= 5 && granted == 5, "{ttl} seconds are left of {granted}");
    world.run(secs(4));
    assert_eq!(value(&world.node(new).view(), "k"), Some("v".into()));
    world.run(secs(4));
    assert_eq!(value(&world.node(new).view(), "k"), None, "it expires all the same");
}

#[test]
fn a_deposed_leader_revokes_nothing() {
    let mut world = World::new(3, 9);
    let old = world.leader();
    world.call(old, grant(7, 3)).unwrap();
    world.call(old, attach("k", 7)).unwrap();
    // The old leader is suspended; the others elect a new one, which renews the lease; then the old one continues.
    let asleep = world.machine(old).node.take();
    let new = world.leader();
    for _ in 0..4 {
        world.run(secs(1));
        assert_eq!(
            world.call(new, Request::LeaseRenew { id: 7 }),
            Ok(Response::Renewed { ttl: 3 })
        );
    }
    world.machine(old).node = asleep;
    world.isolate(old);
    assert!(world.node(old).status().leads, "it has not noticed yet");
    world.run(Duration::from_millis(900));
    assert!(
        !world.machines[&old].disk.entries.iter().any(revokes),
        "it proposed nothing before it confirmed its leadership"
    );
    world.heal();
    for _ in 0..3 {
        world.run(secs(1));
        assert_eq!(
            world.call(new, Request::LeaseRenew { id: 7 }),
            Ok(Response::Renewed { ttl: 3 })
        );
    }
    assert_eq!(value(&world.node(new).view(), "k"), Some("v".into()));
    assert_eq!(value(&world.node(old).view(), "k"), Some("v".into()));
}

#[test]
fn a_suspended_leader_confirms_its_leadership_before_it_revokes_in_any_phase() {
    // The look for expired leases and the tick have separate phases: either may be due first when the leader continues.
    for phase in 0..20 {
        let mut world = World::new(3, 9);
        let old = world.leader();
        world.call(old, grant(7, 3)).unwrap();
        world.run(Duration::from_millis(25 * phase));
        let asleep = world.machine(old).node.take();
        world.run(secs(4));
        world.machine(old).node = asleep;
        world.isolate(old);
        world.run(Duration::from_millis(900));
        let entries = &world.machines[&old].disk.entries;
        assert!(!entries.iter().any(revokes), "phase {phase}: it no longer leads");
    }
}

/// Whether an entry revokes a lease.
fn revokes(entry: &Entry) -> bool {
    InternalRaftRequest::decode(entry.data.clone()).is_ok_and(|request| request.lease_revoke.is_some())
}

#[test]
fn a_renewal_of_an_expired_lease_waits_for_its_revocation() {
    let mut world = World::new(1, 1);
    world.leader();
    world.call(ME, grant(7, 2)).unwrap();
    world.run(Duration::from_millis(1_990));
    world.machine(ME).sync_takes = secs(2);
    world.run(Duration::from_millis(600));
    let token = world.ask(ME, Request::LeaseRenew { id: 7 });
    world.run(Duration::from_millis(10));
    assert!(
        !world.answers.contains_key(&token),
        "its revocation is being written to disk"
    );
    assert_eq!(world.wait(token), Ok(Response::Renewed { ttl: 0 }));
}

#[test]
fn checkpoints_survive_a_change_of_leader_until_the_lease_is_renewed() {
    let mut world = World::with(3, 5, |config| config.member.lease_checkpoint = true);
    let old = world.leader();
    world.call(old, grant(7, 1_000)).unwrap();
    world.run(secs(605));
    world.crash(old);
    let new = world.leader();
    let (ttl, _, _) = left(&mut world, new, 7);
    assert!((395..=410).contains(&ttl), "{ttl} seconds are left");
    assert_eq!(
        world.call(new, Request::LeaseRenew { id: 7 }),
        Ok(Response::Renewed { ttl: 1_000 })
    );
    assert_eq!(
        world.node(new).view().leases.get(7).unwrap().remaining_ttl(),
        0,
        "the checkpoint is cleared"
    );
}

/// Whether a member's state has the lease.
fn has_lease(world: &World, id: MemberId, lease: i64) -> bool {
    world.node(id).view().leases.get(lease).is_some()
}

#[test]
fn a_leader_with_a_slow_disk_does_not_revoke_a_new_lease_with_the_id_of_a_revoked_one() {
    let mut world = World::new(3, 1);
    let leader = world.leader();
    let follower = world.followers()[0];
    world.call(leader, grant(7, 2)).unwrap();
    world.run(secs(1));
    // The others commit without the leader's disk; the leader applies nothing, and keeps finding the lease expired.
    world.machine(leader).sync_takes = secs(20);
    while has_lease(&world, follower, 7) {
        world.run(Duration::from_millis(100));
    }
    world.call(follower, grant(7, 60)).unwrap();
    world.run(secs(15));
    assert_eq!(world.node(leader).status().leader, leader, "it remains leader");
    assert!(has_lease(&world, follower, 7));
}

#[test]
fn an_id_that_a_lease_has_is_not_drawn_again() {
    let mut world = World::new(1, 1);
    world.leader();
    let drawn = |response| match response {
        Response::Applied(store::Response::LeaseGrant(response)) => response.id,
        other => panic!("{other:?}"),
    };
    let first = drawn(world.call(ME, grant(0, 10)).unwrap());
    // Ids are counted, so one of these would be the next.
    let chosen = first + 1..first + 200;
    for id in chosen.clone() {
        world.call(ME, grant(id, 10)).unwrap();
    }
    let second = drawn(world.call(ME, grant(0, 10)).unwrap());
    assert!(second != first && !chosen.contains(&second));
    assert_eq!(world.call(ME, grant(first, 10)), Err(Error::LeaseExists));
}
