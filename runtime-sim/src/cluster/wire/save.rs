//! Receives snapshots: each piece of a file is written as it arrives, as the threads of the real host do it. A process
//! that dies meanwhile leaves a part of the file.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quoin_core::id::MemberId;
use quoin_core::limits::PEER_SNAPSHOTS_ARRIVING;
use quoin_core::node::Input;
use quoin_core::peer::PeerInput;
use quoin_core::proto::raftpb::Message;
use quoin_runtime::received::Arriving;

use super::super::World;
use super::super::member::Doom;
use super::super::nemesis::Fault;
use super::{ANSWERER, Exchange};
use crate::observe::Verdict;

/// The greatest time between two snapshots that follow each other closely.
const CLOSELY: Duration = Duration::from_secs(2);

/// A snapshot whose file is arriving.
#[derive(Debug)]
pub(super) struct Saving {
    from: MemberId,
    message: Message,
    file: Arriving,
}

impl Saving {
    /// The exchange broke off: what was written is removed.
    pub(super) fn give_up(self) {
        self.file.give_up();
    }
}

impl World<'_> {
    /// The message of a snapshot has arrived, and the first bytes of its file.
    pub(super) fn begin_save(&mut self, number: u64, from: MemberId, message: Message, begun: &Bytes) -> Verdict {
        let Some(machine) = self.saver(number) else {
            return Ok(());
        };
        let is_arriving = |exchange: &&Exchange| {
            let side = &exchange.sides[ANSWERER];
            side.machine == machine && side.saving.is_some()
        };
        if self.wire.exchanges.values().filter(is_arriving).count() >= PEER_SNAPSHOTS_ARRIVING {
            self.wire.met.snapshots_refused += 1;
            return self.saved(number, Err("another snapshot is being received".to_owned()));
        }
        let last = self.wire.saved_at.get(&machine);
        let is_close = last.is_some_and(|last| self.now.saturating_since(*last) < CLOSELY);
        self.wire.met.snapshots_close += u64::from(is_close);
        let site = &self.machines[machine].site;
        let index = message.get_snapshot().get_metadata().index;
        let file = Arriving::begin(Arc::new(site.disk.clone()), &site.dirs().snap(), index);
        if site.fuse.blown() {
            return self.dies(machine);
        }
        let file = match file {
            Ok(file) => file,
            Err(fault) => return self.saved(number, Err(fault.to_string())),
        };
        if let Some(exchange) = self.wire.exchanges.get_mut(&number) {
            exchange.sides[ANSWERER].saving = Some(Box::new(Saving { from, message, file }));
        }
        self.save_more(number, begun)
    }

    /// Bytes of a snapshot's file have arrived. A planned death may be due before all of them are written.
    pub(super) fn save_more(&mut self, number: u64, bytes: &Bytes) -> Verdict {
        let Some(machine) = self.saver(number) else {
            return Ok(());
        };
        let death = self.death_while_arriving(number);
        let exchange = self.wire.exchanges.get_mut(&number);
        let Some(side) = exchange.map(|exchange| &mut exchange.sides[ANSWERER]) else {
            return Ok(());
        };
        let Some(saving) = &mut side.saving else { return Ok(()) };
        let room = death.map_or(u64::MAX, |(_, last)| last.saturating_sub(saving.file.len()));
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let written = saving.file.write(&bytes[..bytes.len().min(room)]);
        if self.machines[machine].site.fuse.blown() {
            return self.dies(machine);
        }
        if let Err(fault) = written {
            if let Some(saving) = side.saving.take() {
                saving.give_up();
            }
            return self.saved(number, Err(fault.to_string()));
        }
        match death {
            Some((planned, _)) if bytes.len() >= room => self.dies_while_arriving(machine, planned),
            _ => Ok(()),
        }
    }

    /// The planned fault by which the receiver of a snapshot dies, and how many bytes of the file are written before.
    fn death_while_arriving(&self, number: u64) -> Option<(usize, u64)> {
        let exchange = self.wire.exchanges.get(&number)?;
        let is_doomed = self.machines[exchange.sides[ANSWERER].machine].doom.is_some();
        let mut planned = self.plan.faults.iter().enumerate();
        let due = planned.find_map(|(place, planned)| match planned.fault {
            Fault::ArrivalCrash { tenth, .. } if planned.at <= self.now && self.now < planned.until => {
                Some((place, exchange.file_bytes * tenth / 10))
            }
            _ => None,
        });
        due.filter(|_| !is_doomed && !self.healed)
    }

    fn dies_while_arriving(&mut self, machine: usize, planned: usize) -> Verdict {
        let fault = self.plan.faults[planned].fault;
        let Fault::ArrivalCrash {
            tenth,
            points,
            power,
            away_ms,
        } = fault
        else {
            return Ok(());
        };
        self.wire.met.killed_at_tenths[tenth.min(10) as usize] += 1;
        let at = &mut self.machines[machine];
        at.doom = Some(Doom {
            planned,
            kind: fault.kind(),
            power,
            away: Duration::from_millis(away_ms),
            again: 0,
            points: 0,
        });
        if tenth < 10 {
            return self.dies(machine);
        }
        // The file is complete: it dies while it makes the file durable, or soon after.
        at.site.fuse.set(points);
        Ok(())
    }

    /// A snapshot's file is complete: it is checked and made durable, then its state is given to the node.
    pub(super) fn save(&mut self, number: u64) -> Verdict {
        let Some(machine) = self.saver(number) else {
            return Ok(());
        };
        let exchange = self.wire.exchanges.get_mut(&number);
        let Some(saving) = exchange.and_then(|exchange| exchange.sides[ANSWERER].saving.take()) else {
            return Ok(());
        };
        let Saving { from, message, file } = *saving;
        let at = &mut self.machines[machine];
        at.look_at_clock(self.now);
        let index = message.get_snapshot().get_metadata().index;
        let saved = file.finish(at.site.config.store_config(), |file| file.sync_data());
        if at.site.fuse.blown() {
            return self.dies(machine);
        }
        self.eyes.mix([self.now.as_nanos(), index, u64::from(saved.is_ok())]);
        self.eyes.note(
            self.now,
            format_args!("{machine} got a snapshot at {index}: {:?}", saved.as_ref().err()),
        );
        let result = saved.map_err(|fault| fault.to_string()).map(|store| {
            let store = Box::new(store);
            self.mail(machine, Input::Snapshot { from, message, store });
            let is_resent = self.wire.cut_snapshots.remove(&machine);
            self.wire.met.snapshots_resent += u64::from(is_resent);
            self.wire.saved_at.insert(machine, self.now);
        });
        self.saved(number, result)
    }

    /// The machine that receives by an exchange, if the process that began to is still there.
    fn saver(&self, number: u64) -> Option<usize> {
        let side = &self.wire.exchanges.get(&number)?.sides[ANSWERER];
        let life = self.machines[side.machine].life.as_ref()?;
        (side.is_open && life.number == side.life).then_some(side.machine)
    }

    fn saved(&mut self, number: u64, result: Result<(), String>) -> Verdict {
        self.input_to(number, ANSWERER, |exchange| PeerInput::Saved(exchange, result))
    }
}
