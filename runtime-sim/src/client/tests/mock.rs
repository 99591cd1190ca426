//! A simple store for clients: one copy, no history of values, only the comparisons of the lock recipe. It is not a
//! reference.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quoin_core::limits::MAX_TXN_OPS;
use quoin_core::proto::etcdserverpb::compare::{CompareTarget, TargetUnion};
use quoin_core::proto::etcdserverpb::range_request::SortOrder;
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::response_op::Response;
use quoin_core::proto::etcdserverpb::{
    AlarmResponse, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, HashKvResponse, LeaseGrantResponse,
    LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse, MemberListResponse,
    MoveLeaderResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp,
    StatusResponse, TxnRequest, TxnResponse,
};
use quoin_core::proto::mvccpb::event::EventType;
use quoin_core::proto::mvccpb::{Event, KeyValue};
use quoin_core::store::check;
use quoin_core::time::Instant;

use quoin_model::call::{Answer, Call, Refusal};

/// The store.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) revision: i64,
    pub(super) compacted: i64,
    keys: BTreeMap<Bytes, KeyValue>,
    /// All events.
    pub(super) events: Vec<Event>,
    leases: BTreeMap<i64, (i64, Instant)>,
    last_lease: i64,
}

impl Store {
    pub(super) fn new() -> Self {
        Self {
            revision: 1,
            ..Self::default()
        }
    }

    /// Ends expired leases, then answers.
    pub(super) fn answer(&mut self, now: Instant, call: &Call) -> Result<Answer, Refusal> {
        self.expire(now);
        let header = |store: &Self| Some(store.header());
        Ok(match call {
            Call::Alarm(_) => Answer::Alarm(AlarmResponse::default()),
            Call::Compact(request) => {
                if request.revision > self.revision || request.revision <= self.compacted {
                    return refuse(11, "etcdserver: mvcc: required revision has been compacted");
                }
                self.compacted = request.revision;
                Answer::Compact(CompactionResponse { header: header(self) })
            }
            Call::DeleteRange(request) => {
                let deleted = self.delete(request, self.revision + 1);
                self.revision += i64::from(deleted > 0);
                Answer::DeleteRange(DeleteRangeResponse {
                    header: header(self),
                    deleted,
                    ..DeleteRangeResponse::default()
                })
            }
            Call::HashKv(_) => Answer::HashKv(HashKvResponse::default()),
            Call::LeaseGrant(request) => {
                self.last_lease += 1;
                let id = if request.id == 0 {
                    1_000 + self.last_lease
                } else {
                    request.id
                };
                let seconds = request.ttl.clamp(1, 60);
                if self.leases.contains_key(&id) {
                    return refuse(9, "etcdserver: lease already exists");
                }
                self.leases
                    .insert(id, (seconds, now + Duration::from_secs(seconds as u64)));
                Answer::LeaseGrant(LeaseGrantResponse {
                    header: header(self),
                    id,
                    ttl: seconds,
                    ..LeaseGrantResponse::default()
                })
            }
            Call::LeaseKeepAlive { id } => {
                let ttl = self.renew(now, *id);
                Answer::LeaseKeepAlive(LeaseKeepAliveResponse {
                    header: header(self),
                    id: *id,
                    ttl,
                })
            }
            Call::LeaseLeases => Answer::LeaseLeases(LeaseLeasesResponse::default()),
            Call::LeaseRevoke(request) => {
                if self.leases.remove(&request.id).is_none() {
                    return refuse(5, "etcdserver: requested lease not found");
                }
                self.delete_leased(request.id);
                Answer::LeaseRevoke(LeaseRevokeResponse { header: header(self) })
            }
            Call::LeaseTimeToLive(request) => Answer::LeaseTimeToLive(LeaseTimeToLiveResponse {
                id: request.id,
                ttl: self.leases.get(&request.id).map_or(-1, |lease| lease.0),
                ..LeaseTimeToLiveResponse::default()
            }),
            Call::MemberList(_) => Answer::MemberList(MemberListResponse::default()),
            Call::MoveLeader(_) => Answer::MoveLeader(MoveLeaderResponse::default()),
            Call::Put(request) => {
                if request.lease != 0 && !self.leases.contains_key(&request.lease) {
                    return refuse(5, "etcdserver: requested lease not found");
                }
                self.revision += 1;
                self.put(request, self.revision);
                Answer::Put(PutResponse {
                    header: header(self),
                    prev_kv: None,
                })
            }
            Call::Range(request) => {
                if request.revision > self.revision || (request.revision > 0 && request.revision < self.compacted) {
                    return refuse(11, "etcdserver: mvcc: required revision has been compacted");
                }
                Answer::Range(self.range(request))
            }
            Call::Status => Answer::Status(StatusResponse::default()),
            Call::Txn(request) => {
                if check::txn(request, MAX_TXN_OPS).is_err() {
                    return refuse(3, "etcdserver: duplicate key given in txn request");
                }
                let mut wrote = false;
                let mut response = self.txn(request, self.revision + 1, &mut wrote);
                self.revision += i64::from(wrote);
                response.header = header(self);
                Answer::Txn(response)
            }
            _ => {
                panic!("operators change the membership, and these clients have no users: {call:?}")
            }
        })
    }

    fn renew(&mut self, now: Instant, id: i64) -> i64 {
        let Some(lease) = self.leases.get_mut(&id) else {
            return 0;
        };
        lease.1 = now + Duration::from_secs(lease.0 as u64);
        lease.0
    }

    fn header(&self) -> ResponseHeader {
        ResponseHeader {
            revision: self.revision,
            ..ResponseHeader::default()
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        let over: Vec<i64> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.1 <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.leases.remove(&id);
            self.delete_leased(id);
        }
    }

    fn delete_leased(&mut self, lease: i64) {
        let keys: Vec<Bytes> = self
            .keys
            .values()
            .filter(|kv| kv.lease == lease)
            .map(|kv| kv.key.clone())
            .collect();
        for key in &keys {
            self.delete_key(key, self.revision + 1);
        }
        self.revision += i64::from(!keys.is_empty());
    }

    fn put(&mut self, request: &PutRequest, revision: i64) {
        let before = self.keys.get(&request.key);
        let kv = KeyValue {
            key: request.key.clone(),
            create_revision: before.map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: before.map_or(1, |kv| kv.version + 1),
            value: request.value.clone(),
            lease: request.lease,
        };
        self.events.push(Event {
            r#type: EventType::Put as i32,
            kv: Some(kv.clone()),
            prev_kv: None,
        });
        self.keys.insert(request.key.clone(), kv);
    }

    fn delete(&mut self, request: &DeleteRangeRequest, revision: i64) -> i64 {
        let keys: Vec<Bytes> = self
            .keys
            .keys()
            .filter(|key| in_range(key, &request.key, &request.range_end))
            .cloned()
            .collect();
        for key in &keys {
            self.delete_key(key, revision);
        }
        keys.len() as i64
    }

    fn delete_key(&mut self, key: &Bytes, revision: i64) {
        self.keys.remove(key);
        self.events.push(Event {
            r#type: EventType::Delete as i32,
            kv: Some(KeyValue {
                key: key.clone(),
                mod_revision: revision,
                ..KeyValue::default()
            }),
            prev_kv: None,
        });
    }

    fn range(&self, request: &RangeRequest) -> RangeResponse {
        let mut kvs: Vec<KeyValue> = self
            .keys
            .values()
            .filter(|kv| in_range(&kv.key, &request.key, &request.range_end))
            .filter(|kv| request.max_create_revision == 0 || kv.create_revision <= request.max_create_revision)
            .cloned()
            .collect();
        kvs.sort_by_key(|kv| kv.create_revision);
        if request.sort_order == SortOrder::Descend as i32 {
            kvs.reverse();
        }
        if request.limit > 0 {
            kvs.truncate(request.limit as usize);
        }
        RangeResponse {
            header: Some(self.header()),
            count: kvs.len() as i64,
            kvs,
            more: false,
        }
    }

    fn txn(&mut self, request: &TxnRequest, revision: i64, wrote: &mut bool) -> TxnResponse {
        let succeeded = request.compare.iter().all(|compare| {
            let created = self.keys.get(&compare.key).map_or(0, |kv| kv.create_revision);
            compare.target == CompareTarget::Create as i32
                && compare.target_union == Some(TargetUnion::CreateRevision(created))
        });
        let branch = if succeeded { &request.success } else { &request.failure };
        TxnResponse {
            header: Some(self.header()),
            succeeded,
            responses: branch.iter().map(|op| self.operation(op, revision, wrote)).collect(),
        }
    }

    fn operation(&mut self, op: &RequestOp, revision: i64, wrote: &mut bool) -> ResponseOp {
        let response = match &op.request {
            Some(Op::RequestRange(request)) => Some(Response::ResponseRange(self.range(request))),
            Some(Op::RequestPut(request)) => {
                *wrote = true;
                self.put(request, revision);
                Some(Response::ResponsePut(PutResponse::default()))
            }
            Some(Op::RequestDeleteRange(request)) => {
                *wrote |= self.delete(request, revision) > 0;
                Some(Response::ResponseDeleteRange(DeleteRangeResponse::default()))
            }
            Some(Op::RequestTxn(request)) => Some(Response::ResponseTxn(self.txn(request, revision, wrote))),
            None => None,
        };
        ResponseOp { response }
    }
}

pub(super) fn in_range(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        _ => start <= key && key < end,
    }
}

pub(super) fn refuse<T>(code: i32, message: &str) -> Result<T, Refusal> {
    Err(Refusal {
        code,
        message: message.to_owned(),
    })
}
