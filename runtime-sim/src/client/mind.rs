//! What the clients of a run have seen together: revisions, keys, leases. It steers their choices towards edges, and
//! may be out of date, as for real clients.

use std::collections::BTreeMap;

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::response_op::Response;
use quoin_core::proto::etcdserverpb::{RangeResponse, ResponseHeader, TxnResponse, WatchResponse};
use quoin_core::proto::mvccpb::event::EventType;
use quoin_core::proto::mvccpb::{Event, KeyValue};
use quoin_core::random::Prng;
use quoin_core::time::Instant;

use crate::choose::one_of;
use quoin_model::call::{Answer, Call};

/// How much of a long answer is kept.
const GLANCE: usize = 8;
/// How many leases are kept.
const LEASES_MAX: usize = 12;

/// A key as last seen; all 0 if it did not exist.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Fact {
    /// The revision that created it.
    pub create_revision: i64,
    /// The revision of its last write.
    pub mod_revision: i64,
    /// Writes since it was created.
    pub version: i64,
    /// Its lease.
    pub lease: i64,
    /// Its value.
    pub value: Bytes,
}

/// A lease as last seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Lease {
    id: i64,
    /// When it ends if it is not renewed.
    ends: Instant,
}

/// Everything seen.
#[derive(Clone, Debug)]
pub struct Mind {
    /// The greatest revision seen.
    pub revision: i64,
    /// The greatest compact revision seen.
    pub compacted: i64,
    facts: BTreeMap<Bytes, Fact>,
    leases: Vec<Lease>,
    /// A lease that has ended.
    gone: i64,
    values: u64,
    /// Whether locks are taken by the service of the server.
    pub server_locks: bool,
}

impl Default for Mind {
    fn default() -> Self {
        Self {
            revision: 1,
            compacted: 0,
            facts: BTreeMap::new(),
            leases: Vec::new(),
            gone: 0,
            values: 0,
            server_locks: false,
        }
    }
}

impl Mind {
    /// A value that was never written before: its number, padded to `length`.
    pub fn value(&mut self, length: u64) -> Bytes {
        self.values += 1;
        let length = usize::try_from(length).unwrap_or(0);
        let mut value = Vec::with_capacity(length.max(12));
        value.push(b'v');
        push_decimal(&mut value, self.values);
        value.push(b'.');
        value.resize(value.len().max(length), b'.');
        value.into()
    }

    /// The key as last seen.
    #[must_use]
    pub fn fact(&self, key: &Bytes) -> Option<&Fact> {
        self.facts.get(key)
    }

    /// The id of a lease: often the one that expires first.
    pub fn lease(&self, prng: &mut Prng) -> Option<i64> {
        if prng.below(3) == 0 {
            self.leases.iter().min_by_key(|lease| lease.ends).map(|lease| lease.id)
        } else {
            let at = prng.below(self.leases.len() as u64);
            self.leases.get(usize::try_from(at).unwrap_or(0)).map(|lease| lease.id)
        }
    }

    /// The id of a lease that has ended or never existed.
    pub fn no_lease(&self, prng: &mut Prng) -> i64 {
        one_of(prng, &[self.gone, 424_242, -1])
    }

    /// Records an answer, and its request if that is still known.
    pub fn learn(&mut self, now: Instant, call: Option<&Call>, answer: &Answer) {
        self.header(answer.header());
        match (answer, call) {
            (Answer::Compact(_), Some(Call::Compact(request))) => self.compacted = self.compacted.max(request.revision),
            (Answer::DeleteRange(_), Some(Call::DeleteRange(request))) => drop(self.facts.remove(&request.key)),
            (Answer::HashKv(response), _) => self.compacted = self.compacted.max(response.compact_revision),
            (Answer::LeaseGrant(response), _) => self.lease_seen(now, response.id, response.ttl),
            (Answer::LeaseKeepAlive(response), _) => self.lease_seen(now, response.id, response.ttl),
            (Answer::LeaseRevoke(_), Some(Call::LeaseRevoke(request))) => self.lease_seen(now, request.id, 0),
            (Answer::LeaseTimeToLive(response), _) => self.lease_seen(now, response.id, response.ttl),
            (Answer::Put(_), Some(Call::Put(request))) => {
                let revision = answer.revision();
                let fact = self.facts.entry(request.key.clone()).or_default();
                fact.mod_revision = revision;
                fact.version += 1;
                fact.lease = request.lease;
                fact.value = request.value.clone();
                if fact.create_revision == 0 {
                    fact.create_revision = revision;
                }
            }
            (Answer::Range(response), _) => self.range(response),
            (Answer::Txn(response), _) => self.txn(response),
            _ => {}
        }
    }

    /// Records a response of a watch.
    pub fn witness(&mut self, response: &WatchResponse) {
        self.header(response.header.as_ref());
        self.compacted = self.compacted.max(response.compact_revision);
        for event in response.events.iter().take(GLANCE) {
            self.event(event);
        }
    }

    fn event(&mut self, event: &Event) {
        let Some(kv) = &event.kv else { return };
        if event.r#type == EventType::Delete as i32 {
            self.facts.remove(&kv.key);
        } else {
            self.kv(kv);
        }
    }

    fn header(&mut self, header: Option<&ResponseHeader>) {
        self.revision = self.revision.max(header.map_or(0, |header| header.revision));
    }

    fn range(&mut self, response: &RangeResponse) {
        self.header(response.header.as_ref());
        for kv in response.kvs.iter().take(GLANCE) {
            self.kv(kv);
        }
    }

    fn txn(&mut self, response: &TxnResponse) {
        self.header(response.header.as_ref());
        for op in response.responses.iter().take(GLANCE) {
            match &op.response {
                Some(Response::ResponseRange(response)) => self.range(response),
                Some(Response::ResponsePut(_) | Response::ResponseDeleteRange(_) | Response::ResponseTxn(_)) | None => {
                }
            }
        }
    }

    fn kv(&mut self, kv: &KeyValue) {
        let fact = self.facts.entry(kv.key.clone()).or_default();
        if kv.mod_revision >= fact.mod_revision {
            *fact = Fact {
                create_revision: kv.create_revision,
                mod_revision: kv.mod_revision,
                version: kv.version,
                lease: kv.lease,
                value: kv.value.clone(),
            };
        }
    }

    fn lease_seen(&mut self, now: Instant, id: i64, ttl: i64) {
        self.leases.retain(|lease| lease.id != id);
        match u64::try_from(ttl) {
            Ok(0) | Err(_) => self.gone = id,
            Ok(ttl) => {
                if self.leases.len() == LEASES_MAX {
                    self.gone = self.leases.remove(0).id;
                }
                self.leases.push(Lease {
                    id,
                    ends: now + std::time::Duration::from_secs(ttl),
                });
            }
        }
    }
}

/// The number's digits.
fn push_decimal(text: &mut Vec<u8>, number: u64) {
    if number >= 10 {
        push_decimal(text, number / 10);
    }
    text.push(b'0' + u8::try_from(number % 10).expect("a digit"));
}
