//! Requests that a member refuses, and its answers.

use std::time::Duration;

use bytes::Bytes;

use super::heartbeat;
use super::world::{CLUSTER, World, config, id};
use crate::id::{ClusterId, MemberId};
use crate::limits::PEER_REMOTES;
use crate::peer::head::RequestKind;
use crate::peer::{ExchangeId, PeerEffect, PeerHead, PeerInput, StreamKind};
use crate::proto::raftpb::Message;

/// A request of member 2 to member 1, with some headers replaced.
fn head(kind: RequestKind, changed: &[(&str, &str)]) -> PeerHead {
    let mut head = PeerHead::request(&config(2, 2), id(1), kind);
    for (name, value) in changed {
        head.fields.insert((*name).to_owned(), (*value).to_owned());
    }
    head
}

fn stream(changed: &[(&str, &str)]) -> PeerHead {
    head(RequestKind::Stream(StreamKind::Message), changed)
}

/// Status and body of the answer, if there is one.
fn answer(effects: &[PeerEffect]) -> Option<(u16, String)> {
    effects.iter().find_map(|effect| match effect {
        PeerEffect::Respond { status, body, .. } => {
            Some((*status, String::from_utf8_lossy(body).trim_end().to_owned()))
        }
        PeerEffect::Open(..) => Some((200, String::new())),
        _ => None,
    })
}

fn refusal(head: PeerHead) -> (u16, String) {
    let mut world = World::new(2);
    world.roster(1, &[1, 2], &[7]);
    let (_, effects) = world.ask(1, head);
    answer(&effects).expect("it is answered")
}

#[test]
fn streams_are_refused_as_by_etcd() {
    assert_eq!(refusal(stream(&[])), (200, String::new()));
    for (changed, status, text) in [
        (("x-etcd-cluster-id", "c2"), 412, "cluster ID mismatch"),
        (("x-etcd-cluster-id", ""), 412, "cluster ID mismatch"),
        (("x-server-version", ""), 412, "incompatible version"),
        (("x-server-version", "2.3.0"), 412, "incompatible version"),
        (("x-server-version", "three"), 412, "incompatible version"),
        (("x-min-cluster-version", "3.7.0"), 412, "incompatible version"),
        (("x-raft-to", "3"), 412, "to field mismatch"),
        (("x-raft-to", ""), 412, "to field mismatch"),
    ] {
        assert_eq!(refusal(stream(&[changed])), (status, text.to_owned()), "{changed:?}");
    }
    for (path, status, text) in [
        ("/raft/stream/other/2", 404, "invalid path"),
        ("/raft/stream", 404, "invalid path"),
        ("/raft/stream/message/xyz", 404, "invalid from"),
        ("/raft/stream/message", 404, "invalid from"),
        ("/raft/stream/message/2/3", 404, "invalid from"),
        ("/raft/stream/message/7", 410, "removed member"),
        ("/raft/stream/message/9", 404, "error sender not found"),
    ] {
        let mut head = stream(&[]);
        path.clone_into(&mut head.path);
        assert_eq!(refusal(head), (status, text.to_owned()), "{path}");
    }
    let mut posted = stream(&[]);
    "POST".clone_into(&mut posted.method);
    assert_eq!(refusal(posted).0, 405);
}

/// Member 1's answer to a posted message.
fn post(message: &Message, from: MemberId) -> Option<(u16, String)> {
    let mut world = World::new(2);
    world.roster(1, &[1, 2], &[7]);
    let head = head(RequestKind::Pipeline, &[("x-server-from", &from.to_string())]);
    let (exchange, effects) = world.ask(1, head);
    assert!(matches!(effects[..], [PeerEffect::Receive(_)]), "{effects:?}");
    body(&mut world, exchange, prost::Message::encode_to_vec(message).into())
}

/// Member 1's answer to a body.
fn body(world: &mut World, exchange: ExchangeId, bytes: Bytes) -> Option<(u16, String)> {
    let mut out = Vec::new();
    let now = world.now;
    let inputs = [PeerInput::Bytes(exchange, bytes), PeerInput::End(exchange)];
    world.machine(1).transport.step(now, inputs, &mut out);
    answer(&out)
}

#[test]
fn posted_messages_are_refused_so_that_no_healthy_member_ends() {
    let for_me = Message {
        from: 2,
        to: 1,
        ..heartbeat(1)
    };
    assert_eq!(post(&for_me, id(2)), Some((204, String::new())));
    let for_another = Message {
        to: 3,
        ..for_me.clone()
    };
    assert_eq!(post(&for_another, id(2)), Some((412, "to field mismatch".to_owned())));
    let removed = Some((
        403,
        r#"{"message":"cannot process message from removed member"}"#.to_owned(),
    ));
    assert_eq!(post(&for_me, id(7)), removed);
    let forwarded = Message { from: 7, ..for_me };
    assert_eq!(post(&forwarded, id(2)), removed);
    let mut world = World::new(2);
    let (exchange, _) = world.ask(1, head(RequestKind::Pipeline, &[]));
    let refused = body(&mut world, exchange, Bytes::from_static(b"\xff\xff"));
    assert_eq!(refused, Some((400, "error unmarshalling raft message".to_owned())));
}

#[test]
fn a_posted_snapshot_without_a_snapshot_message_is_refused() {
    let mut world = World::new(2);
    for (bytes, text) in [
        (Bytes::from_static(&[0xff; 8]), "error decoding raft message"),
        (Bytes::from_static(&[0; 3]), "unexpected EOF"),
        (Bytes::from_static(&[0; 8]), "wrong raft message type"),
    ] {
        let (exchange, _) = world.ask(1, head(RequestKind::Snapshot, &[]));
        let (status, body) = body(&mut world, exchange, bytes).unwrap();
        assert!(status == 400 && body.contains(text), "{body}");
    }
}

#[test]
fn removal_is_believed_only_from_a_member_of_this_cluster() {
    for (cluster, believed) in [(CLUSTER, true), (ClusterId(0xc2), false)] {
        let mut world = World::new(1);
        world.roster(1, &[1, 9], &[]);
        let mut out = Vec::new();
        let now = world.now + Duration::from_secs(1);
        let transport = &mut world.machine(1).transport;
        transport.step(now, [PeerInput::Wake], &mut out);
        let dialled = out.iter().find_map(|effect| match effect {
            PeerEffect::Request { exchange, head, .. } if head.path.starts_with("/raft/stream") => Some(*exchange),
            _ => None,
        });
        let exchange = dialled.unwrap();
        let mut head = PeerHead::default();
        head.fields.insert("x-etcd-cluster-id".to_owned(), cluster.to_string());
        let status = 410;
        let inputs = [
            PeerInput::Response {
                exchange,
                status,
                head,
                took: Duration::ZERO,
            },
            PeerInput::End(exchange),
        ];
        out.clear();
        transport.step(now, inputs, &mut out);
        let told = |effect: &PeerEffect| matches!(effect, PeerEffect::Tell(crate::node::PeerEvent::RemovedUs));
        assert_eq!(out.iter().any(told), believed);
    }
}

#[test]
fn strangers_are_remembered_up_to_a_bound() {
    let mut world = World::new(1);
    for number in 0..PEER_REMOTES as u64 * 3 {
        let path = format!("/raft/stream/message/{:x}", 100 + number);
        let mut head = stream(&[("x-server-from", "9"), ("x-peerurls", "http://100")]);
        head.path = path;
        let (_, effects) = world.ask(1, head);
        assert_eq!(answer(&effects), Some((404, "error sender not found".to_owned())));
    }
    assert_eq!(world.machine(1).transport.peers.len(), PEER_REMOTES);
}

#[test]
fn an_invalid_frame_ends_its_stream_and_not_the_member() {
    let mut world = World::new(2);
    let exchange = ExchangeId::Outgoing(1);
    assert!(world.machine(1).transport.exchanges.contains_key(&exchange));
    world.input(1, PeerInput::Bytes(exchange, Bytes::from_static(&[0xff; 16])));
    assert!(!world.machine(1).transport.exchanges.contains_key(&exchange));
    world.run(Duration::from_secs(1));
    let active = world
        .machine(1)
        .told
        .iter()
        .filter(|event| matches!(event, crate::node::PeerEvent::Active(_)));
    assert_eq!(active.count(), 2, "it is opened again");
}

#[test]
fn a_sender_that_is_refused_again_and_again_is_logged_once() {
    let mut world = World::new(2);
    world.roster(1, &[1, 2], &[7]);
    let mut head = stream(&[("x-server-from", "7")]);
    head.path = "/raft/stream/message/7".to_owned();
    let lines = (0..5).map(|_| {
        let (_, effects) = world.ask(1, head.clone());
        effects
            .iter()
            .filter(|effect| matches!(effect, PeerEffect::Log(_)))
            .count()
    });
    assert_eq!(lines.sum::<usize>(), 1);
}
