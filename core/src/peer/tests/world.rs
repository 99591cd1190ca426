//! Machines that are connected by pipes of bytes. Everything arrives at once and in order, except what a test cuts.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::config::Notice;
use crate::id::{ClusterId, MemberId};
use crate::limits::PEER_READ_PATIENCE;
use crate::membership::Member;
use crate::node::PeerEvent;
use crate::peer::{
    Body, ExchangeId, PATH_PIPELINE, PeerEffect, PeerHead, PeerInput, PeerRoster, Transport, TransportConfig,
};
use crate::proto::raftpb::Message;
use crate::time::Instant;

pub(super) const CLUSTER: ClusterId = ClusterId(0xc1);

/// A machine, and the effects that its host was given.
pub(super) struct Machine {
    pub(super) transport: Transport,
    pub(super) delivered: Vec<(MemberId, Message)>,
    pub(super) told: Vec<PeerEvent>,
    pub(super) logged: Vec<Notice>,
    /// The requests that it has sent: path and URL.
    pub(super) sent: Vec<(String, String)>,
    /// Snapshots that it was given to save.
    pub(super) saving: Vec<(ExchangeId, Bytes)>,
}

/// Members 1, 2 and so on, at `http://1`, `http://2` and so on.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) machines: BTreeMap<MemberId, Machine>,
    /// The other end of each exchange.
    ends: BTreeMap<(MemberId, ExchangeId), (MemberId, ExchangeId)>,
    queue: VecDeque<(MemberId, PeerInput)>,
    exchanges: u64,
    /// Machines to which no connection can be made.
    pub(super) away: Vec<MemberId>,
    /// If it is not empty, no stream drains.
    pub(super) stalled: Vec<&'static str>,
    /// Whether posted messages get no answer.
    pub(super) posts_hang: bool,
    /// Posts without an answer.
    pub(super) hanging: Vec<(MemberId, ExchangeId)>,
}

pub(super) fn id(number: u64) -> MemberId {
    MemberId(number)
}

pub(super) fn member(number: u64) -> Member {
    Member {
        id: id(number),
        peer_urls: vec![format!("http://{number}")],
        ..Member::default()
    }
}

pub(super) fn config(number: u64, peers: u64) -> TransportConfig {
    TransportConfig {
        member: id(number),
        cluster: CLUSTER,
        peer_urls: member(number).peer_urls,
        dial_patience: Duration::from_secs(2),
        read_patience: PEER_READ_PATIENCE,
        write_patience: PEER_READ_PATIENCE,
        boot_peers: (1..=peers).map(member).collect(),
    }
}

impl World {
    /// This many members, each of which knows all others, connected with each other.
    pub(super) fn new(members: u64) -> Self {
        let mut world = Self {
            now: Instant::ZERO,
            machines: BTreeMap::new(),
            ends: BTreeMap::new(),
            queue: VecDeque::new(),
            exchanges: 0,
            away: Vec::new(),
            stalled: Vec::new(),
            posts_hang: false,
            hanging: Vec::new(),
        };
        for number in 1..=members {
            world.start(number, config(number, members));
        }
        world.run(Duration::from_millis(200));
        world
    }

    pub(super) fn start(&mut self, number: u64, config: TransportConfig) {
        let transport = Transport::new(config, self.now);
        let machine = Machine {
            transport,
            delivered: Vec::new(),
            told: Vec::new(),
            logged: Vec::new(),
            sent: Vec::new(),
            saving: Vec::new(),
        };
        self.machines.insert(id(number), machine);
    }

    pub(super) fn machine(&mut self, number: u64) -> &mut Machine {
        self.machines.get_mut(&id(number)).unwrap()
    }

    pub(super) fn input(&mut self, number: u64, input: PeerInput) {
        self.queue.push_back((id(number), input));
        self.settle();
    }

    pub(super) fn roster(&mut self, number: u64, members: &[u64], removed: &[u64]) {
        let roster = PeerRoster {
            members: members.iter().copied().map(member).collect(),
            removed: removed.iter().copied().map(id).collect(),
        };
        self.input(number, PeerInput::Roster(roster));
    }

    /// Gives a machine a request that no other machine sent. Returns the exchange and the effects.
    pub(super) fn ask(&mut self, number: u64, head: PeerHead) -> (ExchangeId, Vec<PeerEffect>) {
        self.exchanges += 1;
        let exchange = ExchangeId::Incoming(self.exchanges);
        let mut out = Vec::new();
        let now = self.now;
        let machine = self.machine(number);
        machine
            .transport
            .step(now, [PeerInput::Request(exchange, head)], &mut out);
        (exchange, out)
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            for id in self.machines.keys().copied().collect::<Vec<_>>() {
                self.queue.push_back((id, PeerInput::Wake));
            }
            self.settle();
            let due = self
                .machines
                .values()
                .filter_map(|machine| machine.transport.deadline())
                .min();
            let Some(due) = due.filter(|due| *due <= end) else {
                self.now = end;
                return;
            };
            self.now = due.max(self.now + Duration::from_millis(1));
        }
    }

    fn settle(&mut self) {
        while let Some((id, input)) = self.queue.pop_front() {
            let mut out = Vec::new();
            let now = self.now;
            let Some(machine) = self.machines.get_mut(&id) else {
                continue;
            };
            machine.transport.step(now, [input], &mut out);
            for effect in out {
                self.carry_out(id, effect);
            }
        }
    }

    fn carry_out(&mut self, me: MemberId, effect: PeerEffect) {
        let machine = self.machines.get_mut(&me).unwrap();
        match effect {
            PeerEffect::Close(exchange) => self.cut(me, exchange, "the other side closed it"),
            PeerEffect::Deliver { from, message } => machine.delivered.push((from, *message)),
            PeerEffect::Log(notice) => machine.logged.push(notice),
            PeerEffect::Tell(event) => machine.told.push(event),
            PeerEffect::Open(exchange, head) => self.pass_on(me, exchange, |exchange| PeerInput::Response {
                exchange,
                status: 200,
                head,
                took: Duration::ZERO,
            }),
            PeerEffect::Receive(_) => {}
            PeerEffect::Request {
                exchange,
                url,
                head,
                body,
            } => self.request(me, exchange, &url, head, body),
            PeerEffect::Respond {
                exchange,
                status,
                head,
                body,
                ..
            } => {
                let to = |exchange| PeerInput::Response {
                    exchange,
                    status,
                    head,
                    took: Duration::ZERO,
                };
                self.pass_on(me, exchange, to);
                self.pass_on(me, exchange, |exchange| PeerInput::Bytes(exchange, body));
                self.pass_on(me, exchange, PeerInput::End);
            }
            PeerEffect::Save { exchange, begun, .. } => machine.saving.push((exchange, begun)),
            PeerEffect::SaveMore(exchange, bytes) => machine.saving.push((exchange, bytes)),
            PeerEffect::SaveEnd(exchange) => self.queue.push_back((me, PeerInput::Saved(exchange, Ok(())))),
            PeerEffect::Write(exchange, bytes) => {
                let is_stalled = self.is_stalled(me, exchange);
                self.pass_on(me, exchange, |exchange| PeerInput::Bytes(exchange, bytes));
                if !is_stalled {
                    self.queue.push_back((me, PeerInput::Drained(exchange)));
                }
            }
        }
    }

    fn is_stalled(&self, me: MemberId, exchange: ExchangeId) -> bool {
        let reader = self.ends.get(&(me, exchange));
        !self.stalled.is_empty() && reader.is_some()
    }

    fn request(&mut self, me: MemberId, exchange: ExchangeId, url: &str, head: PeerHead, body: Body) {
        self.machine(me.0).sent.push((head.path.clone(), url.to_owned()));
        if self.posts_hang && head.path == PATH_PIPELINE {
            return self.hanging.push((me, exchange));
        }
        let to = url
            .strip_prefix("http://")
            .and_then(|number| number.parse().ok())
            .map(MemberId);
        let to = to.filter(|to| self.machines.contains_key(to) && !self.away.contains(to) && !self.away.contains(&me));
        let Some(to) = to else {
            return self
                .queue
                .push_back((me, PeerInput::Closed(exchange, "refused".to_owned())));
        };
        if head.path == "/version" {
            let body = Bytes::from_static(br#"{"etcdserver":"3.5.30","etcdcluster":"3.5.0"}"#);
            let response = PeerInput::Response {
                exchange,
                status: 200,
                head: PeerHead::default(),
                took: Duration::from_millis(3),
            };
            let all = [response, PeerInput::Bytes(exchange, body), PeerInput::End(exchange)];
            return self.queue.extend(all.map(|input| (me, input)));
        }
        self.exchanges += 1;
        let theirs = ExchangeId::Incoming(self.exchanges);
        self.ends.insert((me, exchange), (to, theirs));
        self.ends.insert((to, theirs), (me, exchange));
        self.queue.push_back((to, PeerInput::Request(theirs, head)));
        match body {
            Body::None => {}
            Body::Bytes(bytes) => {
                self.queue.push_back((to, PeerInput::Bytes(theirs, bytes)));
                self.queue.push_back((to, PeerInput::End(theirs)));
            }
            Body::Snapshot(bytes, _) => self.queue.push_back((to, PeerInput::Bytes(theirs, bytes))),
        }
    }

    fn pass_on(&mut self, me: MemberId, exchange: ExchangeId, input: impl FnOnce(ExchangeId) -> PeerInput) {
        if let Some((to, theirs)) = self.ends.get(&(me, exchange)) {
            self.queue.push_back((*to, input(*theirs)));
        }
    }

    fn cut(&mut self, me: MemberId, exchange: ExchangeId, why: &str) {
        if let Some((to, theirs)) = self.ends.remove(&(me, exchange)) {
            self.ends.remove(&(to, theirs));
            self.queue.push_back((to, PeerInput::Closed(theirs, why.to_owned())));
        }
    }

    /// Breaks all connections between two machines.
    pub(super) fn cut_all(&mut self, a: u64, b: u64) {
        let between = self
            .ends
            .iter()
            .filter(|((one, _), (other, _))| (*one, *other) == (id(a), id(b)));
        for (one, other) in between.map(|(one, other)| (*one, *other)).collect::<Vec<_>>() {
            self.ends.remove(&one);
            self.ends.remove(&other);
            for (member, exchange) in [one, other] {
                self.queue
                    .push_back((member, PeerInput::Closed(exchange, "cut".to_owned())));
            }
        }
        self.settle();
    }
}
