//! The messages of etcd's API, log and files, one module per protobuf package.
//!
//! They are generated from `core/proto/*.proto` at build time; the service definitions in the same files become code in
//! the `runtime` crate. Every `bytes` field is a [`bytes::Bytes`], so decoding from one copies no payload.

/// Declares the module of one generated package.
macro_rules! package {
    ($(#[$doc:meta])* $module:ident = $name:literal) => {
        $(#[$doc])*
        pub mod $module {
            include!(concat!(env!("OUT_DIR"), "/", $name, ".rs"));
        }
    };
}

package! {
    /// Users, roles and permissions, as stored.
    authpb = "authpb"
}
package! {
    /// The client API, and what the entries of the log hold.
    etcdserverpb = "etcdserverpb"
}
package! {
    /// The standard gRPC health check.
    health = "grpc.health.v1"
}
package! {
    /// Leases as stored.
    leasepb = "leasepb"
}
package! {
    /// Membership in the log.
    membershippb = "membershippb"
}
package! {
    /// Keys and events.
    mvccpb = "mvccpb"
}
package! {
    /// Snapshot files.
    snappb = "snappb"
}
package! {
    /// Elections among clients.
    v3electionpb = "v3electionpb"
}
package! {
    /// Locks among clients.
    v3lockpb = "v3lockpb"
}
package! {
    /// Records of the write-ahead log.
    walpb = "walpb"
}

pub use raft::eraftpb as raftpb;

/// All packages as an encoded `google.protobuf.FileDescriptorSet`: a JSON gateway needs the field names.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_put_in_the_log_has_etcds_bytes() {
        let request = etcdserverpb::InternalRaftRequest {
            header: Some(etcdserverpb::RequestHeader {
                id: 1,
                ..Default::default()
            }),
            put: Some(etcdserverpb::PutRequest {
                key: "k".into(),
                value: "v".into(),
                lease: 3,
                ..Default::default()
            }),
            ..Default::default()
        };
        let bytes = [0x22, 8, 0x0a, 1, b'k', 0x12, 1, b'v', 0x18, 3, 0xa2, 0x06, 2, 0x08, 1];
        assert_eq!(request.encode_to_vec(), bytes);
    }

    #[test]
    fn a_request_of_the_v2_api_does_not_parse_as_a_proposal() {
        let request = etcdserverpb::Request {
            id: 5,
            method: "PUT".into(),
            path: "/0/version".into(),
            val: "3.5.0".into(),
            ..Default::default()
        };
        assert!(etcdserverpb::InternalRaftRequest::decode(&request.encode_to_vec()[..]).is_err());
    }

    #[test]
    fn a_watch_response_has_its_events_in_field_eleven() {
        let response = etcdserverpb::WatchResponse {
            watch_id: 1,
            events: vec![mvccpb::Event {
                r#type: 1,
                ..Default::default()
            }],
            ..Default::default()
        };
        assert_eq!(response.encode_to_vec(), [0x10, 1, 0x5a, 2, 0x08, 1]);
    }

    #[test]
    fn decoding_shares_the_buffer() {
        let kv = mvccpb::KeyValue {
            key: "key".into(),
            value: "value".into(),
            ..Default::default()
        };
        let wire = Bytes::from(kv.encode_to_vec());
        let decoded = mvccpb::KeyValue::decode(wire.clone()).unwrap();
        assert!(wire.as_ptr_range().contains(&decoded.value.as_ptr()));
    }

    #[test]
    fn records_of_the_log_encode_zeros_as_etcd_does() {
        let record = walpb::Record {
            r#type: Some(4),
            crc: Some(0),
            data: None,
        };
        assert_eq!(record.encode_to_vec(), [0x08, 4, 0x10, 0]);
        let marker = walpb::Snapshot {
            index: Some(0),
            term: Some(0),
            conf_state: None,
        };
        assert_eq!(marker.encode_to_vec(), [0x08, 0, 0x10, 0]);
    }

    #[test]
    fn the_descriptor_keeps_the_names_that_json_needs() {
        let contains = |name: &[u8]| DESCRIPTOR.windows(name.len()).any(|window| window == name);
        assert!(contains(b"peerURLs") && contains(b"grantedTTL") && contains(b"RangeStream"));
        assert!(!contains(b"peer_ur_ls"));
        assert_eq!(
            etcdserverpb::Member {
                peer_urls: vec!["u".into()],
                ..Default::default()
            }
            .peer_urls
            .len(),
            1
        );
    }
}
