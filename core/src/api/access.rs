//! Who makes a call, and whether its user may make it, by the rules of [`auth`](crate::auth).

use super::{Call, Server};
use crate::auth::{KeyAccess, token_index};
use crate::bug;
use crate::error::Error;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{RangeRequest, RequestHeader, TxnRequest, WatchCreateRequest};
use crate::store::{LeaseKeys, check};

/// Whether a call may be made without a user.
fn needs_no_user(call: &Call) -> bool {
    matches!(
        call,
        // A client must be able to authenticate, and to ask whether the server works.
        Call::Authenticate(_) | Call::HealthCheck(_) | Call::HealthWatch(_)
        // These consist of other calls and of watches, each of which is the client's and is decided by itself.
        | Call::Campaign(_)
        | Call::Leader(_)
        | Call::Lock(_)
        | Call::Observe(_)
        | Call::Proclaim(_)
        | Call::Resign(_)
        | Call::Unlock(_)
    )
}

/// Whether a call is decided by the state that all members agree on: etcd decides it when it applies the call's entry,
/// or after it has made sure that it is up to date. Others are decided by the state that the member has.
fn is_agreed(call: &Call) -> bool {
    match call {
        Call::AuthDisable(_)
        | Call::AuthEnable(_)
        | Call::AuthStatus(_)
        | Call::Authenticate(_)
        | Call::DeleteRange(_)
        | Call::LeaseRevoke(_)
        | Call::Put(_)
        | Call::RoleAdd(_)
        | Call::RoleDelete(_)
        | Call::RoleGet(_)
        | Call::RoleGrantPermission(_)
        | Call::RoleList(_)
        | Call::RoleRevokePermission(_)
        | Call::UserAdd(_)
        | Call::UserChangePassword(_)
        | Call::UserDelete(_)
        | Call::UserGet(_)
        | Call::UserGrantRole(_)
        | Call::UserList(_)
        | Call::UserRevokeRole(_) => true,
        Call::MemberList(request) => request.linearizable,
        Call::Range(request) => !request.serializable,
        Call::Txn(request) => !check::is_read_only(request) || !check::is_serializable(request),
        _ => false,
    }
}

impl Server<'_> {
    /// Decides whether the client may make a call; returns the header of its requests. A new kind of call must be given
    /// its rule here.
    pub(super) fn authorize(&self, call: &Call) -> Result<RequestHeader, Error> {
        let auth = &self.view.auth;
        if needs_no_user(call) {
            return Ok(RequestHeader::default());
        }
        let caller = self.caller()?;
        match call {
            Call::Alarm(request) if request.action == AlarmAction::Get as i32 => auth.permit_user(&caller),
            Call::LeaseGrant(_) | Call::MemberList(_) | Call::Status(_) => auth.permit_user(&caller),
            Call::DeleteRange(request) => auth.permit_delete(&caller, request),
            Call::LeaseKeepAlive(request) => self.authorize_lease(&caller, request.id, KeyAccess::Write),
            Call::LeaseLeases(_) => {
                auth.permit_user(&caller)?;
                let mut leases = self.view.leases.iter();
                leases.try_for_each(|(_, lease)| auth.permit_lease(&caller, lease, KeyAccess::Read))
            }
            Call::LeaseRevoke(request) => self.authorize_lease(&caller, request.id, KeyAccess::Write),
            Call::LeaseTimeToLive(request) if request.keys && !bug!(ShowsKeysOfLease) => {
                self.authorize_lease(&caller, request.id, KeyAccess::Read)
            }
            Call::LeaseTimeToLive(_) => auth.permit_user(&caller),
            Call::Put(request) => auth.permit_put(&caller, &self.view.leases, request),
            Call::Range(request) => auth.permit_read(&caller, &request.key, &request.range_end),
            Call::RoleGet(request) => auth.permit_role(&caller, &request.role),
            Call::Txn(request) => auth.permit_txn(&caller, &self.view.leases, request),
            Call::UserGet(request) => auth.permit_same_user(&caller, &request.name),
            // The others change the cluster or its users, or show everything.
            _ => auth.permit_root(&caller),
        }?;
        Ok(caller)
    }

    /// Decides about a range on this view.
    pub(super) fn authorize_range(&self, request: &RangeRequest) -> Result<(), Error> {
        let caller = self.caller()?;
        self.view.auth.permit_read(&caller, &request.key, &request.range_end)
    }

    /// Decides about a transaction on this view.
    pub(super) fn authorize_txn(&self, request: &TxnRequest) -> Result<(), Error> {
        let caller = self.caller()?;
        self.view.auth.permit_txn(&caller, &self.view.leases, request)
    }

    /// Decides about this access to all keys of a lease, if it exists.
    fn authorize_lease(&self, caller: &RequestHeader, id: i64, access: KeyAccess) -> Result<(), Error> {
        let auth = &self.view.auth;
        auth.permit_user(caller)?;
        let lease = self.view.leases.get(id);
        lease.map_or(Ok(()), |lease| auth.permit_lease(caller, lease, access))
    }

    /// Decides whether the client may see these keys of a lease. They may be newer than those that the call was
    /// permitted for.
    pub(super) fn authorize_keys(&self, keys: &LeaseKeys) -> Result<(), Error> {
        if keys.is_empty() || !self.view.auth.is_enabled() || bug!(ShowsKeysOfLease) {
            return Ok(());
        }
        let caller = self.caller()?;
        let auth = &self.view.auth;
        auth.permit_keys_of_lease(&caller, keys.iter(), KeyAccess::Read)
    }

    /// Decides whether the client may make a watch. As in etcd, the permission is looked at once, when the watch is made.
    ///
    /// # Errors
    /// The error of the permission.
    pub fn authorize_watch(&self, request: &WatchCreateRequest) -> Result<(), Error> {
        // An empty key is the first key.
        let key = if request.key.is_empty() { &[0][..] } else { &request.key };
        let range_end = match &request.range_end[..] {
            [0] if bug!(WatchesBeyondKey) => &[],
            range_end => range_end,
        };
        let caller = self.caller()?;
        self.view.auth.permit_read(&caller, key, range_end)
    }

    /// Whether the client's token may be given out by an entry that this member has not applied yet.
    #[must_use]
    pub fn awaits_token(&self) -> bool {
        let index = self.token().and_then(token_index);
        self.view.auth.is_enabled() && index.is_some_and(|index| index > self.view.applied_index)
    }

    /// Whether a denial of a call must be made sure of: this member may not have applied what permits it.
    pub(super) fn is_unsure(&self, call: &Call) -> bool {
        is_agreed(call) || self.awaits_token()
    }

    /// The header of the client's requests: its user, at the present auth revision.
    fn caller(&self) -> Result<RequestHeader, Error> {
        let auth = &self.view.auth;
        if !auth.is_enabled() {
            return Ok(RequestHeader::default());
        }
        match (self.token(), &self.credentials.common_name) {
            (Some(token), _) => {
                let caller = self.facts.user_of(token, auth.revision());
                caller.ok_or(Error::InvalidAuthToken)
            }
            (None, Some(name)) => Ok(auth.header_of(name)),
            (None, None) => Ok(RequestHeader::default()),
        }
    }

    fn token(&self) -> Option<&str> {
        let token = self.credentials.token.as_deref()?;
        Some(token.strip_prefix("Bearer ").unwrap_or(token))
    }
}
