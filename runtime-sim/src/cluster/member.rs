//! One machine: what outlasts a member's process, and the process while there is one.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use quoin_core::auth::SimpleTokens;
use quoin_core::id::MemberId;
use quoin_core::limits::{STORE_LANE_QUEUE_JOBS, WAL_LANE_QUEUE_JOBS};
use quoin_core::member::{Halt, Status, Token};
use quoin_core::mvcc::CompactHashes;
use quoin_core::node::{Done, Input};
use quoin_core::peer::Transport;
use quoin_core::random::Prng;
use quoin_core::store::View;
use quoin_core::time::Instant;
use quoin_core::watch::{Hub, HubConfig, WatchInput};

use super::clock::MachineClock;
use super::net::MACHINES_MAX;
use crate::faults::FaultKind;
use crate::observe::{OpId, StreamId};
use crate::process::{Process, Site, Start};

/// Whether a machine takes part.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    /// It takes part, or is about to.
    Member,
    /// It was removed from the cluster, and has learned of that or never will.
    Removed,
    /// Its data are lost or cannot be trusted: it must not return.
    Lost,
    /// It does not belong to the new cluster that was formed.
    Abandoned,
}

/// A machine.
pub(super) struct Machine {
    pub(super) site: Site,
    /// Its files and its table.
    pub(super) wal: PathBuf,
    pub(super) clock: MachineClock,
    /// The member's id, once it is known.
    pub(super) id: MemberId,
    pub(super) part: Part,
    /// What the wall clock showed when its process last started.
    pub(super) woke_ms: u64,
    /// Processes so far.
    pub(super) lives: u64,
    pub(super) life: Option<Life>,
    /// Processes that came up.
    pub(super) lives_begun: u64,
    /// The number of decisions about its power: an earlier decision to start is void.
    pub(super) power: u64,
    /// It is suspended until then.
    pub(super) paused_until: Instant,
    /// Its node gets no timer before.
    pub(super) starved_until: Instant,
    /// For each other machine, whether this one counts itself connected to it.
    pub(super) connected: [bool; MACHINES_MAX],
    /// The average time of its disk for a batch.
    pub(super) disk_latency: Duration,
    /// The defects of its disk and its table.
    pub(super) prng: Prng,
    /// A fault of its disk struck that it need not survive.
    pub(super) is_excused: bool,
    /// Rows of its table were damaged since it last started.
    pub(super) table_is_damaged: bool,
    /// Its disk may leave sectors half written.
    pub(super) is_rough: bool,
    /// Its disk may have reported data durable that are not.
    pub(super) is_deceived: bool,
    /// How often it was started again after its disk had failed.
    pub(super) repairs: u32,
    /// The next death: with the power or without, how long the machine is down, and how often it dies again while it
    /// starts.
    pub(super) doom: Option<Doom>,
    /// The planned fault that makes its disk slow.
    pub(super) slowed_by: Option<usize>,
    /// Its tokens are signed.
    pub(super) signs: bool,
    /// It is not known to be a member yet.
    pub(super) is_unborn: bool,
    /// It has lost its power: it does not even refuse a connection.
    pub(super) is_dark: bool,
    /// Its last published state, for outside observers.
    pub(super) last_view: Option<View>,
}

/// What a planned death is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doom {
    /// The planned fault.
    pub(super) planned: usize,
    /// The kind of fault as which it counts.
    pub(super) kind: FaultKind,
    pub(super) power: bool,
    pub(super) away: Duration,
    pub(super) again: u64,
    pub(super) points: u64,
}

/// The receiver of a node's answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Caller {
    /// A client's request.
    Op(OpId),
    /// A request that another member forwarded.
    Hop(u32),
    /// No request: the process stops and waits for no answer.
    Stop,
}

/// One life of a process.
pub(super) struct Life {
    pub(super) number: u64,
    pub(super) process: Process,
    pub(super) view: View,
    pub(super) status: Status,
    pub(super) hashes: CompactHashes,
    /// The tokens that it has given out.
    pub(super) tokens: RefCell<SimpleTokens>,
    pub(super) hub: Hub,
    /// Input for the watch hub.
    pub(super) hub_mail: VecDeque<WatchInput>,
    pub(super) hub_is_due: bool,
    pub(super) streams: BTreeSet<StreamId>,
    /// Input for the node.
    pub(super) inbox: Vec<Input>,
    pub(super) callers: BTreeMap<Token, Caller>,
    last_token: u64,
    pub(super) turns: u64,
    /// The node's thread is busy until then.
    pub(super) busy_until: Instant,
    pub(super) turn_is_due: bool,
    /// When the next look at the clock is planned.
    pub(super) wakes_at: Option<Instant>,
    /// The jobs that the log's lane is working on, and its next report.
    pub(super) log_jobs: usize,
    pub(super) log_reports: Vec<Done>,
    /// The jobs that the table's lane is working on, and its next report.
    pub(super) rows_jobs: usize,
    pub(super) rows_reports: Vec<Done>,
    pub(super) halt: Option<Halt>,
    /// An operator asked it to stop, to start it again.
    pub(super) is_stopping: bool,
    /// Its peer protocol.
    pub(super) transport: Option<Transport>,
    /// When the next step of the peer protocol is planned.
    pub(super) transport_wakes_at: Option<Instant>,
    /// Snapshots whose outcome was not reported yet, by receiver.
    pub(super) snapshots_out: BTreeMap<MemberId, usize>,
    /// The last snapshot that each receiver was sent.
    pub(super) snapshots_sent: BTreeMap<MemberId, Sent>,
    /// Proposals that were posted, in bytes of their messages.
    pub(super) proposals_posted: BTreeSet<Bytes>,
}

/// A snapshot that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) index: u64,
    /// The leader's term.
    pub(super) term: u64,
    /// When its arrival was reported: from then on its leader keeps the entries after it for half a minute.
    pub(super) arrived: Option<Instant>,
    /// Whether its receiver acknowledged its index, so that the entries after it are enough.
    pub(super) acknowledged: bool,
}

impl Life {
    pub(super) fn new(number: u64, process: Process, start: &Start, hub: HubConfig) -> Self {
        let status = Status {
            member: process.member,
            ..Status::default()
        };
        Self {
            number,
            view: start.view.clone(),
            status,
            hashes: CompactHashes::default(),
            tokens: RefCell::default(),
            hub: Hub::new(hub, start.view.kv.clone()),
            hub_mail: VecDeque::new(),
            hub_is_due: false,
            streams: BTreeSet::new(),
            inbox: Vec::new(),
            callers: BTreeMap::new(),
            last_token: 0,
            turns: 0,
            busy_until: Instant::ZERO,
            turn_is_due: false,
            wakes_at: None,
            log_jobs: 0,
            log_reports: Vec::new(),
            rows_jobs: 0,
            rows_reports: Vec::new(),
            halt: None,
            is_stopping: false,
            transport: None,
            transport_wakes_at: None,
            snapshots_out: BTreeMap::new(),
            snapshots_sent: BTreeMap::new(),
            proposals_posted: BTreeSet::new(),
            process,
        }
    }

    /// A new token for a request.
    pub(super) fn token(&mut self, caller: Caller) -> Token {
        self.last_token += 1;
        let token = Token(self.last_token);
        self.callers.insert(token, caller);
        token
    }

    /// Whether the lanes take more jobs. A node's thread waits while one of them does not.
    pub(super) fn has_room(&self) -> bool {
        self.process.log.waiting() < WAL_LANE_QUEUE_JOBS && self.process.rows.waiting() < STORE_LANE_QUEUE_JOBS
    }

    /// The next timer in the process, by its monotonic clock. A node that waits for a lane is woken by its report.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let rows = self.process.rows.wakes_at(now).filter(|_| self.rows_jobs == 0);
        let hub = self.hub.deadline().filter(|_| !self.streams.is_empty());
        let node = self.process.deadline().filter(|_| self.has_room());
        node.into_iter().chain(rows).chain(hub).min()
    }
}

impl Machine {
    pub(super) fn new(site: Site, clock: MachineClock, id: MemberId, disk_latency: Duration, prng: Prng) -> Self {
        Self {
            wal: site.dirs().wal,
            site,
            clock,
            id,
            part: Part::Member,
            woke_ms: 0,
            lives: 0,
            life: None,
            lives_begun: 0,
            power: 0,
            paused_until: Instant::ZERO,
            starved_until: Instant::ZERO,
            connected: [false; MACHINES_MAX],
            disk_latency,
            prng,
            is_excused: false,
            table_is_damaged: false,
            is_rough: false,
            is_deceived: false,
            repairs: 0,
            doom: None,
            slowed_by: None,
            signs: false,
            is_unborn: false,
            is_dark: false,
            last_view: None,
        }
    }

    /// Its monotonic clock, which its lanes read too.
    pub(super) fn look_at_clock(&self, truth: Instant) -> Instant {
        let shown = self.clock.now(truth);
        self.site.hand.advance_to(shown);
        shown
    }

    /// Its disk works at full speed again.
    pub(super) fn quicken(&mut self) {
        self.slowed_by = None;
        self.site.disk.set_slow(1, Duration::ZERO);
        self.site.table.set_slow(1, Duration::ZERO);
        self.site.disk.set_stall(Instant::ZERO);
        self.site.table.set_stall(Instant::ZERO);
    }

    /// The time that the disk takes for the present jobs.
    pub(super) fn disk_takes(&mut self) -> Duration {
        let nanos = u64::try_from(self.disk_latency.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(nanos / 2 + self.prng.below(nanos.max(1)))
    }

    pub(super) fn is_up(&self) -> bool {
        self.life.is_some()
    }

    /// The newest published state that it had.
    pub(super) fn view(&self) -> Option<&View> {
        self.life.as_ref().map(|life| &life.view).or(self.last_view.as_ref())
    }
}
