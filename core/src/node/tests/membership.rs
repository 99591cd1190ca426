//! Changes of membership through the node.

use std::time::Duration;

use prost::Message as _;

use super::disk::Disk;
use super::world::World;
use super::{put, value};
use crate::error::Error;
use crate::id::MemberId;
use crate::member::Halt;
use crate::membership::Member as Peer;
use crate::node::{Input, PeerEvent, Request, Response};
use crate::proto::raftpb::{ConfChange, Entry, EntryType, Message, MessageType};
use crate::store;
use crate::version::Version;

fn add(url: &str, is_learner: bool) -> Request {
    Request::MemberAdd {
        peer_urls: vec![url.to_owned()],
        is_learner,
        unix_seconds: 1_700_000_000,
    }
}

fn members(answer: Result<Response, Error>) -> Vec<Peer> {
    match answer.unwrap() {
        Response::Applied(store::Response::Members(members)) => members,
        other => panic!("{other:?}"),
    }
}

/// Lets connections become old enough to count as healthy.
fn settle(world: &mut World) {
    world.leader();
    world.run(Duration::from_secs(6));
}

/// Adds a member by its URL, starts its machine with an empty disk, and returns its id.
fn join(world: &mut World, url: &str, is_learner: bool) -> MemberId {
    let leader = world.leader();
    let before: Vec<MemberId> = world.machines.keys().copied().collect();
    let members = members(world.call(leader, add(url, is_learner)));
    let id = members
        .iter()
        .map(|member| member.id)
        .find(|id| !before.contains(id))
        .unwrap();
    world.add_machine(id, Disk::default(), |_| {});
    world.start(id);
    world.connect(id);
    id
}

#[test]
fn a_learner_follows_without_a_vote_until_it_is_promoted() {
    let mut world = World::new(1, 1);
    settle(&mut world);
    let learner = join(&mut world, "http://new:1", true);
    world.run(Duration::from_secs(1));
    assert!(world.node(learner).status().is_learner);
    world.call(MemberId(1), put("k", "v")).unwrap();
    assert_eq!(
        world.call(MemberId(1), add("http://other:1", true)),
        Err(Error::TooManyLearners)
    );
    assert_eq!(
        world.call(learner, Request::MemberPromote { id: learner }),
        Err(Error::NotLeader)
    );
    assert_eq!(
        world.call(MemberId(1), Request::MemberPromote { id: MemberId(9) }),
        Err(Error::MemberNotFound)
    );
    assert_eq!(
        world.call(MemberId(1), Request::MemberPromote { id: MemberId(1) }),
        Err(Error::MemberNotLearner)
    );
    let promoted = members(world.call(MemberId(1), Request::MemberPromote { id: learner }));
    assert!(promoted.iter().all(|member| !member.is_learner));
    world.run(Duration::from_secs(1));
    assert!(!world.node(learner).status().is_learner);
    assert_eq!(value(&world.node(learner).view(), "k"), Some("v".into()));
    world.call(learner, put("k", "through the new voter")).unwrap();
}

#[test]
fn a_learner_that_is_not_in_sync_is_not_promoted() {
    let mut world = World::new(1, 1);
    settle(&mut world);
    for round in 0..50 {
        world.call(MemberId(1), put("k", &round.to_string())).unwrap();
    }
    let members = members(world.call(MemberId(1), add("http://new:1", true)));
    let learner = members.iter().find(|member| member.is_learner).unwrap().id;
    assert_eq!(
        world.call(MemberId(1), Request::MemberPromote { id: learner }),
        Err(Error::LearnerNotReady)
    );
}

#[test]
fn a_sole_voter_sends_its_term_to_a_learner_only_once_it_is_durable() {
    // The world asserts this on every message. Here the sole voter restarts while its learner is connected.
    let mut world = World::new(1, 3);
    settle(&mut world);
    join(&mut world, "http://new:1", true);
    world.run(Duration::from_secs(1));
    for _ in 0..5 {
        world.machine(MemberId(1)).sync_takes = Duration::from_millis(50);
        world.call(MemberId(1), put("k", "v")).unwrap();
        world.crash(MemberId(1));
        world.start(MemberId(1));
        world.leader();
    }
}

#[test]
fn a_cluster_grows_and_shrinks_by_one() {
    let mut world = World::new(1, 2);
    settle(&mut world);
    let second = join(&mut world, "http://second:1", false);
    world.run(Duration::from_secs(7));
    let third = join(&mut world, "http://third:1", false);
    world.run(Duration::from_secs(7));
    world.call(third, put("k", "v")).unwrap();
    let leader = world.leader();
    let left = members(world.call(leader, Request::MemberRemove { id: leader }));
    assert_eq!(left.len(), 2, "the leader may be removed, and its answer arrives");
    world.run(Duration::from_millis(900));
    assert_eq!(
        world.machines[&leader].halt, None,
        "it sends the commit index for a while first"
    );
    world.run(Duration::from_millis(200));
    assert_eq!(world.machines[&leader].halt, Some(Halt::Removed));
    world.machine(leader).node = None;
    let next = world.leader();
    assert!([MemberId(1), second, third].contains(&next) && next != leader);
    world.call(next, put("k", "after")).unwrap();
    assert_eq!(
        world.call(next, Request::MemberRemove { id: leader }),
        Err(Error::MemberNotFound)
    );
}

#[test]
fn the_remaining_member_of_two_goes_on_alone() {
    for remove_leader in [true, false] {
        let mut world = World::new(2, 5);
        settle(&mut world);
        let leader = world.leader();
        let follower = world.followers()[0];
        let (gone, left) = if remove_leader {
            (leader, follower)
        } else {
            (follower, leader)
        };
        world.call(leader, Request::MemberRemove { id: gone }).unwrap();
        world.run(Duration::from_secs(2));
        assert_eq!(world.machines[&gone].halt, Some(Halt::Removed));
        world.machine(gone).node = None;
        world.call(left, put("k", "v")).unwrap();
        assert!(world.node(left).status().leads);
    }
}

#[test]
fn concurrent_membership_changes_wait_for_each_other() {
    let mut world = World::with(3, 5, |config| config.member.strict_reconfig_check = false);
    let leader = world.leader();
    let tokens: Vec<_> = (4..8)
        .map(|number| world.ask(leader, add(&format!("http://p{number}:1"), false)))
        .collect();
    for (token, size) in tokens.iter().zip(4..7) {
        let answer = world.wait(*token);
        assert_eq!(members(answer).len(), size, "three are a quorum until there are six");
    }
    assert_eq!(world.wait(tokens[3]), Err(Error::Timeout), "three of six are no quorum");
}

#[test]
fn strict_checks_protect_the_quorum() {
    let mut world = World::new(3, 5);
    let leader = world.leader();
    assert_eq!(
        world.call(leader, add("http://p4:1", false)),
        Err(Error::UnhealthyCluster),
        "connected for too short a time"
    );
    settle(&mut world);
    assert_eq!(world.call(leader, add("http://p2:1", false)), Err(Error::PeerUrlExists));
    let (down, other) = (world.followers()[0], world.followers()[1]);
    world.crash(down);
    assert_eq!(
        world.call(leader, Request::MemberRemove { id: other }),
        Err(Error::UnhealthyCluster)
    );
    assert_eq!(
        world.call(leader, add("http://p4:1", false)),
        Err(Error::UnhealthyCluster),
        "with the new one, two of four would answer"
    );
    world.start(down);
    world.connect(down);
    world.run(Duration::from_secs(6));
    world.call(leader, add("http://p4:1", false)).unwrap();
    world.call(leader, add("http://p5:1", false)).unwrap();
    let few = Err(Error::NotEnoughStartedMembers);
    assert_eq!(
        world.call(leader, add("http://p6:1", false)),
        few,
        "three of six have started"
    );
}

#[test]
fn an_update_changes_only_urls() {
    let mut world = World::new(3, 5);
    let leader = world.leader();
    let update = Request::MemberUpdate {
        id: MemberId(2),
        peer_urls: vec!["http://moved:1".into()],
    };
    let members = members(world.call(leader, update));
    let moved = members.iter().find(|member| member.id == MemberId(2)).unwrap();
    assert_eq!(
        (moved.peer_urls[0].as_str(), moved.name.as_str(), moved.is_learner),
        ("http://moved:1", "m2", false)
    );
    world.call(leader, put("k", "v")).unwrap();
    let update = Request::MemberUpdate {
        id: MemberId(9),
        peer_urls: vec!["http://x:1".into()],
    };
    assert_eq!(world.call(leader, update), Err(Error::MemberNotFound));
}

#[test]
fn an_update_says_whether_its_member_is_a_learner() {
    for is_learner in [false, true] {
        let mut world = World::new(1, 6);
        settle(&mut world);
        let id = join(&mut world, "http://new:1", is_learner);
        world.run(Duration::from_secs(1));
        let update = Request::MemberUpdate {
            id,
            peer_urls: vec!["http://moved:1".into()],
        };
        world.call(MemberId(1), update).unwrap();
        let entries = &world.machines[&MemberId(1)].disk.entries;
        let changes = entries
            .iter()
            .filter(|entry| entry.entry_type == EntryType::EntryConfChange as i32);
        let last = ConfChange::decode(changes.last().unwrap().data.clone()).unwrap();
        assert_eq!(last.change_type, ConfChange::UPDATE_NODE);
        assert_eq!(Peer::from_json(&last.context).unwrap().is_learner, is_learner);
    }
}

#[test]
fn a_learner_that_an_update_calls_a_voter_is_not_promoted_by_this_leader() {
    let mut world = World::new(1, 7);
    settle(&mut world);
    let id = join(&mut world, "http://new:1", true);
    world.run(Duration::from_secs(1));
    let update = |is_learner| {
        let member = Peer {
            id,
            peer_urls: vec!["http://moved:1".into()],
            is_learner,
            ..Peer::default()
        };
        let change = ConfChange {
            change_type: ConfChange::UPDATE_NODE,
            node_id: id.0,
            context: member.to_json().into(),
            ..ConfChange::default()
        };
        Message {
            msg_type: MessageType::MsgPropose as i32,
            from: id.0,
            to: 1,
            entries: vec![Entry {
                entry_type: EntryType::EntryConfChange as i32,
                data: change.encode_to_vec().into(),
                ..Entry::default()
            }],
            ..Message::default()
        }
    };
    let promote = |world: &mut World| world.call(MemberId(1), Request::MemberPromote { id });
    for (is_learner, expected) in [(false, Err(Error::MemberNotLearner)), (true, Ok(()))] {
        let message = update(is_learner);
        world.step(MemberId(1), vec![Input::Message { from: id, message }]);
        world.run(Duration::from_secs(1));
        assert_eq!(promote(&mut world).map(drop), expected);
    }
}

#[test]
fn the_cluster_version_does_not_rise_while_a_peer_is_out_of_reach() {
    let mut world = World::new(3, 8);
    let (leader, followers) = (world.leader(), world.followers());
    let tell = |world: &mut World, event| world.step(leader, vec![Input::Peer(event)]);
    let version = |world: &World| world.node(leader).view().cluster.version().unwrap().to_string();
    for follower in &followers {
        tell(&mut world, PeerEvent::Version(*follower, Some(Version::V3_6)));
    }
    tell(&mut world, PeerEvent::Inactive(followers[0]));
    world.run(Duration::from_secs(10));
    assert_eq!(version(&world), "3.0.0", "it may come back as an older one");
    tell(&mut world, PeerEvent::Active(followers[0]));
    tell(&mut world, PeerEvent::Version(followers[0], Some(Version::V3_6)));
    world.run(Duration::from_secs(10));
    assert_eq!(version(&world), "3.6.0");
}
