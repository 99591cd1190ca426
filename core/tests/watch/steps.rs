//! The bounds of one step, and the deadlines of the hub.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use quoin_core::limits::{MAX_REQUEST_BYTES, WATCH_PASS_BYTES, WATCH_PATIENCE_INPUTS, WATCH_SYNC_BATCH_WATCHERS};
use quoin_core::proto::etcdserverpb::WatchCreateRequest;
use quoin_core::time::Instant;
use quoin_core::watch::{StreamId, WatchInput};

use crate::world::{Change, World};

fn world_with_history(revisions: usize) -> World {
    let mut world = World::new(1, MAX_REQUEST_BYTES);
    for _ in 0..revisions {
        world.write(&[Change::Put {
            key: "a".into(),
            value: Bytes::new(),
            lease: 0,
        }]);
    }
    world
}

fn open(world: &mut World, stream: u64, request: WatchCreateRequest) {
    let stream = StreamId(stream);
    world.step(WatchInput::Open { stream });
    world.create(stream, request);
}

fn from_the_start() -> WatchCreateRequest {
    WatchCreateRequest {
        key: "a".into(),
        start_revision: 1,
        ..WatchCreateRequest::default()
    }
}

/// Responses with events that the hub has sent since the last call.
fn with_events(world: &mut World) -> usize {
    world
        .fresh()
        .iter()
        .filter(|(_, response)| !response.events.is_empty())
        .count()
}

#[test]
fn a_pass_serves_a_bounded_number_of_watchers() {
    let mut world = world_with_history(3);
    let streams = 2 * WATCH_SYNC_BATCH_WATCHERS as u64 + 100;
    for stream in 0..streams {
        open(&mut world, stream, from_the_start());
    }
    // The hub makes a pass after some inputs even without being woken, so some were served between the requests.
    let early = with_events(&mut world);
    assert!(early < streams as usize);
    let mut served = vec![early];
    while world.hub.deadline().is_some() {
        world.step(WatchInput::Wake);
        served.push(with_events(&mut world));
    }
    assert!(
        served[1..]
            .iter()
            .all(|watchers| (1..=WATCH_SYNC_BATCH_WATCHERS).contains(watchers)),
        "{served:?}"
    );
    assert_eq!(served.iter().sum::<usize>(), streams as usize);
}

#[test]
fn watchers_with_little_and_with_much_to_catch_up_do_not_wait_for_each_other() {
    let mut world = world_with_history(20_000);
    for stream in 0..10 {
        open(&mut world, stream, from_the_start());
    }
    let start_revision = 20_000;
    open(
        &mut world,
        10,
        WatchCreateRequest {
            start_revision,
            ..from_the_start()
        },
    );
    let served = |world: &mut World| {
        world.step(WatchInput::Wake);
        let fresh = world.fresh();
        let with_events = fresh.iter().filter(|(_, response)| !response.events.is_empty());
        with_events.map(|(stream, _)| stream.0).collect::<Vec<_>>()
    };
    let passes = [served(&mut world), served(&mut world)];
    assert!(passes.contains(&vec![10]), "{passes:?}");
    assert!(
        passes.contains(&(0..10).collect()),
        "nor the other way round: {passes:?}"
    );
}

#[test]
fn slow_watchers_catch_up_even_if_the_host_is_never_idle() {
    let mut world = world_with_history(3);
    open(&mut world, 1, from_the_start());
    let mut inputs = 2;
    while with_events(&mut world) == 0 {
        assert_eq!(world.hub.deadline(), Some(world.now), "there is work to do at once");
        world.step(WatchInput::Sent {
            stream: StreamId(9),
            responses: 1,
        });
        inputs += 1;
    }
    assert!(inputs <= WATCH_PATIENCE_INPUTS + 1);
    assert_eq!(world.hub.deadline(), None, "nothing is left to do");
}

#[test]
fn a_hub_has_a_deadline_for_progress_only_while_a_watcher_asks_for_it() {
    let mut world = world_with_history(1);
    world.now = Instant::ZERO + Duration::from_secs(7);
    open(
        &mut world,
        1,
        WatchCreateRequest {
            start_revision: 0,
            ..from_the_start()
        },
    );
    assert_eq!(world.hub.deadline(), None);
    for stream in 2..20 {
        let request = WatchCreateRequest {
            start_revision: 0,
            progress_notify: true,
            ..from_the_start()
        };
        open(&mut world, stream, request);
    }
    let deadline = world.hub.deadline().expect("progress has a deadline");
    let wait = deadline.saturating_since(world.now);
    assert!((600..660).contains(&wait.as_secs()), "{wait:?}");

    // The jitter spreads the ticks of streams.
    world.fresh();
    world.now = deadline;
    world.step(WatchInput::Wake);
    assert_eq!(world.fresh().len(), 1);
    assert!(world.hub.deadline().is_some_and(|next| next > deadline));

    for stream in 2..20 {
        world.close(StreamId(stream));
    }
    assert_eq!(world.hub.deadline(), None);
}

#[test]
fn a_deadline_beyond_the_last_instant_is_harmless() {
    let mut world = world_with_history(1);
    open(
        &mut world,
        1,
        WatchCreateRequest {
            progress_notify: true,
            ..from_the_start()
        },
    );
    world.now = Instant::MAX;
    world.step(WatchInput::Wake);
    world.step(WatchInput::Wake);
    assert!(world.fresh().len() < 6);
}

#[test]
fn time_does_not_go_back() {
    let mut world = world_with_history(1);
    world.step(WatchInput::Open { stream: StreamId(1) });
    world.now = Instant::ZERO + Duration::from_secs(5000);
    world.step(WatchInput::Wake);
    world.now = Instant::ZERO;
    let request = WatchCreateRequest {
        start_revision: 0,
        progress_notify: true,
        ..from_the_start()
    };
    world.create(StreamId(1), request);
    assert!(world.hub.deadline() > Some(Instant::ZERO + Duration::from_secs(5000)));
}

#[test]
fn a_pass_makes_a_bounded_amount_of_bytes() {
    let mut world = World::new(1, MAX_REQUEST_BYTES);
    let value = Bytes::from(vec![b'v'; 4_000_000]);
    for key in ["a", "b", "c"].repeat(4) {
        let (key, value) = (Bytes::from(key), value.clone());
        world.write(&[Change::Put { key, value, lease: 0 }]);
    }
    for (stream, key) in (0..).zip(["a", "b", "c"]) {
        open(
            &mut world,
            stream,
            WatchCreateRequest {
                key: key.into(),
                ..from_the_start()
            },
        );
    }
    world.fresh();
    world.step(WatchInput::Wake);
    let bytes: usize = world.fresh().iter().map(|(_, response)| response.encoded_len()).sum();
    assert!(
        (WATCH_PASS_BYTES..WATCH_PASS_BYTES + 4_100_000).contains(&bytes),
        "{bytes}"
    );
    world.settle();
    assert_eq!(with_events(&mut world), 3, "each gets the rest");
}
