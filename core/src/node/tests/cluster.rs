//! Three and five members: elections, replication, lost members, lost messages, loss of power, and linearizable reads.

use std::collections::BTreeSet;
use std::time::Duration;

use prost::Message as _;

use super::world::World;
use super::{put, value};
use crate::error::Error;
use crate::id::MemberId;
use crate::jobs::PeerJob;
use crate::member::Token;
use crate::node::{Effect, Input, Node, Request, Response};
use crate::proto::etcdserverpb::{CompactionRequest, InternalRaftRequest};
use crate::proto::raftpb::{Message, MessageType};

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Asserts that all running members have applied the same state and have these keys.
fn agree(world: &mut World, expected: &[(&str, &str)]) {
    world.run(millis(1_000));
    for (id, machine) in &world.machines {
        let Some(node) = &machine.node else { continue };
        for (key, text) in expected {
            assert_eq!(value(&node.view(), key).as_deref(), Some(*text), "{id} has {key}");
        }
    }
}

#[test]
fn the_commit_index_is_written_after_the_entries_it_covers() {
    let mut world = World::new(3, 9);
    let (leader, follower) = (world.leader(), world.followers()[0]);
    world.isolate(follower);
    world.call(leader, put("k", "v")).unwrap();
    let last = world.machines[&follower].disk.entries.last().unwrap().clone();
    let entries = &world.machines[&leader].disk.entries;
    let entry = entries
        .iter()
        .find(|entry| entry.index == last.index + 1)
        .unwrap()
        .clone();
    let message = Message {
        msg_type: MessageType::MsgAppend as i32,
        to: follower.0,
        from: leader.0,
        term: last.term,
        index: last.index,
        log_term: last.term,
        commit: entry.index,
        entries: vec![entry],
        ..Message::default()
    };
    // A tick is due in the turn of the message; the world asserts the order on every write.
    world.now = world.now + Duration::from_millis(150);
    world.step(follower, vec![Input::Message { from: leader, message }]);
    world.run(Duration::from_millis(10));
    assert_eq!(world.machines[&follower].disk.hard_state.commit, last.index + 1);
}

#[test]
fn a_member_whose_clock_was_set_back_repeats_no_id_of_a_run_that_logged_none_of_its_requests() {
    let mut world = World::new(3, 9);
    let (leader, follower) = (world.leader(), world.followers()[0]);
    let (now, term) = (world.now, world.machines[&leader].disk.hard_state.term);
    // Returns the id of the request that a run forwards to the leader. The run then loses power with nothing logged.
    let mut hands_on = |seed| {
        let machine = world.machine(follower);
        let (recovered, store) = machine.disk.restore();
        let mut node = Node::start(machine.config.clone(), recovered, store, seed, 0, now).unwrap();
        let heartbeat = Message {
            msg_type: MessageType::MsgHeartbeat as i32,
            to: follower.0,
            from: leader.0,
            term,
            ..Message::default()
        };
        let ask = Input::Request {
            token: Token(1),
            request: put("k", "w"),
            deadline: now + millis(1_000),
        };
        let mut effects = Vec::new();
        let heard = Input::Message {
            from: leader,
            message: heartbeat,
        };
        node.step(now, [heard, ask], &mut effects);
        let mut sent = effects.iter().filter_map(|effect| match effect {
            Effect::Peer(PeerJob::Messages { messages, .. }) => Some(messages),
            _ => None,
        });
        let is_handed_on = |message: &&Message| message.msg_type == MessageType::MsgPropose as i32;
        let message = sent.find_map(|messages| messages.iter().find(is_handed_on)).unwrap();
        let request = InternalRaftRequest::decode(message.entries[0].data.clone()).unwrap();
        request.header.unwrap().id
    };
    let ids: BTreeSet<u64> = (1..=20).map(&mut hands_on).collect();
    assert_eq!(ids.len(), 20, "{ids:x?}");
}

#[test]
fn three_and_five_members_elect_a_leader_and_replicate() {
    for size in [3, 5] {
        let mut world = World::new(size, size);
        let leader = world.leader();
        assert!(
            world.now.saturating_since(crate::time::Instant::ZERO) < millis(1_500),
            "soon after they found each other"
        );
        world.call(leader, put("a", "1")).unwrap();
        let follower = world.followers()[0];
        world.call(follower, put("b", "2")).unwrap();
        agree(&mut world, &[("a", "1"), ("b", "2")]);
    }
}

#[test]
fn a_promise_waits_for_its_batch() {
    // The world asserts on every message that everything it promises is on its sender's disk. Here disks are slower
    // than the network and than the heartbeat; still all members agree.
    let mut world = World::new(3, 7);
    for machine in world.machines.values_mut() {
        machine.sync_takes = millis(150);
    }
    let leader = world.leader();
    world.call(leader, put("a", "1")).unwrap();
    agree(&mut world, &[("a", "1")]);
}

#[test]
fn a_leaders_slow_disk_does_not_delay_commits() {
    let mut world = World::new(3, 3);
    let leader = world.leader();
    let follower = world.followers()[0];
    world.machine(leader).sync_takes = millis(400);
    let started = world.now;
    world.call(follower, put("a", "1")).unwrap();
    assert!(
        world.now.saturating_since(started) < millis(200),
        "two followers are a quorum"
    );
    let token = world.ask(leader, put("b", "1"));
    world.run(millis(100));
    assert!(
        !world.answers.contains_key(&token),
        "the leader applies only entries on its own disk"
    );
    world.wait(token).unwrap();
}

#[test]
fn a_leader_that_is_cut_off_commits_nothing_and_steps_down() {
    let mut world = World::new(3, 11);
    let old = world.leader();
    world.call(old, put("k", "before")).unwrap();
    let others = world.followers();
    world.isolate(old);
    world.run(millis(900));
    let lost = world.ask(old, put("k", "lost"));
    let stale = world.ask(old, Request::Read);
    let leads = |world: &World, id: &MemberId| world.node(*id).status().leads;
    while !others.iter().any(|id| leads(&world, id)) {
        world.run(millis(10));
    }
    let new = *others.iter().find(|id| leads(&world, id)).unwrap();
    world.call(new, put("k", "after")).unwrap();
    assert!(!world.answers.contains_key(&stale), "it cannot read without a quorum");
    world.heal();
    assert_eq!(
        world.wait(stale),
        Ok(Response::Read),
        "asked again under the new leader"
    );
    assert_eq!(
        value(&world.node(old).view(), "k"),
        Some("after".into()),
        "the read is not older than the write before it"
    );
    assert_eq!(world.wait(lost), Err(Error::TimeoutLeaderFail));
    agree(&mut world, &[("k", "after")]);
}

#[test]
fn a_leader_without_a_quorum_steps_down() {
    let mut world = World::new(3, 12);
    let leader = world.leader();
    for follower in world.followers() {
        world.crash(follower);
    }
    world.run(millis(2_500));
    let status = world.node(leader).status();
    assert!(!status.leads && status.leader == MemberId::NONE);
}

#[test]
fn a_read_sees_every_write_that_was_answered_before_it() {
    let mut world = World::new(3, 5);
    let leader = world.leader();
    let follower = world.followers()[1];
    for round in 0..20 {
        let text = round.to_string();
        world.call(leader, put("k", &text)).unwrap();
        world.call(follower, Request::Read).unwrap();
        assert_eq!(value(&world.node(follower).view(), "k"), Some(text));
    }
}

#[test]
fn lost_messages_and_restarts_lose_no_acknowledged_write() {
    for seed in 0..6 {
        let mut world = World::new(3, seed);
        world.leader();
        let mut acknowledged = Vec::new();
        for round in 0_u64..40 {
            world.loss_percent = world.prng.below(30);
            let id = MemberId(world.prng.range(1..4));
            if world.machines[&id].node.is_none() {
                world.start(id);
                world.connect(id);
            } else if world.prng.below(4) == 0 {
                world.crash(id);
                continue;
            }
            let (key, text) = (format!("k{round}"), round.to_string());
            let token = world.ask(id, put(&key, &text));
            world.run(millis(300));
            if let Some(Ok(_)) = world.answers.get(&token) {
                acknowledged.push((key, text));
            }
        }
        world.heal();
        let down: Vec<_> = world
            .machines
            .iter()
            .filter(|(_, machine)| machine.node.is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in down {
            world.start(id);
            world.connect(id);
        }
        let leader = world.leader();
        world.call(leader, put("end", "yes")).unwrap();
        agree(&mut world, &[("end", "yes")]);
        assert!(
            acknowledged.len() >= 10,
            "seed {seed}: {} were answered",
            acknowledged.len()
        );
        for (key, text) in acknowledged {
            assert_eq!(value(&world.node(leader).view(), &key), Some(text), "seed {seed}");
        }
    }
}

#[test]
fn loss_of_power_of_all_members_loses_no_acknowledged_write() {
    let mut world = World::new(3, 21);
    let leader = world.leader();
    for round in 0..30 {
        world.call(leader, put(&format!("k{round}"), "v")).unwrap();
    }
    for id in 1..=3 {
        world.crash(MemberId(id));
    }
    for id in 1..=3 {
        world.start(MemberId(id));
    }
    world.leader();
    for round in 0..30 {
        agree_now(&world, &format!("k{round}"));
    }
}

fn agree_now(world: &World, key: &str) {
    for machine in world.machines.values() {
        let view = machine.node.as_ref().unwrap().view();
        assert_eq!(value(&view, key), Some("v".into()), "{key}");
    }
}

#[test]
fn proposals_wait_for_a_leader_and_time_out_without_one() {
    let mut world = World::new(3, 2);
    let token = world.ask(MemberId(1), put("early", "v"));
    world.leader();
    assert!(world.wait(token).is_ok(), "it was proposed before there was a leader");
    world.crash(MemberId(2));
    world.crash(MemberId(3));
    world.run(millis(3_000));
    let started = world.now;
    assert_eq!(world.call(MemberId(1), put("k", "v")), Err(Error::Timeout));
    let waited = world.now.saturating_since(started);
    assert!(
        (millis(7_000)..millis(7_100)).contains(&waited),
        "five seconds and two elections: {waited:?}"
    );
    let token = world.ask_within(MemberId(1), Request::Read, millis(300));
    world.run(millis(310));
    assert_eq!(
        world.answers.get(&token),
        Some(&Err(Error::Timeout)),
        "a client may set a shorter deadline"
    );
}

#[test]
fn leadership_moves_on_request_and_on_stopping() {
    let mut world = World::new(3, 4);
    let first = world.leader();
    let second = world.followers()[0];
    assert_eq!(
        world.call(second, Request::MoveLeader { to: first }),
        Err(Error::NotLeader)
    );
    assert_eq!(
        world.call(first, Request::MoveLeader { to: MemberId(9) }),
        Err(Error::BadLeaderTransferee)
    );
    assert_eq!(
        world.call(first, Request::MoveLeader { to: second }),
        Ok(Response::Moved)
    );
    assert_eq!(world.leader(), second);
    let started = world.now;
    world.ask(second, Request::Stop);
    world.run(millis(50));
    assert_eq!(world.machines[&second].halt, Some(crate::member::Halt::Stopped));
    world.machine(second).node = None;
    world.leader();
    assert!(
        world.now.saturating_since(started) < millis(500),
        "no member waits for an election timeout"
    );
}

#[test]
fn a_lagging_member_catches_up_from_the_log() {
    let mut world = World::new(3, 8);
    let leader = world.leader();
    let behind = world.followers()[0];
    world.isolate(behind);
    for round in 0..200 {
        world.call(leader, put("k", &round.to_string())).unwrap();
    }
    world.heal();
    agree(&mut world, &[("k", "199")]);
    assert_eq!(
        world.leader(),
        leader,
        "a member that was isolated does not disturb the leader"
    );
}

#[test]
fn malformed_messages_are_ignored() {
    use crate::node::Input;
    use crate::proto::raftpb::Message;
    let mut world = World::new(3, 6);
    let leader = world.leader();
    let follower = world.followers()[0];
    for (to, from) in [(leader, follower), (follower, leader)] {
        for msg_type in -1..40 {
            for term in [0, 1, 2, 50] {
                let message = Message {
                    msg_type,
                    to: to.0,
                    from: 77,
                    term,
                    ..Message::default()
                };
                world.step(
                    to,
                    vec![Input::Message {
                        from: MemberId(77),
                        message: message.clone(),
                    }],
                );
                if term < 50 {
                    let message = Message {
                        from: from.0,
                        ..message
                    };
                    world.step(to, vec![Input::Message { from, message }]);
                }
            }
        }
    }
    world.leader();
    let leader = world.leader();
    world.call(leader, put("k", "v")).unwrap();
    agree(&mut world, &[("k", "v")]);
}

#[test]
fn every_member_frees_the_space_of_a_compaction() {
    let mut world = World::new(3, 6);
    let leader = world.leader();
    for round in 0..30 {
        world.call(leader, put("k", &round.to_string())).unwrap();
    }
    let compact = Request::Compact(CompactionRequest {
        revision: 30,
        physical: true,
    });
    world.call(leader, compact).unwrap();
    agree(&mut world, &[("k", "29")]);
    for id in 1..=3 {
        let kept = world.machines[&MemberId(id)].disk.keys();
        assert_eq!(kept, 2, "{id} keeps the revision compacted to and the one after");
    }
}
