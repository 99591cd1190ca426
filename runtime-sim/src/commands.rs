//! The commands of the command line about whole clusters. They alone know the machine's own time, and threads.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::check::{Coverage, LIST};
use crate::cluster::campaign::{Campaign, judge_of, judged, run_of};
use crate::cluster::shrink::shrink;
use crate::cluster::{Failure, Options, Tracing};
use crate::faults::{FaultKind, Struck};

/// Where the counts of the last campaign are kept.
const COUNTS: &str = "target/quoin-sim-faults.txt";
/// Seeds of a campaign that nobody gave a number.
const SEEDS: u64 = 100;
/// Progress is told so often.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// Runs that cutting down a list of faults may take.
const SHRINK_RUNS_MAX: u64 = 400;

/// What follows a command.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a>(pub &'a [String]);

impl Arguments<'_> {
    /// The number behind a name.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        let at = self.0.iter().position(|arg| arg == name)?;
        self.0.get(at + 1)?.parse().ok()
    }

    /// Whether the name is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|arg| arg == name)
    }

    fn members(&self) -> Option<usize> {
        self.number("--members")
            .and_then(|members| usize::try_from(members).ok())
    }
}

/// `run`: clusters by the thousand, one for each seed.
#[must_use]
pub fn run(arguments: Arguments<'_>) -> ExitCode {
    if let Err(words) = put_in_mutant(arguments) {
        eprintln!("{words}");
        return ExitCode::from(2);
    }
    let from = arguments.number("--from").unwrap_or(1);
    let seeds = arguments.number("--seeds").unwrap_or(SEEDS);
    let jobs = arguments.number("--jobs").and_then(|jobs| usize::try_from(jobs).ok());
    let jobs = jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    match many(from, seeds, jobs.max(1), arguments.members()) {
        Ok(campaign) => {
            keep_counts(&campaign.struck);
            let (points, met) = campaign.coverage.met();
            println!("{met} of {points} remarkable things were met");
            if arguments.has("--coverage") {
                print!("{}", campaign.coverage.table());
            }
            ExitCode::SUCCESS
        }
        // Once more, with everything that helps to understand it.
        Err(failure) => again(
            failure.seed,
            arguments.members(),
            Tracing::Kept,
            arguments.has("--shrink"),
        ),
    }
}

/// `replay S`: the run of one seed again.
#[must_use]
pub fn replay(arguments: Arguments<'_>) -> ExitCode {
    let Some(seed) = arguments.0.first().and_then(|arg| arg.parse().ok()) else {
        eprintln!("which seed?");
        return ExitCode::from(2);
    };
    if let Err(words) = put_in_mutant(arguments) {
        eprintln!("{words}");
        return ExitCode::from(2);
    }
    let tracing = if arguments.has("--trace") {
        Tracing::Printed
    } else {
        Tracing::Kept
    };
    again(seed, arguments.members(), tracing, arguments.has("--shrink"))
}

/// Puts the bug in that `--mutant` asks for.
fn put_in_mutant(arguments: Arguments<'_>) -> Result<(), String> {
    let Some(number) = arguments.number("--mutant") else {
        return Ok(());
    };
    let mut known = quoin_core::mutant::ALL.iter().map(|mutant| mutant.number);
    let Some(number) = known.find(|known| u64::from(*known) == number) else {
        return Err(format!("there is no mutant M{number:02}"));
    };
    choose_mutant(number)
}

#[cfg(feature = "mutants")]
fn choose_mutant(number: u8) -> Result<(), String> {
    quoin_core::mutant::choose(number);
    Ok(())
}

#[cfg(not(feature = "mutants"))]
fn choose_mutant(number: u8) -> Result<(), String> {
    Err(format!(
        "this build has no M{number:02} in it: it needs --features mutants"
    ))
}

/// `faults`: every kind of fault and how often it struck in the last campaign, or in one made for it.
#[must_use]
pub fn faults(arguments: Arguments<'_>) -> ExitCode {
    if arguments.number("--seeds").is_some() && run(arguments) != ExitCode::SUCCESS {
        return ExitCode::FAILURE;
    }
    match fs::read_to_string(COUNTS) {
        Ok(counts) => {
            print!("{counts}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("no counts of a last run: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `checkers`: every promise that is checked, by its number.
#[must_use]
pub fn checkers() -> ExitCode {
    for (number, sentence) in LIST {
        println!("{number:4} {sentence}");
    }
    ExitCode::SUCCESS
}

/// `mutants`: whether each bug that was put in on purpose is found, and by which seed and checker.
#[must_use]
#[cfg(feature = "mutants")]
pub fn mutants(arguments: Arguments<'_>) -> ExitCode {
    use crate::cluster::hunt::{hunt, kept};

    // What is caught by an assertion is no news.
    std::panic::set_hook(Box::new(|_| {}));
    let from = arguments.number("--from").unwrap_or(1);
    let limit = Duration::from_secs(arguments.number("--seconds").unwrap_or(600));
    let only = arguments.number("--only");
    let known = kept();
    let (mut tried, mut caught) = (0, 0);
    println!("mutant  checker  seed      runs  CPU-seconds  what it does wrong");
    let is_known = |number: u8| known.iter().any(|(known, _)| *known == number);
    let wanted = |number: u8| {
        only.is_none_or(|only| only == u64::from(number)) && (!arguments.has("--kept") || is_known(number))
    };
    for mutant in quoin_core::mutant::ALL.iter().filter(|mutant| wanted(mutant.number)) {
        let kept = known
            .iter()
            .filter(|(number, _)| *number == mutant.number)
            .map(|(_, seed)| *seed);
        let kept: Vec<u64> = if arguments.has("--fresh") {
            Vec::new()
        } else {
            kept.collect()
        };
        let found = hunt(*mutant, kept.into_iter().chain(from..), limit, cpu_time);
        let (seed, checker) = found.caught.map_or_else(
            || (String::from("-"), "NONE"),
            |(seed, checker)| (seed.to_string(), checker),
        );
        println!(
            "M{:02}     {checker:7}  {seed:8}  {:4}  {:11.1}  {} ({})",
            mutant.number,
            found.runs,
            found.cpu.as_secs_f64(),
            mutant.words,
            mutant.origin,
        );
        tried += 1;
        caught += u32::from(found.caught.is_some());
    }
    println!("{caught} of {tried} mutants caught");
    if caught == tried {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// `mutants`: this build has none in it, so it has one made that does.
#[must_use]
#[cfg(not(feature = "mutants"))]
pub fn mutants(arguments: Arguments<'_>) -> ExitCode {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let build = [
        "run",
        "--release",
        "-p",
        env!("CARGO_PKG_NAME"),
        "--features",
        "mutants",
        "--",
        "mutants",
    ];
    let done = std::process::Command::new(cargo).args(build).args(arguments.0).status();
    match done {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo does not start: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Makes `seeds` runs from `from` on, by so many threads; the first failure ends them all.
fn many(from: u64, seeds: u64, jobs: usize, members: Option<usize>) -> Result<Campaign, Box<Failure>> {
    let coverage = Coverage::default();
    let total = Mutex::new((Campaign::default(), Duration::ZERO, Duration::ZERO));
    let (next, stop) = (AtomicU64::new(from), AtomicBool::new(false));
    let work = || -> Result<(), Box<Failure>> {
        let mut spent = cpu_time();
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds {
                break;
            }
            let options = Options {
                members,
                ..Options::default()
            };
            let summary = judged(seed, options, &coverage).inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
            let (campaign, cpu, told) = &mut *total;
            campaign.add(&summary);
            let now = cpu_time();
            *cpu += now.saturating_sub(std::mem::replace(&mut spent, now));
            if *cpu >= *told + TELL_EVERY {
                *told = *cpu;
                println!("seed {seed}: {}", campaign.figures(*cpu));
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        // Of several failures that of the least seed, so that the command repeats.
        let outcomes = threads
            .into_iter()
            .map(|thread| thread.join().expect("runs catch their panics"));
        let failures = outcomes.filter_map(Result::err);
        failures.min_by_key(|failure| failure.seed).map_or(Ok(()), Err)
    })?;
    let (mut campaign, cpu, _) = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    campaign.coverage = coverage;
    println!("{}", campaign.figures(cpu));
    Ok(campaign)
}

/// Makes one run again and shows it; a failure is cut down if that is asked for.
fn again(seed: u64, members: Option<usize>, tracing: Tracing, shrinks: bool) -> ExitCode {
    let options = Options {
        members,
        tracing,
        ..Options::default()
    };
    let run = run_of(seed, options.clone());
    let mut judge = judge_of(run.plan(), &Coverage::default());
    match run.run(&mut judge) {
        Ok(summary) => {
            println!(
                "seed {seed}: {} events, {:?} simulated, trace hash {:032x}",
                summary.events, summary.simulated, summary.trace_hash
            );
            ExitCode::SUCCESS
        }
        Err(failure) if shrinks => {
            let before = failure.faults.len();
            let (failure, runs) = shrink(failure, &options, SHRINK_RUNS_MAX);
            eprintln!("{failure}");
            eprintln!("{} of {before} faults are left after {runs} runs", failure.faults.len());
            ExitCode::FAILURE
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn keep_counts(struck: &Struck) {
    let mut lines = String::new();
    for kind in FaultKind::ALL {
        let (family, count, words) = (kind.family(), struck.count(*kind), kind.words());
        // Writing to a string cannot fail.
        let _written = writeln!(lines, "{family:10} {:20} {count:10}  {words}", format!("{kind:?}"));
    }
    let kept = Path::new(COUNTS)
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(COUNTS, lines));
    if let Err(error) = kept {
        eprintln!("the counts are not kept: {error}");
    }
}

/// What this thread has cost so far; 0 where the system does not say.
fn cpu_time() -> Duration {
    let first = |text: String| text.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    let nanos = fs::read_to_string("/proc/thread-self/schedstat").ok().and_then(first);
    Duration::from_nanos(nanos.unwrap_or(0))
}
