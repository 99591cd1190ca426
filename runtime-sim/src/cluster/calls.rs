//! Requests on their way to members, from member to member, and their answers on the way back.

mod hops;

use std::time::Duration;

use quoin_core::api::{self, Computation, Credentials, PasswordResult, PasswordThen, PasswordWork, Read, Step, Then};
use quoin_core::error::Error;
use quoin_core::id::MemberId;
use quoin_core::limits::MEMBER_QUEUE_INPUTS;
use quoin_core::member::Token;
use quoin_core::mvcc::FINISHED_COMPACT_ROW;
use quoin_core::node::{Input, Request, Response};
use quoin_core::proto::etcdserverpb::CompactionRequest;
use quoin_core::table::Bucket;
use quoin_core::time::Instant;

pub(super) use hops::Hop;

use super::World;
use super::codec::{self, refusal};
use super::member::{Caller, Machine};
use super::ports::{Act, Returned};
use super::queue::What;
use super::recipes::Running;
use crate::client::users::password_hash;
use crate::faults::FaultKind;
use crate::observe::{ClientId, Observation, OpId, Verdict};
use quoin_model::call::{Answer, Call, Refusal};

/// How long hashing or comparing a password takes.
const PASSWORD_TAKES: Duration = Duration::from_millis(100);

/// Rows that a member reads in one step of a read: few, so that reads take several steps.
const STEP_ROWS: usize = 3;

/// A pending request of a client.
#[derive(Debug)]
pub(super) struct Op {
    pub(super) client: ClientId,
    pub(super) who: Credentials,
    pub(super) machine: usize,
    /// The life of the machine's process that serves it; 0 while it is on its way.
    life: u64,
    call: Call,
    /// The node's token for it.
    token: Option<Token>,
    /// The argument for `Server::finish`, once this member's node or the leader's node has answered.
    then: Option<Then>,
    /// The request for the leader, if only a leader can answer.
    for_leader: Option<Request>,
    /// A password that was hashed or compared.
    worked: Option<(PasswordThen, PasswordResult)>,
    /// The recipe, if the request is one.
    pub(super) running: Option<Running>,
    /// When the member gives up.
    gives_up_at: Instant,
    result: Option<Result<Answer, Refusal>>,
    /// The client does not wait any more.
    is_over: bool,
}

impl Op {
    /// When the member gives up.
    pub(super) const fn gives_up_at(&self) -> Instant {
        self.gives_up_at
    }

    /// The life of the machine's process that serves it.
    pub(super) const fn life(&self) -> u64 {
        self.life
    }

    /// Does not wait for the node any more.
    pub(super) fn forget(&mut self, machines: &mut [Machine]) {
        if let (Some(token), Some(life)) = (self.token.take(), &mut machines[self.machine].life) {
            life.callers.remove(&token);
        }
    }

    /// Whether it has reached the member and is not answered.
    pub(super) fn is_served(&self) -> bool {
        self.life > 0 && self.result.is_none()
    }
}

impl World<'_> {
    /// Wakes the clients that are due.
    pub(super) fn wake_clients(&mut self) -> Verdict {
        if self.clients_wake_at.is_some_and(|at| at > self.now) {
            return Ok(());
        }
        self.clients_wake_at = None;
        if self.deaths.as_ref().is_some_and(|deaths| !deaths.serves) {
            return Ok(());
        }
        if self.clients.wakes_at().is_some_and(|at| at <= self.now) {
            let mut acts = std::mem::take(&mut self.acts);
            self.clients.wake(self.now, &self.endpoints, &mut acts);
            self.acts = acts;
        }
        self.act()
    }

    /// Carries out the clients' actions.
    pub(super) fn act(&mut self) -> Verdict {
        let mut acts = std::mem::take(&mut self.acts);
        for act in acts.drain(..) {
            match act {
                Act::Ask {
                    op,
                    client,
                    member,
                    call,
                    deadline,
                } => self.ask(op, client, member, call, deadline)?,
                Act::Identify { client, who } => {
                    self.eyes
                        .see(self.now, &Observation::Identified { client, who: &who })?;
                    self.users.insert(client, who);
                }
                Act::Open { stream, client, member } => self.open_stream(stream, client, member)?,
                Act::Watch { stream, request } => self.watch(stream, request),
                Act::Pause { stream, until, sips } => self.pause_stream(stream, until, sips),
                Act::CloseStream { stream } => self.close_stream(stream)?,
                Act::GiveUp { op } => self.give_up(op)?,
            }
        }
        self.acts = acts;
        if let Some(at) = self.clients.wakes_at() {
            let at = at.max(self.now);
            if self.clients_wake_at.is_none_or(|planned| planned > at) {
                self.clients_wake_at = Some(at);
                self.queue.push(at, What::Clients);
            }
        }
        Ok(())
    }

    /// A client sends a member a request.
    pub(super) fn ask(
        &mut self,
        id: OpId,
        client: ClientId,
        member: MemberId,
        call: Call,
        deadline: Instant,
    ) -> Verdict {
        if self.eyes.traces() {
            self.eyes.note(
                self.now,
                format_args!("client {} asks {member} {}: {call:?}", client.0, id.0),
            );
        }
        let seen = Observation::Invoked {
            op: id,
            client,
            member,
            call: &call,
        };
        self.eyes.mix([self.now.as_nanos(), id.0, member.0]);
        self.eyes.see(self.now, &seen)?;
        let machine = self.find(member);
        let op = Op {
            client,
            who: self.user_of(client),
            machine: machine.unwrap_or(usize::MAX),
            life: 0,
            call,
            token: None,
            then: None,
            for_leader: None,
            worked: None,
            running: None,
            gives_up_at: Instant::MAX,
            result: None,
            is_over: false,
        };
        self.ops.insert(id, op);
        self.queue.push(deadline, What::Deadline(id));
        if machine.is_some_and(|machine| self.reaches(machine)) {
            let at = self.now + self.client_latency();
            self.queue.push(at, What::Call(id));
        }
        Ok(())
    }

    /// The user of a client's requests: a client that does not say who it is has none, except operators.
    pub(super) fn user_of(&self, client: ClientId) -> Credentials {
        self.users.get(&client).cloned().unwrap_or_default()
    }

    /// Whether clients reach a machine.
    pub(super) fn reaches(&self, machine: usize) -> bool {
        let cut = self.net.condition(machine, machine).cut;
        if cut.is_some() {
            self.struck.note(FaultKind::ClientCut);
        }
        cut.is_none()
    }

    /// A request reaches its member.
    pub(super) fn call_arrives(&mut self, id: OpId) -> Verdict {
        let now = self.now;
        let Some(op) = self.ops.get_mut(&id) else { return Ok(()) };
        let machine = &self.machines[op.machine];
        let Some(life) = &machine.life else {
            // The connection is refused.
            return self.lose(id);
        };
        op.life = life.number;
        op.gives_up_at = now + machine.limits().request_timeout;
        let call = codec::call(&op.call);
        let step = machine.server(now, &op.who, |server| server.begin(call));
        step.map_or(Ok(()), |step| self.follow(id, step))
    }

    /// Carries out the next step of a request.
    pub(super) fn follow(&mut self, id: OpId, step: Result<Step, Error>) -> Verdict {
        let Some(op) = self.ops.get_mut(&id) else { return Ok(()) };
        match step {
            Err(error) => self.respond(id, Err(error)),
            Ok(Step::Answer(answer)) => self.respond(id, Ok(answer)),
            Ok(Step::Ask { request, then, .. }) => {
                op.then = Some(then);
                self.ask_node(id, request)
            }
            Ok(Step::Compute(computation)) => self.compute(id, computation),
            Ok(Step::Fetch(read)) => self.fetch(id, read),
            Ok(Step::Forward { request, then }) => {
                op.then = Some(then);
                op.for_leader = Some(request);
                self.queue.push(self.now, What::Retry(id));
                Ok(())
            }
            Ok(Step::Password { work, then }) => {
                op.worked = Some((then, work_on(work)));
                self.queue.push(self.now + PASSWORD_TAKES, What::Retry(id));
                Ok(())
            }
            Ok(Step::Recipe(recipe)) => self.begin_recipe(id, recipe),
            Ok(step) => unreachable!("no client asks for {step:?}"),
        }
    }

    fn compute(&mut self, id: OpId, mut computation: Computation) -> Verdict {
        let Some(op) = self.ops.get(&id) else { return Ok(()) };
        while !computation.step(STEP_ROWS) {}
        let answer = self.machines[op.machine].server(self.now, &op.who, |server| computation.answer(server));
        answer.map_or(Ok(()), |answer| self.respond(id, Ok(answer)))
    }

    fn fetch(&mut self, id: OpId, read: Read) -> Verdict {
        let Some(op) = self.ops.get(&id) else { return Ok(()) };
        let result = self.machines[op.machine].server(self.now, &op.who, |server| {
            let mut fetch = read.plan(server);
            while !fetch.step(STEP_ROWS) {}
            fetch.answer(server)
        });
        result.map_or(Ok(()), |result| self.respond(id, result))
    }

    fn ask_node(&mut self, id: OpId, request: Request) -> Verdict {
        let now = self.now;
        let Some(op) = self.ops.get_mut(&id) else { return Ok(()) };
        let index = op.machine;
        let machine = &mut self.machines[index];
        let timeout = machine.limits().request_timeout;
        let Some(life) = &mut machine.life else { return Ok(()) };
        if life.inbox.len() >= MEMBER_QUEUE_INPUTS {
            return self.respond(id, Err(Error::TooManyRequests));
        }
        let token = life.token(Caller::Op(id));
        op.token = Some(token);
        let deadline = machine.clock.now(now) + timeout;
        life.inbox.push(Input::Request {
            token,
            request,
            deadline,
        });
        self.turn(index)
    }

    /// The node answered.
    pub(super) fn reply(&mut self, machine: usize, token: Token, result: Result<Response, Error>) -> Verdict {
        self.eyes.mix([token.0, u64::from(result.is_ok())]);
        let Some(life) = &mut self.machines[machine].life else {
            return Ok(());
        };
        match life.callers.remove(&token) {
            Some(Caller::Op(op)) => self.node_answered(op, result),
            Some(Caller::Hop(place)) => {
                if let Some(mut hop) = self.hops.take(place) {
                    hop.result = Some(result);
                    self.send_hop(hop);
                }
                Ok(())
            }
            Some(Caller::Stop) | None => Ok(()),
        }
    }

    fn node_answered(&mut self, id: OpId, result: Result<Response, Error>) -> Verdict {
        let now = self.now;
        let Some(op) = self.ops.get_mut(&id) else { return Ok(()) };
        let Some(then) = op.then.take() else { return Ok(()) };
        let step = self.machines[op.machine].server(now, &op.who, |server| server.finish(then, result));
        step.map_or(Ok(()), |step| self.follow(id, step))
    }

    /// A request goes on: with a password, with the watch of a recipe, or with the leader.
    pub(super) fn go_on(&mut self, id: OpId) -> Verdict {
        let Some(op) = self.ops.get_mut(&id).filter(|op| op.is_served()) else {
            return Ok(());
        };
        if let Some((then, result)) = op.worked.take() {
            let step = self.machines[op.machine].server(self.now, &op.who, |server| server.worked(then, result));
            return step.map_or(Ok(()), |step| self.follow(id, step));
        }
        if op.for_leader.is_some() {
            return self.ask_leader(id);
        }
        self.recipe_sees(id).unwrap_or(Ok(()))
    }

    /// The member answers, or goes on with the recipe of which this is a part.
    pub(super) fn respond(&mut self, id: OpId, result: Result<api::Answer, Error>) -> Verdict {
        if self.ops.get(&id).is_some_and(|op| op.running.is_some()) {
            return self.recipe_answered(id, result);
        }
        self.respond_with(id, result.map(codec::answer).map_err(refusal))
    }

    pub(super) fn respond_with(&mut self, id: OpId, result: Result<Answer, Refusal>) -> Verdict {
        let Some(op) = self.ops.get_mut(&id) else { return Ok(()) };
        if self.eyes.traces() {
            self.eyes.note(self.now, format_args!("answer to {}: {result:?}", id.0));
        }
        let at = &self.machines[op.machine];
        if let Call::Compact(CompactionRequest {
            revision,
            physical: true,
        }) = op.call
            && result.is_ok()
        {
            let row = at
                .site
                .table
                .content()
                .remove(&(Bucket::Meta, FINISHED_COMPACT_ROW.into()));
            let main = row.and_then(|row| row.first_chunk().map(|main| i64::from_be_bytes(*main)));
            let seen = Observation::Swept {
                member: at.id,
                asked: revision,
                finished: main.unwrap_or(0),
            };
            self.eyes.see(self.now, &seen)?;
        }
        let seen = Observation::Replied {
            op: id,
            member: at.id,
            result: result.as_ref(),
        };
        self.eyes.mix([self.now.as_nanos(), id.0, u64::from(result.is_ok())]);
        self.eyes.see(self.now, &seen)?;
        if op.is_over {
            self.ops.remove(&id);
            return Ok(());
        }
        op.result = Some(result);
        let machine = op.machine;
        if self.reaches(machine) {
            let at = self.now + self.client_latency();
            self.queue.push(at, What::Answer(id));
        }
        Ok(())
    }

    /// An answer reaches its client.
    pub(super) fn answer_arrives(&mut self, id: OpId) -> Verdict {
        match self.ops.get_mut(&id).and_then(|op| op.result.take()) {
            Some(result) => {
                if !self.passes_answer()? {
                    return self.lose(id);
                }
                let client = self.ops.remove(&id).map(|op| op.client);
                self.returns(id, client, Some(result))?;
                self.passes_answer().map(drop)
            }
            None => Ok(()),
        }
    }

    /// A request or its answer is lost, and its client learns of that.
    pub(super) fn lose(&mut self, id: OpId) -> Verdict {
        match self.ops.remove(&id) {
            Some(op) if !op.is_over => self.returns(id, Some(op.client), None),
            Some(_) | None => Ok(()),
        }
    }

    /// The client waits no longer.
    pub(super) fn patience_ends(&mut self, id: OpId) -> Verdict {
        let Some(op) = self.ops.get(&id).filter(|op| !op.is_over) else {
            return Ok(());
        };
        let client = op.client;
        self.leave(id)?;
        self.returns(id, Some(client), None)
    }

    /// The client gives up.
    fn give_up(&mut self, id: OpId) -> Verdict {
        if self.ops.get(&id).is_none_or(|op| op.is_over) {
            return Ok(());
        }
        self.leave(id)?;
        self.eyes.see(self.now, &Observation::Returned { op: id, result: None })
    }

    /// No client waits for a request any more. In half of the cases the node gets a cancellation, and its reply is not
    /// observed.
    fn leave(&mut self, id: OpId) -> Verdict {
        let Some(op) = self.ops.get_mut(&id) else { return Ok(()) };
        if !op.is_served() {
            self.ops.remove(&id);
            return Ok(());
        }
        op.is_over = true;
        if let Some(verdict) = self.abandon_recipe(id) {
            return verdict;
        }
        let Some(op) = self.ops.get_mut(&id) else { return Ok(()) };
        let (machine, life, token) = (op.machine, op.life, op.token);
        if let Some(token) = token
            && self.prng.below(2) == 0
        {
            if let Some(life) = &mut self.machines[machine].life {
                life.callers.remove(&token);
            }
            self.ops.remove(&id);
            return self.tell_node(machine, life, Input::Cancel(token));
        }
        Ok(())
    }

    /// A client gets its answer, or none.
    fn returns(&mut self, id: OpId, client: Option<ClientId>, result: Returned) -> Verdict {
        let seen = Observation::Returned {
            op: id,
            result: result.as_ref().map(Result::as_ref),
        };
        self.eyes.mix([self.now.as_nanos(), id.0, u64::from(result.is_some())]);
        self.eyes.see(self.now, &seen)?;
        if self.eyes.traces() {
            self.eyes.note(
                self.now,
                format_args!("{} returns, answered: {}", id.0, result.is_some()),
            );
        }
        self.has_returned(id, &result)?;
        if client.is_none() {
            return Ok(());
        }
        let mut acts = std::mem::take(&mut self.acts);
        self.clients.returned(self.now, id, result, &mut acts);
        self.acts = acts;
        self.act()
    }
}

/// Hashes and compares passwords. A hash of bcrypt would cost a tenth of a second.
fn work_on(work: PasswordWork) -> PasswordResult {
    match work {
        PasswordWork::Compare { password, hash } => PasswordResult::Compared(password_hash(&password) == hash),
        PasswordWork::Hash { password } => PasswordResult::Hashed(password_hash(&password)),
    }
}
