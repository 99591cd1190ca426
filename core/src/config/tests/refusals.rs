//! Every message of validation, with the shortest command line that causes it.

use super::super::Outcome;
use super::{accepted, outcome, refused};

const LISTEN: &str = "--listen-client-urls=http://127.0.0.1:0";

#[test]
fn mistakes_of_addresses_and_timing() {
    for (line, why) in [
        (
            &["--listen-peer-urls=http://example.com:1"][..],
            "expected IP in URL for binding (http://example.com:1)",
        ),
        (
            &["--listen-metrics-urls=http://:1"],
            "expected IP in URL for binding (http://:1)",
        ),
        (
            &["--listen-client-http-urls=http://h:1"],
            "expected IP in URL for binding (http://h:1)",
        ),
        (
            &[LISTEN],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            &["--initial-advertise-peer-urls=http://:1,http://a:1"],
            "--initial-advertise-peer-urls \"http://:1,http://a:1\" must be \"host:port\" (unexpected empty host (http://:1))",
        ),
        (
            &["--advertise-client-urls=http://:1"],
            "--advertise-client-urls \"http://:1\" must be \"host:port\" (unexpected empty host (http://:1))",
        ),
        (
            &["--heartbeat-interval=0"],
            "--heartbeat-interval must be >0 (set to 0ms)",
        ),
        (&["--election-timeout=0"], "--election-timeout must be >0 (set to 0ms)"),
        (
            &["--heartbeat-interval=201"],
            "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[201ms]",
        ),
        (
            &["--heartbeat-interval=18446744073709551615"],
            "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[18446744073709551615ms]",
        ),
        (
            &["--election-timeout=50001"],
            "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
        ),
    ] {
        assert_eq!(refused(outcome(line, &[])), (1, why.to_owned()), "{line:?}");
    }
}

#[test]
fn mistakes_of_compaction_checks_and_tls() {
    for (line, why) in [
        (
            &["--auto-compaction-mode=", "--auto-compaction-retention=1h"][..],
            "unsupported compaction mode \"\": set --auto-compaction-mode",
        ),
        (
            &["--auto-compaction-mode=daily"],
            "unknown auto-compaction-mode \"daily\"",
        ),
        (
            &["--auto-compaction-retention=5d"],
            "error parsing CompactionRetention: time: unknown unit \"d\" in duration \"5d\"",
        ),
        (
            &["--auto-compaction-retention=-1"],
            "error parsing CompactionRetention: time: missing unit in duration \"-1\"",
        ),
        (
            &["--auto-compaction-retention=9999999999"],
            "error parsing CompactionRetention: 9999999999 hours are too long",
        ),
        (
            &["--auto-compaction-retention=-1h"],
            "--auto-compaction-retention must not be negative (set to -1h)",
        ),
        (
            &["--compact-hash-check-time=0"],
            "--compact-hash-check-time must be >0 (set to 0s)",
        ),
        (
            &["--experimental-compact-hash-check-time=-1m"],
            "--experimental-compact-hash-check-time must be >0 (set to -1m0s)",
        ),
        (
            &["--corrupt-check-time=-1s"],
            "--corrupt-check-time must not be negative (set to -1s)",
        ),
        (
            &["--experimental-compaction-batch-limit=-1"],
            "--experimental-compaction-batch-limit must not be negative (set to -1)",
        ),
        (
            &["--feature-gates=LeaseCheckpointPersist=true"],
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        ),
        (
            &["--tls-min-version=TLS1.1"],
            "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)",
        ),
        (
            &["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (
            &["--tls-min-version=TLS1.3", "--cipher-suites=X"],
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        (
            &["--auth-token=magic"],
            "auth: invalid auth options (--auth-token \"magic\")",
        ),
        (
            &["--discovery-fallback=proxy"],
            "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
        ),
    ] {
        assert_eq!(refused(outcome(line, &[])), (1, why.to_owned()), "{line:?}");
    }
}

#[test]
fn mistakes_of_logging_tracing_and_discovery() {
    for (line, why) in [
        (&["--logger=capnslog"][..], "--logger=capnslog is removed in v3.5"),
        (&["--logger=x"], "unknown logger option \"x\""),
        (&["--log-level=loud"], "unrecognized level: \"loud\""),
        (
            &["--log-format=xml"],
            "unknown log format: xml, supported values json, console",
        ),
        (
            &["--log-outputs=default,stdout"],
            "multi logoutput for \"default\" is not supported yet",
        ),
        (
            &["--log-outputs=stdout,systemd/journal"],
            "running with systemd/journal but other '--log-outputs' values ([\"stdout\", \"systemd/journal\"]) are \
             configured with 'default'; override 'default' value with something else",
        ),
        (
            &["--enable-log-rotation"],
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ),
        (
            &["--enable-log-rotation", "--log-outputs=a,b"],
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ),
        (
            &[
                "--enable-log-rotation",
                "--log-outputs=a",
                "--log-rotation-config-json={\"maxsize\":\"x\"}",
            ],
            "invalid log rotation config: maxsize has a value of the wrong type",
        ),
        (
            &["--enable-distributed-tracing", "--distributed-tracing-sampling-rate=-1"],
            "distributed tracing configurition is not valid: (tracing sampling rate must be positive)",
        ),
        (
            &[
                "--enable-distributed-tracing",
                "--distributed-tracing-sampling-rate=1000001",
            ],
            "distributed tracing configurition is not valid: (tracing sampling rate must be less than 1000000)",
        ),
        (
            &["--initial-cluster=a=http://a:1", "--discovery-srv=example.com"],
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery\", \
             \"discovery-endpoints\" or \"discovery-srv\"",
        ),
        (
            &["--discovery-token=t"],
            "both --discovery-token and --discovery-endpoints must be set",
        ),
        (
            &["--discovery-endpoints=e"],
            "both --discovery-token and --discovery-endpoints must be set",
        ),
        (
            &["--discovery-endpoints=e, ", "--discovery-token=t"],
            "--discovery-endpoints must not contain empty endpoints",
        ),
        (
            &["--discovery-proxy=p", "--discovery-token=t"],
            "both v2 discovery settings (discovery, discovery-proxy) and v3 discovery settings (discovery-token, \
             discovery-endpoints, discovery-cert, discovery-key, discovery-cacert, discovery-user, \
             discovery-password) are set",
        ),
    ] {
        assert_eq!(refused(outcome(line, &[])), (1, why.to_owned()), "{line:?}");
    }
    let (exit, why) = refused(outcome(
        &[
            "--enable-log-rotation",
            "--log-outputs=a",
            "--log-rotation-config-json={",
        ],
        &[],
    ));
    assert!(
        exit == 1 && why.starts_with("improperly formatted log rotation config: "),
        "{why}"
    );
}

#[test]
fn two_spellings_of_one_setting_are_refused() {
    for (line, why) in [
        (
            &["--experimental-corrupt-check-time=1s", "--corrupt-check-time=1s"][..],
            "cannot set --experimental-corrupt-check-time and --corrupt-check-time at the same time, please use \
             --corrupt-check-time only",
        ),
        (
            &[
                "--experimental-warning-unary-request-duration=1s",
                "--warning-unary-request-duration=1s",
            ],
            "both --experimental-warning-unary-request-duration and --warning-unary-request-duration flags are set. \
             Use only --warning-unary-request-duration",
        ),
        (
            &[
                "--experimental-initial-corrupt-check=true",
                "--feature-gates=InitialCorruptCheck=false",
            ],
            "cannot specify both flags: --experimental-initial-corrupt-check=true and \
             --feature-gates=InitialCorruptCheck=false at the same time, please just use \
             --feature-gates=InitialCorruptCheck=false",
        ),
    ] {
        assert_eq!(refused(outcome(line, &[])), (1, why.to_owned()), "{line:?}");
    }
    // One gate by its old name and another by its new one do not conflict.
    accepted(
        &[],
        outcome(
            &[
                "--experimental-initial-corrupt-check",
                "--feature-gates=CompactHashCheck=true",
            ],
            &[],
        ),
    );
}

#[test]
fn flags_that_are_unsafe_to_ignore_are_refused() {
    for (line, why) in [
        (
            &["--auth-token=jwt,pub-key=a"][..],
            "auth: invalid auth options (--auth-token=jwt): auth: invalid auth signature method".to_owned(),
        ),
        (
            &["--discovery-srv=example.com"],
            "--discovery-srv is not supported by this version: discovery comes in a later version; name the members \
             with --initial-cluster"
                .to_owned(),
        ),
        (
            &["--proxy=on"],
            "--proxy is not supported by this version: the v2 proxy is gone".to_owned(),
        ),
    ] {
        assert_eq!(refused(outcome(line, &[])), (1, why), "{line:?}");
    }
    // Setting the same flags to the empty text is accepted.
    let nothing = ["--proxy=off", "--enable-v2=false", "--discovery-srv="];
    accepted(&nothing, outcome(&nothing, &[]));
}

#[test]
fn a_missing_advertise_url_gets_its_own_line() {
    let Outcome::Refuse(refusal) = outcome(&[LISTEN], &[]) else {
        panic!("taken")
    };
    let lines = refusal
        .notices
        .iter()
        .map(|notice| notice.msg.as_str())
        .collect::<Vec<_>>();
    assert_eq!(
        lines,
        [
            "Running: ",
            "failed to verify flags",
            "advertise client URLs are not set"
        ]
    );
}

#[test]
fn mistakes_of_tls_that_need_no_file_are_found_in_etcds_words() {
    const CLIENT: &str = "--listen-client-urls=https://127.0.0.1:1";
    const CLIENT_KEY: &str = "TLS key/cert (--cert-file, --key-file) must be provided for client url \
                              https://127.0.0.1:1 with HTTPS scheme";
    const ADVERTISED: &str = "--advertise-client-urls=https://127.0.0.1:1";
    for (line, why) in [
        (
            &["--listen-peer-urls=https://127.0.0.1:1"][..],
            "cannot listen on TLS for 127.0.0.1:1: KeyFile and CertFile are not presented",
        ),
        (&[CLIENT, ADVERTISED], CLIENT_KEY),
        (&[CLIENT, ADVERTISED, "--client-cert-auth"], CLIENT_KEY),
        (
            &[CLIENT, ADVERTISED, "--cert-file=c"],
            "KeyFile and CertFile must both be present[key: , cert: c]",
        ),
        (
            &["--peer-key-file=k"],
            "KeyFile and CertFile must both be present[key: k, cert: ]",
        ),
        (
            &["--peer-cert-file=c", "--peer-key-file=k", "--peer-client-cert-file=d"],
            "ClientKeyFile and ClientCertFile must both be present or both absent: key: , cert: d]",
        ),
        (
            &[
                "--peer-cert-file=c",
                "--peer-key-file=k",
                "--peer-cert-allowed-cn=a,b",
                "--peer-cert-allowed-hostname=h",
            ],
            "AllowedCNs and AllowedHostnames are mutually exclusive (cns=[\"a\" \"b\"], hostnames=[\"h\"])",
        ),
        (
            &["--listen-metrics-urls=unixs:///s"],
            "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url",
        ),
    ] {
        let (config, _) = accepted(line, outcome(line, &[]));
        assert_eq!(config.check_tls(), Err(why.to_owned()), "{line:?}");
    }
    for line in [
        &["--cert-file=c"][..],
        &[CLIENT, ADVERTISED, "--auto-tls"],
        &[CLIENT, ADVERTISED, "--cert-file=c", "--key-file=k"],
        &["--listen-peer-urls=https://127.0.0.1:1", "--peer-auto-tls"],
    ] {
        let (config, _) = accepted(line, outcome(line, &[]));
        assert_eq!(config.check_tls(), Ok(()), "{line:?}");
    }
    assert_eq!(
        refused(outcome(&["--cipher-suites=TLS_AES_128_GCM_SHA256,x"], &[])),
        (1, "unexpected TLS cipher suite \"x\"".to_owned())
    );
}
