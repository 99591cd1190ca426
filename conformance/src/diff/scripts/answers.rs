//! Every method that one member serves, with success and with each of its errors.

use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{
    AlarmType, Compare, LeaseTimeToLiveRequest, MemberListRequest, PutRequest, TxnRequest, WatchCancelRequest,
    WatchCreateRequest,
};
use quoin_model::call::Call;

use super::{
    Named, alarm, ask, compact, delete, delete_request, grant, hash_kv, leased, progress, put, put_request, range,
    range_request, revoke, say, txn, txn_request, watch_all, watch_from,
};
use crate::diff::bare::Bare;
use crate::diff::step::Step;

/// Larger than the largest request of a script's servers.
const LARGE_BYTES: usize = 70_000;
/// More operations than a transaction may have.
const MANY: usize = 129;
/// Longer than the longest TTL of a lease, in seconds.
const LONG_TTL: i64 = 9_000_000_001;

pub(super) fn all() -> Vec<Named> {
    vec![
        ("answers to writes", writes()),
        ("answers to transactions", transactions()),
        ("answers to reads and compactions", reads()),
        ("answers to leases", leases()),
        ("answers to watches", watches()),
        ("answers while there is no space", without_space()),
        ("answers while the cluster is corrupt", corrupt()),
        ("answers about the member", member()),
        ("answers of every method to unreadable messages", transport()),
    ]
}

fn large() -> PutRequest {
    PutRequest {
        value: vec![b'x'; LARGE_BYTES].into(),
        ..put_request("large")
    }
}

/// Puts with an error each.
fn bad_puts() -> [PutRequest; 5] {
    [
        put_request(""),
        PutRequest {
            ignore_value: true,
            value: "".into(),
            ..put_request("missing")
        },
        PutRequest {
            ignore_value: true,
            ..put_request("a")
        },
        PutRequest {
            ignore_lease: true,
            lease: 7,
            ..put_request("a")
        },
        PutRequest {
            lease: 77,
            ..put_request("a")
        },
    ]
}

fn writes() -> Vec<Step> {
    let mut steps = vec![put("a"), delete("a", ""), put("a")];
    steps.extend(bad_puts().map(|request| ask(Call::Put(request))));
    steps.extend([ask(Call::Put(large())), delete("", "")]);
    steps
}

fn transactions() -> Vec<Step> {
    let bare = |compare| TxnRequest {
        compare,
        ..TxnRequest::default()
    };
    let mut steps = vec![put("a"), put("a"), compact(3), txn([Op::RequestPut(put_request("b"))])];
    steps.extend(bad_puts().map(|request| txn([Op::RequestPut(request)])));
    steps.extend([
        ask(Call::Txn(bare(vec![Compare::default()]))),
        ask(Call::Txn(bare(vec![
            Compare {
                key: "a".into(),
                ..Compare::default()
            };
            MANY
        ]))),
        txn([Op::RequestPut(put_request("c")), Op::RequestPut(put_request("c"))]),
        txn([Op::RequestDeleteRange(delete_request("", ""))]),
        txn([Op::RequestTxn(txn_request([Op::RequestRange(range_request("", 0))]))]),
        txn([Op::RequestRange(range_request("a", 2))]),
        txn([Op::RequestRange(range_request("a", 99))]),
        txn([Op::RequestPut(large())]),
    ]);
    steps
}

fn reads() -> Vec<Step> {
    vec![
        put("a"),
        put("a"),
        put("a"),
        range("a", 0),
        range("", 0),
        range("a", 99),
        hash_kv(0),
        hash_kv(99),
        compact(3),
        range("a", 2),
        hash_kv(2),
        compact(3),
        compact(99),
    ]
}

fn leases() -> Vec<Step> {
    let left = |id| ask(Call::LeaseTimeToLive(LeaseTimeToLiveRequest { id, keys: true }));
    vec![
        grant(1, 3_000),
        grant(2, 1_000),
        grant(3, 2_000),
        ask(Call::LeaseLeases),
        grant(1, 1_000),
        grant(9, LONG_TTL),
        leased("a", 1),
        left(1),
        left(9),
        ask(Call::LeaseKeepAlive { id: 2 }),
        ask(Call::LeaseKeepAlive { id: 9 }),
        ask(Call::LeaseLeases),
        revoke(1),
        revoke(1),
        ask(Call::LeaseLeases),
    ]
}

fn watches() -> Vec<Step> {
    let cancel = |watch_id| say(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
    let with_id = || {
        watch_all(WatchCreateRequest {
            watch_id: 5,
            ..WatchCreateRequest::default()
        })
    };
    let empty = WatchCreateRequest {
        key: "b".into(),
        range_end: "a".into(),
        ..WatchCreateRequest::default()
    };
    vec![
        put("a"),
        put("a"),
        put("a"),
        compact(4),
        with_id(),
        with_id(),
        say(RequestUnion::CreateRequest(empty)),
        watch_from(-1),
        put("b"),
        progress(),
        cancel(5),
        cancel(5),
        watch_from(2),
    ]
}

fn without_space() -> Vec<Step> {
    vec![
        put("a"),
        alarm(AlarmAction::Activate, AlarmType::Nospace),
        put("a"),
        txn([Op::RequestPut(put_request("a"))]),
        txn([Op::RequestDeleteRange(delete_request("x", ""))]),
        grant(1, 1_000),
        delete("a", ""),
        compact(2),
        alarm(AlarmAction::Get, AlarmType::None),
        alarm(AlarmAction::Deactivate, AlarmType::Nospace),
        put("a"),
    ]
}

fn corrupt() -> Vec<Step> {
    vec![
        put("a"),
        grant(1, 1_000),
        alarm(AlarmAction::Activate, AlarmType::Corrupt),
        put("a"),
        delete("a", ""),
        txn([Op::RequestPut(put_request("a"))]),
        range("a", 0),
        compact(2),
        grant(2, 1_000),
        revoke(1),
        hash_kv(0),
        alarm(AlarmAction::Deactivate, AlarmType::Corrupt),
        put("a"),
    ]
}

fn member() -> Vec<Step> {
    let members = |linearizable| ask(Call::MemberList(MemberListRequest { linearizable }));
    vec![
        Step::Bare(Bare::Hash),
        put("a"),
        Step::Bare(Bare::Hash),
        ask(Call::Status),
        members(true),
        members(false),
        Step::Defragment,
        range("a", 0),
        Step::Bare(Bare::Health("")),
        Step::Bare(Bare::Health("etcdserverpb.KV")),
        Step::Bare(Bare::HealthWatch("")),
        Step::Bare(Bare::HealthWatch("etcdserverpb.KV")),
    ]
}

fn transport() -> Vec<Step> {
    vec![
        Step::Bare(Bare::Version(b"3.5")),
        Step::Bare(Bare::Oversized(65_536 + 512 * 1024)),
        Step::Bare(Bare::Unknown("/etcdserverpb.KV/Nothing")),
        Step::Bare(Bare::Unknown("/etcdserverpb.Nothing/Range")),
        range("a", 0),
    ]
}
