//! One node alone: its effects as text, and its refusals.

use std::time::Duration;

use super::disk::Disk;
use super::world::World;
use super::{put, story, value};
use crate::error::{Error, Fault};
use crate::id::MemberId;
use crate::limits::APPLY_TURN_ROWS;
use crate::member::{BatchId, Halt, MemberTimer, Recovered, Token};
use crate::node::{Config, Done, Effect, Input, Node, Request, Response, Retention, Timer};
use crate::proto::etcdserverpb::request_op::Request as Op;
use crate::proto::etcdserverpb::{AlarmType, CompactionRequest, PutRequest, RequestOp, TxnRequest};
use crate::store::{self, Store, StoreConfig};
use crate::time::Instant;

const ME: MemberId = MemberId(1);

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

/// A new cluster of one, before its first turn.
fn fresh() -> Node {
    let world = World::new(1, 1);
    let Disk {
        hard_state, entries, ..
    } = world.machines[&ME].disk.clone();
    let recovered = Recovered {
        hard_state,
        entries,
        ..Recovered::default()
    };
    Node::start(
        Config::new(ME),
        recovered,
        Store::new(StoreConfig::default()),
        1,
        1_000,
        at(0),
    )
    .unwrap()
}

fn step(node: &mut Node, now: Instant, inputs: Vec<Input>) -> String {
    let mut effects = Vec::new();
    node.step(now, inputs, &mut effects);
    node.check();
    story(&effects)
}

fn request(token: u64, request: Request) -> Input {
    Input::Request {
        token: Token(token),
        request,
        deadline: at(60_000),
    }
}

fn persisted(batch: u64) -> Input {
    Input::Done(Done::Persisted { batch: BatchId(batch) })
}

#[test]
fn a_cluster_of_one_is_ready_after_one_sync() {
    let mut node = fresh();
    assert_eq!(
        node.deadline().map(|(when, _)| when),
        Some(at(0)),
        "the first turn is due at once"
    );
    assert_eq!(
        step(&mut node, at(0), vec![Input::Wake]),
        "persist 1 term=2 vote=1 commit=1 entries=2..=3 sync\n\
         publish revision=1 applied=1 events=0 leads\n\
         store 1 rows=5 index=1\n",
        "it elects itself and publishes itself in the same batch"
    );
    assert_eq!(
        step(&mut node, at(1), vec![persisted(1)]),
        "persist 2 term=2 vote=1 commit=3 entries=4..=4 sync\n\
         publish revision=1 applied=3 events=0 leads published\n\
         store 2 rows=4 index=3\n",
        "clients may be served; the cluster version follows"
    );
    assert_eq!(
        step(&mut node, at(2), vec![persisted(2)]),
        "publish revision=1 applied=4 events=0 leads published\n",
        "the table is busy with two batches, the third waits"
    );
    assert_eq!(node.view().cluster.version().unwrap().to_string(), "3.6.0");
    assert_eq!(node.deadline(), Some((at(100), Timer::Member(MemberTimer::Tick))));
}

/// A node that leads, with no work outstanding.
fn ready() -> Node {
    let mut node = fresh();
    step(&mut node, at(0), vec![Input::Wake]);
    step(&mut node, at(1), vec![persisted(1)]);
    step(&mut node, at(2), vec![persisted(2)]);
    for batch in 1..=3 {
        step(
            &mut node,
            at(3),
            vec![Input::Done(Done::Stored {
                batch: BatchId(batch),
                durable_index: 4,
            })],
        );
    }
    node
}

#[test]
fn a_full_mailbox_is_one_batch_and_no_answer_leaves_before_it_is_durable() {
    let mut node = ready();
    let inputs = (1..=3)
        .map(|token| request(token, put("k", &token.to_string())))
        .collect();
    assert_eq!(
        step(&mut node, at(10), inputs),
        "persist 3 term=2 vote=1 commit=4 entries=5..=7 sync\n"
    );
    assert_eq!(
        step(&mut node, at(11), vec![request(4, put("k", "4"))]),
        "persist 4 entries=8..=8 sync\n"
    );
    assert_eq!(
        step(&mut node, at(12), vec![persisted(3)]),
        "publish revision=4 applied=7 events=3 leads published\n\
         reply 1 Put\n\
         reply 2 Put\n\
         reply 3 Put\n\
         store 4 rows=6 index=7\n",
        "the view is published before the replies"
    );
    assert_eq!(value(&node.view(), "k"), Some("3".into()));
}

#[test]
fn a_commit_index_reaches_the_disk_with_the_next_tick() {
    let mut node = ready();
    step(&mut node, at(10), vec![request(1, put("k", "v"))]);
    step(&mut node, at(11), vec![persisted(3)]);
    assert_eq!(
        step(&mut node, at(100), vec![Input::Wake]),
        "persist 4 term=2 vote=1 commit=5\n"
    );
    assert_eq!(
        step(&mut node, at(200), vec![Input::Wake]),
        "",
        "an idle node writes nothing"
    );
}

#[test]
fn a_linearizable_read_alone_needs_no_disk() {
    let mut node = ready();
    assert_eq!(
        step(&mut node, at(10), vec![request(1, Request::Read)]),
        "reply 1 Read\n"
    );
}

#[test]
fn reads_before_the_term_is_opened_wait_for_it() {
    let mut node = fresh();
    let story = step(&mut node, at(0), vec![request(1, Request::Read), Input::Wake]);
    assert!(!story.contains("reply"), "{story}");
    let story = step(&mut node, at(1), vec![persisted(1)]);
    assert!(story.contains("reply 1 Read"), "{story}");
}

#[test]
fn too_large_requests_are_refused() {
    let mut node = ready();
    let large = put("k", &"v".repeat(1_572_864));
    assert_eq!(
        step(&mut node, at(10), vec![request(1, large)]),
        "reply 1 RequestTooLarge\n"
    );
}

#[test]
fn a_failed_lane_ends_the_member() {
    let mut node = ready();
    let fault = Fault::Disk {
        operation: "sync",
        file: "wal/0.wal".into(),
        cause: "I/O error".into(),
    };
    let inputs = vec![
        request(1, put("k", "v")),
        request(2, Request::LeaseRenew { id: 1 }),
        Input::Done(Done::Failed(fault.clone())),
        request(3, put("k", "v")),
    ];
    let mut effects = Vec::new();
    node.step(at(10), inputs, &mut effects);
    assert_eq!(
        story(&effects[..effects.len() - 1]),
        "reply 3 Stopped\nreply 1 Stopped\nreply 2 Stopped\n"
    );
    assert!(matches!(effects.last(), Some(Effect::Halt(Halt::Fault(found))) if *found == fault));
    assert_eq!(node.deadline(), None, "nothing follows");
    assert_eq!(
        step(&mut node, at(20), vec![request(4, Request::Read)]),
        "reply 4 Stopped\n"
    );
}

#[test]
fn a_lone_member_stops_at_once_and_writes_its_commit_index() {
    let mut node = ready();
    step(&mut node, at(10), vec![request(1, put("k", "v"))]);
    step(&mut node, at(11), vec![persisted(3)]);
    assert_eq!(
        step(&mut node, at(12), vec![request(2, Request::Stop)]),
        "persist 4 term=2 vote=1 commit=5\nhalt Stopped\n"
    );
}

#[test]
fn a_log_that_contradicts_the_table_is_refused() {
    let recovered = Recovered {
        snapshot_index: 5,
        snapshot_term: 1,
        ..Recovered::default()
    };
    let fault = Node::start(
        Config::new(ME),
        recovered,
        Store::new(StoreConfig::default()),
        1,
        1,
        at(0),
    )
    .err()
    .unwrap();
    assert_eq!(
        fault.to_string(),
        "the applied state is at index 0, but the log holds 5 to 5"
    );
}

#[test]
fn a_full_store_raises_its_alarm_once_and_refuses_writes() {
    let mut world = World::with(1, 1, |config| config.quota_bytes = Some(1_000));
    world.leader();
    assert_eq!(world.call(ME, put("k", &"v".repeat(900))).unwrap_err(), Error::NoSpace);
    let alarms = world.node(ME).view().alarms;
    assert!(alarms.is_on(AlarmType::Nospace));
    assert_eq!(world.call(ME, put("k", &"v".repeat(900))).unwrap_err(), Error::NoSpace);
    assert_eq!(
        world.call(ME, put("k", "v")).unwrap_err(),
        Error::NoSpace,
        "the alarm stays until it is cleared"
    );
}

fn compact(revision: i64, physical: bool) -> Request {
    Request::Compact(CompactionRequest { revision, physical })
}

#[test]
fn a_physical_compaction_is_answered_once_its_rows_are_deleted() {
    let mut world = World::with(1, 1, |config| config.compaction_batch_limit = 10);
    world.leader();
    for round in 0..100 {
        world.call(ME, put("k", &round.to_string())).unwrap();
    }
    let before = world.node(ME).status().applied_index;
    let started = world.now;
    assert!(matches!(
        world.call(ME, compact(90, true)),
        Ok(Response::Applied(store::Response::Compact(_)))
    ));
    assert!(
        world.now.saturating_since(started) >= Duration::from_millis(80),
        "ten revisions every ten milliseconds"
    );
    assert_eq!(world.node(ME).status().applied_index, before + 1);
    assert_eq!(world.call(ME, compact(90, true)).unwrap_err(), Error::Compacted);
    assert_eq!(
        world.call(ME, compact(1_000, false)).unwrap_err(),
        Error::FutureRevision
    );
    world.crash(ME);
    world.start(ME);
    assert_eq!(value(&world.node(ME).view(), "k"), Some("99".into()));
}

#[test]
fn an_interrupted_compaction_goes_on_after_a_restart() {
    let mut world = World::with(1, 1, |config| {
        config.compaction_batch_limit = 1;
        config.compaction_sleep_interval = Duration::from_secs(1);
    });
    world.leader();
    for round in 0..10 {
        world.call(ME, put("k", &round.to_string())).unwrap();
    }
    world.call(ME, compact(10, false)).unwrap();
    world.run(Duration::from_millis(100));
    let large = world.node(ME).view().kv.revision();
    world.crash(ME);
    world.start(ME);
    world.run(Duration::from_secs(20));
    assert_eq!(world.node(ME).view().kv.revision(), large, "revisions never go back");
    assert!(matches!(
        world.call(ME, compact(11, true)),
        Ok(Response::Applied(store::Response::Compact(_)))
    ));
}

#[test]
fn the_leader_compacts_by_its_retention() {
    let retention = Retention::Period(Duration::from_secs(600));
    let mut world = World::with(1, 1, |config| config.auto_compaction = Some(retention));
    world.leader();
    for round in 0..5 {
        world.call(ME, put("k", &round.to_string())).unwrap();
    }
    world.run(Duration::from_secs(601));
    assert_eq!(
        world.node(ME).view().kv.compact_revision(),
        1,
        "the revision of ten minutes ago"
    );
    world.run(Duration::from_secs(660));
    assert_eq!(world.node(ME).view().kv.compact_revision(), 6);
}

#[test]
fn proposals_are_refused_while_too_many_rows_wait_for_the_table() {
    let mut node = ready();
    let (mut token, mut refused) = (0, 0);
    for round in 0..100 {
        let inputs = (0..1).map(|_| {
            token += 1;
            request(token, put("k", &"v".repeat(1_000_000)))
        });
        let story = step(&mut node, at(10 + round), inputs.collect());
        refused += usize::from(story.contains("TooManyRequests"));
        step(&mut node, at(10 + round), vec![persisted(3 + round)]);
    }
    assert!(
        (20..=40).contains(&refused),
        "{refused} of 100 megabytes were refused while nothing was written"
    );
    step(
        &mut node,
        at(200),
        vec![Input::Done(Done::Stored {
            batch: BatchId(9),
            durable_index: 5,
        })],
    );
    let story = step(&mut node, at(201), vec![request(1_000, put("k", "v"))]);
    assert!(story.starts_with("persist"), "{story}");
}

#[test]
fn markers_follow_the_durable_table_and_free_the_log() {
    let mut world = World::with(1, 1, |config| config.member.snapshot_count = 20);
    world.leader();
    for round in 0..70 {
        world
            .call(
                ME,
                Request::Put(PutRequest {
                    key: "k".into(),
                    value: round.to_string().into(),
                    ..PutRequest::default()
                }),
            )
            .unwrap();
    }
    world.run(Duration::from_millis(200));
    let disk = &world.machines[&ME].disk;
    assert!(disk.snapshot.0 >= 60, "the last snapshot is at {}", disk.snapshot.0);
    assert!(disk.entries.len() <= 20, "{} entries are left", disk.entries.len());
    world.crash(ME);
    world.start(ME);
    world.leader();
    assert_eq!(value(&world.node(ME).view(), "k"), Some("69".into()));
    world.call(ME, put("k", "new")).unwrap();
}

/// One turn. Returns a report for each log batch that is to be synced, and the tokens of the requests answered.
fn turn(node: &mut Node, now: Instant, inputs: Vec<Input>) -> (Vec<Input>, Vec<Token>) {
    let mut effects = Vec::new();
    node.step(now, inputs, &mut effects);
    node.check();
    let (mut written, mut answered) = (Vec::new(), Vec::new());
    for effect in effects {
        match effect {
            Effect::Log(job) if job.sync => written.push(Input::Done(Done::Persisted { batch: job.batch })),
            Effect::Reply { token, result } => {
                result.unwrap();
                answered.push(token);
            }
            _ => {}
        }
    }
    (written, answered)
}

#[test]
fn a_turn_applies_a_bounded_amount_and_the_next_is_due_at_once() {
    let mut node = fresh();
    let mut written = vec![Input::Wake];
    while !written.is_empty() {
        written = turn(&mut node, at(1), written).0;
    }
    let rows = APPLY_TURN_ROWS * 2 / 5;
    let txn = |number: u64| {
        let put = |key: usize| RequestOp {
            request: Some(Op::RequestPut(PutRequest {
                key: format!("{number} {key}").into(),
                ..PutRequest::default()
            })),
        };
        Request::Txn(TxnRequest {
            success: (0..rows).map(put).collect(),
            ..TxnRequest::default()
        })
    };
    let asked = (1..=4).map(|number| request(number, txn(number))).collect();
    let (written, _) = turn(&mut node, at(2), asked);
    let (_, answered) = turn(&mut node, at(3), written);
    assert_eq!(answered, [1, 2, 3].map(Token), "the third one fills the turn");
    assert_eq!(node.deadline(), Some((at(3), Timer::Apply)));
    assert_eq!(node.view().kv.key_count(), 3 * rows);
    let (_, answered) = turn(&mut node, at(3), vec![Input::Wake]);
    assert_eq!(answered, [Token(4)]);
    assert_ne!(node.deadline().map(|(_, timer)| timer), Some(Timer::Apply));
}
