//! The answers to calls, as a closed list. An answer that may be long shares its rows with the view that was read,
//! until a codec encodes them.

use super::{Server, Then, cluster};
use crate::mvcc::Found;
use crate::node::LeaseTimes;
use crate::proto::etcdserverpb::response_op::Response as OpResponse;
use crate::proto::etcdserverpb::{
    AlarmResponse, AuthEnableResponse, AuthRoleGetResponse, AuthRoleListResponse, AuthStatusResponse,
    AuthUserGetResponse, AuthUserListResponse, AuthenticateResponse, CompactionResponse, DefragmentResponse,
    DeleteRangeResponse, DowngradeResponse, HashKvResponse, HashResponse, LeaseGrantResponse, LeaseKeepAliveResponse,
    LeaseLeasesResponse, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveResponse, MemberAddResponse,
    MemberListResponse, MemberPromoteResponse, MemberRemoveResponse, MemberUpdateResponse, MoveLeaderResponse,
    PutResponse, RangeResponse, ResponseHeader, StatusResponse, TxnResponse,
};
use crate::proto::health::HealthCheckResponse;
use crate::proto::v3electionpb::{CampaignResponse, LeaderResponse, ProclaimResponse, ResignResponse};
use crate::proto::v3lockpb::{LockResponse, UnlockResponse};
use crate::store::{LeaseKeys, Response as Applied, TxnFound};

/// The answer to a [`Call`](super::Call). Variants are named after their messages, except those for long answers, whose
/// messages [`Answer::whole`] makes.
#[derive(Debug)]
#[allow(missing_docs, reason = "each variant is its message")]
pub enum Answer {
    Alarm(AlarmResponse),
    /// A change of auth, of whatever kind: all of them are answered by a header in field 1, the form of this message.
    AuthChanged(AuthEnableResponse),
    AuthStatus(AuthStatusResponse),
    Authenticate(AuthenticateResponse),
    Campaign(CampaignResponse),
    Compact(CompactionResponse),
    Defragment(DefragmentResponse),
    DeleteRange(DeleteRangeResponse),
    Downgrade(DowngradeResponse),
    Hash(HashResponse),
    HashKv(HashKvResponse),
    Health(HealthCheckResponse),
    Leader(LeaderResponse),
    LeaseGrant(LeaseGrantResponse),
    LeaseKeepAlive(LeaseKeepAliveResponse),
    /// The remaining time and the keys of a lease.
    LeaseKeys {
        header: ResponseHeader,
        id: i64,
        ttl: i64,
        granted_ttl: i64,
        keys: LeaseKeys,
    },
    LeaseLeases(LeaseLeasesResponse),
    /// All leases.
    LeaseList {
        header: ResponseHeader,
        leases: LeaseTimes,
    },
    LeaseRevoke(LeaseRevokeResponse),
    LeaseTimeToLive(LeaseTimeToLiveResponse),
    Lock(LockResponse),
    MemberAdd(MemberAddResponse),
    MemberList(MemberListResponse),
    MemberPromote(MemberPromoteResponse),
    MemberRemove(MemberRemoveResponse),
    MemberUpdate(MemberUpdateResponse),
    MoveLeader(MoveLeaderResponse),
    Proclaim(ProclaimResponse),
    Put(PutResponse),
    Range(RangeResponse),
    Resign(ResignResponse),
    RoleGet(AuthRoleGetResponse),
    RoleList(AuthRoleListResponse),
    /// The rows that a range of several keys found.
    Rows {
        header: ResponseHeader,
        found: Found,
    },
    Status(StatusResponse),
    Txn(TxnResponse),
    /// The rows that a read-only transaction found.
    TxnRows {
        header: ResponseHeader,
        found: TxnFound,
    },
    Unlock(UnlockResponse),
    UserGet(AuthUserGetResponse),
    UserList(AuthUserListResponse),
}

impl Answer {
    /// The number of keys, pairs, leases and operations that are visited at once before the first byte is encoded. Rows
    /// that a codec encodes piece by piece do not count.
    #[must_use]
    pub fn items(&self) -> usize {
        match self {
            Self::DeleteRange(response) => response.prev_kvs.len(),
            Self::LeaseKeys { keys, .. } => keys.len(),
            Self::LeaseList { leases, .. } => leases.len(),
            Self::Txn(response) => items_of(response),
            _ => 0,
        }
    }

    /// The answer as its message.
    #[must_use]
    pub fn whole(self) -> Self {
        match self {
            Self::LeaseKeys {
                header,
                id,
                ttl,
                granted_ttl,
                keys,
            } => Self::LeaseTimeToLive(LeaseTimeToLiveResponse {
                header: Some(header),
                id,
                ttl,
                granted_ttl,
                keys: keys.iter().cloned().collect(),
            }),
            Self::LeaseList { header, leases } => Self::LeaseLeases(LeaseLeasesResponse {
                header: Some(header),
                leases: leases.by_expiry().into_iter().map(|id| LeaseStatus { id }).collect(),
            }),
            Self::Rows { header, found } => Self::Range(RangeResponse {
                header: Some(header),
                ..found.response()
            }),
            Self::TxnRows { header, found } => Self::Txn(TxnResponse {
                header: Some(header),
                ..found.response()
            }),
            whole => whole,
        }
    }
}

/// Pairs and operations of a transaction's response.
fn items_of(response: &TxnResponse) -> usize {
    let of = |op: &Option<OpResponse>| match op {
        Some(OpResponse::ResponseRange(range)) => range.kvs.len(),
        Some(OpResponse::ResponseDeleteRange(deleted)) => deleted.prev_kvs.len(),
        Some(OpResponse::ResponseTxn(nested)) => items_of(nested),
        Some(OpResponse::ResponsePut(_)) | None => 0,
    };
    response.responses.iter().map(|op| 1 + of(&op.response)).sum()
}

impl Server<'_> {
    /// The answer to a request that was applied.
    pub(super) fn applied(&self, applied: Applied, then: &Then) -> Answer {
        match applied {
            Applied::Alarm(mut response) => {
                self.complete(&mut response.header);
                Answer::Alarm(response)
            }
            Applied::AuthChanged(mut response) => {
                self.complete(&mut response.header);
                Answer::AuthChanged(response)
            }
            Applied::Compact(mut response) => {
                // The revision after the wait, as in etcd.
                response.header = Some(self.header());
                Answer::Compact(response)
            }
            Applied::DeleteRange(mut response) => {
                self.complete(&mut response.header);
                Answer::DeleteRange(response)
            }
            Applied::LeaseGrant(mut response) => {
                self.complete(&mut response.header);
                Answer::LeaseGrant(response)
            }
            Applied::LeaseRevoke(mut response) => {
                self.complete(&mut response.header);
                Answer::LeaseRevoke(response)
            }
            Applied::Members(members) => cluster::changed(self, then, &members),
            Applied::Put(mut response) => {
                self.complete(&mut response.header);
                Answer::Put(response)
            }
            Applied::Txn(mut response) => {
                self.complete(&mut response.header);
                Answer::Txn(response)
            }
            Applied::Authenticated(_) | Applied::Empty | Applied::LeaseCheckpoint(_) | Applied::Range(_) => {
                unreachable!("no call leads to {applied:?}")
            }
        }
    }
}
