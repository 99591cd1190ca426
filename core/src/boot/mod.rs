//! Bootstrap: decides how a member starts.
//!
//! The host gathers facts ([`Found`]), the core decides ([`decide`]), and `tests/table.txt` lists the outcome of every
//! case. Some facts take time: the address of a name, or the answer of another member. A plan requests them only if the
//! decision depends on them; the host adds them to the facts and calls [`decide`] again.
//!
//! If there is a write-ahead log, the host reads it from the marker that the plan names, and [`restart`] or
//! [`force_new_cluster`] returns what raft starts with.

mod address;
mod found;
mod fresh;
mod plan;
mod questions;
mod refusal;
mod restart;
#[cfg(test)]
mod tests;

pub use found::{Access, Damage, DataDir, Found, MarkerId, RemoteAnswer, StoreFound, WalFound};
pub use fresh::founding;
pub use plan::{Plan, StoreSource, Why};
pub use questions::Question;
pub use refusal::Refusal;
pub use restart::{ReadLog, StartLog, force_new_cluster, restart};

use crate::config::{ClusterState, Config, Notice};

/// Decides how the member starts, or which facts are missing.
///
/// # Errors
/// Why the member cannot start, in etcd's words if etcd has some.
pub fn decide(found: &Found, config: &Config) -> Result<Plan, Refusal> {
    match found.data_dir {
        DataDir::Both => return Err(Refusal::MemberAndProxy),
        DataDir::Proxy => return Err(Refusal::Proxy),
        DataDir::Empty | DataDir::Member => {}
    }
    if let Some(file) = &found.etcd_file
        && found.restored.is_none()
    {
        return Err(Refusal::EtcdDirectory(file.clone()));
    }
    found.access.data_dir.clone().map_err(Refusal::DataDir)?;
    found.access.member_dir.clone().map_err(Refusal::MemberDir)?;
    match (&found.wal, config.initial_cluster_state) {
        (Some(wal), _) => restart::decide(found, wal, config),
        (None, ClusterState::New) => fresh::found_cluster(found, config),
        (None, ClusterState::Existing) => fresh::join_cluster(found, config),
    }
}

/// Log lines about the facts, independent of the decision.
#[must_use]
pub fn remarks(found: &Found, config: &Config) -> Vec<Notice> {
    let mut notices = Vec::new();
    for name in &found.unknown_files {
        let notice = Notice::warn("found invalid file under data directory").with("filename", name);
        notices.push(notice.with("data-dir", &config.data_dir));
    }
    let kind = match found.data_dir {
        DataDir::Empty => "empty",
        DataDir::Member => "member",
        DataDir::Proxy | DataDir::Both => "proxy",
    };
    let initialized = match found.data_dir {
        DataDir::Empty => "Initialize and start etcd server",
        DataDir::Member | DataDir::Proxy | DataDir::Both => "server has already been initialized",
    };
    notices.push(
        Notice::info(initialized)
            .with("data-dir", &config.data_dir)
            .with("dir-type", kind),
    );
    if config.force_new_cluster && found.wal.is_none() {
        notices.push(Notice::warn(
            "--force-new-cluster has no effect: there is no write-ahead log to start from",
        ));
    }
    notices
}
