//! The table of methods: every method of etcd's API with its service, name and kind, and with its request if the
//! method consists of calls that `Server::begin` takes. Codecs decode requests by this table and need no list of their
//! own.

use bytes::Bytes;
use prost::{DecodeError, Message as _};

use crate::proto::etcdserverpb::{
    AlarmRequest, AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest,
    AuthRoleGrantPermissionRequest, AuthRoleListRequest, AuthRoleRevokePermissionRequest, AuthStatusRequest,
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest,
    AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserRevokeRoleRequest, AuthenticateRequest, CompactionRequest,
    DefragmentRequest, DeleteRangeRequest, DowngradeRequest, HashKvRequest, HashRequest, LeaseGrantRequest,
    LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, MemberAddRequest,
    MemberListRequest, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest, MoveLeaderRequest, PutRequest,
    RangeRequest, SnapshotRequest, StatusRequest, TxnRequest,
};
use crate::proto::health::HealthCheckRequest;
use crate::proto::v3electionpb::{CampaignRequest, LeaderRequest, ProclaimRequest, ResignRequest};
use crate::proto::v3lockpb::{LockRequest, UnlockRequest};

/// How many messages flow in which direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// One request, one response.
    Unary,
    /// One request, many responses.
    ServerStream,
    /// Many of both.
    BidiStream,
}

impl Kind {
    /// The kind, as the label in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }
}

/// Generates, from the table, the enums of methods and of calls, the list, and the look-up by path.
///
/// A row is `Name(Request) = "name" Kind`. A row after a `;` has no request, because its messages are not independent
/// requests with one answer each (`Watch`), or because this version does not serve the method at all.
macro_rules! methods {
    ($($service:literal {
        $($call:ident($request:ty) = $call_name:literal $call_kind:ident,)*
        $(; $($other:ident = $name:literal $kind:ident,)*)?
    })*) => {
        /// A method of the API.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Method {
            $(
                $(
                    #[doc = concat!("`", $service, "/", $call_name, "`")]
                    $call,
                )*
                $($(
                    #[doc = concat!("`", $service, "/", $name, "`")]
                    $other,
                )*)?
            )*
        }

        impl Method {
            /// All methods. A method's index here is its discriminant.
            pub const ALL: &[Self] = &[$($(Self::$call,)* $($(Self::$other,)*)?)*];

            /// Its service, its name there, and its kind.
            #[must_use]
            pub const fn parts(self) -> (&'static str, &'static str, Kind) {
                match self {
                    $(
                        $(Self::$call => ($service, $call_name, Kind::$call_kind),)*
                        $($(Self::$other => ($service, $name, Kind::$kind),)*)?
                    )*
                }
            }

            /// The method of a request's path.
            #[must_use]
            pub fn find(path: &str) -> Option<Self> {
                match path {
                    $(
                        $(concat!("/", $service, "/", $call_name) => Some(Self::$call),)*
                        $($(concat!("/", $service, "/", $name) => Some(Self::$other),)*)?
                    )*
                    _ => None,
                }
            }
        }

        /// A request of a client, decoded.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Call {
            $($(
                #[doc = concat!("`", $service, "/", $call_name, "`")]
                $call($request),
            )*)*
        }

        impl Call {
            /// Decodes the message of a method; `None` if the table has no request for the method.
            ///
            /// # Errors
            /// If the bytes are not a valid message of the method's request type.
            pub fn decode(method: Method, message: Bytes) -> Result<Option<Self>, DecodeError> {
                Ok(Some(match method {
                    $($(Method::$call => Self::$call(<$request>::decode(message)?),)*)*
                    $($($(Method::$other)|* => return Ok(None),)?)*
                }))
            }

            /// The method that was called.
            #[must_use]
            pub const fn method(&self) -> Method {
                match self {
                    $($(Self::$call(_) => Method::$call,)*)*
                }
            }
        }

        /// All services.
        pub const SERVICES: &[&str] = &[$($service,)*];
    };
}

methods! {
    "etcdserverpb.KV" {
        Range(RangeRequest) = "Range" Unary,
        Put(PutRequest) = "Put" Unary,
        DeleteRange(DeleteRangeRequest) = "DeleteRange" Unary,
        Txn(TxnRequest) = "Txn" Unary,
        Compact(CompactionRequest) = "Compact" Unary,
        ;
        RangeStream = "RangeStream" ServerStream,
    }
    "etcdserverpb.Watch" {
        ;
        Watch = "Watch" BidiStream,
    }
    "etcdserverpb.Lease" {
        LeaseGrant(LeaseGrantRequest) = "LeaseGrant" Unary,
        LeaseRevoke(LeaseRevokeRequest) = "LeaseRevoke" Unary,
        LeaseKeepAlive(LeaseKeepAliveRequest) = "LeaseKeepAlive" BidiStream,
        LeaseTimeToLive(LeaseTimeToLiveRequest) = "LeaseTimeToLive" Unary,
        LeaseLeases(LeaseLeasesRequest) = "LeaseLeases" Unary,
    }
    "etcdserverpb.Cluster" {
        MemberAdd(MemberAddRequest) = "MemberAdd" Unary,
        MemberRemove(MemberRemoveRequest) = "MemberRemove" Unary,
        MemberUpdate(MemberUpdateRequest) = "MemberUpdate" Unary,
        MemberList(MemberListRequest) = "MemberList" Unary,
        MemberPromote(MemberPromoteRequest) = "MemberPromote" Unary,
    }
    "etcdserverpb.Maintenance" {
        Alarm(AlarmRequest) = "Alarm" Unary,
        Status(StatusRequest) = "Status" Unary,
        Defragment(DefragmentRequest) = "Defragment" Unary,
        Hash(HashRequest) = "Hash" Unary,
        HashKv(HashKvRequest) = "HashKV" Unary,
        MoveLeader(MoveLeaderRequest) = "MoveLeader" Unary,
        Snapshot(SnapshotRequest) = "Snapshot" ServerStream,
        Downgrade(DowngradeRequest) = "Downgrade" Unary,
    }
    "etcdserverpb.Auth" {
        AuthEnable(AuthEnableRequest) = "AuthEnable" Unary,
        AuthDisable(AuthDisableRequest) = "AuthDisable" Unary,
        AuthStatus(AuthStatusRequest) = "AuthStatus" Unary,
        Authenticate(AuthenticateRequest) = "Authenticate" Unary,
        UserAdd(AuthUserAddRequest) = "UserAdd" Unary,
        UserGet(AuthUserGetRequest) = "UserGet" Unary,
        UserList(AuthUserListRequest) = "UserList" Unary,
        UserDelete(AuthUserDeleteRequest) = "UserDelete" Unary,
        UserChangePassword(AuthUserChangePasswordRequest) = "UserChangePassword" Unary,
        UserGrantRole(AuthUserGrantRoleRequest) = "UserGrantRole" Unary,
        UserRevokeRole(AuthUserRevokeRoleRequest) = "UserRevokeRole" Unary,
        RoleAdd(AuthRoleAddRequest) = "RoleAdd" Unary,
        RoleGet(AuthRoleGetRequest) = "RoleGet" Unary,
        RoleList(AuthRoleListRequest) = "RoleList" Unary,
        RoleDelete(AuthRoleDeleteRequest) = "RoleDelete" Unary,
        RoleGrantPermission(AuthRoleGrantPermissionRequest) = "RoleGrantPermission" Unary,
        RoleRevokePermission(AuthRoleRevokePermissionRequest) = "RoleRevokePermission" Unary,
    }
    "grpc.health.v1.Health" {
        HealthCheck(HealthCheckRequest) = "Check" Unary,
        HealthWatch(HealthCheckRequest) = "Watch" ServerStream,
    }
    "v3electionpb.Election" {
        Campaign(CampaignRequest) = "Campaign" Unary,
        Proclaim(ProclaimRequest) = "Proclaim" Unary,
        Leader(LeaderRequest) = "Leader" Unary,
        Observe(LeaderRequest) = "Observe" ServerStream,
        Resign(ResignRequest) = "Resign" Unary,
    }
    "v3lockpb.Lock" {
        Lock(LockRequest) = "Lock" Unary,
        Unlock(UnlockRequest) = "Unlock" Unary,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_found_by_its_path_and_its_discriminant_is_its_index() {
        for (index, method) in Method::ALL.iter().enumerate() {
            let (service, name, _) = method.parts();
            assert_eq!(Method::find(&format!("/{service}/{name}")), Some(*method));
            assert_eq!(*method as usize, index);
        }
        assert_eq!(Method::find("/etcdserverpb.KV/Scan"), None);
    }

    #[test]
    fn a_message_becomes_a_call_of_its_method() {
        for method in Method::ALL {
            let call = Call::decode(*method, Bytes::new()).expect("an empty message decodes as any type");
            assert!(call.is_none_or(|call| call.method() == *method));
        }
        let put = PutRequest {
            key: "a".into(),
            ..PutRequest::default()
        };
        let read = Call::decode(Method::Put, put.encode_to_vec().into());
        assert_eq!(read, Ok(Some(Call::Put(put))));
        assert!(Call::decode(Method::Put, Bytes::from_static(b"\xff")).is_err());
    }
}
