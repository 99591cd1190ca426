//! kubeadm's control plane: its flags and probes, a second member that joins as learner, and one that leaves.

use std::net::{Ipv4Addr, SocketAddr};

use quoin_conformance::{Kind, Launch, Server, wait};
use serde_json::Value;

use super::{Ctl, PATIENCE, STEP, get, hex, on_each, until_probed};
use crate::tls::{free, wait_until_served};
use quoin_conformance::certs::{Authority, CertPair, PLAIN, SERVER, Wish};

/// One etcd of the control plane.
struct ControlPlane {
    server: Server,
    /// Its addresses for clients: on its machine's network, and on loopback.
    clients: [SocketAddr; 2],
    metrics: SocketAddr,
}

/// The certificates that kubeadm makes.
struct Pki {
    ca: Authority,
    server: CertPair,
    peer: CertPair,
    client: CertPair,
    _folder: tempfile::TempDir,
}

impl Pki {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = Authority::new(folder.path(), "ca");
        let local = Wish {
            common_name: "control-plane",
            dns_names: &["localhost"],
            addresses: &["127.0.0.1", "127.0.0.2"],
            ..SERVER
        };
        Self {
            server: ca.sign("server", &local),
            peer: ca.sign("peer", &local),
            client: ca.sign("healthcheck-client", &PLAIN),
            ca,
            _folder: folder,
        }
    }
}

impl ControlPlane {
    /// Waits until clients are served at both addresses.
    fn serves(&mut self, pki: &Pki) {
        for at in self.clients {
            wait_until_served(&mut self.server, at, &pki.ca, &pki.client);
        }
    }
}

/// The names of these flags have changed: the old ones are for etcd 3.5, the new ones for 3.6.
fn by_version(kind: Kind) -> [&'static str; 2] {
    if kind == Kind::QuoinSmol {
        [
            "--feature-gates=InitialCorruptCheck=true",
            "--watch-progress-notify-interval=5s",
        ]
    } else {
        [
            "--experimental-initial-corrupt-check=true",
            "--experimental-watch-progress-notify-interval=5s",
        ]
    }
}

/// Starts one as its static pod does. `cluster` has the name and the address for peers of each member, its own last.
fn start(kind: Kind, pki: &Pki, cluster: &[(&str, SocketAddr)], others: &[&str]) -> ControlPlane {
    let (at, metrics) = (free(), free());
    let local = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), at.port()));
    let (name, peer) = cluster.last().expect("itself");
    let all: Vec<String> = cluster
        .iter()
        .map(|(name, peer)| format!("{name}=https://{peer}"))
        .collect();
    let flags = [
        format!("--advertise-client-urls=https://{at}"),
        format!("--cert-file={}", pki.server.cert),
        "--client-cert-auth=true".to_owned(),
        "--data-dir=data".to_owned(),
        format!("--initial-advertise-peer-urls=https://{peer}"),
        format!("--initial-cluster={}", all.join(",")),
        format!("--key-file={}", pki.server.key),
        format!("--listen-client-urls=https://{local},https://{at}"),
        format!("--listen-metrics-urls=http://{metrics}"),
        format!("--listen-peer-urls=https://{peer}"),
        format!("--name={name}"),
        format!("--peer-cert-file={}", pki.peer.cert),
        "--peer-client-cert-auth=true".to_owned(),
        format!("--peer-key-file={}", pki.peer.key),
        format!("--peer-trusted-ca-file={}", pki.ca.file()),
        "--snapshot-count=10000".to_owned(),
        format!("--trusted-ca-file={}", pki.ca.file()),
    ];
    let flags = flags.into_iter().chain(by_version(kind).map(str::to_owned));
    let flags = flags.chain(others.iter().map(|flag| (*flag).to_owned()));
    let launch = flags.fold(Launch::of(kind).expect("a program").alone(), Launch::flag);
    let server = launch.spawn().expect("a process");
    ControlPlane {
        server,
        clients: [at, local],
        metrics,
    }
}

#[test]
fn kubeadm_adds_a_control_plane_node_and_removes_it() {
    on_each(a_node_is_added_and_removed);
}

fn a_node_is_added_and_removed(kind: Kind) {
    let pki = Pki::new();
    let first = ("node-1", free());
    let mut one = start(kind, &pki, &[first], &[]);
    one.serves(&pki);
    for probe in [
        "/livez",
        "/readyz",
        "/health?exclude=NOSPACE&serializable=true",
        "/health?serializable=false",
    ] {
        until_probed(&mut one.server, one.metrics, probe);
    }
    let ctl = Ctl {
        at: one.clients[0],
        ca: &pki.ca,
        pair: &pki.client,
    };
    // The client first learns all endpoints from the list of members.
    let members = ctl.json(&["member", "list"]);
    let own = &members["members"][0];
    assert_eq!(own["clientURLs"][0], format!("https://{}", one.clients[0]));
    assert_eq!(members["members"].as_array().map(Vec::len), Some(1));

    let second = ("node-2", free());
    let url = format!("--peer-urls=https://{}", second.1);
    let added = ctl.json(&["member", "add", "node-2", "--learner", &url]);
    assert_eq!(added["member"]["isLearner"], true, "{added}");
    let id = hex(&added["member"]["ID"]);
    let again = ctl.refused(&["member", "add", "node-2", "--learner", &url]);
    // Within the same second it is the id that exists, later its URL.
    let texts = [
        "etcdserver: member ID already exist",
        "etcdserver: Peer URLs already exists",
    ];
    assert!(texts.iter().any(|text| again.contains(text)), "{again}");
    let early = ctl.refused(&["member", "promote", &id]);
    let out_of_sync = "etcdserver: can only promote a learner member which is in sync with leader";
    assert!(early.contains(out_of_sync), "{early}");

    let mut two = start(kind, &pki, &[first, second], &["--initial-cluster-state=existing"]);
    let named = ctl.until_member(|member| hex(&member["ID"]) == id && member["name"] == "node-2");
    assert_eq!(named["isLearner"], true, "{named}");
    ctl.until_done(&["member", "promote", &id], &[out_of_sync]);
    two.serves(&pki);
    let again = ctl.refused(&["member", "promote", &id]);
    assert!(
        again.contains("etcdserver: can only promote a learner member"),
        "{again}"
    );
    for probe in ["/livez", "/readyz"] {
        until_probed(&mut two.server, two.metrics, probe);
    }
    let at_second = Ctl {
        at: two.clients[0],
        ..ctl
    };
    for ctl in [&ctl, &at_second] {
        let status = &ctl.json(&["endpoint", "status"])[0]["Status"];
        assert!(status["dbSize"].as_u64() > Some(0), "{status}");
        assert!(status["leader"].as_u64() > Some(0), "{status}");
    }

    let unsettled = ["etcdserver: unhealthy cluster", "not enough started members"];
    ctl.until_done(&["member", "remove", &id], &unsettled);
    let gone = ctl.refused(&["member", "remove", &id]);
    assert!(gone.contains("etcdserver: member not found"), "{gone}");
    assert_eq!(ctl.done(&["put", "key", "value"]), "OK\n");
}

#[test]
fn kubeadm_asks_an_external_etcd_for_its_version() {
    on_each(|kind| {
        let server = Launch::of(kind).expect("a program").start().expect("a healthy server");
        let parts = wait::until(PATIENCE, STEP, || {
            let (code, body) = get(server.address(), "/version")?;
            let version: Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!(code, 200);
            let parts = ["etcdserver", "etcdcluster"].map(|part| version[part].as_str().unwrap_or_default().to_owned());
            // The members agree on the cluster's version a moment after they have begun to serve.
            (parts[1] != "not_decided").then_some(parts)
        });
        for version in parts.expect("a version of the cluster") {
            let numbers: Vec<u64> = version.split('.').map_while(|part| part.parse().ok()).collect();
            assert!(numbers.len() == 3 && numbers >= vec![3, 5, 0], "{version}");
        }
    });
}
