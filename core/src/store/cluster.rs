//! The state of the cluster as the log defines it: members, removed ids, cluster version, downgrade, and the
//! configuration that consensus must have.
//!
//! Every member finds the same changes valid, because the rules here use only this table. The conditions for proposing
//! a change (a quorum has started, the learner is in sync) are checked by `core::member` before it is proposed.

use std::collections::{BTreeMap, BTreeSet};

use crate::bug;
use crate::error::{Error, Fault};
use crate::id::MemberId;
use crate::membership::{ConfChangeContext, Member};
use crate::proto::raftpb::{ConfChange, ConfChangeType, ConfState};
use crate::version::Version;

use super::applied::MemberChange;

/// The replicated facts about the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    pub(super) members: BTreeMap<MemberId, Member>,
    pub(super) removed: BTreeSet<MemberId>,
    pub(super) version: Option<Version>,
    pub(super) downgrade: Option<Downgrade>,
    pub(super) conf_state: ConfState,
}

/// Whether the cluster is being downgraded.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Downgrade {
    /// Whether a downgrade is in progress.
    pub enabled: bool,
    /// The target version, such as `3.5`; empty if there is none.
    pub target: String,
}

impl Cluster {
    /// The member with this id.
    #[must_use]
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// All members in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Whether a member with this id was removed. Such an id never comes back.
    #[must_use]
    pub fn is_removed(&self, id: MemberId) -> bool {
        self.removed.contains(&id)
    }

    /// The ids of removed members in order.
    pub fn removed(&self) -> impl Iterator<Item = MemberId> {
        self.removed.iter().copied()
    }

    /// The cluster version, once the leader has set one.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// The downgrade, if there ever was one.
    #[must_use]
    pub fn downgrade(&self) -> Option<&Downgrade> {
        self.downgrade.as_ref()
    }

    /// The configuration of consensus after the last change applied.
    #[must_use]
    pub fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    /// Decides the result of a change in the log; changes nothing yet.
    ///
    /// # Errors
    /// A [`Fault`] for a change that no member proposes. Every etcd stops at such a change, too.
    pub(super) fn decide(&self, change: &ConfChange, max_learners: usize) -> Result<MemberChange, Fault> {
        let id = MemberId(change.node_id);
        if id == MemberId::NONE || self.removed.contains(&id) {
            return Ok(MemberChange::Refused(Error::MemberNotFound));
        }
        match Kind::of(change)? {
            Kind::Add { learner } => {
                let context = context(change)?;
                if context.is_promote {
                    return Ok(self.decide_promotion(id));
                }
                Ok(self.decide_addition(context.member, learner, max_learners))
            }
            Kind::Remove => Ok(self.decide_removal(id)),
            Kind::Update => Ok(self.decide_update(id, context(change)?.member)),
        }
    }

    fn decide_promotion(&self, id: MemberId) -> MemberChange {
        match self.members.get(&id) {
            None => MemberChange::Refused(Error::MemberNotFound),
            Some(member) if !member.is_learner => MemberChange::Refused(Error::MemberNotLearner),
            Some(_) => MemberChange::Promoted(id),
        }
    }

    fn decide_addition(&self, member: Member, learner: bool, max_learners: usize) -> MemberChange {
        if self.members.contains_key(&member.id) {
            return MemberChange::Refused(Error::MemberExists);
        }
        if self.has_peer_url_of(&member) {
            return MemberChange::Refused(Error::PeerUrlExists);
        }
        let learners = self.members.values().filter(|member| member.is_learner).count();
        if learner && member.is_learner && learners >= max_learners {
            return MemberChange::Refused(Error::TooManyLearners);
        }
        MemberChange::Added(member)
    }

    fn decide_removal(&self, id: MemberId) -> MemberChange {
        if !self.members.contains_key(&id) {
            return MemberChange::Refused(Error::MemberNotFound);
        }
        if self.conf_state.voters == [id.0] {
            // With `--strict-reconfig-check=false` a client can ask for this. Consensus in etcd stops then, because a
            // cluster without voters cannot go on.
            return MemberChange::Refused(Error::NotEnoughStartedMembers);
        }
        MemberChange::Removed(id)
    }

    /// An update changes peer URLs and nothing else, whatever other fields the proposal has.
    fn decide_update(&self, id: MemberId, update: Member) -> MemberChange {
        let Some(member) = self.members.get(&id) else {
            return MemberChange::Refused(Error::MemberNotFound);
        };
        if self.has_peer_url_of(&update) {
            return MemberChange::Refused(Error::PeerUrlExists);
        }
        MemberChange::Updated(Member {
            peer_urls: update.peer_urls,
            is_learner: member.is_learner && !bug!(UpdatePromotes),
            ..member.clone()
        })
    }

    /// Whether another member has one of this member's peer URLs.
    fn has_peer_url_of(&self, member: &Member) -> bool {
        let mut others = self.members.values().filter(|other| other.id != member.id);
        others.any(|other| other.peer_urls.iter().any(|url| member.peer_urls.contains(url)))
    }

    /// Carries out a decided change.
    pub(super) fn carry_out(&mut self, effect: &MemberChange, change: &ConfChange) {
        let id = change.node_id;
        match effect {
            MemberChange::Added(member) => {
                self.members.insert(member.id, member.clone());
                let learner = change.change_type == ConfChangeType::AddLearnerNode as i32;
                set(&mut self.conf_state.voters, id, !learner);
                set(&mut self.conf_state.learners, id, learner);
            }
            MemberChange::Promoted(promoted) => {
                if let Some(member) = self.members.get_mut(promoted) {
                    member.is_learner = bug!(PromotesInRaftAlone);
                }
                set(&mut self.conf_state.voters, id, true);
                set(&mut self.conf_state.learners, id, false);
            }
            MemberChange::Refused(_) => {}
            MemberChange::Removed(removed) => {
                self.members.remove(removed);
                self.removed.insert(*removed);
                set(&mut self.conf_state.voters, id, false);
                set(&mut self.conf_state.learners, id, false);
            }
            MemberChange::Updated(member) => {
                self.members.insert(member.id, member.clone());
            }
        }
    }
}

/// The kind of change that is requested.
enum Kind {
    Add { learner: bool },
    Remove,
    Update,
}

impl Kind {
    fn of(change: &ConfChange) -> Result<Self, Fault> {
        if change.change_type == ConfChange::UPDATE_NODE {
            return Ok(Self::Update);
        }
        match ConfChangeType::try_from(change.change_type) {
            Ok(ConfChangeType::AddNode) => Ok(Self::Add { learner: false }),
            Ok(ConfChangeType::AddLearnerNode) => Ok(Self::Add { learner: true }),
            Ok(ConfChangeType::RemoveNode) => Ok(Self::Remove),
            Err(_) => Err(Fault::Inconsistent {
                cause: format!("membership change of unknown type {}", change.change_type),
            }),
        }
    }
}

/// Checks that a proposed change can be decoded, and that its type and the member in it agree on whether it is a
/// learner. Its outcome is decided when it is applied.
pub(super) fn check_change(change: &ConfChange) -> Result<(), Fault> {
    let Kind::Add { learner } = Kind::of(change)? else {
        let has_context = change.change_type == ConfChange::UPDATE_NODE;
        return if has_context { context(change).map(drop) } else { Ok(()) };
    };
    let context = context(change)?;
    let describes_learner = context.member.is_learner && !context.is_promote;
    if learner == describes_learner {
        return Ok(());
    }
    let cause = format!(
        "membership change of member {} contradicts itself: one part makes it a voter, another a learner",
        context.member.id
    );
    Err(Fault::Inconsistent { cause })
}

/// Reads the member in a change. Its id must be the change's node id, which consensus uses.
fn context(change: &ConfChange) -> Result<ConfChangeContext, Fault> {
    let id = MemberId(change.node_id);
    let context = ConfChangeContext::from_json(&change.context).map_err(|error| Fault::Inconsistent {
        cause: format!("membership change of member {id}: {error}"),
    })?;
    if context.member.id != id {
        let cause = format!(
            "membership change of member {id} describes member {}",
            context.member.id
        );
        return Err(Fault::Inconsistent { cause });
    }
    Ok(context)
}

/// Inserts a number into a sorted list, or removes it.
fn set(list: &mut Vec<u64>, id: u64, present: bool) {
    match (list.binary_search(&id), present) {
        (Err(at), true) => list.insert(at, id),
        (Ok(at), false) => {
            list.remove(at);
        }
        (Ok(_), true) | (Err(_), false) => {}
    }
}
