//! Read-only transactions, carried out in steps. Also the bound on the rows that a writing transaction may read: it is
//! one entry of the log, and is applied in one piece.

use std::mem;

use bytes::Bytes;

use super::applied::header;
use super::counts::KeyCounts;
use super::txn::{check_range, holds_for};
use crate::error::Error;
use crate::limits::MAX_TXN_ROWS;
use crate::mvcc::{Found, Scan, View, successor};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse, RequestOp, ResponseOp, TxnRequest, TxnResponse};

/// A read-only transaction in progress.
#[derive(Debug)]
pub struct TxnScan {
    view: View,
    request: TxnRequest,
    stage: Stage,
    found: TxnFound,
    /// Compares evaluated and ranges begun.
    counts: KeyCounts,
}

/// The next stage of a transaction.
#[derive(Debug)]
enum Stage {
    /// Evaluates the compares from index `at` on. For the compare at `at`, the keys before `from` are done and hold.
    Compares {
        at: usize,
        from: Option<Bytes>,
    },
    /// Reads the ranges of the chosen branch from index `at` on. `scan` is that range if it has begun.
    Ranges {
        at: usize,
        scan: Option<Box<Scan>>,
    },
    Done,
}

/// The result of a transaction.
#[derive(Debug)]
pub struct TxnFound {
    /// Revision of the state it was read from.
    pub revision: i64,
    /// Whether all compares hold.
    pub succeeded: bool,
    /// The result of each range of the chosen branch.
    pub ranges: Vec<Found>,
}

impl TxnScan {
    /// Begins a transaction that [only reads](super::check::is_read_only).
    #[must_use]
    pub fn new(view: &super::View, request: TxnRequest) -> Self {
        Self {
            view: view.kv.clone(),
            request,
            stage: Stage::Compares { at: 0, from: None },
            found: TxnFound {
                revision: view.kv.revision(),
                succeeded: true,
                ranges: Vec::new(),
            },
            counts: KeyCounts::default(),
        }
    }

    /// Continues over about `rows` rows; true once the transaction is complete.
    ///
    /// # Errors
    /// The error of a range, or [`Error::KeyNotFound`] for an operation that is not a range.
    pub fn step(&mut self, rows: usize) -> Result<bool, Error> {
        let mut left = rows.max(1);
        while left > 0 {
            let (next, seen) = match mem::replace(&mut self.stage, Stage::Done) {
                Stage::Compares { at, from } => self.compare(at, from, left)?,
                Stage::Ranges { at, scan } => self.range(at, scan, left)?,
                Stage::Done => return Ok(true),
            };
            self.stage = next;
            left = left.saturating_sub(seen.max(1));
        }
        Ok(matches!(self.stage, Stage::Done))
    }

    /// The reads so far, counted by the rules of etcd's metrics.
    #[must_use]
    pub fn counts(&self) -> KeyCounts {
        self.counts
    }

    /// The result of a complete transaction.
    #[must_use]
    pub fn finish(self) -> TxnFound {
        self.found
    }

    fn compare(&mut self, at: usize, from: Option<Bytes>, rows: usize) -> Result<(Stage, usize), Error> {
        let Some(compare) = self.request.compare.get(at) else {
            return Ok((self.chosen()?, 1));
        };
        let is_first = from.is_none();
        self.counts.ranges += u64::from(is_first);
        let from = from.unwrap_or_else(|| compare.key.clone());
        let (mut last, mut seen, mut fails) = (None, 0, false);
        for pair in self.view.pairs(&from, &compare.range_end).take(rows) {
            (last, seen) = (Some(pair.key), seen + 1);
            fails = !holds_for(compare, Some(pair));
            if fails {
                break;
            }
        }
        let next = Stage::Compares { at: at + 1, from: None };
        let goes_on = seen == rows && !compare.range_end.is_empty();
        Ok(match last.map(successor) {
            _ if fails => {
                self.found.succeeded = false;
                (self.chosen()?, seen)
            }
            None if is_first && !holds_for(compare, None) => {
                self.found.succeeded = false;
                (self.chosen()?, 1)
            }
            Some(from) if goes_on => (Stage::Compares { at, from: Some(from) }, seen),
            _ => (next, seen),
        })
    }

    /// All compares are decided: checks the chosen branch before any part of it is read.
    fn chosen(&self) -> Result<Stage, Error> {
        for op in self.branch() {
            if let Some(Request::RequestRange(range)) = &op.request {
                check_range(&self.view, range)?;
            }
        }
        Ok(Stage::Ranges { at: 0, scan: None })
    }

    fn branch(&self) -> &[RequestOp] {
        if self.found.succeeded {
            &self.request.success
        } else {
            &self.request.failure
        }
    }

    fn range(&mut self, at: usize, scan: Option<Box<Scan>>, rows: usize) -> Result<(Stage, usize), Error> {
        let is_first = scan.is_none();
        let mut scan = match (scan, self.branch().get(at).map(|op| &op.request)) {
            (Some(scan), _) => scan,
            (None, None) => return Ok((Stage::Done, 0)),
            (None, Some(Some(Request::RequestRange(range)))) => Box::new(Scan::new(&self.view, range)?),
            (None, Some(_)) => return Err(Error::KeyNotFound),
        };
        self.counts.ranges += u64::from(is_first);
        if !scan.step(rows) {
            return Ok((Stage::Ranges { at, scan: Some(scan) }, rows));
        }
        self.found.ranges.push(scan.finish());
        Ok((Stage::Ranges { at: at + 1, scan: None }, 1))
    }
}

impl TxnFound {
    /// The response.
    #[must_use]
    pub fn response(self) -> TxnResponse {
        let revision = self.revision;
        let answer = |found: Found| {
            let response = RangeResponse {
                header: header(revision),
                ..found.response()
            };
            ResponseOp {
                response: Some(Response::ResponseRange(response)),
            }
        };
        TxnResponse {
            header: header(revision),
            succeeded: self.succeeded,
            responses: self.ranges.into_iter().map(answer).collect(),
        }
    }
}

/// Refuses a writing transaction whose compares and ranges may read more than [`MAX_TXN_ROWS`] rows: all are read while
/// the entry is applied, and meanwhile the node does nothing else. The branch that reads more counts. Deleted rows do
/// not count, as they do not for a plain deletion. Returns how many rows the transaction may touch at most, including
/// those that it writes and deletes.
///
/// # Errors
/// [`Error::TooManyRows`].
pub(super) fn check_rows(view: &View, request: &TxnRequest) -> Result<usize, Error> {
    let rows = Rows::of(view, request);
    if rows.read > MAX_TXN_ROWS {
        Err(Error::TooManyRows)
    } else {
        Ok(rows.read.saturating_add(rows.written))
    }
}

/// The number of rows that a transaction may touch at most.
#[derive(Clone, Copy, Default)]
struct Rows {
    read: usize,
    written: usize,
}

impl Rows {
    fn of(view: &View, request: &TxnRequest) -> Self {
        let compares = request.compare.iter().map(|compare| Self {
            read: view.rows_to_read(&keys(&compare.key, &compare.range_end)),
            written: 0,
        });
        let branch = |operations: &[RequestOp]| {
            let rows = operations.iter().map(|op| Self::of_op(view, op));
            rows.fold(Self::default(), Self::and)
        };
        let (success, failure) = (branch(&request.success), branch(&request.failure));
        let longer = Self {
            read: success.read.max(failure.read),
            written: success.written.max(failure.written),
        };
        compares.fold(longer, Self::and)
    }

    fn of_op(view: &View, op: &RequestOp) -> Self {
        let (read, written) = match &op.request {
            Some(Request::RequestRange(range)) => (view.rows_to_read(range), 0),
            Some(Request::RequestTxn(nested)) => return Self::of(view, nested),
            Some(Request::RequestPut(_)) => (0, 1),
            Some(Request::RequestDeleteRange(delete)) => (0, view.rows_to_read(&keys(&delete.key, &delete.range_end))),
            None => (0, 0),
        };
        Self { read, written }
    }

    fn and(self, other: Self) -> Self {
        Self {
            read: self.read.saturating_add(other.read),
            written: self.written.saturating_add(other.written),
        }
    }
}

/// A range request for all keys of a range.
fn keys(key: &Bytes, range_end: &Bytes) -> RangeRequest {
    RangeRequest {
        key: key.clone(),
        range_end: range_end.clone(),
        ..RangeRequest::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::lease::Leases;
    use super::super::txn::Plan;
    use super::*;
    use crate::mvcc::Mvcc;
    use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
    use crate::proto::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest};
    use crate::random::Prng;

    fn store(keys: usize) -> Mvcc {
        let mut mvcc = Mvcc::new();
        let mut write = mvcc.begin();
        for key in 0..keys {
            write.put(format!("k{key:05}").into(), format!("{}", key % 7).into(), 0);
        }
        write.end(&mut Vec::new(), &mut Vec::new());
        mvcc
    }

    fn view(mvcc: &Mvcc) -> super::super::View {
        super::super::View {
            kv: mvcc.view(),
            ..super::super::Store::new(super::super::StoreConfig::default()).view()
        }
    }

    fn op(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    fn list(from: &str, to: &str) -> RangeRequest {
        RangeRequest {
            key: from.to_owned().into(),
            range_end: to.to_owned().into(),
            ..RangeRequest::default()
        }
    }

    /// A compare that holds if every key of the range has a version greater than `version`.
    fn compare(from: &str, to: &str, version: i64) -> Compare {
        Compare {
            result: CompareResult::Greater.into(),
            target: CompareTarget::Version.into(),
            key: from.to_owned().into(),
            range_end: to.to_owned().into(),
            target_union: Some(TargetUnion::Version(version)),
        }
    }

    #[test]
    fn a_transaction_in_steps_has_the_result_of_the_same_one_in_the_log() {
        let mut random = Prng::new(3);
        let mut mvcc = store(200);
        let view = view(&mvcc);
        let mut decided = [0, 0];
        for _ in 0..300 {
            let key = |random: &mut Prng| format!("k{:05}", random.below(220));
            let compares = (0..random.below(4)).map(|_| {
                let end = [String::new(), "\0".to_owned(), key(&mut random)][random.below(3) as usize].clone();
                compare(&key(&mut random), &end, -(random.below(8) as i64 / 7))
            });
            let compare = compares.collect();
            let ranges = |random: &mut Prng| {
                let number = random.below(4);
                let range = |_| {
                    op(Request::RequestRange(RangeRequest {
                        revision: random.below(15) as i64 / 14 * 9,
                        limit: random.below(3) as i64 * 5,
                        sort_order: random.below(3) as i32,
                        ..list(&key(random), &key(random))
                    }))
                };
                (0..number).map(range).collect()
            };
            let request = TxnRequest {
                compare,
                success: ranges(&mut random),
                failure: ranges(&mut random),
            };
            let plan = Plan::decide(&view.kv, &request);
            let expected = plan.check(&view.kv, &Leases::default(), &mut 0).map(|()| {
                let mut write = mvcc.begin();
                let response = plan.run(&mut write, &mut Leases::default(), true).unwrap();
                TxnResponse {
                    header: header(view.kv.revision()),
                    ..response
                }
            });
            let mut scan = TxnScan::new(&view, request.clone());
            let in_steps = loop {
                match scan.step(1 + random.below(9) as usize) {
                    Ok(false) => {}
                    Ok(true) => break Ok(scan.finish().response()),
                    Err(error) => break Err(error),
                }
            };
            assert_eq!(in_steps, expected, "{request:?}");
            decided[usize::from(in_steps.is_ok_and(|response| response.succeeded))] += 1;
        }
        assert!(decided.iter().all(|times| *times > 30), "{decided:?}");
    }

    #[test]
    fn a_step_of_compares_is_bounded() {
        let request = TxnRequest {
            compare: vec![compare("k", "l", 0); 3],
            success: vec![op(Request::RequestRange(list("k", "l"))); 2],
            failure: Vec::new(),
        };
        let mut scan = TxnScan::new(&view(&store(1_000)), request);
        let mut steps = 1;
        while !scan.step(100).unwrap() {
            steps += 1;
        }
        assert!((50..60).contains(&steps), "{steps}");
        assert_eq!(scan.finish().ranges.len(), 2);
    }

    #[test]
    fn the_rows_that_a_writing_transaction_would_read_are_bounded_before_it_is_proposed() {
        let view = view(&store(MAX_TXN_ROWS / 2));
        let put = || {
            op(Request::RequestPut(PutRequest {
                key: "a".into(),
                ..PutRequest::default()
            }))
        };
        let all = || op(Request::RequestRange(list("k", "l")));
        let deletion = || {
            op(Request::RequestDeleteRange(DeleteRangeRequest {
                key: "k".into(),
                range_end: "l".into(),
                prev_kv: true,
            }))
        };
        let every = |version| compare("k", "l", version);
        let txn = |compare: usize, success: Vec<RequestOp>, failure: Vec<RequestOp>| TxnRequest {
            compare: vec![every(0); compare],
            success,
            failure,
        };
        let nested = |request| op(Request::RequestTxn(request));
        let refused = Err(Error::TooManyRows);
        let half = MAX_TXN_ROWS / 2;
        for (request, expected) in [
            (txn(0, vec![put()], vec![]), Ok(1)),
            (txn(2, vec![], vec![]), Ok(2 * half)),
            (txn(3, vec![], vec![]), refused),
            (txn(0, vec![all(), all()], vec![all()]), Ok(2 * half)),
            (txn(1, vec![all(), put()], vec![all()]), Ok(2 * half + 1)),
            (txn(1, vec![all()], vec![all(), all()]), refused),
            (
                txn(1, vec![nested(txn(1, vec![], vec![put()]))], vec![]),
                Ok(2 * half + 1),
            ),
            (txn(1, vec![nested(txn(1, vec![], vec![all()]))], vec![]), refused),
            (txn(0, vec![deletion(); 5], vec![]), Ok(5 * half)),
            (txn(2, vec![deletion()], vec![]), Ok(3 * half)),
        ] {
            assert_eq!(view.check_txn(&request), expected, "{request:?}");
        }
    }
}
