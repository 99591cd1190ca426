//! Events: a change as a watcher gets it.

use bytes::Bytes;

use crate::proto::mvccpb::KeyValue;

use super::Revision;
use super::record::Record;

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// The key was created or got a new value.
    Put,
    /// The key was deleted.
    Delete,
}

/// One change, with the pair before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The pair after the change; for a deletion it has only key and modification revision.
    pub kv: KeyValue,
    /// The pair before the change, if the key existed.
    pub prev_kv: Option<KeyValue>,
}

impl Event {
    /// The change that `record` stores. `block` is its [`Record::shared`], whose memory the pair shares.
    pub(super) fn new(record: &Record, block: &Bytes, prev_kv: Option<KeyValue>) -> Self {
        Self {
            kind: record.kind(),
            kv: record.key_value_in(block),
            prev_kv,
        }
    }
}

/// One change, borrowed from a view.
#[derive(Clone, Copy, Debug)]
pub struct EventRef<'a> {
    record: &'a Record,
}

impl<'a> EventRef<'a> {
    pub(super) const fn new(record: &'a Record) -> Self {
        Self { record }
    }

    /// The kind of the change.
    #[must_use]
    pub fn kind(self) -> EventKind {
        self.record.kind()
    }

    /// The changed key.
    #[must_use]
    pub fn key(self) -> &'a [u8] {
        self.record.key()
    }

    /// The revision of the change.
    #[must_use]
    pub fn revision(self) -> Revision {
        self.record.revision()
    }

    /// Whether the key did not exist before.
    #[must_use]
    pub fn is_create(self) -> bool {
        self.record.create_revision() == self.record.revision().main
    }

    /// The pair after the change, as in [`Event::kv`].
    #[must_use]
    pub fn kv(self) -> KeyValue {
        self.record.key_value()
    }
}

impl Record {
    fn kind(&self) -> EventKind {
        if self.is_tombstone() {
            EventKind::Delete
        } else {
            EventKind::Put
        }
    }
}
