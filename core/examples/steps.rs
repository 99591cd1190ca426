//! A cluster of one member. This program does the work of a host: it steps the node, and its disk and table finish at
//! once.
//!
//! `cargo run -p quoin-core --example steps`. A test traces the system calls: between the first and the last line of
//! output, the program makes none except for memory (`conformance/tests/tidy/purity.rs`).

use std::time::Duration;

use quoin_core::boot::founding;
use quoin_core::id::MemberId;
use quoin_core::member::Token;
use quoin_core::membership::Member;
use quoin_core::node::{Config, Done, Effect, Input, Node, Request};
use quoin_core::proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest};
use quoin_core::store::{Store, StoreConfig};
use quoin_core::time::Instant;

const ME: MemberId = MemberId(1);
const TURNS: u64 = 2_000;
/// Virtual time between two turns. The run takes 40 virtual seconds, so leases of two seconds expire in it.
const TURN: Duration = Duration::from_millis(20);

fn main() {
    println!("stepping");
    let mut node = founded();
    let mut now = Instant::ZERO;
    let mut answers = turn(&mut node, now, vec![Input::Wake]);
    for number in 1..=TURNS {
        now = now + TURN;
        let request = Input::Request {
            token: Token(number),
            request: request(number),
            deadline: now + Duration::from_secs(7),
        };
        answers += turn(&mut node, now, vec![request, Input::Wake]);
    }
    let revision = node.view().header().revision;
    println!("stepped {TURNS} turns: {answers} answers, revision {revision}");
    assert_eq!(answers, TURNS, "every request is answered in its own turn");
}

/// The node of a newly founded cluster.
fn founded() -> Node {
    let member = Member {
        id: ME,
        peer_urls: vec!["http://localhost:2380".into()],
        ..Member::default()
    };
    let store = Store::new(StoreConfig::default());
    let (seed, unix_ms) = (1, 1);
    Node::start(
        Config::new(ME),
        founding(&[member]),
        store,
        seed,
        unix_ms,
        Instant::ZERO,
    )
    .expect("an empty table and the log of a new cluster agree")
}

/// Mostly puts; sometimes another request.
fn request(number: u64) -> Request {
    match number % 50 {
        10 => Request::LeaseGrant(LeaseGrantRequest {
            ttl: 2,
            id: number as i64,
        }),
        20 => Request::DeleteRange(DeleteRangeRequest {
            key: "key/00".into(),
            range_end: "key/10".into(),
            ..DeleteRangeRequest::default()
        }),
        30 => Request::Compact(CompactionRequest {
            revision: number as i64 / 2,
            physical: false,
        }),
        40 => Request::Read,
        _ => Request::Put(PutRequest {
            key: format!("key/{:02}", number % 37).into(),
            value: vec![b'v'; 4_096].into(),
            ..PutRequest::default()
        }),
    }
}

/// Hands inputs to the node and carries out its effects until there are no more. Returns the number of answers.
fn turn(node: &mut Node, now: Instant, mut inputs: Vec<Input>) -> u64 {
    let (mut effects, mut answers) = (Vec::new(), 0);
    while !inputs.is_empty() {
        node.step(now, inputs.drain(..), &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Halt(halt) => panic!("the node ended: {halt:?}"),
                Effect::Log(job) => inputs.push(Input::Done(Done::Persisted { batch: job.batch })),
                Effect::Reply { result, .. } => {
                    result.expect("every request is valid");
                    answers += 1;
                }
                Effect::Table(job) => inputs.push(Input::Done(Done::Stored {
                    batch: job.batch,
                    durable_index: job.index,
                })),
                // A host would hand publications to readers. A cluster of one has no peers.
                Effect::Hash(_) | Effect::Peer(_) | Effect::Publish { .. } | Effect::Tokens(_) => {}
            }
        }
    }
    answers
}
