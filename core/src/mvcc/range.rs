//! The answer to a range request: limit, order, filters and count.

use std::cmp::{Ordering, Reverse};

use crate::error::Error;
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse};

use super::View;
use super::record::{PairRef, Record};
use super::scan::{Scan, limit_of};

/// The keys of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Span<'a> {
    /// One key.
    Key(&'a [u8]),
    /// Keys from the first one on, and before the second, if there is one.
    Keys(&'a [u8], Option<&'a [u8]>),
}

impl<'a> Span<'a> {
    /// etcd's reading of `key` and `range_end`: an empty end means one key, a zero byte all keys from `key` on.
    pub(super) const fn new(key: &'a [u8], range_end: &'a [u8]) -> Self {
        match range_end {
            [] => Self::Key(key),
            [0] => Self::Keys(key, None),
            end => Self::Keys(key, Some(end)),
        }
    }
}

impl View {
    /// Answers a range request; the caller adds the header.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        if !request.range_end.is_empty() {
            return Ok(Scan::new(self, request)?.finish().response());
        }
        Order::of(request)?;
        let revision = self.read_revision(request.revision)?;
        let found = self.record(&request.key, revision);
        let mut response = RangeResponse {
            count: i64::from(found.is_some()),
            ..RangeResponse::default()
        };
        let filters = Filters::of(request);
        let answered = found.filter(|record| !request.count_only && filters.pass(record));
        let shape = if request.keys_only {
            Record::key_only
        } else {
            Record::key_value
        };
        response.kvs.extend(answered.map(shape));
        Ok(response)
    }

    /// How many rows a range may have to look at, estimated in the time of a few searches.
    #[must_use]
    pub fn rows_to_read(&self, request: &RangeRequest) -> usize {
        let (from, to) = match Span::new(&request.key, &request.range_end) {
            Span::Key(_) => return 1,
            Span::Keys(from, to) => (from, to),
        };
        let newest = request.revision <= 0 || request.revision == self.revision;
        if newest && request.count_only {
            return 1;
        }
        let keys = self.keys.entries_between(from, to);
        let limits_first = Order::of(request).is_ok_and(Order::limits_first) && Filters::of(request).is_none();
        if newest && limits_first {
            keys.min(limit_of(request).saturating_add(1))
        } else {
            keys
        }
    }

    /// The record of a key that a reader at `revision` sees.
    fn record(&self, key: &[u8], revision: i64) -> Option<&Record> {
        self.keys
            .get(key)
            .and_then(|entry| entry.visible_at(revision, &self.log))
    }

    /// The newest pairs of a range, given as in a range request, in key order.
    pub fn pairs<'a>(&'a self, key: &'a [u8], range_end: &'a [u8]) -> impl Iterator<Item = PairRef<'a>> {
        self.live_records(Span::new(key, range_end)).map(Record::pair_ref)
    }

    /// The newest records of a range, without tombstones.
    pub(super) fn live_records<'a>(&'a self, span: Span<'a>) -> impl Iterator<Item = &'a Record> {
        let (only, mut iter) = match span {
            Span::Key(key) => (self.record(key, self.revision), None),
            Span::Keys(from, to) => (None, Some(self.keys.range(from, to))),
        };
        let next = move || iter.as_mut()?.next_live().map(|(_, entry)| entry.newest());
        only.into_iter().chain(std::iter::from_fn(next))
    }
}

/// Bounds on the revisions of the answered pairs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filters {
    modified: (i64, i64),
    created: (i64, i64),
}

impl Filters {
    pub(super) const fn of(request: &RangeRequest) -> Self {
        Self {
            modified: (request.min_mod_revision, request.max_mod_revision),
            created: (request.min_create_revision, request.max_create_revision),
        }
    }

    pub(super) fn is_none(self) -> bool {
        self.modified == (0, 0) && self.created == (0, 0)
    }

    pub(super) fn pass(self, record: &Record) -> bool {
        let within =
            |revision: i64, (min, max): (i64, i64)| (min == 0 || revision >= min) && (max == 0 || revision <= max);
        within(record.revision().main, self.modified)
            && (self.created == (0, 0) || within(record.create_revision(), self.created))
    }
}

/// The order a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    target: SortTarget,
    direction: SortOrder,
}

impl Order {
    pub(super) fn of(request: &RangeRequest) -> Result<Self, Error> {
        let direction = SortOrder::try_from(request.sort_order).map_err(|_| Error::InvalidSortOption)?;
        let target = SortTarget::try_from(request.sort_target).map_err(|_| Error::InvalidSortOption)?;
        Ok(Self { target, direction })
    }

    /// Whether the limit is applied in key order, before sorting.
    ///
    /// As in etcd, this is also the case for a target without a direction: only the pairs within the limit are sorted.
    pub(super) fn limits_first(self) -> bool {
        self.direction == SortOrder::None || (self.direction == SortOrder::Ascend && self.target == SortTarget::Key)
    }

    /// Whether it is key order, ascending or descending.
    pub(super) fn is_by_key(self) -> bool {
        self.target == SortTarget::Key
    }

    /// Whether it is the order in which the index has the keys.
    pub(super) fn is_of_keys(self) -> bool {
        self.is_by_key() && self.direction != SortOrder::Descend
    }

    /// Sorts records that are in key order by another target; the sort is stable.
    pub(super) fn sort(self, found: &mut [Record]) {
        match self.target {
            SortTarget::Key => {}
            SortTarget::Value => found.sort_by(|a, b| self.compare(a, b)),
            SortTarget::Version | SortTarget::Create | SortTarget::Mod => {
                // The sort key is decoded from a record's row: once for each record, not for each comparison.
                match self.direction {
                    SortOrder::None | SortOrder::Ascend => found.sort_by_cached_key(|record| self.number(record)),
                    SortOrder::Descend => found.sort_by_cached_key(|record| Reverse(self.number(record))),
                }
            }
        }
    }

    /// Compares two records by a target other than the key.
    pub(super) fn compare(self, a: &Record, b: &Record) -> Ordering {
        let ascending = match self.target {
            SortTarget::Value => a.value().cmp(b.value()),
            _ => self.number(a).cmp(&self.number(b)),
        };
        if self.direction == SortOrder::Descend {
            ascending.reverse()
        } else {
            ascending
        }
    }

    fn number(self, record: &Record) -> i64 {
        match self.target {
            SortTarget::Version => record.version(),
            SortTarget::Create => record.create_revision(),
            SortTarget::Mod => record.revision().main,
            SortTarget::Key | SortTarget::Value => 0,
        }
    }
}
