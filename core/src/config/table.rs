//! The table of all flags, in every spelling of etcd 3.4 to 3.8.
//!
//! A row is: name, kind, default, effect, help. Everything else (parsing, environment names, the config file's keys,
//! `--help`, refusals) follows from the rows. Where etcd's own default is 0 and means a built-in value, the row has
//! that value.

use super::flag::Disposition::{Accepted, AliasOf, GateOf, Refused, Silent, Used};
use super::flag::Kind::{
    Bool, Duration, Gates, Int, Legacy, List, OneOf, Set, SomeOf, Text, Uint, Uint32, Urls, UrlsOrAny,
};
use super::flag::{Flag, Group};
use super::gates::Gate;

const NO_PROFILES: &str = "serves no profiles: there is no Go, and the paths under /debug/pprof/ say so";
const NO_DISCOVERY: &str = "discovery comes in a later version; name the members with --initial-cluster";
const NO_V2: &str = "has no effect: the v2 API is gone";
const ONLY_WITH_DISCOVERY: &str = "has no effect without discovery";
const ONLY_WITH_PROXY: &str = "has no effect: the v2 proxy is gone";
const NO_TRACING: &str = "has no effect: distributed tracing comes in a later version";
const NO_BBOLT: &str = "has no effect: the store is not bbolt";
const NO_BATCHES: &str = "has no effect: changes are written to the store without delay, and synced every second";
const ALWAYS_REUSE_ADDRESS: &str = "has no effect: listeners always set SO_REUSEADDR";
const NO_DOWNGRADE: &str =
    "has no effect: a downgrade ends by request only, because a leader of this version never runs the target version";
const NO_DEFRAG_AT_START: &str = "has no effect yet: the store is not defragmented at the start";

/// The values of `--max-cluster-version`.
pub(super) const MAX_CLUSTER_VERSIONS: &[&str] = &["auto", "3.5", "3.6"];

/// The default of `--log-rotation-config-json`.
pub(super) const LOG_ROTATION: &str =
    r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#;

macro_rules! flags {
    ($($group:ident { $($name:literal $kind:expr, $default:expr, $disposition:expr, $help:literal;)* })*) => {
        &[$($(Flag {
            name: $name, kind: $kind, default: $default, disposition: $disposition, group: Group::$group, help: $help,
        },)*)*]
    };
}

/// Every flag.
pub static FLAGS: &[Flag] = flags! {
    Member {
        "name" Text, "default", Used, "A name for this member, for people and for --initial-cluster.";
        "data-dir" Text, "", Used, "The directory that holds everything this member must not lose; ${name}.etcd when empty.";
        "wal-dir" Text, "", Used, "A directory of its own for the write-ahead log; inside the data directory when empty.";
        "snapshot-count" Uint, "10000", Used, "A snapshot is taken after this many applied entries.";
        "heartbeat-interval" Uint, "100", Used, "Milliseconds between the leader's heartbeats.";
        "election-timeout" Uint, "1000", Used, "Milliseconds without a leader after which a member stands for election.";
        "initial-election-tick-advance" Bool, "true", Used, "Wait less than a whole election timeout right after the start.";
        "listen-peer-urls" Urls, "http://localhost:2380", Used, "Where to listen for the other members.";
        "listen-client-urls" Urls, "http://localhost:2379", Used, "Where to listen for clients: gRPC, and HTTP unless --listen-client-http-urls is given.";
        "listen-client-http-urls" Urls, "", Used, "Where to listen for HTTP clients; --listen-client-urls then serves only gRPC.";
        "max-snapshots" Uint, "5", Used, "How many snapshot files to keep (0: all).";
        "max-wals" Uint, "5", Used, "How many write-ahead log files to keep (0: all).";
        "memory-mlock" Bool, "false", Accepted("has no effect: memory is not locked"), "Keep the store's pages in memory.";
        "quota-backend-bytes" Int, "0", Used, "How many bytes the store may take before writes are refused (0: 2 GiB, negative: no limit).";
        "backend-bbolt-freelist-type" Text, "map", Accepted(NO_BBOLT), "How bbolt keeps its free list: array or map.";
        "backend-batch-interval" Duration, "100ms", Accepted(NO_BATCHES), "How long changes may wait before they are written to the store together.";
        "backend-batch-limit" Int, "10000", Accepted(NO_BATCHES), "How many changes may wait before they are written to the store together.";
        "max-txn-ops" Uint, "128", Used, "How many operations one transaction may have.";
        "max-request-bytes" Uint, "1572864", Used, "How many bytes one request may have.";
        "max-concurrent-streams" Uint32, "4294967295", Used, "How many streams one client connection may have open.";
        "grpc-keepalive-min-time" Duration, "5s", Used, "A client that pings more often than this is disconnected (0: more often than every 5 minutes).";
        "grpc-keepalive-interval" Duration, "2h", Used, "How often to ping a silent client (0: never).";
        "grpc-keepalive-timeout" Duration, "20s", Used, "How long to wait for the answer to a ping before closing (0: no pings).";
        "socket-reuse-port" Bool, "false", Used, "Listen with SO_REUSEPORT: several processes may share a port.";
        "socket-reuse-address" Bool, "false", Accepted(ALWAYS_REUSE_ADDRESS), "Listen with SO_REUSEADDR: an address in TIME_WAIT may be taken.";
        "enable-grpc-gateway" Bool, "true", Used, "Serve the API as JSON over HTTP too.";
        "raft-read-timeout" Duration, "5s", Used, "How long a peer connection may stay silent before it is given up (5s at least).";
        "raft-write-timeout" Duration, "5s", Used, "How long a write to a peer may take before it is given up (5s at least).";
        "feature-gates" Gates, "", Used, "Features to switch, as Name=true,Other=false.";
        "config-file" Text, "", Used, "A YAML or JSON file with the configuration; every other flag and variable is then ignored.";
        "check-config" Bool, "false", Used, "Print the effective configuration and everything that is wrong with it, and end.";
        "version" Bool, "false", Used, "Print the version and end.";
    }
    Clustering {
        "initial-advertise-peer-urls" Urls, "http://localhost:2380", Used, "The URLs by which the other members reach this one.";
        "initial-cluster" Text, "default=http://localhost:2380", Used, "The first members, as name=peer-url pairs; read only when there is no data yet.";
        "initial-cluster-state" OneOf(&["new", "existing"]), "new", Used, "'new' founds a cluster, 'existing' joins one; read only when there is no data yet.";
        "initial-cluster-token" Text, "etcd-cluster", Used, "A text that is part of the hashes of member and cluster ids, so that clusters have different ids.";
        "advertise-client-urls" Urls, "http://localhost:2379", Used, "The URLs by which clients reach this member.";
        "strict-reconfig-check" Bool, "true", Used, "Refuse membership changes that would lose the quorum.";
        "max-cluster-version" OneOf(MAX_CLUSTER_VERSIONS), "auto", Used, "The highest version to which the cluster is raised; 'auto' keeps the version it has, so that older members can return. Not a flag of etcd.";
        "pre-vote" Bool, "true", Used, "Ask whether an election could be won before disturbing the leader.";
        "auto-compaction-retention" Text, "0", Used, "How much history to keep: hours or a duration, or a number of revisions (0: all).";
        "auto-compaction-mode" Text, "periodic", Used, "What --auto-compaction-retention counts: 'periodic' or 'revision'.";
        "max-learners" Int, "1", Used, "How many learners the cluster may have.";
        "discovery-token" Text, "", Refused(NO_DISCOVERY), "v3 discovery: the cluster's token.";
        "discovery-endpoints" Set, "", Refused(NO_DISCOVERY), "v3 discovery: where the discovery service is.";
        "discovery-dial-timeout" Duration, "2s", Accepted(ONLY_WITH_DISCOVERY), "v3 discovery: how long connecting may take.";
        "discovery-request-timeout" Duration, "5s", Accepted(ONLY_WITH_DISCOVERY), "v3 discovery: how long a request may take.";
        "discovery-keepalive-time" Duration, "2s", Accepted(ONLY_WITH_DISCOVERY), "v3 discovery: how often to ping.";
        "discovery-keepalive-timeout" Duration, "6s", Accepted(ONLY_WITH_DISCOVERY), "v3 discovery: how long to wait for the answer to a ping.";
        "discovery-insecure-transport" Bool, "true", Accepted(ONLY_WITH_DISCOVERY), "v3 discovery: speak without TLS.";
        "discovery-insecure-skip-tls-verify" Bool, "false", Accepted(ONLY_WITH_DISCOVERY), "v3 discovery: do not check the server's certificate.";
        "discovery-cert" Text, "", Refused(NO_DISCOVERY), "v3 discovery: the client's certificate.";
        "discovery-key" Text, "", Refused(NO_DISCOVERY), "v3 discovery: the client's key.";
        "discovery-cacert" Text, "", Refused(NO_DISCOVERY), "v3 discovery: the CA that must have signed the server's certificate.";
        "discovery-user" Text, "", Refused(NO_DISCOVERY), "v3 discovery: user[:password].";
        "discovery-password" Text, "", Refused(NO_DISCOVERY), "v3 discovery: the password.";
        "discovery-srv" Text, "", Refused(NO_DISCOVERY), "The DNS domain whose SRV records name the members.";
        "discovery-srv-name" Text, "", Refused(NO_DISCOVERY), "A suffix of the name of the SRV records.";
        "discovery-fallback" OneOf(&["exit", "proxy"]), "exit", Silent, "What to do when discovery fails; only 'exit' is left.";
    }
    Security {
        "cert-file" Text, "", Used, "The certificate shown to clients.";
        "key-file" Text, "", Used, "The key of the certificate shown to clients.";
        "client-cert-auth" Bool, "false", Used, "Ask clients for certificates.";
        "client-cert-file" Text, "", Used, "Another certificate for this server's calls to itself.";
        "client-key-file" Text, "", Used, "The key of --client-cert-file.";
        "client-crl-file" Text, "", Used, "The revoked certificates of clients.";
        "client-cert-allowed-hostname" List, "", Used, "Host names of which a client's certificate must have one.";
        "trusted-ca-file" Text, "", Used, "The CA that must have signed clients' certificates.";
        "auto-tls" Bool, "false", Used, "Serve clients over TLS with a certificate made at the start.";
        "peer-cert-file" Text, "", Used, "The certificate shown to peers.";
        "peer-key-file" Text, "", Used, "The key of the certificate shown to peers.";
        "peer-client-cert-auth" Bool, "false", Used, "Ask peers for certificates.";
        "peer-client-cert-file" Text, "", Used, "Another certificate for calls to peers.";
        "peer-client-key-file" Text, "", Used, "The key of --peer-client-cert-file.";
        "peer-trusted-ca-file" Text, "", Used, "The CA that must have signed peers' certificates.";
        "peer-cert-allowed-cn" List, "", Used, "Common names of which a peer's certificate must have one.";
        "peer-cert-allowed-hostname" List, "", Used, "Host names of which a peer's certificate must have one.";
        "peer-auto-tls" Bool, "false", Used, "Speak TLS with peers with a certificate made at the start.";
        "peer-crl-file" Text, "", Used, "The revoked certificates of peers.";
        "peer-skip-client-san-verification" Bool, "false", Used, "Do not compare a peer's address with its certificate.";
        "self-signed-cert-validity" Uint, "1", Used, "Years for which certificates made at the start are valid.";
        "cipher-suites" List, "", Used, "The cipher suites to offer.";
        "tls-min-version" Text, "TLS1.2", Used, "The oldest TLS to speak: TLS1.2 or TLS1.3.";
        "tls-max-version" Text, "", Used, "The newest TLS to speak: TLS1.2, TLS1.3 or empty.";
        "cors" UrlsOrAny, "*", Used, "Web origins whose pages may call this server (empty or *: all).";
        "host-whitelist" Set, "*", Used, "Host names by which HTTP clients may call this server (empty or *: all).";
    }
    Auth {
        "auth-token" Text, "simple", Used, "How tokens of users are made: 'simple', or 'jwt,pub-key=..,priv-key=..,sign-method=..,ttl=..'.";
        "bcrypt-cost" Uint, "10", Used, "The cost of hashing a password, from 4 to 31.";
        "auth-token-ttl" Uint, "300", Used, "Seconds for which an unused simple token is good.";
    }
    Monitoring {
        "enable-pprof" Bool, "false", Accepted(NO_PROFILES), "Serve profiles under /debug/pprof/.";
        "metrics" Text, "basic", Used, "'extensive' adds histograms of the server's gRPC calls.";
        "listen-metrics-urls" Urls, "", Used, "Where else to listen for /metrics and the health pages.";
    }
    Logging {
        "logger" Text, "zap", Used, "The form of the log; only 'zap' is left.";
        "log-outputs" Set, "default", Used, "Where to log: default, stderr, stdout, systemd/journal or files.";
        "log-level" Text, "info", Used, "What to log: debug, info, warn, error, panic or fatal.";
        "log-format" Text, "json", Used, "How to log: json or console.";
        "enable-log-rotation" Bool, "false", Used, "Start a new log file when the old one is full.";
        "log-rotation-config-json" Text, LOG_ROTATION, Used, "When a log file is full and how many to keep.";
        "warning-unary-request-duration" Duration, "300ms", Used, "A request that takes longer is logged.";
    }
    Tracing {
        "enable-distributed-tracing" Bool, "false", Accepted(NO_TRACING), "Send traces to an OpenTelemetry collector.";
        "distributed-tracing-address" Text, "localhost:4317", Accepted(NO_TRACING), "The collector's address.";
        "distributed-tracing-service-name" Text, "etcd", Accepted(NO_TRACING), "The service's name in traces.";
        "distributed-tracing-instance-id" Text, "", Accepted(NO_TRACING), "This member's name in traces.";
        "distributed-tracing-sampling-rate" Int, "0", Accepted(NO_TRACING), "How many of a million spans to send.";
    }
    Tuning {
        "corrupt-check-time" Duration, "0s", Used, "How often the members' data is compared (0: never).";
        "compact-hash-check-time" Duration, "1m", Used, "How often hashes made at compactions are compared.";
        "compaction-batch-limit" Int, "1000", Used, "How many revisions a compaction removes at a time.";
        "compaction-sleep-interval" Duration, "10ms", Used, "How long a compaction pauses between batches.";
        "watch-progress-notify-interval" Duration, "10m", Used, "How often a watcher without events gets the current revision.";
        "warning-apply-duration" Duration, "100ms", Used, "An entry that takes longer to apply is logged.";
        "bootstrap-defrag-threshold-megabytes" Uint, "0", Accepted(NO_DEFRAG_AT_START), "Defragment at the start if that frees at least this many megabytes (0: never).";
        "snapshot-catchup-entries" Uint, "5000", Used, "How many entries to keep in memory for followers that are behind.";
        "downgrade-check-time" Duration, "5s", Accepted(NO_DOWNGRADE), "How often the state of a downgrade is checked.";
    }
    Unsafe {
        "unsafe-no-fsync" Bool, "false", Used, "Never wait for the disk: loses acknowledged data in a power failure.";
        "force-new-cluster" Bool, "false", Used, "Start a cluster of one from this member's data; all other members are removed from it.";
    }
    Compatibility {
        "debug" Bool, "false", Used, "3.4's spelling of --log-level=debug.";
        "discovery" Text, "", Refused(NO_DISCOVERY), "v2 discovery: the URL of the token.";
        "discovery-proxy" Text, "", Refused(NO_DISCOVERY), "v2 discovery: the HTTP proxy to use.";
        "enable-v2" Bool, "false", Accepted(NO_V2), "Serve the v2 API.";
        "experimental-backend-bbolt-freelist-type" Text, "map", AliasOf("backend-bbolt-freelist-type"), "";
        "experimental-bootstrap-defrag-threshold-megabytes" Uint, "0", AliasOf("bootstrap-defrag-threshold-megabytes"), "";
        "experimental-compact-hash-check-enabled" Bool, "false", GateOf(Gate::CompactHashCheck), "";
        "experimental-compact-hash-check-time" Duration, "1m", AliasOf("compact-hash-check-time"), "";
        "experimental-compaction-batch-limit" Int, "1000", AliasOf("compaction-batch-limit"), "";
        "experimental-compaction-sleep-interval" Duration, "10ms", AliasOf("compaction-sleep-interval"), "";
        "experimental-corrupt-check-time" Duration, "0s", AliasOf("corrupt-check-time"), "";
        "experimental-distributed-tracing-address" Text, "localhost:4317", AliasOf("distributed-tracing-address"), "";
        "experimental-distributed-tracing-instance-id" Text, "", AliasOf("distributed-tracing-instance-id"), "";
        "experimental-distributed-tracing-sampling-rate" Int, "0", AliasOf("distributed-tracing-sampling-rate"), "";
        "experimental-distributed-tracing-service-name" Text, "etcd", AliasOf("distributed-tracing-service-name"), "";
        "experimental-downgrade-check-time" Duration, "5s", AliasOf("downgrade-check-time"), "";
        "experimental-enable-distributed-tracing" Bool, "false", AliasOf("enable-distributed-tracing"), "";
        "experimental-enable-lease-checkpoint" Bool, "false", GateOf(Gate::LeaseCheckpoint), "";
        "experimental-enable-lease-checkpoint-persist" Bool, "false", GateOf(Gate::LeaseCheckpointPersist), "";
        "experimental-enable-v2v3" Text, "", Accepted(NO_V2), "Serve the v2 API from v3 data under this prefix.";
        "experimental-initial-corrupt-check" Bool, "false", GateOf(Gate::InitialCorruptCheck), "";
        "experimental-memory-mlock" Bool, "false", AliasOf("memory-mlock"), "";
        "experimental-peer-skip-client-san-verification" Bool, "false", AliasOf("peer-skip-client-san-verification"), "";
        "experimental-snapshot-catchup-entries" Uint, "5000", AliasOf("snapshot-catchup-entries"), "";
        "experimental-stop-grpc-service-on-defrag" Bool, "false", GateOf(Gate::StopGRPCServiceOnDefrag), "";
        "experimental-txn-mode-write-with-shared-buffer" Bool, "true", GateOf(Gate::TxnModeWriteWithSharedBuffer), "";
        "experimental-warning-apply-duration" Duration, "100ms", AliasOf("warning-apply-duration"), "";
        "experimental-warning-unary-request-duration" Duration, "300ms", AliasOf("warning-unary-request-duration"), "";
        "experimental-watch-progress-notify-interval" Duration, "10m", AliasOf("watch-progress-notify-interval"), "";
        "log-output" Set, "default", AliasOf("log-outputs"), "";
        "log-package-levels" Text, "", Accepted("has no effect: use --log-level"), "3.4: a log level for each package.";
        "next-cluster-version-compatible" Bool, "false", Accepted("has no effect: 3.5 and later are understood"), "3.4: may join a 3.5 cluster.";
        "proxy" OneOf(&["off", "readonly", "on"]), "off", Refused("the v2 proxy is gone"), "Be a v2 proxy instead of a member.";
        "proxy-dial-timeout" Uint, "1000", Accepted(ONLY_WITH_PROXY), "v2 proxy: milliseconds to connect.";
        "proxy-failure-wait" Uint, "5000", Accepted(ONLY_WITH_PROXY), "v2 proxy: milliseconds before a failed endpoint is used again.";
        "proxy-read-timeout" Uint, "0", Accepted(ONLY_WITH_PROXY), "v2 proxy: milliseconds for a read.";
        "proxy-refresh-interval" Uint, "30000", Accepted(ONLY_WITH_PROXY), "v2 proxy: milliseconds between updates of the list of members.";
        "proxy-write-timeout" Uint, "5000", Accepted(ONLY_WITH_PROXY), "v2 proxy: milliseconds for a write.";
        "v2-deprecation" SomeOf(&["not-yet", "write-only", "write-only-skip-check", "write-only-drop-data", "gone"]), "", Silent, "The stage of removing the v2 API, which is gone.";
    }
    Hidden {
        "cluster-active-size" Legacy, "", Silent, "";
        "cluster-remove-delay" Legacy, "", Silent, "";
        "cluster-sync-interval" Legacy, "", Silent, "";
        "config" Legacy, "", Silent, "";
        "force" Legacy, "", Silent, "";
        "max-result-buffer" Legacy, "", Silent, "";
        "max-retry-attempts" Legacy, "", Silent, "";
        "peer-election-timeout" Legacy, "", Silent, "";
        "peer-heartbeat-interval" Legacy, "", Silent, "";
        "retry-interval" Legacy, "", Silent, "";
        "snapshot" Legacy, "", Silent, "";
        "test.coverprofile" Legacy, "", Silent, "";
        "test.outputdir" Legacy, "", Silent, "";
        "v" Legacy, "", Silent, "";
        "vv" Legacy, "", Silent, "";
    }
};

/// The row of a flag.
#[must_use]
pub fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}
