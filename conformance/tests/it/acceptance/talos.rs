//! Talos: HTTP on a port of its own, cipher suites from the environment, and members that come and go.

use quoin_conformance::{Kind, Launch};

use super::{Ctl, get, hex, on_each, until_probed};
use crate::tls::{free, wait_until_served};
use quoin_conformance::certs::{Authority, PLAIN, SERVER};

const SUITES: &str = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,\
TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";

#[test]
fn talos_serves_http_apart_and_changes_members() {
    on_each(http_apart);
}

fn http_apart(kind: Kind) {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = Authority::new(folder.path(), "ca");
    let (own, admin) = (ca.sign("server", &SERVER), ca.sign("admin", &PLAIN));
    let [at, http, peer, metrics] = [free(), free(), free(), free()];
    let flags = [
        "--name=talos".to_owned(),
        "--data-dir=data".to_owned(),
        format!("--listen-peer-urls=https://{peer}"),
        format!("--listen-client-urls=https://{at}"),
        format!("--listen-client-http-urls=https://{http}"),
        "--client-cert-auth=true".to_owned(),
        format!("--cert-file={}", own.cert),
        format!("--key-file={}", own.key),
        format!("--trusted-ca-file={}", ca.file()),
        "--peer-client-cert-auth=true".to_owned(),
        format!("--peer-cert-file={}", own.cert),
        format!("--peer-key-file={}", own.key),
        format!("--peer-trusted-ca-file={}", ca.file()),
        "--experimental-initial-corrupt-check=true".to_owned(),
        "--experimental-watch-progress-notify-interval=5s".to_owned(),
        "--experimental-compact-hash-check-enabled=true".to_owned(),
        format!("--listen-metrics-urls=http://{metrics}"),
        "--auto-tls=false".to_owned(),
        "--peer-auto-tls=false".to_owned(),
        format!("--initial-advertise-peer-urls=https://{peer}"),
        format!("--advertise-client-urls=https://{at}"),
        "--initial-cluster-state=new".to_owned(),
        format!("--initial-cluster=talos=https://{peer}"),
    ];
    let launch = Launch::of(kind).expect("a program").alone();
    let launch = launch.variable("ETCD_CIPHER_SUITES", SUITES);
    let mut server = flags.into_iter().fold(launch, Launch::flag).spawn().expect("a process");
    wait_until_served(&mut server, at, &ca, &admin);
    until_probed(&mut server, metrics, "/health");
    let client = ca.client(Some(&admin));
    let (health, _) = quoin_conformance::certs::get(&client, http, "/health").expect("an answer");
    assert!(health.contains("\"health\":\"true\""), "{health}");
    assert!(get(http, "/health").is_none_or(|(status, _)| status == 400));

    let ctl = Ctl {
        at,
        ca: &ca,
        pair: &admin,
    };
    let other = format!("--peer-urls=https://{}", free());
    let added = ctl.json(&["member", "add", "other", "--learner", &other]);
    let id = hex(&added["member"]["ID"]);
    let members = ctl.json(&["member", "list"]);
    assert_eq!(members["members"].as_array().map(Vec::len), Some(2), "{members}");
    ctl.done(&["member", "remove", &id]);
    let members = ctl.json(&["member", "list"]);
    assert_eq!(members["members"][0]["name"], "talos", "{members}");
    assert_eq!(members["members"].as_array().map(Vec::len), Some(1), "{members}");
}
