//! The newest state that the member has published, for every thread to read; and whether clients may be served.

use std::convert::Infallible;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use async_channel::{Receiver, Sender};
use quoin_core::member::Status;
use quoin_core::store::View;

use crate::seam::BoxFuture;

/// A publication of the member: the applied state, and the consensus state that belongs to it.
pub struct Published {
    /// The applied state.
    pub view: View,
    /// Leader, term, indices and the like.
    pub status: Status,
}

/// The place of the newest publication. Clones share it.
#[derive(Clone)]
pub struct Newest(Arc<Slot>);

struct Slot {
    published: ArcSwap<Published>,
    /// Closed once the member's own name and client URLs are in the cluster's state.
    sender: Sender<Infallible>,
    receiver: Receiver<Infallible>,
}

impl Newest {
    /// Begins with this state.
    #[must_use]
    pub fn new(published: Published) -> Self {
        let (sender, receiver) = async_channel::bounded(1);
        let newest = Self(Arc::new(Slot {
            published: ArcSwap::from_pointee(published),
            sender,
            receiver,
        }));
        newest.announce();
        newest
    }

    /// The newest state, borrowed for a moment: hold it for a read, not across a wait.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<Published>> {
        self.0.published.load()
    }

    /// Publishes a state.
    pub fn store(&self, published: Published) {
        self.0.published.store(Arc::new(published));
        self.announce();
    }

    /// Resolves once the member has published its own name and client URLs, so that clients may be served.
    #[must_use]
    pub fn serving(&self) -> BoxFuture<()> {
        let receiver = self.0.receiver.clone();
        Box::pin(async move {
            // No message is ever sent.
            let _closed = receiver.recv().await;
        })
    }

    fn announce(&self) {
        if self.load().status.published && !self.0.sender.is_closed() {
            self.0.sender.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use quoin_core::store::{Store, StoreConfig};

    use super::*;

    fn published(published: bool) -> Published {
        Published {
            view: Store::new(StoreConfig::default()).view(),
            status: Status {
                published,
                ..Status::default()
            },
        }
    }

    #[test]
    fn serving_begins_with_the_first_publication_that_allows_it() {
        let newest = Newest::new(published(false));
        let mut serving = newest.serving();
        let mut cx = Context::from_waker(Waker::noop());
        newest.store(published(false));
        assert!(serving.as_mut().poll(&mut cx).is_pending());
        newest.store(published(true));
        assert!(serving.as_mut().poll(&mut cx).is_ready());
        newest.store(published(false));
        assert!(newest.serving().as_mut().poll(&mut cx).is_ready(), "it stays ready");
        assert!(!newest.load().status.published);
    }
}
