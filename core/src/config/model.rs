//! The typed configuration of a member. A field is named after its flag unless its doc says otherwise.

use std::collections::BTreeSet;
use std::time::Duration;

use super::gates::FeatureGates;
use super::url::Url;
use crate::version::Version;

/// Everything a member is told before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The member's name.
    pub name: String,
    /// `--data-dir`, with etcd's default filled in.
    pub data_dir: String,
    /// `--wal-dir`, where it is not inside the data directory.
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
    /// Wait less for the first election after a start.
    pub initial_election_tick_advance: bool,
    /// Ask before standing for election.
    pub pre_vote: bool,
    /// Where to listen for peers.
    pub listen_peer_urls: Vec<Url>,
    /// Where to listen for clients.
    pub listen_client_urls: Vec<Url>,
    /// Where to listen for HTTP clients; where this is empty, `listen_client_urls` serves them too.
    pub listen_client_http_urls: Vec<Url>,
    /// Where else to serve metrics and health.
    pub listen_metrics_urls: Vec<Url>,
    /// `--initial-advertise-peer-urls`.
    pub advertise_peer_urls: Vec<Url>,
    /// Where clients are told to go.
    pub advertise_client_urls: Vec<Url>,
    /// The first members as text: it is read only when there is no data yet, and only then may it be wrong.
    pub initial_cluster: String,
    /// `--initial-cluster-state`.
    pub initial_cluster_state: ClusterState,
    /// What keeps ids of different clusters apart.
    pub initial_cluster_token: String,
    /// Make a cluster of one out of this member's data.
    pub force_new_cluster: bool,
    /// Refuse membership changes that would lose the quorum.
    pub strict_reconfig_check: bool,
    /// Learners the cluster may have.
    pub max_learners: u64,
    /// The highest cluster version that this member sets; `None` is the one that the cluster has.
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
    /// Rest between the batches of a compaction.
    pub compaction_sleep_interval: Duration,
    /// Operations in a transaction.
    pub max_txn_ops: u64,
    /// Bytes in a request.
    pub max_request_bytes: u64,
    /// Streams on a connection.
    pub max_concurrent_streams: u32,
    /// `--grpc-keepalive-min-time`: clients that ping more often are cut off; `None` lets them.
    pub grpc_keepalive_min_time: Option<Duration>,
    /// `--grpc-keepalive-interval` and `-timeout`; `None` sends no pings.
    pub grpc_keepalive: Option<Keepalive>,
    /// Listen with `SO_REUSEPORT`.
    pub socket_reuse_port: bool,
    /// Listen with `SO_REUSEADDR`.
    pub socket_reuse_address: bool,
    /// Silence after which a peer connection is given up.
    pub raft_read_timeout: Duration,
    /// How long a write to a peer may take.
    pub raft_write_timeout: Duration,
    /// Serve JSON over HTTP.
    pub enable_grpc_gateway: bool,
    /// Web origins that may call.
    pub cors: AllowList,
    /// Host names by which HTTP clients may call.
    pub host_whitelist: AllowList,
    /// The cost of hashing a password.
    pub bcrypt_cost: u64,
    /// How long a token of a user is good.
    pub auth_token_ttl: Duration,
    /// `--metrics=extensive`.
    pub extensive_metrics: bool,
    /// How, what and where to log.
    pub log: Log,
    /// A slower apply is logged.
    pub warning_apply_duration: Duration,
    /// A slower request is logged.
    pub warning_unary_request_duration: Duration,
    /// How often a quiet watcher is told the revision.
    pub watch_progress_notify_interval: Duration,
    /// How often members' data is compared; `None` is never.
    pub corrupt_check_time: Option<Duration>,
    /// How often compaction hashes are compared.
    pub compact_hash_check_time: Duration,
    /// How often a downgrade is looked at.
    pub downgrade_check_time: Duration,
    /// Defragment at the start if so many megabytes come free; `None` is never.
    pub bootstrap_defrag_threshold_megabytes: Option<u64>,
    /// The features that are switched.
    pub feature_gates: FeatureGates,
    /// Never wait for the disk.
    pub unsafe_no_fsync: bool,
}

impl Config {
    /// Gives each client URL that is advertised with port 0 the port that a listener got from the kernel: the listener at the
    /// same host, or else the first. `clients` has the URL and the port of each TCP listener for clients. Peer URLs stay as
    /// they are, because member ids are made of them.
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

/// Is a cluster founded or joined? Asked only when there is no data yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// Joined: the others are there already.
    Existing,
    /// Founded together with the others.
    New,
}

/// What history is thrown away without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// None.
    Off,
    /// What is older than this.
    Periodic(Duration),
    /// What is more than so many revisions back.
    Revision(u64),
}

/// Pings to silent clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before a ping.
    pub interval: Duration,
    /// How long the answer may take.
    pub timeout: Duration,
}

/// Names that are let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowList {
    /// Every name.
    Any,
    /// These names and no others.
    Only(BTreeSet<String>),
}

impl AllowList {
    /// Is this name let in?
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(names) => names.contains(name),
        }
    }
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least grave lines to write.
    pub level: LogLevel,
    /// The form of a line.
    pub format: LogFormat,
    /// Where lines go.
    pub outputs: Vec<LogOutput>,
}

/// How grave a log line is, by etcd's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For people looking for a bug.
    Debug,
    /// What happens.
    Info,
    /// What might become a problem.
    Warn,
    /// A problem.
    Error,
    /// A bug.
    Panic,
    /// The end.
    Fatal,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Columns for people.
    Console,
    /// One JSON object.
    Json,
}

/// Where log lines go.
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

    /// Where `--initial-cluster` was not given, this is it.
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
