//! The host of core's peer machine ([`quoin_core::peer`]): connections with the other members.
//!
//! - `thread` owns the machine, gives it its inputs and carries out its effects.
//! - `incoming` serves requests of peers, `outgoing` sends requests to them; both run on workers.
//! - `arriving` writes a snapshot that a peer sends, and `sending` makes one for a peer, each on a thread of its own.
//! - `dial` opens a connection for one request.
//! - `questions` asks peers for the facts that a start needs, before there is a machine.
//!
//! Nothing here decides. No more of a body is read while too many of its bytes are on their way to the thread
//! (`window`).

mod arriving;
pub(crate) mod dial;
pub(crate) mod incoming;
mod outgoing;
pub(crate) mod questions;
mod sending;
mod thread;
mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_channel::Receiver;
use bytes::Bytes;
use quoin_core::jobs::PeerJob;
use quoin_core::limits::{PEER_BODY_WINDOW_BYTES, PEER_QUEUE_INPUTS};
use quoin_core::node::{Input, PeerEvent};
use quoin_core::peer::{ExchangeId, PeerHead, PeerInput, PeerRoster};
use quoin_core::store::Cluster;

use crate::drive::NodeQueue;
use crate::mailbox::Mailbox;
use crate::metrics::QueueState;
use crate::serve::stop::Stopper;
pub(crate) use arriving::Shelf;
pub(crate) use thread::{PeerSite, start};
use window::{InFlight, Window};

/// The name of the thread.
pub(crate) const PEER_THREAD: &str = "quoin-peer";

/// An entry of the thread's mailbox.
#[derive(Debug)]
enum Event {
    /// A peer's request has begun.
    Begun(u64, PeerHead, Requested),
    /// Bytes of a body. Dropping [`InFlight`] makes room in the window of the reader.
    Bytes(ExchangeId, Bytes, InFlight),
    /// Anything else that happened.
    Input(PeerInput),
}

/// A peer's request, as the thread holds it.
#[derive(Debug)]
struct Requested {
    /// The orders to its connection. At most two wait: the machine gives one after the other.
    orders: async_channel::Sender<Order>,
    /// Cuts the connection of the request.
    cut: Stopper,
    window: Window,
}

/// An order to the connection of a peer's request.
#[derive(Debug)]
enum Order {
    /// Answer with this head, and leave the body open.
    Open(PeerHead),
    /// Read the body and report it.
    Receive,
    /// Answer.
    Respond {
        status: u16,
        head: PeerHead,
        body: Bytes,
        close: bool,
    },
    /// Write into the open body.
    Write(Bytes),
}

/// Orders that may wait for a connection.
const ORDERS: usize = 4;

/// The queue into the peer thread; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Peers(Arc<PeerQueue>);

#[derive(Debug)]
struct PeerQueue {
    mailbox: Mailbox<Event>,
    node: NodeQueue,
    /// The number of the last request of a peer.
    last: AtomicU64,
}

impl Peers {
    fn new(node: NodeQueue) -> Self {
        Self(Arc::new(PeerQueue {
            mailbox: Mailbox::new(PEER_QUEUE_INPUTS),
            node,
            last: AtomicU64::new(0),
        }))
    }

    /// Takes work of the node.
    pub(crate) fn send(&self, job: PeerJob) {
        match job {
            PeerJob::Messages { to, .. } => {
                let input = Event::Input(PeerInput::Send(job));
                if self.0.mailbox.offer(input).is_err() {
                    self.0.node.input(Input::Peer(PeerEvent::Unreachable(to)));
                }
            }
            // The node sends each peer one snapshot at a time, so these need no bound.
            PeerJob::Snapshot(ref snapshot) => {
                let to = snapshot.to;
                if self.0.mailbox.report(Event::Input(PeerInput::Send(job))).is_err() {
                    let event = PeerEvent::Snapshot { to, received: false };
                    self.0.node.input(Input::Peer(event));
                }
            }
        }
    }

    /// The queue at this moment.
    pub(crate) fn state(&self) -> QueueState {
        let (items, refused) = self.0.mailbox.state();
        QueueState {
            name: "peer",
            items,
            refused,
        }
    }

    /// The members have changed.
    pub(crate) fn roster(&self, cluster: &Cluster) {
        self.report(PeerInput::Roster(PeerRoster::from(cluster)));
    }

    /// Ends the thread and every exchange.
    pub(crate) fn close(&self) {
        self.0.mailbox.close();
    }

    /// Reports an event. It is never refused for lack of room: exchanges are bounded, and each has few events.
    fn report(&self, input: PeerInput) {
        // A thread that has ended needs no report.
        let _closed = self.0.mailbox.report(Event::Input(input));
    }

    /// Reports bytes of a body.
    fn bytes(&self, exchange: ExchangeId, bytes: Bytes, window: &Window) {
        let held = window.hold(bytes.len());
        let _closed = self.0.mailbox.report(Event::Bytes(exchange, bytes, held));
    }

    /// Begins a peer's request, whose connection is cut by `cut`. Returns its number, its window and its orders.
    fn begin(&self, head: PeerHead, cut: Stopper) -> (u64, Window, Receiver<Order>) {
        let number = self.0.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, orders) = async_channel::bounded(ORDERS);
        let window = Window::new(PEER_BODY_WINDOW_BYTES);
        let requested = Requested {
            orders: sender,
            cut,
            window: window.clone(),
        };
        let _closed = self.0.mailbox.report(Event::Begun(number, head, requested));
        (number, window, orders)
    }
}
