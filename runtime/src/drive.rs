//! The node's thread: gives all queued inputs to the node as one turn, and carries out the effects in order.
//!
//! It decides nothing. Blocking work goes to the lanes, reads are answered on other threads, and this thread sleeps
//! until an input comes or the node's deadline is reached.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_channel::oneshot;
use quoin_core::error::{Error, Fault};
use quoin_core::jobs::{LogJob, PeerJob};
use quoin_core::limits::MEMBER_QUEUE_INPUTS;
use quoin_core::member::{Halt, Token};
use quoin_core::mvcc::Compacted;
use quoin_core::node::{Done, Effect, Input, Node, PeerEvent, Publication, Request, Response, Tally};
use quoin_core::time::Instant;

use crate::alarms;
use crate::clock::Clock;
use crate::handle::Call;
use crate::hub::HubQueue;
use crate::lanes::table::TableTask;
use crate::mailbox::{Mailbox, Refused};
use crate::newest::{Newest, Published};
use crate::pulse::Pulse;
use crate::running::Ending;
use crate::threads;

/// The name of the thread that writes the log.
pub const WAL_THREAD: &str = "quoin-wal";
/// The name of the thread that writes the table.
pub const TABLE_THREAD: &str = "quoin-table";

/// An entry of the node's mailbox.
#[derive(Debug)]
pub enum NodeEvent {
    /// A request of a service.
    Call(Call),
    /// The caller of a request no longer waits.
    Cancel(Token),
    /// A lane's report.
    Done(Done),
    /// An event about a peer.
    Peer(PeerEvent),
    /// Hand over leadership if another member can take it, then halt.
    Stop,
}

/// The queue into the node's thread; clones share it.
#[derive(Clone, Debug)]
pub struct NodeQueue {
    mailbox: Arc<Mailbox<NodeEvent>>,
}

impl NodeQueue {
    /// An empty queue.
    pub fn new() -> Self {
        Self {
            mailbox: Arc::new(Mailbox::new(MEMBER_QUEUE_INPUTS)),
        }
    }

    /// Queues a service's request, or returns why that is not possible.
    pub fn call(&self, call: Call) -> Result<(), Error> {
        self.mailbox
            .offer(NodeEvent::Call(call))
            .map_err(|refused| match refused {
                Refused::Closed => Error::Stopped,
                Refused::Full => Error::TooManyRequests,
            })
    }

    /// Cancels a request whose caller no longer waits. There is at most one such event for each request, and requests
    /// are bounded.
    pub fn cancel(&self, token: Token) {
        // A node that has ended has dropped all requests.
        let _closed = self.mailbox.report(NodeEvent::Cancel(token));
    }

    /// Queues a lane's report; the node bounds how many jobs are outstanding.
    pub fn report(&self, done: Done) {
        // A node that has ended needs no report.
        let _closed = self.mailbox.report(NodeEvent::Done(done));
    }

    /// Queues an event about a peer.
    pub fn peer(&self, event: PeerEvent) {
        // As above.
        let _closed = self.mailbox.report(NodeEvent::Peer(event));
    }

    /// Asks the node to stop.
    pub fn stop(&self) {
        let _closed = self.mailbox.report(NodeEvent::Stop);
    }
}

impl Default for NodeQueue {
    fn default() -> Self {
        Self::new()
    }
}

/// Called after each turn with its counts and its duration.
pub type Observe = Box<dyn FnMut(&Tally, Duration) + Send>;

/// The receivers of a node's effects, except answers.
pub struct NodeHost {
    /// The log lane.
    pub wal: SyncSender<LogJob>,
    /// The table lane.
    pub table: SyncSender<TableTask>,
    /// The watch thread.
    pub hub: HubQueue,
    /// The thread that computes and remembers hashes of compactions.
    pub compacted: SyncSender<Compacted>,
    /// The newest state, for readers.
    pub published: Newest,
    /// Called after every turn, for metrics.
    pub observe: Observe,
    /// Sends to peers. The outcome of a snapshot must be reported by [`NodeQueue::peer`].
    pub send: Box<dyn FnMut(PeerJob) + Send>,
}

impl std::fmt::Debug for NodeHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeHost").finish_non_exhaustive()
    }
}

/// Called with the reason why the node's thread ended.
pub type OnEnd = Box<dyn FnOnce(Halt) + Send>;

/// Starts the node's thread. `on_end` is called when the node halts; a panic is announced in `ending`.
pub fn start(
    node: Node,
    queue: NodeQueue,
    host: NodeHost,
    clock: Clock,
    on_end: OnEnd,
    ending: &Ending,
    pulse: Pulse,
) -> io::Result<JoinHandle<()>> {
    let mut thread = NodeThread {
        node,
        queue,
        host,
        clock,
        callers: HashMap::new(),
        effects: Vec::new(),
        pulse,
        lost: None,
    };
    threads::spawn(thread.pulse.thread(), ending, move || {
        let halt = thread.run();
        drop(thread);
        on_end(halt);
    })
}

/// The number of the host's own request to stop; callers' begin with 1.
const STOP: Token = Token(0);

struct NodeThread {
    node: Node,
    queue: NodeQueue,
    host: NodeHost,
    clock: Clock,
    /// The caller of each request. Looked up by token only, never iterated.
    callers: HashMap<Token, oneshot::Sender<Result<Response, Error>>>,
    effects: Vec<Effect>,
    pulse: Pulse,
    /// The lane that took no more jobs in the previous turn.
    lost: Option<&'static str>,
}

impl Drop for NodeThread {
    fn drop(&mut self) {
        // However the thread ends, callers are answered at once: queued requests by this call, requests that the node
        // has taken by losing their channel.
        self.queue.mailbox.abandon();
    }
}

impl NodeThread {
    fn run(&mut self) -> Halt {
        let mut events = Vec::new();
        let mut inputs = Vec::new();
        loop {
            let now = self.clock.now();
            let patience = self.node.deadline().map(|(at, _)| at.saturating_since(now));
            let lost = self.lost.take();
            let patience = if lost.is_some() { Some(Duration::ZERO) } else { patience };
            self.pulse.rest();
            if !self.queue.mailbox.take(&mut events, patience) {
                return Halt::Stopped;
            }
            self.pulse.begin(self.clock.now());
            tracing::trace!(events = events.len(), "the node takes a turn");
            for event in events.drain(..) {
                inputs.extend(self.open(event));
            }
            if inputs.is_empty() {
                inputs.push(Input::Wake);
            }
            let mut effects = std::mem::take(&mut self.effects);
            let begun = self.clock.now();
            self.node.step(begun, inputs.drain(..), &mut effects);
            let took = self.clock.now().saturating_since(begun);
            (self.host.observe)(self.node.tally(), took);
            for effect in effects.drain(..) {
                if let Some(halt) = self.carry_out(effect) {
                    return halt;
                }
            }
            self.effects = effects;
            if let Some(name) = lost {
                // A lane reports its fault before it stops taking jobs, and that report would have halted the node in
                // this turn.
                return Halt::Fault(Fault::ThreadLost { name });
            }
        }
    }

    fn open(&mut self, event: NodeEvent) -> Option<Input> {
        Some(match event {
            NodeEvent::Call(call) => {
                self.callers.insert(call.token, call.reply);
                Input::Request {
                    token: call.token,
                    request: call.request,
                    deadline: call.deadline,
                }
            }
            // The node has already dropped a request that was answered meanwhile.
            NodeEvent::Cancel(token) => {
                self.callers.remove(&token)?;
                Input::Cancel(token)
            }
            NodeEvent::Done(done) => Input::Done(done),
            NodeEvent::Peer(event) => Input::Peer(event),
            NodeEvent::Stop => Input::Request {
                token: STOP,
                request: Request::Stop,
                deadline: Instant::MAX,
            },
        })
    }

    /// Carries out one effect; returns the reason if the node ends.
    fn carry_out(&mut self, effect: Effect) -> Option<Halt> {
        match effect {
            Effect::Halt(halt) => return Some(halt),
            Effect::Log(job) => hand_over(&self.host.wal, job, WAL_THREAD, &mut self.lost),
            Effect::Peer(job) => (self.host.send)(job),
            Effect::Publish(publication) => self.publish(publication),
            Effect::Reply { token, result } => {
                if let Some(caller) = self.callers.remove(&token) {
                    // The caller may no longer wait for the answer.
                    let _gone = caller.send(result);
                }
            }
            Effect::Table(job) => hand_over(&self.host.table, TableTask::Job(job), TABLE_THREAD, &mut self.lost),
        }
        None
    }

    fn publish(&self, publication: Publication) {
        let Publication {
            view,
            events,
            restored,
            compacted,
            status,
        } = publication;
        for compaction in compacted {
            // A hash that is not remembered is computed when a client asks for it.
            let _busy = self.host.compacted.try_send(compaction);
        }
        alarms::log_changes(&self.host.published.load().view, &view);
        let watched = view.kv.clone();
        self.host.published.store(Published { view, status });
        self.host.hub.published(&watched, events, restored);
    }
}

/// Gives a lane a job, or records that the lane has ended.
fn hand_over<T>(lane: &SyncSender<T>, job: T, name: &'static str, lost: &mut Option<&'static str>) {
    if lane.send(job).is_err() {
        *lost = Some(name);
    }
}
