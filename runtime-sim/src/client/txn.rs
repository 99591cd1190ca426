//! Draws transactions: every target, result and kind of operation, nested, reading the past, and sometimes ones that
//! must be refused.

use bytes::Bytes;
use quoin_core::error::Error;
use quoin_core::limits::MAX_TXN_OPS;
use quoin_core::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::{Compare, DeleteRangeRequest, RangeRequest, RequestOp, TxnRequest};
use quoin_core::store::check;

use super::draw::Draw;
use super::keys::ZERO;
use super::mind::Fact;
use super::plan::Feature;
use crate::choose::one_of;

/// The depth of nested transactions.
const NESTED_MAX: u64 = 3;

/// The content of a transaction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Shape {
    /// Anything.
    Mixed,
    /// Reads.
    ReadOnly,
    /// Reads that need no quorum.
    Serializable,
}

impl Draw<'_> {
    /// A transaction.
    pub fn txn(&mut self) -> TxnRequest {
        if self.chance(40) {
            return self.recreate();
        }
        if self.wrong(40) {
            return self.too_long();
        }
        let shape = match self.prng.below(8) {
            0 => Shape::ReadOnly,
            1 => Shape::Serializable,
            _ => Shape::Mixed,
        };
        let depth = if self.has(Feature::Nested) {
            self.prng.below(NESTED_MAX + 1)
        } else {
            0
        };
        let txn = self.level(shape, depth, false);
        // A key that is written twice makes the whole request invalid: that must happen, but rarely.
        if check::txn(&txn, MAX_TXN_OPS) == Err(Error::DuplicateKey) && !self.chance(4) {
            return mended(txn);
        }
        txn
    }

    fn level(&mut self, shape: Shape, depth: u64, nested: bool) -> TxnRequest {
        let compares = if nested { 2 } else { 4 };
        let compare = (0..self.prng.below(compares)).map(|_| self.compare()).collect();
        let success = self.branch(shape, depth);
        let failure = self.branch(shape, depth);
        TxnRequest {
            compare,
            success,
            failure,
        }
    }

    fn branch(&mut self, shape: Shape, depth: u64) -> Vec<RequestOp> {
        (0..self.prng.below(4)).map(|_| self.operation(shape, depth)).collect()
    }

    fn operation(&mut self, shape: Shape, depth: u64) -> RequestOp {
        if shape != Shape::Mixed {
            let serializable = shape == Shape::Serializable || self.chance(4);
            let range = self.range();
            return op(Op::RequestRange(RangeRequest { serializable, ..range }));
        }
        if self.wrong(100) {
            return RequestOp::default();
        }
        match self.prng.below(10) {
            0..5 => op(Op::RequestPut(self.put())),
            5..7 => op(Op::RequestDeleteRange(self.delete_range())),
            7 | 8 if depth > 0 => op(Op::RequestTxn(self.level(shape, depth - 1, true))),
            _ => op(Op::RequestRange(self.range())),
        }
    }

    fn compare(&mut self) -> Compare {
        let key = self.key();
        let fact = self.mind.fact(&key).cloned().unwrap_or_default();
        let targets = [
            CompareTarget::Version,
            CompareTarget::Create,
            CompareTarget::Mod,
            CompareTarget::Value,
            CompareTarget::Lease,
        ];
        let results = [
            CompareResult::Equal,
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
        ];
        let target = one_of(self.prng, &targets);
        let union = self.union(target, &fact);
        let mut compare = Compare {
            result: one_of(self.prng, &results) as i32,
            target: target as i32,
            key,
            target_union: Some(union),
            range_end: Bytes::new(),
        };
        if self.has(Feature::RangeCompares) && self.chance(4) {
            (compare.key, compare.range_end) = self.plan.keys.range(self.prng);
        }
        if self.wrong(40) {
            match self.prng.below(3) {
                0 => compare.key = Bytes::new(),
                1 => compare.target_union = None,
                _ => compare.result = 9,
            }
        }
        compare
    }

    /// The operand of a compare: often the value that the key is believed to have, or its neighbour.
    fn union(&mut self, target: CompareTarget, fact: &Fact) -> TargetUnion {
        let step = one_of(self.prng, &[0, 0, 0, -1, 1]);
        match target {
            CompareTarget::Version => TargetUnion::Version(fact.version + step),
            CompareTarget::Create => TargetUnion::CreateRevision(fact.create_revision + step),
            CompareTarget::Mod => TargetUnion::ModRevision(fact.mod_revision + step),
            CompareTarget::Value => TargetUnion::Value(fact.value.clone()),
            CompareTarget::Lease => TargetUnion::Lease(fact.lease + step),
        }
    }

    /// Deletes a key and creates it again in one transaction. The two may not name the same key, but etcd's check takes
    /// the range "from the key on" for empty.
    fn recreate(&mut self) -> TxnRequest {
        let put = self.put();
        let start = self.plan.keys.all().iter().max().cloned().unwrap_or_default();
        let delete = DeleteRangeRequest {
            key: start.clone(),
            range_end: ZERO,
            prev_kv: self.chance(2),
        };
        let mut again = put;
        again.key = start;
        TxnRequest {
            compare: Vec::new(),
            success: vec![op(Op::RequestDeleteRange(delete)), op(Op::RequestPut(again))],
            failure: Vec::new(),
        }
    }

    /// One operation more than allowed.
    fn too_long(&mut self) -> TxnRequest {
        let range = RangeRequest {
            key: self.key(),
            ..RangeRequest::default()
        };
        TxnRequest {
            compare: Vec::new(),
            success: vec![op(Op::RequestRange(range)); MAX_TXN_OPS + 1],
            failure: Vec::new(),
        }
    }
}

/// An operation of a transaction.
pub(super) const fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// The transaction with each key written once: without later puts of a key, and without deletions of keys that are put.
fn mended(txn: TxnRequest) -> TxnRequest {
    let mut puts = Vec::new();
    collect_puts(&txn, &mut puts);
    TxnRequest {
        success: once(txn.success, &puts, &mut Vec::new()),
        failure: once(txn.failure, &puts, &mut Vec::new()),
        ..txn
    }
}

fn collect_puts(txn: &TxnRequest, puts: &mut Vec<Bytes>) {
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            Some(Op::RequestPut(put)) => puts.push(put.key.clone()),
            Some(Op::RequestTxn(nested)) => collect_puts(nested, puts),
            Some(Op::RequestRange(_) | Op::RequestDeleteRange(_)) | None => {}
        }
    }
}

fn once(branch: Vec<RequestOp>, puts: &[Bytes], seen: &mut Vec<Bytes>) -> Vec<RequestOp> {
    let mut kept = Vec::with_capacity(branch.len());
    for each in branch {
        match each.request {
            Some(Op::RequestPut(put)) => {
                if !seen.contains(&put.key) {
                    seen.push(put.key.clone());
                    kept.push(op(Op::RequestPut(put)));
                }
            }
            Some(Op::RequestTxn(nested)) => {
                let success = once(nested.success, puts, seen);
                let failure = once(nested.failure, puts, seen);
                let compare = nested.compare;
                kept.push(op(Op::RequestTxn(TxnRequest {
                    compare,
                    success,
                    failure,
                })));
            }
            Some(Op::RequestDeleteRange(delete)) => {
                if !puts.iter().any(|key| covers(&delete, key)) {
                    kept.push(op(Op::RequestDeleteRange(delete)));
                }
            }
            request @ (Some(Op::RequestRange(_)) | None) => kept.push(RequestOp { request }),
        }
    }
    kept
}

fn covers(delete: &DeleteRangeRequest, key: &Bytes) -> bool {
    if delete.range_end.is_empty() {
        return delete.key == *key;
    }
    delete.key <= *key && (delete.range_end == ZERO || *key < delete.range_end)
}
