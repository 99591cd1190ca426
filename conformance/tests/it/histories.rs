//! Histories of concurrent clients on real servers that are killed, stopped, or given full or slow disks: a short round
//! of each.
//!
//! `QUOIN_SEED` repeats the choices (not the timing) of a run, `QUOIN_HISTORY_ROUNDS` sets the number of rounds.

use quoin_conformance::histories::{Nemesis, round, run};
use quoin_conformance::outcome::Verdict;
use quoin_conformance::{Kind, Setup, rng};

const FULL_ROUNDS: u64 = 20;

fn play(kind: Kind, nemesis: Nemesis) {
    play_in(Setup::ALONE, kind, nemesis);
}

fn play_in(setup: Setup, kind: Kind, nemesis: Nemesis) {
    let seed = rng::seed();
    let rounds = rng::number_from_env("QUOIN_HISTORY_ROUNDS").unwrap_or(1);
    for seed in seed..seed + rounds {
        println!("QUOIN_SEED={seed} on {}: {}", kind.name(), nemesis.name());
        match round(setup, kind, nemesis, seed).expect("a server that can be disturbed") {
            Ok(summary) => println!("{summary}"),
            Err(words) => panic!("{words}"),
        }
    }
}

#[test]
fn a_history_with_kills_is_linearizable() {
    play(Kind::QuoinTokio, Nemesis::Kill);
}

#[test]
fn a_history_with_kills_is_linearizable_on_smol() {
    play(Kind::QuoinSmol, Nemesis::Kill);
}

/// The rules are etcd's, so etcd itself must keep them.
#[test]
fn a_history_with_kills_is_linearizable_on_a_real_etcd() {
    play(Kind::Etcd, Nemesis::Kill);
}

#[test]
fn a_history_of_users_with_kills_is_linearizable_over_tls() {
    let secured = Setup {
        is_secured: true,
        ..Setup::ALONE
    };
    play_in(secured, Kind::QuoinSmol, Nemesis::Kill);
}

#[test]
fn a_history_with_stops_is_linearizable() {
    play(Kind::QuoinTokio, Nemesis::Stop);
}

#[test]
fn a_history_with_a_full_disk_is_linearizable() {
    play(Kind::QuoinTokio, Nemesis::FullDisk);
}

#[test]
fn a_history_with_a_slow_disk_is_linearizable() {
    play(Kind::QuoinTokio, Nemesis::SlowDisk);
}

#[test]
#[ignore = "takes a quarter of an hour"]
fn many_rounds_of_everything() {
    let seed = rng::seed();
    let rounds = rng::number_from_env("QUOIN_HISTORY_ROUNDS").unwrap_or(FULL_ROUNDS);
    let mut failed = 0;
    let kinds = [Kind::QuoinTokio, Kind::QuoinSmol];
    let figures = run(Setup::ALONE, &kinds, rounds, seed, &mut |told| {
        let Some(outcome) = told.outcome() else { return };
        println!("{}: {}: {:?}", outcome.server.name(), outcome.scenario, outcome.verdict);
        failed += usize::from(outcome.verdict != Verdict::Passed);
    })
    .expect("servers that can be disturbed");
    for figures in figures {
        println!("{figures}");
    }
    assert_eq!(failed, 0);
}
