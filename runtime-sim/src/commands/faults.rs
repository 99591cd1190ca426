//! `faults`: every kind of fault and how often it struck.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use quoin_tools::{note, say};

use super::clusters::{Run, Which, run};
use crate::faults::{FaultKind, Struck};

/// Where the counts of the last campaign are kept.
const COUNTS: &str = "target/quoin-sim-faults.txt";

/// The arguments of `faults`.
#[derive(Args, Clone, Debug)]
pub struct Faults {
    /// Simulates this many clusters first; without it the counts of the last `run` are shown
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: Option<u64>,
    /// The first seed of those
    #[arg(long, value_name = "S", default_value_t = 1, requires = "seeds")]
    pub from: u64,
}

/// `faults`: how often each kind of fault struck in the last campaign, or in one made for it.
#[must_use]
pub fn faults(asked: &Faults) -> ExitCode {
    if let Some(seeds) = asked.seeds {
        let campaign = Run {
            seeds,
            from: asked.from,
            of: Which::default(),
            jobs: None,
            coverage: false,
        };
        if run(&campaign) != ExitCode::SUCCESS {
            return ExitCode::FAILURE;
        }
    }
    match fs::read_to_string(COUNTS) {
        Ok(counts) => {
            say(counts.trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => {
            note(format_args!(
                "no counts of an earlier run at {COUNTS} ({error}): `faults --seeds 100` makes one"
            ));
            ExitCode::FAILURE
        }
    }
}

/// Keeps the counts of a campaign for `faults`.
pub(super) fn keep(struck: &Struck) {
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
        note(format_args!("the counts are not kept: {error}"));
    }
}
