//! The entry of a key in the index: its newest record, and the revisions of the older ones still kept.

use std::sync::Arc;

use super::Revision;
use super::keys::ByteKeys;
use super::record::Record;
use super::tree::{Live, Tree};

/// Keys by name.
pub(super) type Keys = Tree<ByteKeys, KeyEntry>;
/// Every kept record by revision.
pub(super) type Log = Tree<Vec<Revision>, Record>;

/// Up to this number, older revisions of one key are kept in a vector; more are kept in a tree.
const FEW: usize = 32;

/// One key of the index.
#[derive(Clone, Debug)]
pub(super) struct KeyEntry {
    newest: Record,
    /// Shared with views; most keys have none.
    older: Option<Arc<Older>>,
}

/// Revisions of a key before its newest, ascending, never empty.
#[derive(Clone)]
enum Older {
    Few(Vec<Revision>),
    /// A tree, so that a write to a key with many revisions does not copy all of them.
    Many(Tree<Vec<Revision>, ()>),
}

impl Live for KeyEntry {
    fn is_live(&self) -> bool {
        self.newest.is_live()
    }
}

impl KeyEntry {
    /// A key with one revision.
    pub(super) const fn new(newest: Record) -> Self {
        Self { newest, older: None }
    }

    /// The last change of the key; it may be a deletion.
    pub(super) const fn newest(&self) -> &Record {
        &self.newest
    }

    /// Makes the record of `next` the newest one. `next` must have no older revisions.
    pub(super) fn supersede(&mut self, next: Self) {
        let revision = self.newest.revision();
        match &mut self.older {
            None => self.older = Some(Arc::new(Older::Few(vec![revision]))),
            Some(older) => Arc::make_mut(older).push(revision),
        }
        self.newest = next.newest;
    }

    /// The last change of the key up to and including the main revision `main`.
    pub(super) fn record_at<'a>(&'a self, main: i64, log: &'a Log) -> Option<&'a Record> {
        if self.newest.revision().main <= main {
            return Some(&self.newest);
        }
        let revision = self.older.as_deref()?.floor(Revision::last_of(main))?;
        log.get(&revision)
    }

    /// The record that a reader at the main revision `main` sees.
    pub(super) fn visible_at<'a>(&'a self, main: i64, log: &'a Log) -> Option<&'a Record> {
        self.record_at(main, log).filter(|record| record.is_live())
    }

    /// Whether some older revision is less than `limit`.
    pub(super) fn has_older_before(&self, limit: Revision) -> bool {
        self.older
            .as_deref()
            .and_then(Older::first)
            .is_some_and(|first| first < limit)
    }

    /// Removes older revisions less than `limit`, and returns them.
    pub(super) fn forget_older_before(&mut self, limit: Revision) -> Vec<Revision> {
        let Some(older) = &mut self.older else {
            return Vec::new();
        };
        let forgotten = Arc::make_mut(older).take_before(limit);
        if older.first().is_none() {
            self.older = None;
        }
        forgotten
    }
}

impl Older {
    fn push(&mut self, revision: Revision) {
        match self {
            Self::Few(few) if few.len() < FEW => few.push(revision),
            Self::Few(few) => {
                let mut many = Tree::default();
                for older in few.drain(..).chain([revision]) {
                    many.insert(&older, ());
                }
                *self = Self::Many(many);
            }
            Self::Many(many) => {
                many.insert(&revision, ());
            }
        }
    }

    fn first(&self) -> Option<Revision> {
        match self {
            Self::Few(few) => few.first().copied(),
            Self::Many(many) => many.first().map(|(revision, ())| *revision),
        }
    }

    fn floor(&self, revision: Revision) -> Option<Revision> {
        match self {
            Self::Few(few) => few[..few.partition_point(|older| *older <= revision)].last().copied(),
            Self::Many(many) => many.floor(&revision).map(|(revision, ())| *revision),
        }
    }

    fn take_before(&mut self, limit: Revision) -> Vec<Revision> {
        match self {
            Self::Few(few) => few.drain(..few.partition_point(|older| *older < limit)).collect(),
            Self::Many(many) => {
                let taken: Vec<_> = many
                    .iter()
                    .map(|(revision, ())| *revision)
                    .take_while(|older| *older < limit)
                    .collect();
                for older in &taken {
                    many.remove(older);
                }
                taken
            }
        }
    }
}

impl std::fmt::Debug for Older {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Few(few) => f.debug_list().entries(few).finish(),
            Self::Many(many) => f
                .debug_list()
                .entries(many.iter().map(|(revision, ())| revision))
                .finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn record(main: i64) -> Record {
        Record::tombstone(Revision::first_of(main), Bytes::from_static(b"k"))
    }

    fn mains(revisions: &[Revision]) -> Vec<i64> {
        revisions.iter().map(|revision| revision.main).collect()
    }

    #[test]
    fn an_entry_is_three_words() {
        assert_eq!(size_of::<KeyEntry>(), 24);
    }

    #[test]
    fn few_and_many_revisions_behave_alike() {
        for kept in [2, FEW as i64, FEW as i64 + 1, 500] {
            let mut log = Log::default();
            let mut entry = KeyEntry::new(record(10));
            log.insert(&Revision::first_of(10), record(10));
            for n in 1..=kept {
                entry.supersede(KeyEntry::new(record(10 + n * 2)));
                log.insert(&Revision::first_of(10 + n * 2), record(10 + n * 2));
            }
            let at = |entry: &KeyEntry, main| entry.record_at(main, &log).map(|found| found.revision().main);
            assert_eq!(at(&entry, 9), None);
            assert_eq!(at(&entry, 11), Some(10));
            assert_eq!(at(&entry, 10 + kept * 2 - 1), Some(10 + kept * 2 - 2));
            assert_eq!(at(&entry, i64::MAX), Some(10 + kept * 2));

            let before = entry.clone();
            assert!(entry.has_older_before(Revision::first_of(11)));
            assert_eq!(mains(&entry.forget_older_before(Revision::first_of(13))), [10, 12]);
            assert!(!entry.has_older_before(Revision::first_of(13)));
            assert_eq!(at(&entry, 12), None);
            assert_eq!(at(&before, 12), Some(12), "a clone does not change");

            let rest = entry.forget_older_before(Revision::first_of(i64::MAX));
            assert_eq!(rest.len() as i64, kept - 2);
            assert!(entry.older.is_none(), "a key with one revision has no list");
            assert_eq!(entry.newest().revision().main, 10 + kept * 2);
        }
    }
}
