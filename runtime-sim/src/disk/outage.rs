//! A loss of power: what survives it.

use quoin_core::random::Prng;

use super::DiskModel;
use super::image::SECTOR_BYTES;
use crate::faults::{FaultKind, Struck};

/// The part of the unsynced data that survives a loss of power.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loss {
    /// Nothing.
    Everything,
    /// Everything.
    Nothing,
    /// Everything written before a random moment, on the whole disk; the sectors of a write come one after another.
    Ordered,
    /// A random subset of its sectors.
    Random,
}

/// How many bytes reach the medium together. Rot and single writes nevertheless work in sectors of 512 bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Blocks {
    /// 512 bytes: a sector.
    #[default]
    Small,
    /// 4096 bytes: eight sectors, as on newer disks.
    Large,
}

impl Blocks {
    /// Sectors in a block.
    pub(super) const fn sectors(self) -> usize {
        match self {
            Self::Small => 1,
            Self::Large => 8,
        }
    }
}

/// The fate of an unsynced block, or of a sector in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    Kept,
    Lost,
    /// Only this many bytes reach the medium.
    Torn(usize),
}

impl Fate {
    /// The fate of a sector, by its index in its block.
    pub(super) const fn of_sector(self, place: usize) -> Self {
        match self {
            Self::Torn(bytes) if bytes >= (place + 1) * SECTOR_BYTES => Self::Kept,
            Self::Torn(bytes) if bytes <= place * SECTOR_BYTES && place > 0 => Self::Lost,
            Self::Torn(bytes) => Self::Torn(bytes - place * SECTOR_BYTES),
            Self::Kept | Self::Lost => self,
        }
    }
}

/// A loss of power in progress.
#[derive(Debug)]
pub(super) struct Outage<'a> {
    loss: Loss,
    tears: bool,
    pub(super) blocks: Blocks,
    /// The moment of [`Loss::Ordered`].
    at: u64,
    prng: &'a mut Prng,
    pub(super) lost_names: bool,
    pub(super) lost_sectors: bool,
    pub(super) torn_sector: bool,
    pub(super) zero_tail: bool,
}

impl<'a> Outage<'a> {
    /// A loss at a moment of `unsynced`, which holds the moments of everything not durable.
    pub(super) fn new(loss: Loss, model: DiskModel, unsynced: std::ops::Range<u64>, prng: &'a mut Prng) -> Self {
        let at = match loss {
            Loss::Ordered => prng.range(unsynced.start..unsynced.end + 1),
            Loss::Everything | Loss::Nothing | Loss::Random => 0,
        };
        Self {
            loss,
            tears: model.halves_sectors,
            blocks: model.blocks,
            at,
            prng,
            lost_names: false,
            lost_sectors: false,
            torn_sector: false,
            zero_tail: false,
        }
    }

    /// Whether a change of that moment survives.
    pub(super) fn keeps(&mut self, since: u64) -> bool {
        match self.loss {
            Loss::Everything => false,
            Loss::Nothing => true,
            Loss::Ordered => since < self.at,
            Loss::Random => self.prng.below(2) == 0,
        }
    }

    /// The fate of a block first written at a moment.
    pub(super) fn fate(&mut self, since: u64) -> Fate {
        let tears = self.tears
            && match self.loss {
                Loss::Everything | Loss::Nothing => false,
                Loss::Ordered => since == self.at,
                Loss::Random => self.prng.below(3) == 0,
            };
        if tears {
            let bytes = self.prng.below((self.blocks.sectors() * SECTOR_BYTES) as u64);
            Fate::Torn(usize::try_from(bytes).unwrap_or(0))
        } else if self.keeps(since) {
            Fate::Kept
        } else {
            Fate::Lost
        }
    }

    /// Whether a change of names survives; if not, no later one in that directory does.
    pub(super) fn keeps_name(&mut self, since: u64) -> bool {
        match self.loss {
            Loss::Ordered => since < self.at,
            Loss::Everything | Loss::Nothing | Loss::Random => self.prng.below(4) != 0,
        }
    }

    pub(super) fn note(self, struck: &Struck) {
        let seen = [
            (FaultKind::LostNames, self.lost_names),
            (FaultKind::LostSectors, self.lost_sectors),
            (FaultKind::TornSector, self.torn_sector),
            (FaultKind::ZeroTail, self.zero_tail),
        ];
        for (kind, _) in seen.into_iter().filter(|(_, seen)| *seen) {
            struck.note(kind);
        }
    }
}
