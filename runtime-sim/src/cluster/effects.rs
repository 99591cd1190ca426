//! A node's turns and their consequences: effects are carried out in order, lanes work and report, messages travel.

use std::sync::Arc;

use quoin_core::id::MemberId;
use quoin_core::jobs::{LogJob, PeerJob, SnapshotJob, TableJob, TableRows};
use quoin_core::member::{BatchId, Status};
use quoin_core::mvcc::Event;
use quoin_core::node::{Done, Effect, Input};
use quoin_core::proto::raftpb::Message;
use quoin_core::store::View;
use quoin_core::wal::Save;
use quoin_core::watch::WatchInput;
use quoin_runtime::lanes::table::TableTask;

use super::World;
use super::crash::Lies;
use super::member::Life;
use super::queue::What;
use crate::observe::{Observation, Verdict, ensure};

/// A node is checked once in this many turns.
const CHECKED_TURNS: u64 = 16;

impl World<'_> {
    /// A turn that was put off.
    pub(super) fn due_turn(&mut self, machine: usize, life: u64) -> Verdict {
        match &mut self.machines[machine].life {
            Some(current) if current.number == life => current.turn_is_due = false,
            Some(_) | None => return Ok(()),
        }
        self.turn(machine)
    }

    /// The node takes a turn over all its mail, now or as soon as it can.
    pub(super) fn turn(&mut self, machine: usize) -> Verdict {
        let now = self.now;
        let at = &mut self.machines[machine];
        let Some(life) = at.life.as_mut() else { return Ok(()) };
        let free_at = life.busy_until.max(at.starved_until);
        if free_at > now {
            if !life.turn_is_due {
                life.turn_is_due = true;
                let number = life.number;
                self.queue.push(free_at, What::Turn { machine, life: number });
            }
            return Ok(());
        }
        // The lane's report starts it again.
        if !life.has_room() {
            return Ok(());
        }
        self.doing = "turn";
        if !at.site.fuse.pass() {
            return self.dies(machine);
        }
        let shown = at.clock.now(now);
        at.site.hand.advance_to(shown);
        let mut inputs = std::mem::take(&mut self.inputs);
        inputs.append(&mut life.inbox);
        if inputs.is_empty() {
            inputs.push(Input::Wake);
        }
        self.eyes.hash.add(now.as_nanos());
        self.eyes.hash.add((machine as u64) << 32 | inputs.len() as u64);
        let has_failed = inputs.iter().any(|input| matches!(input, Input::Done(Done::Failed(_))));
        let mut effects = std::mem::take(&mut self.effects);
        life.process.step(shown, inputs.drain(..), &mut effects);
        self.inputs = inputs;
        life.turns += 1;
        if self.checks_all || life.turns.is_multiple_of(CHECKED_TURNS) {
            life.process.check();
        }
        if !self.plan.turn_takes.is_zero() {
            life.busy_until = now + self.plan.turn_takes;
        }
        self.look_at_halt(machine, has_failed, &effects)?;
        for effect in effects.drain(..) {
            if !self.machines[machine].site.fuse.pass() {
                break;
            }
            if self.eyes.traces() {
                self.eyes.note(now, format_args!("{machine} {effect:?}"));
            }
            self.carry_out(machine, effect)?;
        }
        self.effects = effects;
        self.after_turn(machine)
    }

    /// C47: no effect follows the end of a node, and a failed lane is the end.
    fn look_at_halt(&mut self, machine: usize, has_failed: bool, effects: &[Effect]) -> Verdict {
        if let Some(deaths) = &mut self.deaths {
            deaths.has_failed |= has_failed;
        }
        let id = self.machines[machine].id;
        let halts = effects.iter().position(|effect| matches!(effect, Effect::Halt(_)));
        ensure(halts.is_none_or(|at| at + 1 == effects.len()), "C47", || {
            format!("member {id}: something follows the end")
        })?;
        ensure(!has_failed || halts.is_some(), "C47", || {
            format!("member {id}: a lane has failed, but the member continues")
        })
    }

    fn after_turn(&mut self, machine: usize) -> Verdict {
        let at = &mut self.machines[machine];
        if !at.site.fuse.pass() {
            return self.dies(machine);
        }
        let halt = at.life.as_mut().and_then(|life| life.halt.take());
        if let Some(halt) = halt {
            return self.halted(machine, halt);
        }
        self.start_log(machine);
        self.start_rows(machine);
        self.plan_wake(machine);
        Ok(())
    }

    fn carry_out(&mut self, machine: usize, effect: Effect) -> Verdict {
        match effect {
            Effect::Halt(halt) => self.with_life(machine, |life| life.halt = Some(halt)),
            Effect::Hash(compaction) => self.with_life(machine, |life| life.hashes.remember(compaction.hash())),
            Effect::Log(job) => self.give_log(machine, job),
            Effect::Peer(PeerJob::Messages { to, messages }) => self.send(machine, to, messages),
            Effect::Peer(PeerJob::Snapshot(job)) => self.send_snapshot(machine, job),
            Effect::Publish {
                view,
                events,
                restored,
                status,
            } => self.publish(machine, view, events, restored, status),
            Effect::Reply { token, result } => self.reply(machine, token, result),
            Effect::Table(job) => self.give_rows(machine, job),
            Effect::Tokens(changes) => {
                let now = self.machines[machine].clock.now(self.now);
                self.with_life(machine, |life| {
                    let mut tokens = life.tokens.borrow_mut();
                    changes.into_iter().for_each(|change| tokens.change(now, change));
                })
            }
        }
    }

    fn with_life(&mut self, machine: usize, act: impl FnOnce(&mut Life)) -> Verdict {
        if let Some(life) = &mut self.machines[machine].life {
            act(life);
        }
        Ok(())
    }

    fn give_log(&mut self, machine: usize, job: LogJob) -> Verdict {
        let member = self.machines[machine].id;
        let (batch, Save { marker, entries, state }) = (job.batch, &job.save);
        let hard_state = state.unwrap_or_default();
        self.eyes
            .mix([batch.0, hard_state.term, hard_state.vote, hard_state.commit]);
        for entry in entries {
            self.eyes.mix([entry.index, entry.term]);
            self.eyes.hash.add_bytes(&entry.data);
        }
        if let Some(marker) = marker {
            self.eyes.mix([marker.index, marker.term]);
        }
        match (marker, state) {
            (None, _) => {
                let seen = Observation::Handed {
                    member,
                    batch,
                    hard_state: state.as_ref(),
                    entries,
                };
                self.eyes.see(self.now, &seen)?;
            }
            // Only an installed snapshot comes with a hard state; this marker is of the member's own state.
            (Some(_), None) => {}
            (Some(marker), Some(_)) => {
                let seen = Observation::Installed {
                    member,
                    batch,
                    hard_state: state.as_ref(),
                    index: marker.index,
                    term: marker.term,
                    conf_state: &marker.conf_state.clone().unwrap_or_default(),
                };
                self.eyes.see(self.now, &seen)?;
                self.takes_over(machine, 0);
            }
        }
        if let Some(deaths) = self.deaths.as_mut().filter(|_| job.save.marker.is_some()) {
            deaths.tally.note("snapshot");
        }
        let reports_early = self.deaths.as_ref().is_some_and(|deaths| deaths.lies.reports_early);
        let is_early = job.sync && job.save.marker.is_none() && reports_early;
        self.with_life(machine, |life| life.process.give_log(job))?;
        if is_early { self.report_early(batch) } else { Ok(()) }
    }

    fn give_rows(&mut self, machine: usize, job: TableJob) -> Verdict {
        let rows = match &job.rows {
            TableRows::Changed(ops) => ops.len() as u64,
            TableRows::All(_) => {
                self.takes_over(machine, 1);
                u64::MAX
            }
        };
        self.eyes.mix([job.batch.0, job.index, rows]);
        self.with_life(machine, |life| life.process.give_rows(TableTask::Job(job)))
    }

    fn publish(&mut self, machine: usize, view: View, events: Arc<[Event]>, restored: bool, status: Status) -> Verdict {
        let at = &mut self.machines[machine];
        let Some(life) = &mut at.life else { return Ok(()) };
        self.eyes.mix([
            view.applied_index,
            view.kv.revision() as u64,
            status.term << 1 | u64::from(status.leads),
            events.len() as u64,
        ]);
        let seen = Observation::Published {
            member: at.id,
            view: &view,
            events: &events,
            status: &status,
            restored,
        };
        self.eyes.see(self.now, &seen)?;
        let changed = !Arc::ptr_eq(&life.view.cluster, &view.cluster);
        let shown = self.deaths.is_some().then(|| view.clone());
        if !life.streams.is_empty() {
            let view = view.kv.clone();
            life.hub_mail.push_back(if restored {
                WatchInput::Restored { view }
            } else {
                WatchInput::Applied { view, events }
            });
            self.plan_hub(machine);
        }
        let at = &mut self.machines[machine];
        if let Some(life) = &mut at.life {
            life.view = view;
            life.status = status;
        }
        if changed {
            self.membership_changed(machine)?;
        }
        shown.map_or(Ok(()), |view| self.shows(&view, status.published))
    }

    /// A member applied a change of the membership: it connects to new members, and leaves removed ones.
    fn membership_changed(&mut self, machine: usize) -> Verdict {
        self.refresh_endpoints();
        self.give_roster(machine)
    }

    fn send(&mut self, from: usize, to: MemberId, messages: Vec<Message>) -> Verdict {
        for message in &messages {
            self.eyes.mix([
                to.0,
                message.msg_type as u64 | message.term << 8,
                message.index,
                message.commit ^ (message.entries.len() as u64) << 48,
            ]);
            let member = self.machines[from].id;
            self.eyes.see(self.now, &Observation::Sent { member, to, message })?;
        }
        self.send_bytes(from, to, messages)
    }

    /// A snapshot is sent to a peer, with the state beside the message.
    fn send_snapshot(&mut self, from: usize, job: Box<SnapshotJob>) -> Verdict {
        self.eyes
            .mix([job.to.0, job.message.term, job.view.applied_index, 0x5e4d]);
        let seen = Observation::Sent {
            member: self.machines[from].id,
            to: job.to,
            message: &job.message,
        };
        self.eyes.see(self.now, &seen)?;
        self.send_snapshot_bytes(from, job)
    }

    /// The log's lane takes the waiting jobs, if it is idle.
    pub(super) fn start_log(&mut self, machine: usize) {
        let at = &mut self.machines[machine];
        let Some(life) = at.life.as_mut() else { return };
        let waiting = life.process.log.waiting();
        if life.log_jobs > 0 || waiting == 0 {
            return;
        }
        life.log_jobs = self.deaths.as_mut().map_or(waiting, |deaths| deaths.share(waiting));
        let life = life.number;
        let done = self.now + at.disk_takes();
        self.queue.push(done, What::Log { machine, life });
    }

    /// The log's lane has done its jobs.
    pub(super) fn log_works(&mut self, machine: usize, life: u64) -> Verdict {
        let now = self.now;
        let at = &mut self.machines[machine];
        at.look_at_clock(now);
        let Some(current) = at.life.as_mut().filter(|current| current.number == life) else {
            return Ok(());
        };
        let count = current.log_jobs;
        let (last, synced) = (current.process.last_batch(count), current.process.last_synced(count));
        let lies = self.deaths.as_ref().map_or_else(Lies::default, |deaths| deaths.lies);
        self.doing = "log";
        let works = current.process.log.run(count);
        if at.site.fuse.blown() {
            return self.dies(machine);
        }
        if !works && lies.hides_faults {
            current.process.hide_fault(synced);
        }
        current.log_reports.extend(current.process.reports.take(usize::MAX));
        // A disk that lies may lose what its member has reported durable.
        let durable = match synced {
            // In a world that lies, a report counts as durable, so that the checkers must find the loss.
            _ if lies.any() => current.log_reports.iter().filter_map(persisted).max(),
            Some(_) if works && at.site.disk.is_durable(&at.wal) => last,
            Some(_) if works && at.is_deceived => synced,
            // A later job failed, which leaves the disk unsettled; what was synced before it is durable.
            Some(_) if !works => current.log_reports.iter().filter_map(persisted).max(),
            Some(_) | None => None,
        };
        self.eyes.mix([now.as_nanos(), count as u64, 0x109]);
        if let Some(batch) = durable {
            self.eyes.see(now, &Observation::Durable { member: at.id, batch })?;
        }
        let cost = self.machines[machine].site.disk.take_cost(now);
        self.queue.push(now + cost, What::LogReports { machine, life });
        Ok(())
    }

    /// The log's lane reports.
    pub(super) fn log_reports(&mut self, machine: usize, life: u64) -> Verdict {
        let at = &mut self.machines[machine];
        let Some(current) = at.life.as_mut().filter(|current| current.number == life) else {
            return Ok(());
        };
        current.log_jobs = 0;
        current.inbox.extend(current.log_reports.drain(..).map(Input::Done));
        self.start_log(machine);
        self.turn(machine)
    }

    /// The table's lane takes the waiting jobs, if it is idle.
    pub(super) fn start_rows(&mut self, machine: usize) {
        let at = &mut self.machines[machine];
        let Some(life) = at.life.as_mut() else { return };
        let waiting = life.process.rows.waiting();
        if life.rows_jobs > 0 || waiting == 0 {
            return;
        }
        if let Some(deaths) = &mut self.deaths {
            life.rows_jobs = deaths.share(waiting);
            if deaths.schedule.below(16) == 0 {
                life.process.give_rows(TableTask::Sync);
            }
        } else {
            life.rows_jobs = waiting;
        }
        let life = life.number;
        let done = self.now + at.disk_takes();
        self.queue.push(done, What::Rows { machine, life });
    }

    /// The table's lane has done its jobs.
    pub(super) fn rows_work(&mut self, machine: usize, life: u64) -> Verdict {
        let at = &mut self.machines[machine];
        at.look_at_clock(self.now);
        let Some(current) = at.life.as_mut().filter(|current| current.number == life) else {
            return Ok(());
        };
        self.doing = "rows";
        let mut jobs = current.rows_jobs;
        while let Some((first, view)) = current.process.next_replace(jobs) {
            jobs -= first;
            if !current.process.rows.run(first) || at.site.fuse.blown() {
                break;
            }
            let (member, rows) = (at.id, &at.site.table.content());
            let view = &view;
            self.eyes.see(self.now, &Observation::Replaced { member, view, rows })?;
        }
        current.process.rows.run(jobs);
        self.rows_worked(machine)
    }

    /// The table's lane does its own work.
    pub(super) fn rows_rest(&mut self, machine: usize) -> Verdict {
        self.doing = "rows";
        if let Some(life) = &mut self.machines[machine].life {
            life.process.rows.rest();
        }
        self.rows_worked(machine)
    }

    fn rows_worked(&mut self, machine: usize) -> Verdict {
        let at = &mut self.machines[machine];
        if at.site.fuse.blown() {
            return self.dies(machine);
        }
        let Some(life) = at.life.as_mut() else { return Ok(()) };
        life.rows_reports.extend(life.process.reports.take(usize::MAX));
        // It takes no more jobs until it has reported.
        life.rows_jobs = life.rows_jobs.max(1);
        let life = life.number;
        let cost = at.site.table.take_cost(self.now);
        self.queue.push(self.now + cost, What::RowsReports { machine, life });
        Ok(())
    }

    /// The table's lane reports.
    pub(super) fn rows_report(&mut self, machine: usize, life: u64) -> Verdict {
        let at = &mut self.machines[machine];
        let Some(current) = at.life.as_mut().filter(|current| current.number == life) else {
            return Ok(());
        };
        current.rows_jobs = 0;
        current.inbox.extend(current.rows_reports.drain(..).map(Input::Done));
        self.start_rows(machine);
        self.turn(machine)
    }
}

/// The batch that a report makes durable.
const fn persisted(done: &Done) -> Option<BatchId> {
    match done {
        Done::Persisted { batch } => Some(*batch),
        Done::Failed(_) | Done::Stored { .. } => None,
    }
}
