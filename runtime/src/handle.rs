//! The services' interface to the running member: its newest published state and its queues.
//!
//! The threads behind it are in other files (`drive`, `hub`); tests implement [`Queues`] without threads.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use futures_channel::oneshot;
use futures_core::Stream as _;
use quoin_core::error::Error;
use quoin_core::limits;
use quoin_core::member::Token;
use quoin_core::mvcc::HashKv;
use quoin_core::node::{Request, Response};
use quoin_core::proto::etcdserverpb::{WatchCreateRequest, WatchRequest};
use quoin_core::time::Instant;
use quoin_core::watch;

use crate::metrics::QueueState;
use crate::newest::{Newest, Published};
use crate::pulse::Stuck;
use crate::seam::BoxFuture;

/// Responses that may wait on a watch stream between the hub and the socket: the hub's credit for the stream.
pub const WATCH_STREAM_RESPONSES: usize = limits::WATCH_STREAM_QUEUE_RESPONSES;

/// The channel of an answer to its caller. If the caller no longer waits, the answer is dropped.
pub type ReplySender = oneshot::Sender<Result<Response, Error>>;

/// An input on its way to the watch thread. `stream` numbers are never used twice.
#[derive(Debug)]
pub enum WatchCall {
    /// The stream's client has gone; its watchers end.
    Close {
        /// The stream.
        stream: u64,
    },
    /// A new stream. The hub leaves at most [`WATCH_STREAM_RESPONSES`] untaken responses in `responses`.
    Open {
        /// The stream.
        stream: u64,
        /// The channel for its responses; closing it ends the client's stream.
        responses: Sender<watch::Response>,
    },
    /// A request for a watch that is not permitted.
    Deny {
        /// The stream.
        stream: u64,
        /// The request.
        request: WatchCreateRequest,
        /// Why not.
        error: Error,
    },
    /// A message of the client.
    Request {
        /// The stream.
        stream: u64,
        /// The message.
        request: WatchRequest,
    },
    /// The client's connection has taken responses, so the hub may send that many more.
    Sent {
        /// The stream.
        stream: u64,
        /// How many were taken since the last such report.
        responses: usize,
    },
}

/// The queues into the member's threads. No method blocks.
pub trait Queues: Send + Sync {
    /// Queues a request for the node, which answers "request timed out" at the deadline. `token` identifies the
    /// request, also for [`Queues::cancel`]; tokens count from 1 and are never used twice. It fails if too many
    /// requests wait, or if the node has stopped.
    fn call(&self, token: Token, request: Request, deadline: Instant, reply: ReplySender) -> Result<(), Error>;

    /// Cancels a request that the node has taken, because its caller no longer waits.
    fn cancel(&self, token: Token);

    /// Queues an input for the watch hub. `Close`, `Open` and `Sent` are always taken (they are bounded by the number
    /// of streams); for a `Request` or a `Deny` it returns false if the queue is full, and the caller tries again a little later.
    fn watch(&self, call: WatchCall) -> bool;

    /// The remembered hashes of compactions, oldest first.
    fn compact_hashes(&self) -> Vec<HashKv> {
        Vec::new()
    }

    /// The queues at this moment, for the metrics.
    fn queues(&self) -> Vec<QueueState> {
        Vec::new()
    }

    /// A thread of the member that has been at one piece of work for at least `limit`.
    fn stuck(&self, _now: Instant, _limit: Duration) -> Option<Stuck> {
        None
    }

    /// Defragments the table; `done` is dropped if that is not possible now.
    fn defragment(&self, done: oneshot::Sender<Result<(), String>>);
}

/// The services' handle of the running member; clones are cheap and share it.
#[derive(Clone)]
pub struct NodeHandle {
    cluster_id: u64,
    member_id: u64,
    next_stream: Arc<AtomicU64>,
    next_token: Arc<AtomicU64>,
    newest: Newest,
    queues: Arc<dyn Queues>,
}

/// The future answer to a request. Dropping it cancels the request.
#[must_use = "a request whose answer is dropped is cancelled"]
pub struct Asked<'a> {
    queues: &'a dyn Queues,
    token: Token,
    /// The channel of the answer, or why the request was not taken.
    answer: Result<oneshot::Receiver<Result<Response, Error>>, Error>,
    is_over: bool,
}

impl Future for Asked<'_> {
    type Output = Result<Response, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match &mut self.answer {
            // A node that stops drops unanswered requests.
            Ok(answer) => ready!(Pin::new(answer).poll(cx)).unwrap_or(Err(Error::Stopped)),
            Err(refused) => Err(*refused),
        };
        self.is_over = true;
        Poll::Ready(answer)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.queues.cancel(self.token);
        }
    }
}

impl NodeHandle {
    /// A handle of the member that publishes in `newest` and takes its inputs from `queues`.
    pub fn new(cluster_id: u64, member_id: u64, newest: Newest, queues: Arc<dyn Queues>) -> Self {
        let (next_stream, next_token) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(1)));
        Self {
            cluster_id,
            member_id,
            next_stream,
            next_token,
            newest,
            queues,
        }
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// This member's id.
    pub fn member_id(&self) -> u64 {
        self.member_id
    }

    /// The newest published state, borrowed for a moment: hold it for a read, not across a wait.
    pub fn published(&self) -> arc_swap::Guard<Arc<Published>> {
        self.newest.load()
    }

    /// The user of a simple token, which is thereby used.
    pub fn token_user(&self, now: Instant, token: &str) -> Option<String> {
        self.newest.token_user(now, token)
    }

    /// Resolves once the member has published its own name and client URLs, so that clients may be served.
    pub fn serving(&self) -> BoxFuture<()> {
        self.newest.serving()
    }

    /// The remembered hash of the compaction at exactly this revision.
    pub fn compact_hash(&self, revision: i64) -> Option<HashKv> {
        let mut hashes = self.queues.compact_hashes().into_iter();
        hashes.find(|hash| hash.hash_revision == revision)
    }

    /// The remembered hashes of compactions, oldest first.
    pub fn compact_hashes(&self) -> Vec<HashKv> {
        self.queues.compact_hashes()
    }

    /// The member's queues at this moment.
    pub fn queues(&self) -> Vec<QueueState> {
        self.queues.queues()
    }

    /// A thread of the member that has been at one piece of work for at least `limit`.
    pub fn stuck(&self, now: Instant, limit: Duration) -> Option<Stuck> {
        self.queues.stuck(now, limit)
    }

    /// Sends the node a request. A caller that drops the answer frees the request's place.
    pub fn request(&self, request: Request, deadline: Instant) -> Asked<'_> {
        let (reply, answer) = oneshot::channel();
        let token = Token(self.next_token.fetch_add(1, Ordering::Relaxed));
        let taken = self.queues.call(token, request, deadline, reply);
        Asked {
            queues: &*self.queues,
            token,
            is_over: taken.is_err(),
            answer: taken.map(|()| answer),
        }
    }

    /// Defragments the table, so that the file system gets space back; the error says why that failed.
    pub async fn defragment(&self) -> Result<(), String> {
        let (sender, done) = oneshot::channel();
        self.queues.defragment(sender);
        done.await
            .unwrap_or_else(|_| Err("the table is busy or closed".to_owned()))
    }

    /// Opens a watch stream.
    pub fn watch_stream(&self) -> WatchStream {
        let stream = self.next_stream.fetch_add(1, Ordering::Relaxed);
        #[expect(
            clippy::disallowed_methods,
            reason = "the hub bounds it; a bounded channel takes memory for all of it at once"
        )]
        let (sender, responses) = async_channel::unbounded();
        self.queues.watch(WatchCall::Open {
            stream,
            responses: sender,
        });
        WatchStream {
            handle: self.clone(),
            responses: Box::pin(responses),
            stream,
            taken: 0,
        }
    }
}

impl fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeHandle")
            .field("member_id", &self.member_id)
            .finish_non_exhaustive()
    }
}

/// One client's watch stream; dropping it closes it.
#[derive(Debug)]
pub struct WatchStream {
    handle: NodeHandle,
    responses: Pin<Box<Receiver<watch::Response>>>,
    stream: u64,
    /// Responses taken and not yet reported to the hub.
    taken: usize,
}

impl WatchStream {
    /// Passes on a message of the client; false if the hub has no room for it now.
    pub fn offer(&self, request: WatchRequest) -> bool {
        self.handle.queues.watch(WatchCall::Request {
            stream: self.stream,
            request,
        })
    }

    /// Passes on a request for a watch that is not permitted; false if the hub has no room for it now.
    pub fn deny(&self, request: WatchCreateRequest, error: Error) -> bool {
        self.handle.queues.watch(WatchCall::Deny {
            stream: self.stream,
            request,
            error,
        })
    }

    /// The next response; `None` once the hub has ended the stream.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<watch::Response>> {
        let received = self.responses.as_mut().poll_next(cx);
        if let Poll::Ready(Some(_)) = received {
            self.taken += 1;
        }
        // Credit is reported in batches, and whenever the queue is empty. Otherwise a hub without credit, in responses
        // or in bytes, would wait for a report that is only made after its next response.
        if self.taken * 4 >= WATCH_STREAM_RESPONSES || (received.is_pending() && self.taken > 0) {
            let responses = std::mem::take(&mut self.taken);
            self.handle.queues.watch(WatchCall::Sent {
                stream: self.stream,
                responses,
            });
        }
        received
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.handle.queues.watch(WatchCall::Close { stream: self.stream });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};
    use std::task::Waker;

    use quoin_core::member::Status;
    use quoin_core::store::{Store, StoreConfig};

    use super::*;

    /// Records the inputs of the hub.
    #[derive(Default)]
    struct Told(Arc<Mutex<Vec<WatchCall>>>);

    impl Queues for Told {
        fn call(&self, _: Token, _: Request, _: Instant, _: ReplySender) -> Result<(), Error> {
            Err(Error::Stopped)
        }

        fn cancel(&self, _token: Token) {}

        fn watch(&self, call: WatchCall) -> bool {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(call);
            true
        }

        fn defragment(&self, _done: oneshot::Sender<Result<(), String>>) {}
    }

    #[test]
    fn a_client_that_has_read_everything_reports_its_credit() {
        let told = Told::default();
        let calls = told.0.clone();
        let published = Published {
            view: Store::new(StoreConfig::default()).view(),
            status: Status::default(),
        };
        let mut stream = NodeHandle::new(1, 1, Newest::new(published), Arc::new(told)).watch_stream();
        let Some(WatchCall::Open { responses, .. }) = calls.lock().unwrap().pop() else {
            panic!("the stream was not opened");
        };
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            responses.try_send(watch::Response::default()).unwrap();
        }
        for _ in 0..2 {
            assert!(matches!(stream.poll_recv(&mut context), Poll::Ready(Some(_))));
        }
        assert!(
            calls.lock().unwrap().is_empty(),
            "credit is reported in batches while there is more to read"
        );
        assert!(stream.poll_recv(&mut context).is_pending());
        assert!(matches!(
            calls.lock().unwrap()[..],
            [WatchCall::Sent { responses: 2, .. }]
        ));
    }
}
