//! A cluster of five members under churn, checked by the histories of its clients and by the rows of its members.
//!
//! `QUOIN_SEED` repeats the choices (not the timing) of a run. `QUOIN_CHURN_KINDS` names the kinds of members, such as
//! `tokio` or `smol,async-std`, which take turns; `QUOIN_CHURN_MINUTES` is the time of the long run.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use quoin_conformance::churn::{self, Fault, Tally, compare_rows};
use quoin_conformance::{Kind, Launch, command, fetch, rng};

/// With the start, the last series and the comparison it takes less than two and a half minutes.
const SHORT: Duration = Duration::from_secs(95);
const MINUTES: u64 = 30;
/// In [`MINUTES`], of leader changes, snapshots, and changes of members each.
const CHANGES: u64 = 20;
/// In [`MINUTES`], of each kind of fault.
const FAULTS: u64 = 10;

/// The kinds of five members.
fn kinds() -> [Kind; 5] {
    let named = std::env::var_os("QUOIN_CHURN_KINDS").unwrap_or_else(|| "tokio,smol,async-std".into());
    let named = named.to_string_lossy().into_owned();
    let kind = |name: &str| {
        let found = Kind::ALL.into_iter().find(|kind| kind.short_name() == name);
        found.unwrap_or_else(|| panic!("QUOIN_CHURN_KINDS names no server with {name:?}"))
    };
    let kinds: Vec<Kind> = named.split(',').map(kind).collect();
    std::array::from_fn(|at| kinds[at % kinds.len()])
}

fn play(time: Duration) {
    let seed = rng::seed();
    println!("QUOIN_SEED={seed}, {:?}", kinds());
    let tally = churn::run(kinds(), time, seed, &mut |tally| println!("{tally}"));
    let tally = tally.unwrap_or_else(|trouble| panic!("{trouble}"));
    println!("{tally}");
    assert_enough(&tally, time);
}

/// A run without enough faults and their effects checks too little.
fn assert_enough(tally: &Tally, time: Duration) {
    let part = |of_long: u64| of_long * time.as_secs() / (MINUTES * 60);
    for (fault, count) in Fault::ALL.iter().zip(tally.faults) {
        assert!(count >= part(FAULTS).max(1), "{fault:?}: {count}");
    }
    assert!(tally.leader_changes as u64 >= part(CHANGES), "{tally}");
    assert!(tally.snapshots as u64 >= part(CHANGES), "{tally}");
    assert!(tally.member_changes >= part(CHANGES), "{tally}");
}

#[test]
fn two_minutes_of_churn_break_no_rule() {
    play(SHORT);
}

#[test]
#[ignore = "takes half an hour"]
fn half_an_hour_of_churn_breaks_no_rule() {
    let minutes = rng::number_from_env("QUOIN_CHURN_MINUTES").unwrap_or(MINUTES);
    play(Duration::from_mins(minutes));
}

#[test]
fn a_row_that_differs_is_found() {
    let save = |value: &str| -> (PathBuf, quoin_conformance::Server) {
        let server = Launch::of(Kind::QuoinTokio).and_then(Launch::start).expect("a server");
        let file = server.home().join("saved.db");
        for arguments in [
            &["put", "key", value][..],
            &["snapshot", "save", &file.to_string_lossy()],
        ] {
            let mut etcdctl = command::untouched(fetch::etcd().expect("a real etcdctl").etcdctl);
            etcdctl
                .args(["--endpoints", &server.address().to_string()])
                .args(arguments);
            let finished = command::run(&mut etcdctl, b"", Duration::from_secs(60)).expect("it ends");
            finished.success("etcdctl").expect("it succeeds");
        }
        (file, server)
    };
    let ((one, _one), (other, _other)) = (save("1"), save("2"));
    let copy = one.with_extension("copy");
    fs::copy(&one, &copy).expect("a copy");
    let report = compare_rows(&[one.clone(), copy]).expect("a file is equal to its copy");
    assert!(report.contains(r#"b"key": 1"#), "{report}");
    let difference = compare_rows(&[one, other]).expect_err("the values differ").to_string();
    assert!(difference.contains(r#"(b"key", b"\0\0"#), "{difference}");
}
