//! The auth service while auth is off and has never been used: see [`crate::store::auth`] for the rules. Every answer
//! waits until this member is known to be up to date.

use super::{Answer, Call, Server, Step};
use crate::error::Error;
use crate::proto::etcdserverpb::{
    AuthDisableResponse, AuthRoleAddRequest, AuthRoleListResponse, AuthStatusResponse, AuthUserAddRequest,
    AuthUserListResponse,
};
use crate::store::auth;

/// Adds a user: the request is checked; adding itself is not implemented.
pub(super) fn user_add(request: &AuthUserAddRequest) -> Result<Step, Error> {
    auth::check_user_add(request).map(|()| Step::Unserved)
}

/// Adds a role: the request is checked; adding itself is not implemented.
pub(super) fn role_add(request: &AuthRoleAddRequest) -> Result<Step, Error> {
    auth::check_role_add(request).map(|()| Step::Unserved)
}

/// The answers as long as there are no users and no roles.
pub(super) fn answer(server: &Server<'_>, call: &Call) -> Result<Answer, Error> {
    let header = Some(server.header());
    Ok(match call {
        Call::AuthStatus(_) => Answer::AuthStatus(AuthStatusResponse {
            header,
            enabled: false,
            auth_revision: auth::FIRST_REVISION,
        }),
        Call::AuthDisable(_) => Answer::AuthDisable(AuthDisableResponse { header }),
        Call::UserList(_) => Answer::UserList(AuthUserListResponse {
            header,
            ..AuthUserListResponse::default()
        }),
        Call::RoleList(_) => Answer::RoleList(AuthRoleListResponse {
            header,
            ..AuthRoleListResponse::default()
        }),
        Call::AuthEnable(_) => return Err(auth::enable()),
        Call::Authenticate(_) => return Err(auth::authenticate()),
        Call::RoleGrantPermission(request) => return Err(auth::role_grant_permission(request)),
        Call::RoleDelete(_) | Call::RoleGet(_) | Call::RoleRevokePermission(_) => return Err(auth::role()),
        Call::UserChangePassword(_)
        | Call::UserDelete(_)
        | Call::UserGet(_)
        | Call::UserGrantRole(_)
        | Call::UserRevokeRole(_) => return Err(auth::user()),
        other => unreachable!("{other:?} is not answered here"),
    })
}
