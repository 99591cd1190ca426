//! Random requests to etcd's store, the store as seen by clients that ignore the revisions of headers, and a test of
//! the store's answers.

use bytes::Bytes;
use quoin_core::random::Prng;

use super::histories::Sample;
use crate::linear::Spec;
use crate::linear::kv::{Kv, Op, OpReply, Refusal, Reply, Request, Store};

pub(super) fn put(key: &str, value: &str) -> Op {
    let (key, value) = (bytes(key), bytes(value));
    Op::Put { key, value }
}

pub(super) fn get(key: &str) -> Op {
    get_at(key, 0)
}

pub(super) fn get_at(key: &str, revision: i64) -> Op {
    let (key, end) = (bytes(key), None);
    Op::Range { key, end, revision }
}

pub(super) fn delete(key: &str) -> Op {
    let (key, end) = (bytes(key), None);
    Op::DeleteRange { key, end }
}

pub(super) fn txn(compare: &[(&str, i64)], success: Vec<Op>, failure: Vec<Op>) -> Request {
    let compare = compare.iter().map(|(key, revision)| (bytes(key), *revision)).collect();
    Request::Txn {
        compare,
        success,
        failure,
    }
}

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

impl Sample for Kv {
    fn draw(&self, prng: &mut Prng, serial: u64) -> Request {
        let key = ["a", "b", "c"][prng.below(3) as usize];
        let other = ["a", "b", "c"][prng.below(3) as usize];
        let value = serial.to_string();
        let revision = prng.range(0..serial + 3).cast_signed();
        match prng.below(20) {
            0..7 => Request::One(get(key)),
            7 => Request::One(get_at(key, revision)),
            8..13 => Request::One(put(key, &value)),
            13 => Request::One(delete(key)),
            14 => Request::One(Op::DeleteRange {
                key: bytes(key),
                end: Some(bytes("c")),
            }),
            15 | 16 => txn(&[(key, revision / 2)], vec![put(key, &value)], vec![get(key)]),
            17 => txn(&[(key, 0)], vec![put(other, &value), get(key)], vec![delete(key)]),
            18 => txn(&[(key, 0), (other, 0)], vec![put(key, &value)], vec![]),
            _ => Request::Compact { revision: revision / 2 },
        }
    }

    fn execute(&self, state: &Store, input: &Request) -> (Store, Reply) {
        state.execute(input)
    }

    fn spoil(&self, prng: &mut Prng, output: &mut Reply) {
        match output {
            Reply::Compacted { revision } => *revision -= 1,
            Reply::One { revision, reply } => match reply {
                OpReply::Deleted(count) if prng.below(2) == 0 => *count += 1,
                OpReply::Range(found) if prng.below(2) == 0 => {
                    found.pop();
                }
                OpReply::Deleted(_) | OpReply::Put | OpReply::Range(_) => {
                    *revision += prng.below(3).cast_signed() - 1;
                }
            },
            Reply::Refused(refusal) => *refusal = Refusal::Future,
            Reply::Txn {
                revision, succeeded, ..
            } => {
                if prng.below(2) == 0 {
                    *revision += 1;
                } else {
                    *succeeded = !*succeeded;
                }
            }
        }
    }
}

/// [`Kv`] for clients that ignore the revisions of headers: the revisions neither guide the search nor show a mistake.
#[derive(Clone, Copy, Debug)]
pub(super) struct Headless;

impl Sample for Headless {
    fn draw(&self, prng: &mut Prng, serial: u64) -> Request {
        Kv.draw(prng, serial)
    }

    fn execute(&self, state: &Store, input: &Request) -> (Store, Reply) {
        let (next, mut reply) = state.execute(input);
        match &mut reply {
            Reply::Compacted { revision } | Reply::One { revision, .. } | Reply::Txn { revision, .. } => *revision = 0,
            Reply::Refused(_) => {}
        }
        (next, reply)
    }

    fn spoil(&self, prng: &mut Prng, output: &mut Reply) {
        Kv.spoil(prng, output);
        if let Reply::Compacted { revision } | Reply::One { revision, .. } | Reply::Txn { revision, .. } = output {
            *revision = 0;
        }
    }
}

impl Spec for Headless {
    type State = Store;
    type Input = Request;
    type Output = Reply;

    fn initial(&self) -> Store {
        Store::empty()
    }

    fn step(&self, state: &Store, input: &Request, output: Option<&Reply>) -> Option<Store> {
        let (next, reply) = self.execute(state, input);
        output.is_none_or(|output| *output == reply).then_some(next)
    }

    fn digest(&self, state: &Store) -> u128 {
        Kv.digest(state)
    }
}

/// The replies to several requests in order.
fn replies(requests: &[Request]) -> Vec<Reply> {
    let mut store = Store::empty();
    let mut replies = Vec::new();
    for request in requests {
        let (next, reply) = store.execute(request);
        store = next;
        replies.push(reply);
    }
    replies
}

/// `key=value@create/mod/version` of each key.
fn found(reply: &OpReply) -> String {
    let OpReply::Range(found) = reply else {
        return format!("{reply:?}");
    };
    let mut keys = found.iter().map(|kv| {
        let (key, value) = (String::from_utf8_lossy(&kv.key), String::from_utf8_lossy(&kv.value));
        format!(
            "{key}={value}@{}/{}/{}",
            kv.create_revision, kv.mod_revision, kv.version
        )
    });
    let first = keys.next().unwrap_or_default();
    keys.fold(first, |all, next| all + " " + &next)
}

fn shown(reply: &Reply) -> String {
    match reply {
        Reply::Compacted { revision } => format!("{revision} compacted"),
        Reply::One { revision, reply } => format!("{revision} {}", found(reply)),
        Reply::Refused(refusal) => format!("{refusal:?}"),
        Reply::Txn {
            revision,
            succeeded,
            replies,
        } => {
            let replies: Vec<_> = replies.iter().map(found).collect();
            format!("{revision} {succeeded} [{}]", replies.join(", "))
        }
    }
}

#[test]
fn the_store_answers_as_etcd_does() {
    let all = |revision| Op::Range {
        key: bytes("\0"),
        end: Some(bytes("\0")),
        revision,
    };
    let table = [
        (Request::One(get("a")), "1 "),
        (Request::One(put("a", "1")), "2 Put"),
        (Request::One(put("b", "1")), "3 Put"),
        (Request::One(put("a", "2")), "4 Put"),
        (Request::One(all(0)), "4 a=2@2/4/2 b=1@3/3/1"),
        (Request::One(all(3)), "4 a=1@2/2/1 b=1@3/3/1"),
        (Request::One(all(5)), "Future"),
        // A delete of nothing and a transaction that writes nothing have no revision of their own.
        (Request::One(delete("x")), "4 Deleted(0)"),
        (
            txn(&[("a", 2)], vec![put("a", "3")], vec![delete("x")]),
            "4 false [Deleted(0)]",
        ),
        // The writes of a transaction share one revision; its reads see the writes before them.
        (
            txn(
                &[("a", 4), ("x", 0)],
                vec![get("b"), delete("b"), put("x", "3"), all(0), all(4)],
                vec![],
            ),
            "5 true [b=1@3/3/1, Deleted(1), Put, a=2@2/4/2 x=3@5/5/1, a=2@2/4/2 b=1@3/3/1]",
        ),
        (Request::One(put("b", "4")), "6 Put"),
        (Request::One(get("b")), "6 b=4@6/6/1"),
        (Request::Compact { revision: 7 }, "Future"),
        (Request::Compact { revision: 4 }, "6 compacted"),
        (Request::Compact { revision: 4 }, "Compacted"),
        (Request::One(get_at("b", 4)), "6 b=1@3/3/1"),
        (Request::One(get_at("b", 3)), "Compacted"),
        // One read fails, so nothing of the transaction is done.
        (txn(&[], vec![put("b", "5"), get_at("b", 7)], vec![]), "Future"),
        (
            Request::One(Op::DeleteRange {
                key: bytes("a"),
                end: Some(bytes("x")),
            }),
            "7 Deleted(2)",
        ),
        (Request::One(all(0)), "7 x=3@5/5/1"),
    ];
    let requests: Vec<_> = table.iter().map(|(request, _)| request.clone()).collect();
    for (reply, (request, expected)) in replies(&requests).iter().zip(&table) {
        assert_eq!(shown(reply), *expected, "{request:?}");
    }
}
