//! The state of a stream and of a watcher in the hub. The code that uses it is in the other files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::range::KeyRange;
use super::response::Response;
use super::{StreamId, WatchInput, WatchOutput};
use crate::limits::{WATCH_STREAM_QUEUE_BYTES, WATCH_STREAM_QUEUE_RESPONSES};
use crate::mvcc::EventKind;
use crate::time::Instant;

/// A client's stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    /// Slots of its watchers, by watch id.
    pub(super) watchers: BTreeMap<i64, u32>,
    /// Ids of watches that a compaction cancelled: they stay used until the client cancels them.
    pub(super) compacted: BTreeSet<i64>,
    /// The next id to give out, unless it is used.
    pub(super) next_id: i64,
    /// Slow watchers that wait for room in the queue: the revision each needs next, and its slot.
    pub(super) waiting: BTreeSet<(i64, u32)>,
    /// Slow watchers that may catch up; room for one response is reserved for each.
    pub(super) admitted: usize,
    /// How many watchers ask for progress.
    pub(super) notifying: usize,
    /// When those watchers are next sent progress; `None` if there are none.
    pub(super) tick: Option<Instant>,
    opened: Instant,
    period: Duration,
    /// Responses that the client has not taken, in order: those in the host's queue, then the backlog.
    unsent: VecDeque<Unsent>,
    unsent_bytes: usize,
    /// The last fragments of one response, for which the host's queue has no room. Every other response is sent only
    /// while there is room.
    backlog: VecDeque<Response>,
    /// Requests that wait until the host's queue has room, because each may need an answer.
    pub(super) held: VecDeque<WatchInput>,
}

/// A response that the client has not taken.
#[derive(Clone, Copy, Debug)]
struct Unsent {
    bytes: usize,
    events: usize,
}

impl Stream {
    /// A stream opened at `opened` that is sent progress once every `period`, which is not zero.
    pub(super) fn new(id: StreamId, opened: Instant, period: Duration) -> Self {
        Self {
            id,
            watchers: BTreeMap::new(),
            compacted: BTreeSet::new(),
            next_id: 0,
            waiting: BTreeSet::new(),
            admitted: 0,
            notifying: 0,
            tick: None,
            opened,
            period,
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            backlog: VecDeque::new(),
            held: VecDeque::new(),
        }
    }

    /// Queues `response`.
    pub(super) fn send(&mut self, response: Response, out: &mut Vec<WatchOutput>) {
        let bytes = response.events.encoded_len();
        let is_full = self.is_full();
        self.unsent.push_back(Unsent {
            bytes,
            events: response.events.len(),
        });
        self.unsent_bytes += bytes;
        if is_full {
            self.backlog.push_back(response);
        } else {
            self.hand_out(response, out);
        }
    }

    fn hand_out(&self, response: Response, out: &mut Vec<WatchOutput>) {
        out.push(WatchOutput {
            stream: self.id,
            response,
        });
    }

    /// Takes the first `responses` out of the host's queue, and hands out waiting responses while there is room.
    /// Returns the number of events in the responses taken out.
    pub(super) fn sent(&mut self, responses: usize, out: &mut Vec<WatchOutput>) -> usize {
        let responses = responses.min(self.queued());
        let gone = self.unsent.drain(..responses);
        let (bytes, events) = gone.fold((0, 0), |(bytes, events), unsent| {
            (bytes + unsent.bytes, events + unsent.events)
        });
        self.unsent_bytes -= bytes;
        while self.queued() < WATCH_STREAM_QUEUE_RESPONSES
            && let Some(response) = self.backlog.pop_front()
        {
            self.hand_out(response, out);
        }
        events
    }

    /// Responses in the host's queue.
    fn queued(&self) -> usize {
        self.unsent.len() - self.backlog.len()
    }

    /// Whether the host's queue has no room, so that requests are held back.
    pub(super) fn is_full(&self) -> bool {
        self.unsent.len() >= WATCH_STREAM_QUEUE_RESPONSES
    }

    /// Asserts that a response waits, and a request is held back, only while the host's queue is full.
    pub(super) fn check(&self) {
        assert!(
            self.queued() <= WATCH_STREAM_QUEUE_RESPONSES,
            "the host's queue has room for what it is given"
        );
        assert!(
            self.backlog.is_empty() || self.queued() == WATCH_STREAM_QUEUE_RESPONSES,
            "a response waits only for room"
        );
        assert!(
            self.held.is_empty() || self.is_full(),
            "a request is held back only while there is no room"
        );
    }

    /// How many responses with events the host's queue has room for.
    pub(super) fn room(&self) -> usize {
        if self.unsent_bytes < WATCH_STREAM_QUEUE_BYTES {
            WATCH_STREAM_QUEUE_RESPONSES.saturating_sub(self.unsent.len())
        } else {
            0
        }
    }

    /// Events that the client has not taken.
    pub(super) fn unsent_events(&self) -> usize {
        self.unsent.iter().map(|unsent| unsent.events).sum()
    }

    /// Takes the watch id `asked`, or the next free one for 0; `None` if it is used.
    pub(super) fn take_id(&mut self, asked: i64) -> Option<i64> {
        if asked != 0 {
            return (!self.is_taken(asked)).then_some(asked);
        }
        while self.is_taken(self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Some(self.next_id - 1)
    }

    fn is_taken(&self, id: i64) -> bool {
        self.watchers.contains_key(&id) || self.compacted.contains(&id)
    }

    /// The first time after `now` at which the stream is sent progress.
    pub(super) fn tick_after(&self, now: Instant) -> Instant {
        let period = self.period.as_nanos();
        let since = now.saturating_since(self.opened).as_nanos();
        let ticks = (since / period + 1) * period;
        let nanos = u128::from(self.opened.as_nanos()) + ticks;
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// One watch of a stream.
#[derive(Debug)]
pub(super) struct Watcher {
    /// Slot of its stream.
    pub(super) stream: u32,
    pub(super) id: i64,
    pub(super) range: KeyRange,
    /// The revision the client asked to start at; 0 means from now on.
    pub(super) start: i64,
    /// The first revision whose events it still needs. A slow watcher has received everything before. A synced watcher
    /// has received everything; for it, this matters only while it is in the future.
    pub(super) next: i64,
    pub(super) slow: bool,
    pub(super) no_put: bool,
    pub(super) no_delete: bool,
    pub(super) prev_kv: bool,
    pub(super) fragment: bool,
    pub(super) progress: Progress,
}

/// Whether a watcher is sent progress at its stream's next tick.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    /// Never: it did not ask.
    Off,
    /// Yes.
    Due,
    /// No: it was sent events since the last tick.
    Skipped,
}

impl Watcher {
    /// Whether the watcher's filters let the event pass.
    pub(super) fn wants(&self, kind: EventKind) -> bool {
        match kind {
            EventKind::Delete => !self.no_delete,
            EventKind::Put => !self.no_put,
        }
    }

    /// Whether it has begun, and has received everything up to `revision`, which is the store's.
    pub(super) fn has_all(&self, revision: i64) -> bool {
        !self.slow && self.start <= revision && self.next <= revision + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watch_ids_count_from_zero_and_skip_used_ones() {
        let mut stream = Stream::new(StreamId(1), Instant::ZERO, Duration::from_secs(1));
        let mut take = |asked| {
            let id = stream.take_id(asked)?;
            stream.watchers.insert(id, 0);
            Some(id)
        };
        assert_eq!([take(0), take(2), take(0)], [Some(0), Some(2), Some(1)]);
        assert_eq!(take(0), Some(3), "2 is taken");
        assert_eq!([take(2), take(-7), take(-7)], [None, Some(-7), None]);
        stream.watchers.remove(&2);
        stream.compacted.insert(2);
        assert_eq!(stream.take_id(2), None, "until the client has cancelled it");
    }

    fn numbered(watch_id: i64) -> Response {
        Response {
            watch_id,
            ..Response::default()
        }
    }

    #[test]
    fn responses_without_room_in_the_hosts_queue_follow_in_order() {
        let mut stream = Stream::new(StreamId(1), Instant::ZERO, Duration::from_secs(1));
        let (all, mut out) = (WATCH_STREAM_QUEUE_RESPONSES as i64 + 3, Vec::new());
        for number in 0..all {
            stream.send(numbered(number), &mut out);
            stream.check();
        }
        assert_eq!(out.len(), WATCH_STREAM_QUEUE_RESPONSES);
        stream.sent(2, &mut out);
        stream.check();
        assert!(
            stream.is_full(),
            "one still waits, and precedes the answer to any request"
        );
        stream.send(numbered(all), &mut out);
        stream.sent(usize::MAX, &mut out);
        stream.check();
        let ids: Vec<i64> = out.iter().map(|output| output.response.watch_id).collect();
        assert_eq!(ids, (0..=all).collect::<Vec<_>>());
        assert!(!stream.is_full());
    }

    #[test]
    fn ticks_are_whole_periods_after_the_opening() {
        let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
        let stream = Stream::new(StreamId(1), at(5), Duration::from_secs(10));
        assert_eq!(stream.tick_after(at(5)), at(15));
        assert_eq!(stream.tick_after(at(14)), at(15));
        assert_eq!(stream.tick_after(at(15)), at(25));
        assert_eq!(
            stream.tick_after(at(1_000)),
            at(1_005),
            "missed ticks are not made up for"
        );
        assert_eq!(stream.tick_after(Instant::MAX), Instant::MAX);
    }
}
