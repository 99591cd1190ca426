//! The cluster version: the leader sets it to the least version of all members, and never lowers it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::MemberId;
use crate::member::{Member, Origin};
use crate::proto::membershippb::ClusterVersionSetRequest;
use crate::store::{Cluster, Content};
use crate::time::Instant;
use crate::version::Version;

/// How often the leader compares the members' versions.
const INTERVAL: Duration = Duration::from_secs(4);

/// The version of a cluster while some member's is unknown.
const UNKNOWN: Version = Version {
    major: 3,
    minor: 0,
    patch: 0,
};

/// The members' versions, as far as they are known.
#[derive(Debug)]
pub(super) struct VersionKeeper {
    /// This member's version.
    own: Version,
    /// The versions of peers, as far as they were reported.
    peers: BTreeMap<MemberId, Version>,
    /// Whether a new cluster version is proposed and its outcome not known.
    proposed: bool,
    /// When to compare next.
    look_at: Option<Instant>,
}

impl VersionKeeper {
    /// The keeper of a member that runs the version `own`. It begins with the first leader.
    pub(super) fn new(own: Version) -> Self {
        Self {
            own: Version { patch: 0, ..own },
            peers: BTreeMap::new(),
            proposed: false,
            look_at: None,
        }
    }

    /// When to call [`VersionKeeper::look`] at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.look_at
    }

    /// A peer runs this version.
    pub(super) fn heard(&mut self, peer: MemberId, version: Version) {
        self.peers.insert(peer, version);
    }

    /// The outcome of the proposal is known.
    pub(super) fn settled(&mut self) {
        self.proposed = false;
    }

    /// Proposes a cluster version, if this member leads and the present version is too low.
    pub(super) fn look(&mut self, now: Instant, member: &mut Member, cluster: &Cluster) {
        self.look_at = Some(now + INTERVAL);
        if !member.leads() || self.proposed {
            return;
        }
        if let Some(version) = self.decide(member.id(), cluster) {
            let set = Content::Version(ClusterVersionSetRequest {
                ver: version.to_string(),
            });
            self.proposed = member.propose_own(now, Origin::Version, set).is_ok();
        }
    }

    fn decide(&self, me: MemberId, cluster: &Cluster) -> Option<Version> {
        let version_of = |id| {
            if id == me {
                Some(self.own)
            } else {
                self.peers.get(&id).copied()
            }
        };
        let versions: Option<Vec<_>> = cluster.members().map(|member| version_of(member.id)).collect();
        let least = versions.and_then(|versions| versions.into_iter().min());
        let least = least.map(|least| Version { patch: 0, ..least });
        let is_downgrading = cluster.downgrade().is_some_and(|downgrade| downgrade.enabled);
        match cluster.version() {
            None => Some(least.unwrap_or(UNKNOWN)),
            Some(present) => least.filter(|least| *least > present && !is_downgrading),
        }
    }
}
