//! Turns a member's durable state into the bytes to append, and decides when a segment is full.

use bytes::Bytes;
use prost::Message as _;

use super::frame::{BATCH_LENGTH_BYTES, Encoder, Kind};
use super::name::SegmentName;
use super::replay::{Identity, Replay};
use crate::limits::WAL_SEGMENT_BYTES;
use crate::proto::raftpb::{ConfState, Entry, HardState};
use crate::proto::walpb;

/// A record in the log that says up to which index the applied state is durable elsewhere.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Marker {
    /// The last index of that state.
    pub index: u64,
    /// The term of that index.
    pub term: u64,
    /// The configuration as of that index; absent in the marker that begins a log, and in older logs.
    pub conf_state: Option<ConfState>,
}

impl Marker {
    pub(super) fn encode(&self) -> Vec<u8> {
        let marker = walpb::Snapshot {
            index: Some(self.index),
            term: Some(self.term),
            conf_state: self.conf_state.clone(),
        };
        marker.encode_to_vec()
    }
}

/// Records to append: the marker first, then the entries, then the hard state, which may refer to both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Save {
    /// A marker for later starts; its `*.snap` file is durable already.
    pub marker: Option<Marker>,
    /// Entries to append; an entry with an index already in the log replaces that one and all after it.
    pub entries: Vec<Entry>,
    /// The hard state, if it changed.
    pub state: Option<HardState>,
}

/// How to continue in a new segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cut {
    /// The segment that is full.
    pub closed: SegmentName,
    /// Its length in bytes. The host truncates it to this length and syncs it before the new segment gets its name.
    pub closed_bytes: u64,
    /// The new segment.
    pub opened: SegmentName,
}

/// The pure half of writing a log: it computes the bytes, their offset and their segment.
///
/// The host's half: append the given bytes at the end of the newest segment, sync once per batch, never begin a batch
/// before the previous one is synced.
#[derive(Clone, Debug)]
pub struct Writer {
    encoder: Encoder,
    metadata: Bytes,
    name: SegmentName,
    offset: u64,
    /// The length at which a segment is full.
    segment_bytes: u64,
    last_index: u64,
    /// The newest hard state, and the last one written to the log.
    state: HardState,
    state_written: HardState,
    scratch: Vec<u8>,
}

impl Writer {
    /// Begins the log of a new member; appends the first segment's head to `out`.
    #[must_use]
    pub fn create(identity: Identity, out: &mut Vec<u8>) -> Self {
        let mut writer = Self {
            encoder: Encoder::new(0),
            metadata: identity.encode().into(),
            name: SegmentName::FIRST,
            offset: 0,
            segment_bytes: WAL_SEGMENT_BYTES,
            last_index: 0,
            state: HardState::default(),
            state_written: HardState::default(),
            scratch: Vec::new(),
        };
        let marker = Marker::default().encode();
        writer.batch(out, |writer, out| {
            writer.encoder.record(Kind::Metadata, &writer.metadata, out);
            writer.encoder.record(Kind::Snapshot, &marker, out);
        });
        writer
    }

    /// Continues a log that was read back; appends to `out` the batch to write first, at the tail's offset.
    ///
    /// The last segment must durably hold nothing but zeros from that offset on before anything is written there. The
    /// first batch is empty: it shows a later reader that everything before it was found good.
    #[must_use]
    pub fn resume(replay: &Replay, out: &mut Vec<u8>) -> Self {
        let tail = &replay.tail;
        let mut writer = Self {
            encoder: Encoder::new(tail.checksum),
            metadata: replay.metadata.clone(),
            name: tail.name,
            offset: tail.offset,
            segment_bytes: WAL_SEGMENT_BYTES,
            last_index: tail.last_index,
            state: replay.hard_state,
            state_written: replay.hard_state,
            scratch: Vec::new(),
        };
        writer.batch(out, |_, _| {});
        writer
    }

    /// The same writer with another segment length than [`WAL_SEGMENT_BYTES`].
    #[must_use]
    pub const fn with_segment_bytes(mut self, segment_bytes: u64) -> Self {
        self.segment_bytes = segment_bytes;
        self
    }

    /// Appends `saves` to `out` as one batch; appends nothing if they need no sync.
    ///
    /// A change of the commit index alone waits for the next batch, because members determine it again after a restart.
    pub fn write<'a>(&mut self, saves: impl IntoIterator<Item = &'a Save>, out: &mut Vec<u8>) {
        let mut saves = saves.into_iter().peekable();
        while let Some(save) = saves.peek() {
            if save.marker.is_some() || !save.entries.is_empty() {
                break;
            }
            self.state = save.state.unwrap_or(self.state);
            saves.next();
        }
        let promises = (self.state.term, self.state.vote) != (self.state_written.term, self.state_written.vote);
        if saves.peek().is_none() && !promises {
            return;
        }
        self.batch(out, |writer, out| {
            for save in saves {
                writer.records(save, out);
            }
            writer.write_state(out);
        });
    }

    /// Appends the records that [`Writer::write`] held back, as a batch; used at an orderly end.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        if self.state != self.state_written {
            self.batch(out, Self::write_state);
        }
    }

    /// Whether the next batch belongs in a new segment.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.offset >= self.segment_bytes
    }

    /// Continues in a new segment; appends its head to `out`, for a separate file.
    ///
    /// The new file must be synced before it gets its name.
    pub fn cut(&mut self, out: &mut Vec<u8>) -> Cut {
        let (closed, closed_bytes) = (self.name, self.offset);
        self.name = SegmentName {
            sequence: closed.sequence + 1,
            first_index: self.last_index + 1,
        };
        self.offset = 0;
        self.batch(out, |writer, out| {
            writer.encoder.record(Kind::Metadata, &writer.metadata, out);
            writer.state_written = HardState::default();
            writer.write_state(out);
        });
        Cut {
            closed,
            closed_bytes,
            opened: self.name,
        }
    }

    /// The segment being written.
    #[must_use]
    pub const fn name(&self) -> SegmentName {
        self.name
    }

    /// Its length, including everything appended so far.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Appends one batch: an opening record with the length of what `records` appends, then those bytes.
    fn batch(&mut self, out: &mut Vec<u8>, records: impl FnOnce(&mut Self, &mut Vec<u8>)) {
        let start = out.len();
        let opening = self.encoder.clone();
        opening.checksum_record(Some(&[0; BATCH_LENGTH_BYTES]), out);
        let after = out.len();
        records(self, out);
        let length = u32::try_from(out.len() - after).unwrap_or(u32::MAX).to_le_bytes();
        // The opening record's data are its last field, right before its padding.
        let padding = usize::from(out[start + 7] & 0x07);
        let at = after - padding - BATCH_LENGTH_BYTES;
        out[at..at + BATCH_LENGTH_BYTES].copy_from_slice(&length);
        self.offset += (out.len() - start) as u64;
    }

    /// Appends the records of one save without its state, which the batch ends with.
    fn records(&mut self, save: &Save, out: &mut Vec<u8>) {
        if let Some(marker) = &save.marker {
            self.encoder.record(Kind::Snapshot, &marker.encode(), out);
            self.last_index = self.last_index.max(marker.index);
        }
        for entry in &save.entries {
            self.scratch.clear();
            entry.encode(&mut self.scratch).expect("a Vec grows as needed");
            self.encoder.record(Kind::Entry, &self.scratch, out);
            self.last_index = entry.index;
        }
        self.state = save.state.unwrap_or(self.state);
    }

    /// Appends the hard state, if the segment does not have it.
    fn write_state(&mut self, out: &mut Vec<u8>) {
        if self.state != self.state_written {
            self.encoder.record(Kind::State, &self.state.encode_to_vec(), out);
            self.state_written = self.state;
        }
    }
}
