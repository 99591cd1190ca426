//! Building the key space from the rows of its table.

use crate::bug;
use crate::error::Fault;
use crate::table::Bucket;

use super::record::Record;
use super::{FIRST_REVISION, Mvcc, NEVER_COMPACTED, Revision, View};

/// Revisions in a table must be below this, so that later ones cannot overflow.
const MAX_REVISION: i64 = i64::MAX >> 1;

/// A store whose rows are still being read.
#[derive(Debug)]
pub struct MvccRestore {
    mvcc: Mvcc,
    last: Option<Revision>,
}

impl MvccRestore {
    pub(super) fn new() -> Self {
        Self {
            mvcc: Mvcc::new(),
            last: None,
        }
    }

    /// Takes the next row of the `key` bucket; rows come in the order of their keys.
    pub fn row(&mut self, row_key: &[u8], row: &[u8]) -> Result<(), Fault> {
        let fault = |cause: &str| Fault::Inconsistent {
            cause: format!(
                "row {} of bucket {}: {cause}",
                row_key.escape_ascii(),
                Bucket::Key.name()
            ),
        };
        let (revision, tombstone) = Revision::from_row_key(row_key).ok_or_else(|| fault("the key is no revision"))?;
        if !(1..MAX_REVISION).contains(&revision.main) || !(0..MAX_REVISION).contains(&revision.sub) {
            return Err(fault("the revision is out of range"));
        }
        if self.last.is_some_and(|last| last >= revision) {
            return Err(fault("the revision is not greater than the one before"));
        }
        let record =
            Record::from_row(revision, tombstone, row).map_err(|cause| fault(&format!("the value {cause}")))?;
        self.last = Some(revision);
        self.mvcc.rows_sum.add(record.digest());
        if bug!(SkipsTombstone) && tombstone && self.mvcc.state.keys.get(record.key()).is_none() {
            return Ok(());
        }
        self.mvcc.insert(record);
        Ok(())
    }

    /// The rows so far: the lessor's restore reads from them which keys are attached to leases.
    #[must_use]
    pub const fn view(&self) -> &View {
        &self.mvcc.state
    }

    /// Ends the restore. Takes the two compaction marks of the `meta` bucket, as stored; an interrupted compaction
    /// continues.
    pub fn finish(self, scheduled: Option<&[u8]>, finished: Option<&[u8]>) -> Result<Mvcc, Fault> {
        let scheduled = mark(scheduled)?;
        let finished = mark(finished)?;
        let mut mvcc = self.mvcc;
        let last = self.last.map_or(FIRST_REVISION, |last| last.main);
        mvcc.state.revision = last.max(scheduled).max(finished).max(FIRST_REVISION);
        mvcc.state.compact_revision = finished;
        mvcc.state.finished_compact = finished;
        if scheduled > finished {
            mvcc.schedule(scheduled);
        }
        Ok(mvcc)
    }
}

/// Reads a compaction mark.
fn mark(value: Option<&[u8]>) -> Result<i64, Fault> {
    let Some(value) = value else {
        return Ok(NEVER_COMPACTED);
    };
    match Revision::from_row_key(value) {
        Some((revision, false)) if (0..MAX_REVISION).contains(&revision.main) => Ok(revision.main),
        _ => Err(Fault::Inconsistent {
            cause: format!(
                "bucket {}: {} is no compaction mark",
                Bucket::Meta.name(),
                value.escape_ascii()
            ),
        }),
    }
}
