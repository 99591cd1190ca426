//! The typed configuration of a member. A field is named after its flag unless its doc says otherwise.

use std::collections::BTreeSet;
use std::time::Duration;

use super::auth_token::AuthToken;
use super::gates::FeatureGates;
use super::rotation::Rotation;
use super::tls::Tls;
use super::url::Url;
use crate::version::Version;

/// All settings of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The member's name.
    pub name: String,
    /// `--data-dir`, with etcd's default filled in.
    pub data_dir: String,
    /// `--wal-dir`, if it is not inside the data directory.
    pub wal_dir: Option<String>,
    /// Applied entries between snapshots.
    pub snapshot_count: u64,
    /// Entries kept in memory for followers that are behind.
    pub snapshot_catchup_entries: u64,
    /// Snapshot files to keep; 0 keeps all.
    pub max_snapshots: u64,
    /// Write-ahead log files to keep; 0 keeps all.
    pub max_wals: u64,
    /// `--heartbeat-interval`, in milliseconds.
    pub heartbeat_ms: u64,
    /// `--election-timeout`, in milliseconds; at least five heartbeats.
    pub election_ms: u64,
    /// Shorten the wait for the first election after a start.
    pub initial_election_tick_advance: bool,
    /// Run a pre-vote before an election.
    pub pre_vote: bool,
    /// Where to listen for peers.
    pub listen_peer_urls: Vec<Url>,
    /// Where to listen for clients.
    pub listen_client_urls: Vec<Url>,
    /// Where to listen for HTTP clients; if empty, `listen_client_urls` serves them too.
    pub listen_client_http_urls: Vec<Url>,
    /// Further URLs that serve metrics and health.
    pub listen_metrics_urls: Vec<Url>,
    /// `--initial-advertise-peer-urls`.
    pub advertise_peer_urls: Vec<Url>,
    /// The advertised client URLs.
    pub advertise_client_urls: Vec<Url>,
    /// The first members as text. It is parsed only if there is no data yet, so a mistake in it matters only then.
    pub initial_cluster: String,
    /// `--initial-cluster-state`.
    pub initial_cluster_state: ClusterState,
    /// `--initial-cluster-token`, which gives clusters different ids.
    pub initial_cluster_token: String,
    /// Make a cluster of one from this member's data.
    pub force_new_cluster: bool,
    /// Refuse membership changes that would lose the quorum.
    pub strict_reconfig_check: bool,
    /// Learners that the cluster may have.
    pub max_learners: u64,
    /// The highest cluster version that this member sets; `None` keeps the version that the cluster has.
    pub max_cluster_version: Option<Version>,
    /// `--quota-backend-bytes`: `None` is no limit.
    pub quota_backend_bytes: Option<u64>,
    /// `--backend-batch-interval`.
    pub backend_batch_interval: Duration,
    /// `--backend-batch-limit`.
    pub backend_batch_limit: u64,
    /// `--auto-compaction-mode` and `--auto-compaction-retention`.
    pub auto_compaction: AutoCompaction,
    /// Revisions removed at a time.
    pub compaction_batch_limit: u64,
    /// Pause between the batches of a compaction.
    pub compaction_sleep_interval: Duration,
    /// The most operations in a transaction.
    pub max_txn_ops: u64,
    /// The most bytes in a request.
    pub max_request_bytes: u64,
    /// The most streams on a connection.
    pub max_concurrent_streams: u32,
    /// `--grpc-keepalive-min-time`: clients that ping more often are disconnected. 0 stands for grpc-go's five minutes.
    pub grpc_keepalive_min_time: Duration,
    /// `--grpc-keepalive-interval` and `-timeout`; `None` sends no pings.
    pub grpc_keepalive: Option<Keepalive>,
    /// Paths of profiles answer that there are none, rather than 404.
    pub enable_pprof: bool,
    /// Listen with `SO_REUSEPORT`.
    pub socket_reuse_port: bool,
    /// Listen with `SO_REUSEADDR`.
    pub socket_reuse_address: bool,
    /// Silence after which a peer connection is closed.
    pub raft_read_timeout: Duration,
    /// How long a write to a peer may take.
    pub raft_write_timeout: Duration,
    /// Serve JSON over HTTP.
    pub enable_grpc_gateway: bool,
    /// Web origins that are allowed.
    pub cors: AllowList,
    /// Host names that HTTP clients may use.
    pub host_whitelist: AllowList,
    /// The cost of hashing a password.
    pub bcrypt_cost: u64,
    /// How tokens of users are made.
    pub auth_token: AuthToken,
    /// How long a simple token is valid without use.
    pub auth_token_ttl: Duration,
    /// `--metrics=extensive`.
    pub extensive_metrics: bool,
    /// Format, level and targets of the log.
    pub log: Log,
    /// Duration above which an apply is logged as slow.
    pub warning_apply_duration: Duration,
    /// Duration above which a request is logged as slow.
    pub warning_unary_request_duration: Duration,
    /// How often a watcher without events gets the current revision.
    pub watch_progress_notify_interval: Duration,
    /// How often members compare their data; `None` is never.
    pub corrupt_check_time: Option<Duration>,
    /// How often compaction hashes are compared.
    pub compact_hash_check_time: Duration,
    /// How often the state of a downgrade is checked.
    pub downgrade_check_time: Duration,
    /// Defragment at the start if that frees at least this many megabytes; `None` is never.
    pub bootstrap_defrag_threshold_megabytes: Option<u64>,
    /// The features that are switched.
    pub feature_gates: FeatureGates,
    /// How connections are secured.
    pub tls: Tls,
    /// Skip fsync.
    pub unsafe_no_fsync: bool,
}

impl Config {
    /// Replaces port 0 in each advertised client URL by the port that the kernel gave to a listener: the listener with
    /// the same host, or else the first one. `clients` has the URL and the port of each TCP listener for clients. Peer
    /// URLs stay unchanged, because member ids are made of them.
    pub fn advertise_bound(&mut self, clients: &[(&Url, u16)]) {
        for url in self
            .advertise_client_urls
            .iter_mut()
            .filter(|url| url.port() == Some(0))
        {
            let same_host = clients.iter().find(|(client, _)| client.host() == url.host());
            if let Some((_, port)) = same_host.or(clients.first()) {
                *url = url.with_port(*port);
            }
        }
    }
}

/// Whether a cluster is founded or joined. It matters only if there is no data yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// Joined: the other members already run.
    Existing,
    /// Founded together with the others.
    New,
}

/// Which history automatic compaction removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// None.
    Off,
    /// History older than this.
    Periodic(Duration),
    /// History more than this many revisions back.
    Revision(u64),
}

/// Pings to silent clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before a ping.
    pub interval: Duration,
    /// How long to wait for the answer.
    pub timeout: Duration,
}

/// A list of allowed names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowList {
    /// Every name.
    Any,
    /// Only these names.
    Only(BTreeSet<String>),
}

impl AllowList {
    /// Whether this name is allowed.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(names) => names.contains(name),
        }
    }
}

/// The settings of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The lowest level that is written.
    pub level: LogLevel,
    /// The format of a line.
    pub format: LogFormat,
    /// The targets.
    pub outputs: Vec<LogOutput>,
    /// When the file among them is replaced; `None` is never.
    pub rotation: Option<Rotation>,
}

/// The levels of log lines, by etcd's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Details for debugging.
    Debug,
    /// Normal operation.
    Info,
    /// A possible problem.
    Warn,
    /// A problem.
    Error,
    /// A bug.
    Panic,
    /// The reason why the process ends.
    Fatal,
}

/// The formats of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Columns for people.
    Console,
    /// One JSON object.
    Json,
}

/// The targets of log lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error, or the journal under systemd.
    Default,
    /// Appended to this file.
    File(String),
    /// systemd's journal.
    Journal,
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
}

impl Config {
    /// Heartbeats in an election timeout: raft counts in ticks of one heartbeat.
    #[must_use]
    pub fn election_ticks(&self) -> u64 {
        self.election_ms / self.heartbeat_ms
    }

    /// The initial cluster if `--initial-cluster` is not given.
    #[must_use]
    pub fn initial_cluster_of(name: &str, advertise_peer_urls: &[Url]) -> String {
        let name = if name.is_empty() { "default" } else { name };
        advertise_peer_urls
            .iter()
            .map(|url| format!("{name}={url}"))
            .collect::<Vec<_>>()
            .join(",")
    }
}
