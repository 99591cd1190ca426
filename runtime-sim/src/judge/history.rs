//! What the key space was at every revision, learned from events and kept for ever: a small model of its own, which shares
//! nothing with the store but the messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use quoin_core::mvcc::{Event, EventKind};
use quoin_core::proto::etcdserverpb::compare::{CompareResult, TargetUnion};
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::response_op::Response as Result;
use quoin_core::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, ResponseOp,
    TxnRequest, TxnResponse,
};
use quoin_core::proto::mvccpb::KeyValue;

use super::{Verdict, ensure};

/// All keys at one moment.
pub type State = BTreeMap<Bytes, KeyValue>;

/// One change; of a deletion the pair has only key and revision.
pub type Change = (EventKind, KeyValue);

/// One revision.
#[derive(Clone, Debug)]
struct Fact {
    changes: Vec<Change>,
    state: Arc<State>,
}

/// Everything that ever happened, by revision.
#[derive(Clone, Debug)]
pub struct History {
    facts: BTreeMap<i64, Fact>,
    /// Which values were written, and when.
    values: BTreeMap<Bytes, i64>,
}

/// The revision of a store that nothing was written to.
const FIRST: i64 = 1;

impl Default for History {
    fn default() -> Self {
        let nothing = Fact {
            changes: Vec::new(),
            state: Arc::default(),
        };
        Self {
            facts: BTreeMap::from([(FIRST, nothing)]),
            values: BTreeMap::new(),
        }
    }
}

impl History {
    /// The newest revision known.
    #[must_use]
    pub fn last(&self) -> i64 {
        self.facts.last_key_value().map_or(FIRST, |(revision, _)| *revision)
    }

    /// All keys at `revision`.
    #[must_use]
    pub fn state(&self, revision: i64) -> Option<&Arc<State>> {
        self.facts.get(&revision).map(|fact| &fact.state)
    }

    /// What changed at `revision`.
    #[must_use]
    pub fn changes(&self, revision: i64) -> &[Change] {
        self.facts.get(&revision).map_or(&[], |fact| &fact.changes)
    }

    /// When a value was written, if it was.
    #[must_use]
    pub fn written_at(&self, value: &Bytes) -> Option<i64> {
        self.values.get(value).copied()
    }

    /// Everything that changed after `revision`, in order.
    pub fn changes_after(&self, revision: i64) -> impl Iterator<Item = &Change> {
        self.facts.range(revision + 1..).flat_map(|(_, fact)| &fact.changes)
    }

    /// Learns events, whole revisions in order. What is known already must be told the same way again.
    pub fn learn(&mut self, events: &[Event]) -> Verdict {
        for of_revision in events.chunk_by(|a, b| a.kv.mod_revision == b.kv.mod_revision) {
            let revision = of_revision[0].kv.mod_revision;
            let told: Vec<Change> = of_revision.iter().map(|event| (event.kind, event.kv.clone())).collect();
            if let Some(known) = self.facts.get(&revision) {
                ensure(known.changes == told, || {
                    format!("revision {revision} was {:?} and now is {told:?}", known.changes)
                })?;
            } else {
                self.append(revision, of_revision, told)?;
            }
        }
        Ok(())
    }

    fn append(&mut self, revision: i64, events: &[Event], told: Vec<Change>) -> Verdict {
        let last = self.last();
        ensure(revision == last + 1, || {
            format!("revision {revision} follows revision {last}")
        })?;
        let mut state = State::clone(&self.facts[&last].state);
        for event in events {
            let before = match event.kind {
                EventKind::Put => {
                    let kv = &event.kv;
                    let expected = put_into(&mut state, revision, &kv.key, &kv.value, kv.lease);
                    let right = &state[&kv.key];
                    ensure(right == kv, || {
                        format!("the pair of revision {revision} is {kv:?} and should be {right:?}")
                    })?;
                    let twice = self.values.insert(kv.value.clone(), revision);
                    ensure(twice.is_none(), || {
                        format!(
                            "value {:?} was written at revision {twice:?} and again at {revision}",
                            kv.value
                        )
                    })?;
                    expected
                }
                EventKind::Delete => {
                    let before = state.remove(&event.kv.key);
                    ensure(before.is_some(), || {
                        format!("revision {revision} deletes {:?}, which is not there", event.kv.key)
                    })?;
                    before
                }
            };
            ensure(before == event.prev_kv, || {
                format!("before revision {revision} was {before:?}, not {:?}", event.prev_kv)
            })?;
        }
        self.facts.insert(
            revision,
            Fact {
                changes: told,
                state: Arc::new(state),
            },
        );
        Ok(())
    }
}

/// Puts a pair; returns the one before.
fn put_into(state: &mut State, revision: i64, key: &Bytes, value: &Bytes, lease: i64) -> Option<KeyValue> {
    let before = state.get(key).cloned();
    let pair = KeyValue {
        key: key.clone(),
        create_revision: before.as_ref().map_or(revision, |before| before.create_revision),
        mod_revision: revision,
        version: before.as_ref().map_or(1, |before| before.version + 1),
        value: value.clone(),
        lease,
    };
    state.insert(key.clone(), pair);
    before
}

/// A request carried out on a state.
#[derive(Debug)]
pub struct Evaluation {
    /// What was before; conditions are all decided by that, those of nested transactions too.
    base: Arc<State>,
    state: State,
    revision: i64,
    /// What it changed.
    pub changes: Vec<Change>,
}

impl Evaluation {
    /// Begins with `state`; changes get `revision`.
    #[must_use]
    pub fn new(state: &Arc<State>, revision: i64) -> Self {
        Self {
            base: Arc::clone(state),
            state: State::clone(state),
            revision,
            changes: Vec::new(),
        }
    }

    /// A write.
    pub fn put(&mut self, request: &PutRequest) -> PutResponse {
        let before = put_into(
            &mut self.state,
            self.revision,
            &request.key,
            &request.value,
            request.lease,
        );
        self.changes.push((EventKind::Put, self.state[&request.key].clone()));
        PutResponse {
            header: None,
            prev_kv: before.filter(|_| request.prev_kv),
        }
    }

    /// A deletion.
    pub fn delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let found: Vec<KeyValue> = range(&self.state, &request.key, &request.range_end).cloned().collect();
        for kv in &found {
            self.state.remove(&kv.key);
            let gone = KeyValue {
                key: kv.key.clone(),
                mod_revision: self.revision,
                ..KeyValue::default()
            };
            self.changes.push((EventKind::Delete, gone));
        }
        let deleted = i64::try_from(found.len()).unwrap_or(i64::MAX);
        DeleteRangeResponse {
            header: None,
            deleted,
            prev_kvs: if request.prev_kv { found } else { Vec::new() },
        }
    }

    /// A read.
    #[must_use]
    pub fn range(&self, request: &RangeRequest) -> RangeResponse {
        let kvs: Vec<KeyValue> = range(&self.state, &request.key, &request.range_end).cloned().collect();
        let count = i64::try_from(kvs.len()).unwrap_or(i64::MAX);
        RangeResponse {
            header: None,
            kvs,
            more: false,
            count,
        }
    }

    /// A transaction.
    pub fn txn(&mut self, request: &TxnRequest) -> TxnResponse {
        let succeeded = request.compare.iter().all(|compare| holds(&self.base, compare));
        let branch = if succeeded { &request.success } else { &request.failure };
        let responses = branch.iter().map(|op| {
            let result = match op.request.as_ref().expect("we set every operation") {
                Op::RequestPut(put) => Result::ResponsePut(self.put(put)),
                Op::RequestDeleteRange(delete) => Result::ResponseDeleteRange(self.delete(delete)),
                Op::RequestRange(range) => Result::ResponseRange(self.range(range)),
                Op::RequestTxn(txn) => Result::ResponseTxn(self.txn(txn)),
            };
            ResponseOp { response: Some(result) }
        });
        TxnResponse {
            header: None,
            succeeded,
            responses: responses.collect(),
        }
    }
}

fn range<'a>(state: &'a State, key: &Bytes, end: &Bytes) -> impl Iterator<Item = &'a KeyValue> {
    let (first, key, end) = (state.range(key.clone()..), key.clone(), end.clone());
    let within = move |found: &Bytes| match &end[..] {
        b"" => *found == key,
        b"\0" => true,
        _ => *found < end,
    };
    first.take_while(move |(found, _)| within(found)).map(|(_, kv)| kv)
}

fn holds(state: &State, compare: &Compare) -> bool {
    let absent = KeyValue::default();
    let found = state.get(&compare.key);
    let kv = found.unwrap_or(&absent);
    let order = match compare.target_union.as_ref().expect("we set every target") {
        TargetUnion::Version(version) => kv.version.cmp(version),
        TargetUnion::CreateRevision(revision) => kv.create_revision.cmp(revision),
        TargetUnion::ModRevision(revision) => kv.mod_revision.cmp(revision),
        TargetUnion::Lease(lease) => kv.lease.cmp(lease),
        // A key that is not there has no value that could compare in any way.
        TargetUnion::Value(_) if found.is_none() => return false,
        TargetUnion::Value(value) => kv.value[..].cmp(&value[..]),
    };
    match CompareResult::try_from(compare.result).expect("we set every result") {
        CompareResult::Equal => order.is_eq(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
        CompareResult::NotEqual => order.is_ne(),
    }
}

/// A response without the headers, which say more than the model knows.
#[must_use]
pub fn without_headers(mut response: TxnResponse) -> TxnResponse {
    response.header = None;
    for op in &mut response.responses {
        match &mut op.response {
            Some(Result::ResponsePut(put)) => put.header = None,
            Some(Result::ResponseDeleteRange(delete)) => delete.header = None,
            Some(Result::ResponseRange(range)) => range.header = None,
            Some(Result::ResponseTxn(txn)) => *txn = without_headers(std::mem::take(txn)),
            None => {}
        }
    }
    response
}
