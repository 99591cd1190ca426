//! The lock recipe: one run step by step, and over many seeds only the holder writes.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::TxnRequest;
use quoin_core::proto::etcdserverpb::compare::TargetUnion;
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::mvccpb::event::EventType;

use super::bench::Bench;
use crate::client::plan::Plan;
use crate::cluster::ports::Act;
use quoin_model::call::Call;

/// A plan with only clients that take locks.
fn lockers(seed: u64, lockers: u64) -> Bench {
    let mut plan = Plan::draw(seed);
    (plan.callers, plan.watchers, plan.leaseholders, plan.lockers) = (0, 0, 0, lockers);
    Bench::new(seed, plan)
}

/// A client's action, in a word or two.
fn words(act: &Act) -> Option<String> {
    Some(match act {
        Act::Ask { client, call, .. } => {
            let verb = match call {
                Call::LeaseGrant(_) => "wants a lease",
                Call::LeaseKeepAlive { .. } => return None,
                Call::Txn(txn) if txn.success.len() == 2 => "makes its key",
                Call::Txn(_) => "writes",
                Call::Range(range) if range.max_create_revision > 0 => "asks who is before it",
                Call::Range(range) if range.range_end.is_empty() => "asks for its own key",
                Call::Range(_) => "asks who holds the lock",
                Call::DeleteRange(_) => "leaves",
                other => panic!("{other:?}"),
            };
            format!("{} {verb}", client.0)
        }
        Act::Identify { who, .. } => panic!("{who:?}"),
        Act::Open { client, .. } => format!("{} waits", client.0),
        Act::Watch { .. } | Act::CloseStream { .. } => return None,
        Act::GiveUp { op } => panic!("{op:?}"),
        Act::Pause { stream, .. } => panic!("{stream:?}"),
    })
}

#[test]
fn two_contenders_take_turns() {
    let mut bench = lockers(STORY_SEED, 2);
    bench.run(Duration::from_secs(30), usize::MAX);
    let mut told: Vec<String> = Vec::new();
    for words in bench.acts.iter().filter_map(|(_, act)| words(act)) {
        // Several writes are one line.
        if told.last() != Some(&words) {
            told.push(words);
        }
    }
    told.truncate(STORY.len());
    assert_eq!(told, STORY);
}

/// A seed whose clients use the same lock.
const STORY_SEED: u64 = 8;
const STORY: [&str; 18] = [
    "0 wants a lease",
    "0 makes its key",
    "0 writes",
    "1 wants a lease",
    "1 makes its key",
    "1 asks who is before it",
    "1 waits",
    "0 asks who holds the lock",
    "0 writes",
    "0 leaves",
    "1 asks who is before it",
    "1 asks for its own key",
    "1 writes",
    "1 asks who holds the lock",
    "0 makes its key",
    "0 asks who is before it",
    "0 waits",
    "1 writes",
];

/// Guarded writes, by value: the key that guards and the revision it must have been made at.
fn guarded(bench: &Bench) -> BTreeMap<Bytes, (Bytes, i64)> {
    let txns = bench.acts.iter().filter_map(|(_, act)| match act {
        Act::Ask {
            call: Call::Txn(txn), ..
        } => guard(txn),
        _ => None,
    });
    txns.collect()
}

fn guard(txn: &TxnRequest) -> Option<(Bytes, (Bytes, i64))> {
    let [write] = &txn.success[..] else { return None };
    let (Some(Op::RequestPut(put)), Some(compare)) = (&write.request, txn.compare.first()) else {
        return None;
    };
    match compare.target_union {
        Some(TargetUnion::CreateRevision(revision)) => Some((put.value.clone(), (compare.key.clone(), revision))),
        _ => None,
    }
}

#[test]
fn only_the_holder_of_a_lock_writes() {
    let (mut writes, mut waits, mut fenced) = (0, 0, 0);
    for seed in 0..60 {
        let mut bench = lockers(seed, 3);
        bench.fails_percent = seed % 3 * 6;
        bench.breaks_percent = seed % 2 * 10;
        bench.run(Duration::from_secs(60), usize::MAX);
        let guarded = guarded(&bench);
        waits += bench
            .acts
            .iter()
            .filter(|(_, act)| matches!(act, Act::Open { .. }))
            .count();
        let mut done = 0;
        // Contenders' keys that exist, each with its create revision.
        let mut contenders = BTreeMap::new();
        for event in &bench.store.events {
            let kv = event.kv.as_ref().unwrap();
            if let Some((own, revision)) = guarded.get(&kv.value).filter(|_| !kv.value.is_empty()) {
                done += 1;
                let lock = &own[..own.len().min("lock/0/".len())];
                let holder = contenders
                    .iter()
                    .filter(|(key, _): &(&Bytes, &i64)| key.starts_with(lock))
                    .min_by_key(|(_, created)| **created);
                assert_eq!(holder, Some((own, revision)), "seed {seed}: {kv:?} is not the holder's");
            }
            if kv.key.starts_with(b"lock/") {
                if event.r#type == EventType::Delete as i32 {
                    contenders.remove(&kv.key);
                } else {
                    contenders.insert(kv.key.clone(), kv.create_revision);
                }
            }
        }
        writes += done;
        fenced += guarded.len() - done;
    }
    assert!(writes > 500 && waits > 100 && fenced > 20, "{writes} {waits} {fenced}");
}
