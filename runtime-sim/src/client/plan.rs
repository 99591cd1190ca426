//! The plan of a run's clients: every seed draws its own subset of calls, options and habits, so that many seeds meet
//! every combination. This file sends nothing.

use std::time::Duration;

use quoin_core::random::Prng;

use super::keys::Keys;
use crate::choose::one_of;
use crate::cluster::plan::Shape;

/// Kinds of calls that clients choose from; operators change the membership.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// Lists or disarms alarms.
    Alarm,
    /// Compacts.
    Compact,
    /// Deletes keys.
    DeleteRange,
    /// Hashes the history of one member.
    HashKv,
    /// Grants a lease.
    LeaseGrant,
    /// Renews a lease.
    LeaseKeepAlive,
    /// Lists the leases.
    LeaseLeases,
    /// Revokes a lease.
    LeaseRevoke,
    /// Reads the remaining time of a lease.
    LeaseTimeToLive,
    /// Lists the members.
    MemberList,
    /// Moves leadership.
    MoveLeader,
    /// Writes a key.
    Put,
    /// Reads keys.
    Range,
    /// Reads the status of a member.
    Status,
    /// Does several operations, on conditions.
    Txn,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 15] = [
        Self::Alarm,
        Self::Compact,
        Self::DeleteRange,
        Self::HashKv,
        Self::LeaseGrant,
        Self::LeaseKeepAlive,
        Self::LeaseLeases,
        Self::LeaseRevoke,
        Self::LeaseTimeToLive,
        Self::MemberList,
        Self::MoveLeader,
        Self::Put,
        Self::Range,
        Self::Status,
        Self::Txn,
    ];

    /// Whether nothing happens later because of it.
    const fn is_without_time(self) -> bool {
        !matches!(
            self,
            Self::Alarm
                | Self::LeaseGrant
                | Self::LeaseKeepAlive
                | Self::LeaseLeases
                | Self::LeaseRevoke
                | Self::LeaseTimeToLive
        )
    }

    /// The weight of the kind, unless a seed stresses it.
    #[must_use]
    pub const fn weight(self) -> u64 {
        match self {
            Self::MoveLeader => 1,
            Self::Alarm | Self::LeaseLeases | Self::MemberList | Self::Status => 3,
            Self::Compact | Self::HashKv => 4,
            Self::LeaseRevoke | Self::LeaseTimeToLive => 6,
            Self::LeaseKeepAlive => 8,
            Self::DeleteRange | Self::LeaseGrant => 12,
            Self::Range => 60,
            Self::Txn => 60,
            Self::Put => 80,
        }
    }
}

/// Options and habits, each of which a seed may have.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Feature {
    /// Requests come in bursts.
    Bursts,
    /// The empty value is written, the only value that is written more than once.
    EmptyValues,
    /// Reads filter by revisions.
    Filters,
    /// Clients stop waiting before their deadline.
    GivesUp,
    /// Writes keep a key's value or lease.
    Ignore,
    /// Keys are attached to leases.
    Leases,
    /// Transactions are nested.
    Nested,
    /// Reads and watches go to the past, even before the compaction, and to the future.
    OtherRevisions,
    /// Previous pairs are requested.
    PrevKv,
    /// Transactions compare ranges.
    RangeCompares,
    /// Ranges: of two keys, prefixes, from a key on, everything.
    Ranges,
    /// Watchers stop reading for a while, or read little by little.
    SlowReaders,
    /// Reads are sorted.
    Sorts,
    /// Requests that must be refused are sent.
    Wrong,
}

impl Feature {
    /// All options.
    pub const ALL: [Self; 14] = [
        Self::Bursts,
        Self::EmptyValues,
        Self::Filters,
        Self::GivesUp,
        Self::Ignore,
        Self::Leases,
        Self::Nested,
        Self::OtherRevisions,
        Self::PrevKv,
        Self::RangeCompares,
        Self::Ranges,
        Self::SlowReaders,
        Self::Sorts,
        Self::Wrong,
    ];
}

/// The plan of one seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Clients that send any request.
    pub callers: u64,
    /// Requests that each of them has pending at most.
    pub lanes: u64,
    /// Clients that watch.
    pub watchers: u64,
    /// Watches of each of them at most.
    pub watches: u64,
    /// Clients that keep leases alive.
    pub leaseholders: u64,
    /// Clients that take locks.
    pub lockers: u64,
    /// The mean pause before a lane's next request.
    pub pause: Duration,
    /// Kinds of calls, each with its weight.
    pub kinds: Vec<(Kind, u64)>,
    /// The key space.
    pub keys: Keys,
    /// Requested TTLs, in seconds.
    pub ttls: &'static [i64],
    /// How much longer than usual watchers and leaseholders pause.
    pub ease: u32,
    /// The longest value, in bytes.
    pub value_bytes: u64,
    /// How long a client waits for a request: one or the other.
    pub timeouts: [Duration; 2],
    /// Whether each request goes to the next endpoint; otherwise a client stays with one until it fails.
    pub round_robin: bool,
    pub(crate) features: u32,
}

/// How long clients wait, in milliseconds.
const TIMEOUTS_MS: [u64; 6] = [500, 1_000, 2_000, 3_000, 5_000, 10_000];

impl Plan {
    /// The plan of `seed`.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut prng = Prng::new(seed).fork("clients");
        let prng = &mut prng;
        let callers = prng.range(1..9);
        let lanes = one_of(prng, &[1, 1, 1, 2, 4]);
        let asks_per_second = one_of(prng, &[1, 2, 4, 8, 30]);
        let mut timeout = || Duration::from_millis(one_of(prng, &TIMEOUTS_MS));
        let timeouts = [timeout(), timeout()];
        let features = Feature::ALL
            .iter()
            .filter(|_| prng.below(4) != 0)
            .fold(0, |bits, feature| bits | 1 << *feature as u32);
        Self {
            callers,
            lanes,
            watchers: one_of(prng, &[0, 1, 1, 2, 4]),
            watches: one_of(prng, &[1, 3, 8, 30]),
            leaseholders: one_of(prng, &[0, 0, 1, 3]),
            lockers: one_of(prng, &[0, 0, 2, 3]),
            pause: Duration::from_micros(callers * lanes * 1_000_000 / asks_per_second),
            kinds: kinds(prng),
            keys: Keys::draw(prng),
            ttls: &[1, 1, 2, 3, 5, 10, 30, 60],
            ease: 1,
            value_bytes: one_of(prng, &[1, 1, 100, 100, 100, 100, 1_000, 1_000, 9_000, 200_000]),
            timeouts,
            round_robin: prng.below(2) == 0,
            features,
        }
    }

    /// The plan of `seed` for a run of this shape.
    #[must_use]
    pub fn of(seed: u64, shape: Shape) -> Self {
        let mut prng = Prng::new(seed).fork("clients/shape");
        let prng = &mut prng;
        let plan = Self::draw(seed);
        match shape {
            Shape::Long => {
                let callers = prng.range(1..4);
                Self {
                    callers,
                    lanes: 1,
                    watchers: one_of(prng, &[0, 1, 2]),
                    watches: one_of(prng, &[1, 3]),
                    leaseholders: one_of(prng, &[1, 2, 4]),
                    // Otherwise they would act without a pause.
                    lockers: 0,
                    pause: Duration::from_millis(callers * one_of(prng, &[1_000, 3_000, 10_000])),
                    ttls: &[10, 60, 400, 700, 1_000, 2_000, 2_000],
                    ease: 10,
                    ..plan
                }
            }
            Shape::Short => {
                let callers = prng.range(1..4);
                let asks_per_second = one_of(prng, &[2, 5, 10]);
                Self {
                    callers,
                    lanes: one_of(prng, &[1, 1, 2]),
                    leaseholders: 0,
                    lockers: 0,
                    pause: Duration::from_micros(callers * 1_000_000 / asks_per_second),
                    kinds: plan
                        .kinds
                        .into_iter()
                        .filter(|(kind, _)| kind.is_without_time())
                        .collect(),
                    features: plan.features & !(1 << Feature::Leases as u32),
                    ..plan
                }
            }
            Shape::Usual => plan,
        }
    }

    /// Whether the seed has this option.
    #[must_use]
    pub const fn has(&self, feature: Feature) -> bool {
        self.features & (1 << feature as u32) != 0
    }

    /// How long to wait for a request.
    pub fn timeout(&self, prng: &mut Prng) -> Duration {
        one_of(prng, &self.timeouts)
    }
}

/// A subset of the kinds, some of them stressed. It always has writes and reads.
fn kinds(prng: &mut Prng) -> Vec<(Kind, u64)> {
    Kind::ALL
        .into_iter()
        .filter(|kind| matches!(kind, Kind::Put | Kind::Range) || prng.below(3) != 0)
        .map(|kind| (kind, kind.weight()))
        .collect::<Vec<_>>()
        .into_iter()
        .map(|(kind, weight)| {
            // Moving the leader and compacting are never stressed.
            let calm = matches!(kind, Kind::Compact | Kind::MoveLeader);
            let stress = if calm { 1 } else { one_of(prng, &[1, 1, 1, 1, 5]) };
            (kind, weight * stress)
        })
        .collect()
}
