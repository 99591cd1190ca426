//! A client that takes a lock, or campaigns in an election, by etcd's recipe: a lease, a key of its own, waiting until
//! the predecessor's key is deleted, then writes that are guarded by its key. Some stop renewing and continue to write
//! long after their lease has ended, as a suspended client would: their guarded writes must have no effect.

use std::time::Duration;

use bytes::Bytes;
use quoin_core::error::Error;
use quoin_core::proto::etcdserverpb::{
    DeleteRangeResponse, LeaseGrantRequest, PutRequest, RangeResponse, WatchResponse,
};
use quoin_core::proto::mvccpb::event::EventType;
use quoin_core::proto::v3lockpb::LockRequest;
use quoin_core::random::Prng;
use quoin_core::time::Instant;

use super::line::{Desk, Line, Outcome, Rota};
use super::plan::Plan;
use super::watcher::create_request;
use super::{Client, earliest, lock_calls};
use crate::choose::one_of;
use crate::cluster::ports::Returned;
use crate::observe::{OpId, StreamId};
use quoin_model::call::{Answer, Call, Refusal};

/// Pause before a failed step is tried again.
const AGAIN: Duration = Duration::from_millis(100);
/// Longest wait for a predecessor.
const PATIENCE: Duration = Duration::from_secs(30);

/// The client's step in the recipe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// It grants a lease.
    Session,
    /// It creates its key.
    Enter,
    /// It looks for its predecessor.
    Predecessor,
    /// It waits until the predecessor's key is deleted.
    Wait(StreamId),
    /// It checks that its own key still exists.
    Confirm,
    /// It holds the lock.
    Hold,
    /// It releases the lock.
    Leave,
}

/// A lease, and whether the client renews it.
#[derive(Clone, Copy, Debug)]
struct Session {
    lease: i64,
    third: Duration,
    keep_at: Instant,
    /// Never renewed, and the client does not notice its end.
    neglected: bool,
}

/// The client.
#[derive(Debug)]
pub(super) struct Locker {
    prng: Prng,
    rota: Rota,
    line: Line,
    keeper: Line,
    prefix: Bytes,
    /// The key that only the holder writes.
    guarded: Bytes,
    step: Step,
    session: Option<Session>,
    key: Bytes,
    /// The create revision of the client's key.
    revision: i64,
    /// Writes left before it releases the lock.
    writes: u64,
    next_at: Instant,
    quiet: bool,
}

impl Locker {
    pub(super) fn new(mut prng: Prng, plan: &Plan) -> Self {
        let number = prng.below(2);
        Self {
            rota: Rota::new(&mut prng, plan.round_robin),
            line: Line::default(),
            keeper: Line::default(),
            prefix: format!("lock/{number}/").into(),
            guarded: format!("guarded/{number}").into(),
            step: Step::Session,
            session: None,
            key: Bytes::new(),
            revision: 0,
            writes: 0,
            next_at: Instant::ZERO + Duration::from_millis(prng.below(2_000)),
            prng,
            quiet: false,
        }
    }

    /// The request of this step; `None` while it waits.
    fn call(&mut self, desk: &mut Desk<'_>) -> Option<Call> {
        let lease = self.session.map_or(0, |session| session.lease);
        Some(match self.step {
            Step::Session => Call::LeaseGrant(LeaseGrantRequest {
                id: 0,
                ttl: one_of(&mut self.prng, &[1, 2, 3, 5, 10]),
            }),
            Step::Enter => {
                self.key = lock_calls::own_key(&self.prefix, lease);
                if desk.mind.server_locks {
                    let name = self.prefix.slice(..self.prefix.len() - 1);
                    return Some(Call::Lock(LockRequest { name, lease }));
                }
                lock_calls::enter(&self.prefix, &self.key, desk.mind.value(0), lease)
            }
            Step::Predecessor => lock_calls::predecessor(&self.prefix, self.revision),
            Step::Wait(_) => return None,
            Step::Confirm => lock_calls::confirm(&self.key),
            Step::Hold => self.use_lock(desk, lease),
            Step::Leave => lock_calls::leave(&self.key),
        })
    }

    /// A holder writes; a leader proclaims; both may check that they still hold the lock.
    fn use_lock(&mut self, desk: &mut Desk<'_>, lease: i64) -> Call {
        self.writes = self.writes.saturating_sub(1);
        let choice = self.prng.below(6);
        if choice == 0 {
            return lock_calls::owner(&self.prefix);
        }
        let value = desk.draw(&mut self.prng).value();
        let write = if choice == 1 {
            PutRequest {
                key: self.key.clone(),
                value,
                lease,
                ..PutRequest::default()
            }
        } else {
            PutRequest {
                key: self.guarded.clone(),
                value,
                ..PutRequest::default()
            }
        };
        lock_calls::guarded(&self.key, self.revision, write)
    }

    /// The step that follows an answer.
    fn settle(&mut self, desk: &mut Desk<'_>, outcome: Outcome) {
        let pause = match outcome {
            Outcome::Answered(answer) => self.answered(desk, answer),
            Outcome::Refused(refusal) => self.refused(&refusal),
            // Entering, reading and leaving can be repeated without harm. A guarded write may have been done or not.
            Outcome::Lost => AGAIN,
        };
        if self.step == Step::Hold && self.writes == 0 {
            self.step = Step::Leave;
        }
        let slower = if self.quiet {
            Duration::from_secs(1)
        } else {
            Duration::ZERO
        };
        self.next_at = desk.now + pause.max(slower);
    }

    fn answered(&mut self, desk: &mut Desk<'_>, answer: Answer) -> Duration {
        match (self.step, answer) {
            (Step::Session, Answer::LeaseGrant(response)) => {
                let third = Duration::from_millis(u64::try_from(response.ttl).unwrap_or(1).clamp(1, 60) * 1_000 / 3);
                self.session = Some(Session {
                    lease: response.id,
                    third,
                    keep_at: desk.now + third,
                    neglected: !self.quiet && self.prng.below(4) == 0,
                });
                self.step = Step::Enter;
            }
            (Step::Enter, Answer::Txn(response)) => {
                if let Some((revision, holds)) = lock_calls::entered(&response) {
                    self.revision = revision;
                    self.step = if holds { self.hold() } else { Step::Predecessor };
                }
            }
            // The server has waited. The key is read to learn its revision.
            (Step::Enter, Answer::Lock(_)) => {
                self.revision = 0;
                self.step = Step::Confirm;
            }
            (Step::Predecessor, Answer::Range(response)) => self.preceded_by(desk, &response),
            (Step::Confirm, Answer::Range(response)) => {
                let own = response.kvs.first().map(|kv| kv.create_revision);
                self.step = if own == Some(self.revision) || (own.is_some() && self.revision == 0) {
                    self.revision = own.unwrap_or(0);
                    self.hold()
                } else {
                    Step::Session
                };
            }
            (Step::Hold, Answer::Txn(response)) => {
                if !response.succeeded {
                    // The key is deleted: the lock is lost, and most likely the lease.
                    self.lose();
                }
                return self.pause();
            }
            (Step::Leave, Answer::DeleteRange(DeleteRangeResponse { .. })) => {
                self.step = Step::Enter;
                return self.pause();
            }
            // The answer to reading the holder.
            (Step::Hold, Answer::Range(_)) => return self.pause(),
            // Each step waits for its own answer only.
            _ => {}
        }
        Duration::ZERO
    }

    fn refused(&mut self, refusal: &Refusal) -> Duration {
        let lost = [Error::LeaseNotFound, Error::LockSessionExpired].map(Error::message);
        if lost.contains(&&refusal.message[..]) {
            self.lose();
        }
        AGAIN
    }

    /// Waits for the predecessor, if there is one.
    fn preceded_by(&mut self, desk: &mut Desk<'_>, response: &RangeResponse) {
        let Some(last) = response.kvs.first() else {
            self.step = Step::Confirm;
            return;
        };
        let Some(member) = self.rota.pick(desk.world) else {
            return;
        };
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        let stream = desk.open(member);
        desk.watch(stream, create_request(lock_calls::wait(&last.key, revision)));
        self.step = Step::Wait(stream);
    }

    fn hold(&mut self) -> Step {
        self.writes = self.prng.range(1..9);
        Step::Hold
    }

    fn lose(&mut self) {
        self.session = None;
        self.step = Step::Session;
    }

    fn pause(&mut self) -> Duration {
        let mean_ms = one_of(&mut self.prng, &[1, 100, 1_000]);
        Duration::from_millis(self.prng.below(2 * mean_ms))
    }

    /// Stops waiting, and continues with another step.
    fn stop_waiting(&mut self, desk: &mut Desk<'_>, step: Step) {
        if let Step::Wait(stream) = self.step {
            desk.close(stream);
            self.step = step;
            self.next_at = desk.now;
        }
    }

    fn keep_alive(&mut self, desk: &mut Desk<'_>) {
        let Some(session) = &mut self.session else { return };
        if session.keep_at > desk.now || !self.keeper.is_free() {
            return;
        }
        session.keep_at = desk.now + session.third;
        if !session.neglected {
            let call = Call::LeaseKeepAlive { id: session.lease };
            self.keeper.ask(desk, &mut self.rota, call, session.third);
        }
    }

    fn kept(&mut self, desk: &mut Desk<'_>, outcome: &Outcome) {
        let Outcome::Answered(Answer::LeaseKeepAlive(response)) = outcome else {
            return;
        };
        let own = self.session.is_some_and(|session| session.lease == response.id);
        if own && response.ttl <= 0 {
            self.stop_waiting(desk, Step::Session);
            if self.line.is_free() {
                self.lose();
            }
        }
    }
}

impl Client for Locker {
    fn wakes_at(&self) -> Option<Instant> {
        let next = self.line.is_free().then_some(self.next_at);
        let keep = self
            .session
            .filter(|_| self.keeper.is_free())
            .map(|session| session.keep_at);
        earliest([next, keep, self.line.wakes_at(), self.keeper.wakes_at()])
    }

    fn wake(&mut self, desk: &mut Desk<'_>) {
        if let Some(outcome) = self.line.wake(desk, &mut self.rota) {
            self.settle(desk, outcome);
        }
        if let Some(outcome) = self.keeper.wake(desk, &mut self.rota) {
            self.kept(desk, &outcome);
        }
        self.keep_alive(desk);
        if !self.line.is_free() || self.next_at > desk.now {
            return;
        }
        // A contender that has waited too long leaves the queue.
        self.stop_waiting(desk, Step::Leave);
        if let Some(call) = self.call(desk) {
            let timeout = desk.plan.timeout(&mut self.prng);
            self.line.ask(desk, &mut self.rota, call, timeout);
            self.next_at = desk.now + AGAIN;
        }
    }

    fn returned(&mut self, desk: &mut Desk<'_>, op: OpId, result: Returned) {
        if self.line.carries(op) {
            if let Some(outcome) = self.line.returned(desk, &mut self.rota, result) {
                self.settle(desk, outcome);
                if matches!(self.step, Step::Wait(_)) {
                    self.next_at = desk.now + PATIENCE;
                }
            }
        } else if self.keeper.carries(op)
            && let Some(outcome) = self.keeper.returned(desk, &mut self.rota, result)
        {
            self.kept(desk, &outcome);
        }
    }

    fn watched(&mut self, desk: &mut Desk<'_>, stream: StreamId, response: &WatchResponse) {
        if self.step != Step::Wait(stream) {
            return;
        }
        let gone = response
            .events
            .iter()
            .any(|event| event.r#type == EventType::Delete as i32);
        if gone || response.canceled {
            self.stop_waiting(desk, Step::Predecessor);
        }
    }

    fn closed(&mut self, desk: &mut Desk<'_>, stream: StreamId) {
        if self.step == Step::Wait(stream) {
            self.step = Step::Predecessor;
            self.next_at = desk.now + AGAIN;
            self.rota.move_on();
        }
    }

    fn quiet(&mut self) {
        self.quiet = true;
    }
}
