//! A member that dies while a snapshot arrives, at each tenth of its file, and snapshots that follow each other closely.

use std::time::Duration;

use quoin_core::time::Instant;
use quoin_runtime_sim::check::Coverage;
use quoin_runtime_sim::cluster::campaign::judged;
use quoin_runtime_sim::cluster::nemesis::{Fault, Planned, Who};
use quoin_runtime_sim::cluster::{Met, Options};
use quoin_runtime_sim::faults::FaultKind;

/// A seed whose members make a marker every five entries and keep none before it.
const SEED: u64 = 186;
const FOLLOWER: Who = Who::Machine(1);

fn fault(at_ms: u64, lasts_ms: u64, fault: Fault) -> Planned {
    let at = Instant::ZERO + Duration::from_millis(at_ms);
    let until = at + Duration::from_millis(lasts_ms);
    Planned { at, until, fault }
}

/// Writes every 40 ms for this long.
fn writes(at_ms: u64, lasts_ms: u64) -> Planned {
    fault(at_ms, lasts_ms, Fault::LateAcks { most_ms: 1 })
}

fn isolation(at_ms: u64, lasts_ms: u64) -> Planned {
    fault(at_ms, lasts_ms, Fault::One(FaultKind::Isolate, FOLLOWER))
}

fn met(faults: Vec<Planned>) -> Met {
    let options = Options {
        members: Some(3),
        faults: Some(faults),
        ..Options::default()
    };
    let summary = judged(SEED, options, &Coverage::default());
    summary.unwrap_or_else(|failure| panic!("{failure}")).met
}

#[test]
fn a_member_that_dies_at_any_tenth_of_a_snapshot_starts_and_gets_another() {
    for tenth in 0..=10 {
        for power in [false, true] {
            let death = Fault::ArrivalCrash {
                tenth,
                points: 2 * u64::from(power),
                power,
                away_ms: 100,
            };
            let met = met(vec![
                writes(6_000, 3_000),
                isolation(6_000, 3_000),
                fault(6_000, 4_000, death),
            ]);
            assert!(met.killed_at_tenths[tenth as usize] > 0, "{tenth} {power}: {met}");
            let is_resent = met.snapshots_resent > 0 || tenth == 10;
            assert!(is_resent, "{tenth} {power}: {met}");
        }
    }
}

/// In this seed's cluster a member gets one snapshot soon after another.
#[test]
fn snapshots_that_follow_each_other_closely_end_well() {
    let summary = judged(47, Options::default(), &Coverage::default());
    let met = summary.unwrap_or_else(|failure| panic!("{failure}")).met;
    assert!(met.snapshots_close > 0, "{met}");
}
