//! Who may do what: the `permit` functions decide it, and nothing else does. The front door calls them when a request
//! arrives, and the store when its entry is applied. While auth is off they permit everything.
//!
//! A request's user is in the header of its entry: its name, and the auth revision at which it was identified. A header
//! without a name has no user. The errors are [`Error::UserEmpty`] if there is no user, [`Error::AuthOldRevision`] if
//! auth has changed since the user was identified, [`Error::UserNotFound`] and [`Error::PermissionDenied`].

use bytes::Bytes;

use super::ranges::cover;
use super::{Auth, ROOT};
use crate::error::Error;
use crate::proto::authpb::User;
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RequestHeader, RequestOp, TxnRequest};
use crate::store::{Lease, Leases};

/// What is done with keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum KeyAccess {
    /// They are read.
    Read,
    /// They are written or deleted.
    Write,
}

impl Auth {
    /// What any user may do.
    pub(crate) fn permit_user(&self, caller: &RequestHeader) -> Result<(), Error> {
        if self.is_enabled() && caller.username.is_empty() {
            return Err(Error::UserEmpty);
        }
        Ok(())
    }

    /// What users with the role `root` may do. As in etcd, this does not compare revisions.
    pub(crate) fn permit_root(&self, caller: &RequestHeader) -> Result<(), Error> {
        self.permit_user(caller)?;
        if self.is_enabled() && !is_root(self.user(&caller.username)?) {
            return Err(Error::PermissionDenied);
        }
        Ok(())
    }

    /// Reading a range of keys, whose end is as in a `RangeRequest`.
    pub(crate) fn permit_read(&self, caller: &RequestHeader, key: &[u8], range_end: &[u8]) -> Result<(), Error> {
        self.permit_keys(caller, KeyAccess::Read, key, range_end)
    }

    /// A write of a key.
    pub(crate) fn permit_put(
        &self,
        caller: &RequestHeader,
        leases: &Leases,
        request: &PutRequest,
    ) -> Result<(), Error> {
        self.permit_keys(caller, KeyAccess::Write, &request.key, &[])?;
        // A user who may not write all keys of the lease cannot revoke it either, so no key is attached to it.
        if let Some(lease) = leases.get(request.lease) {
            self.permit_lease(caller, lease, KeyAccess::Write)?;
        }
        if request.prev_kv {
            self.permit_read(caller, &request.key, &[])?;
        }
        Ok(())
    }

    /// A deletion of keys.
    pub(crate) fn permit_delete(&self, caller: &RequestHeader, request: &DeleteRangeRequest) -> Result<(), Error> {
        self.permit_keys(caller, KeyAccess::Write, &request.key, &request.range_end)?;
        if request.prev_kv {
            self.permit_read(caller, &request.key, &request.range_end)?;
        }
        Ok(())
    }

    /// A transaction: both branches, whichever will be taken. Otherwise a denial would tell how the compares ended.
    pub(crate) fn permit_txn(
        &self,
        caller: &RequestHeader,
        leases: &Leases,
        request: &TxnRequest,
    ) -> Result<(), Error> {
        for compare in &request.compare {
            self.permit_read(caller, &compare.key, &compare.range_end)?;
        }
        let mut operations = request.success.iter().chain(&request.failure);
        operations.try_for_each(|operation| self.permit_operation(caller, leases, operation))
    }

    fn permit_operation(&self, caller: &RequestHeader, leases: &Leases, operation: &RequestOp) -> Result<(), Error> {
        match &operation.request {
            None => Ok(()),
            Some(Request::RequestDeleteRange(delete)) => self.permit_delete(caller, delete),
            Some(Request::RequestPut(put)) => self.permit_put(caller, leases, put),
            Some(Request::RequestRange(range)) => self.permit_read(caller, &range.key, &range.range_end),
            Some(Request::RequestTxn(nested)) => self.permit_txn(caller, leases, nested),
        }
    }

    /// This access to all keys of a lease.
    pub(crate) fn permit_lease(&self, caller: &RequestHeader, lease: &Lease, access: KeyAccess) -> Result<(), Error> {
        self.permit_keys_of_lease(caller, lease.keys(), access)
    }

    /// This access to these keys of a lease.
    pub(crate) fn permit_keys_of_lease<'a>(
        &self,
        caller: &RequestHeader,
        mut keys: impl Iterator<Item = &'a Bytes>,
        access: KeyAccess,
    ) -> Result<(), Error> {
        if self.permit_root(caller).is_ok() {
            return Ok(());
        }
        keys.try_for_each(|key| self.permit_keys(caller, access, key, &[]))
    }

    /// What this user itself may do, and users with the role `root`.
    pub(crate) fn permit_same_user(&self, caller: &RequestHeader, user: &str) -> Result<(), Error> {
        self.permit_root(caller)
            .or_else(|error| if caller.username == user { Ok(()) } else { Err(error) })
    }

    /// What users with this role may do, and those with the role `root`.
    pub(crate) fn permit_role(&self, caller: &RequestHeader, role: &str) -> Result<(), Error> {
        self.permit_root(caller).or_else(|error| {
            let user = self.user(&caller.username);
            let has = user.is_ok_and(|user| user.roles.iter().any(|has| has == role));
            if has { Ok(()) } else { Err(error) }
        })
    }

    fn permit_keys(
        &self,
        caller: &RequestHeader,
        access: KeyAccess,
        key: &[u8],
        range_end: &[u8],
    ) -> Result<(), Error> {
        if !self.is_enabled() {
            return Ok(());
        }
        if caller.auth_revision == 0 {
            return Err(Error::UserEmpty);
        }
        if caller.auth_revision < self.revision() {
            return Err(Error::AuthOldRevision);
        }
        let user = self.user(&caller.username).map_err(|_| Error::PermissionDenied)?;
        if is_root(user) || cover(self.grants(user), access, key, range_end) {
            Ok(())
        } else {
            Err(Error::PermissionDenied)
        }
    }
}

fn is_root(user: &User) -> bool {
    user.roles.iter().any(|role| role == ROOT)
}
