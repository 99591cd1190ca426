//! What a run is like: every seed draws its own configuration, key space, mix of requests, pace of lanes, and faults, so
//! that over many seeds every combination is met.

use std::time::Duration;

use bytes::Bytes;
use quoin_core::config::{AutoCompaction, Config, Gate};
use quoin_core::random::Prng;

use crate::workload::Kind;

/// The choices of one seed.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// The member's configuration.
    pub config: Config,
    /// Length of its log files.
    pub segment_bytes: u64,
    /// The keys there are.
    pub keys: Vec<Bytes>,
    /// The longest value.
    pub value_bytes: u64,
    /// Kinds of requests, each with its weight.
    pub mix: Vec<(Kind, u64)>,
    /// Requests under way at the same time.
    pub clients: usize,
    /// How eager everything is that can happen next.
    pub pace: Pace,
    /// Of a hundred ends, how many are of the process alone.
    pub kills_percent: u64,
    /// Of a hundred lives, in how many the disk fails.
    pub errors_percent: u64,
    /// Whether the wall clock may be set back between lives.
    pub sets_wall_back: bool,
}

/// Weights of what may happen next.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// A client asks.
    pub ask: u64,
    /// A client gets an answer.
    pub answer: u64,
    /// The log's lane works.
    pub log: u64,
    /// The node takes a turn.
    pub node: u64,
    /// The table's lane works.
    pub rows: u64,
    /// Time passes.
    pub sleep: u64,
}

/// Keys that are prefixes and neighbours of each other.
const KEYS: [&[u8]; 12] = [
    b"a",
    b"a\0",
    b"ab",
    b"b",
    b"\0",
    b"\xff",
    b"b/1",
    b"b/2",
    b"b/20",
    b"c",
    b"\xff\xff",
    b"z",
];

impl Swarm {
    /// The choices of `seed`.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut prng = Prng::new(seed).fork("swarm");
        let keys = KEYS.iter().take(usize::try_from(prng.range(2..13)).unwrap_or(3));
        Self {
            config: config(&mut prng),
            segment_bytes: one_of(&mut prng, &[1, 1_000, 2_048, 4_096, 16_384, 65_536]),
            keys: keys.map(|key| Bytes::from_static(key)).collect(),
            value_bytes: one_of(&mut prng, &[1, 600, 3_000, 9_000]),
            mix: mix(&mut prng),
            clients: one_of(&mut prng, &[1, 4, 12, 40]),
            pace: Pace {
                ask: one_of(&mut prng, &[2, 10, 40]),
                answer: one_of(&mut prng, &[5, 20]),
                log: one_of(&mut prng, &[1, 10, 40]),
                node: one_of(&mut prng, &[5, 20, 40]),
                rows: one_of(&mut prng, &[1, 3, 30]),
                sleep: one_of(&mut prng, &[1, 5]),
            },
            kills_percent: one_of(&mut prng, &[0, 25, 60]),
            errors_percent: one_of(&mut prng, &[0, 0, 30]),
            sets_wall_back: prng.below(4) == 0,
        }
    }
}

fn config(prng: &mut Prng) -> Config {
    let mut config = Config::with_defaults();
    config.name = "m".to_owned();
    config.initial_cluster = Config::initial_cluster_of(&config.name, &config.advertise_peer_urls);
    config.data_dir = "/data".to_owned();
    if prng.below(4) == 0 {
        config.wal_dir = Some("/log/wal".to_owned());
    }
    config.snapshot_count = one_of(prng, &[1, 2, 7, 30, 10_000]);
    config.snapshot_catchup_entries = one_of(prng, &[0, 1, 5, 5_000]);
    config.max_wals = one_of(prng, &[1, 1, 2, 5, 0]);
    config.max_snapshots = one_of(prng, &[1, 2, 5, 0]);
    config.compaction_batch_limit = one_of(prng, &[1, 3, 1_000]);
    config.compaction_sleep_interval = Duration::from_millis(one_of(prng, &[0, 1, 10]));
    config.quota_backend_bytes = one_of(prng, &[None, None, None, Some(20_000)]);
    if prng.below(6) == 0 {
        config.auto_compaction = AutoCompaction::Revision(prng.range(1..20));
    }
    let checkpoints = prng.below(3) == 0;
    config.feature_gates.set(Gate::LeaseCheckpoint, checkpoints);
    config.feature_gates.set(Gate::LeaseCheckpointPersist, checkpoints);
    config
}

fn mix(prng: &mut Prng) -> Vec<(Kind, u64)> {
    let mut mix: Vec<_> = Kind::ALL
        .into_iter()
        .filter(|_| prng.below(4) != 0)
        .map(|kind| (kind, kind.weight()))
        .collect();
    // Without writes there is nothing to lose.
    mix.push((Kind::Put, Kind::Put.weight()));
    mix
}

/// One of several, each as likely.
pub(crate) fn one_of<T: Copy>(prng: &mut Prng, choices: &[T]) -> T {
    choices[usize::try_from(prng.below(choices.len() as u64)).expect("a slice fits in memory")]
}

/// One of several by weight; nothing where all weights are 0.
pub(crate) fn weighted<T: Copy>(prng: &mut Prng, choices: &[(T, u64)]) -> Option<T> {
    let mut at = prng.below(choices.iter().map(|(_, weight)| weight).sum());
    let found = choices.iter().find(|(_, weight)| match at.checked_sub(*weight) {
        Some(left) => {
            at = left;
            false
        }
        None => true,
    });
    found.map(|(choice, _)| *choice)
}
