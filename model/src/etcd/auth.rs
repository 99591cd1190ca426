//! Users, roles and permissions: who may do what. Written from the description of etcd's behaviour, with plain lists.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quoin_core::proto::authpb::Permission;
use quoin_core::proto::authpb::permission::Type;
use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::{
    DeleteRangeRequest, InternalAuthenticateRequest, PutRequest, RequestHeader, TxnRequest,
};

use super::State;
use super::refusal::{
    AUTH_FAILED, AUTH_NOT_ENABLED, INVALID_AUTH_MANAGEMENT, OLD_REVISION, PERMISSION_DENIED, PERMISSION_NOT_GIVEN,
    PERMISSION_NOT_GRANTED, ROLE_EMPTY, ROLE_EXISTS, ROLE_NOT_FOUND, ROLE_NOT_GRANTED, ROOT_ROLE_NOT_EXIST,
    ROOT_USER_NOT_EXIST, Reason, USER_EMPTY, USER_EXISTS, USER_NOT_FOUND,
};
use crate::call::{AuthCall, Call, Refusal};

/// The user, and the role, that may do everything.
const ROOT: &str = "root";

/// A user.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct User {
    /// The hash of its password, as its request had it; empty if it has none.
    pub hashed_password: String,
    /// Its roles.
    pub roles: BTreeSet<String>,
    /// The index of the entry that added it or changed its password: tokens given out before have ended.
    pub tokens_from: u64,
}

/// Users, roles and permissions at some moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    /// Whether permissions are checked.
    pub enabled: bool,
    /// Counts the changes.
    pub revision: u64,
    /// The users, by name.
    pub users: BTreeMap<String, User>,
    /// The permissions of each role, by their keys.
    pub roles: BTreeMap<String, Vec<Permission>>,
    /// The index of the entry that disabled auth last: tokens given out before have ended.
    pub tokens_from: u64,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            enabled: false,
            revision: 1,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            tokens_from: 0,
        }
    }
}

impl Auth {
    /// Applies the change of the entry at `index`.
    pub(super) fn change(&mut self, index: u64, call: &AuthCall) -> Result<(), Reason> {
        match call {
            AuthCall::Enable => {
                let root = self.users.get(ROOT);
                ensure(self.enabled || root.is_some(), ROOT_USER_NOT_EXIST)?;
                ensure(self.enabled || self.is_root(ROOT), ROOT_ROLE_NOT_EXIST)?;
                // This alone is no change of the revision.
                self.enabled = true;
                return Ok(());
            }
            AuthCall::Disable if !self.enabled => return Ok(()),
            AuthCall::Disable => (self.enabled, self.tokens_from) = (false, index),
            AuthCall::UserAdd(request) => {
                ensure(!request.name.is_empty(), USER_EMPTY)?;
                ensure(!self.users.contains_key(&request.name), USER_EXISTS)?;
                let user = User {
                    hashed_password: request.hashed_password.clone(),
                    tokens_from: index,
                    ..User::default()
                };
                self.users.insert(request.name.clone(), user);
            }
            AuthCall::UserDelete(request) => {
                self.keeps_root(request.name == ROOT)?;
                self.users.remove(&request.name).ok_or(USER_NOT_FOUND)?;
            }
            AuthCall::UserChangePassword(request) => {
                let user = self.users.get_mut(&request.name).ok_or(USER_NOT_FOUND)?;
                (user.hashed_password, user.tokens_from) = (request.hashed_password.clone(), index);
            }
            AuthCall::UserGrantRole(request) => {
                let is_known = request.role == ROOT || self.roles.contains_key(&request.role);
                let user = self.users.get_mut(&request.user).ok_or(USER_NOT_FOUND)?;
                ensure(is_known, ROLE_NOT_FOUND)?;
                if !user.roles.insert(request.role.clone()) {
                    return Ok(());
                }
            }
            AuthCall::UserRevokeRole(request) => {
                self.keeps_root(request.name == ROOT && request.role == ROOT)?;
                let user = self.users.get_mut(&request.name).ok_or(USER_NOT_FOUND)?;
                ensure(user.roles.remove(&request.role), ROLE_NOT_GRANTED)?;
            }
            AuthCall::RoleAdd(request) => {
                ensure(!request.name.is_empty(), ROLE_EMPTY)?;
                ensure(!self.roles.contains_key(&request.name), ROLE_EXISTS)?;
                self.roles.insert(request.name.clone(), Vec::new());
            }
            AuthCall::RoleDelete(request) => {
                self.keeps_root(request.role == ROOT)?;
                self.roles.remove(&request.role).ok_or(ROLE_NOT_FOUND)?;
                let users = self.users.values_mut();
                users.for_each(|user| drop(user.roles.take(&request.role)));
            }
            AuthCall::RoleGrantPermission(request) => {
                let given = request.perm.clone().ok_or(PERMISSION_NOT_GIVEN)?;
                ensure(has_keys(&given), INVALID_AUTH_MANAGEMENT)?;
                grant(self.roles.get_mut(&request.name).ok_or(ROLE_NOT_FOUND)?, given);
            }
            AuthCall::RoleRevokePermission(request) => {
                let role = self.roles.get_mut(&request.role).ok_or(ROLE_NOT_FOUND)?;
                let count = role.len();
                role.retain(|one| (&one.key, &one.range_end) != (&request.key, &request.range_end));
                ensure(role.len() < count, PERMISSION_NOT_GRANTED)?;
            }
        }
        self.revision += 1;
        Ok(())
    }

    /// While permissions are checked, root stays what it is.
    fn keeps_root(&self, is_about_root: bool) -> Result<(), Reason> {
        ensure(!(self.enabled && is_about_root), INVALID_AUTH_MANAGEMENT)
    }

    fn is_root(&self, user: &str) -> bool {
        self.users.get(user).is_some_and(|user| user.roles.contains(ROOT))
    }

    /// Any user.
    fn user(&self, caller: &RequestHeader) -> Result<(), Reason> {
        ensure(!self.enabled || !caller.username.is_empty(), USER_EMPTY)
    }

    /// Users with the role root, whatever the revision at which they were identified.
    fn root(&self, caller: &RequestHeader) -> Result<(), Reason> {
        self.user(caller)?;
        let is_known = self.users.contains_key(&caller.username);
        ensure(!self.enabled || is_known, USER_NOT_FOUND)?;
        ensure(!self.enabled || self.is_root(&caller.username), PERMISSION_DENIED)
    }

    /// Whether a user may learn of a key. Root may, also as it was identified at an earlier auth revision.
    ///
    /// # Errors
    /// Why not.
    pub fn reads(&self, caller: &RequestHeader, key: &[u8]) -> Result<(), Refusal> {
        Ok(self.key_of_lease(caller, Type::Read, key)?)
    }

    /// A key of a lease.
    fn key_of_lease(&self, caller: &RequestHeader, access: Type, key: &[u8]) -> Result<(), Reason> {
        self.root(caller).or_else(|_| self.keys(caller, access, key, &[]))
    }

    fn keys(&self, caller: &RequestHeader, access: Type, key: &[u8], end: &[u8]) -> Result<(), Reason> {
        if !self.enabled {
            return Ok(());
        }
        ensure(caller.auth_revision != 0, USER_EMPTY)?;
        ensure(caller.auth_revision >= self.revision, OLD_REVISION)?;
        let user = self.users.get(&caller.username).ok_or(PERMISSION_DENIED)?;
        ensure(
            user.roles.contains(ROOT) || self.covers(user, access, key, end),
            PERMISSION_DENIED,
        )
    }

    /// Whether the permissions of all roles together have all keys of a range. What they lack would begin at the first
    /// key or at the end of a permission.
    fn covers(&self, user: &User, access: Type, key: &[u8], end: &[u8]) -> bool {
        let kinds = [access as i32, Type::Readwrite as i32];
        let roles = user.roles.iter().filter_map(|role| self.roles.get(role));
        let granted: Vec<&Permission> = roles.flatten().filter(|one| kinds.contains(&one.perm_type)).collect();
        let has = |key: &[u8]| granted.iter().any(|one| contains(&one.key, &one.range_end, key));
        // A range to the last key needs a permission to the last key.
        let is_endless = end != [0] || granted.iter().any(|one| one.range_end[..] == [0]);
        let ends = granted.iter().map(|one| after(&one.key, &one.range_end));
        is_endless && has(key) && ends.flatten().all(|place| !contains(key, end, &place) || has(&place))
    }

    /// The answer to a user that authenticates by the entry at `index`.
    pub(super) fn authenticate(&self, index: u64, request: &InternalAuthenticateRequest) -> Result<String, Reason> {
        ensure(self.enabled, AUTH_NOT_ENABLED)?;
        ensure(self.users.contains_key(&request.name), AUTH_FAILED)?;
        Ok(match &request.simple_token[..] {
            "" => String::new(),
            prefix => format!("{prefix}.{index}"),
        })
    }
}

/// Adds a permission in the order of keys. Of several at its key, only the first one is replaced, if its range is the same.
fn grant(role: &mut Vec<Permission>, given: Permission) {
    match role.iter_mut().find(|one| one.key == given.key) {
        Some(same) if same.range_end == given.range_end => same.perm_type = given.perm_type,
        _ => {
            let place = role.iter().position(|one| one.key > given.key);
            role.insert(place.unwrap_or(role.len()), given);
        }
    }
}

/// Whether a permission may be granted.
fn has_keys(given: &Permission) -> bool {
    let end = &given.range_end;
    !given.key.is_empty() && (end.is_empty() || end[..] == [0] || given.key < *end)
}

/// Whether a range has a key. Without an end it is one key, and to the last one if its end is a zero byte.
fn contains(first: &[u8], end: &[u8], key: &[u8]) -> bool {
    match end {
        [] => first == key,
        [0] => first <= key,
        _ => first <= key && key < end,
    }
}

/// The first key after a range, if there is one.
fn after(first: &[u8], end: &[u8]) -> Option<Bytes> {
    match end {
        [] => Some([first, &[0]].concat().into()),
        [0] => None,
        _ => Some(Bytes::copy_from_slice(end)),
    }
}

fn ensure(holds: bool, otherwise: Reason) -> Result<(), Reason> {
    if holds { Ok(()) } else { Err(otherwise) }
}

impl State {
    /// Users, roles and permissions at an index.
    #[must_use]
    pub fn auth_at(&self, index: u64) -> &Auth {
        self.auth.at(index)
    }

    /// The indices from `first` to `last` at which auth may differ from what it was before: `first`, and all changes.
    pub fn auth_moments(&self, first: u64, last: u64) -> impl DoubleEndedIterator<Item = u64> {
        let changes = self
            .auth
            .since()
            .filter(move |index| (first + 1..=last).contains(index));
        [first].into_iter().chain(changes)
    }

    /// Whether a user may make a call, in the state at an index.
    ///
    /// # Errors
    /// The error that its client gets.
    pub fn permits(&self, caller: &RequestHeader, call: &Call, index: u64) -> Result<(), Refusal> {
        let auth = self.auth_at(index);
        match call {
            _ if !auth.enabled => {}
            // A lock consists of other calls.
            Call::Authenticate(_) | Call::Lock(_) => {}
            Call::Alarm(request) if request.action == AlarmAction::Get as i32 => auth.user(caller)?,
            Call::LeaseGrant(_) | Call::MemberList(_) | Call::Status => auth.user(caller)?,
            Call::LeaseKeepAlive { id } => self.permits_lease(caller, Type::Write, *id, index)?,
            Call::LeaseLeases => {
                auth.user(caller)?;
                let leases = self.leases_at(index);
                let mut keys = leases.iter().flat_map(|lease| &lease.keys);
                keys.try_for_each(|key| auth.key_of_lease(caller, Type::Read, key))?;
            }
            Call::LeaseRevoke(request) => self.permits_lease(caller, Type::Write, request.id, index)?,
            Call::LeaseTimeToLive(request) if request.keys => {
                self.permits_lease(caller, Type::Read, request.id, index)?
            }
            Call::LeaseTimeToLive(_) => auth.user(caller)?,
            Call::Range(request) => auth.keys(caller, Type::Read, &request.key, &request.range_end)?,
            Call::DeleteRange(_) | Call::Put(_) | Call::Txn(_) => self.permits_entry(caller, call, index)?,
            _ => auth.root(caller)?,
        }
        Ok(())
    }

    /// Whether an entry of a user is carried out at an index. Other calls are checked before they are proposed only.
    pub(super) fn permits_entry(&self, caller: &RequestHeader, call: &Call, index: u64) -> Result<(), Reason> {
        let auth = self.auth_at(index);
        match call {
            _ if !auth.enabled => Ok(()),
            Call::Auth(_) => auth.root(caller),
            Call::DeleteRange(request) => permits_delete(auth, caller, request),
            Call::LeaseRevoke(request) => self.keys_of_lease(caller, Type::Write, request.id, index),
            Call::Put(request) => self.permits_put(caller, request, index),
            Call::Range(request) => auth.keys(caller, Type::Read, &request.key, &request.range_end),
            Call::Txn(request) => self.permits_txn(caller, request, index),
            _ => Ok(()),
        }
    }

    fn permits_put(&self, caller: &RequestHeader, put: &PutRequest, index: u64) -> Result<(), Reason> {
        let auth = self.auth_at(index);
        auth.keys(caller, Type::Write, &put.key, &[])?;
        self.keys_of_lease(caller, Type::Write, put.lease, index)?;
        if put.prev_kv {
            auth.keys(caller, Type::Read, &put.key, &[])?;
        }
        Ok(())
    }

    /// Both branches count, whichever is taken.
    fn permits_txn(&self, caller: &RequestHeader, txn: &TxnRequest, index: u64) -> Result<(), Reason> {
        let auth = self.auth_at(index);
        for compare in &txn.compare {
            auth.keys(caller, Type::Read, &compare.key, &compare.range_end)?;
        }
        txn.success
            .iter()
            .chain(&txn.failure)
            .try_for_each(|op| match &op.request {
                Some(Op::RequestDeleteRange(request)) => permits_delete(auth, caller, request),
                Some(Op::RequestPut(request)) => self.permits_put(caller, request, index),
                Some(Op::RequestRange(request)) => auth.keys(caller, Type::Read, &request.key, &request.range_end),
                Some(Op::RequestTxn(request)) => self.permits_txn(caller, request, index),
                None => Ok(()),
            })
    }

    fn permits_lease(&self, caller: &RequestHeader, access: Type, id: i64, index: u64) -> Result<(), Reason> {
        self.auth_at(index).user(caller)?;
        self.keys_of_lease(caller, access, id, index)
    }

    /// A user needs a permission for each key of a lease; a lease that does not exist has none.
    fn keys_of_lease(&self, caller: &RequestHeader, access: Type, id: i64, index: u64) -> Result<(), Reason> {
        let keys = self.lease_at(id, index).map_or_else(Vec::new, |lease| lease.keys);
        let auth = self.auth_at(index);
        keys.iter().try_for_each(|key| auth.key_of_lease(caller, access, key))
    }
}

fn permits_delete(auth: &Auth, caller: &RequestHeader, delete: &DeleteRangeRequest) -> Result<(), Reason> {
    auth.keys(caller, Type::Write, &delete.key, &delete.range_end)?;
    if delete.prev_kv {
        auth.keys(caller, Type::Read, &delete.key, &delete.range_end)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a role with permissions to read these ranges has all keys of another range.
    fn covers(granted: &[(&'static str, &'static str)], key: &str, end: &str) -> bool {
        let role = granted.iter().map(|(key, range_end)| Permission {
            key: (*key).into(),
            range_end: (*range_end).into(),
            ..Permission::default()
        });
        let mut auth = Auth::default();
        auth.roles.insert("r".to_owned(), role.collect());
        let user = User {
            roles: ["r".to_owned()].into(),
            ..User::default()
        };
        let covers = |access| auth.covers(&user, access, key.as_bytes(), end.as_bytes());
        assert!(!covers(Type::Write), "it grants reading alone");
        covers(Type::Read)
    }

    #[test]
    fn permissions_that_meet_cover_a_range_together() {
        assert!(covers(&[("a", "")], "a", ""));
        assert!(covers(&[("a", "")], "a", "a\0"));
        assert!(!covers(&[("a", "")], "a", "a\0\0"));
        assert!(covers(&[("a", "c"), ("c", ""), ("c\0", "e")], "b", "d"));
        assert!(!covers(&[("a", "c"), ("c\0", "e")], "b", "d"));
        assert!(!covers(&[("a", "c"), ("d", "e")], "b", "e"));
        assert!(!covers(&[("a", "z")], "a", "\0"), "its last keys are missing");
        assert!(covers(&[("m", "\0"), ("a", "m")], "a", "\0"));
        assert!(!covers(&[("m", "\0")], "a", "\0"));
    }
}
