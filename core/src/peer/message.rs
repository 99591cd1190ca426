//! The encoding of the message stream, and of the message before a snapshot's file: the length in eight bytes,
//! big-endian, then the message.
//!
//! A message of type heartbeat without sender and receiver is the heartbeat of the link itself. The node does not get
//! it.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;

use crate::limits::MAX_PEER_MESSAGE_BYTES;
use crate::member::clear_foreign_fields;
use crate::proto::raftpb::{Message, MessageType};

use super::gather::{BadFrame, Gather, checked_length};

/// Appends the frame of a message.
///
/// Fields that only the `raft` crate has are left out, so a peer gets no field that etcd does not have.
pub fn encode_message(mut message: Message, out: &mut BytesMut) {
    prepare(&mut message);
    let length = message.encoded_len();
    out.reserve(8 + length);
    out.put_u64(length as u64);
    message.encode_raw(out);
}

/// Clears the fields that only the `raft` crate has.
pub(super) fn prepare(message: &mut Message) {
    let kind = message.get_msg_type();
    clear_foreign_fields(message, kind);
    for entry in &mut message.entries {
        entry.context.clear();
        entry.sync_log = false;
    }
}

/// The heartbeat of a link.
pub(super) fn link_heartbeat() -> Message {
    Message {
        msg_type: MessageType::MsgHeartbeat as i32,
        ..Message::default()
    }
}

/// Whether a message is the heartbeat of its link.
pub(super) fn is_link_heartbeat(message: &Message) -> bool {
    message.msg_type == MessageType::MsgHeartbeat as i32 && message.from == 0 && message.to == 0
}

/// Reads a message from its bytes.
pub(super) fn decode(bytes: Bytes) -> Result<Message, BadFrame> {
    Message::decode(bytes).map_err(|error| BadFrame(format!("not a raft message: {error}")))
}

/// Reads frames of the message stream.
#[derive(Debug, Default)]
pub struct MessageDecoder {
    bytes: Gather,
    /// The length of the frame that is arriving.
    length: Option<usize>,
}

impl MessageDecoder {
    /// Adds bytes.
    pub fn push(&mut self, bytes: Bytes) {
        self.bytes.push(bytes);
    }

    /// The number of bytes held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.bytes.len()
    }

    /// The next message, if all of it has arrived.
    ///
    /// # Errors
    /// If a frame is too long or does not decode.
    pub fn next_message(&mut self) -> Result<Option<Message>, BadFrame> {
        let length = match self.length {
            Some(length) => length,
            None => {
                let Some(length) = self.bytes.take_u64() else {
                    return Ok(None);
                };
                let length = checked_length(length, MAX_PEER_MESSAGE_BYTES)?;
                self.length = Some(length);
                length
            }
        };
        let Some(bytes) = self.bytes.take(length) else {
            return Ok(None);
        };
        self.length = None;
        decode(bytes).map(Some)
    }

    /// The bytes after the last message taken.
    #[must_use]
    pub fn rest(mut self) -> Bytes {
        self.bytes.take_all()
    }
}
