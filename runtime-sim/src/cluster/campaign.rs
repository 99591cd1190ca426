//! Runs by the thousand: what they amount to together, and the first that broke a promise; and the commands that make them.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use quoin_core::error::Code;
use quoin_core::id::MemberId;
use quoin_core::time::Instant;

use super::eyes::Tracing;
use super::plan::Plan;
use super::ports::{Clients, Observer};
use super::run::{Failure, Options, Run, Summary};
use crate::call::Answer;
use crate::check::{Checkers, Coverage};
use crate::client::Crowd;
use crate::faults::{FaultKind, Struck};
use crate::observe::{Observation, Verdict, ensure};

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
        observer: impl FnOnce(&Plan) -> Box<dyn Observer>,
    ) -> Result<Summary, Box<Failure>> {
        let run = Run::new(seed, options, clients);
        let mut observer = observer(run.plan());
        let summary = run.run(&mut *observer)?;
        self.runs += 1;
        self.events += summary.events;
        self.simulated += summary.simulated;
        self.struck.add(&summary.struck);
        Ok(summary)
    }

    /// The figures, given what they cost.
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

/// The least demanding observer: nobody gives up without a reason, and a healed cluster goes on. What members themselves
/// assert counts besides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lenient {
    healed: bool,
    answered: u64,
}

impl Observer for Lenient {
    fn see(&mut self, _: Instant, seen: &Observation<'_>) -> Verdict {
        match seen {
            Observation::Faulted { member, fault, excused } => {
                ensure(*excused, "C39", || format!("member {member} gives up: {fault}"))
            }
            Observation::Healed { .. } => {
                self.healed = true;
                Ok(())
            }
            Observation::Replied { result: Ok(answer), .. } if self.healed => {
                let is_local = matches!(answer, Answer::HashKv(_) | Answer::LeaseLeases(_) | Answer::Status(_));
                self.answered += u64::from(!is_local);
                Ok(())
            }
            // A full cluster goes on by saying so.
            Observation::Replied {
                result: Err(refusal), ..
            } if self.healed => {
                self.answered += u64::from(refusal.code == i32::from(Code::ResourceExhausted.number()));
                Ok(())
            }
            Observation::Finished => ensure(!self.healed || self.answered > 0, "liveness", || {
                "nothing was answered after all was well".to_owned()
            }),
            _ => Ok(()),
        }
    }
}

impl Observer for Checkers {
    fn see(&mut self, at: Instant, seen: &Observation<'_>) -> Verdict {
        Self::see(self, at, seen)
    }

    fn tampered(&mut self, member: MemberId) {
        Self::tampered(self, member);
    }

    fn refounded(&mut self, member: MemberId, kept: u64) {
        Self::refounded(self, member, kept);
    }
}

/// Where the counts of the last campaign are kept.
const COUNTS: &str = "target/quoin-sim-faults.txt";

/// Carries out a command of the command line.
#[must_use]
pub fn command(name: &str, args: &[String]) -> ExitCode {
    let number = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1)?.parse::<u64>().ok()
    };
    let members = number("--members").map(|members| usize::try_from(members).unwrap_or(5));
    let from = number("--from").unwrap_or(1);
    let bench = Bench {
        is_lenient: args.iter().any(|arg| arg == "--lenient"),
        coverage: Coverage::default(),
    };
    match name {
        "run" => many(from, number("--seeds").unwrap_or(100), members, &bench),
        "faults" => match number("--seeds") {
            Some(seeds) => {
                let code = many(from, seeds, members, &bench);
                show_counts();
                code
            }
            None => show_counts(),
        },
        _ => {
            let Some(seed) = args.first().and_then(|arg| arg.parse().ok()) else {
                eprintln!("which seed?");
                return ExitCode::from(2);
            };
            let printed = args.iter().any(|arg| arg == "--trace");
            replay(
                seed,
                members,
                if printed { Tracing::Printed } else { Tracing::Kept },
                &bench,
            )
        }
    }
}

/// Who judges the runs of a command.
#[derive(Clone, Debug)]
struct Bench {
    is_lenient: bool,
    coverage: Coverage,
}

impl Bench {
    fn judge(&self, plan: &Plan) -> Box<dyn Observer> {
        if self.is_lenient {
            Box::new(Lenient::default())
        } else {
            Box::new(Checkers::new(self.coverage.clone(), plan.rules()))
        }
    }
}

fn clients(seed: u64, _: &Plan) -> Box<dyn Clients> {
    Box::new(Crowd::new(seed))
}

fn many(from: u64, seeds: u64, members: Option<usize>, bench: &Bench) -> ExitCode {
    let mut campaign = Campaign::default();
    let begun = cpu_time();
    let mut told = begun;
    for seed in from..from + seeds {
        let options = Options {
            members,
            ..Options::default()
        };
        if campaign.run(seed, options, clients, |plan| bench.judge(plan)).is_err() {
            // Once more, with everything that helps to understand it.
            return replay(seed, members, Tracing::Kept, bench);
        }
        if cpu_time().saturating_sub(told) >= Duration::from_secs(2) {
            told = cpu_time();
            println!("seed {seed}: {}", campaign.figures(told.saturating_sub(begun)));
        }
    }
    println!("{}", campaign.figures(cpu_time().saturating_sub(begun)));
    keep_counts(&campaign.struck);
    ExitCode::SUCCESS
}

fn replay(seed: u64, members: Option<usize>, tracing: Tracing, bench: &Bench) -> ExitCode {
    let options = Options {
        members,
        tracing,
        ..Options::default()
    };
    let run = Run::new(seed, options, clients);
    for fault in &run.plan().faults {
        println!("fault {fault}");
    }
    let mut judge = bench.judge(run.plan());
    match run.run(&mut *judge) {
        Ok(summary) => {
            println!(
                "seed {seed}: {} events, {:?} simulated, trace hash {:032x}",
                summary.events, summary.simulated, summary.trace_hash
            );
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn keep_counts(struck: &Struck) {
    let lines: String = FaultKind::ALL
        .iter()
        .map(|kind| {
            format!(
                "{:10} {:20} {:10}  {}\n",
                kind.family(),
                format!("{kind:?}"),
                struck.count(*kind),
                kind.words()
            )
        })
        .collect();
    let kept = Path::new(COUNTS)
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(COUNTS, lines));
    if let Err(error) = kept {
        eprintln!("the counts are not kept: {error}");
    }
}

fn show_counts() -> ExitCode {
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

/// What this thread has cost so far; 0 where the system does not say.
fn cpu_time() -> Duration {
    let first = |text: String| text.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    let nanos = fs::read_to_string("/proc/thread-self/schedstat").ok().and_then(first);
    Duration::from_nanos(nanos.unwrap_or(0))
}
