//! Clusters whose members talk with each other in bytes of the peer protocol.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use quoin_runtime_sim::check::Coverage;
use quoin_runtime_sim::cluster::campaign::judged;
use quoin_runtime_sim::cluster::{Met, Options};

/// Seeds that a run of the tests makes.
const SEEDS: std::ops::Range<u64> = 800_000_000..800_000_060;

fn over_bytes() -> Options {
    Options {
        bytes: true,
        ..Options::default()
    }
}

#[test]
fn clusters_over_bytes_keep_every_promise_and_meet_what_bytes_bring() {
    let (next, coverage, met) = (
        AtomicU64::new(SEEDS.start),
        Coverage::default(),
        Mutex::new(Met::default()),
    );
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !SEEDS.contains(&seed) {
                return;
            }
            match judged(seed, over_bytes(), &coverage) {
                Ok(summary) => met.lock().expect("a failure ends the test").add(&summary.met),
                Err(failure) => panic!("{failure}"),
            }
        }
    };
    thread::scope(|scope| {
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        (0..jobs).for_each(|_| drop(scope.spawn(work)));
    });
    let met = *met.lock().expect("no thread failed");
    let Met {
        cut_in_frame,
        misrouted_refused,
        posted,
        reopened,
        snapshots_cut,
        snapshots_resent,
    } = met;
    let least = [
        cut_in_frame,
        misrouted_refused,
        posted,
        reopened,
        snapshots_cut,
        snapshots_resent,
    ];
    assert!(least.iter().all(|count| *count > 0), "{met:?}");
}

#[test]
fn equal_seeds_give_equal_traces_over_bytes() {
    let hash = |seed| judged(seed, over_bytes(), &Coverage::default()).map(|summary| summary.trace_hash);
    for seed in SEEDS.take(4) {
        let (one, two) = (hash(seed), hash(seed));
        let (one, two) = (one.unwrap_or_else(|failure| panic!("{failure}")), two.unwrap_or(0));
        assert_eq!(one, two, "seed {seed}");
    }
}
