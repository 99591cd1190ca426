//! The configuration file, in YAML and JSON.

use std::time::Duration;

use super::super::{AllowList, AutoCompaction, ClusterState, Config, Gate, LogOutput, TlsSide};
use super::{accepted, from_file, refused, run, warnings};

/// A file like the sample that operators copy: most keys, many of them empty.
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
strict-reconfig-check: no
enable-v2: true
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
auto-compaction-retention: '1'
tls-min-version: 'TLS1.2'
watch-progress-notify-interval: 60_000_000_000
grpc-keepalive-interval: 90000000000
experimental-snapshot-catch-up-entries: 77
feature-gates: InitialCorruptCheck=true
host-whitelist: example.com,localhost
";

#[test]
fn the_sample_file_is_read() {
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
    assert!(
        config.enable_pprof
            && config.socket_reuse_port
            && !config.socket_reuse_address
            && !config.strict_reconfig_check
    );
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
            "--enable-pprof serves no profiles: there is no Go, and the paths under /debug/pprof/ say so",
            "--enable-v2 has no effect: the v2 API is gone",
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
        from_file(r#"{"name": "a", "pre-vote": false, "cipher-suites": ["TLS_AES_128_GCM_SHA256"]}"#),
    );
    assert_eq!((config.name.as_str(), config.pre_vote), ("a", false));
    let line = ["--name=a", "--pre-vote=false", "--cipher-suites=TLS_AES_128_GCM_SHA256"];
    assert_eq!(config, run(&line).0);
}

#[test]
fn an_empty_file_gives_the_defaults() {
    for text in [
        "",
        "# nothing\n",
        "{}",
        "name:\n",
        "---\n---\nname: a\n",
        "log-outputs: ~\n",
        "peer-transport-security:\n",
    ] {
        assert_eq!(accepted(&[], from_file(text)).0, Config::with_defaults(), "{text:?}");
    }
    // A listen URL without an advertised one is refused on the command line only.
    accepted(&[], from_file("listen-client-urls: http://127.0.0.1:1"));
}

/// Different spellings of one setting, from public reports.
#[test]
fn values_are_read_as_gos_yaml_reads_them() {
    let gib8 = run(&["--quota-backend-bytes=8589934592"]).0;
    for text in [
        "quota-backend-bytes: 8589934592",
        "quota-backend-bytes: 8.589934592e+09",
        "quota-backend-bytes: 8589934592.0",
        "quota-backend-bytes: 8_589_934_592",
        "quota-backend-bytes: 0x200000000",
        "quota-backend-bytes: 0o100000000000",
        "quota-backend-bytes: 0100000000000",
        "QUOTA-BACKEND-BYTES: 8589934592",
        "quota-backend-bytes: 1\nquota-backend-bytes: 8589934592",
        "Quota-Backend-Bytes: 1\nquota-backend-bytes: 8589934592",
        "\u{feff}quota-backend-bytes: 8589934592\r\n",
        "quota-backend-bytes: 8589934592\n---\nquota-backend-bytes: 1",
        "quota-backend-bytes: !!int \"8589934592\"",
        "x: &x {quota-backend-bytes: 8589934592}\n<<: *x",
        "{\"quota-backend-bytes\":\t8589934592}",
    ] {
        assert_eq!(accepted(&[], from_file(text)).0, gib8, "{text}");
    }
    for (text, line) in [
        ("auto-compaction-mode: \"\"", "--auto-compaction-mode="),
        ("pre-vote: No", "--pre-vote=false"),
        ("name: 'yes'", "--name=yes"),
        ("name: 1:30", "--name=1:30"),
        ("name: 2001-01-01", "--name=2001-01-01"),
        ("corrupt-check-time: 1e9", "--corrupt-check-time=1s"),
        ("log-outputs: [stdout, x]", "--log-outputs=stdout,x"),
        ("host-whitelist: b,a", "--host-whitelist=a,b"),
        ("heartbeat-interval: 08e1", "--heartbeat-interval=80"),
    ] {
        assert_eq!(accepted(&[], from_file(text)).0, run(&[line]).0, "{text}");
    }
    let utf16 = "\u{feff}name: a"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect::<Vec<_>>();
    assert_eq!(accepted(&[], from_file(utf16)).0.name, "a");
}

#[test]
fn unknown_keys_are_reported() {
    let text = "nmae: a\nversion: true\nforce: 1\n5: x\nclient-transport-security:\n  cert: x\n  name: y\nsocket-options:\n  x: 1\n";
    let (config, notices) = accepted(&[], from_file(text));
    assert_eq!(config.name, "default");
    let keys = notices
        .iter()
        .filter(|notice| notice.msg == "unknown key in the configuration file is ignored")
        .map(|notice| {
            notice
                .fields
                .iter()
                .map(|(_, value)| value.to_string())
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect::<Vec<_>>();
    assert_eq!(
        keys,
        [
            "5",
            "client-transport-security.cert",
            "client-transport-security.name",
            "force",
            "nmae name",
            "socket-options.x",
            "version",
        ]
    );
}

#[test]
fn keys_in_groups_set_their_flags() {
    let text = "client-transport-security: {cert-file: c, allowed-hostname: [h], client-cert-auth: true}\n\
                Peer-Transport-Security: {Trusted-CA-File: t, allowed-cn: [a, b], auto-tls: on}\n";
    let tls = accepted(&[text], from_file(text)).0.tls;
    assert_eq!(
        tls.clients,
        TlsSide {
            cert_file: "c".to_owned(),
            allowed_hostnames: vec!["h".to_owned()],
            client_cert_auth: true,
            skip_client_san_check: true,
            ..TlsSide::default()
        }
    );
    assert_eq!(
        tls.peers,
        TlsSide {
            trusted_ca_file: "t".to_owned(),
            allowed_cns: vec!["a".to_owned(), "b".to_owned()],
            auto: true,
            ..TlsSide::default()
        }
    );
    let (exit, why) = refused(from_file("discovery: http://x"));
    assert_eq!(exit, 1);
    assert!(
        why.starts_with("--discovery is not supported by this version: "),
        "{why}"
    );
    let (_, why) = refused(from_file("discovery-config: {token: t}"));
    assert_eq!(why, "both --discovery-token and --discovery-endpoints must be set");
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_its_key() {
    let decoding = "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal ";
    for (text, why) in [
        (
            "heartbeat-interval: fast",
            "string into Go struct field configYAML.heartbeat-interval of type uint",
        ),
        (
            "heartbeat-interval: \"100\"",
            "string into Go struct field configYAML.heartbeat-interval of type uint",
        ),
        (
            "Heartbeat-Interval: -1",
            "number -1 into Go struct field configYAML.heartbeat-interval of type uint",
        ),
        (
            "quota-backend-bytes: 1.5",
            "number 1.5 into Go struct field configYAML.quota-backend-bytes of type int64",
        ),
        (
            "quota-backend-bytes: 1e21",
            "number 1e+21 into Go struct field configYAML.quota-backend-bytes of type int64",
        ),
        (
            "snapshot-count: -0.0",
            "number -0 into Go struct field configYAML.snapshot-count of type uint64",
        ),
        (
            "pre-vote: 1",
            "number into Go struct field configYAML.pre-vote of type bool",
        ),
        (
            "pre-vote: 'true'",
            "string into Go struct field configYAML.pre-vote of type bool",
        ),
        ("name: [a]", "array into Go struct field configYAML.name of type string"),
        ("name: 5", "number into Go struct field configYAML.name of type string"),
        (
            "auto-compaction-retention: 1",
            "number into Go struct field configYAML.auto-compaction-retention of type string",
        ),
        (
            "log-outputs: stderr",
            "string into Go struct field configYAML.log-outputs of type []string; write it as a list",
        ),
        (
            "log-outputs: [[a]]",
            "array into Go struct field configYAML.log-outputs of type string",
        ),
        (
            "corrupt-check-time: 5m",
            "string into Go struct field configYAML.corrupt-check-time of type time.Duration; a duration is a whole \
             number of nanoseconds",
        ),
        (
            "max-concurrent-streams: 4294967296",
            "number 4294967296 into Go struct field configYAML.max-concurrent-streams of type uint32",
        ),
        (
            "socket-options: {reuse-port: sometimes}",
            "string into Go struct field configYAML.socket-options.reuse-port of type bool",
        ),
        (
            "socket-options: 5",
            "number into Go struct field configYAML.socket-options of type transport.SocketOpts",
        ),
        (
            "peer-transport-security: x",
            "string into Go struct field configYAML.peer-transport-security of type embed.securityConfig",
        ),
        (
            "feature-gates: {A: true}",
            "object into Go struct field configYAML.feature-gates of type string",
        ),
        (
            "CORS: '*'",
            "string into Go struct field configYAML.CORS of type map[string]struct {}",
        ),
        ("- a", "array into Go value of type embed.configYAML"),
        ("text", "string into Go value of type embed.configYAML"),
        // The first mistake in the byte order of keys is reported.
        (
            "name: 5\nDATA-DIR: 5",
            "number into Go struct field configYAML.data-dir of type string",
        ),
    ] {
        assert_eq!(refused(from_file(text)), (1, format!("{decoding}{why}")), "{text}");
    }
}

#[test]
fn invalid_values_are_refused() {
    for (text, why) in [
        ("feature-gates: Nope=true", "unrecognized feature gate: Nope"),
        (
            "listen-peer-urls: h:1",
            "unexpected error setting up listen-peer-urls: URL scheme must be http, https, unix, or unixs: h:1",
        ),
        ("initial-cluster-state: x", "unexpected clusterState \"x\""),
        (
            "proxy: off",
            "unexpected error setting up proxyFlag: invalid value \"false\"; valid values are [\"off\", \"readonly\", \"on\"]",
        ),
    ] {
        assert_eq!(refused(from_file(text)), (1, why.to_owned()), "{text}");
    }
}

#[test]
fn text_that_is_not_yaml_is_refused() {
    let long = format!("name: {}", "a".repeat(crate::limits::MAX_CONFIG_FILE_BYTES));
    for text in [
        b"a: [".as_slice(),
        b"a: b: c",
        b"\0",
        b"name: \xff",
        b"&a [*a]",
        long.as_bytes(),
    ] {
        let (exit, why) = refused(from_file(text));
        let told =
            why.starts_with("error converting YAML to JSON: ") || why.starts_with("the configuration file is longer");
        assert!(exit == 1 && told, "{why}");
    }
}
