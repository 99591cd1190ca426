//! The cluster version: the leader sets it to the lowest version of all members, up to a ceiling. It lowers it only
//! during a downgrade, to its target, and then members of that version can join.
//!
//! The ceiling protects clusters that have, or had, an etcd as a member. An etcd does not start in a cluster whose
//! version is above its own. Without a ceiling, the version would rise when the last older member leaves, and that
//! member could not come back. The default ceiling is the cluster version, but at least 3.5; in a new cluster, this
//! member's version.

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

/// The version of a new cluster until the versions of all members are known.
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
    /// `--max-cluster-version`.
    ceiling: Option<Version>,
    /// The versions of the peers that could be asked.
    peers: BTreeMap<MemberId, Version>,
    /// A new cluster version is proposed, and the outcome is not known yet.
    proposed: bool,
    /// When to compare next.
    look_at: Option<Instant>,
}

impl VersionKeeper {
    /// The keeper of a member that runs the version `own`. It first compares versions when a leader opens its term.
    pub(super) fn new(own: Version, ceiling: Option<Version>) -> Self {
        Self {
            own: Version { patch: 0, ..own },
            ceiling,
            peers: BTreeMap::new(),
            proposed: false,
            look_at: None,
        }
    }

    /// When to call [`VersionKeeper::look`] at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.look_at
    }

    /// Notes the version of a peer; `None` if it could not be asked, because it may return with another version.
    pub(super) fn heard(&mut self, peer: MemberId, version: Option<Version>) {
        match version {
            Some(version) => self.peers.insert(peer, version),
            None => self.peers.remove(&peer),
        };
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
        let Some(present) = cluster.version() else {
            return Some(least.map_or(UNKNOWN, |least| least.min(self.ceiling(None))));
        };
        match cluster.downgrade() {
            Some(downgrade) if downgrade.enabled => lowered(present, least?, &downgrade.target),
            _ => Some(least?.min(self.ceiling(Some(present)))).filter(|version| *version > present),
        }
    }

    /// The highest version that this member sets. The default is at least 3.5, because members of older versions cannot
    /// read this member's entries.
    fn ceiling(&self, present: Option<Version>) -> Version {
        let present = present.filter(|present| *present > UNKNOWN);
        let joined = present.map(|present| present.max(Version::V3_5));
        self.ceiling.or(joined).unwrap_or(self.own)
    }
}

/// The cluster version during a downgrade, if it is to be lowered: every member runs the present version, and it is above
/// 3.5. An etcd 3.5 would end itself if the cluster version went below its own.
fn lowered(present: Version, least: Version, target: &str) -> Option<Version> {
    let target = Version::parse(target).filter(|target| *target >= Version::V3_5)?;
    let is_next = |version: Version| version.previous_minor() == Some(target);
    (is_next(present) && is_next(least)).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Member as Peer;
    use crate::proto::etcdserverpb::RequestHeader;
    use crate::proto::membershippb::DowngradeInfoSetRequest;
    use crate::proto::raftpb::{ConfChange, Entry, EntryType};
    use crate::store::{Applied, ApplyContext, Store, StoreConfig};
    use prost::Message as _;

    const ME: MemberId = MemberId(1);
    const PEER: MemberId = MemberId(2);

    /// A cluster of two with this version.
    fn cluster(version: Option<&str>) -> Store {
        downgrading(version, None)
    }

    /// A cluster of two with this version, and the target of a downgrade.
    fn downgrading(version: Option<&str>, target: Option<&str>) -> Store {
        let mut store = Store::new(StoreConfig::default());
        let change = |id: MemberId| {
            let member = Peer {
                id,
                peer_urls: vec![format!("http://p{id}:1")],
                ..Peer::default()
            };
            let change = ConfChange {
                node_id: id.0,
                context: member.to_json().into(),
                ..ConfChange::default()
            };
            (EntryType::EntryConfChange, change.encode_to_vec())
        };
        let set = version.map(|version| {
            let ver = version.to_owned();
            let set = Content::Version(ClusterVersionSetRequest { ver });
            (
                EntryType::EntryNormal,
                set.into_request(RequestHeader::default()).encode_to_vec(),
            )
        });
        let downgrade = target.map(|target| {
            let ver = target.to_owned();
            let set = Content::Downgrade(DowngradeInfoSetRequest { enabled: true, ver });
            (
                EntryType::EntryNormal,
                set.into_request(RequestHeader::default()).encode_to_vec(),
            )
        });
        let context = ApplyContext {
            quota_bytes: None,
            wanted: &|_| false,
        };
        let entries = [change(ME), change(PEER)].into_iter().chain(set).chain(downgrade);
        for (index, (kind, data)) in (1..).zip(entries) {
            let entry = Entry {
                entry_type: kind as i32,
                term: 1,
                index,
                data: data.into(),
                ..Entry::default()
            };
            store.apply(&entry, context, &mut Applied::default()).unwrap();
        }
        store
    }

    fn version(text: &str) -> Version {
        Version::parse(&format!("{text}.0")).unwrap()
    }

    fn decided(ceiling: Option<&str>, peer: Option<&str>, present: Option<&str>) -> String {
        let mut keeper = VersionKeeper::new(Version::V3_6, ceiling.map(version));
        keeper.heard(PEER, peer.map(version));
        let decided = keeper.decide(ME, &cluster(present).view().cluster);
        decided.map_or_else(|| "as it is".to_owned(), |version| version.to_string())
    }

    #[test]
    fn the_version_follows_the_oldest_member_up_to_the_ceiling() {
        for (ceiling, peer, present, expected) in [
            (None, Some("3.6"), None, "3.6.0"),
            (None, Some("3.5"), None, "3.5.0"),
            (None, None, None, "3.0.0"),
            (None, Some("3.6"), Some("3.0.0"), "3.6.0"),
            (None, None, Some("3.0.0"), "as it is"),
            (None, Some("3.6"), Some("3.5.0"), "as it is"),
            (None, Some("3.6"), Some("3.4.0"), "3.5.0"),
            (Some("3.6"), Some("3.6"), Some("3.5.0"), "3.6.0"),
            (Some("3.6"), Some("3.5"), Some("3.5.0"), "as it is"),
            (Some("3.5"), Some("3.6"), None, "3.5.0"),
            (Some("3.5"), Some("3.6"), Some("3.0.0"), "3.5.0"),
            (Some("3.5"), Some("3.6"), Some("3.6.0"), "as it is"),
        ] {
            assert_eq!(
                decided(ceiling, peer, present),
                expected,
                "ceiling {ceiling:?}, peer {peer:?}, present {present:?}"
            );
        }
    }

    #[test]
    fn a_peer_that_cannot_be_asked_has_no_version() {
        let mut keeper = VersionKeeper::new(Version::V3_6, Some(Version::V3_6));
        let store = cluster(Some("3.5.0"));
        keeper.heard(PEER, Some(Version::V3_6));
        assert_eq!(keeper.decide(ME, &store.view().cluster), Some(Version::V3_6));
        keeper.heard(PEER, None);
        assert_eq!(keeper.decide(ME, &store.view().cluster), None);
    }

    #[test]
    fn during_a_downgrade_the_version_goes_to_its_target_once_and_never_up() {
        for (peer, present, target, expected) in [
            (Some("3.6"), "3.6.0", "3.5.0", Some(Version::V3_5)),
            (Some("3.6"), "3.5.0", "3.5.0", None),
            (Some("3.5"), "3.5.0", "3.5.0", None),
            // An etcd 3.5 beside this member would end itself below 3.5.
            (Some("3.5"), "3.5.0", "3.4.0", None),
            (Some("3.6"), "3.5.0", "3.4.0", None),
            (Some("3.6"), "3.6.0", "3.4.0", None),
            (Some("3.6"), "3.6.0", "nonsense", None),
            (None, "3.6.0", "3.5.0", None),
        ] {
            let mut keeper = VersionKeeper::new(Version::V3_6, Some(Version::V3_6));
            keeper.heard(PEER, peer.map(version));
            let store = downgrading(Some(present), Some(target));
            let decided = keeper.decide(ME, &store.view().cluster);
            assert_eq!(decided, expected, "peer {peer:?}, present {present}, target {target}");
        }
    }
}
