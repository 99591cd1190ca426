//! Answers of many pairs: their length is known before they are encoded, and a long one is encoded piece by piece as
//! its client reads it. Until then its rows are shared with the view.

use std::collections::VecDeque;
use std::mem;
use std::task::{Context as TaskContext, Poll};
use std::vec;

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use quoin_core::limits::{MAX_SEND_BYTES, MESSAGE_PIECE_BYTES, WHOLE_MESSAGE_BYTES};
use quoin_core::mvcc::Found;
use quoin_core::proto::etcdserverpb::response_op::Response;
use quoin_core::proto::etcdserverpb::{DeleteRangeResponse, RangeResponse, ResponseHeader, ResponseOp, TxnResponse};
use quoin_core::proto::mvccpb::KeyValue;
use quoin_core::store::TxnFound;

use super::grpc::Payload;
use super::grpc::message::{Encoding, frame, plain_prefix};
use super::grpc::status::{RESOURCE_EXHAUSTED, Status};
use super::reply::Source;

/// Field numbers of etcd's messages.
const RANGE_PAIRS: u32 = 2;
const DELETED_PAIRS: u32 = 3;
const TXN_RESPONSES: u32 = 3;
const OP_RANGE: u32 = 1;
const OP_PUT: u32 = 2;
const OP_DELETE: u32 = 3;
const OP_TXN: u32 = 4;

/// A message in parts, and its length.
#[derive(Default)]
pub(crate) struct Parts {
    list: VecDeque<Part>,
    length: usize,
}

enum Part {
    /// Encoded bytes.
    Bytes(Vec<u8>),
    /// The pairs that a read found.
    Found(Found),
    /// Pairs, each to be encoded as the field of this number.
    Pairs(u32, vec::IntoIter<KeyValue>),
}

impl Parts {
    /// The answer to a range.
    pub(crate) fn of_range(header: ResponseHeader, found: Found) -> Self {
        let (more, count) = (found.more, found.count);
        let mut parts = Self::default();
        parts.message(&RangeResponse {
            header: Some(header),
            ..RangeResponse::default()
        });
        parts.length += found.pair_bytes();
        parts.list.push_back(Part::Found(found));
        parts.message(&RangeResponse {
            more,
            count,
            ..RangeResponse::default()
        });
        parts
    }

    /// The answer to a read-only transaction.
    pub(crate) fn of_read_txn(header: ResponseHeader, found: TxnFound) -> Self {
        let revision = found.revision;
        let mut parts = Self::default();
        parts.message(&TxnResponse {
            header: Some(header),
            succeeded: found.succeeded,
            responses: Vec::new(),
        });
        for range in found.ranges {
            let header = ResponseHeader {
                revision,
                ..ResponseHeader::default()
            };
            let mut op = Self::default();
            op.nest(OP_RANGE, Self::of_range(header, range));
            parts.nest(TXN_RESPONSES, op);
        }
        parts
    }

    /// The answer to a transaction that was applied.
    pub(crate) fn of_txn(response: TxnResponse) -> Self {
        let mut parts = Self::default();
        parts.message(&TxnResponse {
            header: response.header,
            succeeded: response.succeeded,
            responses: Vec::new(),
        });
        for ResponseOp { response } in response.responses {
            let mut op = Self::default();
            match response {
                Some(Response::ResponseRange(mut range)) => {
                    let kvs = mem::take(&mut range.kvs);
                    let mut inner = Self::default();
                    inner.message(&RangeResponse {
                        header: range.header.take(),
                        ..RangeResponse::default()
                    });
                    inner.pairs(RANGE_PAIRS, kvs);
                    inner.message(&range);
                    op.nest(OP_RANGE, inner);
                }
                Some(Response::ResponsePut(put)) => {
                    let mut inner = Self::default();
                    inner.message(&put);
                    op.nest(OP_PUT, inner);
                }
                Some(Response::ResponseDeleteRange(deleted)) => op.nest(OP_DELETE, Self::of_deletion(deleted)),
                Some(Response::ResponseTxn(nested)) => op.nest(OP_TXN, Self::of_txn(nested)),
                None => {}
            }
            parts.nest(TXN_RESPONSES, op);
        }
        parts
    }

    /// The answer to a deletion.
    pub(crate) fn of_deletion(mut response: DeleteRangeResponse) -> Self {
        let kvs = mem::take(&mut response.prev_kvs);
        let mut parts = Self::default();
        parts.message(&response);
        parts.pairs(DELETED_PAIRS, kvs);
        parts
    }

    /// The body of the answer: one message, or one that is made as the client reads it; and its length without the
    /// prefix.
    ///
    /// # Errors
    /// If the message is longer than gRPC allows, in grpc-go's words.
    pub(crate) fn payload(mut self, encoding: Encoding) -> Result<(usize, Payload), Status> {
        let length = self.length;
        if length > MAX_SEND_BYTES {
            let message = format!("trying to send message larger than max ({length} vs. {MAX_SEND_BYTES})");
            return Err(Status::new(RESOURCE_EXHAUSTED, message));
        }
        if length <= WHOLE_MESSAGE_BYTES {
            let write = |buffer: &mut Vec<u8>| while !self.write(buffer, usize::MAX) {};
            return Ok((length, Payload::Message(frame(length, encoding, write))));
        }
        self.list.push_front(Part::Bytes(plain_prefix(length).to_vec()));
        Ok((length, Payload::Finite(Box::new(Pieces(self)))))
    }

    /// Appends fields.
    fn message(&mut self, fields: &impl Message) {
        self.length += fields.encoded_len();
        if let Some(Part::Bytes(bytes)) = self.list.back_mut() {
            fields.encode_raw(bytes);
        } else {
            self.list.push_back(Part::Bytes(fields.encode_to_vec()));
        }
    }

    fn pairs(&mut self, field: u32, pairs: Vec<KeyValue>) {
        let length = |pair| prost::encoding::message::encoded_len(field, pair);
        self.length += pairs.iter().map(length).sum::<usize>();
        self.list.push_back(Part::Pairs(field, pairs.into_iter()));
    }

    /// Appends a message as a field.
    fn nest(&mut self, field: u32, mut inner: Self) {
        let mut head = Vec::new();
        encode_key(field, WireType::LengthDelimited, &mut head);
        encode_varint(inner.length as u64, &mut head);
        self.length += key_len(field) + encoded_len_varint(inner.length as u64) + inner.length;
        self.list.push_back(Part::Bytes(head));
        self.list.append(&mut inner.list);
    }

    /// Appends the next bytes until the buffer holds `until` bytes; true at the end of the message.
    fn write(&mut self, buffer: &mut Vec<u8>, until: usize) -> bool {
        while let Some(part) = self.list.front_mut() {
            if buffer.len() >= until {
                return false;
            }
            let is_over = match part {
                Part::Bytes(bytes) => {
                    buffer.extend_from_slice(bytes);
                    true
                }
                Part::Found(found) => found.encode(buffer, until),
                Part::Pairs(field, pairs) => {
                    // Each pair is dropped once it is encoded.
                    while buffer.len() < until
                        && let Some(pair) = pairs.next()
                    {
                        prost::encoding::message::encode(*field, &pair, buffer);
                    }
                    pairs.len() == 0
                }
            };
            if is_over {
                self.list.pop_front();
            }
        }
        true
    }
}

/// Encodes a message piece by piece.
struct Pieces(Parts);

impl Source for Pieces {
    fn poll_bytes(&mut self, _: &mut TaskContext<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        if self.0.list.is_empty() {
            return Poll::Ready(None);
        }
        let mut piece = Vec::with_capacity(MESSAGE_PIECE_BYTES);
        self.0.write(&mut piece, MESSAGE_PIECE_BYTES);
        Poll::Ready(Some(Ok(piece.into())))
    }
}

#[cfg(test)]
mod tests {
    use quoin_core::mvcc::{Mvcc, Scan};
    use quoin_core::proto::etcdserverpb::{PutResponse, RangeRequest};

    use super::*;

    const KEYS: usize = 5_000;

    fn store() -> Mvcc {
        let mut mvcc = Mvcc::new();
        let mut write = mvcc.begin();
        for key in 0..KEYS {
            write.put(format!("k{key:05}").into(), vec![b'v'; key % 300].into(), 0);
        }
        write.end(&mut Vec::new(), &mut Vec::new());
        mvcc
    }

    fn all() -> RangeRequest {
        RangeRequest {
            key: "k".into(),
            range_end: "l".into(),
            ..RangeRequest::default()
        }
    }

    fn header() -> ResponseHeader {
        ResponseHeader {
            revision: 2,
            raft_term: 7,
            ..ResponseHeader::default()
        }
    }

    /// Asserts that the pieces form the message, that its length is known before, and that pieces are bounded.
    fn assert_is(mut parts: Parts, expected: &impl Message) {
        assert_eq!(parts.length, expected.encoded_len());
        let mut found = Vec::new();
        while !parts.list.is_empty() {
            let mut piece = Vec::new();
            parts.write(&mut piece, MESSAGE_PIECE_BYTES);
            assert!(piece.len() < MESSAGE_PIECE_BYTES + 400, "a piece is bounded");
            found.extend_from_slice(&piece);
        }
        assert!(found == expected.encode_to_vec());
    }

    #[test]
    fn an_answer_in_pieces_equals_its_encoding() {
        let view = store().view();
        for request in [
            all(),
            RangeRequest { limit: 3, ..all() },
            RangeRequest {
                keys_only: true,
                ..all()
            },
        ] {
            let found = Scan::new(&view, &request).unwrap().finish();
            let expected = RangeResponse {
                header: Some(header()),
                ..view.range(&request).unwrap()
            };
            assert_is(Parts::of_range(header(), found), &expected);
        }
        let op = |response| ResponseOp {
            response: Some(response),
        };
        let range = view.range(&all()).unwrap();
        let deleted = DeleteRangeResponse {
            header: Some(header()),
            deleted: KEYS as i64,
            prev_kvs: range.kvs.clone(),
        };
        assert_is(Parts::of_deletion(deleted.clone()), &deleted);
        let nested = TxnResponse {
            header: Some(ResponseHeader::default()),
            succeeded: false,
            responses: vec![
                op(Response::ResponseRange(range.clone())),
                ResponseOp { response: None },
            ],
        };
        let put = PutResponse {
            header: Some(header()),
            prev_kv: range.kvs.first().cloned(),
        };
        let txn = TxnResponse {
            header: Some(header()),
            succeeded: true,
            responses: vec![
                op(Response::ResponsePut(put)),
                op(Response::ResponseDeleteRange(deleted)),
                op(Response::ResponseTxn(nested)),
                op(Response::ResponseRange(range)),
            ],
        };
        assert_is(Parts::of_txn(txn.clone()), &txn);
        assert_is(Parts::of_txn(TxnResponse::default()), &TxnResponse::default());
    }
}
