//! The leader's work on leases: it counts their time from when it has opened its term, ends those whose time is up, and
//! writes down what is left of long ones.

use std::collections::BTreeSet;

use raft::GetEntriesContext;

use crate::limits::{LEASE_CHECKPOINT_BATCH_LEASES, LEASE_EXPIRE_BATCH_LEASES, LEASE_REVOKE_INFLIGHT_REQUESTS};
use crate::proto::etcdserverpb::{InternalRaftRequest, LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest};
use crate::time::Instant;

use super::lessor::{EXPIRY_INTERVAL, LeaseTimes, Lessor, Renewal};
use super::{Member, Origin, Reader, Timer, requests};

impl Member {
    /// A lease was granted.
    pub(crate) fn lease_granted(&mut self, now: Instant, id: i64, ttl: i64) {
        self.lessor.granted(now, id, ttl);
    }

    /// The log says how much is left of a lease.
    pub(crate) fn lease_checkpointed(&mut self, now: Instant, id: i64, remaining_ttl: i64) {
        self.lessor.checkpointed(now, id, remaining_ttl);
    }

    /// A lease is gone.
    pub(crate) fn lease_revoked(&mut self, id: i64) {
        self.lessor.revoked(id);
    }

    /// A received snapshot replaced all leases: id, seconds granted, seconds left at the last checkpoint. Only a follower
    /// receives one, and a follower counts no time.
    pub(crate) fn leases_restored(&mut self, leases: impl IntoIterator<Item = (i64, i64, i64)>) {
        self.lessor = Lessor::new(leases, self.config.lease_checkpoint);
    }

    /// The leases there are, and when they end where this member counts time.
    pub(crate) fn leases(&self) -> LeaseTimes {
        self.lessor.times()
    }

    /// Keeps a lease alive. The caller has confirmed since the client asked that this member leads.
    pub(crate) fn renew_lease(&mut self, now: Instant, id: i64) -> Option<Renewal> {
        self.lessor.is_primary().then(|| self.lessor.renew(now, id))
    }

    /// Whole seconds left of a lease and seconds granted, where it lives; `None` where this member does not count time.
    pub(crate) fn lease_time_left(&self, now: Instant, id: i64) -> Option<Option<(i64, i64)>> {
        self.lessor.is_primary().then(|| self.lessor.time_left(now, id))
    }

    /// Looks for leases whose time is up, and for those to be written down.
    pub(crate) fn expire_leases(&mut self, now: Instant) {
        if !self.lessor.is_primary() {
            return;
        }
        self.timers.set(Timer::Expiry, now + EXPIRY_INTERVAL);
        let room = LEASE_EXPIRE_BATCH_LEASES.saturating_sub(self.revocations.waiting.len());
        let expired = self.lessor.take_expired(now, room);
        for id in expired {
            if !self.revocations.waiting.contains(&id) {
                self.revocations.waiting.push_back(id);
            }
        }
        self.propose_revocations(now);
        self.propose_checkpoints(now);
    }

    /// Proposes the end of expired leases, a few at a time. Only a leader that has not slept does: a deposed one that has
    /// not noticed would end leases which its successor has given time again.
    pub(crate) fn propose_revocations(&mut self, now: Instant) {
        if self.revocations.waiting.is_empty() || !self.lessor.is_primary() {
            return;
        }
        let deadline = now + self.config.request_timeout();
        if self.revocations.slept {
            if !self.revocations.confirming && self.read(Reader::Expiry, deadline).is_ok() {
                self.revocations.confirming = true;
            }
            return;
        }
        let ending = self.leases_ending();
        while self.revocations.proposed < LEASE_REVOKE_INFLIGHT_REQUESTS
            && let Some(id) = self.revocations.waiting.pop_front()
        {
            if !self.lessor.is_expired(now, id) || ending.contains(&id) {
                continue;
            }
            let revoke = LeaseRevokeRequest { id };
            let request = InternalRaftRequest {
                lease_revoke: Some(revoke),
                ..InternalRaftRequest::default()
            };
            if self.propose(now, Origin::Revoke(id), deadline, request).is_err() {
                return;
            }
            self.revocations.proposed += 1;
        }
    }

    /// The leases whose end is in the log, or on its way there, and not applied. Behind it there may be a new lease of the
    /// same id, which a second revocation would end: a leader whose own disk is slow lags behind what the others commit.
    fn leases_ending(&self) -> BTreeSet<i64> {
        let log = &self.raft.raft.raft_log;
        let unapplied = log.entries(log.applied + 1, None, GetEntriesContext::empty(false));
        let unapplied = unapplied.unwrap_or_default();
        let entries = unapplied.iter().chain(self.proposals.unsent());
        entries.filter_map(requests::lease_ended_by).collect()
    }

    /// Leadership was confirmed after this member may have slept, or could not be.
    pub(super) fn leadership_confirmed(&mut self, confirmed: bool) {
        self.revocations.confirming = false;
        self.revocations.slept &= !confirmed;
    }

    /// This member has opened its term: every lease gets its time again, from here on.
    pub(super) fn promote_lessor(&mut self, now: Instant) {
        self.lessor.promote(now, self.config.election_timeout);
        self.revocations.slept = false;
        self.timers.set(Timer::Expiry, now + EXPIRY_INTERVAL);
    }

    /// This member leads no more: it counts no lease's time.
    pub(super) fn demote_lessor(&mut self) {
        self.lessor.demote();
        self.revocations.waiting.clear();
        // A new leader gives every lease its time again; what this one found expired is not to be passed on.
        for origin in self
            .proposals
            .withdraw(|origin| matches!(origin, Origin::Checkpoint | Origin::Revoke(_)))
        {
            self.settle(origin, false);
        }
        self.timers.clear(Timer::Expiry);
    }

    fn propose_checkpoints(&mut self, now: Instant) {
        let checkpoints = self.lessor.take_checkpoints(now, LEASE_CHECKPOINT_BATCH_LEASES);
        if checkpoints.is_empty() {
            return;
        }
        let checkpoints = checkpoints
            .into_iter()
            .map(|(id, remaining_ttl)| LeaseCheckpoint { id, remaining_ttl });
        let checkpoint = LeaseCheckpointRequest {
            checkpoints: checkpoints.collect(),
        };
        let request = InternalRaftRequest {
            lease_checkpoint: Some(checkpoint),
            ..InternalRaftRequest::default()
        };
        let deadline = now + self.config.request_timeout();
        // Checkpoints are best effort: the next ones say the same with less time left.
        let _refused = self.propose(now, Origin::Checkpoint, deadline, request);
    }
}
