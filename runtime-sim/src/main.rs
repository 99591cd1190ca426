//! Runs simulations from the command line: whole clusters (`run`, `replay`, `faults`), or one member that dies (`crash`).

use std::process::ExitCode;

use quoin_runtime_sim::campaign::{Campaign, Case, run};
use quoin_runtime_sim::commands::{self, Arguments};
use quoin_runtime_sim::trace::Trace;
use quoin_runtime_sim::world::Lies;

const USAGE: &str = "usage:
  quoin-runtime-sim run [--seeds N] [--from S] [--members N] [--jobs J] [--mutant M] [--coverage] [--shrink]
                                                       clusters, one for each seed
  quoin-runtime-sim replay S [--members N] [--mutant M] [--trace] [--shrink]
                                                       one of them again; with a bug put in, in a build that has them
  quoin-runtime-sim mutants [--only M] [--from S] [--fresh | --kept] [--seconds N]
                                                       whether bugs put in on purpose are found
  quoin-runtime-sim faults [--seeds N] [--from S]      how often each kind of fault struck
  quoin-runtime-sim checkers                           what is checked
  quoin-runtime-sim crash [--crashes N] [--seed S]     one member, crashed at every point: a campaign
  quoin-runtime-sim crash --long S [--trace]           one long run
  quoin-runtime-sim crash --short S [--at P] [--trace] one short run, dying at point P";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arguments = Arguments(args.get(1..).unwrap_or_default());
    match args.first().map(String::as_str) {
        Some("checkers") => commands::checkers(),
        Some("crash") => crash(arguments),
        Some("faults") => commands::faults(arguments),
        Some("mutants") => commands::mutants(arguments),
        Some("replay") => commands::replay(arguments),
        Some("run") => commands::run(arguments),
        Some(_) | None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// One member and its crashes.
fn crash(arguments: Arguments<'_>) -> ExitCode {
    let number = |name: &str| arguments.number(name);
    let long = number("--long").map(|seed| Case::Long { seed });
    let short = number("--short").map(|seed| Case::Short {
        seed,
        at: number("--at"),
    });
    let judged = match long.or(short) {
        Some(case) => {
            let trace = if arguments.has("--trace") {
                Trace::printed()
            } else {
                Trace::default()
            };
            let (tally, _, judged) = run(case, Lies::default(), trace);
            println!("{tally:#?}");
            judged
        }
        None => {
            let (crashes, seed) = (number("--crashes").unwrap_or(10_000), number("--seed").unwrap_or(1));
            println!("seed {seed}, {crashes} crashes");
            let mut campaign = Campaign::new(seed, Lies::default());
            let mut told = 0;
            let judged = campaign.run(crashes, &mut |campaign| {
                if campaign.total.crashes >= told + 500 {
                    told = campaign.total.crashes;
                    println!("{told} crashes in {} runs", campaign.runs);
                }
            });
            println!("{} runs: {:#?}", campaign.runs, campaign.total);
            judged
        }
    };
    match judged {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
