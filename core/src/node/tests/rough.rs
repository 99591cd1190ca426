//! Random requests and faults of every kind. The world asserts its invariants after every step; at the end acknowledged
//! writes are there, and every member with a quorum can write.

use std::collections::BTreeSet;
use std::time::Duration;

use super::disk::Disk;
use super::world::World;
use super::{put, value};
use crate::id::MemberId;
use crate::member::Halt;
use crate::node::{Request, Response};
use crate::proto::etcdserverpb::{CompactionRequest, LeaseGrantRequest};
use crate::store;

/// A world, the members that were removed, and the acknowledged writes.
struct Life {
    world: World,
    removed: BTreeSet<MemberId>,
    acknowledged: Vec<(String, String)>,
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Life {
    fn new(seed: u64) -> Self {
        let size = [1, 2, 3, 3, 5][usize::try_from(seed % 5).unwrap()];
        let world = World::with(size, seed, |config| {
            config.member.lease_checkpoint = seed.is_multiple_of(2);
            config.member.strict_reconfig_check = !seed.is_multiple_of(3);
            config.member.pre_vote = !seed.is_multiple_of(7);
            config.compaction_batch_limit = 3;
            if seed.is_multiple_of(4) {
                config.member.snapshot_count = 15;
                config.member.snapshot_catchup_entries = 4;
            }
        });
        Self {
            world,
            removed: BTreeSet::new(),
            acknowledged: Vec::new(),
        }
    }

    /// Any member that was not removed.
    fn anyone(&mut self) -> MemberId {
        let members = self.world.machines.keys().filter(|id| !self.removed.contains(id));
        let members: Vec<MemberId> = members.copied().collect();
        let place = self.world.prng.below(members.len() as u64);
        members[usize::try_from(place).unwrap()]
    }

    /// Restarts members that stopped, and takes out members that were removed.
    fn bury(&mut self) {
        for id in self.world.machines.keys().copied().collect::<Vec<_>>() {
            match self.world.machines[&id].halt.clone() {
                None => {}
                Some(Halt::Fault(fault)) => panic!("{id} ended by a fault: {fault}"),
                Some(Halt::Removed) => {
                    self.world.machine(id).node = None;
                    self.removed.insert(id);
                }
                Some(Halt::Stopped) => self.revive(id),
            }
        }
    }

    fn revive(&mut self, id: MemberId) {
        self.world.start(id);
        self.world.connect(id);
    }

    /// One request or one fault.
    fn live(&mut self, round: u64) {
        let id = self.anyone();
        if self.world.machines[&id].node.is_none() {
            return self.revive(id);
        }
        let slow = self.world.prng.below(120);
        self.world.machine(id).sync_takes = millis(if slow > 100 { 2_000 } else { slow / 10 });
        match self.world.prng.below(20) {
            0 | 1 => self.world.crash(id),
            2 => self.world.isolate(id),
            3 | 4 => self.world.heal(),
            5 => self.ask(id, Request::LeaseGrant(LeaseGrantRequest { id: 7, ttl: 3 })),
            6 => self.ask(id, Request::LeaseRenew { id: 7 }),
            7 => self.compact(id),
            8 => {
                let to = self.anyone();
                self.ask(id, Request::MoveLeader { to });
            }
            9 => self.grow(id, round),
            10 if self.world.machines.len() > 2 => {
                let gone = self.anyone();
                self.ask(id, Request::MemberRemove { id: gone });
            }
            11 => {
                let learner = self.anyone();
                self.ask(id, Request::MemberPromote { id: learner });
            }
            12 => self.ask(id, Request::Read),
            13 => {
                let asleep = self.world.machine(id).node.take();
                self.world.run(millis(2_500));
                self.world.machine(id).node = asleep;
            }
            14 => self.ask(id, Request::Stop),
            _ => self.write(id, round),
        }
    }

    fn ask(&mut self, id: MemberId, request: Request) {
        self.world.ask(id, request);
    }

    fn compact(&mut self, id: MemberId) {
        let revision = i64::try_from(self.world.prng.range(1..40)).unwrap();
        self.ask(
            id,
            Request::Compact(CompactionRequest {
                revision,
                physical: true,
            }),
        );
    }

    /// Adds a member, and starts it once it is part of the cluster.
    fn grow(&mut self, id: MemberId, round: u64) {
        if self.world.machines.len() >= 7 {
            return;
        }
        let add = Request::MemberAdd {
            peer_urls: vec![format!("http://n{round}:1")],
            is_learner: self.world.prng.below(2) == 0,
            unix_seconds: round,
        };
        let token = self.world.ask(id, add);
        self.world.run(millis(1_500));
        let answer = self.world.answers.get(&token).cloned();
        let Some(Ok(Response::Applied(store::Response::Members(members)))) = answer else {
            return;
        };
        for member in members {
            if !self.world.machines.contains_key(&member.id) {
                self.world.add_machine(member.id, Disk::default(), |_| {});
                self.revive(member.id);
            }
        }
    }

    fn write(&mut self, id: MemberId, round: u64) {
        let (key, text) = (format!("k{round}"), round.to_string());
        let token = self.world.ask(id, put(&key, &text));
        self.world.run(millis(300));
        if let Some(Ok(_)) = self.world.answers.get(&token) {
            self.acknowledged.push((key, text));
        }
    }

    /// Heals everything, and checks the end state.
    fn end(mut self, seed: u64) {
        self.world.heal();
        self.bury();
        for id in self.world.machines.keys().copied().collect::<Vec<_>>() {
            self.world.machine(id).sync_takes = millis(1);
            if self.world.machines[&id].node.is_none() && !self.removed.contains(&id) {
                self.revive(id);
            }
        }
        self.world.run(Duration::from_secs(20));
        self.bury();
        let nodes = self.world.machines.values().filter_map(|machine| machine.node.as_ref());
        let newest = nodes.max_by_key(|node| node.status().applied_index).unwrap().view();
        let voters = newest.cluster.conf_state().voters.clone();
        let is_up = |id: &MemberId| {
            self.world
                .machines
                .get(id)
                .is_some_and(|machine| machine.node.is_some())
        };
        let up: Vec<MemberId> = voters.iter().map(|id| MemberId(*id)).filter(is_up).collect();
        if up.len() * 2 > voters.len() {
            let written = self.world.call(up[0], put("end", "yes"));
            assert!(
                written.is_ok(),
                "seed {seed}: {up:?} of {voters:?} are up, and {written:?}"
            );
        }
        for (key, text) in self.acknowledged {
            assert_eq!(value(&newest, &key), Some(text), "seed {seed}: {key} was answered");
        }
    }
}

#[test]
fn after_any_faults_acknowledged_writes_remain_and_a_quorum_can_write() {
    for seed in 0..60 {
        let mut life = Life::new(seed);
        for round in 0..80 {
            life.world.loss_percent = life.world.prng.below(25);
            life.bury();
            life.live(round);
            let pause = life.world.prng.below(400);
            life.world.run(millis(pause));
        }
        life.end(seed);
    }
}
