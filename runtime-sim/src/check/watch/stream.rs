//! One watch stream: the requests in their order, and their answers. A watcher's events are checked in `watcher`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quoin_core::id::MemberId;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse};
use quoin_core::time::Instant;

use super::watcher::{KeyRange, Watcher};
use super::{Point, Site};
use crate::observe::{Verdict, Violation, ensure};
use quoin_model::etcd::State;

/// The watch id of a response that is about no watch or all of them.
const NO_WATCH: i64 = -1;

/// The reason for refusing a watch from a negative revision.
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

/// The reason for refusing a watch without keys.
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";

/// The reason for refusing a watch id that is in use.
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";

/// The beginning of the reason if permission is denied.
const DENIED: &str = "rpc error: code = ";

/// An unanswered request and its time. Cancellations of unknown watches, and progress requests, need no answer.
#[derive(Clone, Debug)]
enum Asked {
    Cancel(Instant, i64),
    Create(Instant, WatchCreateRequest),
    Progress,
}

/// A stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) member: MemberId,
    watchers: BTreeMap<i64, Watcher>,
    /// Watches that compaction ended: their ids stay in use until the client cancels them.
    compacted: BTreeSet<i64>,
    /// Watches that have ended.
    past: BTreeSet<i64>,
    asked: VecDeque<Asked>,
    /// The next id to be given out, unless it is in use.
    next_id: i64,
    /// The term of the last response.
    term: u64,
    /// The watch whose fragmented response is not complete.
    continues: Option<i64>,
}

impl Stream {
    pub(super) fn new(member: MemberId) -> Self {
        Self {
            member,
            watchers: BTreeMap::new(),
            compacted: BTreeSet::new(),
            past: BTreeSet::new(),
            asked: VecDeque::new(),
            next_id: 0,
            term: 0,
            continues: None,
        }
    }

    pub(super) fn watchers(&self) -> impl Iterator<Item = &Watcher> {
        self.watchers.values()
    }

    /// The client sends a request.
    pub(super) fn asked(&mut self, at: Instant, request: &WatchRequest) {
        let asked = match &request.request_union {
            Some(RequestUnion::CreateRequest(create)) => Asked::Create(at, create.clone()),
            Some(RequestUnion::CancelRequest(cancel)) => Asked::Cancel(at, cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => Asked::Progress,
            None => return,
        };
        self.asked.push_back(asked);
    }

    /// Checks a response.
    pub(super) fn take(&mut self, response: &WatchResponse, site: &mut Site<'_>) -> Verdict {
        let header = self.header(response, site)?;
        let WatchResponse { watch_id, .. } = *response;
        if let Some(id) = self.continues {
            let goes_on = watch_id == id && !response.events.is_empty() && !response.created && !response.canceled;
            ensure(goes_on, "C12", || {
                format!("a fragment for watch {id} said that more follows, but {watch_id} came: {response:?}")
            })?;
        }
        if response.created {
            return self.created(response, header, site);
        }
        if response.compact_revision != 0 {
            return self.compacted(response, site);
        }
        if response.canceled {
            return self.canceled(response, site);
        }
        if response.events.is_empty() {
            return self.progress(watch_id, header, site);
        }
        let watcher = self.live(watch_id)?;
        watcher.take(response, header, site).map_err(|mut violation| {
            violation.words = format!("watch {watch_id}: {}", violation.words);
            violation
        })?;
        self.continues = response.fragment.then_some(watch_id);
        Ok(())
    }

    /// The first answer that is overdue: what it belongs to, and what is missing.
    pub(super) fn stalled(&self, since: Instant, revision: i64, model: &State) -> Option<(String, String)> {
        let unanswered = self.asked.iter().find_map(|asked| match asked {
            Asked::Create(at, request) if *at <= since => Some(("a request".to_owned(), format!("{request:?}"))),
            Asked::Cancel(at, id) if *at <= since && self.is_taken(*id) => {
                Some(("a request".to_owned(), format!("the end of watch {id}")))
            }
            Asked::Cancel(..) | Asked::Create(..) | Asked::Progress => None,
        });
        unanswered.or_else(|| {
            self.watchers.iter().find_map(|(id, watcher)| {
                let missing = watcher.stalled(since, revision, model)?;
                Some((format!("watch {id}"), missing))
            })
        })
    }

    /// Checks the header (C20) and returns its revision.
    fn header(&mut self, response: &WatchResponse, site: &Site<'_>) -> Result<i64, Violation> {
        let Some(ResponseHeader {
            member_id,
            revision,
            raft_term,
            ..
        }) = response.header
        else {
            return Err(broken("C20", format!("a response without a header: {response:?}")));
        };
        ensure(member_id == self.member.0, "C20", || {
            format!("a header of member {member_id:x}")
        })?;
        let served = &site.served;
        ensure(self.term <= raft_term && raft_term <= served.term, "C20", || {
            let before = self.term;
            format!(
                "a header of term {raft_term}, after one of {before} and while the member is in {}",
                served.term
            )
        })?;
        self.term = raft_term;
        let shown = served.revision;
        ensure(revision <= shown, "C20", || {
            format!("a header of revision {revision}, while the member shows {shown}")
        })?;
        let ended = response.compact_revision != 0;
        ensure(ended || revision > 0, "C20", || {
            format!("a header of revision {revision}: {response:?}")
        })?;
        Ok(revision)
    }

    fn created(&mut self, response: &WatchResponse, header: i64, site: &mut Site<'_>) -> Verdict {
        let is_bare = response.events.is_empty() && response.compact_revision == 0 && !response.fragment;
        ensure(is_bare, "C20", || {
            format!("the creation of a watch brings more than that: {response:?}")
        })?;
        let request = loop {
            match self.asked.pop_front() {
                Some(Asked::Create(_, request)) => break request,
                Some(Asked::Cancel(_, id)) => ensure(!self.is_taken(id), "C20", || {
                    format!("a request after the cancellation of watch {id} was answered first")
                })?,
                Some(Asked::Progress) => {}
                None => {
                    return Err(broken(
                        "C20",
                        format!("a watch is created without a request: {response:?}"),
                    ));
                }
            }
        };
        let WatchResponse {
            watch_id,
            canceled,
            ref cancel_reason,
            ..
        } = *response;
        // Another checker decides whether that was right.
        if canceled && watch_id == NO_WATCH && cancel_reason.starts_with(DENIED) {
            return Ok(());
        }
        let refusal = self.refusal(&request);
        if let Some((reason, point)) = refusal {
            let refused = canceled && watch_id == NO_WATCH && cancel_reason == reason;
            site.note(point);
            return ensure(refused, "C20", || {
                format!("{request:?} is to be refused with {reason:?}, but the answer is {response:?}")
            });
        }
        ensure(!canceled, "C20", || {
            format!("{request:?} is refused without a reason: {response:?}")
        })?;
        let id = self.id_for(request.watch_id);
        ensure(watch_id == id, "C20", || {
            format!("{request:?} is to become watch {id}, but became {watch_id}")
        })?;
        let Some(keys) = KeyRange::new(&request) else {
            return Ok(());
        };
        site.note(Point::Created);
        self.past.remove(&id);
        self.watchers.insert(id, Watcher::new(request, keys, header, site));
        Ok(())
    }

    /// The reason for refusing a request, if it must be refused.
    fn refusal(&self, request: &WatchCreateRequest) -> Option<(&'static str, Point)> {
        if request.start_revision < 0 {
            Some((COMPACTED, Point::RevisionRefused))
        } else if KeyRange::new(request).is_none() {
            Some((EMPTY_RANGE, Point::RangeRefused))
        } else if request.watch_id != 0 && self.is_taken(request.watch_id) {
            Some((DUPLICATE_ID, Point::IdRefused))
        } else {
            None
        }
    }

    fn is_taken(&self, id: i64) -> bool {
        self.watchers.contains_key(&id) || self.compacted.contains(&id)
    }

    /// The id of a watch that requests `asked`; 0 requests the next free one.
    fn id_for(&mut self, asked: i64) -> i64 {
        if asked != 0 {
            return asked;
        }
        while self.is_taken(self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    fn compacted(&mut self, response: &WatchResponse, site: &mut Site<'_>) -> Verdict {
        let id = response.watch_id;
        let watcher = self.live(id)?;
        ensure(response.events.is_empty(), "C14", || {
            format!("watch {id} is cancelled by compaction and gets events: {response:?}")
        })?;
        let header = response.header.as_ref().map_or(0, |header| header.revision);
        let is_bare = response.canceled && response.cancel_reason.is_empty() && header == 0;
        ensure(is_bare, "C20", || {
            format!("the end of watch {id} by compaction must have no reason and no revision: {response:?}")
        })?;
        watcher
            .lost_to(response.compact_revision, site)
            .map_err(|mut violation| {
                violation.words = format!("watch {id}: {}", violation.words);
                violation
            })?;
        self.watchers.remove(&id);
        self.compacted.insert(id);
        self.past.insert(id);
        Ok(())
    }

    fn canceled(&mut self, response: &WatchResponse, site: &mut Site<'_>) -> Verdict {
        let id = response.watch_id;
        ensure(response.events.is_empty() && !response.fragment, "C20", || {
            format!("the end of watch {id} brings events: {response:?}")
        })?;
        ensure(self.is_taken(id), "C20", || {
            format!("the end of watch {id}, which is no watch: {response:?}")
        })?;
        if response.cancel_reason.is_empty() {
            self.answer_cancel(id)?;
            site.note(Point::Cancelled);
        }
        self.watchers.remove(&id);
        self.compacted.remove(&id);
        self.past.insert(id);
        Ok(())
    }

    /// Takes the client's cancellation of `id`. No earlier request may still need an answer.
    fn answer_cancel(&mut self, id: i64) -> Verdict {
        loop {
            match self.asked.pop_front() {
                Some(Asked::Cancel(_, asked)) if asked == id => return Ok(()),
                Some(Asked::Cancel(_, other)) => ensure(!self.is_taken(other), "C20", || {
                    format!("the cancellation of watch {other} got no answer before that of {id}")
                })?,
                Some(Asked::Create(_, request)) => {
                    return Err(broken(
                        "C20",
                        format!("{request:?} got no answer before the end of watch {id}"),
                    ));
                }
                Some(Asked::Progress) => {}
                None => {
                    return Err(broken(
                        "C20",
                        format!("watch {id} is cancelled without a reason and without a request"),
                    ));
                }
            }
        }
    }

    fn progress(&mut self, id: i64, revision: i64, site: &mut Site<'_>) -> Verdict {
        if id != NO_WATCH || self.watchers.contains_key(&NO_WATCH) {
            let watcher = self.live(id)?;
            ensure(watcher.wants_progress(), "C15", || {
                format!("watch {id} gets progress that it did not request")
            })?;
            site.note(Point::Progress);
            return watcher.progress(id, revision, site.model);
        }
        let place = self.asked.iter().position(|asked| matches!(asked, Asked::Progress));
        ensure(place.is_some(), "C15", || {
            format!("the stream gets progress to {revision} without a request")
        })?;
        let before = self.asked.drain(..=place.unwrap_or(0));
        for asked in before {
            if let Asked::Create(_, request) = asked {
                return Err(broken("C20", format!("a request after {request:?} was answered first")));
            }
        }
        site.note(Point::StreamProgress);
        for (id, watcher) in &mut self.watchers {
            watcher.progress(*id, revision, site.model)?;
        }
        Ok(())
    }

    /// The watch that a response is for.
    fn live(&mut self, id: i64) -> Result<&mut Watcher, Violation> {
        let was = self.past.contains(&id);
        self.watchers.get_mut(&id).ok_or_else(|| {
            let why = if was { "after its end" } else { "before its creation" };
            broken("C20", format!("a response for watch {id} {why}"))
        })
    }
}

/// A violation of `checker`.
pub(super) fn broken(checker: &'static str, words: String) -> Violation {
    Violation { checker, words }
}
