//! A run from its beginning to its end, and its result.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use quoin_core::config::ClusterState;
use quoin_core::random::Prng;
use quoin_core::time::Instant;

use super::World;
use super::clock::MachineClock;
use super::eyes::{Eyes, Tracing};
use super::member::Machine;
use super::nemesis::Planned;
use super::net::{MACHINES_MAX, Net};
use super::operator::Operator;
use super::plan::{Plan, Shape, Tokens};
use super::ports::{Clients, Endpoints, Observer};
use super::queue::{Queue, Shelf, What};
use super::wire::{Met, Wire};
use crate::disk::{Blocks, DiskModel};
use crate::faults::Struck;
use crate::observe::{Verdict, Violation};
use crate::process::Site;
use crate::table::TableModel;

/// The wall clocks at the beginning: some day in 2024.
const WALL_MS: u64 = 1_720_000_000_000;

/// Settings of a run that its seed does not decide.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The number of founders.
    pub members: Option<usize>,
    /// The shape of the run.
    pub shape: Option<Shape>,
    /// The faults of the run; no others occur.
    pub faults: Option<Vec<Planned>>,
    /// How much text is kept. A run that keeps text also checks its members after every turn.
    pub tracing: Tracing,
}

/// A run before its start.
pub struct Run {
    seed: u64,
    options: Options,
    plan: Plan,
    clients: Box<dyn Clients>,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Events.
    pub events: u64,
    /// Observations.
    pub observed: u64,
    /// True time that passed.
    pub simulated: Duration,
    /// The hash of all events.
    pub trace_hash: u128,
    /// How often each kind of fault struck.
    pub struck: Struck,
    /// What happened to the exchanges of members.
    pub met: Met,
    /// The last events, if the run was traced.
    pub last: Vec<String>,
    /// Its faults.
    pub faults: Vec<Planned>,
}

/// A run that broke a promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// The number of members, if it is not the seed's.
    pub members: Option<usize>,
    /// Whether it was long, if that is not the seed's choice.
    pub is_long: bool,
    /// The broken promise.
    pub violation: Violation,
    /// When.
    pub at: Instant,
    /// The state of the machines, a line for each.
    pub machines: Vec<String>,
    /// The last events, if the run was traced.
    pub last: Vec<String>,
    /// Its faults.
    pub faults: Vec<Planned>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.last {
            writeln!(f, "{line}")?;
        }
        for fault in &self.faults {
            writeln!(f, "fault {fault}")?;
        }
        for machine in &self.machines {
            writeln!(f, "{machine}")?;
        }
        writeln!(f, "{}: {} at {}", self.violation.checker, self.violation.words, self.at)?;
        write!(
            f,
            "rerun: cargo run --release -p quoin-runtime-sim -- replay {}",
            self.seed
        )?;
        if self.is_long {
            write!(f, " --long")?;
        }
        self.members.map_or(Ok(()), |members| write!(f, " --members {members}"))
    }
}

impl Run {
    /// The run of `seed`; `clients` makes its clients.
    pub fn new(seed: u64, options: Options, clients: impl FnOnce(u64, &Plan) -> Box<dyn Clients>) -> Self {
        let shape = options.shape.unwrap_or_else(|| Shape::draw(seed));
        let mut plan = Plan::draw_as(seed, options.members, shape);
        if let Some(faults) = &options.faults {
            plan.faults.clone_from(faults);
        }
        let clients = clients(seed, &plan);
        Self {
            seed,
            options,
            plan,
            clients,
        }
    }

    /// Its plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Carries it out.
    ///
    /// # Errors
    /// The first promise that was broken.
    pub fn run(self, observer: &mut dyn Observer) -> Result<Summary, Box<Failure>> {
        let Self {
            seed,
            options,
            plan,
            clients,
        } = self;
        let mut world = build(seed, plan, clients, Eyes::new(observer, options.tracing));
        match world.run_caught() {
            Ok(()) => Ok(Summary {
                events: world.events,
                observed: world.eyes.observed,
                simulated: world.now.saturating_since(Instant::ZERO),
                trace_hash: world.eyes.hash.value(),
                struck: world.struck.clone(),
                met: world.wire.met,
                last: world.eyes.take_lines(),
                faults: world.plan.faults.clone(),
            }),
            Err(violation) => Err(Box::new(Failure {
                seed,
                members: options.members,
                is_long: options.shape == Some(Shape::Long),
                violation,
                at: world.now,
                machines: world.status_lines(),
                last: world.eyes.take_lines(),
                faults: world.plan.faults.clone(),
            })),
        }
    }
}

impl World<'_> {
    /// Lets everything happen until the run is over; a panic is a broken promise.
    pub(super) fn run_caught(&mut self) -> Verdict {
        let judged = catch_unwind(AssertUnwindSafe(|| self.run()));
        judged.unwrap_or_else(|panic| {
            let words = words_of(&*panic);
            Err(Violation {
                checker: "panic",
                words,
            })
        })
    }
}

/// The message of a panic.
fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().cloned();
    words
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default()
}

/// The world at the beginning of a run.
pub(super) fn build(seed: u64, plan: Plan, clients: Box<dyn Clients>, eyes: Eyes<'_>) -> World<'_> {
    let prng = Prng::new(seed);
    let founders: Vec<_> = (0..plan.members).map(|machine| plan.founder(machine)).collect();
    let struck = Struck::default();
    let mut queue = Queue::default();
    let mut machines = Vec::new();
    for (number, id) in founders.iter().enumerate() {
        machines.push(machine(
            &prng,
            &plan,
            number,
            plan.config_of(number, &plan.founders(), ClusterState::New),
            *id,
            &struck,
        ));
        queue.push(
            Instant::ZERO + Duration::from_millis(10 * number as u64),
            What::Start {
                machine: number,
                power: 0,
            },
        );
    }
    queue.push(Instant::ZERO + Duration::from_millis(50), What::Clients);
    for (number, planned) in plan.faults.iter().enumerate() {
        queue.push(planned.at, What::FaultBegins(number));
    }
    queue.push(Instant::ZERO + plan.heals_after, What::Heal);
    queue.push(Instant::ZERO + plan.heals_after + plan.calm, What::Finish);
    World {
        now: Instant::ZERO,
        queue,
        machines,
        net: Net::new(prng.fork("net"), plan.link_latency, struck.clone()),
        wire: Wire::new(prng.fork("wire"), plan.link_latency),
        clients,
        endpoints: Endpoints::default(),
        clients_wake_at: None,
        acts: Vec::new(),
        users: BTreeMap::new(),
        ops: BTreeMap::new(),
        hops: Shelf::default(),
        streams: BTreeMap::new(),
        active: Vec::new(),
        cut_for_ever: [false; MACHINES_MAX],
        healed: false,
        core: Vec::new(),
        operator: Operator::default(),
        deaths: None,
        doing: "boot",
        checks_all: eyes.traces(),
        eyes,
        struck,
        prng: prng.fork("schedule"),
        seeds: prng.fork("seeds"),
        events: 0,
        events_now: 0,
        finished: false,
        effects: Vec::new(),
        peer_effects: Vec::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        plan,
    }
}

/// A new machine.
pub(super) fn machine(
    prng: &Prng,
    plan: &Plan,
    number: usize,
    config: quoin_core::config::Config,
    id: quoin_core::id::MemberId,
    struck: &Struck,
) -> Machine {
    let mut seeds = prng.fork(&format!("machine-{number}"));
    let mut site = Site::new(seeds.next_u64(), config, plan.segment_bytes);
    site.append_bytes = plan.append_bytes;
    // A half-written sector may look like rot, upon which its member refuses to start: only a minority has such disks.
    let is_rough = plan.rough_disks && number < plan.members.saturating_sub(1) / 2;
    site.disk.set_model(DiskModel {
        halves_sectors: is_rough,
        blocks: if seeds.below(3) == 0 {
            Blocks::Large
        } else {
            Blocks::Small
        },
        ..DiskModel::default()
    });
    site.table.set_model(TableModel {
        cleans_pages: true,
        ..TableModel::default()
    });
    site.disk.set_struck(struck);
    site.table.set_struck(struck);
    let shown = Instant::ZERO + Duration::from_secs(seeds.below(1_000));
    let wall_ms = WALL_MS + seeds.below(100);
    let clock = MachineClock::new(shown, wall_ms);
    let mut machine = Machine::new(site, clock, id, plan.disk_latency, seeds.fork("pace"));
    machine.is_rough = is_rough;
    machine.signs = plan.users == Some(Tokens::Signed);
    machine.is_excused = is_rough;
    machine
}
