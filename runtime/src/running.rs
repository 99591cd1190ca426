//! A running member as its server holds it: the services' handle, the announcement of its end, and the way to stop it.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_channel::{Receiver, Sender};

use crate::handle::NodeHandle;
use crate::peers::Peers;
use crate::seam::BoxFuture;

/// Why a member ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ended {
    /// It cannot go on; the text says why.
    Failed(String),
    /// It was removed from the cluster.
    Removed,
    /// It was asked to stop.
    Stopped,
}

/// The announcement of the end of a member, or of a thread that it needs. It is made once and seen by every thread that
/// asks. Clones share it.
#[derive(Clone, Debug)]
pub struct Ending(Arc<Announcement>);

#[derive(Debug)]
struct Announcement {
    why: OnceLock<Ended>,
    /// Closed by the announcement, which wakes all waiting tasks.
    sender: Sender<Infallible>,
    receiver: Receiver<Infallible>,
}

impl Default for Ending {
    fn default() -> Self {
        let (sender, receiver) = async_channel::bounded(1);
        Self(Arc::new(Announcement {
            why: OnceLock::new(),
            sender,
            receiver,
        }))
    }
}

impl Ending {
    /// Announces the end. Only the first reason counts, because later ones follow from it; returns whether this was the
    /// first.
    pub fn announce(&self, why: Ended) -> bool {
        let is_first = self.0.why.set(why).is_ok();
        self.0.sender.close();
        is_first
    }

    /// The reason, if the end was announced.
    pub fn why(&self) -> Option<&Ended> {
        self.0.why.get()
    }

    /// Resolves at the end, with the reason.
    pub fn reached(&self) -> BoxFuture<Ended> {
        let announcement = Arc::clone(&self.0);
        Box::pin(async move {
            // No message is ever sent.
            let _closed = announcement.receiver.recv().await;
            announcement.why.get().cloned().unwrap_or(Ended::Stopped)
        })
    }
}

/// Ends a member and waits for its threads, but no longer than the given time; returns whether all have ended.
pub type Stop = Box<dyn FnOnce(Duration) -> bool + Send>;

/// A member whose threads run.
pub struct Running {
    handle: NodeHandle,
    ending: Ending,
    peers: Option<Peers>,
    stop: Stop,
}

impl Running {
    /// A member behind `handle`, which announces its end in `ending`; `stop` ends it and waits until its files are
    /// closed.
    pub fn new(handle: NodeHandle, ending: Ending, stop: Stop) -> Self {
        let peers = None;
        Self {
            handle,
            ending,
            peers,
            stop,
        }
    }

    /// The same with the queue into its peer thread.
    pub(crate) fn with_peers(mut self, peers: Peers) -> Self {
        self.peers = Some(peers);
        self
    }

    /// The queue into its peer thread.
    pub(crate) fn peers(&self) -> Option<&Peers> {
        self.peers.as_ref()
    }

    /// The services' handle.
    pub fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// The announcement of its end.
    pub fn ending(&self) -> &Ending {
        &self.ending
    }

    /// Ends it and waits for its threads, but no longer than `patience`; returns whether all have ended.
    pub fn stop(self, patience: Duration) -> bool {
        (self.stop)(patience)
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
