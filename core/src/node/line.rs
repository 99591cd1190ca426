//! The line between the node and its host: what may come in and what goes out, as closed enums. Nothing here decides.

use std::sync::Arc;

use crate::error::{Error, Fault};
use crate::id::MemberId;
use crate::jobs::{LogJob, PeerJob, TableJob};
use crate::member::{BatchId, Halt, Status, Token};
use crate::mvcc::{Compacted, Event};
use crate::proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, TxnRequest,
};
use crate::proto::raftpb;
use crate::store::{self, LeaseKeys};
use crate::time::Instant;
use crate::version::Version;

use super::LeaseTimes;

/// Something that happened outside the node: a request, a message of a peer, a finished disk write, or time passing.
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
    /// under the name [`database_name`](crate::snap::database_name) gives for the snapshot's index. If the snapshot is taken,
    /// a [`LogJob`] marks its index in the log, and from then on a start needs those rows. Nothing is reported of one that
    /// is not taken.
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

/// The host's report that work it was given by an [`Effect`] is done or has failed.
#[derive(Clone, Debug)]
pub enum Done {
    /// A lane failed: what it was to do may or may not be done.
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

/// News of a peer.
#[derive(Clone, Debug)]
pub enum PeerEvent {
    /// A connection to it stands.
    Active(MemberId),
    /// No connection to it stands.
    Inactive(MemberId),
    /// It says that this member was removed from the cluster.
    RemovedUs,
    /// What a [`PeerJob::Snapshot`] sent reached it, or did not. Each is reported once: until then the peer gets nothing
    /// else of the log.
    Snapshot {
        /// The peer.
        to: MemberId,
        /// Whether it has it.
        received: bool,
    },
    /// A message to it was lost.
    Unreachable(MemberId),
    /// The version it runs, to be asked for every four seconds; none where it could not be asked, also once the connection is
    /// lost. The cluster version does not rise meanwhile, because it may come back as an older one.
    Version(MemberId, Option<Version>),
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

/// What the host is to do. It carries out effects of one kind in order. Kinds may overtake each other, except that a
/// publication comes before the replies that follow it.
#[derive(Clone, Debug)]
pub enum Effect {
    /// The member has ended: nothing follows.
    Halt(Halt),
    /// Work for the log's lane.
    Log(LogJob),
    /// Something to send to a peer.
    Peer(PeerJob),
    /// The newest state, for readers and watchers.
    Publish(Publication),
    /// The answer to a request.
    Reply {
        /// The request.
        token: Token,
        /// The answer.
        result: Result<Response, Error>,
    },
    /// Work for the table's lane.
    Table(TableJob),
}

/// The newest state, for readers and watchers.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The state.
    pub view: store::View,
    /// What changed since the publication before: whole revisions, in order. Empty where the state was `restored`.
    pub events: Arc<[Event]>,
    /// Whether a received snapshot replaced the state since the publication before. Watchers then go on from the history
    /// of this view.
    pub restored: bool,
    /// Compactions whose hash is to be computed and remembered, by another thread.
    pub compacted: Vec<Compacted>,
    /// The member's own state.
    pub status: Status,
}
