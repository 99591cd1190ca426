//! Frees the space of compactions, step by step, so that a large one delays nothing else. Clients of physical
//! compactions wait here until the space is free.

use crate::bug;
use crate::error::Error;
use crate::member::{BatchId, Token};
use crate::mvcc::CompactProgress;
use crate::store;
use crate::time::Instant;

use super::writes::Writes;
use super::{CompactionEnd, Node, Replies, Response};

/// The physical part of compaction.
#[derive(Debug)]
pub(super) struct SpaceRelease {
    /// The revision of the last compaction. Its superseded rows are deleted, or being deleted.
    revision: i64,
    /// When their deletion began; `None` once it is finished.
    begun: Option<Instant>,
    /// When the next step is due; `None` if there is no next step.
    step_at: Option<Instant>,
    /// Clients that wait until the last row is deleted from the store.
    waiting: Vec<(Token, store::Response)>,
    /// Clients that wait until the table has written this batch, which has the last of the deletions.
    written: Vec<(BatchId, Token, store::Response)>,
}

impl SpaceRelease {
    /// For a store compacted to `revision`. A compaction that a restart interrupted continues at once.
    pub(super) fn new(revision: i64, now: Instant) -> Self {
        Self {
            revision,
            begun: None,
            step_at: Some(now),
            waiting: Vec::new(),
            written: Vec::new(),
        }
    }

    /// When the next step is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.step_at
    }

    /// The store is compacted to `revision`: begins to free the space, unless that began before.
    pub(super) fn compacted_to(&mut self, now: Instant, revision: i64) {
        if revision != self.revision {
            self.revision = revision;
            self.step_at = Some(now);
        }
    }

    /// A received snapshot, compacted to `revision`, replaced the state.
    pub(super) fn restored(&mut self, now: Instant, revision: i64) {
        self.revision = revision;
        self.begun = None;
        self.step_at = Some(now);
    }

    /// A client waits until the space is free.
    pub(super) fn wait(&mut self, token: Token, response: store::Response) {
        self.waiting.push((token, response));
    }

    /// A client cancelled its request.
    pub(super) fn cancel(&mut self, token: Token) {
        self.waiting.retain(|(waiting, _)| *waiting != token);
        self.written.retain(|(_, waiting, _)| *waiting != token);
    }

    /// `batch` and all earlier ones are written: answers the compactions whose last rows were in them.
    pub(super) fn stored(&mut self, batch: BatchId, replies: &mut Replies) {
        let written = self.written.extract_if(.., |(last, ..)| *last <= batch);
        replies.extend(written.map(|(_, token, response)| (token, Ok(Response::Applied(response)))));
    }

    /// Answers every client that waits here, because the member ended.
    pub(super) fn stop(&mut self, replies: &mut Replies) {
        let waiting = self.waiting.drain(..).map(|(token, _)| token);
        let tokens = waiting.chain(self.written.drain(..).map(|(_, token, _)| token));
        replies.extend(tokens.map(|token| (token, Err(Error::Stopped))));
    }

    /// The store has nothing left to delete: clients are answered once the table has written all deletions.
    fn finished(&mut self, writes: &Writes, replies: &mut Replies) {
        let last = if writes.has_pending() {
            writes.next()
        } else {
            writes.last()
        };
        let waiting = self.waiting.drain(..);
        self.written
            .extend(waiting.map(|(token, response)| (last, token, response)));
        if writes.outstanding() == 0 && !writes.has_pending() || bug!(AnswersCompactionEarly) {
            self.stored(last, replies);
        }
    }
}

impl Node {
    /// Deletes some of the superseded rows.
    pub(super) fn compact_step(&mut self, now: Instant) {
        let next = now + self.config.compaction_sleep_interval;
        self.compaction.step_at = None;
        if self.writes.is_full() {
            self.compaction.step_at = Some(next);
            return;
        }
        let limit = self.config.compaction_batch_limit;
        match self.store.compact_step(limit, &mut self.applied) {
            CompactProgress::Idle => self.compaction.finished(&self.writes, &mut self.replies),
            CompactProgress::More => {
                self.tally.compaction_steps += 1;
                self.compaction.begun.get_or_insert(now);
                self.compaction.step_at = Some(next);
                self.writes.add(limit, 0);
            }
            CompactProgress::Finished(revision) => {
                self.tally.compaction_steps += 1;
                let begun = self.compaction.begun.take().unwrap_or(now);
                self.tally.compacted = Some(CompactionEnd {
                    revision,
                    took: now.saturating_since(begun),
                });
                self.writes.add(limit, 0);
                self.compaction.finished(&self.writes, &mut self.replies);
            }
        }
    }
}
