//! Bounded waiting: every loop in the suites uses one of these.

use std::time::{Duration, Instant};

/// A deadline.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline after this long.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        Self(now() + limit)
    }

    /// Whether it has passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        now() >= self.0
    }

    /// The time until it; zero once it has passed.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.0.saturating_duration_since(now())
    }
}

/// The test machine's monotonic clock.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "tests and measurements live in real time, outside any Runtime"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// Lets other threads and processes run for a while.
#[expect(
    clippy::disallowed_methods,
    reason = "a test thread that polls another process has nothing to be woken by"
)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Polls every `step` until there is an answer; `None` once `limit` has passed without one.
pub fn until<T>(limit: Duration, step: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Deadline::after(limit);
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if deadline.passed() {
            return None;
        }
        pause(step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_with_the_first_answer_or_with_the_limit() {
        let mut asked = 0;
        let third = until(Duration::from_secs(10), Duration::ZERO, || {
            asked += 1;
            (asked == 3).then_some("third")
        });
        assert_eq!((third, asked), (Some("third"), 3));
        assert_eq!(
            until(Duration::from_millis(5), Duration::from_millis(1), || None::<()>),
            None
        );
    }
}
