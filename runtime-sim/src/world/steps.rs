//! What can happen next: a client asks or is answered, the node takes a turn, a lane works, time passes.

use std::time::Duration;

use quoin_core::member::{Halt, Token};
use quoin_core::node::{Done, Effect, Input, Publication, Request};
use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::{AlarmRequest, AlarmType, DeleteRangeRequest};
use quoin_core::store::View;
use quoin_runtime::clock::Time as _;
use quoin_runtime::lanes::table::TableTask;

use super::{ANSWER_MAX, START_MAX, World};
use crate::judge::{Verdict, ensure};
use crate::process::Process;
use crate::swarm::weighted;

/// Things that can happen.
#[derive(Clone, Copy, Debug)]
enum Step {
    Answer,
    Ask,
    Log,
    Node,
    Rows,
    Sleep,
}

/// Jobs that may wait for a lane before the node's thread would block.
const LANE_QUEUE_JOBS: usize = 200;
/// A client's patience.
const PATIENCE: Duration = Duration::from_secs(20);

impl World {
    /// Lets the next thing happen.
    pub(super) fn step(&mut self) -> Verdict {
        let Some(process) = &self.process else { return Ok(()) };
        let now = self.site.hand.now();
        let clear = process.log.waiting() < LANE_QUEUE_JOBS && process.rows.waiting() < LANE_QUEUE_JOBS;
        let has_mail = !self.inbox.is_empty() || !process.reports.is_empty();
        let is_due = process.deadline().is_some_and(|at| at <= now);
        let can = [
            (Step::Answer, !self.answers.is_empty(), self.pace.answer),
            (Step::Ask, self.wants_to_ask(), self.pace.ask),
            (Step::Log, process.log.waiting() > 0, self.pace.log),
            (Step::Node, clear && (has_mail || is_due), self.pace.node),
            (
                Step::Rows,
                process.rows.waiting() > 0 || process.rows.is_restless(),
                self.pace.rows,
            ),
            (Step::Sleep, true, self.pace.sleep),
        ];
        let can = can.map(|(step, possible, weight)| (step, if possible { weight } else { 0 }));
        match weighted(&mut self.schedule, &can).unwrap_or(Step::Sleep) {
            Step::Answer => self.answer(),
            Step::Ask => {
                let request = self.workload.next(self.judge.revision());
                self.script -= 1;
                self.ask(request);
                Ok(())
            }
            Step::Log => {
                self.work_log();
                Ok(())
            }
            Step::Node => self.turn(),
            Step::Rows => {
                self.work_rows();
                Ok(())
            }
            Step::Sleep => self.sleep(),
        }
    }

    /// A client asks.
    pub(super) fn ask(&mut self, request: Request) -> Token {
        let now = self.site.hand.now();
        self.last_token += 1;
        let token = Token(self.last_token);
        self.trace.add(now, format_args!("ask {} {request:?}", token.0));
        self.judge.asked(token, &request, now);
        self.unanswered.insert(token, now);
        self.inbox.push_back(Input::Request {
            token,
            request,
            deadline: now + PATIENCE,
        });
        token
    }

    /// A write to see whether one succeeds: what is in its way is cleared first.
    pub(super) fn probe(&mut self) -> Request {
        let seen = self.judge.seen();
        let alarm = seen.and_then(|view| view.alarms.list(AlarmType::Nospace).next());
        if let Some(alarm) = alarm {
            let action = AlarmAction::Deactivate as i32;
            return Request::Alarm(AlarmRequest {
                action,
                member_id: alarm.member_id,
                alarm: alarm.alarm,
            });
        }
        if self.swarm.config.quota_backend_bytes.is_some() {
            // What is full can still be emptied.
            return Request::DeleteRange(DeleteRangeRequest {
                key: "\0".into(),
                ..DeleteRangeRequest::default()
            });
        }
        let Request::Put(put) = self.workload.put() else {
            unreachable!("a put is a put")
        };
        Request::Put(quoin_core::proto::etcdserverpb::PutRequest { lease: 0, ..put })
    }

    fn wants_to_ask(&self) -> bool {
        self.script > 0 && self.serving && self.judge.under_way() < self.swarm.clients
    }

    /// A client gets one of the first answers on their way.
    fn answer(&mut self) -> Verdict {
        self.doing = "answer";
        if !self.site.fuse.pass() {
            return Ok(());
        }
        let at = self.schedule.below(self.answers.len().min(4) as u64);
        let answer = self.answers.remove(usize::try_from(at).unwrap_or(0));
        let Some((token, result)) = answer else { return Ok(()) };
        self.trace
            .add(self.site.hand.now(), format_args!("answer {} {result:?}", token.0));
        match &result {
            Ok(_) => self.tally.acknowledged += 1,
            Err(error) => self.tally.note(format!("answer: {error}")),
        }
        self.judge.answered(token, result, self.site.hand.now())?;
        self.site.fuse.pass();
        Ok(())
    }

    /// The node takes a turn over some of its mail.
    fn turn(&mut self) -> Verdict {
        self.doing = "turn";
        if !self.site.fuse.pass() {
            return Ok(());
        }
        let now = self.site.hand.now();
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let mut part = |whole: usize| {
            if self.schedule.below(4) != 0 {
                whole
            } else {
                usize::try_from(self.schedule.below(whole as u64 + 1)).unwrap_or(whole)
            }
        };
        let (reports, requests) = (part(process.reports.len()), part(self.inbox.len()));
        let reports = process.reports.take(reports);
        let failed = reports.iter().any(|done| matches!(done, Done::Failed(_)));
        let mut inputs: Vec<Input> = reports.into_iter().map(Input::Done).collect();
        inputs.extend(self.inbox.drain(..requests));
        if self.schedule.below(2) == 0 {
            // Reports and requests come from different threads; within each the order stays.
            let split = inputs
                .iter()
                .position(|input| matches!(input, Input::Request { .. }))
                .unwrap_or(0);
            inputs.rotate_left(split);
        }
        if inputs.is_empty() {
            inputs.push(Input::Wake);
        }
        let mut effects = Vec::new();
        process.turn(now, inputs, &mut effects);
        let halts = effects.iter().position(|effect| matches!(effect, Effect::Halt(_)));
        ensure(halts.is_none_or(|at| at + 1 == effects.len()), || {
            "something follows the end".to_owned()
        })?;
        ensure(!failed || halts.is_some(), || {
            "a lane has failed and the member goes on".to_owned()
        })?;
        for effect in effects {
            if !self.site.fuse.pass() {
                return Ok(());
            }
            self.carry_out(effect, failed)?;
        }
        self.site.fuse.pass();
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect, failed: bool) -> Verdict {
        let now = self.site.hand.now();
        self.trace.add(now, format_args!("{effect:?}"));
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        match effect {
            Effect::Halt(halt) => {
                ensure(failed || !matches!(halt, Halt::Fault(_)), || {
                    format!("the member gives up: {halt:?}")
                })?;
                self.halted = Some(halt);
            }
            Effect::Log(job) => {
                let save = &job.save;
                if save.marker.is_some() {
                    self.tally.note("snapshot");
                } else {
                    self.judge.handed(job.batch, save.state, &save.entries, now)?;
                    if job.sync && self.lies.reports_early {
                        process.reports.push(Done::Persisted { batch: job.batch });
                    }
                }
                process.give_log(job);
            }
            Effect::Publish(Publication {
                view, events, status, ..
            }) => {
                self.judge.published(&view, &events, status)?;
                self.serving = status.published;
                if let Some(twin) = self.twin.take_if(|_| status.published) {
                    self.judge.compare_twin(&twin)?;
                    self.tally.note("twin");
                }
            }
            Effect::Reply { token, result } => {
                self.unanswered.remove(&token);
                self.answers.push_back((token, result));
            }
            // There are no peers.
            Effect::Peer(_) => {}
            Effect::Table(job) => process.give_rows(TableTask::Job(job)),
        }
        Ok(())
    }

    /// The log's lane takes some of its jobs.
    fn work_log(&mut self) {
        self.doing = "log";
        let Some(process) = &mut self.process else { return };
        let waiting = process.log.waiting() as u64;
        let count = if self.schedule.below(2) == 0 {
            waiting
        } else {
            1 + self.schedule.below(waiting)
        };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let (last, before) = (process.last_synced(count), process.reports.len());
        let works = process.log.run(count);
        if !works && self.lies.hides_faults && !self.site.fuse.blown() {
            process.hide_fault(last);
        }
        if let Some(batch) = process.reports.persisted_since(before) {
            self.judge.durable(batch);
        }
        self.site
            .hand
            .advance(Duration::from_micros(self.schedule.range(50..3_000)));
    }

    /// The table's lane takes some of its jobs, or does its own work.
    fn work_rows(&mut self) {
        self.doing = "rows";
        let Some(process) = &mut self.process else { return };
        let waiting = process.rows.waiting() as u64;
        if waiting == 0 {
            process.rows.rest();
        } else {
            let count = 1 + self.schedule.below(waiting);
            if self.schedule.below(16) == 0 {
                process.give_rows(TableTask::Sync);
            }
            process.rows.run(usize::try_from(count).unwrap_or(usize::MAX));
        }
        self.site
            .hand
            .advance(Duration::from_micros(self.schedule.range(50..3_000)));
    }

    /// Time passes: mostly until somebody wants to wake, sometimes much longer.
    fn sleep(&mut self) -> Verdict {
        let Some(process) = &self.process else { return Ok(()) };
        let now = self.site.hand.now();
        let wake = process.deadline().into_iter().chain(process.rows.wakes_at(now)).min();
        match self.schedule.below(40) {
            0 => self
                .site
                .hand
                .advance(Duration::from_millis(self.schedule.range(200..3_000))),
            1..20 => self
                .site
                .hand
                .advance(Duration::from_micros(self.schedule.below(2_000))),
            _ => self
                .site
                .hand
                .advance_to(wake.unwrap_or(now + Duration::from_millis(1))),
        }
        ensure(self.serving || now < self.born + START_MAX, || {
            format!("started at {} and serves no client yet", self.born)
        })?;
        let late = self.unanswered.iter().find(|(_, since)| **since + ANSWER_MAX < now);
        ensure(late.is_none(), || format!("request {late:?} is never answered"))
    }
}

/// Carries out an effect of a member that has no clients; says whether it serves, once it does, or has ended.
pub(super) fn carry_out_alone(process: &mut Process, effect: Effect, seen: &mut View) -> Option<bool> {
    match effect {
        Effect::Halt(_) => return Some(false),
        Effect::Log(job) => process.give_log(job),
        Effect::Publish(Publication { view, status, .. }) => {
            *seen = view;
            return status.published.then_some(true);
        }
        Effect::Peer(_) | Effect::Reply { .. } => {}
        Effect::Table(job) => process.give_rows(TableTask::Job(job)),
    }
    None
}
