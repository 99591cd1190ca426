//! A machine's clocks. The monotonic one runs fast or slow and never goes back; the wall clock jumps. Only the world
//! has the true time.

use std::time::Duration;

use quoin_core::time::Instant;

/// Parts of a million.
const MILLION: u128 = 1_000_000;

/// A machine's clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct MachineClock {
    /// The moment of true time from which the rate holds.
    since: Instant,
    /// The monotonic clock's time at that moment.
    shown: Instant,
    /// Rate in millionths: a million is right.
    rate: u64,
    /// The difference between the wall clock and the monotonic clock, in milliseconds since 1970.
    wall_ms: u64,
}

impl MachineClock {
    /// Clocks that run right; the wall clock shows `wall_ms` now.
    pub(super) const fn new(shown: Instant, wall_ms: u64) -> Self {
        Self {
            since: Instant::ZERO,
            shown,
            rate: MILLION as u64,
            wall_ms,
        }
    }

    /// The monotonic clock's time.
    pub(super) fn now(&self, truth: Instant) -> Instant {
        let passed = truth.saturating_since(self.since).as_nanos() * u128::from(self.rate) / MILLION;
        self.shown + Duration::from_nanos(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// The first moment of true time at which the monotonic clock shows `shown`.
    pub(super) fn truth(&self, shown: Instant) -> Instant {
        let left = shown.saturating_since(self.shown).as_nanos() * MILLION;
        let left = left.div_ceil(u128::from(self.rate));
        self.since + Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX))
    }

    /// Runs at another rate from now on.
    pub(super) fn set_rate(&mut self, truth: Instant, rate: u64) {
        self.shown = self.now(truth);
        self.since = truth;
        self.rate = rate.max(1);
    }

    /// Time passes on this machine alone.
    pub(super) fn skip(&mut self, truth: Instant, time: Duration) {
        self.shown = self.now(truth) + time;
        self.since = truth;
    }

    /// The wall clock, in milliseconds since 1970.
    pub(super) fn wall_ms(&self, truth: Instant) -> u64 {
        self.wall_ms + self.now(truth).as_nanos() / 1_000_000
    }

    /// The wall clock jumps.
    pub(super) fn jump(&mut self, by_ms: i64) {
        self.wall_ms = self.wall_ms.saturating_add_signed(by_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_is_ahead_and_its_deadlines_come_early() {
        let mut clock = MachineClock::new(Instant::ZERO, 500_000);
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        clock.set_rate(at(10), 1_050_000);
        assert_eq!(clock.now(at(10)), at(10));
        assert_eq!(clock.now(at(110)), at(115));
        assert_eq!(clock.truth(at(115)), at(110));
        clock.set_rate(at(110), 1_000_000);
        assert_eq!(clock.now(at(120)), at(125));
        assert_eq!(clock.wall_ms(at(120)), 625_000);
        clock.jump(-30_000);
        assert_eq!(clock.wall_ms(at(120)), 595_000);
    }

    #[test]
    fn a_deadline_is_never_found_too_early() {
        let mut clock = MachineClock::new(Instant::ZERO, 0);
        clock.set_rate(Instant::ZERO, 1_000_003);
        for nanos in (1..1_000_000).step_by(7_919) {
            let shown = Instant::from_nanos(nanos);
            assert!(clock.now(clock.truth(shown)) >= shown);
        }
    }
}
