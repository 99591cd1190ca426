//! The faults of single messages where their bytes travel by [`wire`](super::super::wire): they strike before a message
//! is given to the peer protocol.

use std::time::Duration;

use bytes::Bytes;
use quoin_core::proto::raftpb::{Message, MessageType};

use super::{Condition, FaultKind, Net, exponential, may_repeat};

impl Net {
    /// How late each copy of a message is given to the peer protocol; none if the message is lost.
    pub(in super::super) fn sift(&mut self, from: usize, to: usize, message: &Message) -> Vec<Duration> {
        self.posted += 1;
        let condition = *self.condition(from, to);
        if self.loses(&condition, message.msg_type) {
            return Vec::new();
        }
        let may_repeat = may_repeat(message);
        if self.posted.is_multiple_of(97) && may_repeat {
            self.keep_stale(from, message);
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
    pub(in super::super) fn sift_snapshot(&mut self, from: usize, to: usize, image: Bytes) -> Option<Bytes> {
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
}
