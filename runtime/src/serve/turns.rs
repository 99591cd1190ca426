//! Turns of heavy writes: one is proposed at a time, so that requests of other clients are applied in between.

use async_channel::{Receiver, Sender};

/// Grants one turn at a time.
#[derive(Debug)]
pub(crate) struct Turns {
    taken: Sender<()>,
    given_back: Receiver<()>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn(Receiver<()>);

impl Turns {
    pub(crate) fn new() -> Self {
        let (taken, given_back) = async_channel::bounded(1);
        Self { taken, given_back }
    }

    pub(crate) async fn turn(&self) -> Turn {
        // The channel is not closed, because `self` has its other end.
        let _open = self.taken.send(()).await;
        Turn(self.given_back.clone())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _taken = self.0.try_recv();
    }
}
