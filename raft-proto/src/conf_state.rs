//! Comparing membership configurations.

use crate::eraftpb::ConfState;

/// Whether both describe the same configuration; the order and repetition of ids do not matter.
#[must_use]
pub fn conf_state_eq(left: &ConfState, right: &ConfState) -> bool {
    same_ids(&left.voters, &right.voters)
        && same_ids(&left.learners, &right.learners)
        && same_ids(&left.voters_outgoing, &right.voters_outgoing)
        && same_ids(&left.learners_next, &right.learners_next)
        && left.auto_leave == right.auto_leave
}

/// Configurations have few members, for which the quadratic comparison is the cheapest.
fn same_ids(left: &[u64], right: &[u64]) -> bool {
    left == right || (left.iter().all(|id| right.contains(id)) && right.iter().all(|id| left.contains(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_ids_does_not_matter_and_the_ids_do() {
        let state = |voters: &[u64], learners: &[u64]| ConfState::from((voters.to_vec(), learners.to_vec()));
        assert!(conf_state_eq(&state(&[1, 2, 3], &[4]), &state(&[3, 1, 2], &[4])));
        assert!(!conf_state_eq(&state(&[1, 2, 3], &[4]), &state(&[1, 2], &[4])));
        assert!(!conf_state_eq(&state(&[1, 2], &[4]), &state(&[1, 2, 3], &[4])));
        assert!(!conf_state_eq(&state(&[1], &[2]), &state(&[2], &[1])));
        let leaving = ConfState {
            auto_leave: true,
            ..state(&[1], &[])
        };
        assert!(!conf_state_eq(&leaving, &state(&[1], &[])));
    }
}
