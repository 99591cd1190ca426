//! The requests of the workload.

use bytes::Bytes;
use prost::Message;
use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::watch_create_request::FilterType;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{
    AlarmRequest, AlarmType, Compare, DefragmentRequest, DeleteRangeRequest, HashKvRequest, HashRequest,
    MemberListRequest, PutRequest, RangeRequest, RequestOp, StatusRequest, TxnRequest, WatchCancelRequest,
    WatchCreateRequest, WatchProgressRequest, WatchRequest,
};
use quoin_core::proto::health::HealthCheckRequest;

use crate::diff::wire::{Exchange, Wire};
use crate::trouble::Trouble;

/// More bytes than gRPC accepts.
const TOO_BIG_BYTES: usize = 3_000_000;

pub(super) const PUT: &str = "/etcdserverpb.KV/Put";
pub(super) const RANGE: &str = "/etcdserverpb.KV/Range";
pub(super) const DELETE_RANGE: &str = "/etcdserverpb.KV/DeleteRange";
pub(super) const TXN: &str = "/etcdserverpb.KV/Txn";
pub(super) const COMPACT: &str = "/etcdserverpb.KV/Compact";
pub(super) const WATCH: &str = "/etcdserverpb.Watch/Watch";
pub(super) const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
pub(super) const LEASE_REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
pub(super) const LEASE_KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
pub(super) const LEASE_TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";
pub(super) const LEASE_LEASES: &str = "/etcdserverpb.Lease/LeaseLeases";
pub(super) const ALARM: &str = "/etcdserverpb.Maintenance/Alarm";
pub(super) const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
pub(super) const COMPACTED: &str = "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count";

/// Makes a request and waits for the end; a refusal is an answer like any other.
pub(super) async fn ask(wire: &Wire, path: &str, request: &impl Message) {
    if let Ok(mut exchange) = wire.call(path, request, true).await {
        while let Ok(Some(_)) = exchange.next().await {}
    }
}

pub(super) fn refused(refusal: quoin_model::call::Refusal) -> Trouble {
    Trouble::new(format!("refused with {}: {}", refusal.code, refusal.message))
}

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..PutRequest::default()
    }
}

pub(super) fn range(key: &str, end: &str) -> RangeRequest {
    RangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        ..RangeRequest::default()
    }
}

pub(super) fn delete(key: &str, end: &str, prev_kv: bool) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        prev_kv,
    }
}

/// A compare that holds for a key written that many times.
pub(super) fn version(key: &str, version: i64) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Version as i32,
        key: bytes(key),
        target_union: Some(TargetUnion::Version(version)),
        ..Compare::default()
    }
}

pub(super) fn txn(
    compare: impl IntoIterator<Item = Compare>,
    success: impl IntoIterator<Item = Op>,
    failure: impl IntoIterator<Item = Op>,
) -> TxnRequest {
    let ops = |ops: &mut dyn Iterator<Item = Op>| ops.map(|op| RequestOp { request: Some(op) }).collect();
    TxnRequest {
        compare: compare.into_iter().collect(),
        success: ops(&mut success.into_iter()),
        failure: ops(&mut failure.into_iter()),
    }
}

pub(super) fn watch(key: &str, end: &str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: bytes(key),
        range_end: bytes(end),
        ..WatchCreateRequest::default()
    }
}

pub(super) fn create(request: WatchCreateRequest) -> WatchRequest {
    WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(request)),
    }
}

/// Streams with watches of every kind, created before all other requests.
pub(super) async fn watches(wire: &Wire) -> Result<Vec<Exchange>, Trouble> {
    let mut first = wire
        .call(WATCH, &create(watch("keys/", "keys0")), false)
        .await
        .map_err(refused)?;
    let more = [
        WatchCreateRequest {
            prev_kv: true,
            ..watch("keys/", "keys0")
        },
        WatchCreateRequest {
            filters: vec![FilterType::Noput as i32],
            ..watch("", "\0")
        },
        WatchCreateRequest {
            fragment: true,
            ..watch("txn/", "txn0")
        },
        WatchCreateRequest {
            watch_id: 50,
            ..watch("leased/c", "")
        },
        // Refused: the id is used, the range is empty, the revision is invalid.
        WatchCreateRequest {
            watch_id: 50,
            ..watch("leased/c", "")
        },
        watch("b", "a"),
        WatchCreateRequest {
            start_revision: -1,
            ..watch("keys/a", "")
        },
    ];
    for request in more {
        first.send(&create(request)).map_err(refused)?;
    }
    for _ in 0..8 {
        first.next().await.map_err(refused)?;
    }
    let mut second = wire
        .call(WATCH, &create(watch("nothing", "")), false)
        .await
        .map_err(refused)?;
    second.next().await.map_err(refused)?;
    Ok(vec![first, second])
}

/// Watches that start in the past, one of them at a compacted revision, and a request for progress.
pub(super) async fn past_watches(wire: &Wire, streams: &mut Vec<Exchange>) -> Result<(), Trouble> {
    let from = |start_revision| WatchCreateRequest {
        start_revision,
        prev_kv: true,
        ..watch("", "\0")
    };
    let mut stream = wire.call(WATCH, &create(from(20)), false).await.map_err(refused)?;
    stream.next().await.map_err(refused)?;
    stream.next().await.map_err(refused)?;
    stream.send(&create(from(3))).map_err(refused)?;
    stream.next().await.map_err(refused)?;
    stream.next().await.map_err(refused)?;
    // In etcd a watch exists until it is cancelled, even after a compaction ended it.
    let cancel = WatchRequest {
        request_union: Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 1 })),
    };
    stream.send(&cancel).map_err(refused)?;
    stream.next().await.map_err(refused)?;
    streams.push(stream);
    let progress = WatchRequest {
        request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})),
    };
    streams[1].send(&progress).map_err(refused)?;
    streams[1].next().await.map_err(refused)?;
    Ok(())
}

/// Cancels one watch, ends the client's side of one stream, and then drops all streams.
pub(super) async fn end_watches(mut streams: Vec<Exchange>) -> Result<(), Trouble> {
    for watch_id in [0, 49] {
        let cancel = WatchRequest {
            request_union: Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })),
        };
        streams[1].send(&cancel).map_err(refused)?;
    }
    streams[1].next().await.map_err(refused)?;
    // In etcd, a client that has ended its side may still read.
    streams[1].end();
    drop(streams);
    Ok(())
}

/// Writes, reads and deletions that succeed and that fail.
pub(super) async fn keys(wire: &Wire) {
    writes(wire).await;
    reads(wire).await;
    let deletes = [
        delete("keys/new", "", false),
        delete("keys/none", "", true),
        delete("keys/b", "keys/d", true),
        delete("", "", false),
    ];
    for delete in deletes {
        ask(wire, DELETE_RANGE, &delete).await;
    }
}

async fn writes(wire: &Wire) {
    for number in 0..12 {
        ask(wire, PUT, &put(["keys/a", "keys/b", "keys/c"][number % 3], "value")).await;
    }
    let puts = [
        PutRequest {
            prev_kv: true,
            ..put("keys/a", "1")
        },
        PutRequest {
            prev_kv: true,
            ..put("keys/new", "2")
        },
        PutRequest {
            ignore_value: true,
            ..put("keys/a", "")
        },
        PutRequest {
            ignore_lease: true,
            ..put("keys/b", "3")
        },
        PutRequest {
            ignore_value: true,
            ..put("keys/none", "")
        },
        PutRequest {
            ignore_value: true,
            ..put("keys/a", "given")
        },
        PutRequest {
            lease: 5,
            ..put("keys/a", "no such lease")
        },
        put("", "no key"),
    ];
    for put in puts {
        ask(wire, PUT, &put).await;
    }
}

async fn reads(wire: &Wire) {
    let ranges = [
        range("keys/a", ""),
        range("keys/", "keys0"),
        range("", ""),
        range("\0", "\0"),
        RangeRequest {
            serializable: true,
            ..range("keys/none", "")
        },
        RangeRequest {
            limit: 2,
            ..range("keys/", "keys0")
        },
        RangeRequest {
            count_only: true,
            ..range("keys/", "keys0")
        },
        RangeRequest {
            keys_only: true,
            sort_order: 2,
            sort_target: 3,
            ..range("keys/", "keys0")
        },
        RangeRequest {
            revision: 3,
            ..range("keys/a", "")
        },
        RangeRequest {
            revision: 1_000_000,
            ..range("keys/a", "")
        },
    ];
    for range in ranges {
        ask(wire, RANGE, &range).await;
    }
}

/// Transactions that read, write, are refused, and are nested.
pub(super) async fn transactions(wire: &Wire) {
    let reads = |key| Op::RequestRange(range(key, ""));
    let writes = |key| Op::RequestPut(put(key, "v"));
    let nested = txn(
        [version("txn/a", 0), version("txn/b", 0)],
        [
            Op::RequestTxn(txn([version("txn/c", 7)], [], [writes("txn/c"), reads("txn/c")])),
            writes("txn/a"),
        ],
        [],
    );
    let keeps = PutRequest {
        ignore_value: true,
        ..put("txn/a", "")
    };
    let keeps_none = PutRequest {
        ignore_value: true,
        ..put("txn/none", "")
    };
    let leased = PutRequest {
        lease: 5,
        ..put("txn/a", "v")
    };
    let future = RangeRequest {
        revision: 1_000_000,
        ..range("txn/a", "")
    };
    let previous = PutRequest {
        prev_kv: true,
        ..put("txn/a", "v2")
    };
    let requests = [
        txn([], [], []),
        txn([], [reads("keys/a")], []),
        txn([], [reads("keys/a"), reads("keys/b")], []),
        txn([version("keys/a", 1)], [], [reads("keys/a")]),
        txn([version("keys/a", 1), version("keys/b", 1)], [reads("keys/a")], []),
        txn([version("txn/a", 0)], [writes("txn/a")], []),
        txn([version("txn/a", 0), version("txn/a", 0)], [writes("txn/a")], []),
        nested,
        txn(
            [],
            [Op::RequestPut(keeps.clone()), Op::RequestPut(put("txn/d", "v"))],
            [],
        ),
        txn(
            [],
            [
                Op::RequestPut(previous),
                Op::RequestDeleteRange(delete("txn/d", "", true)),
            ],
            [],
        ),
        // Refused.
        txn(
            [version("txn/a", 0)],
            [],
            [Op::RequestPut(keeps_none), Op::RequestPut(keeps)],
        ),
        txn([], [Op::RequestPut(leased), reads("txn/a")], []),
        txn([], [writes("txn/a"), Op::RequestRange(future.clone())], []),
        txn([], [Op::RequestRange(future)], []),
        txn([], [writes("txn/a"), writes("txn/a")], []),
        txn([], (0..200).map(|number| writes(["txn/x", "txn/y"][number % 2])), []),
    ];
    for request in requests {
        ask(wire, TXN, &request).await;
    }
}

/// Requests of operators.
pub(super) async fn maintenance(wire: &Wire) {
    ask(wire, "/etcdserverpb.Maintenance/Defragment", &DefragmentRequest {}).await;
    ask(wire, "/etcdserverpb.Maintenance/Status", &StatusRequest {}).await;
    ask(wire, "/etcdserverpb.Maintenance/Hash", &HashRequest {}).await;
    for revision in [0, 18, 20, 2, 1_000_000] {
        ask(wire, "/etcdserverpb.Maintenance/HashKV", &HashKvRequest { revision }).await;
    }
    for linearizable in [false, true] {
        ask(
            wire,
            "/etcdserverpb.Cluster/MemberList",
            &MemberListRequest { linearizable },
        )
        .await;
    }
    for service in ["", "nothing"] {
        let service = service.to_owned();
        ask(wire, HEALTH_CHECK, &HealthCheckRequest { service }).await;
    }
    ask(wire, ALARM, &AlarmRequest::default()).await;
}

/// Calls that gRPC itself or the interceptors refuse.
pub(super) async fn refusals(wire: &Wire) {
    let get = range("keys/a", "");
    ask(wire, "/etcdserverpb.KV/Nothing", &get).await;
    ask(wire, "/nothing.Nothing/Range", &get).await;
    ask(wire, PUT, &put("keys/a", &"v".repeat(TOO_BIG_BYTES))).await;
    // Larger than a request may be, smaller than a message may be.
    ask(wire, PUT, &put("keys/a", &"v".repeat(1_600_000))).await;
    let headers: [(&str, &[u8]); 4] = [
        ("client-api-version", b"3.5.0"),
        ("grpc-timeout", b"1n"),
        ("grpc-encoding", b"nothing"),
        ("hasleader", b"true"),
    ];
    for header in headers {
        if let Ok(mut exchange) = wire.call_with(RANGE, &get, true, Some(header)).await {
            while let Ok(Some(_)) = exchange.next().await {}
        }
    }
    // A key whose length exceeds the message.
    ask(wire, RANGE, &Nonsense).await;
}

pub(super) async fn disarm(wire: &Wire) {
    let disarm = AlarmRequest {
        action: AlarmAction::Deactivate as i32,
        alarm: AlarmType::Nospace as i32,
        ..AlarmRequest::default()
    };
    // The request names no member, so no alarm is disarmed.
    ask(wire, ALARM, &disarm).await;
    ask(wire, ALARM, &AlarmRequest::default()).await;
}

/// Bytes that are not a message: a field of length 100 with no bytes after it.
#[derive(Clone, Copy, Debug, Default)]
struct Nonsense;

impl Message for Nonsense {
    fn encode_raw(&self, buf: &mut impl bytes::BufMut) {
        buf.put_slice(&[0x0a, 100]);
    }

    fn merge_field(
        &mut self,
        _: u32,
        _: prost::encoding::WireType,
        _: &mut impl bytes::Buf,
        _: prost::encoding::DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        2
    }

    fn clear(&mut self) {}
}
