//! Checks the settings by etcd's rules and in etcd's words, and refuses those that this version does not implement.
//!
//! The checks are in etcd's order, so that both servers report the same mistake if there are several.

use super::auth_token::AuthToken;
use super::flag::{Disposition, Value};
use super::gates::Gate;
use super::gotext::{format_duration, quote};
use super::rotation::Rotation;
use super::settings::Settings;
use super::table::{MAX_CLUSTER_VERSIONS, find};
use super::url::{Url, join};

/// An election timeout longer than this is refused.
const MAX_ELECTION_MS: u64 = 50_000;

/// An election timeout must contain at least this many heartbeats.
const HEARTBEATS_PER_ELECTION: u64 = 5;

const MAX_SAMPLING_RATE: i64 = 1_000_000;

/// etcd's message when the listen URLs are set and the advertised ones are not; the host adds a line for it.
pub(super) const UNSET_ADVERTISE: &str =
    "--advertise-client-urls is required when --listen-client-urls is set explicitly";

const ROTATION_OUTPUTS: &str = "--log-outputs requires a single file path when --log-rotate-config-json is defined";

const CONFLICTING_BOOTSTRAP: &str = "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
     \"discovery\", \"discovery-endpoints\" or \"discovery-srv\"";

const BOTH_DISCOVERIES: &str = "both v2 discovery settings (discovery, discovery-proxy) and v3 discovery settings \
     (discovery-token, discovery-endpoints, discovery-cert, discovery-key, discovery-cacert, discovery-user, \
     discovery-password) are set";

/// The first mistake, in etcd's words.
pub(super) fn check(settings: &Settings) -> Result<(), String> {
    problems(settings).into_iter().next().map_or(Ok(()), Err)
}

/// All mistakes, in the order in which etcd looks for them.
pub(super) fn problems(settings: &Settings) -> Vec<String> {
    let checks = [
        check_spellings,
        check_logging,
        check_urls,
        check_bootstrap,
        check_discovery,
        check_timing,
        check_advertised,
        check_compaction,
        check_tracing,
        check_features,
        check_tls,
        check_auth,
        check_this_version,
    ];
    let mut problems = Vec::new();
    for check in checks {
        check(settings, &mut problems);
    }
    problems
}

fn check_spellings(settings: &Settings, problems: &mut Vec<String>) {
    if !settings.from_file && settings.text("discovery-fallback") == "proxy" {
        problems.push("v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"".to_owned());
    }
    let named = settings.named_gates();
    for (flag, value) in settings.given() {
        match flag.disposition {
            Disposition::GateOf(gate) if named.names(gate) => {
                let new = format!("--feature-gates={}={}", gate.name(), named.enabled(gate));
                problems.push(format!(
                    "cannot specify both flags: --{}={} and {new} at the same time, please just use {new}",
                    flag.name,
                    value.to_text()
                ));
            }
            Disposition::AliasOf("warning-unary-request-duration")
                if settings.is_set("warning-unary-request-duration") =>
            {
                problems.push(
                    "both --experimental-warning-unary-request-duration and --warning-unary-request-duration \
                     flags are set. Use only --warning-unary-request-duration"
                        .to_owned(),
                );
            }
            Disposition::AliasOf(new) if settings.is_set(new) => {
                let old = flag.name;
                problems.push(format!(
                    "cannot set --{old} and --{new} at the same time, please use --{new} only"
                ));
            }
            Disposition::AliasOf(_)
            | Disposition::GateOf(_)
            | Disposition::Used
            | Disposition::Accepted(_)
            | Disposition::Silent
            | Disposition::Refused(_) => {}
        }
    }
}

fn check_logging(settings: &Settings, problems: &mut Vec<String>) {
    match settings.text("logger").as_str() {
        "zap" => {}
        "capnslog" => problems.push("--logger=capnslog is removed in v3.5".to_owned()),
        other => problems.push(format!("unknown logger option {}", quote(other))),
    }
    let outputs = settings.list("log-outputs");
    if outputs.len() > 1 && outputs.iter().any(|output| output == "default") {
        problems.push("multi logoutput for \"default\" is not supported yet".to_owned());
    }
    if settings.switch("enable-log-rotation") {
        let files = outputs
            .iter()
            .filter(|output| !matches!(output.as_str(), "default" | "stderr" | "stdout"))
            .count();
        if files != 1 {
            problems.push(ROTATION_OUTPUTS.to_owned());
        }
        problems.extend(Rotation::parse(&settings.text("log-rotation-config-json")).err());
    }
    let level = settings.text("log-level");
    if super::build::log_level(&level).is_none() {
        problems.push(format!("unrecognized level: {}", quote(&level)));
    }
    let journal = outputs.iter().any(|output| output == "systemd/journal");
    if journal && outputs.len() > 1 {
        problems.push(format!(
            "running with systemd/journal but other '--log-outputs' values ({outputs:?}) are configured with 'default'; \
             override 'default' value with something else"
        ));
    }
    match settings.text("log-format").as_str() {
        "" | "json" | "console" => {}
        other => problems.push(format!("unknown log format: {other}, supported values json, console")),
    }
}

fn check_urls(settings: &Settings, problems: &mut Vec<String>) {
    for name in [
        "listen-peer-urls",
        "listen-client-urls",
        "listen-client-http-urls",
        "listen-metrics-urls",
    ] {
        problems.extend(settings.urls(name).iter().filter_map(|url| url.check_bind().err()));
    }
    for name in ["initial-advertise-peer-urls", "advertise-client-urls"] {
        let urls = settings.urls(name);
        let checked = urls.iter().try_for_each(Url::check_advertised);
        let checked = checked.map_err(|e| format!("--{name} {} must be \"host:port\" ({e})", quote(&join(&urls))));
        problems.extend(checked.err());
    }
}

fn check_bootstrap(settings: &Settings, problems: &mut Vec<String>) {
    let state = settings.text("initial-cluster-state");
    if !matches!(state.as_str(), "" | "new" | "existing") {
        problems.push(format!("unexpected clusterState {}", quote(&state)));
    }
    let ways = [
        !settings.text("discovery").is_empty(),
        !settings.initial_cluster().is_empty(),
        !settings.text("discovery-srv").is_empty(),
        !settings.list("discovery-endpoints").is_empty(),
    ];
    if ways.into_iter().filter(|way| *way).count() > 1 {
        problems.push(CONFLICTING_BOOTSTRAP.to_owned());
    }
}

fn check_discovery(settings: &Settings, problems: &mut Vec<String>) {
    let endpoints = settings.list("discovery-endpoints");
    let token = !settings.text("discovery-token").is_empty();
    let credentials = [
        "discovery-cert",
        "discovery-key",
        "discovery-cacert",
        "discovery-user",
        "discovery-password",
    ];
    let v3 = token || !endpoints.is_empty() || credentials.iter().any(|name| !settings.text(name).is_empty());
    if v3 && !settings.text("discovery-proxy").is_empty() {
        problems.push(BOTH_DISCOVERIES.to_owned());
    }
    if token == endpoints.is_empty() {
        problems.push("both --discovery-token and --discovery-endpoints must be set".to_owned());
    }
    if endpoints.iter().any(|endpoint| endpoint.trim().is_empty()) {
        problems.push("--discovery-endpoints must not contain empty endpoints".to_owned());
    }
}

fn check_timing(settings: &Settings, problems: &mut Vec<String>) {
    let (heartbeat, election) = (settings.uint("heartbeat-interval"), settings.uint("election-timeout"));
    for (name, ms) in [("heartbeat-interval", heartbeat), ("election-timeout", election)] {
        if ms == 0 {
            problems.push(format!("--{name} must be >0 (set to {ms}ms)"));
        }
    }
    if heartbeat.saturating_mul(HEARTBEATS_PER_ELECTION) > election {
        problems.push(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
        ));
    }
    if election > MAX_ELECTION_MS {
        problems.push(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than {MAX_ELECTION_MS}ms"
        ));
    }
}

/// The advertised URLs must be set whenever the listen URLs are. etcd does not require this in a configuration file.
fn check_advertised(settings: &Settings, problems: &mut Vec<String>) {
    let moved = settings.is_set("listen-client-urls") && !settings.is_set("advertise-client-urls");
    if moved && !settings.from_file {
        problems.push(UNSET_ADVERTISE.to_owned());
    }
}

fn check_compaction(settings: &Settings, problems: &mut Vec<String>) {
    match settings.text("auto-compaction-mode").as_str() {
        "" | "periodic" | "revision" => {}
        other => problems.push(format!("unknown auto-compaction-mode {}", quote(other))),
    }
    problems.extend(super::build::auto_compaction(settings).err());
}

fn check_tracing(settings: &Settings, problems: &mut Vec<String>) {
    if !settings.switch("enable-distributed-tracing") {
        return;
    }
    let why = match settings.int("distributed-tracing-sampling-rate") {
        ..0 => "tracing sampling rate must be positive".to_owned(),
        rate if rate > MAX_SAMPLING_RATE => format!("tracing sampling rate must be less than {MAX_SAMPLING_RATE}"),
        _ => return,
    };
    problems.push(format!("distributed tracing configurition is not valid: ({why})"));
}

fn check_features(settings: &Settings, problems: &mut Vec<String>) {
    let gates = settings.gates();
    if gates.enabled(Gate::LeaseCheckpointPersist) && !gates.enabled(Gate::LeaseCheckpoint) {
        problems.push(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint".to_owned(),
        );
    }
    let version = settings.text("max-cluster-version");
    if !MAX_CLUSTER_VERSIONS.contains(&version.as_str()) {
        problems.push(format!(
            "--max-cluster-version must be one of {}, not {}",
            MAX_CLUSTER_VERSIONS.join(", "),
            quote(&version)
        ));
    }
    let nanos = settings.nanos("compact-hash-check-time");
    if nanos <= 0 {
        let name = settings
            .given_alias("compact-hash-check-time")
            .unwrap_or("compact-hash-check-time");
        problems.push(format!("--{name} must be >0 (set to {})", format_duration(nanos)));
    }
}

fn check_tls(settings: &Settings, problems: &mut Vec<String>) {
    let mut number = |name: &str| match settings.text(name).as_str() {
        "" => 0,
        "TLS1.2" => 2,
        "TLS1.3" => 3,
        other => {
            problems.push(format!(
                "unexpected TLS version {} (must be one of: TLS1.2, TLS1.3)",
                quote(other)
            ));
            0
        }
    };
    let (oldest, newest) = (number("tls-min-version"), number("tls-max-version"));
    if newest != 0 && oldest > newest {
        let (oldest, newest) = (settings.text("tls-min-version"), settings.text("tls-max-version"));
        problems.push(format!("min version ({oldest}) is greater than max version ({newest})"));
    }
    if oldest == 3 && !settings.list("cipher-suites").is_empty() {
        problems.push("cipher suites cannot be configured when only TLS1.3 is enabled".to_owned());
    }
}

fn check_auth(settings: &Settings, problems: &mut Vec<String>) {
    problems.extend(AuthToken::parse(&settings.text("auth-token")).err());
}

/// Refuses settings that etcd implements and this version does not, if ignoring them would be unsafe.
fn check_this_version(settings: &Settings, problems: &mut Vec<String>) {
    for (flag, value) in settings.given() {
        if let Disposition::Refused(why) = flag.disposition
            && *value != flag.default_value()
        {
            problems.push(format!("--{} is not supported by this version: {why}", flag.name));
        }
    }
}

/// Why a flag has no effect, if it is accepted without one and its value is not the default.
pub(super) fn idle_reason(settings: &Settings, name: &str, value: &Value) -> Option<&'static str> {
    let flag = find(name)?;
    let meaning = match flag.disposition {
        Disposition::AliasOf(new) => find(new)?.disposition,
        other => other,
    };
    match meaning {
        Disposition::Accepted(why) if settings.is_set(name) && *value != flag.default_value() => Some(why),
        Disposition::Accepted(_)
        | Disposition::Used
        | Disposition::Silent
        | Disposition::Refused(_)
        | Disposition::AliasOf(_)
        | Disposition::GateOf(_) => None,
    }
}
