//! Clients open more connections than the server has descriptors: writes continue, the metrics port answers, and once
//! the connections are closed every client is served.
//!
//! `-- --ignored --nocapture` opens twenty thousand connections, or as many as this process may, and compares the
//! memory of an idle connection with a real etcd's. First raise the limit of this process: `ulimit -n $(ulimit -Hn)`.

use std::{
    ffi::OsString,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use etcd_client::Client;
use quoin_conformance::{Kind, Launch, Server, wait};

/// The first bytes of every HTTP/2 client: the preface and empty SETTINGS.
const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Connections that exceed the machine's limits must not hang the test.
const CONNECT_LIMIT: Duration = Duration::from_millis(250);
const STEP_LIMIT: Duration = Duration::from_secs(60);
const WRITES: usize = 60;
const VALUE_BYTES: usize = 300_000;
/// Descriptors of this process that are not the test's connections.
const OWN_DESCRIPTORS: usize = 150;

#[test]
fn quoin_tokio_outlives_its_connections() {
    flood(Kind::QuoinTokio, (300, 300), 250);
}

#[test]
fn quoin_smol_outlives_its_connections() {
    flood(Kind::QuoinSmol, (256, 300), 250);
}

#[test]
#[ignore = "needs twenty thousand descriptors"]
fn twenty_thousand_connections() {
    let connections = own_limit().saturating_sub(OWN_DESCRIPTORS).min(20_000);
    for kind in Kind::OURS {
        for limits in [(1_024, 20_000), (1_024, 1_024)] {
            flood(kind, limits, connections);
        }
    }
}

#[test]
#[ignore = "needs thousands of descriptors"]
fn an_idle_connection_costs_less_than_etcds() {
    let connections = own_limit().saturating_sub(OWN_DESCRIPTORS).min(5_000);
    let etcd = idle_bytes(Kind::Etcd, connections);
    for kind in Kind::OURS {
        let ours = idle_bytes(kind, connections);
        let percent = 100 * ours / etcd;
        println!(
            "{}: {ours} bytes for each idle connection, etcd {etcd}: {percent} %",
            kind.name()
        );
        assert!(ours <= etcd, "{ours} bytes against {etcd}");
    }
}

/// Starts a server with a soft and a hard limit of descriptors.
fn start(kind: Kind, (soft, hard): (usize, usize), metrics: SocketAddr) -> Server {
    let limited = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
    let wrapper = ["sh", "-c", &limited].map(OsString::from).to_vec();
    Launch::of(kind)
        .expect("a server program")
        .under(wrapper)
        .flag(format!("--listen-metrics-urls=http://{metrics}"))
        .start()
        .expect("a healthy server")
}

fn flood(kind: Kind, limits: (usize, usize), connections: usize) {
    let metrics = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let metrics = metrics.expect("a free port");
    let mut server = start(kind, limits, metrics);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime for the client");
    let endpoint = server.address().to_string();
    let mut writer = runtime.block_on(within(Client::connect([&endpoint], None)));
    runtime.block_on(within(writer.put("before", "", None)));
    let flood = open(server.address(), connections);
    println!(
        "{} {limits:?}: {} connections of {connections}",
        kind.name(),
        flood.len()
    );
    for number in 0..WRITES {
        let value = vec![b'v'; VALUE_BYTES];
        runtime.block_on(within(writer.put(format!("key{number}"), value, None)));
    }
    assert!(scrape(metrics).starts_with("HTTP/1.1 200"), "the metrics port answers");
    drop(flood);
    let mut late = runtime.block_on(within(Client::connect([&endpoint], None)));
    runtime.block_on(within(late.put("after", "", None)));
    wait::until(STEP_LIMIT, Duration::from_millis(50), || {
        server.is_healthy().then_some(())
    })
    .expect("every client is served");
    assert!(server.exited().is_none(), "the server is still there");
}

/// Opens idle connections until the machine refuses more; every other one sends no byte.
fn open(address: SocketAddr, connections: usize) -> Vec<TcpStream> {
    let mut open = Vec::new();
    let mut refused = 0;
    while open.len() < connections && refused < 3 {
        match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
            Ok(mut stream) => {
                if open.len() % 2 == 0 {
                    // The kernel takes bytes for a connection that is not accepted yet.
                    let _ = stream.write_all(OPENING);
                }
                open.push(stream);
            }
            Err(_) => refused += 1,
        }
    }
    open
}

/// A client's step, which must succeed in time.
async fn within<T, E: std::fmt::Debug>(step: impl Future<Output = Result<T, E>>) -> T {
    let done = tokio::time::timeout(STEP_LIMIT, step).await;
    done.expect("a step ends in time").expect("a step succeeds")
}

fn scrape(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect_timeout(&address, STEP_LIMIT).expect("the metrics port accepts");
    stream
        .set_read_timeout(Some(STEP_LIMIT))
        .expect("a socket has a timeout");
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("metrics are text");
    answer
}

/// Resident bytes per connection that has sent its first bytes and received the answer.
fn idle_bytes(kind: Kind, connections: usize) -> u64 {
    let server = Launch::of(kind).and_then(Launch::start).expect("a healthy server");
    let resident = || server.usage().expect("the server runs").resident_kib * 1024;
    let before = resident();
    let mut open = Vec::new();
    for _ in 0..connections {
        let mut stream = TcpStream::connect_timeout(&server.address(), STEP_LIMIT).expect("a connection");
        stream.write_all(OPENING).expect("a connection takes its opening");
        open.push(stream);
    }
    for stream in &mut open {
        stream
            .set_read_timeout(Some(STEP_LIMIT))
            .expect("a socket has a timeout");
        stream.read_exact(&mut [0; 9]).expect("the server's settings");
    }
    resident().saturating_sub(before) / connections as u64
}

/// How many descriptors this process may have.
fn own_limit() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    soft.and_then(|soft| soft.parse().ok()).unwrap_or(1_024)
}
