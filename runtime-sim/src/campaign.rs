//! Worlds by the thousand: short ones that die at every single point, long ones that die again and again.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use quoin_core::random::Prng;

use crate::judge::Violation;
use crate::trace::Trace;
use crate::world::{Lies, Tally, World};

/// Lives of a long run.
const LIVES: u64 = 40;

/// One run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Many lives over one disk.
    Long {
        /// Its seed.
        seed: u64,
    },
    /// A short run that dies at one point.
    Short {
        /// Its seed.
        seed: u64,
        /// The point; without one it does not die.
        at: Option<u64>,
    },
}

/// A run that broke a promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which.
    pub case: Case,
    /// What it broke.
    pub violation: Violation,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.violation.0)?;
        write!(f, "rerun: cargo run --release -p quoin-runtime-sim -- crash ")?;
        match self.case {
            Case::Long { seed } => write!(f, "--long {seed}"),
            Case::Short { seed, at: None } => write!(f, "--short {seed}"),
            Case::Short { seed, at: Some(at) } => write!(f, "--short {seed} --at {at}"),
        }
    }
}

/// Runs one case; also what it amounted to before a promise was broken.
pub fn run(case: Case, lies: Lies, trace: Trace) -> (Tally, Trace, Result<(), Failure>) {
    let seed = match case {
        Case::Long { seed } | Case::Short { seed, .. } => seed,
    };
    let mut world = World::new(seed, lies, trace);
    let judged = catch_unwind(AssertUnwindSafe(|| match case {
        Case::Long { .. } => world.run_long(LIVES),
        Case::Short { at, .. } => world.run_short(at),
    }));
    let judged = judged.unwrap_or_else(|panic| Err(Violation(format!("panic: {}", words_of(&*panic)))));
    let (tally, trace) = (world.tally(), world.trace().clone());
    (tally, trace, judged.map_err(|violation| Failure { case, violation }))
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().cloned();
    words
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default()
}

/// A campaign under way.
#[derive(Clone, Debug)]
pub struct Campaign {
    seeds: Prng,
    lies: Lies,
    /// What it amounts to so far.
    pub total: Tally,
    /// Crashes of long runs.
    long: u64,
    /// Crashes of short ones.
    short: u64,
    /// Runs so far.
    pub runs: u64,
}

impl Campaign {
    /// The campaign of `seed`.
    #[must_use]
    pub fn new(seed: u64, lies: Lies) -> Self {
        Self {
            seeds: Prng::new(seed).fork("campaign"),
            lies,
            total: Tally::default(),
            long: 0,
            short: 0,
            runs: 0,
        }
    }

    /// Runs until there were `crashes`, half of them in short runs. `progress` is told now and then.
    ///
    /// # Errors
    /// The first run that broke a promise.
    pub fn run(&mut self, crashes: u64, progress: &mut dyn FnMut(&Self)) -> Result<(), Failure> {
        while self.total.crashes < crashes {
            let seed = self.seeds.next_u64();
            if self.short <= self.long {
                self.sweep(seed, crashes, progress)?;
            } else {
                self.long += self.one(Case::Long { seed })?.crashes;
            }
            progress(self);
        }
        Ok(())
    }

    /// Lets one short run die at every point it has.
    fn sweep(&mut self, seed: u64, crashes: u64, progress: &mut dyn FnMut(&Self)) -> Result<(), Failure> {
        let points = self.one(Case::Short { seed, at: None })?.points;
        for at in 0..points {
            if self.total.crashes >= crashes {
                return Ok(());
            }
            self.short += self.one(Case::Short { seed, at: Some(at) })?.crashes;
            if at.is_multiple_of(256) {
                progress(self);
            }
        }
        Ok(())
    }

    fn one(&mut self, case: Case) -> Result<Tally, Failure> {
        let (tally, _, judged) = run(case, self.lies, Trace::default());
        self.runs += 1;
        self.total.add(&tally);
        judged.map(|()| tally)
    }
}

/// Runs a campaign in silence.
///
/// # Errors
/// The first run that broke a promise.
pub fn campaign(seed: u64, crashes: u64, lies: Lies) -> Result<Tally, Failure> {
    let mut campaign = Campaign::new(seed, lies);
    campaign.run(crashes, &mut |_| {})?;
    Ok(campaign.total)
}
