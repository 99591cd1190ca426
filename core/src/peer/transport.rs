//! The machine: its state, its inputs, and the work that is due.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use crate::config::{Config, Notice};
use crate::id::{ClusterId, MemberId};
use crate::jobs::PeerJob;
use crate::limits::{PEER_DIAL_PATIENCE, PEER_PIPELINE_QUEUE_MESSAGES, PEER_REFUSALS_LOGGED, PEER_REMOTES};
use crate::membership::Member;
use crate::node::PeerEvent;
use crate::proto::raftpb::{Message, MessageType};
use crate::time::Instant;

use super::append::AppendDecoder;
use super::gather::Gather;
use super::line::{ExchangeId, PeerEffect, PeerInput, PeerRoster, StreamKind};
use super::message::MessageDecoder;
use super::peers::PeerState;
use super::tally::{PeerCounts, PeerTally};

/// The settings of the machine.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// This member.
    pub member: MemberId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// The URLs at which peers reach it.
    pub peer_urls: Vec<String>,
    /// How long a connection may take to be made: one second and an election timeout, as in etcd.
    pub dial_patience: Duration,
    /// How long the body of a peer's request or answer may pause (`--raft-read-timeout`).
    pub read_patience: Duration,
    /// How long a peer may take to read what was written for it (`--raft-write-timeout`).
    pub write_patience: Duration,
    /// The members of the cluster that were known at the start. They are peers until the applied state has this member.
    pub boot_peers: Vec<Member>,
}

impl TransportConfig {
    /// The settings of a member with this configuration.
    pub fn of(config: &Config, member: MemberId, cluster: ClusterId, boot_peers: Vec<Member>) -> Self {
        Self {
            member,
            cluster,
            peer_urls: config.advertise_peer_urls.iter().map(ToString::to_string).collect(),
            dial_patience: PEER_DIAL_PATIENCE + Duration::from_millis(config.election_ms),
            read_patience: config.raft_read_timeout,
            write_patience: config.raft_write_timeout,
            boot_peers,
        }
    }
}

/// An exchange that is going on.
#[derive(Debug)]
pub(super) struct OpenExchange {
    pub(super) peer: MemberId,
    pub(super) kind: ExchangeKind,
    /// The URL of the peer, for a request of this member.
    pub(super) url: String,
    /// The part of the peer's answer that has arrived; `None` for an open stream.
    pub(super) answer: Option<PartialResponse>,
    /// When it is cut.
    pub(super) deadline: Instant,
    /// When it began.
    pub(super) begun: Instant,
    /// The bytes of its snapshot that are known: all of one that is sent, the part of another that has arrived.
    pub(super) file_bytes: u64,
}

/// A peer's answer to a request of this member.
#[derive(Debug)]
pub(super) struct PartialResponse {
    pub(super) status: u16,
    /// Whether it comes from a member of this cluster.
    pub(super) is_ours: bool,
    pub(super) body: Gather,
}

/// What an exchange is for, and how far it is.
#[derive(Debug)]
pub(super) enum ExchangeKind {
    /// A stream that this member opens at a peer.
    Reader(StreamKind, Option<StreamDecoder>),
    /// A message that this member posts, as its body has it.
    Post(Bytes),
    /// A snapshot that this member posts.
    Snapshot,
    /// A request for a peer's version.
    Version,
    /// A stream that a peer has opened.
    Stream(StreamKind),
    /// A message that a peer posts.
    Posted(Gather),
    /// A snapshot that a peer posts, up to the end of its message.
    Snapshotted(MessageDecoder),
    /// A snapshot whose file arrives, or is being restored by the host.
    Saving,
}

/// The decoder of a stream.
#[derive(Debug)]
pub(super) enum StreamDecoder {
    Append(AppendDecoder),
    Message(MessageDecoder),
}

/// The peer protocol of one member.
#[derive(Debug)]
pub struct Transport {
    pub(super) config: TransportConfig,
    pub(super) peers: BTreeMap<MemberId, PeerState>,
    pub(super) removed: BTreeSet<MemberId>,
    pub(super) exchanges: BTreeMap<ExchangeId, OpenExchange>,
    /// For each sender that is not a peer, the refusals that were logged.
    strangers: BTreeMap<MemberId, BTreeSet<String>>,
    /// Bytes of incomplete messages of all peers.
    pub(super) held: usize,
    /// No exchange is late before this time. Deadlines that are put off do not move it.
    pub(super) late_at: Instant,
    pub(super) tally: PeerTally,
    next: u64,
}

impl Transport {
    /// The machine of a member that starts.
    #[must_use]
    pub fn new(config: TransportConfig, now: Instant) -> Self {
        let mut transport = Self {
            config,
            peers: BTreeMap::new(),
            removed: BTreeSet::new(),
            exchanges: BTreeMap::new(),
            strangers: BTreeMap::new(),
            held: 0,
            late_at: Instant::MAX,
            tally: PeerTally::default(),
            next: 0,
        };
        transport.roster(now, PeerRoster::default(), &mut Vec::new());
        transport
    }

    /// Takes any number of inputs and appends the effects, in order.
    pub fn step(&mut self, now: Instant, inputs: impl IntoIterator<Item = PeerInput>, out: &mut Vec<PeerEffect>) {
        for input in inputs {
            self.take(now, input, out);
        }
        self.wake(now, out);
    }

    /// Gives the host the counts since the last call, of each peer for which one is not zero.
    pub fn take_counts(&mut self, with: impl FnMut(MemberId, PeerCounts)) {
        self.tally.take(with);
    }

    /// When [`Transport::step`] is to be called again without an input, at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let late = (!self.exchanges.is_empty()).then_some(self.late_at);
        let peers = self.peers.values().filter_map(PeerState::deadline);
        peers.chain(late).min()
    }

    fn take(&mut self, now: Instant, input: PeerInput, out: &mut Vec<PeerEffect>) {
        match input {
            PeerInput::Bytes(exchange, bytes) => self.bytes(now, exchange, bytes, out),
            PeerInput::Closed(exchange, why) => self.closed(now, exchange, &why, out),
            PeerInput::Drained(exchange) => self.drained(now, exchange),
            PeerInput::End(exchange) => self.end(now, exchange, out),
            PeerInput::FileLength(exchange, bytes) => self.file_length(exchange, bytes),
            PeerInput::Request(exchange, head) => self.request(now, exchange, &head, out),
            PeerInput::Response {
                exchange,
                status,
                head,
                took,
            } => {
                self.round_trip(exchange, took);
                self.response(now, exchange, status, &head, out);
            }
            PeerInput::Roster(roster) => self.roster(now, roster, out),
            PeerInput::Saved(exchange, result) => self.saved(now, exchange, result, out),
            PeerInput::Send(PeerJob::Messages { to, messages }) => self.send(to, messages, out),
            PeerInput::Send(PeerJob::Snapshot(job)) => self.send_snapshot(now, job, out),
            PeerInput::Wake => {}
        }
    }

    /// Does the work that is due: dials, writes, heartbeats of links, requests for versions, and cuts of late
    /// exchanges.
    fn wake(&mut self, now: Instant, out: &mut Vec<PeerEffect>) {
        if self.late_at <= now {
            self.end_late(now, out);
        }
        // Most inputs leave nothing to do, so the peers with work are found without allocations.
        let busy = self.peers.iter().filter(|(_, peer)| peer.has_work(now));
        for id in busy.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.write_streams(now, id, out);
            self.dial(now, id, out);
            self.ask_version(now, id, out);
            self.post(now, id, out);
        }
    }

    /// Gives up the exchanges that took too long.
    fn end_late(&mut self, now: Instant, out: &mut Vec<PeerEffect>) {
        let late = self.exchanges.iter().filter(|(_, exchange)| exchange.deadline <= now);
        for id in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            out.push(PeerEffect::Close(id));
            self.closed(now, id, "no answer in time", out);
        }
        let deadlines = self.exchanges.values().map(|exchange| exchange.deadline);
        self.late_at = deadlines.min().unwrap_or(Instant::MAX);
    }

    /// The members of the applied state have changed. While they do not include this member, the state may be from
    /// before it joined. Until then the boot peers stay peers too, because this member must be able to answer them.
    fn roster(&mut self, now: Instant, roster: PeerRoster, out: &mut Vec<PeerEffect>) {
        self.removed = roster.removed;
        let me = self.config.member;
        let is_whole = roster.members.iter().any(|member| member.id == me);
        let boot = self.config.boot_peers.iter().filter(|_| !is_whole);
        let mut wanted: BTreeMap<MemberId, Vec<String>> = BTreeMap::new();
        for member in boot.chain(&roster.members) {
            if member.id != me && !self.removed.contains(&member.id) {
                wanted.insert(member.id, member.peer_urls.clone());
            }
        }
        let gone = self
            .peers
            .iter()
            .filter(|(id, peer)| self.removed.contains(id) || !peer.is_remote && !wanted.contains_key(id));
        for id in gone.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.forget(id, out);
        }
        for (id, urls) in wanted {
            let peer = self
                .peers
                .entry(id)
                .or_insert_with(|| PeerState::new(now, urls.clone(), false));
            peer.is_remote = false;
            peer.set_urls(&urls);
        }
    }

    /// Ends everything with a peer.
    fn forget(&mut self, id: MemberId, out: &mut Vec<PeerEffect>) {
        let exchanges = self.exchanges.iter().filter(|(_, exchange)| exchange.peer == id);
        for exchange in exchanges.map(|(id, _)| *id).collect::<Vec<_>>() {
            out.push(PeerEffect::Close(exchange));
            if let Some(over) = self.remove(exchange)
                && matches!(over.kind, ExchangeKind::Snapshot)
            {
                self.snapshot_not_taken(id);
                out.push(PeerEffect::Tell(PeerEvent::Snapshot {
                    to: id,
                    received: false,
                }));
            }
        }
        if self.peers.remove(&id).is_some_and(|peer| peer.is_active) {
            self.tally.of(id).deactivated += 1;
            out.push(PeerEffect::Tell(PeerEvent::Inactive(id)));
        }
    }

    /// Adds a sender that is not in the table of members. This member may be joining, and must be able to answer it.
    pub(super) fn add_remote(&mut self, now: Instant, id: MemberId, urls: Vec<String>) {
        let me = self.config.member;
        let is_known = self.peers.contains_key(&id) || self.removed.contains(&id) || id == me;
        let remotes = self.peers.values().filter(|peer| peer.is_remote).count();
        if !is_known && !urls.is_empty() && remotes < PEER_REMOTES {
            self.peers.insert(id, PeerState::new(now, urls, true));
        }
    }

    /// The peer with this id, under which its counts are; none for a sender that is not a peer.
    pub(super) fn known(&self, id: MemberId) -> MemberId {
        if self.peers.contains_key(&id) {
            id
        } else {
            MemberId::NONE
        }
    }

    /// Queues messages for a peer. Messages that find no room are dropped, and the node gets
    /// [`PeerEvent::Unreachable`].
    fn send(&mut self, to: MemberId, messages: Vec<Message>, out: &mut Vec<PeerEffect>) {
        let Some(peer) = self.peers.get_mut(&to) else {
            return;
        };
        let mut lost = 0;
        for message in messages {
            let kind = if message.get_msg_type() == MessageType::MsgAppend {
                StreamKind::Append
            } else {
                StreamKind::Message
            };
            let has_room = if let Some(stream) = peer.stream(kind) {
                stream.push(message)
            } else {
                let has_room = peer.pipeline.len() < PEER_PIPELINE_QUEUE_MESSAGES;
                peer.pipeline.extend(Some(message).filter(|_| has_room));
                has_room
            };
            lost += u64::from(!has_room);
        }
        if lost > 0 {
            self.tally.of(to).send_failures += lost;
            out.push(PeerEffect::Tell(PeerEvent::Unreachable(to)));
        }
    }

    /// Notes that an exchange with a peer succeeded.
    pub(super) fn activate(&mut self, id: MemberId, out: &mut Vec<PeerEffect>) {
        if let Some(peer) = self.peers.get_mut(&id)
            && !std::mem::replace(&mut peer.is_active, true)
        {
            peer.said.clear();
            self.tally.of(id).activated += 1;
            out.push(PeerEffect::Log(notice(Notice::info("peer became active"), id)));
            out.push(PeerEffect::Tell(PeerEvent::Active(id)));
        }
    }

    /// Notes that an exchange with a peer failed.
    pub(super) fn deactivate(&mut self, id: MemberId, why: &str, out: &mut Vec<PeerEffect>) {
        if let Some(peer) = self.peers.get_mut(&id)
            && std::mem::replace(&mut peer.is_active, false)
        {
            self.tally.of(id).deactivated += 1;
            out.push(PeerEffect::Log(notice(
                Notice::warn(format!("peer became inactive: {why}")),
                id,
            )));
            out.push(PeerEffect::Tell(PeerEvent::Inactive(id)));
        }
    }

    /// Logs a refusal, unless the same one or [`PEER_REFUSALS_LOGGED`] others were logged for this sender. When a peer
    /// becomes active, its refusals are forgotten.
    pub(super) fn complain(&mut self, id: MemberId, text: String, out: &mut Vec<PeerEffect>) {
        let said = match self.peers.get_mut(&id) {
            Some(peer) => &mut peer.said,
            None => {
                if self.strangers.len() >= PEER_REMOTES {
                    self.strangers.clear();
                }
                self.strangers.entry(id).or_default()
            }
        };
        if said.len() < PEER_REFUSALS_LOGGED && said.insert(text.clone()) {
            out.push(PeerEffect::Log(notice(Notice::warn(text), id)));
        }
    }

    /// Starts an exchange of this member.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        peer: MemberId,
        url: &str,
        kind: ExchangeKind,
        deadline: Instant,
    ) -> ExchangeId {
        self.next += 1;
        let id = ExchangeId::Outgoing(self.next);
        let url = url.to_owned();
        self.insert(now, id, peer, kind, deadline);
        if let Some(exchange) = self.exchanges.get_mut(&id) {
            exchange.url = url;
        }
        id
    }

    pub(super) fn insert(
        &mut self,
        now: Instant,
        id: ExchangeId,
        peer: MemberId,
        kind: ExchangeKind,
        deadline: Instant,
    ) {
        let exchange = OpenExchange {
            peer,
            kind,
            url: String::new(),
            answer: None,
            deadline,
            begun: now,
            file_bytes: 0,
        };
        self.exchanges.insert(id, exchange);
        self.late_at = self.late_at.min(deadline);
    }

    /// Removes an exchange, and subtracts the bytes that it held.
    pub(super) fn remove(&mut self, id: ExchangeId) -> Option<OpenExchange> {
        let exchange = self.exchanges.remove(&id)?;
        self.held = self.held.saturating_sub(exchange.kind.held());
        Some(exchange)
    }

    /// Bytes of a body have arrived.
    fn bytes(&mut self, now: Instant, id: ExchangeId, bytes: Bytes, out: &mut Vec<PeerEffect>) {
        match id {
            ExchangeId::Incoming(_) => self.incoming_bytes(now, id, bytes, out),
            ExchangeId::Outgoing(_) => self.outgoing_bytes(now, id, bytes, out),
        }
    }

    /// A body is complete.
    fn end(&mut self, now: Instant, id: ExchangeId, out: &mut Vec<PeerEffect>) {
        match id {
            ExchangeId::Incoming(_) => self.incoming_end(now, id, out),
            ExchangeId::Outgoing(_) => self.outgoing_end(now, id, out),
        }
    }

    /// An exchange broke off.
    fn closed(&mut self, now: Instant, id: ExchangeId, why: &str, out: &mut Vec<PeerEffect>) {
        let Some(exchange) = self.remove(id) else {
            return;
        };
        match id {
            ExchangeId::Incoming(_) => self.incoming_closed(&exchange, id, why, out),
            ExchangeId::Outgoing(_) => self.failed(now, &exchange, why, out),
        }
    }
}

impl ExchangeKind {
    /// The number of bytes of incomplete messages that it holds.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Reader(_, Some(StreamDecoder::Append(decoder))) => decoder.held(),
            Self::Reader(_, Some(StreamDecoder::Message(decoder))) | Self::Snapshotted(decoder) => decoder.held(),
            Self::Posted(gather) => gather.len(),
            _ => 0,
        }
    }
}

impl StreamDecoder {
    pub(super) fn new(kind: StreamKind, local: MemberId, remote: MemberId) -> Self {
        match kind {
            StreamKind::Append => Self::Append(AppendDecoder::new(local, remote)),
            StreamKind::Message => Self::Message(MessageDecoder::default()),
        }
    }
}

/// Adds the peer's id to a line, under etcd's name for the field.
fn notice(line: Notice, peer: MemberId) -> Notice {
    line.with("remote-peer-id", peer.to_string())
}
