//! What clients of a simulated cluster ask and are told: etcd's own messages, one variant for each method.

use quoin_core::proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    HashKvRequest, HashKvResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, MemberAddRequest,
    MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest, MemberPromoteResponse,
    MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse, MoveLeaderRequest,
    MoveLeaderResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, StatusResponse, TxnRequest, TxnResponse,
};

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// Sets, clears or lists alarms.
    Alarm(AlarmRequest),
    /// Compacts.
    Compact(CompactionRequest),
    /// Deletes keys.
    DeleteRange(DeleteRangeRequest),
    /// Hashes the key-value history of the member asked.
    HashKv(HashKvRequest),
    /// Makes a lease.
    LeaseGrant(LeaseGrantRequest),
    /// Keeps a lease alive.
    LeaseKeepAlive {
        /// The lease.
        id: i64,
    },
    /// Lists the leases.
    LeaseLeases,
    /// Ends a lease.
    LeaseRevoke(LeaseRevokeRequest),
    /// Asks what is left of a lease.
    LeaseTimeToLive(LeaseTimeToLiveRequest),
    /// Adds a member.
    MemberAdd(MemberAddRequest),
    /// Lists the members.
    MemberList(MemberListRequest),
    /// Makes a learner a voter.
    MemberPromote(MemberPromoteRequest),
    /// Removes a member.
    MemberRemove(MemberRemoveRequest),
    /// Changes where a member is reached.
    MemberUpdate(MemberUpdateRequest),
    /// Moves leadership.
    MoveLeader(MoveLeaderRequest),
    /// Writes a key.
    Put(PutRequest),
    /// Reads keys.
    Range(RangeRequest),
    /// Asks a member for its state.
    Status,
    /// Runs a transaction.
    Txn(TxnRequest),
}

/// A successful answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To [`Call::Alarm`].
    Alarm(AlarmResponse),
    /// To [`Call::Compact`].
    Compact(CompactionResponse),
    /// To [`Call::DeleteRange`].
    DeleteRange(DeleteRangeResponse),
    /// To [`Call::HashKv`].
    HashKv(HashKvResponse),
    /// To [`Call::LeaseGrant`].
    LeaseGrant(LeaseGrantResponse),
    /// To [`Call::LeaseKeepAlive`].
    LeaseKeepAlive(LeaseKeepAliveResponse),
    /// To [`Call::LeaseLeases`].
    LeaseLeases(LeaseLeasesResponse),
    /// To [`Call::LeaseRevoke`].
    LeaseRevoke(LeaseRevokeResponse),
    /// To [`Call::LeaseTimeToLive`].
    LeaseTimeToLive(LeaseTimeToLiveResponse),
    /// To [`Call::MemberAdd`].
    MemberAdd(MemberAddResponse),
    /// To [`Call::MemberList`].
    MemberList(MemberListResponse),
    /// To [`Call::MemberPromote`].
    MemberPromote(MemberPromoteResponse),
    /// To [`Call::MemberRemove`].
    MemberRemove(MemberRemoveResponse),
    /// To [`Call::MemberUpdate`].
    MemberUpdate(MemberUpdateResponse),
    /// To [`Call::MoveLeader`].
    MoveLeader(MoveLeaderResponse),
    /// To [`Call::Put`].
    Put(PutResponse),
    /// To [`Call::Range`].
    Range(RangeResponse),
    /// To [`Call::Status`].
    Status(StatusResponse),
    /// To [`Call::Txn`].
    Txn(TxnResponse),
}

/// An error, as a client sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The gRPC status code.
    pub code: i32,
    /// The exact text.
    pub message: String,
}
