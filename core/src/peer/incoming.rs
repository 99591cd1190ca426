//! Requests of peers to this member: streams that they open, messages and snapshots that they post.

use bytes::Bytes;

use crate::bug;
use crate::id::MemberId;
use crate::limits::{PEER_PIPELINE_MESSAGE_BYTES, PEER_SNAPSHOT_PATIENCE};
use crate::node::PeerEvent;
use crate::proto::raftpb::{Message, MessageType};
use crate::time::Instant;

use super::gather::{BadFrame, Gather};
use super::head::{OTHER_TARGET, PATH_PIPELINE, PATH_SNAPSHOT, PATH_STREAM, PeerHead, REMOVED};
use super::line::{ExchangeId, PeerEffect, StreamKind};
use super::message::{MessageDecoder, decode, is_link_heartbeat};
use super::queue::OpenStream;
use super::transport::{ExchangeKind, OpenExchange, Transport};

/// The status of a message that cannot be read.
const UNREADABLE: u16 = 400;

/// A refusal of a peer's request.
#[derive(Debug)]
struct Rejection {
    status: u16,
    text: String,
    /// Whether the text is sent in a JSON object.
    is_json: bool,
    /// Whether the connection ends after it.
    close: bool,
}

impl Rejection {
    fn new(status: u16, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
            is_json: false,
            close: false,
        }
    }
}

impl Transport {
    /// The head of a peer's request.
    pub(super) fn request(&mut self, now: Instant, id: ExchangeId, head: &PeerHead, out: &mut Vec<PeerEffect>) {
        let accepted = match head.path.as_str() {
            PATH_PIPELINE => self.begin_body(now, id, head, ExchangeKind::Posted(Gather::default())),
            PATH_SNAPSHOT => self.begin_body(now, id, head, ExchangeKind::Snapshotted(MessageDecoder::default())),
            path => match path.strip_prefix(PATH_STREAM) {
                Some(rest) => return self.open(now, id, head, rest, out),
                None => Err(Rejection::new(404, "404 page not found")),
            },
        };
        match accepted {
            Ok(()) => out.push(PeerEffect::Receive(id)),
            Err(refusal) => {
                if head.path == PATH_SNAPSHOT {
                    self.tally.of(MemberId::NONE).receiving.failed += 1;
                }
                self.refuse(id, head.sender(), refusal, out);
            }
        }
    }

    /// A peer wants to post a message or a snapshot.
    fn begin_body(
        &mut self,
        now: Instant,
        id: ExchangeId,
        head: &PeerHead,
        kind: ExchangeKind,
    ) -> Result<(), Rejection> {
        if head.method != "POST" {
            return Err(Rejection::new(405, "Method Not Allowed"));
        }
        head.check(self.config.cluster)
            .map_err(|text| Rejection::new(412, text))?;
        let from = head.sender().unwrap_or_default();
        self.add_remote(now, from, head.peer_urls());
        self.insert(now, id, from, kind, now + self.config.read_patience);
        Ok(())
    }

    /// A peer wants to open a stream.
    fn open(&mut self, now: Instant, id: ExchangeId, head: &PeerHead, rest: &str, out: &mut Vec<PeerEffect>) {
        match self.may_open(now, head, rest) {
            Ok((from, kind)) => {
                let stream = OpenStream::new(now, id, kind);
                let known = self.peers.get_mut(&from);
                let old = known.and_then(|peer| peer.stream(kind).replace(stream));
                if let Some(old) = old {
                    out.push(PeerEffect::Close(old.exchange));
                    self.remove(old.exchange);
                    if old.has_waiting() {
                        self.tally.of(from).send_failures += 1;
                        out.push(PeerEffect::Tell(PeerEvent::Unreachable(from)));
                    }
                }
                self.insert(now, id, from, ExchangeKind::Stream(kind), Instant::MAX);
                out.push(PeerEffect::Open(id, PeerHead::response(&self.config)));
                self.activate(from, out);
            }
            Err(refusal) => self.refuse(id, head.sender(), refusal, out),
        }
    }

    /// The checks of a stream, in etcd's order.
    fn may_open(&mut self, now: Instant, head: &PeerHead, rest: &str) -> Result<(MemberId, StreamKind), Rejection> {
        if head.method != "GET" {
            return Err(Rejection::new(405, "Method Not Allowed"));
        }
        head.check(self.config.cluster)
            .map_err(|text| Rejection::new(412, text))?;
        let mut parts = rest.split('/').skip(1);
        let name = parts.next().unwrap_or_default();
        let kind = StreamKind::ALL.into_iter().find(|kind| kind.name() == name);
        let kind = kind.ok_or_else(|| Rejection::new(404, "invalid path"))?;
        let from = parts
            .next()
            .and_then(MemberId::parse)
            .filter(|_| parts.next().is_none());
        let from = from.ok_or_else(|| Rejection::new(404, "invalid from"))?;
        if self.removed.contains(&from) {
            return Err(Rejection::new(410, "removed member"));
        }
        if self.peers.get(&from).is_none_or(|peer| peer.is_remote) {
            self.add_remote(now, from, head.peer_urls());
            return Err(Rejection::new(404, "error sender not found"));
        }
        if !head.is_for(self.config.member) && !bug!(IgnoresTarget) {
            return Err(Rejection::new(412, OTHER_TARGET));
        }
        Ok((from, kind))
    }

    fn refuse(&mut self, id: ExchangeId, from: Option<MemberId>, refusal: Rejection, out: &mut Vec<PeerEffect>) {
        let Rejection {
            status,
            text,
            is_json,
            close,
        } = refusal;
        self.remove(id);
        let sender = from.unwrap_or_default();
        self.complain(sender, format!("refused a request with status {status}: {text}"), out);
        let head = PeerHead::response(&self.config);
        let (head, body) = if is_json {
            let body = serde_json::json!({ "message": text }).to_string();
            (head.with("content-type", "application/json"), body)
        } else {
            let head = head.with("x-content-type-options", "nosniff");
            (
                head.with("content-type", "text/plain; charset=utf-8"),
                format!("{text}\n"),
            )
        };
        out.push(PeerEffect::Respond {
            exchange: id,
            status,
            head,
            body: body.into(),
            close,
        });
    }

    /// Bytes of a request's body.
    pub(super) fn incoming_bytes(&mut self, now: Instant, id: ExchangeId, bytes: Bytes, out: &mut Vec<PeerEffect>) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        let (from, before) = (exchange.peer, exchange.kind.held());
        exchange.deadline = now + self.config.read_patience;
        let mut begun = None;
        let is_snapshot = matches!(exchange.kind, ExchangeKind::Snapshotted(_));
        let taken = match &mut exchange.kind {
            ExchangeKind::Posted(body) if body.len() + bytes.len() <= PEER_PIPELINE_MESSAGE_BYTES => {
                body.push(bytes);
                Ok(())
            }
            ExchangeKind::Posted(_) => Err(Rejection::new(400, "error reading raft message")),
            ExchangeKind::Snapshotted(decoder) => {
                decoder.push(bytes);
                let next = decoder.next_message();
                next.map(|message| begun = message)
                    .map_err(|error| Rejection::new(400, format!("error decoding raft message: {error}")))
            }
            ExchangeKind::Saving => {
                exchange.file_bytes += bytes.len() as u64;
                out.push(PeerEffect::SaveMore(id, bytes));
                return;
            }
            _ => Ok(()),
        };
        self.held = self.held.saturating_sub(before) + exchange.kind.held();
        let taken = taken.and_then(|()| self.has_room().map_err(|BadFrame(text)| Rejection::new(500, text)));
        match (taken, begun) {
            (Err(refusal), _) => {
                self.unreadable(from, is_snapshot);
                self.refuse(id, Some(from), Rejection { close: true, ..refusal }, out);
            }
            (Ok(()), Some(message)) => self.begin_snapshot(now, id, message, out),
            (Ok(()), None) => {}
        }
    }

    /// The message of a snapshot has arrived; its file follows.
    fn begin_snapshot(&mut self, now: Instant, id: ExchangeId, message: Message, out: &mut Vec<PeerEffect>) {
        let Some(exchange) = self.remove(id) else {
            return;
        };
        let ExchangeKind::Snapshotted(decoder) = exchange.kind else {
            return;
        };
        let sender = Some(exchange.peer).filter(|from| *from != MemberId::NONE);
        let from = sender.unwrap_or(MemberId(message.from));
        let checked = if message.get_msg_type() == MessageType::MsgSnapshot {
            self.may_take(from, &message)
        } else {
            Err(Rejection::new(400, "wrong raft message type"))
        };
        self.tally.of(self.known(from)).received_bytes += prost::Message::encoded_len(&message) as u64;
        if let Err(refusal) = checked {
            self.tally.of(self.known(from)).receiving.failed += 1;
            return self.refuse(id, Some(from), Rejection { close: true, ..refusal }, out);
        }
        self.insert(
            exchange.begun,
            id,
            from,
            ExchangeKind::Saving,
            now + self.config.read_patience,
        );
        let file_begun = decoder.rest();
        self.file_length(id, file_begun.len() as u64);
        self.tally.of(self.known(from)).receiving.begun += 1;
        out.push(PeerEffect::Save {
            exchange: id,
            from,
            message: Box::new(message),
            begun: file_begun,
        });
    }

    /// Checks that this member takes a message from a peer.
    fn may_take(&self, from: MemberId, message: &Message) -> Result<(), Rejection> {
        if self.removed.contains(&from) || self.removed.contains(&MemberId(message.from)) {
            return Err(Rejection {
                is_json: true,
                ..Rejection::new(403, REMOVED)
            });
        }
        if message.to != self.config.member.0 {
            // etcd answers 403 here. But an etcd that gets 403 takes itself for removed and ends; after any other
            // status it tries again.
            return Err(Rejection::new(412, OTHER_TARGET));
        }
        Ok(())
    }

    /// The body of a peer's request is complete.
    pub(super) fn incoming_end(&mut self, now: Instant, id: ExchangeId, out: &mut Vec<PeerEffect>) {
        if let Some(exchange) = self.exchanges.get_mut(&id)
            && matches!(exchange.kind, ExchangeKind::Saving)
        {
            // The host syncs the file and restores its state.
            exchange.deadline = now + PEER_SNAPSHOT_PATIENCE;
            return out.push(PeerEffect::SaveEnd(id));
        }
        let Some(OpenExchange { peer, kind, .. }) = self.remove(id) else {
            return;
        };
        let is_message = matches!(kind, ExchangeKind::Posted(_));
        let taken = match kind {
            ExchangeKind::Posted(mut body) => decode(body.take_all())
                .map_err(|_| Rejection::new(UNREADABLE, "error unmarshalling raft message"))
                .and_then(|message| {
                    let from = Some(peer).filter(|peer| *peer != MemberId::NONE);
                    let from = from.unwrap_or(MemberId(message.from));
                    self.tally.of(self.known(from)).received_bytes += prost::Message::encoded_len(&message) as u64;
                    self.may_take(from, &message)?;
                    Ok((from, message))
                }),
            ExchangeKind::Snapshotted(_) => Err(Rejection::new(400, "error decoding raft message: unexpected EOF")),
            _ => return,
        };
        match taken {
            Ok((from, message)) => {
                if !is_link_heartbeat(&message) {
                    let message = Box::new(message);
                    out.push(PeerEffect::Deliver { from, message });
                }
                self.accept(id, out);
            }
            Err(refusal) => {
                if !is_message || refusal.status == UNREADABLE {
                    self.unreadable(peer, !is_message);
                }
                self.refuse(id, Some(peer), refusal, out);
            }
        }
    }

    /// The host has written a snapshot, or has failed to.
    pub(super) fn saved(
        &mut self,
        now: Instant,
        id: ExchangeId,
        result: Result<(), String>,
        out: &mut Vec<PeerEffect>,
    ) {
        let Some(exchange) = self.remove(id) else {
            return;
        };
        let counts = self.tally.of(self.known(exchange.peer));
        match result {
            Ok(()) => {
                counts.received_bytes += exchange.file_bytes;
                counts.receiving.succeeded.push(now.saturating_since(exchange.begun));
                self.accept(id, out);
            }
            Err(text) => {
                counts.receiving.failed += 1;
                counts.receiving.broken += 1;
                let text = format!("failed to save KV snapshot ({text})");
                let refusal = Rejection {
                    close: true,
                    ..Rejection::new(500, text)
                };
                self.refuse(id, Some(exchange.peer), refusal, out);
            }
        }
    }

    /// Counts a message that cannot be read.
    fn unreadable(&mut self, from: MemberId, is_snapshot: bool) {
        let counts = self.tally.of(self.known(from));
        counts.receive_failures += 1;
        counts.receiving.failed += u64::from(is_snapshot);
    }

    /// Counts a snapshot that broke off, before or after its file began.
    fn snapshot_not_received(&mut self, from: MemberId, had_begun: bool) {
        let counts = &mut self.tally.of(self.known(from)).receiving;
        counts.failed += 1;
        counts.broken += u64::from(had_begun);
    }

    fn accept(&self, id: ExchangeId, out: &mut Vec<PeerEffect>) {
        out.push(PeerEffect::Respond {
            exchange: id,
            status: 204,
            head: PeerHead::response(&self.config),
            body: Bytes::new(),
            close: false,
        });
    }

    /// The bytes last written into a stream, or a part of a snapshot, are on their way to the peer.
    pub(super) fn drained(&mut self, now: Instant, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        match exchange.kind {
            ExchangeKind::Snapshot => exchange.deadline = now + PEER_SNAPSHOT_PATIENCE,
            ExchangeKind::Stream(kind) => {
                if let Some(stream) = self
                    .peers
                    .get_mut(&exchange.peer)
                    .and_then(|peer| peer.stream(kind).as_mut())
                {
                    stream.drained();
                }
            }
            _ => {}
        }
    }

    /// Writes the messages that wait for a peer's streams, and cuts a stream that the peer does not read.
    pub(super) fn write_streams(&mut self, now: Instant, id: MemberId, out: &mut Vec<PeerEffect>) {
        for kind in StreamKind::ALL {
            let Some(stream) = self.peers.get_mut(&id).and_then(|peer| peer.stream(kind).as_mut()) else {
                continue;
            };
            let exchange = stream.exchange;
            if stream.is_stuck(now) {
                out.push(PeerEffect::Close(exchange));
                if let Some(over) = self.remove(exchange) {
                    self.incoming_closed(&over, exchange, "the peer does not read", out);
                }
            } else if let Some((bytes, message_bytes)) = stream.write(now, self.config.write_patience) {
                self.tally.of(id).sent_bytes += message_bytes;
                out.push(PeerEffect::Write(exchange, bytes));
            }
        }
    }

    /// A peer's request broke off. If it was a stream, the messages that waited for it are lost.
    pub(super) fn incoming_closed(
        &mut self,
        exchange: &OpenExchange,
        id: ExchangeId,
        why: &str,
        out: &mut Vec<PeerEffect>,
    ) {
        let peer = exchange.peer;
        let kind = match &exchange.kind {
            ExchangeKind::Stream(kind) => *kind,
            ExchangeKind::Posted(_) => return self.tally.of(self.known(peer)).receive_failures += 1,
            ExchangeKind::Snapshotted(_) => return self.snapshot_not_received(peer, false),
            ExchangeKind::Saving => return self.snapshot_not_received(peer, true),
            _ => return,
        };
        let Some(known) = self.peers.get_mut(&peer) else {
            return;
        };
        if known.stream(kind).as_ref().is_some_and(|stream| stream.exchange == id) {
            let old = known.stream(kind).take();
            self.tally.of(peer).send_failures += 1;
            self.deactivate(peer, why, out);
            if old.is_some_and(|stream| stream.has_waiting()) {
                out.push(PeerEffect::Tell(PeerEvent::Unreachable(peer)));
            }
        }
    }
}
