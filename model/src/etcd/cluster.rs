//! The member table and the other replicated facts about the cluster.

use std::collections::{BTreeMap, BTreeSet};

use quoin_core::proto::etcdserverpb::{
    Member, MemberAddResponse, MemberPromoteResponse, MemberRemoveResponse, MemberUpdateResponse, ResponseHeader,
};

use super::digest::Digest;
use super::refusal::{
    MEMBER_EXISTS, MEMBER_NOT_FOUND, NOT_A_LEARNER, NOT_ENOUGH_STARTED, PEER_URL_EXISTS, TOO_MANY_LEARNERS,
};
use crate::call::{Answer, Refusal};

/// A change of the member table.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// A new member, voter or learner.
    Add(Member),
    /// The learner of this id becomes a voter.
    Promote(u64),
    /// The member of this id is removed, and its id is never used again.
    Remove(u64),
    /// A member gets other peer URLs.
    Update { id: u64, peer_urls: Vec<String> },
}

/// The state of the cluster at some moment, as the log defines it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Cluster {
    /// The members, by id.
    pub members: BTreeMap<u64, Member>,
    /// The ids of members that were removed.
    pub removed: BTreeSet<u64>,
    /// The cluster version, if one was set.
    pub version: Option<String>,
    /// The target version of a downgrade in progress.
    pub downgrade: Option<String>,
}

impl Cluster {
    /// The members by id, in the order of a member list.
    #[must_use]
    pub fn list(&self) -> Vec<Member> {
        self.members.values().cloned().collect()
    }

    /// Changes the member table if the change is valid, and returns the answer of the member that proposed it.
    pub(super) fn change(&mut self, change: Change, max_learners: usize) -> Result<Answer, Refusal> {
        self.validate(&change, max_learners)?;
        let header = Some(ResponseHeader::default());
        Ok(match change {
            Change::Add(member) => {
                self.members.insert(member.id, member.clone());
                let (member, members) = (Some(member), self.list());
                Answer::MemberAdd(MemberAddResponse {
                    header,
                    member,
                    members,
                })
            }
            Change::Promote(id) => {
                self.member_mut(id)?.is_learner = false;
                let members = self.list();
                Answer::MemberPromote(MemberPromoteResponse { header, members })
            }
            Change::Remove(id) => {
                self.members.remove(&id);
                self.removed.insert(id);
                let members = self.list();
                Answer::MemberRemove(MemberRemoveResponse { header, members })
            }
            Change::Update { id, peer_urls } => {
                self.member_mut(id)?.peer_urls = peer_urls;
                let members = self.list();
                Answer::MemberUpdate(MemberUpdateResponse { header, members })
            }
        })
    }

    /// Checks a change against the table only, so that all members decide alike. Every change of a removed id is
    /// refused as `member not found`.
    fn validate(&self, change: &Change, max_learners: usize) -> Result<(), Refusal> {
        let (Change::Add(Member { id, .. }) | Change::Promote(id) | Change::Remove(id) | Change::Update { id, .. }) =
            change;
        let member = self.members.get(id);
        match change {
            _ if self.removed.contains(id) => Err(MEMBER_NOT_FOUND.into()),
            Change::Add(_) if member.is_some() => Err(MEMBER_EXISTS.into()),
            Change::Add(new) => {
                self.unused(&new.peer_urls, *id)?;
                let learners = self.members.values().filter(|member| member.is_learner).count();
                if new.is_learner && learners >= max_learners {
                    return Err(TOO_MANY_LEARNERS.into());
                }
                Ok(())
            }
            Change::Promote(_) if member.is_some_and(|member| !member.is_learner) => Err(NOT_A_LEARNER.into()),
            Change::Promote(_) | Change::Remove(_) | Change::Update { .. } if member.is_none() => {
                Err(MEMBER_NOT_FOUND.into())
            }
            Change::Remove(_) if self.is_last_voter(*id) => Err(NOT_ENOUGH_STARTED.into()),
            Change::Promote(_) | Change::Remove(_) => Ok(()),
            Change::Update { peer_urls, .. } => self.unused(peer_urls, *id),
        }
    }

    /// Whether this member is the only voter. Its removal would stop etcd's consensus; Quoin refuses it with the error
    /// for too few started members.
    fn is_last_voter(&self, id: u64) -> bool {
        let voters = self.members.values().filter(|member| !member.is_learner);
        voters.map(|member| member.id).eq([id])
    }

    /// Checks that no other member has one of these URLs.
    fn unused(&self, peer_urls: &[String], id: u64) -> Result<(), Refusal> {
        let mut others = self.members.values().filter(|member| member.id != id);
        if others.any(|member| member.peer_urls.iter().any(|url| peer_urls.contains(url))) {
            return Err(PEER_URL_EXISTS.into());
        }
        Ok(())
    }

    fn member_mut(&mut self, id: u64) -> Result<&mut Member, Refusal> {
        self.members.get_mut(&id).ok_or_else(|| MEMBER_NOT_FOUND.into())
    }

    /// Sets the attributes that a member published; ignored if the member was removed.
    pub(super) fn publish(&mut self, id: u64, name: String, client_urls: Vec<String>) {
        if let Some(member) = self.members.get_mut(&id) {
            (member.name, member.client_urls) = (name, client_urls);
        }
    }

    pub(super) fn feed(&self, digest: &mut Digest) {
        for member in self.members.values() {
            digest.number(member.id);
            digest.bytes(member.name.as_bytes());
            digest.texts(&member.peer_urls);
            digest.texts(&member.client_urls);
            digest.number(u64::from(member.is_learner));
        }
        for id in &self.removed {
            digest.number(*id);
        }
        for text in [&self.version, &self.downgrade] {
            digest.bytes(text.as_deref().unwrap_or_default().as_bytes());
        }
    }
}
