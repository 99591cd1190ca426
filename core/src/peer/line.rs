//! The line between the peer machine and its host: inputs and effects, as closed enums. This file decides nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use crate::config::Notice;
use crate::id::MemberId;
use crate::jobs::{PeerJob, SnapshotJob};
use crate::membership::Member;
use crate::node::PeerEvent;
use crate::proto::raftpb::Message;
use crate::store::Cluster;

use super::head::PeerHead;

/// An HTTP request and its response.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ExchangeId {
    /// A peer's request, numbered by the host.
    Incoming(u64),
    /// A request of this member, numbered by the machine.
    Outgoing(u64),
}

/// The two kinds of streams: responses without an end, into which messages are written.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum StreamKind {
    /// Appends to the log: `/raft/stream/msgapp/`.
    Append,
    /// All other messages but snapshots: `/raft/stream/message/`.
    Message,
}

impl StreamKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Append, Self::Message];

    /// Its name in the path.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Append => "msgapp",
            Self::Message => "message",
        }
    }
}

/// The members of the cluster as the applied state has them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PeerRoster {
    /// The members.
    pub members: Vec<Member>,
    /// Ids of removed members, which never come back.
    pub removed: BTreeSet<MemberId>,
}

impl From<&Cluster> for PeerRoster {
    fn from(cluster: &Cluster) -> Self {
        Self {
            members: cluster.members().cloned().collect(),
            removed: cluster.removed().collect(),
        }
    }
}

/// Something that happened outside the machine.
#[derive(Debug)]
pub enum PeerInput {
    /// The next bytes of a body: of a peer's request, or of the response to a request of this member.
    Bytes(ExchangeId, Bytes),
    /// The exchange has ended before it was complete: its connection is lost, or was never made. The text says why.
    /// Nothing follows for this exchange.
    Closed(ExchangeId, String),
    /// The connection has room again: the bytes of the last [`PeerEffect::Write`], or a part of this snapshot's body,
    /// are on their way to the peer.
    Drained(ExchangeId),
    /// The length of the file of a snapshot that is being sent, as soon as the host knows it. Only counts need it.
    FileLength(ExchangeId, u64),
    /// The body is complete. For a response, nothing follows.
    End(ExchangeId),
    /// A peer's request. Its body is not read before [`PeerEffect::Receive`].
    Request(ExchangeId, PeerHead),
    /// The head of the response to a request of this member: its status and headers.
    Response {
        /// The exchange.
        exchange: ExchangeId,
        /// The status code.
        status: u16,
        /// The headers.
        head: PeerHead,
        /// The time since the request was sent over an open connection.
        took: Duration,
    },
    /// The members have changed.
    Roster(PeerRoster),
    /// The outcome of [`PeerEffect::Save`]: success if the snapshot's file is durable and the node has its state.
    /// Otherwise the text is the reason.
    Saved(ExchangeId, Result<(), String>),
    /// Work of the node for a peer.
    Send(PeerJob),
    /// Time has passed.
    Wake,
}

/// The body of a request of this member.
#[derive(Clone, Debug)]
pub enum Body {
    /// No body: a `GET`.
    None,
    /// These bytes.
    Bytes(Bytes),
    /// These bytes, then the file of the job's view ([`crate::snapshot`]) to the end. The host reports
    /// [`PeerInput::Drained`] from time to time.
    Snapshot(Bytes, Box<SnapshotJob>),
}

/// Work for the host.
#[derive(Debug)]
pub enum PeerEffect {
    /// Cut the exchange. Nothing is reported about it afterwards.
    Close(ExchangeId),
    /// Give the node this message.
    Deliver {
        /// The peer.
        from: MemberId,
        /// The message.
        message: Box<Message>,
    },
    /// Log a line.
    Log(Notice),
    /// Answer a peer's request with this head, and leave the body open for [`PeerEffect::Write`].
    Open(ExchangeId, PeerHead),
    /// Read the body of this peer's request: [`PeerInput::Bytes`] follow, then [`PeerInput::End`].
    Receive(ExchangeId),
    /// Send a request. `url` is the peer's URL; the head has the path.
    Request {
        /// The number of the exchange.
        exchange: ExchangeId,
        /// Where to connect: one of the peer's URLs.
        url: String,
        /// `GET` or `POST`, the path, and the headers.
        head: PeerHead,
        /// The body.
        body: Body,
    },
    /// Answer a peer's request with this status, these headers and this body, which is complete.
    Respond {
        /// The exchange.
        exchange: ExchangeId,
        /// The status code.
        status: u16,
        /// The headers.
        head: PeerHead,
        /// The body.
        body: Bytes,
        /// Whether the connection must end after the answer.
        close: bool,
    },
    /// The rest of this peer's body is the file of a snapshot, of which `begun` has already arrived. Begin to write it;
    /// the rest follows by [`PeerEffect::SaveMore`] and ends by [`PeerEffect::SaveEnd`]. If the exchange ends before
    /// that, remove what was written. Report success, or a failure at any time, by [`PeerInput::Saved`].
    Save {
        /// The exchange.
        exchange: ExchangeId,
        /// The peer.
        from: MemberId,
        /// The `MsgSnapshot`.
        message: Box<Message>,
        /// The first bytes of the file.
        begun: Bytes,
    },
    /// The file of this peer's snapshot is complete: sync it, restore its state, give both to the node, and report
    /// [`PeerInput::Saved`].
    SaveEnd(ExchangeId),
    /// The next bytes of the file of this peer's snapshot. The host may report [`PeerInput::Drained`] once they are
    /// written; nothing depends on it.
    SaveMore(ExchangeId, Bytes),
    /// Give the node this event.
    Tell(PeerEvent),
    /// Write into the body of this open response. Until [`PeerInput::Drained`], nothing else is written into it.
    Write(ExchangeId, Bytes),
}
