//! The two kinds of failure: [`Error`] is the answer to a client, [`Fault`] ends this member.
//!
//! They never convert into each other. An [`Error`] follows from replicated state and the request, so every member
//! would give the same; a [`Fault`] is about this machine's disk or memory, and is never replicated.

use std::fmt;

/// gRPC's status codes, with their numbers.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Code {
    /// The caller cancelled the call.
    Canceled = 1,
    /// An error that etcd maps to no other code.
    Unknown = 2,
    /// The request is wrong, whatever the state is.
    InvalidArgument = 3,
    /// The deadline passed first.
    DeadlineExceeded = 4,
    /// The named thing does not exist.
    NotFound = 5,
    /// The user lacks the permission.
    PermissionDenied = 7,
    /// A quota or a rate is used up.
    ResourceExhausted = 8,
    /// The request is wrong in the current state.
    FailedPrecondition = 9,
    /// A number is outside the valid range.
    OutOfRange = 11,
    /// The method is not implemented.
    Unimplemented = 12,
    /// The request may succeed later, or on another member.
    Unavailable = 14,
    /// Data are damaged.
    DataLoss = 15,
    /// The caller has not said who it is, or its token is not valid.
    Unauthenticated = 16,
}

impl Code {
    /// The code's number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// Writes [`Error`] from a table of code, variant and message.
macro_rules! errors {
    ($($code:ident { $($(#[$doc:meta])* $name:ident => $message:literal,)* })*) => {
        /// The answer to a client. Clients match on the text, so it is etcd's to the letter. Errors that etcd does not
        /// have say so.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Error {
            $($(
                #[doc = concat!("`", $message, "`")]
                $(#[$doc])*
                $name,
            )*)*
        }

        impl Error {
            /// Every error, in the order of the table.
            pub const ALL: &[Self] = &[$($(Self::$name,)*)*];

            /// The gRPC code of the answer.
            #[must_use]
            pub const fn code(self) -> Code {
                match self {
                    $($(Self::$name => Code::$code,)*)*
                }
            }

            /// The text of the answer.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self {
                    $($(Self::$name => $message,)*)*
                }
            }
        }
    };
}

errors! {
    Canceled {
        WatchCanceled => "etcdserver: watch canceled",
        RequestCanceled => "etcdserver: request canceled",
        ContextCanceled => "context canceled",
    }
    Unknown {
        ///
        /// Unknown, not `FailedPrecondition`: etcd maps it to the error type of its client, which carries no code.
        NotEnoughStartedMembers => "etcdserver: re-configuration failed due to not enough started members",
        ///
        /// Unknown, not `ResourceExhausted`: etcd maps it to the error type of its client, which carries no code.
        TooManyRequests => "etcdserver: too many requests",
        TimeoutLeaderTransfer => "etcdserver: request timed out, leader transfer took too long",
        ///
        /// From Go's bcrypt.
        PasswordTooLong => "bcrypt: password length exceeds 72 bytes",
        VerifyOnly => "auth: token signing attempted with verify-only key",
        NoPasswordUser => "auth: authentication failed, password was given for no password user",
        ElectionNoLeader => "election: no leader",
        ElectionNotLeader => "election: not leader",
        ElectionLeaderMissing => "\"leader\" field must be provided",
        LockSessionExpired => "mutex: session is expired",
        LostWatcher => "lost watcher waiting for delete",
        UnknownMethod => "etcdserver: unknown method",
    }
    InvalidArgument {
        EmptyKey => "etcdserver: key is not provided",
        KeyNotFound => "etcdserver: key not found",
        ValueProvided => "etcdserver: value is provided",
        LeaseProvided => "etcdserver: lease is provided",
        TooManyOps => "etcdserver: too many operations in txn request",
        DuplicateKey => "etcdserver: duplicate key given in txn request",
        InvalidClientApiVersion => "etcdserver: invalid client api version",
        InvalidSortOption => "etcdserver: invalid sort option",
        BadMemberUrls => "etcdserver: given member URLs are invalid",
        RequestTooLarge => "etcdserver: request is too large",
        UserEmpty => "etcdserver: user name is empty",
        RoleEmpty => "etcdserver: role name is empty",
        AuthFailed => "etcdserver: authentication failed, invalid user ID or password",
        PermissionNotGiven => "etcdserver: permission not given",
        InvalidAuthManagement => "etcdserver: invalid auth management",
        AuthOldRevision => "etcdserver: revision of auth store is old",
        WrongDowngradeVersionFormat => "etcdserver: wrong downgrade target version format",
        InvalidDowngradeTargetVersion => "etcdserver: invalid downgrade target version",
    }
    DeadlineExceeded {
        DeadlineExceeded => "etcdserver: context deadline exceeded",
        ContextDeadlineExceeded => "context deadline exceeded",
    }
    NotFound {
        LeaseNotFound => "etcdserver: requested lease not found",
        MemberNotFound => "etcdserver: member not found",
        ///
        /// From the standard health service.
        UnknownService => "unknown service",
    }
    PermissionDenied {
        PermissionDenied => "etcdserver: permission denied",
    }
    ResourceExhausted {
        NoSpace => "etcdserver: mvcc: database space exceeded",
        ///
        /// Quoin's own: etcd has no such bound.
        TooManyRows => "etcdserver: too many keys in the ranges and compares of a txn request that writes",
    }
    FailedPrecondition {
        LeaseExists => "etcdserver: lease already exists",
        MemberExists => "etcdserver: member ID already exist",
        PeerUrlExists => "etcdserver: Peer URLs already exists",
        MemberNotLearner => "etcdserver: can only promote a learner member",
        LearnerNotReady => "etcdserver: can only promote a learner member which is in sync with leader",
        TooManyLearners => "etcdserver: too many learner members in cluster",
        ClusterIdMismatch => "etcdserver: cluster ID mismatch",
        RootUserNotExist => "etcdserver: root user does not exist",
        RootRoleNotExist => "etcdserver: root user does not have root role",
        UserAlreadyExists => "etcdserver: user name already exists",
        UserNotFound => "etcdserver: user name not found",
        RoleAlreadyExists => "etcdserver: role name already exists",
        RoleNotFound => "etcdserver: role name not found",
        RoleNotGranted => "etcdserver: role is not granted to the user",
        PermissionNotGranted => "etcdserver: permission is not granted to the role",
        AuthNotEnabled => "etcdserver: authentication is not enabled",
        NotLeader => "etcdserver: not leader",
        NotCapable => "etcdserver: not capable",
        NotSupportedForLearner => "etcdserver: rpc not supported for learner",
        BadLeaderTransferee => "etcdserver: bad leader transferee",
        ClusterVersionUnavailable => "etcdserver: cluster version not found during downgrade",
        DowngradeInProcess => "etcdserver: cluster has a downgrade job in progress",
        NoInflightDowngrade => "etcdserver: no inflight downgrade job",
    }
    OutOfRange {
        Compacted => "etcdserver: mvcc: required revision has been compacted",
        FutureRevision => "etcdserver: mvcc: required revision is a future revision",
        LeaseTtlTooLarge => "etcdserver: too large lease TTL",
    }
    Unimplemented {
        RangeStreamCustomSort => "RangeStream does not support custom sort orders",
        RangeStreamRevisionFilter => "RangeStream does not support revision filters",
    }
    Unavailable {
        NoLeader => "etcdserver: no leader",
        LeaderChanged => "etcdserver: leader changed",
        Stopped => "etcdserver: server stopped",
        Timeout => "etcdserver: request timed out",
        TimeoutLeaderFail => "etcdserver: request timed out, possibly due to previous leader failure",
        TimeoutConnectionLost => "etcdserver: request timed out, possibly due to connection lost",
        TimeoutApplied => "etcdserver: request timed out, waiting for the applied index took too long",
        UnhealthyCluster => "etcdserver: unhealthy cluster",
    }
    DataLoss {
        CorruptCluster => "etcdserver: corrupt cluster",
    }
    Unauthenticated {
        InvalidAuthToken => "etcdserver: invalid auth token",
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Error {}

/// A failure after which this member cannot continue: its disk failed, or has bytes that no member wrote.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// A file operation failed. A failed sync is not repeated, because a later one that succeeds would not cover the
    /// lost writes.
    Disk {
        /// The operation, as a verb: "append", "sync".
        operation: &'static str,
        /// The file, below the data directory.
        file: String,
        /// The system's error.
        cause: String,
    },
    /// A file holds something that was never written to it.
    Corrupt {
        /// The file, below the data directory.
        file: String,
        /// The place, in bytes from the file's start.
        offset: u64,
        /// The damage.
        cause: String,
    },
    /// The files are sound, but contradict each other or this member's configuration.
    Inconsistent {
        /// The contradiction.
        cause: String,
    },
    /// A thread that the member needs has ended without an error.
    ThreadLost {
        /// Its name.
        name: &'static str,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk { operation, file, cause } => write!(f, "cannot {operation} {file}: {cause}"),
            Self::Corrupt { file, offset, cause } => write!(f, "{file} is corrupt at offset {offset}: {cause}"),
            Self::Inconsistent { cause } => f.write_str(cause),
            Self::ThreadLost { name } => write!(f, "thread {name} is gone"),
        }
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_texts_are_those_of_etcd() {
        let table: String = Error::ALL
            .iter()
            .map(|e| format!("{:2} {}\n", e.code().number(), e.message()))
            .collect();
        assert_eq!(table, include_str!("error_table.txt"));
    }

    #[test]
    fn no_two_errors_share_a_text() {
        let texts: std::collections::BTreeSet<_> = Error::ALL.iter().map(|e| e.message()).collect();
        assert_eq!(texts.len(), Error::ALL.len());
    }

    #[test]
    fn a_fault_names_file_and_offset() {
        let fault = Fault::Corrupt {
            file: "wal/0.wal".into(),
            offset: 512,
            cause: "checksum mismatch".into(),
        };
        assert_eq!(
            fault.to_string(),
            "wal/0.wal is corrupt at offset 512: checksum mismatch"
        );
        let fault = Fault::Disk {
            operation: "sync",
            file: "wal/0.wal".into(),
            cause: "no space left".into(),
        };
        assert_eq!(fault.to_string(), "cannot sync wal/0.wal: no space left");
    }
}
