//! Quoin on tokio: one current-thread runtime per worker, with its sockets, timers and signals.
//!
//! Everything else is in `quoin-runtime`; the binary `quoin-tokio` is `main.rs`. A program that embeds a server needs
//! only this crate: [`Server::builder`] makes one, and `examples/embed_tokio.rs` is a complete program.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, ready};
use std::thread;

use quoin_core::time::Instant;
use quoin_runtime::clock::Clock;
use quoin_runtime::process::{Host, Signal};
use quoin_runtime::running::Ending;
use quoin_runtime::seam::{Acceptor, Listener, Runtime, Serve, Sleep, Socket, Stream, Task};
use quoin_runtime::threads;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net;
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

pub use quoin_core::config;
pub use quoin_runtime::server::{self, Server};

/// The workers: threads of this runtime, which end when it is dropped, or the caller's tokio runtime.
#[derive(Debug)]
pub struct TokioRuntime {
    clock: Clock,
    ending: Ending,
    workers: Vec<Handle>,
    next: AtomicUsize,
    /// Dropped to end the threads.
    _stop: Vec<oneshot::Sender<()>>,
}

impl TokioRuntime {
    /// Starts this many workers, each a thread.
    ///
    /// # Errors
    /// If a thread or a poller cannot be created.
    pub fn start(clock: Clock, workers: usize) -> io::Result<Arc<Self>> {
        let ending = Ending::default();
        let start_worker = |number| start_worker(number, &ending);
        let started = (0..workers.max(1)).map(start_worker).collect::<io::Result<Vec<_>>>()?;
        let (workers, stop) = started.into_iter().unzip();
        Ok(Arc::new(Self {
            clock,
            ending,
            workers,
            next: AtomicUsize::new(0),
            _stop: stop,
        }))
    }

    /// Runs on the caller's tokio runtime, which must have I/O and time enabled and outlive the server.
    pub fn on(handle: Handle) -> Arc<Self> {
        Arc::new(Self {
            clock: Clock::new(),
            ending: Ending::default(),
            workers: vec![handle],
            next: AtomicUsize::new(0),
            _stop: Vec::new(),
        })
    }

    /// Starts one worker per core, and listens for the signals that end the process.
    pub fn host(clock: Clock) -> io::Result<Host> {
        let runtime = Self::start(clock, thread::available_parallelism().map_or(1, usize::from))?;
        let entered = runtime.workers[0].enter();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        drop(entered);
        let first = poll_fn(move |cx| {
            if interrupt.poll_recv(cx).is_ready() {
                return Poll::Ready(Signal::Interrupt);
            }
            terminate.poll_recv(cx).map(|_| Signal::Terminate)
        });
        Ok(Host {
            runtime,
            signal: Box::pin(first),
        })
    }

    /// The calling worker, or the next one in turn.
    fn here(&self) -> Handle {
        let current = Handle::try_current().ok();
        let ours = current.filter(|current| self.workers.iter().any(|worker| worker.id() == current.id()));
        ours.unwrap_or_else(|| self.turn().clone())
    }

    fn turn(&self) -> &Handle {
        &self.workers[self.next.fetch_add(1, Ordering::Relaxed) % self.workers.len()]
    }
}

fn start_worker(number: usize, ending: &Ending) -> io::Result<(Handle, oneshot::Sender<()>)> {
    let (sender, receiver) = mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let work = move || match Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => {
            // The starting thread waits for it.
            let _ = sender.send(Ok(runtime.handle().clone()));
            // Ends with an error when the sender is dropped.
            let _ = runtime.block_on(stopped);
        }
        Err(error) => {
            let _ = sender.send(Err(error));
        }
    };
    threads::spawn(&format!("quoin-worker-{number}"), ending, work)?;
    let started = receiver
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the worker died while it was starting")));
    started.map(|handle| (handle, stop))
}

impl Runtime for TokioRuntime {
    fn name(&self) -> &'static str {
        "tokio"
    }

    fn clock(&self) -> Clock {
        self.clock
    }

    fn ending(&self) -> Ending {
        self.ending.clone()
    }

    fn sleep_until(&self, moment: Instant) -> Sleep {
        let here = self.here();
        let _entered = here.enter();
        Box::pin(tokio::time::sleep_until(self.clock.at(moment).into()))
    }

    fn spawn(&self, task: Task) {
        self.here().spawn(threads::contained(task));
    }

    fn listen(&self, acceptor: Acceptor) -> io::Result<Box<dyn Listener>> {
        let here = self.here();
        let _entered = here.enter();
        Ok(match acceptor {
            Acceptor::Tcp(listener) => Box::new(Watched(net::TcpListener::from_std(listener)?)),
            Acceptor::Unix(listener) => Box::new(Watched(net::UnixListener::from_std(listener)?)),
        })
    }

    fn attach(&self, stream: Stream) -> io::Result<Box<dyn Socket>> {
        let here = self.here();
        let _entered = here.enter();
        attach(stream)
    }

    fn place(&self, connection: Stream, serve: Serve) {
        self.turn().spawn(threads::contained(async move {
            if let Ok(socket) = attach(connection) {
                serve(socket).await;
            }
        }));
    }
}

/// Registers a connection with the poller of the tokio runtime that the calling thread has entered.
fn attach(stream: Stream) -> io::Result<Box<dyn Socket>> {
    Ok(match stream {
        Stream::Tcp(stream) => Box::new(Watched(net::TcpStream::from_std(stream)?)),
        Stream::Unix(stream) => Box::new(Watched(net::UnixStream::from_std(stream)?)),
    })
}

/// A socket registered with tokio's poller.
struct Watched<T>(T);

impl Listener for Watched<net::TcpListener> {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let accepted = ready!(self.0.poll_accept(cx))?;
        Poll::Ready(accepted.0.into_std().map(Stream::Tcp))
    }
}

impl Listener for Watched<net::UnixListener> {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let accepted = ready!(self.0.poll_accept(cx))?;
        Poll::Ready(accepted.0.into_std().map(Stream::Unix))
    }
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Socket for Watched<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let read = Pin::new(&mut self.0).poll_read(cx, &mut buffer);
        read.map_ok(|()| buffer.filled().len())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
