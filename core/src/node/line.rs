//! The line between the node and its host: what may come in and what goes out, as closed enums. Nothing here decides.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Fault};
use crate::id::MemberId;
use crate::member::{BatchId, Halt, LeaseTimes, Status, Token};
use crate::mvcc::{Compacted, Event};
use crate::proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, TxnRequest,
};
use crate::proto::raftpb;
use crate::store::{self, LeaseKeys};
use crate::table::TableOp;
use crate::time::Instant;
use crate::version::Version;

/// A cause.
#[derive(Debug)]
pub enum Input {
    /// A client does not wait for its answer any more.
    Cancel(Token),
    /// Something asked of the host by an [`Effect`] is done.
    Done(Done),
    /// A message of a peer, decoded and nothing else.
    Message {
        /// The peer.
        from: MemberId,
        /// What it said.
        message: raftpb::Message,
    },
    /// News of a peer.
    Peer(PeerEvent),
    /// A client's request, checked as far as the request alone allows.
    Request {
        /// The host's name for it; the answer carries it.
        token: Token,
        /// What is asked.
        request: Request,
        /// How long the client waits.
        deadline: Instant,
    },
    /// A snapshot of a peer, with the state that travelled beside it. The host has made that state's rows durable before,
    /// under the name [`database_name`](crate::snap::database_name) gives for the snapshot's index: where the snapshot is
    /// taken, [`Effect::Install`] says that the log goes on from there, and from then on a start needs them. Nothing is
    /// said of one that is not taken.
    Snapshot {
        /// The peer.
        from: MemberId,
        /// What it said: a `MsgSnapshot`.
        message: raftpb::Message,
        /// The state, restored from those rows.
        store: Box<store::Store>,
    },
    /// Nothing but time has passed.
    Wake,
}

/// What of an effect the host reports.
#[derive(Clone, Debug)]
pub enum Done {
    /// A lane failed: what it was to do may or may not be done.
    Failed(Fault),
    /// This batch of the log, and every one before it, is durable: an [`Effect::Install`], or an [`Effect::Persist`] with
    /// `sync`.
    Persisted {
        /// The batch.
        batch: BatchId,
    },
    /// The snapshot at this index is durable.
    SnapshotSaved {
        /// The index.
        index: u64,
    },
    /// This batch of rows, and every one before it, is written.
    Stored {
        /// The batch.
        batch: BatchId,
        /// Everything applied up to this index is durable (synced) in the table.
        durable_index: u64,
    },
}

/// News of a peer.
#[derive(Clone, Debug)]
pub enum PeerEvent {
    /// A connection to it stands.
    Active(MemberId),
    /// No connection to it stands.
    Inactive(MemberId),
    /// It says that this member was removed from the cluster.
    RemovedUs,
    /// What [`Effect::SendSnapshot`] sent reached it, or did not. Each is reported once: until then the peer gets nothing
    /// else of the log.
    Snapshot {
        /// The peer.
        to: MemberId,
        /// Whether it has it.
        received: bool,
    },
    /// A message to it was lost.
    Unreachable(MemberId),
    /// The version it runs.
    Version(MemberId, Version),
}

/// What a client, or the host on its behalf, may ask.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Sets, clears or lists alarms.
    Alarm(AlarmRequest),
    /// Compacts; a physical one is answered when its space is free.
    Compact(CompactionRequest),
    /// Deletes keys.
    DeleteRange(DeleteRangeRequest),
    /// Makes a lease.
    LeaseGrant(LeaseGrantRequest),
    /// Asks which leases there are, as this member knows them.
    LeaseLeases,
    /// Keeps a lease alive. Only the leader can; the error is `NotLeader` where it must be forwarded.
    LeaseRenew {
        /// The lease.
        id: i64,
    },
    /// Ends a lease.
    LeaseRevoke(LeaseRevokeRequest),
    /// Asks what is left of a lease. Only the leader knows; the error is `NotLeader` where it must be forwarded.
    LeaseTimeToLive {
        /// The lease.
        id: i64,
        /// Whether its keys are wanted too.
        keys: bool,
    },
    /// Adds a member.
    MemberAdd {
        /// Where the others reach it.
        peer_urls: Vec<String>,
        /// Whether it has no vote yet.
        is_learner: bool,
        /// The wall clock, in seconds since 1970: part of the new member's id.
        unix_seconds: u64,
    },
    /// Makes a learner a voter. Only the leader can; the error is `NotLeader` where it must be forwarded.
    MemberPromote {
        /// The learner.
        id: MemberId,
    },
    /// Removes a member for good.
    MemberRemove {
        /// The member.
        id: MemberId,
    },
    /// Changes where the others reach a member.
    MemberUpdate {
        /// The member.
        id: MemberId,
        /// Its new URLs.
        peer_urls: Vec<String>,
    },
    /// Moves leadership.
    MoveLeader {
        /// To whom.
        to: MemberId,
    },
    /// Writes a key.
    Put(PutRequest),
    /// Confirms that the next published view is as new as this request.
    Read,
    /// Stops the member; a leader hands over first. Answered by [`Effect::Halt`].
    Stop,
    /// Runs a transaction that may write.
    Txn(TxnRequest),
}

/// A successful answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// What applying the request led to.
    Applied(store::Response),
    /// The leases there are.
    Leases {
        /// Their ids, and on the leader when they end.
        leases: LeaseTimes,
    },
    /// Leadership moved.
    Moved,
    /// The read may be answered from the view published last.
    Read,
    /// A lease lives on, for so many seconds; 0 says that there is no such lease.
    Renewed {
        /// The seconds.
        ttl: i64,
    },
    /// What is left of a lease.
    TimeToLive {
        /// Whole seconds left; -1 where it has expired or never was.
        ttl: i64,
        /// Seconds granted; 0 where it has expired or never was.
        granted_ttl: i64,
        /// Its keys, where they were asked for.
        keys: LeaseKeys,
    },
}

/// A consequence. The host carries out those of one kind in order; kinds may overtake each other, except that a view is
/// published before the replies that follow it.
#[derive(Clone)]
pub enum Effect {
    /// The end: nothing follows.
    Halt(Halt),
    /// Make the log go on after a received snapshot: write the snapshot's file and make it durable, then append its marker
    /// and the hard state, make both durable, and report it as persisted. [`Effect::Replace`] follows only then. What
    /// was received must be kept until that is done.
    Install {
        /// Its number among the batches of the log.
        batch: BatchId,
        /// The last entry the snapshot covers.
        index: u64,
        /// Its term.
        term: u64,
        /// The configuration as of that entry.
        conf_state: raftpb::ConfState,
        /// Term, vote and commit index, which is the snapshot's.
        hard_state: raftpb::HardState,
    },
    /// Append to the log on disk: entries first, then the hard state, which may speak of them. Where `sync` is set, make it
    /// durable and report it.
    Persist {
        /// Its number.
        batch: BatchId,
        /// Term, vote and commit index, if they changed.
        hard_state: Option<raftpb::HardState>,
        /// Entries; one with an index already there replaces it and everything after.
        entries: Vec<raftpb::Entry>,
        /// Whether anything depends on its being durable.
        sync: bool,
    },
    /// The newest state for readers and watchers.
    Publish {
        /// The state.
        view: store::View,
        /// What changed since the one before: whole revisions in order. None where it was `restored`.
        events: Arc<[Event]>,
        /// A snapshot replaced the state since the view before: watchers go on from the history of this one.
        restored: bool,
        /// Compactions whose hash is to be made, elsewhere, and remembered.
        compacted: Vec<Compacted>,
        /// The member's own state.
        status: Status,
    },
    /// Make the table hold exactly the rows of a view, as one atomic batch, and make that durable; then report it as stored
    /// and forget what was received up to its index.
    Replace {
        /// Its number among the batches of the table.
        batch: BatchId,
        /// The state; [`View::rows`](store::View::rows) are its rows.
        view: store::View,
        /// The last entry whose effects it holds.
        index: u64,
    },
    /// The answer to a request.
    Reply {
        /// The request.
        token: Token,
        /// The answer.
        result: Result<Response, Error>,
    },
    /// Send to a peer; losing it is allowed.
    Send {
        /// The peer.
        to: MemberId,
        /// Messages in order.
        messages: Vec<raftpb::Message>,
    },
    /// Send a snapshot to a peer, the rows of the view beside the message, and report by [`PeerEvent::Snapshot`] what came of
    /// it. The message's snapshot covers exactly the view.
    SendSnapshot {
        /// The peer.
        to: MemberId,
        /// The `MsgSnapshot`, without data.
        message: raftpb::Message,
        /// The state; [`View::rows`](store::View::rows) are its rows.
        view: store::View,
    },
    /// Write a snapshot file and its marker, make both durable, and report it; the log below is then free.
    Snapshot {
        /// The last entry it covers.
        index: u64,
        /// Its term.
        term: u64,
        /// The configuration as of that entry.
        conf_state: raftpb::ConfState,
    },
    /// Write rows to the table as one atomic batch, and report it.
    Store {
        /// Its number.
        batch: BatchId,
        /// The rows.
        ops: Vec<TableOp>,
        /// The last entry whose effects they complete.
        index: u64,
        /// Its term.
        term: u64,
    },
}

impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Halt(halt) => f.debug_tuple("Halt").field(halt).finish(),
            Self::Install {
                batch,
                index,
                term,
                conf_state,
                hard_state,
            } => f
                .debug_struct("Install")
                .field("batch", &batch.0)
                .field("index", index)
                .field("term", term)
                .field("conf_state", conf_state)
                .field("hard_state", hard_state)
                .finish(),
            Self::Persist {
                batch,
                hard_state,
                entries,
                sync,
            } => f
                .debug_struct("Persist")
                .field("batch", &batch.0)
                .field("hard_state", hard_state)
                .field("entries", entries)
                .field("sync", sync)
                .finish(),
            Self::Publish {
                view,
                events,
                restored,
                compacted,
                status,
            } => f
                .debug_struct("Publish")
                .field("revision", &view.kv.revision())
                .field("events", events)
                .field("restored", restored)
                .field("compacted", compacted)
                .field("status", status)
                .finish(),
            Self::Replace { batch, view, index } => f
                .debug_struct("Replace")
                .field("batch", &batch.0)
                .field("view", &view.kv)
                .field("index", index)
                .finish(),
            Self::Reply { token, result } => f
                .debug_struct("Reply")
                .field("token", &token.0)
                .field("result", result)
                .finish(),
            Self::Send { to, messages } => f
                .debug_struct("Send")
                .field("to", to)
                .field("messages", messages)
                .finish(),
            Self::SendSnapshot { to, message, view } => f
                .debug_struct("SendSnapshot")
                .field("to", to)
                .field("message", message)
                .field("view", &view.kv)
                .finish(),
            Self::Snapshot {
                index,
                term,
                conf_state,
            } => f
                .debug_struct("Snapshot")
                .field("index", index)
                .field("term", term)
                .field("conf_state", conf_state)
                .finish(),
            Self::Store {
                batch,
                ops,
                index,
                term,
            } => f
                .debug_struct("Store")
                .field("batch", &batch.0)
                .field("ops", ops)
                .field("index", index)
                .field("term", term)
                .finish(),
        }
    }
}
