//! Kills a server by strace as it enters a call that touches the disk: a few points of the first five hundred.
//!
//! `QUOIN_SWEEP_POINTS` sets the number of points.

use quoin_conformance::outcome::Verdict;
use quoin_conformance::{Kind, rng, sweep};

const POINTS: u64 = 25;

fn play(kinds: &[Kind], points: u64) {
    let mut failed = 0;
    let figures = sweep::run(kinds, points as usize, &mut |told| {
        let Some(outcome) = told.outcome() else { return };
        println!("{}: {}: {:?}", outcome.server.name(), outcome.scenario, outcome.verdict);
        failed += usize::from(outcome.verdict != Verdict::Passed);
    })
    .expect("a server under strace");
    for figures in figures {
        println!("{figures}");
    }
    assert_eq!(failed, 0);
}

#[test]
fn acknowledged_writes_survive_a_kill_at_any_call() {
    let points = rng::number_from_env("QUOIN_SWEEP_POINTS").unwrap_or(POINTS);
    play(&[Kind::QuoinTokio], points);
}

#[test]
#[ignore = "takes a quarter of an hour"]
fn every_point_of_the_first_five_hundred() {
    let points = rng::number_from_env("QUOIN_SWEEP_POINTS").unwrap_or(sweep::FIRST as u64);
    play(&[Kind::QuoinTokio, Kind::QuoinSmol], points);
}
