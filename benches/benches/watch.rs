//! Fan-out: one event to many watchers of its key, or of ranges around it. Each stream has a hundred watchers.

use std::cell::RefCell;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use quoin_core::mvcc::Mvcc;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{WatchCreateRequest, WatchRequest};
use quoin_core::time::Instant;
use quoin_core::watch::{Hub, HubConfig, StreamId, WatchInput, WatchOutput};

#[path = "common/data.rs"]
mod data;
#[path = "common/measure.rs"]
mod measure;

const WATCHERS_PER_STREAM: u64 = 100;
/// The number of the written key.
const WRITTEN: usize = 50_000_000;

/// A store with one key, and a hub over it.
struct World {
    mvcc: Mvcc,
    hub: Hub,
    outputs: Vec<WatchOutput>,
}

impl World {
    fn new(watchers: u64, create: fn(usize) -> WatchCreateRequest) -> Self {
        let mvcc = Mvcc::new();
        let config = HubConfig {
            progress_interval: quoin_core::watch::DEFAULT_PROGRESS_INTERVAL,
            max_response_bytes: 2 * 1024 * 1024,
            seed: 1,
            ..HubConfig::default()
        };
        let hub = Hub::new(config, mvcc.view());
        let mut world = Self {
            mvcc,
            hub,
            outputs: Vec::new(),
        };
        for n in 0..watchers {
            let stream = StreamId(n / WATCHERS_PER_STREAM);
            if n % WATCHERS_PER_STREAM == 0 {
                world.step(WatchInput::Open { stream });
            }
            let request = RequestUnion::CreateRequest(create(n as usize));
            let request = WatchRequest {
                request_union: Some(request),
            };
            world.step(WatchInput::Request { stream, request });
            world.send();
        }
        world
    }

    fn step(&mut self, input: WatchInput) {
        self.hub.step(Instant::ZERO, input, &mut self.outputs);
    }

    /// Reports all responses as sent.
    fn send(&mut self) {
        let sent: Vec<StreamId> = self.outputs.drain(..).map(|output| output.stream).collect();
        for of_stream in sent.chunk_by(|a, b| a == b) {
            self.step(WatchInput::Sent {
                stream: of_stream[0],
                responses: of_stream.len(),
            });
        }
    }

    /// Writes the key.
    fn write(&mut self) -> WatchInput {
        let mut events = Vec::new();
        let mut write = self.mvcc.begin();
        write.put(data::key(WRITTEN), data::value(256), 0);
        write.end(&mut events, &mut Vec::new());
        WatchInput::Applied {
            view: self.mvcc.view(),
            events: Arc::from(events),
        }
    }
}

/// Every watcher watches the key itself.
fn of_key(_: usize) -> WatchCreateRequest {
    WatchCreateRequest {
        key: data::key(WRITTEN),
        ..WatchCreateRequest::default()
    }
}

/// Every watcher watches a range of its own with the key in it.
fn of_range(n: usize) -> WatchCreateRequest {
    WatchCreateRequest {
        key: data::key(WRITTEN - 1 - n),
        range_end: data::key(WRITTEN + 1 + n),
        ..WatchCreateRequest::default()
    }
}

fn fan_out(criterion: &mut Criterion) {
    for (name, create) in [("keys", of_key as fn(usize) -> _), ("ranges", of_range)] {
        let mut group = criterion.benchmark_group(format!("watch/fan-out by {name}"));
        for watchers in [1, 100, 1_000, 10_000] {
            let world = RefCell::new(World::new(watchers, create));
            group.throughput(Throughput::Elements(watchers));
            group.bench_function(BenchmarkId::from_parameter(watchers), |bencher| {
                bencher.iter_batched(
                    || {
                        let mut world = world.borrow_mut();
                        world.send();
                        world.write()
                    },
                    |input| {
                        let mut world = world.borrow_mut();
                        world.step(input);
                        assert_eq!(world.outputs.len() as u64, watchers, "every watcher gets the event");
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

fn main() {
    measure::run(&[fan_out]);
}
