//! A tunnel that gives clients without TLS a connection over mutual TLS, with a certificate of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::server::free_address;
use crate::trouble::{During as _, Trouble};

/// How long a handshake may take; a server may be stopped meanwhile.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const BIND_TRIES: u32 = 10;
/// The first bytes of HTTP/2.
const PREFACE: &[u8] = b"PRI ";

/// A running tunnel. It ends, with its connections, when it is dropped.
pub(crate) struct Tunnel {
    address: SocketAddr,
    /// Serves the connections; `None` once the tunnel is dropped.
    runtime: Option<Runtime>,
}

impl Tunnel {
    /// Starts a tunnel on a free port. The target need not listen yet.
    ///
    /// # Errors
    /// If no port is free.
    pub(crate) fn before(target: SocketAddr, client: &Arc<ClientConfig>) -> Result<Self, Trouble> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.during("a runtime for a tunnel")?;
        // Another process may take a free port first.
        let listening = (0..BIND_TRIES).find_map(|_| {
            let address = free_address().ok()?;
            let listener = runtime.block_on(TcpListener::bind(address)).ok()?;
            Some((address, listener))
        });
        let (address, listener) = listening.ok_or_else(|| Trouble::new("no port is free for a tunnel"))?;
        let [http1, http2] = [&b"http/1.1"[..], b"h2"].map(|protocol| {
            let mut config = ClientConfig::clone(client);
            config.alpn_protocols = vec![protocol.to_vec()];
            TlsConnector::from(Arc::new(config))
        });
        let handle = runtime.handle().clone();
        runtime.spawn(async move {
            while let Ok((plain, _)) = listener.accept().await {
                handle.spawn(join(plain, target, http1.clone(), http2.clone()));
            }
        });
        Ok(Self {
            address,
            runtime: Some(runtime),
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        // A test may end within another runtime, which may not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Joins a client's connection with a new one to the target; an error of either ends both.
async fn join(mut plain: TcpStream, target: SocketAddr, http1: TlsConnector, http2: TlsConnector) -> io::Result<()> {
    let connector = if is_http2(&plain).await? { http2 } else { http1 };
    let connecting = async {
        let stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        connector.connect(ServerName::from(target.ip()), stream).await
    };
    let mut secured = timeout(CONNECT_LIMIT, connecting).await??;
    plain.set_nodelay(true)?;
    copy_bidirectional(&mut plain, &mut secured).await.map(drop)
}

/// Looks at a client's first bytes.
async fn is_http2(plain: &TcpStream) -> io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    let mut length = 0;
    // Fewer bytes than these are no request; the rest of them follows at once.
    while length < first.len() {
        plain.readable().await?;
        let seen = plain.peek(&mut first).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if seen == length {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        length = seen;
    }
    Ok(first == PREFACE)
}
