//! The ports for peers, and connections to peers: clusters of our servers and of a real etcd, over TLS.

use std::net::SocketAddr;
use std::time::Duration;

use quoin_conformance::{Kind, Launch, Server, command, fetch, wait};

use super::{CALL_LIMIT, SERVES_LIMIT, STEP, free, wait_for_line};
use quoin_conformance::certs::{Authority, PLAIN, SERVER, Wish, get};

const MIXED: [Kind; 3] = [Kind::Etcd, Kind::QuoinTokio, Kind::QuoinSmol];

/// Starts three members whose URLs for peers are secure. `flags` are those of each member, by its number.
/// Returns the members and their addresses for peers.
fn start(kinds: [Kind; 3], flags: impl Fn(usize) -> Vec<String>) -> (Vec<Server>, Vec<SocketAddr>) {
    let names = ["one", "two", "three"];
    let peers: Vec<SocketAddr> = names.iter().map(|_| free()).collect();
    let all: Vec<String> = names
        .iter()
        .zip(&peers)
        .map(|(name, peer)| format!("{name}=https://{peer}"))
        .collect();
    let launch = |(number, kind): (usize, Kind)| {
        let url = format!("https://{}", peers[number]);
        let launch = Launch::of(kind)
            .expect("a server")
            .flag(format!("--name={}", names[number]))
            .flag(format!("--listen-peer-urls={url}"))
            .flag(format!("--initial-advertise-peer-urls={url}"))
            .flag(format!("--initial-cluster={}", all.join(",")));
        flags(number)
            .into_iter()
            .fold(launch, Launch::flag)
            .spawn()
            .expect("it starts")
    };
    let servers = kinds.into_iter().enumerate().map(launch).collect();
    (servers, peers)
}

fn is_healthy(server: &Server) -> Option<()> {
    server.is_healthy().then_some(())
}

/// Writes through each member, and reads everything from each.
fn check_cluster(servers: &mut [Server]) {
    for server in &mut *servers {
        server.wait_healthy(SERVES_LIMIT, STEP).expect("healthy");
    }
    let program = fetch::etcd().expect("a real etcdctl").etcdctl;
    let etcdctl = |server: &Server, words: &[&str]| {
        let mut command = command::untouched(&program);
        command.args(["--endpoints", &server.address().to_string()]).args(words);
        command::run(&mut command, b"", CALL_LIMIT)
            .expect("etcdctl runs")
            .stdout
    };
    for (number, server) in servers.iter().enumerate() {
        assert_eq!(etcdctl(server, &["put", &format!("key{number}"), "value"]), "OK\n");
    }
    for server in &*servers {
        let found = etcdctl(server, &["get", "key", "--prefix", "--keys-only"]);
        let keys: Vec<&str> = found.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(keys, ["key0", "key1", "key2"], "{}", server.log());
    }
}

#[test]
fn members_of_both_kinds_replicate_over_mutual_tls_and_refuse_strangers() {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = Authority::new(folder.path(), "ca");
    let pair = ca.sign("member", &SERVER);
    let (mut servers, addresses) = start(MIXED, |_| {
        vec![
            "--peer-client-cert-auth".to_owned(),
            format!("--peer-trusted-ca-file={}", ca.file()),
            format!("--peer-cert-file={}", pair.cert),
            format!("--peer-key-file={}", pair.key),
            format!("--peer-crl-file={}", ca.revoke(&[5])),
            "--peer-cert-allowed-cn=server".to_owned(),
        ]
    });
    check_cluster(&mut servers);
    let own = Wish { serial: 9, ..SERVER };
    let cases = [
        (None, "tls: client didn't provide a certificate"),
        (
            Some(ca.sign(
                "plain",
                &Wish {
                    common_name: "other",
                    ..PLAIN
                },
            )),
            "client certificate authentication failed",
        ),
        (
            Some(ca.sign(
                "elsewhere",
                &Wish {
                    addresses: &["10.9.8.7"],
                    ..own
                },
            )),
            "10.9.8.7",
        ),
        (
            Some(ca.sign(
                "named",
                &Wish {
                    addresses: &[],
                    dns_names: &["elsewhere.invalid"],
                    ..own
                },
            )),
            "does not match any of DNSNames",
        ),
        (
            Some(ca.sign("revoked", &Wish { serial: 5, ..own })),
            "transport: certificate serial 05 revoked",
        ),
    ];
    for (server, address) in servers.iter().zip(addresses) {
        let ask = |pair| get(&ca.client(pair), address, "/version");
        let fine = ca.sign("fine", &own);
        let named = ca.sign(
            "local",
            &Wish {
                addresses: &[],
                dns_names: &["localhost"],
                ..own
            },
        );
        for pair in [&fine, &named] {
            let (answer, _) = ask(Some(pair)).expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        for (pair, why) in &cases {
            assert!(ask(pair.as_ref()).is_err(), "{why}");
            wait_for_line(server, &["rejected connection on peer endpoint", "127.0.0.1:", why]);
        }
    }
}

#[test]
fn members_of_both_kinds_replicate_with_certificates_that_each_has_made() {
    let (mut servers, _) = start(MIXED, |_| vec!["--peer-auto-tls".to_owned()]);
    check_cluster(&mut servers);
    for server in &servers {
        for file in ["cert.pem", "key.pem"] {
            assert!(server.data_dir().join("fixtures/peer").join(file).exists());
        }
    }
    let ours = &mut servers[1];
    ours.terminate().expect("it ends");
    ours.restart().expect("it starts again with its certificate");
}

#[test]
fn a_member_with_another_ca_does_not_join() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ca, other) = (
        Authority::new(folder.path(), "ca"),
        Authority::new(folder.path(), "other"),
    );
    let (pair, foreign) = (ca.sign("member", &SERVER), other.sign("foreign", &SERVER));
    let (servers, _) = start([Kind::QuoinTokio, Kind::QuoinSmol, Kind::QuoinTokio], |number| {
        let (ca, pair) = if number == 2 { (&other, &foreign) } else { (&ca, &pair) };
        vec![
            "--peer-client-cert-auth".to_owned(),
            format!("--peer-trusted-ca-file={}", ca.file()),
            format!("--peer-cert-file={}", pair.cert),
            format!("--peer-key-file={}", pair.key),
        ]
    });
    for server in &servers[..2] {
        assert!(
            wait::until(SERVES_LIMIT, STEP, || is_healthy(server)).is_some(),
            "{}",
            server.log()
        );
        wait_for_line(server, &["rejected connection on peer endpoint"]);
    }
    wait::pause(Duration::from_secs(1));
    assert!(is_healthy(&servers[2]).is_none());
}
