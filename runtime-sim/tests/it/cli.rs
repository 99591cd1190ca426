//! The command line: errors, help, a closed output, an interruption.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

/// The tool, in a folder of its own: `run` keeps its counts in the folder it runs in.
fn tool(name: &str, arguments: &[&str]) -> Command {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{name}"));
    fs::create_dir_all(&folder).expect("a folder can be made");
    let mut command = Command::new(env!("CARGO_BIN_EXE_quoin-runtime-sim"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command
}

fn output(name: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = tool(name, arguments).output().expect("the tool runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints text");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn an_unknown_or_malformed_word_is_refused_with_a_suggestion() {
    for (arguments, words) in [
        (&["run", "--first", "5"][..], "unexpected argument '--first'"),
        (&["run", "--seed", "5"], "'--seeds'"),
        (&["run", "--seeds", "abc"], "invalid value 'abc' for '--seeds <N>'"),
        (&["run", "--seeds", "0"], "0 is not in 1.."),
        (&["run", "--members", "9"], "9 is not in 1..=5"),
        (&["replai", "42"], "'replay'"),
        (&["replay"], "<SEED>"),
        (&["crash", "--at", "3"], "--short"),
        (&["mutants", "--fresh", "--kept"], "cannot be used with"),
        (&["mutants", "--only", "250"], "[possible values: IndexBeforeRows, "),
        (&["run", "--mutant", "RepeatEvent"], "'RepeatsEvent'"),
        (&[], "Usage: quoin-runtime-sim <COMMAND>"),
    ] {
        let (code, stdout, stderr) = output("refused", arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(words), "{arguments:?}: {stderr}");
        assert!(stdout.is_empty(), "{arguments:?}: {stdout}");
    }
}

#[test]
fn help_shows_examples_of_every_command() {
    let (code, help, _) = output("help", &["--help"]);
    assert_eq!(code, Some(0));
    for command in ["run", "replay", "mutants", "faults", "checkers", "crash"] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
        let (code, help, _) = output("help", &[command, "--help"]);
        assert_eq!(code, Some(0), "{command}");
        assert!(help.contains(&format!("  quoin-runtime-sim {command}")), "{help}");
    }
}

#[test]
fn a_reader_that_has_gone_is_no_panic() {
    // The reader is gone before the program begins, which may otherwise have written everything by then.
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let child = tool("pipe", &["checkers"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn();
    let Output { status, stderr, .. } = child.unwrap().wait_with_output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(stderr.is_empty(), "{stderr}");
    assert_eq!(status.code(), Some(141), "as of a program that SIGPIPE ends");
}

#[test]
fn a_replay_shows_the_last_events_and_the_faults() {
    let (code, stdout, stderr) = output("replay", &["replay", "42"]);
    assert_eq!(code, Some(0), "{stderr}");
    let lines: Vec<&str> = stdout.lines().collect();
    let faults = lines.iter().filter(|line| line.starts_with("fault ")).count();
    assert!(faults > 0 && lines.len() > faults + 100, "{stdout}");
    let last = lines.last().unwrap();
    assert!(
        last.starts_with("seed 42: ") && last.ends_with("every promise was kept"),
        "{last}"
    );
}

#[test]
fn an_interrupted_run_says_what_it_has_found_so_far() {
    for (signal, number) in [("INT", 2), ("TERM", 15)] {
        let mut command = tool(signal, &["run", "--seeds", "1000000", "--jobs", "1"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until_caught(&child, number);
        let sent = Command::new("kill")
            .args([format!("-{signal}"), child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
        let Output { status, stdout, .. } = child.wait_with_output().unwrap();
        let stdout = String::from_utf8(stdout).unwrap();
        assert_eq!(status.code(), Some(128 + number), "{stdout}");
        assert!(stdout.starts_with(&format!("SIG{signal} after ")), "{stdout}");
        assert!(
            stdout.contains(" of 1000000 seeds") && stdout.contains("simulated seconds"),
            "{stdout}"
        );
    }
}

/// Waits until a process has a handler for a signal.
fn wait_until_caught(child: &Child, number: i32) {
    let end = now() + LIMIT;
    while now() < end {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("the tool runs");
        let caught = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))
            .expect("Linux reports it");
        let caught = u64::from_str_radix(caught.trim(), 16).expect("it is a mask");
        if caught & 1 << (number - 1) != 0 {
            return;
        }
        std::thread::yield_now();
    }
    panic!("the tool does not handle signal {number}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test waits for another process in real time"
)]
fn now() -> Instant {
    Instant::now()
}
