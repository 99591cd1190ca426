//! The signal that ends serving: sent by the server, watched by every listener, connection and stream.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_channel::{Receiver, Sender};
use futures_core::Stream as _;

/// Sends the signal when it, and every clone of it, is dropped, or before.
#[derive(Clone, Debug)]
pub(crate) struct Stopper(Sender<Infallible>);

impl Stopper {
    /// Sends the signal now.
    pub(crate) fn send(&self) {
        self.0.close();
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
