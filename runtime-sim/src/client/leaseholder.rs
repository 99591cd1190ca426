//! A client that has a lease, attaches keys to it, and renews it every third of its TTL, until it stops doing so or
//! revokes it.

use std::time::Duration;

use quoin_core::proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest};
use quoin_core::random::Prng;
use quoin_core::time::Instant;

use super::line::{Desk, Line, Outcome, Rota};
use super::plan::Plan;
use super::{Client, earliest};
use crate::choose::one_of;
use crate::cluster::ports::Returned;
use crate::observe::OpId;
use quoin_model::call::{Answer, Call};

/// How long the client library waits before it reopens a lost keep-alive stream.
const RECONNECT: Duration = Duration::from_millis(500);
/// gRPC's code for a lease that does not exist.
const NOT_FOUND: i32 = 5;

/// A lease with a longer TTL than this, in seconds, is renewed as often as one with this TTL.
const LONGEST: u64 = 3_600;

/// What the client does with a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    /// The client renews the lease until the end of the run.
    Kept,
    /// The client stops renewing the lease and only observes how it ends.
    Neglected,
    /// The client revokes the lease.
    Revoked,
}

/// A lease the client has.
#[derive(Clone, Copy, Debug)]
struct Held {
    id: i64,
    /// A third of the time granted.
    third: Duration,
    keep_at: Instant,
    fate: Fate,
    /// When the client revokes the lease, or stops renewing it.
    turns_at: Instant,
}

/// The client.
#[derive(Debug)]
pub(super) struct Leaseholder {
    prng: Prng,
    rota: Rota,
    /// Sends grants, writes, look-ups and revocations.
    line: Line,
    /// Sends renewals.
    keeper: Line,
    held: Option<Held>,
    next_at: Instant,
    quiet: bool,
}

impl Leaseholder {
    pub(super) fn new(mut prng: Prng, plan: &Plan) -> Self {
        Self {
            rota: Rota::new(&mut prng, plan.round_robin),
            next_at: Instant::ZERO + Duration::from_millis(prng.below(2_000)),
            prng,
            line: Line::default(),
            keeper: Line::default(),
            held: None,
            quiet: false,
        }
    }

    /// Acts if no request is pending: grants a lease, or uses the one it has.
    fn next_call(&mut self, desk: &mut Desk<'_>) -> Call {
        let Some(held) = self.held else {
            return Call::LeaseGrant(LeaseGrantRequest {
                id: 0,
                ttl: one_of(&mut self.prng, desk.plan.ttls),
            });
        };
        let turned = held.turns_at <= desk.now && !self.quiet;
        if turned && held.fate == Fate::Revoked {
            return Call::LeaseRevoke(LeaseRevokeRequest { id: held.id });
        }
        if (turned && held.fate == Fate::Neglected) || self.prng.below(3) == 0 {
            return Call::LeaseTimeToLive(LeaseTimeToLiveRequest {
                id: held.id,
                keys: self.prng.below(2) == 0,
            });
        }
        let mut draw = desk.draw(&mut self.prng);
        let (key, value) = (draw.key(), draw.value());
        Call::Put(PutRequest {
            key,
            value,
            lease: held.id,
            ..PutRequest::default()
        })
    }

    fn settle(&mut self, now: Instant, outcome: &Outcome) {
        if let Outcome::Answered(Answer::LeaseKeepAlive(response)) = outcome
            && self.held.is_none_or(|held| held.id != response.id)
        {
            // The answer is about a lease before this one.
            return;
        }
        match outcome {
            Outcome::Answered(Answer::LeaseGrant(response)) => {
                let third =
                    Duration::from_millis(u64::try_from(response.ttl).unwrap_or(1).clamp(1, LONGEST) * 1_000 / 3);
                let thirds = if response.ttl > 100 { 2 } else { 30 };
                self.held = Some(Held {
                    id: response.id,
                    third,
                    keep_at: now + third,
                    fate: one_of(
                        &mut self.prng,
                        &[Fate::Kept, Fate::Neglected, Fate::Neglected, Fate::Revoked],
                    ),
                    turns_at: now + third * u32::try_from(self.prng.below(thirds)).unwrap_or(0),
                });
            }
            // The lease has ended: grant the next one.
            Outcome::Answered(Answer::LeaseRevoke(_)) => self.held = None,
            Outcome::Answered(Answer::LeaseTimeToLive(response)) if response.ttl <= 0 => self.held = None,
            Outcome::Answered(Answer::LeaseKeepAlive(response)) => {
                if response.ttl <= 0 {
                    self.held = None;
                } else if let Some(held) = &mut self.held {
                    held.keep_at = now + held.third;
                }
            }
            Outcome::Refused(refusal) if refusal.code == NOT_FOUND => self.held = None,
            // The lease may have ended, or the outcome is unknown. The next look-up decides.
            Outcome::Answered(_) | Outcome::Refused(_) | Outcome::Lost => {}
        }
    }

    fn keeps(&self, now: Instant) -> Option<Held> {
        let silent = |held: &Held| held.fate == Fate::Neglected && held.turns_at <= now && !self.quiet;
        self.held.filter(|held| !silent(held))
    }

    fn pause(&mut self) -> Duration {
        let mean_ms = if self.quiet {
            1_000
        } else {
            one_of(&mut self.prng, &[200, 1_000, 3_000])
        };
        Duration::from_millis(1 + self.prng.below(2 * mean_ms))
    }
}

impl Client for Leaseholder {
    fn wakes_at(&self) -> Option<Instant> {
        let next = self.line.is_free().then_some(self.next_at);
        let keep = self.held.filter(|_| self.keeper.is_free()).map(|held| held.keep_at);
        earliest([next, keep, self.line.wakes_at(), self.keeper.wakes_at()])
    }

    fn wake(&mut self, desk: &mut Desk<'_>) {
        // A lost request changes nothing here, so the outcomes are ignored.
        let _ = self.line.wake(desk, &mut self.rota);
        let _ = self.keeper.wake(desk, &mut self.rota);
        if self.keeper.is_free() && self.held.is_some_and(|held| held.keep_at <= desk.now) {
            if let Some(held) = self.keeps(desk.now) {
                let call = Call::LeaseKeepAlive { id: held.id };
                self.keeper.ask(desk, &mut self.rota, call, held.third.max(RECONNECT));
            }
            if let Some(held) = &mut self.held {
                held.keep_at = desk.now + held.third.max(RECONNECT);
            }
        }
        if self.line.is_free() && self.next_at <= desk.now {
            let call = self.next_call(desk);
            let timeout = desk.plan.timeout(&mut self.prng);
            self.line.ask(desk, &mut self.rota, call, timeout);
            self.next_at = desk.now + self.pause() * if self.quiet { 1 } else { desk.plan.ease };
        }
    }

    fn returned(&mut self, desk: &mut Desk<'_>, op: OpId, result: Returned) {
        let outcome = if self.line.carries(op) {
            self.line.returned(desk, &mut self.rota, result)
        } else if self.keeper.carries(op) {
            if let Some(held) = &mut self.held {
                held.keep_at = desk.now + RECONNECT;
            }
            self.keeper.returned(desk, &mut self.rota, result)
        } else {
            None
        };
        if let Some(outcome) = outcome {
            self.settle(desk.now, &outcome);
        }
    }

    fn quiet(&mut self) {
        self.quiet = true;
    }
}
