//! The observations of a server's clients: requests with their times and replies, watch responses, leases. Nothing is
//! checked here.

use bytes::Bytes;
use quoin_model::linear::kv::{KeyValue, OpReply, Reply, Request};

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

impl History {
    /// Counts revisions as if the store had been new when the history began, with `base` fewer. Serializable reads of
    /// an earlier state belong to an earlier history; their answers are dropped.
    pub(crate) fn count_from(&mut self, base: i64) {
        for operation in &mut self.operations {
            if let Request::Txn { compare, .. } = &mut operation.request {
                let set = compare.iter_mut().filter(|(_, revision)| *revision > 0);
                set.for_each(|(_, revision)| *revision -= base);
            }
            if operation.serializable && operation.revision().is_some_and(|revision| revision <= base) {
                operation.reply = None;
                operation.returned = None;
            }
            operation
                .reply
                .iter_mut()
                .for_each(|reply| count_reply_from(reply, base));
        }
        for event in self.watched.iter_mut().flat_map(|response| &mut response.events) {
            event.revision -= base;
            event.set.iter_mut().for_each(|kv| count_key_from(kv, base));
        }
        if let Some(end) = &mut self.end {
            end.revision -= base;
            end.keys.iter_mut().for_each(|kv| count_key_from(kv, base));
        }
    }

    /// A history that begins with the requests without an answer of this one: they may take effect in it.
    pub(crate) fn unanswered(self) -> Self {
        let open = self
            .operations
            .into_iter()
            .filter(|one| one.returned.is_none() && !one.serializable);
        let operations = open.map(|one| Recorded { invoked: 0, ..one }).collect();
        Self {
            operations,
            ..Self::default()
        }
    }
}

fn count_reply_from(reply: &mut Reply, base: i64) {
    let (revision, replies): (&mut i64, &mut [OpReply]) = match reply {
        Reply::Compacted { revision } => (revision, &mut []),
        Reply::One { revision, reply } => (revision, std::slice::from_mut(reply)),
        Reply::Refused(_) => return,
        Reply::Txn { revision, replies, .. } => (revision, replies),
    };
    *revision -= base;
    for reply in replies {
        match reply {
            OpReply::Deleted(_) | OpReply::Put => {}
            OpReply::Range(keys) => keys.iter_mut().for_each(|kv| count_key_from(kv, base)),
        }
    }
}

fn count_key_from(kv: &mut KeyValue, base: i64) {
    kv.create_revision -= base;
    kv.mod_revision -= base;
}

impl Recorded {
    /// The revision in the header of the answer.
    #[must_use]
    pub fn revision(&self) -> Option<i64> {
        self.reply.as_ref().and_then(Reply::revision)
    }
}
