//! The errors of the model, with codes and texts as in etcd.

use crate::call::Refusal;

/// A row of the table: the number of the gRPC code, and the text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Reason(i32, &'static str);

impl From<Reason> for Refusal {
    fn from(Reason(code, message): Reason) -> Self {
        Self {
            code,
            message: message.to_owned(),
        }
    }
}

const UNKNOWN: i32 = 2;
const INVALID_ARGUMENT: i32 = 3;
const NOT_FOUND: i32 = 5;
const RESOURCE_EXHAUSTED: i32 = 8;
const FAILED_PRECONDITION: i32 = 9;
const PERMISSION: i32 = 7;
const OUT_OF_RANGE: i32 = 11;
const DATA_LOSS: i32 = 15;

pub(super) const AUTH_FAILED: Reason = Reason(
    INVALID_ARGUMENT,
    "etcdserver: authentication failed, invalid user ID or password",
);
pub(super) const AUTH_NOT_ENABLED: Reason = Reason(FAILED_PRECONDITION, "etcdserver: authentication is not enabled");
pub(super) const BAD_MEMBER_URLS: Reason = Reason(INVALID_ARGUMENT, "etcdserver: given member URLs are invalid");
pub(super) const COMPACTED: Reason = Reason(OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted");
pub(super) const CORRUPT: Reason = Reason(DATA_LOSS, "etcdserver: corrupt cluster");
pub(super) const DUPLICATE_KEY: Reason = Reason(INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request");
pub(super) const EMPTY_KEY: Reason = Reason(INVALID_ARGUMENT, "etcdserver: key is not provided");
pub(super) const FUTURE_REVISION: Reason =
    Reason(OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision");
pub(super) const INVALID_AUTH_MANAGEMENT: Reason = Reason(INVALID_ARGUMENT, "etcdserver: invalid auth management");
pub(super) const INVALID_SORT: Reason = Reason(INVALID_ARGUMENT, "etcdserver: invalid sort option");
pub(super) const KEY_NOT_FOUND: Reason = Reason(INVALID_ARGUMENT, "etcdserver: key not found");
pub(super) const LEASE_EXISTS: Reason = Reason(FAILED_PRECONDITION, "etcdserver: lease already exists");
pub(super) const LEASE_NOT_FOUND: Reason = Reason(NOT_FOUND, "etcdserver: requested lease not found");
pub(super) const LEASE_PROVIDED: Reason = Reason(INVALID_ARGUMENT, "etcdserver: lease is provided");
pub(super) const MEMBER_EXISTS: Reason = Reason(FAILED_PRECONDITION, "etcdserver: member ID already exist");
pub(super) const MEMBER_NOT_FOUND: Reason = Reason(NOT_FOUND, "etcdserver: member not found");
pub(super) const NOT_A_LEARNER: Reason = Reason(FAILED_PRECONDITION, "etcdserver: can only promote a learner member");
pub(super) const NOT_ENOUGH_STARTED: Reason = Reason(
    UNKNOWN,
    "etcdserver: re-configuration failed due to not enough started members",
);
pub(super) const NOT_MODELLED: Reason = Reason(UNKNOWN, "the model does not have this kind of request");
pub(super) const NO_SPACE: Reason = Reason(RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded");
pub(super) const OLD_REVISION: Reason = Reason(INVALID_ARGUMENT, "etcdserver: revision of auth store is old");
pub(super) const PEER_URL_EXISTS: Reason = Reason(FAILED_PRECONDITION, "etcdserver: Peer URLs already exists");
pub(super) const PERMISSION_DENIED: Reason = Reason(PERMISSION, "etcdserver: permission denied");
pub(super) const PERMISSION_NOT_GIVEN: Reason = Reason(INVALID_ARGUMENT, "etcdserver: permission not given");
pub(super) const PERMISSION_NOT_GRANTED: Reason =
    Reason(FAILED_PRECONDITION, "etcdserver: permission is not granted to the role");
pub(super) const ROLE_EMPTY: Reason = Reason(INVALID_ARGUMENT, "etcdserver: role name is empty");
pub(super) const ROLE_EXISTS: Reason = Reason(FAILED_PRECONDITION, "etcdserver: role name already exists");
pub(super) const ROLE_NOT_FOUND: Reason = Reason(FAILED_PRECONDITION, "etcdserver: role name not found");
pub(super) const ROLE_NOT_GRANTED: Reason = Reason(FAILED_PRECONDITION, "etcdserver: role is not granted to the user");
pub(super) const ROOT_ROLE_NOT_EXIST: Reason =
    Reason(FAILED_PRECONDITION, "etcdserver: root user does not have root role");
pub(super) const ROOT_USER_NOT_EXIST: Reason = Reason(FAILED_PRECONDITION, "etcdserver: root user does not exist");
pub(super) const TOO_LARGE_TTL: Reason = Reason(OUT_OF_RANGE, "etcdserver: too large lease TTL");
pub(super) const TOO_MANY_LEARNERS: Reason =
    Reason(FAILED_PRECONDITION, "etcdserver: too many learner members in cluster");
pub(super) const TOO_MANY_OPS: Reason = Reason(INVALID_ARGUMENT, "etcdserver: too many operations in txn request");
pub(super) const USER_EMPTY: Reason = Reason(INVALID_ARGUMENT, "etcdserver: user name is empty");
pub(super) const USER_EXISTS: Reason = Reason(FAILED_PRECONDITION, "etcdserver: user name already exists");
pub(super) const USER_NOT_FOUND: Reason = Reason(FAILED_PRECONDITION, "etcdserver: user name not found");
pub(super) const VALUE_PROVIDED: Reason = Reason(INVALID_ARGUMENT, "etcdserver: value is provided");
