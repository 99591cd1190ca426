//! Calls that consist of other calls and of watches: those of the lock and the election service.
//!
//! etcd serves them with its own client, inside the server. So they have the keys, the order of steps and the errors of
//! etcd's package `concurrency`, which clients also use without a server's help. [`Recipe`] decides the steps, and the
//! host carries them out: each call goes through [`Server::begin`](super::Server::begin), like a client's.

use std::fmt;

use bytes::Bytes;

use super::{Answer, Call};
use crate::error::{Code, Error};
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::request_op::Request as Op;
use crate::proto::etcdserverpb::response_op::Response as OpResponse;
use crate::proto::etcdserverpb::watch_create_request::FilterType;
use crate::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, ResponseHeader,
    TxnRequest, TxnResponse, WatchCreateRequest, WatchResponse,
};
use crate::proto::mvccpb::event::EventType;

/// The TTL of a lease that is granted because the request names none, in seconds. The server does not renew it.
const SESSION_SECONDS: i64 = 60;

/// A call in progress. Its steps are [`Recipe::begin`], and then [`Recipe::answered`] or [`Recipe::saw`] until there is
/// an answer or an error. After an error, or if the client went away, the host makes one more call, if there is one.
pub trait Recipe: fmt::Debug + Send {
    /// The first step.
    fn begin(&mut self) -> RecipeStep;

    /// Goes on with the answer to a call.
    ///
    /// # Errors
    /// The error that ends this call.
    fn answered(&mut self, answer: Answer) -> Result<RecipeStep, Error>;

    /// Goes on with a response of the watch.
    ///
    /// # Errors
    /// The error that ends this call.
    fn saw(&mut self, response: &WatchResponse) -> Result<RecipeStep, Error> {
        unreachable!("{self:?} does not watch, and got {response:?}")
    }

    /// The call that cleans up after a call of this recipe, or its watch, has failed.
    fn failed(&self) -> Option<Call> {
        None
    }

    /// The call that cleans up after the client has gone, or its deadline has passed.
    fn abandoned(&self) -> Option<Call> {
        None
    }
}

/// The next step of a [`Recipe`].
#[derive(Debug)]
pub enum RecipeStep {
    /// Nothing: this is the answer.
    Answer(Answer),
    /// Make this call, then go on with [`Recipe::answered`].
    Call(Call),
    /// Wait for the next response of the watch.
    Wait,
    /// Begin a watch in place of the previous one, and go on with [`Recipe::saw`] for each of its responses.
    Watch(WatchCreateRequest),
}

/// The code with which an error of a step reaches the client. etcd converts such errors to an error type of its client,
/// which carries no code, except those of a context.
#[must_use]
pub fn relayed(code: u8) -> u8 {
    let kept = [Code::Canceled, Code::DeadlineExceeded].map(Code::number);
    if kept.contains(&code) {
        code
    } else {
        Code::Unknown.number()
    }
}

/// The keys of a lock or an election that were created before one's own. The newest of them is waited for, and then the
/// next one, so that the deletion of a key wakes one waiter and not all.
#[derive(Debug)]
pub(super) struct Queue {
    /// All keys of the lock or election begin with it.
    pub(super) prefix: Bytes,
    /// The creation revision of one's own key.
    pub(super) own: i64,
}

impl Queue {
    /// Looks for a key to wait for.
    pub(super) fn look(&self) -> RecipeStep {
        RecipeStep::Call(Call::Range(RangeRequest {
            sort_order: SortOrder::Descend.into(),
            max_create_revision: self.own - 1,
            ..first(&self.prefix)
        }))
    }

    /// The watch for the deletion of the key that was found; `None` if none is left.
    pub(super) fn looked(&self, found: &RangeResponse) -> Option<RecipeStep> {
        let before = found.kvs.first()?;
        Some(RecipeStep::Watch(WatchCreateRequest {
            key: before.key.clone(),
            start_revision: revision(found.header.as_ref()),
            filters: vec![FilterType::Noput.into()],
            ..WatchCreateRequest::default()
        }))
    }

    /// Looks again once the key is deleted.
    ///
    /// # Errors
    /// If the watch has ended.
    pub(super) fn saw(&self, response: &WatchResponse) -> Result<RecipeStep, Error> {
        if response.compact_revision != 0 {
            return Err(Error::Compacted);
        }
        if response.canceled {
            return Err(Error::LostWatcher);
        }
        let is_deleted = response.events.iter().any(|event| event.r#type() == EventType::Delete);
        Ok(if is_deleted { self.look() } else { RecipeStep::Wait })
    }
}

/// Grants the lease of a request that names none.
pub(super) fn grant() -> RecipeStep {
    RecipeStep::Call(Call::LeaseGrant(LeaseGrantRequest {
        ttl: SESSION_SECONDS,
        id: 0,
    }))
}

/// All keys of a lock or an election begin with this.
pub(super) fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The key of a lease in a lock or an election.
pub(super) fn key(prefix: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    [prefix, format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()]
        .concat()
        .into()
}

/// The key that was created first.
pub(super) fn first(prefix: &Bytes) -> RangeRequest {
    RangeRequest {
        key: prefix.clone(),
        range_end: end(prefix),
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..RangeRequest::default()
    }
}

/// The end of the range of keys with a prefix, which ends with a slash.
pub(super) fn end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}

/// A transaction under the condition that a key has this creation revision; 0 stands for no key.
pub(super) fn if_created(key: &Bytes, at: i64, success: Vec<Op>, failure: Vec<Op>) -> Call {
    let ops = |ops: Vec<Op>| ops.into_iter().map(|op| RequestOp { request: Some(op) }).collect();
    Call::Txn(TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Create.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::CreateRevision(at)),
            ..Compare::default()
        }],
        success: ops(success),
        failure: ops(failure),
    })
}

/// Writes a key that ends with a lease.
pub(super) fn put(key: &Bytes, value: Bytes, lease: i64) -> Op {
    Op::RequestPut(PutRequest {
        key: key.clone(),
        value,
        lease,
        ..PutRequest::default()
    })
}

/// Reads one key.
pub(super) fn get(key: &Bytes) -> RangeRequest {
    RangeRequest {
        key: key.clone(),
        ..RangeRequest::default()
    }
}

/// Deletes one key.
pub(super) fn delete(key: &Bytes) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.clone(),
        ..DeleteRangeRequest::default()
    }
}

/// The result of the range at this place of a transaction.
pub(super) fn range_at(response: &TxnResponse, place: usize) -> Option<&RangeResponse> {
    match response.responses.get(place)?.response.as_ref()? {
        OpResponse::ResponseRange(range) => Some(range),
        OpResponse::ResponseDeleteRange(_) | OpResponse::ResponsePut(_) | OpResponse::ResponseTxn(_) => None,
    }
}

/// The revision of a header.
pub(super) fn revision(header: Option<&ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_ends_with_the_lease_in_go_s_hexadecimal() {
        let table = [
            (0x694d_8257_011b_9d0f, "a/694d8257011b9d0f"),
            (10, "a/a"),
            (-10, "a/-a"),
            (i64::MIN, "a/-8000000000000000"),
        ];
        for (lease, expected) in table {
            assert_eq!(key(&prefix(b"a"), lease), expected, "{lease}");
        }
        assert_eq!(key(&prefix(b""), 1), "/1");
        assert_eq!(end(&prefix(b"a")), "a0");
    }

    #[test]
    fn errors_of_steps_lose_their_code_except_those_of_a_context() {
        let relayed_of = |error: Error| relayed(error.code().number());
        assert_eq!(relayed_of(Error::LeaseNotFound), 2);
        assert_eq!(relayed_of(Error::NoLeader), 2);
        assert_eq!(relayed_of(Error::ContextCanceled), 1);
        assert_eq!(relayed_of(Error::ContextDeadlineExceeded), 4);
    }
}
