//! Why a member cannot start, with etcd's words and exit codes if etcd has some.

use std::fmt;

use crate::config::Notice;
use crate::id::MemberId;
use crate::version::{MIN_PEER_VERSION, Version};

/// Why the member cannot start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// Other members report that this one has already been running.
    AlreadyBootstrapped(MemberId),
    /// The advertised peer URLs are not those of the initial cluster; the text says which.
    Advertise(String),
    /// No other member answered with the cluster's members.
    CannotFetchCluster(&'static str),
    /// The data directory cannot be used.
    DataDir(String),
    /// The cluster version in the store is higher than this program supports.
    Downgrade(Version),
    /// Two members of the initial cluster have the same URL.
    DuplicateUrl(String),
    /// The directory belongs to an etcd; the text names a file that shows it.
    EtcdDirectory(String),
    /// The cluster runs a version this program cannot join.
    Incompatible,
    /// The initial cluster cannot be read.
    InitialCluster(String),
    /// The log and the store contradict each other; the text says how.
    Inconsistent(String),
    /// There is applied state, but not the log that it came from.
    LogMissing {
        /// What was found.
        what: &'static str,
        /// Where the log should be.
        path: String,
    },
    /// The name of this member is not in the initial cluster.
    LocalNameMissing(String),
    /// Two founders would have the same id.
    MemberIdTwice(MemberId),
    /// The data directory holds both a member and a proxy.
    MemberAndProxy,
    /// The directory `member` cannot be used.
    MemberDir(String),
    /// A member's id would be 0.
    NoMemberId,
    /// A member that answered runs an etcd that is too old for the entries of this version.
    OldPeer(Version),
    /// The members of the cluster are not those of the initial cluster.
    PeerUrls {
        /// The cluster, as etcd prints it.
        cluster: String,
        /// The difference.
        why: String,
    },
    /// The data directory is a v2 proxy's.
    Proxy,
    /// This member was removed from its cluster.
    Removed(MemberId),
    /// The applied state is missing and the log does not go back to the beginning.
    StoreMissing(String),
    /// The applied state is damaged and cannot be rebuilt from the log.
    TableDamaged {
        /// Where it is.
        path: String,
        /// The damage.
        cause: String,
        /// Why it cannot be rebuilt.
        obstacle: String,
    },
    /// The cluster has more learners than it may.
    TooManyLearners,
    /// The write-ahead log cannot be written to.
    WalDir(String),
    /// The member was started before and lost its data.
    Wiped(MemberId),
}

impl Refusal {
    /// The exit code: 2 where etcd panics, 0 for a member that was removed, otherwise 1.
    #[must_use]
    pub fn exit(&self) -> u8 {
        match self {
            Self::Proxy | Self::Downgrade(_) => 2,
            Self::Removed(_) => 0,
            Self::AlreadyBootstrapped(_)
            | Self::Advertise(_)
            | Self::CannotFetchCluster(_)
            | Self::DataDir(_)
            | Self::DuplicateUrl(_)
            | Self::EtcdDirectory(_)
            | Self::Incompatible
            | Self::InitialCluster(_)
            | Self::Inconsistent(_)
            | Self::LogMissing { .. }
            | Self::LocalNameMissing(_)
            | Self::MemberIdTwice(_)
            | Self::MemberAndProxy
            | Self::MemberDir(_)
            | Self::NoMemberId
            | Self::OldPeer(_)
            | Self::PeerUrls { .. }
            | Self::StoreMissing(_)
            | Self::TableDamaged { .. }
            | Self::TooManyLearners
            | Self::WalDir(_)
            | Self::Wiped(_) => 1,
        }
    }

    /// The last log line of the process. etcd writes "discovery failed" for every failure during bootstrap, even if
    /// discovery is not used.
    #[must_use]
    pub fn notice(&self) -> Notice {
        match self {
            Self::MemberAndProxy | Self::Proxy | Self::Downgrade(_) => Notice::fatal(self.to_string()),
            Self::Removed(_) => Notice::warn(self.to_string()),
            Self::EtcdDirectory(_) => Notice::fatal("failed to start etcd").with("error", self.to_string()),
            _ => Notice::fatal("discovery failed").with("error", self.to_string()),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyBootstrapped(member) => write!(f, "member {member} has already been bootstrapped"),
            Self::Advertise(why) | Self::Inconsistent(why) => f.write_str(why),
            Self::CannotFetchCluster(why) => write!(f, "cannot fetch cluster info from peer urls: {why}"),
            Self::DataDir(why) => write!(f, "cannot access data directory: {why}"),
            Self::Downgrade(cluster) => write!(
                f,
                "invalid downgrade; server version is lower than determined cluster version (server {}, cluster {cluster})",
                Version::own_minor()
            ),
            Self::DuplicateUrl(cluster) => write!(f, "initial cluster {cluster} has duplicate url"),
            Self::EtcdDirectory(file) => write!(
                f,
                "{file} was written by etcd, whose data this version cannot take over; nothing was changed. Start etcd \
                 on it again, or start this server with another --data-dir (and --wal-dir) and copy the keys from the \
                 running etcd, for instance with `etcdctl make-mirror`"
            ),
            Self::Incompatible => f.write_str("incompatible with current running cluster"),
            Self::InitialCluster(why) => write!(f, "error setting up initial cluster: {why}"),
            Self::LogMissing { what, path } => write!(
                f,
                "found {what} but no write-ahead log in {path}; starting without it would lose acknowledged entries and votes"
            ),
            Self::LocalNameMissing(name) => {
                let name = crate::config::gotext::quote(name);
                write!(
                    f,
                    "couldn't find local name {name} in the initial cluster configuration"
                )
            }
            Self::MemberIdTwice(member) => write!(f, "member exists with identical ID {member}"),
            Self::MemberAndProxy => f.write_str("invalid datadir; both member and proxy directories exist"),
            Self::MemberDir(why) => write!(f, "cannot access member directory: {why}"),
            Self::NoMemberId => f.write_str("cannot use 0 as member id"),
            Self::OldPeer(version) => write!(
                f,
                "incompatible with current running cluster: a member runs version {version}, which panics on entries of \
                 this version; upgrade every member to {MIN_PEER_VERSION} or later first"
            ),
            Self::PeerUrls { cluster, why } => write!(f, "error validating peerURLs {cluster}: {why}"),
            Self::Proxy => f.write_str("v2 http proxy has already been deprecated in 3.6"),
            Self::Removed(_) => f.write_str("the member has been permanently removed from the cluster"),
            Self::StoreMissing(path) => write!(f, "database file ({path}) of the backend is missing"),
            Self::TableDamaged { path, cause, obstacle } => write!(
                f,
                "the table in {path} is damaged: {cause}. It cannot be rebuilt from the write-ahead log: {obstacle}. \
                 Restore the data directory from a backup, or, in a cluster of several, remove this member and add it again"
            ),
            Self::TooManyLearners => f.write_str("membership: too many learner members in cluster"),
            Self::WalDir(why) => write!(f, "cannot write to WAL directory: {why}"),
            Self::Wiped(member) => write!(
                f,
                "member {member} has run before and its data is gone, with the votes and entries that it \
                 acknowledged: remove it from the cluster and add it again"
            ),
        }
    }
}

impl std::error::Error for Refusal {}
