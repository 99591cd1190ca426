//! Runs under all checkers, and the totals of several runs.

use std::time::Duration;

use quoin_core::time::Instant;

use super::plan::{Plan, Shape};
use super::ports::Observer;
use super::run::{Failure, Options, Run, Summary};
use super::wire::Met;
use crate::check::{Checkers, Coverage};
use crate::client::Crowd;
use crate::faults::Struck;
use crate::observe::{Observation, Verdict};

/// The totals of several runs.
#[derive(Clone, Debug, Default)]
pub struct Campaign {
    /// Runs so far.
    pub runs: u64,
    /// Events in them.
    pub events: u64,
    /// Time that passed in them.
    pub simulated: Duration,
    /// How often each kind of fault struck.
    pub struck: Struck,
    /// What happened to the exchanges of members.
    pub met: Met,
    /// The situations that were met.
    pub coverage: Coverage,
}

/// The run of `seed`, with its drawn clients.
#[must_use]
pub fn run_of(seed: u64, options: Options) -> Run {
    Run::new(seed, options, |seed, plan| {
        Box::new(match plan.users {
            Some(_) => Crowd::with_users(seed, plan.shape),
            None => Crowd::of(seed, plan.shape),
        })
    })
}

/// All checkers, as a run needs them.
#[must_use]
pub fn judge_of(plan: &Plan, coverage: &Coverage) -> Checkers {
    let checkers = Checkers::new(coverage.clone(), plan.rules()).within(plan.bounds());
    match plan.shape {
        Shape::Short => checkers.with_history(),
        Shape::Long | Shape::Usual => checkers,
    }
}

/// Makes the run of `seed` under all checkers.
///
/// # Errors
/// The first promise that was broken.
pub fn judged(seed: u64, options: Options, coverage: &Coverage) -> Result<Summary, Box<Failure>> {
    let run = run_of(seed, options);
    let mut judge = judge_of(run.plan(), coverage);
    run.run(&mut judge)
}

impl Campaign {
    /// Adds a finished run.
    pub fn add(&mut self, summary: &Summary) {
        self.runs += 1;
        self.events += summary.events;
        self.simulated += summary.simulated;
        self.struck.add(&summary.struck);
        self.met.add(&summary.met);
    }

    /// The figures, with the time they took.
    #[must_use]
    pub fn figures(&self, cpu: Duration) -> String {
        let seconds = cpu.as_secs_f64().max(0.001);
        format!(
            "{} runs, {} events, {:.0} simulated seconds in {seconds:.1} CPU-seconds: {:.0} events and {:.0} simulated seconds \
             per CPU-second",
            self.runs,
            self.events,
            self.simulated.as_secs_f64(),
            self.events as f64 / seconds,
            self.simulated.as_secs_f64() / seconds,
        )
    }
}

impl Observer for Checkers {
    fn see(&mut self, at: Instant, seen: &Observation<'_>) -> Verdict {
        Self::see(self, at, seen)
    }
}
