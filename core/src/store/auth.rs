//! Auth in the store: whether a request in the log is permitted, and changes of users, roles and permissions.

use std::sync::Arc;

use super::Store;
use super::applied::{Applied, Response};
use super::content::Content;
use crate::auth::{AuthChange, Entered, KeyAccess, ROOT};
use crate::bug;
use crate::error::Error;
use crate::proto::etcdserverpb::{
    AuthEnableResponse, AuthenticateResponse, InternalAuthenticateRequest, RequestHeader,
};

impl Store {
    /// Why a request in the log is not permitted. All members decide alike, because they have the same users, roles,
    /// permissions and leases when they apply it.
    pub(super) fn denied(&self, caller: &RequestHeader, content: &Content) -> Option<Error> {
        let (auth, leases) = (&self.auth, &self.leases);
        if bug!(ChecksWhenProposed) {
            return None;
        }
        let permitted = match content {
            Content::Auth(_) => auth.permit_root(caller),
            Content::DeleteRange(request) => auth.permit_delete(caller, request),
            Content::LeaseRevoke(request) => leases
                .get(request.id)
                .map_or(Ok(()), |lease| auth.permit_lease(caller, lease, KeyAccess::Write)),
            Content::Put(request) => auth.permit_put(caller, leases, request),
            Content::Range(request) => auth.permit_read(caller, &request.key, &request.range_end),
            Content::Txn(request) => auth.permit_txn(caller, leases, request),
            // As in etcd, these are checked before they are proposed only, or are requests of a member itself. The
            // answers to questions of the auth service are checked where they are given.
            Content::Alarm(_)
            | Content::AuthRead
            | Content::Authenticate(_)
            | Content::Compaction(_)
            | Content::Downgrade(_)
            | Content::LeaseCheckpoint(_)
            | Content::LeaseGrant(_)
            | Content::MemberAttributes(_)
            | Content::Nothing
            | Content::Version(_) => Ok(()),
        };
        permitted.err()
    }

    pub(super) fn change_auth(&mut self, change: &AuthChange, out: &mut Applied) -> Result<Response, Error> {
        let mut entered = Entered::default();
        Arc::make_mut(&mut self.auth).apply(change, &mut entered)?;
        out.auth_changed = true;
        out.take_entered(entered);
        let header = self.header();
        Ok(Response::AuthChanged(AuthEnableResponse { header }))
    }

    pub(super) fn authenticate(
        &self,
        request: &InternalAuthenticateRequest,
        index: u64,
        out: &mut Applied,
    ) -> Result<Response, Error> {
        let mut entered = Entered::default();
        let token = self.auth.authenticate(request, index, &mut entered)?;
        out.take_entered(entered);
        let header = self.header();
        Ok(Response::Authenticated(AuthenticateResponse { header, token }))
    }

    /// The header of requests that a member itself proposes for others: the user is `root`, or none while auth is off.
    pub(crate) fn own_caller(&self) -> RequestHeader {
        self.auth.header_of(ROOT)
    }
}

impl Applied {
    fn take_entered(&mut self, entered: Entered) {
        self.ops.extend(entered.ops);
        self.tokens.extend(entered.tokens);
    }
}
