//! Kills a real server at each of its first calls that touch the disk, and checks its data after a restart.
//!
//! A run under strace without a kill shows the calls and their order ([`plan`]). Then there is one run for each: strace
//! kills the process as it enters the call, the server is restarted without strace, and every acknowledged write must
//! exist, at its revision ([`strike`]).
//!
//! strace counts calls per thread, optionally only those on one file, and kills when the first thread reaches the
//! number. So a point is a call, a file and a number; two threads rarely write to one file.

mod plan;
mod series;
pub mod strace;
mod strike;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

pub use plan::{Point, plan};
pub use strike::{Struck, strike};

use crate::binaries::Kind;
use crate::outcome::{Outcome, Tell, Told, Verdict};
use crate::trouble::Trouble;

/// The number of points that are used, from the first on.
pub const FIRST: usize = 500;
/// Runs at the same time.
const WORKERS: usize = 2;
/// Threads race, so a run may not reach its number; more than this percentage must have another cause.
const MISSED_MAX_PERCENT: usize = 5;

/// The results for one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The server.
    pub kind: Kind,
    /// Points that were tried.
    pub tried: usize,
    /// How often, by call, the process was killed without loss.
    pub hit: BTreeMap<String, usize>,
    /// Points that their run did not reach.
    pub missed: Vec<Point>,
    /// Points with a loss.
    pub failed: usize,
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let died: usize = self.hit.values().sum();
        write!(out, "{}: {died} of {} points hit", self.kind.name(), self.tried)?;
        for (call, times) in &self.hit {
            write!(out, ", {times} {call}")?;
        }
        for point in &self.missed {
            write!(out, "; not reached: {point}")?;
        }
        Ok(())
    }
}

/// Kills every server at `points` points spread over its first [`FIRST`], and reports one outcome for each server and
/// one more for each point with a loss.
///
/// # Errors
/// If a server or strace cannot be started.
pub fn run(kinds: &[Kind], points: usize, tell: &mut Tell<'_>) -> Result<Vec<Figures>, Trouble> {
    let mut all = Vec::new();
    for kind in kinds {
        let mut planned = plan(*kind)?;
        planned.truncate(FIRST);
        let (found, wanted) = (planned.len(), points.min(planned.len()));
        let chosen = (0..wanted).map(|at| planned[at * found / wanted].clone()).collect();
        tell(Told::Planned(wanted as u64));
        let figures = one_server(*kind, chosen, tell);
        let tried = figures.tried;
        let verdict = if figures.failed > 0 {
            let failed = figures.failed;
            Verdict::Failed(format!(
                "{failed} of {tried} runs lost something or did not start again"
            ))
        } else if figures.missed.len() * 100 > tried * MISSED_MAX_PERCENT || tried == 0 {
            Verdict::Failed(format!("too few points were reached: {figures}"))
        } else {
            Verdict::Passed
        };
        tell(Told::Outcome(outcome(
            *kind,
            "kills at calls that touch the disk".to_owned(),
            verdict,
        )));
        all.push(figures);
    }
    Ok(all)
}

fn outcome(kind: Kind, scenario: String, verdict: Verdict) -> Outcome {
    Outcome {
        suite: "crash-points",
        client: String::new(),
        method: String::new(),
        scenario,
        server: kind,
        verdict,
    }
}

fn one_server(kind: Kind, chosen: VecDeque<Point>, tell: &mut Tell<'_>) -> Figures {
    let mut figures = Figures {
        kind,
        tried: chosen.len(),
        hit: BTreeMap::new(),
        missed: Vec::new(),
        failed: 0,
    };
    let queue = Mutex::new(chosen);
    let (sender, receiver) = mpsc::sync_channel(WORKERS);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            let (queue, sender) = (&queue, sender.clone());
            scope.spawn(move || {
                let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                while let Some(point) = next() {
                    let struck = strike(kind, &point);
                    if sender.send((point, struck)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (point, struck) in receiver {
            tell(Told::Step(point.to_string()));
            match struck {
                Ok(struck) if struck.hit => *figures.hit.entry(point.call).or_default() += 1,
                Ok(_) => figures.missed.push(point),
                Err(trouble) => {
                    figures.failed += 1;
                    tell(Told::Outcome(outcome(
                        kind,
                        format!("a kill at {point}"),
                        Verdict::Failed(trouble.to_string()),
                    )));
                }
            }
        }
    });
    figures
}
