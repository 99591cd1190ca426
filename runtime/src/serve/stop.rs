//! The signal that ends serving: sent by the server, watched by every listener, connection and stream.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_channel::{Receiver, Sender};
use futures_core::Stream as _;

/// Sends the signal by [`Self::send`], or once every clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Stopper(Sender<Infallible>);

impl Stopper {
    /// Sends the signal now.
    pub(crate) fn send(&self) {
        self.0.close();
    }
}

/// The signals that end a server.
#[derive(Debug)]
pub(crate) struct Stoppers {
    /// No connection of a client is accepted any more; calls in progress may finish.
    stop: Stopper,
    /// Connections of clients are cut.
    abort: Stopper,
    /// The member has ended: connections of peers are cut.
    end: Stopper,
}

impl Stoppers {
    /// The signals, and their receivers in the same order.
    pub(crate) fn new() -> (Self, [Stop; 3]) {
        let [(stop, stopped), (abort, aborted), (end, ended)] = [(); 3].map(|()| stop_signal());
        (Self { stop, abort, end }, [stopped, aborted, ended])
    }

    pub(crate) fn stop(&self) {
        self.stop.send();
    }

    pub(crate) fn abort(&self) {
        self.stop();
        self.abort.send();
    }

    pub(crate) fn end(&self) {
        self.abort();
        self.end.send();
    }
}

/// Waits for the signal; every clone receives it.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Pin<Box<Receiver<Infallible>>>);

/// A signal and its receiver.
pub(crate) fn stop_signal() -> (Stopper, Stop) {
    let (sender, receiver) = async_channel::bounded(1);
    (Stopper(sender), Stop(Box::pin(receiver)))
}

impl Stop {
    /// Ready once the signal was sent.
    pub(crate) fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll_next(cx).map(|_: Option<Infallible>| ())
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn every_clone_receives_the_signal() {
        let (stopper, mut stop) = stop_signal();
        let mut other = stop.clone();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(stop.poll_stopped(&mut cx).is_pending());
        drop(stopper);
        assert!(stop.poll_stopped(&mut cx).is_ready());
        assert!(other.poll_stopped(&mut cx).is_ready());
    }
}
