//! The model's answers for any moment of the past: for the state after the entry at some index of the log.
//!
//! The index determines the current and the compact revision; a request for older revisions is then answered, or
//! refused, as it would have been at that moment. An index after the last applied entry means the present.

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::{
    AlarmMember, AlarmType, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, Member, MemberListResponse, MoveLeaderResponse, RangeRequest, RangeResponse,
    ResponseHeader, StatusResponse, TxnRequest, TxnResponse,
};
use quoin_core::proto::mvccpb::KeyValue;

use super::hash::hash_kv;
use super::kv::{Event, FIRST_REVISION, header};
use super::lease::{Lease, Ttl};
use super::refusal::NOT_MODELLED;
use super::txn::Branch;
use super::{Cluster, State};
use crate::call::{Answer, Call, Refusal, is_read_only};

impl State {
    /// The index of the last entry applied.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// The current revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.kv.revision()
    }

    /// The current revision at an index.
    #[must_use]
    pub fn revision_at(&self, index: u64) -> i64 {
        if self.made_at.last().is_none_or(|last| *last <= index) {
            return self.revision();
        }
        FIRST_REVISION + self.made_at.partition_point(|made_at| *made_at <= index) as i64
    }

    /// The revision compacted at an index; -1 if there was none.
    #[must_use]
    pub fn compact_revision_at(&self, index: u64) -> i64 {
        *self.compact_revision.at(index)
    }

    /// The index of the entry that made a revision; 0 for the revision before the first write, `None` for a future one.
    #[must_use]
    pub fn index_of_revision(&self, revision: i64) -> Option<u64> {
        if revision <= FIRST_REVISION {
            return Some(0);
        }
        self.made_at.get((revision - FIRST_REVISION - 1) as usize).copied()
    }

    /// The answer to a read at an index.
    ///
    /// # Errors
    /// The error that its client gets.
    pub fn range(&self, request: &RangeRequest, index: u64) -> Result<RangeResponse, Refusal> {
        self.view(index).range(request)
    }

    /// The answer to a transaction that only reads, at an index.
    ///
    /// # Errors
    /// The error that its client gets; also if the transaction is not read-only.
    pub fn txn_read_only(&self, request: &TxnRequest, index: u64) -> Result<TxnResponse, Refusal> {
        if !is_read_only(request) {
            return Err(NOT_MODELLED.into());
        }
        let view = self.view(index);
        Branch::choose(view, request).read(view)
    }

    /// The answer to any call that changes nothing, at an index. Remaining times in it are the greatest possible, and a
    /// status has only the fields that the log determines.
    ///
    /// # Errors
    /// The error that its client gets; also if the call would change something.
    pub fn answer(&self, call: &Call, index: u64) -> Result<Answer, Refusal> {
        let revision = self.revision_at(index);
        Ok(match call {
            Call::HashKv(request) => Answer::HashKv(hash_kv(self.view(index), request.revision)?),
            Call::LeaseKeepAlive { id } => Answer::LeaseKeepAlive(LeaseKeepAliveResponse {
                header: header(revision),
                id: *id,
                // A lease that does not exist has TTL 0, without an error.
                ttl: self.leases.at(*id, index).map_or(0, |ttl| ttl.granted),
            }),
            Call::LeaseLeases => Answer::LeaseLeases(LeaseLeasesResponse {
                header: header(revision),
                leases: self.leases.all_at(index).map(|(id, _)| LeaseStatus { id }).collect(),
            }),
            Call::LeaseTimeToLive(request) => Answer::LeaseTimeToLive(self.time_to_live(*request, index)),
            Call::MemberList(_) => Answer::MemberList(MemberListResponse {
                header: Some(ResponseHeader::default()),
                members: self.members_at(index),
            }),
            Call::MoveLeader(_) => Answer::MoveLeader(MoveLeaderResponse { header: None }),
            Call::Range(request) => Answer::Range(self.range(request, index)?),
            Call::Status => Answer::Status(StatusResponse {
                header: header(revision),
                raft_applied_index: index,
                ..StatusResponse::default()
            }),
            Call::Txn(request) => Answer::Txn(self.txn_read_only(request, index)?),
            _ => return Err(NOT_MODELLED.into()),
        })
    }

    fn time_to_live(&self, request: LeaseTimeToLiveRequest, index: u64) -> LeaseTimeToLiveResponse {
        let header = header(self.revision_at(index));
        let id = request.id;
        match self.lease_at(id, index) {
            Some(lease) => LeaseTimeToLiveResponse {
                header,
                id,
                ttl: lease.granted_ttl,
                granted_ttl: lease.granted_ttl,
                keys: if request.keys { lease.keys } else { Vec::new() },
            },
            None => LeaseTimeToLiveResponse {
                header,
                id,
                ttl: -1,
                ..LeaseTimeToLiveResponse::default()
            },
        }
    }

    /// The events from one revision to another, both included, in order. Each has the key-value before it, if there was
    /// one, even if that was compacted.
    #[must_use]
    pub fn events(&self, from: i64, to: i64) -> &[Event] {
        self.kv.events(from, to)
    }

    /// Every key that existed at a revision, in order, compacted or not.
    pub fn live(&self, revision: i64) -> impl Iterator<Item = &KeyValue> {
        self.kv.live(revision)
    }

    /// A key as it was at a revision, compacted or not.
    #[must_use]
    pub fn key_at(&self, key: &[u8], revision: i64) -> Option<&KeyValue> {
        self.kv.get(key, revision)
    }

    /// Checks that these are the keys that existed at a revision, in order.
    ///
    /// # Errors
    /// The first difference, as text.
    pub fn compare_kv(&self, revision: i64, kvs: impl IntoIterator<Item = KeyValue>) -> Result<(), String> {
        let (mut expected, mut found) = (self.live(revision), kvs.into_iter());
        loop {
            match (expected.next(), found.next()) {
                (None, None) => return Ok(()),
                (Some(expected), Some(found)) if *expected == found => {}
                (expected, found) => {
                    return Err(format!(
                        "at revision {revision} the model has {expected:?} where {found:?} was found"
                    ));
                }
            }
        }
    }

    /// The leases that existed at an index, by id.
    #[must_use]
    pub fn leases_at(&self, index: u64) -> Vec<Lease> {
        let leases = self.leases.all_at(index);
        leases.map(|(id, ttl)| self.whole_lease(id, ttl, index)).collect()
    }

    /// A lease as it was at an index.
    #[must_use]
    pub fn lease_at(&self, id: i64, index: u64) -> Option<Lease> {
        let ttl = self.leases.at(id, index)?;
        Some(self.whole_lease(id, ttl, index))
    }

    /// A lease as it is.
    #[must_use]
    pub fn lease(&self, id: i64) -> Option<Lease> {
        self.lease_at(id, self.applied_index)
    }

    fn whole_lease(&self, id: i64, ttl: Ttl, index: u64) -> Lease {
        Lease {
            id,
            granted_ttl: ttl.granted,
            remaining_ttl: ttl.remaining,
            keys: self.keys_of(id, self.revision_at(index)),
        }
    }

    /// The keys attached to a lease at a revision: a key is attached to the lease it was last written with.
    pub(super) fn keys_of(&self, lease: i64, revision: i64) -> Vec<Bytes> {
        let attached = self.live(revision).filter(|kv| kv.lease == lease);
        attached.map(|kv| kv.key.clone()).collect()
    }

    /// The state of the cluster at an index, as the log defines it: members, removed ids, version, downgrade.
    #[must_use]
    pub fn cluster_at(&self, index: u64) -> &Cluster {
        self.cluster.at(index)
    }

    /// The members at an index, by id.
    #[must_use]
    pub fn members_at(&self, index: u64) -> Vec<Member> {
        self.cluster_at(index).list()
    }

    /// The alarms that were active at an index.
    #[must_use]
    pub fn alarms_at(&self, index: u64) -> Vec<AlarmMember> {
        self.alarms.at(index).list(AlarmType::None as i32)
    }
}
