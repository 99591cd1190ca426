//! Watches: which watcher gets which event, once, in order, whole revisions at a time, or is told that it cannot.
//!
//! [`Hub`] is a pure machine beside the store. The host feeds it what was applied, what the streams of clients ask and
//! how many of their responses have left the process; it answers with [`Response`]s in the order of sending. It decides how
//! many responses may be under way to a stream, and holds back the requests of one that is full. It writes nothing, reads
//! history from the newest [`View`] only and knows neither sockets nor permissions.
//!
//! A watcher is either *synced*, then it gets every new event at once, one revision per response, or *slow*, then it
//! catches up from the history at its next revision. A client that does not read turns its watchers slow, never the
//! store, and costs no memory beyond its queue of unsent responses: nothing is kept for it that history does not hold.
//!
//! - [`hub`] takes inputs and keeps the books; [`requests`] answers clients,
//! - [`fan_out`] gives new events to synced watchers, [`catch_up`] gives old ones to slow watchers,
//! - [`matcher`] finds the watchers of a key, [`encoder`] and [`response`] make the bytes.

mod catch_up;
mod encoder;
mod fan_out;
mod hub;
mod interval;
mod matcher;
mod range;
mod requests;
mod response;
mod slab;
mod stream;

use std::sync::Arc;
use std::time::Duration;

pub use hub::Hub;
pub use response::{Events, Origin, Response};

use crate::error::Error;
use crate::limits::{GRPC_OVERHEAD_BYTES, MAX_REQUEST_BYTES, WATCH_CATCHUP_REVISIONS, WATCH_PASS_REVISIONS};
use crate::mvcc::{Event, View};
use crate::proto::etcdserverpb::{WatchCreateRequest, WatchRequest};

/// How often a watcher hears of progress where nothing else is configured.
pub const DEFAULT_PROGRESS_INTERVAL: Duration = Duration::from_secs(600);

/// The shortest interval of progress; shorter ones are raised to it.
pub const MIN_PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// What a hub is told once.
#[derive(Clone, Copy, Debug)]
pub struct HubConfig {
    /// How often a watcher that asked for it hears of progress (`--watch-progress-notify-interval`); zero is the
    /// default.
    pub progress_interval: Duration,
    /// Encoded size from which a response is cut for a watcher that takes fragments: the largest request received,
    /// `--max-request-bytes` and the gRPC overhead together.
    pub max_response_bytes: usize,
    /// Revisions in one response to a watcher that catches up, at most.
    pub response_revisions: usize,
    /// Revisions read in one pass for watchers that catch up, at most.
    pub pass_revisions: usize,
    /// Spreads the progress of streams in time.
    pub seed: u64,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            progress_interval: DEFAULT_PROGRESS_INTERVAL,
            max_response_bytes: MAX_REQUEST_BYTES + GRPC_OVERHEAD_BYTES,
            response_revisions: WATCH_CATCHUP_REVISIONS,
            pass_revisions: WATCH_PASS_REVISIONS,
            seed: 0,
        }
    }
}

/// A client's stream, named by the host; no two open ones share a name.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamId(pub u64);

/// What can happen to a hub. What concerns a stream that is not open is ignored: it may have been under way.
#[derive(Clone, Debug)]
pub enum WatchInput {
    /// The store has moved on, or a stream is about to be opened: while there is none, nothing need be reported. A view older
    /// than the hub's is ignored.
    Applied {
        /// The store as it is now.
        view: View,
        /// Every event since the view before, in order. Events may be left out (a host under load may merge inputs);
        /// the watchers then get them from the view's history, or are told that compaction took them.
        events: Arc<[Event]>,
    },
    /// The stream is gone, and whatever it was owed.
    Close {
        /// Which.
        stream: StreamId,
    },
    /// The stream asked for a watch it has no permission for.
    Deny {
        /// Which.
        stream: StreamId,
        /// What it asked for.
        request: WatchCreateRequest,
        /// Why it may not.
        error: Error,
    },
    /// A stream begins.
    Open {
        /// Its name.
        stream: StreamId,
    },
    /// The stream asks for something it has permission for.
    Request {
        /// Which.
        stream: StreamId,
        /// What it asks.
        request: WatchRequest,
    },
    /// A snapshot replaced the store. Watchers go on where they were, with the history of the new store.
    Restored {
        /// The store as it is now.
        view: View,
    },
    /// The client has taken responses out of the host's queue, in order. The host may report several at once, but leaves none
    /// unreported once the queue is empty: room is counted in bytes too, so a watcher may be waiting for one large response.
    Sent {
        /// Whose.
        stream: StreamId,
        /// How many.
        responses: usize,
    },
    /// Time has passed, or the host has nothing better to do: see [`Hub::deadline`].
    Wake,
}

/// A response to put at the end of a stream's queue.
#[derive(Clone, Debug)]
pub struct WatchOutput {
    /// Whose.
    pub stream: StreamId,
    /// The response.
    pub response: Response,
}

/// A hub in numbers, for metrics.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct WatchCounts {
    /// Open streams.
    pub streams: usize,
    /// Watchers of all streams.
    pub watchers: usize,
    /// The watchers that are catching up.
    pub slow_watchers: usize,
    /// Events in responses that have not been sent.
    pub pending_events: usize,
    /// Events sent since the start.
    pub events_total: u64,
    /// Reads of what a key held before, for events that are sent with that: as in etcd, one for each event that made no key.
    pub ranges_total: u64,
}
