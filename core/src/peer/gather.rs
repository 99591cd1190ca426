//! Bytes of a body that have arrived and are not decoded yet.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};

/// A violation of the protocol in the bytes from a peer. The connection must end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadFrame(pub String);

impl std::fmt::Display for BadFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadFrame {}

/// Pieces of a body, in order. A frame within one piece is taken without a copy.
#[derive(Debug, Default)]
pub(super) struct Gather {
    pieces: VecDeque<Bytes>,
    len: usize,
}

impl Gather {
    pub(super) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// The number of bytes held.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes the next `count` bytes, if all of them have arrived.
    pub(super) fn take(&mut self, count: usize) -> Option<Bytes> {
        if count > self.len {
            return None;
        }
        self.len -= count;
        let mut taken = match self.pieces.front_mut() {
            Some(first) if first.len() > count => return Some(first.split_to(count)),
            Some(first) if first.len() == count => return self.pieces.pop_front(),
            _ => BytesMut::with_capacity(count),
        };
        while taken.len() < count {
            let first = self.pieces.front_mut().expect("the length counts the pieces");
            let part = first.split_to(first.len().min(count - taken.len()));
            if first.is_empty() {
                self.pieces.pop_front();
            }
            taken.extend_from_slice(&part);
        }
        Some(taken.freeze())
    }

    /// Takes a big-endian number of 64 bits, if all of it has arrived.
    pub(super) fn take_u64(&mut self) -> Option<u64> {
        self.take(8).map(|mut bytes| bytes.get_u64())
    }

    /// Takes everything.
    pub(super) fn take_all(&mut self) -> Bytes {
        self.take(self.len).unwrap_or_default()
    }
}

/// The length of a frame, if it is within the limit.
pub(super) fn checked_length(length: u64, limit: usize) -> Result<usize, BadFrame> {
    usize::try_from(length)
        .ok()
        .filter(|length| *length <= limit)
        .ok_or_else(|| BadFrame(format!("a frame of {length} bytes, where {limit} are allowed")))
}
