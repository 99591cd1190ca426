//! Requests that scripts do not send to etcd 3.5 ([`super::super::intended::LEFT_OUT`]): they are sent to ours only,
//! which is compared with the model.

use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::{AlarmType, PutRequest, RangeRequest};
use quoin_model::call::Call;

use super::{
    Named, alarm, ask, compact, delete_request, hash_kv, put, put_request, range, range_request, txn, txn_request,
};
use crate::diff::bare::Bare;
use crate::diff::step::Step;

pub(super) fn all() -> Vec<Named> {
    vec![
        ("a deleted key keeps its value", keeps_what_is_gone()),
        ("a compaction at a deletion and a new write", recreation()),
        ("sorts that do not exist", unknown_sorts()),
        ("two alarms at the same time", two_alarms()),
        ("writes in nested transactions without space", nested_without_space()),
        ("a version that is not text", odd_version()),
    ]
}

fn keeps_what_is_gone() -> Vec<Step> {
    let keep = PutRequest {
        ignore_value: true,
        value: "".into(),
        ..put_request("a")
    };
    vec![
        put("a"),
        txn([
            Op::RequestTxn(txn_request([Op::RequestDeleteRange(delete_request("a", "\0"))])),
            Op::RequestPut(keep.clone()),
        ]),
        txn([Op::RequestDeleteRange(delete_request("a", "\0")), Op::RequestPut(keep)]),
        range("a", 0),
    ]
}

fn recreation() -> Vec<Step> {
    vec![
        put("a"),
        txn([
            Op::RequestDeleteRange(delete_request("a", "\0")),
            Op::RequestPut(put_request("a")),
        ]),
        hash_kv(3),
        put("b"),
        compact(3),
        range("a", 0),
        range("a", 3),
        hash_kv(0),
    ]
}

fn unknown_sorts() -> Vec<Step> {
    let by = |sort_order, sort_target| RangeRequest {
        sort_order,
        sort_target,
        ..range_request("a", 0)
    };
    vec![
        put("a"),
        ask(Call::Range(by(7, 0))),
        ask(Call::Range(by(-1, 0))),
        ask(Call::Range(by(0, 7))),
        txn([Op::RequestRange(by(7, 0))]),
        ask(Call::Range(by(2, 4))),
    ]
}

fn two_alarms() -> Vec<Step> {
    let kinds = [AlarmType::Nospace, AlarmType::Corrupt];
    let mut steps = vec![put("a")];
    steps.extend(kinds.map(|kind| alarm(AlarmAction::Activate, kind)));
    steps.extend([put("a"), alarm(AlarmAction::Deactivate, AlarmType::Corrupt), put("a")]);
    steps.extend([alarm(AlarmAction::Deactivate, AlarmType::Nospace), put("a")]);
    steps
}

fn nested_without_space() -> Vec<Step> {
    vec![
        put("a"),
        alarm(AlarmAction::Activate, AlarmType::Nospace),
        txn([Op::RequestTxn(txn_request([Op::RequestPut(put_request("a"))]))]),
        range("a", 0),
    ]
}

fn odd_version() -> Vec<Step> {
    vec![Step::Bare(Bare::Version(b"\xff")), put("a"), range("a", 0)]
}
