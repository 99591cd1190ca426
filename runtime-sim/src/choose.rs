//! Draws one of several things.

use quoin_core::random::Prng;

/// One of several, each with the same probability.
pub(crate) fn one_of<T: Copy>(prng: &mut Prng, choices: &[T]) -> T {
    choices[usize::try_from(prng.below(choices.len() as u64)).expect("a slice fits in memory")]
}

/// One of several by weight; `None` if all weights are 0.
pub(crate) fn weighted<T: Copy>(prng: &mut Prng, choices: &[(T, u64)]) -> Option<T> {
    let mut at = prng.below(choices.iter().map(|(_, weight)| weight).sum());
    let found = choices.iter().find(|(_, weight)| match at.checked_sub(*weight) {
        Some(left) => {
            at = left;
            false
        }
        None => true,
    });
    found.map(|(choice, _)| *choice)
}
