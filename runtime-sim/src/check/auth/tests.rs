//! Each promise about users, broken in turn.

use quoin_core::proto::authpb::Permission;
use quoin_core::proto::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest,
    AuthUserGrantRoleRequest, AuthenticateRequest, AuthenticateResponse, InternalAuthenticateRequest,
    InternalRaftRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, RangeResponse,
};

use super::*;
use crate::check::tests::story::{self, FIRST, grant, put};
use crate::client::users::{by_certificate, by_token};
use crate::observe::ClientId;

const TTL: Duration = Duration::from_secs(2);

type Story = story::Story<AuthChecker>;

/// A request of root.
fn by_root(change: impl FnOnce(&mut InternalRaftRequest)) -> InternalRaftRequest {
    let mut request = InternalRaftRequest::default();
    change(&mut request);
    request.header = Some(RequestHeader {
        username: "root".to_owned(),
        ..RequestHeader::default()
    });
    request
}

fn user(name: &str, role: &str) -> [InternalRaftRequest; 2] {
    let (user, role) = (name.to_owned(), role.to_owned());
    let add = AuthUserAddRequest {
        name: user.clone(),
        ..AuthUserAddRequest::default()
    };
    let grant = AuthUserGrantRoleRequest { user, role };
    [
        by_root(|request| request.auth_user_add = Some(add)),
        by_root(|request| request.auth_user_grant_role = Some(grant)),
    ]
}

/// Auth is on, and `ann` may read the key `a` alone. The key `b` is attached to lease 1.
fn story() -> Story {
    let name = "one".to_owned();
    let add = AuthRoleAddRequest { name: name.clone() };
    let perm = Some(Permission {
        key: "a".into(),
        ..Permission::default()
    });
    let permit = AuthRoleGrantPermissionRequest { name, perm };
    let mut story = Story::new(AuthChecker::new(TTL));
    let all = [grant(1, 60), put("a", 0), put("b", 1)]
        .into_iter()
        .chain([
            by_root(|request| request.auth_role_add = Some(add)),
            by_root(|request| request.auth_role_grant_permission = Some(permit)),
        ])
        .chain(user("root", "root"))
        .chain(user("ann", "one"))
        .chain([by_root(|request| request.auth_enable = Some(AuthEnableRequest {}))]);
    for request in all {
        story.commit(request).expect("members agree on users");
    }
    story.is(by_certificate("ann"));
    story
}

impl Story {
    fn is(&mut self, who: Credentials) {
        let client = ClientId(1);
        let seen = Observation::Identified { client, who: &who };
        self.see(&seen).expect("a name is no violation");
    }

    /// The checker that fires at this answer.
    fn answered(&mut self, call: &Call, result: Result<&Answer, Error>) -> Option<&'static str> {
        let op = self.invoke(FIRST, call);
        let result = result.map_err(refusal);
        let verdict = self.reply(op, FIRST, result.as_ref().map(|answer| *answer));
        verdict.err().map(|violation| violation.checker)
    }
}

fn range(key: &'static str) -> (Call, Answer) {
    let request = RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    };
    (Call::Range(request), Answer::Range(RangeResponse::default()))
}

#[test]
fn a_user_learns_no_key_that_it_may_not_read() {
    let mut story = story();
    let call = Call::LeaseTimeToLive(LeaseTimeToLiveRequest { id: 1, keys: true });
    let answer = |keys: &[&'static str]| {
        Answer::LeaseTimeToLive(LeaseTimeToLiveResponse {
            keys: keys.iter().map(|key| Bytes::from_static(key.as_bytes())).collect(),
            ..LeaseTimeToLiveResponse::default()
        })
    };
    assert_eq!(story.answered(&call, Ok(&answer(&["a", "b"]))), Some("C45"));
    assert_eq!(story.answered(&call, Err(Error::PermissionDenied)), None);
    story.is(by_certificate("root"));
    assert_eq!(story.answered(&call, Ok(&answer(&["a", "b"]))), None);
    let op = story.invoke(FIRST, &call);
    let told = Refusal {
        code: 7,
        message: "key b is not yours".to_owned(),
    };
    let verdict = story
        .reply(op, FIRST, Err(&told))
        .map_err(|violation| violation.checker);
    assert_eq!(verdict, Err("C45"), "an error has a key in its text");
}

#[test]
fn an_answer_and_a_refusal_follow_from_the_permissions() {
    let mut story = story();
    let ((one, answer), (other, nothing)) = (range("a"), range("b"));
    assert_eq!(story.answered(&one, Ok(&answer)), None);
    assert_eq!(story.answered(&one, Err(Error::PermissionDenied)), Some("C46"));
    assert_eq!(story.answered(&other, Err(Error::PermissionDenied)), None);
    assert_eq!(story.answered(&other, Ok(&nothing)), Some("C46"), "its size is learned");
    story.is(Credentials::NONE);
    assert_eq!(story.answered(&one, Err(Error::UserEmpty)), None);
    assert_eq!(story.answered(&one, Ok(&answer)), Some("C46"));
    let op = story.invoke(FIRST, &one);
    let disable = by_root(|request| request.auth_disable = Some(AuthDisableRequest {}));
    story.commit(disable).expect("members agree");
    assert_eq!(
        story.reply(op, FIRST, Ok(&answer)),
        Ok(()),
        "auth was disabled meanwhile"
    );
}

#[test]
fn a_watch_needs_the_permission_for_all_its_keys() {
    let created = |range_end: &'static [u8], reason: &str| {
        let mut story = story();
        let (client, stream) = (ClientId(1), StreamId(1));
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
                key: "a".into(),
                range_end: Bytes::from_static(range_end),
                ..WatchCreateRequest::default()
            })),
        };
        let response = WatchResponse {
            created: true,
            canceled: !reason.is_empty(),
            cancel_reason: reason.to_owned(),
            ..WatchResponse::default()
        };
        let opened = Observation::StreamOpened {
            stream,
            client,
            member: FIRST,
        };
        story.see(&opened).expect("a stream alone is no violation");
        let asked = Observation::WatchRequested {
            stream,
            request: &request,
        };
        story.see(&asked).expect("nor is a request");
        let verdict = story.see(&Observation::Watched {
            stream,
            response: &response,
        });
        verdict.err().map(|violation| violation.checker)
    };
    let denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    assert_eq!(created(b"", ""), None);
    assert_eq!(created(b"", denied), Some("C45"));
    assert_eq!(created(b"\0", ""), Some("C45"));
    assert_eq!(created(b"\0", denied), None);
}

#[test]
fn a_token_is_that_of_its_entry_and_ends() {
    let mut story = story();
    story.is(Credentials::NONE);
    let name = "ann".to_owned();
    let call = Call::Authenticate(AuthenticateRequest {
        name: name.clone(),
        ..AuthenticateRequest::default()
    });
    let login = InternalAuthenticateRequest {
        name,
        simple_token: "t".to_owned(),
        ..InternalAuthenticateRequest::default()
    };
    story
        .commit(by_root(|request| request.authenticate = Some(login)))
        .expect("it is no change");
    let index = story.truth.committed();
    let token = |index: u64| {
        Answer::Authenticate(AuthenticateResponse {
            token: format!("t.{index}"),
            ..AuthenticateResponse::default()
        })
    };
    assert_eq!(story.answered(&call, Ok(&token(index - 1))), Some("C46"));
    assert_eq!(story.answered(&call, Ok(&token(index))), None);
    story.is(by_token(&format!("t.{index}")));
    let (one, answer) = range("a");
    assert_eq!(story.answered(&one, Ok(&answer)), None);
    story.wait(20);
    assert_eq!(
        story.answered(&one, Ok(&answer)),
        None,
        "a request may have been on its way"
    );
    story.wait(40);
    assert_eq!(
        story.answered(&one, Ok(&answer)),
        Some("C46"),
        "it was not used for long"
    );
    assert_eq!(story.answered(&one, Err(Error::InvalidAuthToken)), None);
}

#[test]
fn members_agree_on_users() {
    let mut story = story();
    let last = story.truth.committed();
    let other = story.other_view(last, InternalRaftRequest::default());
    let verdict = story
        .publish_as(FIRST, &other, &[])
        .map_err(|violation| violation.checker);
    assert_eq!(verdict, Err("C46"));
    let verdict = story.start(FIRST, &other).map_err(|violation| violation.checker);
    assert_eq!(verdict, Err("C46"), "auth is off after a restart");
}
