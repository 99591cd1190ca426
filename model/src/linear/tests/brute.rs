//! The definition of linearizability, tried order by order, and the check of an order that is given as a proof. For
//! small histories.

use crate::linear::{OperationOf, Spec};

/// Whether there is an order.
pub(super) fn is_linearizable<S: Spec>(spec: &S, operations: &[OperationOf<S>]) -> bool {
    fn any_order<S: Spec>(spec: &S, operations: &[OperationOf<S>], left: &mut Vec<usize>, state: &S::State) -> bool {
        if left.iter().all(|&index| !operations[index].happened()) {
            return true;
        }
        for position in 0..left.len() {
            let candidate = left.remove(position);
            let is_next = left.iter().all(|&other| !precedes::<S>(operations, other, candidate));
            let operation = &operations[candidate];
            let found = is_next
                && spec
                    .step(state, &operation.input, operation.output.as_ref())
                    .is_some_and(|next| any_order(spec, operations, left, &next));
            left.insert(position, candidate);
            if found {
                return true;
            }
        }
        false
    }
    any_order(spec, operations, &mut (0..operations.len()).collect(), &spec.initial())
}

/// Whether the specification and real time allow the operations in this `order`.
pub(super) fn is_possible<S: Spec>(spec: &S, operations: &[OperationOf<S>], order: &[usize]) -> bool {
    let mut state = spec.initial();
    let mut placed = vec![false; operations.len()];
    for &index in order {
        let waits = (0..operations.len()).any(|other| !placed[other] && precedes::<S>(operations, other, index));
        let operation = &operations[index];
        let Some(next) = spec.step(&state, &operation.input, operation.output.as_ref()) else {
            return false;
        };
        if placed[index] || waits {
            return false;
        }
        placed[index] = true;
        state = next;
    }
    true
}

fn precedes<S: Spec>(operations: &[OperationOf<S>], first: usize, second: usize) -> bool {
    operations[first]
        .returned
        .is_some_and(|returned| returned < operations[second].invoked)
}
