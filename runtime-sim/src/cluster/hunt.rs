//! Whether the checkers find deliberate bugs: each mutant is run with one seed after another until a promise is broken.

use std::time::Duration;

use quoin_core::mutant::{self, Mutant};

use super::campaign::judged;
use super::run::Options;
use crate::check::Coverage;

/// The result of a hunt.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// The mutant.
    pub mutant: Mutant,
    /// The seed that caught it and the checker that fired, if it was caught.
    pub caught: Option<(u64, &'static str)>,
    /// Runs made.
    pub runs: u64,
    /// Their costs.
    pub cpu: Duration,
}

/// The seeds that caught mutants before; they are tried first.
#[must_use]
pub fn kept() -> Vec<(Mutant, u64)> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = words.first().expect("a line has a name");
        let mutant = Mutant::ALL.iter().find(|mutant| mutant.name() == *name);
        let seed = words.get(1).and_then(|seed| seed.parse().ok());
        (
            *mutant.expect("the name is one of the list"),
            seed.expect("a seed follows the name"),
        )
    };
    let lines = include_str!("../../mutants.txt").lines();
    lines.filter(|line| !line.starts_with('#')).map(line).collect()
}

/// Looks for a seed that catches `mutant`, for at most `limit` of this thread's `cpu_time`.
#[must_use]
pub fn hunt(
    mutant: Mutant,
    seeds: impl IntoIterator<Item = u64>,
    limit: Duration,
    cpu_time: impl Fn() -> Duration,
) -> Hunt {
    let begun = cpu_time();
    let mut hunt = Hunt {
        mutant,
        caught: None,
        runs: 0,
        cpu: Duration::ZERO,
    };
    mutant::choose(Some(mutant));
    for seed in seeds {
        if hunt.cpu >= limit || hunt.caught.is_some() {
            break;
        }
        hunt.runs += 1;
        hunt.caught = checker_that_fires(seed).map(|checker| (seed, checker));
        if hunt.caught.is_some() {
            // A seed that also fails without the mutant does not count.
            mutant::choose(None);
            if checker_that_fires(seed).is_some() {
                hunt.caught = None;
            }
            mutant::choose(Some(mutant));
        }
        hunt.cpu = cpu_time().saturating_sub(begun);
    }
    mutant::choose(None);
    hunt
}

fn checker_that_fires(seed: u64) -> Option<&'static str> {
    let failed = judged(seed, Options::default(), &Coverage::default()).err();
    failed.map(|failure| failure.violation.checker)
}
