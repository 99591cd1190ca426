//! A client with watches: it opens streams, creates watches one after another like etcd's client library, and when a
//! stream ends it creates them again elsewhere, each from the revision after its last event.
//!
//! The place of a watch is in `watch`.

use std::time::Duration;

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::watch_create_request::FilterType;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{
    RangeRequest, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use quoin_core::random::Prng;
use quoin_core::time::Instant;

use super::draw::signed;
use super::line::{Desk, Line, Outcome, Rota};
use super::plan::{Feature, Plan};
use super::watch::{State, Told, Watch};
use super::{Client, earliest};
use crate::choose::one_of;
use crate::cluster::ports::Returned;
use crate::observe::{OpId, StreamId};
use quoin_model::call::{Answer, Call};

/// How long a client waits before it opens a stream again.
const REOPEN: Duration = Duration::from_millis(50);
/// If a member does not answer the creation of a watch within this time, the client leaves it for another.
const CREATE_TIMEOUT: Duration = Duration::from_secs(10);

/// The client.
#[derive(Debug)]
pub(super) struct Watcher {
    prng: Prng,
    rota: Rota,
    stream: Option<StreamId>,
    /// It opens no stream before this time.
    reopens_at: Instant,
    watches: Vec<Watch>,
    /// The time by which the watch that is being created should exist.
    created_by: Option<Instant>,
    /// Sends the lists after a compaction.
    line: Line,
    /// The watch for which it lists.
    lists_for: Option<usize>,
    next_at: Instant,
    /// It reads nothing before this time, and creates nothing on its stream.
    reads_at: Instant,
    quiet: bool,
}

impl Watcher {
    pub(super) fn new(mut prng: Prng, plan: &Plan) -> Self {
        Self {
            rota: Rota::new(&mut prng, plan.round_robin),
            next_at: Instant::ZERO + Duration::from_millis(prng.below(1_000)),
            prng,
            stream: None,
            reopens_at: Instant::ZERO,
            watches: Vec::new(),
            created_by: None,
            line: Line::default(),
            lists_for: None,
            reads_at: Instant::ZERO,
            quiet: false,
        }
    }

    /// The next random action: a new watch, the end of one, a progress request, another stream.
    fn next(&mut self, desk: &mut Desk<'_>) {
        if self.reads_at > desk.now {
            return self.ask_unheard(desk);
        }
        let full = self.watches.len() as u64 >= desk.plan.watches;
        if self.watches.is_empty() || (!full && self.prng.below(3) == 0) {
            let watch = Watch::new(self.draw(desk));
            self.watches.push(watch);
            return;
        }
        let Some(stream) = self.stream else { return };
        match self.prng.below(12) {
            0..3 => self.cancel(desk, stream),
            3..8 => desk.watch(stream, progress_request()),
            8 => self.leave(desk),
            9 => self.create_on_broken(desk, stream),
            10 if desk.plan.has(Feature::SlowReaders) => self.pause(desk, stream),
            _ => {}
        }
    }

    fn draw(&mut self, desk: &mut Desk<'_>) -> WatchCreateRequest {
        let mut draw = desk.draw(&mut self.prng);
        let (key, range_end) = draw.span(2);
        let start_revision = if draw.has(Feature::OtherRevisions) && draw.chance(2) {
            let revision = draw.other_revision();
            // The library sends no revisions below 0, but another client might.
            if revision < 0 && !draw.wrong(1) { 0 } else { revision }
        } else {
            0
        };
        let filters = match draw.prng.below(8) {
            0 => vec![FilterType::Noput as i32],
            1 => vec![FilterType::Nodelete as i32],
            2 if draw.chance(4) => vec![FilterType::Noput as i32, FilterType::Nodelete as i32],
            _ => Vec::new(),
        };
        let mut create = WatchCreateRequest {
            key,
            range_end,
            start_revision,
            progress_notify: draw.chance(3),
            filters,
            prev_kv: draw.has(Feature::PrevKv) && draw.chance(2),
            watch_id: if draw.chance(4) { signed(draw.prng.below(6)) } else { 0 },
            fragment: draw.chance(3),
        };
        if draw.wrong(30) {
            // An empty key is the first of all; without an end it is an invalid key.
            create.key = Bytes::new();
        }
        create
    }

    /// Cancels one of the existing watches.
    fn cancel(&mut self, desk: &mut Desk<'_>, stream: StreamId) {
        let at = self.any();
        if let State::Live { id } = self.watches[at].state {
            desk.watch(stream, cancel_request(id));
            self.watches[at].state = State::Ended;
        } else if desk.plan.has(Feature::Wrong) {
            desk.watch(stream, cancel_request(99));
        }
    }

    /// Reads nothing for a while, and only a few responses at a time after that.
    fn pause(&mut self, desk: &mut Desk<'_>, stream: StreamId) {
        if self.created_by.is_none() {
            self.reads_at = desk.now + Duration::from_millis(one_of(&mut self.prng, &[1_000, 5_000, 15_000, 40_000]));
            let sips = one_of(&mut self.prng, &[1, 10, usize::MAX, usize::MAX]);
            desk.pause(stream, self.reads_at, sips);
        }
    }

    /// Sends several requests at once while it does not read; if its stream is full, the member holds them back until
    /// it does.
    fn ask_unheard(&mut self, desk: &mut Desk<'_>) {
        let Some(stream) = self.stream else { return };
        for _ in 0..self.prng.range(1..30) {
            let is_progress = self.prng.below(4) == 0;
            desk.watch(
                stream,
                if is_progress {
                    progress_request()
                } else {
                    cancel_request(99)
                },
            );
        }
        if self.watches.len() > 1 && self.prng.below(2) == 0 {
            self.cancel(desk, stream);
        }
    }

    /// Leaves the stream; the watches continue elsewhere.
    fn leave(&mut self, desk: &mut Desk<'_>) {
        if let Some(stream) = self.stream {
            desk.close(stream);
            self.closed_at(desk.now);
        }
    }

    /// Creates a watch on a stream that ends before the response.
    fn create_on_broken(&mut self, desk: &mut Desk<'_>, stream: StreamId) {
        let create = self.draw(desk);
        desk.watch(stream, create_request(create));
        self.leave(desk);
    }

    fn closed_at(&mut self, now: Instant) {
        self.stream = None;
        self.reads_at = Instant::ZERO;
        self.reopens_at = now + REOPEN;
        self.created_by = None;
        self.rota.move_on();
        for watch in &mut self.watches {
            watch.stream_closed();
        }
    }

    /// Opens a stream and creates the next watch, if there is one to create and none is being created.
    fn go_on(&mut self, desk: &mut Desk<'_>) {
        if self.created_by.is_some() || self.reads_at > desk.now {
            return;
        }
        let Some(at) = self.watches.iter().position(|watch| watch.state == State::Wanted) else {
            return;
        };
        let stream = match self.stream {
            Some(stream) => stream,
            None if self.reopens_at <= desk.now => {
                let Some(member) = self.rota.pick(desk.world) else {
                    self.reopens_at = desk.now + REOPEN;
                    return;
                };
                *self.stream.insert(desk.open(member))
            }
            None => return,
        };
        let create = self.watches[at].create();
        desk.watch(stream, create_request(create));
        self.created_by = Some(desk.now + CREATE_TIMEOUT);
    }

    /// After a compaction: half of the clients continue at the first revision that is left, the others list and
    /// continue from there.
    fn compacted(&mut self, desk: &mut Desk<'_>, at: usize, revision: i64) {
        if self.prng.below(2) == 0 || !self.line.is_free() {
            self.watches[at].restart(revision);
            return;
        }
        let (key, range_end) = self.watches[at].range();
        let call = Call::Range(RangeRequest {
            key,
            range_end,
            ..RangeRequest::default()
        });
        let timeout = desk.plan.timeout(&mut self.prng);
        if self.line.ask(desk, &mut self.rota, call, timeout) {
            self.watches[at].state = State::Listing;
            self.lists_for = Some(at);
        } else {
            self.watches[at].restart(revision);
        }
    }

    fn listed(&mut self, outcome: &Outcome) {
        let Some(at) = self.lists_for.take() else { return };
        let Some(watch) = self.watches.get_mut(at) else { return };
        match outcome {
            Outcome::Answered(Answer::Range(response)) => {
                let revision = response.header.as_ref().map_or(0, |header| header.revision);
                watch.restart(revision + 1);
            }
            // Continue from the present, then.
            Outcome::Answered(_) | Outcome::Refused(_) | Outcome::Lost => watch.restart(0),
        }
    }

    fn any(&mut self) -> usize {
        usize::try_from(self.prng.below(self.watches.len() as u64)).unwrap_or(0)
    }
}

impl Client for Watcher {
    fn wakes_at(&self) -> Option<Instant> {
        let wanted = self.watches.iter().any(|watch| watch.state == State::Wanted);
        let reopens = (wanted && self.stream.is_none()).then_some(self.reopens_at);
        let creates = (wanted && self.stream.is_some() && self.created_by.is_none()).then_some(self.reads_at);
        let whims = (!self.quiet || self.watches.is_empty()).then_some(self.next_at);
        earliest([reopens, creates, self.created_by, self.line.wakes_at(), whims])
    }

    fn wake(&mut self, desk: &mut Desk<'_>) {
        if let Some(outcome) = self.line.wake(desk, &mut self.rota) {
            self.listed(&outcome);
        }
        if self.created_by.is_some_and(|moment| moment <= desk.now) {
            self.leave(desk);
        }
        if self.next_at <= desk.now && (!self.quiet || self.watches.is_empty()) {
            self.next(desk);
            let mean_ms = one_of(&mut self.prng, &[20, 300, 3_000]);
            let pause = Duration::from_millis(1 + self.prng.below(2 * mean_ms)) * desk.plan.ease;
            self.next_at = desk.now + pause;
        }
        // Indices change when ended watches are removed, so none is removed during a list.
        if self.lists_for.is_none() {
            self.watches.retain(|watch| watch.state != State::Ended);
        }
        self.go_on(desk);
    }

    fn returned(&mut self, desk: &mut Desk<'_>, op: OpId, result: Returned) {
        if self.line.carries(op)
            && let Some(outcome) = self.line.returned(desk, &mut self.rota, result)
        {
            self.listed(&outcome);
        }
    }

    fn watched(&mut self, desk: &mut Desk<'_>, stream: StreamId, response: &WatchResponse) {
        if self.stream != Some(stream) {
            return;
        }
        if response.created {
            self.created_by = None;
            if let Some(watch) = self.watches.iter_mut().find(|watch| watch.state == State::Asked) {
                watch.created(response);
            }
            return;
        }
        if response.watch_id == -1 {
            // Progress of the whole stream.
            for watch in &mut self.watches {
                watch.progress(response);
            }
            return;
        }
        let found = self
            .watches
            .iter()
            .position(|watch| watch.state == State::Live { id: response.watch_id });
        if let Some(at) = found
            && let Told::Compacted(revision) = self.watches[at].told(response)
        {
            self.compacted(desk, at, revision);
        }
    }

    fn closed(&mut self, desk: &mut Desk<'_>, stream: StreamId) {
        if self.stream == Some(stream) {
            self.closed_at(desk.now);
        }
    }

    fn quiet(&mut self) {
        self.quiet = true;
        self.reads_at = Instant::ZERO;
    }
}

pub(super) const fn create_request(create: WatchCreateRequest) -> WatchRequest {
    WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    }
}

const fn cancel_request(watch_id: i64) -> WatchRequest {
    WatchRequest {
        request_union: Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })),
    }
}

const fn progress_request() -> WatchRequest {
    WatchRequest {
        request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})),
    }
}
