//! Random scripts to a real etcd, to ours and to the simulator's model: every answer and every event alike.
//!
//! `QUOIN_SEED` takes other seeds than those every run of the tests takes. `QUOIN_DIFF_SEEDS`, `QUOIN_DIFF_REQUESTS` and
//! `QUOIN_DIFF_JOBS` make it a long one: so many seeds from there on, so many requests each, so many at the same time.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use quoin_conformance::diff::{INTENDED, Parties, Report, Sides, run};
use quoin_conformance::{Kind, Launch, rng, wait};
use quoin_runtime_sim::call::Answer;

#[test]
fn quoin_tokio_answers_as_etcd_does() {
    campaign(Kind::QuoinTokio, 4, 2_500);
}

#[test]
fn quoin_smol_answers_as_etcd_does() {
    campaign(Kind::QuoinSmol, 1, 2_500);
}

#[test]
fn quoin_async_std_answers_as_etcd_does() {
    campaign(Kind::QuoinAsyncStd, 1, 2_500);
}

/// Runs long enough to meet every intended difference.
const LONG: u64 = 500_000;
/// Differing scripts shown; more would be read by nobody.
const MOST_SHOWN: usize = 5;

/// The seeds of a run of the tests begin here, always: fresh ones are for long runs.
const FIRST_SEED: u64 = 1_000;

/// Runs seeds and shows each as it is done, whatever the test harness captures.
fn campaign(kind: Kind, seeds: u64, requests: u64) {
    let first = rng::number_from_env("QUOIN_SEED").unwrap_or(FIRST_SEED);
    let seeds = rng::number_from_env("QUOIN_DIFF_SEEDS").unwrap_or(seeds);
    let requests = rng::number_from_env("QUOIN_DIFF_REQUESTS").unwrap_or(requests);
    let jobs = rng::number_from_env("QUOIN_DIFF_JOBS").unwrap_or(2).min(seeds);
    println!("QUOIN_SEED={first}");
    let sides = sides(kind);
    let (next, total) = (AtomicU64::new(0), Mutex::new(None::<Report>));
    let divergences = Mutex::new(BTreeMap::new());
    let began = wait::now();
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = first + next.fetch_add(1, Ordering::Relaxed);
                    let failed = divergences.lock().expect("no seed panics").len() >= MOST_SHOWN;
                    if seed >= first + seeds || failed {
                        return;
                    }
                    let report = run(seed, requests, &sides).expect("servers that can be reached");
                    progress(kind, &report, began.elapsed().as_secs());
                    if let Some(divergence) = &report.divergence {
                        let shown = format!("QUOIN_SEED={seed}\n{divergence}");
                        let _ = writeln!(io::stderr(), "{shown}");
                        divergences.lock().expect("no seed panics").insert(seed, shown);
                    }
                    let mut total = total.lock().expect("no seed panics");
                    match &mut *total {
                        Some(total) => total.add(&report),
                        None => *total = Some(report),
                    }
                }
            });
        }
    });
    let total = total.into_inner().expect("no seed panics").expect("there was a seed");
    let shown = format!("{} in {:?} by {seeds} seeds\n{total}", kind.name(), began.elapsed());
    println!("{shown}");
    if seeds > 10 {
        let _ = writeln!(io::stderr(), "{shown}");
    }
    let divergences = divergences.into_inner().expect("no seed panics");
    let shown: Vec<String> = divergences.into_values().collect();
    assert!(shown.is_empty(), "{} seeds differ:\n{}", shown.len(), shown.join("\n"));
    let unmet = INTENDED.iter().filter(|entry| !total.met.contains_key(entry.name));
    let unmet: Vec<_> = unmet.map(|entry| entry.name).collect();
    assert!(
        total.requests < LONG || unmet.is_empty(),
        "intended differences that are not there: {unmet:?}"
    );
}

/// Without fsync nothing that clients see changes, and etcd takes a tenth of the time.
fn sides(ours: Kind) -> Sides {
    let launch = |kind| {
        let launch = Launch::of(kind).expect("a server program");
        launch.flag("--unsafe-no-fsync").flag("--log-level=error")
    };
    Sides {
        real: launch(Kind::Etcd),
        ours: launch(ours),
        distort: None,
        found: |seed, difference| {
            let _ = writeln!(
                io::stderr(),
                "QUOIN_SEED={seed} differs, its script is shrunk: {difference}"
            );
        },
    }
}

fn progress(kind: Kind, report: &Report, seconds: u64) {
    let Report {
        seed, requests, took, ..
    } = report;
    let end = if report.divergence.is_some() {
        "DIFFERS"
    } else {
        "alike"
    };
    // Past the harness, which would show it only at the end.
    let _ = writeln!(
        io::stderr(),
        "{seconds:>5} s: {} seed {seed}: {requests} requests in {:.1} s, {end}",
        kind.name(),
        took.as_secs_f64()
    );
}

/// A fault from start to end: it is met by chance, and the script that shows it is short.
#[test]
fn a_fault_is_found_and_its_script_shrunk() {
    let mut sides = sides(Kind::QuoinTokio);
    sides.distort = Some(|_, seen| {
        for reply in &mut seen.replies {
            if let Ok(Answer::Range(response)) = reply {
                response.more = false;
            }
        }
    });
    let report = run(1, 1_000, &sides).expect("servers that can be reached");
    let divergence = report.divergence.expect("the fault is found");
    let difference = divergence.shrunk.as_ref().expect("and found again");
    assert_eq!(
        (difference.between, difference.about.as_str()),
        (Parties::EtcdAndOurs, "Range")
    );
    assert!(difference.shown.contains("more: true"), "{difference}");
    // Two keys and a range with a limit.
    assert!(divergence.script.len() <= 3, "{divergence}");
}
