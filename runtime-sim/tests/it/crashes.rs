//! A member that dies at every point, thousands of times, loses nothing that it acknowledged; and the defects of a
//! world that lies are found.

use quoin_runtime_sim::cluster::Tracing;
use quoin_runtime_sim::cluster::crash::{Campaign, Case, Failure, Lies, Tally, Trace, campaign, run};
use quoin_runtime_sim::disk::DiskModel;
use quoin_runtime_sim::table::TableModel;

/// Crashes of a run for every change; `QUOIN_SIM_CRASHES` sets another number.
const CRASHES: u64 = 60_000;
/// The seed of such a run; `QUOIN_SIM_SEED` sets another.
const SEED: u64 = 1;
/// Crashes within which every lie must be found.
const LIE_CRASHES: u64 = 20_000;

/// Events that must have happened in a useful run.
const SEEN: [&str; 25] = [
    "answer: etcdserver: mvcc: database space exceeded",
    "answer: etcdserver: request timed out",
    "crash: answer",
    "crash: boot",
    "crash: close",
    "crash: log",
    "crash: rows",
    "crash: turn",
    "found: first segment released",
    "found: several segments",
    "found: torn tail",
    "orderly stop",
    "power lost",
    "process ended",
    "refused",
    "snapshot",
    "struck: Preallocate",
    "struck: Rename",
    "struck: Sync",
    "struck: SyncDir",
    "struck: TableSync",
    "struck: TableWrite",
    "struck: Write",
    "to die while it starts: 4 in a row",
    "twin",
];

fn number(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var_os(name);
    text.map_or(otherwise, |text| {
        text.to_str().and_then(|text| text.parse().ok()).expect("a number")
    })
}

#[test]
fn ten_thousand_crashes_lose_nothing() {
    let (seed, crashes) = (number("QUOIN_SIM_SEED", SEED), number("QUOIN_SIM_CRASHES", CRASHES));
    println!("QUOIN_SIM_SEED={seed} QUOIN_SIM_CRASHES={crashes}");
    let mut campaign = Campaign::new(seed, Lies::default());
    let judged = campaign.run(crashes, &mut |_| {});
    println!("{} runs: {:#?}", campaign.runs, campaign.total);
    if let Err(failure) = judged {
        panic!("{failure}");
    }
    if crashes >= CRASHES {
        let missing: Vec<_> = SEEN
            .iter()
            .filter(|what| !campaign.total.seen.contains_key(**what))
            .collect();
        assert!(missing.is_empty(), "never happened: {missing:?}");
    }
}

/// The run that finds a lie. Its text shows how to repeat it, and the repeated run finds the same.
fn found_out(lies: Lies) -> Failure {
    let failure = campaign(SEED, LIE_CRASHES, lies).expect_err("the lie is found out");
    let words = match failure.case {
        Case::Long { seed } => format!("--long {seed}"),
        Case::Short { seed, at: None } => format!("--short {seed}"),
        Case::Short { seed, at: Some(at) } => format!("--short {seed} --at {at}"),
    };
    let told = failure.to_string();
    let rerun = format!("rerun: cargo run --release -p quoin-runtime-sim -- crash {words}");
    assert!(told.ends_with(&rerun), "{told}");
    let (_, _, again) = run(failure.case, lies, Tracing::Off);
    assert_eq!(again.expect_err("it is found out again").violation, failure.violation);
    failure
}

#[test]
fn a_lying_sync_of_files_is_caught() {
    let disk = DiskModel {
        forgets_data: true,
        ..DiskModel::default()
    };
    println!(
        "{}",
        found_out(Lies {
            disk,
            ..Lies::default()
        })
    );
}

#[test]
fn a_lying_sync_of_directories_is_caught() {
    let disk = DiskModel {
        forgets_names: true,
        ..DiskModel::default()
    };
    println!(
        "{}",
        found_out(Lies {
            disk,
            ..Lies::default()
        })
    );
}

#[test]
fn a_lying_sync_of_the_table_is_caught() {
    let table = TableModel {
        forgets: true,
        ..TableModel::default()
    };
    println!(
        "{}",
        found_out(Lies {
            table,
            ..Lies::default()
        })
    );
}

#[test]
fn a_torn_batch_of_the_table_is_caught() {
    let table = TableModel {
        tears_batches: true,
        ..TableModel::default()
    };
    println!(
        "{}",
        found_out(Lies {
            table,
            ..Lies::default()
        })
    );
}

#[test]
fn an_answer_before_the_sync_is_caught() {
    println!(
        "{}",
        found_out(Lies {
            reports_early: true,
            ..Lies::default()
        })
    );
}

#[test]
fn a_hidden_fault_is_caught() {
    println!(
        "{}",
        found_out(Lies {
            hides_faults: true,
            ..Lies::default()
        })
    );
}

/// The reader of the log assumes that sectors are written whole or not at all. If that is not so it may refuse to
/// start, but it must not lose or invent anything.
#[test]
fn a_half_written_sector_is_never_misread() {
    let disk = DiskModel {
        halves_sectors: true,
        ..DiskModel::default()
    };
    let lies = Lies {
        disk,
        ..Lies::default()
    };
    let tally = campaign(SEED, 10_000, lies).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{tally:#?}");
    assert!(tally.seen.contains_key("unreadable"), "no sector was ever halved");
}

#[test]
fn a_run_repeats_byte_for_byte() {
    let traced = |case| {
        let (tally, trace, judged) = run(case, Lies::default(), Tracing::Off);
        judged.unwrap_or_else(|failure| panic!("{failure}"));
        (tally, trace)
    };
    let mut hashes = std::collections::BTreeSet::new();
    let longs = (0..12).map(|seed| Case::Long { seed });
    let shorts = (0..12).map(|seed| Case::Short {
        seed,
        at: Some(100 + seed),
    });
    for case in longs.chain(shorts) {
        let first: (Tally, Trace) = traced(case);
        assert_eq!(first, traced(case), "{case:?}");
        assert!(first.1.events > 10, "{case:?} is no run: {first:?}");
        hashes.insert(first.1.hash);
    }
    assert_eq!(hashes.len(), 24, "other seeds are other runs");
}
