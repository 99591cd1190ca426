//! Listeners that were bound before the member started accept connections, each as long as it has room.

use std::io;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use quoin_core::limits::{METRICS_CONNECTIONS, PEER_CONNECTIONS};

use super::bind::Bound;
use super::room::Room;
use super::{Context, Endpoint, connection};
use crate::running::Ended;
use crate::seam::{Listener, Stream, Task};
use crate::threads::guard;

/// How long to wait when the process has no descriptor left for another connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// How many connections may be open at a time, by what their listeners serve.
#[derive(Debug)]
pub(crate) struct Rooms {
    clients: Room,
    metrics: Room,
    peers: Room,
}

impl Rooms {
    /// Room for so many clients. Probes of the metrics ports and peers get through even when clients have taken all theirs.
    pub(crate) fn new(clients: usize) -> Self {
        Self {
            clients: Room::new(clients),
            metrics: Room::new(METRICS_CONNECTIONS),
            peers: Room::new(PEER_CONNECTIONS),
        }
    }

    fn of(&self, endpoint: Endpoint) -> &Room {
        match endpoint {
            Endpoint::Client | Endpoint::Grpc | Endpoint::Http => &self.clients,
            Endpoint::Metrics => &self.metrics,
            Endpoint::Peer => &self.peers,
        }
    }
}

/// Accepts connections until the server stops, and has each served on the worker whose turn it is.
pub(crate) fn serve(context: &Arc<Context>, bound: Bound) {
    let runtime = Arc::clone(&context.runtime);
    let context = Arc::clone(context);
    // A member that accepts no connections does not do its work.
    runtime.spawn(Box::pin(guard(context.ending.clone(), async move {
        match context.runtime.listen(bound.acceptor) {
            Ok(listener) => accept_all(&context, bound.endpoint, listener).await,
            Err(error) => {
                let why = format!("cannot accept connections at {}: {error}", bound.address);
                context.ending.announce(Ended::Failed(why));
            }
        }
    })));
}

async fn accept_all(context: &Arc<Context>, endpoint: Endpoint, mut listener: Box<dyn Listener>) {
    let mut stop = context.stop.clone();
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
            Some(Ok(connection)) => place(context, endpoint, connection),
            Some(Err(error)) if is_lost_connection(&error) => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot accept a connection");
                context.runtime.sleep_until(context.clock.now() + EXHAUSTED_PAUSE).await;
            }
        }
    }
}

fn place(context: &Arc<Context>, endpoint: Endpoint, connection: Stream) {
    // A connection that cannot be tuned is slower, or is found dead later.
    let _ = connection.tune();
    let Some(alive) = context.hold_open() else { return };
    let place = context.rooms.of(endpoint).take();
    let serving = Arc::clone(context);
    let serve = move |socket| -> Task {
        Box::pin(async move {
            connection::serve(serving, endpoint, socket).await;
            drop((alive, place));
        })
    };
    context.runtime.place(connection, Box::new(serve));
}

/// Errors of one connection that was given up before it was accepted.
fn is_lost_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
