//! The requests of the workloads, as framed gRPC messages.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use quoin_conformance::{Trouble, trouble::During as _};
use quoin_core::proto::authpb::Permission;
use quoin_core::proto::authpb::permission::Type;
use quoin_core::proto::etcdserverpb::{
    AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest,
    AuthUserGrantRoleRequest, AuthenticateRequest, AuthenticateResponse, LeaseGrantRequest, LeaseKeepAliveRequest,
    PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchRequest, request_op, watch_request,
};

/// The path of a read.
pub const RANGE: &str = "/etcdserverpb.KV/Range";
/// The path of a write.
pub const PUT: &str = "/etcdserverpb.KV/Put";
/// The path of a transaction.
pub const TXN: &str = "/etcdserverpb.KV/Txn";
/// The path of a lease's grant.
pub const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
/// The path of a stream that keeps leases alive.
pub const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
/// The path of a login.
pub const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";
/// A user that may read and write all keys of the workloads.
pub const USER: &str = "bench";
/// The password of all users.
const PASSWORD: &str = "secret";
/// The path of a watch stream.
pub const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// A framed gRPC message: no compression, then its length, then its bytes.
#[must_use]
pub fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(length + 5);
    frame.put_u8(0);
    frame.put_u32(length as u32);
    message.encode_raw(&mut frame);
    frame.freeze()
}

/// Reads one key.
#[must_use]
pub fn get(key: impl Into<Bytes>, serializable: bool) -> Bytes {
    framed(&RangeRequest {
        key: key.into(),
        serializable,
        ..RangeRequest::default()
    })
}

/// Lists the keys of a range.
#[must_use]
pub fn list(from: &'static str, to: &'static str) -> Bytes {
    framed(&RangeRequest {
        key: from.into(),
        range_end: to.into(),
        ..RangeRequest::default()
    })
}

/// The first keys of a range, at most this many.
#[must_use]
pub fn page(from: impl Into<Bytes>, to: &'static str, limit: i64) -> Bytes {
    framed(&RangeRequest {
        key: from.into(),
        range_end: to.into(),
        limit,
        ..RangeRequest::default()
    })
}

/// Writes one key.
#[must_use]
pub fn put(key: impl Into<Bytes>, value: &Bytes) -> Bytes {
    framed(&put_message(key, value))
}

/// Writes many keys at once.
#[must_use]
pub fn put_many(keys: impl Iterator<Item = String>, value: &Bytes) -> Bytes {
    let operation = |key| RequestOp {
        request: Some(request_op::Request::RequestPut(put_message(key, value))),
    };
    framed(&TxnRequest {
        success: keys.map(operation).collect(),
        ..TxnRequest::default()
    })
}

/// Grants a lease.
#[must_use]
pub fn grant(id: i64, ttl: i64) -> Bytes {
    framed(&LeaseGrantRequest { ttl, id })
}

/// Keeps a lease alive.
#[must_use]
pub fn keep_alive(id: i64) -> Bytes {
    framed(&LeaseKeepAliveRequest { id })
}

/// Watches one key.
#[must_use]
pub fn watch(key: impl Into<Bytes>) -> Bytes {
    let create = WatchCreateRequest {
        key: key.into(),
        ..WatchCreateRequest::default()
    };
    framed(&WatchRequest {
        request_union: Some(watch_request::RequestUnion::CreateRequest(create)),
    })
}

/// A value of this many bytes, which compression would not shrink to nothing.
#[must_use]
pub fn value(bytes: usize) -> Bytes {
    (0..bytes).map(|at| (at * 7 % 251) as u8).collect()
}

fn put_message(key: impl Into<Bytes>, value: &Bytes) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.clone(),
        ..PutRequest::default()
    }
}

/// The calls that make root and [`USER`], and enable users.
#[must_use]
pub fn users() -> Vec<(&'static str, Bytes)> {
    let add = |name: &str| AuthUserAddRequest {
        name: name.to_owned(),
        password: PASSWORD.to_owned(),
        ..AuthUserAddRequest::default()
    };
    let grant = |user: &str, role: &str| AuthUserGrantRoleRequest {
        user: user.to_owned(),
        role: role.to_owned(),
    };
    let role = |name: &str| AuthRoleAddRequest { name: name.to_owned() };
    let permission = AuthRoleGrantPermissionRequest {
        name: "keys".to_owned(),
        perm: Some(Permission {
            perm_type: Type::Readwrite.into(),
            key: "a".into(),
            range_end: "z".into(),
        }),
    };
    vec![
        ("/etcdserverpb.Auth/UserAdd", framed(&add("root"))),
        ("/etcdserverpb.Auth/RoleAdd", framed(&role("root"))),
        ("/etcdserverpb.Auth/UserGrantRole", framed(&grant("root", "root"))),
        ("/etcdserverpb.Auth/UserAdd", framed(&add(USER))),
        ("/etcdserverpb.Auth/RoleAdd", framed(&role("keys"))),
        ("/etcdserverpb.Auth/RoleGrantPermission", framed(&permission)),
        ("/etcdserverpb.Auth/UserGrantRole", framed(&grant(USER, "keys"))),
        ("/etcdserverpb.Auth/AuthEnable", framed(&AuthEnableRequest {})),
    ]
}

/// Logs a user in.
#[must_use]
pub fn login(name: &str) -> Bytes {
    framed(&AuthenticateRequest {
        name: name.to_owned(),
        password: PASSWORD.to_owned(),
    })
}

/// The token in the answer to a login.
///
/// # Errors
/// If it is no such answer.
pub fn token(answer: &Bytes) -> Result<String, Trouble> {
    let answer = AuthenticateResponse::decode(answer.clone()).during("the answer to a login")?;
    Ok(answer.token)
}
