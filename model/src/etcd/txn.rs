//! Transactions, in three steps. All conditions are evaluated, and the chosen operations are checked, both against the
//! state before the transaction. Then each operation is carried out on the result of the previous ones.

use std::cmp::Ordering;

use quoin_core::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::response_op::Response as Done;
use quoin_core::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader, ResponseOp, TxnRequest,
    TxnResponse,
};
use quoin_core::proto::mvccpb::KeyValue;

use super::kv::Kv;
use super::lease::Leases;
use super::range::View;
use super::refusal::{COMPACTED, KEY_NOT_FOUND, LEASE_NOT_FOUND};
use crate::call::Refusal;

/// The chosen branch of a transaction, and those of the transactions nested in it.
pub(super) struct Branch<'a> {
    succeeded: bool,
    ops: Vec<Chosen<'a>>,
}

/// A chosen operation.
enum Chosen<'a> {
    DeleteRange(&'a DeleteRangeRequest),
    Nothing,
    Put(&'a PutRequest),
    Range(&'a RangeRequest),
    Txn(Branch<'a>),
}

impl<'a> Branch<'a> {
    /// Evaluates the conditions.
    pub(super) fn choose(view: View<'_>, txn: &'a TxnRequest) -> Self {
        let succeeded = txn.compare.iter().all(|compare| holds(view, compare));
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let choose = |op: &'a RequestOp| match &op.request {
            Some(Op::RequestDeleteRange(request)) => Chosen::DeleteRange(request),
            Some(Op::RequestPut(request)) => Chosen::Put(request),
            Some(Op::RequestRange(request)) => Chosen::Range(request),
            Some(Op::RequestTxn(request)) => Chosen::Txn(Self::choose(view, request)),
            None => Chosen::Nothing,
        };
        Self {
            succeeded,
            ops: ops.iter().map(choose).collect(),
        }
    }

    /// Checks every operation, nested ones too: first the key and the lease of each put, then all ranges.
    pub(super) fn check(&self, view: View<'_>, leases: &Leases) -> Result<(), Refusal> {
        let chosen = self.flat();
        for op in &chosen {
            if let Chosen::Put(request) = op {
                check_kept(view, request)?;
                check_lease(leases, request)?;
            }
        }
        for op in &chosen {
            if let Chosen::Range(request) = op {
                check_range(view, request)?;
            }
        }
        Ok(())
    }

    /// The operations, with those of nested transactions in their places.
    fn flat(&self) -> Vec<&Chosen<'a>> {
        let mut flat = Vec::new();
        for op in &self.ops {
            match op {
                Chosen::Txn(branch) => flat.extend(branch.flat()),
                Chosen::DeleteRange(_) | Chosen::Nothing | Chosen::Put(_) | Chosen::Range(_) => flat.push(op),
            }
        }
        flat
    }

    /// Carries out the operations. The caller sets the header's revision; that of nested transactions stays 0.
    pub(super) fn run(&self, kv: &mut Kv, compact_revision: i64) -> TxnResponse {
        let mut done = |op: &Chosen<'_>| match op {
            Chosen::DeleteRange(request) => Some(Done::ResponseDeleteRange(kv.delete_range(request))),
            Chosen::Nothing => None,
            Chosen::Put(request) => Some(Done::ResponsePut(kv.put(request))),
            Chosen::Range(request) => {
                let view = View {
                    kv,
                    revision: kv.reading_revision(),
                    compact_revision,
                };
                let response = view.range(request).expect("the revision was checked before");
                Some(Done::ResponseRange(response))
            }
            Chosen::Txn(branch) => Some(Done::ResponseTxn(branch.run(kv, compact_revision))),
        };
        let responses = self.ops.iter().map(|op| ResponseOp { response: done(op) });
        TxnResponse {
            responses: responses.collect(),
            header: Some(ResponseHeader::default()),
            succeeded: self.succeeded,
        }
    }

    /// Carries out the operations of a transaction that only reads.
    pub(super) fn read(&self, view: View<'_>) -> Result<TxnResponse, Refusal> {
        for op in &self.ops {
            if let Chosen::Range(request) = op {
                check_range(view, request)?;
            }
        }
        let mut responses = Vec::new();
        for op in &self.ops {
            let response = match op {
                Chosen::Range(request) => Some(Done::ResponseRange(view.range(request)?)),
                Chosen::DeleteRange(_) | Chosen::Nothing | Chosen::Put(_) | Chosen::Txn(_) => None,
            };
            responses.push(ResponseOp { response });
        }
        Ok(TxnResponse {
            header: super::kv::header(view.revision),
            succeeded: self.succeeded,
            responses,
        })
    }
}

/// Checks that a range can be read. A plain read takes every revision up to 0 as the present. In a transaction, a
/// negative revision below the compact revision (-1 before the first compaction) is refused as compacted.
fn check_range(view: View<'_>, request: &RangeRequest) -> Result<(), Refusal> {
    if request.revision != 0 && request.revision < view.compact_revision {
        return Err(COMPACTED.into());
    }
    view.resolve(request.revision).map(drop)
}

/// Checks a write: its lease must exist, and its key too if its value or lease is to be kept.
pub(super) fn check_put(view: View<'_>, leases: &Leases, request: &PutRequest) -> Result<(), Refusal> {
    check_lease(leases, request)?;
    check_kept(view, request)
}

fn check_lease(leases: &Leases, request: &PutRequest) -> Result<(), Refusal> {
    if request.lease != 0 && !leases.contains(request.lease) {
        return Err(LEASE_NOT_FOUND.into());
    }
    Ok(())
}

fn check_kept(view: View<'_>, request: &PutRequest) -> Result<(), Refusal> {
    let keeps = request.ignore_value || request.ignore_lease;
    if keeps && view.kv.get(&request.key, view.revision).is_none() {
        return Err(KEY_NOT_FOUND.into());
    }
    Ok(())
}

/// Whether a condition holds for every key in its range. If the range has no key, zeros are compared, except that a
/// condition on a value never holds then.
fn holds(view: View<'_>, compare: &Compare) -> bool {
    let mut keys = view.kv.scan(&compare.key, &compare.range_end, view.revision).peekable();
    if keys.peek().is_none() {
        return compare.target != CompareTarget::Value as i32 && holds_of(&KeyValue::default(), compare);
    }
    keys.all(|kv| holds_of(kv, compare))
}

fn holds_of(kv: &KeyValue, compare: &Compare) -> bool {
    let Ok(result) = CompareResult::try_from(compare.result) else {
        return true;
    };
    let ordering = against(kv, compare);
    match result {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
        CompareResult::NotEqual => ordering.is_ne(),
    }
}

/// The order of a key's property and the operand. An operand for another target than the named one counts as not given.
fn against(kv: &KeyValue, compare: &Compare) -> Ordering {
    let given = compare.target_union.as_ref();
    match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => match given {
            Some(TargetUnion::Version(version)) => kv.version.cmp(version),
            _ => kv.version.cmp(&0),
        },
        Ok(CompareTarget::Create) => match given {
            Some(TargetUnion::CreateRevision(revision)) => kv.create_revision.cmp(revision),
            _ => kv.create_revision.cmp(&0),
        },
        Ok(CompareTarget::Mod) => match given {
            Some(TargetUnion::ModRevision(revision)) => kv.mod_revision.cmp(revision),
            _ => kv.mod_revision.cmp(&0),
        },
        Ok(CompareTarget::Value) => match given {
            Some(TargetUnion::Value(value)) => kv.value.cmp(value),
            _ => kv.value[..].cmp(&[]),
        },
        Ok(CompareTarget::Lease) => match given {
            Some(TargetUnion::Lease(lease)) => kv.lease.cmp(lease),
            _ => kv.lease.cmp(&0),
        },
        Err(_) => Ordering::Equal,
    }
}
