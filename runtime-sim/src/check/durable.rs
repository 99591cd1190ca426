//! The part of a member's log that would survive a loss of power, by the true state of the simulated disk.

use std::collections::{BTreeMap, VecDeque};

use quoin_core::member::{BatchId, Recovered};
use quoin_core::proto::raftpb::{Entry, HardState};

/// A batch handed to the disk that may not be durable yet.
#[derive(Clone, Debug)]
struct Batch {
    id: BatchId,
    hard_state: Option<HardState>,
    /// Index of the first entry; 0 if there is none.
    first: u64,
    /// The index of the snapshot that replaces the log.
    snapshot: Option<u64>,
    terms: Vec<u64>,
}

/// The durable part of a log: only its terms, which is enough, because logs match.
#[derive(Clone, Debug, Default)]
pub struct Durable {
    waiting: VecDeque<Batch>,
    /// Term, vote and commit index on disk.
    pub hard_state: HardState,
    /// Index of the snapshot that the entries follow.
    base: u64,
    terms: Vec<u64>,
    /// The last entry in each of the member's terms in this life.
    reached: BTreeMap<u64, u64>,
}

impl Durable {
    /// Everything that was read back is on disk.
    pub(super) fn read_back(recovered: &Recovered) -> Self {
        Self {
            waiting: VecDeque::new(),
            hard_state: recovered.hard_state,
            base: recovered.snapshot_index,
            terms: recovered.entries.iter().map(|entry| entry.term).collect(),
            reached: BTreeMap::from([(
                recovered.hard_state.term,
                recovered.snapshot_index + recovered.entries.len() as u64,
            )]),
        }
    }

    pub(super) fn handed(&mut self, id: BatchId, hard_state: Option<HardState>, entries: &[Entry]) {
        self.waiting.push_back(Batch {
            id,
            hard_state,
            first: entries.first().map_or(0, |entry| entry.index),
            snapshot: None,
            terms: entries.iter().map(|entry| entry.term).collect(),
        });
    }

    /// `id` and every batch before it are durable.
    pub(super) fn durable(&mut self, id: BatchId) {
        while let Some(batch) = self.waiting.pop_front_if(|batch| batch.id <= id) {
            self.hard_state = batch.hard_state.unwrap_or(self.hard_state);
            if let Some(index) = batch.snapshot {
                self.base = index;
                self.terms.clear();
            }
            if let Some(place) = batch.first.checked_sub(self.base + 1) {
                self.terms.truncate(usize::try_from(place).unwrap_or(usize::MAX));
                self.terms.extend(batch.terms);
            }
            let last = self.last();
            let reached = self.reached.entry(self.hard_state.term).or_default();
            *reached = last.max(*reached);
        }
    }

    /// A snapshot that replaces the log was handed to the disk.
    pub(super) fn installed(&mut self, id: BatchId, hard_state: Option<HardState>, index: u64) {
        self.waiting.push_back(Batch {
            id,
            hard_state,
            first: 0,
            snapshot: Some(index),
            terms: Vec::new(),
        });
    }

    /// The last durable entry.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.base + self.terms.len() as u64
    }

    /// The last entry that was durable at some time while the member was in `term`, or in the term before if `term` was
    /// never on disk alone. A later sync may remove some of these entries for a later term; what was promised in the
    /// earlier term was true.
    #[must_use]
    pub fn reached(&self, term: u64) -> u64 {
        let known = self.reached.range(..=term).next_back();
        known.map_or(0, |(_, last)| *last)
    }

    /// The term of a durable entry that the snapshot does not cover.
    #[must_use]
    pub fn term(&self, index: u64) -> Option<u64> {
        let place = index.checked_sub(self.base + 1)?;
        self.terms.get(usize::try_from(place).ok()?).copied()
    }

    /// Whether the entry is durable, in the log or as part of a snapshot.
    #[must_use]
    pub fn has(&self, index: u64, term: u64) -> bool {
        index <= self.base || self.term(index) == Some(term)
    }

    /// The last entry that must be read back unchanged, whatever part of the waiting batches reached the disk.
    #[must_use]
    pub fn bound(&self) -> u64 {
        let kept = |batch: &Batch| batch.snapshot.or_else(|| batch.first.checked_sub(1));
        let kept = self.waiting.iter().filter_map(kept).min();
        kept.map_or(self.last(), |kept| kept.min(self.last()))
    }

    /// How many batches wait to become durable.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(terms: &[(u64, u64)]) -> Vec<Entry> {
        let entry = |(index, term): &(u64, u64)| Entry {
            index: *index,
            term: *term,
            ..Entry::default()
        };
        terms.iter().map(entry).collect()
    }

    #[test]
    fn a_batch_counts_once_it_is_durable_and_replaces_what_it_overlaps() {
        let mut disk = Durable::default();
        disk.handed(BatchId(1), None, &entries(&[(1, 1), (2, 1), (3, 1)]));
        assert_eq!((disk.last(), disk.has(1, 1)), (0, false));
        disk.durable(BatchId(1));
        assert_eq!((disk.last(), disk.bound(), disk.has(3, 1)), (3, 3, true));
        disk.handed(BatchId(2), None, &entries(&[(2, 2)]));
        assert_eq!(
            (disk.last(), disk.bound()),
            (3, 1),
            "entries 2 and 3 may be replaced on disk already"
        );
        disk.durable(BatchId(2));
        assert_eq!((disk.last(), disk.has(2, 1), disk.has(2, 2)), (2, false, true));
        let later = HardState {
            term: 4,
            ..HardState::default()
        };
        disk.handed(BatchId(3), None, &entries(&[(3, 2), (4, 2)]));
        disk.handed(BatchId(4), Some(later), &entries(&[(3, 4)]));
        disk.durable(BatchId(4));
        assert_eq!((disk.last(), disk.reached(0), disk.reached(4)), (3, 4, 3));
        disk.handed(BatchId(5), None, &entries(&[(3, 4)]));
        disk.durable(BatchId(5));
        disk.installed(BatchId(6), None, 9);
        assert_eq!((disk.last(), disk.bound()), (3, 3), "it may not have reached the disk");
        disk.durable(BatchId(6));
        assert_eq!((disk.last(), disk.has(5, 7)), (9, true), "the snapshot covers it");
    }
}
