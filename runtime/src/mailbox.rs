//! The queue into a machine's thread: many senders, one receiver that takes all entries at once.
//!
//! Taking the whole queue turns a burst of requests into one turn of the machine and one write of the log. The receiver
//! waits on a condition variable with a deadline, so an idle member sleeps until its timer.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A bounded queue of `T` into one thread.
#[derive(Debug)]
pub struct Mailbox<T> {
    queue: Mutex<Queue<T>>,
    filled: Condvar,
    /// Number of items at which [`Mailbox::offer`] refuses.
    capacity: usize,
}

#[derive(Debug)]
struct Queue<T> {
    items: Vec<T>,
    /// How many of the items were added by [`Mailbox::offer_of`].
    of_kind: usize,
    /// How many were refused because the queue was full.
    refused: u64,
    closed: bool,
    receiver_waits: bool,
}

/// Why an item was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The receiver has ended or is about to.
    Closed,
    /// The queue is full.
    Full,
}

impl<T> Mailbox<T> {
    /// An empty mailbox that refuses offers above `capacity` items.
    pub fn new(capacity: usize) -> Self {
        let queue = Queue {
            items: Vec::new(),
            of_kind: 0,
            refused: 0,
            closed: false,
            receiver_waits: false,
        };
        Self {
            queue: Mutex::new(queue),
            filled: Condvar::new(),
            capacity,
        }
    }

    /// Adds an item from outside unless the queue is full or closed.
    pub fn offer(&self, item: T) -> Result<(), Refused> {
        self.add(item, |queue| queue.items.len() < self.capacity)
    }

    /// Adds an item of the one kind that has a bound of its own: at most `most` of them may wait. Other items do not
    /// count.
    pub fn offer_of(&self, most: usize, item: T) -> Result<(), Refused> {
        self.add(item, |queue| {
            let is_room = queue.of_kind < most;
            queue.of_kind += usize::from(is_room);
            is_room
        })
    }

    /// Adds an item that is never refused because the queue is full: the number of such items is bounded elsewhere (a
    /// lane's completion answers an effect of the machine).
    pub fn report(&self, item: T) -> Result<(), Refused> {
        self.add(item, |_| true)
    }

    fn add(&self, item: T, admit: impl FnOnce(&mut Queue<T>) -> bool) -> Result<(), Refused> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(Refused::Closed);
        }
        if !admit(&mut queue) {
            queue.refused += 1;
            return Err(Refused::Full);
        }
        queue.items.push(item);
        let wake = std::mem::take(&mut queue.receiver_waits);
        drop(queue);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Moves all queued items into `into`, which is empty; waits for the first item up to `patience` (for ever if
    /// `None`). False once the mailbox is closed and empty.
    pub fn take(&self, into: &mut Vec<T>, patience: Option<Duration>) -> bool {
        let mut queue = self.lock();
        if queue.items.is_empty() && !queue.closed {
            queue.receiver_waits = true;
            queue = match patience {
                Some(patience) => {
                    self.filled
                        .wait_timeout(queue, patience)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
            queue.receiver_waits = false;
        }
        std::mem::swap(&mut queue.items, into);
        queue.of_kind = 0;
        !(into.is_empty() && queue.closed)
    }

    /// The number of items that wait, and of those that were refused because the queue was full.
    pub fn state(&self) -> (usize, u64) {
        let queue = self.lock();
        (queue.items.len(), queue.refused)
    }

    /// Refuses further items; queued ones can still be taken.
    pub fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Refuses further items and drops queued ones: the receiver takes no more.
    pub fn abandon(&self) {
        self.close();
        let dropped = std::mem::take(&mut self.lock().items);
        // Outside the lock: a dropped item may wake a thread that uses the mailbox.
        drop(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        // A sender that panicked left only complete items, so the queue is still valid.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn everything_queued_is_taken_at_once_and_in_order() {
        let mailbox = Mailbox::new(8);
        for item in 1..=3 {
            mailbox.offer(item).unwrap();
        }
        let mut taken = Vec::new();
        assert!(mailbox.take(&mut taken, None));
        assert_eq!(taken, [1, 2, 3]);
    }

    #[test]
    fn an_offer_is_refused_when_full_and_a_report_is_not() {
        let mailbox = Mailbox::new(1);
        mailbox.offer(1).unwrap();
        assert_eq!(mailbox.offer(2), Err(Refused::Full));
        mailbox.report(3).unwrap();
        assert_eq!(mailbox.state(), (2, 1), "two wait, one was refused");
    }

    #[test]
    fn items_of_a_kind_have_a_bound_of_their_own() {
        let mailbox = Mailbox::new(2);
        mailbox.report(1).unwrap();
        mailbox.report(2).unwrap();
        mailbox.offer_of(1, 3).unwrap();
        assert_eq!(mailbox.offer_of(1, 4), Err(Refused::Full));
        let mut taken = Vec::new();
        assert!(mailbox.take(&mut taken, None));
        assert_eq!(taken, [1, 2, 3]);
        mailbox.offer_of(1, 5).unwrap();
    }

    #[test]
    fn a_wait_ends_at_its_patience() {
        let mailbox = Mailbox::<u8>::new(1);
        let mut taken = Vec::new();
        assert!(mailbox.take(&mut taken, Some(Duration::from_millis(1))));
        assert!(taken.is_empty());
    }

    #[test]
    fn a_closed_mailbox_is_drained_and_then_ends() {
        let mailbox = Arc::new(Mailbox::new(4));
        mailbox.offer(1).unwrap();
        mailbox.close();
        assert_eq!(mailbox.offer(2), Err(Refused::Closed));
        let mut taken = Vec::new();
        assert!(mailbox.take(&mut taken, None));
        taken.clear();
        assert!(!mailbox.take(&mut taken, None));
    }

    #[test]
    fn abandoning_a_mailbox_drops_its_items_at_once() {
        let mailbox = Mailbox::new(4);
        let item = Arc::new(());
        mailbox.offer(Arc::clone(&item)).unwrap();
        mailbox.abandon();
        assert_eq!(Arc::strong_count(&item), 1, "its sender need not wait for an answer");
        assert_eq!(mailbox.offer(item), Err(Refused::Closed));
    }

    #[test]
    fn a_waiting_receiver_is_woken() {
        let mailbox = Arc::new(Mailbox::new(4));
        let sender = Arc::clone(&mailbox);
        let thread = std::thread::spawn(move || sender.offer(7));
        let mut taken = Vec::new();
        while taken.is_empty() {
            assert!(mailbox.take(&mut taken, Some(Duration::from_secs(5))));
        }
        assert_eq!(taken, [7]);
        thread.join().unwrap().unwrap();
    }
}
