//! The network between members, one directed link for each pair.
//!
//! # Fault model
//! A sound link is a connection: frames arrive whole, once and in order, after a latency that varies a little. The
//! faults, each while it lasts:
//! - **Drop**, **Duplicate**: this many of a thousand frames are lost, or arrive twice. A proposal forwarded to the
//!   leader never arrives twice, then or later: raft, as in etcd, would take it for two, and the streams between peers
//!   repeat nothing.
//! - **Delay**: every frame is late by an exponential time, so that others overtake it.
//! - **Clog**: frames are held back, then all arrive at once.
//! - **Bandwidth**: a frame takes as long as its bytes; what does not fit the queue is dropped, and the sender gets an
//!   error.
//! - **Isolate**, **Split**, **Bridge**, **Ring**, **OneWay**, **Deaf**, **Flap**: links carry nothing. A member that
//!   has no way to and from a peer learns that after a while, and again when it has.
//! - **KindLost**: all messages of one kind are lost.
//! - **Reset**: frames in transit are lost.
//! - **FlippedFrame**, **CutFrame**, **SplicedFrame**: a frame is turned into bytes, which are damaged. A frame carries a checksum and the
//!   ids of cluster, sender and receiver; a damaged one is rejected and its connection is reset. Every fourth is shown to
//!   the decoder as if the checksum had been right, and goes on to the member if the ids inside do not fit it: it must
//!   neither panic nor act. A message that is well-formed, rightly addressed and false is beyond this model.
//! - **StaleFrame**: an old frame arrives again, perhaps after restarts and in later terms.
//! - **MisaddressedFrame**: a frame reaches a member that is not its receiver.
//! - **LateAcks**: only acknowledgements of heartbeats are late, so that other frames overtake them.
//! - **MixedSnapshot**: a snapshot's message arrives with the state of an earlier snapshot.
//!
//! Clients have links of their own, which only **ClientCut** and **Reset** concern.
//!
//! That is a run of abstract messages. In a run over bytes (`--bytes`) messages travel by [`wire`](super::wire), which
//! describes what the faults do to bytes; of this file, conditions of links, stale frames and `sift` remain.

mod sift;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use prost::Message as _;
use quoin_core::proto::raftpb::{Message, MessageType};
use quoin_core::random::Prng;
use quoin_core::time::Instant;

use super::eyes::checksum;
use super::queue::{Queue, Shelf, What};
use crate::faults::{FaultKind, Struck};

/// The largest number of machines in a run.
pub(super) const MACHINES_MAX: usize = 16;
/// Old frames that are kept, to be sent again.
const STALE_FRAMES_MAX: usize = 32;
/// States that are kept, to be sent with another snapshot.
const IMAGES_MAX: usize = 2;
/// Bytes that may wait for a slow link.
const SLOW_QUEUE_BYTES: u64 = 256 * 1024;

/// The faults of a link.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Condition {
    /// Frames are not delivered.
    pub(super) cut: Option<FaultKind>,
    /// This many of a thousand frames are lost.
    pub(super) drop_permille: u64,
    /// This many of a thousand frames arrive twice.
    pub(super) duplicate_permille: u64,
    /// Mean of the time by which frames are late.
    pub(super) delay: Duration,
    /// Acknowledgements of heartbeats are late by this at most.
    pub(super) late_acks: Duration,
    /// This many of a thousand snapshots arrive with the state of another one.
    pub(super) mixed_permille: u64,
    /// Frames are held back.
    pub(super) is_clogged: bool,
    /// Bytes per second; 0 is no limit.
    pub(super) bytes_per_second: u64,
    /// Messages of this kind are lost.
    pub(super) lost_kind: Option<i32>,
    /// How many of a thousand frames are damaged, and how.
    pub(super) damage: Option<(FaultKind, u64)>,
}

#[derive(Debug, Default)]
struct Link {
    condition: Condition,
    /// Connections so far: frames of an earlier one are lost.
    epoch: u64,
    last_arrival: Instant,
    /// When the slow link has delivered its queue.
    free_at: Instant,
    held: Vec<Message>,
}

/// The content of a frame.
#[derive(Debug)]
enum Parcel {
    Message(Message),
    Bytes(Bytes),
    /// A snapshot's message and the state beside it.
    Snapshot(Message, Bytes),
}

#[derive(Debug)]
struct Frame {
    number: u32,
    at: Instant,
    from: usize,
    to: usize,
    /// The connection; `None` for a frame that outlives its connection.
    epoch: Option<u64>,
    parcel: Parcel,
}

/// The fate of a message that was to be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Posted {
    /// It was sent, or is lost without an error.
    Gone,
    /// It is lost, and the sender gets an error.
    Refused,
}

/// An arrival.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) message: Message,
    /// The state beside a snapshot.
    pub(super) image: Option<Bytes>,
}

/// The result of an arrival.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is moved once")]
pub(super) enum Arrived {
    /// The frame was accepted.
    Delivery(Delivery),
    /// It was a snapshot and is lost, which its sender learns.
    LostSnapshot { from: usize, to: usize },
    /// It is lost or rejected.
    Nothing,
}

/// All links.
pub(super) struct Net {
    links: Vec<Link>,
    frames: Shelf<Frame>,
    /// Frames so far.
    numbers: u32,
    stale: Vec<(usize, Message)>,
    /// States sent with the last snapshots.
    images: VecDeque<Bytes>,
    cluster: u64,
    latency: Duration,
    posted: u64,
    /// The number of machines.
    pub(super) machines: usize,
    prng: Prng,
    struck: Struck,
}

impl Net {
    pub(super) fn new(prng: Prng, latency: Duration, cluster: u64, struck: Struck) -> Self {
        let links = (0..MACHINES_MAX * MACHINES_MAX).map(|_| Link::default());
        Self {
            links: links.collect(),
            frames: Shelf::default(),
            numbers: 0,
            stale: Vec::new(),
            images: VecDeque::new(),
            cluster,
            latency,
            posted: 0,
            machines: 0,
            prng,
            struck,
        }
    }

    fn link(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from * MACHINES_MAX + to]
    }

    /// The condition of a link.
    pub(super) fn condition(&self, from: usize, to: usize) -> &Condition {
        &self.links[from * MACHINES_MAX + to].condition
    }

    /// Changes the condition of a link; frames that it held back are sent.
    pub(super) fn set_condition(
        &mut self,
        now: Instant,
        from: usize,
        to: usize,
        condition: Condition,
        queue: &mut Queue,
    ) {
        let link = self.link(from, to);
        let was_slow = link.condition.bytes_per_second > 0 && condition.bytes_per_second == 0;
        link.condition = condition;
        if was_slow {
            self.quicken(now, from, to, queue);
        }
        let link = self.link(from, to);
        if !condition.is_clogged && !link.held.is_empty() {
            for message in std::mem::take(&mut link.held) {
                self.dispatch(now, from, to, Parcel::Message(message), queue);
            }
        }
    }

    /// A link is not slow any more: frames in transit arrive soon.
    fn quicken(&mut self, now: Instant, from: usize, to: usize, queue: &mut Queue) {
        let at = now + self.latency;
        let link = self.link(from, to);
        link.free_at = now;
        link.last_arrival = at;
        let frames = self.frames.iter_mut();
        let late = frames.filter(|(_, frame)| frame.from == from && frame.to == to && frame.at > at);
        let mut late: Vec<(Instant, u32, &mut Frame)> = late.map(|(place, frame)| (frame.at, place, frame)).collect();
        late.sort_by_key(|(due, _, frame)| (*due, frame.number));
        for (_, place, frame) in late {
            self.numbers = self.numbers.wrapping_add(1);
            (frame.at, frame.number) = (at, self.numbers);
            let number = frame.number;
            queue.push(at, What::Frame { place, number });
        }
    }

    /// Sends a frame.
    fn put(&mut self, at: Instant, from: usize, to: usize, epoch: Option<u64>, parcel: Parcel, queue: &mut Queue) {
        self.numbers = self.numbers.wrapping_add(1);
        let number = self.numbers;
        let place = self.frames.put(Frame {
            number,
            at,
            from,
            to,
            epoch,
            parcel,
        });
        queue.push(at, What::Frame { place, number });
    }

    /// Whether both directions deliver frames.
    pub(super) fn connects(&self, a: usize, b: usize) -> bool {
        self.condition(a, b).cut.is_none() && self.condition(b, a).cut.is_none()
    }

    /// The connection between two machines ends, in both directions.
    pub(super) fn reset(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            let link = self.link(from, to);
            link.epoch += 1;
            link.held.clear();
        }
    }

    /// The latency of something that is not a frame.
    pub(super) fn latency(&mut self) -> Duration {
        let nanos = u64::try_from(self.latency.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(nanos / 2 + self.prng.below(nanos.max(1)))
    }

    /// Sends a message.
    pub(super) fn post(&mut self, now: Instant, from: usize, to: usize, message: Message, queue: &mut Queue) -> Posted {
        self.posted += 1;
        let condition = *self.condition(from, to);
        if let Some(kind) = condition.cut {
            self.struck.note(kind);
            return Posted::Gone;
        }
        if condition.lost_kind == Some(message.msg_type) {
            self.struck.note(FaultKind::KindLost);
            return Posted::Gone;
        }
        if condition.drop_permille > 0 && self.prng.below(1_000) < condition.drop_permille {
            self.struck.note(FaultKind::Drop);
            return Posted::Gone;
        }
        if self.posted.is_multiple_of(97) && may_repeat(&message) {
            self.keep_stale(from, &message);
        }
        if condition.is_clogged {
            self.struck.note(FaultKind::Clog);
            self.link(from, to).held.push(message);
            return Posted::Gone;
        }
        if condition.bytes_per_second > 0 && !self.squeeze(now, from, to, condition.bytes_per_second, &message) {
            self.struck.note(FaultKind::Bandwidth);
            return Posted::Refused;
        }
        if condition.duplicate_permille > 0
            && may_repeat(&message)
            && self.prng.below(1_000) < condition.duplicate_permille
        {
            self.struck.note(FaultKind::Duplicate);
            self.dispatch(now, from, to, Parcel::Message(message.clone()), queue);
        }
        match condition.damage {
            Some((kind, permille)) if self.prng.below(1_000) < permille => {
                self.damage(now, from, to, kind, message, queue)
            }
            _ => self.dispatch(now, from, to, Parcel::Message(message), queue),
        }
        Posted::Gone
    }

    /// Sends a snapshot, which has a connection of its own: the sender learns the outcome.
    pub(super) fn post_snapshot(
        &mut self,
        now: Instant,
        from: usize,
        to: usize,
        message: Message,
        mut image: Bytes,
        queue: &mut Queue,
    ) -> Posted {
        let condition = *self.condition(from, to);
        if let Some(kind) = condition.cut {
            self.struck.note(kind);
            return Posted::Refused;
        }
        if condition.lost_kind == Some(message.msg_type) {
            self.struck.note(FaultKind::KindLost);
            return Posted::Refused;
        }
        if condition.is_clogged || (condition.drop_permille > 0 && self.prng.below(1_000) < condition.drop_permille) {
            self.struck.note(if condition.is_clogged {
                FaultKind::Clog
            } else {
                FaultKind::Drop
            });
            return Posted::Refused;
        }
        let bytes = image.len() as u64;
        if let Some(nanos) = (bytes * 1_000_000_000).checked_div(condition.bytes_per_second) {
            self.struck.note(FaultKind::Bandwidth);
            let link = self.link(from, to);
            link.free_at = link.free_at.max(now) + Duration::from_nanos(nanos);
        }
        if let Some((kind, permille)) = condition.damage
            && kind != FaultKind::MisaddressedFrame
            && self.prng.below(1_000) < permille
        {
            let mut damaged = image.to_vec();
            if kind == FaultKind::CutFrame {
                damaged.truncate(self.prng.below(bytes) as usize);
            } else {
                let bit = self.prng.below(bytes * 8);
                damaged[(bit / 8) as usize] ^= 1 << (bit % 8);
            }
            self.struck.note(kind);
            image = damaged.into();
        }
        let image = self.mix_images(&condition, image);
        self.dispatch(now, from, to, Parcel::Snapshot(message, image), queue);
        Posted::Gone
    }

    /// The state to send with a snapshot's message: its own, or by a fault that of an earlier snapshot.
    fn mix_images(&mut self, condition: &Condition, image: Bytes) -> Bytes {
        let mut sent = image.clone();
        if condition.mixed_permille > 0
            && let Some(other) = self.images.front().filter(|other| **other != image).cloned()
            && self.prng.below(1_000) < condition.mixed_permille
        {
            self.struck.note(FaultKind::MixedSnapshot);
            sent = other;
        } else {
            self.images.push_back(image);
        }
        if self.images.len() > IMAGES_MAX {
            self.images.pop_front();
        }
        sent
    }

    /// A slow link takes a message, if it fits.
    fn squeeze(&mut self, now: Instant, from: usize, to: usize, bytes_per_second: u64, message: &Message) -> bool {
        let bytes = message.encoded_len() as u64 + 32;
        let link = self.link(from, to);
        let backlog = link.free_at.saturating_since(now);
        let waiting =
            u64::try_from(backlog.as_nanos() * u128::from(bytes_per_second) / 1_000_000_000).unwrap_or(u64::MAX);
        if waiting + bytes > SLOW_QUEUE_BYTES.min(bytes_per_second * 2) {
            return false;
        }
        let takes = Duration::from_nanos(bytes * 1_000_000_000 / bytes_per_second);
        link.free_at = link.free_at.max(now) + takes;
        true
    }

    /// Plans an arrival.
    fn dispatch(&mut self, now: Instant, from: usize, to: usize, parcel: Parcel, queue: &mut Queue) {
        let latency = self.latency();
        let condition = *self.condition(from, to);
        let late = if condition.delay.is_zero() {
            Duration::ZERO
        } else {
            self.struck.note(FaultKind::Delay);
            exponential(&mut self.prng, condition.delay)
        };
        let late = late + self.late_ack(&condition, &parcel);
        let link = self.link(from, to);
        let mut at = now.max(link.free_at) + latency + late;
        if late.is_zero() {
            at = at.max(link.last_arrival);
            link.last_arrival = at;
        }
        let epoch = Some(link.epoch);
        self.put(at, from, to, epoch, parcel, queue);
    }

    /// The delay of an acknowledgement of a heartbeat.
    fn late_ack(&mut self, condition: &Condition, parcel: &Parcel) -> Duration {
        let is_ack =
            matches!(parcel, Parcel::Message(message) if message.get_msg_type() == MessageType::MsgHeartbeatResponse);
        if condition.late_acks.is_zero() || !is_ack {
            return Duration::ZERO;
        }
        self.struck.note(FaultKind::LateAcks);
        let most = u64::try_from(condition.late_acks.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.prng.below(most))
    }

    fn keep_stale(&mut self, from: usize, message: &Message) {
        if self.stale.len() < STALE_FRAMES_MAX {
            self.stale.push((from, message.clone()));
        } else {
            let place = self.prng.below(STALE_FRAMES_MAX as u64 * 2) as usize;
            if let Some(kept) = self.stale.get_mut(place) {
                *kept = (from, message.clone());
            }
        }
    }

    /// An old frame to the machine that `index` finds for the member it names, if there is one.
    pub(super) fn send_stale(&mut self, now: Instant, find: impl Fn(u64) -> Option<usize>, queue: &mut Queue) {
        if self.stale.is_empty() {
            return;
        }
        let place = self.prng.below(self.stale.len() as u64) as usize;
        let (from, message) = self.stale[place].clone();
        if let Some(to) = find(message.to) {
            self.send_outside(now, from, to, message, queue);
        }
    }

    /// A frame that belongs to no connection.
    fn send_outside(&mut self, now: Instant, from: usize, to: usize, message: Message, queue: &mut Queue) {
        let at = now + self.latency();
        self.put(at, from, to, None, Parcel::Message(message), queue);
    }

    /// Damages a frame, or sends it to a wrong member.
    fn damage(&mut self, now: Instant, from: usize, to: usize, kind: FaultKind, message: Message, queue: &mut Queue) {
        if kind == FaultKind::MisaddressedFrame {
            let other = self.prng.below(self.machines as u64) as usize;
            if other != to && other != from {
                self.send_outside(now, from, other, message.clone(), queue);
            }
            return self.dispatch(now, from, to, Parcel::Message(message), queue);
        }
        let mut bytes = seal(self.cluster, from, to, &message);
        let len = bytes.len() as u64;
        match kind {
            FaultKind::CutFrame => bytes.truncate(self.prng.below(len) as usize),
            FaultKind::SplicedFrame => {
                let other = self
                    .stale
                    .first()
                    .map_or_else(|| message.clone(), |(_, other)| other.clone());
                let other = seal(self.cluster, from, to, &other);
                let (head, tail) = (self.prng.below(len), self.prng.below(other.len() as u64));
                bytes.truncate(head as usize);
                bytes.extend_from_slice(&other[tail as usize..]);
            }
            _ => {
                let bit = self.prng.below(len * 8);
                bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
            }
        }
        self.struck.note(kind);
        self.dispatch(now, from, to, Parcel::Bytes(bytes.into()), queue);
    }

    /// A frame arrives; `members` are the ids of all machines' members.
    pub(super) fn arrive(&mut self, place: u32, number: u32, members: impl Fn(usize) -> Option<u64>) -> Arrived {
        if self.ends(place, number).is_none() {
            return Arrived::Nothing;
        }
        let Some(frame) = self.frames.take(place) else {
            return Arrived::Nothing;
        };
        let (from, to) = (frame.from, frame.to);
        let is_snapshot = matches!(frame.parcel, Parcel::Snapshot(..));
        match self.open(frame, members) {
            Some(delivery) => Arrived::Delivery(delivery),
            None if is_snapshot => Arrived::LostSnapshot { from, to },
            None => Arrived::Nothing,
        }
    }

    /// The content of a frame for its receiver.
    fn open(&mut self, frame: Frame, members: impl Fn(usize) -> Option<u64>) -> Option<Delivery> {
        let Frame {
            from,
            to,
            epoch,
            parcel,
            ..
        } = frame;
        if epoch.is_some_and(|epoch| epoch != self.link(from, to).epoch) {
            self.struck.note(FaultKind::Reset);
            return None;
        }
        let me = members(to)?;
        let delivery = |message, image| Delivery {
            from,
            to,
            message,
            image,
        };
        match parcel {
            Parcel::Snapshot(message, image) => Some(delivery(message, Some(image))),
            Parcel::Message(message) => {
                if epoch.is_none() {
                    let kind = if message.to == me {
                        FaultKind::StaleFrame
                    } else {
                        FaultKind::MisaddressedFrame
                    };
                    self.struck.note(kind);
                }
                Some(delivery(message, None))
            }
            Parcel::Bytes(bytes) => {
                // A frame that cannot be trusted ends its connection.
                self.link(from, to).epoch += 1;
                if let Some(message) = open(bytes.clone(), self.cluster, from, to) {
                    return Some(delivery(message, None));
                }
                if self.prng.below(4) > 0 {
                    return None;
                }
                let body = bytes.get(HEAD_BYTES..).map(|_| bytes.slice(HEAD_BYTES..))?;
                let message = Message::decode(body).ok()?;
                // A member takes forwarded requests of any origin, because the followers that forward them keep it.
                let is_forwarded = matches!(
                    message.get_msg_type(),
                    MessageType::MsgPropose | MessageType::MsgReadIndex | MessageType::MsgTransferLeader
                );
                let fits = message.to == me && (is_forwarded || Some(message.from) == members(from));
                (!fits).then(|| delivery(message, None))
            }
        }
    }

    /// The receiver of a frame.
    pub(super) fn ends(&self, place: u32, number: u32) -> Option<usize> {
        let frame = self.frames.get(place).filter(|frame| frame.number == number);
        frame.map(|frame| frame.to)
    }
}

/// Checksum, cluster, sender, receiver.
const HEAD_BYTES: usize = 32;

/// A frame's bytes.
fn seal(cluster: u64, from: usize, to: usize, message: &Message) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    for id in [cluster, from as u64, to as u64] {
        bytes.extend_from_slice(&id.to_be_bytes());
    }
    message.encode(&mut bytes).expect("a vector grows");
    let sum = checksum(&bytes[8..]);
    bytes[..8].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// The message in a frame, if the frame is undamaged and belongs here.
fn open(mut bytes: Bytes, cluster: u64, from: usize, to: usize) -> Option<Message> {
    if bytes.len() < HEAD_BYTES || bytes.get_u64() != checksum(&bytes) {
        return None;
    }
    if [cluster, from as u64, to as u64]
        .iter()
        .any(|id| bytes.get_u64() != *id)
    {
        return None;
    }
    Message::decode(bytes).ok()
}

/// An exponential time with this mean, at most ten seconds.
pub(super) fn exponential(prng: &mut Prng, mean: Duration) -> Duration {
    // A product of halvings and a uniform rest comes close enough, without floating point.
    let mean = u64::try_from(mean.as_nanos()).unwrap_or(u64::MAX);
    let halvings = u64::from(prng.next_u64().trailing_zeros());
    let nanos = (mean / 1_000).saturating_mul(halvings * 693 + prng.below(693));
    Duration::from_nanos(nanos.min(10_000_000_000))
}

/// Whether consensus recognises a repeated message as the same.
fn may_repeat(message: &Message) -> bool {
    message.get_msg_type() != MessageType::MsgPropose
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_frame_is_found_out() {
        let message = Message {
            to: 7,
            term: 3,
            ..Message::default()
        };
        let sound = seal(1, 2, 3, &message);
        assert_eq!(open(sound.clone().into(), 1, 2, 3), Some(message));
        for bit in 0..sound.len() * 8 {
            let mut flipped = sound.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(flipped.into(), 1, 2, 3), None, "bit {bit}");
        }
        for len in 0..sound.len() {
            assert_eq!(open(sound[..len].to_vec().into(), 1, 2, 3), None, "{len} bytes");
        }
        assert_eq!(open(sound.into(), 1, 2, 4), None, "of another receiver");
    }

    #[test]
    fn exponential_times_have_their_mean() {
        let mut prng = Prng::new(1);
        let total: Duration = (0..10_000)
            .map(|_| exponential(&mut prng, Duration::from_millis(10)))
            .sum();
        assert!((80..120).contains(&total.as_secs()), "{total:?}");
    }
}
