//! The command line of the load runs: refusals, help, a small run of all workloads, and an interruption.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use quoin_benches::workloads::{self, Workload};
use quoin_conformance::network::Network;
use quoin_conformance::{Kind, binaries::Profile, command, wait};

const LIMIT: Duration = Duration::from_mins(5);
const STEP: Duration = Duration::from_millis(20);

fn tool(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quoin-benches"));
    command.args(arguments);
    command
}

/// The server from the tests' build: its numbers have no meaning.
fn program() -> PathBuf {
    Kind::QuoinTokio.program(Profile::Dev).expect("the server builds")
}

#[test]
fn an_unknown_or_malformed_word_is_refused_with_the_possible_values() {
    let names: Vec<&str> = workloads::ALL.iter().map(|workload| workload.name).collect();
    let all = format!("[possible values: {}]", names.join(", "));
    for (arguments, words) in [
        (&["side-by-side", "--only", "nonsense"][..], all.as_str()),
        (&["side-by-side", "--only", "gets,milion"], "'million'"),
        (
            &["side-by-side", "--runtime", "tokio"],
            "unexpected argument '--runtime'",
        ),
        (
            &["side-by-side", "--servers", "etcd"],
            "[possible values: tokio, smol, async-std]",
        ),
        (&["side-by-side", "--scale", "0"], "a number above 0"),
        (&["side-by-side", "--runs", "0"], "0 is not in 1..=99"),
        (&["side-by-sid"], "'side-by-side'"),
        (&[], "Usage: quoin-benches <COMMAND>"),
    ] {
        let done = command::run(&mut tool(arguments), b"", LIMIT).expect("a run");
        assert_eq!(done.code, Some(2), "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains(words), "{arguments:?}: {}", done.stderr);
    }
}

#[test]
fn help_shows_examples() {
    let done = command::run(&mut tool(&["--help"]), b"", LIMIT).expect("a run");
    assert!(
        done.code == Some(0) && done.stdout.contains("side-by-side"),
        "{}",
        done.stdout
    );
    let done = command::run(&mut tool(&["side-by-side", "--help"]), b"", LIMIT).expect("a run");
    assert_eq!(done.code, Some(0));
    assert!(
        done.stdout.contains("  quoin-benches side-by-side --only gets"),
        "{}",
        done.stdout
    );
}

/// Runs these workloads once, with few requests or one fault each, and expects the numbers of all of them.
fn measure_once(workloads: &[Workload]) {
    let names: Vec<&str> = workloads.iter().map(|workload| workload.name).collect();
    let mut run = tool(&[
        "side-by-side",
        "--runs",
        "1",
        "--scale",
        "0.01",
        "--only",
        &names.join(","),
    ]);
    let done = command::run(run.env("QUOIN_BIN_TOKIO", program()), b"", LIMIT).expect("a run");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    for workload in workloads {
        assert!(done.stdout.contains(workload.title), "{}", done.stdout);
    }
    let line = format!("\n{} of {} workloads.", workloads.len(), workloads::ALL.len());
    assert!(done.stdout.contains(&line), "{}", done.stdout);
    assert!(
        !done.stdout.contains("not run") && !done.stdout.contains('\x1b'),
        "{}",
        done.stdout
    );
}

fn is_failover(workload: &Workload) -> bool {
    workload.name.starts_with("failover")
}

#[test]
fn every_workload_gives_its_numbers() {
    let all = workloads::ALL.into_iter();
    measure_once(&all.filter(|workload| !is_failover(workload)).collect::<Vec<_>>());
}

/// One kind of fault, because the three share all but a few lines. Without root there is no network in which packets are
/// lost. [`Network`]'s own test expects an explanation then.
#[test]
fn a_failure_of_the_leader_is_measured() {
    let fault = if Network::new(1).is_ok() {
        "failover-loss"
    } else {
        "failover"
    };
    let chosen = workloads::ALL.into_iter().filter(|workload| workload.name == fault);
    measure_once(&chosen.collect::<Vec<_>>());
}

#[test]
fn an_interrupted_run_prints_its_results_so_far() {
    let program = program();
    let mut run = tool(&["side-by-side", "--only", "start,gets", "--scale", "10", "--runs", "9"]);
    run.env("QUOIN_BIN_TOKIO", program)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut run = run.spawn().unwrap();
    let pid = run.id();
    let ready = wait::until(LIMIT, STEP, || handles_interrupts(pid).then_some(()));
    command::signal(pid, "INT").unwrap();
    let status = wait::until(LIMIT, STEP, || run.try_wait().unwrap());
    if status.is_none() {
        run.kill().unwrap();
    }
    let done = run.wait_with_output().unwrap();
    let stdout = String::from_utf8(done.stdout).unwrap();
    assert!(
        ready.is_some() && status.and_then(|status| status.code()) == Some(130),
        "{stdout}"
    );
    assert!(
        stdout.contains(&format!(" of {} workloads.", workloads::ALL.len())) && stdout.contains("Ended early (SIGINT)"),
        "{stdout}"
    );
}

/// Whether a process has a handler for SIGINT.
fn handles_interrupts(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|caught| u64::from_str_radix(caught.trim(), 16).ok());
    caught.is_some_and(|caught| caught & 2 != 0)
}
