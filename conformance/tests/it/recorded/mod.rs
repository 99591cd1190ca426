//! What real etcds send each other, recorded by a proxy before each peer port: core's decoders read it, and core's
//! encoders write the same bytes from it.
//!
//! There is one difference, which is removed before the comparison: etcd 3.5 writes fields that are zero or empty, and
//! core leaves them out. Every reader of protobuf takes both for the same.

mod http;
mod plain;
mod world;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::Exchange;
use plain::Shape;
use prost::Message as _;
use quoin_conformance::{Kind, Launch};
use quoin_core::bbolt::FilePart;
use quoin_core::id::MemberId;
use quoin_core::peer::{
    AppendDecoder, AppendEncoder, MessageDecoder, PATH_PIPELINE, PATH_PROBING, PATH_SNAPSHOT, PATH_STREAM,
    encode_message,
};
use quoin_core::proto::raftpb::{Message, MessageType};
use quoin_core::snapshot::SnapshotFile;
use quoin_core::store::StoreConfig;

/// Small requests of a member that starts, and of the leader.
const NOT_RAFT: [&str; 3] = ["/members", "/version", "/downgrade/enabled"];

#[test]
fn what_real_etcds_send_each_other_is_read_and_written_alike() {
    let exchanges = world::record();
    let of = |path: &'static str| {
        let found = exchanges
            .iter()
            .filter(move |exchange| exchange.path().starts_with(path));
        found.filter(|exchange| exchange.status() < 300)
    };
    let appends: usize = of("/raft/stream/msgapp/").map(append_stream).sum();
    let messages: usize = of("/raft/stream/message/").map(message_stream).sum();
    let is_post = |exchange: &&Exchange| exchange.path() == PATH_PIPELINE;
    let posts = of(PATH_PIPELINE).filter(is_post).map(post).count();
    let snapshots = of(PATH_SNAPSHOT).map(snapshot).count();
    let probes = of(PATH_PROBING).count();
    of(PATH_PROBING).take(1).for_each(probe);
    println!("{appends} appends, {messages} messages, {posts} posts, {snapshots} snapshots, {probes} probes");
    assert!(appends > 30 && messages > 30, "both streams were used");
    assert!(
        posts > 3 && snapshots > 0 && probes > 0,
        "everything else was used, too"
    );
    assert!(exchanges.iter().all(|exchange| {
        let path = exchange.path();
        let known = [PATH_STREAM, PATH_PIPELINE, PATH_SNAPSHOT, PATH_PROBING];
        known.iter().any(|known| path.starts_with(known)) || NOT_RAFT.contains(&path)
    }));
}

/// Compares the messages in the answer to `GET /raft/stream/msgapp/<id>`; returns their number.
fn append_stream(exchange: &Exchange) -> usize {
    let (local, remote) = exchange.stream_ends();
    let mut decoder = AppendDecoder::new(local, remote);
    decoder.push(Bytes::copy_from_slice(&exchange.response.body));
    let (mut encoder, mut written, mut count) = (AppendEncoder::default(), BytesMut::new(), 0);
    while let Some(message) = decoder.next_message().expect("a frame of a real etcd") {
        encoder.encode(message, &mut written);
        count += 1;
    }
    let (written, expected) = (append_frames(&written), append_frames(&exchange.response.body));
    assert_eq!(count, expected.len(), "every frame is a message");
    assert_eq!(written, expected, "{local} from {remote}");
    count
}

/// The complete frames of a stream of appends, each without zeros.
fn append_frames(mut body: &[u8]) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| append_frame(&mut body)).collect()
}

/// Takes the next frame of the stream of appends, if it is complete. Returns it without zeros.
fn append_frame(body: &mut &[u8]) -> Option<Vec<u8>> {
    let mut rest = *body;
    let mut frame = vec![rest.try_get_u8().ok()?];
    match frame[0] {
        0 => {}
        1 => {
            let entries = rest.try_get_u64().ok()?;
            frame.put_u64(entries);
            for _ in 0..entries {
                sized(&mut rest, Shape::Entry, &mut frame)?;
            }
            frame.put_u64(rest.try_get_u64().ok()?);
        }
        2 => sized(&mut rest, Shape::Message, &mut frame)?,
        other => panic!("a frame of kind {other}"),
    }
    *body = rest;
    Some(frame)
}

/// Takes a length and a part of that length. Appends the part without zeros, after its length.
fn sized(rest: &mut &[u8], shape: Shape, out: &mut Vec<u8>) -> Option<()> {
    let length = usize::try_from(rest.try_get_u64().ok()?).expect("a length");
    let (part, later) = rest.split_at_checked(length)?;
    *rest = later;
    let part = plain::without_zeros(part, shape);
    out.put_u64(part.len() as u64);
    out.extend(part);
    Some(())
}

/// Compares the messages in the answer to `GET /raft/stream/message/<id>`; returns their number.
fn message_stream(exchange: &Exchange) -> usize {
    let mut decoder = MessageDecoder::default();
    decoder.push(Bytes::copy_from_slice(&exchange.response.body));
    let (mut written, mut count) = (BytesMut::new(), 0);
    while let Some(message) = decoder.next_message().expect("a frame of a real etcd") {
        encode_message(message, &mut written);
        count += 1;
    }
    assert_eq!(messages(&written), messages(&exchange.response.body));
    count
}

/// The complete messages of a stream, each without zeros and after its length.
fn messages(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while sized(&mut body, Shape::Message, &mut out).is_some() {}
    out
}

/// Compares a posted message, which has no length before it.
fn post(exchange: &Exchange) {
    let body = &exchange.request.body;
    let message = Message::decode(&body[..]).expect("a message of a real etcd");
    let mut written = BytesMut::new();
    encode_message(message, &mut written);
    let plain = |bytes| plain::without_zeros(bytes, Shape::Message);
    assert_eq!(plain(&written[8..]), plain(body));
}

/// Compares the message of a snapshot, and reads the file behind it.
fn snapshot(exchange: &Exchange) {
    let mut decoder = MessageDecoder::default();
    decoder.push(Bytes::copy_from_slice(&exchange.request.body));
    let message = decoder.next_message().expect("a frame").expect("a whole message");
    assert_eq!(message.msg_type, MessageType::MsgSnapshot as i32);
    let index = message
        .snapshot
        .as_ref()
        .and_then(|snapshot| snapshot.metadata.as_ref());
    let index = index.map_or(0, |metadata| metadata.index);
    let mut written = BytesMut::new();
    encode_message(message, &mut written);
    let first = |mut body: &[u8]| {
        let mut out = Vec::new();
        sized(&mut body, Shape::Message, &mut out).expect("a whole message");
        out
    };
    assert_eq!(first(&written), first(&exchange.request.body));
    let file = decoder.rest();
    let part = |part: FilePart| {
        let start = usize::try_from(part.offset).expect("an offset").min(file.len());
        let end = (start + part.bytes).min(file.len());
        Ok(file.slice(start..end))
    };
    let opened = SnapshotFile::open("db", file.len() as u64, part).expect("a database file");
    let store = opened.restore(StoreConfig::default()).expect("a state");
    assert_eq!(store.consistent_index(), index);
}

/// Sends the same question for reachability to Quoin, and compares the answers: their texts differ in the time only.
fn probe(exchange: &Exchange) {
    let server = Launch::of(Kind::QuoinTokio).and_then(Launch::start).expect("a server");
    let mut socket = TcpStream::connect(server.peer_address()).expect("a connection");
    let request = format!("GET {PATH_PROBING} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("a request");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).expect("an answer");
    let answer = http::parts(&answer).remove(0);
    let keys = |body: &[u8]| {
        let json: serde_json::Value = serde_json::from_slice(body).expect("it is JSON");
        let object = json.as_object().expect("an object").clone();
        (object["OK"].clone(), object.keys().cloned().collect::<Vec<_>>())
    };
    assert_eq!(keys(&answer.body), keys(&exchange.response.body));
}

impl Exchange {
    /// The receiver and the sender of a stream's messages.
    fn stream_ends(&self) -> (MemberId, MemberId) {
        let id = |text: &str| MemberId::parse(text).expect("an id");
        let local = self.path().rsplit('/').next().map(id);
        (local.expect("a path"), id(&self.request.fields["x-raft-to"]))
    }
}
