//! The tests of serving, on tokio.

#[path = "../../runtime/tests/support/mod.rs"]
mod support;

use std::sync::Arc;

use quoin_runtime::clock::Clock;
use quoin_runtime::seam::Runtime;
use quoin_runtime_tokio::TokioRuntime;

fn start() -> Arc<dyn Runtime> {
    TokioRuntime::start(Clock::new(), 2).expect("threads can be started")
}

serving_tests!(start());
