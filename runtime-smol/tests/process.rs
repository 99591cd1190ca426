//! The tests of a whole process, on smol.

#[path = "../../runtime/tests/support/client.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    reason = "the tests of serving use the rest of it; what fails here fails the test"
)]
mod client;
#[path = "../../runtime/tests/process/mod.rs"]
mod process;

use std::sync::Arc;

use quoin_runtime::clock::Clock;
use quoin_runtime::seam::Runtime;
use quoin_runtime_smol::SmolRuntime;

fn start() -> Arc<dyn Runtime> {
    SmolRuntime::start(Clock::new(), 1).expect("a thread can be started")
}

process_tests!(start(), SmolRuntime::host);
