//! The line between the node and its host: inputs and effects, as closed enums. This file decides nothing.

use std::sync::Arc;

use crate::auth::{AuthChange, TokenChange};
use crate::error::{Error, Fault};
use crate::id::MemberId;
use crate::jobs::{LogJob, PeerJob, TableJob};
use crate::member::{BatchId, Halt, Status, Token};
use crate::mvcc::{Compacted, Event};
use crate::proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, InternalAuthenticateRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RequestHeader, TxnRequest,
};
use crate::proto::membershippb::DowngradeInfoSetRequest;
use crate::proto::raftpb;
use crate::store::{self, LeaseKeys};
use crate::time::Instant;
use crate::version::Version;

use super::LeaseTimes;

/// Something that happened outside the node: a request, a peer message, a finished disk write, or the passing of time.
#[derive(Debug)]
pub enum Input {
    /// A client cancelled its request.
    Cancel(Token),
    /// Work given to the host by an [`Effect`] has finished or failed.
    Done(Done),
    /// A message from a peer, decoded but not checked.
    Message {
        /// The peer.
        from: MemberId,
        /// The message.
        message: raftpb::Message,
    },
    /// An event about a peer.
    Peer(PeerEvent),
    /// A client's request, checked as far as the request alone allows.
    Request {
        /// The host's number for the request; the answer has the same.
        token: Token,
        /// The request.
        request: Request,
        /// The client's deadline.
        deadline: Instant,
    },
    /// A snapshot from a peer, and the state that was sent with it. The host has already made that state's rows
    /// durable, under the name that [`database_name`](crate::snap::database_name) gives for the snapshot's index. If
    /// the snapshot is taken, a [`LogJob`] marks its index in the log, and from then on a start needs those rows. If it
    /// is not taken, nothing is reported.
    Snapshot {
        /// The peer.
        from: MemberId,
        /// The `MsgSnapshot`.
        message: raftpb::Message,
        /// The state, restored from those rows.
        store: Box<store::Store>,
    },
    /// Time has passed.
    Wake,
}

/// The host's report that work given by an [`Effect`] has finished or failed.
#[derive(Clone, Debug)]
pub enum Done {
    /// A lane failed: its work may or may not be done.
    Failed(Fault),
    /// This [`LogJob`], and every one before it, is durable.
    Persisted {
        /// Its number.
        batch: BatchId,
    },
    /// This [`TableJob`], and every one before it, is written.
    Stored {
        /// Its number.
        batch: BatchId,
        /// Everything applied up to this index is durable (synced) in the table.
        durable_index: u64,
    },
}

/// An event about a peer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PeerEvent {
    /// A connection to the peer exists.
    Active(MemberId),
    /// No connection to the peer exists.
    Inactive(MemberId),
    /// A peer answered that this member was removed from the cluster.
    RemovedUs,
    /// Whether a [`PeerJob::Snapshot`] reached the peer. Each snapshot is reported once; until then the peer is sent no
    /// other part of the log.
    Snapshot {
        /// The peer.
        to: MemberId,
        /// Whether the peer received it.
        received: bool,
    },
    /// A message to the peer was lost.
    Unreachable(MemberId),
    /// The version that the peer runs; the host asks for it every four seconds. `None` if the peer could not be asked,
    /// or its connection is lost. The cluster version does not rise meanwhile, because the peer may return with an
    /// older version.
    Version(MemberId, Option<Version>),
}

/// A request of a client, or of the host on a client's behalf.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Sets, clears or lists alarms.
    Alarm(AlarmRequest),
    /// Changes users, roles or permissions, or enables or disables auth.
    Auth(AuthChange),
    /// Gives a user a token.
    Authenticate(InternalAuthenticateRequest),
    /// Another request, made by a user. Without this a request has no user.
    By {
        /// The user, as the header of the entry names it.
        caller: RequestHeader,
        /// The request.
        request: Box<Self>,
    },
    /// Compacts; a physical compaction is answered once its space is free.
    Compact(CompactionRequest),
    /// Deletes keys.
    DeleteRange(DeleteRangeRequest),
    /// Begins a downgrade of the cluster, or cancels it.
    Downgrade(DowngradeInfoSetRequest),
    /// Grants a lease.
    LeaseGrant(LeaseGrantRequest),
    /// Lists the leases that this member has applied.
    LeaseLeases,
    /// Renews a lease. Only the leader can; another member answers `NotLeader`, and the request must be forwarded.
    LeaseRenew {
        /// The lease.
        id: i64,
    },
    /// Revokes a lease.
    LeaseRevoke(LeaseRevokeRequest),
    /// Asks for the remaining time of a lease. Only the leader has it; another member answers `NotLeader`, as above.
    LeaseTimeToLive {
        /// The lease.
        id: i64,
        /// Whether to return its keys too.
        keys: bool,
    },
    /// Adds a member.
    MemberAdd {
        /// The URLs at which other members reach it.
        peer_urls: Vec<String>,
        /// Whether it is added as a learner.
        is_learner: bool,
        /// The wall clock, in seconds since 1970: part of the new member's id.
        unix_seconds: u64,
    },
    /// Promotes a learner to a voter. Only the leader can; another member answers `NotLeader`, as above.
    MemberPromote {
        /// The learner.
        id: MemberId,
    },
    /// Removes a member for good.
    MemberRemove {
        /// The member.
        id: MemberId,
    },
    /// Changes the peer URLs of a member.
    MemberUpdate {
        /// The member.
        id: MemberId,
        /// Its new URLs.
        peer_urls: Vec<String>,
    },
    /// Moves leadership.
    MoveLeader {
        /// The new leader.
        to: MemberId,
    },
    /// Writes a key.
    Put(PutRequest),
    /// A linearizable read. Answered once the published view has everything committed before this request.
    Read,
    /// Stops the member; a leader hands over first. Answered by [`Effect::Halt`].
    Stop,
    /// Runs a transaction that may write.
    Txn(TxnRequest),
}

/// A successful answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// The result of applying the request.
    Applied(store::Response),
    /// All leases.
    Leases {
        /// Their ids and, on the leader, when they end.
        leases: LeaseTimes,
    },
    /// Leadership moved.
    Moved,
    /// The read may be answered from the newest published view.
    Read,
    /// A lease was renewed.
    Renewed {
        /// The seconds it has; 0 if there is no such lease.
        ttl: i64,
    },
    /// The remaining time of a lease.
    TimeToLive {
        /// Whole seconds left; -1 if it has expired or never existed.
        ttl: i64,
        /// Seconds granted; 0 if it has expired or never existed.
        granted_ttl: i64,
        /// Its keys, if the request asked for them.
        keys: LeaseKeys,
    },
}

/// Work for the host. The host carries out effects of one kind in order. Effects of different kinds may overtake each
/// other, except that a publication is carried out before the replies that follow it, and changes of tokens before both.
#[derive(Clone, Debug)]
pub enum Effect {
    /// The member has ended: no effect follows.
    Halt(Halt),
    /// A compaction whose hash is to be computed and remembered, by another thread.
    Hash(Compacted),
    /// Work for the log lane.
    Log(LogJob),
    /// Work for a peer's connections.
    Peer(PeerJob),
    /// The newest state, for readers and watchers.
    Publish {
        /// The state.
        view: store::View,
        /// The changes since the previous publication: whole revisions, in order. Empty if the state was `restored`.
        events: Arc<[Event]>,
        /// Whether a received snapshot replaced the state since the previous publication. Watchers then continue from
        /// the history of this view.
        restored: bool,
        /// The status of the member.
        status: Status,
    },
    /// The answer to a request.
    Reply {
        /// The request.
        token: Token,
        /// The answer.
        result: Result<Response, Error>,
    },
    /// Work for the table lane.
    Table(TableJob),
    /// What becomes of users' tokens. It is carried out before the publication that follows it.
    Tokens(Vec<TokenChange>),
}
