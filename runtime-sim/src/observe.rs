//! Everything that can be observed of a cluster from outside its members: one closed enum, the only input of checkers.
//!
//! Every observation has the true time, which no member and no client can read.

use quoin_core::api::Credentials;
use quoin_core::error::Fault;
use quoin_core::id::MemberId;
use quoin_core::member::{BatchId, Recovered, Status};
use quoin_core::mvcc::Event;
use quoin_core::proto::etcdserverpb::{WatchRequest, WatchResponse};
use quoin_core::proto::raftpb::{ConfState, Entry, HardState, Message};
use quoin_core::store::View;

use crate::table::Content;
use quoin_model::call::{Answer, Call, Refusal};

/// A client's request, unique in a run.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct OpId(pub u64);

/// A simulated client.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ClientId(pub u64);

/// A watch stream between a client and one life of a member, unique in a run.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct StreamId(pub u64);

/// An event that a checker can observe.
#[derive(Clone, Copy)]
pub enum Observation<'a> {
    /// A member's disk was replaced by another or an older one, or damaged beyond what it must survive: from here on
    /// the member need not have what it had. Comes before it starts again.
    Tampered {
        /// The member.
        member: MemberId,
    },
    /// A member found its table damaged and rebuilds it from its log: it starts at an earlier entry than it had
    /// reported durable, and must have caught up before it serves. Comes before it starts.
    Remade {
        /// The member.
        member: MemberId,
    },
    /// A member is about to form a cluster of its own (`--force-new-cluster`); the other members do not belong to it.
    /// Comes before it starts.
    Refounded {
        /// The member.
        member: MemberId,
        /// The number of entries that it keeps: those that it has recorded as committed.
        kept: u64,
    },
    /// A member's process has started, with this content of its disk.
    Started {
        /// The member.
        member: MemberId,
        /// Its log.
        recovered: &'a Recovered,
        /// Its applied state.
        view: &'a View,
    },
    /// A member refused to start, or halted by itself, with this fault.
    Faulted {
        /// The member.
        member: MemberId,
        /// The fault.
        fault: &'a Fault,
        /// Whether the cause is a fault of its disk that it need not survive: rot, a lost or failing disk, an old
        /// backup.
        excused: bool,
    },
    /// A member's process has ended.
    Ended {
        /// The member.
        member: MemberId,
        /// Whether data that were not synced may be lost too.
        lost_power: bool,
    },
    /// A member handed a batch to its log.
    Handed {
        /// The member.
        member: MemberId,
        /// The batch.
        batch: BatchId,
        /// Term, vote and commit index, if they changed.
        hard_state: Option<&'a HardState>,
        /// Entries; one with an index already there replaces it and everything after.
        entries: &'a [Entry],
    },
    /// By the true state of the simulated disk, a batch of the log and every one before it survive a loss of power.
    Durable {
        /// The member.
        member: MemberId,
        /// The batch.
        batch: BatchId,
    },
    /// A member handed to its log a received snapshot, which replaces everything up to its index.
    Installed {
        /// The member.
        member: MemberId,
        /// Its place among the batches.
        batch: BatchId,
        /// Term, vote and commit index, if they changed.
        hard_state: Option<&'a HardState>,
        /// The last entry it covers.
        index: u64,
        /// Its term.
        term: u64,
        /// The configuration at that index.
        conf_state: &'a ConfState,
    },
    /// A message left a member.
    Sent {
        /// The member.
        member: MemberId,
        /// The receiver.
        to: MemberId,
        /// The message.
        message: &'a Message,
    },
    /// A message of a peer reached a member and is given to its node next.
    Received {
        /// The member.
        member: MemberId,
        /// The sender.
        from: MemberId,
        /// The message.
        message: &'a Message,
    },
    /// A received state was put into a member's table, which has these rows now.
    Replaced {
        /// The member.
        member: MemberId,
        /// The state.
        view: &'a View,
        /// The table.
        rows: &'a Content,
    },
    /// A member is about to answer that a compaction is done and its rows are deleted; this is what its table records.
    Swept {
        /// The member.
        member: MemberId,
        /// The revision of the request.
        asked: i64,
        /// The last compaction that the table records as finished; 0 if it records none.
        finished: i64,
    },
    /// A member published a new state to its readers and watchers.
    Published {
        /// The member.
        member: MemberId,
        /// The state.
        view: &'a View,
        /// The changes since the state before; empty after a snapshot was installed.
        events: &'a [Event],
        /// The status of the member.
        status: &'a Status,
        /// Whether the state is that of an installed snapshot.
        restored: bool,
    },
    /// From here on a client's requests and streams are of another user.
    Identified {
        /// The client.
        client: ClientId,
        /// The user.
        who: &'a Credentials,
    },
    /// A client sends a request.
    Invoked {
        /// The request's id.
        op: OpId,
        /// The client.
        client: ClientId,
        /// The member.
        member: MemberId,
        /// The call.
        call: &'a Call,
    },
    /// A member answered. The answer leaves the member, but may never arrive.
    Replied {
        /// The request.
        op: OpId,
        /// The member.
        member: MemberId,
        /// The answer.
        result: Result<&'a Answer, &'a Refusal>,
    },
    /// A client got the answer, or gave up (`None`) and cannot decide whether the request was carried out.
    Returned {
        /// The request.
        op: OpId,
        /// The answer.
        result: Option<Result<&'a Answer, &'a Refusal>>,
    },
    /// A client opened a watch stream to a member.
    StreamOpened {
        /// The stream.
        stream: StreamId,
        /// The client.
        client: ClientId,
        /// The member.
        member: MemberId,
    },
    /// A client's request on a watch stream reached the member.
    WatchRequested {
        /// The stream.
        stream: StreamId,
        /// The request.
        request: &'a WatchRequest,
    },
    /// A response on a watch stream left the member; responses of a stream arrive in order or the stream ends.
    Watched {
        /// The stream.
        stream: StreamId,
        /// The response.
        response: &'a WatchResponse,
    },
    /// A watch stream ended, on either side.
    StreamClosed {
        /// The stream.
        stream: StreamId,
    },
    /// From here on these members, a quorum that can make progress, are not disturbed: promises have deadlines now.
    Healed {
        /// The members.
        core: &'a [MemberId],
        /// `--election-timeout`, the largest among them.
        election_timeout: std::time::Duration,
        /// Whether all of them hold a pre-vote before an election (`--pre-vote`).
        pre_vote: bool,
    },
    /// The run is over: everything that was promised must have happened.
    Finished,
}

/// A broken promise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// The checker, by its number in [`LIST`](crate::check::LIST): `C13`.
    pub checker: &'static str,
    /// What was observed, and what was expected.
    pub words: String,
}

/// The result of a check: nothing, or the violation.
pub type Verdict = Result<(), Violation>;

/// A violation of `checker` with this text, unless `holds`.
///
/// # Errors
/// If it does not hold.
pub fn ensure(holds: bool, checker: &'static str, words: impl FnOnce() -> String) -> Verdict {
    if holds {
        Ok(())
    } else {
        Err(Violation {
            checker,
            words: words(),
        })
    }
}
