//! The changes of auth in the log, and applying one.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

use super::{Auth, MAX_NAME_BYTES, ROOT, TokenChange, has_no_password, rows};
use crate::bug;
use crate::error::Error;
use crate::proto::authpb::{Permission, Role, User, UserAddOptions};
use crate::proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest,
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGrantRoleRequest,
    AuthUserRevokeRoleRequest, InternalAuthenticateRequest,
};
use crate::table::TableOp;

/// Go's standard base64: padded, and bits that no byte needs are not looked at.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// A request of the auth service in the log. Variants are named after its methods.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each variant is its method")]
pub enum AuthChange {
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

/// The consequences of applying changes of auth.
#[derive(Debug, Default)]
pub struct Entered {
    /// The changed rows.
    pub ops: Vec<TableOp>,
    /// What becomes of the tokens that a member keeps.
    pub tokens: Vec<TokenChange>,
}

impl AuthChange {
    /// Checks a request by itself.
    ///
    /// # Errors
    /// The error of a name that is empty or too long, or of a permission that is none.
    pub fn check(&self) -> Result<(), Error> {
        match self {
            Self::UserAdd(request) => check_name(&request.name, Error::UserEmpty),
            Self::RoleAdd(request) => check_name(&request.name, Error::RoleEmpty),
            Self::RoleGrantPermission(request) => check_permission(request.perm.as_ref()).map(drop),
            _ => Ok(()),
        }
    }
}

impl Auth {
    /// Applies a change.
    ///
    /// # Errors
    /// Why nothing is changed. All members refuse the same changes.
    pub(crate) fn apply(&mut self, change: &AuthChange, out: &mut Entered) -> Result<(), Error> {
        change.check()?;
        match change {
            AuthChange::Disable => self.disable(out),
            AuthChange::Enable => self.enable(out)?,
            AuthChange::RoleAdd(request) => self.role_add(request, out)?,
            AuthChange::RoleDelete(request) => self.role_delete(request, out)?,
            AuthChange::RoleGrantPermission(request) => self.role_grant(request, out)?,
            AuthChange::RoleRevokePermission(request) => self.role_revoke(request, out)?,
            AuthChange::UserAdd(request) => self.user_add(request, out)?,
            AuthChange::UserChangePassword(request) => self.user_change_password(request, out)?,
            AuthChange::UserDelete(request) => self.user_delete(request, out)?,
            AuthChange::UserGrantRole(request) => self.user_grant(request, out)?,
            AuthChange::UserRevokeRole(request) => self.user_revoke(request, out)?,
        }
        Ok(())
    }

    /// Gives a user a token, by the entry at `index`. The member that proposed it has checked the password.
    ///
    /// # Errors
    /// [`Error::AuthNotEnabled`], or [`Error::AuthFailed`] for a user that cannot have a token.
    pub(crate) fn authenticate(
        &self,
        request: &InternalAuthenticateRequest,
        index: u64,
        out: &mut Entered,
    ) -> Result<String, Error> {
        self.must_be_enabled()?;
        let user = self.user(&request.name).map_err(|_| Error::AuthFailed)?;
        if has_no_password(user) {
            return Err(Error::AuthFailed);
        }
        // A member with signed tokens asks for none, and a token without letters could be guessed.
        if request.simple_token.is_empty() {
            return Ok(String::new());
        }
        let token = format!("{}.{index}", request.simple_token);
        out.tokens.push(TokenChange::Assigned {
            token: token.clone(),
            user: request.name.clone(),
        });
        Ok(token)
    }

    fn enable(&mut self, out: &mut Entered) -> Result<(), Error> {
        if self.is_enabled() {
            return Ok(());
        }
        let root = self.user(ROOT).map_err(|_| Error::RootUserNotExist)?;
        if !root.roles.iter().any(|role| role == ROOT) {
            return Err(Error::RootRoleNotExist);
        }
        self.enabled = Some(true);
        out.ops.push(rows::enabled(true));
        Ok(())
    }

    fn disable(&mut self, out: &mut Entered) {
        if self.is_enabled() {
            self.enabled = Some(false);
            out.ops.push(rows::enabled(false));
            out.tokens.push(TokenChange::Cleared);
            self.count(out);
        }
    }

    fn role_add(&mut self, request: &AuthRoleAddRequest, out: &mut Entered) -> Result<(), Error> {
        if self.roles.contains_key(request.name.as_bytes()) {
            return Err(Error::RoleAlreadyExists);
        }
        let name = Bytes::copy_from_slice(request.name.as_bytes());
        self.put_role(
            Role {
                name,
                ..Role::default()
            },
            out,
        );
        Ok(())
    }

    fn role_delete(&mut self, request: &AuthRoleDeleteRequest, out: &mut Entered) -> Result<(), Error> {
        if self.is_enabled() && request.role == ROOT {
            return Err(Error::InvalidAuthManagement);
        }
        self.roles.remove(request.role.as_bytes()).ok_or(Error::RoleNotFound)?;
        out.ops.push(rows::role_gone(&request.role));
        let has_role = |user: &&Arc<User>| user.roles.contains(&request.role);
        let having: Vec<Arc<User>> = self.users.values().filter(has_role).cloned().collect();
        for user in having {
            self.write_user(without_role(&user, &request.role), out);
        }
        self.count(out);
        Ok(())
    }

    fn role_grant(&mut self, request: &AuthRoleGrantPermissionRequest, out: &mut Entered) -> Result<(), Error> {
        let permission = check_permission(request.perm.as_ref())?;
        let mut role = self.role(&request.name)?.clone();
        let permissions = &mut role.key_permission;
        let place = permissions.partition_point(|other| other.key < permission.key);
        match permissions.get_mut(place) {
            // As in etcd, only the first permission at a key is replaced; another one with the same range stays.
            Some(same) if same.key == permission.key && same.range_end == permission.range_end => {
                same.perm_type = permission.perm_type;
            }
            _ => {
                let after = permissions.partition_point(|other| other.key <= permission.key);
                permissions.insert(after, permission.clone());
            }
        }
        self.put_role(role, out);
        Ok(())
    }

    fn role_revoke(&mut self, request: &AuthRoleRevokePermissionRequest, out: &mut Entered) -> Result<(), Error> {
        let mut role = self.role(&request.role)?.clone();
        let before = role.key_permission.len();
        let is_other =
            |permission: &Permission| permission.key != request.key || permission.range_end != request.range_end;
        role.key_permission.retain(is_other);
        if role.key_permission.len() == before {
            return Err(Error::PermissionNotGranted);
        }
        let stale = self.roles.get(request.role.as_bytes()).cloned();
        self.put_role(role, out);
        if bug!(KeepsRevokedRanges)
            && let (Some(stored), Some(stale)) = (self.roles.get_mut(request.role.as_bytes()), stale)
        {
            Arc::make_mut(stored).grants = stale.grants.clone();
        }
        Ok(())
    }

    fn user_add(&mut self, request: &AuthUserAddRequest, out: &mut Entered) -> Result<(), Error> {
        if self.users.contains_key(request.name.as_bytes()) {
            return Err(Error::UserAlreadyExists);
        }
        let options = request.options.unwrap_or(UserAddOptions { no_password: false });
        let password = if options.no_password {
            Bytes::new()
        } else {
            decode(&request.hashed_password)?
        };
        let user = User {
            name: Bytes::copy_from_slice(request.name.as_bytes()),
            password,
            options: Some(options),
            ..User::default()
        };
        self.put_user(user, out);
        Ok(())
    }

    fn user_change_password(
        &mut self,
        request: &AuthUserChangePasswordRequest,
        out: &mut Entered,
    ) -> Result<(), Error> {
        let mut user = self.user(&request.name)?.clone();
        user.password = if has_no_password(&user) {
            Bytes::new()
        } else {
            decode(&request.hashed_password)?
        };
        self.put_user(user, out);
        out.tokens.push(TokenChange::Revoked {
            user: request.name.clone(),
        });
        Ok(())
    }

    fn user_delete(&mut self, request: &AuthUserDeleteRequest, out: &mut Entered) -> Result<(), Error> {
        if self.is_enabled() && request.name == ROOT {
            return Err(Error::InvalidAuthManagement);
        }
        self.users.remove(request.name.as_bytes()).ok_or(Error::UserNotFound)?;
        out.ops.push(rows::user_gone(&request.name));
        out.tokens.push(TokenChange::Revoked {
            user: request.name.clone(),
        });
        self.count(out);
        Ok(())
    }

    /// Granting a role that the user has is no change.
    fn user_grant(&mut self, request: &AuthUserGrantRoleRequest, out: &mut Entered) -> Result<(), Error> {
        let mut user = self.user(&request.user)?.clone();
        if request.role != ROOT {
            self.role(&request.role)?;
        }
        if let Err(place) = user.roles.binary_search(&request.role) {
            user.roles.insert(place, request.role.clone());
            self.put_user(user, out);
        }
        Ok(())
    }

    fn user_revoke(&mut self, request: &AuthUserRevokeRoleRequest, out: &mut Entered) -> Result<(), Error> {
        if self.is_enabled() && request.name == ROOT && request.role == ROOT {
            return Err(Error::InvalidAuthManagement);
        }
        let user = self.user(&request.name)?;
        if !user.roles.contains(&request.role) {
            return Err(Error::RoleNotGranted);
        }
        self.put_user(without_role(user, &request.role), out);
        Ok(())
    }

    fn role(&self, name: &str) -> Result<&Role, Error> {
        let found = self.roles.get(name.as_bytes());
        found.map(|role| &role.stored).ok_or(Error::RoleNotFound)
    }

    fn put_role(&mut self, role: Role, out: &mut Entered) {
        out.ops.push(rows::role(&role));
        self.roles.insert(role.name.clone(), Arc::new(role.into()));
        self.count(out);
    }

    fn put_user(&mut self, user: User, out: &mut Entered) {
        self.write_user(user, out);
        self.count(out);
    }

    fn write_user(&mut self, user: User, out: &mut Entered) {
        out.ops.push(rows::user(&user));
        self.users.insert(user.name.clone(), Arc::new(user));
    }

    /// Counts a change.
    fn count(&mut self, out: &mut Entered) {
        let revision = self.revision() + 1;
        self.revision = Some(revision);
        out.ops.push(rows::revision(revision));
    }
}

fn without_role(user: &User, role: &str) -> User {
    let mut user = user.clone();
    user.roles.retain(|has| has != role);
    user
}

/// A name without letters has an error of its own. One that is too long has none in etcd, whose database ends the member.
fn check_name(name: &str, if_empty: Error) -> Result<(), Error> {
    match name.len() {
        0 => Err(if_empty),
        1..=MAX_NAME_BYTES => Ok(()),
        _ => Err(Error::RequestTooLarge),
    }
}

/// A permission names a key, or a range that is not empty. A range end of one zero byte means "to the last key".
fn check_permission(permission: Option<&Permission>) -> Result<&Permission, Error> {
    let permission = permission.ok_or(Error::PermissionNotGiven)?;
    let (key, end) = (&permission.key, &permission.range_end);
    let is_range = !key.is_empty() && (end.is_empty() || end[..] == [0] || key < end);
    if is_range {
        Ok(permission)
    } else {
        Err(Error::InvalidAuthManagement)
    }
}

/// A bcrypt hash as requests have it.
pub(crate) fn encode(hash: &str) -> String {
    BASE64.encode(hash)
}

/// The bcrypt hash in a request. Entries of etcd before 3.5 have a password in its place, which each member hashed for
/// itself. Here such a user gets no password until it is changed: a member has no cost and no salt that all share.
fn decode(hashed: &str) -> Result<Bytes, Error> {
    let text: Vec<u8> = hashed.bytes().filter(|byte| !b"\r\n".contains(byte)).collect();
    let decoded = BASE64.decode(text).map_err(|_| Error::NoPasswordUser)?;
    Ok(decoded.into())
}
