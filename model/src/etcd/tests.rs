//! Small examples of the rules.

use prost::Message as _;
use quoin_core::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quoin_core::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::response_op::Response as Done;
use quoin_core::proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest, InternalRaftRequest, LeaseCheckpoint,
    LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, MemberAddRequest,
    MemberListRequest, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest, PutRequest, RangeRequest,
    Request, RequestHeader, RequestOp, TxnRequest,
};
use quoin_core::proto::membershippb::ClusterVersionSetRequest;
use quoin_core::proto::raftpb::{ConfChange, ConfChangeType, Entry, EntryType};

use super::*;

fn put(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    }
}

fn leased(key: &'static str, lease: i64) -> PutRequest {
    PutRequest { lease, ..put(key, "v") }
}

fn delete(key: &'static str, range_end: &'static str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: false,
    }
}

fn range(key: &'static str, range_end: &'static str) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..RangeRequest::default()
    }
}

fn ops(ops: impl IntoIterator<Item = Op>) -> Vec<RequestOp> {
    ops.into_iter().map(|op| RequestOp { request: Some(op) }).collect()
}

fn txn(success: impl IntoIterator<Item = Op>) -> TxnRequest {
    TxnRequest {
        success: ops(success),
        ..TxnRequest::default()
    }
}

fn grant(id: i64, ttl: i64) -> Call {
    Call::LeaseGrant(LeaseGrantRequest { id, ttl })
}

fn compact(revision: i64) -> Call {
    Call::Compact(CompactionRequest {
        revision,
        physical: false,
    })
}

fn alarm(action: i32, alarm: i32) -> Call {
    Call::Alarm(AlarmRequest {
        action,
        member_id: 7,
        alarm,
    })
}

/// A state after these calls, all of which must succeed.
fn after(calls: impl IntoIterator<Item = Call>) -> State {
    let mut state = State::new();
    for call in calls {
        state.execute(&call).unwrap();
    }
    state
}

fn text(result: Result<Answer, Refusal>) -> String {
    result.unwrap_err().message
}

/// The answer to a read, as `key=value` and the rest in short.
fn read(state: &State, request: &RangeRequest) -> String {
    let response = match state.range(request, state.applied_index()) {
        Ok(response) => response,
        Err(refusal) => return refusal.message,
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let kvs = response
        .kvs
        .iter()
        .map(|kv| format!("{}={}", text(&kv.key), text(&kv.value)));
    let mut words: Vec<_> = kvs.collect();
    words.push(format!("of {}", response.count));
    if response.more {
        words.push("and more".to_owned());
    }
    words.join(" ")
}

#[test]
fn revisions_begin_at_one_and_count_what_changes() {
    let mut state = State::new();
    let steps = [
        (Call::Put(put("a", "1")), 2),
        (Call::DeleteRange(delete("x", "")), 2),
        (Call::Txn(txn([])), 2),
        (
            Call::Txn(txn([Op::RequestPut(put("a", "2")), Op::RequestPut(put("b", "2"))])),
            3,
        ),
        (Call::DeleteRange(delete("a", "\0")), 4),
    ];
    assert_eq!(state.revision(), 1);
    for (call, revision) in steps {
        assert_eq!(state.execute(&call).unwrap().revision(), revision, "{call:?}");
        assert_eq!(state.revision(), revision, "{call:?}");
    }
    let places: Vec<_> = state.events(4, 4).iter().map(|event| (event.kind, event.sub)).collect();
    assert_eq!(places, [(EventKind::Delete, 0), (EventKind::Delete, 1)]);
    assert_eq!(
        state.index_of_revision(3),
        Some(3),
        "a transaction that does nothing is a read"
    );
}

#[test]
fn a_range_is_limited_filtered_and_sorted() {
    let state = after(["c", "a", "b"].map(|key| Call::Put(put(key, key))));
    let all = range("a", "\0");
    let sorted = |order: SortOrder, target: SortTarget| RangeRequest {
        sort_order: order as i32,
        sort_target: target as i32,
        ..all.clone()
    };
    let table = [
        (range("a", ""), "a=a of 1"),
        (range("b", "a"), "of 0"),
        (range("b", "\0"), "b=b c=c of 2"),
        (range("\0", "\0"), "a=a b=b c=c of 3"),
        (range("a", "c"), "a=a b=b of 2"),
        (
            RangeRequest {
                limit: 2,
                ..all.clone()
            },
            "a=a b=b of 3 and more",
        ),
        (
            RangeRequest {
                limit: 3,
                ..all.clone()
            },
            "a=a b=b c=c of 3",
        ),
        (
            RangeRequest {
                limit: 1,
                count_only: true,
                ..all.clone()
            },
            "of 3",
        ),
        (
            RangeRequest {
                limit: 1,
                min_mod_revision: 4,
                ..all.clone()
            },
            "b=b of 3",
        ),
        (
            RangeRequest {
                max_create_revision: 2,
                ..all.clone()
            },
            "c=c of 3",
        ),
        (
            RangeRequest {
                keys_only: true,
                ..range("a", "")
            },
            "a= of 1",
        ),
        (
            RangeRequest {
                revision: 3,
                ..all.clone()
            },
            "a=a c=c of 2",
        ),
        (
            RangeRequest {
                revision: -4,
                ..all.clone()
            },
            "a=a b=b c=c of 3",
        ),
        (
            RangeRequest {
                revision: 5,
                ..all.clone()
            },
            "etcdserver: mvcc: required revision is a future revision",
        ),
        (sorted(SortOrder::None, SortTarget::Mod), "c=c a=a b=b of 3"),
        (sorted(SortOrder::Descend, SortTarget::Mod), "b=b a=a c=c of 3"),
        (sorted(SortOrder::Descend, SortTarget::Key), "c=c b=b a=a of 3"),
        (
            // Without an order, the first two keys and one more are taken, and then sorted.
            RangeRequest {
                limit: 1,
                ..sorted(SortOrder::None, SortTarget::Mod)
            },
            "a=a of 3 and more",
        ),
    ];
    for (request, expected) in table {
        assert_eq!(read(&state, &request), expected, "{request:?}");
    }
}

#[test]
fn a_put_counts_versions_and_keeps_value_or_lease_on_request() {
    let mut state = after([grant(1, 10), Call::Put(leased("a", 1))]);
    let keep_value = PutRequest {
        ignore_value: true,
        ..put("a", "")
    };
    state.execute(&Call::Put(keep_value.clone())).unwrap();
    let kv = state.key_at(b"a", 3).unwrap();
    assert_eq!(
        (kv.create_revision, kv.version, &kv.value[..], kv.lease),
        (2, 2, &b"v"[..], 0)
    );
    state.execute(&Call::DeleteRange(delete("a", ""))).unwrap();
    assert_eq!(text(state.execute(&Call::Put(keep_value))), "etcdserver: key not found");
    state.execute(&Call::Put(put("a", "new"))).unwrap();
    let kv = state.key_at(b"a", 5).unwrap();
    assert_eq!((kv.create_revision, kv.version), (5, 1));
    assert_eq!(
        text(state.execute(&Call::Put(leased("a", 2)))),
        "etcdserver: requested lease not found"
    );
    assert_eq!(state.events(3, 3)[0].prev_kv.as_ref().map(|kv| kv.lease), Some(1));
}

#[test]
fn a_missing_key_compares_as_zero_and_never_by_value() {
    let state = after([Call::Put(put("a", "1"))]);
    let holds = |key: &'static str, range_end: &'static str, target, result, given| {
        let compare = Compare {
            result: result as i32,
            target: target as i32,
            key: key.into(),
            range_end: range_end.into(),
            target_union: given,
        };
        let request = TxnRequest {
            compare: vec![compare],
            ..TxnRequest::default()
        };
        state.txn_read_only(&request, state.applied_index()).unwrap().succeeded
    };
    let value = |text: &'static str| Some(TargetUnion::Value(text.into()));
    assert!(!holds(
        "x",
        "",
        CompareTarget::Value,
        CompareResult::NotEqual,
        value("1")
    ));
    assert!(!holds(
        "x",
        "\0",
        CompareTarget::Value,
        CompareResult::NotEqual,
        value("1")
    ));
    assert!(holds("x", "", CompareTarget::Version, CompareResult::Equal, None));
    assert!(holds(
        "x",
        "z",
        CompareTarget::Mod,
        CompareResult::Less,
        Some(TargetUnion::ModRevision(1))
    ));
    assert!(holds("a", "\0", CompareTarget::Value, CompareResult::Equal, value("1")));
    // An operand for another target than the named one counts as not given.
    assert!(holds(
        "a",
        "",
        CompareTarget::Create,
        CompareResult::Greater,
        Some(TargetUnion::Version(9))
    ));
}

#[test]
fn all_conditions_come_first_and_operations_see_each_other() {
    let mut state = after([Call::Put(put("a", "old"))]);
    let a_is_new = Compare {
        target: CompareTarget::Value as i32,
        key: "a".into(),
        target_union: Some(TargetUnion::Value("new".into())),
        ..Compare::default()
    };
    let nested = TxnRequest {
        compare: vec![a_is_new],
        success: ops([Op::RequestPut(put("b", "then"))]),
        failure: ops([Op::RequestPut(put("b", "else"))]),
    };
    let request = txn([
        Op::RequestRange(range("a", "")),
        Op::RequestPut(put("a", "new")),
        Op::RequestTxn(nested),
        Op::RequestRange(range("a", "\0")),
    ]);
    let Answer::Txn(response) = state.execute(&Call::Txn(request)).unwrap() else {
        panic!("a transaction has the answer of a transaction");
    };
    let [before, _, nested, after] = &response.responses[..] else {
        panic!("every operation has an answer");
    };
    let seen = |op: &quoin_core::proto::etcdserverpb::ResponseOp| match &op.response {
        Some(Done::ResponseRange(range)) => {
            let values: Vec<_> = range.kvs.iter().map(|kv| kv.value.clone()).collect();
            (range.header.unwrap().revision, values)
        }
        other => panic!("{other:?} is no range"),
    };
    assert_eq!(seen(before), (2, vec!["old".into()]));
    assert_eq!(seen(after), (3, vec!["new".into(), "else".into()]));
    assert!(
        matches!(&nested.response, Some(Done::ResponseTxn(txn)) if !txn.succeeded && txn.header.unwrap().revision == 0)
    );
    assert_eq!(response.header.unwrap().revision, 3);
}

#[test]
fn a_refused_transaction_changes_nothing() {
    let mut state = after([Call::Put(put("a", "1"))]);
    let too_new = RangeRequest {
        revision: 3,
        ..range("a", "")
    };
    let requests = [
        txn([Op::RequestPut(put("b", "1")), Op::RequestRange(too_new)]),
        txn([Op::RequestPut(put("b", "1")), Op::RequestPut(leased("c", 9))]),
    ];
    for request in requests {
        let before = state.digest();
        state.execute(&Call::Txn(request.clone())).unwrap_err();
        assert_eq!(state.digest(), before, "{request:?}");
    }
}

#[test]
fn an_error_of_a_write_is_returned_before_errors_of_reads() {
    let mut state = after([Call::Put(put("a", "1"))]);
    let future = || {
        Op::RequestRange(RangeRequest {
            revision: 9,
            ..range("a", "")
        })
    };
    let keeps = |lease| {
        Op::RequestPut(PutRequest {
            lease,
            ignore_value: true,
            ..put("x", "")
        })
    };
    let table = [
        (
            txn([future(), Op::RequestPut(leased("a", 9))]),
            "etcdserver: requested lease not found",
        ),
        (
            txn([future(), Op::RequestTxn(txn([keeps(0)]))]),
            "etcdserver: key not found",
        ),
        (txn([keeps(9)]), "etcdserver: key not found"),
    ];
    for (request, expected) in table {
        assert_eq!(text(state.execute(&Call::Txn(request))), expected);
    }
}

#[test]
fn duplicate_keys_and_too_many_operations_are_refused_before_proposing() {
    let nest = |success, failure| {
        Op::RequestTxn(TxnRequest {
            compare: Vec::new(),
            success: ops(success),
            failure: ops(failure),
        })
    };
    let (a, del) = (
        || Op::RequestPut(put("a", "")),
        |key, end| Op::RequestDeleteRange(delete(key, end)),
    );
    let duplicate = Err("etcdserver: duplicate key given in txn request");
    let table = [
        (vec![a(), a()], duplicate),
        (vec![a(), del("a", "")], duplicate),
        (vec![a(), del("Z", "b")], duplicate),
        (vec![del("a", "c"), del("b", "")], Ok(())),
        (vec![a(), del("b", "c")], Ok(())),
        (vec![nest(vec![a()], vec![a()])], Ok(())),
        (vec![a(), nest(vec![], vec![a()])], duplicate),
        (vec![a(), nest(vec![del("a", "")], vec![])], duplicate),
        (vec![del("a", ""), nest(vec![a()], vec![])], duplicate),
        (
            vec![nest(vec![del("a", "")], vec![]), nest(vec![a()], vec![])],
            duplicate,
        ),
        (vec![nest(vec![a()], vec![]), nest(vec![a()], vec![])], duplicate),
        (
            vec![Op::RequestPut(put("", ""))],
            Err("etcdserver: key is not provided"),
        ),
        (
            vec![nest(vec![nest(vec![nest(vec![a()], vec![])], vec![])], vec![])],
            Err("etcdserver: too many operations in txn request"),
        ),
    ];
    for (success, expected) in table {
        let result = check(&Call::Txn(txn(success.clone())), 3);
        let result = result.map_err(|refusal| refusal.message);
        assert_eq!(result, expected.map_err(str::to_owned), "{success:?}");
    }
}

#[test]
fn compacted_revisions_cannot_be_read_but_the_model_keeps_them() {
    let mut state = after([
        Call::Put(put("a", "1")),
        Call::Put(put("a", "2")),
        Call::Put(put("a", "3")),
    ]);
    let before = state.applied_index();
    assert_eq!(
        text(state.execute(&compact(5))),
        "etcdserver: mvcc: required revision is a future revision"
    );
    state.execute(&compact(3)).unwrap();
    assert_eq!(
        text(state.execute(&compact(3))),
        "etcdserver: mvcc: required revision has been compacted"
    );
    let at = |revision| RangeRequest {
        revision,
        ..range("a", "")
    };
    assert_eq!(
        read(&state, &at(2)),
        "etcdserver: mvcc: required revision has been compacted"
    );
    assert_eq!(read(&state, &at(3)), "a=2 of 1");
    // Before the compaction, revision 2 could be read; the model still answers for that time.
    assert_eq!(state.range(&at(2), before).unwrap().kvs[0].value, "1");
    assert_eq!(
        (state.compact_revision_at(before), state.compact_revision_at(before + 2)),
        (-1, 3)
    );
    assert_eq!(state.events(2, 3).len(), 2);
    let kvs = state.live(2).cloned().collect::<Vec<_>>();
    assert_eq!(state.compare_kv(2, kvs.clone()), Ok(()));
    state.compare_kv(3, kvs).unwrap_err();
}

#[test]
fn revoking_a_lease_deletes_its_keys() {
    let mut state = after([
        grant(-5, 0),
        grant(6, 100),
        Call::Put(leased("b", -5)),
        Call::Put(leased("a", -5)),
        Call::Put(leased("c", -5)),
        Call::Put(leased("c", 6)),
    ]);
    let lease = state.lease(-5).unwrap();
    assert_eq!((lease.granted_ttl, lease.keys), (2, vec!["a".into(), "b".into()]));
    assert_eq!(text(state.execute(&grant(6, 1))), "etcdserver: lease already exists");
    assert_eq!(
        text(state.execute(&grant(7, 9_000_000_001))),
        "etcdserver: too large lease TTL"
    );
    let before = state.applied_index();
    let revoke = |id| Call::LeaseRevoke(LeaseRevokeRequest { id });
    assert_eq!(state.execute(&revoke(-5)).unwrap().revision(), 6);
    assert_eq!(
        text(state.execute(&revoke(-5))),
        "etcdserver: requested lease not found"
    );
    let gone: Vec<_> = state.events(6, 6).iter().map(|event| event.kv.key.clone()).collect();
    assert_eq!(gone, ["a", "b"]);
    assert_eq!(state.lease_at(-5, before).unwrap().keys.len(), 2);
    let ttl = |id| match state.answer(&Call::LeaseTimeToLive(LeaseTimeToLiveRequest { id, keys: true }), 99) {
        Ok(Answer::LeaseTimeToLive(response)) => (response.ttl, response.granted_ttl, response.keys.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!((ttl(-5), ttl(6)), ((-1, 0, 0), (100, 100, 1)));
}

#[test]
fn alarms_forbid_requests_and_are_listed() {
    let mut state = after([Call::Put(put("a", "1")), alarm(1, 1)]);
    let no_space = "etcdserver: mvcc: database space exceeded";
    assert_eq!(text(state.execute(&Call::Put(put("a", "2")))), no_space);
    assert_eq!(text(state.execute(&grant(1, 1))), no_space);
    // The put counts even in the branch that is not taken.
    let hidden = TxnRequest {
        failure: ops([Op::RequestPut(put("a", "2"))]),
        ..txn([Op::RequestDeleteRange(delete("a", ""))])
    };
    assert_eq!(text(state.execute(&Call::Txn(hidden))), no_space);
    state
        .execute(&Call::Txn(txn([Op::RequestDeleteRange(delete("a", ""))])))
        .unwrap();
    state.execute(&alarm(1, 2)).unwrap();
    assert_eq!(text(state.execute(&compact(2))), "etcdserver: corrupt cluster");
    state.execute(&Call::Range(range("a", ""))).unwrap();
    assert_eq!(state.alarms_at(state.applied_index()).len(), 2);
    state.execute(&alarm(2, 2)).unwrap();
    state.execute(&alarm(2, 1)).unwrap();
    state.execute(&Call::Put(put("a", "3"))).unwrap();
    assert_eq!((state.alarms_at(2).len(), state.alarms_at(1).len()), (1, 0));
}

#[test]
fn members_are_added_changed_and_removed_for_good() {
    let urls = |url: &str| vec![url.to_owned()];
    let add = |url, is_learner| {
        let peer_urls = urls(url);
        Call::MemberAdd(MemberAddRequest { peer_urls, is_learner })
    };
    let mut state = after([add("http://a:1", false), add("http://b:1", true)]);
    let promote = |id| Call::MemberPromote(MemberPromoteRequest { id });
    let update = |id, url| {
        let peer_urls = urls(url);
        Call::MemberUpdate(MemberUpdateRequest { id, peer_urls })
    };
    assert_eq!(
        text(state.execute(&add("http://a:1", false))),
        "etcdserver: Peer URLs already exists"
    );
    assert_eq!(
        text(state.execute(&add("http://c:1", true))),
        "etcdserver: too many learner members in cluster"
    );
    assert_eq!(
        text(state.execute(&update(2, "http://a:1"))),
        "etcdserver: Peer URLs already exists"
    );
    state.execute(&update(2, "http://b:2")).unwrap();
    assert!(
        state.members_at(state.applied_index())[1].is_learner,
        "an update must not make a voter"
    );
    state.execute(&promote(2)).unwrap();
    assert_eq!(
        text(state.execute(&promote(2))),
        "etcdserver: can only promote a learner member"
    );
    state
        .execute(&Call::MemberRemove(MemberRemoveRequest { id: 1 }))
        .unwrap();
    assert_eq!(
        text(state.execute(&update(1, "http://x:1"))),
        "etcdserver: member not found"
    );
    let list = state
        .execute(&Call::MemberList(MemberListRequest { linearizable: true }))
        .unwrap();
    assert_eq!(list.revision(), 0, "answers about members have no revision");
    assert_eq!(state.members_at(2).len(), 2);
    for (url, good) in [
        ("http://a:1", true),
        ("a:1", false),
        ("http://a", false),
        ("http://a:1/p", false),
    ] {
        assert_eq!(check(&add(url, false), 1).is_ok(), good, "{url}");
    }
}

fn entry(index: u64, kind: EntryType, data: Vec<u8>) -> Entry {
    Entry {
        entry_type: kind as i32,
        term: 1,
        index,
        data: data.into(),
        ..Entry::default()
    }
}

#[test]
fn log_entries_are_decoded_and_applied_once() {
    let mut state = State::new();
    let context = br#" {"id": 5, "peerURLs": ["http://\u0061:1"], "name": "", "isLearner": true} "#;
    let add = ConfChange {
        id: 11,
        change_type: ConfChangeType::AddLearnerNode as i32,
        node_id: 5,
        context: context[..].into(),
    };
    let promote = ConfChange {
        id: 12,
        change_type: ConfChangeType::AddNode as i32,
        node_id: 5,
        context: br#"{"id":5,"peerURLs":null,"isPromote":true}"#[..].into(),
    };
    let request = |request: InternalRaftRequest| request.encode_to_vec();
    let put = InternalRaftRequest {
        header: Some(RequestHeader {
            id: 13,
            ..RequestHeader::default()
        }),
        put: Some(put("a", "1")),
        ..InternalRaftRequest::default()
    };
    let version = InternalRaftRequest {
        cluster_version_set: Some(ClusterVersionSetRequest { ver: "3.6.0".into() }),
        ..InternalRaftRequest::default()
    };
    let attributes = Request {
        id: 14,
        method: "PUT".into(),
        path: "/0/members/5/attributes".into(),
        val: r#"{"name":"m","clientURLs":["http://a:2"]}"#.into(),
        ..Request::default()
    };
    let checkpoint = InternalRaftRequest {
        lease_checkpoint: Some(LeaseCheckpointRequest {
            checkpoints: vec![LeaseCheckpoint {
                id: 3,
                remaining_ttl: 1,
            }],
        }),
        ..InternalRaftRequest::default()
    };
    let log = [
        (EntryType::EntryConfChange, add.encode_to_vec(), 11),
        (EntryType::EntryConfChange, promote.encode_to_vec(), 12),
        (EntryType::EntryNormal, Vec::new(), 0),
        (EntryType::EntryNormal, request(put), 13),
        (EntryType::EntryNormal, request(version), 0),
        (EntryType::EntryNormal, attributes.encode_to_vec(), 14),
        (EntryType::EntryNormal, request(checkpoint), 0),
    ];
    for (index, (kind, data, id)) in (1..).zip(log) {
        let entry = entry(index, kind, data);
        let outcome = state.apply(&entry);
        assert_eq!(outcome.id, id);
        outcome.result.unwrap();
        assert_eq!(
            outcome.revisions,
            if id == 13 {
                2..3
            } else {
                outcome.revision + 1..outcome.revision + 1
            }
        );
        let digest = state.digest();
        assert!(state.apply(&entry).revisions.is_empty(), "an entry counts once");
        assert_eq!(state.digest(), digest);
    }
    let cluster = state.cluster_at(7);
    let member = &cluster.members[&5];
    assert_eq!((member.name.as_str(), member.is_learner), ("m", false));
    assert_eq!(
        (&member.peer_urls[0][..], &member.client_urls[0][..]),
        ("http://a:1", "http://a:2")
    );
    assert_eq!(cluster.version.as_deref(), Some("3.6.0"));
    assert!(state.cluster_at(1).members[&5].is_learner);
}

#[test]
fn the_hash_changes_with_a_compaction() {
    let hash = |state: &State| match state.answer(&Call::HashKv(HashKvRequest { revision: 0 }), 99) {
        Ok(Answer::HashKv(response)) => (response.hash, response.compact_revision),
        other => panic!("{other:?}"),
    };
    let short = [Call::Put(put("a", "1")), Call::Put(put("a", "2"))];
    let long = [short.to_vec(), vec![compact(3)]].concat();
    let (whole, compacted) = (hash(&after(short)), hash(&after(long)));
    assert_eq!((whole.1, compacted.1), (-1, 3));
    assert_ne!(whole.0, compacted.0);
    // CRC-32C of "key" alone, as there are no rows.
    assert_eq!(hash(&State::new()).0, 1_084_519_789);
}

#[test]
fn every_visible_change_of_a_state_changes_its_digest() {
    let calls = [
        Call::Put(put("a", "1")),
        Call::Put(put("a", "1")),
        Call::DeleteRange(delete("a", "")),
        compact(2),
        grant(1, 10),
        alarm(1, 1),
        Call::MemberAdd(MemberAddRequest {
            peer_urls: vec!["http://a:1".into()],
            is_learner: false,
        }),
    ];
    let mut digests: Vec<_> = (0..=calls.len())
        .map(|count| after(calls[..count].to_vec()).digest())
        .collect();
    let again = after(calls.clone()).digest();
    assert_eq!(digests.last(), Some(&again));
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), calls.len() + 1);
}
