//! One client connection: which protocol it speaks, its bounds, and its end.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;

use super::stop::Stop;
use super::wire::Wire;
use super::{Context, Endpoint, respond};
use crate::seam::{Executor, Socket, Timer};

/// What every HTTP/2 connection starts with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a connection may take to say its first bytes, and an HTTP/1 request its head.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

/// Largest head of an HTTP/1 request, and with some slack its buffer.
const HTTP1_BUFFER_BYTES: usize = 64 * 1024;

/// Largest list of headers of an HTTP/2 request: room for tokens.
const HEADER_LIST_BYTES_MAX: u32 = 64 * 1024;

/// What a client may send on one stream before we have taken it.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;

/// What a client may send on all streams of a connection before we have taken it.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// What waits on one stream for a slow reader before its source is asked for more.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// Streams of one connection at the same time, whatever the configuration allows: a bound on a client's hold.
const STREAMS_MAX: u32 = 65_536;

/// The two ends of a server: the one that is announced, and the one that is not waited for.
struct Stops {
    stop: Stop,
    abort: Stop,
}

/// Serves a connection until it ends, or until the server stops and its calls are answered.
pub(crate) async fn serve(context: Arc<Context>, endpoint: Endpoint, mut socket: Box<dyn Socket>) {
    let timer = Timer(Arc::clone(&context.runtime));
    let mut patience = context.runtime.sleep_until(context.clock.now() + HEAD_PATIENCE);
    let mut stops = Stops {
        stop: context.stop.clone(),
        abort: context.abort.clone(),
    };
    let sniffed = {
        let mut sniff = pin!(sniff(&mut *socket));
        let first = poll_fn(|cx| {
            let given_up = patience.as_mut().poll(cx).is_ready() || stops.stop.poll_stopped(cx).is_ready();
            if given_up {
                Poll::Ready(None)
            } else {
                sniff.as_mut().poll(cx).map(Result::ok)
            }
        });
        first.await
    };
    drop(patience);
    let Some((is_http2, read)) = sniffed else { return };
    let wire = Wire::new(socket, read);
    let io = wire.clone();
    if is_http2 {
        let builder = http2_builder(&context, timer);
        let service = service_fn(move |request: Request<Incoming>| respond(Arc::clone(&context), endpoint, request));
        let connection = builder.serve_connection(io, service);
        drive(connection, &wire, stops, |connection| connection.graceful_shutdown()).await;
    } else {
        let builder = http1_builder(timer);
        let service = service_fn(move |request: Request<Incoming>| respond(Arc::clone(&context), endpoint, request));
        let connection = builder.serve_connection(io, service);
        drive(connection, &wire, stops, |connection| connection.graceful_shutdown()).await;
    }
}

fn http2_builder(context: &Context, timer: Timer) -> http2::Builder<Executor> {
    let settings = &context.settings;
    let mut builder = http2::Builder::new(Executor(Arc::clone(&context.runtime)));
    builder
        .timer(timer)
        .auto_date_header(false)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(settings.keepalive_interval)
        .keep_alive_timeout(settings.keepalive_timeout)
        .max_concurrent_streams(settings.max_concurrent_streams.min(STREAMS_MAX))
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES);
    builder
}

fn http1_builder(timer: Timer) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(timer)
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HTTP1_BUFFER_BYTES);
    builder
}

/// Polls the connection in turns, and asks it to finish when the server stops.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    wire: &Wire,
    mut stops: Stops,
    finish: impl Fn(Pin<&mut C>),
) {
    let mut connection = pin!(connection);
    let mut finishing = false;
    poll_fn(|cx| {
        wire.begin_turn();
        if !finishing && stops.stop.poll_stopped(cx).is_ready() {
            finishing = true;
            finish(connection.as_mut());
        }
        if finishing && stops.abort.poll_stopped(cx).is_ready() {
            return Poll::Ready(());
        }
        let ended = connection.as_mut().poll(cx);
        match (ended, wire.finish_turn(cx)) {
            // How a connection broke interests nobody but its client, who knows.
            (Poll::Ready(_), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(()),
            (Poll::Pending, _) => Poll::Pending,
        }
    })
    .await;
}

/// Reads until it is clear whether the connection speaks HTTP/2; what was read is handed on.
async fn sniff(socket: &mut dyn Socket) -> io::Result<(bool, Bytes)> {
    let mut read = [0; PREFACE.len()];
    let mut length = 0;
    while length < read.len() {
        let more = poll_fn(|cx| socket.poll_read(cx, &mut read[length..])).await?;
        if more == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        length += more;
        if read[..length] != PREFACE[..length] {
            break;
        }
    }
    Ok((read == *PREFACE, Bytes::copy_from_slice(&read[..length])))
}
