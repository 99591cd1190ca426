//! What is wrong with a request that no state is needed to see, found on the caller's task before anything is proposed.
//!
//! The order of the checks is etcd's, because a request wrong in two ways must get etcd's answer. Nothing here looks at
//! keys, leases or revisions: that is [`crate::store`]'s, when the request is applied.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::error::Error;
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

/// How deep transactions may be nested. A message is decoded to a depth of 100, two of which each level takes and one
/// the entry around the request; what was accepted here must never fail to decode when it is applied.
pub const MAX_TXN_DEPTH: usize = 40;

/// What a lease costs against the quota, in bytes.
pub const LEASE_COST_BYTES: u64 = 64;

/// What a key costs against the quota besides its own and its value's bytes.
pub const KEY_COST_BYTES: u64 = 256;

/// Checks a read.
///
/// # Errors
/// [`Error::EmptyKey`] or [`Error::InvalidSortOption`].
pub fn range(request: &RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err() || SortTarget::try_from(request.sort_target).is_err() {
        return Err(Error::InvalidSortOption);
    }
    Ok(())
}

/// Checks a write.
///
/// # Errors
/// [`Error::EmptyKey`], [`Error::ValueProvided`] or [`Error::LeaseProvided`].
pub fn put(request: &PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// Checks a deletion.
///
/// # Errors
/// [`Error::EmptyKey`].
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        Err(Error::EmptyKey)
    } else {
        Ok(())
    }
}

/// Checks a transaction: the number of operations, each of them, and that no key is written twice.
///
/// # Errors
/// [`Error::TooManyOps`], [`Error::DuplicateKey`], [`Error::KeyNotFound`] for an operation that is not set, or the error
/// of an operation.
pub fn txn(request: &TxnRequest, max_ops: usize) -> Result<(), Error> {
    operations(request, max_ops, MAX_TXN_DEPTH)?;
    // Only a transaction of bounded size is worth comparing all its keys.
    Writes::of(&request.success)?;
    Writes::of(&request.failure)?;
    Ok(())
}

/// Whether a transaction only reads, and so needs no entry in the log. One nested in it counts as a write, whatever it
/// holds.
#[must_use]
pub fn is_read_only(request: &TxnRequest) -> bool {
    all_operations(request).all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether every read of a read-only transaction may be answered from an older state.
#[must_use]
pub fn is_serializable(request: &TxnRequest) -> bool {
    all_operations(request).all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable))
}

/// What a write costs against the quota.
#[must_use]
pub fn put_cost(request: &PutRequest) -> u64 {
    KEY_COST_BYTES + request.key.len() as u64 + request.value.len() as u64
}

/// What a transaction costs against the quota: its dearer branch. One that only reads and deletes costs nothing.
#[must_use]
pub fn txn_cost(request: &TxnRequest) -> u64 {
    fn branch(operations: &[RequestOp]) -> u64 {
        operations
            .iter()
            .map(|op| match &op.request {
                Some(Request::RequestPut(put)) => put_cost(put),
                Some(Request::RequestTxn(nested)) => txn_cost(nested),
                Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => 0,
            })
            .sum()
    }
    branch(&request.success).max(branch(&request.failure))
}

/// Whether a request of this cost fits where so much is stored. What costs nothing always does, so that a full store can
/// be emptied.
#[must_use]
pub fn fits_quota(cost: u64, size_bytes: u64, quota_bytes: Option<u64>) -> bool {
    cost == 0 || quota_bytes.is_none_or(|quota| size_bytes.saturating_add(cost) < quota)
}

fn all_operations(request: &TxnRequest) -> impl Iterator<Item = &RequestOp> {
    request.success.iter().chain(&request.failure)
}

/// Checks the operations of a transaction; nested ones share what its longest list leaves over.
fn operations(request: &TxnRequest, max_ops: usize, depth: usize) -> Result<(), Error> {
    let longest = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let Some(left) = max_ops.checked_sub(longest) else {
        return Err(Error::TooManyOps);
    };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for op in all_operations(request) {
        match &op.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Request::RequestTxn(_)) if depth == 0 => return Err(Error::TooManyOps),
            Some(Request::RequestTxn(request)) => operations(request, left, depth - 1)?,
            // etcd's answer to an operation that is none.
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// What one branch of a transaction writes.
#[derive(Default)]
struct Writes {
    puts: BTreeSet<Bytes>,
    deletes: Ranges,
}

impl Writes {
    /// Collects them, nested ones included.
    ///
    /// A key may be put once, and not where it is deleted; deletions may overlap. Of a nested transaction only one branch
    /// runs, so both may put the same key. Siblings are compared in order: a deletion nested in a later sibling may
    /// overlap a put nested in an earlier one, as etcd allows.
    fn of(operations: &[RequestOp]) -> Result<Self, Error> {
        let mut writes = Self::default();
        for op in operations {
            if let Some(Request::RequestDeleteRange(delete)) = &op.request {
                writes.deletes.add(delete);
            }
        }
        for op in operations {
            if let Some(Request::RequestTxn(nested)) = &op.request {
                writes.merge(Self::of(&nested.success)?, Self::of(&nested.failure)?)?;
            }
        }
        for op in operations {
            if let Some(Request::RequestPut(put)) = &op.request {
                writes.put(&put.key)?;
            }
        }
        Ok(writes)
    }

    /// Takes over what a nested transaction writes.
    fn merge(&mut self, success: Self, failure: Self) -> Result<(), Error> {
        for key in &success.puts {
            self.put(key)?;
        }
        for key in &failure.puts {
            if success.puts.contains(key) {
                continue;
            }
            self.put(key)?;
        }
        self.deletes.merge(success.deletes);
        self.deletes.merge(failure.deletes);
        Ok(())
    }

    fn put(&mut self, key: &Bytes) -> Result<(), Error> {
        if self.deletes.contain(key) || !self.puts.insert(key.clone()) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }
}

/// Ranges of keys, as disjoint ones from start to end.
#[derive(Default)]
struct Ranges(BTreeMap<Bytes, Bytes>);

impl Ranges {
    /// Adds what a deletion covers. Its end is taken literally: to etcd's check the single zero byte that stands for "all
    /// from key on" ends before it begins, so deleting everything and putting a key in one transaction is allowed.
    fn add(&mut self, delete: &DeleteRangeRequest) {
        let end = if delete.range_end.is_empty() {
            let mut next = delete.key.to_vec();
            next.push(0);
            Bytes::from(next)
        } else {
            delete.range_end.clone()
        };
        self.insert(delete.key.clone(), end);
    }

    fn insert(&mut self, mut start: Bytes, mut end: Bytes) {
        if start >= end {
            return;
        }
        while let Some((other_start, other_end)) = self.0.range(..=end.clone()).next_back() {
            if *other_end < start {
                break;
            }
            end = end.max(other_end.clone());
            let other_start = other_start.clone();
            self.0.remove(&other_start);
            start = start.min(other_start);
        }
        self.0.insert(start, end);
    }

    fn merge(&mut self, other: Self) {
        for (start, end) in other.0 {
            self.insert(start, end);
        }
    }

    fn contain(&self, key: &Bytes) -> bool {
        self.0
            .range(..=key.clone())
            .next_back()
            .is_some_and(|(_, end)| key < end)
    }
}
