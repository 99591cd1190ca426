//! Shortens a script that shows a difference: it leaves out halves, quarters and so on down to single steps, then parts
//! of steps, as long as a difference remains.

use quoin_core::proto::etcdserverpb::RequestOp;
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_model::call::Call;

use super::oracle::{Oracle, Planned, Settings};
use super::step::{Moves, Step};
use crate::trouble::Trouble;
use crate::wait::Deadline;

/// The script, planned for servers.
pub(super) fn planned(settings: Settings, steps: &[Step]) -> Vec<Planned> {
    let mut oracle = Oracle::new(settings);
    let mut planned: Vec<_> = steps.iter().map(|step| oracle.plan(step.clone())).collect();
    planned.push(closing(&mut oracle));
    planned
}

/// The last step of every script: it checks that all expected events have arrived, and no others.
pub(super) fn closing(oracle: &mut Oracle) -> Planned {
    Planned {
        step: Step::Pause,
        due: Some(oracle.finish()),
        replies: Vec::new(),
    }
}

/// The shortest script found for which `differs` is true.
///
/// # Errors
/// If `differs` fails.
pub(super) fn shrink(
    settings: Settings,
    mut steps: Vec<Step>,
    deadline: Deadline,
    mut differs: impl FnMut(&[Step]) -> Result<bool, Trouble>,
) -> Result<Vec<Step>, Trouble> {
    let mut size = steps.len().div_ceil(2);
    while size > 0 && !deadline.passed() {
        let mut from = 0;
        let mut found = false;
        while from < steps.len() && !deadline.passed() {
            let left_out = from..(from + size).min(steps.len());
            let candidate = without(settings, &steps, |at| left_out.contains(&at));
            if !candidate.is_empty() && differs(&candidate)? {
                steps = candidate;
                found = true;
            } else {
                from += size;
            }
        }
        if !found || size > steps.len() {
            size = if size == 1 {
                0
            } else {
                size.min(steps.len()).div_ceil(2)
            };
        }
    }
    simplify(steps, deadline, differs)
}

/// The script without some steps; revisions named by the others are adjusted.
fn without(settings: Settings, steps: &[Step], is_left_out: impl Fn(usize) -> bool) -> Vec<Step> {
    let (mut whole, mut rest) = (Oracle::new(settings), Oracle::new(settings));
    let mut moves = Moves::default();
    moves.note(whole.state().revision(), rest.state().revision());
    let mut kept = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        if !is_left_out(at) {
            let mut step = step.clone();
            moves.apply(&mut step);
            kept.push(rest.plan(step).step);
        }
        whole.plan(step.clone());
        moves.note(whole.state().revision(), rest.state().revision());
    }
    kept
}

/// Removes parts of steps.
fn simplify(
    mut steps: Vec<Step>,
    deadline: Deadline,
    mut differs: impl FnMut(&[Step]) -> Result<bool, Trouble>,
) -> Result<Vec<Step>, Trouble> {
    for at in 0..steps.len() {
        let mut tried = 0;
        while !deadline.passed() {
            let mut candidate = steps.clone();
            if !simplify_step(&mut candidate[at], tried) {
                break;
            }
            if candidate[at] != steps[at] && differs(&candidate)? {
                steps = candidate;
            } else {
                tried += 1;
            }
        }
    }
    Ok(steps)
}

/// Simplifies the `nth` part of a step; returns whether there is one.
fn simplify_step(step: &mut Step, nth: usize) -> bool {
    match step {
        Step::Ask(Call::Txn(txn)) => {
            let (compares, success) = (txn.compare.len(), txn.success.len());
            if nth < compares {
                txn.compare.remove(nth);
                return true;
            }
            simplify_ops(&mut txn.success, nth - compares) || {
                let nth = (nth - compares).checked_sub(success);
                nth.is_some_and(|nth| simplify_ops(&mut txn.failure, nth))
            }
        }
        Step::Ask(Call::Put(put)) => {
            match nth {
                0 => put.lease = 0,
                1 => put.prev_kv = false,
                2 => put.value = "v".into(),
                _ => return false,
            }
            true
        }
        Step::Ask(Call::Range(range)) => {
            match nth {
                0 => range.limit = 0,
                1 => range.revision = 0,
                2 => (range.sort_order, range.sort_target) = (0, 0),
                3 => (range.min_mod_revision, range.max_mod_revision) = (0, 0),
                4 => (range.min_create_revision, range.max_create_revision) = (0, 0),
                5 => range.serializable = false,
                6 => range.keys_only = false,
                _ => return false,
            }
            true
        }
        Step::Ask(_)
        | Step::Bare(_)
        | Step::Brief(_)
        | Step::Defragment
        | Step::Expire { .. }
        | Step::Pause
        | Step::Reset(_)
        | Step::Watch(..) => false,
    }
}

/// Leaves out the `nth` operation, or replaces it by the operations nested in it; returns whether it exists.
fn simplify_ops(ops: &mut Vec<RequestOp>, nth: usize) -> bool {
    if nth >= ops.len() {
        return false;
    }
    // Perhaps only the nested operations matter.
    if let Some(Op::RequestTxn(nested)) = &ops[nth].request
        && nested.compare.is_empty()
        && !nested.success.is_empty()
    {
        let inner = nested.success.clone();
        ops.splice(nth..=nth, inner);
    } else {
        ops.remove(nth);
    }
    true
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quoin_core::proto::etcdserverpb::{PutRequest, RangeRequest};

    use super::*;

    fn put(key: String) -> Step {
        Step::Ask(Call::Put(PutRequest {
            key: key.into(),
            ..PutRequest::default()
        }))
    }

    #[test]
    fn a_script_shrinks_to_the_relevant_steps_and_adjusts_revisions() {
        let mut steps: Vec<Step> = (0..40).map(|at| put(format!("{at}"))).collect();
        // Reads the write of step 17, at its revision.
        steps.push(Step::Ask(Call::Range(RangeRequest {
            key: "17".into(),
            revision: 19,
            ..RangeRequest::default()
        })));
        let mut asked = 0;
        let shrunk = shrink(
            Settings::default(),
            steps,
            Deadline::after(Duration::from_secs(60)),
            |steps| {
                asked += 1;
                let written = steps.iter().position(|step| *step == put("17".to_owned()));
                let revision = written.map(|at| at as i64 + 2);
                Ok(steps
                    .iter()
                    .any(|step| matches!(step, Step::Ask(Call::Range(range)) if Some(range.revision) == revision)))
            },
        )
        .unwrap();
        assert_eq!(shrunk.len(), 2, "{shrunk:?}");
        assert!(asked < 60, "{asked} tries");
    }
}
