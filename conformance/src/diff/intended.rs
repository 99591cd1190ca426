//! Intended differences from etcd 3.5, with reasons, and differences in answers that etcd leaves undetermined.
//!
//! An entry removes only its own difference from two answers (it "levels" them). A difference that remains is reported.

use quoin_core::proto::etcdserverpb::range_request::SortTarget;
use quoin_core::proto::etcdserverpb::{RangeRequest, RangeResponse};
use quoin_core::proto::mvccpb::KeyValue;
use quoin_model::call::{Answer, Call};

use super::compare::anonymous;
use super::player::Reply;
use super::step::Step;
use super::watching::{Delivered, Due};

/// An entry of the list.
#[derive(Debug)]
pub struct Intended {
    /// Its name in reports.
    pub name: &'static str,
    /// Why it is not a bug.
    pub reason: &'static str,
    level: Level,
}

/// Where an entry's difference occurs. The function of `Reply` removes it from etcd's answer and another one, and
/// returns whether it was there.
#[derive(Debug)]
enum Level {
    Progress,
    Reply(fn(&Step, &mut Reply, &mut Reply) -> bool),
}

/// The list.
pub const INTENDED: &[Intended] = &[
    Intended {
        name: "hash revision",
        reason: "etcd returns the revision that HashKV hashed since 3.6; clients of 3.5 ignore the field.",
        level: Level::Reply(hash_revision),
    },
    Intended {
        name: "status of 3.6",
        reason: "etcd returns storage version, quota and downgrade since 3.6; clients of 3.5 ignore the fields.",
        level: Level::Reply(status_fields),
    },
    Intended {
        name: "status version",
        reason: "Each server returns its own version.",
        level: Level::Reply(status_version),
    },
    Intended {
        name: "order of equals",
        reason: "Go's sort does not define the order of keys with equal sort values; up to twelve keys, it keeps the \
                 order of keys, as Quoin always does.",
        level: Level::Reply(order_of_equals),
    },
    Intended {
        name: PROGRESS_AFTER_COMPACTION,
        reason: "Once a compaction has cancelled a watch, etcd answers no progress request on its stream until the client \
                 cancels that watch too: clients that rely on progress would wait for ever. Quoin answers.",
        level: Level::Progress,
    },
];

/// Requests that no script sends to etcd, because etcd 3.5 crashes or ends in another state, each with the reason. They
/// are sent to ours only, which is compared with the model.
pub const LEFT_OUT: &[(&str, &str)] = &[
    (
        "a transaction that deletes up to the end of all keys and then keeps the value or lease of a deleted key",
        "etcd crashes: its check notices neither that both operations concern the key nor that the key no longer exists. \
         Quoin writes an empty value, or no lease.",
    ),
    (
        "a compaction at exactly the revision of a transaction that deleted a key and wrote it again",
        "etcd removes the new value with the old one, and crashes when the key is read. Quoin keeps the new value.",
    ),
    (
        "a hash at exactly the revision of such a transaction",
        "etcd takes the key for deleted, which changes the hash if no other key exists. Quoin includes it.",
    ),
    (
        "a write in a nested transaction while there is no space",
        "etcd 3.5 checks the outer operations only and accepts it; later versions and Quoin refuse it.",
    ),
    (
        "an alarm of corruption and one of space at the same time",
        "etcd applies only the later one until it restarts. Quoin applies both, corruption first.",
    ),
    (
        "a header `client-api-version` that is not text",
        "etcd closes the connection with every request on it. Quoin refuses only this request, with etcd's error for an \
         invalid version.",
    ),
    (
        "a sort order or target that does not exist",
        "etcd 3.5 crashes or ignores it; Quoin refuses it as later versions do.",
    ),
];

const PROGRESS_AFTER_COMPACTION: &str = "progress after compaction";

/// Levels all intended differences between two replies to a step, and calls `met` with the name of each.
pub(super) fn level_replies(step: &Step, real: &mut Reply, other: &mut Reply, mut met: impl FnMut(&'static str)) {
    for entry in INTENDED {
        if let Level::Reply(level) = entry.level
            && level(step, real, other)
        {
            met(entry.name);
        }
    }
}

/// Removes a progress answer that only ours gives on a stream; returns the name of the difference if it was there.
pub(super) fn level_progress(
    due: &Due,
    (stream, id): (u8, i64),
    real: &[Delivered],
    ours: &mut Vec<Delivered>,
) -> Option<&'static str> {
    let excused = due.excused.get(&stream).filter(|response| response.watch_id == id)?;
    let is_excused = |delivered: &Delivered| anonymous(delivered.clone()).response == *excused;
    let differs = ours.first().is_some_and(is_excused) && !real.first().is_some_and(is_excused);
    differs.then(|| {
        ours.remove(0);
        PROGRESS_AFTER_COMPACTION
    })
}

fn hash_revision(_: &Step, real: &mut Reply, other: &mut Reply) -> bool {
    let (Ok(Answer::HashKv(real)), Ok(Answer::HashKv(other))) = (real, other) else {
        return false;
    };
    let differs = real.hash_revision == 0 && other.hash_revision != 0;
    if differs {
        other.hash_revision = 0;
    }
    differs
}

fn status_fields(_: &Step, real: &mut Reply, other: &mut Reply) -> bool {
    let (Ok(Answer::Status(real)), Ok(Answer::Status(other))) = (real, other) else {
        return false;
    };
    let differs = real.storage_version.is_empty() && real.db_size_quota == 0 && real.downgrade_info.is_none();
    if differs {
        other.storage_version.clear();
        other.db_size_quota = 0;
        other.downgrade_info = None;
    }
    differs
}

fn status_version(_: &Step, real: &mut Reply, other: &mut Reply) -> bool {
    let (Ok(Answer::Status(real)), Ok(Answer::Status(other))) = (real, other) else {
        return false;
    };
    let differs = real.version != other.version && !other.version.is_empty();
    if differs {
        other.version.clone_from(&real.version);
    }
    differs
}

/// Levels answers to sorted ranges, also inside transactions.
fn order_of_equals(step: &Step, real: &mut Reply, other: &mut Reply) -> bool {
    use quoin_core::proto::etcdserverpb::request_op::Request as Op;
    use quoin_core::proto::etcdserverpb::response_op::Response as Done;
    use quoin_core::proto::etcdserverpb::{TxnRequest, TxnResponse};

    fn txn(request: &TxnRequest, real: &mut TxnResponse, other: &mut TxnResponse) -> bool {
        let ops = if real.succeeded {
            &request.success
        } else {
            &request.failure
        };
        let mut differs = false;
        for (op, (real, other)) in ops.iter().zip(real.responses.iter_mut().zip(&mut other.responses)) {
            differs |= match (&op.request, &mut real.response, &mut other.response) {
                (
                    Some(Op::RequestRange(request)),
                    Some(Done::ResponseRange(real)),
                    Some(Done::ResponseRange(other)),
                ) => equals(request, real, other),
                (Some(Op::RequestTxn(request)), Some(Done::ResponseTxn(real)), Some(Done::ResponseTxn(other))) => {
                    txn(request, real, other)
                }
                (_, _, _) => false,
            };
        }
        differs
    }

    match (step, real, other) {
        (Step::Ask(Call::Range(request)), Ok(Answer::Range(real)), Ok(Answer::Range(other))) => {
            equals(request, real, other)
        }
        (Step::Ask(Call::Txn(request)), Ok(Answer::Txn(real)), Ok(Answer::Txn(other))) => txn(request, real, other),
        (_, _, _) => false,
    }
}

/// Up to this many elements, Go's sort keeps equal ones in order.
const STABLE: i64 = 12;

fn equals(request: &RangeRequest, real: &mut RangeResponse, other: &mut RangeResponse) -> bool {
    let rank: fn(&KeyValue) -> Rank = match SortTarget::try_from(request.sort_target) {
        Ok(SortTarget::Version) => |kv| Rank::Number(kv.version),
        Ok(SortTarget::Create) => |kv| Rank::Number(kv.create_revision),
        Ok(SortTarget::Mod) => |kv| Rank::Number(kv.mod_revision),
        Ok(SortTarget::Value) => |kv| Rank::Value(kv.value.clone()),
        Ok(SortTarget::Key) | Err(_) => return false,
    };
    if real == other || real.count <= STABLE || !real.kvs.iter().map(rank).eq(other.kvs.iter().map(rank)) {
        return false;
    }
    // A limit may cut off some of the last equal elements. Which ones is undetermined too, so all of them are removed.
    let cut = real.kvs.last().map(rank).filter(|_| real.more);
    for kvs in [&mut real.kvs, &mut other.kvs] {
        kvs.sort_by(|a, b| a.key.cmp(&b.key));
        kvs.retain(|kv| cut.as_ref() != Some(&rank(kv)));
    }
    true
}

#[derive(PartialEq)]
enum Rank {
    Number(i64),
    Value(bytes::Bytes),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: String, version: i64) -> KeyValue {
        KeyValue {
            key: key.into(),
            version,
            ..KeyValue::default()
        }
    }

    #[test]
    fn only_equal_elements_may_come_in_any_order() {
        let request = RangeRequest {
            sort_target: SortTarget::Version as i32,
            ..RangeRequest::default()
        };
        let sorted = || RangeResponse {
            kvs: (0..14).map(|at| kv(format!("{at:02}"), i64::from(at) / 7)).collect(),
            count: 14,
            ..RangeResponse::default()
        };
        let levelled = |change: fn(&mut RangeResponse)| {
            let (mut real, mut other) = (sorted(), sorted());
            change(&mut other);
            equals(&request, &mut real, &mut other) && real == other
        };
        assert!(levelled(|other| other.kvs.swap(2, 5)), "equals");
        assert!(!levelled(|other| other.kvs.swap(2, 9)), "others");
        assert!(!levelled(|other| other.kvs[2].mod_revision = 9), "another key");
        assert!(!levelled(|other| {
            other.kvs.swap(2, 5);
            other.more = true;
        }));
        let (mut real, mut other) = (sorted(), sorted());
        other.kvs.swap(2, 5);
        (real.count, other.count) = (12, 12);
        assert!(
            !equals(&request, &mut real, &mut other),
            "so few that their order is determined"
        );
    }
}
