//! The data that a machine loses for good, and how many machines may lose any.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use quoin_core::id::MemberId;

use super::World;
use super::member::Part;
use crate::disk::{Backup, Rot, Target};
use crate::faults::FaultKind;
use crate::observe::{Observation, Verdict};
use crate::process::Process;

impl World<'_> {
    /// A machine loses its disk, or gets an old one back. It must not return under its id: its start from that disk is
    /// simulated on a copy that no other member can reach.
    pub(super) fn lose_disk(&mut self, machine: usize, how: FaultKind) -> Verdict {
        self.struck.note(how);
        let at = &mut self.machines[machine];
        at.part = Part::Lost;
        at.is_excused = true;
        self.eyes.see(self.now, &Observation::Tampered { member: at.id })?;
        let backup = Backup::take(&at.site.disk, &at.site.table);
        self.end(machine, true)?;
        let at = &self.machines[machine];
        if how == FaultKind::OldBackup {
            backup.restore(&at.site.disk, &at.site.table);
        } else {
            at.site.disk.wipe();
        }
        self.start_copy(machine);
        Ok(())
    }

    /// Bytes on a disk rot while its process is down, or has lost power; the process finds them when it starts. A loss
    /// of power also takes the rows that the table had not synced, so that only the log has them.
    pub(super) fn rots(&mut self, machine: usize, how: FaultKind, amount: u64) -> Verdict {
        let Some(rot) = Rot::ALL.into_iter().find(|rot| rot.kind() == how) else {
            return Ok(());
        };
        let was_up = self.machines[machine].is_up();
        if was_up {
            self.end(machine, amount.is_multiple_of(2))?;
        }
        let at = &mut self.machines[machine];
        let target = Target::ALL[(amount / 2 % Target::ALL.len() as u64) as usize];
        let hit = at.site.disk.rot(target, rot, Path::new("/"));
        self.eyes.note(self.now, format_args!("{machine} rots: {hit:?}"));
        if hit.is_some() {
            at.is_excused = true;
        }
        if hit.is_some_and(|hit| hit.at_tail) {
            // Damage that looks like a torn write may lose data without an error: one member alone cannot detect it.
            at.part = Part::Lost;
            self.eyes.see(self.now, &Observation::Tampered { member: at.id })?;
            self.start_copy(machine);
        } else if was_up {
            self.start_later(machine, Duration::from_millis(200));
        }
        Ok(())
    }

    /// A table loses rows while its process is down. The next start rebuilds it from the log, or refuses.
    pub(super) fn damage_table(&mut self, machine: usize, how: FaultKind, amount: u64) -> Verdict {
        let was_up = self.machines[machine].is_up();
        if was_up {
            self.end(machine, amount.is_multiple_of(2))?;
        }
        let at = &mut self.machines[machine];
        let hit = at.site.table.damage(how);
        at.is_excused |= hit.is_some();
        at.table_is_damaged |= hit.is_some();
        self.eyes
            .note(self.now, format_args!("the table of {machine} is damaged: {hit:?}"));
        if was_up {
            self.start_later(machine, Duration::from_millis(200));
        }
        Ok(())
    }

    /// Starts a copy of a machine that no other member can reach: it must neither panic nor hang, whatever it finds.
    fn start_copy(&mut self, machine: usize) {
        let at = &self.machines[machine];
        let started = Process::boot(&at.site.fork(), at.clock.wall_ms(self.now), 0, &|_, _| BTreeMap::new());
        let refusal = started.err().map(|error| error.to_string());
        self.eyes
            .note(self.now, format_args!("a copy of {machine} starts: {refusal:?}"));
        self.eyes.hash.add(u64::from(refusal.is_some()));
    }

    /// Whether one more member may lose its data.
    pub(super) fn may_lose(&self, machine: usize) -> bool {
        let Some(view) = self.newest_view() else { return false };
        let voters = &view.cluster.conf_state().voters;
        let is_sound = |id: &&u64| {
            let found = self.find(MemberId(**id)).filter(|found| *found != machine);
            found.is_some_and(|found| {
                let at = &self.machines[found];
                at.part == Part::Member && at.lives_begun > 0 && !at.is_rough && !at.is_deceived && !at.table_is_damaged
            })
        };
        let sound = voters.iter().filter(is_sound).count();
        !self.membership_is_changing() && sound > voters.len() / 2
    }
}
