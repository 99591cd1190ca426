//! The command line: refusals, help, and an interruption that leaves a report and no servers.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use quoin_conformance::{Kind, binaries::Profile, command, fetch, paths, wait};

const LIMIT: Duration = Duration::from_mins(3);
const STEP: Duration = Duration::from_millis(20);

fn tool(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quoin-conformance"));
    command.args(arguments);
    command
}

#[test]
fn an_unknown_or_malformed_word_is_refused_with_the_possible_values() {
    for (arguments, words) in [
        (
            &["--only", "nonsense"][..],
            "[possible values: clients, differential, histories, crash-points]",
        ),
        (&["--only", "clients,histories,crash"], "'crash-points'"),
        (&["--servers", "tokoi"], "'tokio'"),
        (&["--seed", "4"], "'--seeds'"),
        (&["--seeds", "x"], "invalid value 'x' for '--seeds <N>'"),
        (&["--rounds", "0"], "0 is not in 1.."),
        (&["unserve"], "'unserved'"),
        (&["--only"], "a value is required for '--only <SUITES>'"),
    ] {
        let done = command::run(&mut tool(arguments), b"", LIMIT).unwrap();
        assert_eq!(done.code, Some(2), "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains(words), "{arguments:?}: {}", done.stderr);
    }
}

#[test]
fn help_shows_examples() {
    for (arguments, words) in [
        (&["--help"][..], "quoin-conformance --only differential --servers tokio"),
        (&["unserved", "--help"], "quoin-conformance unserved --servers tokio"),
    ] {
        let done = command::run(&mut tool(arguments), b"", LIMIT).unwrap();
        assert_eq!(done.code, Some(0));
        assert!(done.stdout.contains(words), "{}", done.stdout);
    }
}

#[test]
fn an_interrupted_run_leaves_its_report_and_no_server() {
    // The servers are built first, so that the run below begins at once.
    fetch::etcd().unwrap();
    Kind::QuoinTokio.program(Profile::Dev).unwrap();
    let folder = paths::fresh("cli").unwrap();
    let out = folder.to_string_lossy().into_owned();
    let arguments = [
        "--only",
        "differential",
        "--servers",
        "tokio",
        "--seeds",
        "9999",
        "--requests",
        "200",
    ];
    let log = fs::File::create(folder.join("log")).unwrap();
    let mut run = tool(&arguments)
        .args(["--out", &out])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let said = || fs::read_to_string(folder.join("log")).unwrap();
    let started = wait::until(LIMIT, STEP, || said().contains("\nok      quoin-tokio").then_some(()));
    command::signal(run.id(), "INT").unwrap();
    let ended = wait::until(LIMIT, STEP, || run.try_wait().unwrap());
    let (said, pid) = (said(), run.id());
    if ended.is_none() {
        run.kill().unwrap();
    }
    assert!(started.is_some(), "{said}");
    assert_eq!(ended.and_then(|status| status.code()), Some(130), "{said}");
    let report = fs::read_to_string(folder.join("report.md")).unwrap();
    for words in [
        "**0 of 4 suites, 1 of 3 servers: all pass, ended early**",
        "- differential on quoin-tokio: not finished: SIGINT",
        "- suite clients: not asked for with --only",
        "- quoin-smol: not asked for with --servers",
        "- commit: ",
        "- compiler: rustc ",
        "## Not implemented",
    ] {
        assert!(report.contains(words), "{words} is missing in\n{report}");
    }
    assert!(
        fs::read_to_string(folder.join("report.html"))
            .unwrap()
            .contains("ended early")
    );
    assert!(said.contains("SIGINT: 0 of 4 suites"), "{said}");
    // The folder of a server has the id of the process that started it in its name, and is on the server's command
    // line.
    let left = wait::until(LIMIT, STEP, || servers_of(pid).is_empty().then_some(()));
    assert!(left.is_some(), "{:?}", servers_of(pid));
    fs::remove_dir_all(folder).unwrap();
}

fn servers_of(pid: u32) -> Vec<String> {
    let mark = format!("-{pid}-");
    let processes = fs::read_dir("/proc").expect("this is Linux").filter_map(Result::ok);
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines
        .filter(|line| line.contains(&mark) && line.contains("--data-dir"))
        .collect()
}
