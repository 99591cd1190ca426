//! Requests between members: both sides agree, and a request that cannot be answered now is repeated.

use bytes::Bytes;

use super::World;
use crate::api::{PeerAnswer, PeerCall, PeerStep, forward, forwarded, hash_answer, hash_request, hashed};
use crate::corruption::NoHash;
use crate::error::Error;
use crate::id::MemberId;
use crate::membership::Member;
use crate::mvcc::HashKv;
use crate::node::{Request, Response};
use crate::store;

/// The answer of another member, whose node gives this response, to a forwarded request.
fn asked(request: &Request, result: Result<Response, Error>) -> PeerAnswer {
    let (path, body) = forward(request).expect("it is forwarded");
    let world = World::new();
    world.ask(|server| {
        let call = PeerCall::parse(server, "POST", &path, None, &body).unwrap();
        let PeerStep::Ask(asked) = call.begin(server) else {
            panic!("{call:?}")
        };
        assert_eq!(&asked, request);
        call.finish(server, result)
    })
}

/// The result that the asking member reads from that answer.
fn heard(request: &Request, result: Result<Response, Error>) -> Option<Result<Response, Error>> {
    let answer = asked(request, result);
    forwarded(request, answer.status, &answer.body)
}

const RENEW: Request = Request::LeaseRenew { id: 7 };
const REMAINING: Request = Request::LeaseTimeToLive { id: 7, keys: true };
const PROMOTE: Request = Request::MemberPromote { id: MemberId(8) };

#[test]
fn the_leaders_answer_arrives_as_it_is() {
    let members = vec![Member {
        id: MemberId(8),
        name: "b".into(),
        peer_urls: vec!["http://b:2380".into()],
        ..Member::default()
    }];
    let keys = ["a", "b"].into_iter().map(Bytes::from).collect();
    let (ttl, granted_ttl) = (5, 9);
    for (request, response) in [
        (RENEW, Response::Renewed { ttl: 60 }),
        (REMAINING, Response::TimeToLive { ttl, granted_ttl, keys }),
        (PROMOTE, Response::Applied(store::Response::Members(members))),
    ] {
        assert_eq!(heard(&request, Ok(response.clone())), Some(Ok(response)));
    }
}

#[test]
fn a_lease_that_does_not_exist_is_final() {
    let gone = Response::Renewed { ttl: 0 };
    assert_eq!(asked(&RENEW, Ok(gone.clone())).status, 404);
    assert_eq!(heard(&RENEW, Ok(gone.clone())), Some(Ok(gone)));
    let gone = Response::TimeToLive {
        ttl: -1,
        granted_ttl: 0,
        keys: store::LeaseKeys::default(),
    };
    assert_eq!(asked(&REMAINING, Ok(gone.clone())).status, 404);
    assert_eq!(heard(&REMAINING, Ok(gone.clone())), Some(Ok(gone)));
}

#[test]
fn a_member_that_does_not_lead_or_is_late_is_asked_again() {
    for request in [RENEW, REMAINING] {
        assert_eq!(asked(&request, Err(Error::NotLeader)).status, 400);
        assert_eq!(asked(&request, Err(Error::Timeout)).status, 408);
    }
    for request in [RENEW, REMAINING, PROMOTE] {
        for error in [Error::NotLeader, Error::Timeout, Error::Stopped] {
            assert_eq!(heard(&request, Err(error)), None, "{request:?}: {error}");
        }
    }
}

#[test]
fn refused_promotions_are_final() {
    for (error, status) in [
        (Error::MemberNotFound, 404),
        (Error::MemberNotLearner, 412),
        (Error::LearnerNotReady, 412),
    ] {
        assert_eq!(asked(&PROMOTE, Err(error)).status, status);
        assert_eq!(heard(&PROMOTE, Err(error)), Some(Err(error)));
    }
}

#[test]
fn a_request_is_repeated_after_an_invalid_answer() {
    for request in [RENEW, REMAINING, PROMOTE] {
        assert_eq!(forwarded(&request, 200, b"\xff\xff"), None);
        assert_eq!(forwarded(&request, 503, b""), None);
    }
    // The answer for another lease.
    let other = asked(&Request::LeaseRenew { id: 9 }, Ok(Response::Renewed { ttl: 60 }));
    assert_eq!(forwarded(&RENEW, other.status, &other.body), None);
    assert_eq!(forward(&Request::Read), None);
}

#[test]
fn requests_that_are_wrong_are_refused_as_by_etcd() {
    let world = World::new();
    for (method, path, cluster, body, status, text) in [
        ("GET", "/other", None, "", 404, "404 page not found"),
        ("POST", "/members", None, "", 405, "Method Not Allowed"),
        ("GET", "/leases", None, "", 405, "Method Not Allowed"),
        ("POST", "/leases", None, "\u{1}", 400, "error unmarshalling request"),
        ("POST", "/leases/internal", None, "", 400, "error unmarshalling request"),
        ("GET", "/members/hashkv", None, "", 400, "error unmarshalling request"),
        ("GET", "/members/hashkv", Some("7"), "{}", 412, "cluster ID mismatch"),
        (
            "POST",
            "/members/promote/x",
            None,
            "",
            404,
            "member x not found in cluster",
        ),
    ] {
        let refusal = world.ask(|server| PeerCall::parse(server, method, path, cluster, body.as_bytes()).unwrap_err());
        let found = String::from_utf8_lossy(&refusal.body);
        assert_eq!((refusal.status, found.trim_end()), (status, text), "{method} {path}");
    }
}

#[test]
fn members_downgrade_and_hash_are_answered_as_by_etcd() {
    let mut world = World::new();
    let now = |world: &World, path: &str| {
        world.ask(|server| {
            let call = PeerCall::parse(server, "GET", path, None, b"").unwrap();
            match call.begin(server) {
                PeerStep::Answer(answer) => (answer.status, String::from_utf8_lossy(&answer.body).into_owned()),
                PeerStep::Ask(Request::Read) => {
                    let answer = call.finish(server, Ok(Response::Read));
                    (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
                }
                other => panic!("{other:?}"),
            }
        })
    };
    assert_eq!(now(&world, "/members"), (200, "[]\n".to_owned()));
    assert_eq!(now(&world, "/downgrade/enabled"), (200, "false".to_owned()));
    world.remembered = Some(HashKv {
        hash: 5,
        compact_revision: -1,
        hash_revision: 1,
    });
    let hash = world.ask(|server| {
        let call = PeerCall::parse(server, "GET", "/members/hashkv", Some("6"), br#"{"revision":1}"#).unwrap();
        match call.begin(server) {
            PeerStep::Answer(answer) => answer.body,
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(
        hash,
        r#"{"header":{"revision":1},"hash":5,"compact_revision":-1,"hash_revision":1}"#
    );
    let heard = hash_answer(200, &hash).unwrap();
    assert_eq!((heard.hash, heard.revision), (world.remembered.unwrap(), 1));
    let (path, body) = hash_request(1);
    assert_eq!((path, &body[..]), ("/members/hashkv", &br#"{"revision":1}"#[..]));
    for (error, missing) in [
        (Error::Compacted, NoHash::Compacted),
        (Error::FutureRevision, NoHash::Future),
    ] {
        let refusal = hashed(Err(error));
        assert_eq!(hash_answer(refusal.status, &refusal.body), Err(missing));
    }
    let compacted = hashed(Err(Error::Compacted));
    assert_eq!(compacted.status, 400);
    assert_eq!(
        compacted.body,
        "etcdserver: mvcc: required revision has been compacted\n"
    );
}
