//! Coverage as an oracle: counts situations that a good campaign meets sometimes. If a point is never met, the
//! simulation lacks a situation that real clusters meet.
//!
//! Everything here is observed from outside; checkers may count points of their own through [`Truth::note`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quoin_core::error::Error;
use quoin_core::id::MemberId;
use quoin_core::limits::WATCH_STREAM_QUEUE_RESPONSES;
use quoin_core::member::{Recovered, Status};
use quoin_core::proto::etcdserverpb::request_op::Request as OpRequest;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{InternalRaftRequest, TxnRequest, WatchRequest, WatchResponse};
use quoin_core::proto::raftpb::{ConfChange, ConfChangeType, Message, MessageType};
use quoin_core::time::Instant;

use super::{Asked, Checker, Committed, Op, Truth};
use crate::observe::{Observation, OpId, StreamId, Verdict};
use quoin_model::call::{Answer, Call, Refusal};

macro_rules! points {
    ($($name:ident $words:literal,)*) => {
        /// A situation that campaigns should meet.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub enum Point { $(#[doc = $words] $name,)* }

        impl Point {
            /// All points.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// A description in one sentence.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self { $(Self::$name => $words,)* }
            }
        }
    };
}

points! {
    LeaderChanged "Another member leads.",
    LeaderDeposed "A running member stops leading.",
    LeaderEnded "A leader's process ends.",
    VoteRefused "A member refuses to vote for another.",
    PreVoteRefused "A member refuses a pre-vote.",
    Transferred "A leader asks another member to campaign at once.",
    LongTerm "A term ends without a leader.",
    AppendRefused "A follower refuses entries that do not fit its log.",
    EntriesReplaced "A member replaces entries of its log.",
    LogCutShort "A log ends earlier than it did.",
    ManyBatches "Four batches wait for one disk.",
    SnapshotSent "A leader sends a snapshot.",
    SnapshotInstalled "A member installs a snapshot.",
    SnapshotWhileWatched "A snapshot is installed while a watcher is open there.",
    SnapshotOverEntries "A snapshot replaces entries that the member had.",
    SnapshotAfterChange "A snapshot brings a configuration that the member did not have.",
    CrashBeforeSync "A process dies while batches wait for its disk.",
    PowerLostBeforeSync "Power is lost while batches wait for the disk.",
    TailLost "A member starts without entries that it had handed to its disk.",
    ReplayNeeded "A member starts with a state older than its log.",
    ReplayFromNothing "A member starts with a log and no state.",
    RestartFromSnapshot "A member starts with a log that begins with a snapshot.",
    DiedInRecovery "A process dies before it publishes a state.",
    NoProcess "No process runs.",
    QuorumDown "A majority of the members is down.",
    FaultFound "A member stops because it found a fault.",
    VoterAdded "A voter is added.",
    LearnerAdded "A learner is added.",
    LearnerPromoted "A learner becomes a voter.",
    MemberRemoved "A member is removed.",
    LeaderRemoved "The leader is removed.",
    UrlsUpdated "A member's peer URLs change.",
    ChangeRefused "A membership change is in the log and refused.",
    ChangeAcrossLeaders "A membership change of one term is committed in a later one.",
    ChangeWhileDown "A membership change is committed while a member is down.",
    SingleVoter "A cluster has one voter after it had more.",
    CompactionWhileDown "History is compacted while a member is down.",
    CompactionWhileWatched "History is compacted while a watcher is open.",
    CompactionOfEverything "A compaction is at the current revision.",
    DeletedNothing "A deletion finds no key.",
    DeletedMany "A deletion finds three keys or more.",
    TxnSucceeded "A transaction's conditions hold.",
    TxnFailed "A transaction's conditions do not hold.",
    TxnNested "A transaction within a transaction is carried out.",
    TxnWroteNothing "A transaction in the log changes nothing.",
    TxnRefused "A transaction in the log is refused.",
    HistoricRead "A read of the past is answered.",
    StaleRead "A serializable read returns an older state than others have.",
    ReadAcrossTerms "A linearizable read is answered in a later term than that of its request.",
    ReadDropped "A linearizable read gets no answer while its member's term changes.",
    LimitedRead "A range is cut by its limit.",
    LeaseEndedByClient "A client revokes a lease.",
    LeaseExpired "A lease expires.",
    LeaseExpiredWithKeys "A lease expires and its keys are deleted.",
    LeaseExpiredWhileDown "A lease expires while a member is down.",
    LeaseExpiredInPartition "A lease expires while a running member is far behind.",
    LeaseOutlivedLeader "A lease expires under another leader than the one that granted it.",
    LeaseCheckpointed "A lease's remaining time is checkpointed.",
    CheckpointedInTime "A long lease is checkpointed when it is due.",
    CheckpointInherited "A new leader starts with another leader's checkpoint of a lease.",
    LeaseRenewed "A lease is renewed.",
    RenewedTooLate "A client tries to renew a lease that has ended.",
    Forwarded "A request to a member that does not lead is committed.",
    GaveUp "A client gives up on a request.",
    DoneAfterGivingUp "A request that its client gave up on is committed.",
    AnsweredInNextTerm "A write is committed in a later term than that of its request.",
    AlarmRaised "An alarm is raised.",
    AlarmCleared "An alarm is cleared.",
    WatchFromPast "A watcher starts in the past.",
    WatchFromFuture "A watcher starts in the future.",
    WatchResumed "A watcher with a start revision is opened after a stream of the client was closed.",
    WatchFragmented "A watch response comes in fragments.",
    WatchCompacted "A watcher is cancelled because of compaction.",
    WatchProgress "A watcher gets a progress notification.",
    WatchStreamFull "A stream has as many unread responses as a member keeps for it.",
    WatchCaughtUp "A watcher that fell behind on a full stream gets the missed events.",
    WatchCutByRestart "A watch stream ends with its member's process.",
    HistoryJudged "A short history is found linearizable without its log.",
    HistoryVoid "A short history is not judged: too much in it is unknown, or caused by other events.",
    Permitted "A request is permitted while auth is on.",
    Denied "A request is denied to its user.",
    TokenRefused "A token is refused.",
    HealedWithoutAll "Healing leaves members out.",
}

/// The errors that this version of the API can answer; campaigns should meet each. Two cannot be met on purpose: two
/// members with one id need chance, and "too many requests" needs thousands of pending ones.
pub const ERRORS: &[Error] = &[
    Error::AuthFailed,
    Error::AuthOldRevision,
    Error::BadLeaderTransferee,
    Error::Compacted,
    Error::DuplicateKey,
    Error::EmptyKey,
    Error::FutureRevision,
    Error::InvalidAuthToken,
    Error::InvalidSortOption,
    Error::KeyNotFound,
    Error::LearnerNotReady,
    Error::LeaseExists,
    Error::LeaseNotFound,
    Error::LeaseProvided,
    Error::LeaseTtlTooLarge,
    Error::MemberNotFound,
    Error::MemberNotLearner,
    Error::NoSpace,
    Error::NotEnoughStartedMembers,
    Error::NotLeader,
    Error::NotSupportedForLearner,
    Error::PeerUrlExists,
    Error::PermissionDenied,
    Error::RequestTooLarge,
    Error::Stopped,
    Error::Timeout,
    Error::TimeoutConnectionLost,
    Error::TimeoutLeaderFail,
    Error::TimeoutLeaderTransfer,
    Error::TooManyLearners,
    Error::TooManyOps,
    Error::UnhealthyCluster,
    Error::UserEmpty,
    Error::ValueProvided,
];

/// How often each point was met; clones share the counts.
#[derive(Clone, Debug)]
pub struct Coverage {
    counts: Arc<[AtomicU64]>,
    errors: Arc<[AtomicU64]>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self {
            counts: Point::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            errors: ERRORS.iter().map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Coverage {
    /// Counts one.
    pub fn note(&self, point: Point) {
        self.counts[point as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an error that a client got.
    pub fn refused(&self, refusal: &Refusal) {
        if let Some(place) = ERRORS.iter().position(|error| error.message() == refusal.message) {
            self.errors[place].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often it was met.
    #[must_use]
    pub fn count(&self, point: Point) -> u64 {
        self.counts[point as usize].load(Ordering::Relaxed)
    }

    /// Adds another run's counts.
    pub fn add(&self, other: &Self) {
        let mine = self.counts.iter().chain(self.errors.iter());
        for (mine, theirs) in mine.zip(other.counts.iter().chain(other.errors.iter())) {
            mine.fetch_add(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// The number of points and errors, and how many of them were met.
    #[must_use]
    pub fn met(&self) -> (usize, usize) {
        let all = || self.counts.iter().chain(self.errors.iter());
        (
            all().count(),
            all().filter(|count| count.load(Ordering::Relaxed) > 0).count(),
        )
    }

    /// A line for each point and error; those never met are marked.
    #[must_use]
    pub fn table(&self) -> String {
        let points = Point::ALL.iter().map(|point| point.words());
        let errors = ERRORS.iter().map(|error| error.message());
        let counts = self.counts.iter().chain(self.errors.iter());
        let mut table = String::new();
        for (words, count) in points.chain(errors).zip(counts) {
            let count = count.load(Ordering::Relaxed);
            let mark = if count == 0 { "NEVER" } else { "" };
            // Writing to a string cannot fail.
            let _written = writeln!(table, "{count:>10} {mark:<5} {words}");
        }
        table
    }
}

/// The state of a member, as far as it is needed here.
#[derive(Debug, Default)]
struct Peer {
    leads: bool,
    last: u64,
    has_published: bool,
    is_up: bool,
    streams: BTreeSet<StreamId>,
}

/// Counts the situations that can be observed from outside.
#[derive(Debug, Default)]
pub(super) struct Observer {
    committed: u64,
    leader: MemberId,
    led_term: u64,
    had_many_voters: bool,
    peers: BTreeMap<MemberId, Peer>,
    streams: BTreeMap<StreamId, MemberId>,
    closed_streams: u64,
    /// The stream read last, when, and how many responses were read at once.
    read: Option<(StreamId, Instant, usize)>,
    /// Streams that were full.
    full: BTreeSet<StreamId>,
    /// The leader that granted each lease.
    leases: BTreeMap<i64, MemberId>,
    /// The terms in which unanswered requests were made.
    asked_in: BTreeMap<OpId, u64>,
    founded: u64,
}

impl Checker for Observer {
    fn see(&mut self, at: Instant, seen: &Observation<'_>, truth: &Truth) -> Verdict {
        match *seen {
            Observation::Sent { message, .. } => sent(message, truth),
            Observation::Published { member, status, .. } => {
                self.published(member, status, truth);
                self.look_at_committed(truth);
            }
            Observation::Started { member, recovered, .. } => self.started(member, recovered, truth),
            Observation::Ended { member, lost_power } => self.ended(member, lost_power, truth),
            Observation::Faulted { .. } => truth.note(Point::FaultFound),
            Observation::Handed { member, entries, .. } => {
                if let Some(first) = entries.first() {
                    self.handed(member, first.index, truth);
                }
            }
            Observation::Installed { member, index, .. } => self.installed(member, index, truth),
            Observation::Invoked { op, member, call, .. } if goes_through_consensus(call) => {
                self.asked_in.insert(op, term(member, truth));
            }
            Observation::Replied { op, result, .. } => self.replied(op, result, truth),
            Observation::Returned { op, result } => self.returned(op, result.is_none(), truth),
            Observation::StreamOpened { stream, member, .. } => {
                self.streams.insert(stream, member);
                self.peers.entry(member).or_default().streams.insert(stream);
            }
            Observation::WatchRequested { request, .. } => self.watch_requested(request, truth),
            Observation::Watched { stream, response } => {
                self.read(at, stream, response, truth);
                watched(response, truth);
            }
            Observation::StreamClosed { stream } => {
                self.closed_streams += 1;
                self.full.remove(&stream);
                if let Some(member) = self.streams.remove(&stream) {
                    self.peers.entry(member).or_default().streams.remove(&stream);
                }
            }
            Observation::Healed { core, .. } => {
                note_if(core.len() < truth.members().count(), Point::HealedWithoutAll, truth);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Observer {
    fn published(&mut self, member: MemberId, status: &Status, truth: &Truth) {
        let peer = self.peers.entry(member).or_default();
        peer.has_published = true;
        note_if(peer.leads && !status.leads, Point::LeaderDeposed, truth);
        peer.leads = status.leads;
        if status.leads && status.term > self.led_term {
            note_if(
                self.led_term > 0 && status.term > self.led_term + 1,
                Point::LongTerm,
                truth,
            );
            note_if(self.led_term > 0 && self.leader != member, Point::LeaderChanged, truth);
            (self.leader, self.led_term) = (member, status.term);
        }
    }

    fn started(&mut self, member: MemberId, recovered: &Recovered, truth: &Truth) {
        let Some(facts) = truth.member(member) else { return };
        let peer = self.peers.entry(member).or_default();
        let last = facts.log.last();
        note_if(facts.life > 1 && last < peer.last, Point::TailLost, truth);
        note_if(
            last > recovered.applied && recovered.applied > 0,
            Point::ReplayNeeded,
            truth,
        );
        note_if(
            facts.life > 1 && last > 0 && recovered.applied == 0,
            Point::ReplayFromNothing,
            truth,
        );
        note_if(facts.log.base_index > 0, Point::RestartFromSnapshot, truth);
        *peer = Peer {
            last,
            is_up: true,
            ..Peer::default()
        };
    }

    fn ended(&mut self, member: MemberId, lost_power: bool, truth: &Truth) {
        let waits = truth.member(member).is_some_and(|facts| facts.disk.waiting() > 0);
        note_if(waits && lost_power, Point::PowerLostBeforeSync, truth);
        note_if(waits && !lost_power, Point::CrashBeforeSync, truth);
        let peer = self.peers.entry(member).or_default();
        note_if(!peer.has_published, Point::DiedInRecovery, truth);
        note_if(peer.leads, Point::LeaderEnded, truth);
        note_if(!peer.streams.is_empty(), Point::WatchCutByRestart, truth);
        peer.leads = false;
        peer.is_up = false;
        let up = self.peers.values().filter(|peer| peer.is_up).count();
        note_if(up == 0, Point::NoProcess, truth);
        note_if(
            self.peers.len() > 2 && up * 2 < self.peers.len(),
            Point::QuorumDown,
            truth,
        );
    }

    fn handed(&mut self, member: MemberId, first: u64, truth: &Truth) {
        let Some(facts) = truth.member(member) else { return };
        let peer = self.peers.entry(member).or_default();
        note_if(first <= peer.last, Point::EntriesReplaced, truth);

        note_if(peer.last > facts.log.last(), Point::LogCutShort, truth);
        note_if(facts.disk.waiting() >= 4, Point::ManyBatches, truth);
        peer.last = facts.log.last();
    }

    fn installed(&mut self, member: MemberId, index: u64, truth: &Truth) {
        truth.note(Point::SnapshotInstalled);
        let peer = self.peers.entry(member).or_default();
        note_if(!peer.streams.is_empty(), Point::SnapshotWhileWatched, truth);
        let applied = truth.member(member).map_or(0, |facts| facts.applied);
        note_if(peer.last > applied, Point::SnapshotOverEntries, truth);
        let model = truth.model();
        let is_new = model.cluster_at(index).members != model.cluster_at(applied).members;
        note_if(applied > 0 && is_new, Point::SnapshotAfterChange, truth);
        peer.last = index;
    }

    fn replied(&mut self, op: OpId, result: Result<&Answer, &Refusal>, truth: &Truth) {
        let asked_in = self.asked_in.remove(&op);
        let Some(op) = truth.op(op) else { return };
        let is_later = asked_in.is_some_and(|asked| asked < term(op.member, truth));
        match result {
            Err(refusal) => truth.refused(refusal),
            Ok(Answer::Range(response)) => {
                let Call::Range(request) = &op.call else { return };
                let revision = header_revision(op, result);
                note_if(
                    request.revision > 0 && request.revision < revision,
                    Point::HistoricRead,
                    truth,
                );
                let is_stale = request.serializable && revision < truth.model().revision();
                note_if(is_stale, Point::StaleRead, truth);
                note_if(response.more, Point::LimitedRead, truth);
                note_if(is_later && !request.serializable, Point::ReadAcrossTerms, truth);
            }
            Ok(Answer::LeaseKeepAlive(response)) => {
                truth.note(if response.ttl > 0 {
                    Point::LeaseRenewed
                } else {
                    Point::RenewedTooLate
                });
            }
            Ok(_) => note_if(is_later && !op.call.is_read(), Point::AnsweredInNextTerm, truth),
        }
    }

    fn returned(&mut self, op: OpId, gave_up: bool, truth: &Truth) {
        if !gave_up {
            return;
        }
        truth.note(Point::GaveUp);
        let asked_in = self.asked_in.remove(&op);
        let Some(op) = truth.op(op) else { return };
        let is_later = asked_in.is_some_and(|asked| asked < term(op.member, truth));
        note_if(is_later && op.call.is_read(), Point::ReadDropped, truth);
    }

    fn watch_requested(&self, request: &WatchRequest, truth: &Truth) {
        let Some(RequestUnion::CreateRequest(create)) = &request.request_union else {
            return;
        };
        let revision = truth.model().revision();
        note_if(
            create.start_revision > 0 && create.start_revision <= revision,
            Point::WatchFromPast,
            truth,
        );
        note_if(create.start_revision > revision + 1, Point::WatchFromFuture, truth);
        note_if(
            create.start_revision > 0 && self.closed_streams > 0,
            Point::WatchResumed,
            truth,
        );
    }

    /// A client reads. A client whose stream became full reads that many responses at once.
    fn read(&mut self, at: Instant, stream: StreamId, response: &WatchResponse, truth: &Truth) {
        let before = self.read.filter(|(of, then, _)| (*of, *then) == (stream, at));
        let count = before.map_or(0, |(_, _, count)| count) + 1;
        self.read = Some((stream, at, count));
        if count == WATCH_STREAM_QUEUE_RESPONSES {
            truth.note(Point::WatchStreamFull);
            self.full.insert(stream);
        }
        let revisions = response.events.iter().filter_map(|event| event.kv.as_ref());
        let mut revisions = revisions.map(|kv| kv.mod_revision);
        let first = revisions.next();
        let is_several = revisions.next_back().is_some_and(|last| first != Some(last));
        // New responses come one revision at a time.
        note_if(is_several && self.full.contains(&stream), Point::WatchCaughtUp, truth);
    }

    fn look_at_committed(&mut self, truth: &Truth) {
        let (founded, kept) = truth.founded();
        if self.founded != founded {
            self.founded = founded;
            self.committed = self.committed.min(kept);
        }
        while let Some(known) = truth.entry(self.committed + 1) {
            self.committed += 1;
            match &known.asked {
                Asked::Nothing => {}
                Asked::Change(change) => self.changed(change, known, truth),
                Asked::Request(request) => self.requested(request, known, truth),
            }
        }
    }

    fn is_any_down(&self) -> bool {
        self.peers.values().any(|peer| !peer.is_up)
    }

    fn changed(&mut self, change: &ConfChange, known: &Committed, truth: &Truth) {
        note_if(known.entry.term < known.seen_in, Point::ChangeAcrossLeaders, truth);
        if known.outcome.result.is_err() {
            return truth.note(Point::ChangeRefused);
        }
        note_if(self.is_any_down(), Point::ChangeWhileDown, truth);
        let is = |kind: ConfChangeType| change.change_type == kind as i32;
        let index = known.entry.index;
        let voters = super::raft::configuration(truth, index).0.len();
        note_if(voters == 1 && self.had_many_voters, Point::SingleVoter, truth);
        self.had_many_voters |= voters > 1;
        if index <= truth.decreed() {
            return;
        }
        let promoted = matches!(known.outcome.result, Ok(Answer::MemberPromote(_)));
        note_if(promoted, Point::LearnerPromoted, truth);
        note_if(is(ConfChangeType::AddNode) && !promoted, Point::VoterAdded, truth);
        note_if(is(ConfChangeType::AddLearnerNode), Point::LearnerAdded, truth);
        note_if(change.change_type == ConfChange::UPDATE_NODE, Point::UrlsUpdated, truth);
        if is(ConfChangeType::RemoveNode) {
            truth.note(Point::MemberRemoved);
            note_if(change.node_id == self.leader.0, Point::LeaderRemoved, truth);
        }
    }

    fn requested(&mut self, request: &InternalRaftRequest, known: &Committed, truth: &Truth) {
        let proposer = known.asked.id() >> 48;
        note_if(proposer != self.leader.0 & 0xffff, Point::Forwarded, truth);
        note_if(request.lease_checkpoint.is_some(), Point::LeaseCheckpointed, truth);
        if let Some(grant) = &request.lease_grant {
            self.leases.insert(grant.id, self.leader);
        }
        if let Some(revoke) = &request.lease_revoke {
            self.revoked(revoke.id, known, truth);
        }
        if let Some(compaction) = request.compaction.as_ref().filter(|_| known.outcome.result.is_ok()) {
            note_if(self.is_any_down(), Point::CompactionWhileDown, truth);
            note_if(!self.streams.is_empty(), Point::CompactionWhileWatched, truth);
            note_if(
                compaction.revision == known.outcome.revision,
                Point::CompactionOfEverything,
                truth,
            );
        }
        if let Some(alarm) = &request.alarm {
            note_if(alarm.action == 1, Point::AlarmRaised, truth);
            note_if(alarm.action == 2, Point::AlarmCleared, truth);
        }
        if let Ok(Answer::DeleteRange(response)) = &known.outcome.result {
            note_if(response.deleted == 0, Point::DeletedNothing, truth);
            note_if(response.deleted > 2, Point::DeletedMany, truth);
        }
        if let Some(txn) = &request.txn {
            ran(txn, known, truth);
        }
        let mut given_up = truth.ops().rev().take(GIVEN_UP_TRIED);
        let is_late =
            given_up.any(|(_, op)| op.returned.is_some() && op.replied.is_none() && is_put(request, &op.call));
        note_if(is_late, Point::DoneAfterGivingUp, truth);
    }

    fn revoked(&mut self, lease: i64, known: &Committed, truth: &Truth) {
        if known.outcome.result.is_err() {
            return;
        }
        let mut asked = truth.ops().rev().take(GIVEN_UP_TRIED);
        if asked.any(|(_, op)| matches!(&op.call, Call::LeaseRevoke(revoke) if revoke.id == lease)) {
            return truth.note(Point::LeaseEndedByClient);
        }
        truth.note(Point::LeaseExpired);
        note_if(!known.outcome.revisions.is_empty(), Point::LeaseExpiredWithKeys, truth);
        note_if(self.is_any_down(), Point::LeaseExpiredWhileDown, truth);
        let far_behind = known.entry.index.saturating_sub(FAR_BEHIND);
        let lags = truth
            .members()
            .any(|(_, facts)| facts.is_up && facts.applied < far_behind);
        note_if(lags, Point::LeaseExpiredInPartition, truth);
        let granted_by = self.leases.remove(&lease);
        note_if(
            granted_by.is_some_and(|by| by != self.leader),
            Point::LeaseOutlivedLeader,
            truth,
        );
    }
}

/// How many of the last requests are searched for one that its client gave up on.
const GIVEN_UP_TRIED: usize = 16;

/// A member this many entries behind the others counts as cut off.
const FAR_BEHIND: u64 = 8;

fn is_put(request: &InternalRaftRequest, call: &Call) -> bool {
    matches!(call, Call::Put(put) if request.put.as_ref() == Some(put))
}

fn ran(txn: &TxnRequest, known: &Committed, truth: &Truth) {
    let Ok(Answer::Txn(response)) = &known.outcome.result else {
        return truth.note(Point::TxnRefused);
    };
    note_if(response.succeeded, Point::TxnSucceeded, truth);
    note_if(!response.succeeded, Point::TxnFailed, truth);
    note_if(known.outcome.revisions.is_empty(), Point::TxnWroteNothing, truth);
    let branch = if response.succeeded { &txn.success } else { &txn.failure };
    let is_nested = branch
        .iter()
        .any(|op| matches!(op.request, Some(OpRequest::RequestTxn(_))));
    note_if(is_nested, Point::TxnNested, truth);
}

fn sent(message: &Message, truth: &Truth) {
    match MessageType::try_from(message.msg_type) {
        Ok(MessageType::MsgAppendResponse) if message.reject => truth.note(Point::AppendRefused),
        Ok(MessageType::MsgRequestVoteResponse) if message.reject => truth.note(Point::VoteRefused),
        Ok(MessageType::MsgRequestPreVoteResponse) if message.reject => truth.note(Point::PreVoteRefused),
        Ok(MessageType::MsgSnapshot) => truth.note(Point::SnapshotSent),
        Ok(MessageType::MsgTimeoutNow) => truth.note(Point::Transferred),
        _ => {}
    }
}

fn watched(response: &WatchResponse, truth: &Truth) {
    note_if(response.fragment, Point::WatchFragmented, truth);
    note_if(response.compact_revision > 0, Point::WatchCompacted, truth);
    let is_plain = !response.created && !response.canceled && response.events.is_empty();
    note_if(is_plain, Point::WatchProgress, truth);
}

fn header_revision(op: &Op, result: Result<&Answer, &Refusal>) -> i64 {
    result
        .ok()
        .and_then(Answer::header)
        .map_or(op.acked_revision, |header| header.revision)
}

/// Whether the answer to a call needs a quorum: all but serializable reads.
fn goes_through_consensus(call: &Call) -> bool {
    matches!(call, Call::Range(range) if !range.serializable) || !call.is_read()
}

fn term(member: MemberId, truth: &Truth) -> u64 {
    truth.member(member).map_or(0, |facts| facts.status.term)
}

fn note_if(holds: bool, point: Point, truth: &Truth) {
    if holds {
        truth.note(point);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_that_never_occurred_are_marked() {
        let (one, all) = (Coverage::default(), Coverage::default());
        one.note(Point::QuorumDown);
        one.refused(&Refusal {
            code: 11,
            message: Error::Compacted.message().to_owned(),
        });
        all.add(&one);
        all.add(&one);
        assert_eq!(all.count(Point::QuorumDown), 2);
        assert_eq!(all.met(), (Point::ALL.len() + ERRORS.len(), 2));
        let table = all.table();
        let line = |words: &str| table.lines().find(|line| line.contains(words)).unwrap();
        assert!(!line(Point::QuorumDown.words()).contains("NEVER"));
        assert!(!line(Error::Compacted.message()).contains("NEVER"));
        assert!(line(Point::GaveUp.words()).contains("NEVER"));
        assert!(Point::ALL.len() >= 60);
    }
}
