//! Planned events, ordered by time, then by when they were planned.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use quoin_core::time::Instant;

use crate::observe::{OpId, StreamId};

/// A planned event. Numbers are those of machines; a `life` makes the event void once that process has ended.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// An answer reaches its client.
    Answer(OpId),
    /// Something that a side of an exchange sent reaches the other, which is given here.
    Arrive { number: u64, side: usize },
    /// A side of an exchange learns that the connection is lost.
    Broken { number: u64, side: usize },
    /// A request reaches its member.
    Call(OpId),
    /// A response that waits at a member for a client's stream is taken.
    StreamTake(StreamId),
    /// A response that was taken reaches the client.
    StreamArrive(StreamId),
    /// A watch stream reaches its member.
    StreamOpen(StreamId),
    /// A client's request on a stream reaches the member.
    StreamAsk(StreamId),
    /// The end of a stream reaches the other side.
    StreamEnd(StreamId),
    /// Clients are due to act.
    Clients,
    /// A client gives up.
    Deadline(OpId),
    /// The bytes that a side of an exchange has written have left.
    Drained { number: u64, side: usize },
    /// A planned fault begins.
    FaultBegins(usize),
    /// A planned fault ends.
    FaultEnds(usize),
    /// A flapping partition changes.
    FaultFlaps(usize),
    /// The run is over.
    Finish,
    /// From here on there are no faults.
    Heal,
    /// The quorum that continues may be up.
    Healed,
    /// A request is forwarded to the leader, or its answer returns.
    Hop(u32),
    /// The watch hub has input.
    Hub { machine: usize, life: u64 },
    /// A message that a fault has delayed is given to the peer protocol.
    LateMessage(u32),
    /// A life of the member that is to die has lasted long enough.
    LifeEnds(u64),
    /// The log's lane has finished its jobs.
    Log { machine: usize, life: u64 },
    /// The report of the log's lane is due.
    LogReports { machine: usize, life: u64 },
    /// The operator continues its tasks.
    Operator,
    /// A request that must be tried again.
    Retry(OpId),
    /// The table's lane has finished its jobs.
    Rows { machine: usize, life: u64 },
    /// The report of the table's lane is due.
    RowsReports { machine: usize, life: u64 },
    /// A machine's process starts.
    Start { machine: usize, power: u64 },
    /// The peer protocol of a process has something to do.
    Transport { machine: usize, life: u64 },
    /// The node takes a turn.
    Turn { machine: usize, life: u64 },
    /// A timer in a process is due.
    Wake { machine: usize, life: u64 },
}

struct Planned {
    at: Instant,
    sequence: u64,
    what: What,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// The queue.
#[derive(Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<Planned>>,
    sequence: u64,
}

impl Queue {
    /// Plans an event.
    pub(super) fn push(&mut self, at: Instant, what: What) {
        self.sequence += 1;
        self.heap.push(Reverse(Planned {
            at,
            sequence: self.sequence,
            what,
        }));
    }

    /// The next event.
    pub(super) fn pop(&mut self) -> Option<(Instant, What)> {
        self.heap.pop().map(|Reverse(planned)| (planned.at, planned.what))
    }
}

/// Items kept by number until they are taken; numbers are used again.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Shelf<T> {
    /// Keeps a thing.
    pub(super) fn put(&mut self, thing: T) -> u32 {
        if let Some(place) = self.free.pop() {
            self.places[place as usize] = Some(thing);
            return place;
        }
        self.places.push(Some(thing));
        u32::try_from(self.places.len() - 1).expect("fewer things than fit in memory")
    }

    /// Takes it.
    pub(super) fn take(&mut self, place: u32) -> Option<T> {
        let thing = self.places[place as usize].take();
        if thing.is_some() {
            self.free.push(place);
        }
        thing
    }

    /// Reads it.
    pub(super) fn get(&self, place: u32) -> Option<&T> {
        self.places[place as usize].as_ref()
    }
}
