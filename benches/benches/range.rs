//! Reads of a view: one key, a page, a count, keys without values.

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use quoin_core::proto::etcdserverpb::RangeRequest;

#[path = "common/data.rs"]
mod data;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/stock.rs"]
mod stock;

/// A request for all keys.
fn everything() -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..RangeRequest::default()
    }
}

fn get(criterion: &mut Criterion) {
    let view = stock::stock(100_000, 1, &data::value(256)).view();
    let mut n = 0;
    criterion.bench_function("range/get", |bencher| {
        bencher.iter_batched(
            || {
                n = (n + 7_919) % 100_000;
                RangeRequest {
                    key: data::key(n),
                    ..RangeRequest::default()
                }
            },
            |request| (view.range(&request).expect("a valid request"), request),
            criterion::BatchSize::SmallInput,
        );
    });
}

fn pages(criterion: &mut Criterion) {
    let view = stock::stock(10_000, 1, &data::value(1_024)).view();
    let mut group = criterion.benchmark_group("range/10000 keys of 1 KiB");
    group.throughput(Throughput::Elements(10_000));
    let keys_only = RangeRequest {
        keys_only: true,
        ..everything()
    };
    for (name, request) in [("whole", everything()), ("keys only", keys_only)] {
        group.bench_function(name, |bencher| {
            bencher.iter_with_large_drop(|| view.range(&request).expect("a valid request"));
        });
    }
    group.finish();
}

fn count(criterion: &mut Criterion) {
    let view = stock::stock(1_000_000, 1, &data::value(8)).view();
    let request = RangeRequest {
        key: data::key(10),
        range_end: data::key(999_990),
        count_only: true,
        ..RangeRequest::default()
    };
    criterion.bench_function("range/count of a million", |bencher| {
        bencher.iter(|| view.range(&request).expect("a valid request").count);
    });
}

fn main() {
    measure::run(&[get, pages, count]);
}
