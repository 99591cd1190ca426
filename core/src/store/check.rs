//! Checks of a request that need no state. They run on the caller's task, before the request is proposed.
//!
//! The order of the checks is etcd's, because a request with two errors must get etcd's answer. Errors that depend on
//! keys, leases or revisions are found by [`crate::store`] when the request is applied.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::error::Error;
use crate::limits::{MAX_LEASE_TTL_SECONDS, MAX_TXN_DEPTH, MAX_TXN_TOTAL_OPS};
use crate::mvcc::successor;
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

/// The cost of a lease against the quota, in bytes.
pub const LEASE_COST_BYTES: u64 = 64;

/// The cost of a key against the quota besides its own and its value's bytes.
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
    let mut all = max_ops.saturating_mul(3).max(MAX_TXN_TOTAL_OPS);
    operations(request, max_ops, MAX_TXN_DEPTH, &mut all)?;
    // The keys are compared only now that the size of the transaction is known to be bounded.
    Writes::of(&request.success)?;
    Writes::of(&request.failure)?;
    Ok(())
}

/// Checks the TTL of a lease, in seconds. As in etcd, this runs when a grant is applied, not before it is proposed:
/// alarms and a missing id are checked first.
///
/// # Errors
/// [`Error::LeaseTtlTooLarge`].
pub fn lease_ttl(seconds: i64) -> Result<(), Error> {
    if seconds > MAX_LEASE_TTL_SECONDS {
        return Err(Error::LeaseTtlTooLarge);
    }
    Ok(())
}

/// Whether a transaction only reads, and so needs no entry in the log. A nested transaction counts as a write, whatever
/// its operations are.
#[must_use]
pub fn is_read_only(request: &TxnRequest) -> bool {
    all_operations(request).all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether every read of a read-only transaction may be answered from an older state.
#[must_use]
pub fn is_serializable(request: &TxnRequest) -> bool {
    all_operations(request).all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable))
}

/// The cost of a write against the quota.
#[must_use]
pub fn put_cost(request: &PutRequest) -> u64 {
    KEY_COST_BYTES + request.key.len() as u64 + request.value.len() as u64
}

/// The cost of a transaction against the quota: that of its dearer branch. One that only reads and deletes costs
/// nothing.
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

/// Whether a request of this cost, in bytes, fits the quota at this size of the store. A request without cost always
/// fits, so that a full store can be emptied.
#[must_use]
pub fn fits_quota(cost: u64, size_bytes: u64, quota_bytes: Option<u64>) -> bool {
    cost == 0 || quota_bytes.is_none_or(|quota| size_bytes.saturating_add(cost) < quota)
}

fn all_operations(request: &TxnRequest) -> impl Iterator<Item = &RequestOp> {
    request.success.iter().chain(&request.failure)
}

/// Checks the operations of a transaction. As in etcd, the limit of a nested transaction is its parent's minus the
/// length of the parent's longest list. By that rule alone the number of lists multiplies with every level, so `all` is
/// what is left of a limit for all levels together.
fn operations(request: &TxnRequest, max_ops: usize, depth: usize, all: &mut usize) -> Result<(), Error> {
    let longest = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let Some(left) = max_ops.checked_sub(longest) else {
        return Err(Error::TooManyOps);
    };
    let here = request.compare.len() + request.success.len() + request.failure.len();
    *all = all.checked_sub(here).ok_or(Error::TooManyOps)?;
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for op in all_operations(request) {
        match &op.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Request::RequestTxn(_)) if depth == 0 => return Err(Error::TooManyOps),
            Some(Request::RequestTxn(request)) => operations(request, left, depth - 1, all)?,
            // etcd's answer to an operation that is not set.
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// The keys that one branch of a transaction writes.
#[derive(Default)]
struct Writes {
    puts: BTreeSet<Bytes>,
    deletes: Ranges,
}

impl Writes {
    /// Collects the keys, including those of nested transactions.
    ///
    /// A key may be put once, and not if it is also deleted; deletions may overlap. Of a nested transaction only one
    /// branch runs, so both may put the same key. Siblings are compared in order: a deletion nested in a later sibling
    /// may overlap a put nested in an earlier one, as etcd allows.
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

    /// Adds the keys that a nested transaction writes.
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

/// Disjoint ranges of keys, as start and end; the end is excluded.
#[derive(Default)]
struct Ranges(BTreeMap<Bytes, Bytes>);

impl Ranges {
    /// Adds the range of a deletion. As in etcd's check, the end is taken literally: a single zero byte, which means
    /// "to the last key", is an end before the start, and the range is empty. So one transaction may delete all keys
    /// and put one.
    fn add(&mut self, delete: &DeleteRangeRequest) {
        let end = if delete.range_end.is_empty() {
            successor(&delete.key)
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

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::limits::MAX_TXN_OPS;
    use crate::proto::etcdserverpb::{Compare, InternalRaftRequest};
    use crate::random::Prng;

    fn op(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    fn put_op(key: &str) -> RequestOp {
        op(Request::RequestPut(PutRequest {
            key: key.to_owned().into(),
            ..PutRequest::default()
        }))
    }

    fn delete_op(key: &str, range_end: &str) -> RequestOp {
        let (key, range_end) = (key.to_owned().into(), range_end.to_owned().into());
        op(Request::RequestDeleteRange(DeleteRangeRequest {
            key,
            range_end,
            prev_kv: false,
        }))
    }

    fn range_op(key: &str) -> RequestOp {
        op(Request::RequestRange(RangeRequest {
            key: key.to_owned().into(),
            ..RangeRequest::default()
        }))
    }

    fn txn_of(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
        TxnRequest {
            compare: Vec::new(),
            success,
            failure,
        }
    }

    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        op(Request::RequestTxn(txn_of(success, failure)))
    }

    #[test]
    fn single_requests_get_etcds_first_complaint() {
        let range_of = |key: &'static str, sort_order, sort_target| {
            range(&RangeRequest {
                key: key.into(),
                sort_order,
                sort_target,
                ..RangeRequest::default()
            })
        };
        assert_eq!(range_of("", 9, 9), Err(Error::EmptyKey));
        assert_eq!(range_of("a", 3, 0), Err(Error::InvalidSortOption));
        assert_eq!(range_of("a", 0, 5), Err(Error::InvalidSortOption));
        assert_eq!(range_of("a", 2, 4), Ok(()));

        let put_of = |key: &'static str, value: &'static str, lease| {
            let (key, value) = (key.into(), value.into());
            put(&PutRequest {
                key,
                value,
                lease,
                ignore_value: true,
                ignore_lease: true,
                prev_kv: false,
            })
        };
        assert_eq!(put_of("", "v", 1), Err(Error::EmptyKey));
        assert_eq!(put_of("a", "v", 1), Err(Error::ValueProvided));
        assert_eq!(put_of("a", "", 1), Err(Error::LeaseProvided));
        assert_eq!(put_of("a", "", 0), Ok(()));

        assert_eq!(delete_range(&DeleteRangeRequest::default()), Err(Error::EmptyKey));
    }

    #[test]
    fn nested_transactions_share_the_rest_of_their_parents_limit() {
        let gets = |count| vec![range_op("a"); count];
        let compares = |count| {
            vec![
                Compare {
                    key: "a".into(),
                    ..Compare::default()
                };
                count
            ]
        };
        let table = [
            (txn_of(gets(4), gets(4)), Ok(())),
            (txn_of(gets(5), gets(0)), Err(Error::TooManyOps)),
            (txn_of(gets(0), gets(5)), Err(Error::TooManyOps)),
            (
                TxnRequest {
                    compare: compares(4),
                    ..txn_of(gets(4), gets(4))
                },
                Ok(()),
            ),
            (
                TxnRequest {
                    compare: compares(5),
                    ..TxnRequest::default()
                },
                Err(Error::TooManyOps),
            ),
            (txn_of(vec![nested(gets(3), gets(3))], gets(1)), Ok(())),
            (txn_of(vec![nested(gets(3), gets(3))], gets(2)), Err(Error::TooManyOps)),
            (
                txn_of(vec![nested(gets(3), gets(3)), nested(gets(2), gets(0))], gets(0)),
                Err(Error::TooManyOps),
            ),
            (
                TxnRequest {
                    compare: vec![Compare::default()],
                    ..TxnRequest::default()
                },
                Err(Error::EmptyKey),
            ),
            (txn_of(vec![RequestOp::default()], gets(0)), Err(Error::KeyNotFound)),
            (
                txn_of(gets(0), vec![nested(vec![RequestOp::default()], gets(0))]),
                Err(Error::KeyNotFound),
            ),
            (txn_of(vec![put_op("")], gets(0)), Err(Error::EmptyKey)),
        ];
        for (request, expected) in table {
            assert_eq!(txn(&request, 4), expected, "{request:?}");
        }
    }

    #[test]
    fn operations_of_all_levels_are_bounded_together() {
        let puts = |outer: usize, number: usize| (0..number).map(|inner| put_op(&format!("{outer} {inner}"))).collect();
        let of =
            |outer: usize, inner: usize| txn_of((0..outer).map(|at| nested(puts(at, inner), vec![])).collect(), vec![]);
        let most = (MAX_TXN_TOTAL_OPS - 64) / 64;
        assert_eq!(txn(&of(64, most), MAX_TXN_OPS), Ok(()));
        assert_eq!(txn(&of(64, most + 1), MAX_TXN_OPS), Err(Error::TooManyOps));
        let (flat, wide) = (txn_of(puts(0, 10_000), vec![]), txn_of(puts(0, 10_001), vec![]));
        assert_eq!(txn(&flat, 10_000), Ok(()), "one level has the flag's limit");
        assert_eq!(txn(&wide, 10_000), Err(Error::TooManyOps));
    }

    #[test]
    fn keys_are_written_once() {
        let (p, d) = (put_op, delete_op);
        let duplicate = Err(Error::DuplicateKey);
        let table = [
            (vec![p("a"), p("b")], Ok(())),
            (vec![p("a"), p("a")], duplicate),
            (vec![p("a"), d("a", "")], duplicate),
            (vec![d("a", ""), p("a\0")], Ok(())),
            (vec![d("a", "c"), p("b")], duplicate),
            (vec![d("a", "c"), p("c")], Ok(())),
            (vec![d("a", "c"), d("b", "d"), range_op("b")], Ok(())),
            (vec![d("a", "c"), d("b", "d"), p("c")], duplicate),
            (vec![d("c", "a"), p("b")], Ok(())),
            // Deleting everything from a key on and putting one of them is allowed, as in etcd.
            (vec![d("a", "\0"), p("b")], Ok(())),
            (vec![nested(vec![p("a")], vec![p("a")])], Ok(())),
            (vec![nested(vec![p("a")], vec![p("a")]), p("a")], duplicate),
            (
                vec![nested(vec![p("a")], vec![]), nested(vec![], vec![p("a")])],
                duplicate,
            ),
            (vec![nested(vec![p("a")], vec![d("a", "")])], Ok(())),
            (vec![nested(vec![d("a", "c")], vec![]), p("b")], duplicate),
            (vec![p("b"), nested(vec![], vec![d("a", "c")])], duplicate),
            (
                vec![nested(vec![d("a", "c")], vec![]), nested(vec![p("b")], vec![])],
                duplicate,
            ),
            // The opposite order is allowed, as in etcd.
            (
                vec![nested(vec![p("b")], vec![]), nested(vec![d("a", "c")], vec![])],
                Ok(()),
            ),
            (vec![d("a", "c"), nested(vec![p("b")], vec![])], duplicate),
            (
                vec![nested(vec![nested(vec![p("a")], vec![])], vec![]), p("a")],
                duplicate,
            ),
        ];
        for (operations, expected) in table {
            assert_eq!(
                txn(&txn_of(operations.clone(), vec![]), MAX_TXN_OPS),
                expected,
                "{operations:?}"
            );
            assert_eq!(
                txn(&txn_of(vec![], operations.clone()), MAX_TXN_OPS),
                expected,
                "{operations:?}"
            );
            assert_eq!(
                txn(&txn_of(vec![p("z")], vec![p("z")]), MAX_TXN_OPS),
                Ok(()),
                "branches exclude each other"
            );
        }
    }

    type Span = (Bytes, Bytes);

    /// The same rule in a simple form: each put is compared with every deletion.
    fn naive(operations: &[RequestOp]) -> Option<(Vec<Bytes>, Vec<Span>)> {
        let (mut puts, mut deletes) = (Vec::new(), Vec::new());
        for op in operations {
            if let Some(Request::RequestDeleteRange(delete)) = &op.request {
                let next: Bytes = [&delete.key[..], &[0]].concat().into();
                let end = if delete.range_end.is_empty() {
                    next
                } else {
                    delete.range_end.clone()
                };
                deletes.push((delete.key.clone(), end));
            }
        }
        let deleted = |deletes: &[Span], key: &Bytes| deletes.iter().any(|(from, to)| from <= key && key < to);
        for op in operations {
            if let Some(Request::RequestTxn(nested)) = &op.request {
                let (success, failure) = (naive(&nested.success)?, naive(&nested.failure)?);
                let mut all = success.0;
                all.extend(failure.0);
                all.sort();
                all.dedup();
                if all.iter().any(|key| puts.contains(key) || deleted(&deletes, key)) {
                    return None;
                }
                puts.extend(all);
                deletes.extend(success.1);
                deletes.extend(failure.1);
            }
        }
        for op in operations {
            if let Some(Request::RequestPut(put)) = &op.request {
                if puts.contains(&put.key) || deleted(&deletes, &put.key) {
                    return None;
                }
                puts.push(put.key.clone());
            }
        }
        Some((puts, deletes))
    }

    fn random_operations(random: &mut Prng, depth: u64) -> Vec<RequestOp> {
        let key = |random: &mut Prng| char::from(b'a' + random.below(12) as u8).to_string();
        let count = random.below(5);
        let draw = |_| match random.below(5 + u64::from(depth > 0)) {
            0..3 => put_op(&key(random)),
            3 => delete_op(&key(random), ""),
            4 => delete_op(&key(random), &key(random)),
            _ => nested(
                random_operations(random, depth - 1),
                random_operations(random, depth - 1),
            ),
        };
        (0..count).map(draw).collect()
    }

    #[test]
    fn the_rule_holds_for_random_transactions() {
        let mut random = Prng::new(11);
        let mut refused = 0;
        for round in 0..20_000 {
            let operations = random_operations(&mut random, 2);
            let expected = naive(&operations).is_some();
            refused += u32::from(!expected);
            assert_eq!(
                Writes::of(&operations).is_ok(),
                expected,
                "round {round}: {operations:?}"
            );
        }
        assert!((2_000..18_000).contains(&refused), "{refused}");
    }

    #[test]
    fn accepted_transactions_can_be_decoded_when_they_are_applied() {
        let deep = |depth| {
            (0..depth).fold(txn_of(vec![put_op("a")], vec![]), |inner, _| {
                txn_of(vec![op(Request::RequestTxn(inner))], vec![])
            })
        };
        assert_eq!(txn(&deep(MAX_TXN_DEPTH), MAX_TXN_OPS), Ok(()));
        assert_eq!(txn(&deep(MAX_TXN_DEPTH + 1), MAX_TXN_OPS), Err(Error::TooManyOps));
        let proposal = InternalRaftRequest {
            txn: Some(deep(MAX_TXN_DEPTH)),
            ..InternalRaftRequest::default()
        };
        assert!(InternalRaftRequest::decode(&proposal.encode_to_vec()[..]).is_ok());
    }

    #[test]
    fn transactions_are_classified_by_their_outermost_operations() {
        let local = |serializable| {
            op(Request::RequestRange(RangeRequest {
                key: "a".into(),
                serializable,
                ..RangeRequest::default()
            }))
        };
        let table = [
            (txn_of(vec![], vec![]), (true, true)),
            (txn_of(vec![local(true)], vec![local(true)]), (true, true)),
            (txn_of(vec![local(true)], vec![local(false)]), (true, false)),
            (txn_of(vec![local(true)], vec![put_op("a")]), (false, false)),
            (txn_of(vec![nested(vec![local(true)], vec![])], vec![]), (false, false)),
            (txn_of(vec![RequestOp::default()], vec![]), (false, false)),
        ];
        for (request, expected) in table {
            assert_eq!(
                (is_read_only(&request), is_serializable(&request)),
                expected,
                "{request:?}"
            );
        }
    }

    #[test]
    fn a_transaction_costs_its_dearer_branch() {
        let put_a = PutRequest {
            key: "a".into(),
            value: "12345".into(),
            ..PutRequest::default()
        };
        assert_eq!(put_cost(&put_a), 262);
        let request = txn_of(
            vec![
                put_op("a"),
                nested(vec![put_op("bb")], vec![put_op("ccc"), delete_op("d", "")]),
            ],
            vec![put_op("e"), range_op("f")],
        );
        assert_eq!(txn_cost(&request), 257 + 259);
        assert_eq!(txn_cost(&txn_of(vec![delete_op("a", "b")], vec![range_op("a")])), 0);
    }

    #[test]
    fn a_request_without_cost_always_fits() {
        assert!(fits_quota(0, 100, Some(10)));
        assert!(fits_quota(9, 0, Some(10)));
        assert!(!fits_quota(10, 0, Some(10)));
        assert!(fits_quota(10, u64::MAX, None));
        assert!(!fits_quota(10, u64::MAX, Some(u64::MAX)));
    }
}
