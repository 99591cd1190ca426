//! Whole clusters in every run of the tests: fresh seeds for every commit, the same seed twice, and the deliberate
//! bugs.
//!
//! `QUOIN_SIM_SEEDS` sets the number of seeds, `QUOIN_SIM_FROM` the first of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use quoin_runtime_sim::check::Coverage;
use quoin_runtime_sim::cluster::{Met, Options, campaign};

/// Seeds that a run of the tests makes.
const SEEDS: u64 = 100;
/// Seeds whose traces are compared with those of a second run.
const REPEATED: u64 = 8;
/// Further seeds, used until everything that is counted of exchanges has happened.
const EXCHANGES: Range<u64> = 800_000_000..800_000_060;

fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

fn number(name: &str) -> Option<u64> {
    variable(name)?.to_str()?.parse().ok()
}

/// The first seed: a different one for every commit, and the same one on every machine for one commit.
fn first_seed() -> u64 {
    let head = Command::new("git").args(["rev-parse", "--short=8", "HEAD"]).output();
    let hash = head.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    let hash = hash.and_then(|hash| u64::from_str_radix(hash.trim(), 16).ok());
    number("QUOIN_SIM_FROM").unwrap_or_else(|| hash.unwrap_or(1) * 1_000)
}

/// What several runs have shown.
#[derive(Default)]
struct Judged {
    /// What happened to exchanges.
    met: Met,
    /// The hash of the trace of each seed.
    hashes: BTreeMap<u64, u128>,
}

impl Judged {
    /// Whether everything that is counted has happened.
    fn has_met_all(&self) -> bool {
        // Too rare for these seeds; a test of snapshots has it.
        let met = Met {
            snapshots_refused: 1,
            ..self.met
        };
        met.counts().iter().all(|(_, count)| *count > 0)
    }
}

/// Judges these seeds on all cores until `is_enough`.
fn judge(seeds: Range<u64>, judged: Judged, is_enough: fn(&Judged) -> bool) -> Judged {
    let (next, coverage) = (AtomicU64::new(seeds.start), Coverage::default());
    let judged = Mutex::new(judged);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) || is_enough(&judged.lock().expect("a failure ends the test")) {
                return;
            }
            let summary = campaign::judged(seed, Options::default(), &coverage);
            let summary = summary.unwrap_or_else(|failure| panic!("{failure}"));
            let mut judged = judged.lock().expect("a failure ends the test");
            judged.met.add(&summary.met);
            judged.hashes.insert(seed, summary.trace_hash);
        }
    };
    thread::scope(|scope| {
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        (0..jobs).for_each(|_| drop(scope.spawn(work)));
    });
    judged.into_inner().expect("no thread failed")
}

/// Fresh seeds keep every promise, some of them give the same trace again, and together with further ones they meet
/// everything that faults do to bytes. One test, because all of it is judged by the same runs.
#[test]
fn clusters_keep_every_promise() {
    let (from, seeds) = (first_seed(), number("QUOIN_SIM_SEEDS").unwrap_or(SEEDS));
    println!("seeds {from} to {}", from + seeds - 1);
    let first = judge(from..from + seeds, Judged::default(), |_| false);
    assert_eq!(first.hashes.len() as u64, seeds, "every seed was judged");
    let again = judge(from..from + seeds.min(REPEATED), Judged::default(), |_| false);
    for (seed, hash) in again.hashes {
        assert_eq!(first.hashes[&seed], hash, "seed {seed}");
    }
    let all = judge(EXCHANGES, first, Judged::has_met_all);
    println!("{} seeds: {}", all.hashes.len(), all.met);
    assert!(all.has_met_all(), "{}", all.met);
}

/// Every mutant with a recorded seed is caught: by that seed or, if the world has changed since, by another.
#[test]
fn bugs_put_in_on_purpose_are_found() {
    // A process of its own, because a bug is active in a whole process.
    let hunt = Command::new(env!("CARGO_BIN_EXE_quoin-runtime-sim"))
        .arg("mutants")
        .args(["--kept", "--seconds", "60"])
        .output()
        .expect("it runs");
    println!("{}", String::from_utf8_lossy(&hunt.stdout));
    assert!(hunt.status.success(), "{}", String::from_utf8_lossy(&hunt.stderr));
}
