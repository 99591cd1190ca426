//! Good bytes, of each kind that a peer sends.

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use quoin_core::id::MemberId;
use quoin_core::membership::{ConfChangeContext, Member};
use quoin_core::peer::{AppendEncoder, encode_message};
use quoin_core::proto::etcdserverpb::{
    InternalRaftRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, PutRequest, Request, RequestHeader, RequestOp, TxnRequest, request_op,
};
use quoin_core::proto::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use quoin_core::proto::membershippb::ClusterVersionSetRequest;
use quoin_core::proto::raftpb::{
    ConfChange, ConfChangeType, ConfState, Entry, EntryType, Message, MessageType, Snapshot, SnapshotMetadata,
};
use quoin_core::snapshot;
use quoin_core::store::{Applied, ApplyContext, Store, StoreConfig};

fn append(term: u64, after: u64, sizes: &[usize]) -> Message {
    let entries = sizes.iter().zip(after + 1..).map(|(size, index)| Entry {
        term,
        index,
        data: vec![7; *size].into(),
        ..Entry::default()
    });
    Message {
        msg_type: MessageType::MsgAppend as i32,
        from: 2,
        to: 1,
        term,
        log_term: term,
        index: after,
        entries: entries.collect(),
        commit: after,
        ..Message::default()
    }
}

fn of_type(kind: MessageType) -> Message {
    Message {
        msg_type: kind as i32,
        from: 2,
        to: 1,
        term: 3,
        ..Message::default()
    }
}

fn snapshot_message() -> Message {
    let conf_state = ConfState {
        voters: vec![1, 2],
        ..ConfState::default()
    };
    let metadata = SnapshotMetadata {
        conf_state: Some(conf_state),
        index: 9,
        term: 2,
    };
    Message {
        snapshot: Some(Snapshot {
            data: br#"{"Root":{"Path":"/","Children":{}},"CurrentVersion":2}"#[..].into(),
            metadata: Some(metadata),
        }),
        ..of_type(MessageType::MsgSnapshot)
    }
}

/// Streams of appends: short frames, whole messages, heartbeats of the link.
pub(crate) fn appends() -> Vec<Vec<u8>> {
    let heartbeat = Message {
        msg_type: MessageType::MsgHeartbeat as i32,
        ..Message::default()
    };
    let stream = |messages: &[Message]| {
        let (mut encoder, mut out) = (AppendEncoder::default(), BytesMut::new());
        messages
            .iter()
            .for_each(|message| encoder.encode(message.clone(), &mut out));
        out.to_vec()
    };
    vec![
        stream(&[
            append(3, 7, &[20, 0, 5]),
            append(3, 10, &[1, 2]),
            heartbeat,
            append(4, 1, &[9]),
        ]),
        stream(&[append(3, 7, &[0; 200]), append(3, 207, &[0; 200])]),
    ]
}

/// Streams of other messages, and what precedes the file of a snapshot.
pub(crate) fn messages() -> Vec<Vec<u8>> {
    let stream = |messages: &[Message]| {
        let mut out = BytesMut::new();
        messages
            .iter()
            .for_each(|message| encode_message(message.clone(), &mut out));
        out.to_vec()
    };
    vec![
        stream(&[
            of_type(MessageType::MsgHeartbeat),
            of_type(MessageType::MsgRequestVote),
            append(3, 7, &[1]),
        ]),
        stream(&[snapshot_message()]),
    ]
}

fn text(first: &str, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let fields = fields.iter().map(|(name, value)| format!("\n{name}: {value}"));
    let head = format!("{first}{}\n\n", fields.collect::<String>());
    [head.as_bytes(), body].concat()
}

const HEAD: [(&str, &str); 6] = [
    ("x-etcd-cluster-id", "c1"),
    ("x-min-cluster-version", "3.0.0"),
    ("x-peerurls", "http://2,http://two:2380"),
    ("x-raft-to", "1"),
    ("x-server-from", "2"),
    ("x-server-version", "3.5.30"),
];

/// Requests to the peer machine.
pub(crate) fn requests() -> Vec<Vec<u8>> {
    let snapshot = [&messages()[1][..], &files()[0][..100]].concat();
    vec![
        text("GET /raft/stream/msgapp/2", &HEAD, b""),
        text("GET /raft/stream/message/2", &HEAD, b""),
        text("POST /raft", &HEAD, &append(3, 7, &[3, 0, 40]).encode_to_vec()),
        text("POST /raft/snapshot", &HEAD, &snapshot),
    ]
}

/// Responses to requests of the peer machine.
pub(crate) fn responses() -> Vec<Vec<u8>> {
    let version = br#"{"etcdserver":"3.5.30","etcdcluster":"3.5.0"}"#;
    let removed = br#"{"message":"cannot process message from removed member"}"#;
    vec![
        text("200", &HEAD, &appends()[0]),
        text("200", &HEAD, &messages()[0]),
        text("200", &HEAD, version),
        text("410", &HEAD, b"removed member"),
        text("403", &HEAD, removed),
        text("412", &HEAD, b"cluster ID mismatch"),
    ]
}

/// Requests that are not raft's.
pub(crate) fn calls() -> Vec<Vec<u8>> {
    let renewal = LeaseKeepAliveRequest { id: 7 };
    let remaining = LeaseInternalRequest {
        lease_time_to_live_request: Some(LeaseTimeToLiveRequest { id: 7, keys: true }),
    };
    vec![
        text("GET /members", &HEAD, b""),
        text("GET /downgrade/enabled", &HEAD, b""),
        text("GET /members/hashkv", &HEAD, br#"{"revision":5}"#),
        text("POST /members/promote/8", &HEAD, b""),
        text("POST /leases", &HEAD, &renewal.encode_to_vec()),
        text("POST /leases/internal", &HEAD, &remaining.encode_to_vec()),
    ]
}

fn member(number: u64) -> Member {
    Member {
        id: MemberId(number),
        name: format!("m\u{fc}{number}"),
        peer_urls: vec![format!("http://{number}:2380"), "unix://a:1".into()],
        client_urls: vec![format!("http://{number}:2379")],
        is_learner: number == 3,
    }
}

/// Bodies of answers.
pub(crate) fn answers() -> Vec<Vec<u8>> {
    let remaining = LeaseTimeToLiveResponse {
        id: 7,
        ttl: 5,
        granted_ttl: 9,
        keys: vec!["a".into(); 20],
        ..LeaseTimeToLiveResponse::default()
    };
    let remaining = LeaseInternalResponse {
        lease_time_to_live_response: Some(remaining),
    };
    let renewed = LeaseKeepAliveResponse {
        id: 7,
        ttl: 5,
        ..LeaseKeepAliveResponse::default()
    };
    let hash = br#"{"header":{"cluster_id":1,"revision":7},"hash":9,"compact_revision":3,"hash_revision":7}"#;
    vec![
        Member::list_to_json(&[1, 2, 3].map(member)),
        ConfChangeContext::promotion(MemberId(3)).to_json(),
        br#"{"etcdserver":"3.5.30","etcdcluster":"3.5.0"}"#.to_vec(),
        b"false".to_vec(),
        hash.to_vec(),
        b"mvcc: required revision has been compacted".to_vec(),
        renewed.encode_to_vec(),
        remaining.encode_to_vec(),
        // As deep as an attack on a parser that recurses would have it.
        "[".repeat(10_000).into_bytes(),
        r#"{"a":"#.repeat(5_000).into_bytes(),
    ]
}

/// Lists of addresses.
pub(crate) fn urls() -> Vec<Vec<u8>> {
    let urls = "http://10.0.0.1:2380,https://[fe80::1%25eth0]:2380,unix:///run/a.sock,unixs://a:1,http://us%65r:pw@h";
    vec![urls.into(), "http://\u{fc}:99999/%zz?a=b#c".into()]
}

fn request(request: InternalRaftRequest) -> (EntryType, Vec<u8>) {
    let header = Some(RequestHeader {
        id: 77,
        ..RequestHeader::default()
    });
    let data = InternalRaftRequest { header, ..request }.encode_to_vec();
    (EntryType::EntryNormal, data)
}

fn put(key: String) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: "value".into(),
        ..PutRequest::default()
    }
}

/// Entries of each kind, in an order in which they can be applied.
fn proposals() -> Vec<(EntryType, Vec<u8>)> {
    let added = ConfChange {
        change_type: ConfChangeType::AddNode as i32,
        node_id: 1,
        context: member(1).to_json().into(),
        ..ConfChange::default()
    };
    let ops = (0..40).map(|number| RequestOp {
        request: Some(request_op::Request::RequestPut(put(format!("key/{number}")))),
    });
    let attributes = Request {
        method: "PUT".into(),
        path: "/0/members/1/attributes".into(),
        val: r#"{"name":"one","clientURLs":["http://1:2379"]}"#.into(),
        ..Request::default()
    };
    let nothing = InternalRaftRequest::default;
    vec![
        (EntryType::EntryConfChange, added.encode_to_vec()),
        (EntryType::EntryNormal, attributes.encode_to_vec()),
        request(InternalRaftRequest {
            cluster_version_set: Some(ClusterVersionSetRequest { ver: "3.5.0".into() }),
            ..nothing()
        }),
        request(InternalRaftRequest {
            lease_grant: Some(LeaseGrantRequest { ttl: 60, id: 7 }),
            ..nothing()
        }),
        request(InternalRaftRequest {
            put: Some(put("a".into())),
            ..nothing()
        }),
        request(InternalRaftRequest {
            txn: Some(TxnRequest {
                success: ops.collect(),
                ..TxnRequest::default()
            }),
            ..nothing()
        }),
    ]
}

/// Data of entries, each after a byte with its type.
pub(crate) fn entries() -> Vec<Vec<u8>> {
    let proposals = proposals().into_iter();
    proposals
        .map(|(kind, data)| [&[kind as u8][..], &data].concat())
        .collect()
}

/// Files of snapshots: of an empty store, and of one with every kind of row.
pub(crate) fn files() -> Vec<Vec<u8>> {
    let empty = Store::new(StoreConfig::default());
    let mut full = Store::new(StoreConfig::default());
    let wanted = |_| false;
    let context = ApplyContext {
        quota_bytes: None,
        wanted: &wanted,
    };
    for (index, (kind, data)) in (1..).zip(proposals()) {
        let entry = Entry {
            entry_type: kind as i32,
            term: 2,
            index,
            data: Bytes::from(data),
            ..Entry::default()
        };
        full.apply(&entry, context, &mut Applied::default())
            .expect("an entry that is sound");
    }
    [empty, full]
        .map(|store| snapshot::encode(&store.view()))
        .into_iter()
        .collect()
}
