//! Runs simulations from the command line: whole clusters (`run`, `replay`, `faults`), or one member that is crashed (`crash`).

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use quoin_runtime_sim::commands::{self, Crash, Faults, Mutants, Replay, Run};

const EXIT_CODES: &str =
    "Exit codes: 0 if every promise was kept, 1 if one was broken, 2 if the command line is wrong.";

/// Quoin in a simulated world: whole clusters in one thread of virtual time, each run decided by its seed.
#[derive(Parser)]
#[command(name = "quoin-runtime-sim", version, after_help = EXIT_CODES)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

/// A further command is a variant here, a function in `commands`, and a line in `main`.
#[derive(Subcommand)]
enum Command {
    /// Simulates clusters, one for each seed, under all checkers
    #[command(after_help = "Examples:
  quoin-runtime-sim run --seeds 2000
  quoin-runtime-sim run --seeds 500 --from 70000000 --members 3 --coverage")]
    Run(Run),
    /// Simulates the cluster of one seed and shows its faults and last events
    #[command(after_help = "Examples:
  quoin-runtime-sim replay 42
  quoin-runtime-sim replay 42 --shrink
  quoin-runtime-sim replay 42 --trace 2> events.txt")]
    Replay(Replay),
    /// Activates each known bug in turn and reports whether the checkers find it
    #[command(after_help = "Examples:
  quoin-runtime-sim mutants
  quoin-runtime-sim mutants --only RepeatsEvent --fresh --seconds 60

Without bugs in it, a release build builds itself anew with the feature `mutants`, which takes minutes.")]
    Mutants(Mutants),
    /// Reports how often each kind of fault struck in the last `run`, or in one made now
    #[command(after_help = "Examples:
  quoin-runtime-sim faults
  quoin-runtime-sim faults --seeds 200")]
    Faults(Faults),
    /// Lists every promise that is checked
    #[command(after_help = "Example:
  quoin-runtime-sim checkers")]
    Checkers,
    /// Simulates one member and crashes it at every point
    #[command(after_help = "Examples:
  quoin-runtime-sim crash --crashes 1000000 --seed 2
  quoin-runtime-sim crash --long 7 --trace
  quoin-runtime-sim crash --short 7 --at 120")]
    Crash(Crash),
}

fn main() -> ExitCode {
    match Line::parse().command {
        Command::Checkers => commands::checkers(),
        Command::Crash(asked) => commands::crash(&asked),
        Command::Faults(asked) => commands::faults(&asked),
        Command::Mutants(asked) => commands::mutants(&asked),
        Command::Replay(asked) => commands::replay(&asked),
        Command::Run(asked) => commands::run(&asked),
    }
}
