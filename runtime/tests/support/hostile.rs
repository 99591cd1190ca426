//! Odd and hostile clients. They send raw frames if no HTTP/2 library would send such bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::StreamBody;
use prost::Message as _;
use quoin_core::limits::{CONNECTION_PARTIAL_BYTES, STREAM_WINDOW_BYTES};
use quoin_core::proto::etcdserverpb::{
    AuthStatusRequest, AuthStatusResponse, AuthUserListRequest, AuthUserListResponse, AuthenticateRequest, PutRequest,
    PutResponse, RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest, WatchResponse, watch_request,
};
use quoin_runtime::seam::Runtime;

use super::client::{Grpc, frame as message, prefixed, run, sleep};
use super::raw::{
    DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, frame, headers,
    indexed,
};
use super::{World, config};

const WINDOW: u32 = 1 << 20;
const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

fn get(key: &'static str) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    }
}

fn put(key: &'static str, value: impl Into<Bytes>) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    }
}

/// The frames of a call whose body is one message.
fn call(stream: u32, block: &[u8], body: &[u8]) -> Vec<u8> {
    let head = frame(HEADERS, END_HEADERS, stream, block);
    [head, frame(DATA, END_STREAM, stream, body)].concat()
}

/// Whether a call is answered with a message.
async fn is_served(raw: &mut Raw, stream: u32) -> bool {
    while let Some(frame) = raw.next().await {
        match frame.kind {
            DATA if frame.stream == stream && !frame.payload.is_empty() => return true,
            RST_STREAM if frame.stream == stream => return false,
            GOAWAY => return false,
            HEADERS if frame.stream == stream && frame.flags & END_STREAM != 0 => return false,
            _ => {}
        }
    }
    false
}

const POST: (&str, &str) = (":method", "POST");
const HTTP: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", RANGE);
const AUTHORITY: (&str, &str) = (":authority", "test");
const TYPE: (&str, &str) = ("content-type", "application/grpc");
const TRAILERS: (&str, &str) = ("te", "trailers");

pub(crate) fn odd_headers_are_served_as_in_etcd(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        let long = "/var/run/a path that is longer than most.sock".repeat(2);
        let table: Vec<Vec<(&str, &str)>> = vec![
            vec![POST, HTTP, PATH, AUTHORITY, TYPE, TRAILERS],
            vec![
                POST,
                HTTP,
                PATH,
                (":authority", "#initially=[http://127.0.0.1:2379]"),
                TYPE,
                TRAILERS,
            ],
            vec![POST, HTTP, PATH, (":authority", "/tmp/client.sock"), TYPE, TRAILERS],
            vec![(":path", RANGE), (":authority", &long), POST, HTTP, TYPE],
            vec![POST, HTTP, PATH, (":authority", "ümlaut"), TYPE],
            vec![POST, HTTP, PATH, TYPE],
            vec![POST, PATH, AUTHORITY, TYPE, TRAILERS],
            vec![POST, PATH, (":authority", "a b"), TYPE, ("te", "gzip")],
            vec![POST, (":scheme", "un ix"), PATH, AUTHORITY, TYPE],
            vec![POST, HTTP, PATH, AUTHORITY, TYPE, ("te", "trailers, deflate")],
            vec![
                POST,
                HTTP,
                PATH,
                AUTHORITY,
                TYPE,
                ("keep-alive", "5"),
                ("proxy-connection", "keep-alive"),
            ],
            vec![
                POST,
                HTTP,
                PATH,
                AUTHORITY,
                TYPE,
                ("transfer-encoding", "chunked"),
                ("upgrade", "x"),
            ],
        ];
        for list in table {
            let mut raw = Raw::connect(&runtime, address).await;
            let body = message(&get("a"));
            raw.send(&call(1, &headers(&list), &body)).await;
            assert!(is_served(&mut raw, 1).await, "{list:?}");
            // The same headers as references to the dynamic table, as every client sends them from its second request
            // on.
            let entries: Vec<u8> = (0..list.len()).rev().map(|at| 62 + at as u8).collect();
            raw.send(&call(3, &indexed(&entries), &body)).await;
            assert!(is_served(&mut raw, 3).await, "by reference: {list:?}");
        }
        // The entry `:authority` of the static table, whose value is empty.
        let mut raw = Raw::connect(&runtime, address).await;
        let block = [&headers(&[POST, HTTP, PATH])[..], &[0x81], &headers(&[TYPE])].concat();
        raw.send(&call(1, &block, &message(&get("a")))).await;
        assert!(is_served(&mut raw, 1).await, "an empty authority");
    });
    world.stop();
}

/// The entries of the dynamic table after [`opened`]: content type, authority, path, scheme, method.
const AGAIN: [u8; 5] = [66, 65, 64, 63, 62];

/// A connection with one call made on stream 1, so that later calls can refer to its headers.
async fn opened(runtime: &Arc<dyn Runtime>, address: std::net::SocketAddr) -> Raw {
    let mut raw = Raw::connect(runtime, address).await;
    let block = headers(&[POST, HTTP, PATH, AUTHORITY, TYPE]);
    raw.send(&call(1, &block, &message(&get("a")))).await;
    assert!(is_served(&mut raw, 1).await);
    raw
}

pub(crate) fn bursts_of_cancelled_calls_do_not_end_a_watch_of_the_connection(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        let mut raw = opened(&runtime, address).await;
        let create = WatchRequest {
            request_union: Some(watch_request::RequestUnion::CreateRequest(WatchCreateRequest {
                key: "k".into(),
                ..WatchCreateRequest::default()
            })),
        };
        let block = [indexed(&[66, 65]), headers(&[(":path", WATCH)]), indexed(&[64, 63])].concat();
        raw.send(&frame(HEADERS, END_HEADERS, 3, &block)).await;
        raw.send(&frame(DATA, 0, 3, &message(&create))).await;
        assert!(is_served(&mut raw, 3).await, "the watch is created");
        // The watch's path is an entry of the table now, so the indexes of the older entries have grown by one.
        let again = indexed(&AGAIN.map(|entry| entry + 1));
        let body = message(&get("a"));
        let mut stream = 5;
        for _ in 0..50 {
            let mut burst = Vec::new();
            for _ in 0..400 {
                burst.extend(call(stream, &again, &body));
                burst.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
                stream += 2;
            }
            assert!(raw.send(&burst).await, "the connection stays open");
        }
        let grpc = Grpc::connect(&runtime, address, WINDOW).await;
        let _: PutResponse = grpc.ok(PUT, &put("k", "v")).await;
        loop {
            let frame = raw.next().await.expect("the connection stays open");
            assert!(frame.kind != GOAWAY, "{frame:?}");
            assert!((frame.kind, frame.stream) != (RST_STREAM, 3), "{frame:?}");
            if let Some(event) = watch_response(&frame, 3) {
                assert_eq!(event.events.len(), 1);
                break;
            }
        }
        raw.send(&call(stream, &again, &body)).await;
        assert!(is_served(&mut raw, stream).await, "other calls are served");
    });
    world.stop();
}

fn watch_response(frame: &Frame, stream: u32) -> Option<WatchResponse> {
    let is_message = frame.kind == DATA && frame.stream == stream && frame.payload.len() > 5;
    is_message.then(|| WatchResponse::decode(&frame.payload[5..]).unwrap())
}

pub(crate) fn a_flood_of_resets_ends_only_its_connection(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        let other = Grpc::connect(&runtime, address, WINDOW).await;
        let _: RangeResponse = other.ok(RANGE, &get("a")).await;
        let mut raw = opened(&runtime, address).await;
        let again = indexed(&AGAIN);
        let mut stream = 3;
        let mut is_open = true;
        for _ in 0..200 {
            let mut flood = Vec::new();
            for _ in 0..10_000 {
                flood.extend(frame(HEADERS, END_HEADERS, stream, &again));
                flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
                stream += 2;
            }
            is_open = raw.send(&flood).await;
            if !is_open {
                break;
            }
        }
        assert!(!is_open, "the connection survived two million resets");
        let _: RangeResponse = other.ok(RANGE, &get("a")).await;
    });
    world.stop();
}

/// The flow-control windows: how much the client may still send.
struct Windows {
    connection: i64,
    streams: Vec<i64>,
}

impl Windows {
    /// Applies a frame of the server. The streams are numbered 1, 3, 5 and so on.
    fn note(&mut self, frame: &Frame) {
        let word = |at: usize| i64::from(u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap()));
        match frame.kind {
            WINDOW_UPDATE if frame.stream == 0 => self.connection += word(0),
            WINDOW_UPDATE => self.streams[frame.stream as usize / 2] += word(0),
            SETTINGS => {
                for at in (0..frame.payload.len()).step_by(6) {
                    if frame.payload[at..at + 2] == [0, 4] {
                        self.streams
                            .iter_mut()
                            .for_each(|window| *window += word(at + 2) - 65_535);
                    }
                }
            }
            _ => {}
        }
    }
}

pub(crate) fn the_bytes_of_incomplete_messages_of_a_connection_are_bounded(runtime: Arc<dyn Runtime>) {
    const STREAMS: usize = 100;
    const MESSAGE_BYTES: usize = 2_000_000;
    let world = World::start(runtime);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    let sent = run(&world.runtime, async move {
        let mut raw = Raw::connect(&runtime, address).await;
        let mut windows = Windows {
            connection: 65_535,
            streams: vec![65_535; STREAMS],
        };
        let list = [POST, HTTP, (":path", PUT), AUTHORITY, TYPE];
        for at in 0..STREAMS {
            let block = if at == 0 { headers(&list) } else { indexed(&AGAIN) };
            raw.send(&frame(HEADERS, END_HEADERS, 2 * at as u32 + 1, &block)).await;
        }
        let prefix = [&[0][..], &(MESSAGE_BYTES as u32).to_be_bytes()].concat();
        let mut sent = [0; STREAMS];
        loop {
            let mut progressed = false;
            for (at, sent) in sent.iter_mut().enumerate() {
                // The last byte is never sent, so no message is complete.
                let left = MESSAGE_BYTES + prefix.len() - 1 - *sent;
                let room = windows.connection.min(windows.streams[at]).clamp(0, 16_384) as usize;
                let length = left.min(room);
                if length == 0 {
                    continue;
                }
                let mut bytes = vec![b'v'; length];
                if *sent == 0 {
                    bytes[..prefix.len()].copy_from_slice(&prefix);
                }
                assert!(raw.send(&frame(DATA, 0, 2 * at as u32 + 1, &bytes)).await);
                *sent += length;
                windows.connection -= length as i64;
                windows.streams[at] -= length as i64;
                progressed = true;
            }
            let patience = if progressed {
                Duration::ZERO
            } else {
                Duration::from_secs(1)
            };
            let Some(frame) = raw.next_within(&runtime, patience).await else {
                if progressed {
                    continue;
                }
                break;
            };
            windows.note(&frame);
        }
        sent.iter().sum::<usize>()
    });
    world.stop();
    // The bytes that the server may hold; every stream's window twice, because a window may have been renewed just
    // before the bound was reached; and two messages for the call that the server still reads.
    let bound = CONNECTION_PARTIAL_BYTES + 2 * STREAMS * STREAM_WINDOW_BYTES as usize + 2 * MESSAGE_BYTES;
    assert!(
        4 * bound <= STREAMS * MESSAGE_BYTES,
        "the bound must be small enough to be reached"
    );
    assert!(sent <= bound, "{sent} bytes were taken, not {bound}");
}

pub(crate) fn many_large_messages_at_once_all_arrive(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        let grpc = Grpc::connect(&runtime, address, WINDOW).await;
        let (sender, done) = async_channel::bounded(64);
        for _ in 0..24 {
            let (grpc, sender) = (grpc.clone(), sender.clone());
            runtime.spawn(Box::pin(async move {
                let outcome = grpc.call(PUT, &[], &put("k", vec![7; 1_500_000])).await;
                let _ = sender.send(outcome.status).await;
            }));
        }
        drop(sender);
        let mut answers = 0;
        while let Ok(status) = done.recv().await {
            assert_eq!(status.0, 0, "{}", status.1);
            answers += 1;
        }
        assert_eq!(answers, 24);
    });
    world.stop();
}

pub(crate) fn max_concurrent_streams_0_means_unlimited(runtime: Arc<dyn Runtime>) {
    let mut config = config();
    config.max_concurrent_streams = 0;
    let world = World::start_with(runtime, &config);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        let grpc = Grpc::connect(&runtime, address, WINDOW).await;
        let mut streams = Vec::new();
        for _ in 0..300 {
            streams.push(grpc.begin(WATCH, &[]).await);
        }
        let _: RangeResponse = grpc.ok(RANGE, &get("a")).await;
    });
    world.stop();
}

pub(crate) fn a_cancelled_call_frees_its_place(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    world.control.set_stuck(true);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    let control = world.control.clone();
    run(&world.runtime, async move {
        let grpc = Grpc::connect(&runtime, address, WINDOW).await;
        let wait_for = async |waiting: usize| {
            for _ in 0..2_000 {
                if control.waiting() == waiting {
                    return;
                }
                sleep(&runtime, Duration::from_millis(5)).await;
            }
            panic!("{} calls wait, not {waiting}", control.waiting());
        };
        let (messages, stream) = grpc.begin(PUT, &[]).await;
        messages.send(&put("k", "v")).await;
        drop(messages);
        wait_for(1).await;
        drop(stream);
        wait_for(0).await;
        let outcome = grpc.call(RANGE, &[("grpc-timeout", "20m")], &get("k")).await;
        assert_eq!(outcome.status.0, 4);
        wait_for(0).await;
        let outcome = grpc.call(RANGE, &[("grpc-timeout", "0S")], &get("k")).await;
        assert_eq!(outcome.status, (4, "context deadline exceeded".to_owned()));
    });
    world.stop();
}

pub(crate) fn malformed_calls_get_etcds_codes(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        let grpc = Grpc::connect(&runtime, address, WINDOW).await;
        let whole = message(&get("a"));
        let cut = whole[..whole.len() - 1].to_vec();
        let watch_of_health = "/grpc.health.v1.Health/Watch";
        let none = "cardinality violation: received no request message from non-client-streaming RPC";
        let table: [(&str, Vec<u8>, (&str, &str)); 8] = [
            (RANGE, vec![], ("2", "EOF")),
            (RANGE, vec![0, 0], ("2", "EOF")),
            (RANGE, cut.clone(), ("2", "unexpected EOF")),
            (WATCH, cut.clone(), ("13", "unexpected EOF")),
            ("/etcdserverpb.Lease/LeaseKeepAlive", vec![0], ("0", "")),
            (
                "/etcdserverpb.Lease/LeaseKeepAlive",
                cut.clone(),
                ("13", "unexpected EOF"),
            ),
            (watch_of_health, vec![], ("13", none)),
            (watch_of_health, cut, ("13", "unexpected EOF")),
        ];
        for (path, body, expected) in table {
            let (code, text) = grpc.raw(path, &[], body.clone()).await.status;
            assert_eq!((code.to_string().as_str(), text.as_str()), expected, "{path} {body:?}");
        }
        let garbage = grpc.raw(WATCH, &[], prefixed(0, &[0xff, 0xff])).await.status;
        assert_eq!(garbage.0, 13);
        assert!(
            garbage
                .1
                .starts_with("grpc: failed to unmarshal the received message: "),
            "{}",
            garbage.1
        );
    });
    world.stop();
}

pub(crate) fn refusals_before_a_call_have_http_statuses(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        let grpc = Grpc::connect(&runtime, address, WINDOW).await;
        let wrong_method = "Received a HEADERS frame with :method \"GET\" which should be POST";
        let short = "malformed grpc-timeout: transport: timeout string is too short: \"5\"";
        let table = [
            ("POST", "application/grpc", "5", 400, "application/grpc", "13", short),
            (
                "GET",
                "application/grpc",
                "5S",
                405,
                "application/grpc",
                "13",
                wrong_method,
            ),
            (
                "GET",
                "text/plain",
                "5S",
                415,
                "application/grpc",
                "3",
                "invalid gRPC request content-type \"text/plain\"",
            ),
            (
                "POST",
                "application/grpcx",
                "5S",
                415,
                "application/grpc",
                "3",
                "invalid gRPC request content-type \"application/grpcx\"",
            ),
            (
                "POST",
                "application/grpc-web",
                "5S",
                415,
                "application/grpc",
                "3",
                "invalid gRPC request content-type \"application/grpc-web\"",
            ),
            (
                "POST",
                "application/grpc+proto",
                "5S",
                200,
                "application/grpc+proto",
                "2",
                "EOF",
            ),
            (
                "POST",
                "application/grpc;x",
                "5S",
                200,
                "application/grpc+x",
                "2",
                "EOF",
            ),
        ];
        for (method, content_type, timeout, status, answered_type, code, text) in table {
            let (messages, body) = async_channel::bounded(1);
            drop(messages);
            let request = Request::builder()
                .method(method)
                .uri(format!("http://test{RANGE}"))
                .header("content-type", content_type)
                .header("grpc-timeout", timeout)
                .body(StreamBody::new(Box::pin(body)))
                .unwrap();
            let head = grpc.head(request).await;
            let header = |name| head.headers[name].to_str().unwrap();
            assert_eq!(head.status, status, "{method} {content_type} {timeout}");
            assert_eq!(header("content-type"), answered_type);
            assert_eq!((header("grpc-status"), header("grpc-message")), (code, text));
        }
    });
    world.stop();
}

pub(crate) fn auth_calls_are_answered_as_in_etcd_while_auth_is_off(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        let grpc = Grpc::connect(&runtime, address, WINDOW).await;
        let auth = |method: &str| format!("/etcdserverpb.Auth/{method}");
        let status: AuthStatusResponse = grpc.ok(&auth("AuthStatus"), &AuthStatusRequest {}).await;
        assert_eq!((status.enabled, status.auth_revision), (false, 1));
        assert_eq!(status.header.unwrap().revision, 1);
        let users: AuthUserListResponse = grpc.ok(&auth("UserList"), &AuthUserListRequest {}).await;
        assert!(users.users.is_empty() && users.header.is_some());
        let asked = AuthenticateRequest {
            name: "root".to_owned(),
            password: "pw".to_owned(),
        };
        let outcome = grpc.call(&auth("Authenticate"), &[], &asked).await;
        assert_eq!(
            outcome.status,
            (9, "etcdserver: authentication is not enabled".to_owned())
        );
        // Every method can decode both of these as its request: an empty message, and one with a name in field 1.
        let named = [prefixed(0, b""), prefixed(0, b"\x0a\x01n")];
        let table = [
            ("RoleList", 0, 0, ""),
            ("AuthDisable", 0, 0, ""),
            ("AuthEnable", 0, 9, "etcdserver: root user does not exist"),
            ("UserGet", 1, 9, "etcdserver: user name not found"),
            ("UserDelete", 1, 9, "etcdserver: user name not found"),
            ("UserChangePassword", 1, 9, "etcdserver: user name not found"),
            ("UserGrantRole", 1, 9, "etcdserver: user name not found"),
            ("UserRevokeRole", 1, 9, "etcdserver: user name not found"),
            ("RoleGet", 1, 9, "etcdserver: role name not found"),
            ("RoleDelete", 1, 9, "etcdserver: role name not found"),
            ("RoleRevokePermission", 1, 9, "etcdserver: role name not found"),
            ("RoleGrantPermission", 1, 3, "etcdserver: permission not given"),
            ("UserAdd", 0, 3, "etcdserver: user name is empty"),
            ("RoleAdd", 0, 3, "etcdserver: role name is empty"),
            ("RoleAdd", 1, 0, ""),
            ("RoleAdd", 1, 9, "etcdserver: role name already exists"),
            ("UserAdd", 1, 0, ""),
            ("UserAdd", 1, 9, "etcdserver: user name already exists"),
        ];
        for (method, body, code, text) in table {
            let outcome = grpc.raw(&auth(method), &[], named[body].clone()).await;
            assert_eq!(outcome.status, (code, text.to_owned()), "{method}");
        }
    });
    world.stop();
}
