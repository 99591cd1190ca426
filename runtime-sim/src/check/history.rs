//! C8: checks a short history of clients without the log.
//!
//! Only reads and writes of keys are recorded. A history that other events may have changed, such as the end of a
//! lease, or that grows too long, is not checked.

use std::collections::BTreeMap;

use quoin_core::error::Error;
use quoin_core::proto::etcdserverpb::TxnRequest;
use quoin_core::proto::etcdserverpb::request_op::Request as OpRequest;
use quoin_core::time::Instant;

use super::reads::is_serializable;
use super::replay::{bare, is_about_keys, is_certain};
use super::{Asked, Checker, Point, Truth};
use crate::observe::{Observation, OpId, Verdict, ensure};
use quoin_model::call::{Answer, Call, Refusal};
use quoin_model::etcd::State;
use quoin_model::linear::{self, Operation, OperationOf, Spec};

/// Requests in a history, at most.
const OPERATIONS_MAX: usize = 400;
/// The largest number of requests without a known end: each doubles the work.
const UNKNOWN_MAX: usize = 6;
/// Steps of the search, at most.
const STEPS_MAX: u64 = 20_000;

/// The model as a specification.
struct Sequential;

/// A state of the model; states with the same past are equal.
struct Moment(State);

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest() == other.0.digest()
    }
}

impl Eq for Moment {}

impl Spec for Sequential {
    type State = Moment;
    type Input = Call;
    type Output = Result<Answer, Refusal>;

    fn initial(&self) -> Moment {
        Moment(State::new())
    }

    fn step(&self, state: &Moment, input: &Call, output: Option<&Self::Output>) -> Option<Moment> {
        let mut next = state.0.clone();
        let answer = next.execute(input).map(|answer| bare(&answer));
        output.is_none_or(|output| *output == answer).then_some(Moment(next))
    }

    fn digest(&self, state: &Moment) -> u128 {
        state.0.digest()
    }

    fn hint(&self, _input: &Call, output: &Self::Output) -> Option<i64> {
        let revision = output.as_ref().ok().and_then(Answer::header)?.revision;
        (revision > 0).then_some(revision)
    }

    fn level(&self, state: &Moment) -> Option<i64> {
        Some(state.0.revision())
    }

    fn changes_nothing(&self, input: &Call, output: Option<&Self::Output>) -> bool {
        input.is_read() || matches!(output, Some(Err(_)))
    }
}

/// The checker.
#[derive(Default)]
pub(super) struct History {
    operations: BTreeMap<OpId, OperationOf<Sequential>>,
    is_void: bool,
}

impl Checker for History {
    fn see(&mut self, at: Instant, seen: &Observation<'_>, truth: &Truth) -> Verdict {
        if self.is_void {
            return Ok(());
        }
        match *seen {
            Observation::Invoked { op, client, call, .. } if is_recorded(call) => {
                let operation = Operation {
                    client: client.0,
                    invoked: at.as_nanos(),
                    returned: None,
                    input: call.clone(),
                    output: None,
                };
                self.operations.insert(op, operation);
                self.is_void = self.operations.len() > OPERATIONS_MAX;
                self.note_void(truth);
            }
            Observation::Invoked { call, .. } => {
                self.is_void |= !call.is_read() && is_about_keys(call);
                self.note_void(truth);
            }
            Observation::Returned {
                op,
                result: Some(result),
            } => self.returned(at, op, result),
            Observation::Finished => return self.judge(truth),
            _ => {}
        }
        Ok(())
    }
}

impl History {
    fn note_void(&self, truth: &Truth) {
        if self.is_void {
            truth.note(Point::HistoryVoid);
        }
    }

    fn returned(&mut self, at: Instant, op: OpId, result: Result<&Answer, &Refusal>) {
        let Some(operation) = self.operations.get_mut(&op) else {
            return;
        };
        let of_revisions = [Error::Compacted, Error::FutureRevision].map(Error::message);
        match result {
            Err(refusal) if of_revisions.contains(&refusal.message.as_str()) => {
                operation.output = Some(Err(refusal.clone()));
            }
            Err(refusal) if is_certain(refusal) || operation.input.is_read() => {
                self.operations.remove(&op);
                return;
            }
            Err(_) => return,
            Ok(answer) => operation.output = Some(Ok(bare(answer))),
        }
        operation.returned = Some(at.as_nanos());
    }

    fn judge(&mut self, truth: &Truth) -> Verdict {
        // A read without an answer has no effect on the check.
        let mut operations: Vec<_> = std::mem::take(&mut self.operations).into_values().collect();
        operations.retain(|operation| operation.output.is_some() || !operation.input.is_read());
        let unknown = operations.iter().filter(|operation| operation.output.is_none()).count();
        if unknown > UNKNOWN_MAX || has_other_causes(&operations, truth) {
            truth.note(Point::HistoryVoid);
            return Ok(());
        }
        match linear::check(&Sequential, &operations, STEPS_MAX) {
            linear::Verdict::Violation(violation) => {
                let stuck = violation.stuck.first().and_then(|place| operations.get(*place));
                ensure(false, "C8", || {
                    format!(
                        "{} requests have no order; nothing explains {stuck:?}",
                        operations.len()
                    )
                })
            }
            linear::Verdict::Linearizable { .. } => {
                truth.note(Point::HistoryJudged);
                Ok(())
            }
            linear::Verdict::GaveUp { .. } => {
                truth.note(Point::HistoryVoid);
                Ok(())
            }
        }
    }
}

/// Whether anything except recorded requests made revisions, compacted, or blocked requests.
fn has_other_causes(operations: &[OperationOf<Sequential>], truth: &Truth) -> bool {
    let is_compaction = |operation: &&OperationOf<Sequential>| matches!(operation.input, Call::Compact(_));
    let mut compactions = operations.iter().filter(is_compaction).count();
    let mut entries = (1..=truth.committed()).filter_map(|index| truth.entry(index));
    truth.founded().0 > 0
        || entries.any(|known| match &known.asked {
            Asked::Request(request) => {
                let is_surplus = request.compaction.is_some() && compactions == 0;
                compactions -= usize::from(request.compaction.is_some() && !is_surplus);
                is_surplus
                    || request.alarm.is_some()
                    || (request.lease_revoke.is_some() && !known.outcome.revisions.is_empty())
            }
            Asked::Change(_) | Asked::Nothing => false,
        })
}

/// Only calls on keys, and none with a lease, because leases end by themselves.
fn is_recorded(call: &Call) -> bool {
    match call {
        Call::Put(put) => put.lease == 0,
        Call::Range(range) => !range.serializable,
        Call::Txn(txn) => !(has_leases(txn) || call.is_read() && is_serializable(txn)),
        Call::DeleteRange(_) | Call::Compact(_) => true,
        _ => false,
    }
}

/// Whether a transaction attaches a key to a lease.
fn has_leases(txn: &TxnRequest) -> bool {
    let mut ops = txn.success.iter().chain(&txn.failure);
    ops.any(|op| match &op.request {
        Some(OpRequest::RequestPut(put)) => put.lease != 0,
        Some(OpRequest::RequestTxn(nested)) => has_leases(nested),
        Some(OpRequest::RequestRange(_) | OpRequest::RequestDeleteRange(_)) | None => false,
    })
}
