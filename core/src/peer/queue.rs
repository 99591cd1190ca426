//! A stream that a peer has opened, and the messages that wait for it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use crate::limits::{PEER_LINK_BEAT, PEER_STREAM_QUEUE_BYTES, PEER_STREAM_QUEUE_MESSAGES, PEER_WRITE_BYTES};
use crate::proto::raftpb::Message;
use crate::time::Instant;

use super::append::AppendEncoder;
use super::line::{ExchangeId, StreamKind};
use super::message::{encode_message, link_heartbeat};

/// A stream that a peer has opened.
#[derive(Debug)]
pub(super) struct OpenStream {
    pub(super) exchange: ExchangeId,
    kind: StreamKind,
    append: AppendEncoder,
    queue: VecDeque<Message>,
    bytes: usize,
    /// When the last bytes that the host was given must have drained; `None` once they have.
    writing: Option<Instant>,
    /// When the next heartbeat of the link is due.
    beat_at: Instant,
}

impl OpenStream {
    pub(super) fn new(now: Instant, exchange: ExchangeId, kind: StreamKind) -> Self {
        Self {
            exchange,
            kind,
            append: AppendEncoder::default(),
            queue: VecDeque::new(),
            bytes: 0,
            writing: None,
            beat_at: now + PEER_LINK_BEAT,
        }
    }

    /// Queues a message; false if there is no room.
    pub(super) fn push(&mut self, message: Message) -> bool {
        if self.queue.len() >= PEER_STREAM_QUEUE_MESSAGES || self.bytes >= PEER_STREAM_QUEUE_BYTES {
            return false;
        }
        self.bytes += message.encoded_len();
        self.queue.push_back(message);
        true
    }

    /// Whether messages wait.
    pub(super) fn has_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether messages wait, and the last bytes have drained.
    pub(super) fn can_write(&self) -> bool {
        self.writing.is_none() && self.has_waiting()
    }

    /// The bytes to write now: waiting messages up to a bound, or the heartbeat of the link if it is due.
    ///
    /// The peer may take `patience` to read them. The number is the sum of the messages' own lengths, which etcd's metrics count whatever their frames are.
    pub(super) fn write(&mut self, now: Instant, patience: Duration) -> Option<(Bytes, u64)> {
        if self.writing.is_some() {
            return None;
        }
        let (mut out, mut message_bytes) = (BytesMut::new(), 0);
        while out.len() < PEER_WRITE_BYTES
            && let Some(message) = self.queue.pop_front()
        {
            let bytes = message.encoded_len();
            self.bytes = self.bytes.saturating_sub(bytes);
            message_bytes += bytes as u64;
            self.encode(message, &mut out);
        }
        if now >= self.beat_at {
            self.beat_at = now + PEER_LINK_BEAT;
            let beat = link_heartbeat();
            message_bytes += beat.encoded_len() as u64;
            self.encode(beat, &mut out);
        }
        if out.is_empty() {
            return None;
        }
        self.writing = Some(now + patience);
        Some((out.freeze(), message_bytes))
    }

    fn encode(&mut self, message: Message, out: &mut BytesMut) {
        match self.kind {
            StreamKind::Append => self.append.encode(message, out),
            StreamKind::Message => encode_message(message, out),
        }
    }

    pub(super) fn drained(&mut self) {
        self.writing = None;
    }

    /// Whether the peer has read nothing for too long.
    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        self.writing.is_some_and(|until| now >= until)
    }

    /// When to write a heartbeat of the link or to cut the stream, at the latest.
    pub(super) fn deadline(&self) -> Instant {
        self.writing.unwrap_or(self.beat_at)
    }
}
