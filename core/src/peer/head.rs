//! Heads of requests and responses between members: the paths and headers of etcd's protocol, and their checks.

use std::collections::BTreeMap;

use crate::bug;
use crate::id::{ClusterId, MemberId};
use crate::version::{MIN_CLUSTER_VERSION, SERVER_VERSION, Version};

use super::line::StreamKind;
use super::transport::TransportConfig;

/// Where single messages are posted.
pub const PATH_PIPELINE: &str = "/raft";
/// Where a host answers probes of whether it can be reached.
pub const PATH_PROBING: &str = "/raft/probing";
/// Where snapshots are posted.
pub const PATH_SNAPSHOT: &str = "/raft/snapshot";
/// The beginning of the paths of streams.
pub const PATH_STREAM: &str = "/raft/stream";
/// Where a member reports the version that it runs.
pub(super) const PATH_VERSION: &str = "/version";

const CLUSTER: &str = "x-etcd-cluster-id";
const CONTENT_TYPE: &str = "content-type";
const FROM: &str = "x-server-from";
const MIN_CLUSTER: &str = "x-min-cluster-version";
const PEER_URLS: &str = "x-peerurls";
const TO: &str = "x-raft-to";
const VERSION: &str = "x-server-version";

/// The version that etcd assumes for a missing header. A server of this version is refused as too old.
const MISSING_VERSION: Version = Version {
    major: 2,
    minor: 0,
    patch: 0,
};

/// etcd's text for a version that is too old or too new.
pub(super) const INCOMPATIBLE: &str = "incompatible version";
/// etcd's text for a member of another cluster.
pub(super) const OTHER_CLUSTER: &str = "cluster ID mismatch";
/// etcd's text for a message or request that is for another member.
pub(super) const OTHER_TARGET: &str = "to field mismatch";
/// etcd's text to a removed member, in a body of JSON.
pub(super) const REMOVED: &str = "cannot process message from removed member";

/// The head of a request or response, as far as the protocol uses it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PeerHead {
    /// The method of a request, such as `GET`; empty for a response.
    pub method: String,
    /// The path of a request, without a query.
    pub path: String,
    /// The headers, with names in lower case.
    pub fields: BTreeMap<String, String>,
}

impl PeerHead {
    /// A request of this member to a peer.
    pub(super) fn request(config: &TransportConfig, to: MemberId, kind: RequestKind) -> Self {
        let (method, path) = match kind {
            RequestKind::Stream(kind) => ("GET", format!("{PATH_STREAM}/{}/{}", kind.name(), config.member)),
            RequestKind::Pipeline => ("POST", PATH_PIPELINE.to_owned()),
            RequestKind::Snapshot => ("POST", PATH_SNAPSHOT.to_owned()),
            RequestKind::Version => ("GET", PATH_VERSION.to_owned()),
        };
        let mut head = Self {
            method: method.to_owned(),
            path,
            fields: BTreeMap::new(),
        };
        head.set(FROM, config.member.to_string());
        head.set(VERSION, SERVER_VERSION.to_owned());
        head.set(MIN_CLUSTER, MIN_CLUSTER_VERSION.to_owned());
        head.set(CLUSTER, config.cluster.to_string());
        head.set(PEER_URLS, config.peer_urls.join(","));
        match kind {
            RequestKind::Stream(_) => head.set(TO, to.to_string()),
            RequestKind::Pipeline => head.set(CONTENT_TYPE, "application/protobuf".to_owned()),
            RequestKind::Snapshot => head.set(CONTENT_TYPE, "application/octet-stream".to_owned()),
            RequestKind::Version => {}
        }
        head
    }

    /// The head of every response. Without the version, a peer would take the sender of a stream for version 2.0.0.
    pub(super) fn response(config: &TransportConfig) -> Self {
        let mut head = Self::default();
        head.set(VERSION, SERVER_VERSION.to_owned());
        head.set(CLUSTER, config.cluster.to_string());
        head
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.set(name, value.to_owned());
        self
    }

    fn set(&mut self, name: &str, value: String) {
        self.fields.insert(name.to_owned(), value);
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.fields
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The member that sends the request, if it says so.
    pub(super) fn sender(&self) -> Option<MemberId> {
        self.get(FROM)
            .and_then(MemberId::parse)
            .filter(|id| *id != MemberId::NONE)
    }

    /// Whether the request names this member as its target. A request without a target does not.
    pub(super) fn is_for(&self, member: MemberId) -> bool {
        self.get(TO) == Some(member.to_string().as_str())
    }

    /// Whether the head is that of a member of this cluster.
    pub(super) fn is_of(&self, cluster: ClusterId) -> bool {
        self.get(CLUSTER) == Some(cluster.to_string().as_str())
    }

    /// The URLs at which the sender is reached.
    pub(super) fn peer_urls(&self) -> Vec<String> {
        let urls = self.get(PEER_URLS).unwrap_or_default().split(',');
        urls.filter(|url| !url.is_empty()).map(str::to_owned).collect()
    }

    /// Whether a peer with this head may talk with this member.
    ///
    /// # Errors
    /// etcd's text for the answer. The answer's status is 412.
    pub(super) fn check(&self, cluster: ClusterId) -> Result<(), &'static str> {
        let minor = |version: Version| (version.major, version.minor);
        let stated = |name| self.get(name).map_or(Some(MISSING_VERSION), Version::parse);
        let (Some(server), Some(least)) = (stated(VERSION), stated(MIN_CLUSTER)) else {
            return Err(INCOMPATIBLE);
        };
        let oldest = Version::parse(MIN_CLUSTER_VERSION).unwrap_or_default();
        if minor(server) < minor(oldest) || minor(least) > minor(Version::own_minor()) {
            return Err(INCOMPATIBLE);
        }
        if !self.is_of(cluster) && !bug!(BelievesOtherCluster) {
            return Err(OTHER_CLUSTER);
        }
        Ok(())
    }
}

/// The requests that members send each other.
#[derive(Clone, Copy, Debug)]
pub(super) enum RequestKind {
    Pipeline,
    Snapshot,
    Stream(StreamKind),
    Version,
}
