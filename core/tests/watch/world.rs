//! A key space, a hub over it and the queues of its streams, for tests: a host in miniature.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use quoin_core::limits::WATCH_STREAM_QUEUE_RESPONSES;
use quoin_core::mvcc::{Event, Mvcc};
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use quoin_core::time::Instant;
use quoin_core::watch::{Hub, HubConfig, Origin, StreamId, WatchInput, WatchOutput};

/// One change of a transaction.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Delete { key: Bytes, range_end: Bytes },
    Put { key: Bytes, value: Bytes, lease: i64 },
}

/// The key space, hub and queues of a test.
pub(crate) struct World {
    pub(crate) mvcc: Mvcc,
    pub(crate) hub: Hub,
    pub(crate) now: Instant,
    /// The responses that were sent to each stream and not yet taken from its queue.
    pub(crate) queues: BTreeMap<StreamId, VecDeque<WatchResponse>>,
    /// Events that were kept from the hub.
    pub(crate) held: Vec<Event>,
    /// Whether changes are kept from the hub.
    pub(crate) holding: bool,
    fresh: Vec<(StreamId, WatchResponse)>,
}

const ORIGIN: Origin = Origin {
    cluster_id: 1,
    member_id: 2,
    raft_term: 3,
};

impl World {
    /// A world whose responses are cut at `max_response_bytes`, for watchers that accept fragments.
    pub(crate) fn new(seed: u64, max_response_bytes: usize) -> Self {
        let mvcc = Mvcc::new();
        let config = HubConfig {
            progress_interval: Duration::from_secs(600),
            max_response_bytes,
            seed,
            ..HubConfig::default()
        };
        let hub = Hub::new(config, mvcc.view());
        Self {
            mvcc,
            hub,
            now: Instant::ZERO,
            queues: BTreeMap::new(),
            held: Vec::new(),
            holding: false,
            fresh: Vec::new(),
        }
    }

    /// Hands `input` to the hub and queues its outputs.
    pub(crate) fn step(&mut self, input: WatchInput) {
        let mut out = Vec::new();
        self.hub.step(self.now, input, &mut out);
        self.hub.check();
        for WatchOutput { stream, response } in out {
            let mut bytes = Vec::with_capacity(response.encoded_len(ORIGIN));
            response.encode(ORIGIN, &mut bytes);
            assert_eq!(bytes.len(), response.encoded_len(ORIGIN));
            let message = WatchResponse::decode(&bytes[..]).expect("responses are messages");
            assert_eq!(
                message.encode_to_vec(),
                bytes,
                "no byte differs from the usual encoding"
            );
            let header = message.header.expect("every response has a header");
            assert_eq!((header.cluster_id, header.member_id, header.raft_term), (1, 2, 3));
            let queue = self.queues.entry(stream).or_default();
            assert!(queue.len() < WATCH_STREAM_QUEUE_RESPONSES, "the queue has a bound");
            queue.push_back(message.clone());
            self.fresh.push((stream, message));
        }
    }

    /// Wakes the hub until its deadline is in the future.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            if self.hub.deadline().is_none_or(|at| at > self.now) {
                return;
            }
            self.step(WatchInput::Wake);
        }
        panic!("the hub's deadline stays in the past");
    }

    /// The responses that the hub has sent since the last call.
    pub(crate) fn fresh(&mut self) -> Vec<(StreamId, WatchResponse)> {
        mem::take(&mut self.fresh)
    }

    /// Carries out one transaction and reports it to the hub, unless changes are held.
    pub(crate) fn write(&mut self, changes: &[Change]) {
        let mut ops = Vec::new();
        let mut write = self.mvcc.begin();
        for change in changes {
            match change.clone() {
                Change::Delete { key, range_end } => {
                    write.delete_range(&key, &range_end);
                }
                Change::Put { key, value, lease } => {
                    write.put(key, value, lease);
                }
            }
        }
        write.end(&mut self.held, &mut ops);
        self.flush();
    }

    /// Compacts; returns whether it was possible.
    pub(crate) fn compact(&mut self, revision: i64) -> bool {
        let compacted = self.mvcc.compact(revision, &mut Vec::new()).is_ok();
        self.flush();
        compacted
    }

    fn flush(&mut self) {
        if !self.holding {
            self.tell(true);
        }
    }

    /// Reports the held changes to the hub, with or without their events.
    pub(crate) fn tell(&mut self, with_events: bool) {
        let mut events = mem::take(&mut self.held);
        if !with_events {
            events.clear();
        }
        let view = self.mvcc.view();
        self.step(WatchInput::Applied {
            view,
            events: Arc::from(events),
        });
    }

    /// Replaces the hub's view by the current one, as after a snapshot.
    pub(crate) fn restore(&mut self) {
        self.held.clear();
        let view = self.mvcc.view();
        self.step(WatchInput::Restored { view });
    }

    pub(crate) fn create(&mut self, stream: StreamId, request: WatchCreateRequest) {
        self.request(stream, RequestUnion::CreateRequest(request));
    }

    pub(crate) fn cancel(&mut self, stream: StreamId, watch_id: i64) {
        self.request(stream, RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
    }

    pub(crate) fn progress(&mut self, stream: StreamId) {
        self.request(stream, RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    pub(crate) fn request(&mut self, stream: StreamId, union: RequestUnion) {
        let request = WatchRequest {
            request_union: Some(union),
        };
        self.step(WatchInput::Request { stream, request });
    }

    /// Whether the stream's queue is full, so that its requests wait.
    pub(crate) fn is_full(&self, stream: StreamId) -> bool {
        let queue = self.queues.get(&stream);
        queue.is_some_and(|queue| queue.len() >= WATCH_STREAM_QUEUE_RESPONSES)
    }

    pub(crate) fn close(&mut self, stream: StreamId) {
        self.queues.remove(&stream);
        self.step(WatchInput::Close { stream });
    }

    /// Takes up to `responses` from the stream's queue and reports that to the hub.
    pub(crate) fn sent(&mut self, stream: StreamId, responses: usize) -> Vec<WatchResponse> {
        let queue = self.queues.entry(stream).or_default();
        let gone: Vec<_> = queue.drain(..responses.min(queue.len())).collect();
        let responses = gone.len();
        self.step(WatchInput::Sent { stream, responses });
        gone
    }
}
