//! One write transaction: its changes share a main revision and see each other.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::Error;
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse};
use crate::proto::mvccpb::KeyValue;
use crate::table::{Bucket, TableOp};

use super::event::Event;
use super::index::KeyEntry;
use super::range::Span;
use super::record::{Pair, Record};
use super::{Mvcc, Revision, View};

/// A write transaction under way; what it changed is seen by whoever takes a view after it.
#[must_use = "a write tells what it did only when it ends"]
#[derive(Debug)]
pub struct Write<'a> {
    mvcc: &'a mut Mvcc,
    /// Revision before this write.
    begin_revision: i64,
    /// Changes so far.
    changes: i64,
}

impl<'a> Write<'a> {
    pub(super) fn new(mvcc: &'a mut Mvcc) -> Self {
        let begin_revision = mvcc.revision();
        Self {
            mvcc,
            begin_revision,
            changes: 0,
        }
    }

    /// Sets a key's value and returns the pair it replaced.
    pub fn put(&mut self, key: Bytes, value: Bytes, lease: i64) -> Option<KeyValue> {
        let revision = self.next_change();
        let kv = KeyValue {
            key,
            value,
            lease,
            mod_revision: revision.main,
            ..KeyValue::default()
        };
        self.mvcc.append(kv, |kv, previous| {
            kv.create_revision = previous.map_or(revision.main, |previous| previous.create_revision);
            kv.version = previous.map_or(1, |previous| previous.version.saturating_add(1));
            Record::put(revision, kv)
        })
    }

    /// Deletes every key of a range, given as in a range request; returns what the keys were, in key order.
    pub fn delete_range(&mut self, key: &[u8], range_end: &[u8]) -> Vec<KeyValue> {
        let state = &self.mvcc.state;
        let doomed = state.visible(Span::new(key, range_end), state.revision(), usize::MAX);
        let doomed: Vec<_> = doomed.into_iter().map(Record::key_only).collect();
        let delete = |kv: KeyValue| {
            let revision = self.next_change();
            self.mvcc
                .append(kv, |kv, _| Record::tombstone(revision, kv.key.clone()))
        };
        doomed.into_iter().filter_map(delete).collect()
    }

    /// Answers a range request from the state as this write has left it so far.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        self.mvcc.state.range(request)
    }

    /// The newest value of a key as this write has left it so far.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<KeyValue> {
        self.mvcc.state.get(key)
    }

    /// The state as this write has left it so far.
    #[must_use]
    pub const fn view(&self) -> &View {
        &self.mvcc.state
    }

    /// The revision that goes into the header of an operation: one more once something was written.
    #[must_use]
    pub const fn revision(&self) -> i64 {
        self.mvcc.state.revision
    }

    /// Ends the write: appends its events and rows, and says whether there were any.
    pub fn end(self, events: &mut Vec<Event>, ops: &mut Vec<TableOp>) -> bool {
        events.append(&mut self.mvcc.events);
        ops.append(&mut self.mvcc.ops);
        self.changes > 0
    }

    /// The revision of the next change.
    fn next_change(&mut self) -> Revision {
        let revision = Revision::new(self.begin_revision + 1, self.changes);
        self.changes += 1;
        self.mvcc.state.revision = revision.main;
        revision
    }
}

impl Mvcc {
    /// Adds a change of `kv.key`, which `record` makes knowing what the key was; returns what it was.
    fn append(
        &mut self,
        mut kv: KeyValue,
        record: impl FnOnce(&mut KeyValue, Option<Pair<'_>>) -> Record,
    ) -> Option<KeyValue> {
        let mut prev_kv = None;
        let key = kv.key.clone();
        let record = self.insert(&key, |entry| {
            let previous = entry
                .map(|entry| &**entry.newest())
                .filter(|newest| !newest.is_tombstone());
            prev_kv = previous.map(Record::key_value);
            record(&mut kv, previous.map(Record::pair))
        });
        self.ops
            .push(TableOp::put(Bucket::Key, record.row_key(), record.row().clone()));
        self.events.push(Event::new(&record, prev_kv.clone()));
        prev_kv
    }

    /// Puts the newest record of all, made knowing what there is of its key, into the index and the log.
    pub(super) fn insert(&mut self, key: &[u8], record: impl FnOnce(Option<&KeyEntry>) -> Record) -> Arc<Record> {
        let mut made = None;
        self.state.keys.change(key, |entry| {
            let record = made.insert(Arc::new(record(entry.as_deref())));
            match entry {
                None => Some(KeyEntry::new(Arc::clone(record))),
                Some(entry) => {
                    entry.supersede(Arc::clone(record));
                    None
                }
            }
        });
        let record = made.expect("a change calls its closure once");
        self.size_bytes += record.size_bytes();
        self.state.log.insert(&record.revision(), Arc::clone(&record));
        record
    }
}
