//! The watch thread: owns the watch hub, carries requests in and responses out. It decides nothing.
//!
//! Fan-out costs CPU in proportion to watchers, so it has a thread of its own and cannot delay a heartbeat. While
//! nobody watches, the node does not wake it at all.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use async_channel::{Sender, TrySendError};
use quoin_core::limits::{WATCH_LANE_QUEUE_INPUTS, WATCH_STREAM_QUEUE_RESPONSES};
use quoin_core::mvcc::{Event, View};
use quoin_core::proto::etcdserverpb::WatchRequest;
use quoin_core::watch::{Hub, HubConfig, Response, StreamId, WatchCounts, WatchInput, WatchOutput};

use crate::clock::Clock;
use crate::handle::{Published, WatchCall};
use crate::mailbox::{Mailbox, Refused};
use crate::pulse::Pulse;
use crate::running::Ending;
use crate::threads;

/// What the watch thread is told.
#[derive(Debug)]
enum Letter {
    /// By a service.
    Call(WatchCall),
    /// By the node: the newest state and the events that led to it, or that a snapshot replaced the one before.
    Published {
        view: View,
        events: Arc<[Event]>,
        restored: bool,
    },
}

/// The way into the watch thread; clones share it.
#[derive(Clone, Debug)]
pub struct HubQueue {
    mailbox: Arc<Mailbox<Letter>>,
    /// Streams open or about to be.
    streams: Arc<AtomicUsize>,
}

impl HubQueue {
    /// Passes on what a service has; false if there is no room for a request now.
    pub fn call(&self, call: WatchCall) -> bool {
        match call {
            WatchCall::Request { .. } => self.mailbox.offer(Letter::Call(call)) != Err(Refused::Full),
            WatchCall::Open { .. } => {
                // Before the letter: from here on the node reports what it publishes.
                self.streams.fetch_add(1, Ordering::SeqCst);
                self.mailbox.report(Letter::Call(call)).is_ok()
            }
            WatchCall::Close { .. } | WatchCall::Sent { .. } => self.mailbox.report(Letter::Call(call)).is_ok(),
        }
    }

    /// Tells the watchers, if there are any, what the node has just published.
    pub fn published(&self, view: &View, events: Arc<[Event]>, restored: bool) {
        if self.streams.load(Ordering::SeqCst) == 0 {
            return;
        }
        // One letter a turn of the node, and turns are paced by the log: the thread keeps up or merges. It closes its
        // mailbox when the member stops or has announced its end.
        let _closed = self.mailbox.report(Letter::Published {
            view: view.clone(),
            events,
            restored,
        });
    }

    /// Ends the thread and all streams.
    pub fn close(&self) {
        self.mailbox.close();
    }
}

/// Told the hub's numbers after each of its turns.
pub type Observe = Box<dyn FnMut(WatchCounts) + Send>;

/// Starts the watch thread over what `published` holds. Its panic is announced in `ending`.
pub fn start(
    config: HubConfig,
    clock: Clock,
    published: Arc<ArcSwap<Published>>,
    observe: Observe,
    ending: &Ending,
    pulse: Pulse,
) -> io::Result<(HubQueue, JoinHandle<()>)> {
    let queue = HubQueue {
        mailbox: Arc::new(Mailbox::new(WATCH_LANE_QUEUE_INPUTS)),
        streams: Arc::default(),
    };
    let view = published.load().view.kv.clone();
    let mut desk = Desk {
        clock,
        hub: Hub::new(config, view),
        observe,
        outputs: Vec::new(),
        ports: BTreeMap::new(),
        published,
        queue: queue.clone(),
        pulse,
    };
    let thread = threads::spawn(desk.pulse.thread(), ending, move || desk.run())?;
    Ok((queue, thread))
}

/// One stream's way out.
#[derive(Debug)]
struct Port {
    responses: Sender<Response>,
    /// Responses the channel had no room for; a request is always answered, even when its client reads nothing.
    backlog: VecDeque<Response>,
    /// Responses produced and not yet taken by the service.
    unsent: usize,
    /// Requests that wait until fewer responses are unsent, as the hub demands.
    held: VecDeque<WatchRequest>,
}

struct Desk {
    clock: Clock,
    hub: Hub,
    observe: Observe,
    outputs: Vec<WatchOutput>,
    ports: BTreeMap<StreamId, Port>,
    published: Arc<ArcSwap<Published>>,
    queue: HubQueue,
    pulse: Pulse,
}

impl Drop for Desk {
    fn drop(&mut self) {
        // However the thread ends: requests still queued would wait for ever.
        self.queue.mailbox.abandon();
    }
}

impl Desk {
    fn run(&mut self) {
        let mut letters = Vec::new();
        loop {
            let now = self.clock.now();
            let patience = self.hub.deadline().map(|at| at.saturating_since(now));
            self.pulse.rest();
            if !self.queue.mailbox.take(&mut letters, patience) {
                return;
            }
            self.pulse.begin(self.clock.now());
            tracing::trace!(letters = letters.len(), "the watch hub takes a turn");
            for letter in letters.drain(..) {
                match letter {
                    Letter::Call(call) => self.call(call),
                    Letter::Published {
                        view, restored: true, ..
                    } => self.restore(view),
                    Letter::Published { view, events, .. } => self.move_to(view, events),
                }
            }
            if self.hub.deadline().is_some_and(|at| at <= self.clock.now()) {
                self.step(WatchInput::Wake);
            }
            (self.observe)(self.hub.counts());
        }
    }

    fn call(&mut self, call: WatchCall) {
        match call {
            WatchCall::Close { stream } => {
                let stream = StreamId(stream);
                if self.ports.remove(&stream).is_some() {
                    self.queue.streams.fetch_sub(1, Ordering::SeqCst);
                    self.step(WatchInput::Close { stream });
                }
            }
            WatchCall::Open { stream, responses } => self.open(StreamId(stream), responses),
            WatchCall::Request { stream, request } => self.request(StreamId(stream), request),
            WatchCall::Sent { stream, responses } => self.sent(StreamId(stream), responses),
        }
    }

    fn open(&mut self, stream: StreamId, responses: Sender<Response>) {
        // What was published while nobody watched was not reported; the stream counter was raised before this.
        let newest = self.published.load().view.kv.clone();
        self.move_to(newest, Arc::default());
        let port = Port {
            responses,
            backlog: VecDeque::new(),
            unsent: 0,
            held: VecDeque::new(),
        };
        self.ports.insert(stream, port);
        self.step(WatchInput::Open { stream });
    }

    fn request(&mut self, stream: StreamId, request: WatchRequest) {
        let Some(port) = self.ports.get_mut(&stream) else {
            return;
        };
        if port.unsent >= WATCH_STREAM_QUEUE_RESPONSES || !port.held.is_empty() {
            // Bounded by the mailbox: a service stops reading requests while its responses are not taken.
            port.held.push_back(request);
        } else {
            self.step(WatchInput::Request { stream, request });
        }
    }

    fn sent(&mut self, stream: StreamId, responses: usize) {
        let Some(port) = self.ports.get_mut(&stream) else {
            return;
        };
        port.unsent = port.unsent.saturating_sub(responses);
        while let Some(response) = port.backlog.pop_front() {
            if let Err(TrySendError::Full(response)) = port.responses.try_send(response) {
                port.backlog.push_front(response);
                break;
            }
        }
        self.step(WatchInput::Sent { stream, responses });
        while let Some(port) = self.ports.get_mut(&stream) {
            if port.unsent >= WATCH_STREAM_QUEUE_RESPONSES {
                break;
            }
            let Some(request) = port.held.pop_front() else { break };
            self.step(WatchInput::Request { stream, request });
        }
    }

    fn restore(&mut self, view: View) {
        // As below: what was seen when a stream was opened may be newer.
        if view.revision() >= self.hub.revision() {
            self.step(WatchInput::Restored { view });
        }
    }

    fn move_to(&mut self, view: View, events: Arc<[Event]>) {
        // A view taken when a stream was opened may be newer than the reports still queued.
        if view.revision() > self.hub.revision() {
            self.step(WatchInput::Applied { view, events });
        } else if view.revision() == self.hub.revision() {
            self.step(WatchInput::Applied {
                view,
                events: Arc::default(),
            });
        }
    }

    fn step(&mut self, input: WatchInput) {
        self.hub.step(self.clock.now(), input, &mut self.outputs);
        for WatchOutput { stream, response } in self.outputs.drain(..) {
            let Some(port) = self.ports.get_mut(&stream) else {
                continue;
            };
            port.unsent += 1;
            if port.backlog.is_empty() {
                // A closed channel means that `Close` is on its way.
                if let Err(TrySendError::Full(response)) = port.responses.try_send(response) {
                    port.backlog.push_back(response);
                }
            } else {
                port.backlog.push_back(response);
            }
        }
    }
}
