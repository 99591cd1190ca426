//! Checks what must happen in time once a majority is no longer disturbed (L1 to L4), and that then no member misses
//! anything acknowledged (C39). The checkers of watches and leases check the deadlines of those.

use std::time::Duration;

use quoin_core::id::MemberId;
use quoin_core::time::Instant;

use super::{Checker, Healed, Op, Truth};
use crate::observe::{Observation, Verdict, Violation, ensure};

/// Election timeouts until there is a leader.
const LEADER_WITHIN: u32 = 5;
/// Election timeouts until a write is answered.
const WRITE_WITHIN: u32 = 6;
/// Election timeouts after which the checker records what members must have.
const TARGET_AFTER: u32 = 15;
/// Election timeouts until they have it.
const CAUGHT_UP_WITHIN: u32 = 20;
/// Every limit grows by this many election timeouts for each term that began since: a member waits for one to two
/// election timeouts, simultaneous candidates split the votes, and each then waits again, for up to two. Without this
/// no bound holds for every run.
const TERM_WITHIN: u32 = 2;
/// How much terms may grow if all members hold pre-votes. A term is lost only to candidates whose timeouts end within
/// the time that a message takes, at worst one in five: six in a row are a livelock.
const TERMS_MAX: u64 = 6;
/// How much terms may grow otherwise. A candidate that lags behind begins a term that it cannot win, and so makes the
/// others draw their timeouts anew. Up to two of three members cannot win: a term is lost two times in three.
const HASTY_TERMS_MAX: u64 = 40;

/// The checker.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// A leader was observed among the undisturbed members.
    has_leader: bool,
    /// The number of terms that began.
    terms: u64,
    /// How many terms a member was behind, if not all hold pre-votes. A candidate of an old term gets no answer from
    /// members of a newer one: if its log is the only one that can win, it campaigns again for each term between.
    behind: u64,
    leader_done: bool,
    /// When the first undisturbed write was requested.
    write_asked: Option<Instant>,
    write_answered: bool,
    write_done: bool,
    /// The entry that every member must have applied at the end.
    target: Option<u64>,
    caught_up_done: bool,
}

impl Checker for Liveness {
    fn see(&mut self, at: Instant, seen: &Observation<'_>, truth: &Truth) -> Verdict {
        let Some(healed) = truth.healed() else { return Ok(()) };
        if let Observation::Healed { .. } = seen {
            *self = Self::default();
        }
        self.note(at, seen, healed, truth)?;
        if self.caught_up_done {
            return Ok(());
        }
        self.due(at, healed, truth)
    }
}

impl Liveness {
    fn note(&mut self, at: Instant, seen: &Observation<'_>, healed: &Healed, truth: &Truth) -> Verdict {
        match *seen {
            Observation::Healed { .. } => {
                self.has_leader = leader(healed, truth).is_some();
                if !healed.pre_vote {
                    let known = healed.core.iter().filter_map(|id| truth.member(*id));
                    let oldest = known.map(|facts| facts.disk.hard_state.term).min();
                    self.behind = oldest.map_or(0, |term| healed.term.saturating_sub(term));
                }
                Ok(())
            }
            Observation::Published { member, status, .. } if healed.core.contains(&member) => {
                self.has_leader |= status.leads || leader(healed, truth).is_some();
                self.terms = self.terms.max(status.term.saturating_sub(healed.term));
                let limit = if healed.pre_vote { TERMS_MAX } else { HASTY_TERMS_MAX };
                ensure(self.terms <= limit, "L4", || {
                    format!("terms grew from {} to {} after healing", healed.term, status.term)
                })
            }
            Observation::Invoked { member, call, .. } if !call.is_read() && healed.core.contains(&member) => {
                if leader(healed, truth).is_some_and(|leader| leader == knows(member, truth)) {
                    self.write_asked.get_or_insert(at);
                }
                Ok(())
            }
            Observation::Replied { op, .. } => {
                // An error is an answer, too.
                self.write_answered |= truth.op(op).is_some_and(|op| is_write_since(op, healed));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn due(&mut self, at: Instant, healed: &Healed, truth: &Truth) -> Verdict {
        let elapsed = at.saturating_since(healed.at);
        let terms = u32::try_from(self.terms + self.behind).unwrap_or(u32::MAX / 4);
        let limit = |timeouts: u32| healed.election_timeout * (timeouts + terms * TERM_WITHIN);
        let is_due = |timeouts: u32| elapsed > limit(timeouts);
        if !self.leader_done && is_due(LEADER_WITHIN) {
            self.leader_done = true;
            ensure(self.has_leader, "L1", || {
                format!("{elapsed:?} after healing none of {:?} leads", healed.core)
            })?;
        }
        if !self.write_done
            && let Some(asked) = self.write_asked
            && at.saturating_since(asked) > limit(WRITE_WITHIN)
        {
            self.write_done = true;
            ensure(self.write_answered, "L2", || {
                format!("{elapsed:?} after healing no write is answered, and one was asked for at {asked}")
            })?;
        }
        if self.target.is_none() && is_due(TARGET_AFTER) {
            self.target = Some(truth.committed());
        }
        if is_due(CAUGHT_UP_WITHIN) {
            self.caught_up_done = true;
            return caught_up(elapsed, healed, self.target.unwrap_or(0), truth);
        }
        Ok(())
    }
}

fn caught_up(elapsed: Duration, healed: &Healed, target: u64, truth: &Truth) -> Verdict {
    let members = &truth.model().cluster_at(truth.committed()).members;
    for id in healed.core.iter().filter(|id| members.contains_key(&id.0)) {
        let facts = truth.member(*id);
        let (applied, revision) = facts.map_or((0, 0), |facts| {
            (facts.applied, facts.view.as_ref().map_or(0, |view| view.kv.revision()))
        });
        ensure(applied >= target, "L3", || {
            format!("{elapsed:?} after healing member {id} has applied entry {applied}, and {target} were committed")
        })?;
        // The entries up to `target` contain everything that was acknowledged before healing.
        let acked = truth.model().revision_at(target);
        if revision < acked {
            let words = format!("member {id} is at revision {revision}, and {acked} is acknowledged");
            return Err(Violation { checker: "C39", words });
        }
    }
    Ok(())
}

/// The leader of the undisturbed members: one of them, or a member that one of them follows.
fn leader(healed: &Healed, truth: &Truth) -> Option<MemberId> {
    let followed = healed.core.iter().find_map(|id| {
        let follower = truth.member(*id).filter(|facts| facts.is_up)?;
        let leader = truth.member(follower.status.leader)?;
        let leads = leader.is_up && leader.status.leads && leader.status.term == follower.status.term;
        leads.then_some(follower.status.leader)
    });
    let mut core = healed.core.iter().copied();
    followed.or_else(|| core.find(|id| truth.member(*id).is_some_and(|facts| facts.is_up && facts.status.leads)))
}

/// The leader by a member's status.
fn knows(member: MemberId, truth: &Truth) -> MemberId {
    truth.member(member).map_or(MemberId::NONE, |facts| facts.status.leader)
}

fn is_write_since(op: &Op, healed: &Healed) -> bool {
    op.invoked >= healed.at && !op.call.is_read()
}
