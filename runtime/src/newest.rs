//! The newest state that the member has published, for every thread to read; whether clients may be served; and the
//! tokens of users, which belong to that state.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use async_channel::{Receiver, Sender};
use quoin_core::auth::{SimpleTokens, TokenChange};
use quoin_core::member::Status;
use quoin_core::store::View;
use quoin_core::time::Instant;

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
    tokens: Mutex<SimpleTokens>,
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
            tokens: Mutex::default(),
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

    /// Sets how long a token is valid without use.
    pub fn set_token_ttl(&self, ttl: Duration) {
        self.tokens(|tokens| tokens.set_ttl(ttl));
    }

    /// Takes over changes of tokens.
    pub fn change_tokens(&self, now: Instant, changes: Vec<TokenChange>) {
        self.tokens(|tokens| changes.into_iter().for_each(|change| tokens.change(now, change)));
    }

    /// The user of a simple token, which is thereby used.
    #[must_use]
    pub fn token_user(&self, now: Instant, token: &str) -> Option<String> {
        self.tokens(|tokens| tokens.user(now, token).map(str::to_owned))
    }

    fn tokens<T>(&self, act: impl FnOnce(&mut SimpleTokens) -> T) -> T {
        act(&mut self.0.tokens.lock().unwrap_or_else(PoisonError::into_inner))
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
