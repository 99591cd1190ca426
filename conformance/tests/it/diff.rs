//! Random scripts on a real etcd, on ours and on the reference model: all answers and events must be equal.
//!
//! `QUOIN_SEED` sets the first seed, which is the same in every run without it. `QUOIN_DIFF_SEEDS`,
//! `QUOIN_DIFF_REQUESTS` and `QUOIN_DIFF_JOBS` set the number of seeds, of requests per seed, and of seeds at the same
//! time.

use std::io::{self, Write as _};

use quoin_conformance::diff::{INTENDED, Parties, Report, Seeds, Sides, campaign, run};
use quoin_conformance::{Kind, Setup, rng, wait};
use quoin_model::call::Answer;

#[test]
fn quoin_tokio_answers_as_etcd_does() {
    compare(Kind::QuoinTokio, 4, 2_500);
}

#[test]
fn quoin_smol_answers_as_etcd_does() {
    compare(Kind::QuoinSmol, 1, 2_500);
}

#[test]
fn quoin_async_std_answers_as_etcd_does() {
    compare(Kind::QuoinAsyncStd, 1, 2_500);
}

/// Three members of ours, three members of a real etcd, and the model of one member give the same answers.
#[test]
fn three_members_answer_as_three_etcds_do() {
    are_alike(Kind::QuoinTokio, false);
}

#[test]
fn three_secured_members_answer_a_user_as_three_etcds_do() {
    are_alike(Kind::QuoinSmol, true);
}

fn are_alike(kind: Kind, is_secured: bool) {
    let setup = Setup { members: 3, is_secured };
    let sides = Sides::of(kind, setup).expect("the programs");
    let report = run(FIRST_SEED, 400, &sides).expect("servers that can be reached");
    assert!(report.requests >= 400, "{} requests", report.requests);
    assert!(
        report.divergence.is_none(),
        "{}",
        report.divergence.expect("it is there")
    );
}

/// Long enough to meet every intended difference.
const LONG: u64 = 500_000;
/// The first seed of every run of the tests; new seeds are for long runs.
const FIRST_SEED: u64 = 1_000;

/// Runs seeds and shows each when it is finished, even if the test harness captures output.
fn compare(kind: Kind, seeds: u64, requests: u64) {
    let seeds = Seeds {
        first: rng::number_from_env("QUOIN_SEED").unwrap_or(FIRST_SEED),
        count: rng::number_from_env("QUOIN_DIFF_SEEDS").unwrap_or(seeds),
        requests: rng::number_from_env("QUOIN_DIFF_REQUESTS").unwrap_or(requests),
        jobs: rng::number_from_env("QUOIN_DIFF_JOBS").unwrap_or(2),
    };
    println!("QUOIN_SEED={}", seeds.first);
    let began = wait::now();
    let told = |report: &Report| progress(kind, report, began.elapsed().as_secs());
    let done = campaign(seeds, &Sides::of(kind, Setup::ALONE).expect("the programs"), &told)
        .expect("servers that can be reached");
    let total = &done.total;
    let shown = format!(
        "{} in {:?} by {} seeds\n{total}",
        kind.name(),
        began.elapsed(),
        seeds.count
    );
    println!("{shown}");
    if seeds.count > 10 {
        let _ = writeln!(io::stderr(), "{shown}");
    }
    let shown: Vec<&str> = done.divergences.values().map(String::as_str).collect();
    assert!(shown.is_empty(), "{} seeds differ:\n{}", shown.len(), shown.join("\n"));
    let unmet = INTENDED.iter().filter(|entry| !total.met.contains_key(entry.name));
    let unmet: Vec<_> = unmet.map(|entry| entry.name).collect();
    assert!(
        total.requests < LONG || unmet.is_empty(),
        "intended differences that did not occur: {unmet:?}"
    );
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
    // Bypasses the harness, which would show the line only at the end.
    let _ = writeln!(
        io::stderr(),
        "{seconds:>5} s: {} seed {seed}: {requests} requests in {:.1} s, {end}",
        kind.name(),
        took.as_secs_f64()
    );
}

/// A simulated bug: the engine finds it, and the shrunk script is short.
#[test]
fn a_fault_is_found_and_its_script_shrunk() {
    let mut sides = Sides::of(Kind::QuoinTokio, Setup::ALONE).expect("the programs");
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
