//! How long a thread has been at one piece of work, so that health checks find threads that are stuck.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quoin_core::time::Instant;

/// One thread's pulse; clones share it.
#[derive(Clone, Debug)]
pub struct Pulse {
    thread: &'static str,
    /// When the present work began, in nanoseconds of the member's clock; [`IDLE`] between two pieces of work.
    since: Arc<AtomicU64>,
}

const IDLE: u64 = u64::MAX;

/// A thread that has been at one piece of work for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The thread's name.
    pub thread: &'static str,
    /// For how long.
    pub duration: Duration,
}

impl Pulse {
    /// The pulse of a thread that waits for work.
    pub fn new(thread: &'static str) -> Self {
        Self {
            thread,
            since: Arc::new(AtomicU64::new(IDLE)),
        }
    }

    /// The thread's name.
    pub fn thread(&self) -> &'static str {
        self.thread
    }

    /// The thread begins a piece of work.
    pub fn begin(&self, now: Instant) {
        self.since.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// The thread waits again, or begins work that may take any time.
    pub fn rest(&self) {
        self.since.store(IDLE, Ordering::Relaxed);
    }

    /// Whether the thread has been at one piece of work for at least `limit`.
    pub fn stuck(&self, now: Instant, limit: Duration) -> Option<Stuck> {
        let since = self.since.load(Ordering::Relaxed);
        let duration = now.saturating_since(Instant::from_nanos(since));
        (since != IDLE && duration >= limit).then_some(Stuck {
            thread: self.thread,
            duration,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_stuck_while_one_piece_of_work_lasts_too_long() {
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let limit = Duration::from_secs(5);
        let pulse = Pulse::new("quoin-test");
        assert_eq!(pulse.stuck(at(100), limit), None);
        pulse.begin(at(100));
        assert_eq!(pulse.stuck(at(104), limit), None);
        let stuck = pulse.stuck(at(107), limit).unwrap();
        assert_eq!((stuck.thread, stuck.duration), ("quoin-test", Duration::from_secs(7)));
        pulse.begin(at(107));
        assert_eq!(pulse.stuck(at(108), limit), None, "another piece of work");
        pulse.rest();
        assert_eq!(pulse.stuck(at(200), limit), None);
    }
}
