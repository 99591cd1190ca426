//! Requests that no correct client sends, over plain HTTP/2 and HTTP/1.1.
//!
//! The words of a transport-level refusal are the gRPC library's, so only its code is compared; etcd's own refusals are
//! compared with their words.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use super::tale::Tale;

const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// A bare HTTP/2 connection.
struct Wire {
    requests: SendRequest<Bytes>,
    /// Drives the connection, and ends it when dropped.
    _connection: JoinSet<()>,
    authority: String,
}

/// The answer: everything the server sent until it ended the stream.
#[derive(Debug, Default)]
struct Answer {
    http: u16,
    grpc: Option<String>,
    message: String,
    body: BytesMut,
    reset: Option<String>,
}

impl Wire {
    async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection on loopback");
        let (requests, connection) = h2::client::handshake(stream).await.expect("an HTTP/2 handshake");
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // If the connection fails, its requests report it.
            let _ = connection.await;
        });
        Self {
            requests,
            _connection: driver,
            authority: address.to_owned(),
        }
    }

    fn request(&self, path: &str) -> http::request::Builder {
        Request::post(format!("http://{}{path}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
    }

    /// Sends a request with this body; unless `open`, the stream is ended after it.
    async fn send(&self, request: http::request::Builder, body: Bytes, open: bool) -> Answer {
        let mut answer = Answer::default();
        match tokio::time::timeout(ANSWER_LIMIT, self.exchange(request, body, open, &mut answer)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                answer.reset = Some(
                    error
                        .reason()
                        .map_or_else(|| error.to_string(), |why| format!("{why:?}")),
                )
            }
            Err(_) => answer.reset = Some("no end came".to_owned()),
        }
        answer
    }

    async fn exchange(
        &self,
        request: http::request::Builder,
        body: Bytes,
        open: bool,
        answer: &mut Answer,
    ) -> Result<(), h2::Error> {
        let mut requests = self.requests.clone().ready().await?;
        let (response, mut sending) = requests.send_request(request.body(()).expect("a request"), false)?;
        sending.send_data(body, !open)?;
        let response = response.await?;
        answer.http = response.status().as_u16();
        answer.read(response.headers());
        let mut receiving = response.into_body();
        while let Some(data) = receiving.data().await {
            let data = data?;
            receiving.flow_control().release_capacity(data.len())?;
            answer.body.extend_from_slice(&data);
        }
        if let Some(trailers) = receiving.trailers().await? {
            answer.read(&trailers);
        }
        Ok(())
    }
}

impl Answer {
    fn read(&mut self, headers: &HeaderMap) {
        let text = |name| {
            headers
                .get(name)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        self.grpc = text("grpc-status").or(self.grpc.take());
        self.message = text("grpc-message").unwrap_or_default();
    }

    fn shown(&self) -> String {
        if let Some(reset) = &self.reset {
            return format!("the stream is broken off: {reset}");
        }
        let Some(code) = &self.grpc else {
            return format!("http {} and no grpc status", self.http);
        };
        let words = if self.message.starts_with("etcdserver") {
            format!(" {}", self.message)
        } else {
            String::new()
        };
        format!("http {} grpc {code}{words}, {} messages", self.http, self.messages())
    }

    /// As [`Answer::shown`], without the refusals of unreadable requests: each library has its own code for those.
    fn taken_or_refused(&self) -> String {
        let own_words = self.message.starts_with("etcdserver");
        match self.grpc.as_deref() {
            Some("0") => self.shown(),
            Some(_) if own_words => self.shown(),
            _ => "refused".to_owned(),
        }
    }

    /// The number of complete messages in the body.
    fn messages(&self) -> usize {
        let (mut rest, mut count) = (&self.body[..], 0);
        while let [_, a, b, c, d, tail @ ..] = rest {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            rest = tail.get(length..).unwrap_or_default();
            count += 1;
        }
        count
    }
}

/// A framed gRPC message.
fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.extend_from_slice(message);
    frame.freeze()
}

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
/// Field 1, a key of one byte.
const KEY_A: &[u8] = b"\x0a\x01a";

/// Paths that do not exist.
pub(crate) async fn unknown_methods(tale: &mut Tale) {
    let wire = Wire::connect(tale.address()).await;
    for path in [
        "/etcdserverpb.KV/Nothing",
        "/etcdserverpb.Nothing/Range",
        "/nothing",
        "/",
        "/etcdserverpb.KV/range",
    ] {
        let request = wire.request(path);
        let answer = wire.send(request, framed(KEY_A), false).await;
        tale.line(format_args!("{path}\n  {}", answer.shown()));
    }
    let request = wire.request(RANGE);
    let answer = wire.send(request, framed(KEY_A), false).await;
    tale.line(format_args!("the connection still serves\n  {}", answer.shown()));
}

/// Bodies that are not a message, or an unusual one.
pub(crate) async fn malformed_messages(tale: &mut Tale) {
    let mut wire = Wire::connect(tale.address()).await;
    let with_flag = |flag: u8| {
        let mut frame = BytesMut::from(&framed(KEY_A)[..]);
        frame[0] = flag;
        frame.freeze()
    };
    let twice = || Bytes::from([framed(KEY_A), framed(KEY_A)].concat());
    for (what, path, body) in [
        ("no message at all", RANGE, Bytes::new()),
        ("half a frame header", RANGE, Bytes::from_static(&[0, 0, 0])),
        (
            "a frame cut short",
            RANGE,
            Bytes::from_static(&[0, 0, 0, 0, 9, 10, 1, 97]),
        ),
        (
            "a frame of four gigabytes",
            RANGE,
            Bytes::from_static(&[0, 255, 255, 255, 255, 10, 1, 97]),
        ),
        ("an empty message", RANGE, framed(b"")),
        ("two messages where one is due", RANGE, twice()),
        ("compressed, without saying how", RANGE, with_flag(1)),
        ("an unknown flag", RANGE, with_flag(9)),
        ("a field cut short", RANGE, framed(b"\x0a\x09a")),
        ("a number cut short", RANGE, framed(b"\x0a\x01a\x18\xff")),
        (
            "a number too long",
            RANGE,
            framed(b"\x0a\x01a\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        ),
        ("a group", RANGE, framed(b"\x0a\x01a\x7b\x7c")),
        ("a field of the wrong type", RANGE, framed(b"\x08\x01")),
        ("field number zero", RANGE, framed(b"\x0a\x01a\x00\x01")),
        ("an unknown field", RANGE, framed(b"\x0a\x01a\xf8\x07\x01")),
        ("a key given twice", RANGE, framed(b"\x0a\x01a\x0a\x01b")),
        (
            "a transaction with an empty operation",
            "/etcdserverpb.KV/Txn",
            framed(b"\x12\x00"),
        ),
        (
            "a transaction with an empty compare",
            "/etcdserverpb.KV/Txn",
            framed(b"\x0a\x00"),
        ),
        (
            "a compare of an unknown kind",
            "/etcdserverpb.KV/Txn",
            framed(b"\x0a\x05\x08\x09\x1a\x01a"),
        ),
        (
            "a compare of an unknown target",
            "/etcdserverpb.KV/Txn",
            framed(b"\x0a\x05\x10\x09\x1a\x01a"),
        ),
        ("a put without a value", PUT, framed(KEY_A)),
    ] {
        let request = wire.request(path);
        let answer = wire.send(request, body, false).await;
        tale.line(format_args!("{what}\n  {}", answer.taken_or_refused()));
        if answer.reset.is_some() {
            wire = Wire::connect(tale.address()).await;
        }
    }
    let mut client = tale.client();
    tale.tell("only the last one put anything", client.get("a", None).await);
}

/// Requests that a real etcd 3.5 accepts, or crashes on; later versions refuse them.
pub(crate) async fn unknown_sorts(tale: &mut Tale) {
    let wire = Wire::connect(tale.address()).await;
    for (what, body) in [
        ("an unknown sort order", framed(b"\x0a\x01a\x28\x07")),
        (
            "a negative sort order",
            framed(b"\x0a\x01a\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        ),
        ("an unknown sort target", framed(b"\x0a\x01a\x30\x07")),
    ] {
        let answer = wire.send(wire.request(RANGE), body, false).await;
        tale.line(format_args!("{what}\n  {}", answer.shown()));
    }
}

/// A client that sends a timeout.
pub(crate) async fn deadlines(tale: &mut Tale) {
    let wire = Wire::connect(tale.address()).await;
    // A watch of a; no event will happen on it.
    let create = framed(b"\x0a\x03\x0a\x01a");
    for (what, timeout, path, body) in [
        ("an hour for a get", "1H", RANGE, framed(KEY_A)),
        ("the longest time there is", "99999999H", RANGE, framed(KEY_A)),
        (
            "300 milliseconds for a watch",
            "300m",
            "/etcdserverpb.Watch/Watch",
            create.clone(),
        ),
        (
            "300,000 microseconds for a watch",
            "300000u",
            "/etcdserverpb.Watch/Watch",
            create,
        ),
    ] {
        let request = wire.request(path).header("grpc-timeout", timeout);
        let answer = wire.send(request, body, true).await;
        // Status and reset race each other; either way the client learns of the end in time.
        let ended = answer.grpc.as_deref() == Some("4") || answer.reset.as_deref() == Some("CANCEL");
        let shown = if ended {
            "the deadline ended it".to_owned()
        } else {
            answer.shown()
        };
        tale.line(format_args!("{what}\n  {shown}"));
    }
    let request = wire.request(RANGE);
    let answer = wire.send(request, framed(KEY_A), false).await;
    tale.line(format_args!("the connection still serves\n  {}", answer.shown()));
}

/// HTTP that is not gRPC, on the port that serves both.
pub(crate) async fn wrong_http(tale: &mut Tale) {
    let wire = Wire::connect(tale.address()).await;
    let bare = Request::post(format!("http://{}{RANGE}", tale.address()));
    let answer = wire.send(bare, framed(KEY_A), false).await;
    tale.line(format_args!("no content type\n  {}", answer.shown()));
    let request = wire.request(RANGE).header("content-type", "application/grpc+proto");
    let answer = wire.send(request, framed(KEY_A), false).await;
    tale.line(format_args!("the codec named\n  {}", answer.shown()));
    for (what, bytes) in [
        (
            "no such page",
            "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        ),
        ("health", "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        (
            "health, posted",
            "POST /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        ),
        ("no HTTP", "\0\0\0\0\0\0\0\0\r\n\r\n"),
    ] {
        let mut line = first_line(tale.address(), bytes).await;
        // etcd's multiplexer closes without an answer; a server may send the reason before it closes.
        if what == "no HTTP" && line == "HTTP/1.1 400 Bad Request" {
            line = CLOSED.to_owned();
        }
        tale.line(format_args!("{what}\n  {line}"));
    }
}

/// The text for a connection that ends without an answer.
const CLOSED: &str = "the connection is closed";

/// The first line of the answer to bytes on a fresh connection.
async fn first_line(address: &str, bytes: &str) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(bytes.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(
            String::from_utf8_lossy(&answer)
                .lines()
                .next()
                .unwrap_or(CLOSED)
                .to_owned(),
        )
    };
    match tokio::time::timeout(ANSWER_LIMIT, exchange).await {
        Ok(Ok(line)) => line,
        Ok(Err(error)) => format!("{:?}", error.kind()),
        Err(_) => "no end came".to_owned(),
    }
}
