//! Applies committed entries and handles the consequences: answers, lease clocks, configuration, events, rows.

use crate::bug;
use crate::error::Error;
use crate::limits::{APPLY_TURN_ROWS, MAX_BATCH_ENTRIES};
use crate::member::{Origin, Reader, Token};
use crate::membership::ConfChangeContext;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{AlarmRequest, AlarmType};
use crate::proto::raftpb::Entry;
use crate::store::{self, ApplyContext, ConfOutcome, Content, LeaseKeys, MemberChange};
use crate::time::Instant;

use super::{Node, Response};

impl Node {
    /// Applies committed entries in order, as many as the turn's bound allows.
    pub(super) fn apply(&mut self, now: Instant) {
        while self.rows_in_turn < APPLY_TURN_ROWS && !self.unapplied.is_empty() {
            let mut last = None;
            for _ in 0..MAX_BATCH_ENTRIES {
                if self.rows_in_turn >= APPLY_TURN_ROWS {
                    break;
                }
                let Some(entry) = self.unapplied.pop_front() else { break };
                if !self.apply_entry(now, &entry) {
                    self.unapplied.clear();
                    break;
                }
                last = Some(entry.index);
            }
            if let Some(index) = last {
                self.consequences(now);
                self.member.applied_to(now, index, &mut self.outputs);
                self.follow_leadership();
            }
        }
    }

    /// Applies one entry; false if no entry may be applied after it.
    fn apply_entry(&mut self, now: Instant, entry: &Entry) -> bool {
        if self.member.is_leaving() {
            return false;
        }
        let member = &self.member;
        let wanted = |id| member.awaits(id);
        let context = ApplyContext {
            quota_bytes: self.config.quota_bytes,
            wanted: &wanted,
        };
        let changes = self.applied.events.len();
        if let Err(fault) = self.store.apply(entry, context, &mut self.applied) {
            self.member.fail(fault, &mut self.outputs);
            return false;
        }
        self.rows_in_turn += 1 + (self.applied.events.len() - changes);
        self.member.applied(entry.index, entry.term);
        self.writes.add(1, entry.data.len());
        if bug!(ReconfiguresLate) && !self.ticked {
            return true;
        }
        for outcome in std::mem::take(&mut self.applied.conf_changes) {
            self.note_ambiguity(&outcome);
            self.member
                .apply_conf_change(now, outcome.index, &outcome.change, &mut self.outputs);
            if outcome.effect == MemberChange::Removed(self.member.id()) {
                self.member.removed(now);
                self.lessor.follow(&mut self.member);
            }
            self.follow_leadership();
        }
        true
    }

    /// Remembers a learner that an update describes as a voter, until another update describes it as a learner.
    fn note_ambiguity(&mut self, outcome: &ConfOutcome) {
        match &outcome.effect {
            MemberChange::Updated(member) => {
                let described = ConfChangeContext::from_json(&outcome.change.context);
                let is_described = described.is_ok_and(|context| context.member.is_learner == member.is_learner);
                if is_described || !member.is_learner {
                    self.ambiguous.remove(&member.id);
                } else {
                    self.ambiguous.insert(member.id);
                }
            }
            MemberChange::Promoted(id) | MemberChange::Removed(id) => {
                self.ambiguous.remove(id);
            }
            MemberChange::Added(_) | MemberChange::Refused(_) => {}
        }
    }

    /// The consequences of an applied entry, except its rows, which are written later.
    fn consequences(&mut self, now: Instant) {
        for change in std::mem::take(&mut self.applied.leases) {
            self.lessor
                .changed(now, change, &mut self.tally.leases, &mut self.replies);
        }
        if let Some(term) = self.applied.term_opened.take() {
            if self.member.term_opened(term) {
                self.lessor.lead(now, self.config.member.election_timeout);
            }
            self.look_at_versions(now);
        }
        if std::mem::take(&mut self.applied.raise_no_space) {
            self.raise_no_space(now, None);
        }
        if std::mem::take(&mut self.applied.version_lowered) {
            self.member.request_marker();
        }
        let compact_revision = self.store.view().kv.compact_revision();
        self.compaction.compacted_to(now, compact_revision);
        self.events.append(&mut self.applied.events);
        self.tokens.append(&mut self.applied.tokens);
        if std::mem::take(&mut self.applied.auth_changed) {
            self.lessor.call_as(self.store.own_caller());
        }
        self.compacted.append(&mut self.applied.compacted);
        for (id, result) in std::mem::take(&mut self.applied.results) {
            if let Some(origin) = self.member.resolve(id) {
                self.outcome(now, origin, result);
            }
        }
    }

    /// The outcome of a proposal is known.
    pub(super) fn outcome(&mut self, now: Instant, origin: Origin, result: Result<store::Response, Error>) {
        match origin {
            Origin::Alarm(token) => {
                self.alarm_proposed = false;
                token
                    .into_iter()
                    .for_each(|token| self.reply(token, Err(Error::NoSpace)));
            }
            Origin::AutoCompact => {
                let compacted = matches!(result, Ok(_) | Err(Error::Compacted));
                if let Some(compactor) = &mut self.compactor {
                    compactor.finished(compacted);
                }
            }
            Origin::Client(token) => self.reply(token, result.map(Response::Applied)),
            Origin::Compact(token) => match result {
                Ok(response) => self.compaction.wait(token, response),
                Err(error) => self.reply(token, Err(error)),
            },
            Origin::Renew(token, lease) => match result {
                Ok(_) => self.renew(now, token, lease),
                Err(error) => self.reply(token, Err(error)),
            },
            Origin::Revoke(_) => {
                self.tally.leases.expired += u64::from(result.is_ok());
                self.lessor.revocation_ended();
                self.lessor.propose_revocations(now, &mut self.member);
            }
            Origin::Version => self.versions.settled(),
            Origin::Checkpoint | Origin::Publish => {}
        }
    }

    /// A linearizable read was confirmed, or its deadline passed.
    pub(super) fn read_outcome(&mut self, now: Instant, reader: Reader, outcome: Result<(), Error>) {
        match (reader, outcome) {
            (Reader::Expiry, outcome) => {
                self.lessor.confirmed(outcome.is_ok());
                self.lessor.propose_revocations(now, &mut self.member);
            }
            (Reader::Read(token), outcome) => self.reply(token, outcome.map(|()| Response::Read)),
            (Reader::Renew(token, lease), Ok(())) => self.renew(now, token, lease),
            (Reader::TimeToLive { token, lease, keys }, Ok(())) => self.time_to_live(now, token, lease, keys),
            (Reader::Renew(token, _) | Reader::TimeToLive { token, .. }, Err(error)) => self.reply(token, Err(error)),
        }
    }

    /// Proposes this member's NOSPACE alarm, unless it is raised already. The client whose request did not fit is
    /// answered once the outcome is known, or at once if nothing is proposed.
    pub(super) fn raise_no_space(&mut self, now: Instant, token: Option<Token>) {
        let member_id = self.member.id().0;
        let alarms = self.store.view().alarms;
        let is_on = alarms
            .list(AlarmType::Nospace)
            .any(|alarm| alarm.member_id == member_id);
        let is_under_way = token.is_none() && self.alarm_proposed;
        if is_on || is_under_way || self.propose_no_space(now, token).is_err() {
            token
                .into_iter()
                .for_each(|token| self.reply(token, Err(Error::NoSpace)));
        }
    }

    fn propose_no_space(&mut self, now: Instant, token: Option<Token>) -> Result<(), Error> {
        let alarm = AlarmRequest {
            action: AlarmAction::Activate as i32,
            member_id: self.member.id().0,
            alarm: AlarmType::Nospace as i32,
        };
        self.member
            .propose_own(now, Origin::Alarm(token), Content::Alarm(alarm))?;
        self.alarm_proposed = true;
        Ok(())
    }

    /// Renews a lease, after the member confirmed that it leads.
    fn renew(&mut self, now: Instant, token: Token, lease: i64) {
        let counts = &mut self.tally.leases;
        self.lessor
            .renew(now, token, lease, &mut self.member, counts, &mut self.replies);
    }

    /// Answers the remaining time of a lease and its keys, after the member confirmed that it leads.
    fn time_to_live(&mut self, now: Instant, token: Token, lease: i64, keys: bool) {
        let Some(time_left) = self.lessor.time_left(now, lease) else {
            return self.reply(token, Err(Error::LeaderChanged));
        };
        let Some((ttl, granted_ttl)) = time_left else {
            return self.reply(
                token,
                Ok(Response::TimeToLive {
                    ttl: -1,
                    granted_ttl: 0,
                    keys: LeaseKeys::default(),
                }),
            );
        };
        let leases = self.store.view().leases;
        let keys = leases.get(lease).filter(|_| keys).map(|lease| lease.all_keys());
        self.reply(
            token,
            Ok(Response::TimeToLive {
                ttl,
                granted_ttl,
                keys: keys.unwrap_or_default(),
            }),
        );
    }
}
