//! Quoin on tokio: one current-thread runtime per worker, with its sockets, timers and signals.
//!
//! Everything else is in `quoin-runtime`; the binary `quoin-tokio` is `main.rs`.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::thread;

use quoin_core::time::Instant;
use quoin_runtime::clock::Clock;
use quoin_runtime::process::{Host, Signal};
use quoin_runtime::running::Ending;
use quoin_runtime::seam::{BoxFuture, Listener, Runtime, Serve, Sleep, Socket, Task};
use quoin_runtime::threads;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};

/// The workers. They run for the rest of the process.
#[derive(Debug)]
pub struct TokioRuntime {
    clock: Clock,
    ending: Ending,
    workers: Vec<Handle>,
    next: AtomicUsize,
}

impl TokioRuntime {
    /// Starts so many workers, each a thread.
    pub fn start(clock: Clock, workers: usize) -> io::Result<Arc<Self>> {
        let ending = Ending::default();
        let start_worker = |number| start_worker(number, &ending);
        let workers = (0..workers.max(1)).map(start_worker).collect::<io::Result<_>>()?;
        Ok(Arc::new(Self {
            clock,
            ending,
            workers,
            next: AtomicUsize::new(0),
        }))
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

    /// The calling worker, or the one whose turn it is.
    fn here(&self) -> Handle {
        Handle::try_current().unwrap_or_else(|_| self.turn().clone())
    }

    fn turn(&self) -> &Handle {
        &self.workers[self.next.fetch_add(1, Ordering::Relaxed) % self.workers.len()]
    }
}

fn start_worker(number: usize, ending: &Ending) -> io::Result<Handle> {
    let (sender, receiver) = mpsc::channel();
    let work = move || match Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => {
            // The starter waits for it.
            let _ = sender.send(Ok(runtime.handle().clone()));
            runtime.block_on(std::future::pending::<()>());
        }
        Err(error) => {
            let _ = sender.send(Err(error));
        }
    };
    threads::spawn(&format!("quoin-worker-{number}"), ending, work)?;
    receiver
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the worker died while it was starting")))
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

    fn listen(&self, listener: TcpListener) -> io::Result<Box<dyn Listener>> {
        let here = self.here();
        let _entered = here.enter();
        Ok(Box::new(TokioListener(tokio::net::TcpListener::from_std(listener)?)))
    }

    fn place(&self, connection: TcpStream, serve: Serve) {
        self.turn().spawn(threads::contained(async move {
            // A connection that the poller refuses is dropped, which its client sees.
            if let Ok(socket) = connection
                .set_nonblocking(true)
                .and_then(|()| tokio::net::TcpStream::from_std(connection))
            {
                serve(Box::new(TokioSocket(socket))).await;
            }
        }));
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<io::Result<Box<dyn Socket>>> {
        Box::pin(async move {
            let socket = tokio::net::TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            Ok(Box::new(TokioSocket(socket)) as Box<dyn Socket>)
        })
    }
}

struct TokioListener(tokio::net::TcpListener);

impl Listener for TokioListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let accepted = self.0.poll_accept(cx);
        accepted.map(|accepted| accepted.and_then(|(socket, address)| Ok((socket.into_std()?, address))))
    }
}

struct TokioSocket(tokio::net::TcpStream);

impl Socket for TokioSocket {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let read = pin!(&mut self.0).poll_read(cx, &mut buffer);
        read.map_ok(|()| buffer.filled().len())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
