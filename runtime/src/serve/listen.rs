//! Listeners: bound before the member starts, accepting when it may be served.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use quoin_core::config::Url;

use super::{Context, Endpoint, connection};
use crate::seam::{Listener, Task};

/// How long to wait when the process has no descriptor left for another connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// A listener that nobody is answered on yet: clients can connect and wait.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) endpoint: Endpoint,
    pub(crate) address: SocketAddr,
    listener: TcpListener,
}

/// Binds a URL.
pub(crate) fn bind(endpoint: Endpoint, url: &Url) -> Result<Bound, String> {
    let refuse = |why: String| format!("listen {url}: {why}");
    if url.is_tls() {
        return Err(refuse("TLS is not supported by this version".to_owned()));
    }
    let (Some(host), Some(port)) = (url.host(), url.port()) else {
        return Err(refuse("Unix sockets are not supported by this version".to_owned()));
    };
    // No host is every address, as in Go.
    let host = if host.is_empty() { "::" } else { host };
    let addresses = (host, port)
        .to_socket_addrs()
        .map_err(|error| refuse(error.to_string()))?;
    // One port on the address families that `localhost` may have: IPv4 is what etcd ends up with.
    let mut addresses: Vec<SocketAddr> = addresses.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let listener = TcpListener::bind(&addresses[..]).map_err(|error| refuse(error.to_string()))?;
    listener
        .set_nonblocking(true)
        .map_err(|error| refuse(error.to_string()))?;
    let address = listener.local_addr().map_err(|error| refuse(error.to_string()))?;
    Ok(Bound {
        endpoint,
        address,
        listener,
    })
}

/// Accepts connections until the server stops, and has each served on the worker whose turn it is.
pub(crate) fn serve(context: &Arc<Context>, bound: Bound) {
    let runtime = Arc::clone(&context.runtime);
    let context = Arc::clone(context);
    runtime.spawn(Box::pin(async move {
        match context.runtime.listen(bound.listener) {
            Ok(listener) => accept_all(&context, bound.endpoint, listener).await,
            Err(error) => tracing::error!(%error, address = %bound.address, "cannot accept connections"),
        }
    }));
}

async fn accept_all(context: &Arc<Context>, endpoint: Endpoint, mut listener: Box<dyn Listener>) {
    let mut stop = context.stop.clone();
    loop {
        let accepted = std::future::poll_fn(|cx| {
            if stop.poll_stopped(cx).is_ready() {
                return Poll::Ready(None);
            }
            listener.poll_accept(cx).map(Some)
        })
        .await;
        match accepted {
            None => return,
            Some(Ok((connection, _))) => place(context, endpoint, connection),
            Some(Err(error)) if is_lost_connection(&error) => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "cannot accept a connection");
                context.runtime.sleep_until(context.clock.now() + EXHAUSTED_PAUSE).await;
            }
        }
    }
}

fn place(context: &Arc<Context>, endpoint: Endpoint, connection: std::net::TcpStream) {
    // Answers leave in one write already; waiting for more would only delay them.
    let _ = connection.set_nodelay(true);
    let Some(alive) = context.hold_open() else { return };
    let serving = Arc::clone(context);
    let serve = move |socket| -> Task {
        Box::pin(async move {
            connection::serve(serving, endpoint, socket).await;
            drop(alive);
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
