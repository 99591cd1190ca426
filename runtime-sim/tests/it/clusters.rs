//! Whole clusters in every run of the tests: fresh seeds for every commit, the same seed twice, and the deliberate
//! bugs.
//!
//! `QUOIN_SIM_SEEDS` sets the number of seeds, `QUOIN_SIM_FROM` the first of them.

use std::ops::Range;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use quoin_runtime_sim::check::Coverage;
use quoin_runtime_sim::cluster::campaign::judged;
use quoin_runtime_sim::cluster::{Met, Options};

/// Seeds that a run of the tests makes.
const SEEDS: u64 = 100;
/// Seeds that together meet everything that is counted of exchanges.
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

/// Judges these seeds on all cores; returns what happened to exchanges in them.
fn judge_all(seeds: Range<u64>) -> Met {
    let (next, coverage) = (AtomicU64::new(seeds.start), Coverage::default());
    let met = Mutex::new(Met::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) {
                return;
            }
            match judged(seed, Options::default(), &coverage) {
                Ok(summary) => met.lock().expect("a failure ends the test").add(&summary.met),
                Err(failure) => panic!("{failure}"),
            }
        }
    };
    thread::scope(|scope| {
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        (0..jobs).for_each(|_| drop(scope.spawn(work)));
    });
    met.into_inner().expect("no thread failed")
}

#[test]
fn clusters_keep_every_promise() {
    let (from, seeds) = (first_seed(), number("QUOIN_SIM_SEEDS").unwrap_or(SEEDS));
    println!("seeds {from} to {}", from + seeds - 1);
    judge_all(from..from + seeds);
}

#[test]
fn exchanges_meet_everything_that_faults_do_to_bytes() {
    let met = Met {
        // Too rare for these seeds; a test of snapshots has it.
        snapshots_refused: 1,
        ..judge_all(EXCHANGES)
    };
    assert!(met.counts().iter().all(|(_, count)| *count > 0), "{met}");
}

#[test]
fn equal_seeds_give_equal_traces() {
    let hash = |seed| judged(seed, Options::default(), &Coverage::default()).map(|summary| summary.trace_hash);
    let from = first_seed();
    for seed in from..from + 8 {
        let (one, two) = (hash(seed), hash(seed));
        let (one, two) = (one.unwrap_or_else(|failure| panic!("{failure}")), two.unwrap_or(0));
        assert_eq!(one, two, "seed {seed}");
    }
}

/// Every mutant with a recorded seed is caught: by that seed or, if the world has changed since, by another.
#[test]
fn bugs_put_in_on_purpose_are_found() {
    let cargo = variable("CARGO").unwrap_or_else(|| "cargo".into());
    let hunt = Command::new(cargo)
        .args(["run", "-p", "quoin-runtime-sim", "--features", "mutants", "--"])
        .args(["mutants", "--kept", "--seconds", "60"])
        .output()
        .expect("cargo runs, for it runs this test");
    println!("{}", String::from_utf8_lossy(&hunt.stdout));
    assert!(hunt.status.success(), "{}", String::from_utf8_lossy(&hunt.stderr));
}
