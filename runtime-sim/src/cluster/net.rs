//! The links between machines, one for each direction of each pair: their conditions, and the faults of single
//! messages.
//!
//! # Fault model
//! A condition holds while its fault lasts. [`wire`](super::wire) carries the bytes of exchanges over the links, and
//! describes what cut, clogged, slow, reset and damaging links do to them. The other faults strike a message before it
//! is given to the peer protocol, where a full queue loses messages too:
//! - **Drop**, **Duplicate**: this many of a thousand messages are lost, or given to the protocol twice. A proposal
//!   forwarded to the leader is never doubled: raft, as in etcd, would take it for two, and neither streams nor posts
//!   repeat anything.
//! - **Delay**: every message is late by an exponential time, so that others overtake it.
//! - **KindLost**: all messages of one kind are lost.
//! - **LateAcks**: only acknowledgements of heartbeats are late, so that other messages overtake them.
//! - **StaleFrame**: the node gets an old message again, perhaps after restarts and in later terms.
//! - **MixedSnapshot**: a snapshot's message is followed by the file of an earlier snapshot.
//!
//! A message that is well-formed, rightly addressed and false is beyond this model.
//!
//! Clients have links of their own, which only **ClientCut** and **Reset** concern.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use quoin_core::id::MemberId;
use quoin_core::proto::raftpb::{Message, MessageType};
use quoin_core::random::Prng;

use crate::faults::{FaultKind, Struck};

/// The largest number of machines in a run.
pub(super) const MACHINES_MAX: usize = 16;
/// Old messages that are kept, to be delivered again.
const STALE_MESSAGES_MAX: usize = 32;
/// States that are kept, to be sent with another snapshot.
const IMAGES_MAX: usize = 2;

/// The faults of a link.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Condition {
    /// Nothing is delivered.
    pub(super) cut: Option<FaultKind>,
    /// This many of a thousand messages are lost.
    pub(super) drop_permille: u64,
    /// This many of a thousand messages are sent twice.
    pub(super) duplicate_permille: u64,
    /// Mean of the time by which messages are late.
    pub(super) delay: Duration,
    /// Acknowledgements of heartbeats are late by this at most.
    pub(super) late_acks: Duration,
    /// This many of a thousand snapshots are sent with the state of another one.
    pub(super) mixed_permille: u64,
    /// Bytes are held back.
    pub(super) is_clogged: bool,
    /// Bytes per second; 0 is no limit.
    pub(super) bytes_per_second: u64,
    /// Messages of this kind are lost.
    pub(super) lost_kind: Option<i32>,
    /// How many of a thousand writes are damaged, and how.
    pub(super) damage: Option<(FaultKind, u64)>,
}

/// An old message, with the member that sent it.
#[derive(Clone, Debug)]
pub(super) struct Stale {
    pub(super) from: MemberId,
    pub(super) message: Message,
}

/// All links.
pub(super) struct Net {
    links: Vec<Condition>,
    stale: Vec<Stale>,
    /// States sent with the last snapshots.
    images: VecDeque<Bytes>,
    latency: Duration,
    posted: u64,
    prng: Prng,
    struck: Struck,
}

impl Net {
    pub(super) fn new(prng: Prng, latency: Duration, struck: Struck) -> Self {
        Self {
            links: vec![Condition::default(); MACHINES_MAX * MACHINES_MAX],
            stale: Vec::new(),
            images: VecDeque::new(),
            latency,
            posted: 0,
            prng,
            struck,
        }
    }

    /// The condition of a link.
    pub(super) fn condition(&self, from: usize, to: usize) -> &Condition {
        &self.links[from * MACHINES_MAX + to]
    }

    /// Changes the condition of a link.
    pub(super) fn set_condition(&mut self, from: usize, to: usize, condition: Condition) {
        self.links[from * MACHINES_MAX + to] = condition;
    }

    /// Whether both directions deliver.
    pub(super) fn connects(&self, a: usize, b: usize) -> bool {
        self.condition(a, b).cut.is_none() && self.condition(b, a).cut.is_none()
    }

    /// The latency of something that is not part of an exchange.
    pub(super) fn latency(&mut self) -> Duration {
        let nanos = u64::try_from(self.latency.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(nanos / 2 + self.prng.below(nanos.max(1)))
    }

    /// How late each copy of a message is given to the peer protocol; none if the message is lost.
    pub(super) fn sift(&mut self, member: MemberId, from: usize, to: usize, message: &Message) -> Vec<Duration> {
        self.posted += 1;
        let condition = *self.condition(from, to);
        if self.loses(&condition, message.msg_type) {
            return Vec::new();
        }
        // Consensus does not recognise a repeated proposal as the same.
        let may_repeat = message.get_msg_type() != MessageType::MsgPropose;
        if self.posted.is_multiple_of(97) && may_repeat {
            self.keep_stale(member, message);
        }
        let duplicates = condition.duplicate_permille;
        let is_double = duplicates > 0 && may_repeat && self.prng.below(1_000) < duplicates;
        if is_double {
            self.struck.note(FaultKind::Duplicate);
        }
        let mut late = || self.lateness(&condition, message);
        let mut copies = vec![late()];
        copies.extend(is_double.then(late));
        copies
    }

    /// What reaches the peer protocol of a snapshot: its state, or that of another one; nothing if it is lost.
    pub(super) fn sift_snapshot(&mut self, from: usize, to: usize, image: Bytes) -> Option<Bytes> {
        let condition = *self.condition(from, to);
        let is_lost = self.loses(&condition, MessageType::MsgSnapshot as i32);
        (!is_lost).then(|| self.mix_images(&condition, image))
    }

    fn loses(&mut self, condition: &Condition, kind: i32) -> bool {
        let fault = if condition.lost_kind == Some(kind) {
            FaultKind::KindLost
        } else if condition.drop_permille > 0 && self.prng.below(1_000) < condition.drop_permille {
            FaultKind::Drop
        } else {
            return false;
        };
        self.struck.note(fault);
        true
    }

    fn lateness(&mut self, condition: &Condition, message: &Message) -> Duration {
        let mut late = Duration::ZERO;
        if !condition.delay.is_zero() {
            self.struck.note(FaultKind::Delay);
            late = exponential(&mut self.prng, condition.delay);
        }
        if message.get_msg_type() == MessageType::MsgHeartbeatResponse && !condition.late_acks.is_zero() {
            self.struck.note(FaultKind::LateAcks);
            let most = u64::try_from(condition.late_acks.as_nanos()).unwrap_or(u64::MAX);
            late += Duration::from_nanos(self.prng.below(most));
        }
        late
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

    fn keep_stale(&mut self, from: MemberId, message: &Message) {
        let stale = Stale {
            from,
            message: message.clone(),
        };
        if self.stale.len() < STALE_MESSAGES_MAX {
            return self.stale.push(stale);
        }
        let place = self.prng.below(STALE_MESSAGES_MAX as u64 * 2) as usize;
        if let Some(kept) = self.stale.get_mut(place) {
            *kept = stale;
        }
    }

    /// An old message, if there is one.
    pub(super) fn draw_stale(&mut self) -> Option<Stale> {
        let place = self.prng.below(self.stale.len() as u64) as usize;
        self.stale.get(place).cloned()
    }
}

/// An exponential time with this mean, at most ten seconds.
fn exponential(prng: &mut Prng, mean: Duration) -> Duration {
    // A product of halvings and a uniform rest comes close enough, without floating point.
    let mean = u64::try_from(mean.as_nanos()).unwrap_or(u64::MAX);
    let halvings = u64::from(prng.next_u64().trailing_zeros());
    let nanos = (mean / 1_000).saturating_mul(halvings * 693 + prng.below(693));
    Duration::from_nanos(nanos.min(10_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_times_have_their_mean() {
        let mut prng = Prng::new(1);
        let total: Duration = (0..10_000)
            .map(|_| exponential(&mut prng, Duration::from_millis(10)))
            .sum();
        assert!((80..120).contains(&total.as_secs()), "{total:?}");
    }
}
