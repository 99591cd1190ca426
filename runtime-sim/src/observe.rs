//! What can be seen of a cluster from outside its members: one closed enum, the only thing checkers get.
//!
//! Every observation carries true time, which no member and no client knows.

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

/// Something that happened.
#[derive(Clone, Copy)]
pub enum Observation<'a> {
    /// A member's disk was exchanged for another or an older one, or damaged beyond what it must survive: from here on it is
    /// not held to what it had. Comes before it starts again.
    Tampered {
        /// The member.
        member: MemberId,
    },
    /// A member found its table damaged and makes it anew from its log: it comes back at an earlier entry than it had said to
    /// have durably, and must have caught up before it serves. Comes before it starts.
    Remade {
        /// The member.
        member: MemberId,
    },
    /// A member is about to found a cluster of its own (`--force-new-cluster`); the other members are no part of it. Comes
    /// before it starts.
    Refounded {
        /// The member.
        member: MemberId,
        /// So many entries are kept, which is what it knows to be committed.
        kept: u64,
    },
    /// A member's process has started; this is what it read back.
    Started {
        /// The member.
        member: MemberId,
        /// Its log.
        recovered: &'a Recovered,
        /// Its applied state.
        view: &'a View,
    },
    /// A member refused to start, or halted by itself, because of this.
    Faulted {
        /// The member.
        member: MemberId,
        /// Why.
        fault: &'a Fault,
        /// Whether a fault of its disk is to blame that it need not survive: rot, a lost or failing disk, an old backup.
        excused: bool,
    },
    /// A member's process is gone.
    Ended {
        /// The member.
        member: MemberId,
        /// Whether what was not synced may be gone too.
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
    /// By the truth of the simulated disk, a batch of the log, and every one before it, survives a loss of power.
    Durable {
        /// The member.
        member: MemberId,
        /// The batch.
        batch: BatchId,
    },
    /// A member hands a received snapshot to its log, instead of everything up to there.
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
        /// The configuration as of then.
        conf_state: &'a ConfState,
    },
    /// A message left a member.
    Sent {
        /// The member.
        member: MemberId,
        /// To whom.
        to: MemberId,
        /// What.
        message: &'a Message,
    },
    /// A message of a peer reached a member: its node will be given it next.
    Received {
        /// The member.
        member: MemberId,
        /// From whom.
        from: MemberId,
        /// What.
        message: &'a Message,
    },
    /// A member's table was made to hold a received state; these are its rows now.
    Replaced {
        /// The member.
        member: MemberId,
        /// The state.
        view: &'a View,
        /// The table.
        rows: &'a Content,
    },
    /// A member is about to answer that a compaction is done, its rows gone; this is how far its table says it is.
    Swept {
        /// The member.
        member: MemberId,
        /// The revision that was asked for.
        asked: i64,
        /// The last revision of which the table says that its compaction is finished; 0 where it does not say.
        finished: i64,
    },
    /// Readers and watchers of a member see a new state.
    Published {
        /// The member.
        member: MemberId,
        /// The state.
        view: &'a View,
        /// What changed since the one before; empty after a snapshot was installed.
        events: &'a [Event],
        /// The member's own state.
        status: &'a Status,
        /// Whether the state comes from an installed snapshot.
        restored: bool,
    },
    /// A client asks.
    Invoked {
        /// The request's name.
        op: OpId,
        /// Who asks.
        client: ClientId,
        /// Which member is asked.
        member: MemberId,
        /// What.
        call: &'a Call,
    },
    /// A member answered: the answer leaves it, and may never arrive.
    Replied {
        /// The request.
        op: OpId,
        /// The member.
        member: MemberId,
        /// The answer.
        result: Result<&'a Answer, &'a Refusal>,
    },
    /// A client has its answer, or (`None`) has given up and does not know whether it was done.
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
        /// Who.
        client: ClientId,
        /// To whom.
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
    /// A watch stream is over, by whichever side.
    StreamClosed {
        /// The stream.
        stream: StreamId,
    },
    /// From here on nothing disturbs these members, who are a quorum that can make progress: promises have deadlines now.
    Healed {
        /// The members.
        core: &'a [MemberId],
        /// `--election-timeout`, the largest among them.
        election_timeout: std::time::Duration,
        /// Whether all of them ask before they stand for election (`--pre-vote`).
        pre_vote: bool,
    },
    /// The run is over: everything that was owed must have come.
    Finished,
}

/// A broken promise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// The checker, by its number in the reliability page: `C13`.
    pub checker: &'static str,
    /// What was seen and what should have been.
    pub words: String,
}

/// Whether all is well.
pub type Verdict = Result<(), Violation>;

/// A violation of `checker` with these words, unless `holds`.
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
