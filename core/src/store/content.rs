//! The requests that can be proposed, as a closed list. The log's message has one field for each
//! kind of request.

use crate::auth::AuthChange;
use crate::error::{Error, Fault};
use crate::proto::etcdserverpb::{
    AlarmRequest, AlarmType, AuthDisableRequest, AuthEnableRequest, AuthStatusRequest, CompactionRequest,
    DeleteRangeRequest, DowngradeVersionTestRequest, InternalAuthenticateRequest, InternalRaftRequest,
    LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestHeader, TxnRequest,
};
use crate::proto::membershippb::{ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest};

use super::alarm::Alarms;
use super::check;

/// A request in the log.
pub(crate) enum Content {
    Alarm(AlarmRequest),
    Auth(AuthChange),
    /// A question to the auth service. Members of etcd answer it when they apply it; here it is never proposed, and
    /// changes nothing.
    AuthRead,
    Authenticate(InternalAuthenticateRequest),
    Compaction(CompactionRequest),
    DeleteRange(DeleteRangeRequest),
    Downgrade(DowngradeInfoSetRequest),
    LeaseCheckpoint(LeaseCheckpointRequest),
    LeaseGrant(LeaseGrantRequest),
    LeaseRevoke(LeaseRevokeRequest),
    MemberAttributes(ClusterMemberAttrSetRequest),
    /// Written by etcd's own tests only; changes nothing.
    Nothing,
    Put(PutRequest),
    Range(RangeRequest),
    Txn(TxnRequest),
    Version(ClusterVersionSetRequest),
}

impl Content {
    /// The request in a proposal; if there are several, the one that etcd applies.
    ///
    /// # Errors
    /// A [`Fault`] if this version has no such request: the other members have applied it, so it must not be skipped.
    pub(super) fn of(mut request: InternalRaftRequest) -> Result<Self, Fault> {
        let auth = auth_content(&mut request);
        let first = None
            .or_else(|| request.cluster_version_set.map(Self::Version))
            .or_else(|| request.cluster_member_attr_set.map(Self::MemberAttributes))
            .or_else(|| request.downgrade_info_set.map(Self::Downgrade))
            .or_else(|| request.downgrade_version_test.map(|_| Self::Nothing))
            .or_else(|| request.range.map(Self::Range))
            .or_else(|| request.put.map(Self::Put))
            .or_else(|| request.delete_range.map(Self::DeleteRange))
            .or_else(|| request.txn.map(Self::Txn))
            .or_else(|| request.compaction.map(Self::Compaction))
            .or_else(|| request.lease_grant.map(Self::LeaseGrant))
            .or_else(|| request.lease_revoke.map(Self::LeaseRevoke))
            .or_else(|| request.lease_checkpoint.map(Self::LeaseCheckpoint))
            .or_else(|| request.alarm.map(Self::Alarm))
            .or(auth);
        first.ok_or_else(|| fault("a request this version does not know is in the log".to_owned()))
    }

    /// The log's message for this request, with this header.
    pub(crate) fn into_request(self, header: RequestHeader) -> InternalRaftRequest {
        let mut request = InternalRaftRequest {
            header: Some(header),
            ..InternalRaftRequest::default()
        };
        match self {
            Self::Alarm(of) => request.alarm = Some(of),
            Self::Auth(of) => set_change(of, &mut request),
            Self::AuthRead => request.auth_status = Some(AuthStatusRequest {}),
            Self::Authenticate(of) => request.authenticate = Some(of),
            Self::Compaction(of) => request.compaction = Some(of),
            Self::DeleteRange(of) => request.delete_range = Some(of),
            Self::Downgrade(of) => request.downgrade_info_set = Some(of),
            Self::LeaseCheckpoint(of) => request.lease_checkpoint = Some(of),
            Self::LeaseGrant(of) => request.lease_grant = Some(of),
            Self::LeaseRevoke(of) => request.lease_revoke = Some(of),
            Self::MemberAttributes(of) => request.cluster_member_attr_set = Some(of),
            Self::Nothing => request.downgrade_version_test = Some(DowngradeVersionTestRequest::default()),
            Self::Put(of) => request.put = Some(of),
            Self::Range(of) => request.range = Some(of),
            Self::Txn(of) => request.txn = Some(of),
            Self::Version(of) => request.cluster_version_set = Some(of),
        }
        request
    }

    /// The error if an active alarm forbids it.
    pub(super) fn forbidden_by(&self, alarms: &Alarms) -> Option<Error> {
        let (corrupt, no_space) = match self {
            Self::Compaction(_) | Self::DeleteRange(_) | Self::LeaseRevoke(_) | Self::Range(_) => (true, false),
            Self::LeaseGrant(_) | Self::Put(_) => (true, true),
            Self::Txn(_) => (true, self.cost() > 0),
            Self::Alarm(_)
            | Self::Auth(_)
            | Self::AuthRead
            | Self::Authenticate(_)
            | Self::Downgrade(_)
            | Self::LeaseCheckpoint(_)
            | Self::MemberAttributes(_)
            | Self::Nothing
            | Self::Version(_) => (false, false),
        };
        if corrupt && alarms.is_on(AlarmType::Corrupt) {
            Some(Error::CorruptCluster)
        } else if no_space && alarms.is_on(AlarmType::Nospace) {
            Some(Error::NoSpace)
        } else {
            None
        }
    }

    /// Its cost against the quota, in bytes.
    pub(crate) fn cost(&self) -> u64 {
        match self {
            Self::LeaseGrant(_) => check::LEASE_COST_BYTES,
            Self::Put(put) => check::put_cost(put),
            Self::Txn(txn) => check::txn_cost(txn),
            Self::Alarm(_)
            | Self::Auth(_)
            | Self::AuthRead
            | Self::Authenticate(_)
            | Self::Compaction(_)
            | Self::DeleteRange(_)
            | Self::Downgrade(_)
            | Self::LeaseCheckpoint(_)
            | Self::LeaseRevoke(_)
            | Self::MemberAttributes(_)
            | Self::Nothing
            | Self::Range(_)
            | Self::Version(_) => 0,
        }
    }
}

/// The request of the auth service that a proposal holds.
fn auth_content(request: &mut InternalRaftRequest) -> Option<Content> {
    if let Some(authenticate) = request.authenticate.take() {
        return Some(Content::Authenticate(authenticate));
    }
    let change = None
        .or_else(|| request.auth_enable.map(|_| AuthChange::Enable))
        .or_else(|| request.auth_disable.map(|_| AuthChange::Disable))
        .or_else(|| request.auth_user_add.take().map(AuthChange::UserAdd))
        .or_else(|| request.auth_user_delete.take().map(AuthChange::UserDelete))
        .or_else(|| {
            request
                .auth_user_change_password
                .take()
                .map(AuthChange::UserChangePassword)
        })
        .or_else(|| request.auth_user_grant_role.take().map(AuthChange::UserGrantRole))
        .or_else(|| request.auth_user_revoke_role.take().map(AuthChange::UserRevokeRole))
        .or_else(|| request.auth_role_add.take().map(AuthChange::RoleAdd))
        .or_else(|| {
            request
                .auth_role_grant_permission
                .take()
                .map(AuthChange::RoleGrantPermission)
        })
        .or_else(|| {
            request
                .auth_role_revoke_permission
                .take()
                .map(AuthChange::RoleRevokePermission)
        })
        .or_else(|| request.auth_role_delete.take().map(AuthChange::RoleDelete));
    let asks = request.auth_status.is_some()
        || request.auth_user_get.is_some()
        || request.auth_role_get.is_some()
        || request.auth_user_list.is_some()
        || request.auth_role_list.is_some();
    change.map(Content::Auth).or(asks.then_some(Content::AuthRead))
}

fn set_change(change: AuthChange, request: &mut InternalRaftRequest) {
    match change {
        AuthChange::Disable => request.auth_disable = Some(AuthDisableRequest {}),
        AuthChange::Enable => request.auth_enable = Some(AuthEnableRequest {}),
        AuthChange::RoleAdd(of) => request.auth_role_add = Some(of),
        AuthChange::RoleDelete(of) => request.auth_role_delete = Some(of),
        AuthChange::RoleGrantPermission(of) => request.auth_role_grant_permission = Some(of),
        AuthChange::RoleRevokePermission(of) => request.auth_role_revoke_permission = Some(of),
        AuthChange::UserAdd(of) => request.auth_user_add = Some(of),
        AuthChange::UserChangePassword(of) => request.auth_user_change_password = Some(of),
        AuthChange::UserDelete(of) => request.auth_user_delete = Some(of),
        AuthChange::UserGrantRole(of) => request.auth_user_grant_role = Some(of),
        AuthChange::UserRevokeRole(of) => request.auth_user_revoke_role = Some(of),
    }
}

fn fault(cause: String) -> Fault {
    Fault::Inconsistent { cause }
}
