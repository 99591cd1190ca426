//! What a hub remembers of a stream and of a watcher. Who reads and changes it is in the other files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::range::KeyRange;
use super::response::Response;
use super::{StreamId, WatchOutput};
use crate::limits::{WATCH_STREAM_QUEUE_BYTES, WATCH_STREAM_QUEUE_RESPONSES};
use crate::mvcc::EventKind;
use crate::time::Instant;

/// A client's stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    /// Slots of its watchers, by watch id.
    pub(super) watchers: BTreeMap<i64, u32>,
    /// Ids of watches that compaction ended: they stay taken until the client cancels them.
    pub(super) compacted: BTreeSet<i64>,
    /// The id given out next, unless it is taken.
    pub(super) next_id: i64,
    /// Slow watchers that wait for room in the queue: the revision each needs next, and its slot.
    pub(super) waiting: BTreeSet<(i64, u32)>,
    /// Slow watchers that may catch up, each counting on room for one response.
    pub(super) admitted: usize,
    /// How many watchers want to hear of progress.
    pub(super) notifying: usize,
    /// When they do, while there are any.
    pub(super) tick: Option<Instant>,
    opened: Instant,
    period: Duration,
    unsent: VecDeque<Unsent>,
    unsent_bytes: usize,
}

/// A response in the host's queue.
#[derive(Clone, Copy, Debug)]
struct Unsent {
    bytes: usize,
    events: usize,
}

impl Stream {
    /// A stream opened at `opened` that hears of progress once a `period`, which is not zero.
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
        }
    }

    /// Queues `response`.
    pub(super) fn send(&mut self, response: Response, out: &mut Vec<WatchOutput>) {
        let bytes = response.events.encoded_len();
        self.unsent.push_back(Unsent {
            bytes,
            events: response.events.len(),
        });
        self.unsent_bytes += bytes;
        out.push(WatchOutput {
            stream: self.id,
            response,
        });
    }

    /// Forgets the first `responses` of the queue; how many events were in them.
    pub(super) fn sent(&mut self, responses: usize) -> usize {
        let responses = responses.min(self.unsent.len());
        let gone = self.unsent.drain(..responses);
        let (bytes, events) = gone.fold((0, 0), |(bytes, events), unsent| {
            (bytes + unsent.bytes, events + unsent.events)
        });
        self.unsent_bytes -= bytes;
        events
    }

    /// How many responses with events the queue has room for.
    pub(super) fn room(&self) -> usize {
        if self.unsent_bytes < WATCH_STREAM_QUEUE_BYTES {
            WATCH_STREAM_QUEUE_RESPONSES.saturating_sub(self.unsent.len())
        } else {
            0
        }
    }

    /// Events in the queue.
    pub(super) fn unsent_events(&self) -> usize {
        self.unsent.iter().map(|unsent| unsent.events).sum()
    }

    /// Takes the watch id `asked`, or the next free one for 0; nothing if it is taken.
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

    /// The first moment after `now` at which the stream hears of progress.
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
    /// The revision the client asked to start at; 0 is from now on.
    pub(super) start: i64,
    /// No event before this revision is for it. A slow watcher has got everything before and nothing since; for a
    /// synced one it only matters while it is in the future.
    pub(super) next: i64,
    pub(super) slow: bool,
    pub(super) no_put: bool,
    pub(super) no_delete: bool,
    pub(super) prev_kv: bool,
    pub(super) fragment: bool,
    pub(super) progress: Progress,
}

/// Whether a watcher hears of progress at its stream's next tick.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    /// It never does.
    Off,
    /// It does.
    Due,
    /// It does not, having got events since the last tick.
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

    /// Whether "you have got everything up to `revision`, the store's" can be said of it. Not before it began.
    pub(super) fn has_all(&self, revision: i64) -> bool {
        !self.slow && self.start <= revision && self.next <= revision + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_count_from_zero_and_skip_those_taken() {
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
