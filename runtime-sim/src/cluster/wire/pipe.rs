//! One direction of an exchange: items that arrive in order, and the bytes that the writer may not forget yet.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use quoin_core::peer::PeerHead;
use quoin_core::random::Prng;
use quoin_core::time::Instant;

/// A part of a request or of a response.
#[derive(Debug)]
pub(super) enum Item {
    /// The head of a request.
    Request(PeerHead),
    /// The status and the head of a response.
    Response(u16, PeerHead),
    /// Bytes of a body, and whether they are the last of what was written at once.
    Bytes(Bytes, bool),
    /// The body is complete.
    End,
    /// The connection was closed by the writer.
    Closed,
}

/// One direction of an exchange.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    items: VecDeque<(Instant, Item)>,
    /// When the last item arrives.
    last: Instant,
    /// Bytes that were written and are not acknowledged.
    unread: usize,
    /// Bytes that were read, but whose acknowledgement is lost because the other direction of the link is cut.
    owed: usize,
    /// The writer waits until less is unread.
    pub(super) waits: bool,
    /// The time of the next planned arrival.
    planned: Option<Instant>,
    /// The link delivers nothing.
    pub(super) is_held: bool,
    /// The reader has a part of what was written at once, and not all of it.
    pub(super) is_in_frame: bool,
}

impl Pipe {
    /// Adds an item that takes `latency`, after everything before it.
    pub(super) fn put(&mut self, now: Instant, latency: Duration, item: Item) {
        if let Item::Bytes(bytes, _) = &item {
            self.unread += bytes.len();
        }
        self.last = self.last.max(now + latency);
        self.items.push_back((self.last, item));
    }

    /// The link is slow: what follows arrives only after the bytes before it.
    pub(super) fn slow_down(&mut self, now: Instant, by: Duration) {
        self.last = self.last.max(now) + by;
    }

    /// The link delivers again: everything that was sent arrives at `at`.
    pub(super) fn resume(&mut self, at: Instant) {
        for (arrival, _) in &mut self.items {
            *arrival = at;
        }
        self.last = at;
    }

    /// The link is not slow any more: what was sent arrives at `at` at the latest.
    pub(super) fn hasten(&mut self, at: Instant) {
        for (arrival, _) in &mut self.items {
            *arrival = at.min(*arrival);
        }
        self.last = self.last.min(at);
    }

    /// The next item, if it is due.
    pub(super) fn take(&mut self, now: Instant) -> Option<Item> {
        if self.is_held || self.items.front().is_none_or(|(at, _)| *at > now) {
            return None;
        }
        let (_, item) = self.items.pop_front()?;
        if let Item::Bytes(_, is_last) = &item {
            self.is_in_frame = !is_last;
        }
        Some(item)
    }

    /// The reader has these bytes; its acknowledgement arrives or is lost.
    pub(super) fn read(&mut self, bytes: usize, is_acknowledged: bool) {
        self.owed += bytes;
        if is_acknowledged {
            self.acknowledge();
        }
    }

    /// Acknowledgements arrive again.
    pub(super) fn acknowledge(&mut self) {
        self.unread = self.unread.saturating_sub(std::mem::take(&mut self.owed));
    }

    /// Whether the writer's kernel takes more.
    pub(super) fn has_room(&self, window: usize) -> bool {
        self.unread < window
    }

    /// Of what is in transit, half of the time only a part arrives.
    pub(super) fn lose(&mut self, prng: &mut Prng) {
        if !self.items.is_empty() && prng.below(2) == 0 {
            self.items.truncate(prng.below(self.items.len() as u64) as usize);
        }
    }

    /// When an arrival must be planned that is not planned yet; it then counts as planned.
    pub(super) fn plan(&mut self) -> Option<Instant> {
        let due = self.items.front().map(|(at, _)| *at).filter(|_| !self.is_held)?;
        let is_planned = self.planned.is_some_and(|planned| planned <= due);
        (!is_planned).then(|| *self.planned.insert(due))
    }

    /// A planned arrival has come.
    pub(super) fn arrived(&mut self, now: Instant) {
        self.planned = self.planned.filter(|planned| *planned > now);
    }
}
