//! C3, C4 and C5: the results of reads.
//!
//! A read returns the state of one moment. The allowed moments are a window of the log: for a linearizable read it
//! begins with what was committed when the read was requested, for others with what the member had applied then; it
//! ends with what the member has applied when it answers. Within the window the answer must be the model's.

use quoin_core::error::Error;
use quoin_core::proto::etcdserverpb::request_op::Request as OpRequest;
use quoin_core::proto::etcdserverpb::{LeaseTimeToLiveResponse, RangeRequest, TxnRequest};
use quoin_core::time::Instant;

use super::replay::bare;
use super::{Checker, Op, Truth};
use crate::observe::{Observation, Verdict, Violation, ensure};
use quoin_model::call::{Answer, Call, Refusal};

/// The largest number of moments that are tried for a read whose answer has no revision.
const TRIED_MAX: u64 = 1_000;

/// The checker.
#[derive(Debug, Default)]
pub(super) struct Reads;

/// The moments whose state a read may return.
#[derive(Clone, Copy, Debug)]
struct Window {
    first: u64,
    last: u64,
    /// The promise that is broken if the answer is of another moment.
    checker: &'static str,
}

impl Checker for Reads {
    fn see(&mut self, _at: Instant, seen: &Observation<'_>, truth: &Truth) -> Verdict {
        let Observation::Replied { op, result, .. } = *seen else {
            return Ok(());
        };
        let Some(op) = truth.op(op) else { return Ok(()) };
        match &op.call {
            Call::Range(request) => range(op, request, result, truth),
            Call::Txn(request) if op.call.is_read() => read_txn(op, request, result, truth),
            Call::LeaseLeases => any_moment(window(op, false, truth)?, op, result, truth),
            Call::MemberList(request) => any_moment(window(op, request.linearizable, truth)?, op, result, truth),
            Call::LeaseTimeToLive(_) => {
                // The leader answers, whichever member that is.
                let window = Window {
                    first: op.committed,
                    last: truth.committed(),
                    checker: "C3",
                };
                any_moment(window, op, result, truth)
            }
            Call::Status => status(op, result, truth),
            _ => Ok(()),
        }
    }
}

fn window(op: &Op, linearizable: bool, truth: &Truth) -> Result<Window, Violation> {
    let facts = truth.member(op.member);
    let (applied, life) = facts.map_or((0, 0), |facts| (facts.applied, facts.life));
    let (first, checker) = match linearizable {
        true => (op.committed, "C3"),
        false if life == op.life => (op.applied, "C4"),
        false => (0, "C4"),
    };
    Ok(Window {
        first,
        last: applied,
        checker,
    })
}

impl Window {
    /// The moments of these with this revision.
    fn at_revision(self, op: &Op, revision: i64, truth: &Truth) -> Result<Self, Violation> {
        let model = truth.model();
        let since = model.index_of_revision(revision);
        let until = model
            .index_of_revision(revision + 1)
            .map_or(u64::MAX, |next| next.saturating_sub(1));
        let narrow = Self {
            first: self.first.max(since.unwrap_or(u64::MAX)),
            last: self.last.min(until),
            ..self
        };
        ensure(narrow.first <= narrow.last, self.checker, || {
            format!(
                "{:?} is answered at revision {revision}; asked at entry {}, answered at {}, it must be in {}..={}",
                op.call,
                self.first,
                self.last,
                model.revision_at(self.first),
                model.revision_at(self.last)
            )
        })?;
        Ok(narrow)
    }
}

fn range(op: &Op, request: &RangeRequest, result: Result<&Answer, &Refusal>, truth: &Truth) -> Verdict {
    let window = window(op, !request.serializable, truth)?;
    let model = truth.model();
    let response = match result {
        Ok(Answer::Range(response)) => response,
        Ok(other) => return wrong(window.checker, op, &format!("{other:?}"), "the answer to a range"),
        Err(refusal) => return refused(op, request, window, refusal, truth),
    };
    let revision = response.header.as_ref().map_or(0, |header| header.revision);
    let checker = if request.revision > 0 { "C5" } else { window.checker };
    let moment = window.at_revision(op, revision, truth)?.first;
    let expected = model.range(request, moment);
    let found = (&response.kvs, response.more, response.count);
    match &expected {
        Ok(known) if found == (&known.kvs, known.more, known.count) => Ok(()),
        Ok(_) | Err(_) => wrong(
            checker,
            op,
            &format!("{found:?} at {revision}"),
            &format!("{expected:?}"),
        ),
    }
}

/// A revision is refused as compacted or future exactly if it is that at some allowed moment.
fn refused(op: &Op, request: &RangeRequest, window: Window, refusal: &Refusal, truth: &Truth) -> Verdict {
    let model = truth.model();
    if refusal.message == Error::Compacted.message() {
        let compacted = model.compact_revision_at(window.last);
        return ensure(request.revision > 0 && request.revision < compacted, "C5", || {
            format!("{:?} is refused as compacted, and {compacted} is compacted", op.call)
        });
    }
    if refusal.message == Error::FutureRevision.message() {
        let revision = model.revision_at(window.first);
        return ensure(request.revision > revision, "C5", || {
            format!("{:?} is refused as of the future, and {revision} was there", op.call)
        });
    }
    Ok(())
}

fn read_txn(op: &Op, request: &TxnRequest, result: Result<&Answer, &Refusal>, truth: &Truth) -> Verdict {
    let window = window(op, !is_serializable(request), truth)?;
    if let Err(refusal) = result {
        let known = [Error::Compacted, Error::FutureRevision].map(Error::message);
        if !known.contains(&refusal.message.as_str()) {
            return Ok(());
        }
        return any_moment(
            Window {
                checker: "C5",
                ..window
            },
            op,
            result,
            truth,
        );
    }
    let revision = result.ok().and_then(Answer::header).map_or(0, |header| header.revision);
    any_moment(window.at_revision(op, revision, truth)?, op, result, truth)
}

pub(super) fn is_serializable(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(&op.request, Some(OpRequest::RequestRange(range)) if range.serializable))
}

/// The answer is the model's at one of these moments.
fn any_moment(window: Window, op: &Op, result: Result<&Answer, &Refusal>, truth: &Truth) -> Verdict {
    let is_other_refusal = result.is_err() && !matches!(op.call, Call::Txn(_));
    if is_other_refusal {
        return Ok(());
    }
    ensure(window.first <= window.last, window.checker, || {
        let (first, last) = (window.first, window.last);
        format!(
            "{:?} is answered at entry {last} and {first} was there when it was asked for",
            op.call
        )
    })?;
    let from = window.first.max(window.last.saturating_sub(TRIED_MAX));
    let found = result.map(bare).map_err(Clone::clone);
    let mut expected = Err(Refusal {
        code: 0,
        message: String::new(),
    });
    for moment in (from..=window.last).rev() {
        expected = truth.model().answer(&op.call, moment).map(|answer| bare(&answer));
        if is_equal(&found, &expected) {
            return Ok(());
        }
    }
    if from > window.first {
        return Ok(());
    }
    wrong(window.checker, op, &format!("{found:?}"), &format!("{expected:?}"))
}

/// The longest time that a new leader adds to a lease, in whole seconds.
const EXTENSION_SECONDS: i64 = 3;

/// The model has no time: the remaining time of a lease is at most the granted time, plus a little from a new leader.
/// It may also have run out although the revocation is not in the log yet.
fn is_equal(found: &Result<Answer, Refusal>, expected: &Result<Answer, Refusal>) -> bool {
    match (found, expected) {
        (Ok(Answer::LeaseTimeToLive(found)), Ok(Answer::LeaseTimeToLive(expected))) => {
            let untimed = |response: &LeaseTimeToLiveResponse| LeaseTimeToLiveResponse {
                ttl: 0,
                ..response.clone()
            };
            let is_over = LeaseTimeToLiveResponse {
                ttl: -1,
                granted_ttl: 0,
                keys: Vec::new(),
                ..expected.clone()
            };
            let is_plausible = found.ttl <= expected.ttl.max(0) + EXTENSION_SECONDS;
            *found == is_over || is_plausible && untimed(found) == untimed(expected)
        }
        (Ok(Answer::LeaseLeases(found)), Ok(Answer::LeaseLeases(expected))) => {
            let ids = |leases: &[quoin_core::proto::etcdserverpb::LeaseStatus]| {
                let mut ids: Vec<i64> = leases.iter().map(|lease| lease.id).collect();
                ids.sort_unstable();
                ids
            };
            found.header == expected.header && ids(&found.leases) == ids(&expected.leases)
        }
        _ => found == expected,
    }
}

/// A member's status is of one moment.
fn status(op: &Op, result: Result<&Answer, &Refusal>, truth: &Truth) -> Verdict {
    let Ok(Answer::Status(response)) = result else {
        return Ok(());
    };
    let window = window(op, false, truth)?;
    let (index, revision) = (
        response.raft_applied_index,
        response.header.as_ref().map_or(0, |header| header.revision),
    );
    let expected = truth.model().revision_at(index);
    ensure(
        window.first <= index && index <= window.last && revision == expected,
        "C4",
        || {
            let (first, last) = (window.first, window.last);
            format!(
                "a status says entry {index} and revision {revision}; it must be in {first}..={last} and {expected}"
            )
        },
    )
}

fn wrong(checker: &'static str, op: &Op, found: &str, expected: &str) -> Verdict {
    Err(Violation {
        checker,
        words: format!("{:?} is answered {found} and should be {expected}", op.call),
    })
}
