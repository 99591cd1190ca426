//! Kills a real server at each of its first calls that touch the disk, and looks at what is left.
//!
//! A run under strace without any kill shows which calls there are, in which order ([`plan`]). Then there is one run for
//! each: strace kills the process as it enters the call, the server is started anew without strace, and every write that
//! was acknowledged has to be there, at its revision ([`strike`]).
//!
//! strace counts the calls of each thread for itself, of those about one file if it is told to, and kills at the first thread
//! that comes to the number. So a point is a call, a file and a number: hardly ever do two threads write to one file.

mod plan;
mod series;
pub mod strace;
mod strike;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

pub use plan::{Point, plan};
pub use strike::{Struck, strike};

use crate::binaries::Kind;
use crate::outcome::{Outcome, Tell, Verdict};
use crate::trouble::Trouble;

/// The points are the first so many.
pub const FIRST: usize = 500;
/// Runs at a time.
const WORKERS: usize = 2;
/// Threads race, so that a number may not be reached in a run; more than so many in a hundred would be another cause.
const MISSED_MAX_PERCENT: usize = 5;

/// Kills every server at `points` points spread over its first [`FIRST`], and tells one outcome for each server and one
/// more for each point that something was lost at.
///
/// # Errors
/// When a server or strace cannot be started at all.
pub fn run(kinds: &[Kind], points: usize, tell: &mut Tell<'_>) -> Result<(), Trouble> {
    for kind in kinds {
        let mut planned = plan(*kind)?;
        planned.truncate(FIRST);
        let found = planned.len();
        let chosen: VecDeque<Point> = (0..points.min(found))
            .map(|at| planned[at * found / points.min(found)].clone())
            .collect();
        one_server(*kind, found, chosen, tell);
    }
    Ok(())
}

fn one_server(kind: Kind, found: usize, chosen: VecDeque<Point>, tell: &mut Tell<'_>) {
    let count = chosen.len();
    let outcome = |scenario, verdict| Outcome {
        suite: "crash points",
        client: String::new(),
        method: String::new(),
        scenario,
        server: kind,
        verdict,
    };
    let queue = Mutex::new(chosen);
    let (sender, receiver) = mpsc::sync_channel(WORKERS);
    let mut hit: BTreeMap<String, usize> = BTreeMap::new();
    let (mut missed, mut failed) = (0, 0);
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
            match struck {
                Ok(struck) if struck.hit => *hit.entry(point.call.clone()).or_default() += 1,
                Ok(_) => missed += 1,
                Err(trouble) => {
                    failed += 1;
                    tell(outcome(
                        format!("killed at {point}"),
                        Verdict::Failed(trouble.to_string()),
                    ));
                }
            }
        }
    });
    let died: usize = hit.values().sum();
    let mut scenario = format!("a kill at each of its first {found} calls: {died} of {count} points hit:");
    for (call, times) in &hit {
        // Writing to a string cannot fail.
        let _ = write!(scenario, " {call} {times}");
    }
    let verdict = if failed > 0 {
        Verdict::Failed(format!("{failed} runs lost something or did not start again"))
    } else if missed * 100 > count * MISSED_MAX_PERCENT || count == 0 {
        Verdict::Failed(format!("{missed} of {count} points were not reached"))
    } else {
        Verdict::Passed
    };
    tell(outcome(scenario, verdict));
}
