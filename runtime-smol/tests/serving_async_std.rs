//! The tests of serving, on async-std's executor.

#![cfg(feature = "async-std")]

#[path = "../../runtime/tests/support/mod.rs"]
mod support;

use std::sync::Arc;

use quoin_runtime::clock::Clock;
use quoin_runtime::seam::Runtime;
use quoin_runtime_smol::AsyncStdRuntime;

fn start() -> Arc<dyn Runtime> {
    AsyncStdRuntime::start(Clock::new())
}

serving_tests!(start());
