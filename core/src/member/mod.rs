//! A member of the cluster: consensus (the `raft` crate's `RawNode`) with its membership rules, proposals, linearizable
//! reads, and the log. It never waits: time enters as arguments, randomness from one seed.
//!
//! Inputs are methods; [`Output`]s are appended to the caller's buffer. No output that promises a batch of the log is
//! made before that batch is durable. The member does not hold the applied state: [`crate::node`] applies the entries
//! that [`Member::drain`] returns, and reports back what consensus needs from them.

mod config;
mod consensus;
mod drops;
mod filter;
mod heartbeats;
mod installation;
mod log;
mod markers;
mod pins;
mod promises;
mod proposals;
mod reads;
mod reconfig;
mod requests;
mod status;
mod timers;
mod transfer;

use std::collections::BTreeMap;

use raft::{RawNode, StateRole};

use crate::bug;
use crate::error::{Error, Fault};
use crate::id::{MemberId, RequestIdGenerator};
use crate::jobs::LogJob;
use crate::limits::{MAX_APPEND_BYTES, MAX_INFLIGHT_APPENDS, MAX_UNCOMMITTED_BYTES};
use crate::proto::raftpb::{ConfState, Entry, HardState, Message};
use crate::random::Prng;
use crate::time::Instant;

pub use config::Config;
pub use drops::{DropReason, Dropped};
pub use status::Status;
pub use timers::MemberTimer;

pub(crate) use filter::clear_foreign_fields;
pub(crate) use proposals::Origin;
pub(crate) use reads::Reader;
pub(crate) use requests::Reconfiguration;

use drops::Drops;
use heartbeats::Heartbeats;
use installation::Installation;
use log::LogTail;
use markers::Markers;
use pins::Pins;
use promises::Promises;
use proposals::Proposals;
use reads::Reads;
use timers::Timers;
use transfer::Transfer;

/// A request of a client, numbered by its host.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Token(pub u64);

/// The number of a job of the log or of the table. The two are counted separately, upwards from 1.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BatchId(pub u64);

/// Why a member ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Halt {
    /// A failure after which the member cannot continue.
    Fault(Fault),
    /// The member was removed from the cluster.
    Removed,
    /// The member was asked to stop.
    Stopped,
}

/// The log as read from disk, and how far the table had followed it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovered {
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// Index of the snapshot that the entries follow; 0 if there is none.
    pub snapshot_index: u64,
    /// Its term.
    pub snapshot_term: u64,
    /// The entries after it.
    pub entries: Vec<Entry>,
    /// The index of the last entry whose effects are in the table.
    pub applied: u64,
    /// The configuration of consensus after that entry.
    pub conf_state: ConfState,
}

/// A consequence of inputs. Outputs are to be carried out in order.
#[derive(Debug)]
pub(crate) enum Output {
    /// A proposal fails without being applied.
    Failed(Origin, Error),
    /// The member ends.
    Halt(Halt),
    /// The log continues after the received snapshot, whose state is now the applied one.
    Installed,
    /// To be appended to the log on disk, and reported by [`Member::persisted`] if it is synced.
    Log(LogJob),
    /// A linearizable read may be answered, or fails.
    Read(Reader, Result<(), Error>),
    /// To be sent to a peer; losing it is allowed.
    Send { to: MemberId, messages: Vec<Message> },
    /// Leadership moved as requested, or did not in time.
    Transferred(Token, Result<(), Error>),
}

/// The stages of a member's end.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Phase {
    Running,
    /// Asked to stop; leadership is being handed over.
    Stopping,
    /// Removed from the cluster; it only sends the commit index to the others, for one second.
    Removed,
    /// Ended: it takes no inputs and makes no outputs.
    Halted,
}

/// The machine of consensus, reads and log.
pub struct Member {
    config: Config,
    raft: RawNode<LogTail>,
    prng: Prng,
    ids: RequestIdGenerator,
    timers: Timers,
    promises: Promises,
    proposals: Proposals,
    reads: Reads,
    markers: Markers,
    pins: Pins,
    /// A received snapshot that is being written to disk.
    installation: Option<Installation>,
    transfers: Vec<Transfer>,
    /// The moment at which a stopping leader gives up handing over its leadership.
    stop_by: Option<Instant>,
    /// How often linearizable reads reached their deadline.
    reads_slow: u64,
    /// How often a batch of linearizable reads asked again after a change of leader.
    reads_failed: u64,
    heartbeats: Heartbeats,
    /// Messages of peers that were dropped in this turn because of their content.
    drops: Drops,
    connected_since: BTreeMap<MemberId, Instant>,
    phase: Phase,
    published: bool,
    started_at: Instant,
    ticks_advanced: bool,
    last_tick: Instant,
    tick_due: Instant,
    leader: MemberId,
    leader_since: Option<Instant>,
    leader_changes: u64,
    /// Term and role at which the election timeout was drawn.
    drawn_at: (u64, StateRole),
}

impl Member {
    /// A member that continues where the recovered log ends. `unix_ms` is the wall clock, in milliseconds since 1970.
    /// From it and from `seed` ids are made that no earlier run used.
    ///
    /// # Errors
    /// A fault if the recovered parts contradict each other.
    pub fn start(config: Config, recovered: Recovered, seed: u64, unix_ms: u64, now: Instant) -> Result<Self, Fault> {
        check_configuration(&config, &recovered.conf_state)?;
        let snapshot = (recovered.snapshot_index, recovered.snapshot_term);
        let (applied, conf_state) = (recovered.applied, recovered.conf_state.clone());
        let promises = Promises::new(recovered.hard_state);
        let random = Prng::new(seed).fork("ids").next_u64();
        let random = if bug!(CountsIdsAnew) { 0 } else { random };
        let mut ids = RequestIdGenerator::new(config.id, unix_ms, random);
        let log = LogTail::new(
            snapshot,
            recovered.entries,
            recovered.hard_state,
            applied,
            recovered.conf_state,
        )?;
        let durable = (applied, log.term_at(applied).unwrap_or(0));
        let markers = Markers::new(config.snapshot_count, snapshot.0, durable, conf_state);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raft = RawNode::new(&raft_config(&config, applied), log, &logger).map_err(|error| Fault::Inconsistent {
            cause: format!("consensus cannot start: {error}"),
        })?;
        let mut member = Self {
            prng: Prng::new(seed).fork("election"),
            reads: Reads::new(ids.next_id() ^ READ_ID_MARK),
            drawn_at: (u64::MAX, StateRole::Leader),
            last_tick: now,
            tick_due: now + config.heartbeat_interval,
            config,
            raft,
            ids,
            timers: Timers::default(),
            promises,
            proposals: Proposals::default(),
            markers,
            pins: Pins::default(),
            installation: None,
            transfers: Vec::new(),
            stop_by: None,
            reads_slow: 0,
            reads_failed: 0,
            heartbeats: Heartbeats::default(),
            drops: Drops::default(),
            connected_since: BTreeMap::new(),
            phase: Phase::Running,
            published: false,
            started_at: now,
            ticks_advanced: false,
            leader: MemberId::NONE,
            leader_since: None,
            leader_changes: 0,
        };
        member.draw_election_timeout();
        member.timers.set(MemberTimer::Tick, member.tick_due);
        member.timers.set(MemberTimer::Publish, now);
        Ok(member)
    }

    /// The id of this member.
    pub fn id(&self) -> MemberId {
        self.config.id
    }

    /// The leader that this member knows; `MemberId::NONE` if none.
    pub fn leader(&self) -> MemberId {
        self.leader
    }

    /// Whether this member leads.
    pub fn leads(&self) -> bool {
        self.raft.raft.state == StateRole::Leader
    }

    /// The current term.
    pub fn term(&self) -> u64 {
        self.raft.raft.term
    }

    /// The last entry known to be committed.
    pub fn commit_index(&self) -> u64 {
        self.raft.raft.raft_log.committed
    }

    /// The last entry applied.
    pub fn applied_index(&self) -> u64 {
        self.raft.raft.raft_log.applied
    }

    /// Whether this member's name and client URLs are in the applied state, so that clients may be served.
    pub fn is_published(&self) -> bool {
        self.published
    }

    /// The configuration of consensus.
    pub fn conf_state(&self) -> &ConfState {
        self.raft.store().conf_state()
    }

    /// The part of the status that consensus has; the applied state adds the rest.
    pub(crate) fn status(&self) -> Status {
        Status {
            member: self.config.id,
            leader: self.leader,
            term: self.term(),
            leads: self.leads(),
            is_learner: self.conf_state().learners.contains(&self.config.id.0),
            published: self.published,
            commit_index: self.commit_index(),
            applied_index: self.applied_index(),
            durable_index: self.durable_index(),
            proposals_pending: self.proposals.len() as u64,
            proposals_failed: self.proposals.failed(),
            reads_slow: self.reads_slow,
            reads_failed: self.reads_failed,
            is_installing: self.is_installing(),
            leader_changes: self.leader_changes,
        }
    }

    /// When to call [`Member::wake`] at the latest, and for which timer.
    pub(crate) fn deadline(&self) -> Option<(Instant, MemberTimer)> {
        self.timers.deadline()
    }

    /// Handles the earliest timer that is due, if any.
    pub(crate) fn wake(&mut self, now: Instant, out: &mut Vec<Output>) {
        match self.timers.pop_due(now) {
            None => {}
            Some(MemberTimer::Deadline) => self.expire_requests(now, out),
            Some(MemberTimer::Publish) => self.publish(now),
            Some(MemberTimer::Read) => self.expire_reads(now, out),
            Some(MemberTimer::Removed) => self.halt(Halt::Removed, out),
            Some(MemberTimer::Tick) => self.tick(now, out),
        }
    }

    /// Counts a message that was dropped before it came here.
    pub(crate) fn refuse(&mut self, from: MemberId, reason: DropReason, cause: String) {
        self.drops.note(from, reason, || cause);
    }

    /// Takes what was dropped since the last call.
    pub(crate) fn take_drops(&mut self) -> Vec<Dropped> {
        self.drops.take()
    }

    /// Whether this member has ended, so that no timer is due any more.
    pub(crate) fn has_halted(&self) -> bool {
        self.phase == Phase::Halted
    }

    /// Whether this member is removed or halted, so that no entry is applied any more.
    pub(crate) fn is_leaving(&self) -> bool {
        self.phase >= Phase::Removed
    }

    /// Asserts, in this order:
    ///
    /// - applied entries are committed, and on this member's own disk;
    /// - the log in memory reaches from at most the last applied entry to the end;
    /// - entries that are not on disk were handed to it;
    /// - proposals, their deadlines and their clients agree.
    pub fn check(&self) {
        let log = &self.raft.raft.raft_log;
        assert!(log.applied <= log.committed, "only committed entries are applied");
        assert!(
            log.applied <= log.persisted,
            "only entries on this member's own disk are applied"
        );
        assert!(
            log.store.first_index() <= log.applied + 1,
            "entries are kept until they are applied"
        );
        assert!(
            self.is_installing() || log.store.last().0 + 1 >= log.unstable.offset,
            "the log has no gap"
        );
        let settled = self.promises.outstanding() > 0 || self.phase >= Phase::Removed;
        assert!(
            settled || log.persisted == log.last_index(),
            "entries that are not on disk were handed to it"
        );
        self.proposals.check();
    }
}

/// Separates ids of reads from ids of proposals.
const READ_ID_MARK: u64 = 1 << 47;

/// etcd's configuration of the `raft` crate.
fn raft_config(config: &Config, applied: u64) -> raft::Config {
    raft::Config {
        id: config.id.0,
        election_tick: config.election_ticks(),
        heartbeat_tick: 1,
        applied,
        max_size_per_msg: config.max_append_bytes as u64,
        max_inflight_msgs: MAX_INFLIGHT_APPENDS,
        check_quorum: !crate::bug!(LeadsWithoutQuorum),
        pre_vote: config.pre_vote,
        max_uncommitted_size: MAX_UNCOMMITTED_BYTES as u64,
        max_committed_size_per_ready: MAX_APPEND_BYTES as u64,
        ..raft::Config::default()
    }
}

/// Refuses configurations on which the `raft` crate would panic.
fn check_configuration(config: &Config, conf_state: &ConfState) -> Result<(), Fault> {
    let inconsistent = |cause: String| Err(Fault::Inconsistent { cause });
    if config.id == MemberId::NONE {
        return inconsistent("a member cannot have the id 0".to_owned());
    }
    let mut ids: Vec<u64> = conf_state.voters.iter().chain(&conf_state.learners).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    let is_joint = !conf_state.voters_outgoing.is_empty() || !conf_state.learners_next.is_empty();
    if ids.len() != conf_state.voters.len() + conf_state.learners.len() || ids.first() == Some(&0) || is_joint {
        return inconsistent(format!(
            "the stored configuration of consensus is impossible: {conf_state:?}"
        ));
    }
    if conf_state.voters.is_empty() && !conf_state.learners.is_empty() {
        return inconsistent("the stored configuration of consensus has learners and no voters".to_owned());
    }
    Ok(())
}
