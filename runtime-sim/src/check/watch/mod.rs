//! Watches (C9–C23): every response is compared, when it leaves the member, with the history of the reference model.
//!
//! - C9 an event has one of the requested keys and kinds
//! - C10 events come in order
//! - C11 no event comes twice
//! - C12 a revision is never split over two responses, except in marked fragments
//! - C13 no event is missing, invented or different
//! - C14 a watch begins exactly at the requested revision, or is cancelled as compacted without an event
//! - C15 progress to a revision means that every event up to it has been sent and none follows
//! - C16 a previous value is right, and sent exactly if it was requested, existed and is not compacted
//! - C17 versions and creation revisions are right
//! - C18 a watch of a future revision gets nothing from before it, and no progress
//! - C19 after healing, a watch on a healthy member gets everything in time, or is cancelled
//! - C20 headers are valid, the creation comes first and as requested, the cancellation last and with a reason
//! - C21 a slow watch skips nothing
//! - C22 compaction ends no watch that lost nothing by it, and removes no event at or after its revision
//!
//! C23 (a watch that requires a leader is cancelled if there is none) is decided by the serving half from a header of
//! the call; the simulator has no serving half, so it cannot be observed.
//!
//! Each watch has a cursor into the history. The cost of a response is that of the history between two places of its
//! cursor; no other observation looks at watches, except progress of a whole stream and the deadlines after healing.

mod stream;
#[cfg(test)]
mod tests;
mod watcher;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quoin_core::id::MemberId;
use quoin_core::store::View;
use quoin_core::time::Instant;

use self::stream::Stream;
use super::sometimes::{Sometimes, situations};
use super::{Checker, Truth};
use crate::observe::{Observation, StreamId, Verdict, ensure};
use quoin_model::etcd::State;

/// Election timeouts without disturbance after which every watch must have all its events.
const PATIENCE_ELECTIONS: u32 = 10;

situations! {
    Created "a watch is created",
    CaughtUp "a watch of the past catches up",
    FutureFired "a watch of the future gets its first event",
    StartsAtCompacted "a watch starts at the compacted revision",
    CompactedAtStart "a watch is told that its start is compacted",
    CompactedLater "a watch is told of compaction after it got events",
    Batch "a response holds several revisions",
    Fragment "a response comes in fragments",
    Progress "a watch hears of its own progress",
    StreamProgress "a stream hears of progress",
    PrevKv "a previous value is given",
    PrevKvCompacted "a previous value is compacted",
    RangeRefused "a watch of no keys is refused",
    IdRefused "a watch id is refused",
    RevisionRefused "a watch of a negative revision is refused",
    Cancelled "a watch is cancelled by its client",
    Restored "a snapshot is installed while watches are open",
    RestoredBeforeFuture "a watch of the future sees a snapshot installed",
    EndedWatched "a member ends with watches open",
    InTime "a watch has everything in time after healing",
}

/// The facts about a running member.
#[derive(Debug, Default)]
struct Served {
    /// The revision that its watchers may have reached.
    revision: i64,
    /// Its compact revision; -1 if there is none.
    compact_revision: i64,
    /// All compact revisions of this life: a response may be from before the last.
    compacted_at: BTreeSet<i64>,
    /// Its term.
    term: u64,
    /// The revision of the last snapshot that it installed.
    restored_to: i64,
}

impl Served {
    fn shows(&mut self, view: &View) {
        self.revision = view.kv.revision();
        self.compact_revision = view.kv.compact_revision();
        self.compacted_at.insert(self.compact_revision);
    }
}

/// The deadline after healing.
#[derive(Debug)]
struct Owed {
    core: Vec<MemberId>,
    patience: Duration,
    since: Instant,
    /// The revision that every watch must reach.
    revision: i64,
}

/// Checks every response on every watch stream.
#[derive(Debug)]
pub struct WatchChecker {
    members: BTreeMap<MemberId, Served>,
    streams: BTreeMap<StreamId, Stream>,
    /// The present deadline.
    due: Instant,
    owed: Option<Owed>,
    cluster: Option<u64>,
    points: Sometimes,
}

impl Default for WatchChecker {
    fn default() -> Self {
        Self {
            members: BTreeMap::new(),
            streams: BTreeMap::new(),
            due: Instant::MAX,
            owed: None,
            cluster: None,
            points: Sometimes::new(POINTS),
        }
    }
}

impl Checker for WatchChecker {
    fn see(&mut self, at: Instant, seen: &Observation<'_>, truth: &Truth) -> Verdict {
        if at >= self.due && truth.healed().is_none() {
            // A new cluster was formed since: there is no deadline until it heals again.
            self.owed = None;
            self.due = Instant::MAX;
        }
        if at >= self.due
            && let Some(owed) = &self.owed
        {
            // Events need a leader. That there is one in time is another promise (L1, L4).
            let due = truth.led_since().map_or(at, |since| since.max(owed.since)) + owed.patience;
            self.due = self.due.max(due);
        }
        self.look(at, seen, truth.model())
    }
}

impl WatchChecker {
    /// How often each rare situation was met.
    #[must_use]
    pub fn sometimes(&self) -> &Sometimes {
        &self.points
    }

    /// Checks an observation against the history of `model`.
    fn look(&mut self, at: Instant, seen: &Observation<'_>, model: &State) -> Verdict {
        if at >= self.due {
            self.collect(at, model)?;
        }
        match *seen {
            Observation::Started {
                member,
                recovered,
                view,
            } => {
                self.end(member);
                let mut served = Served {
                    term: recovered.hard_state.term,
                    ..Served::default()
                };
                served.shows(view);
                self.members.insert(member, served);
            }
            Observation::Published {
                member,
                view,
                status,
                restored,
                ..
            } => {
                let served = self.members.entry(member).or_default();
                served.shows(view);
                served.term = served.term.max(status.term);
                if restored {
                    served.restored_to = view.kv.revision();
                    self.restored(member);
                }
            }
            Observation::Faulted { member, .. } | Observation::Ended { member, .. } => self.end(member),
            Observation::StreamOpened { stream, member, .. } => {
                self.streams.insert(stream, Stream::new(member));
            }
            Observation::WatchRequested { stream, request } => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.asked(at, request);
                }
            }
            Observation::Watched { stream, response } => return self.watched(at, stream, response, model),
            Observation::StreamClosed { stream } => {
                self.streams.remove(&stream);
            }
            Observation::Healed {
                core, election_timeout, ..
            } => {
                self.owed = Some(Owed {
                    core: core.to_vec(),
                    patience: election_timeout * PATIENCE_ELECTIONS,
                    since: at,
                    revision: 0,
                });
                self.owe(at, model);
            }
            _ => {}
        }
        Ok(())
    }

    fn watched(
        &mut self,
        at: Instant,
        stream: StreamId,
        response: &quoin_core::proto::etcdserverpb::WatchResponse,
        model: &State,
    ) -> Verdict {
        let Some(books) = self.streams.get_mut(&stream) else {
            return Ok(());
        };
        let served = self.members.entry(books.member).or_default();
        let cluster = response.header.as_ref().map_or(0, |header| header.cluster_id);
        let first = *self.cluster.get_or_insert(cluster);
        ensure(cluster == first, "C20", || {
            format!("{stream:?}: a response of cluster {cluster:x}, where all others are of {first:x}")
        })?;
        let mut site = Site {
            at,
            served,
            model,
            points: &mut self.points,
        };
        books.take(response, &mut site).map_err(|mut violation| {
            violation.words = format!("{stream:?} of member {}: {}", books.member, violation.words);
            violation
        })
    }

    /// A member installed a snapshot.
    fn restored(&mut self, member: MemberId) {
        for stream in self.streams.values().filter(|stream| stream.member == member) {
            for watcher in stream.watchers() {
                self.points.note(Point::Restored as usize);
                if watcher.waits_for_the_future() {
                    self.points.note(Point::RestoredBeforeFuture as usize);
                }
            }
        }
    }

    /// A member ended, and its streams with it.
    fn end(&mut self, member: MemberId) {
        let before = self.streams.len();
        self.streams.retain(|_, stream| stream.member != member);
        if self.streams.len() < before {
            self.points.note(Point::EndedWatched as usize);
        }
        self.members.remove(&member);
    }

    /// From now on, every event so far must reach every watch in time.
    fn owe(&mut self, at: Instant, model: &State) {
        if let Some(owed) = &mut self.owed {
            owed.since = at;
            owed.revision = model.revision();
            self.due = at + owed.patience;
        }
    }

    /// The present deadline has passed (C19).
    fn collect(&mut self, at: Instant, model: &State) -> Verdict {
        let Some(owed) = &self.owed else { return Ok(()) };
        for (id, stream) in &self.streams {
            if !owed.core.contains(&stream.member) {
                continue;
            }
            let patience = owed.patience;
            if let Some((what, missing)) = stream.stalled(owed.since, owed.revision, model) {
                return ensure(false, "C19", || {
                    format!(
                        "{id:?} of member {}: {what} still waits for {missing}, {patience:?} after it was owed",
                        stream.member
                    )
                });
            }
            for _ in stream.watchers() {
                self.points.note(Point::InTime as usize);
            }
        }
        self.owe(at, model);
        Ok(())
    }
}

/// The place and time of a response.
struct Site<'a> {
    at: Instant,
    served: &'a Served,
    model: &'a State,
    points: &'a mut Sometimes,
}

impl Site<'_> {
    fn note(&mut self, point: Point) {
        self.points.note(point as usize);
    }
}
