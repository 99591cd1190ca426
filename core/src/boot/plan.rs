//! The courses a start can take.

use crate::boot::found::MarkerId;
use crate::config::Url;
use crate::id::{ClusterId, MemberId};
use crate::membership::Member;
use crate::proto::raftpb::{Entry, HardState};

/// What the member becomes, or what must be known before that can be said.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Create a log with this identity and nothing in it; the leader sends the rest.
    JoinExisting {
        /// The id the cluster gave this member when it was added.
        member: MemberId,
        /// The cluster's id.
        cluster: ClusterId,
        /// The members, this one among them, as the cluster knows them.
        members: Vec<Member>,
    },
    /// Resolve the names in these URLs, add them to `Found::addresses` (with the reason where it fails for 30 seconds)
    /// and decide again.
    NeedAddresses {
        /// What to resolve.
        urls: Vec<Url>,
    },
    /// Ask these peers, add what they say to `Found::answers` (a default answer for those that cannot be reached) and
    /// decide again.
    NeedRemoteAnswers {
        /// Whom to ask, in the order in which answers count.
        urls: Vec<String>,
        /// What for; it says how long to wait.
        why: Why,
    },
    /// Read the log from this marker on and go on with [`restart`](crate::boot::restart).
    Restart {
        /// This member.
        member: MemberId,
        /// Its cluster.
        cluster: ClusterId,
        /// Where to begin; `None` is the beginning of the log.
        from: Option<MarkerId>,
        /// Where the applied state is.
        store: StoreSource,
    },
    /// Read the log from this marker on and go on with [`force_new_cluster`](crate::boot::force_new_cluster).
    RestartForceNewCluster {
        /// This member.
        member: MemberId,
        /// Its cluster.
        cluster: ClusterId,
        /// Where to begin; `None` is the beginning of the log.
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
    /// Is this member known to be running already? Whoever does not answer within a second does not know.
    DuplicateBootstrap,
    /// Who is in the cluster, and which version does it run? Worth ten seconds.
    Join,
}

/// Where the applied state is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreSource {
    /// Nowhere: it is made from the log alone.
    Empty,
    /// In its place.
    InPlace,
    /// In what a leader sent, covering this index; it is put in place first.
    Received(u64),
}
