//! Scripts that once showed a difference, or that chance would seldom meet: to a real etcd, to ours and to the model.

use quoin_conformance::diff::{OWN_ID, Settings, Sides, Step, check, command};
use quoin_conformance::{Kind, Launch};
use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCancelRequest, WatchCreateRequest,
    WatchProgressRequest, WatchRequest,
};
use quoin_runtime_sim::call::Call;

fn put_request(key: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: "v".into(),
        ..PutRequest::default()
    }
}

fn put(key: &'static str) -> Step {
    Step::Ask(Call::Put(put_request(key)))
}

fn leased(key: &'static str, lease: i64) -> Step {
    Step::Ask(Call::Put(PutRequest {
        lease,
        ..put_request(key)
    }))
}

fn range_request(key: &'static str, revision: i64) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        revision,
        ..RangeRequest::default()
    }
}

fn delete(key: &'static str, range_end: &'static str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: true,
    }
}

fn txn(ops: impl IntoIterator<Item = Op>) -> TxnRequest {
    TxnRequest {
        success: ops.into_iter().map(|op| RequestOp { request: Some(op) }).collect(),
        ..TxnRequest::default()
    }
}

fn alarm(action: AlarmAction, alarm: AlarmType) -> Step {
    Step::Ask(Call::Alarm(AlarmRequest {
        action: action as i32,
        member_id: OWN_ID,
        alarm: alarm as i32,
    }))
}

fn compact(revision: i64) -> Step {
    Step::Ask(Call::Compact(CompactionRequest {
        revision,
        physical: true,
    }))
}

fn say(union: RequestUnion) -> Step {
    Step::Watch(
        0,
        WatchRequest {
            request_union: Some(union),
        },
    )
}

fn watch_all(create: WatchCreateRequest) -> Step {
    say(RequestUnion::CreateRequest(WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        ..create
    }))
}

fn watch_from(start_revision: i64) -> Step {
    watch_all(WatchCreateRequest {
        start_revision,
        prev_kv: true,
        ..WatchCreateRequest::default()
    })
}

fn progress() -> Step {
    say(RequestUnion::ProgressRequest(WatchProgressRequest {}))
}

/// Of several faults in a transaction, which is told.
fn faults_in_a_transaction() -> Vec<Step> {
    let bad_lease = PutRequest {
        lease: 9,
        ..put_request("a")
    };
    let bad_key = PutRequest {
        ignore_value: true,
        value: "".into(),
        lease: 9,
        ..put_request("b")
    };
    let future = || Op::RequestRange(range_request("a", 99));
    vec![
        put("a"),
        Step::Ask(Call::Txn(txn([future(), Op::RequestPut(bad_lease.clone())]))),
        Step::Ask(Call::Txn(txn([
            future(),
            Op::RequestTxn(txn([Op::RequestPut(bad_key.clone())])),
        ]))),
        Step::Ask(Call::Txn(txn([Op::RequestPut(bad_key.clone())]))),
        Step::Ask(Call::Put(bad_key)),
        Step::Ask(Call::Put(bad_lease)),
    ]
}

/// What alarms forbid, and which fault is told of a request that has others too.
fn alarms() -> Vec<Step> {
    let mut steps = vec![put("a")];
    for kind in [AlarmType::Nospace, AlarmType::Corrupt] {
        steps.extend([
            alarm(AlarmAction::Activate, kind),
            Step::Ask(Call::Status),
            put("a"),
            put(""),
            leased("a", 77),
            Step::Brief(LeaseGrantRequest { ttl: i64::MAX, id: 0 }),
            Step::Ask(Call::LeaseGrant(LeaseGrantRequest { ttl: 1000, id: 5 })),
            Step::Ask(Call::LeaseRevoke(LeaseRevokeRequest { id: 5 })),
            Step::Ask(Call::Txn(txn([Op::RequestPut(put_request("b"))]))),
            Step::Ask(Call::Txn(txn([Op::RequestRange(range_request("a", 0))]))),
            Step::Ask(Call::Range(range_request("a", 0))),
            Step::Ask(Call::DeleteRange(delete("x", ""))),
            Step::Ask(Call::HashKv(HashKvRequest { revision: 0 })),
            compact(1),
            alarm(AlarmAction::Get, AlarmType::None),
            alarm(AlarmAction::Deactivate, kind),
            alarm(AlarmAction::Deactivate, kind),
            put("a"),
        ]);
    }
    steps
}

/// Deletes everything and writes again, in one transaction; read and watched around the revision.
fn deletes_and_writes_again() -> Vec<Step> {
    vec![
        put("a"),
        put("b"),
        Step::Ask(Call::Txn(txn([
            Op::RequestDeleteRange(delete("a", "\0")),
            Op::RequestPut(put_request("a")),
        ]))),
        Step::Ask(Call::Range(range_request("a", 0))),
        Step::Ask(Call::Range(range_request("b", 3))),
        watch_from(2),
        put("a"),
        compact(3),
        watch_from(3),
        Step::Ask(Call::HashKv(HashKvRequest { revision: 0 })),
        compact(5),
        watch_from(5),
        Step::Ask(Call::HashKv(HashKvRequest { revision: 0 })),
    ]
}

/// Watches from before, at and after a compaction, with their ids taken and free again.
fn watches_over_compactions() -> Vec<Step> {
    let cancel = |watch_id| say(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
    let with_id = |watch_id| {
        watch_all(WatchCreateRequest {
            watch_id,
            ..WatchCreateRequest::default()
        })
    };
    vec![
        put("a"),
        put("a"),
        Step::Ask(Call::DeleteRange(delete("a", ""))),
        compact(4),
        watch_from(3),
        watch_from(4),
        watch_from(5),
        watch_from(-1),
        progress(),
        with_id(0),
        with_id(1),
        cancel(0),
        cancel(0),
        progress(),
        put("a"),
        progress(),
        with_id(9),
        with_id(9),
        cancel(9),
        cancel(77),
        put("b"),
    ]
}

/// A lease that ends with keys it has, lost and got.
fn leases_that_end() -> Vec<Step> {
    vec![
        watch_from(0),
        Step::Ask(Call::LeaseGrant(LeaseGrantRequest { ttl: 1000, id: 5 })),
        leased("kept", 5),
        Step::Expire {
            id: 6,
            ttl: 2,
            keys: vec!["kept".into(), "also".into()],
        },
        put("kept"),
        leased("kept", 5),
        Step::Ask(Call::LeaseRevoke(LeaseRevokeRequest { id: 5 })),
    ]
}

/// Responses of more than a message may hold.
fn fragments() -> Vec<Step> {
    let big = |key: &'static str| {
        Step::Ask(Call::Put(PutRequest {
            value: vec![b'x'; 60_000].into(),
            ..put_request(key)
        }))
    };
    let watch = |fragment| {
        watch_all(WatchCreateRequest {
            start_revision: 2,
            fragment,
            ..WatchCreateRequest::default()
        })
    };
    let mut steps: Vec<Step> = (0..30).map(|_| big("a")).collect();
    steps.extend([watch(true), watch(false), progress(), big("a")]);
    steps
}

fn all() -> Vec<(&'static str, Vec<Step>)> {
    vec![
        ("alarms", alarms()),
        ("deletes and writes again", deletes_and_writes_again()),
        ("faults in a transaction", faults_in_a_transaction()),
        ("fragments", fragments()),
        ("leases that end", leases_that_end()),
        ("watches over compactions", watches_over_compactions()),
    ]
}

fn play(kind: Kind) {
    let launch = |kind| Launch::of(kind).expect("a server program").flag("--log-level=error");
    let sides = Sides {
        real: launch(Kind::Etcd),
        ours: launch(kind),
        distort: None,
        found: |_, _| {},
    };
    for (name, steps) in all() {
        let difference = check(Settings::default(), &steps, &sides).expect("servers that can be reached");
        if let Some(difference) = difference {
            let script: Vec<String> = steps.iter().map(command).collect();
            panic!("{name}: {difference}\n{}", script.join("\n"));
        }
    }
}

#[test]
fn quoin_tokio() {
    play(Kind::QuoinTokio);
}

#[test]
fn quoin_smol() {
    play(Kind::QuoinSmol);
}

#[test]
fn quoin_async_std() {
    play(Kind::QuoinAsyncStd);
}
