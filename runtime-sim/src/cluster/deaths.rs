//! The lives and deaths of the one member of `crash`: when and how each life is to end, with what the next one begins,
//! and whether the member still takes a write in the end.
//!
//! Every choice is drawn from the seed. Events within a life and the ends of processes have random numbers of their
//! own, so that a run is the same up to the point where it is made to die. No other kind of run uses this file.

use std::io;
use std::time::Duration;

use quoin_core::error::Fault;
use quoin_core::member::BatchId;
use quoin_core::node::{Done, Input};
use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::{AlarmRequest, AlarmType, DeleteRangeRequest, PutRequest};
use quoin_core::random::Prng;
use quoin_core::store::View;
use quoin_core::time::Instant;
use quoin_core::wal::SegmentName;
use quoin_runtime::boot::BootError;

use super::World;
use super::crash::{Case, Lies, Tally};
use super::ports::Returned;
use super::queue::What;
use super::twin;
use crate::choose::one_of;
use crate::fuse::{Failure, Says, Touch};
use crate::observe::{ClientId, Observation, OpId, Verdict, Violation, ensure};
use crate::process::Site;
use quoin_model::call::{Answer, Call};

/// Lives of a long run, before the last.
const LIVES: u64 = 40;
/// The longest life: by then the member serves, and every request is answered.
const LIFE_MAX: Duration = Duration::from_secs(60);
/// How much longer than the member's own limit a request may wait for its answer.
const GRACE: Duration = Duration::from_secs(40);
/// Crashes in a row before a start is let through.
const NESTED_MAX: u64 = 4;
/// Points of an ordinary start, roughly.
const BOOT_POINTS: u64 = 60;
/// The client that sends the write which must succeed in the end.
const PROBER: ClientId = ClientId(u64::MAX - 1);
/// The ids of its requests begin here.
const PROBER_OPS: u64 = 1 << 61;

/// The one machine of the cluster.
const ALONE: usize = 0;

/// How a life ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// The process died at a point.
    Crashed,
    /// It ended because of a fault.
    Faulted,
    /// It was asked to stop, and did.
    Stopped,
    /// It was ended during its work.
    Killed,
    /// The disk failed while it started.
    Refused,
    /// The member refuses to start from its disk, as it may on a rough disk.
    Unreadable,
}

/// The plan of a run's lives.
pub(super) struct Deaths {
    case: Case,
    pub(super) lies: Lies,
    /// Of a hundred ends, how many are of the process alone.
    kills_percent: u64,
    /// Of a hundred lives, in how many the disk fails.
    errors_percent: u64,
    /// Whether the wall clock may be set back between lives.
    sets_wall_back: bool,
    pub(super) schedule: Prng,
    pub(super) fate: Prng,
    pub(super) tally: Tally,
    /// Whether clients are served.
    pub(super) serves: bool,
    /// Whether a lane of this life has failed.
    pub(super) has_failed: bool,
    /// Answers that clients are still to get in this life.
    script: u64,
    /// Lives to come before the last one.
    lives: u64,
    is_last: bool,
    /// Deaths in a row while it starts.
    nested: u64,
    born: Instant,
    /// The result of a second start from the same disk.
    twin: Option<View>,
    /// The write that must succeed, and how many there were.
    probe: Option<OpId>,
    probes: u64,
    /// Whether one has succeeded.
    is_proven: bool,
}

impl Deaths {
    pub(super) fn new(case: Case, lies: Lies) -> Self {
        let prng = Prng::new(case.seed()).fork("crash");
        let mut drawn = prng.fork("swarm");
        Self {
            case,
            lies,
            kills_percent: one_of(&mut drawn, &[0, 25, 60]),
            errors_percent: one_of(&mut drawn, &[0, 0, 30]),
            sets_wall_back: drawn.below(4) == 0,
            schedule: prng.fork("schedule"),
            fate: prng.fork("fate"),
            tally: Tally::default(),
            serves: false,
            has_failed: false,
            script: 0,
            lives: LIVES,
            is_last: matches!(case, Case::Short { .. }),
            nested: 0,
            born: Instant::ZERO,
            twin: None,
            probe: None,
            probes: 0,
            is_proven: false,
        }
    }

    /// How many of the jobs that wait a lane takes at once.
    pub(super) fn share(&mut self, waiting: usize) -> usize {
        if self.schedule.below(2) == 0 {
            return waiting;
        }
        let some = 1 + self.schedule.below(waiting as u64);
        usize::try_from(some).unwrap_or(waiting)
    }

    /// Plans the next life of a long run; returns how many answers it is to give.
    fn plan(&mut self, site: &Site) -> u64 {
        let script = self.fate.range(1..30);
        if self.fate.below(100) < self.errors_percent {
            let touch = one_of(&mut self.fate, &Touch::FALLIBLE);
            let spared = one_of(&mut self.fate, &[1, 4, 20, 100]);
            let kinds = [io::ErrorKind::Other, io::ErrorKind::StorageFull];
            site.fuse.fail(Failure {
                touch,
                spared: self.fate.below(spared),
                times: (self.fate.below(2) == 0).then_some(1),
                says: Says::Error(one_of(&mut self.fate, &kinds)),
            });
        }
        self.nested += 1;
        match self.fate.below(12) {
            0..3 if self.nested <= NESTED_MAX => {
                let words = format!("to die while it starts: {} in a row", self.nested);
                self.tally.note(words);
                site.fuse.set(self.fate.below(BOOT_POINTS));
            }
            3..6 => {
                self.nested = 0;
                site.fuse.set(self.fate.range(BOOT_POINTS..1_500));
            }
            6..10 => {
                self.nested = 0;
                // Between a write and its sync there is most to lose.
                let touches = [Touch::Sync, one_of(&mut self.fate, &Touch::FALLIBLE)];
                let touch = one_of(&mut self.fate, &touches);
                site.fuse.set_on(touch, self.fate.below(40));
            }
            _ => self.nested = 0,
        }
        script
    }

    /// Whether it dies next while it starts again, in a short run.
    fn plan_nested(&mut self, at: Option<u64>, site: &Site) -> u64 {
        self.nested += 1;
        if at.is_some() && self.nested <= NESTED_MAX && self.fate.below(3) == 0 {
            site.fuse.set(self.fate.below(BOOT_POINTS));
        }
        self.schedule.below(6)
    }
}

impl World<'_> {
    /// Plans the first life.
    pub(super) fn first_life(&mut self) {
        let Some(deaths) = &mut self.deaths else { return };
        let site = &self.machines[ALONE].site;
        let (disk, table) = (deaths.lies.disk, deaths.lies.table);
        if deaths.lies.any() || disk.halves_sectors {
            site.disk.set_model(disk);
            site.table.set_model(table);
        }
        match deaths.case {
            Case::Long { .. } => {
                deaths.lives -= 1;
                deaths.script = deaths.plan(site);
            }
            Case::Short { at, .. } => {
                at.inspect(|at| site.fuse.set(*at));
                deaths.script = deaths.schedule.range(4..16);
            }
        }
    }

    /// The machine is about to start: the wall clock has moved on since, and may be set.
    pub(super) fn before_start(&mut self) {
        let Some(deaths) = &mut self.deaths else { return };
        (deaths.has_failed, deaths.born) = (false, self.now);
        self.doing = "boot";
        let at = &mut self.machines[ALONE];
        let by = one_of(&mut deaths.fate, &[3, 1_000, 3_600_000]);
        let by = i64::try_from(deaths.fate.below(by)).unwrap_or(0);
        match deaths.fate.below(4) {
            0 if deaths.sets_wall_back => at.clock.jump(-by),
            // Sets the clock to the moment of the last start.
            1 if deaths.sets_wall_back && at.lives > 0 => {
                let since = at.clock.wall_ms(self.now).saturating_sub(at.woke_ms);
                at.clock.jump(-i64::try_from(since).unwrap_or(0));
            }
            2 => at.clock.jump(by),
            _ => {}
        }
        at.look_at_clock(self.now);
        if deaths.schedule.below(16) == 0 {
            deaths.twin = twin::run(&at.site, at.clock.wall_ms(self.now));
        }
        let life = at.lives + 1;
        self.queue.push(self.now + LIFE_MAX, What::LifeEnds(life));
    }

    /// Records what a start found on the disk.
    pub(super) fn note_findings(&mut self) {
        let Some(deaths) = &mut self.deaths else { return };
        let names = self.machines[ALONE].site.disk.peek(&self.machines[ALONE].wal);
        if names.iter().any(|name| name.ends_with(".broken")) {
            deaths.tally.note("found: torn tail");
        }
        let segments: Vec<_> = names.iter().filter_map(|name| SegmentName::parse(name)).collect();
        if segments.len() > 1 {
            deaths.tally.note("found: several segments");
        }
        if segments.iter().all(|segment| segment.sequence > 0) {
            deaths.tally.note("found: first segment released");
        }
    }

    /// The process did not come up, and its end was not planned.
    pub(super) fn does_not_start(&mut self, error: &BootError) -> Verdict {
        let at = &self.machines[ALONE];
        let is_rough = self
            .deaths
            .as_ref()
            .is_some_and(|deaths| deaths.lies.disk.halves_sectors);
        if at.site.fuse.struck().is_some() {
            return self.life_over(End::Refused);
        }
        if is_rough && matches!(error, BootError::Fault(Fault::Corrupt { .. })) {
            return self.life_over(End::Unreadable);
        }
        let dirs = at.site.dirs();
        let names = [&dirs.wal, &dirs.snap()].map(|dir| at.site.disk.peek(dir).join(" "));
        ensure(false, "C47", || {
            format!(
                "the member does not start: {error}; it finds [{}] [{}]",
                names[0], names[1]
            )
        })
    }

    /// Whether the disk caused an end with this fault.
    pub(super) fn is_struck(&self) -> bool {
        let has_failed = self.deaths.as_ref().is_some_and(|deaths| deaths.has_failed);
        has_failed && self.machines[ALONE].site.fuse.struck().is_some()
    }

    /// A batch was handed to the log of a host that reports it durable at once.
    pub(super) fn report_early(&mut self, batch: BatchId) -> Verdict {
        let (now, at) = (self.now, &mut self.machines[ALONE]);
        let Some(life) = &mut at.life else { return Ok(()) };
        life.inbox.push(Input::Done(Done::Persisted { batch }));
        let (machine, life) = (ALONE, life.number);
        self.queue.push(now, What::Turn { machine, life });
        self.eyes.see(now, &Observation::Durable { member: at.id, batch })
    }

    /// A new state was published: once the member has published itself, clients are served.
    pub(super) fn shows(&mut self, view: &View, is_published: bool) -> Verdict {
        let Some(deaths) = &mut self.deaths else { return Ok(()) };
        if !is_published || deaths.serves {
            return Ok(());
        }
        deaths.serves = true;
        self.clients_wake_at = None;
        self.queue.push(self.now, What::Clients);
        if matches!(deaths.case, Case::Long { .. }) && !deaths.is_last && deaths.fate.below(10) == 0 {
            let stall = Duration::from_millis(deaths.fate.range(1_000..15_000));
            self.machines[ALONE].site.disk.set_stall(self.now + stall);
        }
        if let Some(twin) = deaths.twin.take() {
            deaths.tally.note("twin");
            twin::compare(&twin, view)?;
        }
        self.script_goes_on();
        Ok(())
    }

    /// If clients have their answers, the life ends soon.
    fn script_goes_on(&mut self) {
        let Some(deaths) = self.deaths.as_mut().filter(|deaths| deaths.script == 0) else {
            return;
        };
        let soon = Duration::from_micros(deaths.schedule.below(10_000));
        let life = self.machines[ALONE].lives;
        self.queue.push(self.now + soon, What::LifeEnds(life));
    }

    /// Passes the point before or after an answer reaches its client; false if the process dies there.
    pub(super) fn passes_answer(&mut self) -> Result<bool, Violation> {
        let at = &self.machines[ALONE];
        if self.deaths.is_none() || !at.is_up() || at.site.fuse.pass() {
            return Ok(true);
        }
        self.doing = "answer";
        self.dies(ALONE)?;
        Ok(false)
    }

    /// A client has its answer, or will never have one.
    pub(super) fn has_returned(&mut self, op: OpId, result: &Returned) -> Verdict {
        let Some(deaths) = &mut self.deaths else { return Ok(()) };
        match result {
            Some(Ok(_)) => deaths.tally.acknowledged += 1,
            Some(Err(refusal)) => deaths.tally.note(format!("answer: {}", refusal.message)),
            None => {}
        }
        if deaths.probe == Some(op) {
            return match result {
                Some(Ok(Answer::Alarm(_)) | Err(_)) | None => self.probe(),
                Some(Ok(_)) => self.is_proven(),
            };
        }
        if result.is_some() && deaths.serves && deaths.script > 0 {
            deaths.script -= 1;
            self.script_goes_on();
        }
        Ok(())
    }

    /// A life has lasted long enough.
    pub(super) fn life_ends(&mut self, life: u64) -> Verdict {
        let now = self.now;
        let at = &self.machines[ALONE];
        let is_over = !at.is_up() || at.lives != life;
        let Some(deaths) = self.deaths.as_mut().filter(|_| !is_over) else {
            return Ok(());
        };
        ensure(deaths.serves, "L1", || {
            format!("the member started at {} and serves no client yet", deaths.born)
        })?;
        ensure(deaths.probe.is_none(), "L2", || "no write succeeds any more".to_owned())?;
        let late = self
            .ops
            .iter()
            .find(|(_, op)| op.is_served() && op.gives_up_at() + GRACE < now);
        ensure(late.is_none(), "L2", || {
            format!("a request is never answered: {late:?}")
        })?;
        if deaths.is_last {
            deaths.tally.points = self.machines[ALONE].site.fuse.points();
            return self.probe();
        }
        let is_stopping = self.machines[ALONE].life.as_ref().is_some_and(|life| life.is_stopping);
        ensure(!is_stopping, "L2", || {
            "a member does not stop when it is asked to".to_owned()
        })?;
        if deaths.fate.below(3) > 0 {
            return self.life_over(End::Killed);
        }
        if deaths.fate.below(2) == 0 {
            self.machines[ALONE].site.fuse.set(deaths.fate.below(20));
        }
        self.queue.push(now + LIFE_MAX, What::LifeEnds(life));
        self.stop(ALONE)
    }

    /// After a life: the process has ended, with or without the power, and the next one is planned.
    pub(super) fn life_over(&mut self, end: End) -> Verdict {
        let Some(deaths) = &mut self.deaths else { return Ok(()) };
        let fuse = self.machines[ALONE].site.fuse.clone();
        match end {
            End::Crashed => deaths.tally.note(format!("crash: {}", self.doing)),
            End::Refused => deaths.tally.note("refused"),
            End::Unreadable => deaths.tally.note("unreadable"),
            End::Stopped => deaths.tally.note("orderly stop"),
            End::Faulted | End::Killed => {}
        }
        if let Some(touch) = fuse.struck() {
            deaths.tally.note(format!("struck: {touch:?}"));
        }
        // A stop during its work is a crash, too.
        deaths.tally.crashes += u64::from(matches!(end, End::Crashed | End::Killed));
        let loses_power = deaths.fate.below(100) >= deaths.kills_percent;
        deaths
            .tally
            .note(if loses_power { "power lost" } else { "process ended" });
        deaths.serves = false;
        deaths.twin = None;
        if deaths.is_last {
            let is_sound = matches!(deaths.case, Case::Short { at: Some(_), .. });
            ensure(is_sound || end == End::Unreadable, "C47", || {
                format!("the last life ended: {end:?}")
            })?;
        }
        fuse.mend();
        self.machines[ALONE].quicken();
        self.end(ALONE, loses_power)?;
        self.finished = end == End::Unreadable;
        self.next_life();
        Ok(())
    }

    fn next_life(&mut self) {
        let Some(deaths) = &mut self.deaths else { return };
        let site = &self.machines[ALONE].site;
        deaths.script = match deaths.case {
            Case::Short { .. } if deaths.is_proven => 0,
            Case::Short { at, .. } => deaths.plan_nested(at, site),
            Case::Long { .. } if deaths.lives > 0 => {
                deaths.lives -= 1;
                deaths.plan(site)
            }
            Case::Long { .. } => {
                deaths.is_last = true;
                10
            }
        };
        let away = Duration::from_millis(deaths.fate.below(5_000));
        self.start_later(ALONE, away);
    }

    /// The member serves: it must take a write, whatever happened before. A fault or an alarm that prevents writes is
    /// removed first.
    fn probe(&mut self) -> Verdict {
        let Some(deaths) = &mut self.deaths else { return Ok(()) };
        let at = &self.machines[ALONE];
        let Some(life) = &at.life else {
            return ensure(false, "C47", || "the member ended while nothing was wrong".to_owned());
        };
        at.site.fuse.renew();
        let call = if let Some(alarm) = life.view.alarms.list(AlarmType::Nospace).next() {
            Call::Alarm(AlarmRequest {
                action: AlarmAction::Deactivate as i32,
                member_id: alarm.member_id,
                alarm: alarm.alarm,
            })
        } else if at.site.config.quota_backend_bytes.is_some() {
            // A full store can still be emptied.
            Call::DeleteRange(DeleteRangeRequest {
                key: "\0".into(),
                ..DeleteRangeRequest::default()
            })
        } else {
            Call::Put(PutRequest {
                key: "probe".into(),
                value: format!("p{}", deaths.probes).into(),
                ..PutRequest::default()
            })
        };
        if deaths.probe.is_none() {
            self.queue.push(self.now + LIFE_MAX, What::LifeEnds(at.lives));
        }
        deaths.probes += 1;
        let op = OpId(PROBER_OPS + deaths.probes);
        deaths.probe = Some(op);
        let member = at.id;
        self.ask(op, PROBER, member, call, self.now + LIFE_MAX)
    }

    /// The member takes writes. The state it started with, and what it acknowledged since, must survive one more death.
    fn is_proven(&mut self) -> Verdict {
        let Some(deaths) = &mut self.deaths else { return Ok(()) };
        deaths.probe = None;
        if matches!(deaths.case, Case::Short { at: Some(_), .. }) && !deaths.is_proven {
            deaths.is_proven = true;
            return self.life_over(End::Killed);
        }
        self.finished = true;
        self.eyes.see(self.now, &Observation::Finished)
    }
}
