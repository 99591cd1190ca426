//! A real etcdctl at a Unix socket is served as by the real etcd, across kills and stops.

use std::fs;
use std::path::Path;
use std::time::Duration;

use quoin_conformance::{Kind, Launch, Server, command, fetch, on_every_server, wait};

const SERVES_LIMIT: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(50);
const CALL_LIMIT: Duration = Duration::from_secs(20);

on_every_server!(etcdctl_is_served_at_a_unix_socket);

fn play(kind: Kind, _name: &str, story: fn(Kind)) {
    story(kind);
}

/// The standard output of etcdctl; `None` if it fails.
fn etcdctl(endpoint: &str, arguments: &[&str]) -> Option<String> {
    let program = fetch::etcd().expect("a real etcdctl").etcdctl;
    let mut command = command::untouched(program);
    command
        .args(["--endpoints", endpoint, "--command-timeout", "2s"])
        .args(arguments);
    let done = command::run(&mut command, b"", CALL_LIMIT).expect("etcdctl runs");
    (done.code == Some(0)).then_some(done.stdout)
}

fn wait_until_served(server: &mut Server, endpoint: &str) {
    let served = wait::until(SERVES_LIMIT, STEP, || {
        assert!(server.exited().is_none(), "it ended: {}", server.log());
        etcdctl(endpoint, &["endpoint", "health"])
    });
    assert!(served.is_some(), "nothing serves at {endpoint}: {}", server.log());
}

fn etcdctl_is_served_at_a_unix_socket(kind: Kind) {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("socket");
    let endpoint = format!("unix://{}", socket.display());
    let launch = Launch::of(kind)
        .expect("a server")
        .flag(format!("--listen-client-urls={endpoint}"));
    let mut server = launch.spawn().expect("it starts");
    wait_until_served(&mut server, &endpoint);
    let put = etcdctl(&endpoint, &["put", "key", "value"]);
    assert_eq!(put.as_deref(), Some("OK\n"));
    // A killed server leaves its socket, which the next one replaces.
    server.kill().expect("it runs");
    assert!(socket.exists());
    server.spawn().expect("it starts");
    wait_until_served(&mut server, &endpoint);
    for endpoint in [endpoint.clone(), endpoint.replace("unix://", "unix:")] {
        let found = etcdctl(&endpoint, &["get", "key"]);
        assert_eq!(found.as_deref(), Some("key\nvalue\n"), "{endpoint}");
    }
    assert_eq!(
        mode(&socket),
        mode(&of_umask(folder.path())),
        "the umask decides who may connect"
    );
    server.terminate().expect("it ends");
    assert!(!socket.exists(), "the socket is removed with its server");
}

/// A socket that this process makes without setting its permissions.
fn of_umask(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("umask");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("socket"));
    path
}

fn mode(path: &Path) -> u32 {
    std::os::unix::fs::MetadataExt::mode(&fs::metadata(path).expect("it is there")) & 0o777
}
