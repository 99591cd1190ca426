//! Damage of bytes such that a decoder must notice it.

use bytes::{BufMut as _, Bytes, BytesMut};
use quoin_core::random::Prng;

use super::Way;

/// Kinds of frames in the stream of appends: these and no others.
const KINDS: u8 = 3;
/// A tag that no message of Protocol Buffers has: field 0, wire type 7.
const NO_TAG: u8 = 7;

/// Bytes that begin with a frame, with its kind or its length garbled.
pub(super) fn garbled(prng: &mut Prng, way: Way, bytes: &Bytes) -> Bytes {
    let mut garbled = BytesMut::from(&bytes[..]);
    if let Some(first) = garbled.first_mut() {
        *first = match way {
            Way::Appends => KINDS + below(prng, u8::MAX - KINDS),
            // A length of eight bytes, far beyond every limit.
            Way::Messages | Way::Snapshot => 0x80 | below(prng, 0x80),
            Way::Post | Way::Version => NO_TAG,
        };
    }
    garbled.freeze()
}

/// Bytes before which another frame begins that never ends, or bytes that are no frame.
pub(super) fn spliced(prng: &mut Prng, way: Way) -> Bytes {
    let mut bytes = BytesMut::new();
    let rest = 1 + usize::from(below(prng, 40));
    let is_frame = prng.below(2) == 0;
    match way {
        Way::Appends if is_frame => {
            // A whole message of more bytes than follow, or more entries than follow.
            bytes.put_u8(1 + below(prng, 2));
            bytes.put_u64(100 + prng.below(1_000_000));
            bytes.put_bytes(0, rest);
        }
        Way::Messages | Way::Snapshot if is_frame => {
            bytes.put_u64(100 + prng.below(1_000_000));
            bytes.put_bytes(below(prng, u8::MAX), rest);
        }
        Way::Appends | Way::Messages | Way::Snapshot => bytes.put_bytes(0xff, rest.max(8)),
        Way::Post | Way::Version => bytes.put_bytes(NO_TAG, rest),
    }
    bytes.freeze()
}

fn below(prng: &mut Prng, bound: u8) -> u8 {
    u8::try_from(prng.below(u64::from(bound))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use quoin_core::id::MemberId;
    use quoin_core::peer::{AppendDecoder, AppendEncoder, MessageDecoder, encode_message};
    use quoin_core::proto::raftpb::{Message, MessageType};

    use super::*;

    fn append() -> Message {
        Message {
            msg_type: MessageType::MsgAppend as i32,
            from: 1,
            to: 2,
            term: 3,
            ..Message::default()
        }
    }

    /// The number of messages that a decoder takes from damaged bytes, or none if it refuses them.
    fn decoded(way: Way, bytes: Bytes) -> Option<usize> {
        let mut count = 0;
        if way == Way::Appends {
            let mut decoder = AppendDecoder::new(MemberId(2), MemberId(1));
            decoder.push(bytes);
            while decoder.next_message().ok()?.is_some() {
                count += 1;
            }
        } else {
            let mut decoder = MessageDecoder::default();
            decoder.push(bytes);
            while decoder.next_message().ok()?.is_some() {
                count += 1;
            }
        }
        Some(count)
    }

    #[test]
    fn no_decoder_takes_a_message_from_damaged_bytes() {
        let prng = &mut Prng::new(1);
        let (mut appends, mut messages) = (BytesMut::new(), BytesMut::new());
        AppendEncoder::default().encode(append(), &mut appends);
        encode_message(append(), &mut messages);
        for _ in 0..1_000 {
            assert_eq!(
                decoded(Way::Appends, garbled(prng, Way::Appends, &appends.clone().freeze())),
                None
            );
            assert_eq!(
                decoded(Way::Messages, garbled(prng, Way::Messages, &messages.clone().freeze())),
                None
            );
            for way in [Way::Appends, Way::Messages] {
                assert_eq!(decoded(way, spliced(prng, way)).unwrap_or(0), 0, "{way:?}");
            }
        }
    }
}
