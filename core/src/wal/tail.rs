//! Tells a torn tail from rot, by the rules in the module's description.

use super::frame::{BATCH_LENGTH_BYTES, Extent, Header, HeaderError, Kind, MAX_HEADER_BYTES, SECTOR_BYTES, WORD_BYTES};
use super::reader::Window;
use crate::bug;
use crate::error::Fault;

/// Bytes of the frame of an opening record, independent of its checksum.
const OPENING_FRAME_BYTES: u64 = WORD_BYTES + 16;

/// The damage of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) enum Damage {
    /// Its length word is zero, and other bytes follow.
    ZeroWord,
    /// The file ends within it; `extent` is `None` if the file ends within the length word.
    Cut { extent: Option<Extent> },
    /// Its record does not have the bytes that were written.
    Record { extent: Extent, cause: &'static str },
    /// The loss of sectors cannot cause this.
    Rot { cause: &'static str },
}

impl Damage {
    /// Whether the frame may have been an opening record: all of those have one length.
    fn could_be_opening(self) -> bool {
        match self {
            Self::ZeroWord | Self::Cut { extent: None } => true,
            Self::Cut { extent: Some(extent) } | Self::Record { extent, .. } => extent.frame() == OPENING_FRAME_BYTES,
            Self::Rot { .. } => false,
        }
    }
}

/// Where the frame is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) offset: u64,
    /// The end of the present batch, if known.
    pub(super) batch_end: Option<u64>,
}

/// Whether the frame can be cut off, as far as this segment shows, and its damage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub(super) is_torn: bool,
    pub(super) cause: &'static str,
}

impl Verdict {
    const fn rot(cause: &'static str) -> Self {
        Self { is_torn: false, cause }
    }
}

/// Decides about a broken frame.
pub(super) fn judge(window: &mut Window, context: Context, damage: Damage) -> Result<Verdict, Fault> {
    let start = context.offset;
    // From `rest` on, no byte belongs to the broken frame.
    let (rest, cause) = match damage {
        Damage::Rot { cause } => return Ok(Verdict::rot(cause)),
        Damage::Cut { extent: None } => (window.size(), "the file ends within its length word"),
        Damage::Cut { extent: Some(extent) } => {
            if !could_be_written(window, start, extent)? {
                return Ok(Verdict::rot("its length word and its record disagree"));
            }
            (window.size(), "the file ends within it")
        }
        Damage::ZeroWord => {
            let sector_end = (start / SECTOR_BYTES + 1) * SECTOR_BYTES;
            if window.up_to(start, sector_end - start)?.iter().any(|byte| *byte != 0) {
                return Ok(Verdict::rot("its length word is zero and data follow"));
            }
            (sector_end, "its sector was never written")
        }
        Damage::Record { extent, cause } => {
            let lost = first_lost_sector(window, start, extent)?.is_some();
            if !lost || !could_be_written(window, start, extent)? {
                return Ok(Verdict::rot(cause));
            }
            (start + extent.frame(), "a sector of it was never written")
        }
    };
    let is_last_batch = match context.batch_end {
        Some(end) if start < end => window.is_zero_from(end)?,
        Some(_) if damage.could_be_opening() => !has_opening_record(window, start + WORD_BYTES)?,
        _ => window.is_zero_from(rest)?,
    };
    if is_last_batch {
        Ok(Verdict { is_torn: true, cause })
    } else {
        Ok(Verdict::rot(cause))
    }
}

/// Whether a record of that extent could have been written: its fields agree, as far as they are there.
fn could_be_written(window: &mut Window, start: u64, extent: Extent) -> Result<bool, Fault> {
    let record = start + WORD_BYTES;
    let lost = first_lost_sector(window, start, extent)?.unwrap_or(u64::MAX);
    let visible = extent.record.min(MAX_HEADER_BYTES).min(lost.saturating_sub(record));
    let fields = window.up_to(record, visible)?;
    Ok(!matches!(
        Header::parse(&fields, extent.record),
        Err(HeaderError::Wrong)
    ))
}

/// The first sector with a part of the record that was never written: all zero, or beyond the end of the file.
fn first_lost_sector(window: &mut Window, start: u64, extent: Extent) -> Result<Option<u64>, Fault> {
    let end = start + WORD_BYTES + extent.record;
    // The first sector was written, because it holds the length word.
    let mut sector = (start / SECTOR_BYTES + 1) * SECTOR_BYTES;
    if bug!(LooksAtLastSector) {
        sector = sector.max((end - 1) / SECTOR_BYTES * SECTOR_BYTES);
    }
    while sector < end {
        if window.up_to(sector, SECTOR_BYTES)?.iter().all(|byte| *byte == 0) {
            return Ok(Some(sector));
        }
        sector += SECTOR_BYTES;
    }
    Ok(None)
}

/// Whether a batch begins anywhere from `offset` on.
fn has_opening_record(window: &mut Window, offset: u64) -> Result<bool, Fault> {
    let mut at = offset;
    while at + OPENING_FRAME_BYTES <= window.size() {
        let bytes = window.slice(at, OPENING_FRAME_BYTES)?;
        let (word, record) = bytes.split_at(WORD_BYTES as usize);
        let extent = word.try_into().ok().map(u64::from_le_bytes).and_then(Extent::parse);
        if let Some(extent) = extent.filter(|extent| extent.frame() == OPENING_FRAME_BYTES) {
            let opens = |header: Header| {
                header.kind == Kind::Checksum && extent.record as usize - header.data_start == BATCH_LENGTH_BYTES
            };
            if Header::parse(record, extent.record).is_ok_and(opens) {
                return Ok(true);
            }
        }
        at += WORD_BYTES;
    }
    Ok(false)
}
