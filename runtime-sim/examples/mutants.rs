//! The command `mutants` as a program of its own, so that a test can build it beside the tool that has no bugs in it.
//!
//! `cargo run --example mutants --features quoin-runtime-sim/mutants -- --kept`, as `runtime-sim/tests/it/clusters.rs`
//! runs it: cargo then takes the other crates from the build of the tests.

use std::process::ExitCode;

use clap::Parser;
use quoin_runtime_sim::commands::{self, Mutants};

/// Activates each known bug in turn and reports whether the checkers find it.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    asked: Mutants,
}

fn main() -> ExitCode {
    commands::mutants(&Line::parse().asked)
}
