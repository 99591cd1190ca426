//! What clients ask: requests drawn from a small key space, every value written only once.

use std::collections::BTreeMap;

use bytes::Bytes;
use quoin_core::node::Request;
use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
    PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use quoin_core::random::Prng;
use quoin_core::store::check;

use crate::swarm::{Swarm, one_of, weighted};

/// Kinds of requests.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// Turns an alarm on or off.
    Alarm,
    /// Compacts, physically or not.
    Compact,
    /// Deletes keys.
    Delete,
    /// Makes a lease.
    Grant,
    /// Writes a key.
    Put,
    /// Reads, linearizably.
    Read,
    /// Keeps a lease alive.
    Renew,
    /// Ends a lease.
    Revoke,
    /// Asks what is left of a lease.
    TimeToLive,
    /// Does several things, on conditions.
    Txn,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Alarm,
        Self::Compact,
        Self::Delete,
        Self::Grant,
        Self::Put,
        Self::Read,
        Self::Renew,
        Self::Revoke,
        Self::TimeToLive,
        Self::Txn,
    ];

    /// How often it is asked, compared with others.
    #[must_use]
    pub fn weight(self) -> u64 {
        match self {
            Self::Alarm | Self::TimeToLive => 1,
            Self::Compact | Self::Revoke => 3,
            Self::Delete | Self::Grant | Self::Read | Self::Renew => 6,
            Self::Txn => 12,
            Self::Put => 30,
        }
    }
}

/// Leases that clients name.
const LEASES: std::ops::Range<u64> = 1..5;

/// Draws requests.
#[derive(Clone, Debug)]
pub struct Workload {
    prng: Prng,
    keys: Vec<Bytes>,
    value_bytes: u64,
    mix: Vec<(Kind, u64)>,
    values: u64,
}

impl Workload {
    /// The requests of `seed`.
    #[must_use]
    pub fn new(seed: u64, swarm: &Swarm) -> Self {
        Self {
            prng: Prng::new(seed).fork("workload"),
            keys: swarm.keys.clone(),
            value_bytes: swarm.value_bytes,
            mix: swarm.mix.clone(),
            values: 0,
        }
    }

    /// The next request of clients that know the store to be at `revision`.
    pub fn next(&mut self, revision: i64) -> Request {
        let kind = weighted(&mut self.prng, &self.mix).unwrap_or(Kind::Put);
        match kind {
            Kind::Alarm => self.alarm(),
            Kind::Compact => self.compact(revision),
            Kind::Delete => Request::DeleteRange(self.delete()),
            Kind::Grant => {
                let id = if self.prng.below(4) == 0 { 0 } else { self.lease() };
                let ttl = one_of(&mut self.prng, &[1, 3, 10, 60]);
                Request::LeaseGrant(LeaseGrantRequest { id, ttl })
            }
            Kind::Put => self.put(),
            Kind::Read => Request::Read,
            Kind::Renew => Request::LeaseRenew { id: self.lease() },
            Kind::Revoke => Request::LeaseRevoke(LeaseRevokeRequest { id: self.lease() }),
            Kind::TimeToLive => Request::LeaseTimeToLive {
                id: self.lease(),
                keys: true,
            },
            Kind::Txn => self.transaction(revision),
        }
    }

    /// A write of a key.
    pub fn put(&mut self) -> Request {
        Request::Put(self.put_request())
    }

    fn put_request(&mut self) -> PutRequest {
        let lease = if self.prng.below(4) == 0 { self.lease() } else { 0 };
        PutRequest {
            key: self.key(),
            value: self.value(),
            lease,
            prev_kv: self.prng.below(2) == 0,
            ..PutRequest::default()
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let (key, range_end) = self.range();
        DeleteRangeRequest {
            key,
            range_end,
            prev_kv: self.prng.below(2) == 0,
        }
    }

    fn alarm(&mut self) -> Request {
        let action = one_of(
            &mut self.prng,
            &[AlarmAction::Activate, AlarmAction::Deactivate, AlarmAction::Deactivate],
        );
        Request::Alarm(AlarmRequest {
            action: action as i32,
            member_id: 1,
            alarm: AlarmType::Nospace as i32,
        })
    }

    fn compact(&mut self, revision: i64) -> Request {
        let back = i64::try_from(self.prng.below(20)).unwrap_or(0) - 1;
        Request::Compact(CompactionRequest {
            revision: (revision - back).max(0),
            physical: self.prng.below(2) == 0,
        })
    }

    fn transaction(&mut self, revision: i64) -> Request {
        loop {
            let txn = self.txn(revision, 2);
            // What no member would propose is refused before the node sees it; what only reads never comes there.
            if check::txn(&txn, 128).is_ok() && !check::is_read_only(&txn) {
                return Request::Txn(txn);
            }
        }
    }

    fn txn(&mut self, revision: i64, depth: u64) -> TxnRequest {
        let compare = (0..self.prng.below(3)).map(|_| self.compare(revision)).collect();
        let mut branch = || {
            (0..self.prng.below(4))
                .map(|_| self.operation(revision, depth))
                .collect::<Vec<_>>()
        };
        TxnRequest {
            compare,
            success: branch(),
            failure: branch(),
        }
    }

    fn operation(&mut self, revision: i64, depth: u64) -> RequestOp {
        let request = match self.prng.below(10) {
            0..5 => Op::RequestPut(self.put_request()),
            5..7 => Op::RequestDeleteRange(self.delete()),
            9 if depth > 0 => Op::RequestTxn(self.txn(revision, depth - 1)),
            _ => {
                let (key, range_end) = self.range();
                Op::RequestRange(RangeRequest {
                    key,
                    range_end,
                    ..RangeRequest::default()
                })
            }
        };
        RequestOp { request: Some(request) }
    }

    fn compare(&mut self, revision: i64) -> Compare {
        let recent = revision - i64::try_from(self.prng.below(8)).unwrap_or(0);
        let (target, union) = match self.prng.below(4) {
            0 => (
                CompareTarget::Version,
                TargetUnion::Version(i64::try_from(self.prng.below(3)).unwrap_or(0)),
            ),
            1 => (
                CompareTarget::Create,
                TargetUnion::CreateRevision(one_of(&mut self.prng, &[0, recent])),
            ),
            2 => (
                CompareTarget::Mod,
                TargetUnion::ModRevision(one_of(&mut self.prng, &[0, recent])),
            ),
            _ => (CompareTarget::Value, TargetUnion::Value(self.old_value())),
        };
        let results = [
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
        ];
        Compare {
            result: one_of(&mut self.prng, &results) as i32,
            target: target as i32,
            key: self.key(),
            target_union: Some(union),
            ..Compare::default()
        }
    }

    fn key(&mut self) -> Bytes {
        let at = self.prng.below(self.keys.len() as u64);
        self.keys[usize::try_from(at).expect("a key's place")].clone()
    }

    fn range(&mut self) -> (Bytes, Bytes) {
        let end = match self.prng.below(6) {
            0 => Bytes::from_static(b"\0"),
            1 | 2 => self.key(),
            _ => Bytes::new(),
        };
        (self.key(), end)
    }

    fn lease(&mut self) -> i64 {
        i64::try_from(self.prng.range(LEASES)).unwrap_or(1)
    }

    /// A value that nobody wrote before, starting with its number.
    fn value(&mut self) -> Bytes {
        self.values += 1;
        let mut value = format!("v{}.", self.values).into_bytes();
        let length = usize::try_from(self.prng.below(self.value_bytes)).unwrap_or(0);
        value.resize(value.len().max(length), b'.');
        value.into()
    }

    fn old_value(&mut self) -> Bytes {
        let number = self.prng.below(self.values + 1);
        format!("v{number}.").into_bytes().into()
    }
}

/// Every value that a request would write, with its key.
#[must_use]
pub fn values_of(request: &Request) -> BTreeMap<Bytes, Bytes> {
    fn of_txn(txn: &TxnRequest, found: &mut BTreeMap<Bytes, Bytes>) {
        for op in txn.success.iter().chain(&txn.failure) {
            match &op.request {
                Some(Op::RequestPut(put)) => drop(found.insert(put.value.clone(), put.key.clone())),
                Some(Op::RequestTxn(txn)) => of_txn(txn, found),
                Some(Op::RequestRange(_) | Op::RequestDeleteRange(_)) | None => {}
            }
        }
    }
    let mut found = BTreeMap::new();
    match request {
        Request::Put(put) => drop(found.insert(put.value.clone(), put.key.clone())),
        Request::Txn(txn) => of_txn(txn, &mut found),
        _ => {}
    }
    found
}
