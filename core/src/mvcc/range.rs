//! What a range request answers, with every rule of limit, order, filters and count.

use std::cmp::Reverse;

use crate::error::Error;
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse};

use super::record::Record;
use super::{Revision, View};

/// The keys a request is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Span<'a> {
    /// One key.
    Key(&'a [u8]),
    /// Keys from the first one on, and before the second where there is one.
    Keys(&'a [u8], Option<&'a [u8]>),
}

impl<'a> Span<'a> {
    /// As etcd reads `key` and `range_end`: an empty end is one key, a zero byte all keys from `key` on.
    pub(super) const fn new(key: &'a [u8], range_end: &'a [u8]) -> Self {
        match range_end {
            [] => Self::Key(key),
            [0] => Self::Keys(key, None),
            end => Self::Keys(key, Some(end)),
        }
    }

    fn contains(self, key: &[u8]) -> bool {
        match self {
            Self::Key(only) => key == only,
            Self::Keys(from, to) => from <= key && to.is_none_or(|to| key < to),
        }
    }
}

impl View {
    /// Answers a range request; the header is left to the caller.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        let order = Order::of(request)?;
        let revision = self.read_revision(request.revision)?;
        let span = Span::new(&request.key, &request.range_end);
        let mut response = RangeResponse::default();
        if request.count_only {
            response.count = self.count(span, revision);
            return Ok(response);
        }

        let limit = usize::try_from(request.limit)
            .ok()
            .filter(|limit| *limit > 0)
            .unwrap_or(usize::MAX);
        let filtered = has_filters(request);
        // One more than asked for tells whether there are more.
        let fetch = if filtered || !order.limits_first() {
            usize::MAX
        } else {
            limit.saturating_add(1)
        };
        let mut found = self.visible(span, revision, fetch);
        response.count = match span {
            Span::Key(_) => found.len() as i64,
            Span::Keys(..) => self.count(span, revision),
        };
        if filtered {
            found.retain(|record| passes_filters(request, record));
        }
        order.sort(&mut found);
        response.more = found.len() > limit;
        found.truncate(limit);
        let shape = if request.keys_only {
            Record::key_only
        } else {
            Record::key_value
        };
        response.kvs = found.into_iter().map(shape).collect();
        Ok(response)
    }

    /// The first `fetch` records of `span` that a reader at `revision` sees, in key order.
    pub(super) fn visible(&self, span: Span<'_>, revision: i64, fetch: usize) -> Vec<&Record> {
        match span {
            Span::Key(key) => {
                let found = self
                    .keys
                    .get(key)
                    .and_then(|entry| entry.visible_at(revision, &self.log));
                found.into_iter().take(fetch).collect()
            }
            Span::Keys(from, to) => {
                let mut iter = self.keys.range(from, to);
                let mut found = Vec::with_capacity(iter.size_hint().1.unwrap_or(0).min(fetch));
                if revision == self.revision {
                    let records = std::iter::from_fn(|| iter.next_live()).map(|(_, entry)| entry.newest());
                    found.extend(records.take(fetch));
                } else {
                    let records = iter.filter_map(|(_, entry)| entry.visible_at(revision, &self.log));
                    found.extend(records.take(fetch));
                }
                found
            }
        }
    }

    /// How many keys of `span` a reader at `revision` sees.
    fn count(&self, span: Span<'_>, revision: i64) -> i64 {
        let Span::Keys(from, to) = span else {
            return self.visible(span, revision, 1).len() as i64;
        };
        if revision == self.revision {
            return self.keys.count(from, to).live as i64;
        }
        // What there is, less what came since; or a walk, where that is shorter.
        let since = Revision::first_of(revision + 1);
        if self.log.entries_between(&since, None) < self.keys.entries_between(from, to) {
            let later = self
                .log
                .range(&since, None)
                .filter(|(_, record)| span.contains(record.key()));
            self.keys.count(from, to).live as i64 - later.map(|(_, record)| record.live_change()).sum::<i64>()
        } else {
            let entries = self.keys.range(from, to);
            entries
                .filter(|(_, entry)| entry.visible_at(revision, &self.log).is_some())
                .count() as i64
        }
    }
}

fn has_filters(request: &RangeRequest) -> bool {
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    bounds.iter().any(|bound| *bound != 0)
}

fn passes_filters(request: &RangeRequest, record: &Record) -> bool {
    let within = |revision: i64, min: i64, max: i64| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    within(
        record.revision().main,
        request.min_mod_revision,
        request.max_mod_revision,
    ) && within(
        record.create_revision(),
        request.min_create_revision,
        request.max_create_revision,
    )
}

/// The order a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Order {
    target: SortTarget,
    direction: SortOrder,
}

impl Order {
    fn of(request: &RangeRequest) -> Result<Self, Error> {
        let direction = SortOrder::try_from(request.sort_order).map_err(|_| Error::InvalidSortOption)?;
        let target = SortTarget::try_from(request.sort_target).map_err(|_| Error::InvalidSortOption)?;
        Ok(Self { target, direction })
    }

    /// Whether the limit is applied in key order, before sorting.
    ///
    /// So it is, as in etcd, also for a target without a direction: that sorts only what the limit let through.
    fn limits_first(self) -> bool {
        self.direction == SortOrder::None || (self.direction == SortOrder::Ascend && self.target == SortTarget::Key)
    }

    /// Sorts records that are in key order; equal ones stay in it.
    fn sort(self, found: &mut [&Record]) {
        match self.target {
            SortTarget::Key if self.direction == SortOrder::Descend => found.reverse(),
            SortTarget::Key => {}
            SortTarget::Version => self.sort_by(found, Record::version),
            SortTarget::Create => self.sort_by(found, Record::create_revision),
            SortTarget::Mod => self.sort_by(found, |record| record.revision().main),
            SortTarget::Value => self.sort_by(found, Record::value),
        }
    }

    /// A record is read from its row, so that each is asked once and not for every comparison.
    fn sort_by<'a, T: Ord>(self, found: &mut [&'a Record], target: impl Fn(&'a Record) -> T) {
        match self.direction {
            SortOrder::None | SortOrder::Ascend => found.sort_by_cached_key(|record| target(record)),
            SortOrder::Descend => found.sort_by_cached_key(|record| Reverse(target(record))),
        }
    }
}
