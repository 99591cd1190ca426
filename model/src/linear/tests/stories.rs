//! Known anomalies, and histories that only look wrong.

use super::store::{bytes, delete, get, put, txn};
use crate::linear::kv::{KeyValue, Kv, Op, OpReply, Reply, Request};
use crate::linear::{Operation, OperationOf, Verdict, Violation, check};

pub(super) type KvOperation = OperationOf<Kv>;

/// A request between two times, and its reply.
pub(super) fn answered(client: u64, invoked: u64, returned: u64, input: Request, output: Reply) -> KvOperation {
    Operation {
        client,
        invoked,
        returned: Some(returned),
        input,
        output: Some(output),
    }
}

/// A request without a known outcome.
pub(super) fn unanswered(client: u64, invoked: u64, input: Request) -> KvOperation {
    Operation {
        client,
        invoked,
        returned: None,
        input,
        output: None,
    }
}

fn one(op: Op) -> Request {
    Request::One(op)
}

/// The reply to a put.
pub(super) fn set(revision: i64) -> Reply {
    let reply = OpReply::Put;
    Reply::One { revision, reply }
}

/// A get that finds the key as it was first written.
pub(super) fn read(revision: i64, key: &str, value: &str, mod_revision: i64) -> Reply {
    Reply::One {
        revision,
        reply: OpReply::Range(vec![KeyValue {
            key: bytes(key),
            value: bytes(value),
            create_revision: mod_revision,
            mod_revision,
            version: 1,
        }]),
    }
}

/// A get that finds nothing.
fn nothing(revision: i64) -> Reply {
    let reply = OpReply::Range(vec![]);
    Reply::One { revision, reply }
}

fn swapped(revision: i64) -> Reply {
    Reply::Txn {
        revision,
        succeeded: true,
        replies: vec![OpReply::Put],
    }
}

pub(super) fn violation(history: &[KvOperation]) -> Violation {
    match check(&Kv, history, 10_000) {
        Verdict::Violation(violation) => violation,
        other => panic!("{other:?}"),
    }
}

/// The history has no valid order: `longest` is the longest beginning of one, and none of `stuck` can follow it.
fn refuses(history: &[KvOperation], longest: &[usize], stuck: &[usize]) {
    let found = violation(history);
    assert_eq!((&*found.longest, &*found.stuck), (longest, stuck));
}

fn accepts(history: &[KvOperation], expected: &[usize]) {
    match check(&Kv, history, 10_000) {
        Verdict::Linearizable { order } => assert_eq!(order, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stale_read_is_refused_unless_it_overlaps_the_write() {
    let write = answered(1, 10, 20, one(put("a", "1")), set(2));
    refuses(
        &[write.clone(), answered(2, 21, 30, one(get("a")), nothing(1))],
        &[0],
        &[1],
    );
    accepts(&[write, answered(2, 20, 30, one(get("a")), nothing(1))], &[1, 0]);
}

#[test]
fn a_lost_update_is_refused() {
    let history = [
        answered(1, 10, 20, one(put("a", "1")), set(2)),
        answered(2, 30, 40, one(get("a")), nothing(2)),
    ];
    refuses(&history, &[0], &[1]);
    // Both read revision 2 of the key, and the replies to both show that they replaced it.
    let replace = |value| txn(&[("a", 2)], vec![put("a", value)], vec![]);
    let history = [
        answered(1, 10, 20, one(put("a", "1")), set(2)),
        answered(1, 30, 50, replace("2"), swapped(3)),
        answered(2, 30, 50, replace("3"), swapped(4)),
    ];
    refuses(&history, &[0, 1], &[2]);
}

#[test]
fn a_dirty_read_is_refused() {
    // A write of the branch that was not taken is visible.
    let failed = Reply::Txn {
        revision: 1,
        succeeded: false,
        replies: vec![],
    };
    let history = [
        answered(1, 10, 30, txn(&[("b", 7)], vec![put("a", "1")], vec![]), failed),
        answered(2, 15, 20, one(get("a")), read(2, "a", "1", 2)),
    ];
    refuses(&history, &[0], &[1]);
    // One of two writes of a transaction is visible without the other.
    let both = Reply::Txn {
        revision: 2,
        succeeded: true,
        replies: vec![OpReply::Put, OpReply::Put],
    };
    let history = [
        answered(1, 10, 30, txn(&[], vec![put("a", "1"), put("b", "1")], vec![]), both),
        answered(2, 15, 20, one(get("a")), read(2, "a", "1", 2)),
        answered(2, 21, 25, one(get("b")), nothing(2)),
    ];
    refuses(&history, &[0, 1], &[2]);
}

#[test]
fn write_skew_is_refused() {
    // Each writes one key on condition that the other does not exist.
    let history = [
        answered(1, 10, 30, txn(&[("b", 0)], vec![put("a", "1")], vec![]), swapped(2)),
        answered(2, 10, 30, txn(&[("a", 0)], vec![put("b", "1")], vec![]), swapped(3)),
    ];
    refuses(&history, &[0], &[1]);
}

#[test]
fn an_unanswered_write_may_show_up_late() {
    let history = [
        unanswered(1, 10, one(put("a", "1"))),
        answered(2, 20, 30, one(get("a")), nothing(1)),
        answered(2, 31, 40, one(put("b", "1")), set(2)),
        answered(3, 50, 60, one(get("a")), read(3, "a", "1", 3)),
    ];
    accepts(&history, &[1, 2, 0, 3]);
    // A visible write does not disappear, and does not happen a second time.
    let gone = answered(3, 61, 70, one(get("a")), nothing(3));
    refuses(&[&history[..], &[gone]].concat(), &[1, 2, 0, 3], &[4]);
    let deleted = Reply::One {
        revision: 4,
        reply: OpReply::Deleted(1),
    };
    let again = [
        answered(3, 61, 70, one(delete("a")), deleted),
        answered(3, 71, 80, one(get("a")), read(5, "a", "1", 5)),
    ];
    refuses(&[&history[..], &again].concat(), &[1, 2, 0, 3, 4], &[5]);
}

#[test]
fn an_unanswered_write_need_not_happen() {
    let history = [
        unanswered(1, 10, one(put("a", "1"))),
        answered(2, 20, 30, one(put("b", "1")), set(2)),
        answered(2, 40, 50, one(get("a")), nothing(2)),
    ];
    accepts(&history, &[1, 2]);
}

#[test]
fn an_unanswered_write_does_not_happen_before_its_request() {
    let history = [
        answered(2, 10, 20, one(get("a")), read(2, "a", "1", 2)),
        unanswered(1, 21, one(put("a", "1"))),
    ];
    refuses(&history, &[], &[0]);
}

#[test]
fn an_unanswered_write_that_a_watch_showed_has_happened() {
    // Its client got no reply, but a watch showed its event at revision 2.
    let seen = Operation {
        output: Some(set(2)),
        ..unanswered(1, 10, one(put("a", "1")))
    };
    let after = |revision| answered(2, 20, 30, one(put("b", "1")), set(revision));
    accepts(&[seen.clone(), after(3)], &[0, 1]);
    refuses(&[seen, after(2)], &[1], &[0]);
}

#[test]
fn a_history_without_operations_has_an_order() {
    accepts(&[], &[]);
}

#[test]
fn the_search_stops_at_its_bound() {
    let history = [answered(1, 10, 20, one(put("a", "1")), set(2))];
    assert_eq!(check(&Kv, &history, 0), Verdict::GaveUp { nodes: 0 });
    assert_eq!(check(&Kv, &history, 1), Verdict::Linearizable { order: vec![0] });
}
