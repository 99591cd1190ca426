//! Streams: watches, renewals, health, and how they end.

use std::sync::Arc;
use std::time::Duration;

use quoin_core::id::MemberId;
use quoin_core::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, PutRequest, PutResponse,
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse, watch_request,
};
use quoin_core::proto::health::{HealthCheckRequest, HealthCheckResponse};
use quoin_runtime::running::Ended;
use quoin_runtime::seam::{Runtime, block_on};

use super::client::{Grpc, run, sleep};
use super::{World, config, inline};

const WINDOW: u32 = 1 << 20;
const PUT: &str = "/etcdserverpb.KV/Put";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

fn create(key: &str, start_revision: i64) -> WatchRequest {
    let create = WatchCreateRequest {
        key: key.to_owned().into(),
        start_revision,
        ..WatchCreateRequest::default()
    };
    WatchRequest {
        request_union: Some(watch_request::RequestUnion::CreateRequest(create)),
    }
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    }
}

pub(crate) fn watchers_see_events_and_end(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        let grpc = Grpc::connect(&runtime, address, WINDOW).await;
        let _: PutResponse = grpc.ok(PUT, &put("a", "1")).await;
        let (requests, mut responses) = grpc.begin(WATCH, &[]).await;
        requests.send(&create("a", 2)).await;
        let created: WatchResponse = responses.message().await;
        assert!(created.created && created.watch_id == 0);
        let header = created.header.unwrap();
        assert_eq!(
            (header.member_id, header.raft_term, header.revision),
            (inline::MEMBER, 2, 2)
        );
        let history: WatchResponse = responses.message().await;
        assert_eq!(history.events[0].kv.as_ref().unwrap().value, "1");
        for number in 2..200 {
            let value = number.to_string();
            let _: PutResponse = grpc.ok(PUT, &put("a", &value)).await;
            let response: WatchResponse = responses.message().await;
            assert_eq!(response.events[0].kv.as_ref().unwrap().value, value);
            assert_eq!(response.header.unwrap().revision, number + 1);
        }
        let progress = watch_request::RequestUnion::ProgressRequest(WatchProgressRequest {});
        requests
            .send(&WatchRequest {
                request_union: Some(progress),
            })
            .await;
        let progress: WatchResponse = responses.message().await;
        assert_eq!((progress.watch_id, progress.header.unwrap().revision), (-1, 200));
        let cancel = watch_request::RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 0 });
        requests
            .send(&WatchRequest {
                request_union: Some(cancel),
            })
            .await;
        let canceled: WatchResponse = responses.message().await;
        assert!(canceled.canceled && canceled.watch_id == 0);
    });
    world.stop();
}

pub(crate) fn a_watch_survives_the_end_of_its_input(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        let grpc = Grpc::connect(&runtime, address, WINDOW).await;
        let (requests, mut responses) = grpc.begin(WATCH, &[]).await;
        requests.send(&create("a", 0)).await;
        drop(requests);
        let created: WatchResponse = responses.message().await;
        assert!(created.created);
        let _: PutResponse = grpc.ok(PUT, &put("a", "1")).await;
        let event: WatchResponse = responses.message().await;
        assert_eq!(event.events.len(), 1);
    });
    world.stop();
}

pub(crate) fn leases_are_kept_alive(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        let grpc = Grpc::connect(&runtime, address, WINDOW).await;
        let grant = LeaseGrantRequest { ttl: 60, id: 5 };
        let _: LeaseGrantResponse = grpc.ok("/etcdserverpb.Lease/LeaseGrant", &grant).await;
        let (requests, mut responses) = grpc.begin(KEEP_ALIVE, &[]).await;
        for (id, ttl) in [(5, 60), (6, 0), (5, 60)] {
            requests.send(&LeaseKeepAliveRequest { id }).await;
            let renewed: LeaseKeepAliveResponse = responses.message().await;
            assert_eq!((renewed.id, renewed.ttl), (id, ttl));
        }
        drop(requests);
        assert_eq!(
            responses.next().await.unwrap_err().0,
            0,
            "the stream ends with its input"
        );
    });
    world.stop();
}

pub(crate) fn the_health_stream_sends_its_state_and_stays_open(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        let grpc = Grpc::connect(&runtime, address, WINDOW).await;
        let (requests, mut responses) = grpc
            .begin("/grpc.health.v1.Health/Watch", &[("grpc-timeout", "100m")])
            .await;
        requests.send(&HealthCheckRequest::default()).await;
        drop(requests);
        let health: HealthCheckResponse = responses.message().await;
        assert_eq!(health.status, 1);
        let (code, message) = responses.next().await.unwrap_err();
        assert_eq!((code, message.as_str()), (4, "context deadline exceeded"));
    });
    world.stop();
}

pub(crate) fn a_stream_ends_when_the_leader_is_lost(runtime: Arc<dyn Runtime>) {
    let mut config = config();
    config.election_ms = 20;
    let world = World::start_with(runtime, &config);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    let control = world.control.clone();
    run(&world.runtime, async move {
        let grpc = Grpc::connect(&runtime, address, WINDOW).await;
        let (requests, mut responses) = grpc.begin(WATCH, &[("hasleader", "true")]).await;
        requests.send(&create("a", 0)).await;
        let created: WatchResponse = responses.message().await;
        assert!(created.created);
        control.set_status(|status| status.leader = MemberId::NONE);
        let (code, message) = responses.next().await.unwrap_err();
        assert_eq!((code, message.as_str()), (14, "etcdserver: no leader"));
    });
    world.stop();
}

pub(crate) fn a_stopping_server_ends_streams_and_answers_calls(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    world.control.set_stuck(true);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    let (sender, receiver) = std::sync::mpsc::channel();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let client = Arc::clone(&runtime);
    runtime.spawn(Box::pin(async move {
        let grpc = Grpc::connect(&client, address, WINDOW).await;
        let (requests, mut responses) = grpc.begin(WATCH, &[]).await;
        requests.send(&create("a", 0)).await;
        let created: WatchResponse = responses.message().await;
        assert!(created.created);
        // This call is in progress when the server is asked to stop, and is still answered.
        let (call, mut answer) = grpc.begin(PUT, &[("grpc-timeout", "300m")]).await;
        call.send(&put("a", "1")).await;
        drop(call);
        sleep(&client, Duration::from_millis(50)).await;
        ready.send(()).unwrap();
        let watch_end = responses.next().await.unwrap_err();
        sender.send((watch_end, answer.next().await.unwrap_err())).unwrap();
    }));
    is_ready.recv_timeout(Duration::from_secs(10)).unwrap();
    world.stop();
    let (watch_end, put_end) = receiver.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(watch_end, (14, "etcdserver: server stopped".to_owned()));
    assert_eq!(put_end, (4, "context deadline exceeded".to_owned()));
    assert!(
        std::net::TcpStream::connect(address).is_err(),
        "no connection is accepted any more"
    );
}

pub(crate) fn a_member_that_failed_is_not_waited_for(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    world.control.set_stuck(true);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    let (sender, receiver) = std::sync::mpsc::channel();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let client = Arc::clone(&runtime);
    runtime.spawn(Box::pin(async move {
        let grpc = Grpc::connect(&client, address, WINDOW).await;
        let (call, mut answer) = grpc.begin(PUT, &[]).await;
        call.send(&put("a", "1")).await;
        sleep(&client, Duration::from_millis(50)).await;
        ready.send(()).unwrap();
        sender.send(answer.next().await.unwrap_err()).unwrap();
    }));
    is_ready.recv_timeout(Duration::from_secs(10)).unwrap();
    world.control.end(Ended::Failed("the disk is gone".to_owned()));
    // Its connection ends although the server is not stopped, and before the request timeout, after which the call
    // would end.
    let (code, _) = receiver.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_ne!(code, 0);
    world.stop();
}

pub(crate) fn a_member_that_ends_is_reported(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    world.control.end(Ended::Failed("the disk is gone".to_owned()));
    assert_eq!(
        block_on(world.handle.ended()),
        Ended::Failed("the disk is gone".to_owned())
    );
    world.stop();
}
