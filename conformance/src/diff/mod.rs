//! The differential engine: plays the same script to a real etcd, to one of ours and to the reference model, and
//! compares every answer.
//!
//! [`generate`] draws a script from a seed with the help of the model ([`oracle`], [`watching`]); [`player`] plays it
//! to a server over plain gRPC ([`wire`], [`methods`]) and normalises the answers ([`normal`]); [`compare`] compares
//! them; [`intended`] lists the intended differences. For any other difference, [`shrink`] finds a short script that
//! shows it, and [`commands`] writes it for etcdctl. [`scripts`] has hand-written scripts for rare cases.

mod bare;
mod campaign;
mod commands;
mod compare;
mod generate;
mod intended;
mod methods;
mod normal;
mod oracle;
mod player;
mod requests;
mod scripts;
mod shrink;
mod step;
mod watching;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Scope};
use std::time::Duration;

pub use bare::Bare;
pub use campaign::{Campaign, Seeds, campaign};
pub use commands::command;
pub use compare::{Difference, Met, Parties, compare};
pub use generate::Generator;
pub use intended::{INTENDED, Intended, LEFT_OUT};
pub use oracle::{Expected, Oracle, Planned, Settings};
pub use player::{Reply, Seen};
pub use scripts::{Script, all as scripts};
pub use step::{OWN_ID, Step};
pub use watching::{Delivered, Deliveries, Due};

use crate::binaries::Kind;
use crate::server::{Launch, Server};
use crate::setup::Setup;
use crate::trouble::Trouble;
use crate::wait::{self, Deadline};

/// The number of steps that are sent to the servers at once. The next ones are drawn while these are played.
const LOT: usize = 200;
/// Shrinking a script stops after this long.
const SHRINK_LIMIT: Duration = Duration::from_mins(3);

/// Changes the recorded answers of our server, as a bug in it would, to show that bugs are found.
pub type Distort = fn(&Planned, &mut Seen);

/// The servers that are compared.
#[derive(Clone, Debug)]
pub struct Sides {
    /// The real etcd.
    pub real: Launch,
    /// One of ours.
    pub ours: Launch,
    /// The bug to simulate in ours.
    pub distort: Option<Distort>,
    /// Called with a difference when it is found, because shrinking takes long.
    pub found: fn(seed: u64, &Difference),
}

impl Sides {
    /// A real etcd and one of ours, with the usual settings. They run without fsync: that changes no answer, and etcd
    /// takes a tenth of the time. The client connects to the first member. A difference is shown when it is found, before
    /// it is shrunk.
    ///
    /// # Errors
    /// If a program cannot be downloaded or built.
    pub fn of(ours: Kind, setup: Setup) -> Result<Self, Trouble> {
        let launch = |kind| {
            let launch = setup.launch(kind)?;
            Ok(launch.flag("--unsafe-no-fsync").flag("--log-level=error"))
        };
        Ok(Self {
            real: launch(Kind::Etcd)?,
            ours: launch(ours)?,
            distort: None,
            found: |seed, difference| {
                let _ = writeln!(
                    io::stderr(),
                    "QUOIN_SEED={seed} differs; its script is being shrunk: {difference}"
                );
            },
        })
    }
}

/// The result of a seed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The seed; 0 for a hand-written script.
    pub seed: u64,
    /// How many steps of the script were played.
    pub played: usize,
    /// How many requests each server answered.
    pub requests: u64,
    /// How long that took, without shrinking.
    pub took: Duration,
    /// The answers, by kind of request: `ok` or an error with its code.
    pub answered: BTreeMap<(&'static str, String), u64>,
    /// How many responses watches received.
    pub watched: u64,
    /// The intended differences that occurred.
    pub met: Met,
    /// The first unintended difference, at which the script ended.
    pub divergence: Option<Divergence>,
}

/// An unintended difference, and how to reproduce it.
#[derive(Clone, Debug)]
pub struct Divergence {
    /// The servers' settings.
    pub settings: Settings,
    /// The difference that the whole script showed.
    pub found: Difference,
    /// The difference that the shrunk script showed; `None` if that script shows it only sometimes.
    pub shrunk: Option<Difference>,
    /// The shrunk script.
    pub script: Vec<Step>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let difference = self.shrunk.as_ref().unwrap_or(&self.found);
        writeln!(out, "{difference}")?;
        if self.shrunk.is_none() {
            writeln!(
                out,
                "(seen in the whole script; the script below shows it only sometimes)"
            )?;
        }
        writeln!(out, "# servers with {}", self.settings.flags().join(" "))?;
        for step in &self.script {
            writeln!(out, "{}", command(step))?;
        }
        Ok(())
    }
}

/// Plays `requests` random requests of a seed to fresh servers, or fewer if a difference is found.
///
/// # Errors
/// If a server cannot be started or reached.
pub fn run(seed: u64, requests: u64, sides: &Sides) -> Result<Report, Trouble> {
    let mut generator = Generator::new(seed);
    let settings = generator.settings();
    let mut report = Report {
        seed,
        ..Report::default()
    };
    let mut steps = Vec::new();
    let began = wait::now();
    let found = thread::scope(|scope| {
        let pair = Pair::start(scope, sides, settings);
        let mut under_way: Option<Arc<Vec<Planned>>> = None;
        let mut drawn = 0;
        loop {
            let lot = draw(&mut generator, &mut drawn, requests);
            let is_last = lot.is_none();
            if let Some(lot) = &lot {
                steps.extend(lot.iter().map(|planned| planned.step.clone()));
                pair.send(lot);
            }
            if let Some(lot) = std::mem::replace(&mut under_way, lot)
                && let Some(found) = report.take(&lot, &pair.receive()?)
            {
                return Ok(Some(found));
            }
            if is_last {
                return Ok(None);
            }
        }
    })?;
    report.took = began.elapsed();
    if let Some((played, found)) = found {
        (sides.found)(seed, &found);
        steps.truncate(played);
        report.divergence = Some(diverge(settings, steps, found, sides)?);
    }
    Ok(report)
}

/// Plays a hand-written script to fresh servers.
///
/// # Errors
/// If a server cannot be started or reached.
pub fn scripted(script: &Script, sides: &Sides) -> Result<Report, Trouble> {
    let mut sides = sides.clone();
    if script.is_ours_alone {
        sides.real = sides.ours.clone();
    }
    let settings = Settings::default();
    let mut report = Report::default();
    let began = wait::now();
    let found = report.play(settings, &script.steps, &sides)?;
    report.took = began.elapsed();
    report.divergence = found.map(|(_, found)| Divergence {
        settings,
        shrunk: Some(found.clone()),
        found,
        script: script.steps.clone(),
    });
    Ok(report)
}

/// The next steps of a script; after the last request, a step that checks the events that must have arrived.
fn draw(generator: &mut Generator, drawn: &mut u64, requests: u64) -> Option<Arc<Vec<Planned>>> {
    if *drawn >= requests {
        return None;
    }
    let mut lot = Vec::with_capacity(LOT + 1);
    while lot.len() < LOT && *drawn < requests {
        let planned = generator.next_step();
        *drawn += planned.step.requests();
        lot.push(planned);
    }
    if *drawn >= requests {
        lot.push(shrink::closing(generator.oracle()));
    }
    Some(Arc::new(lot))
}

fn diverge(settings: Settings, steps: Vec<Step>, found: Difference, sides: &Sides) -> Result<Divergence, Trouble> {
    let mut last = None;
    let script = shrink::shrink(settings, steps, Deadline::after(SHRINK_LIMIT), |steps| {
        let difference = Report::default().play(settings, steps, sides)?.map(|(_, found)| found);
        let is_such = |difference: &Difference| difference.between == found.between;
        let differs = difference.as_ref().is_some_and(is_such);
        if differs {
            last = difference;
        }
        Ok(differs)
    })?;
    Ok(Divergence {
        settings,
        found,
        shrunk: last,
        script,
    })
}

impl Report {
    /// Plays a whole script to fresh servers; returns the number of steps until the first difference.
    fn play(
        &mut self,
        settings: Settings,
        steps: &[Step],
        sides: &Sides,
    ) -> Result<Option<(usize, Difference)>, Trouble> {
        let script = Arc::new(shrink::planned(settings, steps));
        let seen = thread::scope(|scope| {
            let pair = Pair::start(scope, sides, settings);
            pair.send(&script);
            pair.receive()
        })?;
        Ok(self.take(&script, &seen))
    }

    /// Compares the steps that were played; returns their number until the first difference.
    fn take(&mut self, lot: &[Planned], [real, ours]: &[Vec<Seen>; 2]) -> Option<(usize, Difference)> {
        for (planned, (real, ours)) in lot.iter().zip(real.iter().zip(ours)) {
            self.played += 1;
            if let Some(difference) = compare(planned, real, ours, &mut self.met) {
                return Some((self.played, difference));
            }
            self.count(planned, real);
        }
        None
    }

    fn count(&mut self, planned: &Planned, real: &Seen) {
        let name = planned.step.name();
        self.requests += planned.step.requests();
        for reply in &real.replies {
            let text = match reply {
                Ok(_) => "ok".to_owned(),
                Err(refusal) => format!("{} {}", refusal.code, refusal.message),
            };
            *self.answered.entry((name, text)).or_default() += 1;
        }
        let arrived = real.arrived.iter().flat_map(BTreeMap::values).flatten();
        for delivered in arrived {
            self.watched += 1;
            *self.answered.entry(delivered.told()).or_default() += 1;
        }
    }

    /// Adds the results of another seed.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.watched += other.watched;
        for (key, count) in &other.answered {
            *self.answered.entry(key.clone()).or_default() += count;
        }
        for (name, count) in &other.met {
            *self.met.entry(name).or_default() += count;
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{} requests, {} watch responses", self.requests, self.watched)?;
        for ((name, text), count) in &self.answered {
            writeln!(out, "{count:>9} {name}: {text}")?;
        }
        for entry in INTENDED {
            let count = self.met.get(entry.name).copied().unwrap_or(0);
            writeln!(out, "{count:>9} intended: {}", entry.name)?;
        }
        Ok(())
    }
}

/// Both servers, each with its client on a separate thread.
struct Pair {
    lanes: [Lane; 2],
}

struct Lane {
    lots: SyncSender<Arc<Vec<Planned>>>,
    seen: Receiver<Result<Vec<Seen>, Trouble>>,
}

impl Pair {
    fn start<'scope>(scope: &'scope Scope<'scope, '_>, sides: &Sides, settings: Settings) -> Self {
        let lane = |launch: &Launch, distort| {
            let launch = settings
                .flags()
                .into_iter()
                .fold(launch.clone(), |launch, flag| launch.flag(flag));
            let (lots, to_play) = sync_channel(2);
            let (to_tell, seen) = sync_channel(2);
            scope.spawn(move || {
                let played = launch
                    .start()
                    .and_then(|server| serve(&server, &to_play, &to_tell, distort));
                if let Err(trouble) = played {
                    let _ = to_tell.send(Err(trouble));
                }
            });
            Lane { lots, seen }
        };
        Self {
            lanes: [lane(&sides.real, None), lane(&sides.ours, sides.distort)],
        }
    }

    fn send(&self, lot: &Arc<Vec<Planned>>) {
        for lane in &self.lanes {
            // A client thread that has ended reports its error in `receive`.
            let _ = lane.lots.send(Arc::clone(lot));
        }
    }

    fn receive(&self) -> Result<[Vec<Seen>; 2], Trouble> {
        let seen = |lane: &Lane| {
            let seen = lane.seen.recv();
            seen.unwrap_or_else(|_| Err(Trouble::new("a client thread ended without a result")))
        };
        Ok([seen(&self.lanes[0])?, seen(&self.lanes[1])?])
    }
}

/// Plays steps until no more come.
fn serve(
    server: &Server,
    lots: &Receiver<Arc<Vec<Planned>>>,
    seen: &SyncSender<Result<Vec<Seen>, Trouble>>,
    distort: Option<Distort>,
) -> Result<(), Trouble> {
    player::perform(server, async |mut player| {
        while let Ok(lot) = lots.recv() {
            let mut played = player.play(&lot).await;
            if let Some(distort) = distort {
                lot.iter()
                    .zip(&mut played)
                    .for_each(|(planned, seen)| distort(planned, seen));
            }
            if seen.send(Ok(played)).is_err() {
                break;
            }
        }
    })
}
