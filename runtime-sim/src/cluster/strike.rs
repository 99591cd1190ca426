//! Carries out the planned faults of links, disks, processes and clocks, and the end of them all.

use std::io;
use std::time::Duration;

use quoin_core::config::{AutoCompaction, Gate};

use super::World;
use super::member::{Doom, Part};
use super::nemesis::{Fault, Flags, Planned, Who};
use super::net::{Condition, MACHINES_MAX};
use super::queue::What;
use crate::faults::FaultKind;
use crate::fuse::{Failure, Says, Touch};
use crate::observe::Verdict;

/// The interval between reads while acknowledgements of heartbeats are late.
const READS_EVERY_MS: u64 = 40;
/// Bytes a second to a member that receives snapshots slowly: a small one takes seconds.
const SLOW_SNAPSHOT_BYTES: u64 = 20_000;
/// A clock that runs right.
pub(super) const RIGHT: u64 = 1_000_000;

/// A fault of the network in progress, with its target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Active {
    planned: usize,
    fault: Fault,
    a: usize,
    b: usize,
    /// Whether a flapping partition is active now.
    on: bool,
}

impl World<'_> {
    /// A planned fault begins.
    pub(super) fn fault_begins(&mut self, planned: usize) -> Verdict {
        if self.healed {
            return Ok(());
        }
        let fault = self.plan.faults[planned].fault;
        self.eyes.mix([self.now.as_nanos(), planned as u64, 0xfa17]);
        self.eyes.note(self.now, format_args!("fault {planned}: {fault:?}"));
        match fault {
            Fault::Drop { .. }
            | Fault::Duplicate { .. }
            | Fault::Delay { .. }
            | Fault::Bandwidth { .. }
            | Fault::Split { .. }
            | Fault::KindLost { .. }
            | Fault::Damage { .. }
            | Fault::All(FaultKind::Ring) => self.activate(planned, 0, 0),
            Fault::LateAcks { .. }
            | Fault::MixedSnapshot { .. }
            | Fault::All(FaultKind::QuotaRace | FaultKind::CompactPair)
            | Fault::CompactPair { .. }
            | Fault::One(FaultKind::StalledTable, _)
            | Fault::ClockSetBack { .. } => self.story_begins(planned, fault)?,
            Fault::One(
                FaultKind::Clog | FaultKind::Isolate | FaultKind::Deaf | FaultKind::ClientCut | FaultKind::SlowSnapshot,
                who,
            )
            | Fault::Bridge { bridge: who, .. } => {
                let a = self.resolve(who);
                self.activate(planned, a, a);
            }
            Fault::OneWay { from, to } => {
                let (a, b) = (self.resolve(from), self.resolve(to));
                self.activate(planned, a, b);
            }
            Fault::Flap { who, every_ms } => {
                let a = self.resolve(who);
                self.activate(planned, a, a);
                self.flap_later(planned, every_ms);
            }
            Fault::Stale { .. } => self.fault_flaps(planned)?,
            Fault::One(FaultKind::Reset, who) => {
                let machine = self.resolve(who);
                self.reset_connections(machine)?;
            }
            Fault::Disk { who, how, amount } => {
                let machine = self.resolve(who);
                self.disk_fault(planned, machine, how, amount)?;
            }
            Fault::Crash { .. }
            | Fault::RecoveryCrash { .. }
            | Fault::RoomPowerLoss { .. }
            | Fault::LongOutage { .. }
            | Fault::FlagChange { .. } => self.process_fault(fault)?,
            Fault::One(kind @ (FaultKind::Pause | FaultKind::TickStarvation), who) => {
                let machine = self.resolve(who);
                let at = &mut self.machines[machine];
                if at.is_up() {
                    self.struck.note(kind);
                    let until = if kind == FaultKind::Pause {
                        &mut at.paused_until
                    } else {
                        &mut at.starved_until
                    };
                    *until = self.plan.faults[planned].until;
                }
            }
            Fault::Drift { who, rate } => {
                let machine = self.resolve(who);
                self.struck.note(FaultKind::Drift);
                self.set_rate(machine, rate);
            }
            Fault::WallJump { who, by_ms } => {
                let machine = self.resolve(who);
                self.struck.note(FaultKind::WallJump);
                self.machines[machine].clock.jump(by_ms);
            }
            Fault::One(FaultKind::ForceNewCluster, _) | Fault::TakeoverCrash { .. } | Fault::ArrivalCrash { .. } => {}
            Fault::All(_) | Fault::One(..) | Fault::Readd { .. } => self.operate(fault)?,
        }
        self.queue
            .push(self.plan.faults[planned].until, What::FaultEnds(planned));
        Ok(())
    }

    /// A planned fault ends.
    pub(super) fn fault_ends(&mut self, planned: usize) -> Verdict {
        let before = self.active.len();
        self.active.retain(|active| active.planned != planned);
        if self.active.len() != before {
            self.condition_links();
        }
        if self.healed {
            return Ok(());
        }
        match self.plan.faults[planned].fault {
            Fault::Crash { .. } | Fault::TakeoverCrash { .. } | Fault::ArrivalCrash { .. } => {
                // A process that has not reached the point of its planned death dies now.
                for machine in 0..self.machines.len() {
                    let at = &self.machines[machine];
                    if at.doom.is_some_and(|doom| doom.planned == planned) && at.is_up() {
                        self.dies(machine)?;
                    }
                }
            }
            Fault::Drift { .. } => {
                for machine in 0..self.machines.len() {
                    self.set_rate(machine, RIGHT);
                }
            }
            Fault::Disk { .. } => {
                for machine in &mut self.machines {
                    if machine.slowed_by == Some(planned) {
                        machine.quicken();
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A partition begins or ends; an old frame arrives.
    pub(super) fn fault_flaps(&mut self, planned: usize) -> Verdict {
        let it = self.plan.faults[planned];
        if self.healed || it.until <= self.now {
            return Ok(());
        }
        match it.fault {
            Fault::Flap { every_ms, .. } => {
                for active in &mut self.active {
                    active.on ^= active.planned == planned;
                }
                self.condition_links();
                self.flap_later(planned, every_ms);
            }
            Fault::LateAcks { .. } => {
                self.ask_all()?;
                self.flap_later(planned, READS_EVERY_MS);
            }
            Fault::CompactPair { .. } => self.pair_goes_on(planned)?,
            Fault::Stale { frames } => {
                self.deliver_stale()?;
                let lasts = u64::try_from(it.until.saturating_since(it.at).as_millis()).unwrap_or(u64::MAX);
                self.flap_later(planned, lasts / frames.max(1) + 1);
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn flap_later(&mut self, planned: usize, ms: u64) {
        self.queue
            .push(self.now + Duration::from_millis(ms), What::FaultFlaps(planned));
    }

    pub(super) fn activate(&mut self, planned: usize, a: usize, b: usize) {
        let fault = self.plan.faults[planned].fault;
        self.active.push(Active {
            planned,
            fault,
            a,
            b,
            on: true,
        });
        self.condition_links();
    }

    /// The target of a fault.
    pub(super) fn resolve(&self, who: Who) -> usize {
        let members: Vec<usize> = (0..self.machines.len())
            .filter(|machine| self.machines[*machine].part == Part::Member)
            .collect();
        let leads = |machine: &usize| {
            let life = self.machines[*machine].life.as_ref();
            life.is_some_and(|life| life.status.leads)
        };
        let nth = |of: &[usize], number: usize| of.get(number % of.len().max(1)).copied();
        let found = match who {
            Who::Machine(number) => nth(&members, number),
            Who::Newest => members.last().copied(),
            Who::Leader => members.iter().copied().find(|machine| leads(machine)),
            Who::Follower(number) => {
                let followers: Vec<usize> = members.iter().copied().filter(|machine| !leads(machine)).collect();
                nth(&followers, number)
            }
        };
        found.or_else(|| members.first().copied()).unwrap_or(0)
    }

    /// Sets the condition of all links by the faults in progress.
    pub(super) fn condition_links(&mut self) {
        let count = self.machines.len();
        for from in 0..count {
            for to in 0..count {
                let mut condition = Condition::default();
                for active in self.active.iter().filter(|active| active.on) {
                    impair(&mut condition, active, from, to, count);
                }
                if self.cut_for_ever[from] != self.cut_for_ever[to] || (from == to && self.cut_for_ever[from]) {
                    condition.cut = Some(FaultKind::Isolate);
                }
                self.net.set_condition(from, to, condition);
            }
        }
        self.links_changed();
    }

    fn reset_connections(&mut self, machine: usize) -> Verdict {
        for other in (0..self.machines.len()).filter(|other| *other != machine) {
            self.reset_exchanges(machine, other);
        }
        if self.machines[machine].is_up() {
            self.struck.note(FaultKind::Reset);
        }
        let lost: Vec<_> = self
            .ops
            .iter()
            .filter(|(_, op)| op.machine == machine)
            .map(|(id, _)| *id)
            .collect();
        for op in lost {
            self.patience_ends(op)?;
        }
        self.forget_streams(machine)
    }

    fn disk_fault(&mut self, planned: usize, machine: usize, how: FaultKind, amount: u64) -> Verdict {
        let until = self.plan.faults[planned].until;
        let pick = |touches: &[Touch]| touches[(amount / 8) as usize % touches.len()];
        let fail = |touch, says| Failure {
            touch,
            spared: amount % 8,
            times: Some(1 + amount % 3),
            says,
        };
        let syncs = [Touch::Sync, Touch::Sync, Touch::SyncDir, Touch::TableSync];
        let writes = [
            Touch::Write,
            Touch::Rename,
            Touch::Remove,
            Touch::TableWrite,
            Touch::Create,
            Touch::Truncate,
        ];
        let may_be_lost = self.may_lose(machine);
        let at = &mut self.machines[machine];
        match how {
            FaultKind::SyncError => at.site.fuse.fail(fail(pick(&syncs), Says::Error(io::ErrorKind::Other))),
            FaultKind::SilentSyncError if may_be_lost => {
                at.is_deceived = true;
                at.is_excused = true;
                at.site.fuse.fail(fail(pick(&syncs), Says::Nothing));
            }
            FaultKind::WriteError => at
                .site
                .fuse
                .fail(fail(pick(&writes), Says::Error(io::ErrorKind::Other))),
            FaultKind::NoSpace => {
                let touch = pick(&[Touch::Write, Touch::Create, Touch::Preallocate, Touch::TableWrite]);
                at.site.fuse.fail(fail(touch, Says::Error(io::ErrorKind::StorageFull)));
            }
            FaultKind::ReadError => {
                // Only a start reads.
                let touch = pick(&[Touch::Read, Touch::Read, Touch::TableRead]);
                at.site.fuse.fail(fail(touch, Says::Error(io::ErrorKind::Other)));
                at.is_excused = true;
                if at.is_up() {
                    return self.down_for(machine, false, Duration::from_millis(200));
                }
            }
            FaultKind::SlowDisk => {
                at.slowed_by = Some(planned);
                let (factor, extra) = (
                    2 + u32::try_from(amount % 20).unwrap_or(0),
                    Duration::from_millis(amount % 100),
                );
                at.site.disk.set_slow(factor, extra);
                at.site.table.set_slow(factor, extra);
            }
            FaultKind::StalledDisk => {
                at.slowed_by = Some(planned);
                at.site.disk.set_stall(until);
                at.site.table.set_stall(until);
            }
            FaultKind::LostDisk | FaultKind::OldBackup if may_be_lost && at.lives_begun > 0 => {
                return self.lose_disk(machine, how);
            }
            FaultKind::RottenBit
            | FaultKind::SmearedBytes
            | FaultKind::ZeroedSector
            | FaultKind::StaleSector
            | FaultKind::SwappedSectors
                if may_be_lost && at.lives_begun > 0 =>
            {
                return self.rots(machine, how, amount);
            }
            FaultKind::DamagedRow | FaultKind::LostRow | FaultKind::LostBucket | FaultKind::OldBucket
                if may_be_lost && at.lives_begun > 0 =>
            {
                return self.damage_table(machine, how, amount);
            }
            _ => {}
        }
        let fails = [FaultKind::SyncError, FaultKind::WriteError, FaultKind::NoSpace];
        self.machines[machine].is_excused |= fails.contains(&how);
        Ok(())
    }

    /// A machine takes over a snapshot, its log first (stage 0) and then its table (stage 1). A planned crash may be
    /// due in one of these stages.
    pub(super) fn takes_over(&mut self, machine: usize, stage: u64) {
        let now = self.now;
        let is_due = |planned: &Planned| planned.at <= now && now < planned.until;
        let meant = |planned: &Planned| matches!(planned.fault, Fault::TakeoverCrash { .. }) && is_due(planned);
        let Some(planned) = self.plan.faults.iter().position(meant) else {
            return;
        };
        let fault = self.plan.faults[planned].fault;
        let at = &mut self.machines[machine];
        if let Fault::TakeoverCrash {
            points,
            at: touch,
            power,
            away_ms,
        } = fault
            && at.doom.is_none()
            && !self.healed
            && points % 2 == stage
        {
            at.doom = Some(Doom {
                planned,
                kind: fault.kind(),
                power,
                away: Duration::from_millis(away_ms),
                again: 0,
                points: 0,
            });
            match touch {
                Some(touch) => at.site.fuse.set_on(touch, points / 2 % 3),
                None => at.site.fuse.set(points / 2),
            }
        }
    }

    fn process_fault(&mut self, fault: Fault) -> Verdict {
        match fault {
            Fault::Crash {
                who,
                points,
                at: touch,
                power,
                away_ms,
            } => {
                let machine = self.resolve(who);
                let kind = fault.kind();
                let planned = self.plan.faults.iter().position(|planned| planned.fault == fault);
                let at = &mut self.machines[machine];
                if !at.is_up() {
                    return Ok(());
                }
                at.doom = Some(Doom {
                    planned: planned.unwrap_or(usize::MAX),
                    kind,
                    power,
                    away: Duration::from_millis(away_ms),
                    again: 0,
                    points: 0,
                });
                match touch {
                    Some(touch) => at.site.fuse.set_on(touch, points % 8),
                    None => at.site.fuse.set(points),
                }
                Ok(())
            }
            Fault::RecoveryCrash {
                who,
                points,
                times,
                power,
            } => {
                let machine = self.resolve(who);
                let at = &mut self.machines[machine];
                if !at.is_up() {
                    return Ok(());
                }
                at.doom = Some(Doom {
                    planned: usize::MAX,
                    kind: FaultKind::Crash,
                    power,
                    away: Duration::from_millis(50),
                    again: times,
                    points,
                });
                self.dies(machine)
            }
            Fault::RoomPowerLoss { away_ms } => {
                self.struck.note(FaultKind::RoomPowerLoss);
                for machine in 0..self.machines.len() {
                    let away = Duration::from_millis(away_ms + self.prng.below(500));
                    if self.machines[machine].is_up() {
                        self.down_for(machine, true, away)?;
                    }
                }
                Ok(())
            }
            Fault::LongOutage { who, minutes } => {
                let machine = self.resolve(who);
                if !self.machines[machine].is_up() {
                    return Ok(());
                }
                self.struck.note(FaultKind::LongOutage);
                let away = Duration::from_secs(5 + minutes % 25);
                self.down_for(machine, true, away)?;
                // By its own clock the machine was down for minutes or hours; for the others only seconds passed.
                let at = &mut self.machines[machine];
                at.clock.skip(self.now, Duration::from_secs(60 * minutes));
                Ok(())
            }
            Fault::FlagChange { who, flags } => {
                let machine = self.resolve(who);
                if !self.machines[machine].is_up() {
                    return Ok(());
                }
                self.struck.note(FaultKind::FlagChange);
                self.down_for(machine, false, Duration::from_millis(200))?;
                set_flags(&mut self.machines[machine].site.config, flags);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A machine's process ends and starts again after a while.
    pub(super) fn down_for(&mut self, machine: usize, power: bool, away: Duration) -> Verdict {
        self.end(machine, power)?;
        self.start_later(machine, away);
        Ok(())
    }

    /// A machine's process will start.
    pub(super) fn start_later(&mut self, machine: usize, after: Duration) {
        let power = self.machines[machine].power;
        self.queue.push(self.now + after, What::Start { machine, power });
    }

    pub(super) fn set_rate(&mut self, machine: usize, rate: u64) {
        let at = &mut self.machines[machine];
        at.clock.set_rate(self.now, rate);
        if let Some(life) = &mut at.life {
            life.wakes_at = None;
            life.transport_wakes_at = None;
        }
        self.plan_wake(machine);
        self.plan_transport(machine);
    }
}

/// The effect of a fault on a link.
fn impair(condition: &mut Condition, active: &Active, from: usize, to: usize, count: usize) {
    let concerns = |machine: usize| (from == machine) != (to == machine);
    let peers = from != to;
    let left = |mask: u64, machine: usize| mask >> machine & 1;
    let kind = active.fault.kind();
    let cuts = match active.fault {
        Fault::Drop { permille } => {
            condition.drop_permille = permille;
            false
        }
        Fault::Duplicate { permille } => {
            condition.duplicate_permille = permille;
            false
        }
        Fault::Delay { mean_ms } => {
            condition.delay = Duration::from_millis(mean_ms);
            false
        }
        Fault::One(FaultKind::Clog, _) => {
            condition.is_clogged |= concerns(active.a);
            false
        }
        Fault::Bandwidth { bytes_per_second } => {
            condition.bytes_per_second = bytes_per_second;
            false
        }
        Fault::One(FaultKind::SlowSnapshot, _) => {
            if to == active.a {
                condition.bytes_per_second = SLOW_SNAPSHOT_BYTES;
            }
            false
        }
        Fault::KindLost { kind } => {
            condition.lost_kind = Some(kind);
            false
        }
        Fault::LateAcks { most_ms } => {
            condition.late_acks = Duration::from_millis(most_ms);
            false
        }
        Fault::MixedSnapshot { permille } => {
            condition.mixed_permille = permille;
            false
        }
        Fault::Damage { how, permille } => {
            condition.damage = Some((how, permille));
            false
        }
        Fault::One(FaultKind::Isolate, _) | Fault::Flap { .. } => concerns(active.a),
        Fault::Split { left: mask } => peers && left(mask, from) != left(mask, to),
        Fault::Bridge { left: mask, .. } => {
            peers && left(mask, from) != left(mask, to) && from != active.a && to != active.a
        }
        Fault::All(FaultKind::Ring) => peers && (from + 1) % count != to && (to + 1) % count != from,
        Fault::OneWay { .. } => peers && from == active.a && to == active.b,
        Fault::One(FaultKind::Deaf, _) => peers && to == active.a,
        Fault::One(FaultKind::ClientCut, _) => from == to && from == active.a,
        _ => false,
    };
    if cuts {
        condition.cut = Some(kind);
    }
}

fn set_flags(config: &mut quoin_core::config::Config, flags: Flags) {
    config.election_ms = flags.election_ms;
    config.pre_vote = flags.pre_vote;
    config.snapshot_count = flags.snapshot_count;
    config.quota_backend_bytes = flags.quota_bytes;
    config.auto_compaction = match flags.kept_revisions {
        0 => AutoCompaction::Off,
        revisions => AutoCompaction::Revision(revisions),
    };
    config.feature_gates.set(Gate::LeaseCheckpoint, flags.checkpoints);
}

const _: () = assert!(MACHINES_MAX <= 64, "a mask of machines fits a word");
