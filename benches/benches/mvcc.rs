//! Work over the whole history: a step of compaction, and the hash that members compare.

use std::cell::RefCell;

use criterion::{BatchSize, Criterion, Throughput};
use quoin_core::limits::COMPACTION_BATCH_REVISIONS;
use quoin_core::mvcc::{CompactProgress, Mvcc};

#[path = "common/data.rs"]
mod data;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/stock.rs"]
mod stock;

/// Keys of the store.
const KEYS: usize = 100_000;

/// A store whose every key was written twice, compacted at its end: half of its revisions can be deleted.
fn compacted() -> Mvcc {
    let mut mvcc = stock::stock(KEYS, 2, &data::value(256));
    mvcc.compact(mvcc.revision(), &mut Vec::new())
        .expect("nothing was compacted yet");
    mvcc
}

fn compact(criterion: &mut Criterion) {
    let mvcc = RefCell::new(compacted());
    let mut group = criterion.benchmark_group("mvcc/compact");
    group.throughput(Throughput::Elements(COMPACTION_BATCH_REVISIONS as u64));
    group.bench_function("a step with a view outstanding", |bencher| {
        bencher.iter_batched(
            || {
                let mut mvcc = mvcc.borrow_mut();
                if !mvcc.is_compacting() {
                    *mvcc = compacted();
                }
                mvcc.view()
            },
            |view| {
                let mut ops = Vec::new();
                let progress = mvcc.borrow_mut().compact_step(COMPACTION_BATCH_REVISIONS, &mut ops);
                assert_ne!(progress, CompactProgress::Idle);
                (view, ops)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn hash(criterion: &mut Criterion) {
    let view = stock::stock(KEYS, 1, &data::value(256)).view();
    let mut group = criterion.benchmark_group("mvcc/hash");
    group.throughput(Throughput::Elements(KEYS as u64));
    group.bench_function("100000 keys", |bencher| {
        bencher.iter(|| view.hash_kv(0).expect("the newest revision is kept"));
    });
    group.finish();
}

fn main() {
    measure::run(&[compact, hash]);
}
