//! Watches: every watcher gets its events once, in order, whole revisions at a time, or is cancelled.
//!
//! [`Hub`] is a pure machine beside the store. Its inputs are applied entries, requests of clients' streams, and
//! reports of sent responses; its outputs are [`Response`]s in the order of sending. It decides how many responses may
//! wait for a stream's client, and holds back the requests of a stream with too many. It reads history from the newest
//! [`View`] only, and deals neither with sockets nor with permissions.
//!
//! A watcher is either *synced* and gets every new event at once, one revision per response, or *slow* and catches up
//! from the history at its next revision. A client that does not read makes its own watchers slow, never the store, and
//! costs no memory beyond its queue of unsent responses: slow watchers read from history.
//!
//! - [`hub`] takes inputs and keeps the tables; [`requests`] answers clients,
//! - [`fan_out`] sends new events to synced watchers, [`catch_up`] sends old ones to slow watchers,
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

/// How often a watcher is sent progress by default.
pub const DEFAULT_PROGRESS_INTERVAL: Duration = Duration::from_secs(600);

/// The shortest interval of progress; shorter ones are raised to it.
pub const MIN_PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// The settings of a hub.
#[derive(Clone, Copy, Debug)]
pub struct HubConfig {
    /// How often a watcher that asked for progress gets it (`--watch-progress-notify-interval`); zero means the
    /// default.
    pub progress_interval: Duration,
    /// Encoded size in bytes at which a response is cut for a watcher that accepts fragments: `--max-request-bytes`
    /// plus the gRPC overhead.
    pub max_response_bytes: usize,
    /// The largest number of revisions in one response to a watcher that catches up.
    pub response_revisions: usize,
    /// The largest number of revisions read in one pass for watchers that catch up.
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

/// A client's stream, numbered by the host; open streams have different numbers.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamId(pub u64);

/// An input of the hub. An input for a stream that is not open is ignored: the stream may just have ended.
#[derive(Clone, Debug)]
pub enum WatchInput {
    /// The store has moved on, or the first stream is about to be opened: without streams the host need not report. A
    /// view older than the hub's is ignored.
    Applied {
        /// The present state of the store.
        view: View,
        /// Every event since the previous view, in order. They may be left out (a host under load may merge inputs);
        /// watchers then get them from the view's history, or are cancelled if they are compacted.
        events: Arc<[Event]>,
    },
    /// A stream ended; its unsent responses are dropped.
    Close {
        /// The stream.
        stream: StreamId,
    },
    /// A stream asked for a watch that its user has no permission for.
    Deny {
        /// The stream.
        stream: StreamId,
        /// The request.
        request: WatchCreateRequest,
        /// The error of the permission check.
        error: Error,
    },
    /// A stream begins.
    Open {
        /// The stream.
        stream: StreamId,
    },
    /// A stream sent a request that its user has the permission for.
    Request {
        /// The stream.
        stream: StreamId,
        /// The request.
        request: WatchRequest,
    },
    /// A snapshot replaced the store. Watchers continue where they were, with the history of the new store.
    Restored {
        /// The present state of the store.
        view: View,
    },
    /// The client has taken responses out of the host's queue, in order. The host may report several together, but must
    /// report all once the queue is empty: room is counted in bytes too, so a watcher may be waiting for one large
    /// response.
    Sent {
        /// The stream.
        stream: StreamId,
        /// The number of responses.
        responses: usize,
    },
    /// Time has passed, or the host has no other input: see [`Hub::deadline`].
    Wake,
}

/// A response to append to a stream's queue.
#[derive(Clone, Debug)]
pub struct WatchOutput {
    /// The stream.
    pub stream: StreamId,
    /// The response.
    pub response: Response,
}

/// The counts of a hub, for metrics.
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
    /// Reads of previous values, for events that are sent with them: as in etcd, one for each event that did not create
    /// its key.
    pub ranges_total: u64,
}
