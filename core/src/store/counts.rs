//! Counts of what was applied and read, by the rules of etcd's metrics.

use crate::auth::AuthChange;
use crate::error::Error;
use crate::proto::etcdserverpb::{DeleteRangeRequest, PutRequest};

use super::content::Content;

/// The kinds of requests in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Op {
    /// An alarm is listed, raised or disarmed.
    Alarm,
    /// Auth is disabled.
    AuthDisable,
    /// Auth is enabled.
    AuthEnable,
    /// A question to the auth service, which only members of etcd propose.
    AuthRead,
    /// A role is added.
    AuthRoleAdd,
    /// A role is deleted.
    AuthRoleDelete,
    /// A role gets a permission.
    AuthRoleGrantPermission,
    /// A role loses a permission.
    AuthRoleRevokePermission,
    /// A user is added.
    AuthUserAdd,
    /// A user gets another password.
    AuthUserChangePassword,
    /// A user is deleted.
    AuthUserDelete,
    /// A user gets a role.
    AuthUserGrantRole,
    /// A user loses a role.
    AuthUserRevokeRole,
    /// A user gets a token.
    Authenticate,
    /// A member publishes its name and client URLs.
    ClusterMemberAttrSet,
    /// The cluster version is set.
    ClusterVersionSet,
    /// A compaction.
    Compaction,
    /// A deletion of a range of keys.
    DeleteRange,
    /// A downgrade is allowed or no longer allowed.
    DowngradeInfoSet,
    /// A request that only etcd's own tests write.
    DowngradeVersionTest,
    /// Remaining times of leases are recorded.
    LeaseCheckpoint,
    /// A lease is granted.
    LeaseGrant,
    /// A lease ends.
    LeaseRevoke,
    /// A key is written.
    Put,
    /// A read that goes through the log.
    Range,
    /// A transaction.
    Txn,
}

impl Op {
    /// Every kind.
    pub const ALL: [Self; 26] = [
        Self::Alarm,
        Self::AuthDisable,
        Self::AuthEnable,
        Self::AuthRead,
        Self::AuthRoleAdd,
        Self::AuthRoleDelete,
        Self::AuthRoleGrantPermission,
        Self::AuthRoleRevokePermission,
        Self::AuthUserAdd,
        Self::AuthUserChangePassword,
        Self::AuthUserDelete,
        Self::AuthUserGrantRole,
        Self::AuthUserRevokeRole,
        Self::Authenticate,
        Self::ClusterMemberAttrSet,
        Self::ClusterVersionSet,
        Self::Compaction,
        Self::DeleteRange,
        Self::DowngradeInfoSet,
        Self::DowngradeVersionTest,
        Self::LeaseCheckpoint,
        Self::LeaseGrant,
        Self::LeaseRevoke,
        Self::Put,
        Self::Range,
        Self::Txn,
    ];

    /// Its label in etcd's metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alarm => "Alarm",
            Self::AuthDisable => "AuthDisable",
            Self::AuthEnable => "AuthEnable",
            // etcd has no label for it.
            Self::AuthRead => "unknown",
            Self::AuthRoleAdd => "AuthRoleAdd",
            Self::AuthRoleDelete => "AuthRoleDelete",
            Self::AuthRoleGrantPermission => "AuthRoleGrantPermission",
            Self::AuthRoleRevokePermission => "AuthRoleRevokePermission",
            Self::AuthUserAdd => "AuthUserAdd",
            Self::AuthUserChangePassword => "AuthUserChangePassword",
            Self::AuthUserDelete => "AuthUserDelete",
            Self::AuthUserGrantRole => "AuthUserGrantRole",
            Self::AuthUserRevokeRole => "AuthUserRevokeRole",
            Self::Authenticate => "Authenticate",
            Self::ClusterMemberAttrSet => "ClusterMemberAttrSet",
            Self::ClusterVersionSet => "ClusterVersionSet",
            Self::Compaction => "Compaction",
            Self::DeleteRange => "DeleteRange",
            Self::DowngradeInfoSet => "DowngradeInfoSet",
            Self::DowngradeVersionTest => "DowngradeVersionTest",
            Self::LeaseCheckpoint => "LeaseCheckpoint",
            Self::LeaseGrant => "LeaseGrant",
            Self::LeaseRevoke => "LeaseRevoke",
            Self::Put => "Put",
            Self::Range => "Range",
            Self::Txn => "Txn",
        }
    }

    pub(super) const fn of(content: &Content) -> Self {
        match content {
            Content::Alarm(_) => Self::Alarm,
            Content::Auth(change) => Self::of_change(change),
            Content::AuthRead => Self::AuthRead,
            Content::Authenticate(_) => Self::Authenticate,
            Content::Compaction(_) => Self::Compaction,
            Content::DeleteRange(_) => Self::DeleteRange,
            Content::Downgrade(_) => Self::DowngradeInfoSet,
            Content::LeaseCheckpoint(_) => Self::LeaseCheckpoint,
            Content::LeaseGrant(_) => Self::LeaseGrant,
            Content::LeaseRevoke(_) => Self::LeaseRevoke,
            Content::MemberAttributes(_) => Self::ClusterMemberAttrSet,
            Content::Nothing => Self::DowngradeVersionTest,
            Content::Put(_) => Self::Put,
            Content::Range(_) => Self::Range,
            Content::Txn(_) => Self::Txn,
            Content::Version(_) => Self::ClusterVersionSet,
        }
    }

    const fn of_change(change: &AuthChange) -> Self {
        match change {
            AuthChange::Disable => Self::AuthDisable,
            AuthChange::Enable => Self::AuthEnable,
            AuthChange::RoleAdd(_) => Self::AuthRoleAdd,
            AuthChange::RoleDelete(_) => Self::AuthRoleDelete,
            AuthChange::RoleGrantPermission(_) => Self::AuthRoleGrantPermission,
            AuthChange::RoleRevokePermission(_) => Self::AuthRoleRevokePermission,
            AuthChange::UserAdd(_) => Self::AuthUserAdd,
            AuthChange::UserChangePassword(_) => Self::AuthUserChangePassword,
            AuthChange::UserDelete(_) => Self::AuthUserDelete,
            AuthChange::UserGrantRole(_) => Self::AuthUserGrantRole,
            AuthChange::UserRevokeRole(_) => Self::AuthUserRevokeRole,
        }
    }
}

/// The counts of applied entries.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// For each kind of request, how many failed and how many succeeded.
    requests: [[u32; 2]; Op::ALL.len()],
    /// Operations on keys.
    pub keys: KeyCounts,
    /// Revisions of keys that compaction deleted.
    pub compacted_revisions: u64,
}

impl Counts {
    /// The number of applied requests by kind and success. Kinds without any are left out.
    pub fn requests(&self) -> impl Iterator<Item = (Op, bool, u32)> {
        let by_success = |op: Op| [(op, false), (op, true)];
        let kinds = Op::ALL.into_iter().flat_map(by_success);
        kinds
            .map(|(op, success)| (op, success, self.requests[op as usize][usize::from(success)]))
            .filter(|(_, _, count)| *count > 0)
    }

    /// A request was applied. As in etcd, one whose revision is compacted counts as a success.
    pub(super) fn add_request<T>(&mut self, op: Op, result: &Result<T, Error>) {
        let success = matches!(result, Ok(_) | Err(Error::Compacted));
        self.requests[op as usize][usize::from(success)] += 1;
    }
}

/// Operations on keys.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KeyCounts {
    /// Reads by clients, for compares, and for writes.
    pub ranges: u64,
    /// Writes of a key.
    pub puts: u64,
    /// Deletions of a range, however many keys it has.
    pub deletes: u64,
    /// Transactions of more than one operation.
    pub txns: u64,
    /// Bytes of the keys and values written.
    pub put_bytes: u64,
}

impl KeyCounts {
    /// One read.
    pub const RANGE: Self = Self {
        ranges: 1,
        puts: 0,
        deletes: 0,
        txns: 0,
        put_bytes: 0,
    };

    /// Adds the operations of one transaction of the key space. As in etcd, `txns` counts it only if it has several.
    pub fn add_transaction(&mut self, one: Self) {
        self.add(one);
        self.txns += u64::from(one.ranges + one.puts + one.deletes > 1);
    }

    /// Adds operations.
    pub(super) fn add(&mut self, other: Self) {
        self.ranges += other.ranges;
        self.puts += other.puts;
        self.deletes += other.deletes;
        self.txns += other.txns;
        self.put_bytes += other.put_bytes;
    }

    /// A write, and a read if the write needs the previous value.
    pub(super) fn of_put(request: &PutRequest) -> Self {
        Self {
            ranges: u64::from(request.ignore_value || request.ignore_lease || request.prev_kv),
            puts: 1,
            ..Self::default()
        }
    }

    /// A deletion, and a read if the client wants the deleted values.
    pub(super) fn of_delete(request: &DeleteRangeRequest) -> Self {
        Self {
            ranges: u64::from(request.prev_kv),
            deletes: 1,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_several_operations_count_as_a_transaction() {
        let mut counts = KeyCounts::default();
        counts.add_transaction(KeyCounts::default());
        counts.add_transaction(KeyCounts::RANGE);
        assert_eq!((counts.ranges, counts.txns), (1, 0));
        let put = PutRequest {
            prev_kv: true,
            ..PutRequest::default()
        };
        counts.add_transaction(KeyCounts::of_put(&put));
        assert_eq!((counts.ranges, counts.puts, counts.txns), (2, 1, 1));
    }

    #[test]
    fn every_kind_has_a_place_of_its_own() {
        let mut counts = Counts::default();
        for (place, op) in Op::ALL.into_iter().enumerate() {
            assert_eq!(op as usize, place, "{}", op.name());
            counts.add_request(op, &Ok(()));
            counts.add_request(op, &Err::<(), _>(Error::FutureRevision));
            counts.add_request(op, &Err::<(), _>(Error::Compacted));
        }
        let expected = Op::ALL.iter().flat_map(|op| [(*op, false, 1), (*op, true, 2)]);
        assert!(counts.requests().eq(expected));
    }
}
