//! A running member as its server holds it: the services' handle, news of its end, and the way to stop it.

use std::fmt;

use async_channel::Receiver;

use crate::handle::NodeHandle;
use crate::seam::BoxFuture;

/// Why a member ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ended {
    /// It cannot go on; the text says why.
    Failed(String),
    /// It was removed from the cluster.
    Removed,
    /// It was asked to.
    Stopped,
}

/// A member whose threads run.
pub struct Running {
    handle: NodeHandle,
    ended: Receiver<Ended>,
    stop: Box<dyn FnOnce() + Send>,
}

impl Running {
    /// A member behind `handle`. It says once through `ended` why it ended; `stop` ends it and waits until its files
    /// are closed.
    pub fn new(handle: NodeHandle, ended: Receiver<Ended>, stop: Box<dyn FnOnce() + Send>) -> Self {
        Self { handle, ended, stop }
    }

    /// The services' hold on it.
    pub fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// Resolves when it has ended, with the reason.
    pub fn ended(&self) -> BoxFuture<Ended> {
        let ended = self.ended.clone();
        Box::pin(async move {
            let why = ended.recv().await;
            why.unwrap_or_else(|_| Ended::Failed("a thread of the member died without a word".to_owned()))
        })
    }

    /// Ends it and waits for that.
    pub fn stop(self) {
        (self.stop)();
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
