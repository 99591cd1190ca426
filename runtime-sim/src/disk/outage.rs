//! A loss of power: who survives it, and what it took.

use quoin_core::random::Prng;

use super::DiskModel;
use super::image::SECTOR_BYTES;
use crate::faults::{FaultKind, Struck};

/// How much of what was not synced a loss of power leaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loss {
    /// Nothing of it.
    Everything,
    /// All of it.
    Nothing,
    /// What was written first, up to a moment drawn, over the whole disk; the sectors of a write come one after another.
    Ordered,
    /// Any of its sectors, each by the toss of a coin.
    Random,
}

/// How many bytes reach the medium together. Rot, and what is written at once, is by sectors of 512 all the same.
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

/// What becomes of a block that was not synced, or of a sector in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    Kept,
    Lost,
    /// Only so many bytes reach the medium.
    Torn(usize),
}

impl Fate {
    /// What becomes of a sector, by its place in its block.
    pub(super) const fn of_sector(self, place: usize) -> Self {
        match self {
            Self::Torn(bytes) if bytes >= (place + 1) * SECTOR_BYTES => Self::Kept,
            Self::Torn(bytes) if bytes <= place * SECTOR_BYTES && place > 0 => Self::Lost,
            Self::Torn(bytes) => Self::Torn(bytes - place * SECTOR_BYTES),
            Self::Kept | Self::Lost => self,
        }
    }
}

/// A loss of power under way.
#[derive(Debug)]
pub(super) struct Outage<'a> {
    loss: Loss,
    tears: bool,
    pub(super) blocks: Blocks,
    /// When [`Loss::Ordered`] strikes.
    at: u64,
    prng: &'a mut Prng,
    pub(super) lost_names: bool,
    pub(super) lost_sectors: bool,
    pub(super) torn_sector: bool,
    pub(super) zero_tail: bool,
}

impl<'a> Outage<'a> {
    /// One at a moment of `unsynced`, which holds the moments of everything not durable.
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

    /// Whether what happened at a moment stays.
    pub(super) fn keeps(&mut self, since: u64) -> bool {
        match self.loss {
            Loss::Everything => false,
            Loss::Nothing => true,
            Loss::Ordered => since < self.at,
            Loss::Random => self.prng.below(2) == 0,
        }
    }

    /// What becomes of a block first written at a moment.
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

    /// Whether a change of names stays; if not, no later one in that directory does.
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
