//! What becomes of exchanges when links change, and when processes end and start.

use std::time::Duration;

use super::super::World;
use super::super::queue::What;
use super::pipe::Item;
use super::{ANSWERER, CALLER, Exchange};
use crate::observe::{Verdict, ensure};

/// TCP sends again after at most this time, once a link is whole again.
const SENDS_AGAIN_MS: u64 = 1_000;
/// After this time without faults members are connected: a dead connection is noticed within five seconds, an attempt
/// to connect given up within three.
const CONNECTS: Duration = Duration::from_secs(15);
/// One exchange in so many is reset when its link is cut.
const RESET_BY_CUT: u64 = 4;

/// The change of a pipe's link.
enum Change {
    Held,
    Freed(Duration),
    Quick,
    None,
}

impl World<'_> {
    /// The conditions of links have changed.
    pub(in super::super) fn links_changed(&mut self) {
        for number in self.wire.exchanges.keys().copied().collect::<Vec<_>>() {
            for side in [CALLER, ANSWERER] {
                self.link_of_pipe_changed(number, side);
            }
        }
    }

    fn link_of_pipe_changed(&mut self, number: u64, side: usize) {
        let wire = &mut self.wire;
        let Some(exchange) = wire.exchanges.get_mut(&number).filter(|exchange| !exchange.is_broken) else {
            return;
        };
        let (from, to) = (exchange.sides[side].machine, exchange.sides[1 - side].machine);
        let condition = self.net.condition(from, to);
        let is_back_cut = self.net.condition(to, from).cut.is_some();
        let is_held = (condition.cut.is_some() && from != to) || condition.is_clogged;
        let window = wire.window;
        let pipe = &mut exchange.pipes[side];
        let was_held = std::mem::replace(&mut pipe.is_held, is_held);
        if !is_held && !is_back_cut {
            pipe.acknowledge();
            if pipe.waits && pipe.has_room(window) {
                pipe.waits = false;
                self.queue.push(self.now, What::Drained { number, side });
            }
        }
        let change = match (was_held, is_held) {
            (false, true) => Change::Held,
            (true, false) => Change::Freed(Duration::from_millis(wire.prng.below(SENDS_AGAIN_MS))),
            (false, false) if condition.bytes_per_second == 0 => Change::Quick,
            _ => Change::None,
        };
        let is_reset = matches!(change, Change::Held)
            && condition.cut.is_some()
            && side == CALLER
            && wire.prng.below(RESET_BY_CUT) == 0;
        let latency = wire.latency;
        let pipe = &mut exchange.pipes[side];
        match change {
            Change::Freed(after) => pipe.resume(self.now + after),
            Change::Quick => pipe.hasten(self.now + latency),
            Change::Held | Change::None => {}
        }
        self.plan_arrival(number, side);
        if is_reset {
            self.break_off(number);
        }
    }

    /// All exchanges between two machines are reset.
    pub(in super::super) fn reset_exchanges(&mut self, a: usize, b: usize) {
        let is_between = |exchange: &Exchange| {
            let [one, other] = [&exchange.sides[CALLER], &exchange.sides[ANSWERER]];
            [(a, b), (b, a)].contains(&(one.machine, other.machine))
        };
        for number in self.exchanges_of(is_between) {
            self.break_off(number);
        }
    }

    fn exchanges_of(&self, is_wanted: impl Fn(&Exchange) -> bool) -> Vec<u64> {
        let wanted = self.wire.exchanges.iter().filter(|(_, exchange)| is_wanted(exchange));
        wanted.map(|(number, _)| *number).collect()
    }

    /// A process has ended: its kernel closes its exchanges, unless the machine has lost its power.
    pub(in super::super) fn exchanges_end(&mut self, machine: usize, lost_power: bool) {
        self.machines[machine].is_dark = lost_power;
        for number in self.exchanges_of(|exchange| exchange.sides.iter().any(|side| side.machine == machine)) {
            for side in [CALLER, ANSWERER] {
                let wire = &mut self.wire;
                let Some(exchange) = wire.exchanges.get_mut(&number) else {
                    break;
                };
                let it = &mut exchange.sides[side];
                if it.machine != machine || !it.is_open {
                    continue;
                }
                it.is_mute = lost_power;
                exchange.pipes[side].lose(&mut wire.prng);
                wire.leave_snapshot(number, side);
                wire.close_side(number, side);
                if !lost_power {
                    self.put(number, side, Item::Closed);
                }
            }
        }
    }

    /// A machine that lost its power is up again: it knows nothing of the exchanges that it had.
    pub(in super::super) fn exchanges_are_unknown(&mut self, machine: usize) {
        self.machines[machine].is_dark = false;
        for number in self.exchanges_of(|exchange| exchange.sides.iter().any(|side| side.machine == machine)) {
            for side in [CALLER, ANSWERER] {
                let exchange = self.wire.exchanges.get_mut(&number);
                let Some(exchange) = exchange else { break };
                let it = &mut exchange.sides[side];
                if it.machine == machine && it.is_mute {
                    it.is_mute = false;
                    self.put(number, side, Item::Closed);
                }
            }
        }
    }

    /// Whether two machines can talk in both directions, by their own connections or with a word that they are not.
    pub(in super::super) fn are_connected(&self, from: usize, to: usize) -> bool {
        if !self.machines[from].connected[to] {
            return false;
        }
        let is_known = |machine: usize| {
            let id = self.machines[machine].id;
            let url = super::super::plan::peer_url(machine);
            let host = url.rsplit_once(':').map_or("", |(host, _)| host);
            let member = self.newest_view().and_then(|view| view.cluster.member(id).cloned());
            member.is_some_and(|member| member.peer_urls.iter().any(|url| url.starts_with(host)))
        };
        // A member whose address is that of another one cannot be dialled.
        !is_known(to) || self.wire.reads(from, to)
    }

    /// L6: members that run after the last fault connect with each other in time.
    pub(in super::super) fn look_at_wait(&mut self, apart: &[(usize, usize)]) -> Verdict {
        let now = self.now;
        let wire = &mut self.wire;
        if apart.is_empty() {
            wire.waits_since = None;
            return Ok(());
        }
        let since = *wire.waits_since.get_or_insert(now);
        ensure(now.saturating_since(since) <= CONNECTS, "L6", || {
            format!("{CONNECTS:?} after the last fault, machines have no connection: {apart:?}")
        })
    }
}
