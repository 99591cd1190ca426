//! The expected answers of each API method: success, and each error that etcd gives for a single member without auth
//! and without TLS.
//!
//! The codes and texts are those of etcd's error table. The errors of each method follow from etcd's code for checks
//! and apply, and from a running etcd. Errors that need several members, users, or a stopping server are not listed
//! here.

use std::collections::BTreeMap;

/// Counts of answers, by method and text: `ok`, or the code of an error and its message.
pub type Answered = BTreeMap<(&'static str, String), u64>;

/// A method by its name in the differential engine, its full name, and its errors.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// The name in [`Answered`].
    pub counted: &'static str,
    /// The name in the API.
    pub name: &'static str,
    /// The answers besides success.
    pub errors: &'static [&'static str],
}

const BAD_SORT: &str = "3 etcdserver: invalid sort option";
const BAD_VERSION: &str = "3 etcdserver: invalid client api version";
const COMPACTED: &str = "11 etcdserver: mvcc: required revision has been compacted";
const CORRUPT: &str = "15 etcdserver: corrupt cluster";
const DUPLICATE: &str = "3 etcdserver: duplicate key given in txn request";
const DUPLICATE_WATCH: &str = "canceled: mvcc: duplicate watch ID provided on the WatchStream";
const EMPTY_KEY: &str = "3 etcdserver: key is not provided";
const EMPTY_RANGE: &str = "canceled: mvcc: watcher range is empty";
const FUTURE: &str = "11 etcdserver: mvcc: required revision is a future revision";
const KEY_NOT_FOUND: &str = "3 etcdserver: key not found";
const LEASE_EXISTS: &str = "9 etcdserver: lease already exists";
const LEASE_NOT_FOUND: &str = "5 etcdserver: requested lease not found";
const LEASE_PROVIDED: &str = "3 etcdserver: lease is provided";
const NEGATIVE_START: &str = "canceled: etcdserver: mvcc: required revision has been compacted";
const NO_SPACE: &str = "8 etcdserver: mvcc: database space exceeded";
const OVERSIZED: &str = "8 grpc: received message larger than max (589828 vs. 589824)";
const TOO_LARGE: &str = "3 etcdserver: request is too large";
const TOO_LONG: &str = "11 etcdserver: too large lease TTL";
const TOO_MANY: &str = "3 etcdserver: too many operations in txn request";
const UNKNOWN_METHOD: &str = "12 unknown method Nothing for service etcdserverpb.KV";
const UNKNOWN_SERVER: &str = "12 unknown service etcdserverpb.Nothing";
const UNKNOWN_SERVICE: &str = "5 unknown service";
const VALUE_PROVIDED: &str = "3 etcdserver: value is provided";

const fn method(counted: &'static str, name: &'static str, errors: &'static [&'static str]) -> Method {
    Method { counted, name, errors }
}

/// Every method that one member serves.
pub const METHODS: &[Method] = &[
    method("Range", "KV.Range", &[EMPTY_KEY, BAD_SORT, COMPACTED, FUTURE]),
    method(
        "Put",
        "KV.Put",
        &[
            EMPTY_KEY,
            KEY_NOT_FOUND,
            VALUE_PROVIDED,
            LEASE_PROVIDED,
            LEASE_NOT_FOUND,
            NO_SPACE,
            TOO_LARGE,
            CORRUPT,
        ],
    ),
    method("DeleteRange", "KV.DeleteRange", &[EMPTY_KEY, CORRUPT]),
    method(
        "Txn",
        "KV.Txn",
        &[
            EMPTY_KEY,
            BAD_SORT,
            TOO_MANY,
            DUPLICATE,
            KEY_NOT_FOUND,
            VALUE_PROVIDED,
            LEASE_PROVIDED,
            LEASE_NOT_FOUND,
            COMPACTED,
            FUTURE,
            NO_SPACE,
            TOO_LARGE,
            CORRUPT,
        ],
    ),
    method("Compact", "KV.Compact", &[COMPACTED, FUTURE, CORRUPT]),
    method(
        "Watch create",
        "Watch.Watch (create)",
        &[DUPLICATE_WATCH, EMPTY_RANGE, NEGATIVE_START],
    ),
    method(
        "Watch events",
        "Watch.Watch (events)",
        &["in fragments", "canceled: compacted"],
    ),
    method("Watch cancel", "Watch.Watch (cancel)", &[]),
    method("Watch progress", "Watch.Watch (progress)", &[]),
    method(
        "LeaseGrant",
        "Lease.LeaseGrant",
        &[LEASE_EXISTS, TOO_LONG, NO_SPACE, CORRUPT],
    ),
    method("LeaseRevoke", "Lease.LeaseRevoke", &[LEASE_NOT_FOUND, CORRUPT]),
    method("LeaseKeepAlive", "Lease.LeaseKeepAlive", &[]),
    method("LeaseTimeToLive", "Lease.LeaseTimeToLive", &[]),
    method("LeaseLeases", "Lease.LeaseLeases", &[]),
    method("MemberList", "Cluster.MemberList", &[]),
    method("Alarm", "Maintenance.Alarm", &[]),
    method("Status", "Maintenance.Status", &[]),
    method("Defragment", "Maintenance.Defragment", &[]),
    method("Hash", "Maintenance.Hash", &[]),
    method("HashKV", "Maintenance.HashKV", &[COMPACTED, FUTURE]),
    method("Health Check", "Health.Check", &[UNKNOWN_SERVICE]),
    method("Health Watch", "Health.Watch", &[]),
    method(
        "any",
        "any method",
        &[UNKNOWN_METHOD, UNKNOWN_SERVER, BAD_VERSION, OVERSIZED],
    ),
];

/// Errors of the API that no listed method gives, and why.
pub const ELSEWHERE: &[(&str, &str)] = &[
    (
        "no leader, leader changed, not leader, unhealthy cluster, and all about members and learners",
        "One member is its own leader; these errors need a cluster of several.",
    ),
    (
        "all about users, roles, tokens and permissions",
        "They depend on who asks: the script `auth` and the test `auth` have them.",
    ),
    (
        "request timed out, too many requests, server stopped",
        "They need a member that is stuck, overloaded or stopping, which no script can arrange for a given request. The \
         histories do, and check that such a request took effect at most once.",
    ),
];
