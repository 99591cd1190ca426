//! The hash of the key space. It equals etcd's hash of the same history.
//!
//! It is a CRC-32C over the name of the `key` bucket and then, for every row up to a revision, its key and value.
//! Compaction must not change it, whether or not its rows are deleted yet: of the rows at or before the compact
//! revision, only those that a reader at the hashed revision sees are hashed, and tombstones at the compact revision
//! never are. If such a reader sees no key at all, etcd hashes every row; members must agree, so it is the same here.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;

use crate::bug;
use crate::error::Error;
use crate::table::Bucket;

use super::tree::Live;
use super::{NEVER_COMPACTED, Revision, View, successor};

/// How many hashes of compactions are remembered.
const REMEMBERED_HASHES: usize = 10;

/// A hash and its revisions. Two hashes are comparable if both revisions are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// CRC-32C.
    pub hash: u32,
    /// The compact revision at that time; -1 if there was no compaction.
    pub compact_revision: i64,
    /// The last revision it covers.
    pub hash_revision: i64,
}

impl View {
    /// Hashes every kept revision up to and including `revision`; 0 is the newest.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        Ok(Hashing::new(self, revision)?.finish())
    }

    /// The hash that etcd remembers for a compaction. The view must be from just before it.
    #[must_use]
    pub fn hash_compaction(&self, revision: i64) -> HashKv {
        Hashing::of(self, revision, true).finish()
    }
}

/// A hash that is computed in steps.
pub struct Hashing {
    view: View,
    revision: i64,
    /// The hash is made for a compaction at its revision, which keeps that revision's tombstones.
    compacts: bool,
    stage: Stage,
    /// No record was found yet that a reader at the revision sees or, for a compaction, that is a tombstone at it.
    keeps_nothing: bool,
    /// The revisions of those records, up to the view's compact revision; ascending once complete.
    kept: Vec<Revision>,
    next_kept: usize,
    crc: u32,
}

/// The next stage of a hash, and its position.
enum Stage {
    /// Finds the revisions that a compaction would keep.
    Keys(Bytes),
    /// Hashes rows.
    Rows(Revision),
    Done,
}

impl Hashing {
    /// Begins to hash every kept revision up to and including `revision`; 0 is the newest.
    ///
    /// # Errors
    /// [`Error::Compacted`] or [`Error::FutureRevision`].
    pub fn new(view: &View, revision: i64) -> Result<Self, Error> {
        if revision > view.revision {
            return Err(Error::FutureRevision);
        }
        if revision > 0 && revision < view.compact_revision {
            return Err(Error::Compacted);
        }
        let revision = if revision == 0 { view.revision } else { revision };
        Ok(Self::of(view, revision, false))
    }

    fn of(view: &View, revision: i64, compacts: bool) -> Self {
        let stage = if view.compact_revision == NEVER_COMPACTED {
            Stage::Rows(Revision::default())
        } else {
            Stage::Keys(Bytes::new())
        };
        Self {
            view: view.clone(),
            revision,
            compacts,
            stage,
            keeps_nothing: true,
            kept: Vec::new(),
            next_kept: 0,
            crc: crc32c::crc32c(Bucket::Key.name().as_bytes()),
        }
    }

    /// Continues over about `rows` rows; true once the hash is complete.
    pub fn step(&mut self, rows: usize) -> bool {
        let rows = rows.max(1);
        self.stage = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Keys(from) => self.find_kept(&from, rows),
            Stage::Rows(from) => self.hash_rows(from, rows),
            Stage::Done => Stage::Done,
        };
        matches!(self.stage, Stage::Done)
    }

    /// The complete hash.
    #[must_use]
    pub fn finish(mut self) -> HashKv {
        while !self.step(usize::MAX) {}
        HashKv {
            hash: self.crc,
            compact_revision: self.view.compact_revision,
            hash_revision: self.revision,
        }
    }

    /// Finds the records that a reader at the revision sees and, for a compaction, its tombstones.
    fn find_kept(&mut self, from: &[u8], rows: usize) -> Stage {
        let mut last = None;
        for (key, entry) in self.view.keys.range(from, None).take(rows) {
            last = Some(key);
            let Some(record) = entry.record_at(self.revision, &self.view.log) else {
                continue;
            };
            let main = record.revision().main;
            if record.is_live() || (self.compacts && main == self.revision) {
                self.keeps_nothing = false;
                if main <= self.view.compact_revision {
                    self.kept.push(record.revision());
                }
            }
        }
        match last {
            Some(key) => Stage::Keys(successor(key)),
            None => {
                self.kept.sort_unstable();
                Stage::Rows(Revision::default())
            }
        }
    }

    fn hash_rows(&mut self, from: Revision, rows: usize) -> Stage {
        let end = Revision::first_of(self.revision.saturating_add(1));
        let compacted = self.view.compact_revision;
        let mut next = None;
        for (_, record) in self.view.log.range(&from, Some(&end)).take(rows) {
            let at = record.revision();
            next = Some(Revision::new(at.main, at.sub + 1));
            if at.main <= compacted && !self.keeps_nothing {
                while self.kept.get(self.next_kept).is_some_and(|kept| *kept < at) {
                    self.next_kept += 1;
                }
                if self.kept.get(self.next_kept) != Some(&at) {
                    continue;
                }
            }
            if record.is_tombstone() && (at.main == compacted || bug!(HashSkipsDeletions)) {
                continue;
            }
            self.crc = crc32c::crc32c_append(self.crc, record.block());
        }
        next.map_or(Stage::Done, Stage::Rows)
    }
}

impl fmt::Debug for Hashing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hashing")
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

/// A compaction whose hash is to be remembered.
#[derive(Clone)]
pub struct Compacted {
    /// The key space from just before it.
    pub before: View,
    /// Its revision.
    pub revision: i64,
}

impl Compacted {
    /// Computes the hash by a walk over all keys.
    #[must_use]
    pub fn hash(&self) -> HashKv {
        self.before.hash_compaction(self.revision)
    }
}

impl fmt::Debug for Compacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Compacted").field(&self.revision).finish()
    }
}

/// The hashes of the newest compactions. etcd answers with one of them if it is asked for exactly its revision.
///
/// etcd remembers a hash only if the compaction before had finished, and loses all when it restarts.
#[derive(Clone, Debug, Default)]
pub struct CompactHashes {
    /// Ascending by `hash_revision`.
    hashes: VecDeque<HashKv>,
}

impl CompactHashes {
    /// Adds a hash made by [`View::hash_compaction`]; beyond ten the one with the lowest revision is dropped.
    pub fn remember(&mut self, hash: HashKv) {
        let at = self
            .hashes
            .partition_point(|other| other.hash_revision <= hash.hash_revision);
        self.hashes.insert(at, hash);
        if self.hashes.len() > REMEMBERED_HASHES {
            self.hashes.pop_front();
        }
    }

    /// The hash remembered for `revision`.
    #[must_use]
    pub fn find(&self, revision: i64) -> Option<HashKv> {
        self.hashes.iter().find(|hash| hash.hash_revision == revision).copied()
    }

    /// All hashes, the lowest revision first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &HashKv> {
        self.hashes.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_compactions_are_remembered() {
        let mut hashes = CompactHashes::default();
        for revision in (1..=12).rev() {
            hashes.remember(HashKv {
                hash: revision as u32,
                compact_revision: 0,
                hash_revision: revision,
            });
        }
        assert_eq!(
            hashes.find(2),
            None,
            "the lowest revisions are dropped, in any order of arrival"
        );
        assert_eq!(hashes.find(3).map(|hash| hash.hash), Some(3));
        assert!(hashes.iter().map(|hash| hash.hash_revision).eq(3..=12));
    }
}
