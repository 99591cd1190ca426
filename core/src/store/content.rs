//! The requests that can be proposed, as a closed list. The log's message has one field for each of them.

use crate::error::{Error, Fault};
use crate::proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, DowngradeVersionTestRequest, InternalRaftRequest,
    LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestHeader, TxnRequest,
};
use crate::proto::membershippb::{ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest};

use super::alarm::Alarms;
use super::check;

/// A request in the log.
pub(crate) enum Content {
    Alarm(AlarmRequest),
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
    pub(super) fn of(request: InternalRaftRequest) -> Result<Self, Fault> {
        let auth = auth_request(&request);
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
            .or_else(|| request.alarm.map(Self::Alarm));
        match (first, auth) {
            (Some(content), _) => Ok(content),
            (None, Some(name)) => Err(fault(format!("{name} is in the log, and this version has no auth"))),
            (None, None) => Err(fault("a request this version does not know is in the log".to_owned())),
        }
    }

    /// The log's message for this request, with the proposal's id.
    pub(crate) fn into_request(self, id: u64) -> InternalRaftRequest {
        let mut request = InternalRaftRequest {
            header: Some(RequestHeader {
                id,
                ..RequestHeader::default()
            }),
            ..InternalRaftRequest::default()
        };
        match self {
            Self::Alarm(of) => request.alarm = Some(of),
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

/// The name of the auth request a proposal holds.
fn auth_request(request: &InternalRaftRequest) -> Option<&'static str> {
    let table = [
        ("AuthEnable", request.auth_enable.is_some()),
        ("AuthDisable", request.auth_disable.is_some()),
        ("Authenticate", request.authenticate.is_some()),
        ("AuthStatus", request.auth_status.is_some()),
        ("AuthUserAdd", request.auth_user_add.is_some()),
        ("AuthUserDelete", request.auth_user_delete.is_some()),
        ("AuthUserGet", request.auth_user_get.is_some()),
        ("AuthUserChangePassword", request.auth_user_change_password.is_some()),
        ("AuthUserGrantRole", request.auth_user_grant_role.is_some()),
        ("AuthUserRevokeRole", request.auth_user_revoke_role.is_some()),
        ("AuthUserList", request.auth_user_list.is_some()),
        ("AuthRoleList", request.auth_role_list.is_some()),
        ("AuthRoleAdd", request.auth_role_add.is_some()),
        ("AuthRoleDelete", request.auth_role_delete.is_some()),
        ("AuthRoleGet", request.auth_role_get.is_some()),
        ("AuthRoleGrantPermission", request.auth_role_grant_permission.is_some()),
        (
            "AuthRoleRevokePermission",
            request.auth_role_revoke_permission.is_some(),
        ),
    ];
    table.iter().find(|(_, set)| *set).map(|(name, _)| *name)
}

fn fault(cause: String) -> Fault {
    Fault::Inconsistent { cause }
}
