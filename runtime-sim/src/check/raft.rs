//! C32, C33, C34, C36, C41 and C44: elections, votes, logs, configurations and identities.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message as _;
use quoin_core::id::MemberId;
use quoin_core::member::Recovered;
use quoin_core::membership::ConfChangeContext;
use quoin_core::proto::raftpb::{
    ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState, Message, MessageType,
};
use quoin_core::store::{Cluster, View};
use quoin_core::time::Instant;

use super::{Checker, MemberFacts, Truth, state};
use crate::observe::{Observation, OpId, Verdict, Violation, ensure};
use quoin_model::call::{Answer, Refusal};

/// What this checker records of a member.
#[derive(Default)]
struct Peer {
    /// The last term in which it was observed to lead, already checked.
    led: u64,
    /// The cluster in its last published state.
    cluster: Option<Arc<Cluster>>,
    /// The last hard state that it handed to its disk.
    handed: HardState,
    /// Membership changes in its log that it may not have committed, by index.
    changes: Vec<u64>,
    /// A term in which it campaigned, and a committed change it may not have applied then: its next publication
    /// decides.
    campaign: Option<(u64, u64)>,
}

/// An entry in some member's log.
struct Known {
    entry: Entry,
    /// The term of the one before.
    previous: u64,
    /// The member that had it first.
    by: MemberId,
}

/// The checker.
#[derive(Default)]
pub(super) struct Raft {
    peers: BTreeMap<MemberId, Peer>,
    leaders: BTreeMap<u64, MemberId>,
    votes: BTreeMap<(u64, MemberId), u64>,
    /// Every entry that any log ever had, by index.
    entries: Vec<Vec<Known>>,
    /// Terms in which a member sent a message.
    told: BTreeSet<u64>,
    cluster_id: u64,
    /// How often a new cluster was formed.
    founded: u64,
    /// Whether the next start forms one.
    founds: bool,
}

impl Checker for Raft {
    fn see(&mut self, _at: Instant, seen: &Observation<'_>, truth: &Truth) -> Verdict {
        let (founded, kept) = truth.founded();
        if self.founded != founded {
            self.founded = founded;
            self.founds = true;
            self.entries.truncate(usize::try_from(kept + 1).unwrap_or(usize::MAX));
            self.leaders.clear();
            self.votes.clear();
        }
        match *seen {
            Observation::Sent { member, message, .. } => self.sent(member, message, truth),
            Observation::Published {
                member, view, status, ..
            } => {
                if status.leads {
                    self.leads(member, status.term, truth)?;
                }
                self.cluster(member, view, truth)?;
                let campaign = self.peers.get_mut(&member).and_then(|peer| peer.campaign.take());
                let passed = campaign.filter(|(_, index)| *index > view.applied_index);
                ensure(passed.is_none(), "C41", || {
                    format!(
                        "member {member} campaigns (term, entry) {passed:?} past a membership change that it has not applied"
                    )
                })?;
                let learns = view.cluster.conf_state().learners.contains(&member.0);
                ensure(status.is_learner == learns, "C41", || {
                    format!("member {member} says is_learner={} and is {learns}", status.is_learner)
                })
            }
            Observation::Handed {
                member,
                hard_state,
                entries,
                ..
            } => self.handed(member, hard_state, entries, truth),
            Observation::Started {
                member,
                recovered,
                view,
                ..
            } => {
                let peer = self.peers.entry(member).or_default();
                *peer = Peer {
                    handed: recovered.hard_state,
                    changes: changes(&recovered.entries).collect(),
                    ..Peer::default()
                };
                self.forget_untold(member, recovered.hard_state.term);
                if std::mem::take(&mut self.founds) {
                    stands_alone(member, recovered)?;
                }
                let facts = truth.member(member);
                recovered
                    .entries
                    .iter()
                    .try_for_each(|entry| self.matches(member, entry, facts))?;
                self.cluster(member, view, truth)
            }
            Observation::Installed {
                member,
                index,
                conf_state,
                ..
            } => {
                self.peers.entry(member).or_default().changes.clear();
                ensure(truth.committed() >= index, "C42", || {
                    format!("member {member} installs a snapshot at entry {index}, which is not committed")
                })?;
                let expected = configuration(truth, index);
                ensure(
                    (sorted(&conf_state.voters), sorted(&conf_state.learners)) == expected,
                    "C42",
                    || format!("a snapshot at entry {index} has {conf_state:?}, and should have {expected:?}"),
                )
            }
            Observation::Replied { op, result, .. } => self.replied(op, result, truth),
            _ => Ok(()),
        }
    }
}

impl Raft {
    fn replied(&mut self, op: OpId, result: Result<&Answer, &Refusal>, truth: &Truth) -> Verdict {
        let (Some(header), Some(op)) = (result.ok().and_then(Answer::header), truth.op(op)) else {
            return Ok(());
        };
        if header.cluster_id == 0 {
            return Ok(());
        }
        if self.cluster_id == 0 {
            self.cluster_id = header.cluster_id;
        }
        let (cluster, expected) = (header.cluster_id, self.cluster_id);
        ensure(cluster == expected && header.member_id == op.member.0, "C44", || {
            let (asked, told) = (op.member, header.member_id);
            format!("member {asked} of cluster {expected:x} answers as member {told:x} of cluster {cluster:x}")
        })
    }

    fn sent(&mut self, member: MemberId, message: &Message, truth: &Truth) -> Verdict {
        match MessageType::try_from(message.msg_type) {
            Ok(MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot) => {
                self.told.insert(message.term);
                self.leads(member, message.term, truth)
            }
            Ok(MessageType::MsgRequestVote) => {
                self.told.insert(message.term);
                self.votes(member, message.term, member.0, truth)
            }
            Ok(MessageType::MsgRequestVoteResponse) if !message.reject => {
                self.votes(member, message.term, message.to, truth)
            }
            _ => Ok(()),
        }
    }

    /// A member starts without a later term than `durable`. If it alone has a vote, it leads before its term is on its
    /// disk; if it died before that and had sent nothing, it may begin the same term anew, with other entries.
    fn forget_untold(&mut self, member: MemberId, durable: u64) {
        let told = &self.told;
        let stays = |known: &Known| {
            let term = known.entry.term;
            known.by != member || term <= durable || told.contains(&term)
        };
        self.entries.iter_mut().for_each(|known| known.retain(stays));
    }

    /// C32, C34.
    fn leads(&mut self, member: MemberId, term: u64, truth: &Truth) -> Verdict {
        let peer = self.peers.entry(member).or_default();
        if peer.led == term {
            return Ok(());
        }
        let leader = *self.leaders.entry(term).or_insert(member);
        ensure(leader == member, "C32", || {
            format!("members {leader} and {member} both lead in term {term}")
        })?;
        peer.led = term;
        let Some(facts) = truth.member(member) else {
            return Ok(());
        };
        // An entry that was observed applied in an earlier term was committed in one.
        let mut earlier = (1..=truth.committed()).rev().filter_map(|index| truth.entry(index));
        let Some(last) = earlier.find(|known| known.seen_in < term && known.entry.term < term) else {
            return Ok(());
        };
        let (index, expected) = (last.entry.index, last.entry.term);
        let found = facts.log.term(index);
        ensure(index <= facts.log.base_index || found == Some(expected), "C34", || {
            format!("member {member} leads in term {term} without entry {index} of term {expected}; it has {found:?}")
        })
    }

    /// C36, C44.
    fn votes(&mut self, member: MemberId, term: u64, candidate: u64, truth: &Truth) -> Verdict {
        let Some(facts) = truth.member(member) else {
            return Ok(());
        };
        let vote = *self.votes.entry((term, member)).or_insert(candidate);
        ensure(vote == candidate || facts.is_tampered, "C36", || {
            format!("member {member} votes for {vote:x} and {candidate:x} in term {term}")
        })?;
        let durable = facts.disk.hard_state;
        let is_kept = durable.term > term || (durable.term == term && durable.vote == candidate);
        ensure(is_kept, "C36", || {
            format!("member {member} votes for {candidate:x} in term {term}, and on its disk is {durable:?}")
        })?;
        ensure(!facts.is_wiped, "C44", || {
            format!("member {member} lost its disk and votes in term {term} under its old id")
        })
    }

    fn handed(
        &mut self,
        member: MemberId,
        hard_state: Option<&HardState>,
        entries: &[Entry],
        truth: &Truth,
    ) -> Verdict {
        let facts = truth.member(member);
        let (applied, log) = facts.map_or((0, None), |facts| (facts.applied, Some(&facts.log)));
        let peer = self.peers.entry(member).or_default();
        let known = peer.handed.commit;
        if let Some(state) = hard_state {
            let campaigns = state.term > peer.handed.term && state.vote == member.0;
            let status = facts.map_or(0, |facts| facts.status.commit_index);
            let committed = applied + 1..=known.max(status);
            let passed = peer.changes.iter().find(|index| campaigns && committed.contains(index));
            peer.campaign = passed.map(|index| (state.term, *index)).or(peer.campaign);
            peer.handed = *state;
        }
        let Some(first) = entries.first() else { return Ok(()) };
        let commit = peer.handed.commit.max(applied);
        peer.changes.retain(|index| *index > commit && *index < first.index);
        for index in changes(entries) {
            let is_own = log.and_then(|log| log.term(index)) == Some(peer.handed.term) && peer.led == peer.handed.term;
            let pending = peer.changes.iter().find(|pending| is_own && **pending > commit);
            if let Some(pending) = pending {
                let words = format!(
                    "leader {member} appends a membership change as entry {index} while that of entry {pending} is pending"
                );
                return Err(Violation { checker: "C41", words });
            }
            if index > commit {
                peer.changes.push(index);
            }
            let entry = entries.iter().find(|entry| entry.index == index);
            if let Some(id) = entry.filter(|_| is_own).and_then(|entry| added_again(entry, truth)) {
                let words = format!("leader {member} adds member {id:x} in entry {index}, which was removed before");
                return Err(Violation { checker: "C41", words });
            }
        }
        entries.iter().try_for_each(|entry| self.matches(member, entry, facts))
    }

    /// C33: two entries of one index and term are equal, and so are those before them.
    fn matches(&mut self, member: MemberId, entry: &Entry, facts: Option<&MemberFacts>) -> Verdict {
        let place = usize::try_from(entry.index).unwrap_or(0);
        if self.entries.len() <= place {
            self.entries.resize_with(place + 1, Vec::new);
        }
        let previous = facts.and_then(|facts| facts.log.term(entry.index.wrapping_sub(1)));
        let Some(known) = self.entries[place].iter().find(|known| known.entry.term == entry.term) else {
            if let Some(previous) = previous {
                let entry = entry.clone();
                self.entries[place].push(Known {
                    entry,
                    previous,
                    by: member,
                });
            }
            return Ok(());
        };
        let is_same = known.entry.data == entry.data && known.entry.entry_type == entry.entry_type;
        let follows = previous.is_none_or(|previous| previous == known.previous);
        ensure(is_same && follows, "C33", || {
            let (index, term) = (entry.index, entry.term);
            format!("member {member} has another entry {index} of term {term}, or another before it, than others have")
        })
    }

    /// C41: consensus, member table and model agree on the voters.
    fn cluster(&mut self, member: MemberId, view: &View, truth: &Truth) -> Verdict {
        let peer = self.peers.entry(member).or_default();
        if peer
            .cluster
            .as_ref()
            .is_some_and(|seen| Arc::ptr_eq(seen, &view.cluster))
        {
            return Ok(());
        }
        peer.cluster = Some(Arc::clone(&view.cluster));
        let conf = view.cluster.conf_state();
        let found = (sorted(&conf.voters), sorted(&conf.learners));
        let members = |learner| {
            view.cluster
                .members()
                .filter(move |member| member.is_learner == learner)
        };
        let table = (
            members(false).map(|member| member.id.0).collect(),
            members(true).map(|member| member.id.0).collect(),
        );
        ensure(found == table && is_simple(conf), "C41", || {
            format!("member {member}: consensus has {conf:?} and the member table {table:?}")
        })?;
        state::cluster(view, truth).map_err(|words| Violation {
            checker: "C41",
            words: format!("member {member}: {words}"),
        })
    }
}

/// Voters and learners at an index, by the model.
pub(super) fn configuration(truth: &Truth, index: u64) -> (Vec<u64>, Vec<u64>) {
    let members = &truth.model().cluster_at(index).members;
    let of = |learner| members.values().filter(move |member| member.is_learner == learner);
    (
        of(false).map(|member| member.id).collect(),
        of(true).map(|member| member.id).collect(),
    )
}

/// C44: a member that forms a new cluster is its only member, once it has applied the entries it starts with.
fn stands_alone(member: MemberId, recovered: &Recovered) -> Verdict {
    let of = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
    let (mut voters, mut learners) = (of(&recovered.conf_state.voters), of(&recovered.conf_state.learners));
    for entry in recovered.entries.iter().filter(|entry| entry.index > recovered.applied) {
        if entry.entry_type != EntryType::EntryConfChange as i32 {
            continue;
        }
        let change = ConfChange::decode(entry.data.clone()).unwrap_or_default();
        let id = change.node_id;
        match ConfChangeType::try_from(change.change_type) {
            Ok(ConfChangeType::AddNode) => {
                learners.remove(&id);
                voters.insert(id);
            }
            Ok(ConfChangeType::AddLearnerNode) => {
                learners.insert(id);
            }
            Ok(ConfChangeType::RemoveNode) => {
                learners.remove(&id);
                voters.remove(&id);
            }
            Err(_) => {}
        }
    }
    ensure(learners.is_empty() && voters.iter().eq([&member.0]), "C44", || {
        format!("member {member} founds a cluster of its own, with voters {voters:?} and learners {learners:?}")
    })
}

fn is_simple(conf: &ConfState) -> bool {
    conf.voters_outgoing.is_empty() && conf.learners_next.is_empty()
}

fn sorted(ids: &[u64]) -> Vec<u64> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids
}

/// The member that an entry adds, if that id belonged to a member that was removed. The id of a present one may come
/// again, in a request that was repeated within one second: it is refused when it is applied.
fn added_again(entry: &Entry, truth: &Truth) -> Option<u64> {
    let change = ConfChange::decode(entry.data.clone()).ok()?;
    let kind = ConfChangeType::try_from(change.change_type).ok()?;
    let context = ConfChangeContext::from_json(&change.context).ok()?;
    let adds = kind != ConfChangeType::RemoveNode && !context.is_promote;
    let cluster = truth.model().cluster_at(truth.committed());
    let id = change.node_id;
    (adds && cluster.removed.contains(&id)).then_some(id)
}

/// The membership changes among entries.
fn changes(entries: &[Entry]) -> impl Iterator<Item = u64> {
    let changes = entries
        .iter()
        .filter(|entry| entry.entry_type == EntryType::EntryConfChange as i32);
    changes.map(|entry| entry.index)
}
