//! Room for connections: how many may be open at a time on a group of listeners. A listener without room accepts
//! nothing, so further connections wait in the kernel's backlog.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The connections of a group of listeners; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    open: usize,
    most: usize,
    /// Listeners that wait for room.
    waiting: Vec<Waker>,
}

/// The place of one open connection; dropping it makes room.
#[derive(Debug)]
pub(crate) struct Place(Room);

impl Room {
    /// Room for this many connections.
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            open: 0,
            most,
            waiting: Vec::new(),
        })))
    }

    /// Ready when another connection may be accepted. Several listeners may see the same free place and all accept, so
    /// the number of connections can exceed the room by the number of other listeners.
    pub(crate) fn poll_free(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.open < state.most {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Takes the place of a connection that was accepted.
    pub(crate) fn take(&self) -> Place {
        self.lock().open += 1;
        Place(self.clone())
    }

    /// The number of connections, and how many there may be.
    pub(crate) fn state(&self) -> (usize, usize) {
        let state = self.lock();
        (state.open, state.most)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.open -= 1;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
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
    fn a_full_room_wakes_its_listeners_when_a_connection_ends() {
        let room = Room::new(2);
        let wakes = [Arc::new(Wakes::default()), Arc::new(Wakes::default())];
        let wakers = wakes.clone().map(Waker::from);
        let cx = wakers.iter().map(Context::from_waker).collect::<Vec<_>>();
        assert!(room.poll_free(&cx[0]).is_ready());
        let first = room.take();
        let second = room.take();
        for _ in 0..3 {
            assert!(room.poll_free(&cx[0]).is_pending());
            assert!(room.poll_free(&cx[1]).is_pending());
        }
        assert_eq!(room.lock().waiting.len(), 2, "a listener is in the list once");
        drop(first);
        assert!(wakes.iter().all(|wakes| wakes.0.load(Ordering::Relaxed) == 1));
        assert!(room.poll_free(&cx[1]).is_ready());
        drop(second);
        assert_eq!(room.lock().open, 0);
    }
}
