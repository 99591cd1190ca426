//! Virtual time: a clock that only moves when it is moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quoin_core::time::Instant;
use quoin_runtime::clock::Time;

/// A clock; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Hand {
    nanos: Arc<AtomicU64>,
}

impl Hand {
    /// Advances by `time`.
    pub fn advance(&self, time: Duration) {
        self.nanos.store((self.now() + time).as_nanos(), Ordering::Relaxed);
    }

    /// Advances to `moment`, unless that has passed.
    pub fn advance_to(&self, moment: Instant) {
        self.nanos.fetch_max(moment.as_nanos(), Ordering::Relaxed);
    }
}

impl Time for Hand {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.nanos.load(Ordering::Relaxed))
    }
}
