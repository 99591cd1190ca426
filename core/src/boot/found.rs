//! The facts a decision is made from. The host gathers them; nothing here does.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Url;
use crate::id::{ClusterId, MemberId};
use crate::membership::Member;
use crate::version::Version;

/// What the host found on disk, and what it was told by others so far.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// What kind of data directory it is.
    pub data_dir: DataDir,
    /// A file of etcd's, where nothing shows that a member of ours was there, too.
    pub etcd_file: Option<String>,
    /// Names in the data directory that mean nothing.
    pub unknown_files: Vec<String>,
    /// May the directories be used?
    pub access: Access,
    /// The write-ahead log, if there is one.
    pub wal: Option<WalFound>,
    /// The files of markers that could be read.
    pub marker_files: BTreeSet<MarkerId>,
    /// The applied state, if it was ever created. Of one that is damaged there is only what was received to replace it.
    pub store: Option<StoreFound>,
    /// What is wrong with the applied state, where it is not as any batch left it.
    pub damage: Option<Damage>,
    /// `host:port` of URLs with the name resolved, or why it could not be; a plan asks for them.
    pub addresses: BTreeMap<Url, Result<String, String>>,
    /// What other members answered, by peer URL; a plan asks for them.
    pub answers: BTreeMap<String, RemoteAnswer>,
}

/// The kinds of data directory, by the directories in it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DataDir {
    /// It holds both a member and a proxy.
    Both,
    /// It does not exist, or holds neither.
    #[default]
    Empty,
    /// It holds a member.
    Member,
    /// It holds a v2 proxy.
    Proxy,
}

/// May the directories be used? The text is the system's reason why not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Access {
    /// The data directory can be made and written to.
    pub data_dir: Result<(), String>,
    /// The directory `member` can be made and written to.
    pub member_dir: Result<(), String>,
    /// The write-ahead log's directory can be written to; asked only where there is a log.
    pub wal_dir: Result<(), String>,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            data_dir: Ok(()),
            member_dir: Ok(()),
            wal_dir: Ok(()),
        }
    }
}

/// The place of a marker in the log; the later one is the greater one.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct MarkerId {
    /// The last entry covered.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// What a first look through the write-ahead log tells.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct WalFound {
    /// The member that writes it.
    pub member: MemberId,
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// The index before the oldest file's first entry: 0 where nothing was thrown away.
    pub starts_after: u64,
    /// The last entry, or the newest marker where no entry follows it.
    pub last_index: u64,
    /// The last commit index written.
    pub commit: u64,
    /// Its markers up to the commit index; the beginning of the log counts as one.
    pub markers: BTreeSet<MarkerId>,
}

/// An applied state that is not as any batch left it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Damage {
    /// What is wrong.
    pub cause: String,
    /// The last entry it speaks of, as far as that can be read; 0 otherwise.
    pub index: u64,
}

/// What the applied state says about itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StoreFound {
    /// The last entry it holds the effects of; 0 when none.
    pub consistent_index: u64,
    /// The cluster version, once decided.
    pub cluster_version: Option<Version>,
    /// The members it knows.
    pub members: Vec<Member>,
    /// Members that were removed, for good.
    pub removed: BTreeSet<MemberId>,
    /// Indexes of complete stores that were received from a leader and not yet put in place.
    pub received: BTreeSet<u64>,
}

/// What one peer URL answered. A peer that could not be reached answered nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RemoteAnswer {
    /// `GET /members`: the cluster's id and its members.
    pub cluster: Option<(ClusterId, Vec<Member>)>,
    /// `GET /version`: the version that the member runs, as text.
    pub server_version: Option<String>,
    /// `GET /version`: the cluster version as text.
    pub cluster_version: Option<String>,
    /// `GET /downgrade/enabled`.
    pub downgrade_enabled: Option<bool>,
}
