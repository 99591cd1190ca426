//! Carries items through pipes: what arrives, what is acknowledged, what breaks.

use std::time::Duration;

use bytes::Bytes;
use quoin_core::peer::PeerInput;

use super::super::World;
use super::super::eyes::checksum;
use super::super::queue::What;
use super::damage::{garbled, spliced};
use super::pipe::Item;
use super::{ANSWERER, CALLER, Way};
use crate::faults::FaultKind;
use crate::observe::{Verdict, ensure};

/// The time in which a machine's kernel reports that it took bytes.
const KERNEL: Duration = Duration::from_micros(20);

impl World<'_> {
    /// The machines of the caller and of the answerer.
    pub(super) fn machines_of(&self, number: u64) -> (usize, usize) {
        let exchange = self.wire.exchanges.get(&number);
        exchange.map_or((0, 0), |exchange| {
            (exchange.sides[CALLER].machine, exchange.sides[ANSWERER].machine)
        })
    }

    /// One side sends an item.
    pub(super) fn put(&mut self, number: u64, side: usize, item: Item) {
        self.put_after(number, side, Duration::ZERO, item);
    }

    /// One side sends an item, which takes so much longer than others.
    pub(super) fn put_after(&mut self, number: u64, side: usize, extra: Duration, item: Item) {
        let wire = &mut self.wire;
        let latency = wire.latency() + extra;
        let Some(exchange) = wire.exchanges.get_mut(&number).filter(|exchange| !exchange.is_broken) else {
            return;
        };
        let (from, to) = (exchange.sides[side].machine, exchange.sides[1 - side].machine);
        let condition = self.net.condition(from, to);
        let pipe = &mut exchange.pipes[side];
        if let Item::Bytes(bytes, _) = &item
            && let Some(nanos) = (bytes.len() as u64 * 1_000_000_000).checked_div(condition.bytes_per_second)
        {
            self.struck.note(FaultKind::Bandwidth);
            pipe.slow_down(self.now, Duration::from_nanos(nanos));
        }
        pipe.is_held = (condition.cut.is_some() && from != to) || condition.is_clogged;
        if pipe.is_held {
            self.struck.note(condition.cut.unwrap_or(FaultKind::Clog));
        }
        pipe.put(self.now, latency, item);
        self.plan_arrival(number, side);
    }

    /// Plans the next arrival of what a side sent.
    pub(super) fn plan_arrival(&mut self, number: u64, side: usize) {
        let exchange = self.wire.exchanges.get_mut(&number);
        if let Some(at) = exchange.and_then(|exchange| exchange.pipes[side].plan()) {
            self.queue
                .push(at.max(self.now), What::Arrive { number, side: 1 - side });
        }
    }

    /// One side writes bytes, which begin and end with a frame.
    pub(super) fn write(&mut self, number: u64, side: usize, bytes: Bytes) {
        self.write_chunks(number, side, bytes, usize::MAX);
    }

    /// One side writes bytes, in chunks of at most `most`.
    pub(super) fn write_chunks(&mut self, number: u64, side: usize, bytes: Bytes, most: usize) {
        let wire = &mut self.wire;
        let mut chunks = wire.chunks(bytes, most).into_iter().peekable();
        while let Some(chunk) = chunks.next() {
            let is_last = chunks.peek().is_none();
            self.put(number, side, Item::Bytes(chunk, is_last));
        }
    }

    /// One side writes bytes, and a fault of the link may damage them.
    pub(super) fn write_damaged(&mut self, number: u64, side: usize, way: Way, bytes: Bytes) -> Verdict {
        let Some(kind) = self.draw_damage(number, side) else {
            self.write(number, side, bytes);
            return Ok(());
        };
        let wire = &mut self.wire;
        let kept = wire.prng.below(bytes.len().max(1) as u64) as usize;
        let damaged = match kind {
            FaultKind::FlippedFrame => garbled(&mut wire.prng, way, &bytes),
            FaultKind::SplicedFrame => spliced(&mut wire.prng, way),
            _ => bytes.slice(..kept),
        };
        if kind == FaultKind::FlippedFrame {
            self.write(number, side, damaged);
            return Ok(());
        }
        self.put(number, side, Item::Bytes(damaged, false));
        self.break_off(number);
        Ok(())
    }

    /// The damage that strikes a write, if one does.
    fn draw_damage(&mut self, number: u64, side: usize) -> Option<FaultKind> {
        let ends = self.machines_of(number);
        let (from, to) = if side == CALLER { ends } else { (ends.1, ends.0) };
        let (kind, permille) = self.net.condition(from, to).damage?;
        if self.wire.prng.below(1_000) >= permille {
            return None;
        }
        if kind != FaultKind::MisaddressedFrame {
            self.struck.note(kind);
        }
        self.eyes.note(
            self.now,
            format_args!("{kind:?} in exchange {number} from {from} to {to}"),
        );
        Some(kind)
    }

    /// The caller sends the file of a snapshot, which a fault of the link may cut short.
    pub(super) fn write_file(&mut self, number: u64, file: Bytes, most: usize) {
        if self.draw_damage(number, CALLER).is_none() {
            return self.write_chunks(number, CALLER, file, most);
        }
        let len = file.len().max(1) as u64;
        let kept = self.wire.prng.below(len) as usize;
        self.write_chunks(number, CALLER, file.slice(..kept), most);
        self.break_off(number);
    }

    /// What a process has written has been given to its kernel, or will be once the other side has read more.
    pub(super) fn drain(&mut self, number: u64, side: usize) {
        let wire = &mut self.wire;
        let window = wire.window;
        let Some(exchange) = wire.exchanges.get_mut(&number) else {
            return;
        };
        let pipe = &mut exchange.pipes[side];
        pipe.waits = !pipe.has_room(window);
        if !pipe.waits {
            self.queue.push(self.now + KERNEL, What::Drained { number, side });
        }
    }

    /// A process learns that its bytes have left.
    pub(in super::super) fn drained(&mut self, number: u64, side: usize) -> Verdict {
        self.input_to(number, side, PeerInput::Drained)
    }

    /// Items arrive at a side.
    pub(in super::super) fn items_arrive(&mut self, number: u64, side: usize) -> Verdict {
        let from = 1 - side;
        if let Some(exchange) = self.wire.exchanges.get_mut(&number) {
            exchange.pipes[from].arrived(self.now);
        }
        while let Some(exchange) = self.wire.exchanges.get_mut(&number)
            && let Some(item) = exchange.pipes[from].take(self.now)
        {
            if let Item::Bytes(bytes, _) = &item {
                let len = bytes.len();
                self.acknowledge(number, side, len);
            }
            self.item_arrives(number, side, item)?;
        }
        self.plan_arrival(number, from);
        Ok(())
    }

    /// A side has read bytes; the writer learns that, unless the way back is cut.
    fn acknowledge(&mut self, number: u64, side: usize, len: usize) {
        let wire = &mut self.wire;
        let window = wire.window;
        let latency = wire.latency();
        let Some(exchange) = wire.exchanges.get_mut(&number) else {
            return;
        };
        if exchange.sides[side].is_mute {
            return;
        }
        let (me, writer) = (exchange.sides[side].machine, exchange.sides[1 - side].machine);
        let is_cut = self.net.condition(me, writer).cut.is_some() && me != writer;
        let pipe = &mut exchange.pipes[1 - side];
        pipe.read(len, !is_cut);
        let is_snapshot = exchange.way == Way::Snapshot && side == ANSWERER && !is_cut;
        if is_snapshot || pipe.waits && pipe.has_room(window) {
            pipe.waits = false;
            let side = 1 - side;
            self.queue.push(self.now + latency, What::Drained { number, side });
        }
    }

    fn item_arrives(&mut self, number: u64, side: usize, item: Item) -> Verdict {
        let Some(exchange) = self.wire.exchanges.get_mut(&number) else {
            return Ok(());
        };
        if !exchange.sides[side].is_open {
            return Ok(());
        }
        let what = match &item {
            Item::Request(head) => checksum(head.path.as_bytes()),
            Item::Response(status, _) => u64::from(*status),
            Item::Bytes(bytes, _) => checksum(bytes),
            Item::End => 0xe4d,
            Item::Closed => 0xc105,
        };
        self.eyes.mix([self.now.as_nanos(), number << 1 | side as u64, what]);
        match item {
            Item::Request(head) if Self::is_version(&head) => {
                let machine = exchange.sides[side].machine;
                self.answer_version(number, machine);
                Ok(())
            }
            Item::Request(head) => self.input_to(number, side, |exchange| PeerInput::Request(exchange, head)),
            Item::Response(status, head) => {
                self.is_answered(number, status)?;
                self.input_to(number, side, |exchange| PeerInput::Response {
                    exchange,
                    status,
                    head,
                    took: Duration::ZERO,
                })
            }
            Item::Bytes(bytes, _) => self.input_to(number, side, |exchange| PeerInput::Bytes(exchange, bytes)),
            Item::End if side == CALLER => {
                let told = self.input_to(number, side, PeerInput::End);
                self.is_over(number, side);
                told
            }
            Item::End => self.input_to(number, side, PeerInput::End),
            Item::Closed => self.is_broken(number, side, "the peer closed the connection"),
        }
    }

    /// C58, and counts.
    fn is_answered(&mut self, number: u64, status: u16) -> Verdict {
        let wire = &mut self.wire;
        let Some(exchange) = wire.exchanges.get_mut(&number) else {
            return Ok(());
        };
        exchange.is_answered = true;
        let is_accepted = exchange.is_misrouted && status < 400 && exchange.way != Way::Version;
        ensure(!is_accepted, "C58", || {
            format!("a request was accepted by a member that was not meant: {exchange:?}")
        })?;
        let [caller, answerer] = &exchange.sides;
        let stream = (caller.machine, caller.life, answerer.machine, exchange.way);
        match (exchange.way, status) {
            (Way::Appends | Way::Messages, 200) if !wire.streams.insert(stream) => wire.met.reopened += 1,
            (Way::Post, 204) => wire.met.posted += 1,
            (_, 412) if exchange.is_misrouted => wire.met.misrouted_refused += 1,
            _ => {}
        }
        Ok(())
    }

    /// A side learns that its connection is lost.
    pub(super) fn is_broken(&mut self, number: u64, side: usize, why: &str) -> Verdict {
        let told = self.input_to(number, side, |exchange| PeerInput::Closed(exchange, why.to_owned()));
        self.is_over(number, side);
        told
    }

    /// One side has no part in the exchange any more.
    pub(super) fn is_over(&mut self, number: u64, side: usize) {
        self.wire.close_side(number, side);
    }

    /// Breaks an exchange: of what is in transit a part arrives, and both sides learn it.
    pub(super) fn break_off(&mut self, number: u64) {
        let wire = &mut self.wire;
        let Some(exchange) = wire.exchanges.get_mut(&number).filter(|exchange| !exchange.is_broken) else {
            return;
        };
        exchange.is_broken = true;
        for pipe in &mut exchange.pipes {
            pipe.lose(&mut wire.prng);
        }
        for side in [CALLER, ANSWERER] {
            let after = wire.latency() * 4 + Duration::from_millis(wire.prng.below(300));
            self.queue.push(self.now + after, What::Broken { number, side });
        }
    }

    /// A side of an exchange that is broken learns it.
    pub(in super::super) fn breaks(&mut self, number: u64, side: usize) -> Verdict {
        self.eyes.mix([self.now.as_nanos(), number << 1 | side as u64, 0xb40c]);
        self.is_broken(number, side, "the connection is lost")
    }
}
