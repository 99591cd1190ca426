//! One write transaction: its changes share a main revision and see each other.

use bytes::Bytes;

use crate::error::Error;
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse};
use crate::proto::mvccpb::KeyValue;
use crate::table::{Bucket, TableOp};

use super::event::Event;
use super::index::KeyEntry;
use super::range::Span;
use super::record::Record;
use super::{Mvcc, Revision, View};

/// A write transaction in progress; views taken after it see its changes.
#[must_use = "a write returns its events and rows only when it ends"]
#[derive(Debug)]
pub struct Write<'a> {
    mvcc: &'a mut Mvcc,
    /// The revision before this write.
    begin_revision: i64,
    /// The number of changes so far.
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
        let prev_kv = self.mvcc.state.get(&key);
        let (create_revision, version) = match &prev_kv {
            Some(previous) => (previous.create_revision, previous.version.saturating_add(1)),
            None => (revision.main, 1),
        };
        let kv = KeyValue {
            key,
            create_revision,
            mod_revision: revision.main,
            version,
            value,
            lease,
        };
        self.mvcc.append(Record::put(revision, &kv), prev_kv.clone());
        prev_kv
    }

    /// Deletes every key of a range, given as in a range request; returns the deleted pairs, in key order.
    pub fn delete_range(&mut self, key: &[u8], range_end: &[u8]) -> Vec<KeyValue> {
        let state = &self.mvcc.state;
        let doomed: Vec<_> = state
            .live_records(Span::new(key, range_end))
            .map(Record::key_value)
            .collect();
        for kv in &doomed {
            let revision = self.next_change();
            self.mvcc
                .append(Record::tombstone(revision, kv.key.clone()), Some(kv.clone()));
        }
        doomed
    }

    /// Answers a range request from the state including this write's changes so far.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        self.mvcc.state.range(request)
    }

    /// The newest value of a key, including this write's changes so far.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<KeyValue> {
        self.mvcc.state.get(key)
    }

    /// The state including this write's changes so far.
    #[must_use]
    pub const fn view(&self) -> &View {
        &self.mvcc.state
    }

    /// The revision in the header of an operation: one more once something was written.
    #[must_use]
    pub const fn revision(&self) -> i64 {
        self.mvcc.state.revision
    }

    /// Ends the write: appends its events and rows, and returns whether there were any.
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
    /// Adds a record that is newer than all others.
    fn append(&mut self, record: Record, prev_kv: Option<KeyValue>) {
        let block = record.shared();
        self.events.push(Event::new(&record, &block, prev_kv));
        self.rows_sum.add(record.digest());
        let (row_key, row) = record.row_in(block);
        self.ops.push(TableOp::put(Bucket::Key, row_key, row));
        self.insert(record);
    }

    /// Puts a record that is newer than all others into the index and the log.
    pub(super) fn insert(&mut self, record: Record) {
        self.size_bytes += record.size_bytes();
        let state = &mut self.state;
        let revision = record.revision();
        let entry = KeyEntry::new(record.clone());
        state.keys.insert_or(record.key(), entry, KeyEntry::supersede);
        state.log.insert(&revision, record);
    }
}
