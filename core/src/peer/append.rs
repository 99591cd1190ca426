//! The encoding `msgappv2` of the stream of appends, with state on both sides.
//!
//! - `0`: a heartbeat of the link.
//! - `1`: entries that continue the previous frame in its term: the number of entries, for each its length and bytes,
//!   then the commit index. All numbers have eight bytes, big-endian. The state gives everything else in the message.
//! - `2`: a whole message: its length and bytes. It sets the state.
//!
//! The state belongs to one connection, so the first message on a connection is a whole one.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;

use crate::bug;
use crate::id::MemberId;
use crate::limits::MAX_PEER_MESSAGE_BYTES;
use crate::proto::raftpb::{Entry, Message, MessageType};

use super::gather::{BadFrame, Gather, checked_length};
use super::message::{decode, is_link_heartbeat, link_heartbeat, prepare};

const LINK_HEARTBEAT: u8 = 0;
const ENTRIES: u8 = 1;
const MESSAGE: u8 = 2;

/// The term of the last whole message, and the index of the last entry in it or in the frames after it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct LogPlace {
    term: u64,
    index: u64,
}

impl LogPlace {
    /// The place after a whole message.
    fn after(message: &Message) -> Self {
        Self {
            term: message.term,
            index: message.entries.last().map_or(message.index, |entry| entry.index),
        }
    }
}

/// Writes frames of the stream of appends.
#[derive(Debug, Default)]
pub struct AppendEncoder {
    place: LogPlace,
}

impl AppendEncoder {
    /// Appends the frame of a message.
    pub fn encode(&mut self, mut message: Message, out: &mut BytesMut) {
        if is_link_heartbeat(&message) {
            return out.put_u8(LINK_HEARTBEAT);
        }
        prepare(&mut message);
        if self.continues(&message) {
            out.put_u8(ENTRIES);
            out.put_u64(message.entries.len() as u64);
            for entry in &message.entries {
                put(out, entry);
            }
            out.put_u64(message.commit);
            self.place.index += message.entries.len() as u64;
            return;
        }
        out.put_u8(MESSAGE);
        put(out, &message);
        self.place = LogPlace::after(&message);
    }

    /// Whether the receiver can infer everything but the entries and the commit index. The short form has no place for
    /// other fields, so a message with another field set is sent whole.
    fn continues(&self, message: &Message) -> bool {
        let place = LogPlace {
            term: message.log_term,
            index: message.index,
        };
        let is_plain = !message.reject && message.reject_hint == 0 && message.context.is_empty();
        let is_next = place == self.place || bug!(KeepsAppendState) && self.place == LogPlace::default();
        is_next && message.log_term == message.term && is_plain && message.snapshot.is_none()
    }
}

/// Appends length and bytes.
fn put(out: &mut BytesMut, part: &impl prost::Message) {
    let length = part.encoded_len();
    out.reserve(8 + length);
    out.put_u64(length as u64);
    part.encode_raw(out);
}

/// How far a frame has been read.
#[derive(Debug)]
enum FramePart {
    Kind,
    /// The length of a message.
    Length,
    /// A message of this length.
    Message(usize),
    /// The number of entries.
    Count,
    /// The length of the next entry. The number counts the entries that have not arrived.
    EntryLength(u64),
    /// An entry: the number of entries that have not arrived, including this one, and this one's length.
    Entry(u64, usize),
    /// The commit index.
    Commit,
}

/// Reads frames of the stream of appends.
#[derive(Debug)]
pub struct AppendDecoder {
    local: MemberId,
    remote: MemberId,
    place: LogPlace,
    bytes: Gather,
    stage: FramePart,
    /// The entries of the frame that is arriving, and their bytes.
    entries: Vec<Entry>,
    entry_bytes: usize,
}

impl AppendDecoder {
    /// A decoder for a new connection from `remote` to `local`.
    #[must_use]
    pub fn new(local: MemberId, remote: MemberId) -> Self {
        Self {
            local,
            remote,
            place: LogPlace::default(),
            bytes: Gather::default(),
            stage: FramePart::Kind,
            entries: Vec::new(),
            entry_bytes: 0,
        }
    }

    /// Adds bytes.
    pub fn push(&mut self, bytes: Bytes) {
        self.bytes.push(bytes);
    }

    /// The number of bytes held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.bytes.len() + self.entry_bytes
    }

    /// The next message, if all of it has arrived.
    ///
    /// # Errors
    /// If a frame has an unknown kind, is too long, or does not decode.
    pub fn next_message(&mut self) -> Result<Option<Message>, BadFrame> {
        loop {
            match self.stage {
                FramePart::Kind => match self.bytes.take(1).as_deref() {
                    None => return Ok(None),
                    Some([LINK_HEARTBEAT]) => return Ok(Some(link_heartbeat())),
                    Some([ENTRIES]) => self.stage = FramePart::Count,
                    Some([MESSAGE]) => self.stage = FramePart::Length,
                    Some(other) => return Err(BadFrame(format!("a frame of the unknown kind {other:?}"))),
                },
                FramePart::Length => match self.bytes.take_u64() {
                    None => return Ok(None),
                    Some(length) => self.stage = FramePart::Message(checked_length(length, MAX_PEER_MESSAGE_BYTES)?),
                },
                FramePart::Message(length) => {
                    let Some(bytes) = self.bytes.take(length) else {
                        return Ok(None);
                    };
                    self.stage = FramePart::Kind;
                    let message = decode(bytes)?;
                    self.place = LogPlace::after(&message);
                    return Ok(Some(message));
                }
                FramePart::Count => match self.bytes.take_u64() {
                    None => return Ok(None),
                    Some(count) => self.stage = entries_left(count),
                },
                FramePart::EntryLength(left) => match self.bytes.take_u64() {
                    None => return Ok(None),
                    Some(length) => {
                        let room = MAX_PEER_MESSAGE_BYTES.saturating_sub(self.entry_bytes);
                        self.stage = FramePart::Entry(left, checked_length(length, room)?);
                    }
                },
                FramePart::Entry(left, length) => {
                    let Some(bytes) = self.bytes.take(length) else {
                        return Ok(None);
                    };
                    let entry = Entry::decode(bytes).map_err(|error| BadFrame(format!("not an entry: {error}")))?;
                    // An entry without fields has no bytes and still takes memory.
                    self.entry_bytes += length + size_of::<Entry>();
                    self.entries.push(entry);
                    self.stage = entries_left(left - 1);
                }
                FramePart::Commit => {
                    let Some(commit) = self.bytes.take_u64() else {
                        return Ok(None);
                    };
                    self.stage = FramePart::Kind;
                    return Ok(Some(self.continued(commit)));
                }
            }
        }
    }

    /// The message of the entries that have arrived.
    fn continued(&mut self, commit: u64) -> Message {
        let entries = std::mem::take(&mut self.entries);
        self.entry_bytes = 0;
        let LogPlace { term, index } = self.place;
        if !bug!(AppendsLoseCount) {
            self.place.index = index.wrapping_add(entries.len() as u64);
        }
        Message {
            msg_type: MessageType::MsgAppend as i32,
            from: self.remote.0,
            to: self.local.0,
            term,
            log_term: term,
            index,
            entries,
            commit,
            ..Message::default()
        }
    }
}

/// The part that follows while `count` entries have not arrived.
fn entries_left(count: u64) -> FramePart {
    if count == 0 {
        FramePart::Commit
    } else {
        FramePart::EntryLength(count)
    }
}
