//! The reason why a history has no order, as text.

use std::fmt::{Debug, Write as _};

use super::{OperationOf, Spec, Violation};

/// Operations printed before the point at which no operation fits.
const PLACED_SHOWN: usize = 8;

/// Shows the end of the longest order, the state after it, and why each candidate for the next operation does not fit.
#[must_use]
pub fn explain<S>(spec: &S, operations: &[OperationOf<S>], violation: &Violation) -> String
where
    S: Spec<State: Debug, Input: Debug, Output: Debug>,
{
    let mut state = spec.initial();
    for &index in &violation.longest {
        let operation = &operations[index];
        match spec.step(&state, &operation.input, operation.output.as_ref()) {
            Some(next) => state = next,
            None => return format!("operation {index} does not fit where the order has it: {violation:?}"),
        }
    }
    let mut text = format!(
        "no order of {} operations: after {} of them, no next operation fits\n",
        operations.len(),
        violation.longest.len()
    );
    // Writing to a string cannot fail.
    let left_out = violation.longest.len().saturating_sub(PLACED_SHOWN);
    if left_out > 0 {
        let _ = writeln!(text, "  ... {left_out} before");
    }
    for &index in &violation.longest[left_out..] {
        let _ = writeln!(text, "  {}", line::<S>(operations, index));
    }
    let _ = writeln!(text, "state: {state:?}\nnone of these can come next:");
    for &index in &violation.stuck {
        let operation = &operations[index];
        let why = match spec.step(&state, &operation.input, operation.output.as_ref()) {
            None => "not possible in this state",
            Some(_) if operation.happened() => "possible, but then others are not",
            Some(_) => "may have happened, but that does not help",
        };
        let _ = writeln!(text, "  {}: {why}", line::<S>(operations, index));
    }
    text
}

fn line<S>(operations: &[OperationOf<S>], index: usize) -> String
where
    S: Spec<Input: Debug, Output: Debug>,
{
    let operation = &operations[index];
    let until = operation.returned.map_or("?".to_owned(), |time| time.to_string());
    let output = match &operation.output {
        Some(output) => format!("{output:?}"),
        None => "unknown".to_owned(),
    };
    format!(
        "#{index} client {} [{}, {until}] {:?} -> {output}",
        operation.client, operation.invoked, operation.input
    )
}
