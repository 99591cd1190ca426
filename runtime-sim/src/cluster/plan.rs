//! The plan of a run: every seed draws its own cluster, speeds and faults, so that many seeds meet every combination.

use std::sync::LazyLock;
use std::time::Duration;

use quoin_core::config::{AutoCompaction, ClusterState, Config, Gate, Url};
use quoin_core::id::MemberId;
use quoin_core::limits::GRPC_OVERHEAD_BYTES;
use quoin_core::random::Prng;
use quoin_core::watch::HubConfig;

use super::draw::draw_faults;
use super::nemesis::{Fault, Planned};
use crate::check::Bounds;
use crate::choose::one_of;
use crate::faults::FaultKind;
use quoin_model::etcd::Rules;

/// The length of a run, and how much happens in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// Long and quiet: there is time for what takes minutes, above all leases.
    Long,
    /// A few requests for keys and almost no faults: a checker without the log can check the whole history.
    Short,
    /// A minute or two with much going on.
    Usual,
}

impl Shape {
    /// The shape of `seed`: one in twenty is long, one in a hundred short.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        if Prng::new(seed).fork("shape/long").below(40) == 0 {
            return Self::Long;
        }
        match Prng::new(seed).fork("shape").below(200) {
            0..5 => Self::Long,
            5 | 6 => Self::Short,
            _ => Self::Usual,
        }
    }
}

/// The tokens that members give out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tokens {
    /// Tokens that no member keeps.
    Signed,
    /// Tokens that members keep in memory, and forget after a time.
    Simple,
}

/// The plan of one seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long it is.
    pub shape: Shape,
    /// Founders.
    pub members: usize,
    /// The configuration of all members, except names and addresses.
    pub config: Config,
    /// Length of their log files.
    pub segment_bytes: u64,
    /// The latency of a frame between members.
    pub link_latency: Duration,
    /// The latency of a request from a client to a member.
    pub client_latency: Duration,
    /// The time of a disk for a batch.
    pub disk_latency: Duration,
    /// The time of a node for a turn.
    pub turn_takes: Duration,
    /// The delay of the watch hub.
    pub hub_lag: Duration,
    /// The largest number of bytes and of revisions of a watch response, and of revisions of a pass, if less than
    /// usual.
    pub hub: Option<(usize, usize, usize)>,
    /// The largest number of bytes of entries in one append, if less than usual.
    pub append_bytes: Option<usize>,
    /// The time from which on nothing is disturbed.
    pub heals_after: Duration,
    /// How long the run continues after that.
    pub calm: Duration,
    /// Whether members that are not needed for a quorum are dead after that.
    pub minority_dies: bool,
    /// Whether disks of a minority leave sectors half written.
    pub rough_disks: bool,
    /// Whether there are users, and their tokens.
    pub users: Option<Tokens>,
    /// The faults.
    pub faults: Vec<Planned>,
}

impl Plan {
    /// The plan of `seed`, with this many members if that is given.
    #[must_use]
    pub fn draw(seed: u64, members: Option<usize>) -> Self {
        Self::draw_as(seed, members, Shape::draw(seed))
    }

    /// The plan of `seed` as a run of this shape.
    #[must_use]
    pub fn draw_as(seed: u64, members: Option<usize>, shape: Shape) -> Self {
        let mut prng = Prng::new(seed).fork("plan");
        let drawn = one_of(&mut prng, &[1, 2, 3, 3, 3, 3, 4, 5, 5]);
        let members = members.unwrap_or(drawn).clamp(1, 5);
        let (heals_after, calm) = match shape {
            Shape::Long => (prng.range(700..2_500), 40),
            Shape::Short => (prng.range(10..20), 15),
            Shape::Usual => (prng.range(30..90), 40),
        };
        let heals_after = Duration::from_secs(heals_after);
        let mut plan = Self {
            shape,
            members,
            config: config(&mut prng, shape),
            segment_bytes: one_of(&mut prng, &[2_048, 16_384, 65_536, 262_144]),
            link_latency: Duration::from_micros(one_of(&mut prng, &[100, 500, 2_000, 20_000])),
            client_latency: Duration::from_micros(one_of(&mut prng, &[100, 1_000, 10_000])),
            disk_latency: Duration::from_micros(one_of(&mut prng, &[10, 100, 1_000, 5_000])),
            turn_takes: Duration::from_micros(one_of(&mut prng, &[0, 0, 100, 2_000])),
            hub_lag: Duration::from_micros(one_of(&mut prng, &[0, 100, 5_000])),
            hub: None,
            append_bytes: None,
            heals_after,
            calm: Duration::from_secs(calm),
            minority_dies: prng.below(3) == 0,
            rough_disks: prng.below(3) > 0,
            users: None,
            faults: Vec::new(),
        };
        if Prng::new(seed).fork("plan/requests").below(3) == 0 {
            plan.config.max_request_bytes = SMALL_REQUEST_BYTES;
        }
        let mut small = Prng::new(seed).fork("plan/small");
        if shape == Shape::Usual && small.below(8) == 0 {
            let period = Duration::from_secs(one_of(&mut small, &[2, 10, 30]));
            plan.config.auto_compaction = AutoCompaction::Periodic(period);
        }
        plan.hub = (small.below(4) == 0).then_some((700, 8, 16));
        plan.append_bytes = (small.below(4) == 0).then_some(400);
        let mut users = Prng::new(seed).fork("plan/users");
        if shape == Shape::Usual && users.below(12) == 0 {
            plan.users = Some(one_of(&mut users, &[Tokens::Signed, Tokens::Simple, Tokens::Simple]));
            plan.config.auth_token_ttl = Duration::from_secs(one_of(&mut users, &[2, 300]));
        }
        plan.faults = draw_faults(seed, &plan);
        plan.fit_to_stories();
        plan
    }

    /// Some stories have no effect on members that keep much of their log, or compact at once.
    fn fit_to_stories(&mut self) {
        let has = |kind| self.faults.iter().any(|planned| planned.fault.kind() == kind);
        let is_death = |planned: &Planned| matches!(planned.fault, Fault::ArrivalCrash { .. });
        let snapshots = [
            FaultKind::MixedSnapshot,
            FaultKind::SlowSnapshot,
            FaultKind::StalledTable,
        ];
        if snapshots.into_iter().any(has) || self.faults.iter().any(is_death) {
            self.config.snapshot_count = self.config.snapshot_count.min(10);
            self.config.snapshot_catchup_entries = self.config.snapshot_catchup_entries.min(3);
        }
        if has(FaultKind::QuotaRace) {
            self.config.quota_backend_bytes = Some(100_000);
            self.config.max_request_bytes = self.config.max_request_bytes.max(200_000);
        }
        if has(FaultKind::CompactPair) {
            self.config.compaction_batch_limit = self.config.compaction_batch_limit.min(2);
            self.config.compaction_sleep_interval =
                self.config.compaction_sleep_interval.max(Duration::from_millis(10));
        }
    }

    /// The configuration of the machine with this number; `cluster` is `--initial-cluster`.
    #[must_use]
    pub fn config_of(&self, machine: usize, cluster: &str, state: ClusterState) -> Config {
        let mut config = self.config.clone();
        config.name = format!("m{machine}");
        config.advertise_peer_urls = Url::parse_list(&peer_url(machine)).expect("it is a URL");
        config.advertise_client_urls =
            Url::parse_list(&format!("http://10.0.0.{}:2379", machine + 1)).expect("it is a URL");
        config.initial_cluster = cluster.to_owned();
        config.initial_cluster_state = state;
        config.data_dir = "/data".to_owned();
        config
    }

    /// How a member with this configuration serves watches.
    pub(super) fn hub_config(&self, config: &Config, seed: u64) -> HubConfig {
        let request_bytes = usize::try_from(config.max_request_bytes).unwrap_or(usize::MAX);
        let mut hub = HubConfig {
            progress_interval: config.watch_progress_notify_interval,
            max_response_bytes: request_bytes.saturating_add(GRPC_OVERHEAD_BYTES),
            seed,
            ..HubConfig::default()
        };
        if let Some((bytes, revisions, pass)) = self.hub {
            (hub.max_response_bytes, hub.response_revisions, hub.pass_revisions) = (bytes, revisions, pass);
        }
        hub
    }

    /// The facts about the configuration that checkers need.
    #[must_use]
    pub fn rules(&self) -> Rules {
        let config = self.config.store_config();
        Rules {
            min_lease_ttl: config.min_lease_ttl_seconds,
            max_learners: config.max_learners,
            checkpoints: self.checkpoints(),
        }
    }

    /// Further facts that checkers need.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds {
            election_ticks: u32::try_from(self.config.election_ms / self.config.heartbeat_ms).unwrap_or(u32::MAX),
            token_ttl: self.config.auth_token_ttl,
            quota: self.config.quota_backend_bytes.filter(|_| self.is_lasting()),
            retention: self.is_lasting().then_some(self.config.auto_compaction),
        }
    }

    /// Whether no member is ever started with other flags.
    fn is_lasting(&self) -> bool {
        let is_change = |planned: &Planned| matches!(planned.fault, Fault::FlagChange { .. });
        !self.faults.iter().any(is_change)
    }

    /// Whether leaders write checkpoints of long leases; `None` if members differ in that.
    fn checkpoints(&self) -> Option<bool> {
        self.is_lasting()
            .then(|| self.config.feature_gates.enabled(Gate::LeaseCheckpoint))
    }

    /// `--initial-cluster` of the founders.
    #[must_use]
    pub fn founders(&self) -> String {
        let names: Vec<String> = (0..self.members)
            .map(|machine| format!("m{machine}={}", peer_url(machine)))
            .collect();
        names.join(",")
    }

    /// The id of a founder.
    #[must_use]
    pub fn founder(&self, machine: usize) -> MemberId {
        MemberId::compute(&[peer_url(machine)], &self.config.initial_cluster_token, None)
    }
}

/// The peer address of the machine with this number.
pub(super) fn peer_url(machine: usize) -> String {
    format!("http://10.0.0.{}:2380", machine + 1)
}

fn config(prng: &mut Prng, shape: Shape) -> Config {
    /// They take too long for a short run.
    static DEFAULTS: LazyLock<Config> = LazyLock::new(Config::with_defaults);
    let mut config = DEFAULTS.clone();
    config.heartbeat_ms = 100;
    config.election_ms = one_of(prng, &[500, 1_000, 1_000, 2_000]);
    config.pre_vote = prng.below(4) > 0;
    config.initial_election_tick_advance = prng.below(4) > 0;
    config.snapshot_count = one_of(prng, &SNAPSHOT_COUNTS);
    config.snapshot_catchup_entries = one_of(prng, &[0, 5, 100, 5_000]);
    config.max_wals = one_of(prng, &[1, 2, 5, 0]);
    config.max_snapshots = one_of(prng, &[1, 2, 5, 0]);
    config.max_learners = one_of(prng, &[1, 2]);
    config.compaction_batch_limit = one_of(prng, &[1, 10, 1_000]);
    config.compaction_sleep_interval = Duration::from_millis(one_of(prng, &[0, 1, 10, 10, 100]));
    config.quota_backend_bytes = one_of(prng, &[None, None, None, None, Some(100_000)]);
    config.watch_progress_notify_interval = Duration::from_millis(one_of(prng, &[100, 1_000, 10_000, 600_000]));
    if prng.below(6) == 0 {
        config.auto_compaction = AutoCompaction::Revision(prng.range(5..100));
    }
    let checkpoints = prng.below(2) == 0;
    config.feature_gates.set(Gate::LeaseCheckpoint, checkpoints);
    config
        .feature_gates
        .set(Gate::LeaseCheckpointPersist, checkpoints && prng.below(2) == 0);
    if shape == Shape::Long {
        // Every snapshot is compared completely.
        config.snapshot_count = config.snapshot_count.max(100);
    }
    if shape == Shape::Short {
        // Promises after healing have deadlines of many election timeouts. And only clients make entries.
        config.election_ms = 500;
        config.quota_backend_bytes = None;
        config.auto_compaction = AutoCompaction::Off;
    }
    config
}

/// `--max-request-bytes` of some seeds: less than the longest values.
const SMALL_REQUEST_BYTES: u64 = 5_000;

/// Entries between snapshots.
pub(super) const SNAPSHOT_COUNTS: [u64; 4] = [5, 50, 500, 10_000];
