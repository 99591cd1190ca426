//! One file: the bytes that processes read, those on the medium, and the sectors in which the two may differ.

use std::collections::BTreeMap;

use quoin_core::random::Prng;

use super::image::{Image, SECTOR_BYTES};
use super::outage::{Fate, Outage};

/// The state of a sector.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Mark {
    /// The medium has it.
    #[default]
    Clean,
    /// Written since the last sync.
    Dirty,
    /// Clean for the system since a failed sync; the medium does not have it.
    Astray,
}

/// A sector written since the last sync.
#[derive(Clone, Copy, Debug)]
struct Unsynced {
    sector: usize,
    /// The moment it was first written since.
    since: u64,
}

/// The least length of a file since its last sync.
#[derive(Clone, Copy, Debug)]
struct Cut {
    len: usize,
    since: u64,
}

/// A file's bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    /// The bytes that processes read.
    pub(super) current: Image,
    /// The bytes that survive every loss of power.
    durable: Image,
    /// The content of each durable sector before its last write.
    previous: Image,
    marks: Vec<Mark>,
    /// The dirty sectors in the order of their first writes.
    dirty: Vec<Unsynced>,
    /// The number of sectors that a failed sync left.
    astray: usize,
    cut: Option<Cut>,
    /// When the file last became longer.
    grown: u64,
    /// The directory that has it under a permanent name.
    pub(super) home: Option<usize>,
}

impl Inode {
    /// A file that was durable for a long time.
    pub(super) fn settle(&mut self) {
        *self = Self {
            durable: self.current.clone(),
            current: std::mem::take(&mut self.current),
            home: self.home,
            ..Self::default()
        };
    }

    /// The file has lost its name for good; only processes that have it open still read it.
    pub(super) fn unlink(&mut self) {
        (self.durable, self.previous) = (Image::default(), Image::default());
    }

    /// Writes at the moment `clock`, which moves on.
    pub(super) fn write(&mut self, start: usize, bytes: &[u8], clock: &mut u64) {
        if bytes.is_empty() {
            return;
        }
        let end = start + bytes.len();
        if end > self.current.len() {
            self.grown = *clock;
        }
        self.current.write(start, bytes);
        let sectors = start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES);
        if self.marks.len() < sectors.end {
            self.marks.resize(sectors.end, Mark::Clean);
        }
        for sector in sectors {
            match std::mem::replace(&mut self.marks[sector], Mark::Dirty) {
                Mark::Dirty => continue,
                Mark::Astray => self.astray -= 1,
                Mark::Clean => {}
            }
            self.dirty.push(Unsynced { sector, since: *clock });
            *clock += 1;
        }
        *clock += 1;
    }

    pub(super) fn extend(&mut self, len: usize, clock: &mut u64) {
        if self.current.len() < len {
            self.grown = *clock;
            self.current.set_len(len);
            *clock += 1;
        }
    }

    pub(super) fn truncate(&mut self, len: usize, clock: &mut u64) {
        if len >= self.current.len() {
            self.extend(len, clock);
            return;
        }
        self.cut = Some(Cut {
            len: self.cut.map_or(len, |cut| cut.len.min(len)),
            since: *clock,
        });
        *clock += 1;
        let kept = len.div_ceil(SECTOR_BYTES);
        self.dirty.retain(|unsynced| unsynced.sector < kept);
        for mark in self.marks.iter_mut().skip(kept) {
            if std::mem::take(mark) == Mark::Astray {
                self.astray -= 1;
            }
        }
        self.current.set_len(len);
    }

    pub(super) fn sync(&mut self) {
        self.settle_length();
        for at in 0..self.dirty.len() {
            let sector = self.dirty[at].sector;
            self.marks[sector] = Mark::Clean;
            self.keep(sector, SECTOR_BYTES);
        }
        self.dirty.clear();
    }

    /// A sync that fails: all pages of the file count as clean, and chance decides which of its sectors are durable.
    /// The process still reads what it wrote.
    pub(super) fn sync_fails(&mut self, prng: &mut Prng) {
        self.settle_length();
        for at in 0..self.dirty.len() {
            let sector = self.dirty[at].sector;
            self.marks[sector] = Mark::Clean;
            if prng.below(2) == 0 {
                self.keep(sector, SECTOR_BYTES);
            } else if !self.current.same_sector(&self.durable, sector) {
                self.marks[sector] = Mark::Astray;
                self.astray += 1;
            }
        }
        self.dirty.clear();
    }

    pub(super) fn lose_power(&mut self, outage: &mut Outage<'_>) {
        if self.is_settled() {
            return;
        }
        let old_len = self.durable.len();
        let cut = self.cut.take();
        if cut.is_some_and(|cut| !outage.keeps(cut.since)) {
            // Bytes written after the cut are lost with it.
            outage.lost_sectors |= !self.dirty.is_empty();
            self.dirty.clear();
        } else {
            if let Some(cut) = cut.filter(|cut| cut.len < old_len) {
                self.durable.set_len(cut.len);
            }
            if outage.keeps(self.grown) {
                self.durable.set_len(self.current.len());
            }
        }
        let block_sectors = outage.blocks.sectors();
        let mut fates = BTreeMap::new();
        for Unsynced { sector, since } in std::mem::take(&mut self.dirty) {
            let block = fates.entry(sector / block_sectors);
            let fate = block
                .or_insert_with(|| outage.fate(since))
                .of_sector(sector % block_sectors);
            match fate {
                Fate::Kept => self.keep(sector, SECTOR_BYTES),
                Fate::Lost => {}
                Fate::Torn(bytes) => {
                    let old = self.durable.sector_content(sector);
                    self.keep(sector, bytes);
                    let now = self.durable.sector_content(sector);
                    outage.torn_sector |= now != old && now != self.current.sector_content(sector);
                }
            }
            let is_lost = !self.current.same_sector(&self.durable, sector);
            outage.lost_sectors |= is_lost && fate == Fate::Lost;
            outage.zero_tail |= is_lost && self.has_zero_tail(sector, old_len);
        }
        outage.lost_sectors |= self.astray > 0;
        self.astray = 0;
        self.marks.fill(Mark::Clean);
        self.current.clone_from(&self.durable);
    }

    /// Changes a durable sector without a write.
    pub(super) fn spoil(&mut self, sector: usize, edit: impl FnOnce(&mut [u8])) {
        self.durable.edit_sector(sector, edit);
        self.current.copy_sector(&self.durable, sector, SECTOR_BYTES);
    }

    /// Whether a loss of power would change nothing.
    pub(super) const fn is_settled(&self) -> bool {
        self.dirty.is_empty() && self.astray == 0 && self.cut.is_none() && self.current.len() == self.durable.len()
    }

    /// Whether the medium has a sector and no write of it is pending.
    pub(super) fn is_at_rest(&self, sector: usize) -> bool {
        let start = sector * SECTOR_BYTES;
        self.cut.is_none()
            && start < self.durable.len()
            && self.marks.get(sector).is_none_or(|mark| *mark == Mark::Clean)
    }

    /// The content of the medium.
    pub(super) const fn durable(&self) -> &Image {
        &self.durable
    }

    /// The content of the medium before the last write of each sector.
    pub(super) const fn previous(&self) -> &Image {
        &self.previous
    }

    /// The moment of the oldest change that is not durable.
    pub(super) fn unsynced_since(&self) -> Option<u64> {
        let grown = (self.current.len() > self.durable.len()).then_some(self.grown);
        let dirty = self.dirty.first().map(|unsynced| unsynced.since);
        let cut = self.cut.map(|cut| cut.since);
        [grown, dirty, cut].into_iter().flatten().min()
    }

    fn settle_length(&mut self) {
        if let Some(cut) = self.cut.take() {
            if cut.len < self.durable.len() {
                self.durable.set_len(cut.len);
            }
            if cut.len < self.previous.len() {
                self.previous.set_len(cut.len);
            }
        }
        self.durable.set_len(self.current.len());
    }

    /// Makes the first `count` bytes of a sector durable, as far as the durable length reaches.
    fn keep(&mut self, sector: usize, count: usize) {
        let reaches = ((sector + 1) * SECTOR_BYTES).min(self.durable.len());
        if self.previous.len() < reaches {
            self.previous.set_len(reaches);
        }
        self.previous.copy_sector(&self.durable, sector, SECTOR_BYTES);
        self.durable.copy_sector(&self.current, sector, count);
    }

    /// Whether a part of a sector that the file did not have before reads as zeros where something else was written.
    fn has_zero_tail(&self, sector: usize, old_len: usize) -> bool {
        let start = sector * SECTOR_BYTES;
        let new = start.max(old_len) - start..(start + SECTOR_BYTES).min(self.durable.len()).max(start) - start;
        if new.is_empty() {
            return false;
        }
        let (wanted, found) = (self.current.sector_content(sector), self.durable.sector_content(sector));
        new.into_iter().any(|at| wanted[at] != 0 && found[at] == 0)
    }
}
