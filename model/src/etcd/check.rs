//! The errors that a member finds in a request before it proposes it, from the request alone.
//!
//! Errors that depend on a member's settings other than the number of operations (the size of requests, the quota), or
//! on the cluster (the leader, healthy members) are not modelled.

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

/// Checks a request before it is proposed.
///
/// # Errors
/// The error that its client gets.
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

/// A transaction uses as much of the limit as its longest list has; each nested transaction may use the rest.
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

/// The keys that a list of operations may write.
#[derive(Default)]
struct Footprint {
    puts: BTreeSet<Bytes>,
    deletions: Vec<DeleteRangeRequest>,
}

impl Footprint {
    /// Collects the keys of a list and refuses a key that would be written twice. Deletions are collected first, then
    /// nested transactions in order, then puts.
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

    /// Whether one of the deletions contains a key. As in etcd's check, a range end of one zero byte is taken
    /// literally: it sorts before every key, so such a deletion contains no key here. When it is applied, it deletes
    /// all keys from its start on.
    fn deletes(&self, key: &Bytes) -> bool {
        self.deletions.iter().any(|deletion| match &deletion.range_end[..] {
            [] => deletion.key == key,
            end => deletion.key <= key && &key[..] < end,
        })
    }
}

/// A peer URL has a scheme, a host and a port, and nothing else.
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
