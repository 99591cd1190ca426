//! The calls of clients and their answers, as the messages of etcd's API.
//!
//! The simulated clients, the model and the checkers use these types. How a call reaches a member is not defined here.

use quoin_core::proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AuthEnableResponse, AuthRoleAddRequest, AuthRoleDeleteRequest,
    AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest, AuthUserAddRequest, AuthUserChangePasswordRequest,
    AuthUserDeleteRequest, AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest, AuthenticateRequest,
    AuthenticateResponse, CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    HashKvRequest, HashKvResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, MemberAddRequest,
    MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest, MemberPromoteResponse,
    MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse, MoveLeaderRequest,
    MoveLeaderResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, ResponseHeader, StatusResponse,
    TxnRequest, TxnResponse, request_op,
};
use quoin_core::proto::v3lockpb::{LockRequest, LockResponse};

/// A change of users, roles or permissions. Variants are named after the methods of etcd's service.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each variant is its method")]
pub enum AuthCall {
    Disable,
    Enable,
    RoleAdd(AuthRoleAddRequest),
    RoleDelete(AuthRoleDeleteRequest),
    RoleGrantPermission(AuthRoleGrantPermissionRequest),
    RoleRevokePermission(AuthRoleRevokePermissionRequest),
    UserAdd(AuthUserAddRequest),
    UserChangePassword(AuthUserChangePasswordRequest),
    UserDelete(AuthUserDeleteRequest),
    UserGrantRole(AuthUserGrantRoleRequest),
    UserRevokeRole(AuthUserRevokeRoleRequest),
}

/// A request of a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// Lists alarms, or raises or disarms one.
    Alarm(AlarmRequest),
    /// Changes users, roles or permissions, or enables or disables auth.
    Auth(AuthCall),
    /// Requests a token.
    Authenticate(AuthenticateRequest),
    /// Drops the history before a revision.
    Compact(CompactionRequest),
    /// Deletes keys.
    DeleteRange(DeleteRangeRequest),
    /// Requests the hash of all keys.
    HashKv(HashKvRequest),
    /// Grants a lease.
    LeaseGrant(LeaseGrantRequest),
    /// Renews a lease once.
    LeaseKeepAlive {
        /// The lease.
        id: i64,
    },
    /// Lists all leases.
    LeaseLeases,
    /// Revokes a lease and deletes its keys.
    LeaseRevoke(LeaseRevokeRequest),
    /// Requests the remaining time of a lease.
    LeaseTimeToLive(LeaseTimeToLiveRequest),
    /// Waits for a lock.
    Lock(LockRequest),
    /// Adds a member.
    MemberAdd(MemberAddRequest),
    /// Lists the members.
    MemberList(MemberListRequest),
    /// Promotes a learner to a voter.
    MemberPromote(MemberPromoteRequest),
    /// Removes a member for good.
    MemberRemove(MemberRemoveRequest),
    /// Changes a member's peer URLs.
    MemberUpdate(MemberUpdateRequest),
    /// Moves leadership to another member.
    MoveLeader(MoveLeaderRequest),
    /// Writes a key.
    Put(PutRequest),
    /// Reads keys.
    Range(RangeRequest),
    /// Requests the status of a member.
    Status,
    /// Does several operations at one revision, depending on conditions.
    Txn(TxnRequest),
}

impl Call {
    /// The method's name in etcd's API.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Alarm(_) => "Alarm",
            Self::Auth(_) => "Auth",
            Self::Authenticate(_) => "Authenticate",
            Self::Compact(_) => "Compact",
            Self::DeleteRange(_) => "DeleteRange",
            Self::HashKv(_) => "HashKV",
            Self::LeaseGrant(_) => "LeaseGrant",
            Self::LeaseKeepAlive { .. } => "LeaseKeepAlive",
            Self::LeaseLeases => "LeaseLeases",
            Self::LeaseRevoke(_) => "LeaseRevoke",
            Self::LeaseTimeToLive(_) => "LeaseTimeToLive",
            Self::Lock(_) => "Lock",
            Self::MemberAdd(_) => "MemberAdd",
            Self::MemberList(_) => "MemberList",
            Self::MemberPromote(_) => "MemberPromote",
            Self::MemberRemove(_) => "MemberRemove",
            Self::MemberUpdate(_) => "MemberUpdate",
            Self::MoveLeader(_) => "MoveLeader",
            Self::Put(_) => "Put",
            Self::Range(_) => "Range",
            Self::Status => "Status",
            Self::Txn(_) => "Txn",
        }
    }

    /// Whether the call changes no replicated state, so that it needs no log entry. False for listing alarms, which
    /// etcd proposes as a log entry; true for a lock, because it consists of other calls, which change the state.
    #[must_use]
    pub fn is_read(&self) -> bool {
        match self {
            Self::HashKv(_)
            | Self::LeaseKeepAlive { .. }
            | Self::LeaseLeases
            | Self::LeaseTimeToLive(_)
            | Self::Lock(_)
            | Self::MemberList(_)
            | Self::MoveLeader(_)
            | Self::Range(_)
            | Self::Status => true,
            Self::Txn(txn) => is_read_only(txn),
            Self::Alarm(_)
            | Self::Auth(_)
            | Self::Authenticate(_)
            | Self::Compact(_)
            | Self::DeleteRange(_)
            | Self::LeaseGrant(_)
            | Self::LeaseRevoke(_)
            | Self::MemberAdd(_)
            | Self::MemberPromote(_)
            | Self::MemberRemove(_)
            | Self::MemberUpdate(_)
            | Self::Put(_) => false,
        }
    }
}

/// Whether a transaction only reads: its top level has only ranges. A nested transaction makes it a write, whatever its
/// operations are.
#[must_use]
pub fn is_read_only(txn: &TxnRequest) -> bool {
    let mut ops = txn.success.iter().chain(&txn.failure);
    ops.all(|op| matches!(op.request, Some(request_op::Request::RequestRange(_))))
}

/// The answer to a [`Call`].
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To [`Call::Alarm`].
    Alarm(AlarmResponse),
    /// To [`Call::Auth`]: a header alone, whatever the change.
    Auth(AuthEnableResponse),
    /// To [`Call::Authenticate`].
    Authenticate(AuthenticateResponse),
    /// To [`Call::Compact`].
    Compact(CompactionResponse),
    /// To [`Call::DeleteRange`].
    DeleteRange(DeleteRangeResponse),
    /// To [`Call::HashKv`].
    HashKv(HashKvResponse),
    /// To an entry that no client requested: versions, attributes, checkpoints, the first entry of a term.
    Internal,
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
    /// To [`Call::Lock`].
    Lock(LockResponse),
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

/// Evaluates `$look` with the response inside an answer; `None` if the answer holds none.
macro_rules! of_response {
    ($answer:expr, $response:ident => $look:expr) => {
        match $answer {
            Answer::Alarm($response) => $look,
            Answer::Auth($response) => $look,
            Answer::Authenticate($response) => $look,
            Answer::Compact($response) => $look,
            Answer::DeleteRange($response) => $look,
            Answer::HashKv($response) => $look,
            Answer::LeaseGrant($response) => $look,
            Answer::LeaseKeepAlive($response) => $look,
            Answer::LeaseLeases($response) => $look,
            Answer::LeaseRevoke($response) => $look,
            Answer::LeaseTimeToLive($response) => $look,
            Answer::Lock($response) => $look,
            Answer::MemberAdd($response) => $look,
            Answer::MemberList($response) => $look,
            Answer::MemberPromote($response) => $look,
            Answer::MemberRemove($response) => $look,
            Answer::MemberUpdate($response) => $look,
            Answer::MoveLeader($response) => $look,
            Answer::Put($response) => $look,
            Answer::Range($response) => $look,
            Answer::Status($response) => $look,
            Answer::Txn($response) => $look,
            Answer::Internal => None,
        }
    };
}

impl Answer {
    /// The header, if it has one.
    #[must_use]
    pub fn header(&self) -> Option<&ResponseHeader> {
        of_response!(self, response => response.header.as_ref())
    }

    /// The revision in the header; 0 without a header, and in answers about members.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.header().map_or(0, |header| header.revision)
    }

    /// The header to change, if the answer has one.
    pub fn header_mut(&mut self) -> Option<&mut ResponseHeader> {
        of_response!(self, response => response.header.as_mut())
    }

    /// The header field, if the message of the answer has one.
    pub fn header_place(&mut self) -> Option<&mut Option<ResponseHeader>> {
        of_response!(self, response => Some(&mut response.header))
    }

    /// The answer without cluster, member and term in its header.
    #[must_use]
    pub fn anonymous(mut self) -> Self {
        if let Some(header) = self.header_mut() {
            *header = ResponseHeader {
                revision: header.revision,
                ..ResponseHeader::default()
            };
        }
        self
    }
}

/// An error as a client gets it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Refusal {
    /// The number of the gRPC code.
    pub code: i32,
    /// The exact text.
    pub message: String,
}
