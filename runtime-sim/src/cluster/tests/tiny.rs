//! A few simple clients for tests of a cluster: they write and read one key after another, and one of them watches.
//! Their results are not checked.

use std::time::Duration;

use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use quoin_core::random::Prng;
use quoin_core::time::Instant;

use crate::cluster::ports::{Act, Clients, Endpoints, Returned};
use crate::observe::{ClientId, OpId, StreamId};
use quoin_model::call::Call;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The clients.
#[derive(Clone, Debug)]
pub(super) struct Tiny {
    prng: Prng,
    next: Instant,
    pause: Duration,
    /// Requests made, and those that were answered well.
    pub(super) asked: u64,
    /// Requests answered well.
    pub(super) answered: u64,
    stream: Option<StreamId>,
    streams: u64,
    quiet: bool,
}

impl Tiny {
    /// Clients of a run.
    #[must_use]
    pub(super) fn new(seed: u64) -> Self {
        Self {
            prng: Prng::new(seed).fork("clients"),
            next: Instant::ZERO + Duration::from_millis(50),
            pause: Duration::from_millis(33),
            asked: 0,
            answered: 0,
            stream: None,
            streams: 0,
            quiet: false,
        }
    }

    fn call(&mut self) -> Call {
        let key = format!("k{}", self.prng.below(5));
        if self.prng.below(4) == 0 {
            return Call::Range(RangeRequest {
                key: key.into(),
                serializable: self.prng.below(2) == 0,
                ..RangeRequest::default()
            });
        }
        Call::Put(PutRequest {
            key: key.into(),
            value: format!("v{}", self.asked).into(),
            ..PutRequest::default()
        })
    }
}

impl Clients for Tiny {
    fn wakes_at(&self) -> Option<Instant> {
        Some(self.next)
    }

    fn wake(&mut self, now: Instant, world: &Endpoints, acts: &mut Vec<Act>) {
        let pause = if self.quiet { self.pause * 20 } else { self.pause };
        self.next = now + pause / 2 + Duration::from_nanos(self.prng.below(1 + pause.as_nanos() as u64));
        let members = world.members.len() as u64;
        if members == 0 {
            return;
        }
        let member = world.members[self.prng.below(members) as usize].id;
        self.asked += 1;
        let client = ClientId(self.prng.below(4));
        let call = self.call();
        acts.push(Act::Ask {
            op: OpId(self.asked),
            client,
            member,
            call,
            deadline: now + PATIENCE,
        });
        if self.stream.is_none() {
            self.streams += 1;
            let stream = StreamId(self.streams);
            self.stream = Some(stream);
            acts.push(Act::Open { stream, client, member });
            let create = WatchCreateRequest {
                key: vec![0].into(),
                range_end: vec![0].into(),
                progress_notify: true,
                ..WatchCreateRequest::default()
            };
            let request = WatchRequest {
                request_union: Some(RequestUnion::CreateRequest(create)),
            };
            acts.push(Act::Watch { stream, request });
        }
    }

    fn returned(&mut self, _: Instant, _: OpId, result: Returned, _: &mut Vec<Act>) {
        self.answered += u64::from(matches!(result, Some(Ok(_))));
    }

    fn watched(&mut self, _: Instant, _: StreamId, _: WatchResponse, _: &mut Vec<Act>) {}

    fn closed(&mut self, _: Instant, stream: StreamId, _: &mut Vec<Act>) {
        self.stream.take_if(|open| *open == stream);
    }

    fn quiet(&mut self) {
        self.quiet = true;
    }
}
