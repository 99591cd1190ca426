//! The memory of incomplete messages that the calls of one connection hold.
//!
//! Below the bound, every call reads as its client sends. Above it only the call that began to read first continues, so
//! that a message of the largest size always completes; data of the other calls stays in their streams' windows, which
//! are small compared with the connection's. A call that waits too long fails.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quoin_core::limits::{CONNECTION_PARTIAL_BYTES, PARTIAL_PATIENCE_SECONDS};

use super::status::{RESOURCE_EXHAUSTED, Status};
use crate::seam::{Runtime, Sleep};

/// The bytes that the calls of one connection hold together; clones share them.
#[derive(Clone)]
pub(crate) struct Partials(Arc<Connection>);

struct Connection {
    runtime: Arc<dyn Runtime>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    bytes: usize,
    next: u64,
    /// The calls that have part of a message, oldest first, each with its waker while it waits.
    calls: BTreeMap<u64, Option<Waker>>,
}

/// The bytes that one call holds; dropping it releases them.
pub(crate) struct Partial {
    partials: Partials,
    number: u64,
    bytes: usize,
    patience: Option<Sleep>,
}

impl Partials {
    /// The bytes of a new connection.
    pub(crate) fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self(Arc::new(Connection {
            runtime,
            held: Mutex::default(),
        }))
    }

    /// A call begins to hold part of a message.
    pub(crate) fn begin(&self) -> Partial {
        let mut held = self.lock();
        let number = held.next;
        held.next += 1;
        held.calls.insert(number, None);
        Partial {
            partials: self.clone(),
            number,
            bytes: 0,
            patience: None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn may_read(&self, number: u64) -> bool {
        self.bytes < CONNECTION_PARTIAL_BYTES || self.calls.first_key_value().is_some_and(|(first, _)| *first == number)
    }

    /// The wakers of the calls that may read now.
    fn take_wakers(&mut self) -> Vec<Waker> {
        if self.bytes < CONNECTION_PARTIAL_BYTES {
            return self.calls.values_mut().filter_map(Option::take).collect();
        }
        let first = self.calls.first_entry();
        first.and_then(|mut first| first.get_mut().take()).into_iter().collect()
    }
}

impl Partial {
    /// Sets the bytes that the call holds. Ready when it may read more; fails once it has waited too long.
    pub(crate) fn poll_room(&mut self, bytes: usize, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let mut held = self.partials.lock();
        held.bytes = held.bytes - self.bytes + bytes;
        self.bytes = bytes;
        if held.may_read(self.number) {
            held.calls.insert(self.number, None);
            self.patience = None;
            return Poll::Ready(Ok(()));
        }
        held.calls.insert(self.number, Some(cx.waker().clone()));
        drop(held);
        let runtime = &self.partials.0.runtime;
        let patience = self.patience.get_or_insert_with(|| {
            runtime.sleep_until(runtime.clock().now() + Duration::from_secs(PARTIAL_PATIENCE_SECONDS))
        });
        patience.as_mut().poll(cx).map(|()| {
            let message = "too many unfinished messages on one connection";
            Err(Status::new(RESOURCE_EXHAUSTED, message))
        })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let mut held = self.partials.lock();
        held.bytes -= self.bytes;
        held.calls.remove(&self.number);
        let wakers = held.take_wakers();
        drop(held);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for Partials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partials").finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use quoin_core::time::Instant;
    use std::io;

    use super::*;
    use crate::clock::Clock;
    use crate::seam::{Acceptor, Listener, Serve, Socket, Stream, Task};

    /// A runtime whose timers never fire and whose other methods do nothing.
    struct NoRuntime(Clock);

    impl Runtime for NoRuntime {
        fn name(&self) -> &'static str {
            "none"
        }

        fn clock(&self) -> Clock {
            self.0
        }

        fn sleep_until(&self, _: Instant) -> Sleep {
            Box::pin(std::future::pending())
        }

        fn spawn(&self, _: Task) {}

        fn listen(&self, _: Acceptor) -> io::Result<Box<dyn Listener>> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn attach(&self, _: Stream) -> io::Result<Box<dyn Socket>> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn place(&self, _: Stream, _: Serve) {}
    }

    impl Partials {
        /// The bytes of a connection without other calls.
        pub(crate) fn alone() -> Self {
            Self::new(Arc::new(NoRuntime(Clock::new())))
        }
    }

    fn may_read(partial: &mut Partial, bytes: usize) -> bool {
        let polled = partial.poll_room(bytes, &mut Context::from_waker(Waker::noop()));
        polled.map(|room| room.unwrap()).is_ready()
    }

    #[test]
    fn above_the_bound_only_the_oldest_call_continues_to_read() {
        let partials = Partials::alone();
        let mut calls: Vec<Partial> = (0..3).map(|_| partials.begin()).collect();
        let half = CONNECTION_PARTIAL_BYTES / 2;
        assert!(may_read(&mut calls[1], half - 1));
        assert!(may_read(&mut calls[2], half));
        assert!(!may_read(&mut calls[1], half));
        assert!(!may_read(&mut calls[2], half));
        assert!(may_read(&mut calls[0], 1), "the oldest reads whatever the others hold");
        assert!(may_read(&mut calls[0], CONNECTION_PARTIAL_BYTES));
        drop(calls.remove(0));
        assert!(may_read(&mut calls[0], half), "now this is the oldest");
        assert!(!may_read(&mut calls[1], half));
        drop(calls.remove(0));
        assert!(may_read(&mut calls[0], half));
        drop(calls);
        assert_eq!(partials.lock().bytes, 0);
    }

    #[test]
    fn calls_that_wait_are_woken_when_there_is_room() {
        let partials = Partials::alone();
        let (mut oldest, mut other) = (partials.begin(), partials.begin());
        assert!(may_read(&mut oldest, CONNECTION_PARTIAL_BYTES));
        assert!(!may_read(&mut other, 1));
        assert!(partials.lock().calls.values().any(Option::is_some));
        drop(oldest);
        assert!(
            partials.lock().calls.values().all(Option::is_none),
            "its waker was called"
        );
        assert!(may_read(&mut other, 1));
    }
}
