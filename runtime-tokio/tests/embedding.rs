//! What is particular to embedding a server on tokio: the example, and the threads.

#![expect(
    clippy::disallowed_methods,
    reason = "a test waits for threads by the clock of the machine"
)]

use std::time::{Duration, Instant};

use quoin_runtime::clock::Clock;
use quoin_runtime::seam::block_on;
use quoin_runtime_tokio::{Server, TokioRuntime};

#[path = "../examples/embed_tokio.rs"]
mod example;

#[test]
fn the_example_runs() {
    example::main().expect("the example runs to its end");
}

#[test]
fn a_runtime_that_is_dropped_ends_its_threads() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = TokioRuntime::start(Clock::new(), 2).expect("threads can be started");
    let builder = Server::builder(folder.path().to_str().expect("it is UTF-8"));
    let server = block_on(builder.start(runtime)).expect("it starts");
    assert_eq!(workers(), 2);
    block_on(server.stop());
    let limit = Instant::now() + Duration::from_secs(20);
    while workers() > 0 {
        assert!(Instant::now() < limit, "workers are left");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How many threads of this process are workers of a runtime.
fn workers() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux lists threads");
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("quoin-worker")).count()
}
