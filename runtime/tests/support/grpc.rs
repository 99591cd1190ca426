//! Unary calls: services, refusals, limits.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use quoin_core::id::MemberId;
use quoin_core::limits::{GRPC_OVERHEAD_BYTES, MAX_REQUEST_BYTES};
use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, CompactionRequest, CompactionResponse, Compare, DefragmentRequest,
    DefragmentResponse, DeleteRangeRequest, DeleteRangeResponse, HashKvRequest, HashKvResponse, LeaseGrantRequest,
    LeaseGrantResponse, LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, MemberListRequest, MemberListResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, RequestOp, SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse, TxnRequest,
    TxnResponse, compare, request_op,
};
use quoin_core::proto::health::{HealthCheckRequest, HealthCheckResponse};
use quoin_core::snapshot;
use quoin_core::table::Bucket;
use quoin_runtime::seam::{Runtime, connect};

use super::client::{Grpc, Outcome, frame, prefixed, raw, run, sleep};
use super::{World, inline};

const WINDOW: u32 = 1 << 20;
const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";

/// Runs `work` with a connection to a fresh server.
fn with_grpc<T, F>(runtime: Arc<dyn Runtime>, work: impl FnOnce(Grpc) -> F + Send + 'static) -> (World, T)
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let world = World::start(runtime);
    let value = again(&world, work);
    (world, value)
}

/// Runs `work` with a new connection to a server.
fn again<T, F>(world: &World, work: impl FnOnce(Grpc) -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        work(Grpc::connect(&runtime, address, WINDOW).await).await
    })
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    }
}

fn get(key: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        ..RangeRequest::default()
    }
}

fn refused(outcome: &Outcome) -> (u8, &str) {
    (outcome.status.0, outcome.status.1.as_str())
}

pub(crate) fn keys_are_written_read_compared_and_deleted(runtime: Arc<dyn Runtime>) {
    let (world, ()) = with_grpc(runtime, async |grpc| {
        let _: PutResponse = grpc.ok(PUT, &put("a", "1")).await;
        let replaced: PutResponse = grpc
            .ok(
                PUT,
                &PutRequest {
                    prev_kv: true,
                    ..put("a", "2")
                },
            )
            .await;
        assert_eq!(replaced.prev_kv.unwrap().value, "1");
        for serializable in [false, true] {
            let found: RangeResponse = grpc
                .ok(
                    RANGE,
                    &RangeRequest {
                        serializable,
                        ..get("a")
                    },
                )
                .await;
            assert_eq!((found.count, found.kvs[0].value.as_ref()), (1, b"2".as_ref()));
        }
        let compare = Compare {
            result: compare::CompareResult::Equal.into(),
            target: compare::CompareTarget::Value.into(),
            key: "a".into(),
            target_union: Some(compare::TargetUnion::Value("2".into())),
            ..Compare::default()
        };
        let op = |request| RequestOp { request: Some(request) };
        let txn = TxnRequest {
            compare: vec![compare],
            success: vec![op(request_op::Request::RequestPut(put("b", "3")))],
            failure: vec![],
        };
        let done: TxnResponse = grpc.ok("/etcdserverpb.KV/Txn", &txn).await;
        assert!(done.succeeded);
        assert_eq!(done.header.unwrap().revision, 4);
        let read = TxnRequest {
            success: vec![op(request_op::Request::RequestRange(get("b")))],
            ..TxnRequest::default()
        };
        let done: TxnResponse = grpc.ok("/etcdserverpb.KV/Txn", &read).await;
        assert_eq!((done.responses.len(), done.header.unwrap().revision), (1, 4));
        let compaction = CompactionRequest {
            revision: 3,
            physical: false,
        };
        let _: CompactionResponse = grpc.ok("/etcdserverpb.KV/Compact", &compaction).await;
        let all = DeleteRangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            prev_kv: false,
        };
        let gone: DeleteRangeResponse = grpc.ok("/etcdserverpb.KV/DeleteRange", &all).await;
        assert_eq!(gone.deleted, 2);
    });
    world.stop();
}

pub(crate) fn headers_have_the_member_the_term_and_the_revision(runtime: Arc<dyn Runtime>) {
    let (world, ()) = with_grpc(runtime, async |grpc| {
        let header = grpc.ok::<PutResponse>(PUT, &put("a", "1")).await.header.unwrap();
        assert_eq!((header.cluster_id, header.member_id), (inline::CLUSTER, inline::MEMBER));
        assert_eq!((header.raft_term, header.revision), (2, 2));
        let header = grpc.ok::<RangeResponse>(RANGE, &get("b")).await.header.unwrap();
        assert_eq!((header.member_id, header.revision), (inline::MEMBER, 2));
        let list: MemberListResponse = grpc
            .ok(
                "/etcdserverpb.Cluster/MemberList",
                &MemberListRequest { linearizable: true },
            )
            .await;
        assert_eq!(
            list.header.unwrap().revision,
            0,
            "the cluster service's headers have no revision"
        );
        let hash: HashKvResponse = grpc
            .ok("/etcdserverpb.Maintenance/HashKV", &HashKvRequest::default())
            .await;
        assert_eq!((hash.compact_revision, hash.hash_revision), (-1, 2));
        let none: DefragmentResponse = grpc
            .ok("/etcdserverpb.Maintenance/Defragment", &DefragmentRequest::default())
            .await;
        assert_eq!(none.header, None);
    });
    world.stop();
}

pub(crate) fn errors_have_etcds_code_and_text(runtime: Arc<dyn Runtime>) {
    let (world, ()) = with_grpc(runtime, async |grpc| {
        let outcome = grpc.call(PUT, &[], &put("", "1")).await;
        assert_eq!(refused(&outcome), (3, "etcdserver: key is not provided"));
        let outcome = grpc
            .call(
                RANGE,
                &[],
                &RangeRequest {
                    revision: 9,
                    ..get("a")
                },
            )
            .await;
        assert_eq!(
            refused(&outcome),
            (11, "etcdserver: mvcc: required revision is a future revision")
        );
        let outcome = grpc
            .call(
                PUT,
                &[],
                &PutRequest {
                    lease: 7,
                    ..put("a", "1")
                },
            )
            .await;
        assert_eq!(refused(&outcome), (5, "etcdserver: requested lease not found"));
        let revoke = LeaseRevokeRequest { id: 7 };
        let outcome = grpc.call("/etcdserverpb.Lease/LeaseRevoke", &[], &revoke).await;
        assert_eq!(refused(&outcome), (5, "etcdserver: requested lease not found"));
        let grant = LeaseGrantRequest {
            ttl: 9_000_000_001,
            id: 8,
        };
        let outcome = grpc.call("/etcdserverpb.Lease/LeaseGrant", &[], &grant).await;
        assert_eq!(refused(&outcome), (11, "etcdserver: too large lease TTL"));
    });
    world.stop();
}

pub(crate) fn alarms_are_checked_before_the_length_of_a_ttl(runtime: Arc<dyn Runtime>) {
    let (world, ()) = with_grpc(runtime, async |grpc| {
        let grant = |ttl| LeaseGrantRequest { ttl, id: 8 };
        let too_long = grant(9_000_000_001);
        let alarm = |action: AlarmAction| AlarmRequest {
            action: action.into(),
            member_id: inline::MEMBER,
            alarm: AlarmType::Nospace.into(),
        };
        let raised = alarm(AlarmAction::Activate);
        let _: AlarmResponse = grpc.ok("/etcdserverpb.Maintenance/Alarm", &raised).await;
        let outcome = grpc.call("/etcdserverpb.Lease/LeaseGrant", &[], &too_long).await;
        assert_eq!(refused(&outcome), (8, "etcdserver: mvcc: database space exceeded"));
        let cleared = alarm(AlarmAction::Deactivate);
        let _: AlarmResponse = grpc.ok("/etcdserverpb.Maintenance/Alarm", &cleared).await;
        let outcome = grpc.call("/etcdserverpb.Lease/LeaseGrant", &[], &too_long).await;
        assert_eq!(refused(&outcome), (11, "etcdserver: too large lease TTL"));
        let longest = grant(9_000_000_000);
        let granted: LeaseGrantResponse = grpc.ok("/etcdserverpb.Lease/LeaseGrant", &longest).await;
        assert_eq!(granted.ttl, 9_000_000_000);
    });
    world.stop();
}

pub(crate) fn unknown_methods_are_refused(runtime: Arc<dyn Runtime>) {
    let (world, ()) = with_grpc(runtime, async |grpc| {
        let table = [
            (
                "/etcdserverpb.KV/Scan",
                "unknown method Scan for service etcdserverpb.KV",
            ),
            (
                "/grpc.reflection.v1.ServerReflection/Info",
                "unknown service grpc.reflection.v1.ServerReflection",
            ),
            (
                "/etcdserverpb.KV/RangeStream",
                "etcdserverpb.KV/RangeStream is not implemented by this server",
            ),
        ];
        for (path, message) in table {
            assert_eq!(refused(&grpc.call(path, &[], &get("a")).await), (12, message));
        }
        let outcome = grpc.call(RANGE, &[("grpc-encoding", "snappy")], &get("a")).await;
        let message = "grpc: Decompressor is not installed for grpc-encoding \"snappy\"";
        assert_eq!(refused(&outcome), (12, message));
    });
    world.stop();
}

pub(crate) fn malformed_frames_are_refused(runtime: Arc<dyn Runtime>) {
    let (world, ()) = with_grpc(runtime, async |grpc| {
        for (body, message) in [
            (prefixed(7, b""), "grpc: received unexpected payload format 7"),
            (
                prefixed(1, b""),
                "grpc: compressed flag set with identity or empty encoding",
            ),
        ] {
            assert_eq!(refused(&grpc.raw(RANGE, &[], body).await), (13, message));
        }
        let garbage = grpc.raw(RANGE, &[], prefixed(0, &[0xff; 9])).await;
        assert_eq!(garbage.status.0, 13);
        assert!(
            garbage.status.1.starts_with("grpc: error unmarshalling request: "),
            "{}",
            garbage.status.1
        );
        let _: RangeResponse = grpc.ok(RANGE, &get("a")).await;
    });
    world.stop();
}

pub(crate) fn too_large_messages_are_refused(runtime: Arc<dyn Runtime>) {
    let (world, ()) = with_grpc(runtime, async |grpc| {
        let limit = MAX_REQUEST_BYTES + GRPC_OVERHEAD_BYTES;
        let exact = PutRequest {
            value: vec![0; limit - 7].into(),
            ..put("a", "")
        };
        assert_eq!(frame(&exact).len(), limit + 5);
        // The message is within its bound, the proposal is not.
        let outcome = grpc.call(PUT, &[], &exact).await;
        assert_eq!(refused(&outcome), (3, "etcdserver: request is too large"));
        let outcome = grpc.raw(PUT, &[], prefixed(0, &vec![0; limit + 1])).await;
        let message = format!("grpc: received message larger than max ({} vs. {limit})", limit + 1);
        assert_eq!(refused(&outcome), (8, message.as_str()));
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        bomb.write_all(&vec![0; 64 << 20]).unwrap();
        let outcome = grpc
            .raw(PUT, &[("grpc-encoding", "gzip")], prefixed(1, &bomb.finish().unwrap()))
            .await;
        let message = format!("grpc: received message after decompression larger than max {limit}");
        assert_eq!(refused(&outcome), (8, message.as_str()));
    });
    world.stop();
}

pub(crate) fn compression_is_answered_with_compression(runtime: Arc<dyn Runtime>) {
    let (world, ()) = with_grpc(runtime, async |grpc| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&prost::Message::encode_to_vec(&put("a", &"v".repeat(1000))))
            .unwrap();
        let body = prefixed(1, &gzip.finish().unwrap());
        assert!(body.len() < 200);
        assert_eq!(grpc.raw(PUT, &[("grpc-encoding", "gzip")], body).await.status.0, 0);
        let outcome = grpc.call(RANGE, &[("grpc-encoding", "gzip")], &get("a")).await;
        let found: RangeResponse = prost::Message::decode(outcome.message).unwrap();
        assert_eq!(found.kvs[0].value.len(), 1000);
    });
    world.stop();
}

pub(crate) fn a_deadline_is_kept(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    world.control.set_stuck(true);
    again(&world, async |grpc| {
        let outcome = grpc.call(PUT, &[("grpc-timeout", "50m")], &put("a", "1")).await;
        assert_eq!(refused(&outcome), (4, "context deadline exceeded"));
        let _serializable_reads_do_not_wait: RangeResponse = grpc
            .ok(
                RANGE,
                &RangeRequest {
                    serializable: true,
                    ..get("a")
                },
            )
            .await;
    });
    world.control.set_stuck(false);
    again(&world, async |grpc| {
        let outcome = grpc.call(PUT, &[("grpc-timeout", "10S")], &put("a", "1")).await;
        assert_eq!(outcome.status.0, 0);
    });
    world.stop();
}

pub(crate) fn a_call_that_requires_a_leader_fails_without_one(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    let serializable = RangeRequest {
        serializable: true,
        ..get("a")
    };
    world.control.set_status(|status| status.leader = MemberId::NONE);
    again(&world, async move |grpc| {
        let outcome = grpc.call(RANGE, &[("hasleader", "true")], &serializable).await;
        assert_eq!(refused(&outcome), (14, "etcdserver: no leader"));
        assert_eq!(grpc.call(RANGE, &[], &serializable).await.status.0, 0);
        let status: StatusResponse = grpc
            .ok("/etcdserverpb.Maintenance/Status", &StatusRequest::default())
            .await;
        assert_eq!(
            (status.leader, status.errors),
            (0, vec!["etcdserver: no leader".to_owned()])
        );
    });
    world.stop();
}

pub(crate) fn a_learner_serves_only_serializable_reads_and_status(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    world.control.set_status(|status| status.is_learner = true);
    again(&world, async |grpc| {
        let refusal = (9, "etcdserver: rpc not supported for learner");
        assert_eq!(refused(&grpc.call(PUT, &[], &put("a", "1")).await), refusal);
        assert_eq!(refused(&grpc.call(RANGE, &[], &get("a")).await), refusal);
        assert_eq!(
            refused(&grpc.call("/etcdserverpb.Watch/Watch", &[], &get("a")).await),
            refusal
        );
        let _: RangeResponse = grpc
            .ok(
                RANGE,
                &RangeRequest {
                    serializable: true,
                    ..get("a")
                },
            )
            .await;
        let status: StatusResponse = grpc
            .ok("/etcdserverpb.Maintenance/Status", &StatusRequest::default())
            .await;
        assert!(status.is_learner);
    });
    world.stop();
}

pub(crate) fn a_long_range_arrives_whole_at_a_slow_reader(runtime: Arc<dyn Runtime>) {
    let (world, ()) = with_grpc(runtime, async |grpc| {
        for number in 0..300 {
            let value = vec![b'v'; 16 * 1024];
            let _: PutResponse = grpc
                .ok(
                    PUT,
                    &PutRequest {
                        value: value.into(),
                        ..put(&format!("key{number:03}"), "")
                    },
                )
                .await;
        }
    });
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        // A window of a few keys: the server must wait for the client many times.
        let grpc = Grpc::connect(&runtime, address, 65_535).await;
        let all = RangeRequest {
            range_end: "\0".into(),
            serializable: true,
            ..get("key")
        };
        let (messages, mut stream) = grpc.begin(RANGE, &[]).await;
        messages.send(&all).await;
        drop(messages);
        sleep(&runtime, Duration::from_millis(50)).await;
        let found: RangeResponse = stream.message().await;
        assert_eq!(
            (found.count, found.kvs.len(), found.header.unwrap().revision),
            (300, 300, 301)
        );
        assert!(found.kvs.iter().all(|kv| kv.value.len() == 16 * 1024));
        assert_eq!(stream.next().await.unwrap_err().0, 0);
    });
    world.stop();
}

/// The file is made while the client reads it, and writes made meanwhile are not in it.
pub(crate) fn a_backup_arrives_whole_at_a_slow_reader(runtime: Arc<dyn Runtime>) {
    const VALUES: usize = 100;
    const VALUE_BYTES: usize = 64 * 1024;
    let (world, ()) = with_grpc(runtime, async |grpc| {
        for number in 0..VALUES {
            let put = PutRequest {
                value: vec![b'v'; VALUE_BYTES].into(),
                ..put(&format!("key{number:03}"), "")
            };
            let _: PutResponse = grpc.ok(PUT, &put).await;
        }
    });
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    let file = run(&world.runtime, async move {
        let grpc = Grpc::connect(&runtime, address, 65_535).await;
        let (messages, mut stream) = grpc.begin("/etcdserverpb.Maintenance/Snapshot", &[]).await;
        messages.send(&SnapshotRequest {}).await;
        drop(messages);
        let first: SnapshotResponse = stream.message().await;
        let mut left = first.remaining_bytes;
        assert!(left > (VALUES * VALUE_BYTES) as u64);
        let writer = Grpc::connect(&runtime, address, WINDOW).await;
        let _: PutResponse = writer.ok(PUT, &put("later", "1")).await;
        let mut file = first.blob.to_vec();
        while left > 0 {
            let part: SnapshotResponse = stream.message().await;
            left -= part.blob.len() as u64;
            assert_eq!(part.remaining_bytes, left);
            file.extend_from_slice(&part.blob);
        }
        let sum: SnapshotResponse = stream.message().await;
        assert_eq!((sum.blob.len(), sum.remaining_bytes), (32, 0));
        assert_eq!(stream.next().await.unwrap_err(), (0, String::new()));
        file
    });
    let rows = snapshot::decode("backup", &file.into()).unwrap();
    let keys = rows.iter().filter(|(bucket, ..)| *bucket == Bucket::Key);
    assert_eq!(keys.count(), VALUES, "not the later one");
    world.stop();
}

pub(crate) fn a_range_of_many_keys_is_answered_like_any_other(runtime: Arc<dyn Runtime>) {
    let (world, ()) = with_grpc(runtime, async |grpc| {
        for hundred in 0..60 {
            let op = |number| RequestOp {
                request: Some(request_op::Request::RequestPut(put(
                    &format!("k{hundred:02}{number:02}"),
                    "",
                ))),
            };
            let txn = TxnRequest {
                success: (0..100).map(op).collect(),
                ..TxnRequest::default()
            };
            let _: TxnResponse = grpc.ok("/etcdserverpb.KV/Txn", &txn).await;
        }
        let all = RangeRequest {
            range_end: "l".into(),
            ..get("k")
        };
        let found: RangeResponse = grpc.ok(RANGE, &all).await;
        assert_eq!((found.count, found.kvs.len(), found.more), (6000, 6000, false));
        assert!(found.kvs.is_sorted_by_key(|kv| kv.key.clone()));
        let header = found.header.unwrap();
        assert_eq!((header.member_id, header.revision), (inline::MEMBER, 61));
        let early: RangeResponse = grpc
            .ok(
                RANGE,
                &RangeRequest {
                    revision: 2,
                    ..all.clone()
                },
            )
            .await;
        assert_eq!(early.count, 100);
        let outcome = grpc.call(RANGE, &[], &RangeRequest { revision: 99, ..all }).await;
        assert_eq!(refused(&outcome).0, 11);
    });
    world.stop();
}

pub(crate) fn many_calls_share_a_connection(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    let spawner = Arc::clone(&world.runtime);
    again(&world, async move |grpc| {
        let (sender, receiver) = async_channel::bounded(1000);
        for number in 0..1000 {
            let (grpc, sender) = (grpc.clone(), sender.clone());
            spawner.spawn(Box::pin(async move {
                let key = format!("key{number}");
                let _: PutResponse = grpc.ok(PUT, &put(&key, "1")).await;
                let found: RangeResponse = grpc.ok(RANGE, &get(&key)).await;
                sender.send(found.count).await.unwrap();
            }));
        }
        for _ in 0..1000 {
            assert_eq!(receiver.recv().await.unwrap(), 1);
        }
    });
    world.stop();
}

pub(crate) fn status_and_member_list_describe_the_member(runtime: Arc<dyn Runtime>) {
    let (world, ()) = with_grpc(runtime, async |grpc| {
        let status: StatusResponse = grpc
            .ok("/etcdserverpb.Maintenance/Status", &StatusRequest::default())
            .await;
        assert_eq!(status.version, quoin_core::version::SERVER_VERSION);
        assert_eq!((status.leader, status.raft_term), (inline::MEMBER, 2));
        assert_eq!(status.errors, Vec::<String>::new());
        let granted: LeaseGrantResponse = grpc
            .ok("/etcdserverpb.Lease/LeaseGrant", &LeaseGrantRequest { ttl: 60, id: 5 })
            .await;
        assert_eq!((granted.id, granted.ttl), (5, 60));
        let leased = PutRequest {
            lease: 5,
            ..put("a", "1")
        };
        let _: PutResponse = grpc.ok(PUT, &leased).await;
        let ask = LeaseTimeToLiveRequest { id: 5, keys: true };
        let left: LeaseTimeToLiveResponse = grpc.ok("/etcdserverpb.Lease/LeaseTimeToLive", &ask).await;
        assert_eq!((left.granted_ttl, left.keys.len()), (60, 1));
        let ask = LeaseTimeToLiveRequest { id: 6, keys: true };
        let left: LeaseTimeToLiveResponse = grpc.ok("/etcdserverpb.Lease/LeaseTimeToLive", &ask).await;
        assert_eq!((left.ttl, left.granted_ttl), (-1, 0));
        let leases: LeaseLeasesResponse = grpc
            .ok("/etcdserverpb.Lease/LeaseLeases", &LeaseLeasesRequest::default())
            .await;
        assert_eq!(leases.leases[0].id, 5);
        let health: HealthCheckResponse = grpc
            .ok("/grpc.health.v1.Health/Check", &HealthCheckRequest::default())
            .await;
        assert_eq!(health.status, 1);
        let other = HealthCheckRequest {
            service: "etcdserverpb.KV".to_owned(),
        };
        let outcome = grpc.call("/grpc.health.v1.Health/Check", &[], &other).await;
        assert_eq!(refused(&outcome), (5, "unknown service"));
    });
    world.stop();
}

pub(crate) fn bytes_of_no_protocol_end_the_connection(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        let answer = raw(
            &runtime,
            address,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n",
        )
        .await;
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", answer.escape_ascii());
        // The correct preface, then a frame of 16 MiB.
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend_from_slice(&[0xff; 64]);
        let answer = raw(&runtime, address, &bytes).await;
        assert!(answer.len() < 1024, "SETTINGS and GOAWAY");
        // Too few bytes to detect the protocol, and then none.
        let mut socket = connect(&runtime, &address.into()).await.unwrap();
        std::future::poll_fn(|cx| socket.poll_write(cx, b"PRI * HT"))
            .await
            .unwrap();
        drop(socket);
        let grpc = Grpc::connect(&runtime, address, WINDOW).await;
        let _the_server_goes_on: RangeResponse = grpc.ok(RANGE, &get("a")).await;
    });
    world.stop();
}
