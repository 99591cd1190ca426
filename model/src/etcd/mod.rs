//! The reference model: etcd's semantics as one sequential machine, simple rather than fast.
//!
//! It was written from the description of etcd's behaviour alone and shares only the messages with core, so that a
//! mistake in one is not a mistake in both. It is fed the committed log ([`State::apply`]), or single calls if there is
//! no log ([`State::execute`]). It keeps its whole past: for every answer of a member it can compute the right one at
//! the index at which the member answered ([`ask`]).
//!
//! It does not model:
//! - *time*: a lease exists from its grant to its revocation;
//! - *the state of one member*: its quota (a member above it answers NOSPACE although the write is applied),
//!   leadership, health, sizes, and when a compaction frees space;
//! - *duplicates*: etcd uses the id of a proposal only to route its answer, so an entry that is in the log twice is
//!   applied twice. A checker has to find duplicates, by [`Outcome::id`].

mod alarm;
pub mod ask;
mod auth;
pub mod check;
mod cluster;
mod digest;
mod entry;
mod hash;
mod json;
mod kv;
mod lease;
mod range;
mod refusal;
#[cfg(test)]
mod tests;
mod timeline;
mod txn;

use std::ops::Range;

use quoin_core::proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AuthEnableResponse, AuthenticateResponse, CompactionRequest, CompactionResponse,
    LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse, Member, PutRequest, PutResponse,
    RequestHeader, TxnRequest, TxnResponse,
};
use quoin_core::proto::raftpb::Entry;

pub use auth::{Auth, User};
pub use check::check;
pub use cluster::Cluster;
pub use kv::{Event, EventKind};
pub use lease::Lease;

use crate::call::{Answer, Call, Refusal};
use alarm::Alarms;
use cluster::Change;
use digest::Digest;
use entry::Asked;
use kv::{Kv, header};
use lease::Leases;
use range::View;
use refusal::{COMPACTED, FUTURE_REVISION, NOT_MODELLED};
use timeline::Timeline;
use txn::Branch;

/// Settings that all members of a cluster share.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rules {
    /// The shortest TTL that is granted, in seconds: one and a half election timeouts, rounded up.
    pub min_lease_ttl: i64,
    /// The largest number of learners.
    pub max_learners: usize,
    /// Whether leaders write checkpoints of long leases: `Some(true)` if every leader does, `Some(false)` if none does,
    /// `None` if they differ.
    pub checkpoints: Option<bool>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            min_lease_ttl: 2,
            max_learners: 1,
            checkpoints: None,
        }
    }
}

/// The result of an entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The id of the request or membership change; 0 if it has none.
    pub id: u64,
    /// The answer for the client.
    pub result: Result<Answer, Refusal>,
    /// The revision after it.
    pub revision: i64,
    /// The revisions it made: none or one.
    pub revisions: Range<i64>,
}

/// The applied state of a cluster, with its whole past.
#[derive(Clone, Debug)]
pub struct State {
    rules: Rules,
    applied_index: u64,
    kv: Kv,
    /// The index of the entry that made revision 2, 3, and so on.
    made_at: Vec<u64>,
    compact_revision: Timeline<i64>,
    leases: Leases,
    alarms: Timeline<Alarms>,
    auth: Timeline<Auth>,
    cluster: Timeline<Cluster>,
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// The state before the first entry.
    #[must_use]
    pub fn new() -> Self {
        Self::with_rules(Rules::default())
    }

    /// The state before the first entry, of members with these settings.
    #[must_use]
    pub fn with_rules(rules: Rules) -> Self {
        Self {
            rules,
            applied_index: 0,
            kv: Kv::default(),
            made_at: Vec::new(),
            compact_revision: Timeline::new(NEVER_COMPACTED),
            leases: Leases::default(),
            alarms: Timeline::new(Alarms::default()),
            auth: Timeline::new(Auth::default()),
            cluster: Timeline::new(Cluster::default()),
        }
    }

    /// Applies a committed entry. An entry that was applied before changes nothing.
    ///
    /// # Panics
    /// If there are entries missing between the last one applied and this one.
    pub fn apply(&mut self, entry: &Entry) -> Outcome {
        let (caller, asked) = entry::read(entry);
        let before = self.revision();
        let result = if entry.index <= self.applied_index {
            Ok(Answer::Internal)
        } else {
            assert_eq!(
                entry.index,
                self.applied_index + 1,
                "the model was not given every entry"
            );
            self.applied_index = entry.index;
            self.perform(&caller, asked)
        };
        Outcome {
            id: caller.id,
            result,
            revision: self.revision(),
            revisions: before + 1..self.revision() + 1,
        }
    }

    /// Carries out a call, as if its client were the only one. A call that is not a read takes the next index of the
    /// log.
    ///
    /// A new member gets the lowest id that no member had. Real ids depend on a clock; do not compare them.
    ///
    /// # Errors
    /// The error that its client gets.
    pub fn execute(&mut self, call: &Call) -> Result<Answer, Refusal> {
        if call.is_read() {
            return self.answer(call, self.applied_index);
        }
        self.applied_index += 1;
        let change = match call {
            Call::MemberAdd(request) => Change::Add(Member {
                id: self.unused_id(),
                peer_urls: request.peer_urls.clone(),
                is_learner: request.is_learner,
                ..Member::default()
            }),
            Call::MemberPromote(request) => Change::Promote(request.id),
            Call::MemberRemove(request) => Change::Remove(request.id),
            Call::MemberUpdate(request) => Change::Update {
                id: request.id,
                peer_urls: request.peer_urls.clone(),
            },
            _ => return self.call(&RequestHeader::default(), call),
        };
        self.change(change)
    }

    /// A hash of everything that a client could read, now or at an earlier revision. States with different pasts have
    /// different hashes, even if a compaction hides the difference.
    #[must_use]
    pub fn digest(&self) -> u128 {
        let mut digest: Digest = self.kv.digest();
        digest.signed(self.kv.revision());
        digest.signed(*self.compact_revision.now());
        self.leases.feed(&mut digest);
        self.alarms.now().feed(&mut digest);
        self.cluster.now().feed(&mut digest);
        digest.value()
    }

    fn perform(&mut self, caller: &RequestHeader, asked: Asked) -> Result<Answer, Refusal> {
        let index = self.applied_index;
        match asked {
            Asked::Authenticate(request) => {
                let token = self.auth.now().authenticate(index, &request)?;
                let header = header(self.revision());
                return Ok(Answer::Authenticate(AuthenticateResponse { header, token }));
            }
            Asked::Call(call) => return self.call(caller, &call),
            Asked::Member(change) => return self.change(change),
            Asked::Unknown => return Err(NOT_MODELLED.into()),
            Asked::Checkpoint(checkpoints) => self.leases.checkpoint(index, &checkpoints),
            Asked::Downgrade(target) => self.agree(|cluster| cluster.downgrade = target),
            Asked::Publish { id, name, client_urls } => self.agree(|cluster| cluster.publish(id, name, client_urls)),
            Asked::Version(version) => self.agree(|cluster| cluster.version = Some(version)),
            Asked::Nothing => {}
        }
        Ok(Answer::Internal)
    }

    fn agree(&mut self, change: impl FnOnce(&mut Cluster)) {
        let mut cluster = self.cluster.now().clone();
        change(&mut cluster);
        self.cluster.set(self.applied_index, cluster);
    }

    fn change(&mut self, change: Change) -> Result<Answer, Refusal> {
        let mut cluster = self.cluster.now().clone();
        let answer = cluster.change(change, self.rules.max_learners)?;
        self.cluster.set(self.applied_index, cluster);
        Ok(answer)
    }

    fn unused_id(&self) -> u64 {
        let cluster = self.cluster.now();
        let used = cluster.members.keys().chain(&cluster.removed).max();
        used.map_or(1, |id| id + 1)
    }

    /// Carries out a call at the applied index, if the alarms and the user's permissions allow it.
    fn call(&mut self, caller: &RequestHeader, call: &Call) -> Result<Answer, Refusal> {
        self.alarms.now().gate(call)?;
        self.permits_entry(caller, call, self.applied_index)?;
        match call {
            Call::Alarm(request) => Ok(self.alarm(request)),
            Call::Auth(change) => {
                let mut auth = self.auth.now().clone();
                auth.change(self.applied_index, change)?;
                self.auth.set(self.applied_index, auth);
                let header = header(self.revision());
                Ok(Answer::Auth(AuthEnableResponse { header }))
            }
            Call::Compact(request) => self.compact(request),
            Call::DeleteRange(request) => {
                let response = self.kv.delete_range(request);
                self.finish();
                Ok(Answer::DeleteRange(response))
            }
            Call::LeaseGrant(request) => self.lease_grant(request),
            Call::LeaseRevoke(request) => self.lease_revoke(request),
            Call::Put(request) => self.put(request).map(Answer::Put),
            Call::Txn(request) => self.txn(request).map(Answer::Txn),
            _ => self.answer(call, self.applied_index),
        }
    }

    fn alarm(&mut self, request: &AlarmRequest) -> Answer {
        let mut alarms = self.alarms.now().clone();
        let about = alarms.apply(request);
        if alarms != *self.alarms.now() {
            self.alarms.set(self.applied_index, alarms);
        }
        Answer::Alarm(AlarmResponse {
            header: header(self.revision()),
            alarms: about,
        })
    }

    /// Compacts: from here on, revisions before this one cannot be read.
    fn compact(&mut self, request: &CompactionRequest) -> Result<Answer, Refusal> {
        if request.revision <= *self.compact_revision.now() {
            return Err(COMPACTED.into());
        }
        if request.revision > self.revision() {
            return Err(FUTURE_REVISION.into());
        }
        self.compact_revision.set(self.applied_index, request.revision);
        let header = header(self.revision());
        Ok(Answer::Compact(CompactionResponse { header }))
    }

    fn lease_grant(&mut self, request: &LeaseGrantRequest) -> Result<Answer, Refusal> {
        let ttl = self
            .leases
            .grant(self.applied_index, request, self.rules.min_lease_ttl)?;
        Ok(Answer::LeaseGrant(LeaseGrantResponse {
            header: header(self.revision()),
            id: request.id,
            ttl,
            error: String::new(),
        }))
    }

    /// The lease and its keys are deleted together, the keys in order and at one revision.
    fn lease_revoke(&mut self, request: &LeaseRevokeRequest) -> Result<Answer, Refusal> {
        self.leases.revoke(self.applied_index, request.id)?;
        for key in self.keys_of(request.id, self.kv.revision()) {
            self.kv.delete(key);
        }
        self.finish();
        let header = header(self.revision());
        Ok(Answer::LeaseRevoke(LeaseRevokeResponse { header }))
    }

    fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Refusal> {
        txn::check_put(self.view(self.applied_index), &self.leases, request)?;
        let response = self.kv.put(request);
        self.finish();
        Ok(response)
    }

    fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Refusal> {
        let view = self.view(self.applied_index);
        let branch = Branch::choose(view, request);
        branch.check(view, &self.leases)?;
        let mut response = branch.run(&mut self.kv, *self.compact_revision.now());
        self.finish();
        response.header = header(self.revision());
        Ok(response)
    }

    /// Ends a write.
    fn finish(&mut self) {
        if self.kv.finish() {
            self.made_at.push(self.applied_index);
        }
    }

    fn view(&self, index: u64) -> View<'_> {
        View {
            kv: &self.kv,
            revision: self.revision_at(index),
            compact_revision: self.compact_revision_at(index),
        }
    }
}

/// The compact revision before the first compaction.
const NEVER_COMPACTED: i64 = -1;
