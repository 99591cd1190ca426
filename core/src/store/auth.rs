//! The answers of the auth API while auth is off and has never been used, which this version always is: there are no
//! users and no roles.
//!
//! What etcd answers in that state is answered here too: a client that sends a name and a password gets etcd's error
//! that auth is not enabled. Only adding a user or a role is not implemented yet.

use crate::error::Error;
use crate::proto::etcdserverpb::{AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest};

/// The auth revision before the first change of a user or a role.
pub const FIRST_REVISION: u64 = 1;

/// Why auth cannot be turned on: there is no root user.
#[must_use]
pub fn enable() -> Error {
    Error::RootUserNotExist
}

/// Why a request for a token is refused.
#[must_use]
pub fn authenticate() -> Error {
    Error::AuthNotEnabled
}

/// The result of reading, changing or deleting a user.
#[must_use]
pub fn user() -> Error {
    Error::UserNotFound
}

/// The result of reading, changing or deleting a role.
#[must_use]
pub fn role() -> Error {
    Error::RoleNotFound
}

/// Checks a request to add a user.
///
/// # Errors
/// If the request alone is invalid.
pub fn check_user_add(request: &AuthUserAddRequest) -> Result<(), Error> {
    if request.name.is_empty() {
        return Err(Error::UserEmpty);
    }
    Ok(())
}

/// Checks a request to add a role.
///
/// # Errors
/// If the request alone is invalid.
pub fn check_role_add(request: &AuthRoleAddRequest) -> Result<(), Error> {
    if request.name.is_empty() {
        return Err(Error::RoleEmpty);
    }
    Ok(())
}

/// The result of granting a permission to a role: an invalid permission is reported before the missing role.
#[must_use]
pub fn role_grant_permission(request: &AuthRoleGrantPermissionRequest) -> Error {
    match &request.perm {
        None => Error::PermissionNotGiven,
        Some(permission) if !is_range(&permission.key, &permission.range_end) => Error::InvalidAuthManagement,
        Some(_) => Error::RoleNotFound,
    }
}

/// Whether a permission names a key, or a range that is not empty.
fn is_range(key: &[u8], range_end: &[u8]) -> bool {
    // A range end of one zero byte means "to the last key", so that range is not empty.
    !key.is_empty() && (range_end.is_empty() || range_end == [0] || key < range_end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::authpb::Permission;

    #[test]
    fn a_permission_is_looked_at_before_its_role() {
        let grant = |key: &'static str, range_end: &'static str| {
            let perm = Permission {
                key: key.into(),
                range_end: range_end.into(),
                ..Permission::default()
            };
            role_grant_permission(&AuthRoleGrantPermissionRequest {
                name: "role".to_owned(),
                perm: Some(perm),
            })
        };
        let missing = role_grant_permission(&AuthRoleGrantPermissionRequest::default());
        assert_eq!(missing, Error::PermissionNotGiven);
        for (key, range_end, error) in [
            ("", "", Error::InvalidAuthManagement),
            ("b", "a", Error::InvalidAuthManagement),
            ("a", "a", Error::InvalidAuthManagement),
            ("a", "", Error::RoleNotFound),
            ("a", "b", Error::RoleNotFound),
            ("a", "\0", Error::RoleNotFound),
        ] {
            assert_eq!(grant(key, range_end), error, "{key} to {range_end}");
        }
    }

    #[test]
    fn users_and_roles_need_names() {
        assert_eq!(check_user_add(&AuthUserAddRequest::default()), Err(Error::UserEmpty));
        assert_eq!(check_role_add(&AuthRoleAddRequest::default()), Err(Error::RoleEmpty));
    }
}
