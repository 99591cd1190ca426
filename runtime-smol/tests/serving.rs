//! The tests of serving, on smol.

#[path = "../../runtime/tests/support/mod.rs"]
mod support;

use std::sync::Arc;

use quoin_runtime::clock::Clock;
use quoin_runtime::seam::Runtime;
use quoin_runtime_smol::SmolRuntime;

fn start() -> Arc<dyn Runtime> {
    SmolRuntime::start(Clock::new(), 2).expect("threads can be started")
}

serving_tests!(start());
