//! The clients of a simulated cluster: they send everything that the server supports, watch, keep leases and take
//! locks, and react to failures like clients with etcd's library. Checkers check the answers.
//!
//! [`Crowd`] is all of them. The plan of a seed's clients is drawn in [`plan`]; what they have seen together is in
//! [`mind`]; single requests are drawn in [`draw`] and `txn`; [`mod@line`] decides when a request is repeated. The
//! kinds of clients are `caller`, `watcher`, `leaseholder` and `locker`, each with random numbers of its own.
//!
//! Every value that is written is written once in a run, except the empty one.

mod caller;
pub mod draw;
pub mod keys;
mod leaseholder;
pub mod line;
mod lock_calls;
mod locker;
pub mod mind;
pub mod plan;
#[cfg(test)]
mod tests;
mod txn;
pub(crate) mod users;
mod watch;
mod watcher;

use std::collections::BTreeMap;
use std::fmt;

use quoin_core::proto::etcdserverpb::WatchResponse;
use quoin_core::random::Prng;
use quoin_core::time::Instant;

use self::caller::Caller;
use self::leaseholder::Leaseholder;
use self::line::{Desk, Names};
use self::locker::Locker;
use self::mind::Mind;
use self::plan::Plan;
use self::users::{Faces, Manager};
use self::watcher::Watcher;
use crate::cluster::plan::Shape;
use crate::cluster::ports::{Act, Clients, Endpoints, Returned};
use crate::observe::{ClientId, OpId, StreamId};
use quoin_model::call::Answer;

/// A kind of client.
trait Client: fmt::Debug {
    /// When it is to act by itself.
    fn wakes_at(&self) -> Option<Instant>;
    /// It may act.
    fn wake(&mut self, desk: &mut Desk<'_>);
    /// A request of its own has ended.
    fn returned(&mut self, desk: &mut Desk<'_>, op: OpId, result: Returned);
    /// A response on a stream of its own.
    fn watched(&mut self, _desk: &mut Desk<'_>, _stream: StreamId, _response: &WatchResponse) {}
    /// A stream of its own has ended.
    fn closed(&mut self, _desk: &mut Desk<'_>, _stream: StreamId) {}
    /// From here on it sends gently.
    fn quiet(&mut self);
}

/// All clients of a run.
#[derive(Debug)]
pub struct Crowd {
    plan: Plan,
    clients: Vec<Box<dyn Client>>,
    /// When each is to act.
    wakes: Vec<Option<Instant>>,
    mind: Mind,
    names: Names,
    world: Endpoints,
    /// Who the clients are, in a run with users.
    faces: Option<Faces>,
    asked_by: BTreeMap<OpId, usize>,
    opened_by: BTreeMap<StreamId, usize>,
}

impl Crowd {
    /// The clients of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_plan(seed, Plan::draw(seed))
    }

    /// The clients of `seed` in a run of this shape.
    #[must_use]
    pub fn of(seed: u64, shape: Shape) -> Self {
        Self::with_plan(seed, Plan::of(seed, shape))
    }

    /// Clients that follow a plan.
    #[must_use]
    pub fn with_plan(seed: u64, plan: Plan) -> Self {
        let root = Prng::new(seed);
        let mut clients: Vec<Box<dyn Client>> = Vec::new();
        let prng = |clients: &Vec<_>| root.fork(&format!("clients/{}", clients.len()));
        for _ in 0..plan.callers {
            clients.push(Box::new(Caller::new(prng(&clients), &plan)));
        }
        for _ in 0..plan.watchers {
            clients.push(Box::new(Watcher::new(prng(&clients), &plan)));
        }
        for _ in 0..plan.leaseholders {
            clients.push(Box::new(Leaseholder::new(prng(&clients), &plan)));
        }
        for _ in 0..plan.lockers {
            clients.push(Box::new(Locker::new(prng(&clients), &plan)));
        }
        Self {
            wakes: clients.iter().map(|client| client.wakes_at()).collect(),
            plan,
            clients,
            mind: Mind::default(),
            names: Names::default(),
            world: Endpoints::default(),
            faces: None,
            asked_by: BTreeMap::new(),
            opened_by: BTreeMap::new(),
        }
    }

    /// The clients of `seed` with users, one more that manages them, and at least some that watch and take locks.
    #[must_use]
    pub fn with_users(seed: u64, shape: Shape) -> Self {
        let mut plan = Plan::of(seed, shape);
        (plan.watchers, plan.lockers) = (plan.watchers.max(2), plan.lockers.max(3));
        let mut crowd = Self::with_plan(seed, plan);
        let prng = Prng::new(seed).fork("clients/users");
        let manager = Manager::new(prng.fork("manager"), &crowd.plan);
        crowd.wakes.push(manager.wakes_at());
        crowd.clients.push(Box::new(manager));
        let changing = usize::try_from(crowd.plan.callers + crowd.plan.watchers).unwrap_or(0);
        crowd.faces = Some(Faces::new(prng.fork("faces"), crowd.clients.len(), changing));
        crowd.mind.server_locks = true;
        crowd
    }

    /// The plan of the clients.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Lets a client act, and records its new requests and streams.
    fn with<T>(
        &mut self,
        at: usize,
        now: Instant,
        acts: &mut Vec<Act>,
        act: impl FnOnce(&mut dyn Client, &mut Desk<'_>) -> T,
    ) -> T {
        let before = acts.len();
        let mut desk = Desk {
            now,
            world: &self.world,
            mind: &mut self.mind,
            plan: &self.plan,
            names: &mut self.names,
            acts,
            client: ClientId(at as u64),
        };
        let done = act(self.clients[at].as_mut(), &mut desk);
        self.wakes[at] = self.clients[at].wakes_at();
        if acts.len() > before
            && let Some(faces) = &mut self.faces
            && let Some(who) = faces.next(at)
        {
            let client = ClientId(at as u64);
            acts.insert(before, Act::Identify { client, who });
        }
        for act in &acts[before..] {
            match act {
                Act::Ask { op, .. } => drop(self.asked_by.insert(*op, at)),
                Act::Open { stream, .. } => drop(self.opened_by.insert(*stream, at)),
                Act::CloseStream { stream } => drop(self.opened_by.remove(stream)),
                Act::GiveUp { op } => drop(self.asked_by.remove(op)),
                Act::Identify { .. } | Act::Pause { .. } | Act::Watch { .. } => {}
            }
        }
        done
    }
}

impl Clients for Crowd {
    fn wakes_at(&self) -> Option<Instant> {
        earliest(self.wakes.iter().copied())
    }

    fn wake(&mut self, now: Instant, world: &Endpoints, acts: &mut Vec<Act>) {
        if self.world != *world {
            self.world = world.clone();
        }
        acts.extend(self.faces.as_mut().and_then(Faces::introduce));
        for at in 0..self.clients.len() {
            if self.wakes[at].is_some_and(|moment| moment <= now) {
                self.with(at, now, acts, |client, desk| client.wake(desk));
            }
        }
    }

    fn returned(&mut self, now: Instant, op: OpId, result: Returned, acts: &mut Vec<Act>) {
        if let (Some(faces), Some(Ok(Answer::Authenticate(answer)))) = (&mut self.faces, &result) {
            faces.learn(&answer.token);
        }
        if let Some(at) = self.asked_by.remove(&op) {
            self.with(at, now, acts, |client, desk| client.returned(desk, op, result));
        }
    }

    fn watched(&mut self, now: Instant, stream: StreamId, response: WatchResponse, acts: &mut Vec<Act>) {
        if let Some(at) = self.opened_by.get(&stream).copied() {
            self.mind.witness(&response);
            self.with(at, now, acts, |client, desk| client.watched(desk, stream, &response));
        }
    }

    fn closed(&mut self, now: Instant, stream: StreamId, acts: &mut Vec<Act>) {
        if let Some(at) = self.opened_by.remove(&stream) {
            self.with(at, now, acts, |client, desk| client.closed(desk, stream));
        }
    }

    fn quiet(&mut self) {
        if let Some(faces) = &mut self.faces {
            faces.quiet();
        }
        for (client, wakes_at) in self.clients.iter_mut().zip(&mut self.wakes) {
            client.quiet();
            *wakes_at = client.wakes_at();
        }
    }
}

/// The earliest of several moments.
fn earliest(moments: impl IntoIterator<Item = Option<Instant>>) -> Option<Instant> {
    moments.into_iter().flatten().min()
}
