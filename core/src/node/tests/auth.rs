//! Users through the node: requests in their names, leases that end while auth is on, and what a restart and a snapshot
//! leave of them.

use std::time::Duration;

use super::put;
use super::world::World;
use crate::auth::{AuthChange, encode};
use crate::error::Error;
use crate::id::MemberId;
use crate::node::{Request, Response};
use crate::proto::authpb::Permission;
use crate::proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest, AuthUserGrantRoleRequest,
    LeaseGrantRequest, PutRequest,
};
use crate::store;

const ME: MemberId = MemberId(1);

fn add(name: &str) -> AuthChange {
    AuthChange::UserAdd(AuthUserAddRequest {
        name: name.to_owned(),
        hashed_password: encode("#"),
        ..AuthUserAddRequest::default()
    })
}

fn grant(user: &str, role: &str) -> AuthChange {
    AuthChange::UserGrantRole(AuthUserGrantRoleRequest {
        user: user.to_owned(),
        role: role.to_owned(),
    })
}

fn by(world: &World, at: MemberId, name: &str, request: Request) -> Request {
    Request::By {
        caller: world.node(at).view().auth.header_of(name),
        request: Box::new(request),
    }
}

fn call(world: &mut World, at: MemberId, name: &str, request: Request) -> Result<Response, Error> {
    let request = by(world, at, name, request);
    world.call(at, request)
}

/// Auth is on; ann may read and write k.
fn enable(world: &mut World, at: MemberId) {
    let role = || "r".to_owned();
    let mut permission = Permission {
        key: "k".into(),
        ..Permission::default()
    };
    permission.set_perm_type(crate::proto::authpb::permission::Type::Readwrite);
    for change in [
        add("root"),
        grant("root", "root"),
        AuthChange::RoleAdd(AuthRoleAddRequest { name: role() }),
        AuthChange::RoleGrantPermission(AuthRoleGrantPermissionRequest {
            name: role(),
            perm: Some(permission),
        }),
        add("ann"),
        grant("ann", "r"),
        AuthChange::Enable,
    ] {
        world.call(at, Request::Auth(change)).unwrap();
    }
}

/// Asserts that a member enforces what [`enable`] made.
fn assert_enforced(world: &mut World, at: MemberId) {
    assert!(call(world, at, "ann", put("k", "v")).is_ok());
    assert_eq!(call(world, at, "ann", put("other", "v")), Err(Error::PermissionDenied));
    assert_eq!(world.call(at, put("k", "v")), Err(Error::UserEmpty));
    let change = Request::Auth(add("bob"));
    assert_eq!(call(world, at, "ann", change), Err(Error::PermissionDenied));
}

#[test]
fn an_expired_lease_is_revoked_while_auth_is_on() {
    let mut world = World::new(1, 1);
    world.leader();
    let lease = |id| Request::LeaseGrant(LeaseGrantRequest { id, ttl: 10 });
    let attach = |key: &'static str, lease| {
        Request::Put(PutRequest {
            key: key.into(),
            lease,
            ..PutRequest::default()
        })
    };
    world.call(ME, lease(7)).unwrap();
    world.call(ME, attach("before", 7)).unwrap();
    enable(&mut world, ME);
    call(&mut world, ME, "root", lease(8)).unwrap();
    call(&mut world, ME, "root", attach("after", 8)).unwrap();
    world.run(Duration::from_secs(12));
    let view = world.node(ME).view();
    assert_eq!((view.leases.len(), view.kv.key_count()), (0, 0));
    // Also after a restart, and once users have changed.
    world.crash(ME);
    world.start(ME);
    world.leader();
    call(&mut world, ME, "root", Request::Auth(add("bob"))).unwrap();
    call(&mut world, ME, "root", lease(9)).unwrap();
    call(&mut world, ME, "root", attach("later", 9)).unwrap();
    world.run(Duration::from_secs(13));
    assert!(world.node(ME).view().leases.is_empty());
}

#[test]
fn every_member_enforces_the_same_also_after_a_crash() {
    let mut world = World::new(3, 2);
    let leader = world.leader();
    enable(&mut world, leader);
    world.run(Duration::from_secs(1));
    for id in [leader, world.followers()[0], world.followers()[1]] {
        assert_enforced(&mut world, id);
    }
    for id in world.followers() {
        world.crash(id);
        world.start(id);
        world.run(Duration::from_secs(2));
        assert_enforced(&mut world, id);
    }
}

#[test]
fn a_member_that_is_sent_a_snapshot_has_its_users_and_enforces_them() {
    let mut world = World::with(3, 3, |config| {
        config.member.snapshot_count = 10;
        config.member.snapshot_catchup_entries = 3;
    });
    let leader = world.leader();
    let behind = world.followers()[1];
    world.isolate(behind);
    enable(&mut world, leader);
    for round in 0..40 {
        call(&mut world, leader, "ann", put("k", &round.to_string())).unwrap();
    }
    assert!(!world.node(behind).view().auth.is_enabled());
    world.heal();
    world.run(Duration::from_secs(3));
    assert_eq!(world.machines[&behind].installed, 1);
    let rows = |view: &store::View| view.all_rows().collect::<Vec<_>>();
    assert_eq!(rows(&world.node(behind).view()), rows(&world.node(leader).view()));
    assert_enforced(&mut world, behind);
    world.crash(behind);
    world.start(behind);
    world.run(Duration::from_secs(2));
    assert_enforced(&mut world, behind);
}
