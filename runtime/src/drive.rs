//! The node's thread: takes what has queued, gives it to the node as one turn, carries out the effects in order.
//!
//! It decides nothing. Blocking work goes to the lanes, reads never come here at all, and the thread sleeps until an
//! input comes or the node's own deadline is due.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::{Builder, JoinHandle};

use arc_swap::ArcSwap;
use futures_channel::oneshot;
use quoin_core::error::Error;
use quoin_core::id::MemberId;
use quoin_core::limits::MEMBER_QUEUE_INPUTS;
use quoin_core::member::{Halt, Token};
use quoin_core::mvcc::Compacted;
use quoin_core::mvcc::Event;
use quoin_core::node::{Done, Effect, Input, Node, PeerEvent, Request, Response};
use quoin_core::proto::raftpb::Message;
use quoin_core::store::View;
use quoin_core::time::Instant;

use crate::clock::Clock;
use crate::handle::{Call, Published};
use crate::hub::HubQueue;
use crate::lanes::table::TableJob;
use crate::lanes::wal::WalJob;
use crate::mailbox::{Mailbox, Refused};

/// What the node's thread is told.
#[derive(Debug)]
pub enum Letter {
    /// By a service.
    Call(Call),
    /// By a lane.
    Done(Done),
    /// By whoever speaks with peers.
    Peer(PeerEvent),
    /// By whoever stops the server: hand over leadership if there is somebody to take it, then halt.
    Stop,
}

/// The way into the node's thread; clones share it.
#[derive(Clone, Debug)]
pub struct NodeQueue {
    mailbox: Arc<Mailbox<Letter>>,
}

impl NodeQueue {
    /// An empty queue.
    pub fn new() -> Self {
        Self {
            mailbox: Arc::new(Mailbox::new(MEMBER_QUEUE_INPUTS)),
        }
    }

    /// Queues a service's request, or says why not.
    pub fn call(&self, call: Call) -> Result<(), Error> {
        self.mailbox.offer(Letter::Call(call)).map_err(|refused| match refused {
            Refused::Closed => Error::Stopped,
            Refused::Full => Error::TooManyRequests,
        })
    }

    /// Queues what a lane has to report; the node bounds how much it has under way.
    pub fn report(&self, done: Done) {
        // A node that is gone needs no report.
        let _closed = self.mailbox.report(Letter::Done(done));
    }

    /// Queues news of a peer.
    pub fn peer(&self, event: PeerEvent) {
        // As above.
        let _closed = self.mailbox.report(Letter::Peer(event));
    }

    /// Asks the node to stop.
    pub fn stop(&self) {
        let _closed = self.mailbox.report(Letter::Stop);
    }
}

impl Default for NodeQueue {
    fn default() -> Self {
        Self::new()
    }
}

/// Told of changes.
pub type Observe = Box<dyn FnMut(&[Event]) + Send>;

/// What carries out effects that are not answers.
pub struct Hands {
    /// The log's lane.
    pub wal: SyncSender<WalJob>,
    /// The table's lane.
    pub table: SyncSender<TableJob>,
    /// The watch thread.
    pub hub: HubQueue,
    /// Takes compactions whose hash is to be remembered.
    pub compacted: SyncSender<Compacted>,
    /// Where readers find the newest state.
    pub published: Arc<ArcSwap<Published>>,
    /// Told of the changes that were published, for metrics.
    pub observe: Observe,
    /// Called with messages for a peer.
    pub send: Box<dyn FnMut(MemberId, Vec<Message>) + Send>,
    /// Called with a snapshot for a peer; what came of it is to be told to [`NodeQueue::peer`].
    pub send_snapshot: Box<dyn FnMut(MemberId, Message, View) + Send>,
}

impl std::fmt::Debug for Hands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hands").finish_non_exhaustive()
    }
}

/// Told why the node's thread ended.
pub type OnEnd = Box<dyn FnOnce(Halt) + Send>;

/// Starts the node's thread.
pub fn start(node: Node, queue: NodeQueue, hands: Hands, clock: Clock, on_end: OnEnd) -> io::Result<JoinHandle<()>> {
    let mut desk = Desk {
        node,
        queue,
        hands,
        clock,
        callers: HashMap::new(),
        last_token: 0,
        effects: Vec::new(),
    };
    Builder::new().name("quoin-node".to_owned()).spawn(move || {
        let halt = desk.run();
        // Whoever still asks is told at once; what is queued is dropped with its callers.
        desk.queue.mailbox.close();
        on_end(halt);
    })
}

struct Desk {
    node: Node,
    queue: NodeQueue,
    hands: Hands,
    clock: Clock,
    /// Who waits for which answer. Looked up by token only, never walked.
    callers: HashMap<Token, oneshot::Sender<Result<Response, Error>>>,
    last_token: u64,
    effects: Vec<Effect>,
}

impl Desk {
    fn run(&mut self) -> Halt {
        let mut letters = Vec::new();
        let mut inputs = Vec::new();
        loop {
            let now = self.clock.now();
            let patience = self.node.deadline().map(|(at, _)| at.saturating_since(now));
            if !self.queue.mailbox.take(&mut letters, patience) {
                return Halt::Stopped;
            }
            for letter in letters.drain(..) {
                inputs.push(self.open(letter));
            }
            if inputs.is_empty() {
                inputs.push(Input::Wake);
            }
            let mut effects = std::mem::take(&mut self.effects);
            self.node.step(self.clock.now(), inputs.drain(..), &mut effects);
            for effect in effects.drain(..) {
                if let Some(halt) = self.carry_out(effect) {
                    return halt;
                }
            }
            self.effects = effects;
        }
    }

    fn open(&mut self, letter: Letter) -> Input {
        match letter {
            Letter::Call(call) => {
                self.last_token += 1;
                let token = Token(self.last_token);
                self.callers.insert(token, call.reply);
                Input::Request {
                    token,
                    request: call.request,
                    deadline: call.deadline,
                }
            }
            Letter::Done(done) => Input::Done(done),
            Letter::Peer(event) => Input::Peer(event),
            Letter::Stop => {
                self.last_token += 1;
                Input::Request {
                    token: Token(self.last_token),
                    request: Request::Stop,
                    deadline: Instant::MAX,
                }
            }
        }
    }

    /// Carries out one effect; an answer is why the node goes no further.
    fn carry_out(&mut self, effect: Effect) -> Option<Halt> {
        match effect {
            Effect::Halt(halt) => return Some(halt),
            Effect::Install {
                batch,
                index,
                term,
                conf_state,
                hard_state,
            } => {
                self.hand_over_log(WalJob::Install {
                    batch,
                    index,
                    term,
                    conf_state,
                    hard_state,
                });
            }
            Effect::Persist {
                batch,
                hard_state,
                entries,
                sync,
            } => {
                self.hand_over_log(WalJob::Save {
                    batch,
                    hard_state,
                    entries,
                    sync,
                });
            }
            Effect::Publish {
                view,
                events,
                restored,
                compacted,
                status,
            } => {
                for compaction in compacted {
                    // A hash that is not remembered is made anew when it is asked for.
                    let _busy = self.hands.compacted.try_send(compaction);
                }
                (self.hands.observe)(&events);
                let watched = view.kv.clone();
                self.hands.published.store(Arc::new(Published { view, status }));
                self.hands.hub.published(&watched, events, restored);
            }
            Effect::Replace { batch, view, index } => {
                let view = Box::new(view);
                self.hand_over_rows(TableJob::Replace { batch, index, view });
            }
            Effect::Reply { token, result } => {
                if let Some(caller) = self.callers.remove(&token) {
                    // A caller that has given up wants no answer.
                    let _gone = caller.send(result);
                }
            }
            Effect::Send { to, messages } => (self.hands.send)(to, messages),
            Effect::SendSnapshot { to, message, view } => (self.hands.send_snapshot)(to, message, view),
            Effect::Snapshot {
                index,
                term,
                conf_state,
            } => {
                self.hand_over_log(WalJob::Snapshot {
                    index,
                    term,
                    conf_state,
                });
            }
            Effect::Store {
                batch,
                index,
                ops,
                term: _,
            } => self.hand_over_rows(TableJob::Write { batch, index, ops }),
        }
        None
    }

    fn hand_over_rows(&self, job: TableJob) {
        // A lane that is gone has reported its fault, which ends this thread too.
        let _broken = self.hands.table.send(job);
    }

    fn hand_over_log(&self, job: WalJob) {
        // As above: the fault is on its way.
        let _broken = self.hands.wal.send(job);
    }
}
