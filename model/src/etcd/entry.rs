//! The request in an entry of the log.

use prost::Message as _;
use quoin_core::proto::etcdserverpb::{
    InternalAuthenticateRequest, InternalRaftRequest, LeaseCheckpoint, Member, Request, RequestHeader,
};
use quoin_core::proto::membershippb::ClusterMemberAttrSetRequest;
use quoin_core::proto::raftpb::{ConfChange, ConfChangeType, Entry, EntryType};

use super::cluster::Change;
use super::json::Json;
use crate::call::{AuthCall, Call};

/// The request of an entry.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Asked {
    /// A user gets a token.
    Authenticate(InternalAuthenticateRequest),
    /// A call of a client.
    Call(Box<Call>),
    /// A checkpoint of remaining times of leases.
    Checkpoint(Vec<LeaseCheckpoint>),
    /// The downgrade to this version begins, or ends.
    Downgrade(Option<String>),
    /// A change of the member table.
    Member(Change),
    /// Nothing: the first entry of a term, or one without effect.
    Nothing,
    /// A member publishes its name and client URLs.
    Publish {
        id: u64,
        name: String,
        client_urls: Vec<String>,
    },
    /// A request that no member may propose.
    Unknown,
    /// The cluster version is set.
    Version(String),
}

/// Reads an entry: returns the header of its request, whose id is 0 if it has none, and the request.
pub(super) fn read(entry: &Entry) -> (RequestHeader, Asked) {
    let of_id = |(id, asked)| {
        let header = RequestHeader {
            id,
            ..RequestHeader::default()
        };
        (header, asked)
    };
    match EntryType::try_from(entry.entry_type) {
        Ok(EntryType::EntryConfChange) => of_id(conf_change(entry)),
        Ok(EntryType::EntryNormal) if entry.data.is_empty() => of_id((0, Asked::Nothing)),
        Ok(EntryType::EntryNormal) => match InternalRaftRequest::decode(entry.data.clone()) {
            Ok(request) => {
                let bare = RequestHeader {
                    id: request.id,
                    ..RequestHeader::default()
                };
                (request.header.clone().unwrap_or(bare), normal(request))
            }
            // Only requests of old members fail to decode as an `InternalRaftRequest`.
            Err(_) => match Request::decode(entry.data.clone()) {
                Ok(request) => of_id((request.id, legacy(&request))),
                Err(_) => of_id((0, Asked::Unknown)),
            },
        },
        Ok(EntryType::EntryConfChangeV2) | Err(_) => of_id((0, Asked::Unknown)),
    }
}

/// The request in a message; [`Asked::Unknown`] for a kind that the model lacks.
fn normal(request: InternalRaftRequest) -> Asked {
    let call = |call: Call| Asked::Call(Box::new(call));
    if let Some(change) = AuthCall::of(&request) {
        return call(Call::Auth(change));
    }
    None.or(request.put.map(|put| call(Call::Put(put))))
        .or_else(|| request.txn.map(|txn| call(Call::Txn(txn))))
        .or_else(|| request.range.map(|range| call(Call::Range(range))))
        .or_else(|| request.delete_range.map(|delete| call(Call::DeleteRange(delete))))
        .or_else(|| request.compaction.map(|compaction| call(Call::Compact(compaction))))
        .or_else(|| request.lease_grant.map(|grant| call(Call::LeaseGrant(grant))))
        .or_else(|| request.lease_revoke.map(|revoke| call(Call::LeaseRevoke(revoke))))
        .or_else(|| request.alarm.map(|alarm| call(Call::Alarm(alarm))))
        .or_else(|| {
            request
                .lease_checkpoint
                .map(|leases| Asked::Checkpoint(leases.checkpoints))
        })
        .or_else(|| request.cluster_version_set.map(|set| Asked::Version(set.ver)))
        .or_else(|| request.cluster_member_attr_set.map(publish))
        .or_else(|| {
            request
                .downgrade_info_set
                .map(|set| Asked::Downgrade(set.enabled.then_some(set.ver)))
        })
        .or_else(|| request.downgrade_version_test.map(|_| Asked::Nothing))
        .or_else(|| request.authenticate.map(Asked::Authenticate))
        .unwrap_or(Asked::Unknown)
}

impl AuthCall {
    /// The change in a message, if it has one.
    #[must_use]
    pub fn of(request: &InternalRaftRequest) -> Option<Self> {
        None.or(request.auth_disable.map(|_| Self::Disable))
            .or_else(|| request.auth_enable.map(|_| Self::Enable))
            .or_else(|| request.auth_role_add.clone().map(Self::RoleAdd))
            .or_else(|| request.auth_role_delete.clone().map(Self::RoleDelete))
            .or_else(|| {
                request
                    .auth_role_grant_permission
                    .clone()
                    .map(Self::RoleGrantPermission)
            })
            .or_else(|| {
                request
                    .auth_role_revoke_permission
                    .clone()
                    .map(Self::RoleRevokePermission)
            })
            .or_else(|| request.auth_user_add.clone().map(Self::UserAdd))
            .or_else(|| request.auth_user_change_password.clone().map(Self::UserChangePassword))
            .or_else(|| request.auth_user_delete.clone().map(Self::UserDelete))
            .or_else(|| request.auth_user_grant_role.clone().map(Self::UserGrantRole))
            .or_else(|| request.auth_user_revoke_role.clone().map(Self::UserRevokeRole))
    }
}

fn publish(set: ClusterMemberAttrSetRequest) -> Asked {
    let attributes = set.member_attributes.unwrap_or_default();
    Asked::Publish {
        id: set.member_id,
        name: attributes.name,
        client_urls: attributes.client_urls,
    }
}

/// A request of members up to 3.5, which publish the version and their attributes as keys of etcd's v2 store.
fn legacy(request: &Request) -> Asked {
    if request.method != "PUT" {
        return Asked::Nothing;
    }
    if request.path == "/0/version" {
        return Asked::Version(request.val.clone());
    }
    let id = request.path.strip_prefix("/0/members/");
    let id = id.and_then(|rest| rest.strip_suffix("/attributes"));
    let id = id.and_then(|hex| u64::from_str_radix(hex, 16).ok());
    let (Some(id), Some(attributes)) = (id, Json::parse(request.val.as_bytes())) else {
        return Asked::Nothing;
    };
    Asked::Publish {
        id,
        name: attributes.text("name"),
        client_urls: attributes.texts("clientURLs"),
    }
}

fn conf_change(entry: &Entry) -> (u64, Asked) {
    let Ok(change) = ConfChange::decode(entry.data.clone()) else {
        return (0, Asked::Unknown);
    };
    const ADD: i32 = ConfChangeType::AddNode as i32;
    const ADD_LEARNER: i32 = ConfChangeType::AddLearnerNode as i32;
    const REMOVE: i32 = ConfChangeType::RemoveNode as i32;
    let context = Json::parse(&change.context);
    let asked = match (change.change_type, context) {
        (REMOVE, _) => Asked::Member(Change::Remove(change.node_id)),
        (ADD | ADD_LEARNER, Some(context)) if context.flag("isPromote") => {
            Asked::Member(Change::Promote(change.node_id))
        }
        (ADD | ADD_LEARNER, Some(context)) => Asked::Member(Change::Add(member(&context))),
        (ConfChange::UPDATE_NODE, Some(context)) => Asked::Member(Change::Update {
            id: change.node_id,
            peer_urls: context.texts("peerURLs"),
        }),
        (_, _) => Asked::Unknown,
    };
    (change.id, asked)
}

fn member(json: &Json) -> Member {
    Member {
        id: json.number("id"),
        name: json.text("name"),
        peer_urls: json.texts("peerURLs"),
        client_urls: json.texts("clientURLs"),
        is_learner: json.flag("isLearner"),
    }
}
