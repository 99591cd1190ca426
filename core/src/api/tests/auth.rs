//! Auth at the front door: which call needs what, denials of a member that is behind, and the way of a password.

use bytes::Bytes;

use super::super::{Answer, Call, Method, Step};
use super::{World, grant, put, range};
use crate::error::Error;
use crate::node::Request;
use crate::proto::authpb::{Permission, permission::Type};
use crate::proto::etcdserverpb::{
    AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest,
    AuthUserChangePasswordRequest, AuthUserGetRequest, AuthUserGrantRoleRequest, AuthenticateRequest,
    DeleteRangeRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, StatusRequest,
    WatchCreateRequest,
};

fn user_add(name: &str) -> Call {
    Call::UserAdd(AuthUserAddRequest {
        name: name.to_owned(),
        password: format!("pw-{name}"),
        ..AuthUserAddRequest::default()
    })
}

fn grant_role(user: &str, role: &str) -> Call {
    Call::UserGrantRole(AuthUserGrantRoleRequest {
        user: user.to_owned(),
        role: role.to_owned(),
    })
}

fn permit(kind: Type, key: &str, range_end: &str) -> Call {
    Call::RoleGrantPermission(AuthRoleGrantPermissionRequest {
        name: "r".to_owned(),
        perm: Some(Permission {
            perm_type: kind.into(),
            key: key.to_owned().into(),
            range_end: range_end.to_owned().into(),
        }),
    })
}

fn authenticate(name: &str, password: &str) -> Call {
    Call::Authenticate(AuthenticateRequest {
        name: name.to_owned(),
        password: password.to_owned(),
    })
}

impl World {
    /// Auth is on. Beside root there is ann, who may read and write from a to b, and read from b to c.
    fn with_users() -> Self {
        let mut world = Self::new();
        let add_role = Call::RoleAdd(AuthRoleAddRequest { name: "r".to_owned() });
        for call in [
            user_add("root"),
            grant_role("root", "root"),
            user_add("ann"),
            add_role,
            grant_role("ann", "r"),
            permit(Type::Readwrite, "a", "b"),
            permit(Type::Read, "b", "c"),
            Call::AuthEnable(AuthEnableRequest {}),
        ] {
            world.call(call).unwrap();
        }
        world
    }

    fn is_called_by(&mut self, user: &str) -> &mut Self {
        self.credentials.token = (!user.is_empty()).then(|| format!("{user}.").into());
        self
    }
}

/// Every method, also one that is added later, is refused without a user, except those that are named here.
#[test]
fn without_a_user_no_method_is_served_except_the_named_ones() {
    let world = World::with_users();
    let mut served = Vec::new();
    for method in Method::ALL {
        let Ok(Some(call)) = Call::decode(*method, Bytes::new()) else {
            continue;
        };
        // These are refused before, because they are invalid by themselves.
        let call = match call {
            Call::Put(_) => Call::Put(put("a")),
            Call::Range(_) => Call::Range(range("a", "")),
            Call::DeleteRange(_) => Call::DeleteRange(delete("a", "")),
            call => call,
        };
        if world.verdict(call) != Err(Error::UserEmpty) {
            served.push(*method);
        }
    }
    let expected = [
        // It has no operations.
        Method::Txn,
        Method::Authenticate,
        // Its user has no name, as the caller has none.
        Method::UserGet,
        Method::HealthCheck,
        Method::HealthWatch,
        // Each call that these make is refused by itself.
        Method::Campaign,
        Method::Proclaim,
        Method::Leader,
        Method::Observe,
        Method::Resign,
        Method::Lock,
        Method::Unlock,
    ];
    assert_eq!(served, expected);
    assert_eq!(world.watch("a", ""), Err(Error::UserEmpty));
}

#[test]
fn a_user_may_do_what_its_roles_permit() {
    let mut world = World::with_users();
    world.is_called_by("ann");
    let denied = Err(Error::PermissionDenied);
    let status = Call::Status(StatusRequest {});
    let own = |name: &str| Call::UserGet(AuthUserGetRequest { name: name.to_owned() });
    let old = |key: &str| {
        Call::Range(RangeRequest {
            serializable: true,
            ..range(key, "")
        })
    };
    for (call, expected) in [
        (Call::Put(put("a")), Ok(())),
        (Call::Put(put("b")), denied),
        (Call::Range(range("a", "c")), Ok(())),
        (Call::Range(range("a", "d")), denied),
        (old("b"), Ok(())),
        (old("c"), denied),
        (Call::DeleteRange(delete("a", "b")), Ok(())),
        (Call::DeleteRange(delete("a", "c")), denied),
        (status, Ok(())),
        (grant(7), Ok(())),
        (own("ann"), Ok(())),
        (own("root"), denied),
        (user_add("bob"), denied),
    ] {
        assert_eq!(world.verdict(call.clone()), expected, "{call:?}");
    }
    assert_eq!((world.watch("a", "c"), world.watch("c", "")), (Ok(()), denied));
    assert_eq!(world.watch("b", "\0"), denied, "an open end is not a single key");
    world.is_called_by("bob");
    assert_eq!(world.verdict(Call::Put(put("a"))), denied, "there is no such user");
    world.credentials.token = Some("nonsense".into());
    assert_eq!(world.verdict(Call::Put(put("a"))), Err(Error::InvalidAuthToken));
    world.credentials.token = Some("Bearer root.".into());
    assert_eq!(world.verdict(Call::Put(put("z"))), Ok(()));
}

/// A member that has not applied a grant must not deny what it permits.
#[test]
fn a_denial_of_what_all_members_decide_waits_until_the_member_is_up_to_date() {
    let mut world = World::with_users();
    let waits = |world: &World, call: Call| {
        let step = world.begin(call);
        matches!(
            step,
            Ok(Step::Ask {
                request: Request::Read,
                ..
            })
        )
    };
    world.is_called_by("ann");
    let old = RangeRequest {
        serializable: true,
        ..range("x", "")
    };
    assert!(waits(&world, Call::Put(put("x"))) && waits(&world, user_add("bob")));
    assert!(!waits(&world, Call::Range(old.clone())));
    let Ok(Step::Ask { then, .. }) = world.begin(Call::Put(put("x"))) else {
        panic!("it waits")
    };
    world
        .is_called_by("root")
        .call(permit(Type::Readwrite, "x", ""))
        .unwrap();
    world.is_called_by("ann");
    let step = world.ask(|server| server.finish(then, Ok(crate::node::Response::Read)));
    let Ok(Step::Ask {
        request: Request::By { caller, request },
        ..
    }) = step
    else {
        panic!("{step:?}")
    };
    assert_eq!(
        (caller.username.as_str(), caller.auth_revision),
        ("ann", world.store.view().auth.revision())
    );
    assert!(matches!(*request, Request::Put(_)));
    world.credentials.token = Some(format!("stranger.{}", world.store.consistent_index() + 1).into());
    assert!(
        waits(&world, Call::Range(old)),
        "its token may be in an entry that is not applied"
    );
}

#[test]
fn an_entry_is_refused_if_auth_has_changed_since_its_user_was_identified() {
    let mut world = World::with_users();
    world.is_called_by("ann");
    let Ok(Step::Ask { request, .. }) = world.begin(Call::Put(put("a"))) else {
        panic!("it is permitted")
    };
    world.is_called_by("root").call(permit(Type::Read, "z", "")).unwrap();
    assert_eq!(world.node(request), Err(Error::AuthOldRevision));
    // The permission itself is looked at again, too.
    world.is_called_by("ann");
    let forged = Request::By {
        caller: world.store.view().auth.header_of("ann"),
        request: Box::new(Request::Put(put("b"))),
    };
    assert_eq!(world.node(forged), Err(Error::PermissionDenied));
    assert_eq!(world.node(Request::Put(put("a"))), Err(Error::UserEmpty));
}

#[test]
fn keys_of_a_lease_are_seen_and_deleted_by_those_who_may_do_so_with_each() {
    let mut world = World::with_users();
    world.is_called_by("root").call(grant(7)).unwrap();
    let with_lease = |key: &str| Call::Put(PutRequest { lease: 7, ..put(key) });
    world.call(with_lease("a")).unwrap();
    let ask = |keys| Call::LeaseTimeToLive(LeaseTimeToLiveRequest { id: 7, keys });
    let revoke = || Call::LeaseRevoke(LeaseRevokeRequest { id: 7 });
    world.is_called_by("ann");
    assert_eq!(world.verdict(revoke()), Ok(()));
    assert!(world.call(ask(true)).is_ok());
    world.is_called_by("root").call(with_lease("x")).unwrap();
    world.is_called_by("ann");
    let denied = Err(Error::PermissionDenied);
    assert_eq!(world.verdict(revoke()), denied);
    assert_eq!(world.verdict(with_lease("a")), denied, "it could not be revoked");
    assert_eq!(world.verdict(ask(true)), denied);
    assert_eq!(world.verdict(ask(false)), Ok(()));
    // The leader may know of keys that this member has not applied.
    world
        .is_called_by("root")
        .call(Call::DeleteRange(delete("x", "")))
        .unwrap();
    // To root they are shown even if its token is of an earlier auth revision, as those at this member are.
    for (user, expected) in [("ann", denied), ("root", Ok(())), ("root@1", Ok(()))] {
        world.is_called_by(user);
        let Ok(Step::Ask { then, .. }) = world.begin(ask(true)) else {
            panic!("the leader is asked")
        };
        let response = crate::node::Response::TimeToLive {
            ttl: 1,
            granted_ttl: 2,
            keys: [Bytes::from("x")].into_iter().collect(),
        };
        let step = world.ask(|server| server.finish(then, Ok(response)));
        assert_eq!(step.map(drop), expected, "{user}");
    }
}

#[test]
fn a_password_is_compared_before_a_token_is_given_out() {
    let mut world = World::with_users();
    let Ok(Answer::Authenticate(answer)) = world.call(authenticate("ann", "pw-ann")) else {
        panic!("the password is right")
    };
    let index = world.store.consistent_index();
    assert_eq!(answer.token, format!("ann:prefix.{index}"));
    for (name, password, error) in [
        ("ann", "pw-root", Error::AuthFailed),
        ("bob", "pw-bob", Error::AuthFailed),
    ] {
        assert_eq!(world.call(authenticate(name, password)).map(drop), Err(error), "{name}");
    }
    assert_eq!(
        world.store.consistent_index(),
        index,
        "nothing is proposed for a wrong password"
    );
    let new_password = Call::UserChangePassword(AuthUserChangePasswordRequest {
        name: "ann".to_owned(),
        password: "new".to_owned(),
        ..AuthUserChangePasswordRequest::default()
    });
    world.is_called_by("root").call(new_password).unwrap();
    assert_eq!(
        world.call(authenticate("ann", "pw-ann")).map(drop),
        Err(Error::AuthFailed)
    );
    assert!(world.call(authenticate("ann", "new")).is_ok());
    let too_long = Call::UserAdd(AuthUserAddRequest {
        name: "bob".to_owned(),
        password: "p".repeat(73),
        ..AuthUserAddRequest::default()
    });
    assert_eq!(world.call(too_long).map(drop), Err(Error::PasswordTooLong));
}

#[test]
fn a_password_that_was_changed_meanwhile_is_compared_again() {
    let mut world = World::with_users();
    let mut step = world.begin(authenticate("ann", "pw-ann")).unwrap();
    let mut compared = 0;
    loop {
        step = match step {
            Step::Password { then, .. } => {
                compared += 1;
                let result = super::super::PasswordResult::Compared(true);
                world.ask(|server| server.worked(then, result)).unwrap()
            }
            Step::Ask { request, then, .. } => {
                if compared == 1 {
                    world.is_called_by("root").call(permit(Type::Read, "y", "")).unwrap();
                }
                let result = world.node(request);
                world.ask(|server| server.finish(then, result)).unwrap()
            }
            Step::Answer(Answer::Authenticate(_)) => break,
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(compared, 2);
}

#[test]
fn neither_a_request_nor_its_step_shows_a_password() {
    let world = World::with_users();
    let confirmed = world.begin(authenticate("ann", "pw-ann"));
    let Ok(Step::Ask { then, .. }) = confirmed else {
        panic!("it waits until the member is up to date")
    };
    let step = world.ask(|server| server.finish(then, Ok(crate::node::Response::Read)));
    let Ok(Step::Password { then, .. }) = &step else {
        panic!("the password is compared")
    };
    assert!(!format!("{step:?}").contains("pw-ann"));
    let compared = super::super::PasswordResult::Compared(true);
    let asked = world.ask(|server| server.worked(then.clone(), compared));
    assert!(!format!("{asked:?}").contains("pw-ann"));
}

fn delete(key: &str, range_end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        ..DeleteRangeRequest::default()
    }
}

impl World {
    /// Whether a call is permitted. Nothing is proposed.
    fn verdict(&self, call: Call) -> Result<(), Error> {
        let mut step = self.begin(call)?;
        loop {
            step = match step {
                Step::Ask {
                    request: Request::Read,
                    then,
                    ..
                } => self.ask(|server| server.finish(then, Ok(crate::node::Response::Read)))?,
                Step::Fetch(read) => {
                    return self.ask(|server| {
                        let mut fetch = read.plan(server);
                        while !fetch.step(2) {}
                        fetch.answer(server).map(drop)
                    });
                }
                _ => return Ok(()),
            };
        }
    }

    fn watch(&self, key: &str, range_end: &str) -> Result<(), Error> {
        let request = WatchCreateRequest {
            key: key.to_owned().into(),
            range_end: range_end.to_owned().into(),
            ..WatchCreateRequest::default()
        };
        self.ask(|server| server.authorize_watch(&request))
    }
}
