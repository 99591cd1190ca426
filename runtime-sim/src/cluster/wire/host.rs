//! The host of the members' peer protocol: inputs for it, and its effects.

use std::time::Duration;

use quoin_core::id::MemberId;
use quoin_core::jobs::{PeerJob, SnapshotJob};
use quoin_core::membership::Member;
use quoin_core::node::{Input, PeerEvent};
use quoin_core::peer::{ExchangeId, PeerEffect, PeerInput, PeerRoster, Transport, TransportConfig};
use quoin_core::proto::raftpb::{Message, MessageType};
use quoin_core::store::Cluster;

use super::super::World;
use super::super::member::{Part, Sent};
use super::super::net::Stale;
use super::super::queue::What;
use super::pipe::Item;
use super::{CALLER, Late, append_of};
use crate::faults::FaultKind;
use crate::observe::{Observation, Verdict, ensure};

/// How long a leader keeps the entries after a snapshot that has arrived, if its clock is fast by a twentieth.
const ENTRIES_KEPT: Duration = Duration::from_secs(28);

impl World<'_> {
    /// A process has started: it gets a peer protocol of its own.
    pub(in super::super) fn begin_transport(&mut self, machine: usize, boot_peers: &[Member]) -> Verdict {
        self.exchanges_are_unknown(machine);
        let at = &mut self.machines[machine];
        let shown = at.clock.now(self.now);
        let Some(life) = &mut at.life else { return Ok(()) };
        let config = TransportConfig::of(&at.site.config, at.id, life.process.cluster, boot_peers.to_vec());
        life.transport = Some(Transport::new(config, shown));
        self.give_roster(machine)
    }

    /// The members as the process's published state has them.
    pub(in super::super) fn give_roster(&mut self, machine: usize) -> Verdict {
        let Some(life) = &self.machines[machine].life else {
            return Ok(());
        };
        let (number, cluster): (u64, &Cluster) = (life.number, &life.view.cluster);
        let roster = PeerRoster::from(cluster);
        self.step_transport(machine, number, PeerInput::Roster(roster))
    }

    /// A node sends messages.
    pub(in super::super) fn send_bytes(&mut self, machine: usize, to: MemberId, messages: Vec<Message>) -> Verdict {
        let life = self.machines[machine].life.as_ref().map_or(0, |life| life.number);
        let (member, target) = (self.machines[machine].id, self.find(to));
        let mut sent = Vec::new();
        for message in messages {
            self.wire.appends.extend(append_of(member, to, &message));
            let copies = target.map_or_else(
                || vec![Duration::ZERO],
                |at| self.net.sift(member, machine, at, &message),
            );
            for late in copies {
                if late.is_zero() {
                    sent.push(message.clone());
                    continue;
                }
                let message = message.clone();
                let late_message = Late {
                    machine,
                    life,
                    to,
                    message,
                };
                let wire = &mut self.wire;
                let place = wire.late.put(late_message);
                self.queue.push(self.now + late, What::LateMessage(place));
            }
        }
        if sent.is_empty() {
            return Ok(());
        }
        let job = PeerJob::Messages { to, messages: sent };
        self.step_transport(machine, life, PeerInput::Send(job))
    }

    /// A message that a fault has delayed is given to the peer protocol.
    pub(in super::super) fn send_late(&mut self, place: u32) -> Verdict {
        let late = self.wire.late.take(place);
        let Some(Late {
            machine,
            life,
            to,
            message,
        }) = late
        else {
            return Ok(());
        };
        let messages = vec![message];
        self.step_transport(machine, life, PeerInput::Send(PeerJob::Messages { to, messages }))
    }

    /// A node gets an old message again, unless its receiver knows that the sender was removed.
    pub(in super::super) fn deliver_stale(&mut self) -> Verdict {
        let Some(Stale { from, message }) = self.net.draw_stale() else {
            return Ok(());
        };
        let Some(machine) = self.find(MemberId(message.to)) else {
            return Ok(());
        };
        let life = self.machines[machine].life.as_ref();
        if life.is_none_or(|life| life.view.cluster.is_removed(from)) {
            return Ok(());
        }
        self.struck.note(FaultKind::StaleFrame);
        self.deliver(machine, from, message)
    }

    /// The peer protocol of a process may have something to do.
    pub(in super::super) fn wake_transport(&mut self, machine: usize, life: u64) -> Verdict {
        if let Some(current) = &mut self.machines[machine].life
            && current.number == life
        {
            current.transport_wakes_at = None;
        }
        self.step_transport(machine, life, PeerInput::Wake)
    }

    /// Gives a side's process an input about its exchange, if the process still takes part in it.
    pub(super) fn input_to(
        &mut self,
        number: u64,
        side: usize,
        input: impl FnOnce(ExchangeId) -> PeerInput,
    ) -> Verdict {
        let exchange = self.wire.exchanges.get(&number);
        let Some(it) = exchange.map(|exchange| &exchange.sides[side]).filter(|it| it.is_open) else {
            return Ok(());
        };
        let (machine, life, id) = (it.machine, it.life, it.id);
        self.step_transport(machine, life, input(id))
    }

    /// One step of a process's peer protocol.
    pub(in super::super) fn step_transport(&mut self, machine: usize, life: u64, input: PeerInput) -> Verdict {
        let at = &mut self.machines[machine];
        let shown = at.clock.now(self.now);
        let Some(current) = at.life.as_mut().filter(|current| current.number == life) else {
            return Ok(());
        };
        let Some(transport) = &mut current.transport else {
            return Ok(());
        };
        let mut effects = std::mem::take(&mut self.peer_effects);
        transport.step(shown, [input], &mut effects);
        for effect in effects.drain(..) {
            self.carry_out_peer(machine, life, effect)?;
        }
        self.peer_effects = effects;
        self.plan_transport(machine);
        self.look_at_reports(machine, life)
    }

    /// Plans the next step of a process's peer protocol, if none is planned early enough.
    pub(in super::super) fn plan_transport(&mut self, machine: usize) {
        let at = &mut self.machines[machine];
        let Some(life) = &mut at.life else { return };
        let Some(deadline) = life.transport.as_ref().and_then(Transport::deadline) else {
            return;
        };
        let wake = at.clock.truth(deadline).max(self.now);
        if life.transport_wakes_at.is_none_or(|planned| planned > wake) {
            life.transport_wakes_at = Some(wake);
            let life = life.number;
            self.queue.push(wake, What::Transport { machine, life });
        }
    }

    fn carry_out_peer(&mut self, machine: usize, life: u64, effect: PeerEffect) -> Verdict {
        let found = |world: &Self, id| world.wire.find(machine, life, id);
        match effect {
            PeerEffect::Close(id) => {
                if let Some((number, side)) = found(self, id) {
                    self.closes(number, side);
                }
            }
            PeerEffect::Deliver { from, message } => self.deliver(machine, from, *message)?,
            PeerEffect::Log(notice) => self.eyes.note(
                self.now,
                format_args!("{machine} logs {}: {:?}", notice.msg, notice.fields),
            ),
            PeerEffect::Open(id, head) => {
                if let Some((number, side)) = found(self, id) {
                    self.put(number, side, Item::Response(200, head));
                }
            }
            PeerEffect::Receive(_) => {}
            PeerEffect::Request {
                exchange,
                url,
                head,
                body,
            } => self.dial((machine, life), exchange, &url, head, body)?,
            PeerEffect::Respond {
                exchange,
                status,
                head,
                body,
                ..
            } => {
                if let Some((number, side)) = found(self, exchange) {
                    self.put(number, side, Item::Response(status, head));
                    self.write(number, side, body);
                    self.put(number, side, Item::End);
                    self.is_over(number, side);
                }
            }
            PeerEffect::Save {
                exchange,
                from,
                message,
                begun,
            } => {
                if let Some((number, _)) = found(self, exchange) {
                    self.begin_save(number, from, *message, &begun)?;
                }
            }
            PeerEffect::SaveEnd(id) => {
                if let Some((number, _)) = found(self, id) {
                    self.save(number)?;
                }
            }
            PeerEffect::SaveMore(id, bytes) => {
                if let Some((number, _)) = found(self, id) {
                    self.save_more(number, &bytes)?;
                }
            }
            PeerEffect::Tell(event) => self.tell(machine, event)?,
            PeerEffect::Write(id, bytes) => {
                if let Some((number, side)) = found(self, id) {
                    let way = self.way_of(number);
                    self.write_damaged(number, side, way, bytes)?;
                    self.drain(number, side);
                }
            }
        }
        Ok(())
    }

    /// A message of a peer is given to the node.
    fn deliver(&mut self, machine: usize, from: MemberId, message: Message) -> Verdict {
        let seen = Observation::Received {
            member: self.machines[machine].id,
            from,
            message: &message,
        };
        self.eyes.see(self.now, &seen)?;
        let id = self.machines[machine].id;
        let is_as_sent = append_of(from, id, &message).is_none_or(|append| self.wire.appends.contains(&append));
        ensure(is_as_sent, "C62", || {
            format!(
                "member {id} gets entries of {from} after {} that were not sent so",
                message.index
            )
        })?;
        let life = self.machines[machine].life.as_mut();
        if let Some(sent) = life.and_then(|life| life.snapshots_sent.get_mut(&from))
            && message.get_msg_type() == MessageType::MsgAppendResponse
            && message.term == sent.term
        {
            if message.index >= sent.index && !message.reject {
                sent.acknowledged = true;
            } else {
                // A late acknowledgement or rejection makes raft send again what follows it, which may not be in the
                // log any more.
                sent.arrived = None;
            }
        }
        self.mail(machine, Input::Message { from, message });
        Ok(())
    }

    /// A process cuts an exchange: its kernel loses what has not left, or not.
    fn closes(&mut self, number: u64, side: usize) {
        if let Some(exchange) = self.wire.exchanges.get_mut(&number) {
            exchange.pipes[side].lose(&mut self.wire.prng);
        }
        self.put(number, side, Item::Closed);
        self.is_over(number, side);
    }

    /// Puts an input for a node into its mailbox; the node takes its turn as soon as it can.
    pub(super) fn mail(&mut self, machine: usize, input: Input) {
        let Some(life) = &mut self.machines[machine].life else {
            return;
        };
        life.inbox.push(input);
        if !life.turn_is_due {
            life.turn_is_due = true;
            let life = life.number;
            self.queue.push(self.now, What::Turn { machine, life });
        }
    }

    /// The peer protocol tells its node something.
    fn tell(&mut self, machine: usize, event: PeerEvent) -> Verdict {
        let place = match &event {
            PeerEvent::Active(id) | PeerEvent::Inactive(id) => self.find(*id),
            _ => None,
        };
        if event == PeerEvent::RemovedUs {
            let id = self.machines[machine].id;
            let is_removed = self.newest_view().is_some_and(|view| view.cluster.is_removed(id));
            ensure(is_removed, "C58", || format!("member {id} believes that it is removed"))?;
        }
        let at = &mut self.machines[machine];
        if let Some(peer) = place {
            at.connected[peer] = matches!(event, PeerEvent::Active(_));
        }
        match &event {
            PeerEvent::RemovedUs if at.part == Part::Member => at.part = Part::Removed,
            PeerEvent::Snapshot { to, received } => {
                let life = at.life.as_mut();
                if let Some(sent) = life.and_then(|life| life.snapshots_sent.get_mut(to)) {
                    sent.arrived = received.then_some(self.now);
                }
                let waiting = at.life.as_mut().and_then(|life| life.snapshots_out.get_mut(to));
                let is_awaited = waiting.is_some_and(|waiting| {
                    *waiting = waiting.wrapping_sub(1);
                    *waiting != usize::MAX
                });
                let id = at.id;
                ensure(is_awaited, "C57", || {
                    format!("member {id} gets a second report of one snapshot to {to}")
                })?;
            }
            _ => {}
        }
        if self.eyes.traces() {
            self.eyes.note(self.now, format_args!("{machine} is told {event:?}"));
        }
        self.mail(machine, Input::Peer(event));
        Ok(())
    }

    /// A node sends a snapshot.
    pub(in super::super) fn send_snapshot_bytes(&mut self, machine: usize, job: Box<SnapshotJob>) -> Verdict {
        self.look_at_snapshot(machine, &job)?;
        let Some(life) = &mut self.machines[machine].life else {
            return Ok(());
        };
        let sent = Sent {
            index: job.message.get_snapshot().get_metadata().index,
            term: job.message.term,
            arrived: None,
            acknowledged: false,
        };
        life.snapshots_sent.insert(job.to, sent);
        *life.snapshots_out.entry(job.to).or_default() += 1;
        let number = life.number;
        self.step_transport(machine, number, PeerInput::Send(PeerJob::Snapshot(job)))
    }

    /// C59 and C60: a snapshot is needed, and its v2 state has all members.
    fn look_at_snapshot(&self, machine: usize, job: &SnapshotJob) -> Verdict {
        let (id, to) = (self.machines[machine].id, job.to);
        let data = &job.message.get_snapshot().data;
        let has = |path: String| data.windows(path.len()).any(|part| part == path.as_bytes());
        let missing = job.view.cluster.members();
        let missing = missing
            .map(|member| member.id)
            .find(|member| !has(format!("\"/0/members/{member}\"")));
        ensure(missing.is_none(), "C59", || {
            format!("member {id} sends {to} a snapshot whose v2 state lacks member {missing:?}")
        })?;
        let life = self.machines[machine].life.as_ref();
        let Some(last) = life.and_then(|life| life.snapshots_sent.get(&to)) else {
            return Ok(());
        };
        let is_recent = last
            .arrived
            .is_some_and(|at| self.now.saturating_since(at) < ENTRIES_KEPT);
        let receiver = self.find(to).and_then(|receiver| self.machines[receiver].view());
        let has_it = receiver.is_some_and(|view| view.applied_index >= last.index);
        let is_needless = is_recent && has_it && last.acknowledged && last.term == job.message.term;
        ensure(!is_needless, "C60", || {
            format!(
                "member {id} sends {to} another snapshot, although it has installed the one at {}",
                last.index
            )
        })
    }

    /// C57: a snapshot that is not on its way any more was reported.
    fn look_at_reports(&self, machine: usize, life: u64) -> Verdict {
        let Some(current) = self.machines[machine]
            .life
            .as_ref()
            .filter(|current| current.number == life)
        else {
            return Ok(());
        };
        let sent: usize = current.snapshots_out.values().sum();
        if sent == 0 {
            return Ok(());
        }
        let under_way = self.wire.exchanges.values().filter(|exchange| {
            let caller = &exchange.sides[CALLER];
            let is_own = caller.machine == machine && caller.life == life && caller.is_open;
            is_own && exchange.way == super::Way::Snapshot
        });
        let under_way = under_way.count();
        ensure(sent <= under_way, "C57", || {
            let id = self.machines[machine].id;
            format!("member {id} waits for reports of {sent} snapshots, of which {under_way} are under way")
        })
    }

    fn way_of(&self, number: u64) -> super::Way {
        let exchange = self.wire.exchanges.get(&number);
        exchange.map_or(super::Way::Version, |exchange| exchange.way)
    }
}
