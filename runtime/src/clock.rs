//! The real clocks; the runtime reads time only here.

use std::time::{Duration, Instant as StdInstant, SystemTime, UNIX_EPOCH};

use quoin_core::time::Instant;

/// A source of time, for code that also runs in a simulation.
pub trait Time: Send + Sync {
    /// Monotonic time since an origin.
    fn now(&self) -> Instant;
}

/// A monotonic clock that counts from its own creation, and the wall clock beside it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: StdInstant,
}

impl Clock {
    /// A clock whose origin is the present moment.
    #[expect(
        clippy::disallowed_methods,
        clippy::new_without_default,
        reason = "this is the clock"
    )]
    pub fn new() -> Self {
        Self {
            origin: StdInstant::now(),
        }
    }

    /// Monotonic time since the origin.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now(&self) -> Instant {
        let nanos = StdInstant::now().duration_since(self.origin).as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The same moment as a `std` instant, for timers that need one.
    pub fn at(&self, instant: Instant) -> StdInstant {
        self.origin + Duration::from_nanos(instant.as_nanos())
    }

    /// Time since 1970 by the wall clock; zero if the wall clock is before 1970.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn wall(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

impl Time for Clock {
    fn now(&self) -> Instant {
        Self::now(self)
    }
}
