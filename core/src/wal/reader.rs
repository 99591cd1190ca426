//! Reads the frames of one segment, in order, through a [`Source`], and finds where they end.

use bytes::{Bytes, BytesMut};

use super::frame::{Extent, Header, Kind, MAX_HEADER_BYTES, WORD_BYTES, batch_length};
use super::name::SegmentName;
use super::tail::{Context, Damage, judge};
use crate::bug;
use crate::error::Fault;
use crate::limits::MAX_WAL_RECORD_BYTES;

/// The bytes of a file, read piece by piece.
pub trait Source {
    /// The file's length in bytes.
    fn size(&self) -> u64;

    /// Fills `into` with the bytes from `offset` on.
    ///
    /// # Errors
    /// If the disk fails. The range always lies within [`Source::size`].
    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Fault>;
}

impl Source for Bytes {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Fault> {
        let start = offset as usize;
        into.copy_from_slice(&self[start..start + into.len()]);
        Ok(())
    }
}

/// One segment to read.
pub struct Segment {
    /// Its name.
    pub name: SegmentName,
    /// Its bytes.
    pub source: Box<dyn Source>,
}

/// How much is read at once if records are small.
const WINDOW_BYTES: u64 = 1024 * 1024;

/// A file of which a part is in memory.
pub(super) struct Window {
    source: Box<dyn Source>,
    start: u64,
    bytes: Bytes,
}

impl Window {
    fn new(source: Box<dyn Source>) -> Self {
        Self {
            source,
            start: 0,
            bytes: Bytes::new(),
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.source.size()
    }

    /// The bytes of a range that lies within the file.
    pub(super) fn slice(&mut self, offset: u64, length: u64) -> Result<Bytes, Fault> {
        let held = offset >= self.start && offset + length <= self.start + self.bytes.len() as u64;
        if !held {
            let wanted = length.max(WINDOW_BYTES).min(self.size() - offset);
            let mut fresh = BytesMut::zeroed(wanted as usize);
            self.source.read(offset, &mut fresh)?;
            self.start = offset;
            self.bytes = fresh.freeze();
        }
        let at = (offset - self.start) as usize;
        Ok(self.bytes.slice(at..at + length as usize))
    }

    /// The bytes of a range, as far as the file contains it.
    pub(super) fn up_to(&mut self, offset: u64, length: u64) -> Result<Bytes, Fault> {
        let offset = offset.min(self.size());
        self.slice(offset, length.min(self.size() - offset))
    }

    /// Whether the file is zeros from `offset` to its end.
    pub(super) fn is_zero_from(&mut self, offset: u64) -> Result<bool, Fault> {
        let mut at = offset;
        while at < self.size() {
            let piece = self.up_to(at, WINDOW_BYTES)?;
            // Whole chunks at once, because a fresh segment has 64 MB of zeros.
            if piece
                .chunks(4096)
                .any(|chunk| chunk.iter().fold(0, |all, byte| all | byte) != 0)
            {
                return Ok(false);
            }
            at += piece.len() as u64;
        }
        Ok(true)
    }
}

/// One record, read and checked.
#[derive(Debug)]
pub(super) struct Record {
    /// Where its frame begins.
    pub(super) offset: u64,
    pub(super) kind: Kind,
    pub(super) data: Bytes,
}

/// Reads a segment from its start.
pub(super) struct SegmentReader {
    pub(super) name: SegmentName,
    window: Window,
    is_last: bool,
    /// Where the next frame begins.
    pub(super) offset: u64,
    /// The checksum so far; `None` before the first record read.
    pub(super) checksum: Option<u32>,
    /// Where the present batch began; among records that etcd appended, where those began.
    pub(super) batch_start: u64,
    /// Where the present batch ends; `None` among records that etcd appended.
    batch_end: Option<u64>,
    /// Why the segment ends earlier than intended.
    pub(super) torn: Option<&'static str>,
    /// Whether the head was read: only after it may the segment end with a torn tail.
    pub(super) head_read: bool,
}

impl SegmentReader {
    /// Starts at the beginning of a segment; `checksum` is that of the previous segment.
    pub(super) fn new(segment: Segment, checksum: Option<u32>, is_last: bool) -> Self {
        Self {
            name: segment.name,
            window: Window::new(segment.source),
            is_last,
            offset: 0,
            checksum,
            batch_start: 0,
            batch_end: None,
            torn: None,
            head_read: false,
        }
    }

    /// The next record; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Record>, Fault> {
        let size = self.window.size();
        let left = size - self.offset;
        let word = self.window.up_to(self.offset, WORD_BYTES)?;
        if word.iter().all(|byte| *byte == 0) {
            if self.window.is_zero_from(self.offset)? {
                if self.batch_end.is_some_and(|end| self.offset < end) {
                    self.torn = Some("the end of its batch is missing");
                }
                return Ok(None);
            }
            return self.broken(Damage::ZeroWord);
        }
        let Ok(word) = word[..].try_into().map(u64::from_le_bytes) else {
            return self.broken(Damage::Cut { extent: None });
        };
        let sane = |extent: &Extent| extent.record <= MAX_WAL_RECORD_BYTES;
        let Some(extent) = Extent::parse(word).filter(sane) else {
            return self.broken(Damage::Rot {
                cause: "no frame has such a length word",
            });
        };
        if extent.frame() > left {
            return self.broken(Damage::Cut { extent: Some(extent) });
        }
        let record = self.window.slice(self.offset + WORD_BYTES, extent.record)?;
        let Ok(header) = Header::parse(&record[..record.len().min(MAX_HEADER_BYTES as usize)], extent.record) else {
            return self.broken(Damage::Record {
                extent,
                cause: "its fields make no sense",
            });
        };
        let data = record.slice(header.data_start..);
        if let Err(cause) = self.check(header, &data) {
            return self.broken(Damage::Record { extent, cause });
        }
        let end = self.offset + extent.frame();
        self.follow_batch(header.kind, &data, end)?;
        let offset = std::mem::replace(&mut self.offset, end);
        Ok(Some(Record {
            offset,
            kind: header.kind,
            data,
        }))
    }

    /// The fault of a record that no writer writes here.
    pub(super) fn corrupt(&self, offset: u64, cause: impl Into<String>) -> Fault {
        Fault::Corrupt {
            file: self.name.to_string(),
            offset,
            cause: cause.into(),
        }
    }

    /// Continues the checksum, if the record's is right.
    fn check(&mut self, header: Header, data: &Bytes) -> Result<(), &'static str> {
        let expected = match (header.kind, self.checksum) {
            // In the first segment read, this is the checksum of everything before.
            (Kind::Checksum, None) => header.checksum,
            (Kind::Checksum, Some(checksum)) => checksum,
            (_, checksum) => crc32c::crc32c_append(checksum.unwrap_or(0), data),
        };
        if header.checksum != expected {
            return Err("its checksum does not match");
        }
        self.checksum = Some(expected);
        Ok(())
    }

    /// Determines where the present batch ends.
    fn follow_batch(&mut self, kind: Kind, data: &Bytes, end: u64) -> Result<(), Fault> {
        if kind == Kind::Checksum {
            if !data.is_empty() && batch_length(data).is_none() {
                return Err(self.corrupt(self.offset, "no checksum record holds such data"));
            }
            self.batch_start = self.offset;
            self.batch_end = batch_length(data).map(|length| end + length);
        } else if let Some(batch_end) = self.batch_end {
            if self.offset == batch_end {
                // There is no opening record: an etcd continued the log from here.
                self.batch_start = self.offset;
                self.batch_end = None;
            } else if end > batch_end {
                return Err(self.corrupt(self.offset, "the record reaches beyond its batch"));
            }
        }
        Ok(())
    }

    /// Ends the segment here if the tail is torn.
    fn broken(&mut self, damage: Damage) -> Result<Option<Record>, Fault> {
        let context = Context {
            offset: self.offset,
            batch_end: self.batch_end,
        };
        let verdict = judge(&mut self.window, context, damage)?;
        if self.is_last && self.head_read && (verdict.is_torn || bug!(TakesRotForTorn)) {
            self.torn = Some(verdict.cause);
            return Ok(None);
        }
        Err(self.corrupt(self.offset, verdict.cause))
    }
}
