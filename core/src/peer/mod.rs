//! The peer protocol of etcd (rafthttp) as a pure machine: raft's messages become bytes of HTTP/1.1 exchanges, and
//! bytes become messages.
//!
//! # The protocol
//! To receive messages, a member sends each peer two `GET` requests whose responses do not end. The peer writes
//! messages into the responses: appends into one ([`StreamKind::Append`], encoding `msgappv2`), all others into the
//! other ([`StreamKind::Message`]). While a peer has not opened a stream, messages for it are posted one by one (the
//! *pipeline*). A snapshot is a `POST` of its own: the message, then a database file to the end of the body.
//!
//! # The machine
//! [`Transport`] owns the choice between stream and pipeline, both encodings, the bounds of queues, the heartbeats of
//! links, the deadlines, the redials, the choice among a peer's URLs, and the answers to requests of peers. Its host
//! owns connections: it sends the heads and bodies that effects contain, reports what arrives, and decides nothing.
//!
//! A message may be lost, as in etcd: raft sends again. A `POST` is never repeated, because a proposal would then be
//! applied twice.

mod append;
mod gather;
mod head;
mod incoming;
mod line;
mod message;
mod outgoing;
mod peers;
mod queue;
mod tally;
mod transport;

pub use append::{AppendDecoder, AppendEncoder};
pub use gather::BadFrame;
pub use head::{PATH_PIPELINE, PATH_PROBING, PATH_SNAPSHOT, PATH_STREAM, PeerHead};
pub use line::{Body, ExchangeId, PeerEffect, PeerInput, PeerRoster, StreamKind};
pub use message::{MessageDecoder, encode_message};
pub use tally::{PeerCounts, SnapshotCounts};
pub use transport::{Transport, TransportConfig};

#[cfg(test)]
mod tests;
