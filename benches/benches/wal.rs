//! Encoding the write-ahead log: one entry, and a batch of entries as one sync covers them. No file is touched.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use quoin_core::id::{ClusterId, MemberId};
use quoin_core::proto::raftpb::{Entry, HardState};
use quoin_core::wal::{Identity, Save, Writer};

#[path = "common/data.rs"]
mod data;
#[path = "common/measure.rs"]
mod measure;

/// Bytes of an entry: about as many as a put of 256 bytes has.
const ENTRY_BYTES: usize = 300;

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wal/encode");
    for size in [1, 100] {
        let data = Bytes::from([data::key(1), data::value(ENTRY_BYTES)].concat()).slice(..ENTRY_BYTES);
        let entries = (1..=size).map(|index| Entry {
            term: 2,
            index,
            data: data.clone(),
            ..Entry::default()
        });
        let mut save = Save {
            entries: entries.collect(),
            ..Save::default()
        };
        let identity = Identity {
            member: MemberId(1),
            cluster: ClusterId(1),
        };
        let mut out = Vec::new();
        let mut writer = Writer::create(identity, &mut out);
        let mut commit = 0;
        group.throughput(Throughput::Bytes(size * ENTRY_BYTES as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                commit += 1;
                out.clear();
                save.state = Some(HardState {
                    term: 2,
                    vote: 1,
                    commit,
                });
                writer.write([&save], &mut out);
                out.len()
            });
        });
    }
    group.finish();
}

fn main() {
    measure::run(&[encode]);
}
