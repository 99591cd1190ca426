//! The requests of etcd's recipe for locks and elections: each contender has a key of its own under the lock's prefix,
//! and the oldest key holds the lock. The `locker` decides when they are sent.

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quoin_core::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::response_op::Response;
use quoin_core::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest, TxnResponse, WatchCreateRequest,
};

use super::keys::prefix_end;
use super::txn::op;
use quoin_model::call::Call;

/// The contender's key.
pub(super) fn own_key(prefix: &Bytes, lease: i64) -> Bytes {
    [&prefix[..], format!("{lease:x}").as_bytes()].concat().into()
}

/// Creates the contender's key unless it exists, and reads the holder's.
pub(super) fn enter(prefix: &Bytes, key: &Bytes, value: Bytes, lease: i64) -> Call {
    let put = PutRequest {
        key: key.clone(),
        value,
        lease,
        ..PutRequest::default()
    };
    Call::Txn(TxnRequest {
        compare: vec![created_at(key, 0)],
        success: vec![op(Op::RequestPut(put)), op(Op::RequestRange(oldest(prefix)))],
        failure: vec![op(Op::RequestRange(exactly(key))), op(Op::RequestRange(oldest(prefix)))],
    })
}

/// The create revision of the contender's key, and whether it holds the lock already.
pub(super) fn entered(response: &TxnResponse) -> Option<(i64, bool)> {
    let mut answers = response.responses.iter().map(|op| match &op.response {
        Some(Response::ResponseRange(range)) => range.kvs.first().map(|kv| kv.create_revision),
        Some(Response::ResponsePut(_) | Response::ResponseDeleteRange(_) | Response::ResponseTxn(_)) | None => None,
    });
    let (own, owner) = (answers.next()?, answers.next()?);
    let revision = if response.succeeded {
        response.header.as_ref()?.revision
    } else {
        own?
    };
    Some((revision, owner.is_none_or(|owner| owner == revision)))
}

/// Reads the youngest contender older than `revision`.
pub(super) fn predecessor(prefix: &Bytes, revision: i64) -> Call {
    Call::Range(RangeRequest {
        max_create_revision: revision - 1,
        sort_order: SortOrder::Descend as i32,
        ..oldest(prefix)
    })
}

/// Reads the holder of the lock.
pub(super) fn owner(prefix: &Bytes) -> Call {
    Call::Range(oldest(prefix))
}

/// Reads whether the contender's key still exists.
pub(super) fn confirm(key: &Bytes) -> Call {
    Call::Range(exactly(key))
}

/// Watches a predecessor's key.
pub(super) fn wait(key: &Bytes, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.clone(),
        start_revision,
        ..WatchCreateRequest::default()
    }
}

/// Writes, if the contender's key is still the one that was created at `revision`.
pub(super) fn guarded(own: &Bytes, revision: i64, write: PutRequest) -> Call {
    Call::Txn(TxnRequest {
        compare: vec![created_at(own, revision)],
        success: vec![op(Op::RequestPut(write))],
        failure: vec![op(Op::RequestRange(exactly(own)))],
    })
}

/// Releases the lock, or leaves the queue.
pub(super) fn leave(key: &Bytes) -> Call {
    Call::DeleteRange(DeleteRangeRequest {
        key: key.clone(),
        ..DeleteRangeRequest::default()
    })
}

fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        range_end: Bytes::new(),
    }
}

fn exactly(key: &Bytes) -> RangeRequest {
    RangeRequest {
        key: key.clone(),
        ..RangeRequest::default()
    }
}

fn oldest(prefix: &Bytes) -> RangeRequest {
    RangeRequest {
        key: prefix.clone(),
        range_end: prefix_end(prefix),
        limit: 1,
        sort_order: SortOrder::Ascend as i32,
        sort_target: SortTarget::Create as i32,
        ..RangeRequest::default()
    }
}
