//! The checksum of a whole file. bbolt has checksums of meta pages only, so it would not notice a flipped bit in a
//! value. Files written here end with a CRC-32C of everything before it, in the last bytes of their last page, which
//! bbolt does not use.
//!
//! The checksum is valid as long as the meta pages have the transaction ids that only this writer uses. The first
//! change by bbolt sets a higher id.

use super::page::{MetaPage, PAGE_BYTES};
use super::read::FileDamage;

/// The transaction id in the first meta page of a written file; the second meta page has this id minus one. The id is
/// even, so bbolt's next transaction overwrites the second meta page, which is the older one.
pub(super) const TRANSACTION: u64 = u64::from_be_bytes(*b"\0\0Quoin\0");

/// Bytes of the checksum.
pub(super) const SUM_BYTES: usize = 4;
/// Bytes at the beginning of a file that contain both meta pages.
const HEAD_BYTES: usize = PAGE_BYTES + super::page::META_BYTES;

/// Checks a file as it arrives, from its first byte to its last.
#[derive(Debug, Default)]
pub struct FileSum {
    /// The file's first [`HEAD_BYTES`].
    head: Vec<u8>,
    /// The offset of the checksum, once the head was read, if the file has a checksum.
    end: Option<u64>,
    /// The number of bytes taken so far.
    at: u64,
    sum: u32,
    /// The bytes of the file's checksum that were taken so far.
    found: Vec<u8>,
}

impl FileSum {
    /// Takes the next bytes of the file.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        let missing = HEAD_BYTES - self.head.len();
        if missing > 0 {
            let (head, rest) = bytes.split_at(missing.min(bytes.len()));
            self.head.extend_from_slice(head);
            self.add(head);
            bytes = rest;
            if self.head.len() == HEAD_BYTES {
                self.end = sum_offset(&self.head);
            }
        }
        let Some(end) = self.end else { return };
        let covered = usize::try_from(end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let (covered, rest) = bytes.split_at(covered.min(bytes.len()));
        self.add(covered);
        let missing = SUM_BYTES - self.found.len();
        self.found.extend_from_slice(&rest[..missing.min(rest.len())]);
    }

    fn add(&mut self, bytes: &[u8]) {
        self.sum = crc32c::crc32c_append(self.sum, bytes);
        self.at += bytes.len() as u64;
    }

    /// The whole file was taken. Returns whether it has a checksum; a file that bbolt wrote has none.
    ///
    /// # Errors
    /// If the checksum does not match.
    pub fn finish(self) -> Result<bool, FileDamage> {
        let Some(end) = self.end else { return Ok(false) };
        if self.found == self.sum.to_le_bytes() {
            return Ok(true);
        }
        Err(FileDamage {
            page: end / PAGE_BYTES as u64,
            offset: end,
            cause: "the checksum of the file does not match",
        })
    }
}

/// The offset of a file's checksum, by its meta pages.
fn sum_offset(head: &[u8]) -> Option<u64> {
    let metas = [head, &head[PAGE_BYTES..]].map(MetaPage::read);
    let newer = metas.into_iter().flatten().max_by_key(|meta| meta.transaction)?;
    let is_as_written = [TRANSACTION, TRANSACTION - 1].contains(&newer.transaction);
    let end = newer
        .high_water
        .checked_mul(PAGE_BYTES as u64)?
        .checked_sub(SUM_BYTES as u64)?;
    is_as_written.then_some(end)
}
