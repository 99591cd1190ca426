//! The node's thread: takes what has queued, gives it to the node as one turn, carries out the effects in order.
//!
//! It decides nothing. Blocking work goes to the lanes, reads never come here at all, and the thread sleeps until an
//! input comes or the node's own deadline is due.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_channel::oneshot;
use quoin_core::error::{Error, Fault};
use quoin_core::id::MemberId;
use quoin_core::limits::MEMBER_QUEUE_INPUTS;
use quoin_core::member::{Halt, Token};
use quoin_core::mvcc::Compacted;
use quoin_core::node::{Done, Effect, Input, Node, PeerEvent, Request, Response, Tally};
use quoin_core::proto::raftpb::Message;
use quoin_core::store::View;
use quoin_core::time::Instant;

use crate::alarms;
use crate::clock::Clock;
use crate::handle::{Call, Published};
use crate::hub::HubQueue;
use crate::lanes::table::TableJob;
use crate::lanes::wal::WalJob;
use crate::mailbox::{Mailbox, Refused};
use crate::pulse::Pulse;
use crate::running::Ending;
use crate::threads;

/// The name of the thread that writes the log.
pub const WAL_THREAD: &str = "quoin-wal";
/// The name of the thread that writes the table.
pub const TABLE_THREAD: &str = "quoin-table";

/// What the node's thread is told.
#[derive(Debug)]
pub enum Letter {
    /// By a service.
    Call(Call),
    /// By a service whose caller does not wait any more.
    Cancel(Token),
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

    /// Tells that the caller of a request that was taken does not wait any more. There is at most one such letter for each
    /// request, and requests are bounded.
    pub fn cancel(&self, token: Token) {
        // A node that is gone has forgotten everybody.
        let _closed = self.mailbox.report(Letter::Cancel(token));
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

/// Told what a turn did and how long it took.
pub type Observe = Box<dyn FnMut(&Tally, Duration) + Send>;

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
    /// Told of every turn, for metrics.
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

/// Starts the node's thread. `on_end` is called when the node halts; a panic is announced in `ending`.
pub fn start(
    node: Node,
    queue: NodeQueue,
    hands: Hands,
    clock: Clock,
    on_end: OnEnd,
    ending: &Ending,
    pulse: Pulse,
) -> io::Result<JoinHandle<()>> {
    let mut desk = Desk {
        node,
        queue,
        hands,
        clock,
        callers: HashMap::new(),
        effects: Vec::new(),
        pulse,
        lost: None,
    };
    threads::spawn(desk.pulse.thread(), ending, move || {
        let halt = desk.run();
        drop(desk);
        on_end(halt);
    })
}

/// The number of the host's own request to stop; callers' begin with 1.
const STOP: Token = Token(0);

struct Desk {
    node: Node,
    queue: NodeQueue,
    hands: Hands,
    clock: Clock,
    /// Who waits for which answer. Looked up by token only, never walked.
    callers: HashMap<Token, oneshot::Sender<Result<Response, Error>>>,
    effects: Vec<Effect>,
    pulse: Pulse,
    /// The lane that took no more jobs in the turn before.
    lost: Option<&'static str>,
}

impl Drop for Desk {
    fn drop(&mut self) {
        // However the thread ends, callers are answered at once: those whose requests are queued by this, those that the
        // node knows by losing their channel.
        self.queue.mailbox.abandon();
    }
}

impl Desk {
    fn run(&mut self) -> Halt {
        let mut letters = Vec::new();
        let mut inputs = Vec::new();
        loop {
            let now = self.clock.now();
            let patience = self.node.deadline().map(|(at, _)| at.saturating_since(now));
            let lost = self.lost.take();
            let patience = if lost.is_some() { Some(Duration::ZERO) } else { patience };
            self.pulse.rest();
            if !self.queue.mailbox.take(&mut letters, patience) {
                return Halt::Stopped;
            }
            self.pulse.begin(self.clock.now());
            tracing::trace!(letters = letters.len(), "the node takes a turn");
            for letter in letters.drain(..) {
                inputs.extend(self.open(letter));
            }
            if inputs.is_empty() {
                inputs.push(Input::Wake);
            }
            let mut effects = std::mem::take(&mut self.effects);
            let begun = self.clock.now();
            self.node.step(begun, inputs.drain(..), &mut effects);
            let took = self.clock.now().saturating_since(begun);
            (self.hands.observe)(self.node.tally(), took);
            for effect in effects.drain(..) {
                if let Some(halt) = self.carry_out(effect) {
                    return halt;
                }
            }
            self.effects = effects;
            if let Some(name) = lost {
                // A lane reports its fault before it takes no more jobs, so this turn would have halted by it.
                return Halt::Fault(Fault::ThreadLost { name });
            }
        }
    }

    fn open(&mut self, letter: Letter) -> Option<Input> {
        Some(match letter {
            Letter::Call(call) => {
                self.callers.insert(call.token, call.reply);
                Input::Request {
                    token: call.token,
                    request: call.request,
                    deadline: call.deadline,
                }
            }
            // A request that was answered meanwhile is not known to the node any more.
            Letter::Cancel(token) => {
                self.callers.remove(&token)?;
                Input::Cancel(token)
            }
            Letter::Done(done) => Input::Done(done),
            Letter::Peer(event) => Input::Peer(event),
            Letter::Stop => Input::Request {
                token: STOP,
                request: Request::Stop,
                deadline: Instant::MAX,
            },
        })
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
                alarms::log_changes(&self.hands.published.load().view, &view);
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

    fn hand_over_rows(&mut self, job: TableJob) {
        if self.hands.table.send(job).is_err() {
            self.lost = Some(TABLE_THREAD);
        }
    }

    fn hand_over_log(&mut self, job: WalJob) {
        if self.hands.wal.send(job).is_err() {
            self.lost = Some(WAL_THREAD);
        }
    }
}
