//! gRPC's length-prefixed messages: reading them from a body within a limit, and writing them.

use std::io::{Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http_body::Body;
use prost::{DecodeError, Message};
use quoin_core::api::Kind;
use quoin_core::limits::MAX_COMPRESS_BYTES;

use super::partial::{Partial, Partials};
use super::status::{INTERNAL, RESOURCE_EXHAUSTED, Status, UNIMPLEMENTED};

/// One byte for whether the message is compressed, and four for its length.
const PREFIX_BYTES: usize = 5;

/// The text for a body that ends within a message.
pub(crate) const UNEXPECTED_END: &str = "unexpected EOF";

/// The compression of a call's messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Encoding {
    /// None.
    Identity,
    /// With gzip.
    Gzip,
}

impl Encoding {
    /// The encoding that a `grpc-encoding` header names.
    pub(crate) fn parse(header: Option<&[u8]>) -> Result<Self, Status> {
        match header {
            None | Some(b"" | b"identity") => Ok(Self::Identity),
            Some(b"gzip") => Ok(Self::Gzip),
            Some(other) => {
                let name = String::from_utf8_lossy(other);
                let message = format!("grpc: Decompressor is not installed for grpc-encoding {name:?}");
                Err(Status::new(UNIMPLEMENTED, message))
            }
        }
    }
}

/// Reads the messages of one request body.
pub(crate) struct Messages<B> {
    body: B,
    /// Bytes that are read and not yet decoded: usually none, or one whole frame, which is not copied.
    buffer: Bytes,
    /// The memory of the buffer.
    held_bytes: usize,
    encoding: Encoding,
    /// Largest message, compressed or not.
    limit: usize,
    partials: Partials,
    /// The memory of an incomplete message.
    partial: Option<Partial>,
    ended: bool,
}

impl<B: Body<Data = Bytes, Error = Status> + Unpin> Messages<B> {
    pub(crate) fn new(body: B, encoding: Encoding, limit: usize, partials: Partials) -> Self {
        Self {
            body,
            buffer: Bytes::new(),
            held_bytes: 0,
            encoding,
            limit,
            partials,
            partial: None,
            ended: false,
        }
    }

    /// The next message's bytes, decompressed; `None` at the end of the body.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            match self.split_message() {
                Ok(None) => {}
                Ok(Some(message)) => {
                    self.partial = None;
                    return Poll::Ready(Some(Ok(message)));
                }
                Err(status) => return Poll::Ready(Some(Err(status))),
            }
            if self.ended {
                return Poll::Ready(self.leftover().map(Err));
            }
            ready!(self.poll_room(cx))?;
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => self.ended = true,
                Some(Ok(frame)) => {
                    // Trailers of a request have no meaning.
                    if let Ok(data) = frame.into_data() {
                        self.push(data);
                    }
                }
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
            }
        }
    }

    fn push(&mut self, data: Bytes) {
        if self.buffer.is_empty() {
            self.held_bytes = data.len();
            self.buffer = data;
            return;
        }
        // Copies the first part of a message only: afterwards the memory belongs to this buffer alone.
        let mut joined = BytesMut::from(std::mem::take(&mut self.buffer));
        joined.extend_from_slice(&data);
        self.held_bytes = joined.capacity();
        self.buffer = joined.freeze();
    }

    /// Ready when the next part of a message may be read: the bytes held count for the connection.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        if self.buffer.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.partial
            .get_or_insert_with(|| self.partials.begin())
            .poll_room(self.held_bytes, cx)
    }

    /// The error of a body that ends within a message. A body that ends within a message's prefix simply ends, as in
    /// grpc-go.
    fn leftover(&mut self) -> Option<Status> {
        let rest = self.buffer.len();
        self.buffer = Bytes::new();
        self.partial = None;
        (rest >= PREFIX_BYTES).then(|| Status::new(INTERNAL, UNEXPECTED_END))
    }

    fn split_message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(&[flag, ref length @ ..]) = self.buffer.first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if flag > 1 {
            return Err(Status::new(
                INTERNAL,
                format!("grpc: received unexpected payload format {flag}"),
            ));
        }
        if length > self.limit {
            let message = format!("grpc: received message larger than max ({length} vs. {})", self.limit);
            return Err(Status::new(RESOURCE_EXHAUSTED, message));
        }
        if self.buffer.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX_BYTES);
        let message = self.buffer.split_to(length);
        self.held_bytes = self.buffer.len();
        match (flag, self.encoding) {
            (0, _) => Ok(Some(message)),
            (_, Encoding::Gzip) => decompress(&message, self.limit).map(Some),
            (_, Encoding::Identity) => {
                let message = "grpc: compressed flag set with identity or empty encoding";
                Err(Status::new(INTERNAL, message))
            }
        }
    }
}

/// Inflates a message, which must not exceed the limit.
fn decompress(message: &[u8], limit: usize) -> Result<Bytes, Status> {
    let mut inflated = Vec::new();
    GzDecoder::new(message)
        .take(limit as u64 + 1)
        .read_to_end(&mut inflated)
        .map_err(|error| Status::new(INTERNAL, format!("grpc: failed to decompress the message: {error}")))?;
    if inflated.len() > limit {
        let message = format!("grpc: received message after decompression larger than max {limit}");
        return Err(Status::new(RESOURCE_EXHAUSTED, message));
    }
    Ok(inflated.into())
}

/// Decodes a request. Its byte strings share the message's memory.
pub(crate) fn decode<M: Message + Default>(message: Bytes, kind: Kind) -> Result<M, Status> {
    M::decode(message).map_err(|error| undecodable(&error, kind))
}

/// The status of a message that cannot be decoded, in grpc-go's words.
pub(crate) fn undecodable(error: &DecodeError, kind: Kind) -> Status {
    let what = match kind {
        Kind::Unary => "grpc: error unmarshalling request",
        Kind::ServerStream | Kind::BidiStream => "grpc: failed to unmarshal the received message",
    };
    Status::new(INTERNAL, format!("{what}: {error}"))
}

/// A response message with its prefix.
pub(crate) fn encode(message: &impl Message, encoding: Encoding) -> Bytes {
    frame(message.encoded_len(), encoding, |buffer| message.encode_raw(buffer))
}

/// A message of `length` bytes that `write` appends, with its prefix. A long one is never compressed: that takes too
/// long, and gRPC leaves the choice to the sender for each message.
pub(crate) fn frame(length: usize, encoding: Encoding, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut buffer = Vec::with_capacity(PREFIX_BYTES + length);
    buffer.extend_from_slice(&prefix(0, length));
    write(&mut buffer);
    match encoding {
        Encoding::Gzip if length <= MAX_COMPRESS_BYTES => compress(&buffer[PREFIX_BYTES..]),
        Encoding::Identity | Encoding::Gzip => buffer.into(),
    }
}

/// The prefix of a message that is not compressed.
pub(crate) fn plain_prefix(length: usize) -> [u8; PREFIX_BYTES] {
    prefix(0, length)
}

fn prefix(flag: u8, length: usize) -> [u8; PREFIX_BYTES] {
    // A range or a transaction answers with at most `MAX_SEND_BYTES`, and other messages are much shorter.
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [flag, a, b, c, d]
}

fn compress(message: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(vec![0; PREFIX_BYTES], Compression::fast());
    encoder.write_all(message).expect("memory takes all writes");
    let mut buffer = encoder.finish().expect("memory takes all writes");
    let length = buffer.len() - PREFIX_BYTES;
    buffer[..PREFIX_BYTES].copy_from_slice(&prefix(1, length));
    buffer.into()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use http_body::Frame;

    use super::*;

    /// A body of the given pieces.
    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    /// All messages of a body that arrives in pieces of `size`, or the error.
    fn read(body: &[u8], size: usize, encoding: Encoding, limit: usize) -> Result<Vec<Bytes>, Status> {
        let pieces = Pieces(body.chunks(size).map(Bytes::copy_from_slice).collect());
        let mut messages = Messages::new(pieces, encoding, limit, Partials::alone());
        let mut found = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(message)) = messages.poll_next(&mut cx) {
            found.push(message?);
        }
        Ok(found)
    }

    fn body_of(payloads: &[&[u8]], encoding: Encoding) -> Vec<u8> {
        let frame = |payload: &&[u8]| frame(payload.len(), encoding, |buffer| buffer.extend_from_slice(payload));
        payloads.iter().flat_map(frame).collect()
    }

    #[test]
    fn messages_are_read_from_a_body_in_pieces_of_any_size() {
        let payloads: [&[u8]; 4] = [b"one", b"", b"three", &[7; 300]];
        for encoding in [Encoding::Identity, Encoding::Gzip] {
            let body = body_of(&payloads, encoding);
            for size in [1, 2, 5, 7, 64, 1000] {
                assert_eq!(
                    read(&body, size, encoding, 300).unwrap(),
                    payloads,
                    "{encoding:?} in pieces of {size}"
                );
            }
        }
    }

    #[test]
    fn errors_of_a_frame_are_in_grpc_gos_words() {
        let bomb = body_of(&[&[0; 100_000]], Encoding::Gzip);
        let table: [(&[u8], Encoding, u8, &str); 5] = [
            (
                &[0, 0, 0, 4, 1],
                Encoding::Identity,
                8,
                "grpc: received message larger than max (1025 vs. 1024)",
            ),
            (
                &[2, 0, 0, 0, 0],
                Encoding::Identity,
                13,
                "grpc: received unexpected payload format 2",
            ),
            (&[0, 0, 0, 0, 9, 1], Encoding::Identity, 13, "unexpected EOF"),
            (
                &[1, 0, 0, 0, 0],
                Encoding::Identity,
                13,
                "grpc: compressed flag set with identity or empty encoding",
            ),
            (
                &bomb,
                Encoding::Gzip,
                8,
                "grpc: received message after decompression larger than max 1024",
            ),
        ];
        for (body, encoding, code, message) in table {
            assert_eq!(read(body, 64, encoding, 1024), Err(Status::new(code, message)));
        }
        assert_eq!(
            read(&[0, 0], 64, Encoding::Identity, 1024),
            Ok(vec![]),
            "cut within the prefix"
        );
        let garbage = read(&[1, 0, 0, 0, 2, 9, 9], 64, Encoding::Gzip, 1024).unwrap_err();
        assert_eq!(garbage.code, INTERNAL);
    }

    #[test]
    fn long_messages_are_not_compressed() {
        let flag = |length| frame(length, Encoding::Gzip, |buffer| buffer.resize(PREFIX_BYTES + length, 7))[0];
        assert_eq!(
            (flag(10), flag(MAX_COMPRESS_BYTES), flag(MAX_COMPRESS_BYTES + 1)),
            (1, 1, 0)
        );
        let long = vec![7; MAX_COMPRESS_BYTES + 1];
        let body = body_of(&[&long, b"short"], Encoding::Gzip);
        assert_eq!(
            read(&body, 1 << 16, Encoding::Gzip, 1 << 20).unwrap(),
            [&long[..], b"short"]
        );
    }

    #[test]
    fn a_whole_frame_is_not_copied() {
        let frame = Bytes::from(body_of(&[b"payload"], Encoding::Identity));
        let mut messages = Messages::new(
            Pieces([frame.clone()].into()),
            Encoding::Identity,
            64,
            Partials::alone(),
        );
        let Poll::Ready(Some(Ok(message))) = messages.poll_next(&mut Context::from_waker(Waker::noop())) else {
            panic!("the message is there");
        };
        assert_eq!(message.as_ptr(), frame[5..].as_ptr());
    }

    #[test]
    fn only_installed_encodings_are_accepted() {
        assert_eq!(Encoding::parse(None), Ok(Encoding::Identity));
        assert_eq!(Encoding::parse(Some(b"gzip")), Ok(Encoding::Gzip));
        let refused = Encoding::parse(Some(b"snappy")).unwrap_err();
        assert_eq!(refused.code, UNIMPLEMENTED);
        assert_eq!(
            refused.message,
            "grpc: Decompressor is not installed for grpc-encoding \"snappy\""
        );
    }
}
