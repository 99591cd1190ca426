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

use quoin_core::error::{Error, Fault};
use quoin_core::id::MemberId;
use quoin_core::jobs::{LogJob, PeerJob};
use quoin_core::limits::{MEMBER_QUEUE_INPUTS, PEER_RECEIVE_QUEUE_MESSAGES};
use quoin_core::member::{Halt, Token};
use quoin_core::mvcc::Compacted;
use quoin_core::node::{Effect, Input, Node, Request, Tally};
use quoin_core::proto::raftpb::Message;
use quoin_core::store::{Cluster, View};
use quoin_core::time::Instant;

use crate::alarms;
use crate::clock::Clock;
use crate::handle::ReplySender;
use crate::hub::HubQueue;
use crate::lanes::table::TableTask;
use crate::mailbox::{Mailbox, Refused};
use crate::metrics::Stage;
use crate::newest::{Newest, Published};
use crate::pulse::Pulse;
use crate::running::Ending;
use crate::threads;

/// The name of the thread that writes the log.
pub const WAL_THREAD: &str = "quoin-wal";
/// The name of the thread that writes the table.
pub const TABLE_THREAD: &str = "quoin-table";

/// The caller of a request.
#[derive(Debug)]
pub struct Caller {
    /// The receiver of the answer.
    pub reply: ReplySender,
    /// When the present stage of the request began.
    pub since: Instant,
}

/// An input on its way to the node; a request comes with its caller.
pub type NodeInput = (Input, Option<Caller>);

/// The queue into the node's thread.
pub type NodeQueue = Arc<Mailbox<NodeInput>>;

/// An empty queue into a node's thread.
pub fn queue() -> NodeQueue {
    Arc::new(Mailbox::new(MEMBER_QUEUE_INPUTS))
}

impl Mailbox<NodeInput> {
    /// Queues a service's request, or returns why that is not possible.
    pub fn request(&self, token: Token, request: Request, deadline: Instant, caller: Caller) -> Result<(), Error> {
        let input = Input::Request {
            token,
            request,
            deadline,
        };
        self.offer((input, Some(caller))).map_err(|refused| match refused {
            Refused::Closed => Error::Stopped,
            Refused::Full => Error::TooManyRequests,
        })
    }

    /// Queues an input of a kind that is bounded elsewhere: the node bounds the jobs that lanes report, and there is at
    /// most one cancellation for each request.
    pub fn input(&self, input: Input) {
        // A node that has ended has dropped all requests and needs no report.
        let _closed = self.report((input, None));
    }

    /// Queues a message of a peer; false if too many wait, and the message is lost.
    #[must_use]
    pub fn message(&self, from: MemberId, message: Message) -> bool {
        let input = Input::Message { from, message };
        self.offer_of(PEER_RECEIVE_QUEUE_MESSAGES, (input, None)) != Err(Refused::Full)
    }

    /// Asks the node to hand over leadership if another member can take it, and then to halt.
    pub fn stop(&self) {
        self.input(Input::Request {
            token: STOP,
            request: Request::Stop,
            deadline: Instant::MAX,
        });
    }
}

/// The token of the host's own request to stop; the tokens of callers begin with 1.
const STOP: Token = Token(0);

/// Called after each turn with its counts and its duration.
pub type Observe = Box<dyn FnMut(&Tally, Duration) + Send>;

/// Called with the duration of each stage of a request.
pub type ObserveStage = Box<dyn Fn(Stage, Duration) + Send>;

/// Called with the reason why the node's thread ended.
pub type OnEnd = Box<dyn FnOnce(Halt) + Send>;

/// The caller of each request. Looked up by token only, never iterated.
type Callers = HashMap<Token, Caller>;

/// The node's thread: the node, its queue, and the receivers of its effects.
pub struct NodeThread {
    /// The machine.
    pub node: Node,
    /// Its inputs.
    pub queue: NodeQueue,
    /// Its time.
    pub clock: Clock,
    /// The thread's pulse.
    pub pulse: Pulse,
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
    /// Sends to peers. The outcome of a snapshot must be reported to the node.
    pub send: Box<dyn FnMut(PeerJob) + Send>,
    /// Called with the stages of requests.
    pub stage: ObserveStage,
    /// When the last turn ended.
    pub ended: Instant,
    /// Called with the members whenever they change.
    pub members: Box<dyn Fn(&Cluster) + Send>,
}

impl std::fmt::Debug for NodeThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeThread").finish_non_exhaustive()
    }
}

impl Drop for NodeThread {
    fn drop(&mut self) {
        // However the thread ends, callers are answered at once: queued requests by this call, requests that the node
        // has taken by losing their channel.
        self.queue.abandon();
    }
}

impl NodeThread {
    /// Starts the thread. `on_end` is called when the node halts; a panic is announced in `ending`.
    pub fn start(mut self, on_end: OnEnd, ending: &Ending) -> io::Result<JoinHandle<()>> {
        threads::spawn(self.pulse.thread(), ending, move || {
            let halt = self.run();
            drop(self);
            on_end(halt);
        })
    }

    fn run(&mut self) -> Halt {
        let (mut queued, mut inputs, mut effects) = (Vec::new(), Vec::new(), Vec::new());
        let mut callers = Callers::new();
        // The lane that took no more jobs in the previous turn.
        let mut lost = None;
        loop {
            let now = self.clock.now();
            let patience = self.node.deadline().map(|(at, _)| at.saturating_since(now));
            let patience = if lost.is_some() { Some(Duration::ZERO) } else { patience };
            self.pulse.rest();
            if !self.queue.take(&mut queued, patience) {
                return Halt::Stopped;
            }
            let begun = self.clock.now();
            self.pulse.begin(begun);
            tracing::trace!(inputs = queued.len(), "the node takes a turn");
            let noted = queued.drain(..);
            inputs.extend(noted.filter_map(|input| note_caller(input, &mut callers, (begun, &self.stage))));
            if inputs.is_empty() {
                inputs.push(Input::Wake);
            }
            self.node.step(begun, inputs.drain(..), &mut effects);
            self.ended = self.clock.now();
            let took = self.ended.saturating_since(begun);
            (self.observe)(self.node.tally(), took);
            let lost_before = lost.take();
            for effect in effects.drain(..) {
                if let Some(halt) = self.carry_out(effect, &mut callers, &mut lost) {
                    return halt;
                }
            }
            if let Some(name) = lost_before {
                // A lane reports its fault before it stops taking jobs, and that report would have halted the node in
                // this turn.
                return Halt::Fault(Fault::ThreadLost { name });
            }
        }
    }

    /// Carries out one effect; returns the reason if the node ends. `lost` gets the name of a lane that has ended.
    fn carry_out(&mut self, effect: Effect, callers: &mut Callers, lost: &mut Option<&'static str>) -> Option<Halt> {
        match effect {
            Effect::Halt(halt) => return Some(halt),
            Effect::Hash(compaction) => {
                // A hash that is not remembered is computed when a client asks for it.
                let _busy = self.compacted.try_send(compaction);
            }
            Effect::Log(job) => hand_over(&self.wal, job, WAL_THREAD, lost),
            Effect::Peer(job) => (self.send)(job),
            Effect::Publish {
                view,
                events,
                restored,
                status,
            } => {
                let before = self.published.load();
                alarms::log_changes(&before.view, &view);
                log_auth(&before.view, &view);
                if !Arc::ptr_eq(&before.view.cluster, &view.cluster) {
                    (self.members)(&view.cluster);
                }
                drop(before);
                let watched = view.kv.clone();
                self.published.store(Published { view, status });
                self.hub.published(&watched, events, restored);
            }
            Effect::Reply { token, result } => {
                if let Some(caller) = callers.remove(&token) {
                    (self.stage)(Stage::Commit, self.ended.saturating_since(caller.since));
                    // The caller may no longer wait for the answer.
                    let _gone = caller.reply.send(result);
                }
            }
            Effect::Table(job) => hand_over(&self.table, TableTask::Job(job), TABLE_THREAD, lost),
            Effect::Tokens(changes) => self.published.change_tokens(self.clock.now(), changes),
        }
        None
    }
}

/// Logs that auth was enabled or disabled.
fn log_auth(before: &View, view: &View) {
    if before.auth.is_enabled() != view.auth.is_enabled() {
        let state = if view.auth.is_enabled() { "enabled" } else { "disabled" };
        tracing::info!("auth-revision" = view.auth.revision(), "{state} authentication");
    }
}

/// Takes the caller from a request. The cancellation of a request that has no caller any more is dropped, because that
/// request was answered meanwhile.
fn note_caller(
    (input, caller): NodeInput,
    callers: &mut Callers,
    (now, stage): (Instant, &ObserveStage),
) -> Option<Input> {
    if let (Input::Request { token, .. }, Some(Caller { reply, since })) = (&input, caller) {
        stage(Stage::Queue, now.saturating_since(since));
        callers.insert(*token, Caller { reply, since: now });
    }
    if let Input::Cancel(token) = &input {
        callers.remove(token)?;
    }
    Some(input)
}

/// Gives a lane a job, or records that the lane has ended.
fn hand_over<T>(lane: &SyncSender<T>, job: T, name: &'static str, lost: &mut Option<&'static str>) {
    if lane.send(job).is_err() {
        *lost = Some(name);
    }
}
