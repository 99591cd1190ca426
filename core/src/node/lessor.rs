//! The leader's work on leases: it counts their time once it has opened its term, renews them, revokes those that
//! expired, and checkpoints long ones. Other members only have the list of leases.
//!
//! The leases themselves, and the keys attached to them, are in the store.

use std::collections::VecDeque;
use std::time::Duration;

use crate::error::Error;
use crate::limits::{LEASE_CHECKPOINT_BATCH_LEASES, LEASE_EXPIRE_BATCH_LEASES, LEASE_REVOKE_INFLIGHT_REQUESTS};
use crate::member::{Member, Origin, Reader, Token};
use crate::proto::etcdserverpb::{LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest, RequestHeader};
use crate::store::{Content, LeaseChange};
use crate::time::Instant;

use super::clocks::{Clocks, LeaseTimes, Renewal};
use super::{LeaseCounts, Replies, Response};

/// How often the leader looks for expired leases.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(500);

/// A renewal of an expired lease. The client is answered once the lease is revoked, or at the deadline.
#[derive(Clone, Copy, Debug)]
struct LateRenewal {
    lease: i64,
    token: Token,
    deadline: Instant,
}

/// The lessor of a member.
#[derive(Debug)]
pub(super) struct Lessor {
    clocks: Clocks,
    checkpointing: bool,
    /// When to look for expired leases next; only while this member counts time.
    look_at: Option<Instant>,
    /// Expired leases whose revocation is not proposed yet.
    expired: VecDeque<i64>,
    /// Revocations proposed and not applied yet.
    revoking: usize,
    /// This member missed ticks, so it must confirm its leadership before it revokes a lease.
    slept: bool,
    /// Leadership is being confirmed.
    confirming: bool,
    late_renewals: Vec<LateRenewal>,
    /// The user in whose name expired leases are revoked.
    caller: RequestHeader,
}

impl Lessor {
    /// A lessor of these leases: id, seconds granted, seconds left at the last checkpoint.
    pub(super) fn new(leases: impl IntoIterator<Item = (i64, i64, i64)>, checkpointing: bool) -> Self {
        Self {
            clocks: Clocks::new(leases, checkpointing),
            checkpointing,
            look_at: None,
            expired: VecDeque::new(),
            revoking: 0,
            slept: false,
            confirming: false,
            late_renewals: Vec::new(),
            caller: RequestHeader::default(),
        }
    }

    /// A received snapshot replaced all leases. Only a follower receives one, and a follower counts no time.
    pub(super) fn restored(&mut self, leases: impl IntoIterator<Item = (i64, i64, i64)>) {
        self.clocks = Clocks::new(leases, self.checkpointing);
    }

    /// Auth was enabled, disabled or changed: from now on leases are revoked in this user's name.
    pub(super) fn call_as(&mut self, caller: RequestHeader) {
        self.caller = caller;
    }

    /// When to call [`Lessor::wake`] at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let late = self.late_renewals.iter().map(|renewal| renewal.deadline);
        late.chain(self.look_at).min()
    }

    /// Handles everything that is due.
    pub(super) fn wake(&mut self, now: Instant, member: &mut Member, replies: &mut Replies) {
        self.answer_late(|renewal| renewal.deadline <= now, &Err(Error::Timeout), replies);
        if self.look_at.take_if(|at| *at <= now).is_some() {
            self.look(now, member);
        }
    }

    /// A lease was granted, checkpointed or revoked.
    pub(super) fn changed(
        &mut self,
        now: Instant,
        change: LeaseChange,
        counts: &mut LeaseCounts,
        replies: &mut Replies,
    ) {
        match change {
            LeaseChange::Checkpointed { id, remaining_ttl } => self.clocks.checkpointed(now, id, remaining_ttl),
            LeaseChange::Granted { id, ttl } => {
                counts.granted.push(ttl);
                self.clocks.granted(now, id, ttl);
            }
            LeaseChange::Revoked { id } => {
                counts.revoked += 1;
                self.clocks.revoked(id);
                self.answer_late(
                    |renewal| renewal.lease == id,
                    &Ok(Response::Renewed { ttl: 0 }),
                    replies,
                );
            }
        }
    }

    /// This member leads and has opened its term: the remaining time of every lease starts now, plus `extend`.
    pub(super) fn lead(&mut self, now: Instant, extend: Duration) {
        self.clocks.promote(now, extend);
        self.slept = false;
        self.look_at = Some(now + EXPIRY_INTERVAL);
    }

    /// This member no longer leads: it stops counting time. A new leader starts every lease's time anew, so this member
    /// forgets which leases it found expired.
    pub(super) fn follow(&mut self, member: &mut Member) {
        self.clocks.demote();
        self.look_at = None;
        self.expired.clear();
        for origin in member.withdraw(|origin| matches!(origin, Origin::Checkpoint | Origin::Revoke(_))) {
            if let Origin::Revoke(_) = origin {
                self.revocation_ended();
            }
        }
    }

    /// This member missed ticks, and may have been deposed without noticing.
    pub(super) fn slept(&mut self) {
        self.slept = true;
    }

    /// The check of leadership after missed ticks has ended; `confirmed` is its outcome.
    pub(super) fn confirmed(&mut self, confirmed: bool) {
        self.confirming = false;
        self.slept &= !confirmed;
    }

    /// A revocation was applied, or failed.
    pub(super) fn revocation_ended(&mut self) {
        self.revoking = self.revoking.saturating_sub(1);
    }

    /// Whether this member counts the time of leases.
    pub(super) fn is_primary(&self) -> bool {
        self.clocks.is_primary()
    }

    /// All leases, and when they end if this member counts time.
    pub(super) fn times(&self) -> LeaseTimes {
        self.clocks.times()
    }

    /// Renews a lease for a client. Leadership was confirmed after the client's request.
    pub(super) fn renew(
        &mut self,
        now: Instant,
        token: Token,
        lease: i64,
        member: &mut Member,
        counts: &mut LeaseCounts,
        replies: &mut Replies,
    ) {
        if !self.is_primary() {
            return replies.push((token, Err(Error::NotLeader)));
        }
        match self.clocks.renew(now, lease) {
            Renewal::Unknown => replies.push((token, Ok(Response::Renewed { ttl: 0 }))),
            Renewal::Renewed(ttl) => {
                counts.renewed += 1;
                replies.push((token, Ok(Response::Renewed { ttl })));
            }
            Renewal::Expired => {
                let deadline = member.own_deadline(now);
                self.late_renewals.push(LateRenewal { lease, token, deadline });
            }
            Renewal::Checkpointed => {
                let origin = Origin::Renew(token, lease);
                if let Err(error) = member.propose_own(now, origin, checkpoint([(lease, 0)])) {
                    replies.push((token, Err(error)));
                }
            }
        }
    }

    /// The whole seconds left of a lease and the seconds granted; `Some(None)` if it has expired or does not exist.
    /// `None` if this member does not count time.
    pub(super) fn time_left(&self, now: Instant, lease: i64) -> Option<Option<(i64, i64)>> {
        self.is_primary().then(|| self.clocks.time_left(now, lease))
    }

    /// A client cancelled its request.
    pub(super) fn cancel(&mut self, token: Token) {
        self.late_renewals.retain(|renewal| renewal.token != token);
    }

    /// Answers every client that waits here, because the member ended.
    pub(super) fn stop(&mut self, replies: &mut Replies) {
        self.answer_late(|_| true, &Err(Error::Stopped), replies);
    }

    /// Proposes to revoke expired leases, a few at a time. A leader that missed ticks must confirm its leadership
    /// first: if it was deposed, it would revoke leases whose time its successor has started anew.
    pub(super) fn propose_revocations(&mut self, now: Instant, member: &mut Member) {
        if self.expired.is_empty() || !self.is_primary() {
            return;
        }
        if self.slept {
            let deadline = member.own_deadline(now);
            if !self.confirming && member.read(Reader::Expiry, deadline).is_ok() {
                self.confirming = true;
            }
            return;
        }
        let ending = member.leases_ending();
        while self.revoking < LEASE_REVOKE_INFLIGHT_REQUESTS
            && let Some(id) = self.expired.pop_front()
        {
            if !self.clocks.is_expired(now, id) || ending.contains(&id) {
                continue;
            }
            let revoke = (self.caller.clone(), Content::LeaseRevoke(LeaseRevokeRequest { id }));
            let deadline = member.own_deadline(now);
            if member.propose(now, Origin::Revoke(id), deadline, revoke).is_err() {
                return;
            }
            self.revoking += 1;
        }
    }

    /// Asserts that the clocks agree with each other, and belong to exactly these leases.
    pub(super) fn check(&self, leases: impl Iterator<Item = i64>) {
        self.clocks.check();
        assert!(
            self.clocks.ids().eq(leases),
            "every lease has a clock, and only leases have"
        );
        assert!(
            self.look_at.is_none() || self.is_primary(),
            "only a leader looks for expired leases"
        );
    }

    /// Looks for expired leases, and for leases to be checkpointed.
    fn look(&mut self, now: Instant, member: &mut Member) {
        self.look_at = Some(now + EXPIRY_INTERVAL);
        let room = LEASE_EXPIRE_BATCH_LEASES.saturating_sub(self.expired.len());
        for id in self.clocks.take_expired(now, room) {
            if !self.expired.contains(&id) {
                self.expired.push_back(id);
            }
        }
        self.propose_revocations(now, member);
        let checkpoints = self.clocks.take_checkpoints(now, LEASE_CHECKPOINT_BATCH_LEASES);
        if !checkpoints.is_empty() {
            // A failure is harmless: without this checkpoint, a new leader gives the leases more time.
            let _refused = member.propose_own(now, Origin::Checkpoint, checkpoint(checkpoints));
        }
    }

    /// Answers renewals of expired leases.
    fn answer_late(
        &mut self,
        mut is_decided: impl FnMut(&LateRenewal) -> bool,
        result: &Result<Response, Error>,
        replies: &mut Replies,
    ) {
        let decided = self.late_renewals.extract_if(.., |renewal| is_decided(renewal));
        replies.extend(decided.map(|renewal| (renewal.token, result.clone())));
    }
}

/// The proposal that this many seconds are left of these leases; 0 means the whole TTL.
fn checkpoint(leases: impl IntoIterator<Item = (i64, i64)>) -> Content {
    let checkpoints = leases.into_iter();
    let checkpoints = checkpoints.map(|(id, remaining_ttl)| LeaseCheckpoint { id, remaining_ttl });
    Content::LeaseCheckpoint(LeaseCheckpointRequest {
        checkpoints: checkpoints.collect(),
    })
}
