//! The tests of serving, on smol and on async-std's executor.

#[path = "../../runtime/tests/support/mod.rs"]
mod support;

mod smol {
    use std::sync::Arc;

    use quoin_runtime::clock::Clock;
    use quoin_runtime::seam::Runtime;
    use quoin_runtime_smol::SmolRuntime;

    fn start() -> Arc<dyn Runtime> {
        SmolRuntime::start(Clock::new(), 2).expect("threads can be started")
    }

    crate::serving_tests!(start());
}

#[cfg(feature = "async-std")]
mod async_std {
    use std::sync::Arc;

    use quoin_runtime::clock::Clock;
    use quoin_runtime::seam::Runtime;
    use quoin_runtime_smol::AsyncStdRuntime;

    fn start() -> Arc<dyn Runtime> {
        AsyncStdRuntime::start(Clock::new())
    }

    crate::serving_tests!(start());
}
