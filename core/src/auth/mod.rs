//! Users, roles and permissions: the replicated state, and who may do what with it.
//!
//! - [`Auth`] is the state. Only applied entries change it ([`AuthChange`]), so all members have the same;
//! - [`ranges`] has the ranges of keys that a role grants, [`access`] the functions that decide whether a request is
//!   permitted;
//! - [`rows`] has the rows of the table, in etcd's bytes;
//! - [`tokens`] and [`passwords`] are state of one member: tokens given out, and passwords found right. A host keeps
//!   them, because they have to do with time and secrets; they are as pure as the rest.
//!
//! Errors and their order are etcd's. A revision counts the changes of users, roles and permissions. A request carries
//! the revision at which its user was identified, and is refused if the revision has changed when it is applied.

mod access;
mod change;
mod passwords;
mod ranges;
mod rows;
mod tokens;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Error;
use crate::proto::authpb::{Permission, Role, User};
use crate::proto::etcdserverpb::RequestHeader;

pub(crate) use access::KeyAccess;
pub(crate) use change::encode;

pub use change::{AuthChange, Entered};
pub use passwords::KnownPasswords;
pub use tokens::{SimpleTokens, TokenChange, token_index};

use ranges::Grants;

/// The user who may do everything, and must exist before auth is enabled.
pub const ROOT: &str = "root";

/// The longest name of a user or a role, in bytes: the longest key of a row in etcd's database.
pub const MAX_NAME_BYTES: usize = 32_768;

/// The revision before the first change.
const FIRST_REVISION: u64 = 1;

/// The state of auth. A clone shares users and roles.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    /// Whether auth is on; `None` if that was never written.
    enabled: Option<bool>,
    /// The revision; `None` if it was never written.
    revision: Option<u64>,
    users: BTreeMap<Bytes, Arc<User>>,
    roles: BTreeMap<Bytes, Arc<StoredRole>>,
}

/// A role, and the ranges that it grants.
#[derive(Clone, Debug)]
struct StoredRole {
    stored: Role,
    grants: Grants,
}

impl From<Role> for StoredRole {
    fn from(stored: Role) -> Self {
        let grants = Grants::of(&stored.key_permission);
        Self { stored, grants }
    }
}

impl Auth {
    /// Whether auth is on.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(false)
    }

    /// The revision. It grows with every change of a user, a role or a permission, and when auth is disabled.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision.filter(|revision| *revision > 0).unwrap_or(FIRST_REVISION)
    }

    /// The names of all users, in order.
    #[must_use]
    pub fn user_names(&self) -> Vec<String> {
        self.users.keys().map(|name| text(name)).collect()
    }

    /// The names of all roles, in order.
    #[must_use]
    pub fn role_names(&self) -> Vec<String> {
        self.roles.keys().map(|name| text(name)).collect()
    }

    /// The roles of a user, in order.
    ///
    /// # Errors
    /// [`Error::UserNotFound`].
    pub fn roles_of(&self, user: &str) -> Result<Vec<String>, Error> {
        self.user(user).map(|user| user.roles.clone())
    }

    /// The permissions of a role, by key. The role `root` needs none, and as in etcd 3.5.30 none is shown.
    ///
    /// # Errors
    /// [`Error::RoleNotFound`].
    pub fn permissions_of(&self, role: &str) -> Result<Vec<Permission>, Error> {
        let found = self.roles.get(role.as_bytes()).ok_or(Error::RoleNotFound)?;
        Ok(found.stored.key_permission.clone())
    }

    /// The bcrypt hash with which a user's password is compared.
    ///
    /// # Errors
    /// Why the user cannot authenticate by a password: auth is off, there is no such user, or it has no password.
    pub fn password_hash(&self, user: &str) -> Result<Bytes, Error> {
        self.must_be_enabled()?;
        let user = self.user(user).map_err(|_| Error::AuthFailed)?;
        if has_no_password(user) {
            return Err(Error::NoPasswordUser);
        }
        Ok(user.password.clone())
    }

    fn must_be_enabled(&self) -> Result<(), Error> {
        if self.is_enabled() {
            Ok(())
        } else {
            Err(Error::AuthNotEnabled)
        }
    }

    /// The header of a request that this user makes now. While auth is off, requests have no users.
    #[must_use]
    pub fn header_of(&self, user: &str) -> RequestHeader {
        if !self.is_enabled() {
            return RequestHeader::default();
        }
        RequestHeader {
            username: user.to_owned(),
            auth_revision: self.revision(),
            ..RequestHeader::default()
        }
    }

    fn user(&self, name: &str) -> Result<&User, Error> {
        self.users
            .get(name.as_bytes())
            .map(|user| &**user)
            .ok_or(Error::UserNotFound)
    }

    /// The ranges that a user's roles grant.
    fn grants<'a>(&'a self, user: &'a User) -> impl Iterator<Item = &'a Grants> + Clone {
        let roles = user.roles.iter().filter_map(|name| self.roles.get(name.as_bytes()));
        roles.map(|role| &role.grants)
    }
}

/// Whether a user can authenticate by a certificate only.
fn has_no_password(user: &User) -> bool {
    user.options.as_ref().is_some_and(|options| options.no_password)
}

/// A name as text. Names come from requests, whose texts are UTF-8.
fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
