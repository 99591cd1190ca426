//! The multi-version key space: every key's kept revisions, one writer, any number of immutable views.
//!
//! [`Mvcc`] is the writer's side. A [`Write`] is one transaction and makes one main [`Revision`]; its changes come out
//! as [`Event`]s for watchers and as rows for the table. A [`View`] is the whole state at one moment: taking one is
//! O(1), it never changes, and every read is a function of it. Leases' clocks, users and the log are not handled here.
//!
//! The whole state is in two persistent [trees](tree): `keys` has, for each key, its newest record and the revisions of
//! its older ones; `log` has every kept record by revision. A record is the table's row, shared by both.

mod compact;
mod event;
mod hash;
mod index;
mod keys;
mod range;
mod record;
mod restore;
mod revision;
mod scan;
pub(crate) mod tree;
mod view;
mod write;

#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;

pub use compact::CompactProgress;
pub use event::{Event, EventKind, EventRef};
pub use hash::{CompactHashes, Compacted, HashKv, Hashing};
pub use record::PairRef;
pub use restore::MvccRestore;
pub use revision::Revision;
pub use scan::{Found, Scan};
pub use view::View;
pub use write::Write;

use crate::table::{RowSum, TableOp};

use compact::Compaction;

/// Row of the `meta` bucket with the revision of the last compaction requested.
pub const SCHEDULED_COMPACT_ROW: &[u8] = b"scheduledCompactRev";
/// Row of the `meta` bucket with the revision of the last compaction finished.
pub const FINISHED_COMPACT_ROW: &[u8] = b"finishedCompactRev";

/// Revision of a store without writes.
const FIRST_REVISION: i64 = 1;
/// Compact revision of a store that was never compacted.
const NEVER_COMPACTED: i64 = -1;

/// The writer's side of the key space; there is exactly one.
pub struct Mvcc {
    state: View,
    /// Logical bytes of all kept rows.
    size_bytes: u64,
    /// Number and digest sum of the rows in the table's bucket `key` once all rows are written.
    rows_sum: RowSum,
    /// The unfinished compaction.
    compaction: Option<Compaction>,
    /// The last revision whose sweep has finished: every row that a compaction at it removes is removed.
    swept_revision: i64,
    /// Events of the write in progress.
    events: Vec<Event>,
    /// Rows of the write in progress.
    ops: Vec<TableOp>,
}

impl Default for Mvcc {
    fn default() -> Self {
        Self::new()
    }
}

impl Mvcc {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: View::empty(),
            size_bytes: 0,
            rows_sum: RowSum::default(),
            compaction: None,
            swept_revision: 0,
            events: Vec::new(),
            ops: Vec::new(),
        }
    }

    /// Starts to build a store from the rows of its table.
    #[must_use]
    pub fn restore() -> MvccRestore {
        MvccRestore::new()
    }

    /// The current state, for readers; O(1).
    #[must_use]
    pub fn view(&self) -> View {
        self.state.clone()
    }

    /// Starts a write transaction.
    pub fn begin(&mut self) -> Write<'_> {
        Write::new(self)
    }

    /// Revision of the last write.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.state.revision()
    }

    /// Revision of the last compaction requested; -1 if there was none.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.state.compact_revision()
    }

    /// Logical bytes of all kept revisions, which the quota limits.
    #[must_use]
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Number and digest sum of the rows in bucket `key` of a table that holds everything written so far.
    #[must_use]
    pub const fn rows_sum(&self) -> RowSum {
        self.rows_sum
    }
}

/// The key right after another.
pub(crate) fn successor(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

impl fmt::Debug for Mvcc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mvcc")
            .field("state", &self.state)
            .field("size_bytes", &self.size_bytes)
            .finish_non_exhaustive()
    }
}
