//! Members that talk with each other: streams and posted messages, lost connections, members that are added and
//! removed.

use std::time::Duration;

use super::world::{World, config, id, member};
use super::{append, heartbeat};
use crate::id::MemberId;
use crate::jobs::PeerJob;
use crate::limits::{PEER_PIPELINE_QUEUE_MESSAGES, PEER_STREAM_QUEUE_MESSAGES};
use crate::node::PeerEvent;
use crate::peer::PeerInput;
use crate::proto::raftpb::Message;
use crate::version::Version;

fn send(world: &mut World, to: u64, messages: Vec<Message>) {
    let to = MemberId(to);
    world.input(1, PeerInput::Send(PeerJob::Messages { to, messages }));
}

fn count(events: &[PeerEvent], of: impl Fn(&PeerEvent) -> bool) -> usize {
    events.iter().filter(|event| of(event)).count()
}

#[test]
fn members_open_two_streams_each_and_messages_arrive_in_order() {
    let mut world = World::new(2);
    let told = &world.machine(1).told;
    assert_eq!(count(told, |event| matches!(event, PeerEvent::Active(MemberId(2)))), 1);
    let version = Some(Version {
        major: 3,
        minor: 5,
        patch: 30,
    });
    assert!(
        told.iter()
            .any(|event| matches!(event, PeerEvent::Version(MemberId(2), known) if *known == version))
    );
    let streams = |path: &&(String, String)| path.0.starts_with("/raft/stream/");
    assert_eq!(world.machine(1).sent.iter().filter(streams).count(), 2);
    let appends = [append(3, 7, &[1]), append(3, 8, &[1, 2]), append(3, 10, &[])];
    send(&mut world, 2, appends.to_vec());
    send(&mut world, 2, vec![heartbeat(5)]);
    let delivered: Vec<Message> = world
        .machine(2)
        .delivered
        .iter()
        .map(|(_, message)| message.clone())
        .collect();
    assert_eq!(delivered, [&appends[..], &[heartbeat(5)]].concat());
    assert!(world.machine(2).delivered.iter().all(|(from, _)| *from == id(1)));
    assert!(
        world.machine(1).sent.iter().all(|(path, _)| path != "/raft"),
        "nothing was posted"
    );
}

#[test]
fn heartbeats_of_the_link_keep_idle_streams_and_reach_no_node() {
    let mut world = World::new(2);
    world.run(Duration::from_secs(60));
    assert!(world.machine(2).delivered.is_empty());
    for number in [1, 2] {
        assert_eq!(
            count(&world.machine(number).told, |event| matches!(
                event,
                PeerEvent::Inactive(_)
            )),
            0
        );
    }
}

#[test]
fn a_cut_stream_is_opened_again_and_its_encoding_begins_anew() {
    let mut world = World::new(2);
    send(&mut world, 2, vec![append(3, 7, &[1])]);
    world.cut_all(1, 2);
    assert_eq!(
        count(&world.machine(1).told, |event| matches!(event, PeerEvent::Inactive(_))),
        1
    );
    world.run(Duration::from_millis(300));
    assert_eq!(
        count(&world.machine(1).told, |event| matches!(event, PeerEvent::Active(_))),
        2
    );
    // On the old connection this append would have the short form.
    send(&mut world, 2, vec![append(3, 8, &[1])]);
    assert_eq!(world.machine(2).delivered.last(), Some(&(id(1), append(3, 8, &[1]))));
}

#[test]
fn a_peer_whose_streams_work_is_active_although_a_post_to_it_failed() {
    let mut world = World::new(2);
    world.posts_hang = true;
    world.cut_all(1, 2);
    send(&mut world, 2, vec![heartbeat(1)]);
    world.run(Duration::from_millis(300));
    world.machine(1).told.clear();
    let (_, post) = world.hanging[0];
    world.input(1, PeerInput::Closed(post, "lost".to_owned()));
    let is_inactive = |event: &PeerEvent| matches!(event, PeerEvent::Inactive(MemberId(2)));
    assert_eq!(count(&world.machine(1).told, is_inactive), 1);
    // The next heartbeats of the links.
    world.run(Duration::from_secs(2));
    let is_active = |event: &PeerEvent| matches!(event, PeerEvent::Active(MemberId(2)));
    assert_eq!(count(&world.machine(1).told, is_active), 1);
}

#[test]
fn without_streams_messages_are_posted_a_few_at_a_time_and_none_twice() {
    let mut world = World::new(2);
    world.away.push(id(2));
    world.cut_all(1, 2);
    send(&mut world, 2, vec![heartbeat(1)]);
    world.run(Duration::from_secs(1));
    let unreachable = |event: &PeerEvent| matches!(event, PeerEvent::Unreachable(_));
    assert_eq!(count(&world.machine(1).told, unreachable), 1, "one message was lost");
    assert!(world.machine(2).delivered.is_empty());
    // Member 2 now knows no other member, so it opens no stream, but messages can be posted to it.
    world.away.clear();
    world.machine(2).transport = crate::peer::Transport::new(config(2, 1), world.now);
    world.roster(2, &[2], &[]);
    send(&mut world, 2, vec![heartbeat(2), append(3, 7, &[1])]);
    let delivered: Vec<u64> = world
        .machine(2)
        .delivered
        .iter()
        .map(|(_, message)| message.commit)
        .collect();
    assert_eq!(delivered, [2, 7]);
    let posts = world.machine(1).sent.iter().filter(|(path, _)| path == "/raft").count();
    assert_eq!(posts, 3);
}

#[test]
fn messages_without_room_are_lost_and_the_node_is_told() {
    let mut world = World::new(2);
    world.stalled.push("all");
    // The first write is never drained.
    send(&mut world, 2, vec![heartbeat(0)]);
    let many = vec![heartbeat(1); PEER_STREAM_QUEUE_MESSAGES + 1];
    send(&mut world, 2, many);
    let unreachable = |event: &PeerEvent| matches!(event, PeerEvent::Unreachable(_));
    assert_eq!(count(&world.machine(1).told, unreachable), 1);
    world.stalled.clear();
    world.run(Duration::from_secs(6));
    let inactive = |event: &PeerEvent| matches!(event, PeerEvent::Inactive(_));
    assert_eq!(
        count(&world.machine(1).told, inactive),
        1,
        "a peer that does not read is cut off"
    );
    let mut alone = World::new(1);
    alone.input(
        1,
        PeerInput::Roster(crate::peer::PeerRoster {
            members: vec![member(1), member(9)],
            ..Default::default()
        }),
    );
    alone.machine(1).told.clear();
    send(&mut alone, 9, vec![heartbeat(1); PEER_PIPELINE_QUEUE_MESSAGES * 2]);
    assert!(count(&alone.machine(1).told, unreachable) > 0);
}

#[test]
fn a_member_that_does_not_answer_is_dialled_at_each_of_its_urls() {
    let mut world = World::new(1);
    let mut other = member(9);
    other.peer_urls.push("http://8".to_owned());
    world.input(
        1,
        PeerInput::Roster(crate::peer::PeerRoster {
            members: vec![member(1), other],
            ..Default::default()
        }),
    );
    world.run(Duration::from_secs(1));
    for url in ["http://8", "http://9"] {
        let dialled = world
            .machine(1)
            .sent
            .iter()
            .filter(|(_, dialled)| dialled == url)
            .count();
        assert!(dialled > 3, "{url}: {dialled}");
    }
}

#[test]
fn a_removed_member_is_told_so_by_its_own_cluster() {
    let mut world = World::new(3);
    world.roster(1, &[1, 2], &[3]);
    world.run(Duration::from_secs(1));
    assert!(count(&world.machine(3).told, |event| matches!(event, PeerEvent::RemovedUs)) > 0);
    assert_eq!(
        count(&world.machine(2).told, |event| matches!(event, PeerEvent::RemovedUs)),
        0
    );
    assert!(
        count(&world.machine(1).told, |event| matches!(
            event,
            PeerEvent::Inactive(MemberId(3))
        )) == 1
    );
}

#[test]
fn a_joining_member_answers_a_leader_that_is_not_in_its_table_yet() {
    let mut world = World::new(1);
    // Member 2 knows only itself; member 1 knows both.
    world.start(2, config(2, 0));
    world.roster(2, &[2], &[]);
    world.roster(1, &[1, 2], &[]);
    world.run(Duration::from_secs(1));
    send(&mut world, 2, vec![heartbeat(5)]);
    assert_eq!(world.machine(2).delivered.len(), 1, "posted");
    let answer = Message {
        from: 2,
        to: 1,
        ..heartbeat(0)
    };
    let job = PeerJob::Messages {
        to: id(1),
        messages: vec![answer.clone()],
    };
    world.input(2, PeerInput::Send(job));
    assert_eq!(world.machine(1).delivered, [(id(2), answer)]);
}

#[test]
fn boot_peers_stay_peers_until_the_table_has_the_member_itself() {
    let mut world = World::new(3);
    // A joining member applies old entries, in which it does not occur.
    world.roster(3, &[1], &[]);
    send(&mut world, 3, vec![heartbeat(1)]);
    assert_eq!(
        count(&world.machine(3).told, |event| matches!(event, PeerEvent::Inactive(_))),
        0
    );
    world.roster(3, &[1, 3], &[]);
    assert_eq!(
        count(&world.machine(3).told, |event| matches!(
            event,
            PeerEvent::Inactive(MemberId(2))
        )),
        1
    );
}
