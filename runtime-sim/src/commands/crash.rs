//! `crash`: one member that is crashed at every point of its life.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use quoin_tools::{Progress, interrupt, note, say};

use crate::cluster::Tracing;
use crate::cluster::crash::{Campaign, Case, Failure, Lies, run};

/// The arguments of `crash`: a campaign, or one of its runs.
#[derive(Args, Clone, Debug)]
pub struct Crash {
    /// Crashes of a campaign
    #[arg(long, value_name = "N", default_value_t = 10_000, conflicts_with_all = ["long", "short"])]
    pub crashes: u64,
    /// Seed of a campaign
    #[arg(long, value_name = "S", default_value_t = 1, conflicts_with_all = ["long", "short"])]
    pub seed: u64,
    /// One long run: many lives over one disk
    #[arg(long, value_name = "S", conflicts_with = "short")]
    pub long: Option<u64>,
    /// One short run
    #[arg(long, value_name = "S")]
    pub short: Option<u64>,
    /// The point at which the short run dies; it does not if this is not given
    #[arg(long, value_name = "P", requires = "short")]
    pub at: Option<u64>,
    /// Writes every event of one run to standard error
    #[arg(long)]
    pub trace: bool,
}

/// One member and its crashes.
#[must_use]
pub fn crash(asked: &Crash) -> ExitCode {
    let long = asked.long.map(|seed| Case::Long { seed });
    let short = asked.short.map(|seed| Case::Short { seed, at: asked.at });
    let judged = match long.or(short) {
        Some(case) => {
            let tracing = if asked.trace { Tracing::Printed } else { Tracing::Off };
            let (tally, _, judged) = run(case, Lies::default(), tracing);
            say(format_args!("{tally:#?}"));
            judged
        }
        None => campaign(asked.crashes, asked.seed),
    };
    match judged {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            note(failure);
            ExitCode::FAILURE
        }
    }
}

fn campaign(crashes: u64, seed: u64) -> Result<(), Failure> {
    say(format_args!("seed {seed}, {crashes} crashes"));
    let so_far = Arc::new(Mutex::new(String::from("0 runs")));
    let shown = so_far.clone();
    let handled = interrupt::on_signal(move |signal| {
        let so_far = shown.lock().unwrap_or_else(PoisonError::into_inner);
        say(format_args!("{signal}; no promise was broken in {so_far}"));
    });
    if let Err(error) = handled {
        note(format_args!("a signal will end this run without a word: {error}"));
    }
    let progress = Progress::counted("simulated crashes", crashes);
    let mut campaign = Campaign::new(seed, Lies::default());
    let judged = campaign.run(crashes, &mut |campaign| {
        progress.reached(campaign.total.crashes);
        let figures = format!("{} runs: {:#?}", campaign.runs, campaign.total);
        *so_far.lock().unwrap_or_else(PoisonError::into_inner) = figures;
    });
    drop(progress);
    say(format_args!("{} runs: {:#?}", campaign.runs, campaign.total));
    judged
}
