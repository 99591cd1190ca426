//! A snapshot that a peer posts: its message, and then its file.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::world::{World, config, id};
use crate::limits::{PEER_READ_PATIENCE, PEER_SNAPSHOT_PATIENCE};
use crate::peer::head::RequestKind;
use crate::peer::{ExchangeId, PeerEffect, PeerHead, PeerInput, encode_message};
use crate::proto::raftpb::{Message, MessageType, Snapshot};

const A_LITTLE: Duration = Duration::from_millis(1);

/// Member 2 posts a snapshot to member 1; returns the exchange, and the message's frame.
fn begin(world: &mut World) -> (ExchangeId, Bytes) {
    let (exchange, _) = world.ask(1, PeerHead::request(&config(2, 2), id(1), RequestKind::Snapshot));
    let message = Message {
        msg_type: MessageType::MsgSnapshot as i32,
        from: 2,
        to: 1,
        term: 3,
        snapshot: Some(Snapshot::default()),
        ..Message::default()
    };
    let mut frame = BytesMut::new();
    encode_message(message, &mut frame);
    (exchange, frame.freeze())
}

fn step(world: &mut World, inputs: impl IntoIterator<Item = PeerInput>) -> Vec<PeerEffect> {
    let (mut out, now) = (Vec::new(), world.now);
    world.machine(1).transport.step(now, inputs, &mut out);
    out
}

/// The statuses of the answers among effects.
fn statuses(effects: &[PeerEffect]) -> Vec<u16> {
    let status = |effect: &PeerEffect| match effect {
        PeerEffect::Respond { status, .. } => Some(*status),
        _ => None,
    };
    effects.iter().filter_map(status).collect()
}

/// The bytes of the file that effects give to the host, and a full stop for its end.
fn file_in(effects: &[PeerEffect]) -> String {
    let bytes = effects.iter().map(|effect| match effect {
        PeerEffect::Save { begun: bytes, .. } | PeerEffect::SaveMore(_, bytes) => bytes.clone(),
        PeerEffect::SaveEnd(_) => ".".into(),
        _ => Bytes::new(),
    });
    String::from_utf8(bytes.collect::<Vec<_>>().concat()).unwrap()
}

fn is_cut(effects: &[PeerEffect], exchange: ExchangeId) -> bool {
    let cut = |effect: &PeerEffect| matches!(effect, PeerEffect::Close(closed) if *closed == exchange);
    effects.iter().any(cut)
}

/// However the bytes come, the host gets exactly those of the file, and its report decides the answer.
#[test]
fn the_file_after_the_message_reaches_the_host_whole() {
    for (saved, status) in [(Ok(()), 204), (Err("no room".to_owned()), 500)] {
        for size in [1, 7, 1_000] {
            let mut world = World::new(2);
            let (exchange, frame) = begin(&mut world);
            let all = [&frame[..], b"the file"].concat();
            let mut effects = Vec::new();
            for piece in all.chunks(size) {
                let piece = Bytes::copy_from_slice(piece);
                effects.append(&mut step(&mut world, [PeerInput::Bytes(exchange, piece)]));
            }
            effects.append(&mut step(&mut world, [PeerInput::End(exchange)]));
            assert_eq!(file_in(&effects), "the file.");
            let effects = step(&mut world, [PeerInput::Saved(exchange, saved.clone())]);
            assert_eq!(statuses(&effects), [status]);
        }
    }
}

#[test]
fn several_pieces_in_one_step_all_reach_the_host() {
    let mut world = World::new(2);
    let (exchange, frame) = begin(&mut world);
    let pieces = [frame, "the ".into(), "file".into()].map(|bytes| PeerInput::Bytes(exchange, bytes));
    let effects = step(&mut world, pieces.into_iter().chain([PeerInput::End(exchange)]));
    assert_eq!(file_in(&effects), "the file.");
}

#[test]
fn a_file_that_pauses_is_given_up_and_one_that_is_restored_has_more_time() {
    let mut world = World::new(2);
    let (exchange, frame) = begin(&mut world);
    step(&mut world, [PeerInput::Bytes(exchange, frame)]);
    world.now = world.now + (PEER_READ_PATIENCE - A_LITTLE);
    let effects = step(&mut world, [PeerInput::Bytes(exchange, "more".into())]);
    assert!(!is_cut(&effects, exchange));
    world.now = world.now + (PEER_READ_PATIENCE - A_LITTLE);
    let effects = step(&mut world, [PeerInput::End(exchange)]);
    assert!(!is_cut(&effects, exchange));
    world.now = world.now + (PEER_SNAPSHOT_PATIENCE - A_LITTLE);
    assert!(!is_cut(&step(&mut world, [PeerInput::Wake]), exchange));
    world.now = world.now + A_LITTLE;
    assert!(is_cut(&step(&mut world, [PeerInput::Wake]), exchange));
    let (exchange, frame) = begin(&mut world);
    step(&mut world, [PeerInput::Bytes(exchange, frame)]);
    world.now = world.now + PEER_READ_PATIENCE;
    assert!(is_cut(&step(&mut world, [PeerInput::Wake]), exchange));
}
