//! Runs by the thousand: what they amount to together, and the first that broke a promise.

use std::time::Duration;

use super::plan::Plan;
use super::ports::{Clients, Observer};
use super::run::{Failure, Options, Run, Summary};
use crate::faults::Struck;

/// What a number of runs amounts to.
#[derive(Clone, Debug, Default)]
pub struct Campaign {
    /// Runs so far.
    pub runs: u64,
    /// Things that happened in them.
    pub events: u64,
    /// Time that passed in them.
    pub simulated: Duration,
    /// How often each kind of fault struck.
    pub struck: Struck,
}

impl Campaign {
    /// Makes one more run.
    ///
    /// # Errors
    /// A promise that was broken.
    pub fn run(
        &mut self,
        seed: u64,
        options: Options,
        clients: impl FnOnce(u64, &Plan) -> Box<dyn Clients>,
        observer: &mut dyn Observer,
    ) -> Result<Summary, Box<Failure>> {
        let summary = Run::new(seed, options, clients).run(observer)?;
        self.runs += 1;
        self.events += summary.events;
        self.simulated += summary.simulated;
        self.struck.add(&summary.struck);
        Ok(summary)
    }
}
