//! Every method of etcd's API: its path, its kind, and whether grpc-go would know it.

/// How many messages flow in which direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// One request, one response.
    Unary,
    /// One request, many responses.
    ServerStream,
    /// Many of both.
    BidiStream,
}

impl Kind {
    /// The kind as metrics label it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }
}

/// Writes the table of methods: the enum, the list, and the look-up by path.
macro_rules! methods {
    ($($service:literal { $($name:ident = $method:literal $kind:ident,)* })*) => {
        /// A method of the API.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub(crate) enum Method {
            $($(
                #[doc = concat!("`", $service, "/", $method, "`")]
                $name,
            )*)*
        }

        impl Method {
            /// All methods, each at the index that is its discriminant.
            pub(crate) const ALL: &[Self] = &[$($(Self::$name,)*)*];

            /// Its service, its name there, and its kind.
            pub(crate) fn parts(self) -> (&'static str, &'static str, Kind) {
                match self {
                    $($(Self::$name => ($service, $method, Kind::$kind),)*)*
                }
            }

            /// The method of a request's path.
            pub(crate) fn find(path: &str) -> Option<Self> {
                match path {
                    $($(concat!("/", $service, "/", $method) => Some(Self::$name),)*)*
                    _ => None,
                }
            }
        }

        /// The services there are.
        const SERVICES: &[&str] = &[$($service,)*];
    };
}

methods! {
    "etcdserverpb.KV" {
        Range = "Range" Unary,
        RangeStream = "RangeStream" ServerStream,
        Put = "Put" Unary,
        DeleteRange = "DeleteRange" Unary,
        Txn = "Txn" Unary,
        Compact = "Compact" Unary,
    }
    "etcdserverpb.Watch" {
        Watch = "Watch" BidiStream,
    }
    "etcdserverpb.Lease" {
        LeaseGrant = "LeaseGrant" Unary,
        LeaseRevoke = "LeaseRevoke" Unary,
        LeaseKeepAlive = "LeaseKeepAlive" BidiStream,
        LeaseTimeToLive = "LeaseTimeToLive" Unary,
        LeaseLeases = "LeaseLeases" Unary,
    }
    "etcdserverpb.Cluster" {
        MemberAdd = "MemberAdd" Unary,
        MemberRemove = "MemberRemove" Unary,
        MemberUpdate = "MemberUpdate" Unary,
        MemberList = "MemberList" Unary,
        MemberPromote = "MemberPromote" Unary,
    }
    "etcdserverpb.Maintenance" {
        Alarm = "Alarm" Unary,
        Status = "Status" Unary,
        Defragment = "Defragment" Unary,
        Hash = "Hash" Unary,
        HashKv = "HashKV" Unary,
        Snapshot = "Snapshot" ServerStream,
        MoveLeader = "MoveLeader" Unary,
        Downgrade = "Downgrade" Unary,
    }
    "etcdserverpb.Auth" {
        AuthEnable = "AuthEnable" Unary,
        AuthDisable = "AuthDisable" Unary,
        AuthStatus = "AuthStatus" Unary,
        Authenticate = "Authenticate" Unary,
        UserAdd = "UserAdd" Unary,
        UserGet = "UserGet" Unary,
        UserList = "UserList" Unary,
        UserDelete = "UserDelete" Unary,
        UserChangePassword = "UserChangePassword" Unary,
        UserGrantRole = "UserGrantRole" Unary,
        UserRevokeRole = "UserRevokeRole" Unary,
        RoleAdd = "RoleAdd" Unary,
        RoleGet = "RoleGet" Unary,
        RoleList = "RoleList" Unary,
        RoleDelete = "RoleDelete" Unary,
        RoleGrantPermission = "RoleGrantPermission" Unary,
        RoleRevokePermission = "RoleRevokePermission" Unary,
    }
    "grpc.health.v1.Health" {
        HealthCheck = "Check" Unary,
        HealthWatch = "Watch" ServerStream,
    }
    "v3electionpb.Election" {
        Campaign = "Campaign" Unary,
        Proclaim = "Proclaim" Unary,
        Leader = "Leader" Unary,
        Observe = "Observe" ServerStream,
        Resign = "Resign" Unary,
    }
    "v3lockpb.Lock" {
        Lock = "Lock" Unary,
        Unlock = "Unlock" Unary,
    }
}

/// What grpc-go says of a path that names no method.
pub(crate) fn unknown(path: &str) -> String {
    match path.strip_prefix('/').and_then(|rest| rest.rsplit_once('/')) {
        Some((service, method)) if SERVICES.contains(&service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
        None => format!("malformed method name: {path:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_found_by_its_path_and_indexed_by_itself() {
        for (index, method) in Method::ALL.iter().enumerate() {
            let (service, name, _) = method.parts();
            assert_eq!(Method::find(&format!("/{service}/{name}")), Some(*method));
            assert_eq!(*method as usize, index);
        }
    }

    #[test]
    fn unknown_paths_are_refused_in_the_words_of_grpc_go() {
        let table = [
            (
                "/etcdserverpb.KV/Scan",
                "unknown method Scan for service etcdserverpb.KV",
            ),
            ("/etcdserverpb.Kv/Range", "unknown service etcdserverpb.Kv"),
            ("/Range", "malformed method name: \"/Range\""),
        ];
        for (path, message) in table {
            assert_eq!(Method::find(path), None);
            assert_eq!(unknown(path), message);
        }
    }
}
