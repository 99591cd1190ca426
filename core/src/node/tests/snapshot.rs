//! A follower that is too far behind for the log is sent a snapshot, and then has the same state as the others.

use std::time::Duration;

use super::disk::{Disk, Step};
use super::watching::{Watching, history};
use super::world::World;
use super::{put, value};
use crate::id::MemberId;
use crate::member::DropReason;
use crate::node::{Input, Request};
use crate::proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest};
use crate::proto::raftpb::{Message, MessageType, Snapshot, SnapshotMetadata};
use crate::store;

/// Members that keep only the last entries of the log.
fn world(size: u64, seed: u64) -> World {
    World::with(size, seed, |config| {
        config.member.snapshot_count = 10;
        config.member.snapshot_catchup_entries = 3;
        config.compaction_batch_limit = 3;
    })
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Writes something of every kind.
fn write(world: &mut World, id: MemberId, rounds: std::ops::Range<u64>) {
    for round in rounds {
        world
            .call(id, put(&format!("k{}", round % 7), &round.to_string()))
            .unwrap();
    }
    let lease = world.node(id).view().kv.revision();
    let grant = LeaseGrantRequest { id: lease, ttl: 600 };
    world.call(id, Request::LeaseGrant(grant)).unwrap();
    let leased = PutRequest {
        key: "leased".into(),
        lease,
        ..PutRequest::default()
    };
    world.call(id, Request::Put(leased)).unwrap();
    let delete = DeleteRangeRequest {
        key: "k1".into(),
        ..DeleteRangeRequest::default()
    };
    world.call(id, Request::DeleteRange(delete)).unwrap();
}

fn compact(world: &mut World, id: MemberId, revision: i64) {
    let request = CompactionRequest {
        revision,
        physical: true,
    };
    world.call(id, Request::Compact(request)).unwrap();
}

fn rows(view: &store::View) -> Vec<crate::snapshot::SnapshotRow> {
    view.all_rows().collect()
}

/// Asserts that all members have the same state, down to the rows of the table.
fn assert_alike(world: &mut World) {
    let leader = world.leader();
    world.run(secs(2));
    let expected = world.node(leader).view();
    for id in world.followers() {
        let view = world.node(id).view();
        assert_eq!(view.applied_index, expected.applied_index, "{id} has caught up");
        assert_eq!(rows(&view), rows(&expected), "{id} has the same rows");
    }
}

/// A world whose last follower was isolated and is too far behind for the log; returns that follower too.
fn left_behind(seed: u64) -> (World, MemberId) {
    let mut world = world(3, seed);
    let behind = world.followers()[1];
    let leader = world.leader();
    write(&mut world, leader, 0..5);
    world.run(secs(1));
    world.isolate(behind);
    write(&mut world, leader, 5..40);
    (world, behind)
}

#[test]
fn a_follower_far_behind_is_sent_a_snapshot_and_goes_on_from_there() {
    let (mut world, behind) = left_behind(1);
    world.heal();
    assert_alike(&mut world);
    assert_eq!(world.machines[&behind].installed, 1);
    assert!(
        world.machines[&behind].disk.received.is_empty(),
        "the received state is removed"
    );
    let leader = world.leader();
    write(&mut world, leader, 40..60);
    assert_alike(&mut world);
    assert_eq!(world.machines[&behind].installed, 1, "the log suffices from there on");
    world.call(behind, put("k", "through the lagging follower")).unwrap();
}

#[test]
fn an_unfinished_compaction_continues_after_a_snapshot() {
    let (mut world, behind) = left_behind(2);
    let leader = world.leader();
    let revision = world.node(leader).view().kv.revision();
    compact(&mut world, leader, revision - 10);
    // The second compaction is not finished when the snapshot leaves.
    let request = CompactionRequest {
        revision: revision - 2,
        physical: false,
    };
    world.heal();
    world.call(leader, Request::Compact(request)).unwrap();
    assert_alike(&mut world);
    assert_eq!(world.machines[&behind].installed, 1);
    assert_eq!(world.node(behind).view().kv.compact_revision(), revision - 2);
}

#[test]
fn a_snapshot_with_a_state_of_another_index_term_or_configuration_is_refused() {
    let (mut world, behind) = left_behind(9);
    let leader = world.leader();
    let older = world.node(leader).view();
    write(&mut world, leader, 40..45);
    let newer = world.node(leader).view();
    let conf_state = newer.cluster.conf_state().clone();
    let metadata = SnapshotMetadata {
        conf_state: Some(conf_state.clone()),
        index: newer.applied_index,
        term: newer.term,
    };
    let mut other_voters = conf_state;
    other_voters.voters.pop();
    let wrong = [
        ("an older state", metadata.clone(), &older),
        (
            "another term",
            SnapshotMetadata {
                term: metadata.term - 1,
                ..metadata.clone()
            },
            &newer,
        ),
        (
            "another configuration",
            SnapshotMetadata {
                conf_state: Some(other_voters),
                ..metadata.clone()
            },
            &newer,
        ),
        (
            "a later index",
            SnapshotMetadata {
                index: metadata.index + 1,
                ..metadata.clone()
            },
            &newer,
        ),
    ];
    let (term, before) = (
        world.node(leader).status().term,
        world.node(behind).view().applied_index,
    );
    let mut is_taken = |metadata: SnapshotMetadata, view: &store::View| {
        let snapshot = Snapshot {
            metadata: Some(metadata),
            ..Snapshot::default()
        };
        let message = Message {
            msg_type: MessageType::MsgSnapshot as i32,
            from: leader.0,
            to: behind.0,
            term,
            snapshot: Some(snapshot),
            ..Message::default()
        };
        let rows = rows(view);
        let store = Box::new(crate::snapshot::restore(store::StoreConfig::default(), &rows).unwrap());
        world.machine(behind).disk.received.insert(view.applied_index, rows);
        let from = leader;
        world.machine(behind).tallies.clear();
        world.step(behind, vec![Input::Snapshot { from, message, store }]);
        let tallies = &world.machines[&behind].tallies;
        let dropped = tallies.iter().flat_map(|tally| &tally.dropped);
        let said: Vec<_> = dropped
            .map(|dropped| (dropped.from, dropped.reason, dropped.count))
            .collect();
        (world.node(behind).status().is_installing, said)
    };
    for (what, metadata, view) in wrong {
        let expected = (false, vec![(leader, DropReason::Snapshot, 1)]);
        assert_eq!(is_taken(metadata, view), expected, "{what}");
    }
    assert_eq!(is_taken(metadata, &newer), (true, Vec::new()), "its own state is taken");
    assert!(before < newer.applied_index);
}

#[test]
fn rows_that_wait_for_the_table_are_not_written_over_an_installed_state() {
    let mut world = world(3, 19);
    let behind = world.followers()[1];
    let leader = world.leader();
    // When the member is isolated, more batches wait than its lane takes.
    world.machine(behind).table_takes = secs(20);
    for round in 0..12 {
        write(&mut world, leader, round..round + 1);
        world.run(Duration::from_millis(200));
    }
    world.isolate(behind);
    write(&mut world, leader, 12..60);
    let revision = world.node(leader).view().kv.revision();
    compact(&mut world, leader, revision - 1);
    world.heal();
    assert_alike(&mut world);
    assert_eq!(world.machines[&behind].installed, 1);
    world.machine(behind).table_takes = Duration::from_millis(5);
    write(&mut world, leader, 60..62);
    world.run(secs(120));
    assert_alike(&mut world);
    let found: Vec<_> = world.machines[&behind].disk.table().view().all_rows().collect();
    assert_eq!(found, rows(&world.node(leader).view()));
}

#[test]
fn a_restart_keeps_the_installed_state() {
    let (mut world, behind) = left_behind(3);
    world.heal();
    assert_alike(&mut world);
    world.crash(behind);
    world.start(behind);
    world.connect(behind);
    assert_alike(&mut world);
    assert_eq!(world.machines[&behind].installed, 1);
}

#[test]
fn a_crash_at_any_step_leaves_the_old_state_or_the_new_one() {
    let steps = [
        Step::Received,
        Step::Told,
        Step::Installed,
        Step::Replaced,
        Step::Cleared,
    ];
    for (seed, step) in (10..).zip(steps) {
        let (mut world, behind) = left_behind(seed);
        let before = world.node(behind).view().applied_index;
        world.machine(behind).dies_at = Some(step);
        world.heal();
        world.run(secs(5));
        assert_eq!(world.machines[&behind].dies_at, None, "{step:?} was reached");
        assert!(world.machines[&behind].node.is_none(), "{step:?} killed it");
        world.start(behind);
        let after = world.node(behind).view().applied_index;
        let is_new = matches!(step, Step::Installed | Step::Replaced | Step::Cleared);
        assert_eq!(
            after > before,
            is_new,
            "{step:?}: applied {before} before and {after} after"
        );
        world.connect(behind);
        assert_alike(&mut world);
        world.crash(behind);
        world.start(behind);
        world.connect(behind);
        assert_alike(&mut world);
    }
}

#[test]
fn a_restarted_leader_sends_a_snapshot_if_its_log_is_too_short() {
    let mut world = world(3, 4);
    let behind = world.followers()[1];
    let all: Vec<MemberId> = world.machines.keys().copied().collect();
    let leader = world.leader();
    world.isolate(behind);
    write(&mut world, leader, 0..30);
    world.run(secs(2));
    for id in all.iter().filter(|id| **id != behind) {
        // Memory has room for all entries, so only the log on disk can be too short.
        world.machine(*id).config.member.snapshot_catchup_entries = 10_000;
        world.crash(*id);
    }
    for id in all.iter().filter(|id| **id != behind) {
        world.start(*id);
    }
    world.heal();
    all.iter().for_each(|id| world.connect(*id));
    assert_alike(&mut world);
    assert_eq!(world.machines[&behind].installed, 1);
}

#[test]
fn a_learner_with_an_empty_disk_is_sent_a_snapshot() {
    let mut world = world(1, 5);
    write(&mut world, MemberId(1), 0..30);
    world.run(secs(6));
    let add = Request::MemberAdd {
        peer_urls: vec!["http://new:1".to_owned()],
        is_learner: true,
        unix_seconds: 1,
    };
    world.call(MemberId(1), add).unwrap();
    let view = world.node(MemberId(1)).view();
    let id = view.cluster.members().find(|member| member.is_learner).unwrap().id;
    world.add_machine(id, Disk::default(), |_| {});
    world.start(id);
    world.connect(id);
    assert_alike(&mut world);
    assert_eq!(world.machines[&id].installed, 1);
    assert_eq!(value(&world.node(id).view(), "k0"), Some("28".into()));
}

#[test]
fn no_message_leaves_before_the_snapshot_is_durable() {
    // The world asserts this on every message. Here many messages arrive while the disk is still syncing the snapshot.
    let (mut world, behind) = left_behind(6);
    world.machine(behind).sync_takes = Duration::from_millis(700);
    world.heal();
    let leader = world.leader();
    for round in 0..20 {
        world.ask(leader, put("busy", &round.to_string()));
        world.run(Duration::from_millis(100));
    }
    world.machine(behind).sync_takes = Duration::from_millis(1);
    // The disk first finishes its slow writes.
    world.run(secs(20));
    assert_alike(&mut world);
    assert!(world.machines[&behind].installed >= 1);
}

#[test]
fn watchers_get_every_event_once_across_a_snapshot() {
    let (mut world, behind) = left_behind(7);
    let view = world.node(behind).view().kv;
    let (now, seen) = (world.now, view.revision());
    let mut watching = Watching::new(now, view);
    let future = seen + 60;
    for (id, start) in [(1, 0), (2, 2), (3, future), (4, seen + 20)] {
        watching.watch(now, id, start);
    }
    world.machine(behind).hub = Some(watching);
    world.heal();
    assert_alike(&mut world);
    let leader = world.leader();
    write(&mut world, leader, 40..80);
    assert_alike(&mut world);
    let view = world.node(behind).view().kv;
    let watching = world.machine(behind).hub.take().unwrap();
    assert_eq!(watching.restored, 1);
    assert!(view.revision() > future);
    for (id, start) in [(1, seen + 1), (2, 2), (3, future), (4, seen + 20)] {
        assert_eq!(watching.seen[&id], history(&view, start), "watch {id} from {start}");
    }
}

#[test]
fn a_watcher_whose_next_events_are_compacted_in_the_snapshot_is_cancelled() {
    let (mut world, behind) = left_behind(8);
    let view = world.node(behind).view().kv;
    let (now, seen) = (world.now, view.revision());
    let mut watching = Watching::new(now, view);
    for (id, start) in [(1, 0), (2, 2), (3, seen + 100), (4, seen + 10)] {
        watching.watch(now, id, start);
    }
    let had = watching.seen[&2].clone();
    world.machine(behind).hub = Some(watching);
    let leader = world.leader();
    compact(&mut world, leader, seen + 10);
    world.heal();
    assert_alike(&mut world);
    let view = world.node(behind).view().kv;
    let watching = world.machine(behind).hub.take().unwrap();
    let told: Vec<_> = watching
        .compacted
        .iter()
        .map(|(id, revision)| (*id, *revision))
        .collect();
    assert_eq!(
        told,
        [(1, seen + 10), (2, seen + 10)],
        "the watcher that had seen everything lacks the compacted events"
    );
    assert_eq!(watching.seen[&1], [], "and gets no event after the gap");
    assert_eq!(watching.seen[&2], had, "nor does the watcher that began earlier");
    assert_eq!(watching.seen[&3], []);
    assert_eq!(watching.seen[&4], history(&view, seen + 10));
}

#[test]
fn snapshots_work_under_random_crashes_and_losses() {
    for seed in 100..140 {
        let mut world = world(3, seed);
        for round in 0..8_u64 {
            let victim = MemberId(1 + world.prng.below(3));
            match world.prng.below(4) {
                0 if world.machines[&victim].node.is_some() => world.crash(victim),
                1 => world.isolate(victim),
                _ => world.loss_percent = world.prng.below(25),
            }
            for write in 0..25_u64 {
                let id = MemberId(1 + world.prng.below(3));
                if world.machines[&id].node.is_some() {
                    world.ask(id, put(&format!("k{}", write % 5), &format!("{seed} {round} {write}")));
                }
                world.run(Duration::from_millis(30));
            }
            world.heal();
            for id in [1, 2, 3].map(MemberId) {
                let takes = world.prng.below(300);
                world.machine(id).sync_takes = Duration::from_millis(takes);
                if world.machines[&id].node.is_none() {
                    world.start(id);
                    world.connect(id);
                }
            }
            world.run(secs(2));
        }
        for id in [1, 2, 3].map(MemberId) {
            world.machine(id).sync_takes = Duration::from_millis(1);
        }
        world.run(secs(10));
        assert_alike(&mut world);
    }
}

#[test]
fn a_snapshot_that_takes_long_is_not_followed_by_another_one() {
    let (mut world, behind) = left_behind(21);
    world.snapshot_takes = secs(3);
    world.heal();
    let leader = world.leader();
    for round in 0..8 {
        // Each round writes more than the members keep of the log.
        write(&mut world, leader, round * 5..round * 5 + 5);
        world.run(Duration::from_millis(300));
    }
    world.run(secs(4));
    assert_eq!(world.machines[&behind].installed, 1, "it goes on from the log");
    assert_alike(&mut world);
}
