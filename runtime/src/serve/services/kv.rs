//! The KV service.
//!
//! A read never leaves the caller's task, but for one question whether the view is new enough, if that is asked for.

use std::borrow::Cow;
use std::fmt;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use quoin_core::error::Error;
use quoin_core::node::Request;
use quoin_core::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};
use quoin_core::store::{Response as Applied, View, check};
use quoin_core::time::Instant;

use super::propose;
use crate::serve::grpc::Answer;
use crate::serve::grpc::call::Call;
use crate::serve::grpc::message::{Encoding, plain_prefix};
use crate::serve::grpc::status::Status;
use crate::serve::reply::Source;
use crate::serve::{Context, facts};

/// Encoded size above which a range is sent in pieces that are made when the client has room for them.
const WHOLE_RANGE_BYTES_MAX: usize = 256 * 1024;

/// Keys above which a range is walked on a lane, so that the worker's other connections do not wait for it.
const LONG_RANGE_KEYS: i64 = 5_000;

/// Size of such a piece, but for the last key in it.
const PIECE_BYTES: usize = 64 * 1024;

/// Answers a range.
pub(crate) async fn range_answer(call: &Call, encoding: Encoding, request: RangeRequest) -> Result<Answer, Status> {
    let response = range(&call.context, &request).await?;
    let length = response.encoded_len();
    if encoding == Encoding::Identity && length > WHOLE_RANGE_BYTES_MAX {
        call.sent(length);
        return Ok(Answer::Finite(Box::new(Pieces::new(response, length))));
    }
    Ok(Answer::Message(call.encode(&response, encoding)))
}

async fn range(context: &Context, request: &RangeRequest) -> Result<RangeResponse, Status> {
    check::range(request)?;
    if !request.serializable {
        if facts::is_learner(context) {
            return Err(Error::NotSupportedForLearner.into());
        }
        facts::confirm_read(context).await?;
    }
    if is_long(&context.node.published().view, request) && context.compute.has_room() {
        return long_range(context, request).await;
    }
    let began = context.clock.now();
    let published = context.node.published();
    let result = published.view.range(request);
    measure(context, request, began, result.is_ok());
    let mut response = result?;
    facts::complete_from(context, &published, &mut response.header);
    Ok(response)
}

/// Whether a range may walk so many keys that the worker's other connections would notice.
fn is_long(view: &View, request: &RangeRequest) -> bool {
    let is_limited = (1..=LONG_RANGE_KEYS).contains(&request.limit);
    let keys = i64::try_from(view.kv.key_count()).unwrap_or(i64::MAX);
    if request.range_end.is_empty() || request.count_only || is_limited || keys <= LONG_RANGE_KEYS {
        return false;
    }
    if request.revision > 0 {
        return true;
    }
    // At the newest revision counting is cheap.
    let count = RangeRequest {
        key: request.key.clone(),
        range_end: request.range_end.clone(),
        count_only: true,
        ..RangeRequest::default()
    };
    view.kv
        .range(&count)
        .is_ok_and(|counted| counted.count > LONG_RANGE_KEYS)
}

/// Walks a long range on the lane for long computations.
async fn long_range(context: &Context, request: &RangeRequest) -> Result<RangeResponse, Status> {
    let began = context.clock.now();
    let view = context.node.published().view.clone();
    let asked = request.clone();
    let result = context.compute.run(move || view.range(&asked)).await?;
    measure(context, request, began, result.is_ok());
    let mut response = result?;
    facts::complete(context, &mut response.header);
    Ok(response)
}

fn measure(context: &Context, request: &RangeRequest, began: Instant, succeeded: bool) {
    let took = context.clock.now().saturating_since(began);
    let server = &context.metrics.server;
    let seconds = if succeeded {
        &server.range_seconds
    } else {
        &server.range_failed_seconds
    };
    seconds.observe(took.as_secs_f64());
    context.metrics.mvcc.ranges.inc();
    if took > context.settings.warning_apply_duration {
        slow(context, took, request);
    }
}

fn slow(context: &Context, took: Duration, request: &RangeRequest) {
    context.metrics.server.slow_applies.inc();
    tracing::warn!(
        took = ?took,
        "expected-duration" = ?context.settings.warning_apply_duration,
        prefix = "read-only range ",
        request = %format_args!(
            "key:\"{}\" range_end:\"{}\" limit:{}",
            request.key.escape_ascii(),
            request.range_end.escape_ascii(),
            request.limit
        ),
        "apply request took too long"
    );
}

/// Writes a key.
pub(crate) async fn put(context: &Context, request: PutRequest) -> Result<PutResponse, Status> {
    check::put(&request)?;
    match propose(context, Request::Put(request)).await? {
        Applied::Put(mut response) => {
            facts::complete(context, &mut response.header);
            Ok(response)
        }
        other => Err(unexpected(&other)),
    }
}

/// Deletes a range of keys.
pub(crate) async fn delete_range(
    context: &Context,
    request: DeleteRangeRequest,
) -> Result<DeleteRangeResponse, Status> {
    check::delete_range(&request)?;
    match propose(context, Request::DeleteRange(request)).await? {
        Applied::DeleteRange(mut response) => {
            facts::complete(context, &mut response.header);
            Ok(response)
        }
        other => Err(unexpected(&other)),
    }
}

/// Compares and then does one thing or the other.
pub(crate) async fn txn(context: &Context, request: TxnRequest) -> Result<TxnResponse, Status> {
    check::txn(&request, context.settings.max_txn_ops)?;
    let mut response = if check::is_read_only(&request) {
        if !check::is_serializable(&request) {
            facts::confirm_read(context).await?;
        }
        context.node.published().view.txn(&request)?
    } else {
        match propose(context, Request::Txn(request)).await? {
            Applied::Txn(response) => response,
            other => return Err(unexpected(&other)),
        }
    };
    context.metrics.mvcc.txns.inc();
    facts::complete(context, &mut response.header);
    Ok(response)
}

/// Forgets history before a revision.
pub(crate) async fn compact(context: &Context, request: CompactionRequest) -> Result<CompactionResponse, Status> {
    match propose(context, Request::Compact(request)).await? {
        Applied::Compact(mut response) => {
            // The revision after the wait, as in etcd.
            response.header = None;
            facts::complete(context, &mut response.header);
            Ok(response)
        }
        other => Err(unexpected(&other)),
    }
}

/// The node answered something else than was asked.
pub(crate) fn unexpected(response: &impl fmt::Debug) -> Status {
    let message = Cow::Owned(format!("unexpected answer of the node: {response:?}"));
    Status {
        code: crate::serve::grpc::status::INTERNAL,
        message,
    }
}

/// A long range's encoding, piece by piece. Until a piece is made it costs only what it shares with the view.
struct Pieces {
    response: RangeResponse,
    /// What goes before the next keys.
    head: Vec<u8>,
    next_kv: usize,
    ended: bool,
}

impl Pieces {
    fn new(mut response: RangeResponse, length: usize) -> Self {
        let mut head = plain_prefix(length).to_vec();
        if let Some(header) = response.header.take() {
            prost::encoding::message::encode(1, &header, &mut head);
        }
        Self {
            response,
            head,
            next_kv: 0,
            ended: false,
        }
    }
}

impl Source for Pieces {
    fn poll_bytes(&mut self, _: &mut TaskContext<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut piece = std::mem::take(&mut self.head);
        piece.reserve(PIECE_BYTES);
        while let Some(kv) = self.response.kvs.get_mut(self.next_kv) {
            if piece.len() >= PIECE_BYTES {
                return Poll::Ready(Some(Ok(piece.into())));
            }
            // What was encoded is let go of.
            prost::encoding::message::encode(2, &std::mem::take(kv), &mut piece);
            self.next_kv += 1;
        }
        self.response.kvs = Vec::new();
        // What is left are the fields after the keys.
        self.response.encode_raw(&mut piece);
        self.ended = true;
        Poll::Ready(Some(Ok(piece.into())))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use quoin_core::proto::etcdserverpb::ResponseHeader;
    use quoin_core::proto::mvccpb::KeyValue;

    use super::*;

    #[test]
    fn the_pieces_of_a_range_are_its_encoding() {
        for (keys, value_bytes) in [(0, 0), (1, 10), (5_000, 100), (3, 200_000)] {
            let kv = |number: usize| KeyValue {
                key: format!("key{number}").into(),
                value: vec![b'v'; value_bytes].into(),
                mod_revision: 7,
                ..KeyValue::default()
            };
            let response = RangeResponse {
                header: Some(ResponseHeader {
                    revision: 9,
                    ..ResponseHeader::default()
                }),
                kvs: (0..keys).map(kv).collect(),
                more: true,
                count: 5_001,
            };
            let mut expected = plain_prefix(response.encoded_len()).to_vec();
            response.encode_raw(&mut expected);
            let mut pieces = Pieces::new(response.clone(), response.encoded_len());
            let mut found = Vec::new();
            while let Poll::Ready(Some(piece)) = pieces.poll_bytes(&mut TaskContext::from_waker(Waker::noop())) {
                let piece = piece.unwrap();
                assert!(piece.len() < PIECE_BYTES + value_bytes + 100, "a piece is bounded");
                found.extend_from_slice(&piece);
            }
            assert!(found == expected, "{keys} keys of {value_bytes} bytes");
        }
    }
}
