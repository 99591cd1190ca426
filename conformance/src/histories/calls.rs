//! Converts the checker's requests and replies to messages on the wire, and back.

use std::net::SocketAddr;

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quoin_core::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseLeasesResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, RequestOp, ResponseHeader, TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest, request_op,
    response_op, watch_request,
};
use quoin_core::proto::mvccpb;
use quoin_model::call::Refusal;
use quoin_model::linear::kv::{KeyValue, Op, OpReply, Reply, Request};

use crate::diff::wire::{Exchange, NO_ANSWER, Wire, decoded, refusal};

const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// A connection that takes the checker's requests.
pub(crate) struct Caller(Wire);

impl Caller {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self, Refusal> {
        let wire = Wire::connect(address).await;
        wire.map(Self).map_err(|error| refusal(NO_ANSWER, &error.to_string()))
    }

    /// Sends a request about keys. `lease` is the lease of a put (0: none); `serializable` is for reads.
    pub(crate) async fn ask(&self, request: &Request, lease: i64, serializable: bool) -> Result<Reply, Refusal> {
        match request {
            Request::Compact { .. } => Err(refusal(NO_ANSWER, "histories compact nothing")),
            Request::One(op) => self.one(op, lease, serializable).await,
            Request::Txn {
                compare,
                success,
                failure,
            } => {
                let txn = TxnRequest {
                    compare: compare.iter().map(comparison).collect(),
                    success: success.iter().map(operation).collect(),
                    failure: failure.iter().map(operation).collect(),
                };
                let answer: TxnResponse = self.0.ask("/etcdserverpb.KV/Txn", &txn).await?;
                let replies = answer.responses.into_iter().map(|response| op_reply(response.response));
                Ok(Reply::Txn {
                    revision: revision(answer.header.as_ref())?,
                    succeeded: answer.succeeded,
                    replies: replies.collect::<Result<_, _>>()?,
                })
            }
        }
    }

    async fn one(&self, op: &Op, lease: i64, serializable: bool) -> Result<Reply, Refusal> {
        match op {
            Op::DeleteRange { .. } => {
                let answer: DeleteRangeResponse = self.0.ask("/etcdserverpb.KV/DeleteRange", &delete(op)).await?;
                let header = revision(answer.header.as_ref())?;
                one_reply(header, Some(response_op::Response::ResponseDeleteRange(answer)))
            }
            Op::Put { .. } => {
                let request = PutRequest { lease, ..put(op) };
                let answer: PutResponse = self.0.ask("/etcdserverpb.KV/Put", &request).await?;
                let header = revision(answer.header.as_ref())?;
                one_reply(header, Some(response_op::Response::ResponsePut(answer)))
            }
            Op::Range { .. } => {
                let request = RangeRequest {
                    serializable,
                    ..range(op)
                };
                let answer: RangeResponse = self.0.ask("/etcdserverpb.KV/Range", &request).await?;
                let header = revision(answer.header.as_ref())?;
                one_reply(header, Some(response_op::Response::ResponseRange(answer)))
            }
        }
    }

    /// Grants a lease and returns its TTL.
    pub(crate) async fn grant(&self, id: i64, ttl: i64) -> Result<i64, Refusal> {
        let request = LeaseGrantRequest { ttl, id };
        let answer: LeaseGrantResponse = self.0.ask("/etcdserverpb.Lease/LeaseGrant", &request).await?;
        if answer.id != id || !answer.error.is_empty() {
            return Err(refusal(
                NO_ANSWER,
                &format!("lease {id} was requested, the answer is {answer:?}"),
            ));
        }
        Ok(answer.ttl)
    }

    /// Renews a lease and returns its TTL from now; 0 if there is no such lease.
    pub(crate) async fn keep_alive(&self, id: i64) -> Result<i64, Refusal> {
        let mut exchange = self.0.call(KEEP_ALIVE, &LeaseKeepAliveRequest { id }, false).await?;
        let message = exchange.next().await?;
        let message = message.ok_or_else(|| refusal(NO_ANSWER, "the keep-alive ended without an answer"))?;
        let answer: LeaseKeepAliveResponse = decoded(message)?;
        Ok(answer.ttl)
    }

    /// The ids of all leases.
    pub(crate) async fn leases(&self) -> Result<Vec<i64>, Refusal> {
        let path = "/etcdserverpb.Lease/LeaseLeases";
        let answer: LeaseLeasesResponse = self.0.ask(path, &LeaseLeasesRequest {}).await?;
        Ok(answer.leases.into_iter().map(|lease| lease.id).collect())
    }

    /// Watches every key from a revision on.
    pub(crate) async fn watch(&self, start_revision: i64) -> Result<Exchange, Refusal> {
        let create = WatchCreateRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            start_revision,
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest {
            request_union: Some(watch_request::RequestUnion::CreateRequest(create)),
        };
        self.0.call(WATCH, &request, false).await
    }
}

fn comparison((key, revision): &(Bytes, i64)) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Mod as i32,
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::ModRevision(*revision)),
    }
}

fn operation(op: &Op) -> RequestOp {
    let request = match op {
        Op::DeleteRange { .. } => request_op::Request::RequestDeleteRange(delete(op)),
        Op::Put { .. } => request_op::Request::RequestPut(put(op)),
        Op::Range { .. } => request_op::Request::RequestRange(range(op)),
    };
    RequestOp { request: Some(request) }
}

fn delete(op: &Op) -> DeleteRangeRequest {
    let (key, range_end) = bounds(op);
    DeleteRangeRequest {
        key,
        range_end,
        prev_kv: false,
    }
}

fn put(op: &Op) -> PutRequest {
    let value = match op {
        Op::Put { value, .. } => value.clone(),
        Op::DeleteRange { .. } | Op::Range { .. } => Bytes::new(),
    };
    PutRequest {
        key: bounds(op).0,
        value,
        ..PutRequest::default()
    }
}

fn range(op: &Op) -> RangeRequest {
    let (key, range_end) = bounds(op);
    let revision = match op {
        Op::Range { revision, .. } => *revision,
        Op::DeleteRange { .. } | Op::Put { .. } => 0,
    };
    RangeRequest {
        key,
        range_end,
        revision,
        ..RangeRequest::default()
    }
}

/// The key and the end of the range; without an end it is one key.
fn bounds(op: &Op) -> (Bytes, Bytes) {
    match op {
        Op::DeleteRange { key, end } | Op::Range { key, end, .. } => (key.clone(), end.clone().unwrap_or_default()),
        Op::Put { key, .. } => (key.clone(), Bytes::new()),
    }
}

fn revision(header: Option<&ResponseHeader>) -> Result<i64, Refusal> {
    let header = header.ok_or_else(|| refusal(NO_ANSWER, "an answer without a header"))?;
    Ok(header.revision)
}

fn one_reply(revision: i64, response: Option<response_op::Response>) -> Result<Reply, Refusal> {
    let reply = op_reply(response)?;
    Ok(Reply::One { revision, reply })
}

fn op_reply(response: Option<response_op::Response>) -> Result<OpReply, Refusal> {
    match response {
        Some(response_op::Response::ResponseDeleteRange(answer)) => Ok(OpReply::Deleted(answer.deleted as usize)),
        Some(response_op::Response::ResponsePut(_)) => Ok(OpReply::Put),
        Some(response_op::Response::ResponseRange(answer)) => {
            Ok(OpReply::Range(answer.kvs.into_iter().map(key_value).collect()))
        }
        Some(response_op::Response::ResponseTxn(_)) | None => Err(refusal(NO_ANSWER, "an answer to something else")),
    }
}

/// A key-value in the checker's type.
pub(super) fn key_value(kv: mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key,
        value: kv.value,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
    }
}
