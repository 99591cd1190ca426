//! The steps of each kind of call, over a real store.

mod auth;
mod downgrades;
mod peers;
mod recipes;

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::{Answer, Call, Credentials, Facts, Limits, PasswordResult, PasswordWork, Server, Step, Then};
use crate::config::Config;
use crate::error::Error;
use crate::id::{ClusterId, MemberId};
use crate::limits::{HEAVY_WRITE_ROWS, MAX_LEASE_TTL_SECONDS};
use crate::member::Status;
use crate::mvcc::HashKv;
use crate::node::{Request, Response};
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::request_op::Request as Op;
use crate::proto::etcdserverpb::{
    AlarmRequest, AlarmType, AuthStatusRequest, AuthUserAddRequest, DeleteRangeRequest, HashKvRequest,
    InternalRaftRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseTimeToLiveRequest, MemberAddRequest,
    MemberListRequest, MemberPromoteRequest, MoveLeaderRequest, PutRequest, RangeRequest, RequestHeader, RequestOp,
    SnapshotRequest, SnapshotResponse, StatusRequest, TxnRequest,
};
use crate::proto::health::HealthCheckRequest;
use crate::proto::raftpb::Entry;
use crate::snapshot;
use crate::store::{self, Applied, ApplyContext, Content, Lease, LeaseKeys, Store, StoreConfig};

/// A member: a store and its status.
struct World {
    store: Store,
    status: Status,
    remembered: Option<HashKv>,
    /// The token in the metadata of calls: a user's name and a dot.
    credentials: Credentials,
}

impl Facts for World {
    fn compact_hash(&self, revision: i64) -> Option<HashKv> {
        self.remembered.filter(|hash| hash.hash_revision == revision)
    }

    fn table_bytes(&self) -> i64 {
        123_456_789
    }

    fn unix_seconds(&self) -> u64 {
        7
    }

    fn user_of(&self, token: &str, revision: u64) -> Option<RequestHeader> {
        let (name, _) = token.split_once('.')?;
        // `ann@3.` is a signed token of ann, given out at auth revision 3.
        let signed = name.split_once('@');
        let (name, auth_revision) = signed.map_or((name, revision), |(name, at)| (name, at.parse().unwrap()));
        Some(RequestHeader {
            username: name.to_owned(),
            auth_revision,
            ..RequestHeader::default()
        })
    }

    fn token_prefix(&self) -> String {
        "prefix".to_owned()
    }

    fn sign(&self, user: &str, _revision: u64, simple: &str) -> Result<String, Error> {
        Ok(format!("{user}:{simple}"))
    }
}

impl World {
    fn new() -> Self {
        let member = MemberId(5);
        Self {
            store: Store::new(StoreConfig::default()),
            status: Status {
                member,
                leader: member,
                term: 3,
                leads: true,
                ..Status::default()
            },
            remembered: None,
            credentials: Credentials::NONE,
        }
    }

    fn ask<T>(&self, look: impl FnOnce(&Server<'_>) -> T) -> T {
        look(&Server {
            cluster: ClusterId(6),
            view: &self.store.view(),
            status: &self.status,
            limits: Limits::of(&Config::with_defaults()),
            facts: self,
            credentials: &self.credentials,
        })
    }

    fn begin(&self, call: Call) -> Result<Step, Error> {
        self.ask(|server| server.begin(call))
    }

    /// Carries out a call, as the node of a cluster of one would.
    fn call(&mut self, call: Call) -> Result<Answer, Error> {
        let mut step = self.begin(call)?;
        loop {
            step = match step {
                Step::Answer(answer) => return Ok(answer.whole()),
                Step::Ask { request, then, .. } => {
                    let result = self.node(request);
                    self.ask(|server| server.finish(then, result))?
                }
                Step::Fetch(read) => {
                    return self.ask(|server| {
                        let mut fetch = read.plan(server);
                        while !fetch.step(2) {}
                        fetch.answer(server).map(Answer::whole)
                    });
                }
                Step::Password { work, then } => {
                    let result = match work {
                        PasswordWork::Compare { password, hash } => {
                            PasswordResult::Compared(hash == format!("#{password}"))
                        }
                        PasswordWork::Hash { password } => PasswordResult::Hashed(format!("#{password}")),
                    };
                    self.ask(|server| server.worked(then, result))?
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn node(&mut self, request: Request) -> Result<Response, Error> {
        let (caller, request) = match request {
            Request::By { caller, request } => (caller, *request),
            request => (RequestHeader::default(), request),
        };
        let content = match request {
            Request::Alarm(request) => Content::Alarm(request),
            Request::Auth(change) => Content::Auth(change),
            Request::Authenticate(request) => Content::Authenticate(request),
            Request::DeleteRange(request) => Content::DeleteRange(request),
            Request::Downgrade(request) => Content::Downgrade(request),
            Request::LeaseGrant(request) => Content::LeaseGrant(request),
            Request::LeaseRevoke(request) => Content::LeaseRevoke(request),
            Request::LeaseTimeToLive { id, .. } => {
                let view = self.store.view();
                let keys = view.leases.get(id).map_or_else(LeaseKeys::default, Lease::all_keys);
                return Ok(Response::TimeToLive {
                    ttl: 1,
                    granted_ttl: 2,
                    keys,
                });
            }
            Request::Put(request) => Content::Put(request),
            Request::Txn(request) => Content::Txn(request),
            Request::Read => return Ok(Response::Read),
            other => panic!("{other:?}"),
        };
        self.apply(content.into_request(caller))
    }

    /// Applies an entry.
    fn apply(&mut self, mut entry: InternalRaftRequest) -> Result<Response, Error> {
        let index = self.store.consistent_index() + 1;
        entry.header.get_or_insert_default().id = index;
        let entry = Entry {
            index,
            term: 2,
            data: Bytes::from(entry.encode_to_vec()),
            ..Entry::default()
        };
        let mut applied = Applied::default();
        let context = ApplyContext {
            quota_bytes: None,
            wanted: &|_| true,
        };
        self.store.apply(&entry, context, &mut applied).unwrap();
        let (_, result) = applied.results.pop().unwrap();
        result.map(Response::Applied)
    }

    fn put(&mut self, key: &str) {
        self.call(Call::Put(put(key))).unwrap();
    }
}

fn put(key: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        ..PutRequest::default()
    }
}

fn range(key: &str, range_end: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        ..RangeRequest::default()
    }
}

fn txn(op: Op) -> TxnRequest {
    TxnRequest {
        success: vec![RequestOp { request: Some(op) }],
        ..TxnRequest::default()
    }
}

fn grant(ttl: i64) -> Call {
    Call::LeaseGrant(LeaseGrantRequest { id: 7, ttl })
}

#[test]
fn alarms_are_checked_before_the_ttl_of_a_lease() {
    let mut world = World::new();
    let too_long = grant(MAX_LEASE_TTL_SECONDS + 1);
    assert_eq!(world.call(too_long.clone()).unwrap_err(), Error::LeaseTtlTooLarge);
    let alarm = AlarmRequest {
        action: AlarmAction::Activate.into(),
        member_id: 5,
        alarm: AlarmType::Nospace.into(),
    };
    world.call(Call::Alarm(alarm)).unwrap();
    assert_eq!(world.call(too_long).unwrap_err(), Error::NoSpace);
    let alarm = AlarmRequest {
        action: AlarmAction::Deactivate.into(),
        ..alarm
    };
    world.call(Call::Alarm(alarm)).unwrap();
    world.call(grant(MAX_LEASE_TTL_SECONDS)).unwrap();
}

#[test]
fn invalid_requests_are_refused_without_asking_the_node() {
    let world = World::new();
    let many = TxnRequest {
        success: vec![RequestOp { request: None }; 129],
        ..TxnRequest::default()
    };
    let user = AuthUserAddRequest::default();
    let health = HealthCheckRequest {
        service: "etcdserverpb.KV".to_owned(),
    };
    for (call, error) in [
        (Call::Put(put("")), Error::EmptyKey),
        (Call::Range(range("", "")), Error::EmptyKey),
        (Call::DeleteRange(DeleteRangeRequest::default()), Error::EmptyKey),
        (Call::Txn(many), Error::TooManyOps),
        (Call::UserAdd(user), Error::UserEmpty),
        (Call::HealthCheck(health), Error::UnknownService),
    ] {
        assert_eq!(world.begin(call.clone()).unwrap_err(), error, "{call:?}");
    }
}

#[test]
fn linearizable_reads_wait_for_a_read_index_and_serializable_ones_do_not() {
    let world = World::new();
    let old = RangeRequest {
        serializable: true,
        ..range("a", "")
    };
    let confirms = |call| {
        let step = world.begin(call);
        matches!(
            step,
            Ok(Step::Ask {
                request: Request::Read,
                then: Then::Read(_),
                ..
            })
        )
    };
    assert!(confirms(Call::Range(range("a", ""))) && !confirms(Call::Range(old.clone())));
    assert!(confirms(Call::Txn(txn(Op::RequestRange(range("a", ""))))));
    assert!(!confirms(Call::Txn(txn(Op::RequestRange(old)))));
    for linearizable in [true, false] {
        assert_eq!(
            confirms(Call::MemberList(MemberListRequest { linearizable })),
            linearizable
        );
    }
    assert!(confirms(Call::AuthStatus(AuthStatusRequest {})));
}

#[test]
fn a_learner_serves_only_calls_that_need_no_vote() {
    let mut world = World::new();
    world.status.is_learner = true;
    let old = RangeRequest {
        serializable: true,
        ..range("a", "")
    };
    let refused = Error::NotSupportedForLearner;
    world.call(Call::Range(old)).unwrap();
    world.call(Call::Status(StatusRequest {})).unwrap();
    assert!(matches!(
        world.begin(Call::Snapshot(SnapshotRequest {})),
        Ok(Step::Backup(_))
    ));
    for call in [
        Call::Range(range("a", "")),
        Call::Put(put("a")),
        grant(7),
        Call::MemberList(MemberListRequest::default()),
    ] {
        assert_eq!(world.begin(call).unwrap_err(), refused);
    }
    assert_eq!(world.ask(|server| server.admit_stream()), Err(refused));
    assert!(
        matches!(Server::probe(true), Step::Fetch(_)),
        "a health check reads of a learner, too"
    );
}

#[test]
fn a_member_is_added_only_with_urls_that_peers_can_use() {
    let world = World::new();
    let add = |urls: &[&str]| {
        let peer_urls = urls.iter().map(ToString::to_string).collect();
        let request = MemberAddRequest {
            peer_urls,
            ..MemberAddRequest::default()
        };
        match world.begin(Call::MemberAdd(request))? {
            Step::Ask {
                request: Request::MemberAdd { peer_urls, .. },
                ..
            } => Ok(peer_urls),
            step => panic!("{step:?}"),
        }
    };
    let bad: [&[&str]; 6] = [
        &[],
        &[""],
        &["nonsense"],
        &["http://a"],
        &["http://a:1/b"],
        &["http://a:1", "ftp://a:1"],
    ];
    for urls in bad {
        assert_eq!(add(urls), Err(Error::BadMemberUrls), "{urls:?}");
    }
    let added = add(&[" https://b:1 ", "http://a:1"]);
    assert_eq!(
        added,
        Ok(vec!["http://a:1".to_owned(), "https://b:1".to_owned()]),
        "sorted"
    );
}

#[test]
fn calls_for_the_leader_are_forwarded_with_the_header_of_their_arrival() {
    let mut world = World::new();
    let promote = MemberPromoteRequest { id: 9 };
    let ask = LeaseTimeToLiveRequest { id: 7, keys: true };
    for (call, request) in [
        (
            Call::LeaseKeepAlive(LeaseKeepAliveRequest { id: 7 }),
            Request::LeaseRenew { id: 7 },
        ),
        (
            Call::LeaseTimeToLive(ask),
            Request::LeaseTimeToLive { id: 7, keys: true },
        ),
        (Call::MemberPromote(promote), Request::MemberPromote { id: MemberId(9) }),
    ] {
        let Ok(Step::Ask {
            request: asked, then, ..
        }) = world.begin(call)
        else {
            panic!("the node is asked")
        };
        assert_eq!(asked, request);
        let step = world.ask(|server| server.finish(then, Err(Error::NotLeader)));
        let Ok(Step::Forward { request: forwarded, .. }) = step else {
            panic!("{step:?}")
        };
        assert_eq!(forwarded, request);
    }
    let begun = world.begin(Call::LeaseTimeToLive(ask));
    let Ok(Step::Ask { then, .. }) = begun else {
        panic!("the node is asked")
    };
    world.put("a");
    world.status.term = 4;
    let response = Response::TimeToLive {
        ttl: -1,
        granted_ttl: 0,
        keys: LeaseKeys::default(),
    };
    let Ok(Step::Answer(answer)) = world.ask(|server| server.finish(then, Ok(response))) else {
        panic!("it is the answer")
    };
    let Answer::LeaseTimeToLive(answer) = answer.whole() else {
        panic!("of the call")
    };
    let header = answer.header.unwrap();
    assert_eq!((header.revision, header.raft_term), (1, 3));
    world.status.leads = false;
    let moved = world.begin(Call::MoveLeader(MoveLeaderRequest { target_id: 9 }));
    assert_eq!(
        moved.unwrap_err(),
        Error::NotLeader,
        "a move of the leader is not forwarded"
    );
}

#[test]
fn headers_name_the_member_the_term_and_the_revision() {
    let mut world = World::new();
    let Ok(Answer::Put(response)) = world.call(Call::Put(put("a"))) else {
        panic!("a put is answered")
    };
    let header = response.header.unwrap();
    assert_eq!((header.cluster_id, header.member_id), (6, 5));
    assert_eq!((header.raft_term, header.revision), (3, 2));
    world.put("b");
    let Ok(Step::Fetch(read)) = world.begin(Call::Range(RangeRequest {
        serializable: true,
        ..range("a", "c")
    })) else {
        panic!("an old read is made at once")
    };
    let fetch = world.ask(|server| read.plan(server));
    world.put("c");
    let answer = world.ask(|server| fetch.answer(server)).unwrap().whole();
    let Answer::Range(answer) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(
        answer.header.unwrap().revision,
        3,
        "the revision of the view that was read"
    );
    assert_eq!((answer.count, answer.more), (2, false));
    let list = world.call(Call::MemberList(MemberListRequest::default()));
    let Ok(Answer::MemberList(list)) = list else {
        panic!("{list:?}")
    };
    assert_eq!(list.header.unwrap().revision, 0);
}

#[test]
fn a_read_in_steps_sets_more_by_the_keys_that_pass_its_filters() {
    let mut world = World::new();
    for key in ["a", "b", "c", "d", "e"] {
        world.put(key);
    }
    let filtered = RangeRequest {
        min_mod_revision: 5,
        ..range("a", "z")
    };
    for (limit, request, keys, more) in [
        (0, range("a", "z"), 5, false),
        (4, range("a", "z"), 4, true),
        (5, range("a", "z"), 5, false),
        (1, range("a", ""), 1, false),
        (2, filtered.clone(), 2, false),
        (1, filtered, 1, true),
    ] {
        let call = Call::Range(RangeRequest { limit, ..request });
        let answer = world.call(call.clone()).unwrap();
        let Answer::Range(answer) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!((answer.kvs.len(), answer.more), (keys, more), "{call:?}");
    }
    let future = Call::Range(RangeRequest {
        revision: 99,
        ..range("a", "z")
    });
    assert_eq!(world.call(future).unwrap_err(), Error::FutureRevision);
}

#[test]
fn writes_that_may_touch_many_rows_are_heavy() {
    let mut world = World::new();
    for number in 0..HEAVY_WRITE_ROWS {
        world.put(&format!("k{number:05}"));
    }
    let delete = |range_end: &'static str| {
        Call::DeleteRange(DeleteRangeRequest {
            key: "k".into(),
            range_end: range_end.into(),
            ..DeleteRangeRequest::default()
        })
    };
    for (call, heavy) in [
        (delete("l"), true),
        (delete("k00100"), false),
        (Call::Put(put("k")), false),
    ] {
        let step = world.begin(call);
        let Ok(Step::Ask { is_heavy, .. }) = step else {
            panic!("{step:?}")
        };
        assert_eq!(is_heavy, heavy);
    }
}

#[test]
fn a_remembered_hash_is_not_computed_again() {
    let mut world = World::new();
    world.put("a");
    let call = Call::HashKv(HashKvRequest { revision: 2 });
    assert!(matches!(world.begin(call.clone()), Ok(Step::Compute(_))));
    world.remembered = Some(HashKv {
        hash: 99,
        compact_revision: -1,
        hash_revision: 2,
    });
    let Ok(Step::Answer(Answer::HashKv(answer))) = world.begin(call) else {
        panic!("it is the answer")
    };
    assert_eq!((answer.hash, answer.hash_revision), (99, 2));
}

/// All messages of a backup, made in steps of `rows` rows.
fn backup(world: &World, rows: usize) -> Vec<SnapshotResponse> {
    let Ok(Step::Backup(mut backup)) = world.begin(Call::Snapshot(SnapshotRequest {})) else {
        panic!("it is a stream")
    };
    let messages: Vec<_> = std::iter::from_fn(|| backup.step(rows)).flatten().collect();
    assert!(backup.step(rows).is_none(), "it stays over");
    messages
}

#[test]
fn a_backup_is_the_file_in_parts_and_then_its_sha_256() {
    let mut world = World::new();
    for key in ["a", "b", "c"] {
        let put = PutRequest {
            value: vec![7; 100_000].into(),
            ..put(key)
        };
        world.call(Call::Put(put)).unwrap();
    }
    let file = snapshot::encode(&world.store.view());
    for rows in [1, usize::MAX] {
        let messages = backup(&world, rows);
        let (sum, parts) = messages.split_last().unwrap();
        assert_eq!(sum.blob, Sha256::digest(&file)[..]);
        let mut left = file.len() as u64;
        for (index, part) in parts.iter().enumerate() {
            left -= part.blob.len() as u64;
            assert_eq!((part.remaining_bytes, &part.header), (left, &None));
            assert!(part.blob.len() == 32 * 1024 || index + 1 == parts.len());
        }
        assert_eq!((left, sum.remaining_bytes), (0, 0));
        let blobs: Vec<u8> = parts.iter().flat_map(|part| part.blob.clone()).collect();
        assert!(blobs == file);
    }
}

#[test]
fn a_response_that_exists_only_in_the_log_is_never_an_answer() {
    let world = World::new();
    let response = Response::Applied(store::Response::Empty);
    let finish = || world.ask(|server| server.finish(Then::Answer, Ok(response)));
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(finish));
    assert!(caught.is_err(), "a wrong answer must not reach a client");
}
