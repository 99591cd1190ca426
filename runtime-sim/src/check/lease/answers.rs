//! The answers about leases (C25, C27, C29, C30).

use quoin_core::id::MemberId;
use quoin_core::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use quoin_core::time::Instant;

use super::{LeaseChecker, Life};
use crate::check::Truth;
use crate::observe::{OpId, Verdict, ensure};
use quoin_model::call::{Answer, Call, Refusal};

/// The longest TTL that is granted, in seconds.
const MAX_TTL_SECONDS: i64 = 9_000_000_000;

const TOO_LARGE: &str = "etcdserver: too large lease TTL";
const EXISTS: &str = "etcdserver: lease already exists";

/// An unanswered request of a client about a lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    at: Instant,
    lease: i64,
    /// How many entries were committed.
    committed: u64,
    /// The term of the last of them. The leaders of earlier terms lead no more.
    term: u64,
    /// The grant of the lease, if it existed.
    granted: Option<u64>,
    /// When the last renewal was requested that was already answered with success. Answers to other requests that
    /// arrive while this one is pending may be true only after the leader has handled this one.
    renewed: Option<Instant>,
}

impl LeaseChecker {
    /// Records a request about a lease.
    pub(super) fn ask(&mut self, op: OpId, at: Instant, lease: i64, truth: &Truth) {
        let committed = truth.committed();
        let question = Question {
            at,
            lease,
            committed,
            term: truth.entry(committed).map_or(0, |last| last.entry.term),
            granted: self.lives.live(lease).map(|life| life.granted),
            renewed: self.lives.live(lease).and_then(|life| life.renewed),
        };
        self.questions.insert(op, question);
    }

    /// Checks an answer if it is about a lease.
    pub(super) fn replied(
        &mut self,
        at: Instant,
        op: OpId,
        member: MemberId,
        result: Result<&Answer, &Refusal>,
        truth: &Truth,
    ) -> Verdict {
        let Some(question) = self.questions.remove(&op) else {
            return Ok(());
        };
        let Some(asked) = truth.op(op) else { return Ok(()) };
        match (&asked.call, result) {
            (Call::LeaseKeepAlive { .. }, Ok(Answer::LeaseKeepAlive(response))) => {
                self.kept_alive(&question, member, response.ttl, truth)
            }
            (Call::LeaseGrant(request), Ok(Answer::LeaseGrant(response))) => self.grant(&question, request, response),
            (Call::LeaseGrant(request), Err(refusal)) => self.refused(&question, request, refusal),
            (Call::LeaseTimeToLive(request), Ok(Answer::LeaseTimeToLive(response))) => {
                self.time_to_live(at, &question, request, response, truth)
            }
            (Call::LeaseLeases, Ok(Answer::LeaseLeases(response))) => {
                let ids = response.leases.iter().map(|lease| lease.id);
                let strange = ids.into_iter().find(|id| !self.lives.was_ever(*id));
                ensure(strange.is_none(), "C31", || {
                    format!("member {member} lists lease {strange:?}, which never was")
                })
            }
            (Call::Put(request), Ok(Answer::Put(_))) => {
                let id = request.lease;
                ensure(self.lives.was_since(id, question.committed), "C30", || {
                    format!("a put with lease {id} is answered as done, and there was no such lease")
                })
            }
            _ => Ok(()),
        }
    }

    /// The answer: a lease is renewed for `ttl` seconds, or does not exist (C25).
    fn kept_alive(&mut self, question: &Question, member: MemberId, ttl: i64, truth: &Truth) -> Verdict {
        let id = question.lease;
        let life = self.lives.live(id);
        if ttl <= 0 {
            let was_there = question.granted.is_some() && life.map(|life| life.granted) == question.granted;
            return ensure(ttl == 0 && !was_there, "C25", || {
                format!("member {member} says {ttl} of lease {id}, which was there all the time")
            });
        }
        self.not_ending("C25", question)?;
        if let Some(status) = truth.member(member).map(|facts| facts.status) {
            ensure(!status.leads || status.term >= question.term, "C25", || {
                let (term, newer) = (status.term, question.term);
                format!("member {member} keeps lease {id} alive as leader of term {term}; asked in term {newer}")
            })?;
        }
        let is_granted = self.lives.since(id, question.committed).any(|life| life.ttl == ttl);
        ensure(self.lives.was_since(id, question.committed), "C25", || {
            format!("member {member} keeps lease {id} alive, which is not there")
        })?;
        ensure(is_granted, "C25", || {
            format!("member {member} keeps lease {id} alive for {ttl} s, for which it was never granted")
        })?;
        if let Some(life) = self.lives.live_mut(id) {
            life.renewed = life.renewed.max(Some(question.at));
        }
        Ok(())
    }

    /// The answer: a lease is granted (C29).
    fn grant(&self, question: &Question, request: &LeaseGrantRequest, response: &LeaseGrantResponse) -> Verdict {
        let LeaseGrantResponse { id, ttl, .. } = *response;
        let is_asked = if request.id == 0 { id > 0 } else { id == request.id };
        ensure(is_asked, "C29", || format!("{request:?} is granted with id {id}"))?;
        ensure(
            request.ttl <= MAX_TTL_SECONDS && ttl >= request.ttl.max(1),
            "C29",
            || format!("{request:?} is granted with a TTL of {ttl} s"),
        )?;
        ensure(question.granted.is_none() || self.is_new(question), "C29", || {
            format!("{request:?} is granted, and was there all the time")
        })?;
        ensure(self.lives.was_since(id, question.committed), "C29", || {
            format!("{request:?} is said to be granted as {id}, and no entry grants it")
        })
    }

    /// Once its leader has handed a lease's end to the log, the lease does not exist for later requests, as long as
    /// that leader leads.
    fn not_ending(&self, checker: &'static str, question: &Question) -> Verdict {
        let id = question.lease;
        let newest = self.reigns.last_key_value().map_or(0, |(term, _)| *term);
        let same = self
            .lives
            .live(id)
            .filter(|life| Some(life.granted) == question.granted);
        let ending = same.and_then(|life| life.ending);
        let ended = ending.filter(|(since, term)| *term == newest && *since < question.at);
        ensure(ended.is_none(), checker, || {
            format!("lease {id} is said to live; its end was in the log before that was asked: {ended:?} (since, term)")
        })
    }

    /// Whether the lease of the request has ended since.
    fn is_new(&self, question: &Question) -> bool {
        self.lives.live(question.lease).map(|life| life.granted) != question.granted
    }

    /// A grant is refused (C29).
    fn refused(&self, question: &Question, request: &LeaseGrantRequest, refusal: &Refusal) -> Verdict {
        match &refusal.message[..] {
            TOO_LARGE => ensure(request.ttl > MAX_TTL_SECONDS, "C29", || {
                format!("{request:?} is refused as too long")
            }),
            EXISTS => ensure(
                request.id != 0 && self.lives.was_since(request.id, question.committed),
                "C29",
                || format!("{request:?} is refused, as if it were there"),
            ),
            _ => Ok(()),
        }
    }

    /// The answer: the remaining time of a lease (C27).
    fn time_to_live(
        &self,
        at: Instant,
        question: &Question,
        request: &LeaseTimeToLiveRequest,
        response: &LeaseTimeToLiveResponse,
        truth: &Truth,
    ) -> Verdict {
        let LeaseTimeToLiveResponse {
            id,
            ttl,
            granted_ttl,
            ref keys,
            ..
        } = *response;
        ensure(id == request.id, "C27", || {
            format!("{request:?} is answered of lease {id}")
        })?;
        ensure(request.keys || keys.is_empty(), "C27", || {
            format!("keys that were not requested: {response:?}")
        })?;
        if ttl < 0 {
            let is_bare = ttl == -1 && granted_ttl == 0 && keys.is_empty();
            ensure(is_bare, "C27", || {
                format!("a lease that is not there has nothing: {response:?}")
            })?;
            return self.has_ended(at, question);
        }
        // It may have been granted anew since the request.
        let extended = self.rules.election_timeout.as_secs() as i64 + 1;
        let tells_of = |life: &&Life| granted_ttl == life.ttl && ttl <= life.ttl + extended;
        let Some(life) = self.lives.since(id, question.committed).find(tells_of).cloned() else {
            let lives: Vec<_> = self.lives.since(id, question.committed).collect();
            return ensure(false, "C27", || format!("{response:?} of a lease that was {lives:?}"));
        };
        if ttl > 0 {
            self.not_ending("C27", question)?;
        }
        if let Some(most) = self.checkpoints.most(question.at, id) {
            ensure(ttl <= most, "C27", || {
                format!("{response:?} at {at}, where a checkpoint left {most} s at most: {life:?}")
            })?;
        }
        let (_, floor) = self.bounds(at, question);
        ensure(ttl >= floor, "C27", || {
            format!("{response:?} at {at}, where at least {floor} s are left: {life:?}")
        })?;
        let model = truth.model();
        let is_same = Some(life.granted) == question.granted && life.revoked.is_none();
        if request.keys && model.revision_at(question.committed) == model.revision() && is_same {
            let expected = model.lease(id).map(|lease| lease.keys).unwrap_or_default();
            let mut found = keys.clone();
            found.sort_unstable();
            ensure(found == expected, "C27", || {
                format!("lease {id} has the keys {expected:?}, not {found:?}")
            })?;
        }
        Ok(())
    }

    /// The answer: a lease does not exist, or has no time left.
    fn has_ended(&self, at: Instant, question: &Question) -> Verdict {
        let id = question.lease;
        if question.granted.is_none() || self.is_new(question) {
            return Ok(());
        }
        let (end, _) = self.bounds(at, question);
        ensure(at >= end, "C27", || {
            format!("lease {id} is said to have ended at {at}; it cannot end before {end}")
        })
    }

    /// The earliest true time at which the lease can end, and the least whole seconds that it has left, if the leader
    /// has not changed since the request.
    fn bounds(&self, at: Instant, question: &Question) -> (Instant, i64) {
        let (mut end, mut floor) = (Instant::ZERO, 0);
        let reign = self.reigns.last_key_value().map(|(_, reign)| *reign);
        let steady = reign.filter(|reign| reign.since <= question.at);
        let live = self.lives.live(question.lease);
        // If a lease was granted since the request, the leader may have answered for the one before.
        let same = live.filter(|life| Some(life.granted) == question.granted);
        let (Some(reign), Some(life)) = (steady, same) else {
            return (end, floor);
        };
        let life = Life {
            renewed: question.renewed,
            ..life.clone()
        };
        for (since, time) in life.terms(&reign, &self.rules) {
            end = end.max(since + self.rules.at_least(time));
            let left = time.saturating_sub(self.rules.at_most(at.saturating_since(since)));
            floor = floor.max(i64::try_from(left.as_secs()).unwrap_or(i64::MAX));
        }
        (end, floor)
    }
}
