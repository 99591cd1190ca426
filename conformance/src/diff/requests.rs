//! Draws requests about keys, including edge cases.

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::compare::TargetUnion;
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

use crate::rng::Rng;

/// Keys that are adjacent, prefixes of each other, binary, or at an end of the key space.
const KEYS: [&[u8]; 16] = [
    b"a",
    b"a\0",
    b"a\0\0",
    b"aa",
    b"ab",
    b"a\xff",
    b"b",
    b"b/1",
    b"b/2",
    b"b/3",
    b"c",
    b"\0",
    b"\0a",
    b"\xff",
    b"\xff\xff",
    "schl\u{fc}ssel".as_bytes(),
];

/// The state of the server when a request is drawn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Around {
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) max_txn_ops: usize,
    pub(super) max_request_bytes: usize,
    /// An alarm refuses requests that take space.
    pub(super) is_full: bool,
}

/// Draws requests.
#[derive(Clone, Debug)]
pub(super) struct Draw {
    pub(super) rng: Rng,
    pub(super) around: Around,
    keys: Vec<&'static [u8]>,
    written: u64,
    /// Transactions may delete keys and write them again, which only some seeds allow.
    recreates: bool,
    /// Many values are large, which makes fragmented responses.
    is_big: bool,
}

impl Draw {
    pub(super) fn new(mut rng: Rng) -> Self {
        let count = 3 + rng.below(KEYS.len() as u64 - 3) as usize;
        let mut keys = KEYS.to_vec();
        while keys.len() > count {
            keys.swap_remove(rng.below(keys.len() as u64) as usize);
        }
        let recreates = rng.once_in(2);
        let is_big = rng.once_in(8);
        Self {
            rng,
            around: Around::default(),
            keys,
            written: 0,
            recreates,
            is_big,
        }
    }

    /// A key that can be written.
    pub(super) fn plain_key(&mut self) -> Bytes {
        Bytes::from_static(self.rng.pick::<&'static [u8]>(&self.keys))
    }

    fn key(&mut self) -> Bytes {
        match self.rng.below(60) {
            0 => Bytes::new(),
            1 => Bytes::from(format!("lot/{:03}", self.rng.below(140))),
            _ => self.plain_key(),
        }
    }

    /// A key and an end: none, a zero byte, a later key or an earlier one.
    pub(super) fn key_range(&mut self) -> (Bytes, Bytes) {
        let key = self.key();
        let end = match self.rng.below(20) {
            0..7 => Bytes::new(),
            7..11 => Bytes::from_static(b"\0"),
            11..18 => {
                let other = self.plain_key();
                if other < key && self.rng.once_in(2) {
                    return (other, key);
                }
                other
            }
            18 => key.clone(),
            _ => Bytes::from([&key[..], b"\xff"].concat()),
        };
        (key, end)
    }

    /// A revision to read at: the newest, a kept one, or an edge.
    pub(super) fn revision(&mut self) -> i64 {
        let Around {
            revision, compacted, ..
        } = self.around;
        match self.rng.below(16) {
            0..6 => 0,
            6..11 => compacted + self.rng.below((revision - compacted).unsigned_abs() + 1) as i64,
            11 | 12 => compacted + self.rng.below(3) as i64 - 1,
            13 | 14 => revision + self.rng.below(3) as i64 - 1,
            _ => *self.rng.pick(&[1, -1, i64::MIN, i64::MAX, revision + 5]),
        }
    }

    /// Mostly in the older half of the kept history, so that the newer half stays readable.
    pub(super) fn compact_revision(&mut self) -> i64 {
        let Around {
            revision, compacted, ..
        } = self.around;
        if self.rng.once_in(3) {
            return self.revision();
        }
        let kept = (revision - compacted).unsigned_abs();
        compacted.max(0) + self.rng.below(kept / 2 + 1) as i64
    }

    fn value(&mut self) -> Bytes {
        self.written += 1;
        let limit = self.around.max_request_bytes as u64;
        match self.rng.below(200) {
            0..20 => Bytes::new(),
            20..40 => Bytes::from_static(b"again"),
            40..50 => Bytes::from(vec![self.rng.bits() as u8, 0, 0xff, b'\n']),
            50..80 if self.is_big => vec![b'w'; (limit - 1_000) as usize].into(),
            50 => vec![b'x'; (limit - 1_000 - self.rng.below(20_000)) as usize].into(),
            51 => vec![b'y'; (limit + 100 + self.rng.below(1_000)) as usize].into(),
            52 => vec![b'z'; self.rng.below(3_000) as usize].into(),
            _ => Bytes::from(format!("v{}", self.written)),
        }
    }

    fn lease(&mut self) -> i64 {
        match self.rng.below(40) {
            0..30 => 0,
            30..37 => *self.rng.pick(&[1, 2, 3, 4, 5, 6, 7]),
            _ => *self.rng.pick(&[-3, i64::MAX, 777, -1]),
        }
    }

    pub(super) fn put(&mut self) -> PutRequest {
        let mut put = PutRequest {
            key: self.key(),
            value: self.value(),
            lease: self.lease(),
            prev_kv: self.rng.once_in(4),
            ..PutRequest::default()
        };
        match self.rng.below(30) {
            0 => put.ignore_value = true,
            1 | 2 => {
                put.ignore_value = true;
                put.value.clear();
            }
            3 => put.ignore_lease = true,
            4 | 5 => {
                put.ignore_lease = true;
                put.lease = 0;
            }
            6 => {
                (put.ignore_value, put.ignore_lease) = (true, true);
                put.value.clear();
                put.lease = 0;
            }
            _ => {}
        }
        put
    }

    pub(super) fn delete(&mut self) -> DeleteRangeRequest {
        let (key, mut range_end) = self.key_range();
        // Frequent deletion of everything would leave few keys.
        if range_end[..] == b"\0"[..] && !self.rng.once_in(5) {
            range_end.clear();
        }
        DeleteRangeRequest {
            key,
            range_end,
            prev_kv: self.rng.once_in(3),
        }
    }

    pub(super) fn range(&mut self) -> RangeRequest {
        let (key, range_end) = self.key_range();
        let mut range = RangeRequest {
            key,
            range_end,
            revision: self.revision(),
            serializable: self.rng.once_in(3),
            keys_only: self.rng.once_in(8),
            count_only: self.rng.once_in(10),
            ..RangeRequest::default()
        };
        if self.rng.once_in(2) {
            range.limit = *self.rng.pick(&[1, 1, 2, 2, 3, 4, 6, 100, -1, i64::MAX, i64::MIN]);
        }
        if self.rng.once_in(2) {
            range.sort_order = self.rng.below(3) as i32;
            range.sort_target = self.rng.below(5) as i32;
        }
        if self.rng.once_in(4) {
            let filters = [
                &mut range.min_mod_revision,
                &mut range.max_mod_revision,
                &mut range.min_create_revision,
                &mut range.max_create_revision,
            ];
            for filter in filters {
                if self.rng.once_in(2) {
                    let newest = self.around.revision;
                    *filter = match self.rng.below(8) {
                        0 => *self.rng.pick(&[-1, i64::MIN, i64::MAX]),
                        _ => (newest - self.rng.below(40) as i64).max(0),
                    };
                }
            }
        }
        range
    }

    pub(super) fn txn(&mut self) -> TxnRequest {
        let mut txn = match self.rng.below(60) {
            0 => self.big_txn(),
            1 | 2 if self.recreates => self.recreation(),
            _ => self.small_txn(0),
        };
        // See `LEFT_OUT`.
        if deletes_to_the_end(&txn) {
            keep_nothing(&mut txn);
        }
        if self.around.is_full {
            let is_nested = |op: &RequestOp| matches!(op.request, Some(Op::RequestTxn(_)));
            txn.success.retain(|op| !is_nested(op));
            txn.failure.retain(|op| !is_nested(op));
        }
        txn
    }

    /// As many operations as are allowed, or one more or less.
    fn big_txn(&mut self) -> TxnRequest {
        let count = self.around.max_txn_ops + self.rng.below(3) as usize - 1;
        let puts = (0..count).map(|at| {
            Op::RequestPut(PutRequest {
                key: Bytes::from(format!("lot/{at:03}")),
                value: self.value_of_lot(),
                ..PutRequest::default()
            })
        });
        let ops = puts.map(|op| RequestOp { request: Some(op) }).collect();
        TxnRequest {
            success: ops,
            ..TxnRequest::default()
        }
    }

    fn value_of_lot(&self) -> Bytes {
        Bytes::from(format!("lot of {}", self.written))
    }

    /// A deletion without an end and a put of its first key, in either order: etcd refuses every other deletion and put
    /// of one key in a transaction.
    fn recreation(&mut self) -> TxnRequest {
        let key = self.plain_key();
        let delete = Op::RequestDeleteRange(DeleteRangeRequest {
            key: key.clone(),
            range_end: Bytes::from_static(b"\0"),
            prev_kv: self.rng.once_in(2),
        });
        let mut put = self.put();
        put.key = key;
        let mut ops = vec![delete, Op::RequestPut(put)];
        if self.rng.once_in(2) {
            ops.swap(0, 1);
        }
        if self.rng.once_in(2) {
            ops.push(Op::RequestRange(self.range()));
        }
        let ops = ops.into_iter().map(|op| RequestOp { request: Some(op) }).collect();
        TxnRequest {
            success: ops,
            ..TxnRequest::default()
        }
    }

    fn small_txn(&mut self, depth: u32) -> TxnRequest {
        let compares = self.rng.below(4) / 2;
        TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: self.ops(depth),
            failure: self.ops(depth),
        }
    }

    fn ops(&mut self, depth: u32) -> Vec<RequestOp> {
        let only_reads = self.rng.once_in(3);
        let count = self.rng.below(5 - u64::from(depth));
        let op = |draw: &mut Self| match draw.rng.below(40) {
            0 if draw.rng.once_in(8) => None,
            _ if only_reads => Some(Op::RequestRange(draw.range())),
            0..16 => Some(Op::RequestPut(draw.put())),
            16..22 => Some(Op::RequestDeleteRange(draw.delete())),
            22..28 if depth < 3 => Some(Op::RequestTxn(draw.small_txn(depth + 1))),
            _ => Some(Op::RequestRange(draw.range())),
        };
        (0..count).map(|_| RequestOp { request: op(self) }).collect()
    }

    fn compare(&mut self) -> Compare {
        let (key, range_end) = if self.rng.once_in(3) {
            self.key_range()
        } else {
            (self.key(), Bytes::new())
        };
        let number = *self.rng.pick(&[0, 1, 2, 3, -1]);
        let revision = self.revision();
        let target = self.rng.below(5) as i32;
        // Mostly an operand for the compare's target; sometimes for another one, or none.
        let given = match self.rng.below(20) {
            0 => self.rng.below(6) as i32,
            _ => target,
        };
        let target_union = match given {
            0 => Some(TargetUnion::Version(number)),
            1 => Some(TargetUnion::CreateRevision(revision)),
            2 => Some(TargetUnion::ModRevision(revision)),
            3 => Some(TargetUnion::Value(self.value_short())),
            4 => Some(TargetUnion::Lease(self.lease())),
            _ => None,
        };
        Compare {
            result: if self.rng.once_in(50) {
                9
            } else {
                self.rng.below(4) as i32
            },
            target: if self.rng.once_in(80) { 9 } else { target },
            key,
            range_end,
            target_union,
        }
    }

    fn value_short(&mut self) -> Bytes {
        match self.rng.below(3) {
            0 => Bytes::new(),
            1 => Bytes::from_static(b"again"),
            _ => Bytes::from(format!("v{}", self.rng.below(self.written + 1))),
        }
    }
}

/// Whether a transaction deletes without an end anywhere. etcd then misses that a write overlaps the deletion.
fn deletes_to_the_end(txn: &TxnRequest) -> bool {
    let mut ops = txn.success.iter().chain(&txn.failure);
    ops.any(|op| match &op.request {
        Some(Op::RequestDeleteRange(request)) => request.range_end[..] == b"\0"[..],
        Some(Op::RequestTxn(nested)) => deletes_to_the_end(nested),
        Some(Op::RequestPut(_) | Op::RequestRange(_)) | None => false,
    })
}

/// Removes `ignore_value` and `ignore_lease` from all writes: etcd crashes if the transaction deleted the key before.
fn keep_nothing(txn: &mut TxnRequest) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Op::RequestPut(request)) => (request.ignore_value, request.ignore_lease) = (false, false),
            Some(Op::RequestTxn(nested)) => keep_nothing(nested),
            Some(Op::RequestDeleteRange(_) | Op::RequestRange(_)) | None => {}
        }
    }
}
