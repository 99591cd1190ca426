//! Requests to the member: proposals and linearizable reads; and the answers when their deadline has passed.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message as _;
use raft::GetEntriesContext;

use crate::bug;
use crate::error::Error;
use crate::id::MemberId;
use crate::limits::{APPLY_GAP_MAX_ENTRIES, MAX_APPEND_BYTES, MAX_UNCOMMITTED_BYTES};
use crate::membership::Member as Peer;
use crate::proto::etcdserverpb::{InternalRaftRequest, RequestHeader};
use crate::proto::membershippb::{Attributes, ClusterMemberAttrSetRequest};
use crate::proto::raftpb::{ConfChange, Entry, EntryType, Message, MessageType};
use crate::store::Content;
use crate::time::Instant;

use super::proposals::{self, Circumstances, Flight};
use super::reconfig::{self, Roster};
use super::{Halt, Member, MemberTimer, Origin, Output, Phase, Reader};

/// A learner is promoted only if its log reaches this percentage of the leader's log.
const LEARNER_READY_PERCENT: u64 = 90;

impl Member {
    /// Proposes a request for a client, or for the member itself. `header` names its user, and gets its id. The outcome
    /// is known when it is applied.
    pub(crate) fn propose(
        &mut self,
        now: Instant,
        origin: Origin,
        deadline: Instant,
        (header, content): (RequestHeader, Content),
    ) -> Result<(), Error> {
        self.admit(origin)?;
        let id = self.ids.next_id();
        let data = content.into_request(RequestHeader { id, ..header }).encode_to_vec();
        if data.len() > self.config.max_request_bytes {
            return Err(Error::RequestTooLarge);
        }
        self.submit(now, id, origin, deadline, EntryType::EntryNormal, data);
        Ok(())
    }

    /// Proposes on the member's own behalf, with the timeout of a client's request.
    pub(crate) fn propose_own(&mut self, now: Instant, origin: Origin, content: Content) -> Result<(), Error> {
        let request = (RequestHeader::default(), content);
        self.propose(now, origin, self.own_deadline(now), request)
    }

    /// The deadline of a request that begins now.
    pub(crate) fn own_deadline(&self, now: Instant) -> Instant {
        now + self.config.request_timeout()
    }

    /// Drops proposals that were not handed to a leader yet. Returns the origins of the dropped ones.
    pub(crate) fn withdraw(&mut self, is_void: impl Fn(Origin) -> bool) -> Vec<Origin> {
        self.proposals.withdraw(is_void)
    }

    /// The leases whose revocation is in the log, or queued for it, but not applied. They must not be revoked again: a
    /// leader with a slow disk applies later than the others, so the log may already have a new lease with the same id,
    /// which a second revocation would end.
    pub(crate) fn leases_ending(&self) -> BTreeSet<i64> {
        let log = &self.raft.raft.raft_log;
        let unapplied = log.entries(log.applied + 1, None, GetEntriesContext::empty(false));
        let unapplied = unapplied.unwrap_or_default();
        let entries = unapplied.iter().chain(self.proposals.unsent());
        entries.filter_map(lease_ended_by).collect()
    }

    /// Proposes a change of membership. One change is pending at a time; further ones wait.
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

    /// A new id for a lease, which this member never gave out before.
    pub(crate) fn lease_id(&mut self) -> i64 {
        // Without the sign bit, as in etcd. The generator counts, so that the second try cannot be 0 again.
        let mut draw = || (self.ids.next_id() & (u64::MAX >> 1)) as i64;
        match draw() {
            0 => draw(),
            id => id,
        }
    }

    /// Whether a proposal was made here and is pending.
    pub(crate) fn awaits(&self, id: u64) -> bool {
        self.proposals.contains(id)
    }

    /// A proposal was applied: returns its origin, if it is pending here.
    pub(crate) fn resolve(&mut self, id: u64) -> Option<Origin> {
        let origin = self.proposals.resolve(id)?.origin;
        self.settle(origin, true);
        Some(origin)
    }

    /// Requests a read index: once it is applied, this member's state has every write that was answered before the
    /// call.
    pub(crate) fn read(&mut self, reader: Reader, deadline: Instant) -> Result<(), Error> {
        self.running()?;
        self.reads.join(reader, deadline);
        Ok(())
    }

    /// A client cancelled its request. The proposal may be applied all the same.
    pub(crate) fn cancel(&mut self, token: super::Token) {
        if self.proposals.cancel(token) {
            return;
        }
        self.reads.cancel(token);
        self.transfers.retain(|transfer| transfer.token != token);
    }

    /// Whether a change of membership may be proposed, by `--strict-reconfig-check` and by the rules that always hold.
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

    /// Answers requests whose deadline has passed.
    pub(super) fn expire_requests(&mut self, now: Instant, out: &mut Vec<Output>) {
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

    /// Answers reads whose deadline has passed; the others are asked again when consensus is drained.
    pub(super) fn expire_reads(&mut self, now: Instant, out: &mut Vec<Output>) {
        let mut late = Vec::new();
        self.reads.expire(now, &mut late);
        self.reads_slow += u64::from(!late.is_empty());
        out.extend(read_outcomes(late, Err(Error::Timeout)));
    }

    /// Proposes name and client URLs, and repeats this until they are applied.
    pub(super) fn publish(&mut self, now: Instant) {
        if self.published || self.phase != Phase::Running {
            return;
        }
        let attributes = Attributes {
            name: self.config.name.clone(),
            client_urls: self.config.client_urls.clone(),
        };
        let attributes = Content::MemberAttributes(ClusterMemberAttrSetRequest {
            member_id: self.config.id.0,
            member_attributes: Some(attributes),
        });
        if self.propose_own(now, Origin::Publish, attributes).is_err() {
            self.timers.set(MemberTimer::Publish, self.own_deadline(now));
        }
    }

    /// Sets the timers of requests: the earliest deadline, and the next question for a read index.
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
        self.timers.put(MemberTimer::Deadline, deadline);
        let reads = self.reads.deadline().filter(|_| self.phase < Phase::Removed);
        self.timers.put(MemberTimer::Read, reads);
    }

    /// Hands proposals to the leader, if there is one that takes them.
    pub(super) fn send_proposals(&mut self) {
        while self.proposals.has_unsent() && self.takes_proposals() {
            let one_at_a_time = !self.leads() || !self.raft.raft.has_pending_conf();
            let entries = self.proposals.take_unsent(MAX_APPEND_BYTES, one_at_a_time);
            if entries.is_empty() {
                return;
            }
            let from = self.config.id.0;
            let kind = MessageType::MsgPropose as i32;
            // Consensus cannot refuse: `takes_proposals` has checked that there is a leader that takes them.
            let _taken = self.raft.step(Message {
                msg_type: kind,
                from,
                entries,
                ..Message::default()
            });
        }
    }

    /// Asks the leader for a read index, if readers wait and their question was not asked yet or is due to be asked
    /// again.
    pub(super) fn ask_reads(&mut self, now: Instant) {
        if self.phase < Phase::Removed
            && let Some(id) = self.reads.ask(now)
        {
            let knows_enough =
                bug!(ReadsUnconfirmed) || bug!(ReadsBeforeCommit) && !self.raft.raft.commit_to_current_term();
            if knows_enough && self.leads() {
                return self.reads.confirm(id, self.commit_index());
            }
            self.raft.read_index(id.to_be_bytes().to_vec());
        }
    }

    /// Releases the reads whose index is applied.
    pub(super) fn release_reads(&mut self, out: &mut Vec<Output>) {
        let mut ready = Vec::new();
        self.reads.release(self.raft.raft.raft_log.applied, &mut ready);
        out.extend(read_outcomes(ready, Ok(())));
    }

    /// Answers all requests with [`Error::Stopped`].
    pub(super) fn answer_all_stopped(&mut self, out: &mut Vec<Output>) {
        while let Some(flight) = self.proposals.pop_any() {
            out.push(Output::Failed(flight.origin, Error::Stopped));
        }
        let mut readers = Vec::new();
        self.reads.drain(&mut readers);
        out.extend(read_outcomes(readers, Err(Error::Stopped)));
        out.extend(
            self.transfers
                .drain(..)
                .map(|transfer| Output::Transferred(transfer.token, Err(Error::Stopped))),
        );
    }

    /// Refuses every proposal while this member stops, and those of clients while too many proposals are pending or too
    /// many entries are committed and not applied.
    fn admit(&self, origin: Origin) -> Result<(), Error> {
        self.running()?;
        let gap = self.commit_index().saturating_sub(self.applied_index());
        if origin.token().is_some() && (gap > APPLY_GAP_MAX_ENTRIES || self.proposals.is_full()) {
            return Err(Error::TooManyRequests);
        }
        Ok(())
    }

    pub(super) fn running(&self) -> Result<(), Error> {
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

    /// Whether there is a leader that is not handing over its leadership and has room for one more message.
    fn takes_proposals(&self) -> bool {
        let raft = &self.raft.raft;
        let room = MAX_UNCOMMITTED_BYTES.saturating_sub(MAX_APPEND_BYTES + self.config.max_request_bytes);
        let has_room = !self.leads() || raft.uncommitted_size() <= room;
        self.phase < Phase::Removed && self.leader != MemberId::NONE && raft.lead_transferee.is_none() && has_room
    }

    /// Acts on the outcome of a proposal by which the member publishes itself.
    fn settle(&mut self, origin: Origin, applied: bool) {
        match origin {
            Origin::Publish if applied => self.published = true,
            Origin::Publish => self.timers.set(MemberTimer::Publish, Instant::ZERO),
            Origin::Alarm(_)
            | Origin::AutoCompact
            | Origin::Checkpoint
            | Origin::Client(_)
            | Origin::Compact(_)
            | Origin::Renew(..)
            | Origin::Revoke(_)
            | Origin::Version => {}
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

    /// Since when this member has been connected to a quorum of voters, counting itself.
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

    fn learner_is_ready(&self, id: MemberId) -> Result<(), Error> {
        if !self.leads() {
            return Err(Error::NotLeader);
        }
        let matched = |id: u64| self.raft.raft.prs().get(id).map(|progress| progress.matched);
        let learner = matched(id.0).ok_or(Error::MemberNotFound)?;
        let leader = matched(self.config.id.0).unwrap_or(0);
        if !bug!(PromotesUnready) && u128::from(learner) * 100 < u128::from(leader) * u128::from(LEARNER_READY_PERCENT)
        {
            return Err(Error::LearnerNotReady);
        }
        Ok(())
    }
}

fn read_outcomes(readers: Vec<Reader>, outcome: Result<(), Error>) -> impl Iterator<Item = Output> {
    readers.into_iter().map(move |reader| Output::Read(reader, outcome))
}

/// The lease that an entry revokes, if it revokes one.
fn lease_ended_by(entry: &Entry) -> Option<i64> {
    if entry.entry_type != EntryType::EntryNormal as i32 {
        return None;
    }
    let request = InternalRaftRequest::decode(entry.data.clone()).ok()?;
    request.lease_revoke.map(|revoke| revoke.id)
}

/// The kinds of membership changes that the health check distinguishes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reconfiguration {
    /// A new member.
    Add { is_learner: bool },
    /// A learner becomes a voter.
    Promote(MemberId),
    /// A member is removed.
    Remove(MemberId),
}
