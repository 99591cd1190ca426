//! The peer thread: owns the peer machine, gives it its inputs, and carries out its effects. It decides nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_channel::Sender;
use quoin_core::id::MemberId;
use quoin_core::limits::{PEER_DROP_REPORT_INTERVAL, PEER_SNAPSHOTS_ARRIVING};
use quoin_core::node::Input;
use quoin_core::peer::{ExchangeId, PeerEffect, PeerInput, Transport, TransportConfig};
use quoin_core::proto::raftpb::Message;
use quoin_core::time::Instant;

use super::arriving::{Saver, Shelf, Snapshot};
use super::outgoing::Outgoing;
use super::window::InFlight;
use super::{Event, Order, Peers, Requested};
use crate::clock::Clock;
use crate::drive::NodeQueue;
use crate::logs;
use crate::metrics::Metrics;
use crate::pulse::Pulse;
use crate::running::Ending;
use crate::serve::stop::{Stopper, stop_signal};
use crate::threads;
use crate::tls::Dialer;

/// The settings and queues of the thread.
pub(crate) struct PeerSite {
    pub(crate) config: TransportConfig,
    pub(crate) dialer: Dialer,
    pub(crate) node: NodeQueue,
    pub(crate) shelf: Shelf,
    pub(crate) metrics: Arc<Metrics>,
}

/// Starts the thread. A panic of it is announced in `ending`.
pub(crate) fn start(site: PeerSite, ending: &Ending, pulse: Pulse) -> io::Result<(Peers, JoinHandle<()>)> {
    let peers = Peers::new(site.node.clone());
    let clock = site.dialer.runtime().clock();
    let mut thread = PeerThread {
        clock,
        patience: site.config.dial_patience,
        transport: Transport::new(site.config.clone(), clock.now()),
        site,
        peers: peers.clone(),
        incoming: BTreeMap::new(),
        outgoing: BTreeMap::new(),
        savers: BTreeMap::new(),
        saving: Vec::new(),
        dropped: Dropped::default(),
        effects: Vec::new(),
        pulse,
    };
    let thread = threads::spawn(thread.pulse.thread(), ending, move || thread.run())?;
    Ok((peers, thread))
}

/// Messages that were dropped because the node's queue was full.
#[derive(Default)]
struct Dropped {
    count: u64,
    said_at: Option<Instant>,
}

struct PeerThread {
    clock: Clock,
    patience: Duration,
    transport: Transport,
    site: PeerSite,
    peers: Peers,
    /// Requests of peers that are not answered, or whose answer is open.
    incoming: BTreeMap<u64, Requested>,
    /// Requests to peers. Dropping one cuts it.
    outgoing: BTreeMap<u64, Stopper>,
    /// Snapshots whose file is arriving.
    savers: BTreeMap<ExchangeId, Saver>,
    /// Threads that write or restore a snapshot.
    saving: Vec<JoinHandle<()>>,
    dropped: Dropped,
    effects: Vec<PeerEffect>,
    pulse: Pulse,
}

impl Drop for PeerThread {
    fn drop(&mut self) {
        // Connections must not wait for this thread, even if it ended by a panic.
        self.peers.0.mailbox.abandon();
    }
}

impl PeerThread {
    fn run(&mut self) {
        let mut events = Vec::new();
        let mut inputs = Vec::new();
        let mut held = Vec::new();
        loop {
            let now = self.clock.now();
            let patience = self.transport.deadline().map(|at| at.saturating_since(now));
            self.pulse.rest();
            if !self.peers.0.mailbox.take(&mut events, patience) {
                return self.end();
            }
            let now = self.clock.now();
            self.pulse.begin(now);
            tracing::trace!(events = events.len(), "the peer machine takes a turn");
            for event in events.drain(..) {
                inputs.push(self.open(event, &mut held));
            }
            self.step(now, &mut inputs);
            held.clear();
            self.say_dropped(now);
        }
    }

    fn step(&mut self, now: Instant, inputs: &mut Vec<PeerInput>) {
        let mut effects = std::mem::take(&mut self.effects);
        self.transport.step(now, inputs.drain(..), &mut effects);
        for effect in effects.drain(..) {
            self.carry_out(effect, inputs);
        }
        self.effects = effects;
        let (metrics, me) = (&self.site.metrics, self.site.config.member);
        self.transport
            .take_counts(|peer, counts| metrics.network.add(me, peer, &counts));
        if !inputs.is_empty() {
            // Reports of effects that failed at once.
            self.step(now, inputs);
        }
    }

    /// Ends every exchange, and waits until no file is written any more.
    fn end(&mut self) {
        self.outgoing.clear();
        self.savers.clear();
        for requested in std::mem::take(&mut self.incoming).into_values() {
            requested.cut.send();
        }
        for thread in self.saving.drain(..) {
            // A thread that panicked has logged it.
            let _panicked = thread.join();
        }
    }

    /// Notes exchanges that begin or end, and returns the machine's input.
    fn open(&mut self, event: Event, held: &mut Vec<InFlight>) -> PeerInput {
        match event {
            Event::Begun(number, head, requested) => {
                self.incoming.insert(number, requested);
                PeerInput::Request(ExchangeId::Incoming(number), head)
            }
            Event::Bytes(exchange, bytes, on_its_way) => {
                held.push(on_its_way);
                PeerInput::Bytes(exchange, bytes)
            }
            Event::Input(input) => {
                match input {
                    PeerInput::Closed(exchange, _) => self.forget(exchange),
                    PeerInput::End(exchange @ ExchangeId::Outgoing(_)) => self.forget(exchange),
                    _ => {}
                }
                input
            }
        }
    }

    /// Forgets an exchange whose connection has ended.
    fn forget(&mut self, exchange: ExchangeId) {
        self.savers.remove(&exchange);
        match exchange {
            ExchangeId::Incoming(number) => drop(self.incoming.remove(&number)),
            ExchangeId::Outgoing(number) => drop(self.outgoing.remove(&number)),
        }
    }

    fn carry_out(&mut self, effect: PeerEffect, failed: &mut Vec<PeerInput>) {
        match effect {
            PeerEffect::Close(exchange) => self.cut(exchange),
            PeerEffect::Deliver { from, message } => self.deliver(from, message),
            PeerEffect::Log(notice) => logs::notice(&notice),
            PeerEffect::Open(exchange, head) => self.order(exchange, Order::Open(head)),
            PeerEffect::Receive(exchange) => self.order(exchange, Order::Receive),
            PeerEffect::Request {
                exchange,
                url,
                head,
                body,
            } => self.request(exchange, |site, peers, patience, cut| Outgoing {
                peers,
                dialer: site.dialer.clone(),
                exchange,
                url,
                head,
                body,
                patience,
                cut,
            }),
            PeerEffect::Respond {
                exchange,
                status,
                head,
                body,
                close,
            } => {
                let respond = Order::Respond {
                    status,
                    head,
                    body,
                    close,
                };
                self.order(exchange, respond);
                self.forget(exchange);
            }
            PeerEffect::Save {
                exchange,
                from,
                message,
                begun,
            } => {
                let snapshot = Snapshot {
                    exchange,
                    from,
                    message,
                    begun,
                };
                if let Err(why) = self.save(snapshot) {
                    failed.push(PeerInput::Saved(exchange, Err(why)));
                }
            }
            PeerEffect::SaveEnd(exchange) => {
                if let Some(saver) = self.savers.remove(&exchange) {
                    saver.end();
                }
            }
            PeerEffect::SaveMore(exchange, bytes) => {
                if let Some(saver) = self.savers.get(&exchange) {
                    saver.write(bytes);
                }
            }
            PeerEffect::Tell(event) => self.site.node.input(Input::Peer(event)),
            PeerEffect::Write(exchange, bytes) => self.order(exchange, Order::Write(bytes)),
        }
    }

    /// Cuts an exchange.
    fn cut(&mut self, exchange: ExchangeId) {
        if let ExchangeId::Incoming(number) = exchange
            && let Some(requested) = self.incoming.get(&number)
        {
            requested.cut.send();
        }
        self.forget(exchange);
    }

    fn order(&self, exchange: ExchangeId, order: Order) {
        if let ExchangeId::Incoming(number) = exchange
            && let Some(requested) = self.incoming.get(&number)
        {
            give_order(&requested.orders, order);
        }
    }

    fn request(
        &mut self,
        exchange: ExchangeId,
        outgoing: impl FnOnce(&PeerSite, Peers, Duration, crate::serve::stop::Stop) -> Outgoing,
    ) {
        let ExchangeId::Outgoing(number) = exchange else {
            return;
        };
        let (stopper, cut) = stop_signal();
        self.outgoing.insert(number, stopper);
        let outgoing = outgoing(&self.site, self.peers.clone(), self.patience, cut);
        self.site.dialer.runtime().spawn(Box::pin(outgoing.run()));
    }

    /// Starts writing a snapshot; the error says why not.
    fn save(&mut self, snapshot: Snapshot) -> Result<(), String> {
        self.saving.retain(|thread| !thread.is_finished());
        let exchange = snapshot.exchange;
        let ExchangeId::Incoming(number) = exchange else {
            return Ok(());
        };
        let Some(requested) = self.incoming.get(&number) else {
            return Err("its connection was lost".to_owned());
        };
        if self.saving.len() >= PEER_SNAPSHOTS_ARRIVING {
            return Err("another snapshot is being received".to_owned());
        }
        let (shelf, node) = (self.site.shelf.clone(), self.site.node.clone());
        let window = requested.window.clone();
        let (saver, thread) =
            Saver::start(snapshot, window, shelf, node, self.peers.clone()).map_err(|error| error.to_string())?;
        self.savers.insert(exchange, saver);
        self.saving.push(thread);
        Ok(())
    }

    fn deliver(&mut self, from: MemberId, message: Box<Message>) {
        if !self.site.node.message(from, *message) {
            self.site.metrics.network.dropped(from);
            self.dropped.count += 1;
        }
    }

    /// Logs from time to time how many messages were dropped.
    fn say_dropped(&mut self, now: Instant) {
        let Dropped { count, said_at } = &mut self.dropped;
        if *count > 0 && said_at.is_none_or(|at| now >= at + PEER_DROP_REPORT_INTERVAL) {
            tracing::warn!(messages = *count, "dropped messages of peers: the member is too busy");
            *count = 0;
            *said_at = Some(now);
        }
    }
}

/// The machine gives a connection one order after the other, so there is room. If the connection has gone, its exchange
/// has reported that.
fn give_order(orders: &Sender<Order>, order: Order) {
    let _gone = orders.try_send(order);
}
