//! The reference model of watches: the responses to each watch of each stream, in order.
//!
//! It is sequential, like the model of the store: the plan of a script makes sure that nothing changes while watches
//! catch up. Headers have only revisions.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use quoin_core::proto::etcdserverpb::watch_create_request::FilterType;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse};
use quoin_core::proto::mvccpb::{self, event::EventType};
use quoin_model::etcd::{Event, EventKind, State};

/// gRPC's overhead of a request, as etcd computes it.
const OVERHEAD_BYTES: usize = 512 * 1024;
/// Cluster, member and term in a header; the ids have nine or ten bytes each.
const IDENTITY_BYTES: usize = 24;
/// The largest number of revisions in a response to a watch that catches up.
const MOST_REVISIONS: usize = 1000;
/// The id in answers that belong to no watch.
const NO_WATCH: i64 = -1;

/// A response, assembled if it came in fragments.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivered {
    /// The response, with the events of all its fragments.
    pub response: WatchResponse,
    /// The number of its fragments.
    pub pieces: usize,
}

impl Delivered {
    /// The name under which it is counted, and its result.
    #[must_use]
    pub fn told(&self) -> (&'static str, String) {
        let response = &self.response;
        let ok = || "ok".to_owned();
        match (response.created, response.canceled) {
            (true, false) => ("Watch create", ok()),
            (true, true) => ("Watch create", format!("canceled: {}", response.cancel_reason)),
            (false, true) if response.compact_revision != 0 => ("Watch events", "canceled: compacted".to_owned()),
            (false, true) => ("Watch cancel", ok()),
            (false, false) if response.events.is_empty() => ("Watch progress", ok()),
            (false, false) if self.pieces > 1 => ("Watch events", "in fragments".to_owned()),
            (false, false) => ("Watch events", ok()),
        }
    }
}

/// The responses by stream and watch id, in order. The order between two watches of a stream is undetermined.
pub type Deliveries = BTreeMap<(u8, i64), Vec<Delivered>>;

/// The responses that must have arrived at some point of a script.
#[derive(Clone, Debug, Default)]
pub struct Due {
    /// By stream and watch.
    pub deliveries: Deliveries,
    /// By stream, an answer that etcd may leave out.
    pub excused: BTreeMap<u8, WatchResponse>,
    /// The responses do not show when some watch has caught up; a later watch, the canary, shows it.
    pub needs_canary: bool,
    /// No further response may come.
    pub is_last: bool,
    /// The revision at that point.
    pub revision: i64,
}

/// All streams.
#[derive(Clone, Debug, Default)]
pub(super) struct Watching {
    fragment_bytes: usize,
    streams: BTreeMap<u8, Stream>,
    due: Due,
    /// Watches are being created or cancelled, or have to catch up.
    changing: bool,
    events_due: bool,
}

#[derive(Clone, Debug, Default)]
struct Stream {
    watchers: BTreeMap<i64, Watcher>,
    next_id: i64,
    due: usize,
}

#[derive(Clone, Debug)]
struct Watcher {
    key: Bytes,
    end: End,
    /// The start revision of the request; 0 means from now on.
    start: i64,
    /// The first revision whose events it gets.
    from: i64,
    no_put: bool,
    no_delete: bool,
    prev_kv: bool,
    fragment: bool,
    /// It was cancelled by a compaction; its id is still used.
    is_compacted: bool,
}

#[derive(Clone, Debug)]
enum End {
    Before(Bytes),
    Never,
    OneKey,
}

impl Watching {
    pub(super) fn new(max_request_bytes: usize) -> Self {
        Self {
            fragment_bytes: max_request_bytes + OVERHEAD_BYTES,
            ..Self::default()
        }
    }

    /// The watches of a stream.
    pub(super) fn ids(&self, stream: u8) -> Vec<i64> {
        let stream = self.streams.get(&stream);
        stream.map_or_else(Vec::new, |stream| stream.watchers.keys().copied().collect())
    }

    /// The largest number of responses that are due on one stream.
    pub(super) fn most_due(&self) -> usize {
        self.streams.values().map(|stream| stream.due).max().unwrap_or(0)
    }

    /// Whether any response is due.
    pub(super) fn is_unsettled(&self) -> bool {
        self.changing || !self.due.deliveries.is_empty()
    }

    /// Whether events from after the creation of their watch are due.
    pub(super) fn has_events_due(&self) -> bool {
        self.events_due
    }

    /// Whether watches are being created or cancelled, or a watch that started in the past may not be synced yet.
    pub(super) fn is_changing(&self) -> bool {
        self.changing
    }

    /// Takes the responses that must have arrived by now.
    pub(super) fn take_due(&mut self) -> Due {
        for stream in self.streams.values_mut() {
            stream.due = 0;
        }
        self.changing = false;
        self.events_due = false;
        std::mem::take(&mut self.due)
    }

    pub(super) fn reset(&mut self, stream: u8) {
        self.streams.remove(&stream);
    }

    pub(super) fn request(&mut self, state: &State, stream: u8, request: &WatchRequest) {
        self.changing = true;
        match &request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(state, stream, create),
            Some(RequestUnion::CancelRequest(cancel)) => {
                let watchers = &mut self.streams.entry(stream).or_default().watchers;
                if watchers.remove(&cancel.watch_id).is_some() {
                    let canceled = WatchResponse {
                        canceled: true,
                        ..answer(state.revision(), cancel.watch_id)
                    };
                    self.deliver(stream, canceled, 1);
                }
            }
            Some(RequestUnion::ProgressRequest(_)) => {
                let watchers = &self.streams.entry(stream).or_default().watchers;
                let revision = state.revision();
                let mut there = watchers.values().filter(|watcher| !watcher.is_compacted).peekable();
                if there.peek().is_none() || there.any(|watcher| watcher.start > revision) {
                    return;
                }
                let response = answer(revision, NO_WATCH);
                if watchers.values().any(|watcher| watcher.is_compacted) {
                    self.due.excused.insert(stream, response);
                } else {
                    self.deliver(stream, response, 1);
                }
            }
            None => {}
        }
    }

    fn create(&mut self, state: &State, stream: u8, request: &WatchCreateRequest) {
        let id = match self.streams.entry(stream).or_default().insert(state, request) {
            Ok(id) => id,
            Err(reason) => {
                let refused = WatchResponse {
                    created: true,
                    canceled: true,
                    cancel_reason: reason.to_owned(),
                    ..answer(state.revision(), NO_WATCH)
                };
                return self.deliver(stream, refused, 1);
            }
        };
        let created = WatchResponse {
            created: true,
            ..answer(state.revision(), id)
        };
        self.deliver(stream, created, 1);
        if request.start_revision != 0 && request.start_revision <= state.revision() {
            self.catch_up(state, stream, id);
        }
    }

    /// Delivers all events from the start of a watch until now, or its cancellation if the start is compacted.
    fn catch_up(&mut self, state: &State, stream: u8, id: i64) {
        let Some(watcher) = self
            .streams
            .get_mut(&stream)
            .and_then(|stream| stream.watchers.get_mut(&id))
        else {
            return;
        };
        let compacted = state.compact_revision_at(state.applied_index());
        if watcher.start < compacted {
            watcher.is_compacted = true;
            let ended = WatchResponse {
                header: Some(ResponseHeader::default()),
                watch_id: id,
                canceled: true,
                compact_revision: compacted,
                ..WatchResponse::default()
            };
            return self.deliver(stream, ended, 1);
        }
        let events = state.events(watcher.from, state.revision());
        let seen: Vec<&Event> = events.iter().filter(|event| watcher.covers(&event.kv.key)).collect();
        let watcher = watcher.clone();
        let mut is_silent = true;
        for batch in batches(&seen) {
            let events = watcher.wanted(batch, compacted);
            is_silent = events.is_empty();
            self.deliver_events(state.revision(), stream, id, &watcher, events);
        }
        self.due.needs_canary |= is_silent;
    }

    /// Delivers the events of a new revision to every watch.
    pub(super) fn happen(&mut self, state: &State, revision: i64) {
        let compacted = state.compact_revision_at(state.applied_index());
        let mut told = Vec::new();
        for (stream, books) in &self.streams {
            for (id, watcher) in &books.watchers {
                if watcher.is_compacted || revision < watcher.from {
                    continue;
                }
                let events = state.events(revision, revision).iter();
                let seen: Vec<&Event> = events.filter(|event| watcher.covers(&event.kv.key)).collect();
                let events = watcher.wanted(&seen, compacted);
                if !events.is_empty() {
                    told.push((*stream, *id, watcher.clone(), events));
                }
            }
        }
        self.events_due |= !told.is_empty();
        for (stream, id, watcher, events) in told {
            self.deliver_events(revision, stream, id, &watcher, events);
        }
    }

    fn deliver_events(&mut self, revision: i64, stream: u8, id: i64, watcher: &Watcher, events: Vec<mvccpb::Event>) {
        if events.is_empty() {
            return;
        }
        let response = WatchResponse {
            events,
            ..answer(revision, id)
        };
        let pieces = if watcher.fragment {
            pieces(&response, self.fragment_bytes)
        } else {
            1
        };
        self.deliver(stream, response, pieces);
    }

    fn deliver(&mut self, stream: u8, response: WatchResponse, pieces: usize) {
        self.streams.entry(stream).or_default().due += 1;
        let of_watch = self.due.deliveries.entry((stream, response.watch_id)).or_default();
        of_watch.push(Delivered { response, pieces });
    }
}

impl Stream {
    /// Creates a watch and returns its id, or the reason of its refusal.
    fn insert(&mut self, state: &State, request: &WatchCreateRequest) -> Result<i64, &'static str> {
        if request.start_revision < 0 {
            return Err("etcdserver: mvcc: required revision has been compacted");
        }
        let key = if request.key.is_empty() {
            Bytes::from_static(b"\0")
        } else {
            request.key.clone()
        };
        let end = match &request.range_end[..] {
            [] => End::OneKey,
            [0] => End::Never,
            end if end <= &key[..] => return Err("mvcc: watcher range is empty"),
            _ => End::Before(request.range_end.clone()),
        };
        let id = match request.watch_id {
            0 => {
                while self.watchers.contains_key(&self.next_id) {
                    self.next_id += 1;
                }
                self.next_id += 1;
                self.next_id - 1
            }
            taken if self.watchers.contains_key(&taken) => {
                return Err("mvcc: duplicate watch ID provided on the WatchStream");
            }
            free => free,
        };
        let start = request.start_revision;
        let next = state.revision() + 1;
        let filtered = |filter: FilterType| request.filters.contains(&(filter as i32));
        let watcher = Watcher {
            key,
            end,
            start,
            from: if start == 0 { next } else { start },
            no_put: filtered(FilterType::Noput),
            no_delete: filtered(FilterType::Nodelete),
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            is_compacted: false,
        };
        self.watchers.insert(id, watcher);
        Ok(id)
    }
}

impl Watcher {
    fn covers(&self, key: &Bytes) -> bool {
        match &self.end {
            End::Before(end) => self.key <= *key && key < end,
            End::Never => self.key <= *key,
            End::OneKey => self.key == *key,
        }
    }

    /// Events as this watch gets them, after its filters.
    fn wanted(&self, events: &[&Event], compacted: i64) -> Vec<mvccpb::Event> {
        let wanted = events.iter().filter(|event| match event.kind {
            EventKind::Delete => !self.no_delete,
            EventKind::Put => !self.no_put,
        });
        let told = wanted.map(|event| {
            let can_see_previous = self.prev_kv && event.revision > compacted;
            mvccpb::Event {
                r#type: match event.kind {
                    EventKind::Delete => EventType::Delete,
                    EventKind::Put => EventType::Put,
                } as i32,
                kv: Some(event.kv.clone()),
                prev_kv: event.prev_kv.clone().filter(|_| can_see_previous),
            }
        });
        told.collect()
    }
}

/// A response with only a revision.
fn answer(revision: i64, watch_id: i64) -> WatchResponse {
    WatchResponse {
        header: Some(ResponseHeader {
            revision,
            ..ResponseHeader::default()
        }),
        watch_id,
        ..WatchResponse::default()
    }
}

/// Events in batches of whole revisions, as large as one response may be.
fn batches<'a, 'b>(events: &'a [&'b Event]) -> Vec<&'a [&'b Event]> {
    let mut revisions = 0;
    let mut last = 0;
    let mut cuts = vec![0];
    for (at, event) in events.iter().enumerate() {
        if event.revision != last {
            last = event.revision;
            if revisions == MOST_REVISIONS {
                cuts.push(at);
                revisions = 0;
            }
            revisions += 1;
        }
    }
    cuts.push(events.len());
    cuts.windows(2).map(|cut| &events[cut[0]..cut[1]]).collect()
}

/// The number of fragments of a response: each is as full as possible, with at least one event.
fn pieces(response: &WatchResponse, limit: usize) -> usize {
    let mut rest = &response.events[..];
    let bare = |events: &[mvccpb::Event], fragment| WatchResponse {
        events: events.to_vec(),
        fragment,
        ..response.clone()
    };
    let bytes = |response: WatchResponse| response.encoded_len() + IDENTITY_BYTES;
    if rest.len() < 2 || bytes(response.clone()) < limit {
        return 1;
    }
    let mut pieces = 0;
    while !rest.is_empty() {
        let mut count = 1;
        while count < rest.len() && bytes(bare(&rest[..=count], true)) < limit {
            count += 1;
        }
        rest = &rest[count..];
        pieces += 1;
    }
    pieces
}
