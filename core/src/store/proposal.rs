//! Checks that a proposal can be applied, before it is in the log.
//!
//! Every member ends at a committed entry that it cannot apply, and ends again whenever a start replays that entry. A
//! member's own proposals can always be applied. A proposal that another member forwards may be of another version, or
//! damaged, so the leader decodes it completely, as applying it does.

use prost::Message as _;

use crate::error::Fault;
use crate::proto::membershippb::ClusterVersionSetRequest;
use crate::proto::raftpb::{ConfChange, Entry, EntryType};
use crate::version::Version;

use super::content::Content;
use super::{cluster, legacy};

/// Checks that every member can apply a proposal. It has no index yet.
///
/// # Errors
/// The [`Fault`] with which a member would end if it applied the proposal. An empty proposal is a fault, too: an empty
/// entry opens a term, and only a leader writes it.
pub(crate) fn check_proposal(entry: &Entry) -> Result<(), Fault> {
    match EntryType::try_from(entry.entry_type) {
        Ok(EntryType::EntryNormal) if entry.data.is_empty() => {
            Err(fault("a proposal that asks for nothing".to_owned()))
        }
        Ok(EntryType::EntryNormal) => match legacy::read(entry.data.clone())? {
            Some((_, _, content)) => check_content(&content),
            None => Ok(()),
        },
        Ok(EntryType::EntryConfChange) => {
            let change = ConfChange::decode(entry.data.clone()).map_err(|error| fault(error.to_string()))?;
            cluster::check_change(&change)
        }
        Ok(EntryType::EntryConfChangeV2) | Err(_) => Err(fault(format!(
            "a proposal of type {}, which etcd never writes",
            entry.entry_type
        ))),
    }
}

/// The cluster version that a request sets.
pub(super) fn version_of(request: &ClusterVersionSetRequest) -> Result<Version, Fault> {
    Version::parse(&request.ver).ok_or_else(|| fault(format!("cluster version {:?} is no version", request.ver)))
}

fn check_content(content: &Content) -> Result<(), Fault> {
    match content {
        Content::Version(request) => version_of(request).map(drop),
        _ => Ok(()),
    }
}

fn fault(cause: String) -> Fault {
    Fault::Inconsistent { cause }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::MemberId;
    use crate::membership::{ConfChangeContext, Member};
    use crate::proto::etcdserverpb::{InternalRaftRequest, PutRequest, Request, RequestHeader};
    use crate::proto::raftpb::ConfChangeType;

    fn said(kind: EntryType, data: Vec<u8>) -> String {
        let entry = Entry {
            entry_type: kind as i32,
            data: data.into(),
            ..Entry::default()
        };
        check_proposal(&entry).map_or_else(|fault| fault.to_string(), |()| "fits".to_owned())
    }

    fn content(content: Content) -> String {
        said(
            EntryType::EntryNormal,
            content.into_request(RequestHeader::default()).encode_to_vec(),
        )
    }

    fn version(text: &str) -> Content {
        Content::Version(ClusterVersionSetRequest { ver: text.to_owned() })
    }

    #[test]
    fn proposals_that_no_member_can_apply_are_refused() {
        assert_eq!(content(Content::Put(PutRequest::default())), "fits");
        assert_eq!(content(version("3.5.0")), "fits");
        assert_eq!(content(version("three")), "cluster version \"three\" is no version");
        let normal = |data: &[u8]| said(EntryType::EntryNormal, data.to_vec());
        assert_eq!(normal(b""), "a proposal that asks for nothing");
        assert!(
            normal(&[0xff; 4]).starts_with("failed to decode"),
            "{}",
            normal(&[0xff; 4])
        );
        assert_eq!(
            normal(&InternalRaftRequest::default().encode_to_vec()),
            "a proposal that asks for nothing"
        );
        let unknown = InternalRaftRequest {
            id: 1,
            ..InternalRaftRequest::default()
        };
        assert_eq!(
            normal(&unknown.encode_to_vec()),
            "a request this version does not know is in the log"
        );
        let legacy = |path: &str, val: &str| {
            let request = Request {
                method: "PUT".into(),
                path: path.into(),
                val: val.into(),
                ..Request::default()
            };
            normal(&request.encode_to_vec())
        };
        assert_eq!(legacy("/0/version", "3.5.0"), "fits");
        assert_eq!(legacy("/1/old", "x"), "fits");
        assert_eq!(legacy("/0/version", "x"), "cluster version \"x\" is no version");
        assert!(legacy("/0/members/a/attributes", "{").starts_with("/0/members/a/attributes: EOF"));
    }

    #[test]
    fn a_change_of_membership_must_describe_the_member_it_names_and_the_vote_it_gives() {
        let change = |change_type: i32, id: u64, context: Vec<u8>| {
            let change = ConfChange {
                change_type,
                node_id: id,
                context: context.into(),
                ..ConfChange::default()
            };
            said(EntryType::EntryConfChange, change.encode_to_vec())
        };
        let member = |is_learner| {
            let member = Member {
                id: MemberId(5),
                is_learner,
                ..Member::default()
            };
            member.to_json()
        };
        let promotion = || ConfChangeContext::promotion(MemberId(5)).to_json();
        let add = ConfChangeType::AddNode as i32;
        let learner = ConfChangeType::AddLearnerNode as i32;
        for (change_type, context) in [
            (add, member(false)),
            (add, promotion()),
            (learner, member(true)),
            (ConfChangeType::RemoveNode as i32, Vec::new()),
            (ConfChange::UPDATE_NODE, member(true)),
        ] {
            assert_eq!(change(change_type, 5, context), "fits", "type {change_type}");
        }
        for (change_type, context) in [(add, member(true)), (learner, member(false)), (learner, promotion())] {
            assert_eq!(
                change(change_type, 5, context),
                "membership change of member 5 contradicts itself: one part makes it a voter, another a learner"
            );
        }
        assert_eq!(
            change(add, 6, member(false)),
            "membership change of member 6 describes member 5"
        );
        assert!(change(add, 5, b"{".to_vec()).starts_with("membership change of member 5: not the JSON of a member"));
        assert_eq!(change(9, 5, member(false)), "membership change of unknown type 9");
        assert!(said(EntryType::EntryConfChange, vec![0xff]).starts_with("failed to decode"));
        assert_eq!(
            said(EntryType::EntryConfChangeV2, Vec::new()),
            "a proposal of type 2, which etcd never writes"
        );
    }
}
