//! Long work does not run on the workers, is answered completely, and is bounded if it cannot be split.

use std::sync::Arc;

use http::Method;
use quoin_core::limits::{HEAVY_WRITE_ROWS, MAX_TXN_ROWS, READ_INLINE_ROWS};
use quoin_core::proto::etcdserverpb::compare::{CompareResult, CompareTarget};
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::response_op::Response as OpResponse;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, HashKvRequest, HashKvResponse, LeaseGrantRequest,
    LeaseGrantResponse, LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp,
    TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use quoin_runtime::seam::Runtime;

use super::World;
use super::client::{Grpc, http, run};

const WINDOW: u32 = 1 << 20;
const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";
const DELETE: &str = "/etcdserverpb.KV/DeleteRange";

/// More keys than a worker looks at for one read.
const KEYS: usize = 3 * READ_INLINE_ROWS;

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn list() -> RangeRequest {
    RangeRequest {
        key: "k".into(),
        range_end: "l".into(),
        ..RangeRequest::default()
    }
}

fn every_key_has_a_version() -> Compare {
    Compare {
        result: CompareResult::Greater.into(),
        target: CompareTarget::Version.into(),
        key: "k".into(),
        range_end: "l".into(),
        target_union: None,
    }
}

/// Writes many keys of 200 bytes, attached to a lease if there is one.
async fn fill(grpc: &Grpc, lease: i64) {
    let keys: Vec<usize> = (0..KEYS).collect();
    for some in keys.chunks(100) {
        let put = |key: &usize| {
            op(Op::RequestPut(PutRequest {
                key: format!("k{key:06}").into(),
                value: vec![b'v'; 200].into(),
                lease,
                ..PutRequest::default()
            }))
        };
        let txn = TxnRequest {
            success: some.iter().map(put).collect(),
            ..TxnRequest::default()
        };
        let _: TxnResponse = grpc.ok(TXN, &txn).await;
    }
}

/// A server with many keys.
fn filled(runtime: Arc<dyn Runtime>) -> World {
    let world = World::start(runtime);
    with(&world, async |grpc| fill(&grpc, 0).await);
    world
}

/// Runs `work` with a connection.
fn with<T, F>(world: &World, work: impl FnOnce(Grpc) -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        work(Grpc::connect(&runtime, address, WINDOW).await).await
    })
}

/// How many computations are given to the compute thread.
fn computed<T, F>(world: &World, work: impl FnOnce(Grpc) -> F + Send + 'static) -> (u64, T)
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let before = world.handle.computations();
    let value = with(world, work);
    (world.handle.computations() - before, value)
}

pub(crate) fn long_reads_leave_the_worker(runtime: Arc<dyn Runtime>) {
    let world = filled(runtime);
    let long = [
        list(),
        RangeRequest {
            keys_only: true,
            ..list()
        },
        RangeRequest {
            limit: KEYS as i64 - 1,
            ..list()
        },
        RangeRequest { revision: 3, ..list() },
        RangeRequest {
            revision: 3,
            limit: 2,
            count_only: true,
            ..list()
        },
        RangeRequest {
            sort_order: 2,
            sort_target: 4,
            limit: 1,
            ..list()
        },
        RangeRequest {
            min_create_revision: 9_999,
            ..list()
        },
    ];
    for request in long {
        let (jobs, found) = computed(&world, {
            let request = request.clone();
            async move |grpc| grpc.ok::<RangeResponse>(RANGE, &request).await
        });
        assert_eq!(jobs, 1, "{request:?}");
        assert_eq!(found.header.unwrap().revision, 32);
    }
    let short = [
        RangeRequest {
            range_end: "k00002".into(),
            key: "k00001".into(),
            ..list()
        },
        RangeRequest { limit: 10, ..list() },
        RangeRequest {
            count_only: true,
            ..list()
        },
        RangeRequest {
            range_end: "".into(),
            ..list()
        },
    ];
    for request in short {
        let (jobs, _) = computed(&world, {
            let request = request.clone();
            async move |grpc| grpc.ok::<RangeResponse>(RANGE, &request).await
        });
        assert_eq!(jobs, 0, "{request:?}");
    }
    let (jobs, _) = computed(&world, async |grpc| {
        let path = "/etcdserverpb.Maintenance/HashKV";
        grpc.ok::<HashKvResponse>(path, &HashKvRequest::default()).await
    });
    assert_eq!(jobs, 1);
    world.stop();
}

pub(crate) fn a_txn_of_long_reads_leaves_the_worker_and_is_answered_whole(runtime: Arc<dyn Runtime>) {
    let world = filled(runtime);
    let reading = |compares, ranges| TxnRequest {
        compare: vec![every_key_has_a_version(); compares],
        success: vec![op(Op::RequestRange(list())); ranges],
        failure: Vec::new(),
    };
    let whole = with(&world, async |grpc| grpc.ok::<RangeResponse>(RANGE, &list()).await);
    assert_eq!(whole.kvs.len(), KEYS);
    for (compares, ranges) in [(0, 4), (4, 0), (2, 2)] {
        let (jobs, found) = computed(&world, async move |grpc| {
            grpc.ok::<TxnResponse>(TXN, &reading(compares, ranges)).await
        });
        assert_eq!(jobs, 1);
        assert!(found.succeeded && found.responses.len() == ranges);
        for response in found.responses {
            let Some(OpResponse::ResponseRange(range)) = response.response else {
                panic!("a range was asked for")
            };
            assert!(range.kvs == whole.kvs && range.count == whole.count);
            assert_eq!(range.header.unwrap().revision, 32);
        }
    }
    world.stop();
}

pub(crate) fn a_writing_txn_that_would_read_too_much_is_refused(runtime: Arc<dyn Runtime>) {
    let world = filled(runtime);
    with(&world, async |grpc| {
        let put = || {
            op(Op::RequestPut(PutRequest {
                key: "a".into(),
                ..PutRequest::default()
            }))
        };
        let compares = |number| TxnRequest {
            compare: vec![every_key_has_a_version(); number],
            success: vec![put()],
            failure: vec![put()],
        };
        let most = MAX_TXN_ROWS / KEYS;
        let done: TxnResponse = grpc.ok(TXN, &compares(most)).await;
        assert!(done.succeeded);
        let message = "etcdserver: too many keys in the ranges and compares of a txn request that writes";
        let outcome = grpc.call(TXN, &[], &compares(most + 1)).await;
        assert_eq!(outcome.status, (8, message.to_owned()));
        let nested = TxnRequest {
            success: vec![op(Op::RequestTxn(compares(most + 1)))],
            ..TxnRequest::default()
        };
        assert_eq!(grpc.call(TXN, &[], &nested).await.status, (8, message.to_owned()));
        let ranges = TxnRequest {
            success: [vec![put()], vec![op(Op::RequestRange(list())); most + 1]].concat(),
            ..TxnRequest::default()
        };
        assert_eq!(grpc.call(TXN, &[], &ranges).await.status, (8, message.to_owned()));
        let found: RangeResponse = grpc
            .ok(
                RANGE,
                &RangeRequest {
                    key: "a".into(),
                    ..RangeRequest::default()
                },
            )
            .await;
        assert_eq!(found.kvs[0].version, 1, "the refused transaction wrote nothing");
    });
    world.stop();
}

pub(crate) fn long_answers_to_writes_arrive_whole(runtime: Arc<dyn Runtime>) {
    let world = filled(runtime);
    let before = with(&world, async |grpc| grpc.ok::<RangeResponse>(RANGE, &list()).await);
    let txn = TxnRequest {
        success: vec![
            op(Op::RequestPut(PutRequest {
                key: "a".into(),
                ..PutRequest::default()
            })),
            op(Op::RequestRange(list())),
            op(Op::RequestTxn(TxnRequest {
                success: vec![op(Op::RequestRange(list()))],
                ..TxnRequest::default()
            })),
            op(Op::RequestDeleteRange(DeleteRangeRequest {
                key: "k00000".into(),
                range_end: "k00001".into(),
                prev_kv: true,
            })),
        ],
        ..TxnRequest::default()
    };
    let (jobs, done) = computed(&world, async move |grpc| grpc.ok::<TxnResponse>(TXN, &txn).await);
    assert_eq!(jobs, 1);
    let mut responses = done.responses.into_iter().map(|response| response.response.unwrap());
    assert!(matches!(responses.next(), Some(OpResponse::ResponsePut(_))));
    let Some(OpResponse::ResponseRange(range)) = responses.next() else {
        panic!("a range")
    };
    assert!(range.kvs == before.kvs && range.count == before.count);
    let Some(OpResponse::ResponseTxn(nested)) = responses.next() else {
        panic!("a txn")
    };
    let Some(OpResponse::ResponseRange(range)) = &nested.responses[0].response else {
        panic!("a range")
    };
    assert!(range.kvs == before.kvs);
    let Some(OpResponse::ResponseDeleteRange(deleted)) = responses.next() else {
        panic!("a deletion")
    };
    assert!(deleted.deleted == 10 && deleted.prev_kvs == before.kvs[..10]);
    let (jobs, deleted) = computed(&world, async |grpc| {
        let all = DeleteRangeRequest {
            key: "k".into(),
            range_end: "l".into(),
            prev_kv: true,
        };
        grpc.ok::<DeleteRangeResponse>(DELETE, &all).await
    });
    assert_eq!((jobs, deleted.deleted), (1, KEYS as i64 - 10));
    assert!(deleted.prev_kvs == before.kvs[10..]);
    world.stop();
}

pub(crate) fn many_leases_and_keys_of_a_lease_leave_the_worker(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    with(&world, async |grpc| {
        for id in 1..=READ_INLINE_ROWS as i64 + 1 {
            let grant = LeaseGrantRequest { ttl: 1_000, id };
            let _: LeaseGrantResponse = grpc.ok("/etcdserverpb.Lease/LeaseGrant", &grant).await;
        }
        fill(&grpc, 7).await;
    });
    let (jobs, listed) = computed(&world, async |grpc| {
        let path = "/etcdserverpb.Lease/LeaseLeases";
        grpc.ok::<LeaseLeasesResponse>(path, &LeaseLeasesRequest {}).await
    });
    assert_eq!((jobs, listed.leases.len()), (1, READ_INLINE_ROWS + 1));
    for (keys, expected) in [(true, (1, KEYS)), (false, (0, 0))] {
        let (jobs, left) = computed(&world, async move |grpc| {
            let path = "/etcdserverpb.Lease/LeaseTimeToLive";
            let request = LeaseTimeToLiveRequest { id: 7, keys };
            grpc.ok::<LeaseTimeToLiveResponse>(path, &request).await
        });
        assert_eq!((jobs, left.keys.len()), expected);
        assert!(left.keys.is_sorted());
    }
    // The lease has so many keys that its revocation waits for its turn.
    const { assert!(KEYS >= HEAVY_WRITE_ROWS) };
    with(&world, async |grpc| {
        let revoke = LeaseRevokeRequest { id: 7 };
        let _: LeaseRevokeResponse = grpc.ok("/etcdserverpb.Lease/LeaseRevoke", &revoke).await;
        let left: RangeResponse = grpc
            .ok(
                RANGE,
                &RangeRequest {
                    count_only: true,
                    ..list()
                },
            )
            .await;
        assert_eq!(left.count, 0);
    });
    world.stop();
}

pub(crate) fn heavy_writes_take_turns_and_lose_none(runtime: Arc<dyn Runtime>) {
    let world = filled(runtime);
    world.control.set_stuck(true);
    let outcome = with(&world, async |grpc| {
        let all = DeleteRangeRequest {
            key: "k".into(),
            range_end: "l".into(),
            prev_kv: false,
        };
        // The second one has no turn before the first is answered, so it is not proposed, and its client cancels it.
        let first = grpc.call(DELETE, &[("grpc-timeout", "50m")], &all).await;
        let second = grpc.call(DELETE, &[("grpc-timeout", "50m")], &all).await;
        (first.status.0, second.status.0)
    });
    assert_eq!(outcome, (4, 4));
    world.control.set_stuck(false);
    let kept = world.control.answer_kept();
    assert_eq!(kept, 1, "one heavy write was proposed at a time");
    with(&world, async |grpc| {
        let left: RangeResponse = grpc
            .ok(
                RANGE,
                &RangeRequest {
                    count_only: true,
                    ..list()
                },
            )
            .await;
        assert_eq!(left.count, 0, "the proposed deletion is applied");
        fill(&grpc, 0).await;
        let all = DeleteRangeRequest {
            key: "k".into(),
            range_end: "l".into(),
            prev_kv: false,
        };
        let deleted: DeleteRangeResponse = grpc.ok(DELETE, &all).await;
        assert_eq!(deleted.deleted, KEYS as i64, "the turn was released");
    });
    world.stop();
}

pub(crate) fn a_long_watch_response_arrives_whole(runtime: Arc<dyn Runtime>) {
    let world = filled(runtime);
    let events = with(&world, async |grpc| {
        let (requests, mut stream) = grpc
            .begin("/etcdserverpb.Watch/Watch", &[("grpc-encoding", "gzip")])
            .await;
        let create = WatchCreateRequest {
            key: "k".into(),
            range_end: "l".into(),
            start_revision: 1,
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        requests.send(&request).await;
        let created: WatchResponse = stream.message().await;
        assert!(created.created);
        let mut events = Vec::new();
        while events.len() < KEYS {
            let response: WatchResponse = stream.message().await;
            events.extend(response.events);
        }
        events
    });
    let keys = events.into_iter().map(|event| event.kv.unwrap().key);
    assert!(keys.eq((0..KEYS).map(|key| format!("k{key:06}"))));
    world.stop();
}

pub(crate) fn metrics_are_rendered_once_for_simultaneous_requests(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    let get = |encoding: &'static str| {
        let (runtime, address) = (Arc::clone(&world.runtime), world.metrics);
        Box::pin(async move {
            http(
                &runtime,
                address,
                Method::GET,
                "/metrics",
                &[("accept-encoding", encoding)],
            )
            .await
        })
    };
    let rounds = 40;
    let asked = (0..rounds).map(|number| get(["identity", "br, gzip;q=1"][number % 2]));
    let asked: Vec<_> = asked.collect();
    let (jobs, pages) = {
        let before = world.handle.computations();
        let spawner = Arc::clone(&world.runtime);
        let pages = run(&world.runtime, async move {
            let (sender, pages) = async_channel::bounded(rounds);
            for asking in asked {
                let sender = sender.clone();
                spawner.spawn(Box::pin(async move {
                    let _ = sender.send(asking.await).await;
                }));
            }
            drop(sender);
            let mut found = Vec::new();
            while let Ok(page) = pages.recv().await {
                found.push(page);
            }
            found
        });
        (world.handle.computations() - before, pages)
    };
    assert_eq!(pages.len(), rounds);
    assert!(
        jobs <= rounds as u64 / 2,
        "{jobs} renderings for {rounds} simultaneous requests"
    );
    for page in &pages {
        assert_eq!(page.status, 200);
        assert!(page.body.contains("\netcd_server_has_leader 1\n"), "{}", page.body);
    }
    let compressed = pages
        .iter()
        .filter(|page| page.headers.contains_key("content-encoding"));
    assert_eq!(compressed.count(), rounds / 2);
    // A page is never older than its request.
    for writes in 1..=3 {
        with(&world, async |grpc| {
            let put = PutRequest {
                key: "k".into(),
                ..PutRequest::default()
            };
            let _: PutResponse = grpc.ok("/etcdserverpb.KV/Put", &put).await;
        });
        let page = run(&world.runtime, get("gzip"));
        let line = format!("etcd_debugging_mvcc_current_revision {}", 1 + writes);
        assert!(page.body.lines().any(|found| found == line), "{line}");
    }
    world.stop();
}
