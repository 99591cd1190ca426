//! One member, its clients and its disk, from the first start to the last: lives that end in crashes, and what becomes of
//! it all.
//!
//! What can happen next is in `steps`, how a life ends in `ends`. Every choice is drawn from the seed; the schedule and the
//! fate of processes have streams of their own, so that a run goes the same way until the point where it is made to die.

mod ends;
mod steps;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use quoin_core::error::{Error, Fault};
use quoin_core::member::{Halt, Token};
use quoin_core::node::{Input, Request, Response};
use quoin_core::random::Prng;
use quoin_core::store::View;
use quoin_core::time::Instant;
use quoin_runtime::boot::BootError;
use quoin_runtime::clock::Time as _;

use crate::disk::DiskModel;
use crate::fuse::Touch;
use crate::judge::{Judge, Verdict, Violation, ensure};
use crate::process::{Process, Site};
use crate::swarm::{Pace, Swarm, one_of};
use crate::table::TableModel;
use crate::trace::Trace;
use crate::workload::Workload;

/// Ways in which the world itself can be wrong, to see whether the judge notices. The default is an honest world.
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
    /// Whether any promise of the world is broken; half-written sectors are rough, and no lie.
    fn any(&self) -> bool {
        self.disk.forgets_data
            || self.disk.forgets_names
            || self.table.forgets
            || self.table.tears_batches
            || self.reports_early
            || self.hides_faults
    }
}

/// What a run amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Processes that died.
    pub crashes: u64,
    /// Points passed at which they could have.
    pub points: u64,
    /// Requests carried out and acknowledged.
    pub acknowledged: u64,
    /// What else happened, and how often.
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

    fn note(&mut self, what: impl Into<String>) {
        *self.seen.entry(what.into()).or_default() += 1;
    }
}

/// How a life went.
#[derive(Clone, Debug)]
enum Life {
    /// The process died at a point.
    Crashed,
    /// It ended by itself.
    Halted,
    /// The disk failed while it started.
    Refused,
    /// The disk holds what the member refuses to start from, as it may on a rough disk.
    Unreadable,
    /// It still runs, and nothing is left of the script.
    Runs,
}

/// A member's whole world.
pub struct World {
    site: Site,
    swarm: Swarm,
    lies: Lies,
    process: Option<Process>,
    judge: Judge,
    workload: Workload,
    schedule: Prng,
    fate: Prng,
    /// Requests on their way to the node.
    inbox: VecDeque<Input>,
    /// Answers on their way to clients.
    answers: VecDeque<(Token, Result<Response, Error>)>,
    /// What the node has not answered yet, and since when.
    unanswered: BTreeMap<Token, Instant>,
    last_token: u64,
    /// Requests that clients still want to make in this life.
    script: u64,
    pace: Pace,
    /// Whether clients are served.
    serving: bool,
    /// When this life began.
    born: Instant,
    lives: u64,
    /// What the wall clock shows beyond the time that has passed, and what it showed at the last start.
    wall_ms: u64,
    started_unix_ms: u64,
    halted: Option<Halt>,
    /// What another start from the same disk came to.
    twin: Option<View>,
    /// What is being done, for the tally of crashes.
    doing: &'static str,
    tally: Tally,
    trace: Trace,
}

/// The wall clock at the beginning: some day in 2024.
const WALL_MS: u64 = 1_720_000_000_000;
/// No start takes longer until clients are served.
const START_MAX: Duration = Duration::from_secs(60);
/// Nobody waits longer for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Crashes in a row before a start is let through.
const NESTED_MAX: u64 = 4;
/// Points of an ordinary start, roughly.
const BOOT_POINTS: u64 = 60;
/// Everything as eager as everything else.
const FAIR: Pace = Pace {
    ask: 10,
    answer: 10,
    log: 10,
    node: 10,
    rows: 10,
    sleep: 1,
};

impl World {
    /// The world of `seed`.
    #[must_use]
    pub fn new(seed: u64, lies: Lies, trace: Trace) -> Self {
        let swarm = Swarm::draw(seed);
        let site = Site::new(seed, swarm.config.clone(), swarm.segment_bytes);
        site.disk.set_model(lies.disk);
        site.table.set_model(lies.table);
        let prng = Prng::new(seed);
        // In a world that lies the judge is to find out by what clients see.
        let judge = Judge::new(swarm.config.store_config(), !lies.any());
        Self {
            judge,
            workload: Workload::new(seed, &swarm),
            schedule: prng.fork("schedule"),
            fate: prng.fork("fate"),
            pace: swarm.pace,
            site,
            swarm,
            lies,
            process: None,
            inbox: VecDeque::new(),
            answers: VecDeque::new(),
            unanswered: BTreeMap::new(),
            last_token: 0,
            script: 0,
            serving: false,
            born: Instant::ZERO,
            lives: 0,
            wall_ms: WALL_MS,
            started_unix_ms: WALL_MS,
            halted: None,
            twin: None,
            doing: "boot",
            tally: Tally::default(),
            trace,
        }
    }

    /// A short run that dies at its `at`-th point, or not at all, and is then brought back to serve, and dies again. Dying
    /// while it comes back is part of it.
    ///
    /// # Errors
    /// The first promise that was broken.
    pub fn run_short(&mut self, at: Option<u64>) -> Verdict {
        if let Some(at) = at {
            self.site.fuse.set(at);
        }
        let script = self.schedule.range(4..24);
        let mut life = self.live(script)?;
        let mut nested = 0;
        while matches!(life, Life::Crashed | Life::Refused | Life::Halted) {
            self.end(&life);
            nested += 1;
            let again = at.is_some() && nested <= NESTED_MAX && self.fate.below(3) == 0;
            if again {
                self.site.fuse.set(self.fate.below(BOOT_POINTS));
            }
            let script = self.schedule.below(6);
            life = self.live(script)?;
        }
        self.conclude(&life)?;
        if at.is_some() && matches!(life, Life::Runs) {
            // What it came back to, and promised since, must survive as well.
            self.end(&life);
            life = self.live(0)?;
            self.conclude(&life)?;
        }
        Ok(())
    }

    /// A long run: many lives over one disk, each with an end of its own.
    ///
    /// # Errors
    /// The first promise that was broken.
    pub fn run_long(&mut self, lives: u64) -> Verdict {
        let mut nested = 0;
        for _ in 0..lives {
            let script = self.plan(&mut nested);
            let mut life = self.live(script)?;
            if matches!(life, Life::Runs) && self.fate.below(3) == 0 {
                life = self.stop()?;
            }
            self.end(&life);
            if matches!(life, Life::Unreadable) {
                return Ok(());
            }
        }
        let life = self.live(10)?;
        self.conclude(&life)
    }

    /// What it amounted to.
    #[must_use]
    pub fn tally(&self) -> Tally {
        Tally {
            points: self.site.fuse.points(),
            ..self.tally.clone()
        }
    }

    /// The record of it.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Decides what will happen to the next life; returns how many requests it is to serve.
    fn plan(&mut self, nested: &mut u64) -> u64 {
        let script = self.fate.range(1..60);
        if self.fate.below(100) < self.swarm.errors_percent {
            self.plan_error();
        }
        *nested += 1;
        match self.fate.below(12) {
            0..3 if *nested <= NESTED_MAX => {
                self.tally.note(format!("to die while it starts: {nested} in a row"));
                self.site.fuse.set(self.fate.below(BOOT_POINTS));
            }
            3..6 => {
                *nested = 0;
                self.site.fuse.set(self.fate.range(BOOT_POINTS..1_500));
            }
            6..10 => {
                *nested = 0;
                // Between a write and its sync there is most to lose.
                let touches = [Touch::Sync, one_of(&mut self.fate, &Touch::FALLIBLE)];
                let touch = one_of(&mut self.fate, &touches);
                self.site.fuse.set_on(touch, self.fate.below(40));
            }
            _ => *nested = 0,
        }
        script
    }

    /// One life, until it ends or has served its script.
    fn live(&mut self, script: u64) -> Result<Life, Violation> {
        self.script = script;
        self.lives += 1;
        if let Some(life) = self.boot()? {
            return Ok(life);
        }
        while self.script > 0 || !self.unanswered.is_empty() {
            self.step()?;
            if let Some(life) = self.over()? {
                return Ok(life);
            }
        }
        for _ in 0..self.schedule.below(40) {
            self.step()?;
            if let Some(life) = self.over()? {
                return Ok(life);
            }
        }
        Ok(Life::Runs)
    }

    /// Starts the process; says how that went if it did not go well.
    fn boot(&mut self) -> Result<Option<Life>, Violation> {
        self.doing = "boot";
        self.born = self.site.hand.now();
        self.set_wall_clock();
        self.twin = if self.schedule.below(16) == 0 {
            self.run_twin()
        } else {
            None
        };
        let seed = self.schedule.next_u64();
        match Process::boot(&self.site, self.unix_ms(), seed) {
            Ok((process, start)) => {
                self.trace.add(self.born, format_args!("started {:?}", start.recovered));
                self.process = Some(process);
                if let Some(damage) = &start.damage {
                    // Nothing damages a table here but a disk that lies.
                    return Err(Violation(format!("the table is damaged: {}", damage.cause)));
                }
                self.judge.started(&start)?;
                self.note_findings();
                Ok(None)
            }
            Err(_) if self.site.fuse.blown() => Ok(Some(Life::Crashed)),
            Err(_) if self.site.fuse.struck().is_some() => Ok(Some(Life::Refused)),
            Err(BootError::Fault(Fault::Corrupt { .. })) if self.lies.disk.halves_sectors => Ok(Some(Life::Unreadable)),
            Err(error) => Err(Violation(format!(
                "the member does not start: {error}; it finds {}",
                self.files()
            ))),
        }
    }

    /// The wall clock moves on between lives, and may be set.
    fn set_wall_clock(&mut self) {
        let by = one_of(&mut self.fate, &[3, 1_000, 3_600_000]);
        match self.fate.below(4) {
            0 if self.swarm.sets_wall_back => self.wall_ms -= self.fate.below(by),
            // To the very moment of the last start.
            1 if self.swarm.sets_wall_back => self.wall_ms -= self.unix_ms() - self.started_unix_ms,
            2 => self.wall_ms += self.fate.below(by),
            _ => {}
        }
        self.started_unix_ms = self.unix_ms();
    }

    fn unix_ms(&self) -> u64 {
        self.wall_ms + self.site.hand.now().as_nanos() / 1_000_000
    }

    /// What a second start from the same disk comes to, left alone until it serves.
    fn run_twin(&self) -> Option<View> {
        let site = self.site.fork();
        let (mut process, start) = Process::boot(&site, self.unix_ms(), !0).ok()?;
        let mut view = start.view;
        for _ in 0..200 {
            process.log.run(usize::MAX);
            process.rows.run(usize::MAX);
            let inputs = process
                .reports
                .take(usize::MAX)
                .into_iter()
                .map(Input::Done)
                .chain([Input::Wake])
                .collect();
            let mut effects = Vec::new();
            process.turn(site.hand.now(), inputs, &mut effects);
            for effect in effects {
                if let Some(serving) = steps::carry_out_alone(&mut process, effect, &mut view) {
                    return serving.then_some(view);
                }
            }
            site.hand.advance(Duration::from_millis(5));
        }
        None
    }

    /// The member serves: it must take a write, whatever it went through. Then it is judged a last time.
    fn conclude(&mut self, life: &Life) -> Verdict {
        if matches!(life, Life::Unreadable) {
            return Ok(());
        }
        ensure(matches!(life, Life::Runs), || format!("the last life ended: {life:?}"))?;
        self.site.fuse.renew();
        self.pace = FAIR;
        self.doing = "probe";
        let until = self.site.hand.now() + ANSWER_MAX;
        let mut acknowledged = self.tally.acknowledged;
        while self.tally.acknowledged == acknowledged {
            ensure(self.site.hand.now() < until, || "no write succeeds any more".to_owned())?;
            let probe = self.probe();
            // Only the answer to the probe itself counts.
            if matches!(probe, Request::Alarm(_)) {
                acknowledged += 1;
            }
            let token = self.ask(probe);
            while self.judge.waits(token) {
                self.step()?;
                ensure(self.over()?.is_none(), || {
                    "the member ended while nothing was wrong".to_owned()
                })?;
            }
        }
        self.judge.compare_seen()
    }
}
