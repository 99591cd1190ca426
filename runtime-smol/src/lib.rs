//! Quoin on smol: one executor per worker, sockets and timers of its reactor. With the feature `async-std`, also on
//! async-std's executor, which shares that reactor.
//!
//! Everything else is in `quoin-runtime`; the binary `quoin-smol` is `main.rs`. A program that embeds a server needs
//! only this crate: [`Server::builder`] makes one, and `examples/embed_smol.rs` is a complete program.

#[cfg(feature = "async-std")]
mod async_std_runtime;
mod net;

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use async_channel::Sender;
use quoin_core::time::Instant;
use quoin_runtime::clock::Clock;
use quoin_runtime::process::Host;
use quoin_runtime::running::Ending;
use quoin_runtime::seam::{Acceptor, Listener, Runtime, Serve, Sleep, Socket, Stream, Task};
use quoin_runtime::threads;
use smol::Executor;

#[cfg(feature = "async-std")]
pub use async_std_runtime::AsyncStdRuntime;
pub use quoin_core::config;
pub use quoin_runtime::server::{self, Server};

thread_local! {
    /// The number of the worker that runs on this thread.
    static WORKER: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The workers: threads of this runtime, which end when it is dropped, or the caller's executor.
#[derive(Debug)]
pub struct SmolRuntime {
    clock: Clock,
    ending: Ending,
    workers: Vec<Arc<Executor<'static>>>,
    next: AtomicUsize,
    /// Dropped to end the threads.
    _stop: Option<Sender<()>>,
}

impl SmolRuntime {
    /// Starts this many workers, each a thread.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(clock: Clock, workers: usize) -> io::Result<Arc<Self>> {
        let (sender, stopped) = async_channel::bounded::<()>(1);
        let ending = Ending::default();
        let start_worker = |number| {
            let executor = Arc::new(Executor::new());
            let (running, stopped) = (Arc::clone(&executor), stopped.clone());
            let work = move || {
                WORKER.set(Some(number));
                // Ends with an error when the sender is dropped.
                let _ = smol::block_on(running.run(stopped.recv()));
            };
            threads::spawn(&format!("quoin-worker-{number}"), &ending, work)?;
            Ok(executor)
        };
        let workers = (0..workers.max(1)).map(start_worker).collect::<io::Result<_>>()?;
        Ok(Arc::new(Self {
            clock,
            ending,
            workers,
            next: AtomicUsize::new(0),
            _stop: Some(sender),
        }))
    }

    /// Runs on the caller's executor, which the caller must run as long as the server lives.
    pub fn on(executor: Arc<Executor<'static>>) -> Arc<Self> {
        Arc::new(Self {
            clock: Clock::new(),
            ending: Ending::default(),
            workers: vec![executor],
            next: AtomicUsize::new(0),
            _stop: None,
        })
    }

    /// Starts one worker per core, and listens for the signals that end the process.
    pub fn host(clock: Clock) -> io::Result<Host> {
        let runtime = Self::start(clock, thread::available_parallelism().map_or(1, usize::from))?;
        Ok(Host {
            runtime,
            signal: net::first_signal()?,
        })
    }

    fn turn(&self) -> &Executor<'static> {
        &self.workers[self.next.fetch_add(1, Ordering::Relaxed) % self.workers.len()]
    }
}

impl Runtime for SmolRuntime {
    fn name(&self) -> &'static str {
        "smol"
    }

    fn clock(&self) -> Clock {
        self.clock
    }

    fn ending(&self) -> Ending {
        self.ending.clone()
    }

    fn sleep_until(&self, moment: Instant) -> Sleep {
        net::sleep_until(self.clock, moment)
    }

    fn spawn(&self, task: Task) {
        let here = WORKER.get().and_then(|number| self.workers.get(number));
        let executor = here.map_or_else(|| self.turn(), Arc::as_ref);
        executor.spawn(threads::contained(task)).detach();
    }

    fn listen(&self, acceptor: Acceptor) -> io::Result<Box<dyn Listener>> {
        net::listen(acceptor)
    }

    fn attach(&self, stream: Stream) -> io::Result<Box<dyn Socket>> {
        net::attach(stream)
    }

    fn place(&self, connection: Stream, serve: Serve) {
        self.turn()
            .spawn(threads::contained(net::serve(connection, serve)))
            .detach();
    }
}
