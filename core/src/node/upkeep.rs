//! What a node does by itself as time passes: it frees the space of compactions, compacts by its retention, settles the
//! cluster version, and gives up on requests that are late.

use std::time::Duration;

use crate::error::Error;
use crate::member::{BatchId, Origin, Timer};
use crate::mvcc::CompactProgress;
use crate::proto::etcdserverpb::{CompactionRequest, InternalRaftRequest};
use crate::proto::membershippb::ClusterVersionSetRequest;
use crate::time::Instant;
use crate::version::Version;

use super::{CompactionEnd, Node, Response};

/// How often the leader compares the members' versions.
const VERSION_INTERVAL: Duration = Duration::from_secs(4);

/// The version of a cluster while some member's is unknown.
const VERSION_UNKNOWN: Version = Version {
    major: 3,
    minor: 0,
    patch: 0,
};

impl Node {
    /// Frees some of the space of a compaction.
    pub(super) fn compact_step(&mut self, now: Instant) {
        let next = now + self.config.compaction_sleep_interval;
        if self.writes.is_full() {
            return self.member.timers.set(Timer::CompactStep, next);
        }
        let limit = self.config.compaction_batch_limit;
        match self.store.compact_step(limit, &mut self.applied) {
            CompactProgress::Idle => self.compaction_finished(),
            CompactProgress::More => {
                self.tally.compaction_steps += 1;
                self.compaction.begun.get_or_insert(now);
                self.writes.add(limit, 0);
                self.member.timers.set(Timer::CompactStep, next);
            }
            CompactProgress::Finished(revision) => {
                self.tally.compaction_steps += 1;
                let begun = self.compaction.begun.take().unwrap_or(now);
                self.tally.compacted = Some(CompactionEnd {
                    revision,
                    took: now.saturating_since(begun),
                });
                self.writes.add(limit, 0);
                self.compaction_finished();
            }
        }
    }

    /// `batch` and every one before it is written: answers compactions whose last rows were in them.
    pub(super) fn answer_compactions(&mut self, batch: BatchId) {
        let written: Vec<_> = self
            .compaction
            .written
            .extract_if(.., |(last, ..)| *last <= batch)
            .collect();
        for (_, token, response) in written {
            self.reply(token, Ok(Response::Applied(response)));
        }
    }

    /// Looks whether it is time to compact.
    pub(super) fn auto_compact(&mut self, now: Instant) {
        let (leads, revision) = (self.member.leads(), self.store.view().kv.revision());
        let Some(compactor) = &mut self.compactor else { return };
        self.member.timers.set(Timer::AutoCompact, now + compactor.interval());
        let Some(revision) = compactor.look(now, revision, leads) else {
            return;
        };
        let compaction = CompactionRequest {
            revision,
            physical: false,
        };
        let request = InternalRaftRequest {
            compaction: Some(compaction),
            ..InternalRaftRequest::default()
        };
        let deadline = now + self.config.member.request_timeout();
        if self
            .member
            .propose(now, Origin::AutoCompact, deadline, request)
            .is_err()
        {
            compactor.finished(false);
        }
    }

    /// The leader settles on the least version of all members; it never lowers it.
    pub(super) fn decide_version(&mut self, now: Instant) {
        self.member.timers.set(Timer::Version, now + VERSION_INTERVAL);
        if !self.member.leads() || self.version_proposed {
            return;
        }
        let cluster = self.store.view().cluster;
        let own = Version {
            patch: 0,
            ..self.config.server_version
        };
        let version_of = |id| {
            if id == self.member.id() {
                Some(own)
            } else {
                self.peer_versions.get(&id).copied()
            }
        };
        let versions: Option<Vec<_>> = cluster.members().map(|member| version_of(member.id)).collect();
        let least = versions.and_then(|versions| versions.into_iter().min());
        let present = cluster.version();
        let downgrading = cluster.downgrade().is_some_and(|downgrade| downgrade.enabled);
        let decided = match (least.map(|least| Version { patch: 0, ..least }), present) {
            (least, None) => least.unwrap_or(VERSION_UNKNOWN),
            (Some(least), Some(present)) if least > present && !downgrading => least,
            _ => return,
        };
        let set = ClusterVersionSetRequest {
            ver: decided.to_string(),
        };
        let request = InternalRaftRequest {
            cluster_version_set: Some(set),
            ..InternalRaftRequest::default()
        };
        let deadline = now + self.config.member.request_timeout();
        self.version_proposed = self.member.propose(now, Origin::Version, deadline, request).is_ok();
    }

    /// Answers requests that are late.
    pub(super) fn expire_requests(&mut self, now: Instant) {
        self.member.expire_requests(now, &mut self.outputs);
        self.answer_late_renewals(|renewal| renewal.deadline <= now, Err(Error::Timeout));
    }

    /// There is no space left to free: who waits for that is answered once the table has it.
    fn compaction_finished(&mut self) {
        let last = if self.writes.has_pending() {
            self.writes.next()
        } else {
            self.writes.last()
        };
        let waiting = std::mem::take(&mut self.compaction.waiting);
        self.compaction
            .written
            .extend(waiting.into_iter().map(|(token, response)| (last, token, response)));
        if self.writes.outstanding() == 0 && !self.writes.has_pending() {
            self.answer_compactions(last);
        }
    }
}
