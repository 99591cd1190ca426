//! The bytes on the wire: etcd's, in both directions.

use prost::Message as _;
use raft_proto::eraftpb::{ConfChange, ConfChangeType, ConfState, Entry, EntryType, Message, MessageType, Snapshot};

#[test]
fn an_append_has_etcds_numbers() {
    let message = Message {
        msg_type: MessageType::MsgAppend as i32,
        to: 2,
        from: 1,
        term: 3,
        log_term: 3,
        index: 9,
        commit: 8,
        entries: vec![Entry {
            term: 3,
            index: 10,
            data: "ab".into(),
            ..Entry::default()
        }],
        ..Message::default()
    };
    let bytes = [
        0x08, 3, 0x10, 2, 0x18, 1, 0x20, 3, 0x28, 3, 0x30, 9, // type, to, from, term, log term, index
        0x3a, 8, 0x10, 3, 0x18, 10, 0x22, 2, b'a', b'b', // one entry: term, index, data
        0x40, 8, // commit
    ];
    assert_eq!(message.encode_to_vec(), bytes);
    assert_eq!(Message::decode(&bytes[..]).unwrap(), message);
}

#[test]
fn an_older_etcds_heartbeat_with_explicit_zeros_reads_as_its_short_form() {
    let bytes = [
        0x08, 8, 0x10, 2, 0x18, 1, 0x20, 3, 0x28, 0, 0x30, 0, 0x40, 0, // type .. commit
        0x4a, 8, 0x12, 6, 0x0a, 2, 0x28, 0, 0x10, 0, // an empty snapshot, its metadata and configuration
        0x50, 0, 0x58, 0, 0x68, 0, // reject, reject hint, vote
    ];
    let message = Message::decode(&bytes[..]).unwrap();
    assert_eq!(message.get_msg_type(), MessageType::MsgHeartbeat);
    assert_eq!((message.to, message.from, message.term), (2, 1, 3));
    assert!(message.get_snapshot().is_empty());
    assert_eq!(
        message.request_snapshot, 0,
        "etcd's vote is not taken for a field of the raft crate"
    );
}

#[test]
fn fields_of_newer_etcds_are_ignored() {
    // vote = 7, then one response that contains a message; both are for etcd's own storage threads.
    let message = Message::decode(&[0x08, 5, 0x68, 7, 0x72, 2, 0x08, 6][..]).unwrap();
    assert_eq!(
        message,
        Message {
            msg_type: 5,
            ..Message::default()
        }
    );
}

#[test]
fn an_unknown_type_reads_as_one_that_raft_refuses() {
    let message = Message {
        msg_type: 23,
        ..Message::default()
    };
    assert_eq!(message.get_msg_type(), MessageType::MsgHup);
}

#[test]
fn a_configuration_reads_packed_and_unpacked_and_writes_unpacked() {
    let unpacked = [0x08, 1, 0x08, 2, 0x10, 3, 0x28, 0];
    let packed = [0x0a, 2, 1, 2, 0x12, 1, 3];
    let state = ConfState::from(([1, 2], [3]));
    assert_eq!(ConfState::decode(&unpacked[..]).unwrap(), state);
    assert_eq!(ConfState::decode(&packed[..]).unwrap(), state);
    assert_eq!(state.encode_to_vec(), unpacked[..6]);
}

#[test]
fn a_learner_is_added_by_number_three() {
    let mut change = ConfChange {
        id: 5,
        node_id: 7,
        context: "{}".into(),
        ..ConfChange::default()
    };
    change.set_change_type(ConfChangeType::AddLearnerNode);
    assert_eq!(change.encode_to_vec(), [0x08, 5, 0x10, 3, 0x18, 7, 0x22, 2, b'{', b'}']);
}

#[test]
fn payloads_are_shared_and_not_copied() {
    let entry = Entry {
        entry_type: EntryType::EntryNormal as i32,
        data: vec![7; 100].into(),
        ..Entry::default()
    };
    assert_eq!(entry.clone().data.as_ptr(), entry.data.as_ptr());
    let wire = bytes::Bytes::from(entry.encode_to_vec());
    let decoded = Entry::decode(wire.clone()).unwrap();
    assert!(wire.as_ptr_range().contains(&decoded.data.as_ptr()));
}

#[test]
fn garbage_is_an_error() {
    assert!(Snapshot::decode(&[0x0a, 0xff][..]).is_err());
    assert!(Message::decode(&[0x08][..]).is_err());
}

#[test]
fn the_protobuf_trait_that_raft_uses_agrees_with_prost() {
    use protobuf::Message as _;
    let entry = Entry {
        term: 1,
        index: 2,
        data: "abc".into(),
        ..Entry::default()
    };
    let bytes = entry.write_to_bytes().unwrap();
    assert_eq!(bytes, entry.encode_to_vec());
    assert_eq!(entry.compute_size() as usize, bytes.len());
    let mut merged = Entry::default();
    merged.merge_from_bytes(&bytes).unwrap();
    assert_eq!(merged, entry);
    let mut read = Entry::default();
    read.merge_from(&mut protobuf::CodedInputStream::from_bytes(&bytes))
        .unwrap();
    assert_eq!(read, entry);
    assert!(merged.merge_from_bytes(&[0x22, 9]).is_err());
}
