//! A bound of the bytes of a body that are on their way to another thread. At the bound, the body's reader waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The window of one body; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Window(Arc<Mutex<Flow>>);

#[derive(Debug)]
struct Flow {
    held: usize,
    most: usize,
    /// The reader that waits for room.
    waiting: Option<Waker>,
}

/// Bytes that are on their way; dropping it makes room.
#[derive(Debug)]
pub(crate) struct InFlight {
    window: Window,
    bytes: usize,
}

impl Window {
    /// A window of this many bytes.
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(Flow {
            held: 0,
            most,
            waiting: None,
        })))
    }

    /// Ready when the next piece may be read, whatever its size.
    pub(crate) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.held < state.most {
            return Poll::Ready(());
        }
        state.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Notes that these bytes are on their way.
    pub(crate) fn hold(&self, bytes: usize) -> InFlight {
        self.lock().held += bytes;
        let window = self.clone();
        InFlight { window, bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Flow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.window.lock();
        state.held -= self.bytes;
        let waiting = if state.held < state.most {
            state.waiting.take()
        } else {
            None
        };
        drop(state);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_reader_waits_until_there_is_room_again() {
        let window = Window::new(10);
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let cx = Context::from_waker(&waker);
        let first = window.hold(9);
        assert!(window.poll_room(&cx).is_ready(), "one byte is free");
        let second = window.hold(20);
        assert!(window.poll_room(&cx).is_pending());
        drop(first);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0, "20 bytes are still on their way");
        drop(second);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert!(window.poll_room(&cx).is_ready());
    }
}
