//! Downgrades: the order of checks, the texts, and what is proposed.

use super::World;
use crate::api::{Answer, Call, PeerCall, PeerStep};
use crate::error::Error;
use crate::node::{Request, Response};
use crate::proto::etcdserverpb::downgrade_request::DowngradeAction;
use crate::proto::etcdserverpb::{DowngradeRequest, InternalRaftRequest};
use crate::proto::membershippb::ClusterVersionSetRequest;
use crate::store::Downgrade;

fn downgrade(action: DowngradeAction, version: &str) -> Call {
    Call::Downgrade(DowngradeRequest {
        action: action.into(),
        version: version.to_owned(),
    })
}

/// A member of a cluster of version 3.6.
fn world() -> World {
    let mut world = World::new();
    let ver = "3.6.0".to_owned();
    let entry = InternalRaftRequest {
        cluster_version_set: Some(ClusterVersionSetRequest { ver }),
        ..InternalRaftRequest::default()
    };
    world.apply(entry).unwrap();
    world
}

impl World {
    fn downgrade(&mut self, action: DowngradeAction, version: &str) -> Result<String, Error> {
        match self.call(downgrade(action, version))? {
            Answer::Downgrade(answer) => {
                assert!(answer.header.is_some());
                Ok(answer.version)
            }
            other => panic!("{other:?}"),
        }
    }

    /// What the member answers another one that starts.
    fn is_downgrading(&self) -> String {
        self.ask(|server| {
            let call = PeerCall::parse(server, "GET", "/downgrade/enabled", None, b"").unwrap();
            let PeerStep::Ask(Request::Read) = call.begin(server) else {
                panic!("it is answered once this member is up to date")
            };
            let answer = call.finish(server, Ok(Response::Read));
            assert_eq!((answer.status, answer.content_type), (200, "text/plain"));
            String::from_utf8(answer.body.to_vec()).unwrap()
        })
    }
}

const VALIDATE: DowngradeAction = DowngradeAction::Validate;
const ENABLE: DowngradeAction = DowngradeAction::Enable;
const CANCEL: DowngradeAction = DowngradeAction::Cancel;

#[test]
fn a_target_is_the_version_just_below_in_two_or_three_parts() {
    let mut world = world();
    let present = || Ok("3.6.0".to_owned());
    for version in ["3.5", "3.5.0", "3.5.99", "3.5.0-rc.1", "3.5.0+x"] {
        assert_eq!(world.downgrade(VALIDATE, version), present(), "{version:?}");
    }
    for version in ["", "3", "v3.5", "3.5.0.0", "3.x", "a", "3.5.0-rc_1", "3.5 "] {
        let error = Err(Error::WrongDowngradeVersionFormat);
        assert_eq!(world.downgrade(VALIDATE, version), error, "{version:?}");
    }
    for version in ["3.4", "3.6.0", "3.7", "2.5.0", "4.5.0"] {
        let error = Err(Error::InvalidDowngradeTargetVersion);
        assert_eq!(world.downgrade(VALIDATE, version), error, "{version:?}");
        assert_eq!(world.downgrade(ENABLE, version), error, "{version:?}");
    }
}

#[test]
fn a_downgrade_begins_once_and_ends_by_cancellation() {
    let mut world = world();
    let present = || Ok("3.6.0".to_owned());
    assert_eq!(world.downgrade(CANCEL, ""), Err(Error::NoInflightDowngrade));
    assert_eq!(world.is_downgrading(), "false");
    assert_eq!(world.downgrade(ENABLE, "3.5"), present());
    assert_eq!(world.is_downgrading(), "true");
    let job = world.store.view().cluster.downgrade().cloned();
    let (enabled, target) = (true, "3.5.0".to_owned());
    assert_eq!(job, Some(Downgrade { enabled, target }));
    for action in [VALIDATE, ENABLE] {
        assert_eq!(world.downgrade(action, "3.5"), Err(Error::DowngradeInProcess));
        let error = Err(Error::InvalidDowngradeTargetVersion);
        assert_eq!(world.downgrade(action, "3.4"), error, "the target is checked first");
    }
    assert_eq!(world.downgrade(CANCEL, "nonsense"), present());
    assert_eq!(world.is_downgrading(), "false");
    assert_eq!(world.store.view().cluster.downgrade(), Some(&Downgrade::default()));
}

#[test]
fn without_a_cluster_version_there_is_no_downgrade() {
    let mut world = World::new();
    assert_eq!(world.downgrade(VALIDATE, "3.5"), Err(Error::ClusterVersionUnavailable));
}

#[test]
fn an_unknown_action_is_refused() {
    let request = DowngradeRequest {
        action: 3,
        version: "3.5".to_owned(),
    };
    let error = World::new().begin(Call::Downgrade(request)).unwrap_err();
    assert_eq!(error, Error::UnknownMethod);
}

#[test]
fn another_member_is_not_answered_from_old_state() {
    World::new().ask(|server| {
        let call = PeerCall::parse(server, "GET", "/downgrade/enabled", None, b"").unwrap();
        let answer = call.finish(server, Err(Error::Timeout));
        assert_eq!(answer.status, 500);
        assert_eq!(answer.body, "failed linearized read: etcdserver: request timed out\n");
    });
}
