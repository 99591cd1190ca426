//! Watch streams between clients and members: requests one way, responses the other, in order, until one side or the
//! network ends them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use prost::Message as _;
use quoin_core::api::{Credentials, Server};
use quoin_core::id::MemberId;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{WatchRequest, WatchResponse};
use quoin_core::time::Instant;
use quoin_core::watch::{self, Origin, Response, WatchInput, WatchOutput};

use super::member::Life;
use super::queue::What;
use super::{World, recipes};
use crate::observe::{ClientId, Observation, StreamId, Verdict};

/// A stream.
pub(super) struct Stream {
    client: ClientId,
    who: Credentials,
    pub(super) machine: usize,
    /// The life of the machine's process that serves it; 0 until it is open.
    life: u64,
    /// Until then it waits for its token to become known.
    token_by: Instant,
    /// Requests on their way, and when each arrives.
    asked: VecDeque<WatchRequest>,
    last_request_at: Instant,
    /// Responses that the client has not taken.
    unsent: VecDeque<Response>,
    is_taking: bool,
    /// Responses on their way.
    travelling: VecDeque<(Instant, Vec<WatchResponse>)>,
    /// The time that the client takes to read.
    slowness: Duration,
    /// It reads nothing before.
    paused_until: Instant,
    /// Responses it reads at a time.
    sips: usize,
    /// The end is on its way to the client.
    is_ending: bool,
}

/// How long a stream waits before it asks again with a token that is not known yet.
const TOKEN_PAUSE: Duration = Duration::from_millis(50);

/// How long it does so.
const TOKEN_PATIENCE: Duration = Duration::from_secs(5);

/// The least time of a client between two reads.
const SIP: Duration = Duration::from_millis(20);

impl Stream {
    /// When the client reads next.
    fn reads_at(&self, now: Instant) -> Instant {
        (now + self.slowness).max(self.paused_until)
    }
}

impl World<'_> {
    /// A client opens a stream.
    pub(super) fn open_stream(&mut self, id: StreamId, client: ClientId, member: MemberId) -> Verdict {
        let seen = Observation::StreamOpened {
            stream: id,
            client,
            member,
        };
        self.eyes.mix([self.now.as_nanos(), id.0, member.0]);
        self.eyes.see(self.now, &seen)?;
        self.eyes.note(
            self.now,
            format_args!("client {} opens stream {} to {member}", client.0, id.0),
        );
        let slowness = match self.prng.below(8) {
            _ if self.healed => Duration::ZERO,
            0 => Duration::from_millis(self.prng.below(5_000)),
            1 | 2 => Duration::from_millis(self.prng.below(100)),
            _ => Duration::ZERO,
        };
        let machine = self.find(member);
        let at = self.now + self.client_latency();
        let stream = Stream {
            client,
            who: self.user_of(client),
            machine: machine.unwrap_or(0),
            life: 0,
            token_by: Instant::ZERO,
            asked: VecDeque::new(),
            last_request_at: at,
            unsent: VecDeque::new(),
            is_taking: false,
            travelling: VecDeque::new(),
            slowness,
            paused_until: Instant::ZERO,
            sips: usize::MAX,
            is_ending: false,
        };
        self.streams.insert(id, stream);
        let what = match machine {
            Some(machine) if self.reaches(machine) => What::StreamOpen(id),
            Some(_) | None => What::StreamEnd(id),
        };
        self.queue.push(at, what);
        Ok(())
    }

    /// A stream reaches its member.
    pub(super) fn stream_opens(&mut self, id: StreamId) -> Verdict {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        let machine = stream.machine;
        let admitted = self.machines[machine].server(self.now, &Credentials::NONE, |server| server.admit_stream());
        let Some(life) = &mut self.machines[machine].life else {
            return self.end_stream(id);
        };
        if admitted != Some(Ok(())) {
            return self.end_stream(id);
        }
        stream.life = life.number;
        stream.token_by = self.now + TOKEN_PATIENCE;
        // States published while there was no watcher were not reported.
        life.streams.insert(id);
        life.hub_mail.push_back(WatchInput::Applied {
            view: life.view.kv.clone(),
            events: Arc::default(),
        });
        life.hub_mail.push_back(WatchInput::Open { stream: name(id) });
        self.plan_hub(machine);
        Ok(())
    }

    /// A client sends a request on a stream.
    pub(super) fn watch(&mut self, id: StreamId, request: WatchRequest) {
        let latency = self.client_latency();
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.asked.push_back(request);
        let at = stream.last_request_at.max(self.now + latency);
        stream.last_request_at = at;
        self.queue.push(at, What::StreamAsk(id));
    }

    /// A request on a stream reaches the member.
    pub(super) fn stream_asks(&mut self, id: StreamId) -> Verdict {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        let Some(request) = stream.asked.pop_front() else {
            return Ok(());
        };
        let machine = stream.machine;
        if stream.life == 0 || stream.is_ending {
            return Ok(());
        }
        let Some(input) = self.for_hub(id, &self.streams[&id], &request) else {
            self.streams
                .entry(id)
                .and_modify(|stream| stream.asked.push_front(request));
            self.queue.push(self.now + TOKEN_PAUSE, What::StreamAsk(id));
            return Ok(());
        };
        let seen = Observation::WatchRequested {
            stream: id,
            request: &request,
        };
        self.eyes.see(self.now, &seen)?;
        if self.eyes.traces() {
            self.eyes.note(self.now, format_args!("stream {}: {request:?}", id.0));
        }
        if let Some(life) = &mut self.machines[machine].life {
            life.hub_mail.push_back(input);
        }
        self.plan_hub(machine);
        Ok(())
    }

    /// A request for the hub, as a denied one if it is not permitted; `None` if its token may become known yet.
    fn for_hub(&self, id: StreamId, stream: &Stream, request: &WatchRequest) -> Option<WatchInput> {
        let (of, request) = (stream, request.clone());
        let stream = name(id);
        let Some(RequestUnion::CreateRequest(create)) = &request.request_union else {
            return Some(WatchInput::Request { stream, request });
        };
        let look = |server: &Server<'_>| (server.authorize_watch(create), server.awaits_token());
        match self.machines[of.machine].server(self.now, &of.who, look) {
            Some((Err(_), true)) if self.now < of.token_by => None,
            Some((Err(error), _)) => Some(WatchInput::Deny {
                stream,
                request: create.clone(),
                error,
            }),
            Some((Ok(()), _)) | None => Some(WatchInput::Request { stream, request }),
        }
    }

    /// The hub will take its input.
    pub(super) fn plan_hub(&mut self, machine: usize) {
        let lag = self.plan.hub_lag;
        let Some(life) = &mut self.machines[machine].life else {
            return;
        };
        if !life.hub_is_due {
            life.hub_is_due = true;
            let number = life.number;
            self.queue.push(self.now + lag, What::Hub { machine, life: number });
        }
    }

    /// The hub takes its input.
    pub(super) fn hub_turn(&mut self, machine: usize, life: u64) -> Verdict {
        let at = &mut self.machines[machine];
        let now = at.look_at_clock(self.now);
        let Some(current) = at.life.as_mut().filter(|current| current.number == life) else {
            return Ok(());
        };
        current.hub_is_due = false;
        let mut outputs = std::mem::take(&mut self.outputs);
        while let Some(input) = current.hub_mail.pop_front() {
            current.hub.step(now, input, &mut outputs);
        }
        if current.hub.deadline().is_some_and(|at| at <= now) {
            current.hub.step(now, WatchInput::Wake, &mut outputs);
        }
        if self.checks_all {
            current.hub.check();
        }
        self.hand_out(outputs);
        self.plan_wake(machine);
        Ok(())
    }

    /// Responses wait for their clients to take them.
    fn hand_out(&mut self, mut outputs: Vec<WatchOutput>) {
        for WatchOutput { stream, response } in outputs.drain(..) {
            let id = StreamId(stream.0);
            if let Some(op) = recipes::op_of(id) {
                self.recipe_is_told(op, id, &response);
                continue;
            }
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            stream.unsent.push_back(response);
            if !stream.is_taking {
                stream.is_taking = true;
                self.queue.push(stream.reads_at(self.now), What::StreamTake(id));
            }
        }
        self.outputs = outputs;
    }

    /// A client does not read for a while.
    pub(super) fn pause_stream(&mut self, id: StreamId, until: Instant, sips: usize) {
        if let Some(stream) = self.streams.get_mut(&id).filter(|_| !self.healed) {
            stream.paused_until = until;
            stream.sips = sips.max(1);
            self.eyes
                .note(self.now, format_args!("stream {} is not read until {until}", id.0));
        }
    }

    /// From here on all clients read at once.
    pub(super) fn hasten_readers(&mut self) {
        for (id, stream) in &mut self.streams {
            stream.slowness = Duration::ZERO;
            stream.paused_until = Instant::ZERO;
            stream.sips = usize::MAX;
            if stream.is_taking {
                self.queue.push(self.now, What::StreamTake(*id));
            }
        }
    }

    /// A client's connection takes the waiting responses.
    pub(super) fn take_responses(&mut self, id: StreamId) -> Verdict {
        let latency = self.client_latency();
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        if stream.paused_until > self.now {
            self.queue.push(stream.paused_until, What::StreamTake(id));
            return Ok(());
        }
        stream.is_taking = false;
        let machine = stream.machine;
        let Some(life) = self.machines[machine]
            .life
            .as_mut()
            .filter(|life| life.number == stream.life)
        else {
            return Ok(());
        };
        let count = stream.unsent.len().min(stream.sips);
        if stream.is_ending || count == 0 {
            return Ok(());
        }
        let origin = origin(life);
        let mut responses = Vec::with_capacity(count);
        for response in stream.unsent.drain(..count) {
            let response = decoded(&response, origin);
            self.eyes.mix([
                id.0,
                response.watch_id as u64,
                response.header.as_ref().map_or(0, |header| header.revision as u64),
                response.events.len() as u64,
            ]);
            if self.eyes.traces() {
                self.eyes
                    .note(self.now, format_args!("stream {} gets {response:?}", id.0));
            }
            let seen = Observation::Watched {
                stream: id,
                response: &response,
            };
            self.eyes.see(self.now, &seen)?;
            responses.push(response);
        }
        life.hub_mail.push_back(WatchInput::Sent {
            stream: name(id),
            responses: count,
        });
        let at = stream
            .travelling
            .back()
            .map_or(self.now, |(at, _)| *at)
            .max(self.now + latency);
        stream.travelling.push_back((at, responses));
        self.queue.push(at, What::StreamArrive(id));
        if !stream.unsent.is_empty() {
            stream.is_taking = true;
            self.queue.push(stream.reads_at(self.now) + SIP, What::StreamTake(id));
        }
        self.plan_hub(machine);
        Ok(())
    }

    /// Responses reach the client.
    pub(super) fn responses_arrive(&mut self, id: StreamId) -> Verdict {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        let Some((_, responses)) = stream.travelling.pop_front() else {
            return Ok(());
        };
        for response in responses {
            if !self.streams.contains_key(&id) {
                break;
            }
            let mut acts = std::mem::take(&mut self.acts);
            self.clients.watched(self.now, id, response, &mut acts);
            self.acts = acts;
            self.act()?;
        }
        Ok(())
    }

    /// A client closes its stream.
    pub(super) fn close_stream(&mut self, id: StreamId) -> Verdict {
        let Some(stream) = self.streams.remove(&id) else {
            return Ok(());
        };
        self.eyes.note(
            self.now,
            format_args!("client {} closes stream {}", stream.client.0, id.0),
        );
        self.eyes.see(self.now, &Observation::StreamClosed { stream: id })?;
        self.close_at_hub(id, stream.machine, stream.life);
        Ok(())
    }

    pub(super) fn close_at_hub(&mut self, id: StreamId, machine: usize, life: u64) {
        if let Some(current) = &mut self.machines[machine].life
            && current.number == life
            && current.streams.remove(&id)
        {
            current.hub_mail.push_back(WatchInput::Close { stream: name(id) });
            self.plan_hub(machine);
        }
    }

    /// The network or the member ends a stream; the client will notice.
    pub(super) fn end_stream(&mut self, id: StreamId) -> Verdict {
        let latency = self.client_latency();
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.is_ending) else {
            return Ok(());
        };
        stream.is_ending = true;
        stream.unsent.clear();
        let (machine, life) = (stream.machine, stream.life);
        let at = stream
            .travelling
            .back()
            .map_or(self.now, |(at, _)| *at)
            .max(self.now + latency);
        self.queue.push(at, What::StreamEnd(id));
        self.close_at_hub(id, machine, life);
        Ok(())
    }

    /// A client learns that its stream has ended.
    pub(super) fn stream_ends(&mut self, id: StreamId) -> Verdict {
        if self.streams.remove(&id).is_none() {
            return Ok(());
        }
        self.eyes.mix([self.now.as_nanos(), id.0, 0xc105ed]);
        self.eyes.note(self.now, format_args!("stream {} is over", id.0));
        self.eyes.see(self.now, &Observation::StreamClosed { stream: id })?;
        let mut acts = std::mem::take(&mut self.acts);
        self.clients.closed(self.now, id, &mut acts);
        self.acts = acts;
        self.act()
    }

    /// All streams to a machine end.
    pub(super) fn forget_streams(&mut self, machine: usize) -> Verdict {
        let streams = self.streams.iter().filter(|(_, stream)| stream.machine == machine);
        let ids: Vec<_> = streams.map(|(id, _)| *id).collect();
        ids.into_iter().try_for_each(|id| self.end_stream(id))
    }
}

/// The hub's id of a stream.
fn name(id: StreamId) -> watch::StreamId {
    watch::StreamId(id.0)
}

pub(super) fn origin(life: &Life) -> Origin {
    Origin {
        cluster_id: life.process.cluster.0,
        member_id: life.process.member.0,
        raft_term: life.status.term,
    }
}

/// A response as it is after encoding and decoding.
fn decoded(response: &Response, origin: Origin) -> WatchResponse {
    let mut bytes = BytesMut::with_capacity(response.encoded_len(origin));
    response.encode(origin, &mut bytes);
    WatchResponse::decode(bytes.freeze()).expect("what was encoded can be decoded")
}
