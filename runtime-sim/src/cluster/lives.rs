//! How processes start, wake, connect to each other, and end.

use std::collections::BTreeMap;
use std::time::Duration;

use quoin_core::boot::{Refusal, RemoteAnswer, Why};
use quoin_core::error::Fault;
use quoin_core::id::MemberId;
use quoin_core::member::{Halt, Recovered};
use quoin_core::node::Input;
use quoin_core::time::Instant;
use quoin_core::version::SERVER_VERSION;
use quoin_runtime::boot::BootError;

use super::World;
use super::deaths::End;
use super::member::{Caller, Doom, Life, Part};
use super::queue::What;
use crate::faults::FaultKind;
use crate::fuse::Says;
use crate::observe::{Observation, Verdict};
use crate::process::{Process, Start};

/// The longest time of a start.
const START_MAX: Duration = Duration::from_secs(20);
/// How often a machine with a failing disk is started again.
const REPAIRS_MAX: u32 = 6;
impl World<'_> {
    /// A machine's process starts, unless a later decision replaced this one.
    pub(super) fn start(&mut self, machine: usize, power: u64) -> Verdict {
        let at = &self.machines[machine];
        if at.power != power || at.is_up() || at.part != Part::Member {
            return Ok(());
        }
        self.before_start();
        let answers = self.peers_answers(machine);
        let ask = |urls: &[String], _: Why| {
            let asked = answers.iter().filter(|(url, _)| urls.contains(url));
            asked.cloned().collect::<BTreeMap<_, _>>()
        };
        let at = &mut self.machines[machine];
        at.lives += 1;
        let local = at.look_at_clock(self.now);
        let unix_ms = at.clock.wall_ms(self.now);
        at.woke_ms = unix_ms;
        let seed = self.seeds.next_u64();
        match Process::boot(&at.site, unix_ms, seed, &ask) {
            Ok((process, start)) => self.has_booted(machine, process, &start, seed, local),
            Err(error) => self.failed_to_start(machine, error),
        }
    }

    /// A process is up, with this content of its disk.
    fn has_booted(&mut self, machine: usize, process: Process, start: &Start, seed: u64, local: Instant) -> Verdict {
        let at = &mut self.machines[machine];
        let id = process.member;
        at.id = id;
        at.lives_begun += 1;
        let was_damaged = std::mem::take(&mut at.table_is_damaged);
        if let Some(damage) = &start.damage {
            let cause = &damage.cause;
            self.eyes
                .note(self.now, format_args!("{machine} makes its table anew: {cause}"));
            if !was_damaged {
                self.blame_table(id, cause.clone())?;
            }
        }
        // A damaged table may go unnoticed: a start that set it aside died, or it equals the table of an earlier entry.
        if start.damage.is_some() || was_damaged {
            self.eyes.see(self.now, &Observation::Remade { member: id })?;
        }
        let Recovered {
            hard_state,
            snapshot_index,
            entries,
            applied,
            ..
        } = &start.recovered;
        let count = entries.len();
        self.eyes
            .mix([self.now.as_nanos(), id.0, hard_state.term, count as u64, *applied]);
        self.eyes.note(
            self.now,
            format_args!(
                "{machine} started at {local}: {hard_state:?} snapshot {snapshot_index} entries {count} applied {applied}"
            ),
        );
        let at = &mut self.machines[machine];
        let mut life = Life::new(at.lives, process, start, self.plan.hub_config(&at.site.config, seed));
        life.tokens.get_mut().set_ttl(at.site.config.auth_token_ttl);
        // Reading took its time, the table after the log: a stall delays both once.
        let log_took = at.site.disk.take_cost(self.now);
        let took = log_took + at.site.table.take_cost(self.now + log_took);
        life.busy_until = self.now + took.min(START_MAX);
        at.life = Some(life);
        let seen = Observation::Started {
            member: id,
            recovered: &start.recovered,
            view: &start.view,
        };
        self.eyes.see(self.now, &seen)?;
        self.note_findings();
        self.begin_transport(machine, &start.peers)?;
        self.is_started(machine)
    }

    /// An undamaged table agrees with the seal of its last batch, whatever happened to the rest of its disk.
    fn blame_table(&mut self, member: MemberId, cause: String) -> Verdict {
        let fault = Fault::Inconsistent { cause };
        let seen = Observation::Faulted {
            member,
            fault: &fault,
            excused: false,
        };
        self.eyes.see(self.now, &seen)
    }

    /// The answers of the reachable peers to a starting machine, by their URLs.
    fn peers_answers(&self, machine: usize) -> Vec<(String, RemoteAnswer)> {
        let mut answers = Vec::new();
        for (other, at) in self.machines.iter().enumerate() {
            let Some(life) = at
                .life
                .as_ref()
                .filter(|_| other != machine && self.net.connects(machine, other))
            else {
                continue;
            };
            let cluster = &life.view.cluster;
            let answer = RemoteAnswer {
                cluster: Some((life.process.cluster, cluster.members().cloned().collect())),
                server_version: Some(SERVER_VERSION.to_owned()),
                cluster_version: cluster.version().map(|version| version.to_string()),
                downgrade_enabled: Some(false),
            };
            let urls = at.site.config.advertise_peer_urls.iter();
            answers.extend(urls.map(|url| (url.to_string(), answer.clone())));
        }
        answers
    }

    fn is_started(&mut self, machine: usize) -> Verdict {
        self.refresh_endpoints();
        self.turn(machine)
    }

    /// A process did not come up: it died, or refused to start.
    fn failed_to_start(&mut self, machine: usize, error: BootError) -> Verdict {
        let at = &mut self.machines[machine];
        let id = at.id;
        self.eyes
            .note(self.now, format_args!("{machine} does not start: {error}"));
        self.eyes.mix([self.now.as_nanos(), machine as u64, 0xdead]);
        if at.site.fuse.blown() {
            return self.dies(machine);
        }
        if self.deaths.is_some() {
            return self.does_not_start(&error);
        }
        let is_innocent = !at.table_is_damaged;
        if is_innocent && matches!(error, BootError::Refused(Refusal::TableDamaged { .. })) {
            self.blame_table(id, error.to_string())?;
        }
        let at = &self.machines[machine];
        let fault = match error {
            BootError::Fault(fault) => fault,
            // The member refused to start. A disk that works again soon may be the cause, so this is a fault of the
            // disk.
            other => Fault::Disk {
                operation: "start from",
                file: at.site.config.data_dir.clone(),
                cause: other.to_string(),
            },
        };
        if at.id == MemberId::NONE || at.lives_begun == 0 {
            // It is not a member yet: it tries again until it finds the others.
            self.end(machine, false)?;
            self.start_later(machine, Duration::from_secs(2));
            return Ok(());
        }
        self.faulted(machine, id, &fault)
    }

    /// A member gave up because of a fault. If its disk is the cause, it is started again.
    fn faulted(&mut self, machine: usize, id: MemberId, fault: &Fault) -> Verdict {
        let excused = self.machines[machine].is_excused || self.is_struck();
        let seen = Observation::Faulted {
            member: id,
            fault,
            excused,
        };
        self.eyes.see(self.now, &seen)?;
        if self.deaths.is_some() {
            return self.life_over(End::Faulted);
        }
        self.end(machine, false)?;
        let at = &mut self.machines[machine];
        match fault {
            // The operator has the machine repaired, up to a number of times.
            Fault::Disk { .. } if excused && at.repairs < REPAIRS_MAX => {
                at.repairs += 1;
                let after = Duration::from_millis(500 + self.prng.below(3_000));
                self.start_later(machine, after);
            }
            Fault::Disk { .. } | Fault::Corrupt { .. } | Fault::Inconsistent { .. } if excused => at.part = Part::Lost,
            // A simulated life has no threads.
            Fault::Disk { .. } | Fault::Corrupt { .. } | Fault::Inconsistent { .. } | Fault::ThreadLost { .. } => {}
        }
        Ok(())
    }

    /// After a blown fuse: the process has ended as planned.
    pub(super) fn dies(&mut self, machine: usize) -> Verdict {
        if self.deaths.is_some() {
            return self.life_over(End::Crashed);
        }
        let at = &mut self.machines[machine];
        let Some(doom) = at.doom.take() else {
            return self.end(machine, false);
        };
        self.struck.note(doom.kind);
        self.end(machine, doom.power)?;
        let at = &mut self.machines[machine];
        if doom.again > 0 {
            at.site.fuse.set(doom.points);
            at.doom = Some(Doom {
                kind: FaultKind::RecoveryCrash,
                again: doom.again - 1,
                ..doom
            });
        }
        self.start_later(machine, doom.away);
        Ok(())
    }

    /// A process has ended, with the power or without.
    pub(super) fn end(&mut self, machine: usize, lost_power: bool) -> Verdict {
        let at = &mut self.machines[machine];
        let was_up = at.life.is_some();
        at.power += 1;
        let life = at.life.take();
        if lost_power {
            let wal = at.site.dirs().wal;
            if at.is_deceived && !(at.site.disk.is_durable(&wal) && at.site.table.is_durable()) {
                // Its disk had confirmed data that it now loses: no member can survive that under its id.
                at.part = Part::Lost;
                self.eyes.see(self.now, &Observation::Tampered { member: at.id })?;
            }
            at.is_deceived &= at
                .site
                .fuse
                .failures()
                .iter()
                .any(|failure| failure.says == Says::Nothing);
            at.site.disk.lose_power();
            at.site.table.lose_power();
        } else {
            at.site.disk.end_process();
        }
        at.site.fuse.renew();
        at.connected.fill(false);
        at.paused_until = self.now;
        at.starved_until = self.now;
        let id = at.id;
        if let Some(life) = &life {
            at.last_view = Some(life.view.clone());
        }
        self.eyes
            .mix([self.now.as_nanos(), machine as u64, u64::from(lost_power), 0xe0d]);
        self.eyes
            .note(self.now, format_args!("{machine} is gone, power lost: {lost_power}"));
        self.eyes
            .see(self.now, &Observation::Ended { member: id, lost_power })?;
        if !was_up {
            return Ok(());
        }
        self.exchanges_end(machine, lost_power);
        self.refresh_endpoints();
        if let Some(life) = life {
            self.forget_callers(machine, &life)?;
            self.forget_streams(machine)?;
        }
        Ok(())
    }

    /// The clients of the process find their connections reset.
    fn forget_callers(&mut self, machine: usize, life: &Life) -> Verdict {
        for caller in life.callers.values() {
            if let Caller::Hop(place) = caller
                && let Some(hop) = self.hops.take(*place)
            {
                let at = self.now + Duration::from_millis(50);
                self.queue.push(at, What::Retry(hop.op));
            }
        }
        let lost: Vec<_> = self
            .ops
            .iter()
            .filter(|(_, op)| op.machine == machine && op.is_served())
            .map(|(id, _)| *id)
            .collect();
        for op in lost {
            self.lose(op)?;
        }
        Ok(())
    }

    /// A node has sent its last effect.
    pub(super) fn halted(&mut self, machine: usize, halt: Halt) -> Verdict {
        let at = &mut self.machines[machine];
        at.look_at_clock(self.now);
        self.doing = "close";
        let table_first = self.deaths.as_mut().is_some_and(|deaths| deaths.fate.below(2) == 0);
        if let Some(life) = &mut at.life {
            if table_first {
                life.process.rows.close();
            }
            life.process.log.close();
            life.process.rows.close();
        }
        let id = at.id;
        self.eyes.note(self.now, format_args!("{machine} halts: {halt:?}"));
        if at.site.fuse.blown() {
            return self.dies(machine);
        }
        match halt {
            Halt::Fault(fault) => self.faulted(machine, id, &fault),
            Halt::Removed => {
                at.part = Part::Removed;
                self.end(machine, false)
            }
            Halt::Stopped if self.deaths.is_some() => self.life_over(End::Stopped),
            Halt::Stopped => {
                self.end(machine, false)?;
                if self.healed {
                    // The operator that asked it to stop is no longer there to start it.
                    self.start_later(machine, Duration::from_millis(200));
                }
                Ok(())
            }
        }
    }

    /// A timer in a process is due about now.
    pub(super) fn wake(&mut self, machine: usize, life: u64) -> Verdict {
        let now = self.now;
        let at = &mut self.machines[machine];
        let shown = at.look_at_clock(now);
        let starved_until = at.starved_until;
        let Some(current) = at.life.as_mut().filter(|current| current.number == life) else {
            return Ok(());
        };
        if current.wakes_at != Some(now) && current.wakes_at.is_some_and(|at| at > now) {
            return Ok(());
        }
        current.wakes_at = None;
        let node_is_due = current.process.deadline().is_some_and(|at| at <= shown);
        let rows_are_due = current.rows_jobs == 0 && current.process.rows.is_restless();
        let hub_is_due = !current.streams.is_empty() && current.hub.deadline().is_some_and(|at| at <= shown);
        if rows_are_due {
            self.rows_rest(machine)?;
        }
        if hub_is_due {
            self.plan_hub(machine);
        }
        if node_is_due && starved_until <= now {
            self.turn(machine)?;
        }
        self.plan_wake(machine);
        Ok(())
    }

    /// Plans the next look at the clock, if none is planned early enough.
    pub(super) fn plan_wake(&mut self, machine: usize) {
        let now = self.now;
        let at = &mut self.machines[machine];
        let shown = at.clock.now(now);
        let Some(life) = at.life.as_mut() else { return };
        if !life.has_room() {
            // The lane's report starts it again.
            return;
        }
        let Some(deadline) = life.deadline(shown) else { return };
        let mut wake = at.clock.truth(deadline).max(now);
        if wake < at.starved_until {
            wake = at.starved_until;
        }
        wake = wake.max(life.busy_until);
        if life.hub_is_due && wake <= now {
            wake = now + self.plan.hub_lag.max(Duration::from_micros(10));
        }
        if life.wakes_at.is_none_or(|planned| planned > wake) {
            life.wakes_at = Some(wake);
            let number = life.number;
            self.queue.push(wake, What::Wake { machine, life: number });
        }
    }

    /// Gives a process's node an input, and a turn.
    pub(super) fn tell_node(&mut self, machine: usize, life: u64, input: Input) -> Verdict {
        match &mut self.machines[machine].life {
            Some(current) if current.number == life => current.inbox.push(input),
            Some(_) | None => return Ok(()),
        }
        self.turn(machine)
    }

    /// The state of the machines.
    pub(super) fn status_lines(&self) -> Vec<String> {
        let line = |(number, machine): (usize, &super::member::Machine)| {
            let Some(life) = &machine.life else {
                return format!("machine {number} member {} {:?}, down", machine.id, machine.part);
            };
            let status = &life.status;
            format!(
                "machine {number} member {} {:?} life {} term {} leader {} commit {} applied {} durable {} revision {} published {} \
                 learner {} log {} rows {} inbox {} connected {}",
                machine.id,
                machine.part,
                life.number,
                status.term,
                status.leader,
                status.commit_index,
                status.applied_index,
                status.durable_index,
                life.view.kv.revision(),
                status.published,
                status.is_learner,
                life.process.log.waiting(),
                life.process.rows.waiting(),
                life.inbox.len(),
                (0..self.machines.len())
                    .filter(|other| machine.connected[*other])
                    .map(|other| other.to_string())
                    .collect::<Vec<_>>()
                    .join(","),
            )
        };
        self.machines.iter().enumerate().map(line).collect()
    }
}
