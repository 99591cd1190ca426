//! Sockets, timers and signals of smol's reactor, for any executor.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_signal::Signals;
use futures_core::Stream as _;
use quoin_core::time::Instant;
use quoin_runtime::clock::Clock;
use quoin_runtime::process::Signal;
use quoin_runtime::seam::{Acceptor, BoxFuture, Listener, Serve, Sleep, Socket, Stream};
use smol::{Async, Timer};

/// Resolves at the moment.
pub(crate) fn sleep_until(clock: Clock, moment: Instant) -> Sleep {
    let timer = Timer::at(clock.at(moment));
    Box::pin(async move {
        timer.await;
    })
}

/// Registers a bound listener.
pub(crate) fn listen(acceptor: Acceptor) -> io::Result<Box<dyn Listener>> {
    Ok(Box::new(Watched(Async::new_nonblocking(acceptor)?)))
}

/// Registers a connection.
pub(crate) fn attach(stream: Stream) -> io::Result<Box<dyn Socket>> {
    Ok(Box::new(Watched(Async::new_nonblocking(stream)?)))
}

/// Serves a connection on the executor that polls this future.
pub(crate) async fn serve(connection: Stream, serve: Serve) {
    if let Ok(socket) = attach(connection) {
        serve(socket).await;
    }
}

/// Resolves at the first signal that asks the process to end.
pub(crate) fn first_signal() -> io::Result<BoxFuture<Signal>> {
    let mut signals = Signals::new([async_signal::Signal::Int, async_signal::Signal::Term])?;
    Ok(Box::pin(poll_fn(move |cx| {
        Pin::new(&mut signals).poll_next(cx).map(|signal| match signal {
            Some(Ok(async_signal::Signal::Int)) => Signal::Interrupt,
            // An error, or the end of the stream, ends the process too: later signals could not be received.
            Some(_) | None => Signal::Terminate,
        })
    })))
}

/// A socket registered with the reactor.
struct Watched<T>(Async<T>);

impl Listener for Watched<Acceptor> {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        loop {
            match self.0.get_ref().accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.0.poll_readable(cx))?,
                result => return Poll::Ready(result),
            }
        }
    }
}

impl Socket for Watched<Stream> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.0.get_ref().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.0.poll_readable(cx))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.0.get_ref().write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.0.poll_writable(cx))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.get_ref().shutdown())
    }
}
