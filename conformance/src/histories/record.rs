//! The observations of a server's clients: requests with their times and replies, watch responses, leases. Nothing is
//! checked here.

use bytes::Bytes;
use quoin_model::linear::kv::{KeyValue, Reply, Request};

/// Microseconds since the history began.
pub type Moment = u64;

/// All observations of one server on one data directory.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Requests about keys, in the order in which they were invoked.
    pub operations: Vec<Recorded>,
    /// Watch responses with events, in the order in which they arrived, over all successive streams.
    pub watched: Vec<Watched>,
    /// Leases.
    pub leases: Vec<Lease>,
    /// When the server was disturbed, and until when it or its clients may have been affected.
    pub disturbed: Vec<(Moment, Moment)>,
    /// Violations that are evident without a check.
    pub faults: Vec<String>,
    /// The last state, read at the end.
    pub end: Option<End>,
}

/// A request about keys.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The client.
    pub client: u64,
    /// When it was sent.
    pub invoked: Moment,
    /// When the answer came; `None` if none came, or one that leaves the outcome open.
    pub returned: Option<Moment>,
    /// The request.
    pub request: Request,
    /// Whether it is a serializable read.
    pub serializable: bool,
    /// The answer.
    pub reply: Option<Reply>,
}

/// A watch response with events.
#[derive(Clone, Debug)]
pub struct Watched {
    /// When it arrived.
    pub at: Moment,
    /// The number of the stream.
    pub stream: u64,
    /// Its events.
    pub events: Vec<Event>,
}

/// A key was set or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The revision.
    pub revision: i64,
    /// The key.
    pub key: Bytes,
    /// The new value; `None` if it was deleted.
    pub set: Option<KeyValue>,
}

/// A lease and its key.
#[derive(Clone, Debug, Default)]
pub struct Lease {
    /// Its id.
    pub id: i64,
    /// The only key attached to it.
    pub key: Bytes,
    /// When it was requested.
    pub invoked: Moment,
    /// When the grant was answered, and the TTL.
    pub granted: Option<(Moment, i64)>,
    /// Attempts to renew it.
    pub kept: Vec<Kept>,
}

/// An attempt to renew a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// When it was sent.
    pub invoked: Moment,
    /// When it was answered, and the TTL in the answer; 0 if there is no such lease.
    pub answered: Option<(Moment, i64)>,
}

/// The last state.
#[derive(Clone, Debug)]
pub struct End {
    /// When it was read.
    pub at: Moment,
    /// The store's revision.
    pub revision: i64,
    /// Every key.
    pub keys: Vec<KeyValue>,
}

impl Recorded {
    /// The revision in the header of the answer.
    #[must_use]
    pub fn revision(&self) -> Option<i64> {
        self.reply.as_ref().and_then(Reply::revision)
    }
}
