//! One member that is crashed at every point of its life, thousands of times: short runs that die at every single
//! point, long ones that die again and again. Its deaths are planned in `deaths`; it is checked like every cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use quoin_core::config::AutoCompaction;
use quoin_core::random::Prng;

use super::campaign::judge_of;
use super::deaths::Deaths;
use super::eyes::{Eyes, Tracing};
use super::plan::{Plan, Shape};
use super::run::build;
use crate::check::Coverage;
use crate::choose::one_of;
use crate::client::{self, Crowd};
use crate::disk::DiskModel;
use crate::observe::Violation;
use crate::table::TableModel;

/// Defects of the simulated world itself, to test whether the checkers find them. The default has none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lies {
    /// The disk's.
    pub disk: DiskModel,
    /// The table's.
    pub table: TableModel,
    /// A batch of the log is reported durable when it is handed over.
    pub reports_early: bool,
    /// A failed write or sync of the log is reported as done.
    pub hides_faults: bool,
}

impl Lies {
    /// Whether any guarantee of the world is broken. Half-written sectors do not count: real disks have them.
    pub(super) const fn any(&self) -> bool {
        self.disk.forgets_data
            || self.disk.forgets_names
            || self.table.forgets
            || self.table.tears_batches
            || self.reports_early
            || self.hides_faults
    }
}

/// The totals of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Processes that died.
    pub crashes: u64,
    /// Points passed at which the first process could have died, until all its clients had sent their requests.
    pub points: u64,
    /// Requests carried out and acknowledged.
    pub acknowledged: u64,
    /// Other events, with their counts.
    pub seen: BTreeMap<String, u64>,
}

impl Tally {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.crashes += other.crashes;
        self.points += other.points;
        self.acknowledged += other.acknowledged;
        for (what, count) in &other.seen {
            *self.seen.entry(what.clone()).or_default() += count;
        }
    }

    pub(super) fn note(&mut self, what: impl Into<String>) {
        *self.seen.entry(what.into()).or_default() += 1;
    }
}

/// One run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Many lives over one disk.
    Long {
        /// Its seed.
        seed: u64,
    },
    /// A short run that dies at one point.
    Short {
        /// Its seed.
        seed: u64,
        /// The point; without one it does not die.
        at: Option<u64>,
    },
}

impl Case {
    /// Its seed.
    #[must_use]
    pub const fn seed(self) -> u64 {
        match self {
            Self::Long { seed } | Self::Short { seed, .. } => seed,
        }
    }
}

/// The identity of a run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trace {
    /// The hash of all events.
    pub hash: u128,
    /// The number of events.
    pub events: u64,
}

/// A run that broke a promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The run.
    pub case: Case,
    /// The broken promise.
    pub violation: Violation,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.violation.checker, self.violation.words)?;
        write!(f, "rerun: cargo run --release -p quoin-runtime-sim -- crash ")?;
        match self.case {
            Case::Long { seed } => write!(f, "--long {seed}"),
            Case::Short { seed, at: None } => write!(f, "--short {seed}"),
            Case::Short { seed, at: Some(at) } => write!(f, "--short {seed} --at {at}"),
        }
    }
}

/// Runs one case; also returns its totals up to a broken promise.
pub fn run(case: Case, lies: Lies, tracing: Tracing) -> (Tally, Trace, Result<(), Failure>) {
    let (seed, plan) = (case.seed(), plan_of(case.seed()));
    let mut judge = judge_of(&plan, &Coverage::default());
    let clients = Box::new(Crowd::with_plan(seed, clients_of(seed)));
    let mut world = build(seed, plan, clients, Eyes::new(&mut judge, tracing));
    world.deaths = Some(Box::new(Deaths::new(case, lies)));
    world.first_life();
    let judged = world.run_caught();
    let tally = world.deaths.take().map(|deaths| deaths.tally).unwrap_or_default();
    let trace = Trace {
        hash: world.eyes.hash.value(),
        events: world.events,
    };
    (tally, trace, judged.map_err(|violation| Failure { case, violation }))
}

/// The settings of a seed's member: a cluster of one with short files, a short log and small limits, so that everything
/// happens within a short time.
fn plan_of(seed: u64) -> Plan {
    let mut plan = Plan::draw_as(seed, Some(1), Shape::Usual);
    let prng = &mut Prng::new(seed).fork("crash/plan");
    plan.faults.clear();
    // Runs end by themselves.
    plan.heals_after = Duration::from_secs(86_400);
    plan.segment_bytes = one_of(prng, &[1, 1_000, 2_048, 4_096, 16_384, 65_536]);
    let config = &mut plan.config;
    config.election_ms = 500;
    config.wal_dir = (prng.below(4) == 0).then(|| "/log/wal".to_owned());
    config.snapshot_count = one_of(prng, &[1, 2, 7, 30, 10_000]);
    config.snapshot_catchup_entries = one_of(prng, &[0, 1, 5, 5_000]);
    config.max_wals = one_of(prng, &[1, 1, 2, 5, 0]);
    config.compaction_batch_limit = one_of(prng, &[1, 3, 1_000]);
    config.compaction_sleep_interval = Duration::from_millis(one_of(prng, &[0, 1, 10]));
    config.quota_backend_bytes = one_of(prng, &[None, None, None, Some(20_000)]);
    if prng.below(6) == 0 {
        config.auto_compaction = AutoCompaction::Revision(prng.range(1..20));
    }
    plan
}

/// Clients that send many requests in a short time.
fn clients_of(seed: u64) -> client::plan::Plan {
    let prng = &mut Prng::new(seed).fork("crash/clients");
    let (callers, lanes) = (prng.range(1..5), one_of(prng, &[1, 1, 4, 10]));
    let asks_per_second = one_of(prng, &[20, 100, 500]);
    let patience = one_of(prng, &[1, 10, 20]);
    client::plan::Plan {
        callers,
        lanes,
        watchers: one_of(prng, &[0, 0, 1]),
        watches: one_of(prng, &[1, 3]),
        leaseholders: one_of(prng, &[0, 0, 1]),
        lockers: 0,
        pause: Duration::from_micros(callers * lanes * 1_000_000 / asks_per_second),
        value_bytes: one_of(prng, &[1, 600, 3_000, 9_000]),
        timeouts: [Duration::from_secs(patience); 2],
        ..client::plan::Plan::draw(seed)
    }
}

/// A campaign in progress.
#[derive(Clone, Debug)]
pub struct Campaign {
    seeds: Prng,
    lies: Lies,
    /// The counts so far.
    pub total: Tally,
    /// Crashes of long runs.
    long: u64,
    /// Crashes of short ones.
    short: u64,
    /// Runs so far.
    pub runs: u64,
}

impl Campaign {
    /// The campaign of `seed`.
    #[must_use]
    pub fn new(seed: u64, lies: Lies) -> Self {
        Self {
            seeds: Prng::new(seed).fork("campaign"),
            lies,
            total: Tally::default(),
            long: 0,
            short: 0,
            runs: 0,
        }
    }

    /// Runs until there were `crashes`, half of them in short runs. Calls `progress` from time to time.
    ///
    /// # Errors
    /// The first run that broke a promise.
    pub fn run(&mut self, crashes: u64, progress: &mut dyn FnMut(&Self)) -> Result<(), Failure> {
        while self.total.crashes < crashes {
            let seed = self.seeds.next_u64();
            if self.short <= self.long {
                self.sweep(seed, crashes, progress)?;
            } else {
                self.long += self.one(Case::Long { seed })?.crashes;
            }
            progress(self);
        }
        Ok(())
    }

    /// Lets one short run die at every point it has.
    fn sweep(&mut self, seed: u64, crashes: u64, progress: &mut dyn FnMut(&Self)) -> Result<(), Failure> {
        let points = self.one(Case::Short { seed, at: None })?.points;
        for at in 0..points {
            if self.total.crashes >= crashes {
                return Ok(());
            }
            self.short += self.one(Case::Short { seed, at: Some(at) })?.crashes;
            if at.is_multiple_of(256) {
                progress(self);
            }
        }
        Ok(())
    }

    fn one(&mut self, case: Case) -> Result<Tally, Failure> {
        let (tally, _, judged) = run(case, self.lies, Tracing::Off);
        self.runs += 1;
        self.total.add(&tally);
        judged.map(|()| tally)
    }
}

/// Runs a campaign without output.
///
/// # Errors
/// The first run that broke a promise.
pub fn campaign(seed: u64, crashes: u64, lies: Lies) -> Result<Tally, Failure> {
    let mut campaign = Campaign::new(seed, lies);
    campaign.run(crashes, &mut |_| {})?;
    Ok(campaign.total)
}
