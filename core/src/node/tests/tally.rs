//! The counts of turns, which are those of etcd's metrics.

use std::time::Duration;

use super::put;
use super::world::World;
use crate::id::MemberId;
use crate::node::{LeaderChange, Request, Tally};
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::request_op::Request as Op;
use crate::proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use crate::store::KeyCounts;

const ME: MemberId = MemberId(1);

/// The counts of a member's turns since the last call.
fn taken(world: &mut World, id: MemberId) -> Vec<Tally> {
    std::mem::take(&mut world.machine(id).tallies)
}

/// Reads, writes, deletions and transactions.
type Keys = (u64, u64, u64, u64);
/// A kind of request and whether it succeeded.
type Kind = (&'static str, bool);

/// The counts of one request: operations on keys, and the requests applied.
fn done(world: &mut World, request: Request) -> (Keys, Vec<Kind>) {
    taken(world, ME);
    let _refused_or_not = world.call(ME, request);
    let mut keys = KeyCounts::default();
    let mut requests = Vec::new();
    for tally in taken(world, ME) {
        let of = tally.applied.keys;
        keys = KeyCounts {
            ranges: keys.ranges + of.ranges,
            puts: keys.puts + of.puts,
            deletes: keys.deletes + of.deletes,
            txns: keys.txns + of.txns,
            put_bytes: keys.put_bytes + of.put_bytes,
        };
        for (op, success, count) in tally.applied.requests() {
            requests.extend((0..count).map(|_| (op.name(), success)));
        }
    }
    ((keys.ranges, keys.puts, keys.deletes, keys.txns), requests)
}

fn get(key: &'static str) -> Op {
    Op::RequestRange(RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    })
}

fn set(key: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: "v".into(),
        ..PutRequest::default()
    }
}

fn delete(key: &'static str, prev_kv: bool) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.into(),
        range_end: "z".into(),
        prev_kv,
    }
}

/// A compare that holds for a key of this version.
fn version(key: &'static str, version: i64) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Version as i32,
        key: key.into(),
        target_union: Some(TargetUnion::Version(version)),
        ..Compare::default()
    }
}

fn txn(compare: Vec<Compare>, success: Vec<Op>) -> TxnRequest {
    let ops = |ops: Vec<Op>| ops.into_iter().map(|op| RequestOp { request: Some(op) }).collect();
    TxnRequest {
        compare,
        success: ops(success),
        failure: Vec::new(),
    }
}

#[test]
fn operations_on_keys_are_counted_as_etcd_counts_them() {
    let mut world = World::new(1, 1);
    world.leader();
    let keeps = |key| PutRequest {
        ignore_value: true,
        value: "".into(),
        ..set(key)
    };
    let nested = Op::RequestTxn(txn(vec![version("b", 9), version("b", 0)], vec![get("a")]));
    let table: Vec<(Request, Keys, Kind)> = vec![
        (put("a", "1"), (0, 1, 0, 0), ("Put", true)),
        (
            Request::Put(PutRequest {
                prev_kv: true,
                ..set("a")
            }),
            (1, 1, 0, 1),
            ("Put", true),
        ),
        (Request::Put(keeps("a")), (1, 1, 0, 1), ("Put", true)),
        (Request::Put(keeps("none")), (1, 0, 0, 0), ("Put", false)),
        (
            Request::Put(PutRequest { lease: 9, ..set("a") }),
            (0, 0, 0, 0),
            ("Put", false),
        ),
        (
            Request::Txn(txn(vec![], vec![Op::RequestPut(set("b"))])),
            (0, 1, 0, 0),
            ("Txn", true),
        ),
        (
            Request::Txn(txn(
                vec![version("b", 1), version("a", 3)],
                vec![Op::RequestPut(set("b")), get("a")],
            )),
            (3, 1, 0, 2),
            ("Txn", true),
        ),
        // The second compare of the nested transaction is not evaluated.
        (
            Request::Txn(txn(vec![], vec![nested, Op::RequestPut(keeps("a"))])),
            (3, 1, 0, 2),
            ("Txn", true),
        ),
        (
            Request::Txn(txn(vec![version("b", 2)], vec![Op::RequestPut(keeps("none"))])),
            (2, 0, 0, 1),
            ("Txn", false),
        ),
        (
            Request::DeleteRange(delete("b", true)),
            (1, 0, 1, 1),
            ("DeleteRange", true),
        ),
        (
            Request::DeleteRange(delete("a", false)),
            (0, 0, 1, 0),
            ("DeleteRange", true),
        ),
        (
            Request::Compact(CompactionRequest {
                revision: 2,
                physical: false,
            }),
            (1, 0, 0, 0),
            ("Compaction", true),
        ),
        // As in etcd, compacting a compacted revision counts as a success.
        (
            Request::Compact(CompactionRequest {
                revision: 2,
                physical: false,
            }),
            (0, 0, 0, 0),
            ("Compaction", true),
        ),
        (
            Request::Compact(CompactionRequest {
                revision: 99,
                physical: false,
            }),
            (0, 0, 0, 0),
            ("Compaction", false),
        ),
    ];
    for (request, keys, kind) in table {
        let shown = format!("{request:?}");
        assert_eq!(done(&mut world, request), (keys, vec![kind]), "{shown}");
    }
}

#[test]
fn every_member_counts_grants_and_revocations_and_the_leader_renewals_and_expiries() {
    let mut world = World::new(3, 1);
    let leader = world.leader();
    for (id, ttl) in [(7, 10), (8, 600)] {
        world
            .call(leader, Request::LeaseGrant(LeaseGrantRequest { id, ttl }))
            .unwrap();
    }
    world.call(leader, Request::LeaseRenew { id: 8 }).unwrap();
    world.run(Duration::from_secs(15));
    for id in [1, 2, 3].map(MemberId) {
        let tallies = taken(&mut world, id);
        let granted: Vec<i64> = tallies.iter().flat_map(|tally| tally.leases.granted.clone()).collect();
        assert_eq!(granted, [10, 600], "member {id}");
        let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
        assert_eq!(sum(|tally| tally.leases.revoked), 1, "member {id}");
        let timed = (sum(|tally| tally.leases.renewed), sum(|tally| tally.leases.expired));
        assert_eq!(timed, if id == leader { (1, 1) } else { (0, 0) }, "member {id}");
        let leaders: Vec<_> = tallies.iter().filter_map(|tally| tally.leader).collect();
        let elected = LeaderChange {
            from: MemberId::NONE,
            to: leader,
            term: world.node(id).status().term,
        };
        assert_eq!(leaders.last(), Some(&elected), "member {id}");
        let late = tallies.iter().filter(|tally| !tally.late_heartbeats.is_empty()).count();
        assert_eq!(late, 0, "member {id}");
    }
}

#[test]
fn the_revisions_that_compaction_deletes_are_counted() {
    let mut world = World::with(1, 1, |config| config.compaction_batch_limit = 4);
    world.leader();
    for _ in 0..10 {
        world.call(ME, put("k", "v")).unwrap();
    }
    taken(&mut world, ME);
    let revision = world.node(ME).view().kv.revision() - 1;
    let physical = true;
    world
        .call(ME, Request::Compact(CompactionRequest { revision, physical }))
        .unwrap();
    let tallies = taken(&mut world, ME);
    let deleted: u64 = tallies.iter().map(|tally| tally.applied.compacted_revisions).sum();
    assert_eq!(deleted, 8, "all but the newest two");
    let steps: u64 = tallies.iter().map(|tally| tally.compaction_steps).sum();
    assert_eq!(steps, 3, "four revisions each");
    let ends: Vec<_> = tallies.iter().filter_map(|tally| tally.compacted).collect();
    assert_eq!(ends.len(), 1);
    assert_eq!(ends[0].revision, revision);
    assert!(
        ends[0].took >= Duration::from_millis(20),
        "it paused twice: {:?}",
        ends[0].took
    );
}
