//! How the member drives consensus: ticks, messages, reports of durability and of apply, and changes of leader.

use raft::StateRole;

use crate::bug;
use crate::error::Fault;
use crate::id::MemberId;
use crate::limits::{LOG_PINNED_BYTES, LOG_TAIL_BYTES};
use crate::proto::raftpb::{ConfChange, ConfState, Entry, HardState, Message, MessageType};
use crate::time::Instant;

use super::filter::{self, Standing};
use super::log::Keep;
use super::{BatchId, DropReason, Halt, Member, MemberTimer, Output, Phase};

/// How long after its start a member may shorten its first election timeout.
const TICK_ADVANCE_WINDOW: std::time::Duration = std::time::Duration::from_secs(5);

/// A leader that missed this many ticks may have been deposed without noticing.
const SLEEP_HEARTBEATS: u32 = 3;

/// How long a removed member continues to send the commit index to the others.
const FAREWELL: std::time::Duration = std::time::Duration::from_secs(1);

impl Member {
    /// Whether this member missed so many ticks that it may have been deposed without noticing.
    pub(crate) fn overslept(&self, now: Instant) -> bool {
        now.saturating_since(self.last_tick) > self.config.heartbeat_interval * SLEEP_HEARTBEATS
    }

    /// One tick of consensus.
    pub(super) fn tick(&mut self, now: Instant, out: &mut Vec<Output>) {
        let interval = self.config.heartbeat_interval;
        // Ticks keep their phase, unless this member missed some: missed ticks are not repeated.
        let in_step = self.tick_due + interval;
        self.tick_due = if in_step > now { in_step } else { now + interval };
        self.timers.set(MemberTimer::Tick, self.tick_due);
        self.last_tick = now;
        if self.phase == Phase::Removed {
            self.raft.ping();
        } else if self.is_installing() {
            // A member whose log is being replaced does not campaign.
        } else if !self.is_sole_voter() || self.all_persisted() {
            // A sole voter elects itself at once, which requires that its whole log is on disk.
            self.raft.tick();
        }
        self.observe(now, out);
        self.persist_commit(out);
        self.mark_if_due(out);
    }

    /// A message from a peer.
    pub(crate) fn message(&mut self, now: Instant, from: MemberId, mut message: Message, out: &mut Vec<Output>) {
        if self.phase >= Phase::Removed {
            return;
        }
        let standing = self.standing(from);
        match filter::admit(&mut message, from, standing, &mut self.drops) {
            Ok(true) => {
                let votes = [MessageType::MsgRequestVote, MessageType::MsgRequestPreVote];
                if bug!(VotesWithinLease) && votes.contains(&message.get_msg_type()) {
                    message.context = bytes::Bytes::from_static(b"CampaignTransfer");
                }
                let is_proposal = message.get_msg_type() == MessageType::MsgPropose;
                // A message that consensus refuses is treated as lost.
                let is_refused = self.raft.step(message).is_err();
                if is_refused && is_proposal && self.leads() && self.raft.raft.lead_transferee.is_none() {
                    let bytes = self.raft.raft.uncommitted_size();
                    let cause = || format!("{bytes} bytes of entries are not committed yet");
                    self.drops.note(from, DropReason::NoRoom, cause);
                }
                self.observe(now, out);
            }
            Ok(false) => {}
            Err(fault) => self.fail(fault, out),
        }
    }

    /// A batch, and every one before it, is durable.
    pub(crate) fn persisted(&mut self, now: Instant, batch: BatchId, out: &mut Vec<Output>) {
        if self.phase == Phase::Halted {
            return;
        }
        self.installation_persisted(batch);
        if self.markers.persisted(batch) {
            self.mark_if_due(out);
        }
        if let Some(ready) = self.promises.persisted(batch, out)
            && self.phase != Phase::Removed
        {
            self.raft.on_persist_ready(ready);
            self.observe(now, out);
        }
    }

    /// Lets consensus act on its inputs. Returns entries to apply; the caller repeats until it returns none.
    pub(crate) fn drain(&mut self, now: Instant, out: &mut Vec<Output>) -> Vec<Entry> {
        if self.phase == Phase::Halted {
            return Vec::new();
        }
        self.lead_alone(now, out);
        self.send_proposals();
        self.ask_reads(now);
        let mut committed = Vec::new();
        while committed.is_empty() && !self.waits_for_installation(out) && self.raft.has_ready() {
            let mut ready = self.raft.ready();
            let number = ready.number();
            for state in ready.take_read_states() {
                if let Ok(id) = state.request_ctx.try_into().map(u64::from_be_bytes) {
                    self.reads.confirm(id, state.index);
                }
            }
            let leads = self.leads();
            let mut messages = ready.take_messages();
            messages.append(&mut ready.take_persisted_messages());
            self.pin(&messages);
            let is_snapshot = !ready.snapshot().is_empty();
            if is_snapshot {
                self.begin_log_anew();
            }
            let entries = ready.take_entries();
            self.raft.mut_store().append(&entries);
            let handed_over = self.promises.persist(number, self.raft.raft.hard_state(), entries, out);
            self.promises.send(messages, leads, out);
            committed = ready.take_committed_entries();
            self.raft.advance_append_async(ready);
            if is_snapshot {
                self.installed(out);
            }
            // Consensus keeps no progress of a removed member, and panics if that member's progress is reported.
            let is_durable =
                !handed_over && self.promises.outstanding() == 0 || bug!(CommitsBeforeSync) && self.is_sole_voter();
            if is_durable && self.phase < Phase::Removed {
                self.raft.on_persist_ready(number);
            }
        }
        self.release_reads(out);
        committed
    }

    /// A change of membership was applied. Consensus must see every change, including refused ones.
    pub(crate) fn apply_conf_change(&mut self, now: Instant, index: u64, change: &ConfChange, out: &mut Vec<Output>) {
        match self.raft.apply_conf_change(change) {
            Ok(conf_state) => {
                let conf_state = sorted(conf_state);
                self.markers.configured(index, conf_state.clone());
                self.raft.mut_store().set_conf_state(conf_state);
                self.observe(now, out);
            }
            Err(error) => {
                let cause = format!("consensus cannot apply the membership change in entry {index}: {error}");
                self.fail(Fault::Inconsistent { cause }, out);
            }
        }
    }

    /// The entry at `index` was applied. The caller calls [`Member::applied_to`] once for a series of entries.
    pub(crate) fn applied(&mut self, index: u64, term: u64) {
        self.markers.applied(index, term);
    }

    /// Everything up to `index` is applied.
    pub(crate) fn applied_to(&mut self, now: Instant, index: u64, out: &mut Vec<Output>) {
        self.raft.advance_apply_to(index);
        let (leads, raft) = (self.leads(), &self.raft.raft);
        let is_follower = |id: MemberId| leads && raft.prs().get(id.0).is_some();
        let keep = Keep {
            entries: self.config.snapshot_catchup_entries,
            bytes: LOG_TAIL_BYTES,
            pinned: self.pins.first(now, is_follower),
            pinned_bytes: LOG_PINNED_BYTES,
        };
        let log = self.raft.mut_store();
        log.applied_to(index);
        log.compact(keep);
        self.release_reads(out);
        self.observe(now, out);
    }

    /// The first entry of `term`'s leader was applied. Returns whether this member is that leader, and so has applied
    /// everything that was committed before.
    pub(crate) fn term_opened(&mut self, term: u64) -> bool {
        self.reads.void();
        self.leads() && term == self.term()
    }

    /// This member is no longer part of the cluster. For one more second it sends the commit index to the others, so
    /// that they apply its removal.
    pub(crate) fn removed(&mut self, now: Instant) {
        if self.phase < Phase::Removed {
            self.phase = Phase::Removed;
            if self.leads() {
                self.raft.raft.bcast_append();
            }
            self.timers.set(MemberTimer::Removed, now + FAREWELL);
        }
    }

    /// Ends this member by a fault.
    pub(crate) fn fail(&mut self, fault: Fault, out: &mut Vec<Output>) {
        self.halt(Halt::Fault(fault), out);
    }

    /// Ends this member. It takes no more inputs and makes no more outputs.
    pub(crate) fn halt(&mut self, halt: Halt, out: &mut Vec<Output>) {
        if self.phase == Phase::Halted {
            return;
        }
        if !matches!(halt, Halt::Fault(_)) {
            self.persist_commit(out);
        }
        self.answer_all_stopped(out);
        self.phase = Phase::Halted;
        self.timers = super::Timers::default();
        out.push(Output::Halt(halt));
    }

    /// Everything up to `index` is durable in the table, so a marker may be due.
    pub(crate) fn durable_to(&mut self, index: u64, out: &mut Vec<Output>) {
        self.markers.durable_to(index);
        self.mark_if_due(out);
    }

    /// Requests a marker at the last applied entry, as soon as that entry is durable in the table.
    pub(crate) fn request_marker(&mut self) {
        self.markers.request(self.applied_index());
    }

    /// Everything up to here is durable in the table.
    pub(crate) fn durable_index(&self) -> u64 {
        self.markers.durable()
    }

    /// A connection to a peer exists.
    pub(crate) fn peer_active(&mut self, now: Instant, id: MemberId, out: &mut Vec<Output>) {
        self.connected_since.entry(id).or_insert(now);
        if self.phase >= Phase::Removed {
            return;
        }
        let young = now.saturating_since(self.started_at) <= TICK_ADVANCE_WINDOW;
        if self.config.initial_election_tick_advance && young && !self.ticks_advanced && self.connected_since.len() > 1
        {
            self.ticks_advanced = true;
            self.advance_ticks(now, out);
        }
    }

    /// No connection to a peer exists.
    pub(crate) fn peer_inactive(&mut self, id: MemberId) {
        self.connected_since.remove(&id);
    }

    /// A message to a peer was lost.
    pub(crate) fn peer_unreachable(&mut self, id: MemberId) {
        if self.phase < Phase::Removed {
            self.raft.report_unreachable(id.0);
            let first = self.raft.store().first_index();
            if let Some(progress) = self
                .raft
                .raft
                .mut_prs()
                .get_mut(id.0)
                .filter(|_| bug!(AppendsFromBelow))
            {
                progress.next_idx = first.max(2);
            }
        }
    }

    /// The sending of a snapshot to a peer has ended; `received` says whether the peer has the snapshot.
    pub(crate) fn peer_snapshot(&mut self, now: Instant, id: MemberId, received: bool) {
        self.pins.ended(now, id, received);
        if self.phase < Phase::Removed {
            let status = if received {
                raft::SnapshotStatus::Finish
            } else {
                raft::SnapshotStatus::Failure
            };
            self.raft.report_snapshot(id.0, status);
        }
    }

    /// Keeps the log entries after each snapshot among these messages for its receiver.
    fn pin(&mut self, messages: &[Message]) {
        let is_snapshot = |message: &&Message| message.get_msg_type() == MessageType::MsgSnapshot;
        for message in messages.iter().filter(is_snapshot) {
            let index = message.get_snapshot().get_metadata().index;
            self.pins.sent(MemberId(message.to), index);
        }
    }

    /// Hands the commit index to the disk, but not beyond the last entry that was handed over. Returns false if a new
    /// term or vote has to be written first.
    fn persist_commit(&mut self, out: &mut Vec<Output>) -> bool {
        if self.is_installing() {
            return false;
        }
        let hard_state = self.raft.raft.hard_state();
        let handed_over = self.raft.raft.raft_log.unstable.offset - 1;
        let commit = hard_state.commit.min(handed_over);
        self.promises.persist_commit(HardState { commit, ..hard_state }, out)
    }

    /// Writes a marker to the log, if one is due.
    fn mark_if_due(&mut self, out: &mut Vec<Output>) {
        if self.phase == Phase::Halted || !self.markers.is_due() {
            return;
        }
        // A start uses a marker only if the log also shows that its index was committed.
        if self.persist_commit(out)
            && let Some(marker) = self.markers.take_due()
        {
            let batch = self.promises.mark(marker, out);
            self.markers.handed_over(batch);
        }
    }

    /// Whether every entry of the log is on disk.
    pub(super) fn all_persisted(&self) -> bool {
        let log = &self.raft.raft.raft_log;
        log.persisted == log.last_index()
    }

    /// Whether this member is the only voter.
    pub(super) fn is_sole_voter(&self) -> bool {
        self.conf_state().voters == [self.config.id.0]
    }

    /// Replaces the election timeout that consensus drew when term or role changed by one from this member's random
    /// stream.
    pub(super) fn draw_election_timeout(&mut self) {
        let at = (self.raft.raft.term, self.raft.raft.state);
        if at != self.drawn_at {
            self.drawn_at = at;
            let ticks = self.config.election_ticks();
            let extra = usize::try_from(self.prng.below(ticks as u64)).expect("fewer than there are ticks");
            self.raft.raft.set_randomized_election_timeout(ticks + extra);
        }
    }

    /// Reacts to changes of role, term and leader. It is called after every call into consensus that may cause one.
    pub(super) fn observe(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.draw_election_timeout();
        if bug!(CommitsOlderTerms) && self.leads() {
            let (counted, _) = self.raft.raft.mut_prs().maximal_committed_index();
            self.raft.raft.raft_log.commit_to(counted);
        }
        let leader = MemberId(self.raft.raft.leader_id);
        if leader == self.leader {
            return;
        }
        self.leader = leader;
        self.reads_failed += u64::from(self.reads.void());
        self.heartbeats.reset();
        if leader != MemberId::NONE {
            self.leader_since = Some(now);
            self.leader_changes += 1;
        }
        self.leadership_moved(out);
    }

    /// A sole voter campaigns without waiting for an election timeout.
    fn lead_alone(&mut self, now: Instant, out: &mut Vec<Output>) {
        let log = &self.raft.raft.raft_log;
        let settled = log.applied == log.committed && self.all_persisted() && self.promises.outstanding() == 0;
        if self.phase < Phase::Removed && settled && self.is_sole_voter() && self.raft.raft.state != StateRole::Leader {
            // Consensus refuses only while changes of membership are unapplied, and none are.
            let _refused = self.raft.campaign();
            self.observe(now, out);
        }
    }

    /// Advances the ticks of a starting follower, so that a cluster without a leader elects one soon. Two ticks remain,
    /// in which the follower can hear from a leader.
    fn advance_ticks(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.raft.raft.state != StateRole::Follower || self.is_sole_voter() || self.is_installing() {
            return;
        }
        for _ in 2..self.config.election_ticks() {
            self.raft.tick();
        }
        self.observe(now, out);
    }

    pub(super) fn standing(&self, from: MemberId) -> Standing {
        let progress = self.raft.raft.prs().get(from.0).filter(|_| self.leads());
        Standing {
            me: self.config.id,
            term: self.term(),
            last_index: self.raft.raft.raft_log.last_index(),
            leads: self.leads(),
            all_persisted: self.all_persisted(),
            matched: progress.map(|progress| progress.matched),
        }
    }
}

/// The same configuration with sorted ids; the `raft` crate keeps them in hash sets.
fn sorted(mut conf_state: ConfState) -> ConfState {
    conf_state.voters.sort_unstable();
    conf_state.learners.sort_unstable();
    conf_state
}
