//! A whole cluster in one thread of virtual time: real members on simulated machines, a network, clients, and all
//! faults, all from one seed.
//!
//! - [`plan`] is the plan of a seed, [`nemesis`] the list of its faults; `draw` and `stories` draw the list and
//!   `strike` carries it out; `operator` changes the membership;
//! - `queue` holds the planned events, `clock` is the time of a machine;
//! - `member` is a machine, `lives` starts and ends its processes, `effects` carries out its node's effects;
//! - `net` has the links between machines, `wire` carries the bytes of the members' own protocol over them;
//! - `calls` carries requests of clients to members and answers back, through
//!   `codec` and the functions of `core::api`, `recipes` has calls of calls, `streams` are watch streams;
//! - [`ports`] has the interfaces: clients and an observer. The world reports everything and checks nothing.

mod calls;
pub mod campaign;
mod clock;
mod codec;
pub mod crash;
mod deaths;
mod draw;
mod effects;
mod eyes;
mod heal;
pub mod hunt;
mod lives;
mod member;
pub mod nemesis;
mod net;
mod operator;
pub mod plan;
pub mod ports;
mod queue;
mod recipes;
mod ruin;
mod run;
pub mod shrink;
mod stories;
mod streams;
mod strike;
mod twin;
mod wire;

#[cfg(test)]
mod door_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use quoin_core::api::Credentials;
use quoin_core::id::MemberId;
use quoin_core::node::{Effect, Input};
use quoin_core::peer::PeerEffect;
use quoin_core::random::Prng;
use quoin_core::time::Instant;
use quoin_core::watch::WatchOutput;

use crate::faults::Struck;
use crate::observe::{ClientId, Observation, OpId, StreamId, Verdict, ensure};
use calls::{Hop, Op};
use deaths::Deaths;
use eyes::Eyes;
use member::{Machine, Part};
use net::{MACHINES_MAX, Net};
use operator::Operator;
use plan::Plan;
use ports::{Act, Clients, Endpoint, Endpoints};
use queue::{Queue, Shelf, What};
use streams::Stream;
use strike::Active;
use wire::Wire;

pub use codec::signed;
pub use eyes::Tracing;
pub use run::{Failure, Options, Run, Summary};
pub use wire::Met;

/// The largest number of events in one moment.
const EVENTS_AT_ONCE_MAX: u64 = 1_000_000;

/// The whole world.
struct World<'o> {
    plan: Plan,
    now: Instant,
    queue: Queue,
    machines: Vec<Machine>,
    net: Net,
    /// The exchanges of members.
    wire: Wire,
    clients: Box<dyn Clients>,
    endpoints: Endpoints,
    /// When clients are to be woken next.
    clients_wake_at: Option<Instant>,
    acts: Vec<Act>,
    /// The user of each client that has one.
    users: BTreeMap<ClientId, Credentials>,
    ops: BTreeMap<OpId, Op>,
    hops: Shelf<Hop>,
    streams: BTreeMap<StreamId, Stream>,
    /// Faults of the network in progress.
    active: Vec<Active>,
    /// Machines that are cut off for good.
    cut_for_ever: [bool; MACHINES_MAX],
    healed: bool,
    /// The members that continue after that.
    core: Vec<usize>,
    operator: Operator,
    /// The plan for the one member that is to die again and again, in a run of `crash`.
    deaths: Option<Box<Deaths>>,
    /// The present activity of a machine, for the count of deaths.
    doing: &'static str,
    eyes: Eyes<'o>,
    struck: Struck,
    /// Random numbers for timing without a stream of its own: latencies of clients, schedules.
    prng: Prng,
    seeds: Prng,
    events: u64,
    /// Those since time last passed.
    events_now: u64,
    finished: bool,
    /// Whether every turn is checked.
    checks_all: bool,
    // Kept to reuse their memory.
    effects: Vec<Effect>,
    peer_effects: Vec<PeerEffect>,
    inputs: Vec<Input>,
    outputs: Vec<WatchOutput>,
}

impl World<'_> {
    /// Lets everything happen until the run is over.
    fn run(&mut self) -> Verdict {
        while !self.finished {
            let Some((at, what)) = self.queue.pop() else { break };
            if at > self.now {
                self.events_now = 0;
            }
            self.now = self.now.max(at);
            self.events_now += 1;
            ensure(self.events_now < EVENTS_AT_ONCE_MAX, "C47", || {
                format!("time stands still: {what:?} and others go on for ever")
            })?;
            if let Some(machine) = self.machine_of(&what) {
                let paused_until = self.machines[machine].paused_until;
                if paused_until > self.now {
                    self.queue.push(paused_until, what);
                    continue;
                }
            }
            self.events += 1;
            self.handle(what)?;
        }
        Ok(())
    }

    fn handle(&mut self, what: What) -> Verdict {
        match what {
            What::Answer(op) => self.answer_arrives(op),
            What::Arrive { number, side } => self.items_arrive(number, side),
            What::Broken { number, side } => self.breaks(number, side),
            What::Call(op) => self.call_arrives(op),
            What::Clients => self.wake_clients(),
            What::Deadline(op) => self.patience_ends(op),
            What::Drained { number, side } => self.drained(number, side),
            What::FaultBegins(planned) => self.fault_begins(planned),
            What::FaultEnds(planned) => self.fault_ends(planned),
            What::FaultFlaps(planned) => self.fault_flaps(planned),
            What::Finish => {
                self.finished = true;
                self.eyes.see(self.now, &Observation::Finished)
            }
            What::Heal => self.heal(),
            What::Healed => self.is_healed(),
            What::Hop(place) => self.hop_arrives(place),
            What::Hub { machine, life } => self.hub_turn(machine, life),
            What::LateMessage(place) => self.send_late(place),
            What::LifeEnds(life) => self.life_ends(life),
            What::Log { machine, life } => self.log_works(machine, life),
            What::LogReports { machine, life } => self.log_reports(machine, life),
            What::Operator => self.operator_looks(),
            What::Retry(op) => self.go_on(op),
            What::Rows { machine, life } => self.rows_work(machine, life),
            What::RowsReports { machine, life } => self.rows_report(machine, life),
            What::Start { machine, power } => self.start(machine, power),
            What::StreamArrive(stream) => self.responses_arrive(stream),
            What::StreamAsk(stream) => self.stream_asks(stream),
            What::StreamEnd(stream) => self.stream_ends(stream),
            What::StreamOpen(stream) => self.stream_opens(stream),
            What::StreamTake(stream) => self.take_responses(stream),
            What::Transport { machine, life } => self.wake_transport(machine, life),
            What::Turn { machine, life } => self.due_turn(machine, life),
            What::Wake { machine, life } => self.wake(machine, life),
        }
    }

    /// The machine on which an event happens, if a suspended machine cannot have that event.
    fn machine_of(&self, what: &What) -> Option<usize> {
        match what {
            What::Call(op) | What::Retry(op) => self.ops.get(op).map(|op| op.machine),
            What::Arrive { number, side } | What::Broken { number, side } | What::Drained { number, side } => {
                self.wire.machine_of(*number, *side)
            }
            What::Hop(place) => self.hops.get(*place).map(Hop::machine),
            What::StreamOpen(stream) | What::StreamAsk(stream) | What::StreamTake(stream) => {
                self.streams.get(stream).map(|stream| stream.machine)
            }
            What::Hub { machine, .. }
            | What::Log { machine, .. }
            | What::LogReports { machine, .. }
            | What::Rows { machine, .. }
            | What::RowsReports { machine, .. }
            | What::Transport { machine, .. }
            | What::Turn { machine, .. }
            | What::Wake { machine, .. } => Some(*machine),
            _ => None,
        }
    }

    /// The machine of a member.
    fn find(&self, id: MemberId) -> Option<usize> {
        self.machines.iter().position(|machine| machine.id == id)
    }

    /// Gives the clients the new list of members.
    fn refresh_endpoints(&mut self) {
        let newest = self.newest_view();
        let cluster = newest.map(|view| std::sync::Arc::clone(&view.cluster));
        self.endpoints.members.clear();
        for machine in &self.machines {
            let known = cluster.as_ref().and_then(|cluster| cluster.member(machine.id));
            if !machine.is_unborn && (machine.part == Part::Member || machine.is_up()) {
                self.endpoints.members.push(Endpoint {
                    id: machine.id,
                    is_started: machine.is_up(),
                    is_learner: known.is_some_and(|member| member.is_learner),
                });
            }
        }
    }

    /// The newest published state of any machine of the cluster.
    fn newest_view(&self) -> Option<&quoin_core::store::View> {
        let machines = self.machines.iter().filter(|machine| machine.part != Part::Abandoned);
        machines.filter_map(Machine::view).max_by_key(|view| view.applied_index)
    }

    /// The latency between a client and a member.
    fn client_latency(&mut self) -> Duration {
        let nanos = u64::try_from(self.plan.client_latency.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(nanos / 2 + self.prng.below(nanos.max(1)))
    }
}
