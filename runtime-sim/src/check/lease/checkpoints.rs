//! The checkpoints of long leases, and their use by new leaders (a part of C27).
//!
//! If leaders write checkpoints, each writes one for every lease with more than five minutes left, five minutes after
//! it began to count and every five minutes from then on; a renewal starts that period anew. After a change of leader a
//! lease has at most the time of its last checkpoint plus an election timeout. If leaders do not write checkpoints, no
//! member does.

use std::collections::BTreeMap;
use std::time::Duration;

use quoin_core::id::MemberId;
use quoin_core::time::Instant;

use super::lives::{LATE_RENEWAL, Life, Lives, seconds};
use super::{LeaseRules, REVOCATION};
use crate::check::coverage::Point;
use crate::check::{MemberFacts, Truth};
use crate::observe::{Verdict, ensure};

/// The interval of checkpoints, and the time that a lease must have left to get one.
const INTERVAL: Duration = Duration::from_secs(300);

/// The delay that is allowed beyond that, by true time: a leader is not woken for a while, is suspended, or hands
/// leadership over in vain.
const SLACK: Duration = Duration::from_secs(60);

/// The time that a lease had left when its leader began to count.
#[derive(Clone, Copy, Debug)]
struct Left {
    since: Instant,
    remaining: i64,
    /// The latest time at which it has ended.
    ends: Instant,
}

/// The checkpoints that the newest leader must write.
#[derive(Debug)]
pub(super) struct Checkpoints {
    rules: LeaseRules,
    term: u64,
    leader: MemberId,
    /// The first entry of its term.
    first: u64,
    /// Whether it has applied that entry, and so counts time.
    counts: bool,
    /// The time by which each lease must have a checkpoint.
    due: BTreeMap<i64, Instant>,
    /// Leases that were not renewed since.
    left: BTreeMap<i64, Left>,
    /// The first of these times.
    next: Instant,
}

impl Checkpoints {
    pub(super) fn new(rules: LeaseRules) -> Self {
        Self {
            rules,
            term: 0,
            leader: MemberId::NONE,
            first: 0,
            counts: false,
            due: BTreeMap::new(),
            left: BTreeMap::new(),
            next: Instant::MAX,
        }
    }

    /// A leader has appended the first entry of its term.
    pub(super) fn reign(&mut self, term: u64, leader: MemberId, first: u64) {
        (self.term, self.leader, self.first) = (term, leader, first);
        self.stop();
    }

    /// No member is known to count time.
    pub(super) fn stop(&mut self) {
        self.counts = false;
        self.due.clear();
        self.left.clear();
        self.next = Instant::MAX;
    }

    /// A member has published the entries that it applied.
    pub(super) fn published(&mut self, at: Instant, member: MemberId, lives: &Lives, truth: &Truth) {
        if self.counts || self.rules.checkpoints.is_none() || member != self.leader {
            return;
        }
        let leads = truth.member(member).is_some_and(|facts| self.leads(facts));
        if !leads || truth.member(member).is_none_or(|facts| facts.applied < self.first) {
            return;
        }
        self.counts = true;
        for (id, life) in lives.all_live() {
            self.schedule(at, id, life, truth);
            self.inherit(at, id, life, truth);
        }
    }

    fn leads(&self, facts: &MemberFacts) -> bool {
        facts.status.leads && facts.status.term == self.term
    }

    /// The leader begins to count a lease's time anew, after a grant, a renewal or a checkpoint.
    pub(super) fn schedule(&mut self, at: Instant, id: i64, life: &Life, truth: &Truth) {
        if self.rules.checkpoints != Some(true) || !self.counts {
            return;
        }
        let remaining = truth.model().lease(id).map_or(0, |lease| lease.remaining_ttl);
        let counted = if remaining > 0 { remaining } else { life.ttl };
        if seconds(counted) > INTERVAL {
            self.expect(id, at + self.rules.at_most(INTERVAL) + SLACK);
        } else {
            self.due.remove(&id);
        }
    }

    fn expect(&mut self, id: i64, due: Instant) {
        self.due.insert(id, due);
        self.next = self.next.min(due);
    }

    /// The time of a lease by the last checkpoint of an earlier leader.
    fn inherit(&mut self, at: Instant, id: i64, life: &Life, truth: &Truth) {
        let lease = truth.model().lease_at(id, self.first);
        let remaining = lease.map_or(0, |lease| lease.remaining_ttl);
        let is_kept = life.asked.is_some_and(|asked| asked + LATE_RENEWAL >= at);
        if remaining <= 0 || is_kept || life.granted > self.first {
            return;
        }
        let time = seconds(remaining).saturating_add(self.extension());
        let ends = at + self.rules.at_most(time) + REVOCATION + SLACK;
        let left = Left {
            since: at,
            remaining,
            ends,
        };
        self.left.insert(id, left);
        self.next = self.next.min(ends);
        truth.note(Point::CheckpointInherited);
    }

    /// The longest time that a new leader adds.
    fn extension(&self) -> Duration {
        self.rules.election_timeout + Duration::from_secs(1)
    }

    /// A client requests a renewal. It is not known when it takes effect, or whether.
    pub(super) fn asked(&mut self, at: Instant, id: i64) {
        self.left.remove(&id);
        if self.due.contains_key(&id) {
            self.expect(id, at + LATE_RENEWAL + self.rules.at_most(INTERVAL) + SLACK);
        }
    }

    /// A lease has ended.
    pub(super) fn ended(&mut self, id: i64) {
        self.due.remove(&id);
        self.left.remove(&id);
    }

    /// A leader writes a checkpoint of a lease, of at least `floor`.
    pub(super) fn written(
        &mut self,
        at: Instant,
        term: u64,
        id: i64,
        remaining: i64,
        floor: i64,
        truth: &Truth,
    ) -> Verdict {
        ensure(self.rules.checkpoints != Some(false), "C27", || {
            format!("a checkpoint of lease {id} is written, although no leader should write any")
        })?;
        if term != self.term {
            return Ok(());
        }
        ensure(remaining <= 0 || remaining >= floor, "C27", || {
            format!("{remaining} s are said to be left of lease {id} at {at}, where at least {floor} s are")
        })?;
        if self.due.contains_key(&id) {
            if self.due.get(&id).is_some_and(|due| *due > at) {
                truth.note(Point::CheckpointedInTime);
            }
            self.expect(id, at + SLACK + self.rules.at_most(INTERVAL) + SLACK);
        }
        Ok(())
    }

    /// The largest number of seconds that a lease can have left at the time of a request, if a checkpoint bounds them.
    pub(super) fn most(&self, asked: Instant, id: i64) -> Option<i64> {
        let left = self.left.get(&id).filter(|left| left.since <= asked)?;
        let passed = self.rules.at_least(asked.saturating_since(left.since));
        let most = seconds(left.remaining).saturating_add(self.extension());
        i64::try_from(most.saturating_sub(passed).as_secs()).ok()
    }

    /// Time has passed: checks what is overdue.
    pub(super) fn look(&mut self, at: Instant, lives: &Lives, truth: &Truth) -> Verdict {
        if at < self.next {
            return Ok(());
        }
        if !truth.member(self.leader).is_some_and(|facts| self.leads(facts)) {
            self.stop();
            return Ok(());
        }
        self.due.retain(|id, _| lives.live(*id).is_some());
        self.left.retain(|id, _| lives.live(*id).is_some());
        let (leader, term) = (self.leader, self.term);
        let overdue = self.due.iter().find(|(_, due)| **due <= at);
        ensure(overdue.is_none(), "C27", || {
            format!(
                "leader {leader} of term {term} has not written down what is left of a lease: {overdue:?} (id, by when)"
            )
        })?;
        let endless = self.left.iter().find(|(_, left)| left.ends <= at);
        ensure(endless.is_none(), "C27", || {
            format!("a lease outlasts what was written down of it: {endless:?} under leader {leader} of term {term}")
        })?;
        let dues = self.due.values().copied();
        let ends = self.left.values().map(|left| left.ends);
        self.next = dues.chain(ends).min().unwrap_or(Instant::MAX);
        Ok(())
    }
}
