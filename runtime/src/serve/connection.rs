//! One client connection: its protocol, its bounds, and its end.

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
use quoin_core::limits::{
    CONNECTION_WINDOW_BYTES, HEAD_PATIENCE_SECONDS, HEADER_LIST_BYTES, HTTP1_HEAD_BYTES, PROTOCOL_ERROR_STREAMS,
    RESET_BEFORE_ACCEPT_STREAMS, STREAM_SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES,
};

use super::grpc::partial::Partials;
use super::inbound::{Inbound, PREFACE, Pings};
use super::stop::{Stop, stop_signal};
use super::websocket::Upgrade;
use super::wire::Wire;
use super::{Context, Endpoint, respond};
use crate::seam::{Executor, Socket, Timer};
use crate::tls::Secured;

/// How long a connection may take to send its first bytes, and an HTTP/1 request its head.
const HEAD_PATIENCE: Duration = Duration::from_secs(HEAD_PATIENCE_SECONDS);

/// The signals that end a connection: `stop` lets its calls finish, `abort` cuts them, and `cut` cuts this connection
/// alone.
struct Stops {
    stop: Stop,
    abort: Stop,
    cut: Option<Stop>,
}

impl Stops {
    /// The signals for a connection to this endpoint. A peer's connection stays open until the member has ended.
    fn new(context: &Context, endpoint: Endpoint) -> Self {
        let (stop, abort) = match endpoint {
            Endpoint::Peer => (context.end.clone(), context.end.clone()),
            _ => (context.stop.clone(), context.abort.clone()),
        };
        Self { stop, abort, cut: None }
    }
}

/// Serves a connection until it ends, or until the server stops and its calls are answered. Requests of a secured
/// connection have `secured` as an extension.
pub(crate) async fn serve(
    context: Arc<Context>,
    endpoint: Endpoint,
    mut socket: Box<dyn Socket>,
    secured: Option<Secured>,
) {
    let timer = Timer(Arc::clone(&context.runtime));
    let mut patience = context.runtime.sleep_until(context.clock.now() + HEAD_PATIENCE);
    let mut stops = Stops::new(&context, endpoint);
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
    let pings = matches!(endpoint, Endpoint::Client | Endpoint::Grpc)
        .then(|| Pings::new(context.clock, context.settings.keepalive_minimum));
    let inbound = is_http2.then(|| Inbound::new(pings));
    let wire = Wire::new(socket, read, inbound);
    let io = wire.clone();
    let partials = Partials::new(Arc::clone(&context.runtime));
    let service_context = Arc::clone(&context);
    let upgrade = (!is_http2).then(Upgrade::default);
    let asked = upgrade.clone();
    // The peer machine ends an exchange by cutting its connection.
    let cut = (endpoint == Endpoint::Peer).then(stop_signal);
    let (cutter, cut) = cut.map_or((None, None), |(cutter, cut)| (Some(cutter), Some(cut)));
    stops.cut = cut;
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(cutter) = &cutter {
            request.extensions_mut().insert(cutter.clone());
        }
        if let Some(asked) = &asked {
            request.extensions_mut().insert(asked.clone());
        }
        if let Some(secured) = &secured {
            request.extensions_mut().insert(secured.clone());
        }
        respond(Arc::clone(&service_context), endpoint, partials.clone(), request)
    });
    if is_http2 {
        let connection = http2_builder(&context, timer).serve_connection(io, service);
        drop(context);
        drive(connection, &wire, &mut stops, |connection| {
            connection.graceful_shutdown()
        })
        .await;
    } else {
        let connection = http1_builder(timer).serve_connection(io, service).with_upgrades();
        drop(context);
        drive(connection, &wire, &mut stops, |connection| {
            connection.graceful_shutdown()
        })
        .await;
    }
    if let Some(session) = upgrade.and_then(|upgrade| upgrade.take()) {
        session.run(&mut stops.abort).await;
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
        .max_concurrent_streams(settings.max_concurrent_streams)
        .max_pending_accept_reset_streams(RESET_BEFORE_ACCEPT_STREAMS)
        .max_local_error_reset_streams(PROTOCOL_ERROR_STREAMS)
        .max_header_list_size(HEADER_LIST_BYTES)
        .max_send_buf_size(STREAM_SEND_BUFFER_BYTES);
    builder
}

fn http1_builder(timer: Timer) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(timer)
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HTTP1_HEAD_BYTES);
    builder
}

/// Polls the connection in turns, and asks it to finish when the server stops.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    wire: &Wire,
    stops: &mut Stops,
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
        if let Some(cut) = &mut stops.cut
            && cut.poll_stopped(cx).is_ready()
        {
            return Poll::Ready(());
        }
        let ended = connection.as_mut().poll(cx);
        match (ended, wire.finish_turn(cx)) {
            // An error of a connection concerns only its client, who sees it too.
            (Poll::Ready(_), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(()),
            (Poll::Pending, _) => Poll::Pending,
        }
    })
    .await;
}

/// Reads until it is clear whether the client speaks HTTP/2; returns the bytes that were read.
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
