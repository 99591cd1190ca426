//! The peer machine, alone and in pairs that are connected by pipes of bytes.

mod codec;
mod file;
mod hostile;
mod pair;
mod world;

use bytes::Bytes;

use crate::proto::raftpb::{Entry, Message, MessageType};

/// An append of entries of one term, with the indexes after `after`.
fn append(term: u64, after: u64, sizes: &[usize]) -> Message {
    let entries = sizes.iter().zip(after + 1..).map(|(size, index)| Entry {
        term,
        index,
        data: Bytes::from(vec![index as u8; *size]),
        ..Entry::default()
    });
    Message {
        msg_type: MessageType::MsgAppend as i32,
        from: 1,
        to: 2,
        term,
        log_term: term,
        index: after,
        entries: entries.collect(),
        commit: after,
        ..Message::default()
    }
}

/// A heartbeat of the leader.
fn heartbeat(commit: u64) -> Message {
    Message {
        msg_type: MessageType::MsgHeartbeat as i32,
        from: 1,
        to: 2,
        term: 3,
        commit,
        ..Message::default()
    }
}
