//! The messages of etcd's API, log and files, one module per protobuf package.
//!
//! They are generated from `core/proto/*.proto` at build time; the service definitions in the same files become code in
//! the `runtime` crate. Every `bytes` field is a [`bytes::Bytes`], so decoding from one copies no payload.

/// Declares the module of one generated package.
macro_rules! package {
    ($(#[$doc:meta])* $module:ident = $name:literal) => {
        $(#[$doc])*
        pub mod $module {
            include!(concat!(env!("OUT_DIR"), "/", $name, ".rs"));
        }
    };
}

package! {
    /// Users, roles and permissions, as stored.
    authpb = "authpb"
}
package! {
    /// The client API, and what the entries of the log hold.
    etcdserverpb = "etcdserverpb"
}
package! {
    /// The standard gRPC health check.
    health = "grpc.health.v1"
}
package! {
    /// Leases as stored.
    leasepb = "leasepb"
}
package! {
    /// Membership in the log.
    membershippb = "membershippb"
}
package! {
    /// Keys and events.
    mvccpb = "mvccpb"
}
package! {
    /// Snapshot files.
    snappb = "snappb"
}
package! {
    /// Elections among clients.
    v3electionpb = "v3electionpb"
}
package! {
    /// Locks among clients.
    v3lockpb = "v3lockpb"
}
package! {
    /// Records of the write-ahead log.
    walpb = "walpb"
}

pub use raft::eraftpb as raftpb;

/// All packages as an encoded `google.protobuf.FileDescriptorSet`, for whoever must know field names: the JSON gateway.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
