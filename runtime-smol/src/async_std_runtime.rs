//! Quoin on async-std: its executor, which has threads of its own, with the sockets and timers of smol's reactor.

use std::io;
use std::sync::Arc;

use quoin_core::time::Instant;
use quoin_runtime::clock::Clock;
use quoin_runtime::process::Host;
use quoin_runtime::seam::{Acceptor, Listener, Runtime, Serve, Sleep, Socket, Stream, Task};
use quoin_runtime::threads;

use crate::net;

/// async-std's executor, which is global and starts when it is first used.
#[derive(Debug)]
pub struct AsyncStdRuntime {
    clock: Clock,
}

impl AsyncStdRuntime {
    /// A handle of the executor.
    pub fn start(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock })
    }

    /// A handle of the executor, and the signals that end the process.
    pub fn host(clock: Clock) -> io::Result<Host> {
        Ok(Host {
            runtime: Self::start(clock),
            signal: net::first_signal()?,
        })
    }
}

impl Runtime for AsyncStdRuntime {
    fn name(&self) -> &'static str {
        "async-std"
    }

    fn clock(&self) -> Clock {
        self.clock
    }

    fn sleep_until(&self, moment: Instant) -> Sleep {
        net::sleep_until(self.clock, moment)
    }

    fn spawn(&self, task: Task) {
        // Dropping the handle does not cancel the task.
        drop(async_std::task::spawn(threads::contained(task)));
    }

    fn listen(&self, acceptor: Acceptor) -> io::Result<Box<dyn Listener>> {
        net::listen(acceptor)
    }

    fn attach(&self, stream: Stream) -> io::Result<Box<dyn Socket>> {
        net::attach(stream)
    }

    fn place(&self, connection: Stream, serve: Serve) {
        drop(async_std::task::spawn(threads::contained(net::serve(
            connection, serve,
        ))));
    }
}
