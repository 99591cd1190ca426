//! What a member refuses before it proposes, by the request alone (etcd-surface a.2, a.4, a.6, a.7, a.10, a.13).
//!
//! What depends on a member's settings beyond the number of operations (the size of requests, the quota) or on the cluster
//! (who is leader, who is healthy) is not here.

use std::collections::BTreeSet;

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

use super::refusal::{
    BAD_MEMBER_URLS, DUPLICATE_KEY, EMPTY_KEY, INVALID_SORT, KEY_NOT_FOUND, LEASE_PROVIDED, TOO_MANY_OPS,
    VALUE_PROVIDED,
};
use crate::call::{Call, Refusal};

/// Whether a request is one that can be proposed.
///
/// # Errors
/// The error its client gets if not.
pub fn check(call: &Call, max_txn_ops: usize) -> Result<(), Refusal> {
    match call {
        Call::DeleteRange(request) => delete_range(request),
        Call::MemberAdd(request) => peer_urls(&request.peer_urls),
        Call::MemberUpdate(request) => peer_urls(&request.peer_urls),
        Call::Put(request) => put(request),
        Call::Range(request) => range(request),
        Call::Txn(request) => {
            txn(request, max_txn_ops)?;
            Footprint::of(&request.success)?;
            Footprint::of(&request.failure).map(drop)
        }
        _ => Ok(()),
    }
}

fn range(request: &RangeRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        return Err(EMPTY_KEY.into());
    }
    let order = SortOrder::try_from(request.sort_order);
    let target = SortTarget::try_from(request.sort_target);
    if order.is_err() || target.is_err() {
        return Err(INVALID_SORT.into());
    }
    Ok(())
}

fn put(request: &PutRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        return Err(EMPTY_KEY.into());
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(VALUE_PROVIDED.into());
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(LEASE_PROVIDED.into());
    }
    Ok(())
}

fn delete_range(request: &DeleteRangeRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        return Err(EMPTY_KEY.into());
    }
    Ok(())
}

/// The largest list of each level counts; nested transactions have what is left.
fn txn(request: &TxnRequest, max_ops: usize) -> Result<(), Refusal> {
    let lists = [request.compare.len(), request.success.len(), request.failure.len()];
    let count = lists.into_iter().max().unwrap_or(0);
    let Some(left) = max_ops.checked_sub(count) else {
        return Err(TOO_MANY_OPS.into());
    };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(EMPTY_KEY.into());
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Op::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Op::RequestPut(request)) => put(request)?,
            Some(Op::RequestRange(request)) => range(request)?,
            Some(Op::RequestTxn(request)) => txn(request, left)?,
            None => return Err(KEY_NOT_FOUND.into()),
        }
    }
    Ok(())
}

/// What a list of operations may write.
#[derive(Default)]
struct Footprint {
    puts: BTreeSet<Bytes>,
    deletions: Vec<DeleteRangeRequest>,
}

impl Footprint {
    /// Gathers it, and refuses a key that would be written twice: the deletions of the list first, then its nested
    /// transactions in order, then its puts.
    fn of(ops: &[RequestOp]) -> Result<Self, Refusal> {
        let mut all = Self::default();
        for op in ops {
            if let Some(Op::RequestDeleteRange(request)) = &op.request {
                all.deletions.push(request.clone());
            }
        }
        for op in ops {
            if let Some(Op::RequestTxn(nested)) = &op.request {
                all.nest(nested)?;
            }
        }
        for op in ops {
            if let Some(Op::RequestPut(request)) = &op.request
                && (all.deletes(&request.key) || !all.puts.insert(request.key.clone()))
            {
                return Err(DUPLICATE_KEY.into());
            }
        }
        Ok(all)
    }

    /// Adds a nested transaction. Its two branches may write the same key: only one is taken.
    fn nest(&mut self, nested: &TxnRequest) -> Result<(), Refusal> {
        let branches = [Self::of(&nested.success)?, Self::of(&nested.failure)?];
        let mut puts = branches.iter().flat_map(|branch| &branch.puts);
        if puts.any(|key| self.puts.contains(key) || self.deletes(key)) {
            return Err(DUPLICATE_KEY.into());
        }
        for branch in branches {
            self.puts.extend(branch.puts);
            self.deletions.extend(branch.deletions);
        }
        Ok(())
    }

    /// Whether a key is in one of the deletions as etcd looks at them here: an end of a zero byte is taken as it stands,
    /// before every key, so that a deletion without end meets no put. The transaction is then done as it says.
    fn deletes(&self, key: &Bytes) -> bool {
        self.deletions.iter().any(|deletion| match &deletion.range_end[..] {
            [] => deletion.key == key,
            end => deletion.key <= key && &key[..] < end,
        })
    }
}

/// Peer URLs are a scheme, a host and a port, and nothing else.
fn peer_urls(urls: &[String]) -> Result<(), Refusal> {
    if urls.is_empty() || !urls.iter().all(|url| is_peer_url(url)) {
        return Err(BAD_MEMBER_URLS.into());
    }
    Ok(())
}

fn is_peer_url(url: &str) -> bool {
    let schemes = ["http://", "https://", "unix://", "unixs://"];
    let Some(address) = schemes.iter().find_map(|scheme| url.strip_prefix(scheme)) else {
        return false;
    };
    let Some((host, port)) = address.rsplit_once(':') else {
        return false;
    };
    !host.contains('/') && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}
