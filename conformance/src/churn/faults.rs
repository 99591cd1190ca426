//! What happens to the members: which fault, to which member, for how long.

use std::time::Duration;

use super::cluster::{Cluster, NAMES};
use super::links::Way;
use super::replace::Replacement;
use crate::command;
use crate::histories::clients::Shared;
use crate::histories::nemesis::fill_disk;
use crate::histories::record::Moment;
use crate::rng::Rng;
use crate::sweep::strace::Attached;
use crate::trouble::Trouble;
use crate::wait::{self, Deadline};

/// Members that are disturbed at a time: most stay well, except sometimes.
const AT_A_TIME: usize = 2;
/// A majority may fail once in this many faults.
const MAJORITY_ONCE_IN: u64 = 8;
/// The leader is meant once in this many faults; otherwise it is meant as often as any other member.
const LEADER_ONCE_IN: u64 = 2;
const STEP: Duration = Duration::from_millis(40);
/// A replacement that takes longer is a failure.
const REPLACE_LIMIT: Duration = Duration::from_secs(90);
/// A member whose disk is full ends within this time, if it has anything to write.
const HALT_LIMIT: Duration = Duration::from_secs(5);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL, and a start on the same directory.
    Kill,
    /// SIGSTOP and SIGCONT.
    Stop,
    /// Every write to the disk fails, then the member is started with room.
    FullDisk,
    /// Bytes from the member to the others, or from the others to it, do not arrive.
    OneWay,
    /// Nothing passes between the member and the others, or between it and another one.
    TwoWay,
    /// The member is removed and killed; an empty one takes its place as a learner and is promoted.
    Replace,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Kill,
        Self::Stop,
        Self::FullDisk,
        Self::OneWay,
        Self::TwoWay,
        Self::Replace,
    ];
}

/// A fault that has begun.
struct Active {
    fault: Fault,
    at: usize,
    begun: Moment,
    until: Deadline,
    full: Option<(Attached, usize)>,
    replacement: Option<Replacement>,
}

/// The faults of one cluster.
pub(super) struct Faults<'a> {
    cluster: &'a mut Cluster,
    shared: &'a Shared,
    rng: &'a mut Rng,
    /// Faults so far, by kind in the order of [`Fault::ALL`].
    counts: &'a mut [u64; Fault::ALL.len()],
    active: Vec<Active>,
}

impl<'a> Faults<'a> {
    pub(super) fn new(
        cluster: &'a mut Cluster,
        shared: &'a Shared,
        rng: &'a mut Rng,
        counts: &'a mut [u64; Fault::ALL.len()],
    ) -> Self {
        let active = Vec::new();
        Self {
            cluster,
            shared,
            rng,
            counts,
            active,
        }
    }

    /// Disturbs the members for a while. When this returns, all of them are healthy again.
    pub(super) fn play(&mut self, time: Duration) -> Result<(), Trouble> {
        let deadline = Deadline::after(time);
        while !deadline.passed() {
            self.end_due(false)?;
            let most = AT_A_TIME + usize::from(self.rng.once_in(MAJORITY_ONCE_IN));
            if self.active.len() < most {
                self.begin()?;
            }
            self.check_processes()?;
            wait::pause(STEP + Duration::from_millis(self.rng.below(200)));
        }
        let from = self.shared.now();
        while !self.active.is_empty() {
            self.end_due(true)?;
            wait::pause(STEP);
        }
        self.cluster.open_links();
        self.cluster.wait_healthy()?;
        let until = self.shared.now();
        let mut history = self.shared.history();
        history.disturbed.push((from, until));
        history.disturbed.sort_unstable();
        Ok(())
    }

    fn is_free(&self, at: usize) -> bool {
        self.active.iter().all(|active| active.at != at)
    }

    /// A fault of the kind that there were fewest of so far, or of any kind, at a member without one.
    fn begin(&mut self) -> Result<(), Trouble> {
        let free: Vec<usize> = (0..NAMES.len()).filter(|at| self.is_free(*at)).collect();
        let leader = free.iter().copied().find(|at| self.cluster.is_leader(*at));
        let at = match leader.filter(|_| self.rng.once_in(LEADER_ONCE_IN)) {
            Some(leader) => leader,
            None => *self.rng.pick(&free),
        };
        let kind = self.draw();
        let begun = self.shared.now();
        let mut active = Active {
            fault: Fault::ALL[kind],
            at,
            begun,
            until: Deadline::after(Duration::from_millis(300 + self.rng.below(2_700))),
            full: None,
            replacement: None,
        };
        match active.fault {
            Fault::Kill => self.cluster.kill(at)?,
            Fault::Stop => command::signal(self.cluster.servers[at].pid()?, "STOP")?,
            Fault::FullDisk => {
                let logged = self.cluster.servers[at].log().len();
                // A member that is only starting has no thread for the disk yet.
                let Ok(attached) = fill_disk(&self.cluster.servers[at]) else {
                    return Ok(());
                };
                active.full = Some((attached, logged));
                active.until = Deadline::after(HALT_LIMIT);
            }
            Fault::OneWay => {
                let is_deaf = self.rng.once_in(2);
                let way = self.loss();
                for other in (0..NAMES.len()).filter(|other| *other != at) {
                    let (from, to) = if is_deaf { (other, at) } else { (at, other) };
                    self.cluster.links.set(from, to, way);
                }
            }
            Fault::TwoWay => {
                let others: Vec<usize> = (0..NAMES.len()).filter(|other| *other != at).collect();
                let only = self.rng.once_in(4).then(|| *self.rng.pick(&others));
                let way = self.loss();
                for other in others
                    .into_iter()
                    .filter(|other| only.is_none_or(|only| only == *other))
                {
                    self.cluster.links.set(other, at, way);
                    self.cluster.links.set(at, other, way);
                }
            }
            Fault::Replace => {
                active.replacement = Some(Replacement::of(at));
                active.until = Deadline::after(REPLACE_LIMIT);
            }
        }
        self.counts[kind] += 1;
        self.active.push(active);
        Ok(())
    }

    fn draw(&mut self) -> usize {
        let replaces = |active: &Active| active.fault == Fault::Replace;
        // The list of members that a new one is given has only one place for a new one.
        let is_replacing = self.active.iter().any(replaces);
        let kinds = if is_replacing {
            Fault::ALL.len() - 1
        } else {
            Fault::ALL.len()
        };
        if self.rng.once_in(2) {
            return self.rng.below(kinds as u64) as usize;
        }
        let rarest = (0..kinds).min_by_key(|kind| self.counts[*kind]);
        rarest.unwrap_or_default()
    }

    fn loss(&mut self) -> Way {
        if self.rng.once_in(2) { Way::Held } else { Way::Cut }
    }

    /// Ends the faults whose time has come, or all, and advances replacements.
    fn end_due(&mut self, all: bool) -> Result<(), Trouble> {
        let mut at = 0;
        while at < self.active.len() {
            if self.is_due(at, all)? {
                let active = self.active.remove(at);
                self.end(active)?;
            } else {
                at += 1;
            }
        }
        Ok(())
    }

    fn is_due(&mut self, index: usize, all: bool) -> Result<bool, Trouble> {
        let free: Vec<usize> = (0..NAMES.len()).filter(|at| self.is_free(*at)).collect();
        let active = &mut self.active[index];
        let passed = active.until.passed();
        match (&mut active.replacement, &active.full) {
            (Some(replacement), _) => {
                let by = free.get(self.rng.below(NAMES.len() as u64) as usize);
                let is_done = match by {
                    Some(by) => replacement.advance(self.cluster, *by)?,
                    None => false,
                };
                if passed && !is_done {
                    let words = format!("{replacement:?} took too long: {}", self.cluster.tail(active.at));
                    return Err(Trouble::new(words));
                }
                Ok(is_done)
            }
            (None, Some(_)) => Ok(passed || self.cluster.servers[active.at].exited().is_some()),
            (None, None) => Ok(passed || all),
        }
    }

    fn end(&mut self, active: Active) -> Result<(), Trouble> {
        let at = active.at;
        match active.fault {
            Fault::Kill => self.cluster.spawn(at)?,
            Fault::Stop => command::signal(self.cluster.servers[at].pid()?, "CONT")?,
            Fault::FullDisk => {
                if let Some((attached, logged)) = active.full {
                    attached.detach()?;
                    self.check_halt(at, logged)?;
                }
                self.cluster.spawn(at)?;
            }
            Fault::OneWay | Fault::TwoWay => {
                for other in 0..NAMES.len() {
                    self.cluster.links.set(other, at, Way::Open);
                    self.cluster.links.set(at, other, Way::Open);
                }
            }
            Fault::Replace => {}
        }
        let until = self.shared.now();
        self.shared.history().disturbed.push((active.begun, until));
        Ok(())
    }

    /// A member that ended on a full disk has logged the reason.
    fn check_halt(&mut self, at: usize, logged: usize) -> Result<(), Trouble> {
        let server = &mut self.cluster.servers[at];
        let Some(status) = server.exited() else {
            return Ok(());
        };
        let log = server.log();
        let said = log.get(logged..).unwrap_or_default();
        if status.success() || !said.to_lowercase().contains("no space left") {
            let words = format!("{} had a full disk, ended ({status}) and said: {said}", NAMES[at]);
            return Err(Trouble::new(words));
        }
        Ok(())
    }

    /// A member without a fault does not end.
    fn check_processes(&mut self) -> Result<(), Trouble> {
        for at in (0..NAMES.len()).filter(|at| self.is_free(*at)).collect::<Vec<_>>() {
            if let Some(status) = self.cluster.servers[at].exited() {
                let words = format!("{} ended ({status}) by itself:\n{}", NAMES[at], self.cluster.tail(at));
                return Err(Trouble::new(words));
            }
        }
        Ok(())
    }
}
