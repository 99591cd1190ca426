//! A loss of power: who survives it, and what it took.

use quoin_core::random::Prng;

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

/// What becomes of a sector that was not synced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    Kept,
    Lost,
    /// Only so many bytes reach the medium.
    Torn(usize),
}

/// A loss of power under way.
#[derive(Debug)]
pub(super) struct Outage<'a> {
    loss: Loss,
    tears: bool,
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
    pub(super) fn new(loss: Loss, tears: bool, unsynced: std::ops::Range<u64>, prng: &'a mut Prng) -> Self {
        let at = match loss {
            Loss::Ordered => prng.range(unsynced.start..unsynced.end + 1),
            Loss::Everything | Loss::Nothing | Loss::Random => 0,
        };
        Self {
            loss,
            tears,
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

    /// What becomes of a sector written at a moment.
    pub(super) fn fate(&mut self, since: u64) -> Fate {
        let tears = self.tears
            && match self.loss {
                Loss::Everything | Loss::Nothing => false,
                Loss::Ordered => since == self.at,
                Loss::Random => self.prng.below(3) == 0,
            };
        if tears {
            let bytes = self.prng.below(SECTOR_BYTES as u64);
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
