//! A small client over a runtime's own sockets: gRPC, plain HTTP, and raw bytes.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use prost::Message;
use quoin_runtime::seam::{Address, Executor, Runtime, Socket, connect, read_into};

/// Runs a test's client on a worker and waits for it.
pub(crate) fn run<T: Send + 'static>(runtime: &Arc<dyn Runtime>, work: impl Future<Output = T> + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    runtime.spawn(Box::pin(async move {
        let _ = sender.send(work.await);
    }));
    receiver
        .recv_timeout(Duration::from_secs(30))
        .expect("the client finishes in time and does not panic")
}

/// Waits.
pub(crate) async fn sleep(runtime: &Arc<dyn Runtime>, duration: Duration) {
    runtime.sleep_until(runtime.clock().now() + duration).await;
}

/// A socket with hyper's traits.
struct Io(Box<dyn Socket>);

impl hyper::rt::Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        read_into(&mut *self.0, cx, into).map_ok(|_| ())
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_shutdown(cx)
    }
}

pub(crate) type RequestBody = StreamBody<Pin<Box<async_channel::Receiver<Result<Frame<Bytes>, io::Error>>>>>;

/// A gRPC connection.
#[derive(Clone)]
pub(crate) struct Grpc {
    sender: http2::SendRequest<RequestBody>,
}

/// The result of a call.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// gRPC's code and text.
    pub(crate) status: (u8, String),
    /// The message, without its prefix; decompressed.
    pub(crate) message: Bytes,
}

/// Additional headers of a call.
pub(crate) type Extra = &'static [(&'static str, &'static str)];

impl Grpc {
    /// Connects. A test that needs a slow reader gives a small window.
    pub(crate) async fn connect(runtime: &Arc<dyn Runtime>, address: impl Into<Address>, window: u32) -> Self {
        let socket = connect(runtime, &address.into()).await.unwrap();
        let mut builder = http2::Builder::new(Executor(Arc::clone(runtime)));
        builder
            .initial_stream_window_size(window)
            .initial_connection_window_size(window);
        let (sender, connection) = builder.handshake(Io(socket)).await.unwrap();
        runtime.spawn(Box::pin(async move {
            let _ = connection.await;
        }));
        Self { sender }
    }

    /// Begins a call; messages are sent through the sender until it is dropped.
    pub(crate) async fn begin(&self, path: &str, extra: Extra) -> (Messages, Stream) {
        let (messages, body) = async_channel::bounded(16);
        let mut request = Request::post(format!("http://test{path}")).header("content-type", "application/grpc");
        for (name, value) in extra {
            request = request.header(*name, *value);
        }
        let response = self
            .sender
            .clone()
            .send_request(request.body(StreamBody::new(Box::pin(body))).unwrap());
        (
            Messages(messages),
            Stream {
                response: Some(Box::pin(response)),
                body: None,
                buffer: BytesMut::new(),
            },
        )
    }

    /// Sends a request and returns the head of its answer.
    pub(crate) async fn head(&self, request: Request<RequestBody>) -> http::response::Parts {
        self.sender.clone().send_request(request).await.unwrap().into_parts().0
    }

    /// Makes a call with these bytes as its body.
    pub(crate) async fn raw(&self, path: &str, extra: Extra, body: Vec<u8>) -> Outcome {
        let (messages, mut stream) = self.begin(path, extra).await;
        // A server that has already answered does not read the body.
        let _ = messages.0.send(Ok(Frame::data(body.into()))).await;
        drop(messages);
        let mut message = Bytes::new();
        loop {
            match stream.next().await {
                Ok(found) => message = found,
                Err(status) => return Outcome { status, message },
            }
        }
    }

    /// Makes a unary call.
    pub(crate) async fn call(&self, path: &str, extra: Extra, request: &impl Message) -> Outcome {
        self.raw(path, extra, frame(request)).await
    }

    /// Makes a unary call that must succeed.
    pub(crate) async fn ok<R: Message + Default>(&self, path: &str, request: &impl Message) -> R {
        let outcome = self.call(path, &[], request).await;
        assert_eq!(outcome.status.0, 0, "{path}: {}", outcome.status.1);
        R::decode(outcome.message).unwrap()
    }
}

/// The sending half of a call.
pub(crate) struct Messages(async_channel::Sender<Result<Frame<Bytes>, io::Error>>);

impl Messages {
    /// Sends a message.
    pub(crate) async fn send(&self, message: &impl Message) {
        self.0.send(Ok(Frame::data(frame(message).into()))).await.unwrap();
    }
}

type Responding = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

/// The receiving half of a call.
pub(crate) struct Stream {
    response: Option<Responding>,
    body: Option<Incoming>,
    buffer: BytesMut,
}

impl Stream {
    /// The next message, or the status at the end of the call.
    pub(crate) async fn next(&mut self) -> Result<Bytes, (u8, String)> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next message, decoded.
    pub(crate) async fn message<M: Message + Default>(&mut self) -> M {
        M::decode(self.next().await.expect("another message")).unwrap()
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, (u8, String)>> {
        if let Some(response) = &mut self.response {
            let response = ready!(response.as_mut().poll(cx));
            self.response = None;
            let (head, body) = match response {
                Ok(response) => response.into_parts(),
                Err(error) => return Poll::Ready(Err((255, error.to_string()))),
            };
            assert_eq!(head.status, 200);
            assert_eq!(head.headers["content-type"], "application/grpc");
            if head.headers.contains_key("grpc-status") {
                return Poll::Ready(Err(status(&head.headers)));
            }
            self.body = Some(body);
        }
        loop {
            if let Some(message) = split(&mut self.buffer) {
                return Poll::Ready(Ok(message));
            }
            let body = self.body.as_mut().expect("the response has come");
            match ready!(Pin::new(body).poll_frame(cx)) {
                None => return Poll::Ready(Err((255, "the stream ended without trailers".to_owned()))),
                Some(Err(error)) => return Poll::Ready(Err((255, error.to_string()))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => return Poll::Ready(Err(status(frame.trailers_ref().unwrap()))),
                },
            }
        }
    }
}

fn status(headers: &HeaderMap) -> (u8, String) {
    let text = |name| {
        headers
            .get(name)
            .map_or("", |value: &http::HeaderValue| value.to_str().unwrap())
    };
    (text("grpc-status").parse().unwrap(), text("grpc-message").to_owned())
}

/// Takes a whole message out of the buffer.
fn split(buffer: &mut BytesMut) -> Option<Bytes> {
    let length = u32::from_be_bytes(buffer.get(1..5)?.try_into().unwrap()) as usize;
    if buffer.len() < 5 + length {
        return None;
    }
    let is_compressed = buffer[0] == 1;
    buffer.advance(5);
    let message = buffer.split_to(length).freeze();
    if !is_compressed {
        return Some(message);
    }
    let mut inflated = Vec::new();
    io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&message[..]), &mut inflated).unwrap();
    Some(inflated.into())
}

/// A message with its prefix.
pub(crate) fn frame(message: &impl Message) -> Vec<u8> {
    prefixed(0, &message.encode_to_vec())
}

/// These bytes after the prefix of a message.
pub(crate) fn prefixed(flag: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![flag];
    frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A plain HTTP answer.
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// Makes a plain HTTP/1.1 request.
pub(crate) async fn http(
    runtime: &Arc<dyn Runtime>,
    address: impl Into<Address>,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> Page {
    let address = address.into();
    let socket = connect(runtime, &address).await.unwrap();
    let (mut sender, connection) = http1::handshake(Io(socket)).await.unwrap();
    runtime.spawn(Box::pin(async move {
        let _ = connection.await;
    }));
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        let host = address
            .tcp()
            .map_or_else(|| "localhost".to_owned(), |address| address.to_string());
        request = request.header("host", host);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(String::new()).unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let mut body = body.collect().await.unwrap().to_bytes();
    if head
        .headers
        .get("content-encoding")
        .is_some_and(|coding| coding == "gzip")
    {
        let mut inflated = Vec::new();
        io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&body[..]), &mut inflated).unwrap();
        body = inflated.into();
    }
    Page {
        status: head.status.as_u16(),
        headers: head.headers,
        body: String::from_utf8(body.into()).unwrap(),
    }
}

/// Sends raw bytes on a separate connection, and returns all bytes until the server closes it.
pub(crate) async fn raw(runtime: &Arc<dyn Runtime>, address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = connect(runtime, &address.into()).await.unwrap();
    let mut written = 0;
    while written < bytes.len() {
        match poll_fn(|cx| socket.poll_write(cx, &bytes[written..])).await {
            Ok(length) => written += length,
            Err(_) => break,
        }
    }
    let mut back = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match poll_fn(|cx| socket.poll_read(cx, &mut buffer)).await {
            Ok(0) | Err(_) => return back,
            Ok(length) => back.extend_from_slice(&buffer[..length]),
        }
    }
}
