//! The hostile loads.

use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use quoin_conformance::{Server, Trouble, trouble::During};
use quoin_core::proto::etcdserverpb::compare::{CompareResult, CompareTarget};
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest, LeaseLeasesRequest, LeaseTimeToLiveRequest,
    PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Content, Done, Load};
use crate::load::{self, Clients, Shape};
use crate::requests::{self, framed};

const MANY: Content = Content::Keys(100_000, 16);
const LARGE: Content = Content::Keys(100_000, 1024);
const PUTS_AT_ONCE: u64 = 100;
const GZIP: &[(&str, &str)] = &[("grpc-encoding", "gzip")];

/// All loads, in the order of the report.
pub const ALL: [Load; 12] = [
    Load {
        name: "txn that reads: 100 ranges over 100,000 keys, 1 client",
        content: MANY,
        run: |server, time| repeat(server, time, 1, requests::TXN, &[], reading_txn(100)),
    },
    Load {
        name: "gzip: 8 lists of 100 MB at once",
        content: LARGE,
        run: |server, time| repeat(server, time, 8, requests::RANGE, GZIP, framed(&all())),
    },
    Load {
        name: "metrics: 50 clients",
        content: Content::Keys(1_000, 16),
        run: |server, time| load::run(ask_metrics(server, time, 50)),
    },
    Load {
        name: "writing txn with 100 ranges over 100,000 keys, 4 clients",
        content: MANY,
        run: |server, time| repeat(server, time, 4, requests::TXN, &[], writing_txn(0, 100)),
    },
    Load {
        name: "compares: 20 txns with 100 range compares each",
        content: MANY,
        run: |server, time| repeat(server, time, 20, requests::TXN, &[], writing_txn(100, 0)),
    },
    Load {
        name: "bounded writing txns: 20 that read as many keys as they may",
        content: Content::Keys(10_000, 16),
        run: |server, time| repeat(server, time, 20, requests::TXN, &[], writing_txn(1, 1)),
    },
    Load {
        name: "sorted: 8 clients list 100,000 keys by value with limit 1",
        content: LARGE,
        run: |server, time| {
            let sorted = RangeRequest {
                sort_order: 2,
                sort_target: 4,
                limit: 1,
                ..all()
            };
            repeat(server, time, 8, requests::RANGE, &[], framed(&sorted))
        },
    },
    Load {
        name: "hashes: 8 clients",
        content: LARGE,
        run: |server, time| repeat(server, time, 8, HASH_KV, &[], framed(&HashKvRequest::default())),
    },
    Load {
        name: "leases: 8 clients list 20,000 leases and 20,000 keys of one",
        content: Content::Leases(20_000),
        run: |server, time| load::run(ask_leases(server, time, 8)),
    },
    Load {
        name: "deletions of 100,000 keys, which are put again",
        content: MANY,
        run: |server, time| load::run(delete_all(server, time)),
    },
    Load {
        name: "windows: 2,000 streams whose windows change all the time",
        content: Content::Keys(1, 16),
        run: |server, time| load::run(change_windows(server, time)),
    },
    Load {
        name: "partial messages of 2 MB on 150 streams of one connection",
        content: Content::Keys(1, 16),
        run: |server, time| load::run(send_halves(server, time)),
    },
];

const HASH_KV: &str = "/etcdserverpb.Maintenance/HashKV";
const LEASES: &str = "/etcdserverpb.Lease/LeaseLeases";
const TIME_TO_LIVE: &str = "/etcdserverpb.Lease/LeaseTimeToLive";
const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const DELETE: &str = "/etcdserverpb.KV/DeleteRange";

fn all() -> RangeRequest {
    RangeRequest {
        key: "key/".into(),
        range_end: "key0".into(),
        ..RangeRequest::default()
    }
}

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn reading_txn(ranges: usize) -> Bytes {
    framed(&TxnRequest {
        success: vec![op(Op::RequestRange(all())); ranges],
        ..TxnRequest::default()
    })
}

/// A put, with ranges and compares over all keys.
fn writing_txn(compares: usize, ranges: usize) -> Bytes {
    let every_key_has_a_version = Compare {
        result: CompareResult::Greater.into(),
        target: CompareTarget::Version.into(),
        key: all().key,
        range_end: all().range_end,
        target_union: None,
    };
    let put = op(Op::RequestPut(PutRequest {
        key: "mark".into(),
        ..PutRequest::default()
    }));
    framed(&TxnRequest {
        compare: vec![every_key_has_a_version; compares],
        success: [vec![put], vec![op(Op::RequestRange(all())); ranges]].concat(),
        failure: Vec::new(),
    })
}

/// Fills a server.
pub(super) async fn fill(server: &Server, content: Content) -> Result<(), Trouble> {
    let clients = Clients::connect(server.address(), 4).await?;
    match content {
        Content::Keys(keys, bytes) => put_keys(&clients, keys, bytes, 0).await,
        Content::Leases(leases) => {
            let shape = Shape {
                connections: 4,
                streams: 16,
                requests: leases,
            };
            let grant = |number| {
                framed(&LeaseGrantRequest {
                    ttl: 10_000,
                    id: number as i64 + 1,
                })
            };
            clients.drive(shape, GRANT, grant).await?;
            put_keys(&clients, leases, 16, 1).await
        }
    }
}

async fn put_keys(clients: &Clients, keys: u64, bytes: usize, lease: i64) -> Result<(), Trouble> {
    let value = requests::value(bytes);
    let shape = Shape {
        connections: 4,
        streams: 4,
        requests: keys.div_ceil(PUTS_AT_ONCE),
    };
    let many = move |number: u64| {
        let from = number * PUTS_AT_ONCE;
        let put = |at: u64| {
            op(Op::RequestPut(PutRequest {
                key: format!("key/{at:08}").into(),
                value: value.clone(),
                lease,
                ..PutRequest::default()
            }))
        };
        framed(&TxnRequest {
            success: (from..(from + PUTS_AT_ONCE).min(keys)).map(put).collect(),
            ..TxnRequest::default()
        })
    };
    clients.drive(shape, requests::TXN, many).await.map(drop)
}

/// Counts of a load's clients.
#[derive(Clone, Default)]
struct Counts(Rc<Cell<Done>>);

impl Counts {
    fn count(&self, status: u8) {
        let mut done = self.0.get();
        if status == 0 {
            done.answered += 1;
        } else {
            done.refused += 1;
        }
        self.0.set(done);
    }
}

/// Runs clients until the time is up; requests in flight are then dropped.
async fn clients_for<F: Future<Output = Result<(), Trouble>> + 'static>(
    time: Duration,
    clients: impl IntoIterator<Item = F>,
) -> Result<(), Trouble> {
    let mut running = tokio::task::JoinSet::new();
    clients.into_iter().for_each(|client| drop(running.spawn_local(client)));
    let ended = tokio::time::timeout(time, running.join_next()).await;
    match ended {
        Ok(Some(Ok(result))) => result.and(Err(Trouble::new("a client stopped asking"))),
        Ok(_) => Err(Trouble::new("a client panicked")),
        Err(_) => Ok(()),
    }
}

/// Lets this many clients repeat a request, each on a separate connection.
fn repeat(
    server: &Server,
    time: Duration,
    clients: usize,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    message: Bytes,
) -> Result<Done, Trouble> {
    load::run(async {
        let counts = Counts::default();
        let connections = Rc::new(Clients::connect(server.address(), clients).await?);
        let client = |number| {
            let (connections, counts, message) = (Rc::clone(&connections), counts.clone(), message.clone());
            async move {
                loop {
                    let (_, status) = connections.call(number, path, headers, message.clone()).await?;
                    counts.count(status);
                }
            }
        };
        clients_for(time, (0..clients).map(client)).await?;
        Ok(counts.0.get())
    })
}

async fn ask_metrics(server: &Server, time: Duration, clients: usize) -> Result<Done, Trouble> {
    let counts = Counts::default();
    let address = server.address();
    let client = |_| {
        let counts = counts.clone();
        async move {
            let mut page = Vec::new();
            loop {
                let mut socket = TcpStream::connect(address).await.during("connecting")?;
                let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
                socket.write_all(request.as_bytes()).await.during("asking")?;
                page.clear();
                socket.read_to_end(&mut page).await.during("reading")?;
                counts.count(u8::from(!page.starts_with(b"HTTP/1.1 200")));
            }
        }
    };
    clients_for(time, (0..clients).map(client)).await?;
    Ok(counts.0.get())
}

async fn ask_leases(server: &Server, time: Duration, clients: usize) -> Result<Done, Trouble> {
    let counts = Counts::default();
    let connections = Rc::new(Clients::connect(server.address(), clients).await?);
    let client = |number: usize| {
        let (connections, counts) = (Rc::clone(&connections), counts.clone());
        async move {
            let (path, message) = if number.is_multiple_of(2) {
                (LEASES, framed(&LeaseLeasesRequest {}))
            } else {
                (TIME_TO_LIVE, framed(&LeaseTimeToLiveRequest { id: 1, keys: true }))
            };
            loop {
                let (_, status) = connections.call(number, path, &[], message.clone()).await?;
                counts.count(status);
            }
        }
    };
    clients_for(time, (0..clients).map(client)).await?;
    Ok(counts.0.get())
}

async fn delete_all(server: &Server, time: Duration) -> Result<Done, Trouble> {
    let counts = Counts::default();
    let connections = Clients::connect(server.address(), 4).await?;
    let counting = counts.clone();
    let client = async move {
        loop {
            let range = DeleteRangeRequest {
                key: all().key,
                range_end: all().range_end,
                prev_kv: false,
            };
            let (_, status) = connections.call(0, DELETE, &[], framed(&range)).await?;
            counting.count(status);
            put_keys(&connections, 100_000, 16, 0).await?;
        }
    };
    clients_for(time, [client]).await?;
    Ok(counts.0.get())
}

type Connection = (h2::client::SendRequest<Bytes>, h2::client::Connection<TcpStream, Bytes>);

async fn connect(address: SocketAddr) -> Result<Connection, Trouble> {
    let socket = TcpStream::connect(address).await.during("connecting")?;
    h2::client::Builder::new()
        .initial_max_send_streams(10_000)
        .handshake(socket)
        .await
        .during("the HTTP/2 handshake")
}

/// Opens this many streams, each with this first message, and leaves them open.
async fn open(
    requests: h2::client::SendRequest<Bytes>,
    (address, path): (SocketAddr, &str),
    streams: usize,
    message: Bytes,
) -> Result<(), Trouble> {
    let uri: Uri = format!("http://{address}{path}").parse().during("an address")?;
    let head = Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let head = head.body(()).during("a request")?;
    let mut open = Vec::new();
    for _ in 0..streams {
        let mut ready = requests.clone().ready().await.during("a free stream")?;
        let (response, mut sending) = ready.send_request(head.clone(), false).during("a stream")?;
        sending.send_data(message.clone(), false).during("a stream")?;
        open.push((response, sending));
    }
    std::future::pending::<()>().await;
    drop(open);
    Ok(())
}

/// Runs `once` again and again until the time is up. Each run uses a new connection and lasts until the server ends it,
/// which counts as a refusal.
async fn again_and_again<F: Future<Output = Result<(), Trouble>> + 'static>(
    time: Duration,
    counts: Counts,
    once: impl Fn() -> F + 'static,
) -> Result<Done, Trouble> {
    let refused = counts.clone();
    let client = async move {
        loop {
            // The way a connection ends does not matter here.
            let _ended = once().await;
            refused.count(1);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    clients_for(time, [client]).await?;
    Ok(counts.0.get())
}

/// Opens watch streams and changes the window of all of them until the time is up.
async fn change_windows(server: &Server, time: Duration) -> Result<Done, Trouble> {
    let (address, counts) = (server.address(), Counts::default());
    let changes = counts.clone();
    let once = move || {
        let changes = changes.clone();
        async move {
            let (requests, mut connection) = connect(address).await?;
            let watch = requests::watch("quiet");
            let mut opening = Box::pin(open(requests, (address, requests::WATCH), 2_000, watch));
            let mut ticks = tokio::time::interval(Duration::from_millis(1));
            let mut window = 65_535;
            std::future::poll_fn(move |cx| {
                if let Poll::Ready(ended) = opening.as_mut().poll(cx) {
                    return Poll::Ready(ended);
                }
                loop {
                    if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                        return Poll::Ready(ended.during("the connection"));
                    }
                    if ticks.poll_tick(cx).is_pending() {
                        return Poll::Pending;
                    }
                    window = if window == 0 { 65_535 } else { 0 };
                    // Only one change can be in flight.
                    if connection.set_initial_window_size(window).is_ok() {
                        changes.count(0);
                    }
                }
            })
            .await
        }
    };
    again_and_again(time, counts, once).await
}

/// Sends messages of two megabytes without their last byte, and waits.
async fn send_halves(server: &Server, time: Duration) -> Result<Done, Trouble> {
    let address = server.address();
    let whole = framed(&PutRequest {
        key: "k".into(),
        value: vec![0; 2_000_000].into(),
        ..PutRequest::default()
    });
    let part = whole.slice(..whole.len() - 1);
    let once = move || {
        let part = part.clone();
        async move {
            let (requests, mut connection) = connect(address).await?;
            let mut opening = Box::pin(open(requests, (address, requests::PUT), 150, part));
            std::future::poll_fn(move |cx| {
                if let Poll::Ready(ended) = opening.as_mut().poll(cx) {
                    return Poll::Ready(ended);
                }
                Pin::new(&mut connection)
                    .poll(cx)
                    .map(|ended| ended.during("the connection"))
            })
            .await
        }
    };
    again_and_again(time, Counts::default(), once).await
}
