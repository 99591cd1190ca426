//! What others ask of the member: proposals, linearizable reads, leadership, stopping; and what they are told when their
//! time is up.

use bytes::Bytes;
use prost::Message as _;

use crate::error::Error;
use crate::id::MemberId;
use crate::limits::{APPLY_GAP_MAX_ENTRIES, MAX_APPEND_BYTES, MAX_UNCOMMITTED_BYTES};
use crate::membership::Member as Peer;
use crate::mutant;
use crate::proto::etcdserverpb::{InternalRaftRequest, RequestHeader};
use crate::proto::membershippb::{Attributes, ClusterMemberAttrSetRequest};
use crate::proto::raftpb::{ConfChange, Entry, EntryType, Message, MessageType};
use crate::time::Instant;

use super::proposals::{self, Circumstances, Flight};
use super::reconfig::{self, Roster};
use super::{Halt, Member, Origin, Output, Phase, Reader, Timer, Transfer};

/// The log of a learner must reach so far, in percent of the leader's, before it is made a voter.
const LEARNER_READY_PERCENT: u64 = 90;

impl Member {
    /// Proposes `request` for a client, or for the member itself, to be answered when it is applied.
    pub(crate) fn propose(
        &mut self,
        now: Instant,
        origin: Origin,
        deadline: Instant,
        mut request: InternalRaftRequest,
    ) -> Result<(), Error> {
        self.admit(origin)?;
        let id = self.ids.next_id();
        request.header.get_or_insert_with(RequestHeader::default).id = id;
        let data = request.encode_to_vec();
        if data.len() > self.config.max_request_bytes {
            return Err(Error::RequestTooLarge);
        }
        self.submit(now, id, origin, deadline, EntryType::EntryNormal, data);
        Ok(())
    }

    /// Proposes a change of membership. One change is under way at a time; others wait for it.
    pub(crate) fn propose_conf_change(
        &mut self,
        now: Instant,
        origin: Origin,
        deadline: Instant,
        mut change: ConfChange,
    ) -> Result<(), Error> {
        self.admit(origin)?;
        change.id = self.ids.next_id();
        self.submit(
            now,
            change.id,
            origin,
            deadline,
            EntryType::EntryConfChange,
            change.encode_to_vec(),
        );
        Ok(())
    }

    /// An id that this member never gave out before, for a lease.
    pub(crate) fn lease_id(&mut self) -> i64 {
        // Without the sign bit, as in etcd. The generator counts, so that the second try cannot be 0 again.
        let mut draw = || (self.ids.next_id() & (u64::MAX >> 1)) as i64;
        match draw() {
            0 => draw(),
            id => id,
        }
    }

    /// Whether anybody here waits for the outcome of a proposal.
    pub(crate) fn awaits(&self, id: u64) -> bool {
        self.proposals.contains(id)
    }

    /// A proposal was applied: on whose behalf it was made.
    pub(crate) fn resolve(&mut self, id: u64) -> Option<Origin> {
        let origin = self.proposals.resolve(id)?.origin;
        self.settle(origin, true);
        Some(origin)
    }

    /// Confirms that this member's state, once applied so far, is not older than the moment of the call.
    pub(crate) fn read(&mut self, reader: Reader, deadline: Instant) -> Result<(), Error> {
        self.running()?;
        self.reads.join(reader, deadline);
        Ok(())
    }

    /// A client does not wait any more. What it proposed may happen all the same.
    pub(crate) fn cancel(&mut self, token: super::Token) {
        if self.proposals.cancel(token) {
            return;
        }
        self.reads.cancel(token);
        self.transfers.retain(|transfer| transfer.token != token);
    }

    /// Hands leadership to `to`; answered when it has it.
    pub(crate) fn move_leader(&mut self, token: super::Token, to: MemberId, deadline: Instant, out: &mut Vec<Output>) {
        if let Err(error) = self.may_move_leader(to) {
            return out.push(Output::Transferred(token, Err(error)));
        }
        self.transfers.push(Transfer { token, to, deadline });
        self.raft.transfer_leader(to.0);
        self.leadership_moved(out);
    }

    /// Stops: a leader hands its leadership over first, if there is anybody to hand it to.
    pub(crate) fn stop(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.phase >= Phase::Stopping {
            return;
        }
        let Some(heir) = self.heir().filter(|_| self.leads()) else {
            return self.halt(Halt::Stopped, out);
        };
        self.phase = Phase::Stopping;
        self.raft.transfer_leader(heir.0);
        self.stop_by = Some(now + self.config.request_timeout());
    }

    /// Whether a change of membership may be proposed, by the rules for cautious operators and by those that always hold.
    pub(crate) fn may_reconfigure(&self, now: Instant, change: Reconfiguration, members: &[Peer]) -> Result<(), Error> {
        let roster = Roster {
            me: self.config.id,
            members,
            connected_since: &self.connected_since,
            now,
        };
        let strict = self.config.strict_reconfig_check;
        match change {
            Reconfiguration::Add { .. } | Reconfiguration::Remove(_) if !strict => Ok(()),
            Reconfiguration::Add { is_learner } => roster.may_add(is_learner),
            Reconfiguration::Promote(id) => {
                self.learner_is_ready(id)?;
                if strict { roster.may_promote() } else { Ok(()) }
            }
            Reconfiguration::Remove(id) => roster.may_remove(id),
        }
    }

    /// Answers everybody whose time is up.
    pub(crate) fn expire_requests(&mut self, now: Instant, out: &mut Vec<Output>) {
        while let Some(flight) = self.proposals.pop_late(now) {
            let error = self.timeout_error(flight);
            self.settle(flight.origin, false);
            out.push(Output::Failed(flight.origin, error));
        }
        let late = self.transfers.extract_if(.., |transfer| transfer.deadline <= now);
        out.extend(late.map(|transfer| Output::Transferred(transfer.token, Err(Error::TimeoutLeaderTransfer))));
        if self.stop_by.is_some_and(|by| by <= now) {
            self.halt(Halt::Stopped, out);
        }
    }

    /// Answers reads whose time is up; the others are asked again when consensus is drained.
    pub(crate) fn expire_reads(&mut self, now: Instant, out: &mut Vec<Output>) {
        let mut late = Vec::new();
        self.reads.expire(now, &mut late);
        self.reads_slow += u64::from(!late.is_empty());
        self.read_outcome(late, Err(Error::Timeout), out);
    }

    /// Publishes name and client URLs, until that is applied.
    pub(crate) fn publish(&mut self, now: Instant) {
        if self.published || self.phase != Phase::Running {
            return;
        }
        let attributes = Attributes {
            name: self.config.name.clone(),
            client_urls: self.config.client_urls.clone(),
        };
        let request = ClusterMemberAttrSetRequest {
            member_id: self.config.id.0,
            member_attributes: Some(attributes),
        };
        let request = InternalRaftRequest {
            cluster_member_attr_set: Some(request),
            ..InternalRaftRequest::default()
        };
        let deadline = now + self.config.request_timeout();
        if self.propose(now, Origin::Publish, deadline, request).is_err() {
            self.timers.set(Timer::Publish, deadline);
        }
    }

    /// Runs the timers of requests: the earliest deadline, and the next question about reads.
    pub(crate) fn schedule_requests(&mut self) {
        if self.phase == Phase::Halted {
            return;
        }
        let transfers = self.transfers.iter().map(|transfer| transfer.deadline);
        let deadline = self
            .proposals
            .deadline()
            .into_iter()
            .chain(transfers)
            .chain(self.stop_by)
            .min();
        self.timers.put(Timer::Deadline, deadline);
        let reads = self.reads.deadline().filter(|_| self.phase < Phase::Removed);
        self.timers.put(Timer::Read, reads);
    }

    /// Hands proposals to the leader, while there is one that takes them.
    pub(super) fn send_proposals(&mut self) {
        while self.proposals.has_unsent() && self.takes_proposals() {
            let one_at_a_time = !self.leads() || !self.raft.raft.has_pending_conf();
            let entries = self.proposals.take_unsent(MAX_APPEND_BYTES, one_at_a_time);
            if entries.is_empty() {
                return;
            }
            let from = self.config.id.0;
            let kind = MessageType::MsgPropose as i32;
            // It cannot be refused: that there is a leader, and that it takes proposals, was just asked.
            let _taken = self.raft.step(Message {
                msg_type: kind,
                from,
                entries,
                ..Message::default()
            });
        }
    }

    /// Asks the leader for a read index, if anybody waits for one and it was not asked yet or long ago.
    pub(super) fn ask_reads(&mut self, now: Instant) {
        if self.phase < Phase::Removed
            && let Some(id) = self.reads.ask(now)
        {
            let knows_enough = mutant::is(25) || mutant::is(24) && !self.raft.raft.commit_to_current_term();
            if knows_enough && self.leads() {
                return self.reads.confirm(id, self.commit_index());
            }
            self.raft.read_index(id.to_be_bytes().to_vec());
        }
    }

    /// Lets reads go on whose index is applied.
    pub(super) fn release_reads(&mut self, out: &mut Vec<Output>) {
        let mut ready = Vec::new();
        self.reads.release(self.raft.raft.raft_log.applied, &mut ready);
        self.read_outcome(ready, Ok(()), out);
    }

    /// Answers whoever waits for leadership to move.
    pub(super) fn leadership_moved(&mut self, out: &mut Vec<Output>) {
        let leader = self.leader;
        let arrived = self.transfers.extract_if(.., |transfer| transfer.to == leader);
        out.extend(arrived.map(|transfer| Output::Transferred(transfer.token, Ok(()))));
        if self.phase == Phase::Stopping && !self.leads() {
            self.halt(Halt::Stopped, out);
        }
    }

    /// Tells everybody that this member stops.
    pub(super) fn answer_all_stopped(&mut self, out: &mut Vec<Output>) {
        while let Some(flight) = self.proposals.pop_any() {
            out.push(Output::Failed(flight.origin, Error::Stopped));
        }
        let mut readers = Vec::new();
        self.reads.drain(&mut readers);
        self.read_outcome(readers, Err(Error::Stopped), out);
        out.extend(
            self.transfers
                .drain(..)
                .map(|transfer| Output::Transferred(transfer.token, Err(Error::Stopped))),
        );
    }

    /// Clients are refused by a member on its way out, and by one that has too much to do.
    fn admit(&self, origin: Origin) -> Result<(), Error> {
        self.running()?;
        let gap = self.commit_index().saturating_sub(self.applied_index());
        if origin.token().is_some() && (gap > APPLY_GAP_MAX_ENTRIES || self.proposals.is_full()) {
            return Err(Error::TooManyRequests);
        }
        Ok(())
    }

    fn running(&self) -> Result<(), Error> {
        if self.phase == Phase::Running {
            Ok(())
        } else {
            Err(Error::Stopped)
        }
    }

    fn submit(&mut self, now: Instant, id: u64, origin: Origin, deadline: Instant, kind: EntryType, data: Vec<u8>) {
        let entry = Entry {
            entry_type: kind as i32,
            data: Bytes::from(data),
            ..Entry::default()
        };
        self.proposals.add(id, origin, now, deadline, entry);
    }

    /// Whether there is a leader, and it is not about to hand over or out of room for one message more.
    fn takes_proposals(&self) -> bool {
        let raft = &self.raft.raft;
        let room = MAX_UNCOMMITTED_BYTES.saturating_sub(MAX_APPEND_BYTES + self.config.max_request_bytes);
        let has_room = !self.leads() || raft.uncommitted_size() <= room;
        self.phase < Phase::Removed && self.leader != MemberId::NONE && raft.lead_transferee.is_none() && has_room
    }

    /// What the end of a proposal means to the member itself.
    pub(super) fn settle(&mut self, origin: Origin, applied: bool) {
        match origin {
            Origin::Publish if applied => self.published = true,
            Origin::Publish => self.timers.set(Timer::Publish, Instant::ZERO),
            Origin::Revoke(_) => self.revocations.proposed = self.revocations.proposed.saturating_sub(1),
            Origin::Alarm(_)
            | Origin::AutoCompact
            | Origin::Checkpoint
            | Origin::Client(_)
            | Origin::Compact(_)
            | Origin::Renew(..)
            | Origin::Version => {}
        }
    }

    fn read_outcome(&mut self, readers: Vec<Reader>, outcome: Result<(), Error>, out: &mut Vec<Output>) {
        for reader in readers {
            if reader == Reader::Expiry {
                self.leadership_confirmed(outcome.is_ok());
            }
            out.push(Output::Read(reader, outcome));
        }
    }

    fn timeout_error(&self, flight: Flight) -> Error {
        let connected_since = match self.leader {
            MemberId::NONE => None,
            leader if leader == self.config.id => Some(self.quorum_connected_since()),
            leader => Some(self.connected_since.get(&leader).copied()),
        };
        let loss_window = self.config.election_timeout * 2;
        proposals::timeout(
            flight.proposed_at,
            Circumstances {
                leader_since: self.leader_since,
                loss_window,
                connected_since,
            },
        )
    }

    /// Since when this member has been connected to as many voters as make a quorum with it.
    fn quorum_connected_since(&self) -> Option<Instant> {
        let voters = &self.conf_state().voters;
        let others = voters.iter().filter(|id| **id != self.config.id.0);
        let mut since: Vec<_> = others
            .filter_map(|id| self.connected_since.get(&MemberId(*id)).copied())
            .collect();
        since.sort_unstable();
        match reconfig::quorum(voters.len()) - 1 {
            0 => Some(Instant::ZERO),
            others => since.get(others - 1).copied(),
        }
    }

    fn may_move_leader(&self, to: MemberId) -> Result<(), Error> {
        self.running()?;
        if !self.leads() {
            return Err(Error::NotLeader);
        }
        if !self.conf_state().voters.contains(&to.0) {
            return Err(Error::BadLeaderTransferee);
        }
        Ok(())
    }

    /// The voter to leave leadership to: of those heard of lately the one with the longest log.
    fn heir(&self) -> Option<MemberId> {
        let progress = self.raft.raft.prs();
        let others = self.conf_state().voters.iter().filter(|id| **id != self.config.id.0);
        let followers = others.filter_map(|id| progress.get(*id).map(|of| (of.recent_active, of.matched, *id)));
        followers
            .max()
            .filter(|(is_active, _, _)| *is_active)
            .map(|(_, _, id)| MemberId(id))
    }

    fn learner_is_ready(&self, id: MemberId) -> Result<(), Error> {
        if !self.leads() {
            return Err(Error::NotLeader);
        }
        let matched = |id: u64| self.raft.raft.prs().get(id).map(|progress| progress.matched);
        let learner = matched(id.0).ok_or(Error::MemberNotFound)?;
        let leader = matched(self.config.id.0).unwrap_or(0);
        if u128::from(learner) * 100 < u128::from(leader) * u128::from(LEARNER_READY_PERCENT) {
            return Err(Error::LearnerNotReady);
        }
        Ok(())
    }
}

/// The id of the request that an entry holds.
pub(super) fn id_of(entry: &Entry) -> Option<u64> {
    if entry.entry_type == EntryType::EntryNormal as i32 {
        let request = InternalRaftRequest::decode(entry.data.clone()).ok()?;
        request.header.map(|header| header.id)
    } else {
        Some(ConfChange::decode(entry.data.clone()).ok()?.id)
    }
}

/// The lease that an entry ends, if it ends one.
pub(super) fn lease_ended_by(entry: &Entry) -> Option<i64> {
    if entry.entry_type != EntryType::EntryNormal as i32 {
        return None;
    }
    let request = InternalRaftRequest::decode(entry.data.clone()).ok()?;
    request.lease_revoke.map(|revoke| revoke.id)
}

/// A change of membership, as far as its precaution goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reconfiguration {
    /// A new member.
    Add { is_learner: bool },
    /// A learner becomes a voter.
    Promote(MemberId),
    /// A member goes.
    Remove(MemberId),
}
