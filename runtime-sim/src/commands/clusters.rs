//! `run` and `replay`: whole clusters, one for each seed.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use quoin_core::mutant::Mutant;
use quoin_tools::{Progress, interrupt, note, say};

use super::{cpu_time, faults, mutants, refused};
use crate::check::Coverage;
use crate::cluster::campaign::{Campaign, judge_of, judged, run_of};
use crate::cluster::plan::Shape;
use crate::cluster::shrink::shrink;
use crate::cluster::{Failure, Options, Tracing};

/// The largest number of runs for reducing a list of faults.
const SHRINK_RUNS_MAX: u64 = 400;
/// Seeds of a campaign without a given number.
const SEEDS: u64 = 100;

/// The form of a seed's runs, and their settings.
#[derive(Args, Clone, Debug, Default)]
pub struct Which {
    /// Founding members of each cluster; drawn from the seed if this is not given
    #[arg(long, value_name = "N", value_parser = members())]
    pub members: Option<usize>,
    /// Only long runs, for situations that take minutes
    #[arg(long)]
    pub long: bool,
    /// Activates the known bug of this name; needs a development build, or one with the feature `mutants`
    #[arg(long, value_name = "NAME", value_parser = mutants::names(), hide_possible_values = true)]
    pub mutant: Option<Mutant>,
    /// Reduces the faults of a failing run to those it needs
    #[arg(long)]
    pub shrink: bool,
}

/// The arguments of `run`.
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// How many clusters
    #[arg(long, value_name = "N", default_value_t = SEEDS, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub from: u64,
    #[command(flatten)]
    pub(super) of: Which,
    /// Threads; as many as the machine has cores if this is not given
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub jobs: Option<usize>,
    /// Lists how often each situation was met
    #[arg(long)]
    pub coverage: bool,
}

/// The arguments of `replay`.
#[derive(Args, Clone, Debug)]
pub struct Replay {
    /// The seed
    #[arg(value_name = "SEED")]
    pub seed: u64,
    #[command(flatten)]
    pub(super) of: Which,
    /// Writes every event to standard error, not only the last ones
    #[arg(long)]
    pub trace: bool,
}

fn members() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=5)
}

/// `run`: many clusters, one for each seed.
#[must_use]
pub fn run(asked: &Run) -> ExitCode {
    if let Err(words) = mutants::put_in(asked.of.mutant) {
        return refused(&words);
    }
    match many(asked) {
        Ok(total) => {
            faults::keep(&total.campaign.struck);
            let (points, met) = total.coverage.met();
            say(format_args!("{met} of {points} situations were met"));
            say(total.campaign.met);
            if asked.coverage {
                say(total.coverage.table().trim_end());
            }
            ExitCode::SUCCESS
        }
        // Once more, with everything that helps to understand it.
        Err(failure) => {
            let options = options(&asked.of, Tracing::Kept);
            again(failure.seed, options, asked.of.shrink)
        }
    }
}

/// `replay`: the run of one seed again.
#[must_use]
pub fn replay(asked: &Replay) -> ExitCode {
    if let Err(words) = mutants::put_in(asked.of.mutant) {
        return refused(&words);
    }
    let tracing = if asked.trace { Tracing::Printed } else { Tracing::Kept };
    again(asked.seed, options(&asked.of, tracing), asked.of.shrink)
}

/// The result of a campaign so far.
#[derive(Clone, Default)]
struct Total {
    campaign: Campaign,
    coverage: Coverage,
    cpu: Duration,
}

fn locked(total: &Mutex<Total>) -> MutexGuard<'_, Total> {
    total.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the requested runs; the first failure ends them all, and a signal shows the result so far.
fn many(asked: &Run) -> Result<Total, Box<Failure>> {
    let (first, seeds) = (asked.from, asked.seeds);
    let jobs = asked
        .jobs
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let coverage = Coverage::default();
    let total = Arc::new(Mutex::new(Total {
        coverage: coverage.clone(),
        ..Total::default()
    }));
    let so_far = total.clone();
    let handled = interrupt::on_signal(move |signal| {
        let total = locked(&so_far);
        let runs = total.campaign.runs;
        faults::keep(&total.campaign.struck);
        say(format_args!(
            "{signal} after {runs} of {seeds} seeds, none of which failed"
        ));
        say(total.campaign.figures(total.cpu));
    });
    if let Err(error) = handled {
        note(format_args!("a signal will end this run without a word: {error}"));
    }
    let progress = Progress::counted("simulated clusters", seeds);
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || -> Result<(), Box<Failure>> {
        let mut spent = cpu_time();
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(seed) = first.checked_add(number).filter(|_| number < seeds) else {
                break;
            };
            let options = options(&asked.of, Tracing::Off);
            let summary = judged(seed, options, &coverage).inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
            let mut total = locked(&total);
            total.campaign.add(&summary);
            let now = cpu_time();
            total.cpu += now.saturating_sub(std::mem::replace(&mut spent, now));
            progress.done();
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        // Of several failures that of the least seed, so that the command gives the same result again.
        let outcomes = threads
            .into_iter()
            .map(|thread| thread.join().expect("runs catch their panics"));
        let failures = outcomes.filter_map(Result::err);
        failures.min_by_key(|failure| failure.seed).map_or(Ok(()), Err)
    })?;
    drop(progress);
    let total = locked(&total).clone();
    say(total.campaign.figures(total.cpu));
    Ok(total)
}

fn options(of: &Which, tracing: Tracing) -> Options {
    Options {
        members: of.members,
        tracing,
        shape: of.long.then_some(Shape::Long),
        ..Options::default()
    }
}

/// Repeats one run and shows its last events and its faults; those of a failure are reduced on request.
fn again(seed: u64, options: Options, shrinks: bool) -> ExitCode {
    let run = run_of(seed, options.clone());
    let mut judge = judge_of(run.plan(), &Coverage::default());
    match run.run(&mut judge) {
        Ok(summary) => {
            for line in &summary.last {
                say(line);
            }
            for fault in &summary.faults {
                say(format_args!("fault {fault}"));
            }
            say(format_args!(
                "seed {seed}: {} events, {:?} simulated, trace hash {:032x}; every promise was kept",
                summary.events, summary.simulated, summary.trace_hash
            ));
            ExitCode::SUCCESS
        }
        Err(failure) if shrinks => {
            let before = failure.faults.len();
            let (failure, runs) = {
                let _shown = Progress::waiting(format!("cutting down {before} faults"));
                shrink(failure, &options, SHRINK_RUNS_MAX)
            };
            note(&failure);
            note(format_args!(
                "{} of {before} faults are left after {runs} runs",
                failure.faults.len()
            ));
            ExitCode::FAILURE
        }
        Err(failure) => {
            note(failure);
            ExitCode::FAILURE
        }
    }
}
