//! The facts that the decision is based on. The host gathers them.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Url;
use crate::id::{ClusterId, MemberId};
use crate::membership::Member;
use crate::version::Version;

/// What the host found on disk, and the answers of other members so far.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// The kind of data directory.
    pub data_dir: DataDir,
    /// The name of a file that etcd wrote, if nothing shows that one of our members has used the directory too.
    pub etcd_file: Option<String>,
    /// The index of the state in etcd's database, if the directory is one that `etcdutl snapshot restore` made
    /// ([`WalFound::restored_at`]). Such a directory is taken over.
    pub restored: Option<u64>,
    /// Names in the data directory that no member uses.
    pub unknown_files: Vec<String>,
    /// Whether the directories can be used.
    pub access: Access,
    /// The write-ahead log, if there is one.
    pub wal: Option<WalFound>,
    /// The files of markers that could be read.
    pub marker_files: BTreeSet<MarkerId>,
    /// The applied state, if it was ever created. If it is damaged, only the snapshots received to replace it are
    /// listed.
    pub store: Option<StoreFound>,
    /// The damage, if the applied state is not exactly as some batch left it.
    pub damage: Option<Damage>,
    /// For each URL that a plan asked for: `host:port` with the name resolved, or why resolving failed.
    pub addresses: BTreeMap<Url, Result<String, String>>,
    /// The answers of other members that a plan asked for, by peer URL.
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

/// Whether the directories can be used. An error has the system's text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Access {
    /// The data directory can be made and written to.
    pub data_dir: Result<(), String>,
    /// The directory `member` can be made and written to.
    pub member_dir: Result<(), String>,
    /// The write-ahead log's directory can be written to; checked only if there is a log.
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

/// The place of a marker in the log. Markers order by index.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct MarkerId {
    /// The index of the last entry that the marker covers.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
}

/// What a first pass over the write-ahead log found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct WalFound {
    /// The member that wrote it.
    pub member: MemberId,
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// The index before the oldest file's first entry: 0 if no file was removed.
    pub starts_after: u64,
    /// The index of the last entry, or of the newest marker if no entry follows it.
    pub last_index: u64,
    /// The newest commit index in the log.
    pub commit: u64,
    /// The markers up to the commit index; the beginning of the log counts as one.
    pub markers: BTreeSet<MarkerId>,
    /// Whether there is an entry other than a change of members.
    pub has_requests: bool,
}

impl WalFound {
    /// The index of the state that belongs to the log, if `etcdutl snapshot restore` made the log: it has the entries
    /// that add the members, and a marker at the last entry. No member has run with it yet, so all other state is in
    /// etcd's database.
    #[must_use]
    pub fn restored_at(&self) -> Option<u64> {
        let ends_with_marker = self
            .markers
            .last()
            .is_some_and(|marker| marker.index == self.last_index);
        let is_whole = self.starts_after == 0 && self.commit == self.last_index;
        let is_restored = is_whole && ends_with_marker && !self.has_requests && self.last_index > 0;
        is_restored.then_some(self.last_index)
    }
}

/// An applied state that is not exactly as some batch left it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Damage {
    /// The damage.
    pub cause: String,
    /// The consistent index that the state has; 0 if it cannot be read.
    pub index: u64,
}

/// What the applied state contains about the member.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StoreFound {
    /// The index of the last applied entry; 0 if none.
    pub consistent_index: u64,
    /// The cluster version, once decided.
    pub cluster_version: Option<Version>,
    /// The members.
    pub members: Vec<Member>,
    /// Members that were removed for good.
    pub removed: BTreeSet<MemberId>,
    /// Indexes of complete snapshots that a leader sent and that are not in the table yet.
    pub received: BTreeSet<u64>,
}

/// The answers of one peer URL. For a peer that could not be reached all are `None`.
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
