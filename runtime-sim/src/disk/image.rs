//! The bytes of one file: as many as were ever written, then zeros up to its length. It does not track durability.

/// Bytes of a sector: the least that reaches the medium at once.
pub(super) const SECTOR_BYTES: usize = 512;

/// A sector's content.
pub(super) type Sector = [u8; SECTOR_BYTES];

/// Content whose zero tail takes no memory.
#[derive(Debug, Default)]
pub(super) struct Image {
    /// Whole sectors; zero from `len` on.
    bytes: Vec<u8>,
    len: usize,
}

impl Clone for Image {
    fn clone(&self) -> Self {
        Self {
            bytes: self.bytes.clone(),
            len: self.len,
        }
    }

    /// Keeps the memory.
    fn clone_from(&mut self, source: &Self) {
        self.bytes.clone_from(&source.bytes);
        self.len = source.len;
    }
}

impl Image {
    pub(super) fn write(&mut self, start: usize, bytes: &[u8]) {
        let end = start + bytes.len();
        self.reach(end.div_ceil(SECTOR_BYTES));
        self.bytes[start..end].copy_from_slice(bytes);
        self.len = self.len.max(end);
    }

    /// Cuts, or extends with zeros.
    pub(super) fn set_len(&mut self, len: usize) {
        if len < self.len {
            self.bytes.truncate(len.div_ceil(SECTOR_BYTES) * SECTOR_BYTES);
            if let Some(gone) = self.bytes.get_mut(len..) {
                gone.fill(0);
            }
        }
        self.len = len;
    }

    /// Copies the first `count` bytes of a sector, up to the length.
    pub(super) fn copy_sector(&mut self, from: &Self, sector: usize, count: usize) {
        let start = sector * SECTOR_BYTES;
        let end = (start + count).min(self.len);
        if start >= end {
            return;
        }
        match from.sector(sector) {
            Some(content) => {
                self.reach(sector + 1);
                self.bytes[start..end].copy_from_slice(&content[..end - start]);
            }
            None => {
                if let Some(content) = self.bytes.get_mut(start..end) {
                    content.fill(0);
                }
            }
        }
    }

    /// Changes a sector, up to the length.
    pub(super) fn edit_sector(&mut self, sector: usize, edit: impl FnOnce(&mut [u8])) {
        let start = sector * SECTOR_BYTES;
        let end = (start + SECTOR_BYTES).min(self.len);
        if start < end {
            self.reach(sector + 1);
            edit(&mut self.bytes[start..end]);
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Fills as much of `buffer` as possible from `start` on; returns how much.
    pub(super) fn read(&self, start: usize, buffer: &mut [u8]) -> usize {
        let count = buffer.len().min(self.len.saturating_sub(start));
        let written = self.bytes.get(start..).unwrap_or_default();
        let copied = count.min(written.len());
        buffer[..copied].copy_from_slice(&written[..copied]);
        buffer[copied..count].fill(0);
        count
    }

    /// A sector's content, with zeros after the end.
    pub(super) fn sector_content(&self, sector: usize) -> Sector {
        let mut content = [0; SECTOR_BYTES];
        if let Some(written) = self.sector(sector) {
            content.copy_from_slice(written);
        }
        content
    }

    /// Whether a sector reads the same in both.
    pub(super) fn same_sector(&self, other: &Self, sector: usize) -> bool {
        match (self.sector(sector), other.sector(sector)) {
            (Some(mine), Some(theirs)) => mine == theirs,
            (Some(written), None) | (None, Some(written)) => is_zero(written),
            (None, None) => true,
        }
    }

    pub(super) fn is_zero_sector(&self, sector: usize) -> bool {
        self.sector(sector).is_none_or(is_zero)
    }

    /// Everything that was ever written, without the zeros at the end.
    pub(super) fn written(&self) -> &[u8] {
        &self.bytes[..self.bytes.len().min(self.len)]
    }

    fn sector(&self, sector: usize) -> Option<&[u8]> {
        self.bytes.get(sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES)
    }

    fn reach(&mut self, sectors: usize) {
        if self.bytes.len() < sectors * SECTOR_BYTES {
            self.bytes.resize(sectors * SECTOR_BYTES, 0);
        }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
