//! The rows of auth in the table, in etcd's bytes.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::Auth;
use crate::proto::authpb::{Role, User};
use crate::table::{Bucket, TableOp};

/// Whether auth is on: one byte.
const ENABLED: &[u8] = b"authEnabled";
/// The revision: eight bytes.
const REVISION: &[u8] = b"authRevision";

pub(super) fn enabled(is_enabled: bool) -> TableOp {
    TableOp::put(Bucket::Auth, ENABLED, vec![u8::from(is_enabled)])
}

pub(super) fn revision(revision: u64) -> TableOp {
    TableOp::put(Bucket::Auth, REVISION, revision.to_be_bytes().to_vec())
}

pub(super) fn user(user: &User) -> TableOp {
    TableOp::put(Bucket::AuthUsers, user.name.clone(), user.encode_to_vec())
}

pub(super) fn user_gone(name: &str) -> TableOp {
    TableOp::delete(Bucket::AuthUsers, name.to_owned())
}

pub(super) fn role(role: &Role) -> TableOp {
    TableOp::put(Bucket::AuthRoles, role.name.clone(), role.encode_to_vec())
}

pub(super) fn role_gone(name: &str) -> TableOp {
    TableOp::delete(Bucket::AuthRoles, name.to_owned())
}

impl Auth {
    /// The rows of this state. A state that never changed has none, and so has the table.
    pub(crate) fn ops(&self) -> Vec<TableOp> {
        let mut ops: Vec<TableOp> = self.users.values().map(|stored| user(stored)).collect();
        ops.extend(self.roles.values().map(|stored| role(&stored.stored)));
        ops.extend(self.enabled.map(enabled));
        ops.extend(self.revision.map(revision));
        ops
    }

    /// Takes over a row of one of the three buckets of auth.
    ///
    /// # Errors
    /// What is wrong with the row.
    pub(crate) fn restore(&mut self, bucket: Bucket, key: &[u8], value: &Bytes) -> Result<(), String> {
        let unreadable = |error: prost::DecodeError| error.to_string();
        match bucket {
            Bucket::Auth if key == ENABLED => self.enabled = Some(value[..] == [1]),
            Bucket::Auth if key == REVISION => {
                let bytes = value[..].try_into().map_err(|_| "not 8 bytes".to_owned())?;
                self.revision = Some(u64::from_be_bytes(bytes));
            }
            Bucket::AuthUsers => {
                let user = User::decode(value.clone()).map_err(unreadable)?;
                must_be(&user.name, key)?;
                self.users.insert(owned(&user.name), Arc::new(user));
            }
            Bucket::AuthRoles => {
                let role = Role::decode(value.clone()).map_err(unreadable)?;
                must_be(&role.name, key)?;
                self.roles.insert(owned(&role.name), Arc::new(role.into()));
            }
            _ => {}
        }
        Ok(())
    }
}

fn must_be(name: &[u8], key: &[u8]) -> Result<(), String> {
    if name == key {
        Ok(())
    } else {
        Err("the name within is another".to_owned())
    }
}

/// A copy: the name itself may be a slice of a larger buffer, which it would keep in memory.
fn owned(name: &Bytes) -> Bytes {
    Bytes::copy_from_slice(name)
}
