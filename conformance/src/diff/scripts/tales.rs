//! Scripts that once showed a difference, or that are rarely drawn.

use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{
    AlarmType, LeaseGrantRequest, PutRequest, WatchCancelRequest, WatchCreateRequest,
};
use quoin_model::call::Call;

use super::{
    Named, alarm, ask, compact, delete, delete_request, grant, hash_kv, leased, progress, put, put_request, range,
    range_request, revoke, say, txn, txn_request, watch_all, watch_from,
};
use crate::diff::step::Step;

pub(super) fn all() -> Vec<Named> {
    vec![
        ("alarms", alarms()),
        ("deletes and writes again", deletes_and_writes_again()),
        ("faults in a transaction", faults_in_a_transaction()),
        ("fragments", fragments()),
        ("leases that end", leases_that_end()),
        ("watches over compactions", watches_over_compactions()),
    ]
}

/// Which of several errors of a transaction is returned.
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
        txn([future(), Op::RequestPut(bad_lease.clone())]),
        txn([future(), Op::RequestTxn(txn_request([Op::RequestPut(bad_key.clone())]))]),
        txn([Op::RequestPut(bad_key.clone())]),
        ask(Call::Put(bad_key)),
        ask(Call::Put(bad_lease)),
    ]
}

/// Requests that alarms refuse, and the precedence of a request's other errors.
fn alarms() -> Vec<Step> {
    let mut steps = vec![put("a")];
    for kind in [AlarmType::Nospace, AlarmType::Corrupt] {
        steps.extend([
            alarm(AlarmAction::Activate, kind),
            ask(Call::Status),
            put("a"),
            put(""),
            leased("a", 77),
            Step::Brief(LeaseGrantRequest { ttl: i64::MAX, id: 0 }),
            grant(5, 1000),
            revoke(5),
            txn([Op::RequestPut(put_request("b"))]),
            txn([Op::RequestRange(range_request("a", 0))]),
            range("a", 0),
            delete("x", ""),
            hash_kv(0),
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
        txn([
            Op::RequestDeleteRange(delete_request("a", "\0")),
            Op::RequestPut(put_request("a")),
        ]),
        range("a", 0),
        range("b", 3),
        watch_from(2),
        put("a"),
        compact(3),
        watch_from(3),
        hash_kv(0),
        compact(5),
        watch_from(5),
        hash_kv(0),
    ]
}

/// Watches from before, at and after a compaction, with their ids in use and free again.
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
        delete("a", ""),
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

/// A lease that expires, with keys attached, detached and attached again.
fn leases_that_end() -> Vec<Step> {
    vec![
        watch_from(0),
        grant(5, 1000),
        leased("kept", 5),
        Step::Expire {
            id: 6,
            ttl: 2,
            keys: vec!["kept".into(), "also".into()],
        },
        put("kept"),
        leased("kept", 5),
        revoke(5),
    ]
}

/// Responses larger than a message may be.
fn fragments() -> Vec<Step> {
    let big = |key: &'static str| {
        ask(Call::Put(PutRequest {
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
