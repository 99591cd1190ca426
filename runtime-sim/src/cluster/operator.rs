//! Operators: they change the membership, one task after another, each after the result of the last; they start the
//! machines of new members and stop those of removed ones.

use std::time::Duration;

use quoin_core::config::{ClusterState, Url};
use quoin_core::id::MemberId;
use quoin_core::node::{Input, Request};
use quoin_core::proto::etcdserverpb::{
    MemberAddRequest, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest, MoveLeaderRequest,
};
use quoin_core::random::Prng;
use quoin_core::time::Instant;
use quoin_runtime::lanes::table::TableTask;

use super::World;
use super::member::{Caller, Part};
use super::nemesis::Fault;
use super::net::MACHINES_MAX;
use super::plan::peer_url;
use super::ports::OPERATOR;
use super::queue::What;
use super::run::machine as new_machine;
use crate::faults::FaultKind;
use crate::observe::{OpId, Verdict, Violation};
use quoin_model::call::Call;

/// The ids of its requests begin here.
pub(super) const OPERATOR_OPS: u64 = 1 << 62;
/// The time between its steps.
const LOOK: Duration = Duration::from_millis(300);
/// How long it waits for an answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// How often it tries a task before it drops it.
const TRIES_MAX: u32 = 15;
/// The largest number of members.
const MEMBERS_MAX: usize = 7;
/// For this long after a change, its effect on the quorum may not be visible yet.
const UNSETTLED: Duration = Duration::from_secs(30);

/// A task of an operator.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Task {
    /// Adds the machine with this number.
    Add { machine: usize, is_learner: bool },
    /// Promotes a learner.
    Promote,
    /// Removes a member; then its machine is stopped.
    Remove { machine: usize, replaced: bool },
    /// Changes a member's addresses.
    Update { machine: usize, port: u16 },
    /// Moves leadership.
    Move { machine: usize },
    /// Prepares the machine of a removed member for being a member again.
    Renew { machine: usize, old_disk: bool },
    /// Restarts the machines from this one on.
    Roll { machine: usize, stage: Stage },
}

/// The rest of a task after a step, and how often it was tried.
type Next = Result<Option<(Task, u32)>, Violation>;

/// The progress of a machine's restart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Asked,
    Next,
    Started,
}

/// The operators' tasks.
#[derive(Clone, Debug, Default)]
pub(super) struct Operator {
    tasks: Vec<(Task, u32)>,
    pub(super) asked: u64,
    is_awake: bool,
    /// The revision of the last compaction that it requested.
    pub(super) compacted: i64,
    changed_at: Option<Instant>,
}

impl World<'_> {
    /// Whether a change of the membership may still be in progress somewhere.
    pub(super) fn membership_is_changing(&self) -> bool {
        let recent = self.operator.changed_at;
        recent.is_some_and(|at| at + UNSETTLED > self.now)
    }

    /// Gives an operator a task.
    pub(super) fn operate(&mut self, fault: Fault) -> Verdict {
        let task = match fault {
            Fault::All(FaultKind::AddVoter | FaultKind::AddLearner) => {
                let is_learner = fault == Fault::All(FaultKind::AddLearner);
                self.new_member(is_learner)
            }
            Fault::All(FaultKind::Promote) => Some(Task::Promote),
            Fault::One(kind @ (FaultKind::Remove | FaultKind::Replace), who) => {
                let (machine, replaced) = (self.resolve(who), kind == FaultKind::Replace);
                Some(Task::Remove { machine, replaced })
            }
            Fault::Readd { who, old_disk } => {
                let machine = self.resolve(who);
                let add = Task::Add {
                    machine,
                    is_learner: false,
                };
                let tasks = [
                    Task::Remove {
                        machine,
                        replaced: false,
                    },
                    Task::Renew { machine, old_disk },
                    add,
                ];
                self.operator.tasks.extend(tasks.map(|task| (task, 0)));
                let again = Task::Renew {
                    machine,
                    old_disk: false,
                };
                old_disk.then(|| self.operator.tasks.push((again, 0)));
                old_disk.then_some(add)
            }
            Fault::One(FaultKind::UpdateUrls, who) => Some(Task::Update {
                machine: self.resolve(who),
                port: 2_381 + u16::try_from(self.prng.below(100)).unwrap_or(0),
            }),
            Fault::One(FaultKind::MoveLeader, who) => Some(Task::Move {
                machine: self.resolve(who),
            }),
            Fault::One(FaultKind::Defragment, who) => {
                self.defragment(who);
                None
            }
            Fault::All(FaultKind::RollingRestart) => Some(Task::Roll {
                machine: 0,
                stage: Stage::Next,
            }),
            _ => None,
        };
        self.operator.tasks.extend(task.map(|task| (task, 0)));
        self.call_operator(Duration::ZERO);
        Ok(())
    }

    fn defragment(&mut self, who: super::nemesis::Who) {
        let machine = self.resolve(who);
        if let Some(life) = &mut self.machines[machine].life {
            // No client waits for the answer.
            let (done, _) = futures_channel::oneshot::channel();
            life.process.give_rows(TableTask::Defragment(done));
            self.struck.note(FaultKind::Defragment);
            self.start_rows(machine);
        }
    }

    /// A machine for a new member, if there is room for one.
    fn new_member(&mut self, is_learner: bool) -> Option<Task> {
        let number = self.machines.len();
        let members = self.newest_view().map_or(0, |view| view.cluster.members().count());
        if number >= MACHINES_MAX || members >= MEMBERS_MAX || self.membership_is_changing() {
            return None;
        }
        let config = self.plan.config_of(number, "", ClusterState::Existing);
        let prng = Prng::new(self.seeds.next_u64());
        let machine = new_machine(&prng, &self.plan, number, config, MemberId::NONE, &self.struck);
        self.machines.push(machine);
        self.machines[number].is_unborn = true;
        self.condition_links();
        Some(Task::Add {
            machine: number,
            is_learner,
        })
    }

    fn call_operator(&mut self, after: Duration) {
        if !self.operator.is_awake && !self.operator.tasks.is_empty() {
            self.operator.is_awake = true;
            self.queue.push(self.now + after, What::Operator);
        }
    }

    /// The operator continues the first of its tasks.
    pub(super) fn operator_looks(&mut self) -> Verdict {
        self.operator.is_awake = false;
        if self.healed {
            return self.settle_new_members();
        }
        let Some((task, tries)) = self.operator.tasks.first().copied() else {
            return Ok(());
        };
        let next = if tries > TRIES_MAX {
            None
        } else {
            self.work_on(task, tries)?
        };
        match next {
            Some((task, tries)) => self.operator.tasks[0] = (task, tries),
            None => drop(self.operator.tasks.remove(0)),
        }
        self.call_operator(LOOK);
        Ok(())
    }

    /// One step of a task; returns the rest of it, if any.
    fn work_on(&mut self, task: Task, tries: u32) -> Next {
        match task {
            Task::Add { machine, is_learner } => self.add(machine, is_learner, tries),
            Task::Promote => self.promote(tries),
            Task::Remove { machine, replaced } => self.remove(machine, replaced, tries),
            Task::Update { machine, port } => self.update(machine, port, tries),
            Task::Move { machine } => {
                let target_id = self.machines[machine].id.0;
                let is_done = self.machines[machine]
                    .life
                    .as_ref()
                    .is_some_and(|life| life.status.leads);
                if is_done && tries > 0 {
                    self.struck.note(FaultKind::MoveLeader);
                }
                if is_done || tries > 3 {
                    return Ok(None);
                }
                self.ask_any(Call::MoveLeader(MoveLeaderRequest { target_id }), true)?;
                Ok(Some((task, tries + 1)))
            }
            Task::Renew { machine, old_disk } => self.renew(machine, old_disk, tries),
            Task::Roll { machine, stage } => self.roll(machine, stage, tries),
        }
    }

    fn add(&mut self, machine: usize, is_learner: bool, tries: u32) -> Next {
        if self.adopt(machine) {
            let kind = if is_learner {
                FaultKind::AddLearner
            } else {
                FaultKind::AddVoter
            };
            self.struck.note(kind);
            return Ok(None);
        }
        let call = Call::MemberAdd(MemberAddRequest {
            peer_urls: vec![peer_url(machine)],
            is_learner,
        });
        self.operator.changed_at = Some(self.now);
        self.ask_now_and_then(call, tries)?;
        Ok(Some((Task::Add { machine, is_learner }, tries + 1)))
    }

    /// If a machine's address is among the members, it is one of them, and starts.
    fn adopt(&mut self, machine: usize) -> bool {
        let url = peer_url(machine);
        let Some(view) = self.newest_view() else { return false };
        let members: Vec<_> = view.cluster.members().cloned().collect();
        let Some(id) = members
            .iter()
            .find(|member| member.peer_urls.contains(&url))
            .map(|member| member.id)
        else {
            return false;
        };
        let name = |member: &quoin_core::membership::Member| {
            if !member.name.is_empty() {
                return member.name.clone();
            }
            let url = member.peer_urls.first().map(String::as_str).unwrap_or_default();
            let known = (0..self.machines.len()).find(|machine| peer_url(*machine) == url);
            known.map_or_else(|| format!("x{}", member.id), |machine| format!("m{machine}"))
        };
        let cluster: Vec<String> = members
            .iter()
            .flat_map(|member| member.peer_urls.iter().map(move |url| (member, url)))
            .map(|(member, url)| format!("{}={url}", name(member)))
            .collect();
        let at = &mut self.machines[machine];
        at.id = id;
        at.is_unborn = false;
        at.site.config.initial_cluster = cluster.join(",");
        self.operator.changed_at = Some(self.now);
        self.start_later(machine, Duration::from_millis(100));
        true
    }

    /// After the operator has ended: machines that were added without its knowledge start nevertheless.
    fn settle_new_members(&mut self) -> Verdict {
        let unborn: Vec<usize> = (0..self.machines.len())
            .filter(|machine| self.machines[*machine].is_unborn)
            .collect();
        let waits = unborn.into_iter().filter(|machine| !self.adopt(*machine)).count() > 0;
        if waits {
            self.queue.push(self.now + LOOK * 3, What::Operator);
        }
        Ok(())
    }

    fn promote(&mut self, tries: u32) -> Next {
        let learner = self.newest_view().and_then(|view| {
            let mut members = view.cluster.members();
            members.find(|member| member.is_learner).map(|member| member.id)
        });
        let Some(id) = learner else {
            if tries > 0 {
                self.struck.note(FaultKind::Promote);
            }
            return Ok(None);
        };
        self.operator.changed_at = Some(self.now);
        self.ask_now_and_then(Call::MemberPromote(MemberPromoteRequest { id: id.0 }), tries)?;
        Ok(Some((Task::Promote, tries + 1)))
    }

    fn remove(&mut self, machine: usize, replaced: bool, tries: u32) -> Next {
        let id = self.machines[machine].id;
        let Some(view) = self.newest_view() else {
            return Ok(None);
        };
        if view.cluster.is_removed(id) {
            self.struck.note(if replaced {
                FaultKind::Replace
            } else {
                FaultKind::Remove
            });
            let at = &mut self.machines[machine];
            if at.part == Part::Member {
                at.part = Part::Removed;
            }
            // It may learn that by itself, or be stopped.
            if self.prng.below(2) == 0 && self.machines[machine].is_up() {
                self.end(machine, false)?;
            }
            self.refresh_endpoints();
            return Ok(replaced.then(|| self.new_member_now()).flatten().map(|task| (task, 0)));
        }
        let voters = view.cluster.conf_state().voters.len();
        if view.cluster.member(id).is_none() || (tries == 0 && (voters < 3 || !self.may_lose(machine))) {
            return Ok(None);
        }
        self.operator.changed_at = Some(self.now);
        self.ask_now_and_then(Call::MemberRemove(MemberRemoveRequest { id: id.0 }), tries)?;
        Ok(Some((Task::Remove { machine, replaced }, tries + 1)))
    }

    /// The same as [`Self::new_member`], right after a removal.
    fn new_member_now(&mut self) -> Option<Task> {
        self.operator.changed_at = None;
        let task = self.new_member(false);
        self.operator.changed_at = Some(self.now);
        task
    }

    fn update(&mut self, machine: usize, port: u16, tries: u32) -> Next {
        let id = self.machines[machine].id;
        let url = peer_url(machine).replace("2380", &port.to_string());
        let Some(view) = self.newest_view() else {
            return Ok(None);
        };
        let Some(member) = view.cluster.member(id) else {
            return Ok(None);
        };
        if member.peer_urls.contains(&url) {
            self.struck.note(FaultKind::UpdateUrls);
            let urls = Url::parse_list(&url).expect("it is a URL");
            self.machines[machine].site.config.advertise_peer_urls = urls;
            return Ok(None);
        }
        // At first its operator may have taken it for another machine.
        let others = view.cluster.members().filter(|other| other.id != id);
        let taken = others.filter_map(|other| other.peer_urls.first()).next().cloned();
        let is_mistaken = tries == 0 && self.prng.below(3) == 0;
        let call = Call::MemberUpdate(MemberUpdateRequest {
            id: id.0,
            peer_urls: vec![taken.filter(|_| is_mistaken).unwrap_or(url)],
        });
        self.ask_now_and_then(call, tries)?;
        Ok(Some((Task::Update { machine, port }, tries + 1)))
    }

    /// A machine whose member was removed is to become a member again, at the same address.
    fn renew(&mut self, machine: usize, old_disk: bool, tries: u32) -> Next {
        if self.machines[machine].part != Part::Removed {
            // It may still learn that it was removed.
            let task = Task::Renew { machine, old_disk };
            if tries >= TRIES_MAX {
                self.operator.tasks.truncate(1);
            }
            return Ok(Some((task, tries + 1)));
        }
        if self.machines[machine].is_up() {
            self.end(machine, false)?;
        }
        self.struck.note(FaultKind::Readd);
        let config = self.plan.config_of(machine, "", ClusterState::Existing);
        let at = &mut self.machines[machine];
        if !old_disk {
            at.site.disk.wipe();
        }
        at.site.config = config;
        at.part = Part::Member;
        (at.id, at.is_unborn, at.lives_begun) = (MemberId::NONE, true, 0);
        Ok(None)
    }

    fn roll(&mut self, machine: usize, stage: Stage, tries: u32) -> Next {
        let Some(at) = self.machines.get(machine) else {
            self.struck.note(FaultKind::RollingRestart);
            return Ok(None);
        };
        let (is_up, is_member) = (at.is_up(), at.part == Part::Member);
        let next = |stage, machine, tries| Ok(Some((Task::Roll { machine, stage }, tries)));
        match stage {
            Stage::Next if is_up && is_member => {
                self.stop(machine)?;
                next(Stage::Asked, machine, 0)
            }
            Stage::Asked if is_up => next(Stage::Asked, machine, tries + 1),
            Stage::Asked => {
                self.start_later(machine, Duration::from_millis(200));
                next(Stage::Started, machine, 0)
            }
            Stage::Started if !is_up => next(Stage::Started, machine, tries + 1),
            Stage::Next | Stage::Started => next(Stage::Next, machine + 1, 0),
        }
    }

    /// Asks a process to stop in good order.
    pub(super) fn stop(&mut self, machine: usize) -> Verdict {
        let Some(life) = &mut self.machines[machine].life else {
            return Ok(());
        };
        life.is_stopping = true;
        let token = life.token(Caller::Stop);
        let number = life.number;
        let input = Input::Request {
            token,
            request: Request::Stop,
            deadline: Instant::MAX,
        };
        self.tell_node(machine, number, input)
    }

    /// Sends a request, unless the last one may still be answered.
    fn ask_now_and_then(&mut self, call: Call, tries: u32) -> Verdict {
        if tries.is_multiple_of(5) {
            self.ask_any(call, false)?;
        }
        Ok(())
    }

    /// Sends a request to the leader, or to any member.
    pub(super) fn ask_any(&mut self, call: Call, leader: bool) -> Verdict {
        let up: Vec<&super::member::Machine> = self.machines.iter().filter(|machine| machine.is_up()).collect();
        let leads = |machine: &&&super::member::Machine| machine.life.as_ref().is_some_and(|life| life.status.leads);
        let chosen = if leader {
            up.iter().find(leads)
        } else {
            up.get(self.prng.below(up.len() as u64) as usize)
        };
        match chosen.map(|machine| machine.id) {
            Some(member) => self.ask_one(member, call),
            None => Ok(()),
        }
    }

    pub(super) fn ask_one(&mut self, member: MemberId, call: Call) -> Verdict {
        self.operator.asked += 1;
        let op = OpId(OPERATOR_OPS + self.operator.asked);
        self.ask(op, OPERATOR, member, call, self.now + PATIENCE)
    }
}
