//! The end of a runtime's threads. The process must have no other runtime, so this is not part of the serving tests.

#![expect(
    clippy::disallowed_methods,
    reason = "a test waits for threads by the clock of the machine"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use quoin_runtime::seam::{Runtime, block_on};
use quoin_runtime::server::Server;

/// Starts a server on a runtime with two workers and stops it; then no worker may be left.
pub(crate) fn end_with_their_runtime(runtime: Arc<dyn Runtime>) {
    let folder = tempfile::tempdir().expect("a folder");
    let builder = Server::builder(folder.path().to_str().expect("it is UTF-8"));
    let server = block_on(builder.start(runtime)).expect("it starts");
    assert_eq!(count(), 2);
    block_on(server.stop());
    let limit = Instant::now() + Duration::from_secs(20);
    while count() > 0 {
        assert!(Instant::now() < limit, "workers are left");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How many threads of this process are workers of a runtime.
fn count() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux lists threads");
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("quoin-worker")).count()
}
