//! Builds a `Config` from settings that passed `check`. Settings that are not given are derived by etcd's rules.

use std::time::Duration;

use super::auth_token::AuthToken;
use super::check;
use super::flag::{Disposition, Value};
use super::gates::{FeatureGates, Gate};
use super::gotext::{format_duration, parse_duration, parse_int, quote};
use super::model::{AllowList, AutoCompaction, ClusterState, Config, Keepalive, Log, LogFormat, LogLevel, LogOutput};
use super::notice::Notice;
use super::rotation::Rotation;
use super::settings::Settings;
use super::table::find;
use super::tls::{CipherSuite, Tls, TlsSide, TlsVersion};
use super::url::{Scheme, Url};
use crate::limits::PEER_READ_PATIENCE;
use crate::version::Version;

const DEFAULT_NAME: &str = "default";
const DEFAULT_QUOTA_BYTES: u64 = 2 << 30;
/// etcd warns above this quota, because memory and recovery time grow with the store.
const MAX_RECOMMENDED_QUOTA_BYTES: u64 = 8 << 30;
const MAX_RECOMMENDED_REQUEST_BYTES: u64 = 10 << 20;
const NANOS_PER_HOUR: u64 = 3_600_000_000_000;
/// grpc-go's minimum if none is set.
const GO_PING_MINIMUM: Duration = Duration::from_mins(5);

/// Builds the configuration; `default_host` is this machine's address on its default route, if the host found one.
pub(super) fn build(s: &Settings, default_host: Option<&str>, notices: &mut Vec<Notice>) -> Result<Config, String> {
    let advertised = advertise(s, default_host, notices);
    let config = Config {
        name: s.text("name"),
        data_dir: data_dir(s, notices),
        wal_dir: Some(s.text("wal-dir")).filter(|dir| !dir.is_empty()),
        snapshot_count: or_default(s, "snapshot-count"),
        snapshot_catchup_entries: or_default(s, "snapshot-catchup-entries"),
        max_snapshots: s.uint("max-snapshots"),
        max_wals: s.uint("max-wals"),
        heartbeat_ms: s.uint("heartbeat-interval"),
        election_ms: s.uint("election-timeout"),
        initial_election_tick_advance: s.switch("initial-election-tick-advance"),
        pre_vote: s.switch("pre-vote"),
        listen_peer_urls: s.urls("listen-peer-urls"),
        listen_client_urls: s.urls("listen-client-urls"),
        listen_client_http_urls: s.urls("listen-client-http-urls"),
        listen_metrics_urls: s.urls("listen-metrics-urls"),
        initial_cluster: initial_cluster(s, &advertised.peer),
        advertise_peer_urls: advertised.peer,
        advertise_client_urls: advertised.client,
        initial_cluster_state: match s.text("initial-cluster-state").as_str() {
            "existing" => ClusterState::Existing,
            _ => ClusterState::New,
        },
        initial_cluster_token: s.text("initial-cluster-token"),
        force_new_cluster: s.switch("force-new-cluster"),
        strict_reconfig_check: s.switch("strict-reconfig-check"),
        max_learners: count(s, "max-learners")?,
        max_cluster_version: Version::parse(&format!("{}.0", s.text("max-cluster-version"))),
        quota_backend_bytes: quota(s, notices),
        backend_batch_interval: span_or_default(s, "backend-batch-interval")?,
        backend_batch_limit: count_or_default(s, "backend-batch-limit")?,
        auto_compaction: auto_compaction(s)?,
        compaction_batch_limit: count_or_default(s, "compaction-batch-limit")?,
        compaction_sleep_interval: span_or_default(s, "compaction-sleep-interval")?,
        max_txn_ops: s.uint("max-txn-ops"),
        max_request_bytes: request_bytes(s, notices),
        max_concurrent_streams: u32::try_from(s.uint("max-concurrent-streams")).unwrap_or(u32::MAX),
        grpc_keepalive_min_time: positive(span(s, "grpc-keepalive-min-time")?).unwrap_or(GO_PING_MINIMUM),
        grpc_keepalive: keepalive(s)?,
        enable_pprof: s.switch("enable-pprof"),
        socket_reuse_port: s.switch("socket-reuse-port"),
        socket_reuse_address: s.switch("socket-reuse-address"),
        raft_read_timeout: peer_timeout(s, "raft-read-timeout", notices)?,
        raft_write_timeout: peer_timeout(s, "raft-write-timeout", notices)?,
        enable_grpc_gateway: s.switch("enable-grpc-gateway"),
        cors: allow_list(s.urls("cors").iter().map(Url::to_string)),
        host_whitelist: allow_list(s.list("host-whitelist")),
        bcrypt_cost: s.uint("bcrypt-cost"),
        auth_token: AuthToken::parse(&s.text("auth-token"))?,
        auth_token_ttl: Duration::from_secs(s.uint("auth-token-ttl")),
        extensive_metrics: s.text("metrics") == "extensive",
        log: log(s),
        warning_apply_duration: span(s, "warning-apply-duration")?,
        warning_unary_request_duration: span_or_default(s, "warning-unary-request-duration")?,
        watch_progress_notify_interval: span_or_default(s, "watch-progress-notify-interval")?,
        corrupt_check_time: positive(span(s, "corrupt-check-time")?),
        compact_hash_check_time: span(s, "compact-hash-check-time")?,
        downgrade_check_time: span_or_default(s, "downgrade-check-time")?,
        bootstrap_defrag_threshold_megabytes: Some(s.uint("bootstrap-defrag-threshold-megabytes")).filter(|mb| *mb > 0),
        feature_gates: s.gates(),
        tls: tls(s)?,
        unsafe_no_fsync: s.switch("unsafe-no-fsync"),
    };
    remark(s, &config, notices);
    Ok(config)
}

/// The log level of this name, in zap's spellings.
pub(super) fn log_level(name: &str) -> Option<LogLevel> {
    match name.to_ascii_lowercase().as_str() {
        "debug" => Some(LogLevel::Debug),
        "" | "info" => Some(LogLevel::Info),
        "warn" | "warning" => Some(LogLevel::Warn),
        "error" => Some(LogLevel::Error),
        "dpanic" | "panic" => Some(LogLevel::Panic),
        "fatal" => Some(LogLevel::Fatal),
        _ => None,
    }
}

/// A bare number is hours or revisions, depending on the mode; anything else is a duration, in either mode, as in etcd.
pub(super) fn auto_compaction(s: &Settings) -> Result<AutoCompaction, String> {
    let text = s.text("auto-compaction-retention");
    let by_revision = s.text("auto-compaction-mode") == "revision";
    // Go's Atoi knows no prefixes and no underscores.
    let decimal = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'+');
    let number = if decimal {
        text.parse::<u64>().ok().filter(|n| i64::try_from(*n).is_ok())
    } else {
        None
    };
    let no_mode = s.text("auto-compaction-mode").is_empty();
    let amount = match number {
        _ if text.is_empty() => 0,
        // Without a mode the number has no unit, and etcd compacts nothing.
        Some(_) if no_mode => 0,
        Some(revisions) if by_revision => revisions,
        Some(hours) => hours
            .checked_mul(NANOS_PER_HOUR)
            .filter(|nanos| i64::try_from(*nanos).is_ok())
            .ok_or_else(|| format!("error parsing CompactionRetention: {text} hours are too long"))?,
        None => {
            let nanos = parse_duration(&text).map_err(|e| format!("error parsing CompactionRetention: {e}"))?;
            let nanos = u64::try_from(nanos)
                .map_err(|_| format!("--auto-compaction-retention must not be negative (set to {text})"))?;
            if no_mode && nanos > 0 {
                return Err("unsupported compaction mode \"\": set --auto-compaction-mode".to_owned());
            }
            nanos
        }
    };
    Ok(match amount {
        0 => AutoCompaction::Off,
        revisions if by_revision => AutoCompaction::Revision(revisions),
        nanos => AutoCompaction::Periodic(Duration::from_nanos(nanos)),
    })
}

struct Advertised {
    peer: Vec<Url>,
    client: Vec<Url>,
}

/// A member that listens on every address and has default advertised URLs advertises the machine's default address.
fn advertise(s: &Settings, default_host: Option<&str>, notices: &mut Vec<Notice>) -> Advertised {
    let mut detected = false;
    let mut widen = |advertise: &str, listen: &str| {
        let mut urls = s.urls(advertise);
        let default = find(advertise).map(|flag| flag.default_value());
        let listened = s.urls(listen).into_iter().next();
        if let (Some(host), Some(port)) = (
            default_host,
            listened
                .filter(|url| url.host() == Some("0.0.0.0"))
                .and_then(|url| url.port()),
        ) && default == Some(Value::Urls(urls.clone()))
        {
            urls = urls.iter().map(|url| url.with_host(host, port)).collect();
            detected = true;
        }
        urls
    };
    let peer = widen("initial-advertise-peer-urls", "listen-peer-urls");
    let client = widen("advertise-client-urls", "listen-client-urls");
    if let (true, Some(host)) = (detected, default_host) {
        notices.push(Notice::info("detected default host for advertise").with("host", host));
    }
    Advertised { peer, client }
}

/// With a name and no initial cluster, a member founds a cluster of one. (With the default name it also keeps the
/// default cluster, whatever URLs it advertises; bootstrap then reports the mismatch.)
fn initial_cluster(s: &Settings, peer_urls: &[Url]) -> String {
    let (name, text) = (s.text("name"), s.initial_cluster());
    let default = find("initial-cluster").map(|flag| flag.default);
    if name != DEFAULT_NAME && default == Some(text.as_str()) {
        Config::initial_cluster_of(&name, peer_urls)
    } else {
        text
    }
}

fn data_dir(s: &Settings, notices: &mut Vec<Notice>) -> String {
    let given = s.text("data-dir");
    if !given.is_empty() {
        return given;
    }
    let derived = format!("{}.etcd", s.text("name"));
    notices.push(Notice::warn("'data-dir' was empty; using default").with("data-dir", &derived));
    derived
}

fn quota(s: &Settings, notices: &mut Vec<Notice>) -> Option<u64> {
    match u64::try_from(s.int("quota-backend-bytes")) {
        Err(_) => {
            notices.push(Notice::info("disabled backend quota"));
            None
        }
        Ok(0) => Some(DEFAULT_QUOTA_BYTES),
        Ok(bytes) => {
            if bytes > MAX_RECOMMENDED_QUOTA_BYTES {
                let notice = Notice::warn("quota exceeds the maximum value");
                let notice = notice.with("quota-maximum-size-bytes", MAX_RECOMMENDED_QUOTA_BYTES.to_string());
                notices.push(notice.with("quota-size-bytes", bytes.to_string()));
            }
            Some(bytes)
        }
    }
}

fn request_bytes(s: &Settings, notices: &mut Vec<Notice>) -> u64 {
    let bytes = s.uint("max-request-bytes");
    if bytes > MAX_RECOMMENDED_REQUEST_BYTES {
        let notice = Notice::warn("exceeded recommended request limit").with("max-request-bytes", bytes.to_string());
        notices.push(notice.with("recommended-request-bytes", MAX_RECOMMENDED_REQUEST_BYTES.to_string()));
    }
    bytes
}

fn keepalive(s: &Settings) -> Result<Option<Keepalive>, String> {
    let interval = positive(span(s, "grpc-keepalive-interval")?);
    let timeout = positive(span(s, "grpc-keepalive-timeout")?);
    Ok(interval
        .zip(timeout)
        .map(|(interval, timeout)| Keepalive { interval, timeout }))
}

fn peer_timeout(s: &Settings, name: &str, notices: &mut Vec<Notice>) -> Result<Duration, String> {
    let nanos = s.nanos(name);
    let asked = u64::try_from(nanos).map_or(Duration::ZERO, Duration::from_nanos);
    // Members beat their streams so often that none is silent for longer, but not more often.
    if asked < PEER_READ_PATIENCE {
        notices.push(Notice::info(format!("{name} increased to minimum value: 5s")));
    }
    Ok(asked.max(PEER_READ_PATIENCE))
}

fn allow_list(names: impl IntoIterator<Item = String>) -> AllowList {
    let names = names.into_iter().collect::<std::collections::BTreeSet<_>>();
    if names.is_empty() || names.contains("*") {
        AllowList::Any
    } else {
        AllowList::Only(names)
    }
}

fn tls(s: &Settings) -> Result<Tls, String> {
    let suite = |name: &String| {
        let unknown = || format!("unexpected TLS cipher suite {}", quote(name));
        CipherSuite::find(name).ok_or_else(unknown)
    };
    let clients = TlsSide {
        cert_file: s.text("cert-file"),
        key_file: s.text("key-file"),
        client_cert_file: s.text("client-cert-file"),
        client_key_file: s.text("client-key-file"),
        trusted_ca_file: s.text("trusted-ca-file"),
        crl_file: s.text("client-crl-file"),
        client_cert_auth: s.switch("client-cert-auth"),
        auto: s.switch("auto-tls"),
        allowed_cns: Vec::new(),
        allowed_hostnames: s.list("client-cert-allowed-hostname"),
        skip_client_san_check: true,
    };
    let peers = TlsSide {
        cert_file: s.text("peer-cert-file"),
        key_file: s.text("peer-key-file"),
        client_cert_file: s.text("peer-client-cert-file"),
        client_key_file: s.text("peer-client-key-file"),
        trusted_ca_file: s.text("peer-trusted-ca-file"),
        crl_file: s.text("peer-crl-file"),
        client_cert_auth: s.switch("peer-client-cert-auth"),
        auto: s.switch("peer-auto-tls"),
        allowed_cns: s.list("peer-cert-allowed-cn"),
        allowed_hostnames: s.list("peer-cert-allowed-hostname"),
        skip_client_san_check: s.switch("peer-skip-client-san-verification"),
    };
    Ok(Tls {
        clients,
        peers,
        cipher_suites: s.list("cipher-suites").iter().map(suite).collect::<Result<_, _>>()?,
        oldest: TlsVersion::of(&s.text("tls-min-version")).unwrap_or(TlsVersion::Tls12),
        newest: TlsVersion::of(&s.text("tls-max-version")).unwrap_or(TlsVersion::Tls13),
        self_signed_years: match s.uint("self-signed-cert-validity") {
            0 if s.from_file => 1,
            years => years,
        },
    })
}

/// etcd's warnings about URLs without TLS beside settings of TLS.
fn remark_plain_urls(config: &Config, notices: &mut Vec<Notice>) {
    let peers = &config.tls.peers;
    for url in config
        .listen_peer_urls
        .iter()
        .filter(|url| url.scheme() == Scheme::Http)
    {
        let mut warn = |text: &str| notices.push(Notice::warn(text).with("peer-url", url.to_string()));
        if !peers.is_empty() {
            warn("scheme is HTTP while key and cert files are present; ignoring key and cert files");
        }
        if peers.client_cert_auth {
            warn("scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL");
        }
    }
    let clients = &config.tls.clients;
    for url in config.client_urls().filter(|url| !url.is_tls()) {
        let mut warn = |text: &str| notices.push(Notice::warn(text).with("client-url", url.to_string()));
        if !clients.is_empty() {
            warn("scheme is http or unix while key and cert files are present; ignoring key and cert files");
        }
        if clients.client_cert_auth {
            warn("scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL");
        }
    }
}

fn log(s: &Settings) -> Log {
    // etcd 3.4 had a separate switch for the level `debug`.
    let debug = s.switch("debug") && !s.is_set("log-level");
    let level = if debug {
        LogLevel::Debug
    } else {
        log_level(&s.text("log-level")).unwrap_or(LogLevel::Info)
    };
    let format = if s.text("log-format") == "console" {
        LogFormat::Console
    } else {
        LogFormat::Json
    };
    let mut outputs = s.list("log-outputs").into_iter().map(log_output).collect::<Vec<_>>();
    if outputs.is_empty() {
        outputs.push(LogOutput::Default);
    }
    let rotates = s.switch("enable-log-rotation");
    let rotation = rotates.then(|| Rotation::parse(&s.text("log-rotation-config-json")));
    Log {
        level,
        format,
        outputs,
        rotation: rotation.and_then(Result::ok),
    }
}

fn log_output(name: String) -> LogOutput {
    match name.as_str() {
        "" | "default" => LogOutput::Default,
        "stderr" => LogOutput::Stderr,
        "stdout" => LogOutput::Stdout,
        "systemd/journal" => LogOutput::Journal,
        _ => LogOutput::File(name),
    }
}

/// Notices about a valid configuration.
fn remark(s: &Settings, config: &Config, notices: &mut Vec<Notice>) {
    for (flag, value) in s.given() {
        match flag.disposition {
            Disposition::AliasOf(new) => {
                notices.push(Notice::warn(format!(
                    "--{} is another spelling of --{new}; use --{new}",
                    flag.name
                )));
            }
            Disposition::GateOf(gate) => {
                let new = format!("--feature-gates={}={}", gate.name(), value.to_text());
                notices.push(Notice::warn(format!("--{} is an older spelling; use {new}", flag.name)));
            }
            Disposition::Used | Disposition::Accepted(_) | Disposition::Silent | Disposition::Refused(_) => {}
        }
        if let Some(why) = check::idle_reason(s, flag.name, value) {
            notices.push(Notice::warn(format!("--{} {why}", flag.name)).with("value", value.to_text()));
        }
    }
    let gates = &config.feature_gates;
    for gate in Gate::ALL {
        if let Some(why) = gate.idle()
            && gates.enabled(gate) != FeatureGates::default().enabled(gate)
        {
            let notice = Notice::warn(format!("--feature-gates={} {why}", gate.name()));
            notices.push(notice.with("value", gates.enabled(gate)));
        }
    }
    if gates.enabled(Gate::LeaseCheckpoint) && !gates.enabled(Gate::LeaseCheckpointPersist) {
        notices.push(Notice::warn(
            "Detected that checkpointing is enabled without persistence. Consider enabling feature gate LeaseCheckpointPersist",
        ));
    }
    if config.name == DEFAULT_NAME {
        let notice = Notice::warn(
            "it isn't recommended to use default name, please set a value for --name. \
             Note that etcd might run into issue when multiple members have the same default name",
        );
        notices.push(notice.with("name", &config.name));
    }
    if config.log.rotation.as_ref().is_some_and(|rotation| rotation.local_time) {
        notices.push(Notice::warn(
            "localtime of --log-rotation-config-json has no effect: names have the time in UTC",
        ));
    }
    remark_plain_urls(config, notices);
    if config.unsafe_no_fsync {
        notices.push(Notice::warn("fsync is switched off: acknowledged writes can be lost"));
    }
}

/// The name under which a flag was given, for messages.
fn spelled<'a>(s: &Settings, name: &'a str) -> &'a str {
    if s.is_set(name) {
        name
    } else {
        s.given_alias(name).unwrap_or(name)
    }
}

/// etcd reads 0 as the built-in default for some numbers.
fn or_default(s: &Settings, name: &str) -> u64 {
    match (s.uint(name), find(name).map(|flag| flag.default_value())) {
        (0, Some(Value::Uint(default))) => default,
        (given, _) => given,
    }
}

fn count(s: &Settings, name: &str) -> Result<u64, String> {
    let given = s.int(name);
    u64::try_from(given).map_err(|_| format!("--{} must not be negative (set to {given})", spelled(s, name)))
}

fn count_or_default(s: &Settings, name: &str) -> Result<u64, String> {
    Ok(match count(s, name)? {
        0 => find(name)
            .and_then(|flag| parse_int(flag.default).ok())
            .and_then(|n| u64::try_from(n).ok())
            .unwrap_or(0),
        given => given,
    })
}

fn span(s: &Settings, name: &str) -> Result<Duration, String> {
    let nanos = s.nanos(name);
    let negative = || {
        format!(
            "--{} must not be negative (set to {})",
            spelled(s, name),
            format_duration(nanos)
        )
    };
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| negative())
}

fn span_or_default(s: &Settings, name: &str) -> Result<Duration, String> {
    let given = span(s, name)?;
    let default = || {
        find(name)
            .and_then(|flag| parse_duration(flag.default).ok())
            .and_then(|n| u64::try_from(n).ok())
    };
    Ok(if given.is_zero() {
        default().map_or(given, Duration::from_nanos)
    } else {
        given
    })
}

fn positive(span: Duration) -> Option<Duration> {
    Some(span).filter(|span| !span.is_zero())
}
