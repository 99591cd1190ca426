//! Listeners: bound before the member starts, accepting when it may be served.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use quoin_core::config::Url;
use quoin_core::limits::{
    LISTEN_BACKLOG_CONNECTIONS, METRICS_CONNECTIONS, PEER_CONNECTIONS, TCP_KEEPALIVE_IDLE_SECONDS,
    TCP_KEEPALIVE_INTERVAL_SECONDS, TCP_KEEPALIVE_PROBES,
};
use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl};

use super::room::Room;
use super::{Context, Endpoint, connection};
use crate::running::Ended;
use crate::seam::{Listener, Task};
use crate::threads::guard;

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
    // The standard library asks for a short queue; asking again lengthens it.
    rustix::net::listen(&listener, LISTEN_BACKLOG_CONNECTIONS).map_err(|error| refuse(error.to_string()))?;
    let address = listener.local_addr().map_err(|error| refuse(error.to_string()))?;
    Ok(Bound {
        endpoint,
        address,
        listener,
    })
}

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
        match context.runtime.listen(bound.listener) {
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
    // A client that is gone without a word is found out; where the kernel cannot, HTTP/2's own pings do.
    let _ = keep_alive(&connection);
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

fn keep_alive(connection: &std::net::TcpStream) -> rustix::io::Result<()> {
    set_socket_keepalive(connection, true)?;
    set_tcp_keepidle(connection, Duration::from_secs(TCP_KEEPALIVE_IDLE_SECONDS))?;
    set_tcp_keepintvl(connection, Duration::from_secs(TCP_KEEPALIVE_INTERVAL_SECONDS))?;
    set_tcp_keepcnt(connection, TCP_KEEPALIVE_PROBES)
}

/// Errors of one connection that was given up before it was accepted.
fn is_lost_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use rustix::net::sockopt::{socket_keepalive, tcp_keepcnt, tcp_keepidle, tcp_keepintvl};

    use super::*;

    fn bound() -> Bound {
        let urls = Url::parse_list("http://127.0.0.1:0").unwrap();
        bind(Endpoint::Client, &urls[0]).unwrap()
    }

    #[test]
    fn a_burst_of_connections_waits_to_be_accepted() {
        let bound = bound();
        let connect = |_| TcpStream::connect_timeout(&bound.address, Duration::from_millis(900));
        let connections: Vec<TcpStream> = (0..200).map(|at| connect(at).unwrap()).collect();
        assert_eq!(connections.len(), 200);
    }

    #[test]
    fn the_kernel_looks_after_accepted_connections() {
        let bound = bound();
        let _client = TcpStream::connect(bound.address).unwrap();
        bound.listener.set_nonblocking(false).unwrap();
        let (connection, _) = bound.listener.accept().unwrap();
        keep_alive(&connection).unwrap();
        assert!(socket_keepalive(&connection).unwrap());
        let times = (tcp_keepidle(&connection).unwrap(), tcp_keepintvl(&connection).unwrap());
        assert_eq!(times, (Duration::from_secs(30), Duration::from_secs(15)));
        assert_eq!(tcp_keepcnt(&connection).unwrap(), 9);
    }
}
