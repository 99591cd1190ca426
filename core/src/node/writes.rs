//! Writing behind: the rows that applied entries changed go to the table in few atomic batches.
//!
//! While the lane is busy, further rows join the next batch. Its size is bounded: a member with too many pending bytes
//! refuses new proposals.

use std::collections::VecDeque;

use crate::limits::{STORE_OUTSTANDING_BATCHES, STORE_PENDING_BYTES};
use crate::member::BatchId;

/// Approximate memory of a row, without its payload.
const ROW_OVERHEAD_BYTES: usize = 128;

/// The batches that the table has not written yet.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// Approximate bytes of the rows changed since the last batch was handed over.
    pending_bytes: usize,
    has_pending: bool,
    outstanding: VecDeque<BatchId>,
    last_id: u64,
}

impl Writes {
    /// An entry was applied whose rows are to be written.
    pub(super) fn add(&mut self, rows: usize, payload_bytes: usize) {
        self.has_pending = true;
        self.pending_bytes += payload_bytes + rows * ROW_OVERHEAD_BYTES;
    }

    /// Whether so much is pending that new proposals are refused.
    pub(super) fn is_full(&self) -> bool {
        self.pending_bytes >= STORE_PENDING_BYTES
    }

    /// The number of the batch to hand over, if rows are pending and the lane has room.
    pub(super) fn begin(&mut self) -> Option<BatchId> {
        if !self.has_pending || self.outstanding.len() >= STORE_OUTSTANDING_BATCHES {
            return None;
        }
        Some(self.hand_over())
    }

    fn hand_over(&mut self) -> BatchId {
        self.has_pending = false;
        self.pending_bytes = 0;
        let id = self.next();
        self.last_id = id.0;
        self.outstanding.push_back(id);
        id
    }

    /// The number of a batch that replaces the whole table, even if the lane has no room: the batch supersedes all
    /// pending rows.
    pub(super) fn replace(&mut self) -> BatchId {
        self.hand_over()
    }

    /// `batch` and all earlier ones are written.
    pub(super) fn stored(&mut self, batch: BatchId) {
        while self.outstanding.pop_front_if(|id| *id <= batch).is_some() {}
    }

    /// The batch that the pending rows will be part of.
    pub(super) fn next(&self) -> BatchId {
        BatchId(self.last_id + 1)
    }

    /// The batch that was handed over last.
    pub(super) fn last(&self) -> BatchId {
        BatchId(self.last_id)
    }

    /// Whether rows wait to be handed over.
    pub(super) fn has_pending(&self) -> bool {
        self.has_pending
    }

    /// How many batches are handed over and not yet written.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_join_one_batch_while_the_lane_is_busy() {
        let mut writes = Writes::default();
        assert_eq!(writes.begin(), None, "nothing to write");
        for id in [1, 2] {
            writes.add(1, 10);
            assert_eq!(writes.begin(), Some(BatchId(id)));
        }
        writes.add(1, 10);
        writes.add(1, 10);
        assert_eq!((writes.begin(), writes.next()), (None, BatchId(3)), "the lane is busy");
        writes.stored(BatchId(1));
        assert_eq!(writes.begin(), Some(BatchId(3)));
        writes.stored(BatchId(3));
        assert_eq!(writes.outstanding(), 0, "a report covers every batch before it");
    }

    #[test]
    fn a_replacement_does_not_wait_for_room_and_supersedes_pending_rows() {
        let mut writes = Writes::default();
        for id in [1, 2] {
            writes.add(1, 10);
            assert_eq!(writes.begin(), Some(BatchId(id)));
        }
        writes.add(1, STORE_PENDING_BYTES);
        assert_eq!(writes.replace(), BatchId(3));
        assert!(!writes.has_pending() && !writes.is_full());
    }

    #[test]
    fn the_bound_counts_the_bytes_not_yet_handed_over() {
        let mut writes = Writes::default();
        writes.add(1, STORE_PENDING_BYTES);
        assert!(writes.is_full());
        writes.begin();
        assert!(!writes.is_full());
        writes.add(STORE_PENDING_BYTES / ROW_OVERHEAD_BYTES, 0);
        assert!(writes.is_full(), "many rows without payload count, too");
    }
}
