//! From committed entries to their consequences: answers, lease clocks, configuration, events, rows.

use crate::error::Error;
use crate::limits::{APPLY_TURN_ROWS, MAX_BATCH_ENTRIES};
use crate::member::{Origin, Reader, Renewal, Timer, Token};
use crate::mutant;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{
    AlarmRequest, AlarmType, InternalRaftRequest, LeaseCheckpoint, LeaseCheckpointRequest,
};
use crate::proto::raftpb::Entry;
use crate::store::{self, ApplyContext, LeaseChange, LeaseKeys, MemberChange};
use crate::time::Instant;

use super::{LateRenewal, Node, Response};

impl Node {
    /// Applies committed entries in order, as many as fit into the turn.
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
            }
        }
    }

    /// Applies one entry; false where nothing may be applied after it.
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
        if mutant::is(32) && !self.ticked {
            return true;
        }
        for outcome in std::mem::take(&mut self.applied.conf_changes) {
            self.member
                .apply_conf_change(now, outcome.index, &outcome.change, &mut self.outputs);
            if outcome.effect == MemberChange::Removed(self.member.id()) {
                self.member.removed(now);
            }
        }
        true
    }

    /// What applying led to, but for rows, which are written later.
    fn consequences(&mut self, now: Instant) {
        for change in std::mem::take(&mut self.applied.leases) {
            match change {
                LeaseChange::Checkpointed { id, remaining_ttl } => {
                    self.member.lease_checkpointed(now, id, remaining_ttl);
                }
                LeaseChange::Granted { id, ttl } => {
                    self.tally.leases.granted.push(ttl);
                    self.member.lease_granted(now, id, ttl);
                }
                LeaseChange::Revoked { id } => {
                    self.tally.leases.revoked += 1;
                    self.member.lease_revoked(id);
                    self.answer_late_renewals(|renewal| renewal.lease == id, Ok(Response::Renewed { ttl: 0 }));
                }
            }
        }
        if let Some(term) = self.applied.term_opened.take() {
            self.member.term_opened(now, term);
            self.decide_version(now);
        }
        if std::mem::take(&mut self.applied.raise_no_space) {
            self.raise_no_space(now, None);
        }
        if std::mem::take(&mut self.applied.version_lowered) {
            self.member.request_snapshot();
        }
        self.start_compaction(now);
        self.events.append(&mut self.applied.events);
        self.compacted.append(&mut self.applied.compacted);
        for (id, result) in std::mem::take(&mut self.applied.results) {
            if let Some(origin) = self.member.resolve(id) {
                self.outcome(now, origin, result);
            }
        }
    }

    /// A proposal came to something, or to nothing.
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
                Ok(response) => self.compaction.waiting.push((token, response)),
                Err(error) => self.reply(token, Err(error)),
            },
            Origin::Renew(token, lease) => match result {
                Ok(_) => self.renew(now, token, lease),
                Err(error) => self.reply(token, Err(error)),
            },
            Origin::Revoke(_) => {
                self.tally.leases.expired += u64::from(result.is_ok());
                self.member.propose_revocations(now);
            }
            Origin::Version => self.version_proposed = false,
            Origin::Checkpoint | Origin::Publish => {}
        }
    }

    /// A linearizable read was confirmed, or was not in time.
    pub(super) fn read_outcome(&mut self, now: Instant, reader: Reader, outcome: Result<(), Error>) {
        match (reader, outcome) {
            (Reader::Expiry, _) => self.member.propose_revocations(now),
            (Reader::Read(token), outcome) => self.reply(token, outcome.map(|()| Response::Read)),
            (Reader::Renew(token, lease), Ok(())) => self.renew(now, token, lease),
            (Reader::TimeToLive(token, lease), Ok(())) => self.time_to_live(now, token, lease),
            (Reader::Renew(token, _) | Reader::TimeToLive(token, _), Err(error)) => self.reply(token, Err(error)),
        }
    }

    /// Answers renewals that waited for the end of their leases.
    pub(super) fn answer_late_renewals(
        &mut self,
        mut is_decided: impl FnMut(&LateRenewal) -> bool,
        result: Result<Response, Error>,
    ) {
        let decided: Vec<_> = self
            .late_renewals
            .extract_if(.., |renewal| is_decided(renewal))
            .collect();
        for renewal in decided {
            self.reply(renewal.token, result.clone());
        }
    }

    /// Raises this member's NOSPACE alarm, unless it is on; the client whose request did not fit hears of it afterwards.
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
        let request = InternalRaftRequest {
            alarm: Some(alarm),
            ..InternalRaftRequest::default()
        };
        let deadline = now + self.config.member.request_timeout();
        self.member.propose(now, Origin::Alarm(token), deadline, request)?;
        self.alarm_proposed = true;
        Ok(())
    }

    /// The member confirmed that it leads: keeps a lease alive.
    fn renew(&mut self, now: Instant, token: Token, lease: i64) {
        let deadline = now + self.config.member.request_timeout();
        match self.member.renew_lease(now, lease) {
            None => self.reply(token, Err(Error::NotLeader)),
            Some(Renewal::Unknown) => self.reply(token, Ok(Response::Renewed { ttl: 0 })),
            Some(Renewal::Renewed(ttl)) => {
                self.tally.leases.renewed += 1;
                self.reply(token, Ok(Response::Renewed { ttl }));
            }
            Some(Renewal::Expired) => self.late_renewals.push(LateRenewal { lease, token, deadline }),
            Some(Renewal::Checkpointed) => {
                let checkpoints = vec![LeaseCheckpoint {
                    id: lease,
                    remaining_ttl: 0,
                }];
                let checkpoint = LeaseCheckpointRequest { checkpoints };
                let request = InternalRaftRequest {
                    lease_checkpoint: Some(checkpoint),
                    ..InternalRaftRequest::default()
                };
                if let Err(error) = self.member.propose(now, Origin::Renew(token, lease), deadline, request) {
                    self.reply(token, Err(error));
                }
            }
        }
    }

    /// The member confirmed that it leads: tells what is left of a lease.
    fn time_to_live(&mut self, now: Instant, token: Token, lease: i64) {
        let Some(time_left) = self.member.lease_time_left(now, lease) else {
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
        let wanted = self.keys_wanted.contains(&token);
        let leases = self.store.view().leases;
        let keys = leases.get(lease).filter(|_| wanted).map(|lease| lease.all_keys());
        self.reply(
            token,
            Ok(Response::TimeToLive {
                ttl,
                granted_ttl,
                keys: keys.unwrap_or_default(),
            }),
        );
    }

    /// Starts to free space where a compaction was applied.
    fn start_compaction(&mut self, now: Instant) {
        let revision = self.store.view().kv.compact_revision();
        if revision != self.compaction.revision {
            self.compaction.revision = revision;
            self.member.timers.set(Timer::CompactStep, now);
        }
    }
}
