//! The keys and their whole history: one list of events, and the positions of each key in it. Nothing is ever dropped;
//! [`super::range`] decides which revisions can no longer be read.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, ResponseHeader,
};
use quoin_core::proto::mvccpb::KeyValue;

use super::digest::Digest;

/// The kind of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventKind {
    /// The key was deleted.
    Delete,
    /// The key was written.
    Put,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its kind.
    pub kind: EventKind,
    /// The key as stored; for a deletion only key and revision.
    pub kv: KeyValue,
    /// The key at the revision before; `None` if it did not exist then.
    pub prev_kv: Option<KeyValue>,
    /// The revision it is part of.
    pub revision: i64,
    /// Its place among the changes of that revision, from 0.
    pub sub: i64,
}

/// The revision of a store without writes.
pub(super) const FIRST_REVISION: i64 = 1;

/// All keys, at all revisions.
#[derive(Clone, Debug, Default)]
pub(super) struct Kv {
    /// All events in order. Those after the last revision belong to a write in progress.
    events: Vec<Event>,
    /// The positions of each key's events in `events`.
    by_key: BTreeMap<Bytes, Vec<usize>>,
    /// The positions of the first event of revision 2, of revision 3, and so on.
    starts: Vec<usize>,
    /// The number of events in finished revisions.
    finished: usize,
    digest: Digest,
}

impl Kv {
    /// The last finished revision.
    pub(super) fn revision(&self) -> i64 {
        FIRST_REVISION + self.starts.len() as i64
    }

    /// The revision at which an operation inside a write reads: the last finished one, or the write's own once the
    /// write has changed something.
    pub(super) fn reading_revision(&self) -> i64 {
        self.revision() + i64::from(self.events.len() > self.finished)
    }

    /// A key as it was at a revision.
    pub(super) fn get(&self, key: &[u8], revision: i64) -> Option<&KeyValue> {
        self.latest(self.by_key.get(key)?, revision)
    }

    /// The keys of a range, in order, as they were at a revision.
    pub(super) fn scan<'a>(
        &'a self,
        key: &'a [u8],
        range_end: &'a [u8],
        revision: i64,
    ) -> impl Iterator<Item = &'a KeyValue> + use<'a> {
        let keys = bounds(key, range_end).map(|bounds| self.by_key.range::<[u8], _>(bounds));
        let keys = keys.into_iter().flatten();
        keys.filter_map(move |(_, places)| self.latest(places, revision))
    }

    /// Every key that existed at a revision.
    pub(super) fn live(&self, revision: i64) -> impl Iterator<Item = &KeyValue> {
        self.by_key
            .values()
            .filter_map(move |places| self.latest(places, revision))
    }

    fn latest(&self, places: &[usize], revision: i64) -> Option<&KeyValue> {
        // Most reads are of the present, so the last place is tried first.
        let last = &self.events[*places.last()?];
        let event = if last.revision <= revision {
            last
        } else {
            let later = places.partition_point(|place| self.events[*place].revision <= revision);
            &self.events[places[later.checked_sub(1)?]]
        };
        (event.kind == EventKind::Put).then_some(&event.kv)
    }

    /// The events from one revision to another, both included, in order.
    pub(super) fn events(&self, from: i64, to: i64) -> &[Event] {
        let place = |revision: i64| {
            let nth = revision.saturating_sub(FIRST_REVISION + 1).max(0);
            self.starts.get(nth as usize).copied().unwrap_or(self.finished)
        };
        let (from, to) = (place(from), place(to.saturating_add(1)));
        &self.events[from..to.max(from)]
    }

    /// A hash of all events.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// Writes a key. The caller has made all checks.
    pub(super) fn put(&mut self, request: &PutRequest) -> PutResponse {
        let before = self.get(&request.key, self.reading_revision()).cloned();
        let revision = self.revision() + 1;
        let kv = KeyValue {
            key: request.key.clone(),
            create_revision: before.as_ref().map_or(revision, |before| before.create_revision),
            mod_revision: revision,
            version: before.as_ref().map_or(1, |before| before.version + 1),
            value: match &before {
                Some(before) if request.ignore_value => before.value.clone(),
                Some(_) | None => request.value.clone(),
            },
            lease: match &before {
                Some(before) if request.ignore_lease => before.lease,
                Some(_) | None => request.lease,
            },
        };
        self.happen(EventKind::Put, kv);
        PutResponse {
            header: header(revision),
            prev_kv: before.filter(|_| request.prev_kv),
        }
    }

    /// Deletes the keys of a range, in order.
    pub(super) fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let found = self.scan(&request.key, &request.range_end, self.reading_revision());
        let found: Vec<KeyValue> = found.cloned().collect();
        for kv in &found {
            self.delete(kv.key.clone());
        }
        DeleteRangeResponse {
            header: header(self.reading_revision()),
            deleted: found.len() as i64,
            prev_kvs: if request.prev_kv { found } else { Vec::new() },
        }
    }

    /// Deletes a key that exists.
    pub(super) fn delete(&mut self, key: Bytes) {
        let tombstone = KeyValue {
            key,
            mod_revision: self.revision() + 1,
            ..KeyValue::default()
        };
        self.happen(EventKind::Delete, tombstone);
    }

    fn happen(&mut self, kind: EventKind, kv: KeyValue) {
        let (place, revision) = (self.events.len(), self.revision() + 1);
        self.digest.number(kind as u64);
        self.digest.key_value(&kv);
        let is_new = kv.create_revision == revision;
        let before = self.get(&kv.key, revision - 1).filter(|_| !is_new);
        let event = Event {
            kind,
            prev_kv: before.cloned(),
            revision,
            sub: (place - self.finished) as i64,
            kv,
        };
        match self.by_key.get_mut(&event.kv.key) {
            Some(places) => places.push(place),
            None => {
                self.by_key.insert(event.kv.key.clone(), vec![place]);
            }
        }
        self.events.push(event);
    }

    /// Ends a write: it makes a revision if it changed something. Returns whether it did.
    pub(super) fn finish(&mut self) -> bool {
        let changed = self.events.len() > self.finished;
        if changed {
            self.starts.push(self.finished);
            self.finished = self.events.len();
        }
        changed
    }
}

/// A header with only a revision.
pub(super) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

/// The start and the end of a range of keys.
pub(super) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The keys of a request: one key if there is no end, all keys from the key on if the end is a zero byte, no key
/// (`None`) if the end is not after the key.
pub(super) fn bounds<'a>(key: &'a [u8], range_end: &'a [u8]) -> Option<Bounds<'a>> {
    match range_end {
        [] => Some((Bound::Included(key), Bound::Included(key))),
        [0] => Some((Bound::Included(key), Bound::Unbounded)),
        _ if range_end <= key => None,
        _ => Some((Bound::Included(key), Bound::Excluded(range_end))),
    }
}
