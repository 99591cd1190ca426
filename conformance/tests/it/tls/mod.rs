//! TLS on every kind of port, with real etcdctls and plain clients: what is accepted, what is refused and logged, as by
//! a real etcd.

mod clients;
mod peers;

use std::net::SocketAddr;
use std::time::Duration;

use quoin_conformance::certs::{Authority, CertPair};
use quoin_conformance::{Server, command, fetch, server, wait};

const SERVES_LIMIT: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(50);
const CALL_LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn free() -> SocketAddr {
    server::free_address().expect("a free port")
}

/// The standard output of etcdctl at a secure port; the error is its complaint.
pub(crate) fn etcdctl(address: SocketAddr, ca: &Authority, pair: &CertPair, words: &[&str]) -> Result<String, String> {
    let program = fetch::etcd().expect("a real etcdctl").etcdctl;
    let mut command = command::untouched(program);
    command
        .args(["--endpoints", &format!("https://{address}"), "--command-timeout", "3s"])
        .args(["--cacert", &ca.file(), "--cert", &pair.cert, "--key", &pair.key])
        .args(words);
    let done = command::run(&mut command, b"", CALL_LIMIT).expect("etcdctl runs");
    if done.code == Some(0) {
        Ok(done.stdout)
    } else {
        Err(done.stderr)
    }
}

/// Waits until an etcdctl with this certificate is served.
pub(crate) fn wait_until_served(server: &mut Server, address: SocketAddr, ca: &Authority, pair: &CertPair) {
    let mut last = String::new();
    let served = wait::until(SERVES_LIMIT, STEP, || {
        assert!(server.exited().is_none(), "it ended: {}", server.log());
        etcdctl(address, ca, pair, &["endpoint", "health"])
            .map_err(|error| last = error)
            .ok()
    });
    assert!(
        served.is_some(),
        "nothing serves at {address}: {last}\n{}",
        server.log()
    );
}

/// Waits for a line of the log that has all these pieces.
fn wait_for_line(server: &Server, pieces: &[&str]) {
    let found = wait::until(CALL_LIMIT, STEP, || {
        let log = server.log();
        log.lines()
            .any(|line| pieces.iter().all(|piece| line.contains(piece)))
            .then_some(())
    });
    assert!(found.is_some(), "no line has {pieces:?}: {}", server.log());
}
