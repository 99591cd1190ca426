//! The end of all faults: which members continue, and whether those that must recover have recovered.

use std::time::Duration;

use quoin_core::id::MemberId;

use super::World;
use super::member::Part;
use super::nemesis::{Fault, Who};
use super::queue::What;
use super::strike::RIGHT;
use crate::faults::FaultKind;
use crate::observe::{Observation, Verdict};

/// After this time every member that is needed has started and found the others, or will soon.
const SETTLES: Duration = Duration::from_secs(3);
/// The time between further checks.
const LOOKS_AGAIN: Duration = Duration::from_millis(500);

impl World<'_> {
    /// From here on nothing is disturbed: a quorum continues, the rest may be dead.
    pub(super) fn heal(&mut self) -> Verdict {
        self.healed = true;
        self.active.clear();
        let changing = self.membership_is_changing();
        self.eyes.note(self.now, format_args!("healed"));
        for machine in 0..self.machines.len() {
            let at = &mut self.machines[machine];
            at.paused_until = self.now;
            at.starved_until = self.now;
            at.quicken();
            at.site.fuse.mend();
            at.site.fuse.renew();
            at.doom = None;
            if let Some(life) = &mut at.life {
                // The work that a slow disk delayed is done.
                life.busy_until = self.now;
                life.turn_is_due = false;
            }
            self.set_rate(machine, RIGHT);
            // The operator that would have started it again has stopped.
            if self.machines[machine]
                .life
                .as_ref()
                .is_some_and(|life| life.is_stopping)
            {
                self.end(machine, false)?;
            }
            self.turn(machine)?;
        }
        self.clients.quiet();
        self.hasten_readers();
        // Quiet clients may want to act earlier than was planned.
        self.act()?;
        let forced = self
            .plan
            .faults
            .iter()
            .any(|planned| matches!(planned.fault, Fault::One(FaultKind::ForceNewCluster, _)));
        let core = if forced && let Some(machine) = self.force_new_cluster()? {
            vec![machine]
        } else {
            self.choose_core(changing)?
        };
        self.condition_links();
        for machine in &core {
            if !self.machines[*machine].is_up() {
                let after = Duration::from_millis(self.prng.below(2_000));
                self.start_later(*machine, after);
            }
        }
        self.core = core;
        self.queue.push(self.now, What::Operator);
        self.queue.push(self.now + SETTLES, What::Healed);
        Ok(())
    }

    /// The quorum that continues is up and connected: from here on promises have deadlines.
    pub(super) fn is_healed(&mut self) -> Verdict {
        let core = std::mem::take(&mut self.core);
        // A process that began to start while its disk was slow may still read.
        let has_started = |machine: &usize| {
            let life = self.machines[*machine].life.as_ref();
            life.is_some_and(|life| life.busy_until <= self.now + self.plan.turn_takes)
        };
        let have_started = core.iter().all(has_started);
        let pairs = core
            .iter()
            .flat_map(|from| core.iter().filter(move |to| *to != from).map(move |to| (*from, *to)));
        let apart: Vec<(usize, usize)> = pairs.filter(|(from, to)| !self.are_connected(*from, *to)).collect();
        self.look_at_wait(if have_started { &apart } else { &[] })?;
        if !have_started || !apart.is_empty() {
            self.core = core;
            self.queue.push(self.now + LOOKS_AGAIN, What::Healed);
            return Ok(());
        }
        let election_ms = core
            .iter()
            .map(|machine| self.machines[*machine].site.config.election_ms);
        let election_timeout = Duration::from_millis(election_ms.max().unwrap_or(1_000));
        let ids: Vec<MemberId> = core.iter().map(|machine| self.machines[*machine].id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let seen = Observation::Healed {
            core: &ids,
            election_timeout,
            pre_vote: core.iter().all(|machine| self.machines[*machine].site.config.pre_vote),
        };
        self.eyes.see(self.now, &seen)
    }

    /// A quorum of the members, or all of them; the others die or are cut off for good.
    fn choose_core(&mut self, changing: bool) -> Result<Vec<usize>, crate::observe::Violation> {
        let Some(view) = self.newest_view() else {
            return Ok((0..self.machines.len()).collect());
        };
        let conf = view.cluster.conf_state().clone();
        let usable = |id: &u64| {
            let found = self.find(MemberId(*id))?;
            (self.machines[found].part == Part::Member).then_some(found)
        };
        let mut core: Vec<usize> = conf.voters.iter().filter_map(usable).collect();
        let quorum = conf.voters.len() / 2 + 1;
        if core.len() < quorum {
            return Ok(Vec::new());
        }
        if changing || !self.plan.minority_dies {
            core.extend(conf.learners.iter().filter_map(usable));
            return Ok(core);
        }
        while core.len() > quorum {
            let unlucky = core.remove(self.prng.below(core.len() as u64) as usize);
            if self.prng.below(2) == 0 {
                self.cut_for_ever[unlucky] = true;
            } else if self.machines[unlucky].is_up() {
                self.end(unlucky, false)?;
            } else {
                self.machines[unlucky].power += 1;
            }
        }
        Ok(core)
    }

    /// All but the leader are given up, and it forms a new cluster.
    fn force_new_cluster(&mut self) -> Result<Option<usize>, crate::observe::Violation> {
        let machine = self.resolve(Who::Leader);
        let newest = self.newest_view().map(|view| view.applied_index);
        let at = &self.machines[machine];
        let is_newest = at
            .life
            .as_ref()
            .is_some_and(|life| Some(life.view.applied_index) == newest);
        let leads = at.life.as_ref().is_some_and(|life| life.status.leads);
        if !is_newest || !leads {
            return Ok(None);
        }
        self.struck.note(FaultKind::ForceNewCluster);
        for other in (0..self.machines.len()).filter(|other| *other != machine) {
            self.machines[other].part = Part::Abandoned;
            self.machines[other].power += 1;
            if self.machines[other].is_up() {
                self.end(other, false)?;
            }
        }
        let at = &self.machines[machine];
        let kept = at.life.as_ref().map_or(0, |life| life.status.commit_index);
        self.eyes
            .see(self.now, &Observation::Refounded { member: at.id, kept })?;
        // It is stopped in order, so that everything it has recorded as committed is written.
        self.halted(machine, quoin_core::member::Halt::Stopped)?;
        self.machines[machine].site.config.force_new_cluster = true;
        Ok(Some(machine))
    }
}
