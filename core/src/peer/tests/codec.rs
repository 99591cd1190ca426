//! Both encodings: their exact bytes, frames that arrive in pieces of any size, and bytes that are not frames.

use bytes::{Bytes, BytesMut};

use super::{append, heartbeat};
use crate::id::MemberId;
use crate::peer::message::link_heartbeat;
use crate::peer::{AppendDecoder, AppendEncoder, BadFrame, MessageDecoder, encode_message};
use crate::proto::raftpb::Message;
use crate::random::Prng;

fn appends(messages: &[Message]) -> Bytes {
    let mut encoder = AppendEncoder::default();
    let mut out = BytesMut::new();
    for message in messages {
        encoder.encode(message.clone(), &mut out);
    }
    out.freeze()
}

/// Passes bytes on in pieces of random sizes.
fn in_pieces(
    mut bytes: Bytes,
    prng: &mut Prng,
    mut take: impl FnMut(Bytes) -> Result<(), BadFrame>,
) -> Result<(), BadFrame> {
    while !bytes.is_empty() {
        let piece = prng.range(1..bytes.len().min(40) as u64 + 1) as usize;
        take(bytes.split_to(piece))?;
    }
    Ok(())
}

/// The messages of the append encoding, decoded from pieces.
fn read_appends(bytes: Bytes, prng: &mut Prng) -> Result<Vec<Message>, BadFrame> {
    let mut decoder = AppendDecoder::new(MemberId(2), MemberId(1));
    let mut messages = Vec::new();
    in_pieces(bytes, prng, |piece| {
        decoder.push(piece);
        while let Some(message) = decoder.next_message()? {
            messages.push(message);
        }
        Ok(())
    })?;
    Ok(messages)
}

/// The messages of the message encoding, decoded from pieces.
fn read_messages(bytes: Bytes, prng: &mut Prng) -> Result<Vec<Message>, BadFrame> {
    let mut decoder = MessageDecoder::default();
    let mut messages = Vec::new();
    in_pieces(bytes, prng, |piece| {
        decoder.push(piece);
        while let Some(message) = decoder.next_message()? {
            messages.push(message);
        }
        Ok(())
    })?;
    Ok(messages)
}

#[test]
fn the_first_append_of_a_connection_is_whole_and_the_next_ones_are_short() {
    let bytes = appends(&[
        append(3, 7, &[1]),
        append(3, 8, &[2]),
        link_heartbeat(),
        append(3, 9, &[]),
    ]);
    let message = prost::Message::encode_to_vec(&append(3, 7, &[1]));
    let mut expected = vec![2];
    expected.extend((message.len() as u64).to_be_bytes());
    expected.extend(&message);
    // One entry of term 3 and index 9 with two bytes, then the commit index.
    expected.push(1);
    expected.extend(1_u64.to_be_bytes());
    expected.extend(8_u64.to_be_bytes());
    expected.extend([0x10, 3, 0x18, 9, 0x22, 2, 9, 9]);
    expected.extend(8_u64.to_be_bytes());
    // The heartbeat of the link.
    expected.push(0);
    // No entry, and the commit index.
    expected.push(1);
    expected.extend(0_u64.to_be_bytes());
    expected.extend(9_u64.to_be_bytes());
    assert_eq!(bytes, expected);
}

#[test]
fn an_append_that_does_not_continue_the_last_one_is_whole() {
    let is_whole = |second: Message| {
        let first = appends(&[append(3, 7, &[1])]).len();
        appends(&[append(3, 7, &[1]), second])[first] == 2
    };
    assert!(!is_whole(append(3, 8, &[1])));
    assert!(is_whole(append(3, 7, &[1])), "it goes back");
    assert!(is_whole(append(3, 9, &[1])), "it leaves out an entry");
    assert!(is_whole(append(4, 8, &[1])), "another term");
    let of_an_older_term = Message {
        term: 4,
        ..append(3, 8, &[1])
    };
    assert!(is_whole(of_an_older_term), "the entry before it is of an older term");
    let with_context = Message {
        context: "c".into(),
        ..append(3, 8, &[1])
    };
    assert!(is_whole(with_context), "the short form has no place for a context");
}

#[test]
fn appends_read_back_however_they_are_cut() {
    for seed in 0..200 {
        let mut prng = Prng::new(seed);
        let mut messages = Vec::new();
        let (mut term, mut last) = (1, 0);
        for _ in 0..prng.range(1..30) {
            match prng.below(6) {
                0 => messages.push(link_heartbeat()),
                1 => {
                    term += 1;
                    last = prng.below(last + 2);
                }
                _ => {
                    let sizes: Vec<usize> = (0..prng.below(4)).map(|_| prng.below(200) as usize).collect();
                    messages.push(append(term, last, &sizes));
                    last += sizes.len() as u64;
                }
            }
        }
        let read = read_appends(appends(&messages), &mut prng).unwrap();
        assert_eq!(read, messages, "seed {seed}");
    }
}

#[test]
fn messages_have_their_length_before_them_and_read_back_however_they_are_cut() {
    let mut out = BytesMut::new();
    encode_message(heartbeat(5), &mut out);
    let message = prost::Message::encode_to_vec(&heartbeat(5));
    assert_eq!(out[..8], (message.len() as u64).to_be_bytes());
    assert_eq!(out[8..], message);
    for seed in 0..50 {
        let mut prng = Prng::new(seed);
        let messages: Vec<Message> = (0..10)
            .map(|index| match prng.below(3) {
                0 => link_heartbeat(),
                1 => append(3, index, &[prng.below(300) as usize]),
                _ => heartbeat(index),
            })
            .collect();
        let mut out = BytesMut::new();
        for message in &messages {
            encode_message(message.clone(), &mut out);
        }
        assert_eq!(read_messages(out.freeze(), &mut prng).unwrap(), messages);
    }
}

#[test]
fn no_field_that_etcd_lacks_is_sent() {
    let mut message = append(3, 7, &[1]);
    message.commit_term = 9;
    message.priority = 9;
    message.request_snapshot = 9;
    message.entries[0].context = "c".into();
    message.entries[0].sync_log = true;
    assert_eq!(appends(&[message.clone()]), appends(&[append(3, 7, &[1])]));
    let mut out = BytesMut::new();
    encode_message(message, &mut out);
    let mut expected = BytesMut::new();
    encode_message(append(3, 7, &[1]), &mut expected);
    assert_eq!(out, expected);
}

#[test]
fn etcds_bytes_with_zeros_written_out_are_read() {
    // A heartbeat as etcd 3.5 writes it: every number, also 0, and an empty snapshot.
    let body = [
        0x08, 8, 0x10, 2, 0x18, 1, 0x20, 3, 0x28, 0, 0x30, 0, 0x40, 5, 0x4a, 8, 0x12, 6, 0x0a, 2, 0x28, 0, 0x10, 0,
        0x50, 0, 0x58, 0,
    ];
    let mut bytes = (body.len() as u64).to_be_bytes().to_vec();
    bytes.extend(body);
    let mut decoder = MessageDecoder::default();
    decoder.push(bytes.into());
    let message = decoder.next_message().unwrap().unwrap();
    assert_eq!((message.from, message.to, message.term, message.commit), (1, 2, 3, 5));
}

#[test]
fn bytes_that_are_not_a_frame_are_an_error_that_names_the_reason() {
    let mut prng = Prng::new(1);
    let huge = u64::MAX.to_be_bytes();
    for (bytes, words) in [
        (vec![7], "unknown kind"),
        ([&[2][..], &huge].concat(), "bytes, where"),
        ([&[1][..], &1_u64.to_be_bytes(), &huge].concat(), "bytes, where"),
        ([&[2][..], &1_u64.to_be_bytes(), &[0xff]].concat(), "not a raft message"),
        (
            [&[1][..], &1_u64.to_be_bytes(), &1_u64.to_be_bytes(), &[0xff]].concat(),
            "not an entry",
        ),
    ] {
        let error = read_appends(bytes.into(), &mut prng).unwrap_err();
        assert!(error.0.contains(words), "{error}");
    }
    assert!(read_messages(huge.to_vec().into(), &mut prng).is_err());
}
