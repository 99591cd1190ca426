//! The ways in which a member can start.

use crate::boot::found::MarkerId;
use crate::config::Url;
use crate::id::{ClusterId, MemberId};
use crate::membership::Member;
use crate::proto::raftpb::{Entry, HardState};

/// How the member starts, or which facts are missing for that decision.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Create a log with this identity and no entries; the leader sends the rest.
    JoinExisting {
        /// The id the cluster gave this member when it was added.
        member: MemberId,
        /// The cluster's id.
        cluster: ClusterId,
        /// The members, this one among them, as the cluster reported them.
        members: Vec<Member>,
    },
    /// Resolve the names in these URLs, add the addresses to `Found::addresses` (or the reason, if resolving fails for
    /// 30 seconds) and decide again.
    NeedAddresses {
        /// The URLs to resolve.
        urls: Vec<Url>,
    },
    /// Ask these peers, add their answers to `Found::answers` (a default answer for those that cannot be reached) and
    /// decide again.
    NeedRemoteAnswers {
        /// The peer URLs to ask. If answers differ, that of the earlier URL counts.
        urls: Vec<String>,
        /// The purpose, which decides how long to wait.
        why: Why,
    },
    /// Read the log from this marker on and continue with [`restart`](crate::boot::restart).
    Restart {
        /// This member.
        member: MemberId,
        /// Its cluster.
        cluster: ClusterId,
        /// The marker to begin at; `None` is the beginning of the log.
        from: Option<MarkerId>,
        /// Where the applied state is.
        store: StoreSource,
    },
    /// Read the log from this marker on and continue with [`force_new_cluster`](crate::boot::force_new_cluster).
    RestartForceNewCluster {
        /// This member.
        member: MemberId,
        /// Its cluster.
        cluster: ClusterId,
        /// The marker to begin at; `None` is the beginning of the log.
        from: Option<MarkerId>,
        /// Where the applied state is.
        store: StoreSource,
    },
    /// Create a log with this identity, these entries and this hard state, all committed.
    StartNew {
        /// This member.
        member: MemberId,
        /// The cluster it founds.
        cluster: ClusterId,
        /// The founders, by id.
        members: Vec<Member>,
        /// One `ConfChangeAddNode` for each founder, in term 1 from index 1 on.
        entries: Vec<Entry>,
        /// Term 1, no vote, everything committed.
        hard_state: HardState,
    },
}

/// Why other members are asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// To find out whether this member is already running. A peer that does not answer within a second is ignored.
    DuplicateBootstrap,
    /// To learn the members of the cluster and its version. Peers have ten seconds to answer.
    Join,
}

/// Where the applied state is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreSource {
    /// There is none: it is rebuilt from the log alone.
    Empty,
    /// In the table.
    InPlace,
    /// In a received snapshot of the state at this index. The host puts it into the table first.
    Received(u64),
}
