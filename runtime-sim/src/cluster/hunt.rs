//! Whether the checkers find deliberate bugs: each mutant is run with one seed after another until a promise is broken.

use std::time::Duration;

use quoin_core::mutant::{self, Mutant};

use super::campaign::judged;
use super::run::Options;
use crate::check::Coverage;

/// A run that may catch a mutant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Trial {
    /// Its seed.
    pub seed: u64,
    /// Whether members talk with each other in bytes.
    pub bytes: bool,
}

impl std::fmt::Display for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let suffix = if self.bytes { " bytes" } else { "" };
        f.pad(&format!("{}{suffix}", self.seed))
    }
}

/// The result of a hunt.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// The mutant.
    pub mutant: Mutant,
    /// The run that caught it and the checker that fired, if it was caught.
    pub caught: Option<(Trial, &'static str)>,
    /// Runs made.
    pub runs: u64,
    /// Their costs.
    pub cpu: Duration,
}

/// The runs that caught mutants before; they are tried first.
#[must_use]
pub fn kept() -> Vec<(Mutant, Trial)> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = words.first().expect("a line has a name");
        let mutant = Mutant::ALL.iter().find(|mutant| mutant.name() == *name);
        let seed = words.get(1).and_then(|seed| seed.parse().ok());
        (
            *mutant.expect("the name is one of the list"),
            Trial {
                seed: seed.expect("a seed follows the name"),
                bytes: words.contains(&"bytes"),
            },
        )
    };
    let lines = include_str!("../../mutants.txt").lines();
    lines.filter(|line| !line.starts_with('#')).map(line).collect()
}

/// Looks for a run that catches `mutant`, for at most `limit` of this thread's `cpu_time`.
#[must_use]
pub fn hunt(
    mutant: Mutant,
    trials: impl IntoIterator<Item = Trial>,
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
    for trial in trials {
        if hunt.cpu >= limit || hunt.caught.is_some() {
            break;
        }
        hunt.runs += 1;
        hunt.caught = checker_that_fires(trial).map(|checker| (trial, checker));
        if hunt.caught.is_some() {
            // A seed that also fails without the mutant does not count.
            mutant::choose(None);
            if checker_that_fires(trial).is_some() {
                hunt.caught = None;
            }
            mutant::choose(Some(mutant));
        }
        hunt.cpu = cpu_time().saturating_sub(begun);
    }
    mutant::choose(None);
    hunt
}

fn checker_that_fires(trial: Trial) -> Option<&'static str> {
    let options = Options {
        bytes: trial.bytes,
        ..Options::default()
    };
    let failed = judged(trial.seed, options, &Coverage::default()).err();
    failed.map(|failure| failure.violation.checker)
}
