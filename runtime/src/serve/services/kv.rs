//! The KV service.
//!
//! A read never waits for the node, but for one question whether the view is new enough, if that is asked for. A short
//! one is answered on the caller's task. A long one goes on in the lane for computations after its first rows.

use std::borrow::Cow;
use std::fmt;

use hyper::body::Incoming;
use quoin_core::error::Error;
use quoin_core::limits::{READ_INLINE_ROWS, READ_SLICE_ROWS};
use quoin_core::mvcc::{Found, Scan};
use quoin_core::node::Request;
use quoin_core::proto::etcdserverpb::response_op::Response as OpResponse;
use quoin_core::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, PutRequest, PutResponse, RangeRequest, TxnRequest,
    TxnResponse,
};
use quoin_core::store::{KeyCounts, Response as Applied, TxnFound, TxnScan, View, check};
use quoin_core::time::Instant;

use super::{propose, propose_heavy};
use crate::serve::grpc::Answer;
use crate::serve::grpc::call::Call;
use crate::serve::grpc::message::{self, Encoding, Messages};
use crate::serve::grpc::method::Kind;
use crate::serve::grpc::status::Status;
use crate::serve::pieces::Parts;
use crate::serve::{Context, facts};

/// Answers a range.
pub(crate) async fn range(call: &Call, encoding: Encoding, request: RangeRequest) -> Result<Answer, Status> {
    check::range(&request)?;
    let context = &*call.context;
    if !request.serializable {
        if facts::is_learner(context) {
            return Err(Error::NotSupportedForLearner.into());
        }
        facts::confirm_read(context).await?;
    }
    let began = context.clock.now();
    if request.range_end.is_empty() {
        let published = context.node.published();
        let result = published.view.range(&request);
        measure(context, &request, began, result.is_ok());
        let mut response = result?;
        facts::complete_from(context, &published, &mut response.header);
        return Ok(Answer::Message(call.encode(&response, encoding)));
    }
    let view = context.node.published().view.clone();
    let result = read_range(context, &view, &request).await;
    measure(context, &request, began, result.is_ok());
    let mut header = Some(view.header());
    facts::complete(context, &mut header);
    Parts::of_range(header.unwrap_or_default(), result?).answer(call, encoding)
}

async fn read_range(context: &Context, view: &View, request: &RangeRequest) -> Result<Found, Error> {
    let mut scan = Scan::new(&view.kv, request)?;
    if scan.step(READ_INLINE_ROWS) {
        return Ok(scan.finish());
    }
    let mut scan = Some(scan);
    let step = move || {
        let is_over = scan.as_mut().is_none_or(|scan| scan.step(READ_SLICE_ROWS));
        if is_over { scan.take().map(Scan::finish) } else { None }
    };
    context.compute.steps(step).await
}

fn measure(context: &Context, request: &RangeRequest, began: Instant, succeeded: bool) {
    let took = context.clock.now().saturating_since(began);
    context.metrics.range_took(took, succeeded);
    context.metrics.mvcc.ranges.inc();
    facts::note_if_slow(
        context,
        took,
        "read-only range ",
        format_args!(
            "key:\"{}\" range_end:\"{}\" limit:{}",
            request.key.escape_ascii(),
            request.range_end.escape_ascii(),
            request.limit
        ),
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
    call: &Call,
    encoding: Encoding,
    request: DeleteRangeRequest,
) -> Result<Answer, Status> {
    check::delete_range(&request)?;
    let context = &*call.context;
    let rows = context.node.published().view.rows_to_delete(&request);
    match propose_heavy(context, rows, Request::DeleteRange(request)).await? {
        Applied::DeleteRange(mut response) => {
            facts::complete(context, &mut response.header);
            if response.prev_kvs.len() <= READ_INLINE_ROWS {
                return Parts::of_deletion(response).answer(call, encoding);
            }
            let parts = context.compute.run(move || Parts::of_deletion(response)).await?;
            parts.answer(call, encoding)
        }
        other => Err(unexpected(&other)),
    }
}

/// Bytes of a transaction from which it is decoded and checked in the lane: it may be made of very many operations.
const LONG_TXN_BYTES: usize = 64 * 1024;

/// Receives a transaction and checks what it alone shows.
async fn receive_txn(call: &Call, messages: &mut Messages<Incoming>) -> Result<TxnRequest, Status> {
    let max_ops = call.context.settings.max_txn_ops;
    let message = call.receive_bytes(messages).await?;
    let is_long = message.len() > LONG_TXN_BYTES;
    let read = move || {
        let request: TxnRequest = message::decode(message, Kind::Unary)?;
        Ok::<_, Status>(check::txn(&request, max_ops).map(|()| request))
    };
    let checked = if is_long {
        call.context.compute.run(read).await??
    } else {
        read()?
    };
    call.count_request();
    Ok(checked?)
}

/// Compares and then does one thing or the other.
pub(crate) async fn txn(call: &Call, encoding: Encoding, messages: &mut Messages<Incoming>) -> Result<Answer, Status> {
    let request = receive_txn(call, messages).await?;
    let context = &*call.context;
    if check::is_read_only(&request) {
        if !check::is_serializable(&request) {
            facts::confirm_read(context).await?;
        }
        let view = context.node.published().view.clone();
        let (compares, began) = (request.compare.len(), context.clock.now());
        let found = read_txn(context, &view, request).await;
        let took = context.clock.now().saturating_since(began);
        facts::note_if_slow(context, took, "read-only txn ", format_args!("compares:{compares}"));
        let mut header = Some(view.header());
        facts::complete(context, &mut header);
        return Parts::of_read_txn(header.unwrap_or_default(), found?).answer(call, encoding);
    }
    let rows = context.node.published().view.check_txn(&request)?;
    let mut response = match propose_heavy(context, rows, Request::Txn(request)).await? {
        Applied::Txn(response) => response,
        other => return Err(unexpected(&other)),
    };
    facts::complete(context, &mut response.header);
    if pairs_of(&response) <= READ_INLINE_ROWS {
        return Parts::of_txn(response).answer(call, encoding);
    }
    let parts = context.compute.run(move || Parts::of_txn(response)).await?;
    parts.answer(call, encoding)
}

async fn read_txn(context: &Context, view: &View, request: TxnRequest) -> Result<TxnFound, Error> {
    let mut scan = Some(TxnScan::new(view, request));
    let mut step = move |rows| {
        let ended = scan.as_mut()?.step(rows);
        if ended == Ok(false) {
            return None;
        }
        let scan = scan.take()?;
        let mut counts = KeyCounts::default();
        counts.add_transaction(scan.counts());
        Some((counts, ended.map(|_| scan.finish())))
    };
    let (counts, found) = match step(READ_INLINE_ROWS) {
        Some(ended) => ended,
        None => context.compute.steps(move || step(READ_SLICE_ROWS)).await?,
    };
    context.metrics.count_keys(&counts);
    found
}

/// How many pairs a response holds, and operations.
fn pairs_of(response: &TxnResponse) -> usize {
    let of = |op: &Option<OpResponse>| match op {
        Some(OpResponse::ResponseRange(range)) => range.kvs.len(),
        Some(OpResponse::ResponseDeleteRange(deleted)) => deleted.prev_kvs.len(),
        Some(OpResponse::ResponseTxn(nested)) => pairs_of(nested),
        Some(OpResponse::ResponsePut(_)) | None => 0,
    };
    response.responses.iter().map(|op| 1 + of(&op.response)).sum()
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
