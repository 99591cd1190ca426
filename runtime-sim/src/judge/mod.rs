//! Watches a member from outside and says when it breaks a promise.
//!
//! It knows what clients asked and were told, what readers could see, and what was handed to the disk; nothing of how the
//! member works. What it asserts, by the numbers of the reliability page's checkers:
//!
//! - every acknowledged write is there, at its revision, with what it was answered (C1, C39);
//! - a revision, once seen, never means anything else; no value is written twice; unanswered requests happened once or
//!   not at all;
//! - revision, compact revision, applied index, term and vote never go back (C36, C38);
//! - nothing is applied before it is durable (C37);
//! - after every restart the state is that of a store that applied the same log and never crashed (C40, C43);
//! - leases are there until a client ended them or their time was over, with their keys.

mod answers;
pub mod history;
mod leases;
mod witness;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use quoin_core::error::Error;
use quoin_core::member::{BatchId, Status, Token};
use quoin_core::mvcc::{Event, HashKv};
use quoin_core::node::{Request, Response};
use quoin_core::proto::etcdserverpb::RangeRequest;
use quoin_core::proto::raftpb::{Entry, HardState};
use quoin_core::store::{StoreConfig, View};
use quoin_core::time::Instant;

use crate::process::Start;
use crate::workload::values_of;
use history::History;
use leases::LeaseBook;
use witness::Witness;

/// A broken promise, in words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation(pub String);

/// Whether all is well.
pub type Verdict = Result<(), Violation>;

/// A violation with these words, unless `holds`.
///
/// # Errors
/// If it does not hold.
pub fn ensure(holds: bool, words: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Violation(words())) }
}

/// A request under way.
#[derive(Clone, Debug)]
struct Asked {
    request: Request,
    at: Instant,
    /// What everybody could know when it was asked: the answer is not older.
    revision: i64,
    applied_index: u64,
}

/// How far things have come that never go back.
#[derive(Clone, Copy, Debug, Default)]
struct Floors {
    compact_revision: i64,
    applied_index: u64,
    hard_state: HardState,
    /// The last entry on disk, as the lane reported.
    durable_index: u64,
}

/// The judge of one member.
pub struct Judge {
    history: History,
    witness: Witness,
    leases: LeaseBook,
    asked: BTreeMap<Token, Asked>,
    /// Which acknowledged request made a revision.
    claimed: BTreeMap<i64, Token>,
    /// Values of writes that were refused.
    refused: BTreeSet<Bytes>,
    floors: Floors,
    hashes: BTreeMap<(i64, i64), HashKv>,
    /// Batches handed to the log and not reported: number, hard state, last entry.
    handed: VecDeque<(BatchId, Option<HardState>, Option<u64>)>,
    /// The newest state that readers see in this life.
    seen: Option<View>,
    /// Whether the state of this life was compared in full.
    compared: bool,
    views: u64,
    /// Whether it may know what the lanes report; without, it is a client like others.
    sees_lanes: bool,
}

/// One view in so many is compared in full.
const COMPARE_EVERY: u64 = 32;

impl Judge {
    /// The judge of a member that was never started.
    #[must_use]
    pub fn new(config: StoreConfig, sees_lanes: bool) -> Self {
        Self {
            history: History::default(),
            witness: Witness::new(config),
            leases: LeaseBook::default(),
            asked: BTreeMap::new(),
            claimed: BTreeMap::new(),
            refused: BTreeSet::new(),
            floors: Floors {
                compact_revision: -1,
                ..Floors::default()
            },
            hashes: BTreeMap::new(),
            handed: VecDeque::new(),
            seen: None,
            compared: false,
            views: 0,
            sees_lanes,
        }
    }

    /// The newest revision anybody could know.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.history.last()
    }

    /// The newest state that readers see.
    #[must_use]
    pub fn seen(&self) -> Option<&View> {
        self.seen.as_ref()
    }

    /// Whether a client still waits for this answer.
    #[must_use]
    pub fn waits(&self, token: Token) -> bool {
        self.asked.contains_key(&token)
    }

    /// How many requests are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.asked.len()
    }

    /// The member was started.
    pub fn started(&mut self, start: &Start) -> Verdict {
        let (recovered, floor) = (&start.recovered, self.floors.hard_state);
        let found = recovered.hard_state;
        let voted = found.term == floor.term && floor.vote != 0;
        ensure(found.term >= floor.term && (!voted || found.vote == floor.vote), || {
            format!("term and vote were {floor:?} and now are {found:?}")
        })?;
        self.floors.hard_state = HardState { commit: 0, ..found };
        let durable = if self.sees_lanes { self.floors.durable_index } else { 0 };
        self.witness
            .recovered(recovered, self.floors.applied_index.max(durable))?;
        let last = recovered
            .entries
            .last()
            .map_or(recovered.snapshot_index, |entry| entry.index);
        self.floors.durable_index = last;
        ensure(recovered.applied <= last, || {
            format!("the table is at entry {}, the log ends at {last}", recovered.applied)
        })?;
        self.compare_keys(&start.view)
    }

    /// The process is gone; nobody who still waits will ever know.
    pub fn ended(&mut self, now: Instant) {
        for (_, asked) in std::mem::take(&mut self.asked) {
            self.forget(&asked.request, now);
        }
        self.handed.clear();
        self.seen = None;
        self.compared = false;
    }

    /// A client asks.
    pub fn asked(&mut self, token: Token, request: &Request, at: Instant) {
        if let Request::LeaseRevoke(revoke) = request {
            self.leases.asked_to_end(revoke.id);
        }
        let applied_index = self.floors.applied_index;
        let asked = Asked {
            request: request.clone(),
            at,
            revision: self.history.last(),
            applied_index,
        };
        self.asked.insert(token, asked);
    }

    /// A batch is handed to the log.
    pub fn handed(&mut self, batch: BatchId, state: Option<HardState>, entries: &[Entry], now: Instant) -> Verdict {
        for lease in self.witness.handed(entries) {
            self.leases.ends(lease, now)?;
        }
        self.handed
            .push_back((batch, state, entries.last().map(|entry| entry.index)));
        Ok(())
    }

    /// The log's lane reports this batch and every one before it durable.
    pub fn durable(&mut self, batch: BatchId) {
        while let Some((_, state, last)) = self.handed.pop_front_if(|(id, ..)| *id <= batch) {
            if let Some(state) = state {
                self.floors.hard_state = HardState { commit: 0, ..state };
            }
            self.floors.durable_index = last.unwrap_or(self.floors.durable_index);
        }
    }

    /// Readers and watchers see a new state.
    pub fn published(&mut self, view: &View, events: &[Event], status: Status) -> Verdict {
        self.history.learn(events)?;
        self.check_refused(events)?;
        let (revision, known) = (view.kv.revision(), self.history.last());
        ensure(revision <= known, || {
            format!("readers see revision {revision}, and no event told of it")
        })?;
        let before = self.seen.as_ref().map_or(0, |seen| seen.kv.revision());
        ensure(revision >= before, || {
            format!("readers see revision {revision} after {before}")
        })?;
        if self.sees_lanes {
            ensure(view.applied_index <= self.floors.durable_index, || {
                format!(
                    "entry {} is applied and {} the last on disk",
                    view.applied_index, self.floors.durable_index
                )
            })?;
        }
        if status.published {
            self.check_floors(view)?;
            self.views += 1;
            if !self.compared || self.views.is_multiple_of(COMPARE_EVERY) {
                self.compared = true;
                self.compare(view)?;
            }
        }
        self.seen = Some(view.clone());
        Ok(())
    }

    /// The newest state is compared in full.
    pub fn compare_seen(&mut self) -> Verdict {
        match self.seen.clone() {
            Some(view) => self.compare(&view),
            None => ensure(false, || "readers see nothing".to_owned()),
        }
    }

    /// A client has its answer.
    pub fn answered(&mut self, token: Token, result: Result<Response, Error>, now: Instant) -> Verdict {
        let asked = self.asked.remove(&token);
        let Some(asked) = asked else {
            return ensure(false, || format!("request {} is answered twice", token.0));
        };
        self.forget(&asked.request, now);
        match result {
            Ok(response) => self.succeeded(token, asked, response),
            Err(error) => self.failed(&asked, error),
        }
    }

    /// Another member started from the same disk and, left alone, has come to `view`.
    pub fn compare_twin(&self, view: &View) -> Verdict {
        let Some(seen) = &self.seen else { return Ok(()) };
        let revision = view.kv.revision().min(seen.kv.revision());
        let hashes = (view.kv.hash_kv(revision), seen.kv.hash_kv(revision));
        let is_empty = self.history.state(revision).is_none_or(|state| state.is_empty());
        let differ = view.kv.compact_revision() != seen.kv.compact_revision();
        ensure(is_empty || differ || hashes.0 == hashes.1, || {
            format!("two starts from one disk have hashes {hashes:?}")
        })
    }

    fn forget(&mut self, request: &Request, now: Instant) {
        if let Request::LeaseRevoke(revoke) = request {
            self.leases.stopped_asking(revoke.id, now);
        }
    }

    /// Nothing was refused and written all the same.
    fn check_refused(&self, events: &[Event]) -> Verdict {
        match events.iter().find(|event| self.refused.contains(&event.kv.value)) {
            Some(event) => ensure(false, || format!("a write was refused and happened: {:?}", event.kv)),
            None => Ok(()),
        }
    }

    /// A write was refused: it did not happen.
    fn refused(&mut self, request: &Request) -> Verdict {
        for value in values_of(request).into_keys() {
            let written = self.history.written_at(&value);
            ensure(written.is_none(), || {
                format!("{value:?} was refused and is in revision {written:?}")
            })?;
            self.refused.insert(value);
        }
        Ok(())
    }

    /// A member that serves clients has everything that was ever seen.
    fn check_floors(&mut self, view: &View) -> Verdict {
        let (revision, known) = (view.kv.revision(), self.history.last());
        ensure(revision == known, || {
            format!("the revision went back from {known} to {revision}")
        })?;
        let (compacted, floors) = (view.kv.compact_revision(), &mut self.floors);
        ensure(compacted >= floors.compact_revision, || {
            format!(
                "the compact revision went back from {} to {compacted}",
                floors.compact_revision
            )
        })?;
        floors.compact_revision = compacted;
        ensure(view.applied_index >= floors.applied_index, || {
            format!(
                "the applied index went back from {} to {}",
                floors.applied_index, view.applied_index
            )
        })?;
        floors.applied_index = view.applied_index;
        Ok(())
    }

    fn compare(&mut self, view: &View) -> Verdict {
        self.witness.compare(view)?;
        self.leases.check(view, &self.witness)?;
        self.compare_keys(view)?;
        if view.kv.key_count() == 0 {
            return Ok(());
        }
        let hash = view
            .kv
            .hash_kv(0)
            .map_err(|error| Violation(format!("no hash: {error}")))?;
        let known = *self
            .hashes
            .entry((hash.hash_revision, hash.compact_revision))
            .or_insert(hash);
        ensure(known == hash, || format!("the hash was {known:?} and now is {hash:?}"))
    }

    /// Compares a state, and the history it still has, with what is known of them.
    fn compare_keys(&self, view: &View) -> Verdict {
        let (revision, compacted) = (view.kv.revision(), view.kv.compact_revision());
        let Some(known) = self.history.state(revision) else {
            return ensure(false, || format!("nothing is known of revision {revision}"));
        };
        let everything = RangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            ..RangeRequest::default()
        };
        let found = view
            .kv
            .range(&everything)
            .map_err(|error| Violation(format!("no range: {error}")))?;
        ensure(found.kvs.iter().eq(known.values()), || {
            format!(
                "at revision {revision} the keys are {:?} and should be {:?}",
                found.kvs,
                known.values()
            )
        })?;
        let kept = view
            .kv
            .events_since(compacted + 1, usize::MAX)
            .map(|event| (event.kind(), event.kv()));
        let kept: Vec<_> = kept.collect();
        let changes = self
            .history
            .changes_after(compacted)
            .take_while(|(_, kv)| kv.mod_revision <= revision);
        ensure(kept.iter().eq(changes), || {
            format!("the history after revision {compacted} is not what it was: {kept:?}")
        })
    }
}
