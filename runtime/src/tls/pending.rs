//! The handshakes in progress on a group of ports. Their number is bounded: when it is reached, the oldest one is cut,
//! so that connections that send nothing cannot keep others from being secured.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::serve::stop::{Stop, Stopper, stop_signal};

/// The handshakes in progress, by their order.
#[derive(Debug)]
pub(super) struct Pending {
    most: usize,
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Stopper>>,
}

/// A handshake in progress, until it is dropped.
pub(super) struct Entered {
    pending: Arc<Pending>,
    number: u64,
}

impl Pending {
    /// Room for this many handshakes.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: most.max(1),
            next: AtomicU64::new(0),
            open: Mutex::default(),
        })
    }

    /// Begins a handshake. The signal cuts it.
    pub(super) fn enter(self: &Arc<Self>) -> (Entered, Stop) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (stopper, cut) = stop_signal();
        let oldest = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.insert(number, stopper);
            if open.len() > self.most { open.pop_first() } else { None }
        };
        if let Some((_, stopper)) = oldest {
            stopper.send();
        }
        let pending = Arc::clone(self);
        (Entered { pending, number }, cut)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut open = self.pending.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn the_oldest_handshake_is_cut_when_there_are_too_many() {
        let pending = Pending::new(2);
        let is_cut = |stop: &mut Stop| stop.poll_stopped(&mut Context::from_waker(Waker::noop())).is_ready();
        let (first, mut first_cut) = pending.enter();
        let (second, mut second_cut) = pending.enter();
        drop(second);
        let (_third, mut third_cut) = pending.enter();
        assert!(!is_cut(&mut first_cut), "a finished handshake takes no place");
        let (_fourth, _) = pending.enter();
        assert!(is_cut(&mut first_cut) && !is_cut(&mut third_cut));
        drop(first);
        assert_eq!(pending.open.lock().unwrap().len(), 2);
        // Its handshake was over before, so its signal only says that the sender is gone.
        assert!(is_cut(&mut second_cut));
    }
}
