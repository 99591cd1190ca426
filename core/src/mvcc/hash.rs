//! The hash of the key space that members and etcd agree on, bit by bit.
//!
//! It is a CRC-32C over the name of the `key` bucket and then, for every row up to a revision, its key and value.
//! Compaction must not change it, whether its rows are gone yet or not: of what lies at or before the compact revision,
//! only what a reader at the hashed revision still sees is counted, and tombstones at the compact revision never are.
//! Except that, in etcd, where such a reader sees no key at all, nothing is left out; members must agree, so here too.

use std::collections::VecDeque;
use std::fmt;

use crate::error::Error;
use crate::table::Bucket;

use super::record::Record;
use super::tree::Live;
use super::{NEVER_COMPACTED, Revision, View};

/// How many hashes of compactions are remembered.
const REMEMBERED_HASHES: usize = 10;

/// A hash and what it covers. Hashes are comparable where both revisions agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// CRC-32C.
    pub hash: u32,
    /// The compact revision it was computed under; -1 when there was none.
    pub compact_revision: i64,
    /// The last revision it covers.
    pub hash_revision: i64,
}

impl View {
    /// Hashes every kept revision up to and including `revision`; 0 is now.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        if revision > 0 && revision < self.compact_revision {
            return Err(Error::Compacted);
        }
        let revision = if revision == 0 { self.revision } else { revision };
        let kept = Kept::at(self, revision, |_| false);
        Ok(self.hash_up_to(revision, &kept))
    }

    /// The hash etcd remembers for a compaction: asked of the view from just before it, at its revision.
    #[must_use]
    pub fn hash_compaction(&self, revision: i64) -> HashKv {
        let kept = Kept::at(self, revision, |record| record.revision().main == revision);
        self.hash_up_to(revision, &kept)
    }

    fn hash_up_to(&self, revision: i64, kept: &Kept) -> HashKv {
        let mut kept_revisions = kept.revisions.iter().peekable();
        let mut crc = crc32c::crc32c(Bucket::Key.name().as_bytes());
        for (_, record) in self.log.range(
            &Revision::default(),
            Some(&Revision::first_of(revision.saturating_add(1))),
        ) {
            let at = record.revision();
            if at.main <= self.compact_revision && !kept.nothing {
                while kept_revisions.next_if(|kept| **kept < at).is_some() {}
                if kept_revisions.peek() != Some(&&at) {
                    continue;
                }
            }
            if at.main == self.compact_revision && record.is_tombstone() {
                continue;
            }
            crc = crc32c::crc32c_append(crc, record.block());
        }
        HashKv {
            hash: crc,
            compact_revision: self.compact_revision,
            hash_revision: revision,
        }
    }
}

/// What a compaction at some revision would keep.
struct Kept {
    /// Nothing at all.
    nothing: bool,
    /// The revisions at or before the view's compact revision, ascending.
    revisions: Vec<Revision>,
}

impl Kept {
    /// Every record that a reader at `revision` sees, and the tombstones that `keeps_tombstone`.
    fn at(view: &View, revision: i64, keeps_tombstone: impl Fn(&Record) -> bool) -> Self {
        let mut kept = Self {
            nothing: true,
            revisions: Vec::new(),
        };
        if view.compact_revision == NEVER_COMPACTED {
            return kept;
        }
        for record in view
            .keys
            .iter()
            .filter_map(|(_, entry)| entry.record_at(revision, &view.log))
        {
            if record.is_live() || keeps_tombstone(record) {
                kept.nothing = false;
                if record.revision().main <= view.compact_revision {
                    kept.revisions.push(record.revision());
                }
            }
        }
        kept.revisions.sort_unstable();
        kept
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
    /// The hash; it takes a walk over all keys.
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

/// The hashes of the newest compactions, which etcd answers with when asked for exactly their revision.
///
/// etcd remembers only those of compactions that found the one before finished, and forgets all when it restarts.
#[derive(Clone, Debug, Default)]
pub struct CompactHashes {
    /// Ascending by `hash_revision`.
    hashes: VecDeque<HashKv>,
}

impl CompactHashes {
    /// Remembers a hash made by [`View::hash_compaction`]; the oldest beyond ten is forgotten.
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

    /// All of them, oldest first.
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
        assert_eq!(hashes.find(2), None, "the oldest are forgotten, whenever they came");
        assert_eq!(hashes.find(3).map(|hash| hash.hash), Some(3));
        assert!(hashes.iter().map(|hash| hash.hash_revision).eq(3..=12));
    }
}
