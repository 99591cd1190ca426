//! Applying entries of the log to a store of 100,000 keys, with and without readers that hold views.

use std::cell::RefCell;

use criterion::{BatchSize, Criterion, Throughput};
use prost::Message as _;
use quoin_core::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quoin_core::proto::etcdserverpb::request_op::Request;
use quoin_core::proto::etcdserverpb::{
    Compare, InternalRaftRequest, PutRequest, RangeRequest, RequestHeader, RequestOp, TxnRequest,
};
use quoin_core::proto::raftpb::Entry;
use quoin_core::store::{Applied, ApplyContext, Store, StoreConfig};
use quoin_core::table::{Bucket, TableOp, digest};

#[path = "common/data.rs"]
mod data;
#[path = "common/measure.rs"]
mod measure;

const KEYS: usize = 100_000;
/// Entries applied at a time.
const BATCH: usize = 100;

/// Makes the request for a key.
type MakeRequest = fn(usize) -> InternalRaftRequest;

/// A store, and the log whose entries it applies.
struct Log {
    store: Store,
    index: u64,
    applied: Applied,
}

impl Log {
    /// A store of [`KEYS`] keys.
    fn stocked() -> Self {
        let mut log = Self {
            store: Store::new(StoreConfig::default()),
            index: 0,
            applied: Applied::default(),
        };
        for n in 0..KEYS {
            let entry = entry(n as u64 + 1, put(n));
            log.apply(&entry);
        }
        log.index = KEYS as u64;
        log
    }

    /// The next entries, with requests for keys in random places.
    fn next(&mut self, request: MakeRequest) -> Vec<Entry> {
        let entries = (self.index + 1..).take(BATCH);
        self.index += BATCH as u64;
        entries
            .map(|index| entry(index, request(index as usize * 7_919 % KEYS)))
            .collect()
    }

    /// Applies entries and takes the rows of their batch, including the seal.
    fn apply_and_write(&mut self, entries: &[Entry]) -> Vec<TableOp> {
        let context = ApplyContext {
            quota_bytes: None,
            wanted: &|_| true,
        };
        for entry in entries {
            let applied = self.store.apply(entry, context, &mut self.applied);
            applied.expect("entries follow each other");
        }
        let ops = self.store.take_ops(&mut self.applied);
        self.applied.clear();
        ops
    }

    fn apply(&mut self, entry: &Entry) {
        let context = ApplyContext {
            quota_bytes: None,
            wanted: &|_| true,
        };
        self.store
            .apply(entry, context, &mut self.applied)
            .expect("entries follow each other");
        self.applied.clear();
    }
}

fn entry(index: u64, request: InternalRaftRequest) -> Entry {
    let header = RequestHeader {
        id: index,
        ..RequestHeader::default()
    };
    let request = InternalRaftRequest {
        header: Some(header),
        ..request
    };
    Entry {
        term: 1,
        index,
        data: request.encode_to_vec().into(),
        ..Entry::default()
    }
}

fn put_request(n: usize) -> PutRequest {
    PutRequest {
        key: data::key(n),
        value: data::value(256),
        ..PutRequest::default()
    }
}

fn put(n: usize) -> InternalRaftRequest {
    InternalRaftRequest {
        put: Some(put_request(n)),
        ..InternalRaftRequest::default()
    }
}

/// A transaction as Kubernetes makes it: if the key has the expected revision, write it, else read it.
fn txn(n: usize) -> InternalRaftRequest {
    let compare = Compare {
        key: data::key(n),
        target: CompareTarget::Mod as i32,
        result: CompareResult::Greater as i32,
        target_union: Some(TargetUnion::ModRevision(0)),
        ..Compare::default()
    };
    let range = RangeRequest {
        key: data::key(n),
        ..RangeRequest::default()
    };
    let op = |request| RequestOp { request: Some(request) };
    let txn = TxnRequest {
        compare: vec![compare],
        success: vec![op(Request::RequestPut(put_request(n)))],
        failure: vec![op(Request::RequestRange(range))],
    };
    InternalRaftRequest {
        txn: Some(txn),
        ..InternalRaftRequest::default()
    }
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store/apply 100");
    group.throughput(Throughput::Elements(BATCH as u64));
    let cases: [(&str, MakeRequest, bool); 4] = [
        ("puts", put, false),
        ("puts, then a view", put, true),
        ("txns", txn, false),
        ("txns, then a view", txn, true),
    ];
    for (name, request, with_view) in cases {
        let log = RefCell::new(Log::stocked());
        let mut view = None;
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || log.borrow_mut().next(request),
                |entries| {
                    let mut log = log.borrow_mut();
                    entries.iter().for_each(|entry| log.apply(entry));
                    view = with_view.then(|| log.store.view());
                    entries
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// The cost of a row's digest, which the seal of a batch needs for each written or deleted row.
fn digests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store/digest of a row");
    for length in [256, 1024, 65_536] {
        let row = data::value(length);
        group.throughput(Throughput::Bytes(row.len() as u64));
        group.bench_function(format!("{length} B"), |bencher| {
            bencher.iter(|| digest(Bucket::Key, 17, std::hint::black_box(&row)));
        });
    }
    group.finish();
}

/// Applying entries, and taking the rows of their batches.
fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store/apply 100 and take their rows");
    group.throughput(Throughput::Elements(BATCH as u64));
    let log = RefCell::new(Log::stocked());
    group.bench_function("puts", |bencher| {
        bencher.iter_batched(
            || log.borrow_mut().next(put),
            |entries| log.borrow_mut().apply_and_write(&entries),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn main() {
    measure::run(&[apply, batches, digests]);
}
