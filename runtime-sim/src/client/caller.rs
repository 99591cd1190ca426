//! A client that sends any request that the plan allows, one or several at a time.

use std::time::Duration;

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::{PutRequest, RangeRequest};
use quoin_core::random::Prng;
use quoin_core::time::Instant;

use super::line::{Desk, Line, Rota};
use super::plan::{Feature, Plan};
use super::{Client, earliest};
use crate::cluster::ports::Returned;
use crate::observe::OpId;
use quoin_model::call::Call;

/// The pause between requests of a gentle client, of which one is a put and the next a get.
const GENTLE_PAUSE: Duration = Duration::from_millis(500);
/// The longest time that a gentle client waits for an answer.
const GENTLE_TIMEOUT: Duration = Duration::from_secs(5);
/// One pause in this many begins a burst.
const BURST_ODDS: u64 = 30;
/// Requests of a burst.
const BURST: u64 = 12;
/// One request in this many is abandoned early.
const GIVE_UP_ODDS: u64 = 25;

/// A slot for one request.
#[derive(Debug)]
struct Lane {
    line: Line,
    /// When it sends the next request, once it is free.
    next_at: Instant,
    /// Requests left that follow each other without a pause.
    burst: u64,
}

/// The client.
#[derive(Debug)]
pub(super) struct Caller {
    prng: Prng,
    rota: Rota,
    lanes: Vec<Lane>,
    quiet: bool,
    /// Whether the next gentle request is a put.
    puts_next: bool,
}

impl Caller {
    pub(super) fn new(mut prng: Prng, plan: &Plan) -> Self {
        let rota = Rota::new(&mut prng, plan.round_robin);
        let lanes = (0..plan.lanes)
            .map(|_| Lane {
                line: Line::default(),
                next_at: Instant::ZERO + pause(&mut prng, plan),
                burst: 0,
            })
            .collect();
        Self {
            prng,
            rota,
            lanes,
            quiet: false,
            puts_next: true,
        }
    }

    /// Sends a request on a lane that is free and due.
    fn ask(&mut self, desk: &mut Desk<'_>, lane: usize) {
        if self.quiet {
            // If a client has several lanes, one is enough.
            if lane == 0 {
                self.ask_gently(desk);
            }
            return;
        }
        let call = desk.draw(&mut self.prng).call();
        let timeout = desk.plan.timeout(&mut self.prng);
        let place = &mut self.lanes[lane];
        let asked = place.line.ask(desk, &mut self.rota, call, timeout);
        if asked && desk.plan.has(Feature::GivesUp) && self.prng.below(GIVE_UP_ODDS) == 0 {
            let part = Duration::from_micros(self.prng.below(timeout.as_millis() as u64 * 100));
            place.line.give_up_at(desk.now + part);
        }
        if place.burst > 0 {
            place.burst -= 1;
        } else if desk.plan.has(Feature::Bursts) && self.prng.below(BURST_ODDS) == 0 {
            place.burst = BURST;
        }
        place.next_at = desk.now;
        if place.burst == 0 || !asked {
            place.next_at = desk.now + pause(&mut self.prng, desk.plan);
        }
    }

    /// A put, then a linearizable get, then a put again.
    fn ask_gently(&mut self, desk: &mut Desk<'_>) {
        let key = desk.plan.keys.one(&mut self.prng);
        let call = if self.puts_next {
            let value = desk.mind.value(0);
            Call::Put(PutRequest {
                key,
                value,
                ..PutRequest::default()
            })
        } else {
            Call::Range(RangeRequest {
                key,
                range_end: Bytes::new(),
                ..RangeRequest::default()
            })
        };
        self.puts_next = !self.puts_next;
        self.lanes[0].line.ask(desk, &mut self.rota, call, GENTLE_TIMEOUT);
        self.lanes[0].next_at = desk.now + GENTLE_PAUSE;
    }
}

impl Client for Caller {
    fn wakes_at(&self) -> Option<Instant> {
        let lanes = if self.quiet { 1 } else { self.lanes.len() };
        let asks = self.lanes[..lanes]
            .iter()
            .filter(|lane| lane.line.is_free())
            .map(|lane| Some(lane.next_at));
        let goes_on = self.lanes.iter().map(|lane| lane.line.wakes_at());
        earliest(asks.chain(goes_on))
    }

    fn wake(&mut self, desk: &mut Desk<'_>) {
        for at in 0..self.lanes.len() {
            // The client has recorded the answer already; a caller does not depend on the outcome.
            let _ = self.lanes[at].line.wake(desk, &mut self.rota);
            if self.lanes[at].line.is_free() && self.lanes[at].next_at <= desk.now {
                self.ask(desk, at);
            }
        }
    }

    fn returned(&mut self, desk: &mut Desk<'_>, op: OpId, result: Returned) {
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.line.carries(op)) {
            let _ = lane.line.returned(desk, &mut self.rota, result);
            lane.next_at = lane.next_at.max(desk.now);
        }
    }

    fn quiet(&mut self) {
        self.quiet = true;
        // A slow client's pause may be a minute, but gentle traffic begins at once.
        self.lanes[0].next_at = Instant::ZERO;
    }
}

/// A random time around the plan's pause.
fn pause(prng: &mut Prng, plan: &Plan) -> Duration {
    let mean = u64::try_from(plan.pause.as_micros()).unwrap_or(u64::MAX / 4);
    Duration::from_micros(1 + prng.below(2 * mean))
}
