//! A range that is read in steps. Each step looks at a bounded number of rows, so that a long range can take turns with
//! other work, and the pairs are encoded from the rows themselves, without a copy of each.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fmt;
use std::iter::Rev;
use std::vec;

use bytes::Bytes;

use crate::error::Error;
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse};

use super::range::{Filters, Order, Span};
use super::record::Record;
use super::{Revision, View, successor};

/// Rows of one sorted run. A long list is sorted run by run, and the runs are merged.
const RUN_ROWS: usize = 4_096;

/// The tag of a pair in a `RangeResponse`.
const PAIR_TAG: u8 = 2 << 3 | 2;

/// A range request in progress.
pub struct Scan {
    view: View,
    from: Bytes,
    to: Option<Bytes>,
    revision: i64,
    order: Order,
    limit: usize,
    stage: Stage,
    gathered: Gathered,
    picked: Vec<Record>,
    found: Found,
}

/// The next stage of a scan, and its position.
enum Stage {
    /// Collects rows to be sorted or picked.
    Gather(Bytes),
    /// Counts the keys after those collected.
    Count(Bytes),
    /// Counts the keys now, minus the changes since the revision that is read.
    Changes(Revision),
    /// Adds up the lengths of this many pairs, which are encoded from the view itself.
    Measure(Bytes, usize),
    /// Takes the rows of the answer in their order.
    Pick(Source),
    Done,
}

/// The collected rows, and the conditions on them.
struct Gathered {
    filters: Filters,
    order: Order,
    /// The most rows to collect.
    fetch: usize,
    kept: usize,
    /// Keys that a reader at the revision sees, whether or not they pass the filters.
    visible: usize,
    runs: Vec<Vec<Record>>,
}

/// Rows in the order of the answer.
enum Source {
    Forward(vec::IntoIter<Record>),
    Backward(Rev<vec::IntoIter<Record>>),
    Merged(BinaryHeap<Head>),
}

/// The first row of a sorted run and the rest of it.
struct Head {
    first: Record,
    rest: vec::IntoIter<Record>,
    run: usize,
    order: Order,
}

impl Scan {
    /// Begins a request.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`] or [`Error::InvalidSortOption`].
    pub fn new(view: &View, request: &RangeRequest) -> Result<Self, Error> {
        let order = Order::of(request)?;
        let revision = view.read_revision(request.revision)?;
        let (from, to) = match Span::new(&request.key, &request.range_end) {
            Span::Key(key) => (request.key.clone(), Some(successor(key))),
            Span::Keys(_, None) => (request.key.clone(), None),
            Span::Keys(..) => (request.key.clone(), Some(request.range_end.clone())),
        };
        let filters = Filters::of(request);
        let limit = limit_of(request);
        // One row more than the limit shows whether there are more.
        let fetch = if filters.is_none() && order.limits_first() {
            limit.saturating_add(1)
        } else {
            usize::MAX
        };
        let mut scan = Self {
            view: view.clone(),
            from,
            to,
            revision,
            order,
            limit,
            stage: Stage::Done,
            gathered: Gathered {
                filters,
                order,
                fetch,
                kept: 0,
                visible: 0,
                runs: vec![Vec::new()],
            },
            picked: Vec::new(),
            found: Found::nothing(request.keys_only),
        };
        scan.begin(request.count_only);
        Ok(scan)
    }

    fn begin(&mut self, count_only: bool) {
        let newest = self.revision == self.view.revision;
        let live = self.live();
        if newest {
            self.found.count = live as i64;
        }
        let from = self.from.clone();
        self.stage = if count_only && newest {
            Stage::Done
        } else if count_only {
            self.count_from(from)
        } else if newest && self.gathered.filters.is_none() && self.order.is_of_keys() {
            let pairs = live.min(self.limit);
            self.found.more = live > pairs;
            self.found.rows = Rows::Walk {
                view: self.view.clone(),
                next: from.clone(),
                to: self.to.clone(),
                left: pairs,
            };
            Stage::Measure(from, pairs)
        } else {
            Stage::Gather(from)
        };
    }

    /// Continues over about `rows` rows; true once the scan is complete.
    pub fn step(&mut self, rows: usize) -> bool {
        let mut left = rows.max(1);
        while left > 0 && !matches!(self.stage, Stage::Done) {
            let (next, seen) = match std::mem::replace(&mut self.stage, Stage::Done) {
                Stage::Gather(from) => self.gather(&from, left),
                Stage::Count(from) => self.count(&from, left),
                Stage::Changes(from) => self.changes(from, left),
                Stage::Measure(from, pairs) => self.measure(&from, pairs, left),
                Stage::Pick(source) => self.pick(source, left),
                Stage::Done => (Stage::Done, 0),
            };
            self.stage = next;
            left = left.saturating_sub(seen.max(1));
        }
        matches!(self.stage, Stage::Done)
    }

    /// The result of a complete scan.
    #[must_use]
    pub fn finish(mut self) -> Found {
        while !self.step(usize::MAX) {}
        if let Rows::List(rows) = &mut self.found.rows {
            *rows = self.picked.into_iter();
        }
        self.found
    }

    fn live(&self) -> usize {
        self.view.keys.count(&self.from, self.to.as_deref()).live
    }

    fn gather(&mut self, from: &[u8], rows: usize) -> (Stage, usize) {
        let newest = self.revision == self.view.revision;
        let mut iter = self.view.keys.range(from, self.to.as_deref());
        let (mut last, mut seen) = (None, 0);
        while seen < rows && self.gathered.kept < self.gathered.fetch {
            let next = if newest { iter.next_live() } else { iter.next() };
            let Some((key, entry)) = next else {
                if !newest {
                    self.found.count = self.gathered.visible as i64;
                }
                return (self.gathered.source(), seen);
            };
            (last, seen) = (Some(key), seen + 1);
            if let Some(record) = entry.visible_at(self.revision, &self.view.log) {
                self.gathered.see(record);
            }
        }
        let next = last.map_or_else(|| Bytes::copy_from_slice(from), successor);
        let stage = match (self.gathered.kept == self.gathered.fetch, newest) {
            (false, _) => Stage::Gather(next),
            (true, true) => self.gathered.source(),
            (true, false) => self.count_from(next),
        };
        (stage, seen)
    }

    /// How to count at an earlier revision: the current count without the later changes, or a walk over the keys,
    /// whichever looks at fewer rows.
    fn count_from(&self, from: Bytes) -> Stage {
        let since = Revision::first_of(self.revision + 1);
        let walk = self.view.keys.entries_between(&from, self.to.as_deref());
        if self.view.log.entries_between(&since, None) < walk {
            Stage::Changes(since)
        } else {
            Stage::Count(from)
        }
    }

    fn count(&mut self, from: &[u8], rows: usize) -> (Stage, usize) {
        let mut iter = self.view.keys.range(from, self.to.as_deref());
        let mut last = None;
        for seen in 0..rows {
            let Some((key, entry)) = iter.next() else {
                self.found.count = self.gathered.visible as i64;
                return (self.gathered.source(), seen);
            };
            last = Some(key);
            self.gathered.visible += usize::from(entry.visible_at(self.revision, &self.view.log).is_some());
        }
        let next = last.map_or_else(|| Bytes::copy_from_slice(from), successor);
        (Stage::Count(next), rows)
    }

    fn changes(&mut self, from: Revision, rows: usize) -> (Stage, usize) {
        let mut next = from;
        let mut iter = self.view.log.range(&from, None);
        for seen in 0..rows {
            let Some((revision, record)) = iter.next() else {
                self.found.count += self.live() as i64;
                return (self.gathered.source(), seen);
            };
            next = Revision::new(revision.main, revision.sub + 1);
            let key = record.key();
            if key >= &self.from[..] && self.to.as_deref().is_none_or(|to| key < to) {
                self.found.count -= record.live_change();
            }
        }
        (Stage::Changes(next), rows)
    }

    fn measure(&mut self, from: &[u8], pairs: usize, rows: usize) -> (Stage, usize) {
        let mut iter = self.view.keys.range(from, self.to.as_deref());
        let mut last = None;
        let now = pairs.min(rows);
        for _ in 0..now {
            let Some((key, entry)) = iter.next_live() else { break };
            last = Some(key);
            self.found.bytes += field_len(entry.newest(), self.found.keys_only);
        }
        match last {
            Some(last) if now < pairs => (Stage::Measure(successor(last), pairs - now), now),
            _ => (Stage::Done, now),
        }
    }

    fn pick(&mut self, mut source: Source, rows: usize) -> (Stage, usize) {
        for seen in 0..rows {
            let Some(record) = source.next() else {
                return (Stage::Done, seen);
            };
            if self.picked.len() == self.limit {
                self.found.more = true;
                return (Stage::Done, seen);
            }
            self.found.bytes += field_len(&record, self.found.keys_only);
            self.picked.push(record);
        }
        (Stage::Pick(source), rows)
    }
}

impl Gathered {
    /// Takes a row that the reader sees, if it passes the filters.
    fn see(&mut self, record: &Record) {
        self.visible += 1;
        if !self.filters.pass(record) {
            return;
        }
        self.kept += 1;
        if let Some(run) = self.runs.last_mut() {
            run.push(record.clone());
            if run.len() == RUN_ROWS && !self.order.is_by_key() {
                self.order.sort(run);
                self.runs.push(Vec::new());
            }
        }
    }

    /// The collected rows, in the requested order.
    fn source(&mut self) -> Stage {
        let mut runs = std::mem::take(&mut self.runs);
        if self.order.is_by_key() {
            let rows = runs.pop().unwrap_or_default().into_iter();
            return Stage::Pick(if self.order.is_of_keys() {
                Source::Forward(rows)
            } else {
                Source::Backward(rows.rev())
            });
        }
        if let Some(last) = runs.last_mut() {
            self.order.sort(last);
        }
        let order = self.order;
        let heads = runs.into_iter().enumerate().filter_map(|(run, rows)| {
            let mut rest = rows.into_iter();
            rest.next().map(|first| Head {
                first,
                rest,
                run,
                order,
            })
        });
        Stage::Pick(Source::Merged(heads.collect()))
    }
}

impl Source {
    fn next(&mut self) -> Option<Record> {
        match self {
            Self::Forward(rows) => rows.next(),
            Self::Backward(rows) => rows.next(),
            Self::Merged(heads) => {
                let mut head = heads.pop()?;
                let next = head.rest.next();
                match next {
                    None => Some(head.first),
                    Some(next) => {
                        let first = std::mem::replace(&mut head.first, next);
                        heads.push(head);
                        Some(first)
                    }
                }
            }
        }
    }
}

impl Ord for Head {
    /// The greatest head has the row that comes first in the answer. Equal rows stay in key order.
    fn cmp(&self, other: &Self) -> Ordering {
        let before = self.order.compare(&self.first, &other.first);
        before.then(self.run.cmp(&other.run)).reverse()
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

/// The result of a range. The pairs are encoded from the rows in the view, piece by piece; until then they cost at most
/// a reference each, and nothing if they are the newest ones in key order.
pub struct Found {
    /// The number of keys in the range, regardless of the limit.
    pub count: i64,
    /// Whether the limit cut the answer short.
    pub more: bool,
    keys_only: bool,
    /// Bytes of the pairs as fields of the response.
    bytes: usize,
    rows: Rows,
}

/// The rows of the answer.
enum Rows {
    /// These rows.
    List(vec::IntoIter<Record>),
    /// The first `left` live keys of the view from `next` on, before `to`.
    Walk {
        view: View,
        next: Bytes,
        to: Option<Bytes>,
        left: usize,
    },
}

impl Found {
    fn nothing(keys_only: bool) -> Self {
        Self {
            count: 0,
            more: false,
            keys_only,
            bytes: 0,
            rows: Rows::List(Vec::new().into_iter()),
        }
    }

    /// Bytes of all pairs, each encoded as a field of a `RangeResponse`.
    #[must_use]
    pub const fn pair_bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the next pairs, each as a field of a `RangeResponse`, until the buffer holds `until` bytes or all pairs
    /// are encoded; true in the latter case.
    pub fn encode(&mut self, out: &mut Vec<u8>, until: usize) -> bool {
        let keys_only = self.keys_only;
        self.take_while(|record| {
            let (before, after) = record.row_parts(keys_only);
            out.push(PAIR_TAG);
            prost::encoding::encode_varint((before.len() + after.len()) as u64, out);
            out.extend_from_slice(before);
            out.extend_from_slice(after);
            out.len() < until
        })
    }

    /// The response; the caller adds the header.
    #[must_use]
    pub fn response(mut self) -> RangeResponse {
        let shape = if self.keys_only {
            Record::key_only
        } else {
            Record::key_value
        };
        let mut kvs = Vec::new();
        self.take_while(|record| {
            kvs.push(shape(record));
            true
        });
        RangeResponse {
            header: None,
            kvs,
            more: self.more,
            count: self.count,
        }
    }

    /// Passes rows to `take` until `take` returns false. Returns true if no rows are left.
    fn take_while(&mut self, mut take: impl FnMut(&Record) -> bool) -> bool {
        match &mut self.rows {
            Rows::List(rows) => {
                // Each row is dropped once it was taken.
                for record in rows.by_ref() {
                    if !take(&record) {
                        break;
                    }
                }
                rows.len() == 0
            }
            Rows::Walk { view, next, to, left } => {
                let mut last = None;
                let mut iter = view.keys.range(next, to.as_deref());
                let mut goes_on = true;
                while goes_on
                    && *left > 0
                    && let Some((key, entry)) = iter.next_live()
                {
                    goes_on = take(entry.newest());
                    last = Some(key);
                    *left -= 1;
                }
                let after = last.map(successor);
                *left = if goes_on { 0 } else { *left };
                if let Some(after) = after {
                    *next = after;
                }
                *left == 0
            }
        }
    }
}

/// Bytes of a row's pair as a field of the response.
fn field_len(record: &Record, keys_only: bool) -> usize {
    let (before, after) = record.row_parts(keys_only);
    let body = before.len() + after.len();
    1 + prost::encoding::encoded_len_varint(body as u64) + body
}

/// The limit of a request, or none.
pub(super) fn limit_of(request: &RangeRequest) -> usize {
    usize::try_from(request.limit)
        .ok()
        .filter(|limit| *limit > 0)
        .unwrap_or(usize::MAX)
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("found", &self.found)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found")
            .field("count", &self.count)
            .field("more", &self.more)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
