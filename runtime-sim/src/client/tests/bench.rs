//! A small world for clients: a store behind three endpoints, answers with a short latency, and streams that break.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quoin_core::id::MemberId;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use quoin_core::random::Prng;
use quoin_core::time::Instant;

use super::mock::{Store, in_range, refuse};
use crate::client::Crowd;
use crate::client::plan::Plan;
use crate::cluster::ports::{Act, Clients as _, Endpoint, Endpoints, Returned};
use crate::observe::{OpId, StreamId};

/// A watch as the test serves it.
#[derive(Debug)]
struct Served {
    stream: StreamId,
    id: i64,
    request: WatchCreateRequest,
    next: i64,
}

/// A planned event.
#[derive(Debug)]
enum Due {
    Returned(OpId, Returned),
    Watched(StreamId, WatchResponse),
    Closed(StreamId),
}

/// The world.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) crowd: Crowd,
    pub(super) store: Store,
    pub(super) now: Instant,
    /// All actions of the clients.
    pub(super) acts: Vec<(Instant, Act)>,
    /// The store's revision and compact revision before each of `acts`.
    pub(super) revisions: Vec<(i64, i64)>,
    /// All responses of watches, by stream.
    pub(super) told: Vec<(Instant, StreamId, WatchResponse)>,
    /// The percentage of requests that fail.
    pub(super) fails_percent: u64,
    /// The percentage of watch responses after which the stream is closed.
    pub(super) breaks_percent: u64,
    endpoints: Endpoints,
    prng: Prng,
    due: BTreeMap<(Instant, u64), Due>,
    sequence: u64,
    served: Vec<Served>,
    open: BTreeSet<StreamId>,
    given_up: BTreeSet<OpId>,
}

impl Bench {
    pub(super) fn new(seed: u64, plan: Plan) -> Self {
        Self {
            crowd: Crowd::with_plan(seed, plan),
            store: Store::new(),
            now: Instant::ZERO,
            acts: Vec::new(),
            revisions: Vec::new(),
            told: Vec::new(),
            fails_percent: 0,
            breaks_percent: 0,
            endpoints: Endpoints {
                members: (1..4)
                    .map(|id| Endpoint {
                        id: MemberId(id),
                        is_started: true,
                        is_learner: false,
                    })
                    .collect(),
            },
            prng: Prng::new(seed).fork("bench"),
            due: BTreeMap::new(),
            sequence: 0,
            served: Vec::new(),
            open: BTreeSet::new(),
            given_up: BTreeSet::new(),
        }
    }

    /// Runs for `time`, or until `acts` has `acts_max` actions.
    pub(super) fn run(&mut self, time: Duration, acts_max: usize) {
        let end = self.now + time;
        let mut idle = 0;
        while self.acts.len() < acts_max {
            let next = self.due.keys().next().map(|(at, _)| *at);
            let next = [next, self.crowd.wakes_at()].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            idle = if next > self.now { 0 } else { idle + 1 };
            assert!(
                idle < 10_000,
                "clients wake for nothing at {}: {:?}",
                self.now,
                self.crowd
            );
            self.now = self.now.max(next);
            self.step();
        }
    }

    fn step(&mut self) {
        let mut acts = Vec::new();
        match self.due.first_entry().filter(|entry| entry.key().0 <= self.now) {
            Some(entry) => match entry.remove() {
                Due::Returned(op, result) => {
                    if !self.given_up.contains(&op) {
                        self.crowd.returned(self.now, op, result, &mut acts);
                    }
                }
                Due::Watched(stream, response) => {
                    if self.open.contains(&stream) {
                        self.told.push((self.now, stream, response.clone()));
                        self.crowd.watched(self.now, stream, response, &mut acts);
                    }
                }
                Due::Closed(stream) => {
                    if self.open.remove(&stream) {
                        self.served.retain(|served| served.stream != stream);
                        self.crowd.closed(self.now, stream, &mut acts);
                    }
                }
            },
            None => self.crowd.wake(self.now, &self.endpoints, &mut acts),
        }
        for act in acts {
            self.acts.push((self.now, act.clone()));
            self.revisions.push((self.store.revision, self.store.compacted));
            self.carry_out(act);
        }
        self.store.expire(self.now);
        self.serve();
    }

    fn carry_out(&mut self, act: Act) {
        match act {
            Act::Ask { op, call, deadline, .. } => {
                let took = Duration::from_micros(self.prng.range(200..3_000));
                let mut at = self.now + took;
                let result = match self.prng.below(100) {
                    roll if roll < self.fails_percent / 3 => {
                        at = deadline;
                        None
                    }
                    roll if roll < self.fails_percent => Some(refuse(14, "etcdserver: leader changed")),
                    _ => Some(self.store.answer(self.now, &call)),
                };
                self.later(at, Due::Returned(op, result));
            }
            Act::Identify { who, .. } => panic!("these clients have no users: {who:?}"),
            Act::Pause { stream, .. } => assert!(self.open.contains(&stream), "{stream:?} is not open"),
            Act::GiveUp { op } => drop(self.given_up.insert(op)),
            Act::Open { stream, .. } => drop(self.open.insert(stream)),
            Act::CloseStream { stream } => {
                assert!(self.open.remove(&stream), "{stream:?} is not open");
                self.served.retain(|served| served.stream != stream);
            }
            Act::Watch { stream, request } => {
                assert!(self.open.contains(&stream), "{stream:?} is not open");
                match request.request_union.expect("a request") {
                    RequestUnion::CreateRequest(request) => self.create(stream, request),
                    RequestUnion::CancelRequest(request) => {
                        let before = self.served.len();
                        self.served
                            .retain(|served| served.stream != stream || served.id != request.watch_id);
                        if self.served.len() < before {
                            let response = WatchResponse {
                                canceled: true,
                                ..self.response(request.watch_id)
                            };
                            self.tell(stream, response);
                        }
                    }
                    RequestUnion::ProgressRequest(_) => {
                        self.serve();
                        self.tell(stream, self.response(-1));
                    }
                }
            }
        }
    }

    fn create(&mut self, stream: StreamId, request: WatchCreateRequest) {
        let mine = |served: &&Served| served.stream == stream;
        let taken = |id| self.served.iter().filter(mine).any(|served| served.id == id);
        let id = match request.watch_id {
            0 => (0..).find(|id| !taken(*id)).expect("an id"),
            id => id,
        };
        let mut created = self.response(id);
        created.created = true;
        if taken(id) || request.start_revision < 0 {
            created.canceled = true;
            created.watch_id = -1;
            self.tell(stream, created);
            return;
        }
        self.tell(stream, created);
        if request.start_revision > 0 && request.start_revision < self.store.compacted {
            let response = WatchResponse {
                header: None,
                canceled: true,
                compact_revision: self.store.compacted,
                ..self.response(id)
            };
            self.tell(stream, response);
            return;
        }
        let next = if request.start_revision == 0 {
            self.store.revision + 1
        } else {
            request.start_revision
        };
        self.served.push(Served {
            stream,
            id,
            request,
            next,
        });
    }

    /// Sends every watch the events that it has not received; in three fragments, if it asked for fragments.
    fn serve(&mut self) {
        let mut served = std::mem::take(&mut self.served);
        for watch in &mut served {
            let events = &self.store.events;
            let revision = |at: usize| events[at].kv.as_ref().map_or(0, |kv| kv.mod_revision);
            let from = (0..events.len())
                .rev()
                .take_while(|at| revision(*at) >= watch.next)
                .last();
            let Some(from) = from else { continue };
            let news: Vec<_> = events[from..]
                .iter()
                .filter(|event| {
                    let key = event.kv.as_ref().map_or(&b""[..], |kv| &kv.key);
                    in_range(key, &watch.request.key, &watch.request.range_end)
                })
                .cloned()
                .collect();
            watch.next = self.store.revision + 1;
            let parts = if watch.request.fragment { 3 } else { 1 };
            let chunk = news.len().div_ceil(parts).max(1);
            let chunks = news.len().div_ceil(chunk);
            for (at, events) in news.chunks(chunk).enumerate() {
                let response = WatchResponse {
                    events: events.to_vec(),
                    fragment: at + 1 < chunks,
                    ..self.response(watch.id)
                };
                self.tell(watch.stream, response);
            }
        }
        served.extend(std::mem::take(&mut self.served));
        self.served = served;
    }

    fn tell(&mut self, stream: StreamId, response: WatchResponse) {
        let at = self.now + Duration::from_millis(1);
        self.later(at, Due::Watched(stream, response));
        if self.prng.below(100) < self.breaks_percent {
            self.later(at, Due::Closed(stream));
        }
    }

    fn response(&self, watch_id: i64) -> WatchResponse {
        WatchResponse {
            header: Some(ResponseHeader {
                revision: self.store.revision,
                ..ResponseHeader::default()
            }),
            watch_id,
            ..WatchResponse::default()
        }
    }

    fn later(&mut self, at: Instant, due: Due) {
        self.sequence += 1;
        self.due.insert((at, self.sequence), due);
    }
}
