//! C49, C53 to C56 and L5: what leaders conclude from their followers' messages, and what followers and removed members
//! must not do.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message as _;
use quoin_core::id::MemberId;
use quoin_core::member::Status;
use quoin_core::membership::ConfChangeContext;
use quoin_core::proto::raftpb::{ConfChange, ConfChangeType, Entry, EntryType, HardState, Message, MessageType};
use quoin_core::store::View;
use quoin_core::time::Instant;

use super::{Bounds, Checker, Truth};
use crate::observe::{Observation, Verdict, ensure};
use quoin_model::call::Call;

/// Heartbeats less than a tick apart are those of reads.
const TICK: Duration = Duration::from_millis(90);
/// Ticks without contact to a quorum after which a leader must have stepped down.
const SILENT_TICKS_MIN: u32 = 30;
/// A starting member may advance its ticks for this long.
const YOUNG: Duration = Duration::from_secs(7);
/// How long after a removal was applied messages to the removed member may still be sent.
const GRACE: Duration = Duration::from_secs(5);
/// The longest that a promotion waits until it is proposed.
const PROMOTION_WITHIN: Duration = Duration::from_secs(15);
/// The part of the log that a learner must have, in percent.
const READY_PERCENT: u64 = 90;

/// A leader's record of a peer in its term.
#[derive(Debug, Default)]
struct Follower {
    /// Ticks since its last message.
    silent: u32,
    ticked: Option<Instant>,
    /// The last entry that it acknowledged: new in this tick, known at the tick before, and known for a whole tick.
    /// Messages of the turn in which the news arrived may have been made before it.
    acked: [u64; 3],
}

/// A member.
#[derive(Debug, Default)]
struct Peer {
    started: Option<Instant>,
    /// The term it leads, and the commit index it was last seen with there.
    leads: Option<(u64, u64)>,
    followers: BTreeMap<MemberId, Follower>,
    voters: Vec<u64>,
    /// The term and time of the last message of its leader.
    heard: Option<(u64, Instant)>,
    /// By candidate: the term of its request for a vote, and `heard` when that came. Later messages wait behind it.
    asked: BTreeMap<u64, (u64, Option<(u64, Instant)>)>,
    hard_state: HardState,
    /// The members that it has removed, and since when it has certainly applied that.
    removed: BTreeMap<MemberId, Instant>,
}

/// The checker.
#[derive(Debug)]
pub(super) struct Reigns {
    bounds: Bounds,
    peers: BTreeMap<MemberId, Peer>,
    /// The members asked to vote in a term on behalf of a leader that hands over.
    forced: BTreeMap<(u64, u64), bool>,
}

impl Checker for Reigns {
    fn see(&mut self, at: Instant, seen: &Observation<'_>, truth: &Truth) -> Verdict {
        match *seen {
            Observation::Started { member, recovered, .. } => {
                for peer in self.peers.values_mut() {
                    peer.followers.remove(&member);
                }
                let peer = Peer {
                    started: Some(at),
                    hard_state: recovered.hard_state,
                    ..Peer::default()
                };
                self.peers.insert(member, peer);
                Ok(())
            }
            Observation::Received { member, from, message } => {
                self.received(at, member, from, message);
                Ok(())
            }
            Observation::Sent { member, to, message } => self.sent(at, member, to, message),
            Observation::Published {
                member, view, status, ..
            } => self.published(at, member, view, status, truth),
            Observation::Handed {
                member,
                hard_state,
                entries,
                ..
            } => {
                if let Some(state) = hard_state {
                    self.voted(at, member, *state, truth)?;
                }
                promoted(at, member, entries, truth)
            }
            _ => Ok(()),
        }
    }
}

impl Reigns {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            peers: BTreeMap::new(),
            forced: BTreeMap::new(),
        }
    }

    fn received(&mut self, at: Instant, member: MemberId, from: MemberId, message: &Message) {
        if (message.from, message.to) != (from.0, member.0) {
            // It is from another term or for another member, and will be ignored.
            return;
        }
        let peer = self.peers.entry(member).or_default();
        let kind = message.get_msg_type();
        if peer.leads.is_some_and(|(term, _)| term == message.term) {
            let follower = peer.followers.entry(from).or_default();
            follower.silent = 0;
            if kind == MessageType::MsgAppendResponse && message.reject {
                // A late refusal is accepted too while the leader probes, so nothing counts as acknowledged.
                follower.acked = [0; 3];
            } else if kind == MessageType::MsgAppendResponse {
                follower.acked[0] = follower.acked[0].max(message.index);
            }
        }
        let is_of_leader = matches!(
            kind,
            MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot
        );
        let is_vote = matches!(kind, MessageType::MsgRequestVote | MessageType::MsgRequestPreVote);
        let is_first = peer.asked.get(&from.0).is_none_or(|(term, _)| *term != message.term);
        if kind == MessageType::MsgRequestVote && is_first {
            peer.asked.insert(from.0, (message.term, peer.heard));
        }
        if is_of_leader && message.term == peer.hard_state.term {
            peer.heard = Some((message.term, at));
        } else if !is_vote && message.term > peer.hard_state.term {
            // The member learns of a later term, which ends the term of its leader.
            peer.heard = None;
        }
    }

    fn sent(&mut self, at: Instant, member: MemberId, to: MemberId, message: &Message) -> Verdict {
        let kind = message.get_msg_type();
        if kind == MessageType::MsgRequestVote {
            let is_forced = !message.context.is_empty();
            *self.forced.entry((message.term, member.0)).or_default() |= is_forced;
        }
        let limit = SILENT_TICKS_MIN.max(6 * self.bounds.election_ticks);
        let peer = self.peers.entry(member).or_default();
        let gone = peer.removed.get(&to).filter(|since| **since + GRACE < at);
        // A member that was suspended forwards once more to the leader that it had before.
        let is_forward = matches!(kind, MessageType::MsgPropose | MessageType::MsgReadIndex);
        ensure(
            gone.is_none() || is_forward || peer.removed.contains_key(&member),
            "C55",
            || format!("member {member} sends {kind:?} to {to}, whose removal it applied at {gone:?}"),
        )?;
        if peer.leads.is_none_or(|(term, _)| term != message.term) {
            return Ok(());
        }
        let follower = peer.followers.entry(to).or_default();
        if kind == MessageType::MsgAppend {
            let (next, acked) = (message.index, follower.acked[2]);
            ensure(next >= acked, "C53", || {
                format!(
                    "leader {member} appends after entry {next} at {to}, which has acknowledged {acked} in that term"
                )
            })?;
        }
        if kind != MessageType::MsgHeartbeat || follower.ticked.is_some_and(|before| before + TICK > at) {
            return Ok(());
        }
        follower.ticked = Some(at);
        follower.silent += 1;
        follower.acked = [follower.acked[0], follower.acked[0], follower.acked[1]];
        let is_heard = |id: &&u64| {
            let follower = peer.followers.get(&MemberId(**id));
            **id == member.0 || follower.is_none_or(|follower| follower.silent <= limit)
        };
        let heard = peer.voters.iter().filter(is_heard).count();
        let leaves = !peer.voters.contains(&member.0);
        ensure(leaves || heard > peer.voters.len() / 2, "L5", || {
            let term = message.term;
            format!("member {member} leads term {term} without contact to a quorum for more than {limit} ticks")
        })
    }

    fn published(&mut self, at: Instant, member: MemberId, view: &View, status: &Status, truth: &Truth) -> Verdict {
        let peer = self.peers.entry(member).or_default();
        for id in view.cluster.removed() {
            peer.removed.entry(id).or_insert(at);
        }
        if !status.leads {
            peer.leads = None;
            return Ok(());
        }
        let voters = &view.cluster.conf_state().voters;
        if peer.voters != *voters {
            // The member may have no message yet from members that form a quorum only now.
            peer.followers.values_mut().for_each(|follower| follower.silent = 0);
            peer.voters.clone_from(voters);
        }
        let (term, commit) = (status.term, status.commit_index);
        let before = peer.leads.replace((term, commit)).filter(|(before, _)| *before == term);
        let Some((_, before)) = before else {
            peer.followers.clear();
            return Ok(());
        };
        let found = truth.member(member).and_then(|facts| facts.log.term(commit));
        ensure(
            commit == before || found.is_none_or(|found| found == term),
            "C49",
            || {
                format!(
                    "leader {member} of term {term} commits up to entry {commit} of term {found:?}, and none of its own"
                )
            },
        )
    }

    /// C54: a follower with a recent message of its leader votes for no other member, unless the leader hands over.
    fn voted(&mut self, at: Instant, member: MemberId, state: HardState, truth: &Truth) -> Verdict {
        // A member that knows no leader may vote at once.
        let has_leader = truth.member(member).is_some_and(|facts| facts.status.leader.0 != 0);
        let peer = self.peers.entry(member).or_default();
        let before = std::mem::replace(&mut peer.hard_state, state);
        let is_vote = state.term > before.term && state.vote != 0 && state.vote != member.0;
        let is_young = peer.started.is_none_or(|started| started + YOUNG > at);
        let asked = peer.asked.get(&state.vote).filter(|(term, _)| *term == state.term);
        let heard = asked
            .and_then(|(_, heard)| *heard)
            .filter(|(term, _)| *term == before.term && is_vote && !is_young);
        let is_forced = self.forced.get(&(state.term, state.vote)).copied().unwrap_or(true);
        let Some((_, since)) = heard.filter(|_| has_leader && !is_forced) else {
            return Ok(());
        };
        ensure(since + self.bounds.lease() <= at, "C54", || {
            let Bounds { election_ticks, .. } = self.bounds;
            format!(
                "member {member} votes for {:x}, although its leader's last message came at {since}, within {election_ticks} ticks",
                state.vote
            )
        })
    }
}

/// C56: a learner is promoted only with enough of the log on its disk.
fn promoted(at: Instant, member: MemberId, entries: &[Entry], truth: &Truth) -> Verdict {
    for entry in entries {
        let leads = truth.member(member).is_some_and(|facts| facts.status.leads);
        if !leads || entry.entry_type != EntryType::EntryConfChange as i32 {
            continue;
        }
        let change = ConfChange::decode(entry.data.clone()).unwrap_or_default();
        let is_promotion = change.change_type == ConfChangeType::AddNode as i32
            && ConfChangeContext::from_json(&change.context).is_ok_and(|context| context.is_promote);
        let asks = |call: &Call| matches!(call, Call::MemberPromote(request) if request.id == change.node_id);
        let recent = truth.ops().filter(|(_, op)| op.invoked + PROMOTION_WITHIN > at);
        let asked = recent.filter(|(_, op)| asks(&op.call)).map(|(_, op)| op.committed);
        let learner = truth.member(MemberId(change.node_id));
        let (Some(committed), true) = (asked.min(), is_promotion) else {
            continue;
        };
        let last = learner.map_or(0, |facts| facts.disk.last().max(facts.lost.last()));
        ensure(last * 100 >= committed * READY_PERCENT, "C56", || {
            let id = change.node_id;
            format!(
                "learner {id:x} is promoted with {last} entries on its disk; {committed} were committed when that was asked"
            )
        })?;
    }
    Ok(())
}
