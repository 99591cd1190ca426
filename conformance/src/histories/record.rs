//! What clients saw of a server: requests with their times and replies, watch responses, leases. No judgement here.

use bytes::Bytes;
use quoin_model::linear::kv::{KeyValue, Reply, Request};

/// Microseconds since the history began.
pub type Moment = u64;

/// All that was seen of one server on one data directory.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Requests about keys, in the order in which they were invoked.
    pub operations: Vec<Recorded>,
    /// Watch responses with events, in the order in which they arrived, over all streams that followed one another.
    pub watched: Vec<Watched>,
    /// Leases.
    pub leases: Vec<Lease>,
    /// When the server was disturbed, and until when it or its clients may have suffered from that.
    pub disturbed: Vec<(Moment, Moment)>,
    /// What went wrong in a way that no check need work out.
    pub faults: Vec<String>,
    /// The last state, read when all was over.
    pub end: Option<End>,
}

/// A request about keys.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Who asked.
    pub client: u64,
    /// When it was asked.
    pub invoked: Moment,
    /// When the answer was there; `None` if none came, or one that leaves open whether it was done.
    pub returned: Option<Moment>,
    /// What was asked.
    pub request: Request,
    /// Whether it is a read that may be of the past.
    pub serializable: bool,
    /// The answer.
    pub reply: Option<Reply>,
}

/// A watch response with events.
#[derive(Clone, Debug)]
pub struct Watched {
    /// When it arrived.
    pub at: Moment,
    /// The how manieth stream this was.
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
    /// What it became; nothing if it was deleted.
    pub set: Option<KeyValue>,
}

/// A lease with the keys on it.
#[derive(Clone, Debug, Default)]
pub struct Lease {
    /// Its id.
    pub id: i64,
    /// The one key that was put on it; a lease never shares its key.
    pub key: Bytes,
    /// When it was asked for.
    pub invoked: Moment,
    /// When it was there, and the seconds it was given.
    pub granted: Option<(Moment, i64)>,
    /// Attempts to keep it alive.
    pub kept: Vec<Kept>,
}

/// An attempt to keep a lease alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// When it was sent.
    pub invoked: Moment,
    /// When it was answered, and the seconds it has then; 0 if there is no such lease.
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
