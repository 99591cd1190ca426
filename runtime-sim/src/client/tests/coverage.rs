//! Over a few seeds, clients send every kind of request.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use quoin_core::limits::{MAX_LEASE_TTL_SECONDS, MAX_TXN_OPS};
use quoin_core::proto::etcdserverpb::compare::{CompareResult, CompareTarget};
use quoin_core::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchRequest,
};
use quoin_core::store::check;

use super::bench::Bench;
use crate::client::keys::LONGEST_KEY_BYTES;
use crate::client::plan::Plan;
use crate::cluster::ports::Act;
use quoin_model::call::Call;

/// Everything that must be met.
const EXPECTED: &str = "
    alarm clear; alarm list;
    call Alarm; call Compact; call DeleteRange; call HashKv; call LeaseGrant; call LeaseKeepAlive; call LeaseLeases;
    call LeaseRevoke; call LeaseTimeToLive; call MemberList; call MoveLeader; call Put; call Range; call Status; call Txn;
    close stream; stop reading; compact again; compact future; compact logical; compact newest; compact physical;
    compare Create; compare Equal; compare Greater; compare Lease; compare Less; compare Mod; compare NotEqual;
    compare Value; compare Version; compare no key; compare nothing; compare range; compare unknown result;
    delete from key on; delete no key; delete prev_kv; delete range;
    give up; grant chosen id; grant id 0; grant negative id; grant too long; grant too short;
    hash compacted; hash future; hash newest; hash older;
    key longest; key prefix pair; lease keys;
    members linearizable; members serializable; open stream;
    put empty value; put ignore_lease; put ignore_lease and lease; put ignore_value; put ignore_value and value;
    put lease; put long value; put no key; put prev_kv;
    range Create; range Mod; range Value; range Version; range ascending; range compacted; range count_only;
    range descending; range everything; range from key on; range future; range keys_only; range limit; range linearizable;
    range max_create_revision; range max_mod_revision; range min_create_revision; range min_mod_revision;
    range negative limit; range no key; range of two keys; range older; range serializable; range unknown order;
    range unknown target; range upside down;
    txn delete; txn delete and put again; txn nested 1; txn nested 2; txn nested 3; txn nothing; txn put; txn range;
    txn range older; txn read-only; txn refused for a duplicate; txn serializable; txn too long; txn unset operation;
    watch cancel; watch cancel unknown; watch compacted; watch everything; watch explicit id; watch fragment;
    watch from key on; watch future; watch nodelete; watch noput; watch now; watch older; watch one key; watch prev_kv;
    watch prev_kv and fragment; watch progress; watch progress_notify; watch range
";

#[derive(Default)]
struct Coverage {
    counts: BTreeMap<String, u64>,
    revision: i64,
    compacted: i64,
}

impl Coverage {
    fn note(&mut self, what: impl Into<String>) {
        *self.counts.entry(what.into()).or_default() += 1;
    }

    fn note_if(&mut self, holds: bool, what: &str) {
        if holds {
            self.note(what);
        }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Ask { call, .. } => self.call(call),
            Act::Identify { who, .. } => panic!("these clients have no users: {who:?}"),
            Act::Open { .. } => self.note("open stream"),
            Act::Pause { .. } => self.note("stop reading"),
            Act::Watch { request, .. } => self.watch(request),
            Act::CloseStream { .. } => self.note("close stream"),
            Act::GiveUp { .. } => self.note("give up"),
        }
    }

    fn call(&mut self, call: &Call) {
        let name = format!("{call:?}");
        let name = name.split(['(', ' ', '{']).next().unwrap();
        self.note(format!("call {name}"));
        match call {
            Call::Alarm(request) => self.note(if request.action == 0 {
                "alarm list"
            } else {
                "alarm clear"
            }),
            Call::Compact(request) => {
                self.note(if request.physical {
                    "compact physical"
                } else {
                    "compact logical"
                });
                self.note_if(request.revision == self.revision, "compact newest");
                self.note_if(request.revision > self.revision, "compact future");
                self.note_if(request.revision <= self.compacted, "compact again");
            }
            Call::DeleteRange(request) => {
                self.note_if(request.prev_kv, "delete prev_kv");
                self.note_if(request.key.is_empty(), "delete no key");
                self.note_if(!request.range_end.is_empty(), "delete range");
                self.note_if(request.range_end == b"\0"[..], "delete from key on");
            }
            Call::HashKv(request) => self.revision("hash", request.revision),
            Call::LeaseGrant(request) => {
                self.note_if(request.id == 0, "grant id 0");
                self.note_if(request.id > 0, "grant chosen id");
                self.note_if(request.id < 0, "grant negative id");
                self.note_if(request.ttl <= 0, "grant too short");
                self.note_if(request.ttl > MAX_LEASE_TTL_SECONDS, "grant too long");
            }
            Call::LeaseTimeToLive(request) => self.note_if(request.keys, "lease keys"),
            Call::MemberList(request) => {
                let linearizable = request.linearizable;
                self.note(if linearizable {
                    "members linearizable"
                } else {
                    "members serializable"
                });
            }
            Call::Put(request) => self.put(request),
            Call::Range(request) => self.range("range", request),
            Call::Txn(request) => self.txn(request),
            Call::LeaseKeepAlive { .. }
            | Call::LeaseLeases
            | Call::LeaseRevoke(_)
            | Call::MoveLeader(_)
            | Call::Status => {}
            _ => {
                panic!("operators change the membership, and these clients have no users: {call:?}")
            }
        }
    }

    fn put(&mut self, request: &PutRequest) {
        self.note_if(request.key.is_empty(), "put no key");
        self.note_if(request.key.len() == LONGEST_KEY_BYTES, "key longest");
        self.note_if(request.key == b"a\0"[..], "key prefix pair");
        self.note_if(request.prev_kv, "put prev_kv");
        self.note_if(request.lease != 0, "put lease");
        self.note_if(request.value.is_empty() && !request.ignore_value, "put empty value");
        self.note_if(request.value.len() > 5_000, "put long value");
        self.note_if(request.ignore_lease, "put ignore_lease");
        self.note_if(request.ignore_value, "put ignore_value");
        self.note_if(request.ignore_lease && request.lease != 0, "put ignore_lease and lease");
        self.note_if(
            request.ignore_value && !request.value.is_empty(),
            "put ignore_value and value",
        );
    }

    fn range(&mut self, what: &str, request: &RangeRequest) {
        self.revision(what, request.revision);
        if what != "range" {
            return;
        }
        let end = &request.range_end[..];
        self.note_if(request.key.is_empty(), "range no key");
        self.note_if(end == b"\0", "range from key on");
        self.note_if(end == b"\0" && request.key == b"\0"[..], "range everything");
        self.note_if(end > &request.key[..], "range of two keys");
        self.note_if(end.len() > 1 && end < &request.key[..], "range upside down");
        self.note(if request.serializable {
            "range serializable"
        } else {
            "range linearizable"
        });
        self.note_if(request.keys_only, "range keys_only");
        self.note_if(request.count_only, "range count_only");
        self.note_if(request.limit > 0, "range limit");
        self.note_if(request.limit < 0, "range negative limit");
        self.note_if(request.min_mod_revision != 0, "range min_mod_revision");
        self.note_if(request.max_mod_revision != 0, "range max_mod_revision");
        self.note_if(request.min_create_revision != 0, "range min_create_revision");
        self.note_if(request.max_create_revision != 0, "range max_create_revision");
        match SortOrder::try_from(request.sort_order) {
            Ok(SortOrder::None) => {}
            Ok(SortOrder::Ascend) => self.note("range ascending"),
            Ok(SortOrder::Descend) => self.note("range descending"),
            Err(_) => self.note("range unknown order"),
        }
        match SortTarget::try_from(request.sort_target) {
            Ok(SortTarget::Key) => {}
            Ok(target) => self.note(format!("range {target:?}")),
            Err(_) => self.note("range unknown target"),
        }
    }

    fn revision(&mut self, what: &str, revision: i64) {
        let words = match revision {
            0 => return,
            _ if revision > self.revision => "future",
            _ if revision < self.compacted => "compacted",
            _ if revision == self.revision => "newest",
            _ => "older",
        };
        self.note(format!("{what} {words}"));
    }

    fn txn(&mut self, request: &TxnRequest) {
        let depth = depth(request);
        self.note_if(depth > 0, &format!("txn nested {depth}"));
        self.note_if(request.success.is_empty() && request.failure.is_empty(), "txn nothing");
        self.note_if(request.success.len() > MAX_TXN_OPS, "txn too long");
        let duplicate = check::txn(request, MAX_TXN_OPS) == Err(quoin_core::error::Error::DuplicateKey);
        self.note_if(duplicate, "txn refused for a duplicate");
        let reads = !request.success.is_empty() && check::is_read_only(request);
        self.note_if(reads, "txn read-only");
        self.note_if(reads && check::is_serializable(request), "txn serializable");
        let again = match &request.success[..] {
            [
                RequestOp {
                    request: Some(Op::RequestDeleteRange(delete)),
                },
                RequestOp {
                    request: Some(Op::RequestPut(put)),
                },
            ] => delete.key == put.key,
            _ => false,
        };
        self.note_if(again, "txn delete and put again");
        self.level(request);
    }

    fn level(&mut self, request: &TxnRequest) {
        for compare in &request.compare {
            self.compare(compare);
        }
        for op in request.success.iter().chain(&request.failure) {
            match &op.request {
                Some(Op::RequestRange(request)) => {
                    self.note("txn range");
                    self.range("txn range", request);
                }
                Some(Op::RequestPut(_)) => self.note("txn put"),
                Some(Op::RequestDeleteRange(_)) => self.note("txn delete"),
                Some(Op::RequestTxn(nested)) => self.level(nested),
                None => self.note("txn unset operation"),
            }
        }
    }

    fn compare(&mut self, compare: &Compare) {
        let target = CompareTarget::try_from(compare.target).unwrap();
        self.note(format!("compare {target:?}"));
        match CompareResult::try_from(compare.result) {
            Ok(result) => self.note(format!("compare {result:?}")),
            Err(_) => self.note("compare unknown result"),
        }
        self.note_if(!compare.range_end.is_empty(), "compare range");
        self.note_if(compare.key.is_empty(), "compare no key");
        self.note_if(compare.target_union.is_none(), "compare nothing");
    }

    fn watch(&mut self, request: &WatchRequest) {
        match request.request_union.as_ref().unwrap() {
            RequestUnion::CreateRequest(create) => self.create(create),
            RequestUnion::CancelRequest(cancel) => {
                let unknown = cancel.watch_id == 99;
                self.note(if unknown {
                    "watch cancel unknown"
                } else {
                    "watch cancel"
                });
            }
            RequestUnion::ProgressRequest(_) => self.note("watch progress"),
        }
    }

    fn create(&mut self, create: &WatchCreateRequest) {
        self.note_if(create.start_revision == 0, "watch now");
        self.revision("watch", create.start_revision);
        let end = &create.range_end[..];
        self.note_if(end.is_empty(), "watch one key");
        self.note_if(end == b"\0", "watch from key on");
        self.note_if(end == b"\0" && create.key == b"\0"[..], "watch everything");
        self.note_if(end > &create.key[..], "watch range");
        self.note_if(create.filters.contains(&0), "watch noput");
        self.note_if(create.filters.contains(&1), "watch nodelete");
        self.note_if(create.prev_kv, "watch prev_kv");
        self.note_if(create.fragment, "watch fragment");
        self.note_if(create.prev_kv && create.fragment, "watch prev_kv and fragment");
        self.note_if(create.progress_notify, "watch progress_notify");
        self.note_if(create.watch_id != 0, "watch explicit id");
    }
}

fn depth(txn: &TxnRequest) -> u64 {
    let ops = txn.success.iter().chain(&txn.failure);
    ops.map(|op| match &op.request {
        Some(Op::RequestTxn(nested)) => depth(nested) + 1,
        _ => 0,
    })
    .max()
    .unwrap_or(0)
}

/// Values that an act would write, in every branch.
fn values(act: &Act, found: &mut Vec<Bytes>) {
    fn of_txn(txn: &TxnRequest, found: &mut Vec<Bytes>) {
        for op in txn.success.iter().chain(&txn.failure) {
            match &op.request {
                Some(Op::RequestPut(put)) => found.push(put.value.clone()),
                Some(Op::RequestTxn(nested)) => of_txn(nested, found),
                Some(Op::RequestRange(_) | Op::RequestDeleteRange(_)) | None => {}
            }
        }
    }
    if let Act::Ask { call, .. } = act {
        match call {
            Call::Put(put) => found.push(put.value.clone()),
            Call::Txn(txn) => of_txn(txn, found),
            _ => {}
        }
    }
}

fn run(seed: u64) -> Bench {
    let mut bench = Bench::new(seed, Plan::draw(seed));
    bench.fails_percent = seed % 4 * 5;
    bench.breaks_percent = seed % 3 * 5;
    bench.run(Duration::from_secs(900), 1_500);
    bench
}

#[test]
fn everything_is_asked_and_no_value_is_written_twice() {
    let mut coverage = Coverage::default();
    let mut acts = 0;
    for seed in 0..150 {
        let bench = run(seed);
        acts += bench.acts.len();
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for ((_, act), revisions) in bench.acts.iter().zip(&bench.revisions) {
            (coverage.revision, coverage.compacted) = *revisions;
            coverage.act(act);
            values(act, &mut found);
        }
        for value in found.drain(..).filter(|value| !value.is_empty()) {
            assert!(seen.insert(value.clone()), "seed {seed}: {value:?} is written twice");
        }
    }
    let table: Vec<String> = coverage
        .counts
        .iter()
        .map(|(what, count)| format!("{count:8} {what}"))
        .collect();
    println!("{acts} acts\n{}", table.join("\n"));
    let words = EXPECTED.split_whitespace().collect::<Vec<_>>().join(" ");
    let missing: Vec<&str> = words
        .split("; ")
        .map(|each| each.trim_end_matches(';'))
        .filter(|each| !coverage.counts.contains_key(*each))
        .collect();
    assert!(missing.is_empty(), "never asked: {missing:?}");
}

#[test]
fn equal_seeds_do_equal_things() {
    for seed in 0..20 {
        let (one, other) = (run(seed), run(seed));
        assert!(one.acts == other.acts, "seed {seed}");
        assert!(one.acts != run(seed + 1_000).acts, "seed {seed} and {}", seed + 1_000);
    }
}
