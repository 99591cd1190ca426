//! envtest of controller-runtime: an etcd without fsync for the time of a test.

use std::time::Duration;

use quoin_conformance::{Kind, Launch, command};

use super::{get, on_each, until_probed};
use crate::tls::free;

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn envtest_starts_and_ends_a_server() {
    on_each(a_server_without_fsync);
}

fn a_server_without_fsync(kind: Kind) {
    let launch = Launch::of(kind).expect("a program");
    let mut help = command::untouched(launch.executable());
    let help = command::run(help.arg("--help"), b"", LIMIT).expect("it ends");
    assert_eq!(help.code, Some(0));
    let all = help.stdout + &help.stderr;
    let names_flag = |line: &str| line.starts_with(' ') && line.trim_start().starts_with("--unsafe-no-fsync");
    assert!(all.lines().any(names_flag), "{all}");

    let at = free();
    let mut server = launch
        .alone()
        .flag("--listen-peer-urls=http://localhost:0")
        .flag("--data-dir=data")
        .flag("--unsafe-no-fsync=true")
        .flag(format!("--advertise-client-urls=http://{at}"))
        .flag(format!("--listen-client-urls=http://{at}"))
        .spawn()
        .expect("a process");
    let health = until_probed(&mut server, at, "/health");
    assert!(health.contains("\"health\":\"true\""), "{health}");
    server.terminate().expect("it ends in time");
    assert!(get(at, "/health").is_none());
}
