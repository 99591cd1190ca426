//! Clients that load a server and record their observations: writers and readers of a few keys, holders of leases, a
//! watcher.
//!
//! All run on one thread. A request without an answer, or with an error, has an unknown outcome.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::WatchResponse;
use quoin_core::proto::mvccpb::event::EventType;
use quoin_model::linear::kv::{Op, OpReply, Reply, Request};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::calls::{Caller, key_value};
use super::check::past::FIRST_REVISION;
use super::record::{End, Event, History, Kept, Lease, Moment, Recorded, Watched};
use crate::diff::wire::{Exchange, decoded};
use crate::rng::Rng;
use crate::wait::{self, Deadline};

/// The prefix of the keys of leases; no other key has it.
pub(super) const LEASE_KEYS: &[u8] = b"lease/";
const LEASE_KEYS_END: &[u8] = b"lease0";
const CLIENTS: u64 = 6;
const HOLDERS: u64 = 2;
const KEYS: u64 = 5;
/// The shortest TTL that a server with default timing grants.
const TTL_SECONDS: i64 = 2;
/// A request without an answer by then is abandoned.
const ANSWER_LIMIT: Duration = Duration::from_secs(4);
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(15);
/// Upper bound of a client's pause between two requests, so that a history stays short enough to be checked.
const REST_MICROS: u64 = 25_000;
/// How often the watcher checks for its end.
const LOOK_UP: Duration = Duration::from_millis(50);
/// The watcher cuts its stream once in this many checks and responses.
const CUT_ONCE_IN: u64 = 80;
/// Time after the load: for leases to expire, for the last read, for the watch to catch up with it.
const SETTLE_LIMIT: Duration = Duration::from_secs(15);

/// The shared state of the clients of one server, or of one cluster.
pub(crate) struct Shared {
    /// Where the members listen. A client that loses its connection tries the next one.
    addresses: Vec<SocketAddr>,
    turn: AtomicUsize,
    /// The store's revision when the history begins, with no key in the store.
    first_revision: i64,
    /// In every written value, and in the ids of leases: several histories may follow each other on one store.
    series: u64,
    began: Instant,
    history: Mutex<History>,
    stop: AtomicBool,
    /// The revision that the watcher must reach; 0 while it is unknown.
    target: AtomicI64,
}

impl Shared {
    pub(crate) fn new(address: SocketAddr) -> Arc<Self> {
        Self::following(vec![address], 0, FIRST_REVISION, History::default())
    }

    /// The state of a history that begins at a revision without keys. `before` has the requests of earlier histories
    /// that may still have an effect.
    pub(crate) fn following(
        addresses: Vec<SocketAddr>,
        series: u64,
        first_revision: i64,
        before: History,
    ) -> Arc<Self> {
        Arc::new(Self {
            addresses,
            turn: AtomicUsize::new(0),
            first_revision,
            series,
            began: wait::now(),
            history: Mutex::new(before),
            stop: AtomicBool::new(false),
            target: AtomicI64::new(0),
        })
    }

    pub(crate) fn now(&self) -> Moment {
        self.began.elapsed().as_micros() as Moment
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn fault(&self, words: String) {
        self.history().faults.push(words);
    }

    /// Records that a request is about to be sent.
    fn invoked(&self, client: u64, request: &Request, serializable: bool) -> usize {
        let mut history = self.history();
        history.operations.push(Recorded {
            client,
            invoked: self.now(),
            returned: None,
            request: request.clone(),
            serializable,
            reply: None,
        });
        history.operations.len() - 1
    }

    fn returned(&self, index: usize, reply: Reply) {
        let now = self.now();
        let operation = &mut self.history().operations[index];
        operation.returned = Some(now);
        operation.reply = Some(reply);
    }

    /// A new connection; `None` after a pause if connecting fails or takes too long.
    pub(crate) async fn connect(&self) -> Option<Caller> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let address = self.addresses[turn % self.addresses.len()];
        match timeout(CONNECT_LIMIT, Caller::connect(address)).await {
            Ok(Ok(caller)) => Some(caller),
            Ok(Err(_)) | Err(_) => {
                sleep(RETRY).await;
                None
            }
        }
    }

    /// Makes a request and records the outcome. Drops the connection if no answer comes, or an error.
    pub(crate) async fn ask(
        &self,
        caller: &mut Option<Caller>,
        client: u64,
        request: &Request,
        (lease, serializable): (i64, bool),
    ) -> Option<Reply> {
        let connected = caller.as_ref()?;
        let index = self.invoked(client, request, serializable);
        match timeout(ANSWER_LIMIT, connected.ask(request, lease, serializable)).await {
            Ok(Ok(reply)) => {
                self.returned(index, reply.clone());
                Some(reply)
            }
            Ok(Err(_)) | Err(_) => {
                *caller = None;
                sleep(RETRY).await;
                None
            }
        }
    }
}

/// Loads the server until stopped, then waits for outstanding events.
pub(crate) async fn load(shared: Arc<Shared>, mut rng: Rng) {
    let mut watcher = JoinSet::new();
    watcher.spawn(watch(shared.clone(), Rng::new(rng.bits())));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(use_keys(shared.clone(), client, Rng::new(rng.bits())));
    }
    for holder in 0..HOLDERS {
        clients.spawn(hold_leases(shared.clone(), CLIENTS + holder, Rng::new(rng.bits())));
    }
    while clients.join_next().await.is_some() {}
    settle(&shared, SETTLE_LIMIT).await;
    while watcher.join_next().await.is_some() {}
}

/// Reads the last state once no lease is left; the watcher then has to catch up with it.
pub(super) async fn settle(shared: &Arc<Shared>, limit: Duration) {
    let deadline = Deadline::after(limit);
    let mut caller = None;
    let leases = all(LEASE_KEYS, LEASE_KEYS_END);
    while !deadline.passed() {
        if caller.is_none() {
            caller = shared.connect().await;
        }
        let left = shared.ask(&mut caller, CLIENTS + HOLDERS, &leases, (0, false)).await;
        if left.is_none_or(|left| !keys_of(&left).is_some_and(<[_]>::is_empty)) {
            sleep(RETRY * 10).await;
            continue;
        }
        if end(shared, &mut caller).await {
            return;
        }
    }
    // The check reports leases that do not expire; it needs the last state in any case.
    if !end(shared, &mut caller).await {
        shared.fault("the server does not answer at the end".to_owned());
        shared.target.store(i64::MAX, Ordering::Relaxed);
    }
}

/// Reads the last state, which the watcher must reach.
pub(crate) async fn end(shared: &Shared, caller: &mut Option<Caller>) -> bool {
    let everything = all(b"\0", b"\0");
    let reply = shared.ask(caller, CLIENTS + HOLDERS, &everything, (0, false)).await;
    let Some((reply, revision)) =
        reply.and_then(|reply| Some((reply.revision()?, reply)).map(|(at, reply)| (reply, at)))
    else {
        return false;
    };
    shared.history().end = Some(End {
        at: shared.now(),
        revision,
        keys: keys_of(&reply).unwrap_or_default().to_vec(),
    });
    shared.target.store(revision, Ordering::Relaxed);
    true
}

fn all(key: &'static [u8], end: &'static [u8]) -> Request {
    Request::One(Op::Range {
        key: Bytes::from_static(key),
        end: Some(Bytes::from_static(end)),
        revision: 0,
    })
}

fn keys_of(reply: &Reply) -> Option<&[quoin_model::linear::kv::KeyValue]> {
    match reply {
        Reply::One {
            reply: OpReply::Range(keys),
            ..
        } => Some(keys),
        Reply::Compacted { .. } | Reply::One { .. } | Reply::Refused(_) | Reply::Txn { .. } => None,
    }
}

/// Puts, reads, deletes, and compare-and-swaps with the last known revision of a key.
async fn use_keys(shared: Arc<Shared>, client: u64, mut rng: Rng) {
    let mut caller = None;
    let mut known = vec![0; KEYS as usize];
    let mut number = 0;
    while !shared.is_stopped() {
        if caller.is_none() {
            caller = shared.connect().await;
            continue;
        }
        number += 1;
        let at = rng.below(KEYS);
        let value = format!("{}-{client}-{number}", shared.series);
        let (request, serializable) = draw(&mut rng, at, known[at as usize], value);
        if let Some(reply) = shared.ask(&mut caller, client, &request, (0, serializable)).await
            && let Some(revision) = mod_revision(&reply)
        {
            known[at as usize] = revision;
        }
        sleep(Duration::from_micros(rng.below(REST_MICROS))).await;
    }
}

/// A request about a key with this last known mod revision.
fn draw(rng: &mut Rng, at: u64, known: i64, value: String) -> (Request, bool) {
    let key = Bytes::from(format!("k/{at}"));
    let value = Bytes::from(value);
    let read = |end| Op::Range {
        key: key.clone(),
        end,
        revision: 0,
    };
    match rng.below(20) {
        0..6 => (Request::One(Op::Put { key, value }), false),
        6..10 => (Request::One(read(None)), false),
        10 => (Request::One(read(Some(Bytes::from_static(b"k0")))), false),
        11..13 => (Request::One(read(None)), true),
        13 => (Request::One(read(Some(Bytes::from_static(b"k0")))), true),
        14..16 => (Request::One(Op::DeleteRange { key, end: None }), false),
        _ => {
            let txn = Request::Txn {
                compare: vec![(key.clone(), known)],
                success: vec![Op::Put {
                    key: key.clone(),
                    value,
                }],
                failure: vec![read(None)],
            };
            (txn, false)
        }
    }
}

/// The mod revision of the reply's only key.
fn mod_revision(reply: &Reply) -> Option<i64> {
    let (revision, reply) = match reply {
        Reply::One { revision, reply } => (*revision, reply),
        Reply::Txn { revision, replies, .. } => (*revision, replies.first()?),
        Reply::Compacted { .. } | Reply::Refused(_) => return None,
    };
    match reply {
        OpReply::Deleted(_) => Some(0),
        OpReply::Put => Some(revision),
        OpReply::Range(keys) if keys.len() <= 1 => Some(keys.first().map_or(0, |found| found.mod_revision)),
        OpReply::Range(_) => None,
    }
}

/// Grants a lease, puts a key with it, renews it for a while, and lets it expire; again and again.
async fn hold_leases(shared: Arc<Shared>, holder: u64, mut rng: Rng) {
    let mut caller = None;
    let mut number = 0;
    while !shared.is_stopped() {
        let Some(connected) = &caller else {
            caller = shared.connect().await;
            continue;
        };
        number += 1;
        let id = ((shared.series * 100 + holder) * 1_000_000 + number) as i64;
        let key = Bytes::from(format!("lease/{holder}/{number}"));
        let invoked = shared.now();
        let Ok(Ok(ttl)) = timeout(ANSWER_LIMIT, connected.grant(id, TTL_SECONDS)).await else {
            caller = None;
            sleep(RETRY).await;
            continue;
        };
        let lease = {
            let mut history = shared.history();
            history.leases.push(Lease {
                id,
                key: key.clone(),
                invoked,
                granted: Some((shared.now(), ttl)),
                kept: Vec::new(),
            });
            history.leases.len() - 1
        };
        let value = Bytes::from(format!("held {} {holder} {number}", shared.series));
        shared
            .ask(&mut caller, holder, &Request::One(Op::Put { key, value }), (id, false))
            .await;
        keep(&shared, &mut caller, (lease, id), &mut rng).await;
    }
}

/// Renews a lease for a random time. If the connection breaks, a new one is made.
async fn keep(shared: &Shared, caller: &mut Option<Caller>, (lease, id): (usize, i64), rng: &mut Rng) {
    for _ in 0..rng.below(8) {
        sleep(Duration::from_millis(50 + rng.below(400))).await;
        if shared.is_stopped() {
            return;
        }
        let Some(connected) = caller.as_ref() else {
            *caller = shared.connect().await;
            continue;
        };
        let invoked = shared.now();
        let answer = timeout(ANSWER_LIMIT, connected.keep_alive(id)).await;
        let answered = match answer {
            Ok(Ok(seconds)) => Some((shared.now(), seconds)),
            Ok(Err(_)) | Err(_) => None,
        };
        shared.history().leases[lease].kept.push(Kept { invoked, answered });
        if answered.is_none() {
            *caller = None;
            sleep(RETRY).await;
        }
    }
}

/// Watches every key from the store's beginning, on successive streams, each from where the previous one ended.
pub(crate) async fn watch(shared: Arc<Shared>, mut rng: Rng) {
    let mut last = shared.first_revision;
    let mut deadline = None;
    let mut stream = 0;
    loop {
        let Some(caller) = shared.connect().await else {
            if is_over(&shared, last, &mut deadline) {
                return;
            }
            continue;
        };
        let Ok(mut exchange) = caller.watch(last + 1).await else {
            if is_over(&shared, last, &mut deadline) {
                return;
            }
            sleep(RETRY).await;
            continue;
        };
        loop {
            if is_over(&shared, last, &mut deadline) {
                return;
            }
            match follow(&shared, &mut exchange, stream).await {
                Followed::Cut => break,
                Followed::Nothing => {}
                Followed::To(revision) => last = last.max(revision),
            }
            if rng.once_in(CUT_ONCE_IN) {
                break;
            }
        }
        stream += 1;
    }
}

/// The result of polling a stream.
enum Followed {
    Cut,
    Nothing,
    To(i64),
}

async fn follow(shared: &Shared, exchange: &mut Exchange, stream: u64) -> Followed {
    let message = match timeout(LOOK_UP, exchange.receive()).await {
        Err(_) => return Followed::Nothing,
        Ok(Ok(Some(message))) => message,
        Ok(Ok(None) | Err(_)) => return Followed::Cut,
    };
    let response: WatchResponse = match decoded(message) {
        Ok(response) => response,
        Err(refusal) => {
            shared.fault(format!("a watch response {}", refusal.message));
            return Followed::Cut;
        }
    };
    if response.canceled || response.fragment {
        shared.fault(format!(
            "a watch was cancelled, or its events came in fragments: {response:?}"
        ));
        return Followed::Cut;
    }
    let events: Vec<Event> = response
        .events
        .into_iter()
        .map(|event| {
            let is_put = event.r#type == EventType::Put as i32;
            let kv = event.kv.unwrap_or_default();
            Event {
                revision: kv.mod_revision,
                key: kv.key.clone(),
                set: is_put.then(|| key_value(kv)),
            }
        })
        .collect();
    let Some(last) = events.iter().map(|event| event.revision).max() else {
        return Followed::Nothing;
    };
    let at = shared.now();
    shared.history().watched.push(Watched { at, stream, events });
    Followed::To(last)
}

/// Whether the watcher may end: it has reached the last revision, or its time is up.
fn is_over(shared: &Shared, last: i64, deadline: &mut Option<Deadline>) -> bool {
    let target = shared.target.load(Ordering::Relaxed);
    if target == 0 {
        return false;
    }
    let deadline = deadline.get_or_insert_with(|| Deadline::after(SETTLE_LIMIT));
    // If the time is up, the check reports the missing events.
    last >= target || target == i64::MAX || deadline.passed()
}
