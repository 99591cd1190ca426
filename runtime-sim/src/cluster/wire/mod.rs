//! The network between members as bytes: the members' own peer protocol ([`quoin_core::peer`]) over pipes.
//!
//! Each process has a [`Transport`](quoin_core::peer::Transport), which turns messages of its node into HTTP exchanges
//! and the bytes of exchanges into messages. The simulator is its host: it makes connections, carries bytes, saves
//! snapshots, and answers the question for a version.
//!
//! # Fault model
//! A sound exchange is two pipes: bytes arrive once and in order, cut into chunks of random sizes, after the latency of
//! the link. A writer may have a window of bytes that the reader did not acknowledge; the rest waits, and the writer's
//! machine is not told that its bytes have left.
//! - A link that is **cut** (Isolate, Split, Bridge, Ring, OneWay, Deaf, Flap) holds the bytes of its exchanges. They
//!   arrive after the link is whole again, as TCP sends them again; or the exchange is reset meanwhile, for some at a
//!   point in the middle of a frame. If only one direction is cut, bytes of the other arrive, but are not acknowledged.
//! - **Clog** holds bytes: the exchange stalls, nothing drains. **Bandwidth** limits the bytes a second of an exchange.
//! - **Reset** ends exchanges: of what is in transit, a part arrives.
//! - A connection to a machine that is down is refused, or, after a loss of power, unanswered, as it is over a link that
//!   is cut: then the caller's patience ends it.
//! - A process that dies closes its exchanges, and what it has sent may be cut short. A machine that loses power closes
//!   nothing: its peers notice by themselves, or when it is up again and knows nothing of their exchange.
//! - **MisaddressedFrame**: exchanges are reset, and connections lead to another machine than the one that was meant.
//! - **CutFrame**: the bytes of a write are cut short, and the exchange is reset. The file of a snapshot is cut short by
//!   the other kinds of damage too.
//! - **FlippedFrame**: the kind or the length of a frame is garbled such that no decoder may accept it.
//! - **SplicedFrame**: before a frame come bytes that begin another one, or none at all, and the exchange is reset.
//!
//! The last two are weaker than what their names say. TCP's checksum makes damaged bytes rare, and the protocol has no
//! checksum of its own: a flipped bit in an entry would be accepted by every implementation. So the damage is always
//! one that a decoder must notice.
//!
//! [`net`](super::net) has the faults of single messages.

mod carry;
mod damage;
mod dial;
mod host;
mod links;
mod pipe;
mod save;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quoin_core::id::MemberId;
use quoin_core::peer::{ExchangeId, PATH_PIPELINE, PATH_SNAPSHOT, PATH_STREAM};
use quoin_core::proto::raftpb::{Message, MessageType};
use quoin_core::random::Prng;
use quoin_core::time::Instant;

use self::pipe::Pipe;
use self::save::Saving;
use super::queue::Shelf;
use crate::choose::one_of;

/// The side that opened an exchange, and the one that answers: indexes of [`Exchange::sides`].
const CALLER: usize = 0;
const ANSWERER: usize = 1;

macro_rules! met {
    ($($name:ident $words:literal,)*) => {
        /// What happened to exchanges in a run.
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        pub struct Met {
            $(#[doc = $words] pub $name: u64,)*
            /// Processes that were killed when this many tenths of a snapshot's file had arrived.
            pub killed_at_tenths: [u64; 11],
        }

        impl Met {
            /// All counts but those of tenths, with the words for them.
            #[must_use]
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$(($words, self.$name),)*]
            }

            /// Adds another run's.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
                let tenths = self.killed_at_tenths.iter_mut().zip(other.killed_at_tenths);
                tenths.for_each(|(sum, more)| *sum += more);
            }
        }
    };
}

met! {
    cut_in_frame "exchanges cut within a write",
    misrouted_refused "misrouted requests refused with status 412",
    posted "messages posted",
    reopened "streams opened again",
    snapshots_cut "snapshots cut",
    snapshots_resent "snapshots saved after one that was cut",
    snapshots_refused "snapshots refused while another one arrived",
    snapshots_close "snapshots soon after another one",
}

impl std::fmt::Display for Met {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<String> = self
            .counts()
            .iter()
            .map(|(words, count)| format!("{words}: {count}"))
            .collect();
        let tenths = self.killed_at_tenths;
        write!(
            f,
            "{}, receivers killed by tenths of the file: {tenths:?}",
            words.join(", ")
        )
    }
}

/// The use of an exchange.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Way {
    Appends,
    Messages,
    Post,
    Snapshot,
    Version,
}

impl Way {
    fn of(path: &str) -> Self {
        match path {
            PATH_PIPELINE => Self::Post,
            PATH_SNAPSHOT => Self::Snapshot,
            _ if path
                .strip_prefix(PATH_STREAM)
                .is_some_and(|rest| rest.contains("msgapp")) =>
            {
                Self::Appends
            }
            _ if path.starts_with(PATH_STREAM) => Self::Messages,
            _ => Self::Version,
        }
    }
}

/// One of the two processes of an exchange.
#[derive(Debug)]
struct Side {
    machine: usize,
    life: u64,
    id: ExchangeId,
    is_open: bool,
    /// Its machine lost power: it neither reads nor closes the exchange.
    is_mute: bool,
    saving: Option<Box<Saving>>,
}

/// A request and its response.
#[derive(Debug)]
struct Exchange {
    way: Way,
    sides: [Side; 2],
    /// What each side has sent.
    pipes: [Pipe; 2],
    /// The connection led to a machine that was not meant.
    is_misrouted: bool,
    /// The connection is lost: nothing more is sent.
    is_broken: bool,
    /// The answer has arrived.
    is_answered: bool,
    /// The length of the snapshot's file that the caller sends.
    file_bytes: u64,
}

/// A message that a fault delays.
#[derive(Debug)]
struct Late {
    machine: usize,
    life: u64,
    to: MemberId,
    message: Message,
}

/// All exchanges.
pub(super) struct Wire {
    exchanges: BTreeMap<u64, Exchange>,
    /// The exchanges that processes opened: by machine, life and number.
    opened: BTreeMap<(usize, u64, ExchangeId), u64>,
    numbers: u64,
    late: Shelf<Late>,
    /// Bytes that a writer may have sent without an acknowledgement.
    window: usize,
    latency: Duration,
    prng: Prng,
    /// The streams that processes have had: machine, life, peer's machine.
    streams: BTreeSet<(usize, u64, usize, Way)>,
    /// Machines that got only a part of a snapshot.
    cut_snapshots: BTreeSet<usize>,
    /// What nodes sent their followers.
    appends: BTreeSet<Append>,
    /// When machines last saved a snapshot.
    saved_at: BTreeMap<usize, Instant>,
    /// When the present wait for connections after healing began.
    pub(super) waits_since: Option<Instant>,
    pub(super) met: Met,
}

/// What identifies a message with entries: sender, receiver, term, the term and index before the entries, their number,
/// and the commit index.
type Append = (MemberId, MemberId, u64, u64, u64, usize, u64);

/// The identity of a message with entries.
fn append_of(from: MemberId, to: MemberId, message: &Message) -> Option<Append> {
    let is_append = message.get_msg_type() == MessageType::MsgAppend;
    let (term, log_term, index) = (message.term, message.log_term, message.index);
    is_append.then_some((from, to, term, log_term, index, message.entries.len(), message.commit))
}

impl Wire {
    pub(super) fn new(mut prng: Prng, latency: Duration) -> Self {
        Self {
            exchanges: BTreeMap::new(),
            opened: BTreeMap::new(),
            numbers: 0,
            late: Shelf::default(),
            window: one_of(&mut prng, &[2_048, 16_384, 262_144]),
            latency,
            prng,
            streams: BTreeSet::new(),
            cut_snapshots: BTreeSet::new(),
            appends: BTreeSet::new(),
            saved_at: BTreeMap::new(),
            waits_since: None,
            met: Met::default(),
        }
    }

    /// The time that something takes over a link.
    fn latency(&mut self) -> Duration {
        let nanos = u64::try_from(self.latency.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(nanos / 2 + self.prng.below(nanos.max(1)))
    }

    /// The exchange that a process knows by this name, and its side.
    fn find(&self, machine: usize, life: u64, id: ExchangeId) -> Option<(u64, usize)> {
        let (number, side) = match id {
            ExchangeId::Incoming(number) => (number, ANSWERER),
            ExchangeId::Outgoing(_) => (*self.opened.get(&(machine, life, id))?, CALLER),
        };
        let exchange = self.exchanges.get(&number)?;
        let it = &exchange.sides[side];
        (it.machine == machine && it.life == life && it.is_open).then_some((number, side))
    }

    /// The machine of a side, for an event that happens there.
    pub(super) fn machine_of(&self, number: u64, side: usize) -> Option<usize> {
        Some(self.exchanges.get(&number)?.sides[side].machine)
    }

    /// One side has ended the exchange, or learned of its end. Once both have, nothing of it is left.
    fn close_side(&mut self, number: u64, side: usize) {
        let Some(exchange) = self.exchanges.get_mut(&number) else {
            return;
        };
        let incoming = &exchange.pipes[1 - side];
        let was_open = std::mem::replace(&mut exchange.sides[side].is_open, false);
        if was_open && incoming.is_in_frame {
            self.met.cut_in_frame += 1;
        }
        if let Some(saving) = exchange.sides[side].saving.take().filter(|_| was_open) {
            saving.give_up();
            self.note_cut(number, side);
        }
        let Some(exchange) = self.exchanges.get(&number) else {
            return;
        };
        if exchange.sides.iter().any(|side| side.is_open) {
            return;
        }
        let caller = &exchange.sides[CALLER];
        self.opened.remove(&(caller.machine, caller.life, caller.id));
        self.exchanges.remove(&number);
    }

    /// A process dies, with what it had written of a snapshot.
    fn leave_snapshot(&mut self, number: u64, side: usize) {
        let exchange = self.exchanges.get_mut(&number);
        if exchange.is_some_and(|exchange| exchange.sides[side].saving.take().is_some()) {
            self.note_cut(number, side);
        }
    }

    fn note_cut(&mut self, number: u64, side: usize) {
        self.met.snapshots_cut += 1;
        self.cut_snapshots.extend(self.machine_of(number, side));
    }

    /// Whether a process has both streams of a peer open.
    fn reads(&self, from: usize, to: usize) -> bool {
        let is_open = |wanted: Way| {
            self.exchanges.values().any(|exchange| {
                let [caller, answerer] = &exchange.sides;
                let is_between = caller.machine == from && answerer.machine == to;
                let stands = caller.is_open && answerer.is_open && exchange.is_answered && !exchange.is_broken;
                exchange.way == wanted && is_between && stands
            })
        };
        is_open(Way::Appends) && is_open(Way::Messages)
    }

    /// Bytes in chunks of random sizes, of at most `most` bytes.
    fn chunks(&mut self, mut bytes: Bytes, most: usize) -> Vec<Bytes> {
        let mut chunks = Vec::new();
        let is_whole = self.prng.below(2) == 0;
        while !bytes.is_empty() {
            let len = bytes.len() as u64;
            let size = match self.prng.below(4) {
                _ if is_whole || chunks.len() > 64 => len,
                0 => 1 + self.prng.below(len.min(12)),
                _ => 1 + self.prng.below(len),
            };
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            chunks.push(bytes.split_to(size.min(most).min(bytes.len())));
        }
        chunks
    }
}
