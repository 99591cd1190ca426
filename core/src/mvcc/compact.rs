//! Compaction: dropping superseded revisions, at once for readers and step by step in the table.
//!
//! The sweep walks over the log. At each record it removes the record that this one superseded, and the record itself
//! if it is a tombstone from before the compact revision. A tombstone *at* that revision stays, because a watcher may
//! start there. An earlier compaction left one revision per key, so a sweep starts where the previous one ended.

use bytes::Bytes;

use crate::bug;
use crate::error::Error;
use crate::table::{Bucket, TableOp};

use super::record::Record;
use super::{FINISHED_COMPACT_ROW, Mvcc, Revision, SCHEDULED_COMPACT_ROW};

/// A compaction whose physical part is not finished.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compaction {
    /// Its revision.
    target: i64,
    /// Every record before this one was swept.
    cursor: Revision,
}

/// The progress of the physical part of compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactProgress {
    /// There is nothing to do.
    Idle,
    /// There is more to do.
    More,
    /// The compaction at this revision is done.
    Finished(i64),
}

impl Mvcc {
    /// Drops, for readers, everything superseded at `revision`; [`Self::compact_step`] deletes the rows.
    pub fn compact(&mut self, revision: i64, ops: &mut Vec<TableOp>) -> Result<(), Error> {
        if revision <= self.state.compact_revision {
            return Err(Error::Compacted);
        }
        if revision > self.state.revision {
            return Err(Error::FutureRevision);
        }
        self.schedule(revision);
        ops.push(mark(SCHEDULED_COMPACT_ROW, revision));
        Ok(())
    }

    /// Makes `revision` the compact revision and schedules its sweep.
    pub(super) fn schedule(&mut self, revision: i64) {
        self.state.compact_revision = revision;
        let cursor = match self.compaction {
            None => Revision::first_of(self.swept_revision),
            // Tombstones that were spared because they were at the former target are swept again.
            Some(former) if bug!(ForgetsSparedTombstones) => former.cursor,
            Some(former) => former.cursor.min(Revision::first_of(former.target)),
        };
        self.compaction = Some(Compaction {
            target: revision,
            cursor,
        });
    }

    /// Whether the physical part of a compaction is not finished.
    #[must_use]
    pub const fn is_compacting(&self) -> bool {
        self.compaction.is_some()
    }

    /// Continues the physical part over at most `max_revisions` revisions.
    pub fn compact_step(&mut self, max_revisions: usize, ops: &mut Vec<TableOp>) -> CompactProgress {
        let Some(Compaction { target, cursor }) = self.compaction else {
            return CompactProgress::Idle;
        };
        let end = Revision::last_of(target);
        let batch: Vec<_> = {
            let ahead = self.state.log.range(&cursor, Some(&end));
            ahead
                .take(max_revisions.max(1))
                .map(|(_, record)| record.clone())
                .collect()
        };
        for record in batch.iter().skip(usize::from(bug!(SweepsPastRows))) {
            self.sweep(record, target, ops);
        }
        if let Some(last) = batch.last()
            && batch.len() >= max_revisions
        {
            if bug!(FinishesCompactionEarly) {
                ops.push(mark(FINISHED_COMPACT_ROW, target));
            }
            let Revision { main, sub } = last.revision();
            self.compaction = Some(Compaction {
                target,
                cursor: Revision::new(main, sub + 1),
            });
            return CompactProgress::More;
        }
        self.compaction = None;
        self.swept_revision = target;
        self.state.finished_compact = target;
        ops.push(mark(FINISHED_COMPACT_ROW, target));
        CompactProgress::Finished(target)
    }

    /// Removes the record that `record` superseded, and `record` itself if no reader may see it.
    fn sweep(&mut self, record: &Record, target: i64, ops: &mut Vec<TableOp>) {
        let Revision { main, sub } = record.revision();
        let spent = record.is_tombstone() && (main < target || bug!(CompactsTombstone));
        let limit = if spent {
            Revision::new(main, sub + 1)
        } else {
            record.revision()
        };
        let Some(entry) = self.state.keys.get(record.key()) else {
            return;
        };
        let vanishes = entry.newest().revision() < limit;
        if entry.has_older_before(limit) {
            let forgotten = self
                .state
                .keys
                .update(record.key(), |entry| entry.forget_older_before(limit));
            for revision in forgotten.into_iter().flatten() {
                self.forget(revision, ops);
            }
        }
        if vanishes {
            self.state.keys.remove(record.key());
            self.forget(record.revision(), ops);
        }
    }

    /// Removes a record from the log and its row from the table.
    fn forget(&mut self, revision: Revision, ops: &mut Vec<TableOp>) {
        if let Some(record) = self.state.log.remove(&revision) {
            self.size_bytes -= record.size_bytes();
            self.rows_sum.remove(record.digest());
            ops.push(TableOp::delete(Bucket::Key, revision.to_row_key(record.is_tombstone())));
        }
    }
}

/// The row that stores a compaction's revision.
fn mark(row: &'static [u8], revision: i64) -> TableOp {
    TableOp::put(
        Bucket::Meta,
        Bytes::from_static(row),
        Revision::first_of(revision).to_row_key(false),
    )
}
