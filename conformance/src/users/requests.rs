//! Random requests about keys.

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

use super::{Beside, KEYS, LEASES};
use crate::Trouble;

impl Beside {
    /// Reads, writes and deletions.
    pub(super) fn keys(&mut self) -> Result<(), Trouble> {
        let by = self.caller();
        match self.rng.below(4) {
            0 => {
                let request = self.range_request();
                self.exact(by, "/etcdserverpb.KV/Range", &request)
            }
            1 => {
                let request = self.put_request();
                self.exact(by, "/etcdserverpb.KV/Put", &request)
            }
            2 => {
                let request = self.delete_request();
                self.exact(by, "/etcdserverpb.KV/DeleteRange", &request)
            }
            _ => {
                let request = self.txn(2);
                self.exact(by, "/etcdserverpb.KV/Txn", &request)
            }
        }
    }

    fn range_request(&mut self) -> RangeRequest {
        let (key, range_end) = self.range();
        RangeRequest {
            key,
            range_end,
            serializable: self.rng.once_in(3),
            ..RangeRequest::default()
        }
    }

    fn put_request(&mut self) -> PutRequest {
        let lease = if self.rng.once_in(4) {
            *self.rng.pick(&LEASES)
        } else {
            0
        };
        PutRequest {
            key: (*self.rng.pick(&KEYS)).into(),
            value: "v".into(),
            lease,
            prev_kv: self.rng.once_in(3),
            ..PutRequest::default()
        }
    }

    fn delete_request(&mut self) -> DeleteRangeRequest {
        let (key, range_end) = self.range();
        DeleteRangeRequest {
            key,
            range_end,
            prev_kv: self.rng.once_in(3),
        }
    }

    /// A transaction whose operations are nested at most this deep. A branch has one operation, so that no two write the
    /// same key.
    fn txn(&mut self, depth: usize) -> TxnRequest {
        let mut txn = TxnRequest::default();
        if self.rng.once_in(2) {
            let (key, range_end) = self.range();
            txn.compare.push(Compare {
                key,
                range_end,
                ..Compare::default()
            });
        }
        let branch = |both: &mut Self| {
            let request = match both.rng.below(if depth > 0 { 5 } else { 4 }) {
                0 => return Vec::new(),
                1 => Op::RequestRange(both.range_request()),
                2 => Op::RequestPut(both.put_request()),
                3 => Op::RequestDeleteRange(both.delete_request()),
                _ => Op::RequestTxn(both.txn(depth - 1)),
            };
            vec![RequestOp { request: Some(request) }]
        };
        txn.success = branch(self);
        txn.failure = branch(self);
        txn
    }

    /// A key, or a range with keys.
    pub(super) fn range(&mut self) -> (Bytes, Bytes) {
        let (one, other) = (*self.rng.pick(&KEYS), *self.rng.pick(&KEYS));
        match self.rng.below(5) {
            0 | 1 => (one.into(), Bytes::new()),
            2 => (one.into(), "\0".into()),
            _ if one == other => (one.into(), Bytes::new()),
            _ => (one.min(other).into(), one.max(other).into()),
        }
    }
}
