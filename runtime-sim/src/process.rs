//! One life of a member's process: the real boot, node and lanes, over a simulated disk, without their threads.
//!
//! The work of threads is done here when the world calls for it: a turn of the node, or a run of a lane over some of
//! its jobs. This file decides nothing else.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use quoin_core::boot::Damage;
use quoin_core::config::Config;
use quoin_core::id::{ClusterId, MemberId};
use quoin_core::jobs::{LogJob, TableJob, TableRows};
use quoin_core::member::{BatchId, Recovered};
use quoin_core::membership::Member;
use quoin_core::node::{Done, Effect, Input, Node};
use quoin_core::store::View;
use quoin_core::time::Instant;
use quoin_runtime::boot::{self, BootError, Booted};
use quoin_runtime::clock::Time as _;
use quoin_runtime::datadir::DataDir;
use quoin_runtime::disk::DiskFile;
use quoin_runtime::lanes::Lane;
use quoin_runtime::lanes::table::{Rows, TableTask};
use quoin_runtime::lanes::wal::{LaneContext, Log};
use quoin_runtime::progress::Progress;

use crate::disk::SimDisk;
use crate::fuse::Fuse;
use crate::table::SimTable;
use crate::time::Hand;

/// The site of a member: everything that outlasts its process.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its files.
    pub disk: SimDisk,
    /// Its table.
    pub table: SimTable,
    /// The fuse that can end the process.
    pub fuse: Fuse,
    /// The clock.
    pub hand: Hand,
    /// Its settings.
    pub config: Config,
    /// The length of its log segments.
    pub segment_bytes: u64,
    /// The largest number of bytes of entries in one append, if less than usual.
    pub append_bytes: Option<usize>,
}

impl Site {
    /// An empty site.
    #[must_use]
    pub fn new(seed: u64, config: Config, segment_bytes: u64) -> Self {
        let fuse = Fuse::default();
        let disk = SimDisk::new(seed, fuse.clone());
        let table = SimTable::new(seed, fuse.clone());
        Self {
            disk,
            table,
            fuse,
            hand: Hand::default(),
            config,
            segment_bytes,
            append_bytes: None,
        }
    }

    /// A copy of the site, with a fuse and a clock of its own.
    #[must_use]
    pub fn fork(&self) -> Self {
        let fuse = Fuse::default();
        let hand = Hand::default();
        hand.advance_to(self.hand.now());
        Self {
            disk: self.disk.fork(fuse.clone()),
            table: self.table.fork(fuse.clone()),
            fuse,
            hand,
            config: self.config.clone(),
            segment_bytes: self.segment_bytes,
            append_bytes: self.append_bytes,
        }
    }

    /// The directories.
    #[must_use]
    pub fn dirs(&self) -> DataDir {
        DataDir::new(
            &self.config.data_dir,
            self.config.wal_dir.as_deref().unwrap_or_default(),
        )
    }
}

/// The content of the disk when a process started.
#[derive(Clone)]
pub struct Start {
    /// The log, as read back.
    pub recovered: Recovered,
    /// The applied state, as read back from the table.
    pub view: View,
    /// The damage of the table, if it is rebuilt.
    pub damage: Option<Damage>,
    /// The members to connect with at first.
    pub peers: Vec<Member>,
}

/// A lane and the jobs that wait for it.
#[derive(Debug)]
pub struct Post<L: Lane> {
    lane: L,
    jobs: VecDeque<L::Job>,
    broken: bool,
}

impl<L: Lane> Post<L> {
    fn new(lane: L) -> Self {
        Self {
            lane,
            jobs: VecDeque::new(),
            broken: false,
        }
    }

    /// The number of waiting jobs.
    pub fn waiting(&self) -> usize {
        self.jobs.len()
    }

    /// Whether its own work is due.
    pub fn is_restless(&self) -> bool {
        !self.broken && self.lane.patience().is_some_and(|patience| patience.is_zero())
    }

    /// When its own work is due.
    pub fn wakes_at(&self, now: Instant) -> Option<Instant> {
        self.lane
            .patience()
            .filter(|_| !self.broken)
            .map(|patience| now + patience)
    }

    /// Carries out the first `count` jobs; false if the lane broke.
    pub fn run(&mut self, count: usize) -> bool {
        let mut jobs = self.jobs.drain(..count.min(self.jobs.len())).collect();
        let done = self.lane.run(&mut jobs);
        self.survived(done)
    }

    /// Does the lane's own work; false if the lane broke.
    pub fn rest(&mut self) -> bool {
        let done = self.lane.rest();
        self.survived(done)
    }

    /// Carries out the waiting jobs and closes the lane, unless it is broken.
    pub fn close(&mut self) {
        if !self.broken && self.run(usize::MAX) {
            let done = self.lane.close();
            self.survived(done);
        }
    }

    fn give(&mut self, job: L::Job) {
        // A broken lane has dropped its queue.
        if !self.broken {
            self.jobs.push_back(job);
        }
    }

    fn survived(&mut self, done: Result<(), quoin_core::error::Fault>) -> bool {
        if let Err(fault) = done {
            self.broken = true;
            self.jobs.clear();
            self.lane.broke(fault);
        }
        !self.broken
    }
}

/// Reports of the lanes that the node did not get yet.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    queue: Arc<Mutex<VecDeque<Done>>>,
}

impl Reports {
    /// Adds one.
    pub fn push(&self, done: Done) {
        self.lock().push_back(done);
    }

    /// Takes the first `count`.
    pub fn take(&self, count: usize) -> Vec<Done> {
        let mut queue = self.lock();
        let count = count.min(queue.len());
        queue.drain(..count).collect()
    }

    fn forget_failures(&self) {
        self.lock().retain(|done| !matches!(done, Done::Failed(_)));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Done>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running member.
pub struct Process {
    /// Its id.
    pub member: MemberId,
    /// Its cluster.
    pub cluster: ClusterId,
    node: Node,
    /// The log's lane.
    pub log: Post<Log>,
    /// The table's lane.
    pub rows: Post<Rows>,
    /// The lanes' reports.
    pub reports: Reports,
    /// The lock of the data directory.
    _lock: Box<dyn DiskFile>,
}

impl Process {
    /// Starts the member, which may `ask` others; `unix_ms` is the wall clock.
    ///
    /// # Errors
    /// Why it does not start.
    pub fn boot(site: &Site, unix_ms: u64, seed: u64, ask: &boot::Ask<'_>) -> Result<(Self, Start), BootError> {
        let reports = Reports::default();
        let keep = keep(site, &reports);
        let world = boot::World {
            disk: Arc::new(site.disk.clone()),
            open_table: &|path: &Path| site.table.open(&site.disk, path),
            // Addresses are numbers here, or resolve to themselves.
            resolve: &|url| Ok(url.authority().unwrap_or_default().to_owned()),
            ask,
            notify: &|_| {},
            progress: Progress::default(),
        };
        let booted = boot::boot(&site.config, site.config.store_config(), keep.clone(), &world)?;
        let Booted {
            member,
            recovered,
            store,
            log,
            table,
            lock,
            cluster,
            peers,
            damage,
        } = booted;
        let start = Start {
            recovered: recovered.clone(),
            view: store.view(),
            damage,
            peers,
        };
        let rows = Rows::new(Arc::new(site.disk.clone()), table, recovered.applied, &keep);
        let mut config = site.config.node_config(member);
        if let Some(bytes) = site.append_bytes {
            config.member.max_append_bytes = bytes;
        }
        let node = Node::start(config, recovered, store, seed, unix_ms, site.hand.now())?;
        Ok((
            Self {
                member,
                cluster,
                node,
                log: Post::new(log),
                rows: Post::new(rows),
                reports,
                _lock: lock,
            },
            start,
        ))
    }

    /// One turn of the node.
    pub fn step(&mut self, now: Instant, inputs: impl IntoIterator<Item = Input>, effects: &mut Vec<Effect>) {
        self.node.step(now, inputs, effects);
    }

    /// Asserts the invariants between turns.
    pub fn check(&self) {
        self.node.check();
    }

    /// The time by which the node must have a turn.
    pub fn deadline(&self) -> Option<Instant> {
        self.node.deadline().map(|(at, _)| at)
    }

    /// The last batch to be synced among the first `count` jobs of the log.
    #[must_use]
    pub fn last_synced(&self, count: usize) -> Option<BatchId> {
        let jobs = self.log.jobs.iter().take(count);
        jobs.filter(|job| job.sync).map(|job| job.batch).max()
    }

    /// Lets the log's lane continue as if nothing had failed; `batch` counts as durable. No real host does that.
    pub fn hide_fault(&mut self, batch: Option<BatchId>) {
        self.log.broken = false;
        self.reports.forget_failures();
        if let Some(batch) = batch {
            self.reports.push(Done::Persisted { batch });
        }
    }

    /// The last batch among the first `count` jobs of the log.
    #[must_use]
    pub fn last_batch(&self, count: usize) -> Option<BatchId> {
        self.log.jobs.iter().take(count).map(|job| job.batch).max()
    }

    /// The number of the first `count` jobs of the table up to the first one that installs a received state, and that
    /// state.
    pub(crate) fn next_replace(&self, count: usize) -> Option<(usize, View)> {
        let mut jobs = self.rows.jobs.iter().take(count).zip(1..);
        jobs.find_map(|(task, number)| match task {
            TableTask::Job(TableJob {
                rows: TableRows::All(view),
                ..
            }) => Some((number, (**view).clone())),
            TableTask::Job(_) | TableTask::Defragment(_) | TableTask::Sync => None,
        })
    }

    /// Queues work for the log.
    pub fn give_log(&mut self, job: LogJob) {
        self.log.give(job);
    }

    /// Queues work for the table.
    pub fn give_rows(&mut self, task: TableTask) {
        self.rows.give(task);
    }
}

fn keep(site: &Site, reports: &Reports) -> LaneContext {
    let reports = reports.clone();
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    LaneContext {
        snap_dir: site.dirs().snap(),
        max_wals: count(site.config.max_wals),
        max_snapshots: count(site.config.max_snapshots),
        segment_bytes: site.segment_bytes,
        unsafe_no_fsync: false,
        clock: Arc::new(site.hand.clone()),
        report: Arc::new(move |done| reports.push(done)),
        observe: Arc::new(|_| {}),
    }
}
