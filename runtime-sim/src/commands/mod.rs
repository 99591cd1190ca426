//! The commands of the command line. Only they use the machine's own time, threads and standard output.

mod clusters;
mod crash;
mod faults;
mod mutants;

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use quoin_tools::{note, say};

pub use clusters::{Replay, Run, Which, replay, run};
pub use crash::{Crash, crash};
pub use faults::{Faults, faults};
pub use mutants::{Mutants, mutants};

use crate::check::LIST;

/// `checkers`: every promise that is checked, by its number.
#[must_use]
pub fn checkers() -> ExitCode {
    for (number, sentence) in LIST {
        say(format_args!("{number:4} {sentence}"));
    }
    ExitCode::SUCCESS
}

/// The exit code of a command line that asks for something that is not there.
fn refused(words: &str) -> ExitCode {
    note(format_args!("error: {words}"));
    ExitCode::from(2)
}

/// What this thread has cost so far; 0 if the system does not report it.
fn cpu_time() -> Duration {
    let first = |text: String| text.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    let nanos = fs::read_to_string("/proc/thread-self/schedstat").ok().and_then(first);
    Duration::from_nanos(nanos.unwrap_or(0))
}
