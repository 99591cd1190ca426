//! OpenShift: configuration from the environment, a Unix socket, files of others in the data directory, a proxy for metrics,
//! and a backup.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use quoin_conformance::{Kind, Launch, command, fetch};
use rustls::pki_types::ServerName;

use super::{Ctl, get, on_each, until_probed};
use crate::tls::{free, wait_until_served};
use quoin_conformance::certs::{Authority, CertPair, PLAIN, SERVER, Wish, get_over};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn openshift_runs_backs_up_and_watches_a_member() {
    on_each(a_member_of_openshift);
}

fn a_member_of_openshift(kind: Kind) {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = Authority::new(folder.path(), "ca");
    let (own, admin) = (ca.sign("server", &SERVER), ca.sign("admin", &PLAIN));
    let [at, peer, metrics] = [free(), free(), free()];
    let data = folder.path().join("etcd");
    fs::DirBuilder::new().mode(0o700).create(&data).expect("a directory");
    fs::write(data.join("revision.json"), b"{}").expect("a file");
    let launch = launch(kind, &ca, &own, &data, [at, peer, metrics]);
    let mut server = launch.spawn().expect("a process");
    wait_until_served(&mut server, at, &ca, &admin);
    until_probed(&mut server, metrics, "/readyz");

    let socket = UnixStream::connect(server.home().join("127.0.0.1:0")).expect("a socket of this name");
    let name = ServerName::from(at.ip());
    let (version, _) = get_over(&ca.client(Some(&admin)), socket, name, "/version").expect("an answer");
    assert!(version.contains("etcdserver"), "{version}");
    let (_, page) = get(metrics, "/metrics").expect("a page");
    assert!(page.contains("grpc_server_handling_seconds_bucket"), "it is extensive");

    let ctl = Ctl {
        at,
        ca: &ca,
        pair: &admin,
    };
    ctl.done(&["put", "key", "value"]);
    // The proxy refuses a certificate with a common name.
    let nameless = ca.sign(
        "nameless",
        &Wish {
            common_name: "",
            ..PLAIN
        },
    );
    is_watched_through_a_proxy(&Ctl { pair: &nameless, ..ctl }, &own);
    let backup = folder.path().join("snapshot.db").display().to_string();
    ctl.done(&["snapshot", "save", &backup]);
    let restored = folder.path().join("restored").display().to_string();
    restore(&backup, &restored);
    assert!(data.join("revision.json").exists());
    let exited = server.terminate();
    assert!(exited.is_ok(), "{exited:?}");
    its_backup_is_served(kind, &restored);
}

/// Its environment and flags, with its addresses for clients, peers and metrics.
fn launch(kind: Kind, ca: &Authority, own: &CertPair, data: &Path, [at, peer, metrics]: [SocketAddr; 3]) -> Launch {
    let mut launch = Launch::of(kind).expect("a program").alone();
    for (name, value) in [
        ("ETCD_INITIAL_CLUSTER", format!("master-0=https://{peer}")),
        ("ETCD_NAME", "master-0".to_owned()),
        ("ETCD_INITIAL_CLUSTER_STATE", "new".to_owned()),
        ("ETCD_DATA_DIR", data.display().to_string()),
        ("ETCD_QUOTA_BACKEND_BYTES", "8589934592".to_owned()),
        ("ETCD_HEARTBEAT_INTERVAL", "100".to_owned()),
        ("ETCD_ELECTION_TIMEOUT", "1000".to_owned()),
        ("ETCD_ENABLE_PPROF", "true".to_owned()),
        ("ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL", "5s".to_owned()),
    ] {
        launch = launch.variable(name, value);
    }
    let flags = [
        "--logger=zap".to_owned(),
        "--log-level=info".to_owned(),
        "--experimental-initial-corrupt-check=true".to_owned(),
        "--snapshot-count=10000".to_owned(),
        format!("--initial-advertise-peer-urls=https://{peer}"),
        format!("--cert-file={}", own.cert),
        format!("--key-file={}", own.key),
        format!("--trusted-ca-file={}", ca.file()),
        "--client-cert-auth=true".to_owned(),
        format!("--peer-cert-file={}", own.cert),
        format!("--peer-key-file={}", own.key),
        format!("--peer-trusted-ca-file={}", ca.file()),
        "--peer-client-cert-auth=true".to_owned(),
        format!("--advertise-client-urls=https://{at}"),
        format!("--listen-client-urls=https://{at},unixs://127.0.0.1:0"),
        format!("--listen-peer-urls=https://{peer}"),
        "--metrics=extensive".to_owned(),
        format!("--listen-metrics-urls=http://{metrics}"),
    ];
    flags.into_iter().fold(launch, Launch::flag)
}

/// The metrics of the member are read through etcd's proxy.
fn is_watched_through_a_proxy(ctl: &Ctl<'_>, own: &CertPair) {
    let (listen, metrics) = (free(), free());
    let program = fetch::etcd().expect("a real etcd").etcd;
    let mut proxy = Launch::program("grpc-proxy", program)
        .alone()
        .flag("grpc-proxy")
        .flag("start")
        .flag(format!("--endpoints=https://{}", ctl.at))
        .flag(format!("--metrics-addr=http://{metrics}"))
        .flag(format!("--listen-addr={listen}"))
        .flag(format!("--advertise-client-url={listen}"))
        .flag(format!("--cert={}", ctl.pair.cert))
        .flag(format!("--key={}", ctl.pair.key))
        .flag(format!("--cacert={}", ctl.ca.file()))
        .flag(format!("--cert-file={}", own.cert))
        .flag(format!("--key-file={}", own.key))
        .flag(format!("--trusted-ca-file={}", ctl.ca.file()))
        .spawn()
        .expect("a process");
    let page = until_probed(&mut proxy, metrics, "/metrics");
    assert!(page.contains("etcd_server_has_leader 1"), "{page}");
    let through = Ctl { at: listen, ..*ctl };
    assert_eq!(
        through.until_done(&["get", "key", "--print-value-only"], &["context deadline exceeded"]),
        "value\n"
    );
}

fn restore(backup: &str, to: &str) {
    let tools = fetch::etcd().expect("a real etcd");
    let program = tools.etcdutl.unwrap_or(tools.etcdctl);
    let mut command = command::untouched(program);
    command.args(["snapshot", "restore", backup, "--data-dir", to]);
    let done = command::run(&mut command, b"", LIMIT).expect("it ends");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

fn its_backup_is_served(kind: Kind, data: &str) {
    let at = free();
    let mut server = Launch::of(kind)
        .expect("a program")
        .alone()
        .flag("--name=default")
        .flag(format!("--data-dir={data}"))
        .flag("--force-new-cluster")
        .flag("--listen-peer-urls=http://127.0.0.1:0")
        .flag(format!("--advertise-client-urls=http://{at}"))
        .flag(format!("--listen-client-urls=http://{at}"))
        .spawn()
        .expect("a process");
    until_probed(&mut server, at, "/health");
    let etcdctl = fetch::etcd().expect("a real etcd").etcdctl;
    let mut command = command::untouched(etcdctl);
    command.args(["--endpoints", &at.to_string(), "get", "key", "--print-value-only"]);
    let done = command::run(&mut command, b"", LIMIT).expect("it ends");
    assert_eq!(done.stdout, "value\n", "{}", done.stderr);
}
