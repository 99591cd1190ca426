//! The seam between serving and an executor: the traits that a runtime crate implements, and hyper's traits built on
//! them. The sockets that pass through it, TCP and Unix, are in `sockets`.
//!
//! A runtime is a fixed set of workers, each a thread with a single-threaded executor. A connection stays on one
//! worker, so its requests share no queue with other cores. Code outside the seam is not generic over the runtime.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use hyper::rt::ReadBufCursor;
use quoin_core::time::Instant;

use crate::clock::Clock;
use crate::running::Ending;
use crate::threads;

pub use crate::sockets::{Acceptor, Address, Stream};

/// A future that may move between threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Work for an executor.
pub type Task = BoxFuture<()>;

/// A wait until a moment.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// Serves a connection on its worker.
pub type Serve = Box<dyn FnOnce(Box<dyn Socket>) -> Task + Send>;

/// An executor with its sockets and timers.
pub trait Runtime: Send + Sync + 'static {
    /// The runtime's name, for the log.
    fn name(&self) -> &'static str;

    /// The clock of [`Runtime::sleep_until`].
    fn clock(&self) -> Clock;

    /// The announcement of a worker's death, for workers that are started with [`threads::spawn`].
    fn ending(&self) -> Ending {
        Ending::default()
    }

    /// Resolves at the moment, or soon if it has passed.
    fn sleep_until(&self, moment: Instant) -> Sleep;

    /// Runs a task: on the calling worker, or on one of the workers if called from another thread. A panic ends only
    /// that task ([`threads::contained`]).
    fn spawn(&self, task: Task);

    /// Registers a bound listener with the calling worker's poller.
    ///
    /// # Errors
    /// The error of the executor's poller.
    fn listen(&self, acceptor: Acceptor) -> io::Result<Box<dyn Listener>>;

    /// Registers a connection with the calling worker's poller.
    ///
    /// # Errors
    /// The error of the executor's poller.
    fn attach(&self, stream: Stream) -> io::Result<Box<dyn Socket>>;

    /// Gives a connection to the next worker in turn, and serves it there. A panic ends only that connection. A
    /// connection that the poller refuses is dropped, so that its client sees it closed.
    fn place(&self, connection: Stream, serve: Serve);
}

/// A listening socket. Its connections belong to no worker until [`Runtime::place`] gives them to one.
pub trait Listener: Send {
    /// The next connection.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Stream>>;
}

/// A connected byte stream on its worker.
pub trait Socket: Send + Unpin + 'static {
    /// Reads into `buffer`; 0 is the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes from `bytes`.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Ends the writing side.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// Opens a connection that belongs to the calling worker.
///
/// # Errors
/// The kernel's error if there is no connection.
pub async fn connect(runtime: &Arc<dyn Runtime>, address: &Address) -> io::Result<Box<dyn Socket>> {
    let mut socket = runtime.attach(Stream::begin(address)?)?;
    // The kernel accepts no write, not even of zero bytes, until the connection is made; if that fails, the write has
    // the error.
    poll_fn(|cx| socket.poll_write(cx, &[])).await?;
    Ok(socket)
}

/// The largest number of bytes that one read takes from a socket.
const READ_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    /// The buffer that reads use before hyper takes the bytes. There is one per worker, so an idle connection needs no
    /// buffer, and hyper's own buffer, which may be uninitialised, is only filled by copying.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES_MAX]);
}

/// Reads from a socket into hyper's buffer; returns the number of bytes, 0 at the end of the stream.
pub fn read_into(
    socket: &mut dyn Socket,
    cx: &mut Context<'_>,
    mut into: ReadBufCursor<'_>,
) -> Poll<io::Result<usize>> {
    let room = into.remaining();
    read_with(socket, cx, room, |bytes| {
        into.put_slice(bytes);
        bytes.len()
    })
}

/// Reads at most `room` bytes from a socket, calls `take` with them and returns its result. At the end of the stream
/// there are no bytes.
pub(crate) fn read_with<T>(
    socket: &mut dyn Socket,
    cx: &mut Context<'_>,
    room: usize,
    take: impl FnOnce(&[u8]) -> T,
) -> Poll<io::Result<T>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let room = room.min(scratch.len());
        socket
            .poll_read(cx, &mut scratch[..room])
            .map_ok(|length| take(&scratch[..length]))
    })
}

/// hyper's executor on a [`Runtime`]: a future that is ready at its first poll never becomes a task.
#[derive(Clone)]
pub struct Executor(pub Arc<dyn Runtime>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, future: F) {
        // A panic ends only the call that it came from.
        let mut future = Box::pin(threads::contained(future));
        // Most requests wait for nothing: they are answered here, while the connection's task runs, and their answers
        // leave in one write at its end. Wakes are lost, but a spawned task is polled at least once.
        if future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
        {
            self.0.spawn(future);
        }
    }
}

/// hyper's timer on a [`Runtime`].
#[derive(Clone)]
pub struct Timer(pub Arc<dyn Runtime>);

/// A [`Sleep`] with hyper's trait.
struct TimerSleep(Sleep);

impl Future for TimerSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl hyper::rt::Sleep for TimerSleep {}

impl hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(TimerSleep(self.0.sleep_until(self.0.clock().now() + duration)))
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        let clock = self.0.clock();
        let wait = deadline.saturating_duration_since(clock.at(clock.now()));
        self.sleep(wait)
    }
}

/// Wakes a thread that waits in [`block_on`].
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on the calling thread, which must not be a worker.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
