//! The state at one moment, shared by its readers. Range requests are answered in [`super::range`].

use std::fmt;

use bytes::Bytes;

use crate::error::Error;
use crate::proto::mvccpb::KeyValue;

use super::event::EventRef;
use super::index::{Keys, Log};
use super::tree::Live;
use super::{FINISHED_COMPACT_ROW, FIRST_REVISION, NEVER_COMPACTED, Revision, SCHEDULED_COMPACT_ROW};

/// An immutable state; a clone is O(1) and shares everything.
#[derive(Clone)]
pub struct View {
    pub(super) keys: Keys,
    pub(super) log: Log,
    pub(super) revision: i64,
    pub(super) compact_revision: i64,
    /// The last compaction whose rows are all deleted.
    pub(super) finished_compact: i64,
}

impl View {
    pub(super) fn empty() -> Self {
        Self {
            keys: Keys::default(),
            log: Log::default(),
            revision: FIRST_REVISION,
            compact_revision: NEVER_COMPACTED,
            finished_compact: NEVER_COMPACTED,
        }
    }

    /// Revision of the last write.
    #[must_use]
    pub const fn revision(&self) -> i64 {
        self.revision
    }

    /// Revision of the last compaction; -1 if there was none. Reads at it are allowed, reads before it are not.
    #[must_use]
    pub const fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// The last compaction whose rows are all deleted; -1 if there was none.
    #[must_use]
    pub const fn finished_compact(&self) -> i64 {
        self.finished_compact
    }

    /// The rows of bucket `key` in a table that holds exactly this state, in the order of their keys.
    pub fn rows(&self) -> impl Iterator<Item = (Bytes, Bytes)> {
        self.log.iter().map(|(_, record)| record.to_row())
    }

    /// As [`Self::rows`], from a revision on.
    pub fn rows_from(&self, from: Revision) -> impl Iterator<Item = (Bytes, Bytes)> {
        self.log.range(&from, None).map(|(_, record)| record.to_row())
    }

    /// The rows of bucket `meta` with the compaction marks, in a table that holds exactly this state.
    pub fn compaction_rows(&self) -> impl Iterator<Item = (Bytes, Bytes)> {
        let marks = [
            (FINISHED_COMPACT_ROW, self.finished_compact),
            (SCHEDULED_COMPACT_ROW, self.compact_revision),
        ];
        let compacted = marks.into_iter().filter(|(_, revision)| *revision != NEVER_COMPACTED);
        compacted.map(|(row, revision)| {
            let mark = Revision::first_of(revision).to_row_key(false);
            (Bytes::from_static(row), mark)
        })
    }

    /// The number of keys.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.keys.size().live
    }

    /// The number of kept revisions of all keys, tombstones included.
    #[must_use]
    pub fn revision_count(&self) -> usize {
        self.log.size().entries
    }

    /// The newest value of a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<KeyValue> {
        self.keys
            .get(key)
            .filter(|entry| entry.is_live())
            .map(|entry| entry.newest().key_value())
    }

    /// The previous pair of `key` for a watcher of the change at `mod_revision`; nothing once it is compacted.
    #[must_use]
    pub fn prev_kv(&self, key: &[u8], mod_revision: i64) -> Option<KeyValue> {
        let before = mod_revision.saturating_sub(1);
        if before < self.compact_revision {
            return None;
        }
        self.keys
            .get(key)?
            .visible_at(before, &self.log)
            .map(|record| record.key_value())
    }

    /// Every change at `start_revision` and later in order, until `max_revisions` whole main revisions are listed.
    ///
    /// Complete if `start_revision` is at least the compact revision; before it, some changes are gone.
    pub fn events_since(&self, start_revision: i64, max_revisions: usize) -> impl Iterator<Item = EventRef<'_>> {
        let (mut main, mut revisions) = (None, 0);
        let records = self
            .log
            .range(&Revision::first_of(start_revision), None)
            .map(|(_, record)| record);
        records.map_while(move |record| {
            if main.replace(record.revision().main) != Some(record.revision().main) {
                revisions += 1;
            }
            (revisions <= max_revisions).then(|| EventRef::new(record))
        })
    }

    /// Keys attached to a lease, in key order, each with its lease.
    pub fn leased_keys(&self) -> impl Iterator<Item = (&[u8], i64)> {
        let entries = self.keys.iter().filter(|(_, entry)| entry.is_live());
        entries.filter_map(|(key, entry)| match entry.newest().lease() {
            0 => None,
            lease => Some((key, lease)),
        })
    }

    /// The main revision that a request for `revision` reads.
    pub(super) const fn read_revision(&self, revision: i64) -> Result<i64, Error> {
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        if revision <= 0 {
            return Ok(self.revision);
        }
        if revision < self.compact_revision {
            return Err(Error::Compacted);
        }
        Ok(revision)
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("revision", &self.revision)
            .field("compact_revision", &self.compact_revision)
            .field("keys", &self.key_count())
            .field("revisions", &self.revision_count())
            .finish()
    }
}
