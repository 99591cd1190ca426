//! k3s and RKE2: a file of settings in the data directory, a look at each start, a member that joins, a copy that is started as
//! a cluster of its own, and a backup.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quoin_conformance::{Kind, Launch, Server, command, fetch};

use super::{Ctl, hex, on_each, until_probed};
use crate::tls::{free, wait_until_served};
use quoin_conformance::certs::{Authority, CertPair, PLAIN, SERVER};

const LIMIT: Duration = Duration::from_secs(20);
const OUT_OF_SYNC: &str = "etcdserver: can only promote a learner member which is in sync with leader";

/// One machine: its directory and its addresses.
struct Machine {
    name: &'static str,
    data: PathBuf,
    at: SocketAddr,
    http: SocketAddr,
    peer: SocketAddr,
    metrics: SocketAddr,
}

/// The certificates of all machines.
struct Certificates {
    ca: Authority,
    own: CertPair,
    admin: CertPair,
}

impl Machine {
    fn new(folder: &Path, name: &'static str) -> Self {
        let data = folder.join(name);
        fs::DirBuilder::new().mode(0o700).create(&data).expect("a directory");
        fs::write(data.join("name"), name).expect("a file");
        Self {
            name,
            data,
            at: free(),
            http: free(),
            peer: free(),
            metrics: free(),
        }
    }

    /// Whether it is taken for a member that has run.
    fn is_initialised(&self) -> bool {
        self.data.join("member/wal").is_dir()
    }

    /// Its settings as k3s writes them: keys in order, durations in nanoseconds. Only an election is five times as fast.
    fn config(&self, pki: &Certificates, cluster: &[&Self], state: &str) -> String {
        let all: Vec<String> = cluster
            .iter()
            .map(|node| format!("{}=https://{}", node.name, node.peer))
            .collect();
        let trust = format!(
            "  cert-file: {}\n  client-cert-auth: true\n  key-file: {}\n  trusted-ca-file: {}\n",
            pki.own.cert,
            pki.own.key,
            pki.ca.file()
        );
        let Self {
            name,
            at,
            http,
            peer,
            metrics,
            ..
        } = self;
        format!(
            "advertise-client-urls: https://{at}\nclient-transport-security:\n{trust}data-dir: {}\nelection-timeout: 1000\n\
             experimental-initial-corrupt-check: true\nexperimental-watch-progress-notify-interval: 5000000000\n\
             heartbeat-interval: 100\ninitial-advertise-peer-urls: https://{peer}\ninitial-cluster: {}\n\
             initial-cluster-state: {state}\nlisten-client-http-urls: https://{http}\nlisten-client-urls: https://{at}\n\
             listen-metrics-urls: http://{metrics}\nlisten-peer-urls: https://{peer}\nlog-outputs:\n- stderr\nlogger: zap\n\
             name: {name}\npeer-transport-security:\n{trust}snapshot-count: 10000\n",
            self.data.display(),
            all.join(",")
        )
    }

    fn start(&self, kind: Kind, pki: &Certificates, cluster: &[&Self], state: &str) -> Server {
        let file = self.data.join("config");
        fs::write(&file, self.config(pki, cluster, state)).expect("a file");
        let launch = Launch::of(kind).expect("a program").alone();
        let launch = launch.flag(format!("--config-file={}", file.display()));
        launch.spawn().expect("a process")
    }
}

#[test]
fn k3s_starts_joins_restores_and_resets() {
    on_each(machines_of_k3s);
}

fn machines_of_k3s(kind: Kind) {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = Authority::new(folder.path(), "ca");
    let pki = Certificates {
        own: ca.sign("server", &SERVER),
        admin: ca.sign("admin", &PLAIN),
        ca,
    };
    let one = Machine::new(folder.path(), "node-1a2b3c4d");
    assert!(!one.is_initialised());
    let mut first = one.start(kind, &pki, &[&one], "new");
    wait_until_served(&mut first, one.at, &pki.ca, &pki.admin);
    assert!(one.is_initialised());
    let ctl = Ctl {
        at: one.at,
        ca: &pki.ca,
        pair: &pki.admin,
    };
    looks_at_each_start(&ctl);
    ctl.done(&["put", "key", "value"]);
    let (health, _) =
        quoin_conformance::certs::get(&pki.ca.client(Some(&pki.admin)), one.http, "/health").expect("an answer");
    assert!(health.contains("\"health\":\"true\""), "{health}");

    let two = Machine::new(folder.path(), "node-5e6f7a8b");
    joins_and_leaves(kind, &pki, &ctl, &one, &two);

    let backup = folder.path().join("on-demand.db").display().to_string();
    ctl.done(&["snapshot", "save", &backup]);
    first.terminate().expect("it ends");
    fs::write(one.data.join("reset-flag"), b"").expect("a file");
    let copy = folder.path().join("etcd-tmp");
    copy_all(&one.data, &copy);
    is_served_alone(kind, &copy, one.name);
    let restored = folder.path().join("restored");
    restore(&backup, &restored, &one);
    is_served_alone(kind, &restored, one.name);
    // The original is as it was.
    let mut again = one.start(kind, &pki, &[&one], "new");
    wait_until_served(&mut again, one.at, &pki.ca, &pki.admin);
    looks_at_each_start(&ctl);
    assert_eq!(ctl.done(&["get", "key", "--print-value-only"]), "value\n");
    until_probed(&mut again, one.metrics, "/metrics");
}

/// At each start it makes the database small, clears alarms, and looks for itself among the members.
fn looks_at_each_start(ctl: &Ctl<'_>) {
    for _ in 0..2 {
        let status = &ctl.json(&["endpoint", "status"])[0]["Status"];
        assert!(status["dbSize"].as_u64() > Some(0), "{status}");
        assert!(
            status.get("errors").is_none() && status.get("isLearner").is_none(),
            "{status}"
        );
        ctl.done(&["defrag"]);
        assert_eq!(ctl.done(&["alarm", "list"]), "");
        ctl.done(&["alarm", "disarm"]);
    }
    let own = ctl.until_member(|member| member["name"] == "node-1a2b3c4d");
    assert_eq!(own["clientURLs"][0], format!("https://{}", ctl.at));
}

/// A second machine joins as learner, is promoted, updated and removed.
fn joins_and_leaves(kind: Kind, pki: &Certificates, ctl: &Ctl<'_>, one: &Machine, two: &Machine) {
    let url = format!("--peer-urls=https://{}", two.peer);
    let added = ctl.json(&["member", "add", two.name, "--learner", &url]);
    let id = hex(&added["member"]["ID"]);
    let third = format!("--peer-urls=https://{}", free());
    let refused = ctl.refused(&["member", "add", "third", "--learner", &third]);
    assert!(
        refused.contains("etcdserver: too many learner members in cluster"),
        "{refused}"
    );
    let _second = two.start(kind, pki, &[one, two], "existing");
    ctl.until_member(|member| member["name"] == two.name && member["isLearner"] == true);
    ctl.until_done(&["member", "promote", &id], &[OUT_OF_SYNC]);
    ctl.done(&["member", "update", &id, &url]);
    let unsettled = ["etcdserver: unhealthy cluster", "not enough started members"];
    ctl.until_done(&["member", "remove", &id], &unsettled);
}

/// Runs a directory as a cluster of one, as k3s does to read it before a reset.
fn is_served_alone(kind: Kind, data: &Path, name: &str) {
    let (at, peer) = (free(), free());
    let file = data.join("config");
    let config = format!(
        "advertise-client-urls: http://{at}\ndata-dir: {}\nelection-timeout: 1000\nforce-new-cluster: true\n\
         heartbeat-interval: 100\nlisten-client-urls: http://{at}\nlisten-peer-urls: http://{peer}\nlogger: zap\n\
         log-outputs:\n- stderr\nname: {name}\nsnapshot-count: 10000\n",
        data.display()
    );
    fs::write(&file, config).expect("a file");
    let launch = Launch::of(kind).expect("a program").alone();
    let launch = launch.flag(format!("--config-file={}", file.display()));
    let mut server = launch.spawn().expect("a process");
    until_probed(&mut server, at, "/health");
    let etcdctl = |words: &[&str]| {
        let mut command = command::untouched(fetch::etcd().expect("a real etcd").etcdctl);
        command.args(["--endpoints", &at.to_string()]).args(words);
        let done = command::run(&mut command, b"", LIMIT).expect("it ends");
        done.success("etcdctl").expect("an answer")
    };
    assert_eq!(etcdctl(&["get", "key", "--print-value-only"]), "value\n");
    assert_eq!(etcdctl(&["member", "list"]).lines().count(), 1);
    server.terminate().expect("it ends");
}

fn restore(backup: &str, to: &Path, node: &Machine) {
    let tools = fetch::etcd().expect("a real etcd");
    let mut command = command::untouched(tools.etcdutl.unwrap_or(tools.etcdctl));
    let url = format!("https://{}", node.peer);
    command
        .args(["snapshot", "restore", backup, "--data-dir"])
        .arg(to)
        .args(["--name", node.name, "--initial-advertise-peer-urls", &url])
        .args(["--initial-cluster", &format!("{}={url}", node.name)]);
    let done = command::run(&mut command, b"", LIMIT).expect("it ends");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

/// Copies a directory with its permissions.
fn copy_all(from: &Path, to: &Path) {
    let mut command = command::untouched("cp");
    command.arg("-a").arg(from).arg(to);
    let done = command::run(&mut command, b"", LIMIT).expect("it ends");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}
