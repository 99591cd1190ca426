//! Messages that no correct peer sends: a member drops and counts them, and goes on.

use std::time::Duration;

use prost::Message as _;

use super::put;
use super::world::World;
use crate::id::MemberId;
use crate::limits::MAX_UNCOMMITTED_BYTES;
use crate::member::{DropReason, Dropped};
use crate::node::Input;
use crate::proto::etcdserverpb::{PutRequest, RequestHeader};
use crate::proto::raftpb::{ConfChange, ConfChangeType, Entry, EntryType, Message, MessageType};
use crate::store::Content;

const REQUEST_BYTES: usize = 1_572_864;

fn proposal(entries: Vec<(EntryType, Vec<u8>)>) -> Message {
    let entries = entries.into_iter().map(|(kind, data)| Entry {
        entry_type: kind as i32,
        data: data.into(),
        ..Entry::default()
    });
    Message {
        msg_type: MessageType::MsgPropose as i32,
        entries: entries.collect(),
        ..Message::default()
    }
}

fn request(key: &str, value_bytes: usize) -> (EntryType, Vec<u8>) {
    let put = Content::Put(PutRequest {
        key: key.to_owned().into(),
        value: vec![b'v'; value_bytes].into(),
        ..PutRequest::default()
    });
    (
        EntryType::EntryNormal,
        put.into_request(RequestHeader::default()).encode_to_vec(),
    )
}

/// Gives a member a message in the name of `originator`, over the connection of `from`.
fn send(world: &mut World, from: MemberId, originator: MemberId, to: MemberId, message: Message) {
    let message = Message {
        from: originator.0,
        to: to.0,
        ..message
    };
    world.step(to, vec![Input::Message { from, message }]);
}

/// Takes the counts of the messages that a member has dropped.
fn dropped(world: &mut World, id: MemberId) -> Vec<Dropped> {
    let tallies = std::mem::take(&mut world.machine(id).tallies);
    tallies.into_iter().flat_map(|tally| tally.dropped).collect()
}

#[test]
fn a_message_with_the_largest_possible_term_changes_nothing() {
    let mut world = World::new(3, 11);
    let (leader, follower) = (world.leader(), world.followers()[0]);
    let term = world.node(leader).status().term;
    for to in [leader, follower] {
        for kind in [
            MessageType::MsgAppend,
            MessageType::MsgAppendResponse,
            MessageType::MsgRequestVote,
        ] {
            let other = world.followers()[1];
            let message = Message {
                msg_type: kind as i32,
                term: u64::MAX,
                ..Message::default()
            };
            send(&mut world, other, other, to, message);
        }
        let found = dropped(&mut world, to);
        assert!(
            found.iter().all(|dropped| dropped.reason == DropReason::TermTooFar),
            "{found:?}"
        );
        assert_eq!(found.iter().map(|dropped| dropped.count).sum::<u64>(), 3);
    }
    world.call(leader, put("k", "v")).unwrap();
    assert_eq!(world.node(leader).status().term, term);
}

#[test]
fn forwarded_entries_that_no_member_could_apply_do_not_reach_the_log() {
    let mut world = World::new(3, 12);
    let (leader, follower) = (world.leader(), world.followers()[0]);
    let broken = ConfChange {
        change_type: ConfChangeType::AddNode as i32,
        node_id: 9,
        context: "{".into(),
        ..ConfChange::default()
    };
    let before = world.node(leader).view().kv.revision();
    let message = proposal(vec![
        (EntryType::EntryNormal, vec![0xff; 4]),
        request("good", 1),
        (EntryType::EntryConfChange, broken.encode_to_vec()),
        (EntryType::EntryConfChangeV2, Vec::new()),
    ]);
    send(&mut world, follower, follower, leader, message);
    world.run(Duration::from_secs(1));
    let found = dropped(&mut world, leader);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].from, found[0].reason), (follower, DropReason::Proposal));
    assert_eq!(found[0].count, 3);
    assert!(found[0].cause.starts_with("failed to decode"), "{}", found[0].cause);
    for (id, machine) in &world.machines {
        assert_eq!(machine.halt, None, "{id}");
    }
    assert_eq!(
        world.node(leader).view().kv.revision(),
        before + 1,
        "the good one is applied"
    );
    world.call(leader, put("k", "v")).unwrap();
}

#[test]
fn a_proposal_that_was_forwarded_twice_reaches_the_leader() {
    let mut world = World::new(3, 13);
    let (leader, followers) = (world.leader(), world.followers());
    let before = world.node(leader).view().kv.revision();
    let message = proposal(vec![request("k", 1)]);
    send(&mut world, followers[0], followers[1], leader, message);
    world.run(Duration::from_secs(1));
    assert_eq!(world.node(leader).view().kv.revision(), before + 1);
}

#[test]
fn a_leader_without_room_says_that_it_drops_what_is_forwarded() {
    let mut world = World::new(3, 14);
    let (leader, followers) = (world.leader(), world.followers());
    for follower in &followers {
        world.cut.insert((leader, *follower));
    }
    dropped(&mut world, leader);
    for _ in 0..=MAX_UNCOMMITTED_BYTES / REQUEST_BYTES {
        let message = proposal(vec![request("k", REQUEST_BYTES)]);
        send(&mut world, followers[0], followers[0], leader, message);
    }
    let found = dropped(&mut world, leader);
    let reasons: Vec<_> = found.iter().map(|dropped| (dropped.reason, dropped.count)).collect();
    assert_eq!(reasons, [(DropReason::NoRoom, 1)], "{found:?}");
}
