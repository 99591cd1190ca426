//! Applying one entry of the log.
//!
//! Applying is deterministic: it uses no clock, no randomness and no property of the machine. Two inputs differ between
//! members: the quota, and whether a request waits for the answer. They affect answers and counts, never the state.

use std::sync::Arc;

use prost::Message as _;

use super::applied::{Applied, ConfOutcome, LeaseChange, MemberChange, RequestId, Response, VersionChange, header};
use super::cluster::Downgrade;
use super::content::Content;
use super::counts::{KeyCounts, Op};
use super::txn::{self, Plan};
use super::{Store, check, legacy, proposal, rows};
use crate::bug;
use crate::error::{Error, Fault};
use crate::id::MemberId;
use crate::mvcc::{Compacted, EventKind, Write};
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, CompactionRequest, CompactionResponse, DeleteRangeRequest,
    LeaseCheckpointRequest, LeaseCheckpointResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest,
    LeaseRevokeResponse, PutRequest, RangeRequest, RangeResponse, RequestHeader, TxnRequest,
};
use crate::proto::membershippb::{ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest};
use crate::proto::raftpb::{ConfChange, ConfChangeType, Entry, EntryType};
use crate::version::Version;

/// The properties of this member that an entry's answer depends on.
#[derive(Clone, Copy)]
pub struct ApplyContext<'a> {
    /// The size to which keys may grow; `None` is no limit.
    pub quota_bytes: Option<u64>,
    /// Whether a request on this member waits for the answer.
    pub wanted: &'a dyn Fn(RequestId) -> bool,
}

/// An answer, or the error.
type Answer = Result<Response, Error>;

impl Store {
    /// Applies one committed entry and appends its consequences to `out`. An entry that was applied before is skipped.
    ///
    /// # Errors
    /// A [`Fault`] for an entry that this version cannot apply as the other members do, or one that leaves a gap. The
    /// store must not be used after that.
    pub fn apply(&mut self, entry: &Entry, context: ApplyContext<'_>, out: &mut Applied) -> Result<(), Fault> {
        if entry.index <= self.consistent_index {
            return Ok(());
        }
        if entry.index != self.consistent_index + 1 {
            let cause = format!("entry {} follows entry {}", entry.index, self.consistent_index);
            return Err(Fault::Inconsistent { cause });
        }
        match EntryType::try_from(entry.entry_type) {
            Ok(EntryType::EntryNormal) if entry.data.is_empty() => out.term_opened = Some(entry.term),
            Ok(EntryType::EntryNormal) => {
                if let Some((id, header, content)) =
                    legacy::read(entry.data.clone()).map_err(|fault| at(entry, &fault))?
                {
                    self.apply_request((id, entry.index), (&header, content), context, out)
                        .map_err(|fault| at(entry, &fault))?;
                }
            }
            Ok(EntryType::EntryConfChange) => {
                let change = ConfChange::decode(entry.data.clone()).map_err(|error| Fault::Inconsistent {
                    cause: format!("entry {}: {error}", entry.index),
                })?;
                self.apply_conf_change(entry.index, change, context, out)
                    .map_err(|fault| at(entry, &fault))?;
            }
            Ok(EntryType::EntryConfChangeV2) | Err(_) => {
                let cause = format!(
                    "entry {} is of type {}, which etcd never writes",
                    entry.index, entry.entry_type
                );
                return Err(Fault::Inconsistent { cause });
            }
        }
        self.consistent_index = entry.index;
        self.term = entry.term;
        out.progress = Some((entry.index, entry.term));
        Ok(())
    }

    fn apply_request(
        &mut self,
        (id, index): (RequestId, u64),
        (caller, content): (&RequestHeader, Content),
        context: ApplyContext<'_>,
        out: &mut Applied,
    ) -> Result<(), Fault> {
        let wanted = (context.wanted)(id);
        let op = Op::of(&content);
        // As in etcd, a read is skipped if no client of this member waits for it.
        let is_counted = wanted || !matches!(op, Op::AuthRead | Op::Range);
        let refused = content.forbidden_by(&self.alarms);
        let answer = match refused.or_else(|| self.denied(caller, &content)) {
            Some(error) => Err(error),
            None => {
                let fits = check::fits_quota(content.cost(), self.kv.size_bytes(), context.quota_bytes);
                let answer = self.execute(content, index, wanted, out)?;
                if fits || answer.is_err() {
                    answer
                } else {
                    // The request is applied all the same, because it may fit the quota of other members.
                    out.raise_no_space = !bug!(PassesQuotaSilently);
                    Err(Error::NoSpace)
                }
            }
        };
        if is_counted {
            out.counts.add_request(op, &answer);
        }
        if wanted {
            out.results.push((id, answer));
        }
        Ok(())
    }

    fn execute(&mut self, content: Content, index: u64, wanted: bool, out: &mut Applied) -> Result<Answer, Fault> {
        match content {
            Content::Alarm(request) => Ok(Ok(self.alarm(&request, out))),
            Content::Auth(change) => Ok(self.change_auth(&change, out)),
            Content::AuthRead => Ok(Ok(Response::Empty)),
            Content::Authenticate(request) => Ok(self.authenticate(&request, index, out)),
            Content::Compaction(request) => Ok(self.compact(&request, out)),
            Content::DeleteRange(request) => Ok(Ok(self.delete_range(&request, out))),
            Content::Downgrade(request) => Ok(Ok(self.set_downgrade(request, out))),
            Content::LeaseCheckpoint(request) => Ok(Ok(self.checkpoint_leases(&request, out))),
            Content::LeaseGrant(request) => Ok(self.grant_lease(&request, out)),
            Content::LeaseRevoke(request) => Ok(self.revoke_lease(&request, out)),
            Content::MemberAttributes(request) => Ok(Ok(self.set_attributes(request, out))),
            Content::Nothing => Ok(Ok(Response::Empty)),
            Content::Put(request) => Ok(self.put(&request, out)),
            Content::Range(request) if wanted => Ok(self.range(&request, out)),
            Content::Range(_) => Ok(Ok(Response::Empty)),
            Content::Txn(request) => self.txn(&request, wanted, out),
            Content::Version(request) => self.set_version(&request, out).map(Ok),
        }
    }

    fn put(&mut self, request: &PutRequest, out: &mut Applied) -> Answer {
        let checked = txn::check_put(&self.kv.view(), &self.leases, request);
        if checked == Err(Error::KeyNotFound) {
            out.counts.keys.add_transaction(KeyCounts::RANGE);
        }
        checked?;
        let mut write = self.kv.begin();
        let response = txn::put(&mut write, &mut self.leases, request);
        end(write, KeyCounts::of_put(request), out);
        Ok(Response::Put(response))
    }

    fn delete_range(&mut self, request: &DeleteRangeRequest, out: &mut Applied) -> Response {
        let mut write = self.kv.begin();
        let response = txn::delete_range(&mut write, &mut self.leases, request);
        end(write, KeyCounts::of_delete(request), out);
        Response::DeleteRange(response)
    }

    fn range(&self, request: &RangeRequest, out: &mut Applied) -> Answer {
        out.counts.keys.add_transaction(KeyCounts::RANGE);
        let view = self.kv.view();
        let found = view.range(request)?;
        Ok(Response::Range(RangeResponse {
            header: header(view.revision()),
            ..found
        }))
    }

    fn txn(&mut self, request: &TxnRequest, wanted: bool, out: &mut Applied) -> Result<Answer, Fault> {
        let view = self.kv.view();
        let plan = Plan::decide(&view, request);
        let mut before = KeyCounts {
            ranges: plan.compared(),
            ..KeyCounts::default()
        };
        let checked = plan.check(&view, &self.leases, &mut before.ranges);
        out.counts.keys.add_transaction(before);
        if let Err(error) = checked {
            return Ok(Err(error));
        }
        drop(view);
        let mut write = self.kv.begin();
        let mut response = plan
            .run(&mut write, &mut self.leases, wanted)
            .map_err(|error| Fault::Inconsistent {
                cause: format!("a transaction that was checked failed halfway: {error}"),
            })?;
        response.header = header(write.revision());
        end(write, plan.counts(), out);
        if bug!(RepeatsEvent) {
            out.events.extend(out.events.last().cloned());
        }
        Ok(Ok(Response::Txn(response)))
    }

    fn compact(&mut self, request: &CompactionRequest, out: &mut Applied) -> Answer {
        let (before, is_first) = (self.kv.view(), !self.kv.is_compacting());
        self.kv.compact(request.revision, &mut out.ops)?;
        if is_first {
            let revision = request.revision;
            out.compacted.push(Compacted { before, revision });
        }
        // As in etcd, which reads a key to get the revision.
        out.counts.keys.add_transaction(KeyCounts::RANGE);
        Ok(Response::Compact(CompactionResponse { header: self.header() }))
    }

    fn grant_lease(&mut self, request: &LeaseGrantRequest, out: &mut Applied) -> Answer {
        let ttl = self
            .leases
            .grant(request.id, request.ttl, self.config.min_lease_ttl_seconds)?;
        self.write_lease(request.id, out);
        out.leases.push(LeaseChange::Granted { id: request.id, ttl });
        let header = self.header();
        Ok(Response::LeaseGrant(LeaseGrantResponse {
            header,
            id: request.id,
            ttl,
            ..LeaseGrantResponse::default()
        }))
    }

    /// Deletes a lease and its keys. The keys are deleted in their order, so that every member gives each deletion the
    /// same revision.
    fn revoke_lease(&mut self, request: &LeaseRevokeRequest, out: &mut Applied) -> Answer {
        let lease = self.leases.revoke(request.id).ok_or(Error::LeaseNotFound)?;
        let mut write = self.kv.begin();
        let mut counts = KeyCounts::default();
        for key in lease.keys() {
            write.delete_range(key, &[]);
            counts.deletes += 1;
        }
        end(write, counts, out);
        out.ops.push(rows::lease_gone(request.id));
        out.leases.push(LeaseChange::Revoked { id: request.id });
        Ok(Response::LeaseRevoke(LeaseRevokeResponse { header: self.header() }))
    }

    /// Records remaining times. They are written to the table only with `persist_lease_checkpoints`, or at a cluster
    /// version of at least 3.6, at which every member reads them.
    fn checkpoint_leases(&mut self, request: &LeaseCheckpointRequest, out: &mut Applied) -> Response {
        let understood = self.cluster.version().is_some_and(|version| version >= Version::V3_6);
        let stored = self.config.persist_lease_checkpoints || understood;
        for checkpoint in &request.checkpoints {
            let (id, remaining_ttl) = (checkpoint.id, checkpoint.remaining_ttl);
            if !self.leases.checkpoint(id, remaining_ttl) {
                continue;
            }
            if stored {
                self.write_lease(id, out);
            }
            out.leases.push(LeaseChange::Checkpointed { id, remaining_ttl });
        }
        Response::LeaseCheckpoint(LeaseCheckpointResponse { header: self.header() })
    }

    fn write_lease(&self, id: i64, out: &mut Applied) {
        out.ops.extend(self.leases.get(id).map(|lease| rows::lease(id, lease)));
    }

    fn alarm(&mut self, request: &AlarmRequest, out: &mut Applied) -> Response {
        let alarm = AlarmMember {
            member_id: request.member_id,
            alarm: request.alarm,
        };
        let alarms = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => {
                AlarmType::try_from(request.alarm).map_or(Vec::new(), |of| self.alarms.list(of).collect())
            }
            Ok(AlarmAction::Activate) if request.alarm != AlarmType::None as i32 => {
                if Arc::make_mut(&mut self.alarms).activate(&alarm) {
                    out.ops.push(rows::alarm(&alarm, true));
                }
                vec![alarm]
            }
            Ok(AlarmAction::Deactivate) if Arc::make_mut(&mut self.alarms).deactivate(&alarm) => {
                out.ops.push(rows::alarm(&alarm, false));
                vec![alarm]
            }
            Ok(AlarmAction::Activate | AlarmAction::Deactivate) | Err(_) => Vec::new(),
        };
        Response::Alarm(AlarmResponse {
            header: self.header(),
            alarms,
        })
    }

    fn set_version(&mut self, request: &ClusterVersionSetRequest, out: &mut Applied) -> Result<Response, Fault> {
        let version = proposal::version_of(request)?;
        let cluster = Arc::make_mut(&mut self.cluster);
        let before = cluster.version.replace(version);
        out.version_lowered |= before.is_some_and(|before| version < before);
        out.version_set = Some(VersionChange {
            from: before,
            to: version,
        });
        rows::cluster_version(version, &mut out.ops);
        Ok(Response::Empty)
    }

    fn set_downgrade(&mut self, request: DowngradeInfoSetRequest, out: &mut Applied) -> Response {
        let target = if request.enabled { request.ver } else { String::new() };
        let downgrade = Downgrade {
            enabled: request.enabled,
            target,
        };
        if downgrade.enabled {
            out.downgrade_begun = Some(downgrade.target.clone());
        }
        out.ops.push(rows::downgrade(&downgrade));
        Arc::make_mut(&mut self.cluster).downgrade = Some(downgrade);
        Response::Empty
    }

    /// Attributes of a member that was removed meanwhile, or never existed, are ignored.
    fn set_attributes(&mut self, request: ClusterMemberAttrSetRequest, out: &mut Applied) -> Response {
        let cluster = Arc::make_mut(&mut self.cluster);
        if let Some(member) = cluster.members.get_mut(&MemberId(request.member_id)) {
            let attributes = request.member_attributes.unwrap_or_default();
            member.name = attributes.name;
            member.client_urls = attributes.client_urls;
            out.ops.push(rows::member(member));
        }
        Response::Empty
    }

    fn apply_conf_change(
        &mut self,
        index: u64,
        mut change: ConfChange,
        context: ApplyContext<'_>,
        out: &mut Applied,
    ) -> Result<(), Fault> {
        let effect = self.cluster.decide(&change, self.config.max_learners)?;
        let cluster = Arc::make_mut(&mut self.cluster);
        cluster.carry_out(&effect, &change);
        match &effect {
            MemberChange::Added(member) | MemberChange::Updated(member) => out.ops.push(rows::member(member)),
            MemberChange::Promoted(id) => out.ops.extend(cluster.member(*id).map(rows::member)),
            MemberChange::Refused(_) => {}
            MemberChange::Removed(id) => rows::member_removed(*id, &mut out.ops),
        }
        if (context.wanted)(change.id) {
            let answer = match &effect {
                MemberChange::Refused(error) => Err(*error),
                _ => Ok(Response::Members(cluster.members().cloned().collect())),
            };
            out.results.push((change.id, answer));
        }
        if matches!(effect, MemberChange::Refused(_) | MemberChange::Updated(_)) {
            // Consensus must get every change, and has no updates of members. So it gets a refused change and an update
            // as a change of node 0, which has no effect.
            change.node_id = 0;
            change.change_type = ConfChangeType::AddNode as i32;
        } else {
            out.ops.push(rows::conf_state(cluster.conf_state()));
        }
        out.conf_changes.push(ConfOutcome { index, change, effect });
        Ok(())
    }
}

/// Ends a write, and counts what it did.
fn end(write: Write<'_>, counts: KeyCounts, out: &mut Applied) {
    let before = out.events.len();
    write.end(&mut out.events, &mut out.ops);
    let puts = out.events[before..].iter().filter(|event| event.kind == EventKind::Put);
    let put_bytes = puts.map(|event| (event.kv.key.len() + event.kv.value.len()) as u64);
    out.counts.keys.add_transaction(KeyCounts {
        put_bytes: put_bytes.sum(),
        ..counts
    });
}

/// Adds the entry's index to a fault.
fn at(entry: &Entry, fault: &Fault) -> Fault {
    Fault::Inconsistent {
        cause: format!("entry {}: {fault}", entry.index),
    }
}
