//! Plays a planned script to one server, and records its answers and the events on its watch streams.
//!
//! Writes are sent one after the other; the reads between them are sent together, on one connection.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{
    AlarmRequest, DefragmentRequest, DefragmentResponse, LeaseGrantRequest, LeaseRevokeRequest, LeaseStatus,
    LeaseTimeToLiveRequest, RangeRequest, StatusRequest, StatusResponse, WatchCancelRequest, WatchCreateRequest,
    WatchRequest, WatchResponse,
};
use quoin_model::call::{Answer, Call, Refusal};

use super::methods;
use super::normal::Identity;
use super::oracle::{Planned, expiring_put};
use super::step::{OWN_ID, Step};
use super::watching::{Delivered, Deliveries, Due};
use super::wire::{Exchange, NO_ANSWER, Wire, decoded, refusal};
use crate::server::Server;
use crate::trouble::{During as _, Trouble};
use crate::wait;

const WATCH: &str = "/etcdserverpb.Watch/Watch";
/// Reads in flight at the same time.
const MOST_TOGETHER: usize = 16;
/// Events that do not arrive within this time are lost.
const EVENTS_LIMIT: Duration = Duration::from_secs(10);
/// A stream without a response for this long has nothing more to send.
const SILENCE: Duration = Duration::from_millis(150);
/// Longer than a compaction of so few keys takes, and than a pass of etcd over watches that catch up.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a lease may outlive its TTL: the server checks every half second, on a machine that may be busy.
const LATE: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(20);
/// The stream of the watch that shows whether others have caught up.
const CANARY: u8 = u8::MAX;

/// An answer, normalised.
pub type Reply = Result<Answer, Refusal>;

/// The record of one step.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The events that had arrived before it, if they were to be checked.
    pub arrived: Option<Deliveries>,
    /// The answers.
    pub replies: Vec<Reply>,
}

/// A client of one server.
pub(super) struct Player {
    wire: Wire,
    identity: Identity,
    streams: BTreeMap<u8, Stream>,
    began: Instant,
    /// The TTL of each lease.
    granted: BTreeMap<i64, i64>,
    /// A compaction may still be running.
    is_freeing: bool,
}

/// A watch stream.
struct Stream {
    exchange: Exchange,
    /// The fragments so far of a fragmented response.
    partial: Option<Delivered>,
    arrived: BTreeMap<i64, Vec<Delivered>>,
    whole: usize,
}

impl Player {
    pub(super) async fn connect(server: &Server) -> Result<Self, Trouble> {
        let wire = Wire::connect(server.address()).await?;
        let status: StatusResponse = wire
            .ask("/etcdserverpb.Maintenance/Status", &StatusRequest {})
            .await
            .map_err(|refusal| Trouble::new(format!("{} has no status: {refusal:?}", server.name())))?;
        let header = status.header.unwrap_or_default();
        let identity = Identity {
            cluster: header.cluster_id,
            member: header.member_id,
            term: header.raft_term,
            leader: status.leader,
            is_alone: server.companions().is_empty(),
            client: server.address().to_string(),
            peer: server.peer_address().to_string(),
        };
        Ok(Self {
            wire,
            identity,
            streams: BTreeMap::new(),
            began: wait::now(),
            granted: BTreeMap::new(),
            is_freeing: false,
        })
    }

    /// Plays a part of a script.
    pub(super) async fn play(&mut self, script: &[Planned]) -> Vec<Seen> {
        let mut seen = Vec::with_capacity(script.len());
        let mut rest = script;
        while let [first, ..] = rest {
            let arrived = match &first.due {
                Some(due) => Some(self.settle(due).await),
                None => None,
            };
            let together = |planned: &&Planned| planned.step.goes_together();
            let more = rest[1..]
                .iter()
                .take(MOST_TOGETHER - 1)
                .take_while(|planned| planned.due.is_none());
            let count = if together(&first) {
                1 + more.take_while(together).count()
            } else {
                1
            };
            let (now, later) = rest.split_at(count);
            rest = later;
            let mut at_once = if count > 1 {
                self.together(now).await
            } else {
                vec![Seen {
                    arrived: None,
                    replies: self.step(&first.step).await,
                }]
            };
            at_once[0].arrived = arrived;
            seen.append(&mut at_once);
        }
        seen
    }

    /// Sends all requests before it waits for the first answer.
    async fn together(&self, script: &[Planned]) -> Vec<Seen> {
        let mut under_way = Vec::with_capacity(script.len());
        for planned in script {
            if let Step::Ask(call) = &planned.step {
                under_way.push((call, self.send(call).await));
            }
        }
        let mut seen = Vec::with_capacity(script.len());
        for (call, exchange) in under_way {
            let reply = match exchange {
                Ok(exchange) => self.finish(call, exchange).await,
                Err(refusal) => Err(refusal),
            };
            seen.push(Seen {
                arrived: None,
                replies: vec![reply],
            });
        }
        seen
    }

    async fn step(&mut self, step: &Step) -> Vec<Reply> {
        match step {
            Step::Ask(call) => {
                self.let_compactions_end(call).await;
                let reply = self.ask(call).await;
                if let Ok(Answer::LeaseGrant(response)) = &reply {
                    self.granted.insert(response.id, response.ttl);
                }
                vec![reply]
            }
            Step::Bare(bare) => {
                let reply = bare.ask(&self.wire).await;
                vec![reply.map(|answer| self.identity.normal(answer, 0))]
            }
            Step::Brief(request) => self.brief(*request).await,
            Step::Defragment => {
                let path = "/etcdserverpb.Maintenance/Defragment";
                let done = self.wire.ask::<DefragmentResponse>(path, &DefragmentRequest {}).await;
                vec![done.map(|_| Answer::Internal)]
            }
            Step::Expire { id, ttl, keys } => self.expire(*id, *ttl, keys).await,
            Step::Pause => {
                tokio::time::sleep(PAUSE).await;
                Vec::new()
            }
            Step::Reset(stream) => {
                self.streams.remove(stream);
                Vec::new()
            }
            Step::Watch(stream, request) => {
                self.watch(*stream, request).await;
                Vec::new()
            }
        }
    }

    /// Waits for the end of a compaction before a hash or the next compaction: the hash depends on it, and etcd
    /// remembers the hash of a compaction only if the previous one has finished.
    async fn let_compactions_end(&mut self, call: &Call) {
        if matches!(call, Call::Compact(_) | Call::HashKv(_)) && std::mem::take(&mut self.is_freeing) {
            tokio::time::sleep(PAUSE).await;
        }
        if let Call::Compact(request) = call {
            self.is_freeing = !request.physical;
        }
    }

    async fn ask(&self, call: &Call) -> Reply {
        let exchange = self.send(call).await?;
        self.finish(call, exchange).await
    }

    async fn send(&self, call: &Call) -> Result<Exchange, Refusal> {
        if let Call::Alarm(request) = call
            && request.member_id == OWN_ID
        {
            let own = Call::Alarm(AlarmRequest {
                member_id: self.identity.member,
                ..*request
            });
            return methods::send(&self.wire, &own).await;
        }
        methods::send(&self.wire, call).await
    }

    async fn finish(&self, call: &Call, exchange: Exchange) -> Reply {
        let answer = methods::read(call, exchange.only().await?)?;
        let lapse = self.began.elapsed().as_secs() as i64;
        let mut answer = self.identity.normal(answer, lapse);
        if let Answer::LeaseLeases(response) = &mut answer {
            self.order(&mut response.leases);
        }
        Ok(answer)
    }

    /// Sorts leases of equal TTL that are adjacent in the list by id. They expire within moments of each other. etcd
    /// reads the clock for each side of a comparison, so it may swap them on a busy machine.
    fn order(&self, leases: &mut [LeaseStatus]) {
        let granted = |lease: &LeaseStatus| self.granted.get(&lease.id);
        for equals in leases.chunk_by_mut(|a, b| granted(a) == granted(b)) {
            equals.sort_by_key(|lease| lease.id);
        }
    }

    async fn brief(&self, request: LeaseGrantRequest) -> Vec<Reply> {
        let mut grant = self.ask(&Call::LeaseGrant(request)).await;
        let mut revoke = None;
        if let Ok(Answer::LeaseGrant(response)) = &mut grant {
            let id = response.id;
            revoke = Some(self.ask(&Call::LeaseRevoke(LeaseRevokeRequest { id })).await);
            // An id that the server chose does not matter, if it is positive.
            if request.id == 0 && id > 0 {
                response.id = 0;
            }
        }
        std::iter::once(grant).chain(revoke).collect()
    }

    async fn expire(&self, id: i64, ttl: i64, keys: &[Bytes]) -> Vec<Reply> {
        let began = wait::now();
        let grant = self.ask(&Call::LeaseGrant(LeaseGrantRequest { ttl, id })).await;
        let granted = match &grant {
            Ok(Answer::LeaseGrant(response)) => response.ttl,
            _ => 0,
        };
        let granted = Duration::from_secs(granted.unsigned_abs());
        let mut replies = vec![grant];
        for key in keys {
            replies.push(self.ask(&Call::Put(expiring_put(id, key))).await);
        }
        let first = Call::Range(RangeRequest {
            key: keys.first().cloned().unwrap_or_default(),
            count_only: true,
            ..RangeRequest::default()
        });
        let lasted = loop {
            let there = matches!(self.ask(&first).await, Ok(Answer::Range(range)) if range.count > 0);
            let lasted = began.elapsed();
            if !there || lasted > granted + LATE {
                break lasted;
            }
            tokio::time::sleep(STEP).await;
        };
        replies.push(if lasted < granted {
            Err(refusal(
                NO_ANSWER,
                &format!("the lease of {granted:?} ended before its time"),
            ))
        } else if lasted > granted + LATE {
            Err(refusal(NO_ANSWER, &format!("the lease of {granted:?} does not end")))
        } else {
            Ok(Answer::Internal)
        });
        let left = LeaseTimeToLiveRequest { id, keys: true };
        replies.push(self.ask(&Call::LeaseTimeToLive(left)).await);
        replies
    }

    async fn watch(&mut self, stream: u8, request: &WatchRequest) {
        let sent = match self.streams.get_mut(&stream) {
            Some(stream) => stream.exchange.send(request),
            None => self.wire.call(WATCH, request, false).await.map(|exchange| {
                self.streams.insert(stream, Stream::new(exchange));
            }),
        };
        if let (Err(refusal), Some(stream)) = (sent, self.streams.get_mut(&stream)) {
            stream.end(&refusal);
        }
    }

    /// Waits until the expected responses have arrived, and takes all that arrived.
    async fn settle(&mut self, due: &Due) -> Deliveries {
        let mut counts: BTreeMap<u8, usize> = BTreeMap::new();
        for ((stream, _), responses) in &due.deliveries {
            *counts.entry(*stream).or_default() += responses.len();
        }
        if due.needs_canary {
            self.await_canary(due.revision).await;
        }
        let identity = &self.identity;
        let mut all = Deliveries::new();
        for (number, stream) in self.streams.iter_mut().filter(|(number, _)| **number != CANARY) {
            stream
                .receive(counts.get(number).copied().unwrap_or(0), EVENTS_LIMIT)
                .await;
            let may_come = due.is_last || due.excused.contains_key(number);
            let patience = if may_come { SILENCE } else { Duration::ZERO };
            stream.receive(usize::MAX, patience).await;
            stream.whole = 0;
            for (id, mut responses) in std::mem::take(&mut stream.arrived) {
                for delivered in &mut responses {
                    identity.header(delivered.response.header.as_mut());
                }
                all.insert((*number, id), responses);
            }
        }
        all
    }

    /// Creates a watch that has to catch up, and waits until it has. Then every earlier watch has caught up too.
    async fn await_canary(&mut self, revision: i64) {
        if revision <= 1 {
            // There is no event for the watch to wait for.
            return tokio::time::sleep(PAUSE).await;
        }
        let ask = |union| WatchRequest {
            request_union: Some(union),
        };
        let create = ask(RequestUnion::CreateRequest(WatchCreateRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            start_revision: revision,
            ..WatchCreateRequest::default()
        }));
        self.watch(CANARY, &create).await;
        let Some(stream) = self.streams.get_mut(&CANARY) else {
            return;
        };
        stream.receive(2, EVENTS_LIMIT).await;
        let id = stream.arrived.keys().next().copied().unwrap_or_default();
        let cancel = ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: id }));
        self.watch(CANARY, &cancel).await;
        if let Some(stream) = self.streams.get_mut(&CANARY) {
            stream.receive(3, EVENTS_LIMIT).await;
            stream.whole = 0;
            stream.arrived.clear();
        }
    }
}

impl Stream {
    fn new(exchange: Exchange) -> Self {
        Self {
            exchange,
            partial: None,
            arrived: BTreeMap::new(),
            whole: 0,
        }
    }

    /// Waits until `count` whole responses have arrived, or none has come for `patience`.
    async fn receive(&mut self, count: usize, patience: Duration) {
        while self.whole < count {
            let message = match tokio::time::timeout(patience, self.exchange.receive()).await {
                Ok(Ok(Some(message))) => decoded::<WatchResponse>(message),
                Ok(Ok(None)) => Err(refusal(0, "the stream has ended")),
                Ok(Err(refusal)) => Err(refusal),
                Err(_) => return,
            };
            match message {
                Ok(response) => self.take(response),
                Err(refusal) => return self.end(&refusal),
            }
        }
    }

    fn take(&mut self, response: WatchResponse) {
        let is_piece = response.fragment;
        let mut whole = match self.partial.take() {
            Some(mut so_far) if so_far.response.watch_id == response.watch_id => {
                so_far.response.events.extend(response.events);
                so_far.pieces += 1;
                so_far
            }
            Some(abandoned) => {
                self.keep(abandoned);
                Delivered { response, pieces: 1 }
            }
            None => Delivered { response, pieces: 1 },
        };
        if is_piece {
            self.partial = Some(whole);
        } else {
            whole.response.fragment = false;
            self.keep(whole);
        }
    }

    /// Keeps a response. If its last fragment never came, it is still marked as a fragment.
    fn keep(&mut self, delivered: Delivered) {
        self.whole += 1;
        let of_watch = self.arrived.entry(delivered.response.watch_id).or_default();
        of_watch.push(delivered);
    }

    /// Records once that the stream has ended.
    fn end(&mut self, refusal: &Refusal) {
        let over = WatchResponse {
            watch_id: i64::MIN,
            cancel_reason: format!("{}: {}", refusal.code, refusal.message),
            ..WatchResponse::default()
        };
        let told = self.arrived.entry(i64::MIN).or_default();
        if told.is_empty() {
            told.push(Delivered {
                response: over,
                pieces: 1,
            });
        }
    }
}

/// Connects a client to a server, and runs `play` with it on a runtime of this thread.
pub(super) fn perform<F, T>(server: &Server, play: F) -> Result<T, Trouble>
where
    F: AsyncFnOnce(Player) -> T,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .during("making a runtime for the client")?;
    runtime.block_on(async { Ok(play(Player::connect(server).await?).await) })
}
