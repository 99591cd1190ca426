//! One watch: its place in the history, and whether each response has exactly the events that come next there.

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::watch_create_request::FilterType;
use quoin_core::proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use quoin_core::proto::mvccpb;
use quoin_core::proto::mvccpb::event::EventType;
use quoin_core::time::Instant;

use super::stream::broken;
use super::{Point, Site};
use crate::observe::{Verdict, Violation, ensure};
use quoin_model::etcd::{Event, EventKind, State};

/// Keys that are watched.
#[derive(Clone, Debug)]
pub(super) struct KeyRange {
    first: Bytes,
    /// The first key after them; `None` if there is no end.
    end: Option<Bytes>,
}

impl KeyRange {
    /// The keys that a request means; `None` if the range is empty.
    pub(super) fn new(request: &WatchCreateRequest) -> Option<Self> {
        let first = if request.key.is_empty() {
            Bytes::from_static(b"\0")
        } else {
            request.key.clone()
        };
        let end = match &request.range_end[..] {
            [] => {
                let mut next = first.to_vec();
                next.push(0);
                Some(next.into())
            }
            [0] => None,
            end if end <= &first[..] => return None,
            _ => Some(request.range_end.clone()),
        };
        Some(Self { first, end })
    }

    fn contains(&self, key: &[u8]) -> bool {
        key >= &self.first[..] && self.end.as_ref().is_none_or(|end| key < &end[..])
    }
}

/// A watch.
#[derive(Debug)]
pub(super) struct Watcher {
    request: WatchCreateRequest,
    keys: KeyRange,
    no_put: bool,
    no_delete: bool,
    created_at: Instant,
    /// The first revision whose events it gets.
    start: i64,
    /// Whether that was in the future when the watch was created.
    is_future: bool,
    /// Everything before this revision was sent.
    reached: i64,
    /// How many of its events from there on were sent too, in fragments.
    ahead: usize,
    /// Whether anything was sent.
    fired: bool,
    /// Whether it ever had to catch up from the history.
    was_behind: bool,
    /// The revision of its member when it was created. A snapshot installed before led there at most, even if the
    /// response of the creation is read later.
    created_in: i64,
}

impl Watcher {
    /// A watch that was requested, and created at the revision `now`.
    pub(super) fn new(request: WatchCreateRequest, keys: KeyRange, now: i64, site: &mut Site<'_>) -> Self {
        let asked = request.start_revision;
        let start = if asked == 0 { now + 1 } else { asked };
        if asked != 0 && asked == site.served.compact_revision {
            site.note(Point::StartsAtCompacted);
        }
        let has = |filter: FilterType| request.filters.contains(&filter.into());
        Self {
            no_put: has(FilterType::Noput),
            no_delete: has(FilterType::Nodelete),
            keys,
            created_at: site.at,
            start,
            is_future: asked > now,
            reached: start,
            ahead: 0,
            fired: false,
            was_behind: asked != 0 && asked <= now,
            created_in: now,
            request,
        }
    }

    pub(super) fn waits_for_the_future(&self) -> bool {
        self.is_future && !self.fired
    }

    pub(super) fn wants_progress(&self) -> bool {
        self.request.progress_notify
    }

    /// Checks a response with events.
    pub(super) fn take(&mut self, response: &WatchResponse, header: i64, site: &mut Site<'_>) -> Verdict {
        let events = &response.events;
        let (first, last) = match (events.first(), events.last()) {
            (Some(first), Some(last)) => (revision_of(first), revision_of(last)),
            (None, _) | (_, None) => return Ok(()),
        };
        ordered(events)?;
        ensure(last <= header, "C20", || {
            format!("an event of revision {last} under a header of revision {header}")
        })?;
        let from_history = header > last || first < last;
        let history = site.model.events(self.reached, last);
        let compacted_at = &site.served.compacted_at;
        let is_there = |event: &&Event| {
            self.wants(event)
                && !((from_history || self.was_behind)
                    && compacted_at.contains(&event.revision)
                    && self.is_gone(event, history, response))
        };
        let mut expected = history.iter().filter(is_there).skip(self.ahead);
        for event in events {
            match expected.next() {
                Some(next) if is_same(event, next) => self.compare(event, next, site)?,
                next => return Err(self.astray(event, next, response, from_history, site)),
            }
        }
        let rest = expected.next();
        ensure(!response.fragment || self.request.fragment, "C12", || {
            "a fragment, where none was asked for".to_owned()
        })?;
        if !response.fragment
            && let Some(rest) = rest
        {
            let words = format!(
                "revision {last} is split: {} of it does not come with the rest",
                show(rest)
            );
            return Err(broken("C12", words));
        }
        self.advance(response, last);
        self.note(response, first < last, from_history, site);
        Ok(())
    }

    fn advance(&mut self, response: &WatchResponse, last: i64) {
        let of_last = |event: &&mvccpb::Event| revision_of(event) == last;
        let in_last = response.events.iter().rev().take_while(of_last).count();
        if !response.fragment {
            (self.reached, self.ahead) = (last + 1, 0);
        } else if self.reached == last {
            self.ahead += in_last;
        } else {
            (self.reached, self.ahead) = (last, in_last);
        }
    }

    fn note(&mut self, response: &WatchResponse, is_batch: bool, from_history: bool, site: &mut Site<'_>) {
        if !self.fired && self.is_future {
            site.note(Point::FutureFired);
        }
        if from_history {
            site.note(Point::CaughtUp);
        }
        if is_batch {
            site.note(Point::Batch);
        }
        if response.fragment {
            site.note(Point::Fragment);
        }
        self.fired = true;
        self.was_behind |= from_history;
    }

    /// Checks that everything up to `revision` was sent.
    pub(super) fn progress(&mut self, id: i64, revision: i64, model: &State) -> Verdict {
        ensure(self.start <= revision || !self.is_future, "C18", || {
            let start = self.start;
            format!("watch {id}, which starts at {start}, gets progress to {revision}")
        })?;
        ensure(revision >= self.reached - 1, "C15", || {
            let came = self.reached - 1;
            format!("watch {id} has everything up to {came}, and gets progress to {revision}")
        })?;
        if let Some(missing) = self.next(revision, model) {
            let words = format!("watch {id} gets progress to {revision} without {}", show(missing));
            return Err(broken("C15", words));
        }
        self.reached = self.reached.max(revision + 1);
        Ok(())
    }

    /// Checks that compaction up to `compact_revision` removed something it needs.
    pub(super) fn lost_to(&self, compact_revision: i64, site: &mut Site<'_>) -> Verdict {
        let compacted = site.served.compact_revision;
        ensure(compact_revision <= compacted, "C14", || {
            format!(
                "it is cancelled by compaction at {compact_revision}, but the member's compact revision is {compacted}"
            )
        })?;
        ensure(self.reached < compact_revision, "C22", || {
            let reached = self.reached;
            format!("it needs revision {reached} next and is ended by compaction at {compact_revision}")
        })?;
        let may_have_lost = self.was_behind || self.created_in < site.served.restored_to;
        // Events that the same transaction superseded are lost to it, too.
        let missed = site.model.events(self.reached, compact_revision - 1).iter();
        let has_missed = missed.filter(|event| self.wants(event)).nth(self.ahead).is_some();
        ensure(may_have_lost || has_missed, "C22", || {
            format!("it has everything and is ended by compaction at {compact_revision}")
        })?;
        site.note(if self.fired {
            Point::CompactedLater
        } else {
            Point::CompactedAtStart
        });
        Ok(())
    }

    /// The events up to `revision` that it has not got, if it existed `since`.
    pub(super) fn stalled(&self, since: Instant, revision: i64, model: &State) -> Option<String> {
        if self.created_at > since {
            return None;
        }
        self.next(revision, model).map(show)
    }

    /// Its next event, if there is one up to `revision`.
    fn next<'a>(&self, revision: i64, model: &'a State) -> Option<&'a Event> {
        let history = model.events(self.reached, revision);
        let compacted = model.compact_revision_at(model.applied_index());
        let may_come =
            |event: &&Event| self.wants(event) && !(event.revision <= compacted && is_superseded(event, history));
        history.iter().filter(may_come).nth(self.ahead)
    }

    /// Whether compaction at an event's own revision removed the event for a watcher that catches up: of several
    /// changes of a key in one transaction compaction keeps the last. That is so in etcd, too, which nevertheless
    /// allows a watch of the compact revision. A transaction changes a key twice if it deletes from a key on (`\0`) and
    /// puts one of those keys, which etcd's check does not find.
    fn is_gone(&self, event: &Event, history: &[Event], response: &WatchResponse) -> bool {
        let came = response.events.iter().filter(|came| is_same(came, event)).count();
        let alike = history.iter().filter(|other| is_of_one_key(event, other));
        let left = alike
            .filter(|other| other.sub >= event.sub && self.wants(other))
            .count();
        left > came && is_superseded(event, history)
    }

    fn wants(&self, event: &Event) -> bool {
        let is_filtered = match event.kind {
            EventKind::Delete => self.no_delete,
            EventKind::Put => self.no_put,
        };
        !is_filtered && self.keys.contains(&event.kv.key)
    }

    /// Compares an event with the one that should be in its place.
    fn compare(&self, event: &mvccpb::Event, expected: &Event, site: &mut Site<'_>) -> Verdict {
        let Some(kv) = &event.kv else {
            return Err(broken("C13", format!("an event without a key: {event:?}")));
        };
        ensure(kind_of(event) == Some(expected.kind), "C13", || {
            format!("{event:?} came for {expected:?}")
        })?;
        let wanted = &expected.kv;
        let lived = (kv.create_revision, kv.version);
        ensure(lived == (wanted.create_revision, wanted.version), "C17", || {
            format!("create revision or version differ: {kv:?} instead of {wanted:?}")
        })?;
        ensure(kv == wanted, "C13", || format!("{kv:?} instead of {wanted:?}"))?;
        self.compare_previous(event, expected, site)
    }

    fn compare_previous(&self, event: &mvccpb::Event, expected: &Event, site: &mut Site<'_>) -> Verdict {
        let compacted = site.served.compact_revision;
        match (&event.prev_kv, &expected.prev_kv) {
            (None, None) => Ok(()),
            (Some(came), _) if !self.request.prev_kv => Err(broken(
                "C16",
                format!("a previous value that was not requested: {came:?}"),
            )),
            (None, Some(_)) if !self.request.prev_kv => Ok(()),
            (Some(came), None) => Err(broken(
                "C16",
                format!("{came:?} is said to be before {}, where nothing was", show(expected)),
            )),
            (Some(came), Some(wanted)) => {
                site.note(Point::PrevKv);
                ensure(came == wanted, "C16", || {
                    format!("before {} was {wanted:?}, not {came:?}", show(expected))
                })
            }
            (None, Some(wanted)) => {
                site.note(Point::PrevKvCompacted);
                ensure(expected.revision - 1 < compacted, "C16", || {
                    let what = show(expected);
                    format!("{wanted:?} before {what} is missing; compacted is {compacted}")
                })
            }
        }
    }

    /// The difference of `event` from `next`, in whose place it was sent.
    fn astray(
        &self,
        event: &mvccpb::Event,
        next: Option<&Event>,
        response: &WatchResponse,
        from_history: bool,
        site: &Site<'_>,
    ) -> Violation {
        let revision = revision_of(event);
        let came = show_wire(event);
        let truly = site.model.events(revision, revision);
        let truly = truly.iter().find(|truly| is_same(event, truly));
        let is_wanted = truly.is_some_and(|truly| self.wants(truly));
        let what_next = next.map_or_else(|| "nothing".to_owned(), show);
        if truly.is_some() && !is_wanted {
            return broken("C9", format!("{came} came, which is not what it watches"));
        }
        if revision < self.start {
            return match (self.is_future, self.fired) {
                (true, _) => broken("C18", format!("{came} came to a watch from {} on", self.start)),
                (false, false) => broken("C14", format!("{came} came to a watch from {} on", self.start)),
                (false, true) => broken("C10", format!("{came} came where {what_next} is next")),
            };
        }
        let Some(truly) = truly else {
            return broken("C13", format!("{came} came, which never happened; next is {what_next}"));
        };
        let Some(next) = next else {
            return broken("C11", format!("{came} came again"));
        };
        if (truly.revision, truly.sub) < (next.revision, next.sub) {
            return broken("C11", format!("{came} came again, where {what_next} is next"));
        }
        if response.events.iter().any(|other| is_same(other, next)) {
            return broken("C10", format!("{came} came before {what_next}"));
        }
        let missed = format!("{came} came, and {what_next} did not");
        let compacted = site.served.compact_revision;
        if next.revision <= compacted {
            broken("C22", format!("{missed}; compacted is {compacted}"))
        } else if !self.fired && self.reached == self.start && self.request.start_revision != 0 {
            broken("C14", format!("{missed}, the first from revision {} on", self.start))
        } else if from_history {
            broken("C21", format!("{missed}, while it caught up"))
        } else {
            broken("C13", missed)
        }
    }
}

/// Whether both change the same key in the same transaction.
fn is_of_one_key(one: &Event, two: &Event) -> bool {
    (one.revision, &one.kv.key) == (two.revision, &two.kv.key)
}

/// Whether its own transaction changes the key again later.
fn is_superseded(event: &Event, history: &[Event]) -> bool {
    history
        .iter()
        .any(|other| is_of_one_key(event, other) && other.sub > event.sub)
}

/// Checks that a response's events are in order (C10), whatever their content.
fn ordered(events: &[mvccpb::Event]) -> Verdict {
    for pair in events.windows(2) {
        let [one, two] = pair else { continue };
        let (first, second) = (revision_of(one), revision_of(two));
        ensure(first <= second, "C10", || {
            format!("{} came after {}", show_wire(two), show_wire(one))
        })?;
    }
    Ok(())
}

fn kind_of(event: &mvccpb::Event) -> Option<EventKind> {
    match EventType::try_from(event.r#type) {
        Ok(EventType::Delete) => Some(EventKind::Delete),
        Ok(EventType::Put) => Some(EventKind::Put),
        Err(_) => None,
    }
}

fn revision_of(event: &mvccpb::Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

fn key_of(event: &mvccpb::Event) -> &[u8] {
    event.kv.as_ref().map_or(&[], |kv| &kv.key)
}

/// Whether both are of the same change.
fn is_same(event: &mvccpb::Event, expected: &Event) -> bool {
    revision_of(event) == expected.revision && key_of(event) == &expected.kv.key[..]
}

fn show(event: &Event) -> String {
    let kind = match event.kind {
        EventKind::Delete => "the deletion",
        EventKind::Put => "the put",
    };
    format!("{kind} of {:?} at revision {}", event.kv.key, event.revision)
}

fn show_wire(event: &mvccpb::Event) -> String {
    let kind = match kind_of(event) {
        Some(EventKind::Delete) => "the deletion",
        Some(EventKind::Put) => "the put",
        None => "an unknown change",
    };
    format!(
        "{kind} of {:?} at revision {}",
        event.kv.as_ref().map(|kv| &kv.key),
        revision_of(event)
    )
}
