//! The cost of calls in virtual time. Calls themselves take none: the world asks afterwards how long a lane's calls
//! took.

use std::time::Duration;

use quoin_core::random::Prng;
use quoin_core::time::Instant;

use crate::faults::{FaultKind, Struck};
use crate::fuse::Touch;

/// The slowness of a disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Delay {
    /// The factor of every call's time.
    pub factor: u32,
    /// The time added to every call, in the mean.
    pub extra: Duration,
    /// No call ends before.
    pub stalled_until: Instant,
}

impl Default for Delay {
    /// A disk that is not slow.
    fn default() -> Self {
        Self {
            factor: 1,
            extra: Duration::ZERO,
            stalled_until: Instant::ZERO,
        }
    }
}

impl Delay {
    const fn is_slow(&self) -> bool {
        self.factor > 1 || !self.extra.is_zero()
    }
}

/// A device's speed, and the time of its calls since the last question.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    pub(crate) delay: Delay,
    nanos: u64,
    calls: u64,
    prng: Prng,
}

impl Pace {
    pub(crate) fn new(seed: u64, device: &str) -> Self {
        Self {
            delay: Delay::default(),
            nanos: 0,
            calls: 0,
            prng: Prng::new(seed).fork(device),
        }
    }

    /// Counts a call.
    pub(crate) fn charge(&mut self, touch: Touch) {
        let (least, most) = nanos(touch);
        let mut cost = self.prng.range(least..most);
        if self.delay.is_slow() {
            let extra = u64::try_from(self.delay.extra.as_nanos()).unwrap_or(u64::MAX / 2);
            cost = cost.saturating_mul(u64::from(self.delay.factor));
            cost = cost.saturating_add(self.prng.below(extra.saturating_mul(2)));
        }
        self.nanos = self.nanos.saturating_add(cost);
        self.calls += 1;
    }

    /// How long the calls since the last question took, if they began `now`.
    pub(crate) fn take(&mut self, now: Instant, struck: &Struck) -> Duration {
        if std::mem::take(&mut self.calls) == 0 {
            return Duration::ZERO;
        }
        let cost = Duration::from_nanos(std::mem::take(&mut self.nanos));
        let stall = self.delay.stalled_until.saturating_since(now);
        if self.delay.is_slow() {
            struck.note(FaultKind::SlowDisk);
        }
        if !stall.is_zero() {
            struck.note(FaultKind::StalledDisk);
        }
        stall.saturating_add(cost)
    }
}

/// The shortest and the longest time of a call on a good disk.
const fn nanos(touch: Touch) -> (u64, u64) {
    match touch {
        Touch::Look => (1_000, 5_000),
        Touch::Create | Touch::Preallocate | Touch::Remove | Touch::Rename | Touch::Truncate => (20_000, 60_000),
        Touch::Read | Touch::TableRead => (20_000, 200_000),
        Touch::Sync | Touch::SyncDir | Touch::TableSync => (200_000, 2_000_000),
        Touch::TableWrite | Touch::Write => (5_000, 40_000),
    }
}
