//! The watch thread: owns the watch hub, passes requests in and responses out. It decides nothing.
//!
//! Fan-out costs CPU in proportion to watchers, so it has a separate thread and cannot delay a heartbeat. While there
//! are no streams, the node does not wake it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use async_channel::Sender;
use quoin_core::limits::WATCH_LANE_QUEUE_INPUTS;
use quoin_core::mvcc::{Event, View};
use quoin_core::time::Instant;
use quoin_core::watch::{Hub, HubConfig, Response, StreamId, WatchCounts, WatchInput, WatchOutput};

use crate::clock::Clock;
use crate::handle::WatchCall;
use crate::mailbox::{Mailbox, Refused};
use crate::metrics::QueueState;
use crate::newest::Newest;
use crate::pulse::Pulse;
use crate::running::Ending;
use crate::threads;

/// Publications that may wait for the thread. Later ones are skipped: watchers read their events from the history.
const QUEUED_PUBLICATIONS: usize = 1_024;

/// An event for the watch thread.
#[derive(Debug)]
enum WatchEvent {
    /// A service opens or closes a stream, or passes on a request or report of its client.
    Call(WatchCall),
    /// The node's publications were skipped: the newest state takes their place.
    CatchUp,
    /// A publication of the node.
    Published(WatchInput),
}

/// The queue into the watch thread; clones share it.
#[derive(Clone, Debug)]
pub struct HubQueue {
    mailbox: Arc<Mailbox<WatchEvent>>,
    /// Streams that are open or about to be.
    streams: Arc<AtomicUsize>,
    /// Whether publications are skipped because the queue was full: [`WatchEvent::CatchUp`] is queued then.
    skips: Arc<AtomicBool>,
    /// How often that began.
    skipped: Arc<AtomicU64>,
}

impl HubQueue {
    /// Passes on an event of a service; false if there is no room for a request now.
    pub fn call(&self, call: WatchCall) -> bool {
        match call {
            WatchCall::Deny { .. } | WatchCall::Request { .. } => {
                self.mailbox.offer(WatchEvent::Call(call)) != Err(Refused::Full)
            }
            WatchCall::Open { .. } => {
                // Raised before the event is queued: from now on the node reports its publications.
                self.streams.fetch_add(1, Ordering::SeqCst);
                self.mailbox.report(WatchEvent::Call(call)).is_ok()
            }
            WatchCall::Close { .. } | WatchCall::Sent { .. } => self.mailbox.report(WatchEvent::Call(call)).is_ok(),
        }
    }

    /// Reports a publication of the node, if there are streams.
    pub fn published(&self, view: &View, events: Arc<[Event]>, restored: bool) {
        if self.streams.load(Ordering::SeqCst) == 0 {
            return;
        }
        let view = view.clone();
        let input = if restored {
            WatchInput::Restored { view }
        } else {
            WatchInput::Applied { view, events }
        };
        // The thread closes its mailbox when the member stops or has announced its end.
        let event = WatchEvent::Published(input);
        let offered = self.mailbox.offer_of(QUEUED_PUBLICATIONS, event);
        if offered == Err(Refused::Full) && !self.skips.swap(true, Ordering::SeqCst) {
            self.skipped.fetch_add(1, Ordering::Relaxed);
            let _closed = self.mailbox.report(WatchEvent::CatchUp);
        }
    }

    /// The queue at this moment.
    pub fn state(&self) -> QueueState {
        let (items, refused) = self.mailbox.state();
        QueueState {
            name: "watch",
            items,
            refused,
        }
    }

    /// Ends the thread and all streams.
    pub fn close(&self) {
        self.mailbox.close();
    }
}

/// What the thread has seen, for metrics.
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    /// The hub's counts.
    pub counts: WatchCounts,
    /// How many revisions the slowest watcher was behind, at most [`LAG_INTERVAL`] ago.
    pub lag: i64,
    /// How often publications were skipped since the start.
    pub skipped: u64,
}

/// Called after each turn of the hub.
pub type Observe = Box<dyn FnMut(Watched) + Send>;

/// How often the lag of watchers is computed, which looks at every stream.
const LAG_INTERVAL: Duration = Duration::from_secs(1);

/// Starts the watch thread over the state in `published`. A panic of it is announced in `ending`.
pub fn start(
    config: HubConfig,
    clock: Clock,
    published: Newest,
    observe: Observe,
    ending: &Ending,
    pulse: Pulse,
) -> io::Result<(HubQueue, JoinHandle<()>)> {
    let queue = HubQueue {
        mailbox: Arc::new(Mailbox::new(WATCH_LANE_QUEUE_INPUTS)),
        streams: Arc::default(),
        skips: Arc::default(),
        skipped: Arc::default(),
    };
    let view = published.load().view.kv.clone();
    let mut watch = WatchThread {
        clock,
        hub: Hub::new(config, view),
        observe,
        outputs: Vec::new(),
        streams: BTreeMap::new(),
        published,
        queue: queue.clone(),
        lag: 0,
        lag_at: Instant::ZERO,
        pulse,
    };
    let thread = threads::spawn(watch.pulse.thread(), ending, move || watch.run())?;
    Ok((queue, thread))
}

struct WatchThread {
    clock: Clock,
    hub: Hub,
    observe: Observe,
    outputs: Vec<WatchOutput>,
    /// The channel of each stream's responses. Each has room for all responses that the hub hands out at a time.
    streams: BTreeMap<StreamId, Sender<Response>>,
    published: Newest,
    queue: HubQueue,
    /// The lag of watchers as last computed, and when it is computed again.
    lag: i64,
    lag_at: Instant,
    pulse: Pulse,
}

impl Drop for WatchThread {
    fn drop(&mut self) {
        // However the thread ends, requests still queued must not wait for ever.
        self.queue.mailbox.abandon();
    }
}

impl WatchThread {
    fn run(&mut self) {
        let mut events = Vec::new();
        loop {
            let now = self.clock.now();
            let patience = self.hub.deadline().map(|at| at.saturating_since(now));
            self.pulse.rest();
            if !self.queue.mailbox.take(&mut events, patience) {
                return;
            }
            self.pulse.begin(self.clock.now());
            tracing::trace!(events = events.len(), "the watch hub takes a turn");
            for event in events.drain(..) {
                match event {
                    WatchEvent::Call(call) => self.call(call),
                    WatchEvent::CatchUp => {
                        // Lowered before the newest state is loaded: a later publication is queued or queues this
                        // again.
                        self.queue.skips.store(false, Ordering::SeqCst);
                        self.catch_up();
                    }
                    WatchEvent::Published(input) => self.step(input),
                }
            }
            if self.hub.deadline().is_some_and(|at| at <= self.clock.now()) {
                self.step(WatchInput::Wake);
            }
            self.tell_metrics();
        }
    }

    fn tell_metrics(&mut self) {
        let counts = self.hub.counts();
        let now = self.clock.now();
        if counts.slow_watchers == 0 || now >= self.lag_at {
            self.lag = self.hub.lag();
            self.lag_at = now + LAG_INTERVAL;
        }
        (self.observe)(Watched {
            counts,
            lag: self.lag,
            skipped: self.queue.skipped.load(Ordering::Relaxed),
        });
    }

    fn call(&mut self, call: WatchCall) {
        match call {
            WatchCall::Close { stream } => {
                let stream = StreamId(stream);
                if self.streams.remove(&stream).is_some() {
                    self.queue.streams.fetch_sub(1, Ordering::SeqCst);
                    self.step(WatchInput::Close { stream });
                }
            }
            WatchCall::Open { stream, responses } => {
                // While there were no streams, publications were not reported. The number of streams was raised before
                // the newest state is loaded, so every later publication is reported.
                self.catch_up();
                let stream = StreamId(stream);
                self.streams.insert(stream, responses);
                self.step(WatchInput::Open { stream });
            }
            WatchCall::Deny { stream, request, error } => {
                let stream = StreamId(stream);
                self.step(WatchInput::Deny { stream, request, error });
            }
            WatchCall::Request { stream, request } => {
                let stream = StreamId(stream);
                self.step(WatchInput::Request { stream, request });
            }
            WatchCall::Sent { stream, responses } => {
                let stream = StreamId(stream);
                self.step(WatchInput::Sent { stream, responses });
            }
        }
    }

    /// Takes the newest state without its events: watchers that missed some read them from the history.
    fn catch_up(&mut self) {
        let view = self.published.load().view.kv.clone();
        let events = Arc::default();
        self.step(WatchInput::Applied { view, events });
    }

    fn step(&mut self, input: WatchInput) {
        self.hub.step(self.clock.now(), input, &mut self.outputs);
        for WatchOutput { stream, response } in self.outputs.drain(..) {
            if let Some(responses) = self.streams.get(&stream) {
                // There is room. A closed channel means that `Close` will follow.
                let _closed = responses.try_send(response);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quoin_core::mvcc::Mvcc;

    use super::*;

    #[test]
    fn publications_above_the_bound_are_skipped_and_announced_once() {
        let queue = HubQueue {
            mailbox: Arc::new(Mailbox::new(WATCH_LANE_QUEUE_INPUTS)),
            streams: Arc::new(AtomicUsize::new(1)),
            skips: Arc::default(),
            skipped: Arc::default(),
        };
        let view = Mvcc::new().view();
        for _ in 0..QUEUED_PUBLICATIONS + 3 {
            queue.published(&view, Arc::default(), false);
        }
        let mut events = Vec::new();
        assert!(queue.mailbox.take(&mut events, None));
        assert!(matches!(events.pop(), Some(WatchEvent::CatchUp)));
        assert_eq!(events.len(), QUEUED_PUBLICATIONS);
        let kept = |event: &WatchEvent| matches!(event, WatchEvent::Published(_));
        assert!(events.iter().all(kept));
    }
}
