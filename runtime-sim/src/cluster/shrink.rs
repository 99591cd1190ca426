//! Reduces a failing run: removes faults from its list for as long as the same promise is broken without them.
//!
//! The list is cut, not the seed: every concern draws from a stream of its own, so what is left goes on much as before.
//! The search is delta debugging: everything first, then halves, then smaller and smaller parts.

use super::campaign::judged;
use super::nemesis::Planned;
use super::run::{Failure, Options};
use crate::check::Coverage;

/// The failure with the fewest faults that was found, and how many runs that took.
#[must_use]
pub fn shrink(failure: Box<Failure>, options: &Options, runs_max: u64) -> (Box<Failure>, u64) {
    let (seed, checker) = (failure.seed, failure.violation.checker);
    let (_, smaller, runs) = cut_down(failure.faults.clone(), runs_max, |faults| {
        let options = Options {
            faults: Some(faults.to_vec()),
            ..options.clone()
        };
        let failed = judged(seed, options, &Coverage::default()).err();
        failed.filter(|failure| failure.violation.checker == checker)
    });
    (smaller.unwrap_or(failure), runs)
}

/// Reduces a list for as long as `fails` finds something in the rest; also returns its last finding, and how often it
/// was called.
pub(super) fn cut_down<T>(
    mut faults: Vec<Planned>,
    runs_max: u64,
    fails: impl Fn(&[Planned]) -> Option<T>,
) -> (Vec<Planned>, Option<T>, u64) {
    let (mut last, mut runs, mut parts) = (None, 0, 1);
    while !faults.is_empty() && runs < runs_max {
        let size = faults.len().div_ceil(parts);
        let mut found = None;
        for start in (0..faults.len()).step_by(size) {
            let end = (start + size).min(faults.len());
            let rest = [&faults[..start], &faults[end..]].concat();
            runs += 1;
            found = fails(&rest).map(|failure| (rest, failure));
            if found.is_some() || runs >= runs_max {
                break;
            }
        }
        match found {
            Some((rest, failure)) => {
                faults = rest;
                last = Some(failure);
                parts = (parts / 2).max(1);
            }
            None if size == 1 => break,
            None => parts *= 2,
        }
    }
    (faults, last, runs)
}
