//! Entries of etcd up to 3.5: bare requests of the v2 store, which carry members' attributes and the cluster version.

use prost::Message as _;

use crate::error::Fault;
use crate::id::MemberId;
use crate::proto::etcdserverpb::{InternalRaftRequest, Request, RequestHeader};
use crate::proto::membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest};

use super::applied::RequestId;
use super::content::Content;

/// Reads the request in an entry, its id and its header; `None` for a request of the v2 store that changes nothing in a v3 store.
///
/// Bytes that do not decode as a newer message are taken for a bare v2 request.
///
/// # Errors
/// A [`Fault`] for bytes that are neither, and for a request that this version does not have.
pub(super) fn read(data: bytes::Bytes) -> Result<Option<(RequestId, RequestHeader, Content)>, Fault> {
    let unreadable = |error: &dyn std::fmt::Display| Fault::Inconsistent {
        cause: error.to_string(),
    };
    // Decoded in place: it is a large message, of which few fields are set.
    let mut request = InternalRaftRequest::default();
    let old = match request.merge(data.clone()) {
        Ok(()) => request.v2.take(),
        Err(error) => match Request::decode(data) {
            // Every v2 request has a method.
            Ok(old) if !old.method.is_empty() => Some(old),
            _ => return Err(unreadable(&error)),
        },
    };
    if let Some(old) = old {
        match modern(&old).map_err(|cause| unreadable(&cause))? {
            Some(modern) => request = modern,
            None => return Ok(None),
        }
    }
    let header = request.header.take().unwrap_or_default();
    let id = if request.id == 0 { header.id } else { request.id };
    Ok(Some((id, header, Content::of(request)?)))
}

/// The v3 form of a v2 request; `None` if the request changes nothing in a v3 store.
fn modern(request: &Request) -> Result<Option<InternalRaftRequest>, String> {
    let conditional = request.prev_exist.is_some() || request.prev_index > 0 || !request.prev_value.is_empty();
    if request.method != "PUT" || conditional {
        return Ok(None);
    }
    let header = Some(RequestHeader {
        id: request.id,
        ..RequestHeader::default()
    });
    let nothing = InternalRaftRequest {
        header,
        ..InternalRaftRequest::default()
    };
    if request.path == "/0/version" {
        let ver = request.val.clone();
        return Ok(Some(InternalRaftRequest {
            cluster_version_set: Some(ClusterVersionSetRequest { ver }),
            ..nothing
        }));
    }
    let Some(member) = attributes_of(&request.path) else {
        return Ok(None);
    };
    let attributes = read_attributes(&request.val).map_err(|error| format!("{}: {error}", request.path))?;
    let set = ClusterMemberAttrSetRequest {
        member_id: member.0,
        member_attributes: Some(attributes),
    };
    Ok(Some(InternalRaftRequest {
        cluster_member_attr_set: Some(set),
        ..nothing
    }))
}

/// The member whose attributes are at this path.
fn attributes_of(path: &str) -> Option<MemberId> {
    MemberId::parse(path.strip_prefix("/0/members/")?.strip_suffix("/attributes")?)
}

/// Reads `{"name":..,"clientURLs":[..]}` as a member without the fields that consensus needs.
fn read_attributes(json: &str) -> Result<Attributes, serde_json::Error> {
    let AttributesJson { name, client_urls } = serde_json::from_str(json)?;
    Ok(Attributes {
        name,
        client_urls: client_urls.unwrap_or_default(),
    })
}

#[derive(serde::Deserialize)]
struct AttributesJson {
    #[serde(default)]
    name: String,
    #[serde(rename = "clientURLs", default)]
    client_urls: Option<Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::super::content::Content;
    use super::*;

    fn request(method: &str, path: &str, val: &str) -> Request {
        Request {
            id: 9,
            method: method.into(),
            path: path.into(),
            val: val.into(),
            ..Request::default()
        }
    }

    fn read_v2(request: &Request) -> Result<Option<(RequestId, Content)>, Fault> {
        let read = read(request.encode_to_vec().into())?;
        Ok(read.map(|(id, _, content)| (id, content)))
    }

    #[test]
    fn attributes_and_version_become_v3_requests() {
        let json = r#"{"name":"a","clientURLs":["http://c:1"]}"#;
        let Ok(Some((9, Content::MemberAttributes(set)))) = read_v2(&request("PUT", "/0/members/ab/attributes", json))
        else {
            panic!("these are attributes");
        };
        assert_eq!(set.member_id, 0xab);
        let attributes = set.member_attributes.unwrap();
        assert_eq!(
            (attributes.name.as_str(), attributes.client_urls),
            ("a", vec!["http://c:1".to_owned()])
        );

        let read = read_v2(&request("PUT", "/0/version", "3.5.0"));
        assert!(matches!(read, Ok(Some((9, Content::Version(set)))) if set.ver == "3.5.0"));
    }

    #[test]
    fn other_requests_to_the_v2_store_are_ignored() {
        for (method, path) in [
            ("SYNC", ""),
            ("PUT", "/1/key"),
            ("DELETE", "/0/version"),
            ("POST", "/1"),
            ("QGET", "/1"),
            ("PUT", "/0/members/xyz/attributes"),
            ("PUT", "/0/members/ab/raftAttributes"),
        ] {
            assert!(
                matches!(read_v2(&request(method, path, "x")), Ok(None)),
                "{method} {path}"
            );
        }
        let compared = Request {
            prev_value: "3.4.0".into(),
            ..request("PUT", "/0/version", "3.5.0")
        };
        assert!(matches!(read_v2(&compared), Ok(None)));
    }

    #[test]
    fn a_request_that_cannot_be_read_is_a_fault() {
        let broken = request("PUT", "/0/members/ab/attributes", "{").encode_to_vec();
        for data in [broken, vec![0xff; 4], b"\x12\x02".to_vec()] {
            assert!(read(data.clone().into()).is_err(), "{data:?}");
        }
    }
}
