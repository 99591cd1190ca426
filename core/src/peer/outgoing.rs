//! Requests of this member to peers: streams that it reads, messages and snapshots that it posts, and requests for a
//! peer's version.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::Deserialize;

use crate::bug;
use crate::id::MemberId;
use crate::jobs::SnapshotJob;
use crate::limits::{
    MAX_PEER_ANSWER_BYTES, MAX_PEER_MESSAGE_BYTES, PEER_PIPELINE_CONNECTIONS, PEER_POST_PATIENCE, PEER_REDIAL_PAUSE,
    PEER_SNAPSHOT_PATIENCE, PEER_VERSION_INTERVAL,
};
use crate::node::PeerEvent;
use crate::proto::raftpb::Message;
use crate::time::Instant;
use crate::version::Version;

use super::gather::{BadFrame, Gather};
use super::head::{PeerHead, REMOVED, RequestKind};
use super::line::{Body, ExchangeId, PeerEffect, StreamKind};
use super::message::{encode_message, is_link_heartbeat, prepare};
use super::peers::Dial;
use super::tally::PeerTally;
use super::transport::{ExchangeKind, OpenExchange, PartialResponse, StreamDecoder, Transport};

const OK: u16 = 200;
const NO_CONTENT: u16 = 204;
const FORBIDDEN: u16 = 403;
const GONE: u16 = 410;

impl Transport {
    /// Opens the streams of a peer that are due.
    pub(super) fn dial(&mut self, now: Instant, id: MemberId, out: &mut Vec<PeerEffect>) {
        for kind in StreamKind::ALL {
            let Some(peer) = self.peers.get_mut(&id).filter(|peer| !peer.is_remote) else {
                return;
            };
            if !matches!(peer.reader(kind), Dial::Waits(at) if *at <= now) {
                continue;
            }
            let Some(url) = peer.url().cloned() else { continue };
            let deadline = now + self.config.dial_patience;
            let exchange = self.begin(now, id, &url, ExchangeKind::Reader(kind, None), deadline);
            if let Some(peer) = self.peers.get_mut(&id) {
                *peer.reader(kind) = Dial::Runs;
            }
            out.push(PeerEffect::Request {
                exchange,
                url,
                head: PeerHead::request(&self.config, id, RequestKind::Stream(kind)),
                body: Body::None,
            });
        }
    }

    /// Asks a peer for its version, if it is time.
    pub(super) fn ask_version(&mut self, now: Instant, id: MemberId, out: &mut Vec<PeerEffect>) {
        let peer = self.peers.get_mut(&id).filter(|peer| !peer.is_remote);
        let Some(peer) = peer.filter(|peer| peer.version_at <= now) else {
            return;
        };
        let Some(url) = peer.url().cloned() else { return };
        peer.version_at = now + PEER_VERSION_INTERVAL;
        let deadline = now + self.config.dial_patience.min(PEER_VERSION_INTERVAL);
        let exchange = self.begin(now, id, &url, ExchangeKind::Version, deadline);
        out.push(PeerEffect::Request {
            exchange,
            url,
            head: PeerHead::request(&self.config, id, RequestKind::Version),
            body: Body::None,
        });
    }

    /// Posts waiting messages, a few at a time.
    pub(super) fn post(&mut self, now: Instant, id: MemberId, out: &mut Vec<PeerEffect>) {
        while let Some(peer) = self.peers.get_mut(&id)
            && peer.posts < PEER_PIPELINE_CONNECTIONS
            && !peer.pipeline.is_empty()
            && let Some(url) = peer.url().cloned()
            && let Some(message) = peer.pipeline.pop_front()
        {
            peer.posts += 1;
            let body = bytes_of(message);
            let exchange = self.begin(
                now,
                id,
                &url,
                ExchangeKind::Post(body.clone()),
                now + PEER_POST_PATIENCE,
            );
            out.push(PeerEffect::Request {
                exchange,
                url,
                head: PeerHead::request(&self.config, id, RequestKind::Pipeline),
                body: Body::Bytes(body),
            });
        }
    }

    /// Posts a snapshot.
    pub(super) fn send_snapshot(&mut self, now: Instant, job: Box<SnapshotJob>, out: &mut Vec<PeerEffect>) {
        let to = job.to;
        let Some(url) = self.peers.get(&to).and_then(|peer| peer.url().cloned()) else {
            out.push(PeerEffect::Tell(PeerEvent::Snapshot { to, received: false }));
            return;
        };
        let exchange = self.begin(now, to, &url, ExchangeKind::Snapshot, now + PEER_SNAPSHOT_PATIENCE);
        self.tally.of(to).sending.begun += 1;
        let mut message = BytesMut::new();
        encode_message(job.message.clone(), &mut message);
        self.file_length(exchange, message.len() as u64);
        out.push(PeerEffect::Request {
            exchange,
            url,
            head: PeerHead::request(&self.config, to, RequestKind::Snapshot),
            body: Body::Snapshot(message.freeze(), job),
        });
    }

    /// A peer answers a request of this member.
    pub(super) fn response(
        &mut self,
        now: Instant,
        id: ExchangeId,
        status: u16,
        head: &PeerHead,
        out: &mut Vec<PeerEffect>,
    ) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        let peer = exchange.peer;
        exchange.deadline = now + self.config.read_patience;
        self.late_at = self.late_at.min(exchange.deadline);
        if let ExchangeKind::Reader(kind, decoder @ None) = &mut exchange.kind
            && status == OK
        {
            *decoder = Some(StreamDecoder::new(*kind, self.config.member, peer));
            return self.activate(peer, out);
        }
        exchange.answer = Some(PartialResponse {
            status,
            is_ours: head.is_of(self.config.cluster) || bug!(BelievesOtherCluster),
            body: Gather::default(),
        });
    }

    /// Bytes of a response.
    pub(super) fn outgoing_bytes(&mut self, now: Instant, id: ExchangeId, bytes: Bytes, out: &mut Vec<PeerEffect>) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        let before = exchange.kind.held();
        let peer = exchange.peer;
        exchange.deadline = now + self.config.read_patience;
        let decoded = match (&mut exchange.kind, &mut exchange.answer) {
            (_, Some(PartialResponse { body, .. })) if body.len() + bytes.len() <= MAX_PEER_ANSWER_BYTES => {
                body.push(bytes);
                return;
            }
            (ExchangeKind::Reader(_, Some(decoder)), None) => {
                let tally = &mut self.tally;
                decode(decoder, bytes, |message| deliver(peer, message, tally, out))
            }
            _ => Err(BadFrame("unexpected bytes".to_owned())),
        };
        self.held = self.held.saturating_sub(before) + exchange.kind.held();
        let decoded = decoded.and_then(|()| self.has_room());
        match decoded {
            // A failed post may have made the peer count as inactive, although its streams work.
            Ok(()) => self.activate(peer, out),
            Err(error) => self.abandon(now, id, &error.0, out),
        }
    }

    /// Fails if the incomplete messages of all peers together exceed their bound.
    pub(super) fn has_room(&self) -> Result<(), BadFrame> {
        if self.held <= MAX_PEER_MESSAGE_BYTES {
            Ok(())
        } else {
            Err(BadFrame("incomplete messages of peers take too much memory".to_owned()))
        }
    }

    /// Cuts an exchange of this member.
    fn abandon(&mut self, now: Instant, id: ExchangeId, why: &str, out: &mut Vec<PeerEffect>) {
        out.push(PeerEffect::Close(id));
        if let Some(exchange) = self.remove(id) {
            self.failed(now, &exchange, why, out);
        }
    }

    /// A response is complete.
    pub(super) fn outgoing_end(&mut self, now: Instant, id: ExchangeId, out: &mut Vec<PeerEffect>) {
        let Some(exchange) = self.remove(id) else {
            return;
        };
        match &exchange.answer {
            Some(_) => self.answered(now, exchange, out),
            // An endless response has ended.
            None => self.failed(now, &exchange, "the peer ended the exchange", out),
        }
    }

    /// A peer's answer is complete.
    fn answered(&mut self, now: Instant, mut exchange: OpenExchange, out: &mut Vec<PeerEffect>) {
        let peer = exchange.peer;
        let Some(PartialResponse {
            status,
            is_ours,
            mut body,
        }) = exchange.answer.take()
        else {
            return;
        };
        let body = body.take_all();
        let is_removal = match &exchange.kind {
            ExchangeKind::Reader(..) => status == GONE,
            ExchangeKind::Post(_) | ExchangeKind::Snapshot => status == FORBIDDEN && contains(&body, REMOVED),
            _ => false,
        };
        if is_removal && is_ours {
            out.push(PeerEffect::Tell(PeerEvent::RemovedUs));
        }
        match exchange.kind {
            ExchangeKind::Post(body) if status == NO_CONTENT => {
                self.posted(peer);
                self.tally.of(peer).sent_bytes += body.len() as u64;
                self.activate(peer, out);
            }
            ExchangeKind::Snapshot if status == NO_CONTENT => {
                let counts = self.tally.of(peer);
                counts.sent_bytes += exchange.file_bytes;
                counts.sending.succeeded.push(now.saturating_since(exchange.begun));
                self.activate(peer, out);
                snapshot_over(peer, true, out);
            }
            ExchangeKind::Version if status == OK => {
                out.push(PeerEffect::Tell(PeerEvent::Version(peer, version_in(&body))));
            }
            _ => {
                let text = String::from_utf8_lossy(&body);
                let why = format!("the peer answers with status {status}: {}", text.trim_end());
                self.complain(peer, why.clone(), out);
                self.failed(now, &exchange, &why, out);
            }
        }
    }

    /// A request of this member failed.
    pub(super) fn failed(&mut self, now: Instant, exchange: &OpenExchange, why: &str, out: &mut Vec<PeerEffect>) {
        let peer = exchange.peer;
        if let Some(known) = self.peers.get_mut(&peer) {
            known.avoid(&exchange.url);
        }
        match &exchange.kind {
            ExchangeKind::Reader(kind, _) => {
                if let Some(known) = self.peers.get_mut(&peer) {
                    *known.reader(*kind) = Dial::Waits(now + PEER_REDIAL_PAUSE);
                }
                self.deactivate(peer, why, out);
            }
            ExchangeKind::Post(body) => {
                self.posted(peer);
                self.tally.of(peer).send_failures += 1;
                if bug!(RetriesPost)
                    && let (Some(known), Ok(message)) =
                        (self.peers.get_mut(&peer), super::message::decode(body.clone()))
                {
                    known.pipeline.push_back(message);
                }
                self.unreachable(peer, why, out);
            }
            ExchangeKind::Snapshot => {
                self.snapshot_not_taken(peer);
                self.unreachable(peer, why, out);
                snapshot_over(peer, false, out);
            }
            ExchangeKind::Version => out.push(PeerEffect::Tell(PeerEvent::Version(peer, None))),
            ExchangeKind::Stream(_) | ExchangeKind::Posted(_) | ExchangeKind::Snapshotted(_) | ExchangeKind::Saving => {
            }
        }
    }

    /// The post of a message has ended, with or without success.
    fn posted(&mut self, peer: MemberId) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.posts -= 1;
        }
    }

    /// A snapshot was not taken by its peer.
    pub(super) fn snapshot_not_taken(&mut self, peer: MemberId) {
        let counts = self.tally.of(peer);
        counts.send_failures += 1;
        counts.sending.failed += 1;
        counts.sending.broken += 1;
    }

    /// The host knows the length of a part of what a snapshot's request sends.
    pub(super) fn file_length(&mut self, id: ExchangeId, bytes: u64) {
        if let Some(exchange) = self.exchanges.get_mut(&id) {
            exchange.file_bytes += bytes;
        }
    }

    /// Notes how fast a peer answers. The question for its version is small, and asked at fixed times.
    pub(super) fn round_trip(&mut self, id: ExchangeId, took: Duration) {
        if let Some(exchange) = self.exchanges.get(&id)
            && matches!(exchange.kind, ExchangeKind::Version)
        {
            self.tally.of(exchange.peer).round_trips.push(took);
        }
    }

    fn unreachable(&mut self, peer: MemberId, why: &str, out: &mut Vec<PeerEffect>) {
        self.deactivate(peer, why, out);
        out.push(PeerEffect::Tell(PeerEvent::Unreachable(peer)));
    }
}

/// Reports to the node whether the peer received the snapshot.
fn snapshot_over(to: MemberId, received: bool, out: &mut Vec<PeerEffect>) {
    if bug!(ForgetsSnapshotReport) && !received {
        return;
    }
    if bug!(ReportsSnapshotTwice) {
        out.push(PeerEffect::Tell(PeerEvent::Snapshot { to, received }));
    }
    out.push(PeerEffect::Tell(PeerEvent::Snapshot { to, received }));
}

/// Counts a message of a stream, and gives it to the node unless it is the heartbeat of the link.
fn deliver(from: MemberId, message: Message, tally: &mut PeerTally, out: &mut Vec<PeerEffect>) {
    let bytes = prost::Message::encoded_len(&message) as u64;
    if is_link_heartbeat(&message) {
        // etcd counts it under the sender that the message has, which is none.
        tally.of(MemberId::NONE).received_bytes += bytes;
        return;
    }
    tally.of(from).received_bytes += bytes;
    let message = Box::new(message);
    out.push(PeerEffect::Deliver { from, message });
}

/// Calls `take` with each message that is complete now.
fn decode(decoder: &mut StreamDecoder, bytes: Bytes, mut take: impl FnMut(Message)) -> Result<(), BadFrame> {
    match decoder {
        StreamDecoder::Append(decoder) => {
            decoder.push(bytes);
            while let Some(message) = decoder.next_message()? {
                take(message);
            }
        }
        StreamDecoder::Message(decoder) => {
            decoder.push(bytes);
            while let Some(message) = decoder.next_message()? {
                take(message);
            }
        }
    }
    Ok(())
}

/// The body of a posted message.
fn bytes_of(mut message: Message) -> Bytes {
    prepare(&mut message);
    prost::Message::encode_to_vec(&message).into()
}

/// The server's version in the answer to `GET /version`.
fn version_in(body: &[u8]) -> Option<Version> {
    #[derive(Deserialize)]
    struct VersionAnswer {
        etcdserver: String,
    }
    let answer: VersionAnswer = serde_json::from_slice(body).ok()?;
    Version::parse(&answer.etcdserver)
}

fn contains(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|part| part == text.as_bytes())
}
