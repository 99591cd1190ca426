//! The core's own time: nanoseconds from an origin the host chose. Nothing here reads a clock.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// A moment, counted in nanoseconds from the host's origin (usually its start).
///
/// It only moves forward. It is no wall clock. Where etcd's rules need one, its time is a separate argument.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Instant(u64);

impl Instant {
    /// The origin.
    pub const ZERO: Self = Self(0);

    /// The last moment there is, 584 years from the origin.
    pub const MAX: Self = Self(u64::MAX);

    /// The moment `nanos` nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The moment `duration` later, or [`Instant::MAX`].
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// How much later this moment is than `earlier`; zero if it is not later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        self.after(duration)
    }
}

/// Seconds with nine decimals, such as `1.500000000s`.
impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_stops_at_both_ends() {
        let one = Instant::ZERO + Duration::from_millis(1500);
        assert_eq!(one.as_nanos(), 1_500_000_000);
        assert_eq!(one.to_string(), "1.500000000s");
        assert_eq!(one.saturating_since(Instant::ZERO), Duration::from_millis(1500));
        assert_eq!(Instant::ZERO.saturating_since(one), Duration::ZERO);
        assert_eq!(one.after(Duration::MAX), Instant::MAX);
        assert_eq!(Instant::MAX.after(Duration::from_nanos(1)), Instant::MAX);
    }
}
