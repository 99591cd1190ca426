//! Puts through a node that is a cluster of one, on disks that finish at once: the cost of the node itself.

use std::cell::RefCell;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use quoin_core::boot::founding;
use quoin_core::id::MemberId;
use quoin_core::member::Token;
use quoin_core::membership::Member;
use quoin_core::node::{Config, Done, Effect, Input, Node, Request};
use quoin_core::proto::etcdserverpb::PutRequest;
use quoin_core::store::{Store, StoreConfig, View};
use quoin_core::time::Instant;

#[path = "common/data.rs"]
mod data;
#[path = "common/measure.rs"]
mod measure;

const ME: MemberId = MemberId(1);
/// Keys that are written in turn.
const KEYS: usize = 10_000;

/// A node and its host.
struct Host {
    node: Node,
    now: Instant,
    view: View,
    tokens: u64,
}

impl Host {
    /// A node that leads.
    fn ready() -> Self {
        let peer = Member {
            id: ME,
            peer_urls: vec!["http://localhost:2380".into()],
            ..Member::default()
        };
        let store = Store::new(StoreConfig::default());
        let node = Node::start(Config::new(ME), founding(&[peer]), store, 1, 1, Instant::ZERO)
            .expect("an empty table and the log of a new cluster agree");
        let view = node.view();
        let mut host = Self {
            node,
            now: Instant::ZERO,
            view,
            tokens: 0,
        };
        host.turn(vec![Input::Wake]);
        host
    }

    /// The requests of `puts` clients, each of which puts a key.
    fn puts(&mut self, puts: usize) -> Vec<Input> {
        let deadline = self.now + Duration::from_secs(7);
        let mut put = || {
            self.tokens += 1;
            let put = PutRequest {
                key: data::key(self.tokens as usize * 7_919 % KEYS),
                value: data::value(256),
                ..PutRequest::default()
            };
            let (token, request) = (Token(self.tokens), Request::Put(put));
            Input::Request {
                token,
                request,
                deadline,
            }
        };
        (0..puts).map(|_| put()).collect()
    }

    /// Hands inputs to the node and carries out its effects until there are no more; counts successful answers.
    fn turn(&mut self, mut inputs: Vec<Input>) -> usize {
        let mut effects = Vec::new();
        let mut answers = 0;
        self.now = self.now + Duration::from_millis(1);
        while !inputs.is_empty() {
            self.node.step(self.now, inputs.drain(..), &mut effects);
            for effect in effects.drain(..) {
                match effect {
                    Effect::Halt(halt) => panic!("the node ended: {halt:?}"),
                    Effect::Log(job) if job.sync => inputs.push(Input::Done(Done::Persisted { batch: job.batch })),
                    Effect::Hash(_) | Effect::Log(_) | Effect::Peer(_) | Effect::Tokens(_) => {}
                    Effect::Publish { view, .. } => self.view = view,
                    Effect::Reply { result, .. } => answers += usize::from(result.is_ok()),
                    Effect::Table(job) => inputs.push(Input::Done(Done::Stored {
                        batch: job.batch,
                        durable_index: job.index,
                    })),
                }
            }
        }
        answers
    }
}

fn step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("node/puts in a turn");
    for puts in [1, 100, 1_000] {
        let host = RefCell::new(Host::ready());
        group.throughput(Throughput::Elements(puts as u64));
        group.bench_function(BenchmarkId::from_parameter(puts), |bencher| {
            bencher.iter_batched(
                || host.borrow_mut().puts(puts),
                |inputs| assert_eq!(host.borrow_mut().turn(inputs), puts, "every put is answered"),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn main() {
    measure::run(&[step]);
}
