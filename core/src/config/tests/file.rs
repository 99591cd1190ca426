//! The configuration file, in YAML and JSON.

use std::time::Duration;

use super::super::{AllowList, AutoCompaction, ClusterState, Config, Gate, LogOutput};
use super::{accepted, from_file, refused, run, warnings};

/// The shape of the sample that operators copy: most keys, many of them empty.
const SAMPLE: &str = "
name: 'node1'
data-dir: /var/lib/etcd
wal-dir:
snapshot-count: 5000
heartbeat-interval: 50
election-timeout: 500
quota-backend-bytes: 0
listen-peer-urls: http://localhost:2380
listen-client-urls: http://localhost:2379,http://127.0.0.1:0
max-snapshots: 5
max-wals: 5
cors:
initial-advertise-peer-urls: http://10.0.0.1:2380
advertise-client-urls: http://10.0.0.1:2379
discovery:
discovery-fallback: 'proxy'
discovery-proxy:
discovery-srv:
initial-cluster: node1=http://10.0.0.1:2380
initial-cluster-token: 'etcd-cluster'
initial-cluster-state: 'existing'
strict-reconfig-check: false
enable-pprof: true
proxy: 'off'
proxy-failure-wait: 5000
client-transport-security:
  cert-file:
  key-file:
  client-cert-auth: false
  trusted-ca-file:
  auto-tls: false
peer-transport-security:
  cert-file:
  client-cert-auth: no
  allowed-cn:
  allowed-hostname:
socket-options:
  reuse-port: true
self-signed-cert-validity: 1
log-level: debug
logger: zap
log-outputs: [stderr, etcd.log]
force-new-cluster: false
auto-compaction-mode: periodic
auto-compaction-retention: 1
tls-min-version: 'TLS1.2'
watch-progress-notify-interval: 60000000000
grpc-keepalive-interval: 90s
experimental-snapshot-catch-up-entries: 77
feature-gates: InitialCorruptCheck=true
host-whitelist: example.com,localhost
";

#[test]
fn the_sample_reads_as_it_was_meant() {
    let (config, notices) = accepted(&[], from_file(SAMPLE));
    assert_eq!(
        (config.name.as_str(), config.data_dir.as_str()),
        ("node1", "/var/lib/etcd")
    );
    assert_eq!(
        (config.snapshot_count, config.heartbeat_ms, config.election_ms),
        (5_000, 50, 500)
    );
    assert_eq!((config.wal_dir, config.snapshot_catchup_entries), (None, 77));
    assert_eq!(config.listen_client_urls.len(), 2);
    assert_eq!(config.initial_cluster_state, ClusterState::Existing);
    assert!(config.socket_reuse_port && !config.socket_reuse_address && !config.strict_reconfig_check);
    assert_eq!(
        config.auto_compaction,
        AutoCompaction::Periodic(Duration::from_secs(3_600))
    );
    assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(60));
    assert_eq!(config.grpc_keepalive.unwrap().interval, Duration::from_secs(90));
    assert_eq!(
        config.log.outputs,
        [LogOutput::Stderr, LogOutput::File("etcd.log".into())]
    );
    assert_eq!(config.cors, AllowList::Any);
    assert!(config.host_whitelist.allows("example.com") && !config.host_whitelist.allows("x"));
    assert!(config.feature_gates.enabled(Gate::InitialCorruptCheck));
    assert_eq!(
        warnings(&notices),
        [
            "--enable-pprof has no effect: there are no Go profiles to serve",
            "--experimental-snapshot-catchup-entries is another spelling of --snapshot-catchup-entries; use \
             --snapshot-catchup-entries",
        ]
    );
    assert!(
        notices[0]
            .msg
            .starts_with("loaded server configuration, other configuration")
    );
}

#[test]
fn json_is_yaml() {
    let (config, _) = accepted(
        &[],
        from_file(r#"{"name": "a", "pre-vote": false, "cipher-suites": ["X", "Y"]}"#),
    );
    assert_eq!((config.name.as_str(), config.pre_vote), ("a", false));
    assert_eq!(config, run(&["--name=a", "--pre-vote=false"]).0);
}

#[test]
fn an_empty_file_is_the_defaults() {
    for text in ["", "# nothing\n", "{}", "name:\n"] {
        assert_eq!(accepted(&[], from_file(text)).0, Config::with_defaults(), "{text:?}");
    }
    // Moving the listener without the advertised URL is asked about on the command line only.
    accepted(&[], from_file("listen-client-urls: http://127.0.0.1:1"));
}

#[test]
fn unknown_keys_are_named() {
    let text =
        "nmae: a\nversion: true\nforce: 1\nclient-transport-security:\n  cert: x\n  name: y\nsocket-options:\n  x: 1\n";
    let (config, notices) = accepted(&[], from_file(text));
    assert_eq!(config.name, "default");
    let keys = notices
        .iter()
        .filter(|notice| notice.msg == "unknown key in the configuration file is ignored")
        .map(|notice| notice.fields[0].1.as_str())
        .collect::<Vec<_>>();
    assert_eq!(
        keys,
        [
            "nmae",
            "version",
            "force",
            "client-transport-security.cert",
            "client-transport-security.name",
            "socket-options.x"
        ]
    );
}

#[test]
fn groups_mean_their_flags() {
    for (text, flag) in [
        ("client-transport-security: {cert-file: c}", "cert-file"),
        (
            "client-transport-security: {allowed-hostname: [h]}",
            "client-cert-allowed-hostname",
        ),
        (
            "client-transport-security: {client-cert-auth: true}",
            "client-cert-auth",
        ),
        ("peer-transport-security: {trusted-ca-file: c}", "peer-trusted-ca-file"),
        ("peer-transport-security: {allowed-cns: [a, b]}", "peer-cert-allowed-cn"),
        (
            "peer-transport-security: {allowed-hostname: h}",
            "peer-cert-allowed-hostname",
        ),
        ("peer-transport-security: {auto-tls: on}", "peer-auto-tls"),
        ("discovery: http://x", "discovery"),
    ] {
        let (exit, why) = refused(from_file(text));
        assert_eq!(exit, 1);
        assert!(
            why.starts_with(&format!("--{flag} is not supported by this version: ")),
            "{text}: {why}"
        );
    }
    let (_, why) = refused(from_file("discovery-config: {token: t}"));
    assert_eq!(why, "both --discovery-token and --discovery-endpoints must be set");
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_its_key() {
    for (text, why) in [
        (
            "heartbeat-interval: fast",
            "configuration file: heartbeat-interval: expected a whole number from 0 on, found the text \"fast\"",
        ),
        (
            "heartbeat-interval: -1",
            "configuration file: heartbeat-interval: expected a whole number from 0 on, found -1",
        ),
        (
            "quota-backend-bytes: 1.5",
            "configuration file: quota-backend-bytes: expected a whole number, found 1.5",
        ),
        (
            "pre-vote: 1",
            "configuration file: pre-vote: expected true or false, found 1",
        ),
        ("name: [a]", "configuration file: name: expected text, found a list"),
        (
            "log-outputs: {a: b}",
            "configuration file: log-outputs: expected a list of texts, found keys with values",
        ),
        (
            "corrupt-check-time: 1.5",
            "configuration file: corrupt-check-time: expected nanoseconds, or text such as 5m, found 1.5",
        ),
        (
            "corrupt-check-time: 5 minutes",
            "configuration file: corrupt-check-time: time: unknown unit \" minutes\" in duration \"5 minutes\"",
        ),
        (
            "max-concurrent-streams: 4294967296",
            "configuration file: max-concurrent-streams: expected a whole number from 0 to 4294967295, found 4294967296",
        ),
        (
            "socket-options: {reuse-port: sometimes}",
            "configuration file: socket-options.reuse-port: expected true or false, found the text \"sometimes\"",
        ),
        (
            "socket-options: 5",
            "configuration file: socket-options: expected keys with values, found 5",
        ),
        ("peer-transport-security: x", "invalid peer-transport-security"),
        (
            "feature-gates: Nope=true",
            "configuration file: feature-gates: unrecognized feature gate: Nope",
        ),
        (
            "listen-peer-urls: h:1",
            "unexpected error setting up listen-peer-urls: URL scheme must be http, https, unix, or unixs: h:1",
        ),
        ("initial-cluster-state: x", "unexpected clusterState \"x\""),
        ("- a", "the configuration file is no list of keys with values"),
        ("5: a", "the configuration file has a key that is no text: 5"),
    ] {
        assert_eq!(refused(from_file(text)), (1, why.to_owned()), "{text}");
    }
}

#[test]
fn what_is_no_yaml_at_all_is_refused() {
    let long = format!("name: {}", "a".repeat(crate::limits::MAX_CONFIG_FILE_BYTES));
    for text in [
        "name: a\nname: b\n",
        "a: [",
        "a: b: c",
        "\u{0}",
        "&a [*a]",
        long.as_str(),
    ] {
        assert_eq!(refused(from_file(text)).0, 1);
    }
}
