//! Heads and bodies of exchanges, written as text: a line with method and path, or with the status; the headers; an
//! empty line; and the body.

use std::time::Duration;

use bytes::Bytes;
use quoin_core::api::{Credentials, Facts, Limits, PeerCall, PeerStep, Server};
use quoin_core::config::Config;
use quoin_core::error::Error;
use quoin_core::id::{ClusterId, MemberId};
use quoin_core::member::Status;
use quoin_core::membership::Member;
use quoin_core::mvcc::HashKv;
use quoin_core::peer::{ExchangeId, PeerEffect, PeerHead, PeerInput, Transport, TransportConfig};
use quoin_core::proto::etcdserverpb::RequestHeader;
use quoin_core::store::{Store, StoreConfig};
use quoin_core::time::Instant;

const CLUSTER: ClusterId = ClusterId(0xc1);

/// The first line, the headers, and the body.
fn parts(bytes: &[u8]) -> (String, PeerHead, Bytes) {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = bytes.split_at(end.unwrap_or(bytes.len()));
    let text = String::from_utf8_lossy(head).into_owned();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().to_owned();
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let fields = lines.filter_map(|line| line.split_once(": "));
    let fields = fields
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let body = Bytes::copy_from_slice(body.get(2..).unwrap_or_default());
    (first, PeerHead { method, path, fields }, body)
}

/// Member 1 of two.
fn transport() -> Transport {
    let member = |number| Member {
        id: MemberId(number),
        peer_urls: vec![format!("http://{number}")],
        ..Member::default()
    };
    let config = TransportConfig {
        member: MemberId(1),
        cluster: CLUSTER,
        peer_urls: member(1).peer_urls,
        dial_patience: Duration::from_secs(2),
        read_patience: Duration::from_secs(5),
        write_patience: Duration::from_secs(5),
        boot_peers: vec![member(1), member(2)],
    };
    Transport::new(config, Instant::ZERO)
}

/// A request to the peer machine: a stream, a posted message, or a snapshot.
pub(crate) fn incoming(bytes: &[u8]) {
    let (_, head, body) = parts(bytes);
    let (mut transport, exchange, mut out) = (transport(), ExchangeId::Incoming(1), Vec::new());
    let half = body.len() / 2;
    let inputs = [
        PeerInput::Request(exchange, head),
        PeerInput::Bytes(exchange, body.slice(..half)),
        PeerInput::Bytes(exchange, body.slice(half..)),
        PeerInput::End(exchange),
    ];
    transport.step(Instant::ZERO, inputs, &mut out);
    let answers = out.iter().filter(|effect| {
        matches!(
            effect,
            PeerEffect::Respond { .. } | PeerEffect::Open(..) | PeerEffect::SaveEnd(_) | PeerEffect::Close(_)
        )
    });
    assert!(
        answers.count() > 0,
        "a request gets an answer, or is given to the host: {out:?}"
    );
}

/// The response to each request that the peer machine makes by itself: for streams and for the version.
pub(crate) fn outgoing(bytes: &[u8]) {
    let (first, head, body) = parts(bytes);
    let status = first.parse().unwrap_or(200);
    let (mut transport, mut out) = (transport(), Vec::new());
    transport.step(Instant::ZERO, [PeerInput::Wake], &mut out);
    let begun = out.iter().filter_map(|effect| match effect {
        PeerEffect::Request { exchange, .. } => Some(*exchange),
        _ => None,
    });
    let begun: Vec<ExchangeId> = begun.collect();
    assert!(begun.len() >= 2, "it opens its streams: {out:?}");
    for exchange in begun {
        let (head, body) = (head.clone(), body.clone());
        let inputs = [
            PeerInput::Response {
                exchange,
                status,
                head,
                took: Duration::ZERO,
            },
            PeerInput::Bytes(exchange, body),
            PeerInput::End(exchange),
        ];
        out.clear();
        transport.step(Instant::ZERO, inputs, &mut out);
    }
}

struct NoFacts;

impl Facts for NoFacts {
    fn compact_hash(&self, _revision: i64) -> Option<HashKv> {
        None
    }

    fn table_bytes(&self) -> i64 {
        0
    }

    fn unix_seconds(&self) -> u64 {
        0
    }

    fn user_of(&self, _token: &str, _revision: u64) -> Option<RequestHeader> {
        None
    }

    fn token_prefix(&self) -> String {
        String::new()
    }

    fn sign(&self, _user: &str, _revision: u64, simple: &str) -> Result<String, Error> {
        Ok(simple.to_owned())
    }
}

/// A request that is not one of raft: for members, a hash, a lease, a promotion.
pub(crate) fn call(bytes: &[u8]) {
    let (_, head, body) = parts(bytes);
    let store = Store::new(StoreConfig::default());
    let server = Server {
        cluster: CLUSTER,
        view: &store.view(),
        status: &Status::default(),
        limits: Limits::of(&Config::with_defaults()),
        facts: &NoFacts,
        credentials: &Credentials::NONE,
    };
    let cluster = head.fields.get("x-etcd-cluster-id").map(String::as_str);
    if let Ok(call) = PeerCall::parse(&server, &head.method, &head.path, cluster, &body)
        && let PeerStep::Ask(_) = call.begin(&server)
    {
        let _answer = call.finish(&server, Err(Error::Timeout));
    }
}
