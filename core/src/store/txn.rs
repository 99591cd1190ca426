//! Transactions: which branch runs, whether it can run, and running it.
//!
//! Three steps, in this order. All compares, also those of nested transactions on the chosen path, are evaluated on the
//! state before the transaction. Then the chosen operations are checked against that same state. Only then is anything
//! written, and after that nothing can fail: a transaction is applied completely or not at all, by every member alike.

use std::cmp::Ordering;

use super::applied::header;
use super::counts::KeyCounts;
use super::lease::Leases;
use crate::bug;
use crate::error::Error;
use crate::mvcc::{PairRef, View, Write};
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp,
    ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};

/// A transaction whose compares are decided.
pub(super) struct Plan<'a> {
    succeeded: bool,
    steps: Vec<Step<'a>>,
    /// The number of compares evaluated, without those of nested transactions.
    compared: u64,
}

/// One operation of the chosen branch.
enum Step<'a> {
    DeleteRange(&'a DeleteRangeRequest),
    /// An operation that is not set. No member proposes it; in the log it has no effect, as in etcd.
    Nothing,
    Put(&'a PutRequest),
    Range(&'a RangeRequest),
    Txn(Plan<'a>),
}

impl<'a> Plan<'a> {
    /// Decides the compares against the state before the transaction.
    pub(super) fn decide(view: &View, request: &'a TxnRequest) -> Self {
        let mut compared = 0;
        let succeeded = request.compare.iter().all(|compare| {
            compared += 1;
            holds(view, compare)
        });
        let branch = if succeeded { &request.success } else { &request.failure };
        Self {
            succeeded,
            steps: branch.iter().map(|op| Step::decide(view, op)).collect(),
            compared,
        }
    }

    /// The number of compares evaluated.
    pub(super) fn compared(&self) -> u64 {
        let nested = self.steps.iter().map(|step| match step {
            Step::Txn(nested) => nested.compared(),
            Step::DeleteRange(_) | Step::Nothing | Step::Put(_) | Step::Range(_) => 0,
        });
        self.compared + nested.sum::<u64>()
    }

    /// The counts of the chosen operations on keys.
    pub(super) fn counts(&self) -> KeyCounts {
        let mut counts = KeyCounts::default();
        for step in &self.steps {
            counts.add(match step {
                Step::DeleteRange(request) => KeyCounts::of_delete(request),
                Step::Nothing => KeyCounts::default(),
                Step::Put(request) => KeyCounts::of_put(request),
                Step::Range(_) => KeyCounts::RANGE,
                Step::Txn(nested) => nested.counts(),
            });
        }
        counts
    }

    /// Checks the chosen operations against the state before the transaction: all writes before all ranges, as etcd
    /// does, so that of several errors the same one is returned. Each key that a check looks up is counted in `ranges`,
    /// as etcd's metric does.
    pub(super) fn check(&self, view: &View, leases: &Leases, ranges: &mut u64) -> Result<(), Error> {
        self.check_puts(view, leases, ranges)?;
        self.check_ranges(view)
    }

    fn check_puts(&self, view: &View, leases: &Leases, ranges: &mut u64) -> Result<(), Error> {
        self.steps.iter().try_for_each(|step| match step {
            Step::Put(put) => {
                *ranges += u64::from(needs_key(put));
                // The key first, then the lease, as in etcd; a put outside a transaction checks them in the other
                // order.
                check_key(view, put)?;
                check_lease(leases, put)
            }
            Step::Txn(nested) => nested.check_puts(view, leases, ranges),
            Step::DeleteRange(_) | Step::Nothing | Step::Range(_) => Ok(()),
        })
    }

    fn check_ranges(&self, view: &View) -> Result<(), Error> {
        self.steps.iter().try_for_each(|step| match step {
            Step::Range(range) => check_range(view, range),
            Step::Txn(nested) => nested.check_ranges(view),
            Step::DeleteRange(_) | Step::Nothing | Step::Put(_) => Ok(()),
        })
    }

    /// Runs the chosen operations. If `answer` is false, no client waits for the result, so ranges are not read.
    pub(super) fn run(&self, write: &mut Write<'_>, leases: &mut Leases, answer: bool) -> Result<TxnResponse, Error> {
        let mut responses = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            responses.push(ResponseOp {
                response: step.run(write, leases, answer)?,
            });
        }
        // Left empty, as etcd does for nested transactions; the caller sets the revision of the outermost one.
        Ok(TxnResponse {
            header: Some(ResponseHeader::default()),
            succeeded: self.succeeded,
            responses,
        })
    }
}

impl<'a> Step<'a> {
    fn decide(view: &View, op: &'a RequestOp) -> Self {
        match &op.request {
            None => Self::Nothing,
            Some(Request::RequestDeleteRange(delete)) => Self::DeleteRange(delete),
            Some(Request::RequestPut(put)) => Self::Put(put),
            Some(Request::RequestRange(range)) => Self::Range(range),
            Some(Request::RequestTxn(nested)) => Self::Txn(Plan::decide(view, nested)),
        }
    }

    fn run(&self, write: &mut Write<'_>, leases: &mut Leases, answer: bool) -> Result<Option<Response>, Error> {
        Ok(Some(match self {
            Self::DeleteRange(request) => Response::ResponseDeleteRange(delete_range(write, leases, request)),
            Self::Nothing => return Ok(None),
            Self::Put(request) => Response::ResponsePut(put(write, leases, request)),
            Self::Range(request) if answer => {
                let found = match write.range(request) {
                    Err(Error::Compacted) if bug!(ReadsCompacted) => RangeResponse::default(),
                    found => found?,
                };
                Response::ResponseRange(RangeResponse {
                    header: header(write.revision()),
                    ..found
                })
            }
            Self::Range(_) => Response::ResponseRange(RangeResponse::default()),
            Self::Txn(nested) => Response::ResponseTxn(nested.run(write, leases, answer)?),
        }))
    }
}

/// Checks a write against the state before it.
pub(super) fn check_put(view: &View, leases: &Leases, request: &PutRequest) -> Result<(), Error> {
    check_lease(leases, request)?;
    check_key(view, request)
}

fn check_lease(leases: &Leases, request: &PutRequest) -> Result<(), Error> {
    if request.lease != 0 && leases.get(request.lease).is_none() {
        return Err(Error::LeaseNotFound);
    }
    Ok(())
}

/// A key whose value or lease is to be kept must exist.
fn check_key(view: &View, request: &PutRequest) -> Result<(), Error> {
    if needs_key(request) && view.get(&request.key).is_none() {
        return Err(Error::KeyNotFound);
    }
    Ok(())
}

/// Whether a write keeps the value or the lease that the key has.
fn needs_key(request: &PutRequest) -> bool {
    request.ignore_value || request.ignore_lease
}

/// Carries out a checked write.
pub(super) fn put(write: &mut Write<'_>, leases: &mut Leases, request: &PutRequest) -> PutResponse {
    let kept = if needs_key(request) {
        write.get(&request.key)
    } else {
        None
    };
    // A checked key exists, unless this transaction has deleted it by a range whose end is a zero byte ("to the last
    // key"): as in etcd, no check compares such a range with puts. Then value and lease are kept as empty.
    let kept = kept.unwrap_or_default();
    let value = if request.ignore_value {
        kept.value
    } else {
        request.value.clone()
    };
    let lease = if request.ignore_lease {
        kept.lease
    } else {
        request.lease
    };
    let before = write.put(request.key.clone(), value, lease);
    leases.reattach(&request.key, before.as_ref().map_or(0, |before| before.lease), lease);
    PutResponse {
        header: header(write.revision()),
        prev_kv: before.filter(|_| request.prev_kv),
    }
}

/// Carries out a deletion.
pub(super) fn delete_range(
    write: &mut Write<'_>,
    leases: &mut Leases,
    request: &DeleteRangeRequest,
) -> DeleteRangeResponse {
    let deleted = write.delete_range(&request.key, &request.range_end);
    for kv in &deleted {
        leases.detach(&kv.key, kv.lease);
    }
    DeleteRangeResponse {
        header: header(write.revision()),
        deleted: i64::try_from(deleted.len()).unwrap_or(i64::MAX),
        prev_kvs: if request.prev_kv { deleted } else { Vec::new() },
    }
}

/// Checks the revision of a range. Negative revisions are refused as compacted. Only -1, before the first compaction,
/// means the current revision, because the compact revision is -1 then. A range outside a transaction accepts every
/// negative revision.
pub(super) fn check_range(view: &View, request: &RangeRequest) -> Result<(), Error> {
    if request.revision == 0 {
        Ok(())
    } else if request.revision > view.revision() {
        Err(Error::FutureRevision)
    } else if request.revision < view.compact_revision() && !bug!(ReadsCompacted) {
        Err(Error::Compacted)
    } else {
        Ok(())
    }
}

/// Whether a compare holds for every key of its range; if there is none, whether it holds for a missing key.
fn holds(view: &View, compare: &Compare) -> bool {
    let mut any = false;
    for pair in view.pairs(&compare.key, &compare.range_end) {
        any = true;
        if !holds_for(compare, Some(pair)) {
            return false;
        }
    }
    any || holds_for(compare, None)
}

/// Whether a compare holds for a key.
///
/// A compare of the value of a missing key never holds, whatever the operator; all other targets of a missing key are
/// 0. An operand that is not set, or set for another target, is 0 or empty. An unknown operator holds.
pub(super) fn holds_for(compare: &Compare, kv: Option<PairRef<'_>>) -> bool {
    let union = compare.target_union.as_ref();
    let order = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => {
            let Some(kv) = kv else { return false };
            let wanted: &[u8] = if let Some(TargetUnion::Value(value)) = union {
                value
            } else {
                &[]
            };
            kv.value.cmp(wanted)
        }
        Ok(target) => {
            let (found, wanted) = numbers(target, kv, union);
            found.cmp(&wanted)
        }
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Err(_) => true,
    }
}

/// A key's number for a target, and the number that it is compared with.
fn numbers(target: CompareTarget, kv: Option<PairRef<'_>>, union: Option<&TargetUnion>) -> (i64, i64) {
    let found = kv.map_or(0, |kv| match target {
        CompareTarget::Create => kv.create_revision,
        CompareTarget::Lease => kv.lease,
        CompareTarget::Mod => kv.mod_revision,
        CompareTarget::Value => 0,
        CompareTarget::Version => kv.version,
    });
    let wanted = match (target, union) {
        (CompareTarget::Create, Some(TargetUnion::CreateRevision(wanted)))
        | (CompareTarget::Lease, Some(TargetUnion::Lease(wanted)))
        | (CompareTarget::Mod, Some(TargetUnion::ModRevision(wanted)))
        | (CompareTarget::Version, Some(TargetUnion::Version(wanted))) => *wanted,
        _ => 0,
    };
    (found, wanted)
}
