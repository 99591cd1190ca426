//! Small hand-made histories: a valid one, and one that violates each rule.

use bytes::Bytes;
use quoin_model::linear::kv::{KeyValue, Op, OpReply, Reply, Request};

use super::super::record::{End, Event, History, Kept, Lease, Moment, Recorded, Watched};
use super::{Summary, Violation, all, tell};

const SECOND: Moment = 1_000_000;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn value(key: &str, value: &str, (create, modified, version): (i64, i64, i64)) -> KeyValue {
    KeyValue {
        key: bytes(key),
        value: bytes(value),
        create_revision: create,
        mod_revision: modified,
        version,
    }
}

fn set(kv: KeyValue) -> Event {
    Event {
        revision: kv.mod_revision,
        key: kv.key.clone(),
        set: Some(kv),
    }
}

fn deleted(key: &str, revision: i64) -> Event {
    Event {
        revision,
        key: bytes(key),
        set: None,
    }
}

fn put(key: &str, value: &str) -> Op {
    Op::Put {
        key: bytes(key),
        value: bytes(value),
    }
}

fn get(key: &str) -> Request {
    Request::One(Op::Range {
        key: bytes(key),
        end: None,
        revision: 0,
    })
}

fn one(revision: i64, reply: OpReply) -> Option<Reply> {
    Some(Reply::One { revision, reply })
}

fn asked(client: u64, invoked: Moment, request: Request, reply: Option<Reply>) -> Recorded {
    Recorded {
        client,
        invoked,
        returned: reply.as_ref().map(|_| invoked + 5),
        request,
        serializable: false,
        reply,
    }
}

fn response(at: Moment, stream: u64, events: Vec<Event>) -> Watched {
    Watched { at, stream, events }
}

/// Two puts, a transaction of two keys, a put whose answer was lost, reads, and a lease that expires; a watch that is
/// cut once.
fn well() -> History {
    let (first, second) = (value("a", "1", (2, 2, 1)), value("a", "2", (2, 3, 2)));
    let (third, fourth) = (value("a", "3", (2, 4, 3)), value("b", "3", (4, 4, 1)));
    let (lost, held) = (value("b", "4", (4, 5, 2)), value("lease/1", "held", (6, 6, 1)));
    let txn = Request::Txn {
        compare: vec![(bytes("a"), 3)],
        success: vec![put("a", "3"), put("b", "3")],
        failure: Vec::new(),
    };
    let txn_reply = Reply::Txn {
        revision: 4,
        succeeded: true,
        replies: vec![OpReply::Put, OpReply::Put],
    };
    let stale = Recorded {
        serializable: true,
        ..asked(2, 70, get("a"), one(2, OpReply::Range(vec![first.clone()])))
    };
    History {
        operations: vec![
            asked(1, 10, Request::One(put("a", "1")), one(2, OpReply::Put)),
            asked(1, 20, Request::One(put("a", "2")), one(3, OpReply::Put)),
            asked(2, 30, get("a"), one(3, OpReply::Range(vec![second.clone()]))),
            asked(2, 40, txn, Some(txn_reply)),
            asked(1, 50, Request::One(put("b", "4")), None),
            asked(3, 60, Request::One(put("lease/1", "held")), one(6, OpReply::Put)),
            stale,
        ],
        watched: vec![
            response(16, 0, vec![set(first)]),
            response(26, 0, vec![set(second)]),
            response(46, 1, vec![set(third.clone()), set(fourth)]),
            response(67, 1, vec![set(lost.clone()), set(held)]),
            response(3 * SECOND, 1, vec![deleted("lease/1", 7)]),
        ],
        leases: vec![Lease {
            id: 1,
            key: bytes("lease/1"),
            invoked: 55,
            granted: Some((58, 2)),
            kept: vec![Kept {
                invoked: SECOND / 2,
                answered: Some((SECOND / 2 + 5, 2)),
            }],
        }],
        disturbed: vec![(48, 52)],
        faults: Vec::new(),
        end: Some(End {
            at: 4 * SECOND,
            revision: 7,
            keys: vec![third, lost],
        }),
    }
}

/// The rule that a history violates.
fn broken(change: impl FnOnce(&mut History)) -> Violation {
    let mut history = well();
    change(&mut history);
    let violation = all(&history).expect_err("the change breaks a rule");
    let told = tell(&history, &violation);
    assert!(told.starts_with(violation.rule), "{told}");
    violation
}

#[test]
fn a_valid_history_has_no_violation() {
    let expected = Summary {
        operations: 7,
        unknown: 1,
        revisions: 6,
        streams: 2,
        expired: 1,
    };
    assert_eq!(all(&well()), Ok(expected));
}

#[test]
fn an_acknowledged_write_that_is_lost_is_found() {
    // The last write was acknowledged, and a restart lost it.
    let violation = broken(|history| {
        let reply = one(8, OpReply::Put);
        history
            .operations
            .push(asked(1, 4 * SECOND, Request::One(put("a", "5")), reply));
    });
    assert_eq!(
        (violation.rule, violation.revision),
        ("no acknowledged write lost", Some(8))
    );
    // Another write got its revision.
    let violation = broken(|history| {
        history.operations[1].request = Request::One(put("a", "other"));
    });
    assert_eq!(
        (violation.rule, violation.revision),
        ("no acknowledged write lost", Some(3))
    );
}

#[test]
fn a_watch_event_that_is_missing_is_found() {
    let violation = broken(|history| drop(history.watched.remove(1)));
    assert_eq!(violation.rule, "watch: none lost");
    // The last event, after which none follows.
    let violation = broken(|history| drop(history.watched.pop()));
    assert_eq!(violation.rule, "watch: none lost");
    // One of two of a revision.
    let violation = broken(|history| drop(history.watched[2].events.remove(0)));
    assert_eq!(violation.rule, "watch: equal to the state");
}

#[test]
fn an_event_that_comes_twice_is_found() {
    // A stream that begins with events that the previous one had sent.
    let violation = broken(|history| {
        let again = history.watched[1].events[0].clone();
        history.watched[2].events.insert(0, again);
    });
    assert_eq!((violation.rule, violation.revision), ("watch: none twice", Some(3)));
}

#[test]
fn an_event_that_is_split_from_its_revision_is_found() {
    let violation = broken(|history| {
        let second = history.watched[2].events.split_off(1);
        history.watched.insert(3, response(47, 1, second));
    });
    assert_eq!(
        (violation.rule, violation.revision),
        ("watch: whole revisions", Some(4))
    );
}

#[test]
fn an_event_out_of_order_is_found() {
    let violation = broken(|history| history.watched.swap(0, 1));
    assert_eq!(violation.rule, "watch: none lost");
    let violation = broken(|history| history.watched[3].events.swap(0, 1));
    assert_eq!(violation.rule, "watch: none lost");
}

#[test]
fn a_partial_write_is_found() {
    let violation = broken(|history| {
        history.operations[3].reply = None;
        history.operations[3].returned = None;
        history.watched[2].events.truncate(1);
        history.watched[3].events.remove(0);
        history.watched.remove(3);
        history.watched.pop();
        history.operations.retain(|one| one.client != 3);
        history.leases.clear();
        history.end = None;
    });
    assert_eq!((violation.rule, violation.revision), ("all or nothing", Some(4)));
}

#[test]
fn a_write_without_a_request_is_found() {
    let violation = broken(|history| drop(history.operations.remove(4)));
    assert_eq!((violation.rule, violation.revision), ("all or nothing", Some(5)));
}

#[test]
fn a_lease_that_ends_early_is_found() {
    // Renewed at half a second, for two seconds.
    let violation = broken(|history| history.watched[4].at = 2 * SECOND);
    assert_eq!((violation.rule, violation.revision), ("no lease ends early", Some(7)));
    let violation = broken(|history| {
        let kept = &mut history.leases[0].kept;
        kept.push(Kept {
            invoked: SECOND,
            answered: Some((SECOND + 9, 0)),
        });
    });
    assert_eq!(violation.rule, "no lease ends early");
}

#[test]
fn a_lease_that_never_expires_is_found() {
    let violation = broken(|history| history.watched[4].at = 60 * SECOND);
    assert_eq!(violation.rule, "an expired lease is revoked");
    let violation = broken(|history| {
        history.watched.pop();
        history.end = None;
    });
    assert_eq!(violation.rule, "an expired lease is revoked");
}

#[test]
fn a_linearizable_read_that_is_stale_is_found() {
    // Its revision shows it.
    let violation = broken(|history| {
        let old = value("a", "1", (2, 2, 1));
        history.operations[2].reply = one(2, OpReply::Range(vec![old]));
    });
    assert_eq!(
        (violation.rule, violation.revision),
        ("revisions never go back", Some(2))
    );
    // Only its content shows it.
    let violation = broken(|history| {
        let old = value("a", "1", (2, 2, 1));
        history.operations[2].reply = one(3, OpReply::Range(vec![old]));
    });
    assert_eq!(violation.rule, "linearizable");
}

#[test]
fn a_serializable_read_of_a_state_that_never_existed_is_found() {
    let violation = broken(|history| history.operations[6].reply = one(3, OpReply::Range(Vec::new())));
    assert_eq!(violation.rule, "serializable reads are of the past");
    // A read of a future state is found too.
    let violation = broken(|history| {
        let read = &mut history.operations[6];
        read.reply = one(4, OpReply::Range(vec![value("a", "3", (2, 4, 3))]));
        (read.invoked, read.returned) = (20, Some(25));
    });
    assert_eq!(violation.rule, "serializable reads are of the past");
}

#[test]
fn a_history_that_begins_at_a_later_revision_is_counted_from_there() {
    let mut history = well();
    history.count_from(-100);
    let violation = all(&history).expect_err("the watch begins at revision 102");
    assert_eq!(violation.rule, "watch: none lost");
    // A member that is behind answers with a state of an earlier history.
    let mut earlier = history.operations[6].clone();
    earlier.reply = one(90, OpReply::Range(vec![value("a", "0", (80, 90, 3))]));
    history.operations.push(earlier);
    history.count_from(100);
    let counts = all(&history).expect("it is valid again");
    assert_eq!((counts.operations, counts.unknown, counts.revisions), (8, 2, 6));
}

#[test]
fn a_write_without_an_answer_may_take_effect_in_the_next_history() {
    let mut history = well();
    let late = asked(9, 65, Request::One(put("b", "late")), None);
    history.operations.push(late);
    assert!(all(&history).is_ok(), "nothing came of it");
    let mut next = history.unanswered();
    let open: Vec<u64> = next.operations.iter().map(|one| one.client).collect();
    assert_eq!(open, [1, 9]);
    let expected = value("b", "late", (2, 2, 1));
    next.watched.push(response(20, 0, vec![set(expected.clone())]));
    next.end = Some(End {
        at: 30,
        revision: 2,
        keys: vec![expected],
    });
    assert_eq!(all(&next).map(|counts| counts.revisions), Ok(1));
}

#[test]
fn a_delete_without_an_answer_happened_if_the_watch_shows_it() {
    let delete = |invoked| {
        let op = Op::DeleteRange {
            key: bytes("a"),
            end: None,
        };
        asked(4, invoked, Request::One(op), None)
    };
    let mut history = well();
    let end = history.end.as_mut().expect("it has an end");
    (end.revision, end.keys) = (8, end.keys.split_off(1));
    history.watched.push(response(3 * SECOND + 5, 1, vec![deleted("a", 8)]));
    history.operations.push(delete(3 * SECOND));
    assert!(all(&history).is_ok());
    // It was asked for after its event.
    history.operations.last_mut().expect("one").invoked = 4 * SECOND;
    let violation = all(&history).expect_err("nothing deleted it");
    assert_eq!(violation.rule, "all or nothing");
}
