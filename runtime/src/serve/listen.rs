//! Accepts connections on listeners that were bound before the member started, each as long as it has room.

use std::io;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use quoin_core::limits::{METRICS_CONNECTIONS, PEER_CONNECTIONS};

use super::bind::Bound;
use super::room::Room;
use super::{Context, Endpoint, connection};
use crate::running::Ended;
use crate::seam::{BoxFuture, Listener, Stream, Task};
use crate::threads::guard;
use crate::tls::SecurePort;

/// The pause after a failed accept, for example because the process has no descriptors left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// How many connections may be open at a time, by purpose of their listeners.
#[derive(Debug)]
pub(crate) struct Rooms {
    clients: Room,
    metrics: Room,
    peers: Room,
}

impl Rooms {
    /// Room for this many clients. Metrics ports and peers have room of their own.
    pub(crate) fn new(clients: usize) -> Self {
        Self {
            clients: Room::new(clients),
            metrics: Room::new(METRICS_CONNECTIONS),
            peers: Room::new(PEER_CONNECTIONS),
        }
    }

    /// Each room with its name in the metrics.
    pub(crate) fn all(&self) -> [(&'static str, &Room); 3] {
        [
            ("client", &self.clients),
            ("metrics", &self.metrics),
            ("peer", &self.peers),
        ]
    }

    fn of(&self, endpoint: Endpoint) -> &Room {
        match endpoint {
            Endpoint::Client | Endpoint::Grpc | Endpoint::Http => &self.clients,
            Endpoint::Metrics => &self.metrics,
            Endpoint::Peer => &self.peers,
        }
    }
}

/// Accepts connections until the server stops; the next worker in turn serves each.
pub(crate) fn serve(context: &Arc<Context>, bound: Bound) {
    let runtime = Arc::clone(&context.runtime);
    let context = Arc::clone(context);
    // A member that accepts no connections does not work, so a panic here ends it.
    runtime.spawn(Box::pin(guard(context.ending.clone(), async move {
        let tls = context.secure_ports.of(bound.endpoint, &bound.url);
        match context.runtime.listen(bound.acceptor) {
            Ok(listener) => accept_all(&context, bound.endpoint, tls, listener).await,
            Err(error) => {
                let why = format!("cannot accept connections at {}: {error}", bound.address);
                context.ending.announce(Ended::Failed(why));
            }
        }
    })));
}

async fn accept_all(
    context: &Arc<Context>,
    endpoint: Endpoint,
    tls: Option<Arc<SecurePort>>,
    mut listener: Box<dyn Listener>,
) {
    let mut stop = match endpoint {
        Endpoint::Peer => context.end.clone(),
        _ => context.stop.clone(),
    };
    let room = context.rooms.of(endpoint);
    loop {
        let accepted = std::future::poll_fn(|cx| {
            if stop.poll_stopped(cx).is_ready() {
                return Poll::Ready(None);
            }
            ready!(room.poll_free(cx));
            listener.poll_accept(cx).map(Some)
        })
        .await;
        match accepted {
            None => return,
            Some(Ok(connection)) => place(context, endpoint, tls.clone(), connection),
            Some(Err(error)) if is_lost_connection(&error) => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot accept a connection");
                context.runtime.sleep_until(context.clock.now() + EXHAUSTED_PAUSE).await;
            }
        }
    }
}

fn place(context: &Arc<Context>, endpoint: Endpoint, tls: Option<Arc<SecurePort>>, connection: Stream) {
    // A connection without these options is slower, or its death is noticed later.
    let _ = connection.tune();
    // A stopping server waits for its clients. Peers are connected until the member has ended.
    let alive = match endpoint {
        Endpoint::Peer => None,
        _ => {
            let Some(alive) = context.hold_open() else { return };
            Some(alive)
        }
    };
    let place = context.rooms.of(endpoint).take();
    let serving = Arc::clone(context);
    let remote = connection.remote();
    let serve = move |socket| -> Task {
        Box::pin(async move {
            match tls {
                None => connection::serve(serving, endpoint, socket, None).await,
                Some(port) => {
                    // Boxed, so that the futures of connections without TLS do not have its size.
                    let accepting: BoxFuture<_> = Box::pin(port.accept(Arc::clone(&serving), socket, remote));
                    if let Some((socket, secured)) = accepting.await {
                        connection::serve(serving, endpoint, socket, Some(secured)).await;
                    }
                }
            }
            drop((alive, place));
        })
    };
    context.runtime.place(connection, Box::new(serve));
}

/// Errors of a connection that its client closed before it was accepted.
fn is_lost_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
