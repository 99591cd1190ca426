//! A load client: HTTP/2, with and without TLS, prepared messages, as little work per request as possible.
//!
//! The client shares the machine with the measured server. So it runs on one thread, and decodes as little as possible.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    path::Path,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream, client::SendRequest};
use http::{HeaderMap, HeaderValue, Request, Uri};
use quoin_conformance::{
    Trouble,
    trouble::During,
    wait::{self, Deadline},
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::{net::TcpStream, task::LocalSet};
use tokio_rustls::TlsConnector;

/// Every workload takes less than this.
const LIMIT: Duration = Duration::from_mins(10);
/// Responses are read at once: the client's windows must not slow a server down.
const WINDOW: u32 = 64 << 20;
/// The bytes before a gRPC message.
const FRAME_HEAD: usize = 5;

/// The shape of a load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Connections to the server.
    pub connections: usize,
    /// Requests in flight on each.
    pub streams: usize,
    /// Requests in total.
    pub requests: u64,
}

/// The result of a load.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// From the first request to the last answer.
    pub seconds: f64,
    /// The latency of each request, in ascending order.
    pub latencies: Vec<Duration>,
}

impl Taken {
    /// The result of requests that took `seconds` together. Sorts the latencies.
    #[must_use]
    pub fn new(seconds: f64, mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        Self { seconds, latencies }
    }

    /// The latency that this share of the requests did not exceed, in milliseconds.
    #[must_use]
    pub fn percentile(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.latencies.get(at).map_or(0.0, Duration::as_secs_f64) * 1000.0
    }
}

/// Connections to one server.
pub struct Clients {
    connections: Vec<Connection>,
}

#[derive(Clone)]
struct Connection {
    requests: SendRequest<Bytes>,
    authority: Rc<str>,
    token: Option<HeaderValue>,
}

impl Connection {
    /// HTTP/2 over a connection to this address.
    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, address: SocketAddr) -> Result<Self, Trouble> {
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .initial_max_send_streams(10_000)
            .max_concurrent_streams(10_000)
            .handshake(stream)
            .await
            .during("the HTTP/2 handshake")?;
        tokio::task::spawn_local(async move {
            // The requests on a failed connection fail too.
            let _ = connection.await;
        });
        Ok(Self {
            requests,
            authority: address.to_string().into(),
            token: None,
        })
    }
}

async fn dial(address: SocketAddr) -> Result<TcpStream, Trouble> {
    let stream = TcpStream::connect(address).await.during("connecting")?;
    stream.set_nodelay(true).during("connecting")?;
    Ok(stream)
}

/// A client that trusts only this certificate.
fn trusting(cert: &Path) -> Result<ClientConfig, Trouble> {
    let mut roots = RootCertStore::empty();
    let cert = CertificateDer::from_pem_file(cert).during("the server's certificate")?;
    roots.add(cert).during("the server's certificate")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().during("TLS")?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Runs a client on this thread until it ends, within the limit.
///
/// # Errors
/// If a request fails or the limit is reached.
pub fn run<T>(work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .during("starting the client")?;
    let local = LocalSet::new();
    let limited = async { tokio::time::timeout(LIMIT, work).await };
    runtime
        .block_on(local.run_until(limited))
        .map_err(|_| Trouble::new("the server took too long"))?
}

impl Clients {
    /// Connects; must be called within [`run`].
    ///
    /// # Errors
    /// If the server does not accept the connections.
    pub async fn connect(address: SocketAddr, connections: usize) -> Result<Self, Trouble> {
        let mut opened = Vec::new();
        for _ in 0..connections {
            opened.push(Connection::over(dial(address).await?, address).await?);
        }
        Ok(Self { connections: opened })
    }

    /// The same over TLS to a server with this certificate.
    ///
    /// # Errors
    /// If the server does not accept the connections, or shows another certificate.
    pub async fn connect_secure(address: SocketAddr, connections: usize, cert: &Path) -> Result<Self, Trouble> {
        let client = TlsConnector::from(Arc::new(trusting(cert)?));
        let name = ServerName::from(address.ip());
        let mut opened = Vec::new();
        for _ in 0..connections {
            let secured = client.connect(name.clone(), dial(address).await?).await;
            opened.push(Connection::over(secured.during("the TLS handshake")?, address).await?);
        }
        Ok(Self { connections: opened })
    }

    /// The same connections, whose requests have this token from now on.
    ///
    /// # Errors
    /// If it cannot be a header's value.
    pub fn with_token(mut self, token: &str) -> Result<Self, Trouble> {
        let value = HeaderValue::from_str(token).during("a token")?;
        for connection in &mut self.connections {
            connection.token = Some(value.clone());
        }
        Ok(self)
    }

    /// Keeps as many requests in flight as the shape says until all are answered; `message` makes the body of each.
    ///
    /// # Errors
    /// If one of them fails.
    pub async fn drive(
        &self,
        shape: Shape,
        path: &'static str,
        message: impl Fn(u64) -> Bytes + 'static,
    ) -> Result<Taken, Trouble> {
        let next = Rc::new(Cell::new(0_u64));
        let latencies = Rc::new(RefCell::new(Vec::with_capacity(shape.requests as usize)));
        let message = Rc::new(message);
        let begun = wait::now();
        let mut slots = Vec::new();
        for slot in 0..shape.connections * shape.streams {
            let connection = self.connections[slot % self.connections.len()].clone();
            let (next, latencies, message) = (next.clone(), latencies.clone(), message.clone());
            slots.push(tokio::task::spawn_local(async move {
                let call = Call::new(&connection, path)?;
                while next.get() < shape.requests {
                    let number = next.replace(next.get() + 1);
                    let asked = wait::now();
                    call.answered(&connection, message(number)).await?;
                    latencies.borrow_mut().push(asked.elapsed());
                }
                Ok::<_, Trouble>(())
            }));
        }
        for slot in slots {
            slot.await.during("a client slot")??;
        }
        let seconds = begun.elapsed().as_secs_f64();
        Ok(Taken::new(seconds, latencies.take()))
    }

    /// Makes one call, with additional headers, on connection `number`, and reads its answer to the end. Returns the
    /// answer's bytes and the status; a refusal is an answer, too.
    ///
    /// # Errors
    /// If the connection fails.
    pub async fn call(
        &self,
        number: usize,
        path: &str,
        headers: &[(&'static str, &'static str)],
        message: Bytes,
    ) -> Result<(u64, u8), Trouble> {
        let mut bytes = 0;
        let status = self
            .read(number, path, headers, message, |piece| bytes += piece.len() as u64)
            .await?;
        Ok((bytes, status))
    }

    /// Makes one call on the first connection and returns the message that answers it.
    ///
    /// # Errors
    /// If the connection fails or the call is refused.
    pub async fn fetch(&self, path: &str, message: Bytes) -> Result<Bytes, Trouble> {
        let mut bytes = BytesMut::new();
        let status = self
            .read(0, path, &[], message, |piece| bytes.extend_from_slice(piece))
            .await?;
        if status != 0 || bytes.len() < FRAME_HEAD {
            return Err(Trouble::new(format!("{path} was answered with status {status}")));
        }
        Ok(bytes.split_off(FRAME_HEAD).freeze())
    }

    /// Makes one call, gives the pieces of its answer to `each`, and returns the status.
    async fn read(
        &self,
        number: usize,
        path: &str,
        headers: &[(&'static str, &'static str)],
        message: Bytes,
        mut each: impl FnMut(&Bytes),
    ) -> Result<u8, Trouble> {
        let connection = &self.connections[number % self.connections.len()];
        let mut call = Call::new(connection, path)?;
        for (name, value) in headers {
            call.headers.insert(*name, HeaderValue::from_static(value));
        }
        let (response, _sending) = call.send(connection, message, true).await?;
        let response = response.await.during("an answer")?;
        if let Some(status) = status_of(response.headers()) {
            return Ok(status);
        }
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            let data = data.during("an answer")?;
            each(&data);
            body.flow_control().release_capacity(data.len()).during("an answer")?;
        }
        let trailers = body.trailers().await.during("an answer")?.unwrap_or_default();
        Ok(status_of(&trailers).unwrap_or(2))
    }

    /// Opens a stream that stays open, with this first message, on connection `number`.
    ///
    /// # Errors
    /// If the server does not answer it.
    pub async fn open(&self, number: usize, path: &'static str, first: Bytes) -> Result<OpenStream, Trouble> {
        let connection = &self.connections[number % self.connections.len()];
        let (response, sending) = Call::new(connection, path)?.send(connection, first, false).await?;
        let response = response.await.during("the head of a stream")?;
        Ok(OpenStream {
            receiving: response.into_body(),
            sending,
            buffered: Vec::new(),
        })
    }
}

/// An open stream; dropping it ends it.
pub struct OpenStream {
    receiving: RecvStream,
    sending: SendStream<Bytes>,
    buffered: Vec<u8>,
}

impl OpenStream {
    /// Sends one more message, for which the stream's window has room.
    ///
    /// # Errors
    /// If the stream has ended.
    pub fn send(&mut self, message: Bytes) -> Result<(), Trouble> {
        self.sending.send_data(message, false).during("a stream")
    }

    /// Waits for the next whole message without decoding it.
    ///
    /// # Errors
    /// If the stream ends or fails.
    pub async fn message(&mut self) -> Result<Bytes, Trouble> {
        let deadline = Deadline::after(LIMIT);
        while !deadline.passed() {
            if let [_, a, b, c, d, ..] = self.buffered[..] {
                let whole = 5 + u32::from_be_bytes([a, b, c, d]) as usize;
                if self.buffered.len() >= whole {
                    let message = Bytes::copy_from_slice(&self.buffered[5..whole]);
                    self.buffered.drain(..whole);
                    return Ok(message);
                }
            }
            let data = self
                .receiving
                .data()
                .await
                .ok_or_else(|| Trouble::new("the stream ended"))?
                .during("a stream")?;
            self.receiving
                .flow_control()
                .release_capacity(data.len())
                .during("a stream")?;
            self.buffered.extend_from_slice(&data);
        }
        Err(Trouble::new("no message came"))
    }
}

/// The head of a method's requests, made once.
struct Call {
    uri: Uri,
    headers: HeaderMap,
}

impl Call {
    fn new(connection: &Connection, path: &str) -> Result<Self, Trouble> {
        let uri = format!("http://{}{path}", connection.authority)
            .parse()
            .during("a method's address")?;
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        let headers =
            headers.map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::from_iter(headers);
        if let Some(token) = &connection.token {
            headers.insert("token", token.clone());
        }
        Ok(Self { uri, headers })
    }

    async fn send(
        &self,
        connection: &Connection,
        message: Bytes,
        last: bool,
    ) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>), Trouble> {
        let mut head = Request::post(self.uri.clone()).body(()).during("a request")?;
        head.headers_mut().clone_from(&self.headers);
        let mut requests = connection.requests.clone().ready().await.during("a free stream")?;
        let (response, mut sending) = requests.send_request(head, false).during("a request")?;
        sending.send_data(message, last).during("a request")?;
        Ok((response, sending))
    }

    /// Sends one request and reads its answer to the end.
    async fn answered(&self, connection: &Connection, message: Bytes) -> Result<(), Trouble> {
        let (response, _sending) = self.send(connection, message, true).await?;
        let response = response.await.during("an answer")?;
        if response.headers().contains_key("grpc-status") {
            return succeeded(response.headers());
        }
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            let length = data.during("an answer")?.len();
            body.flow_control().release_capacity(length).during("an answer")?;
        }
        let trailers = body.trailers().await.during("an answer")?;
        succeeded(&trailers.unwrap_or_default())
    }
}

fn status_of(headers: &HeaderMap) -> Option<u8> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

fn succeeded(trailers: &HeaderMap) -> Result<(), Trouble> {
    match trailers.get("grpc-status") {
        Some(status) if status == "0" => Ok(()),
        _ => Err(Trouble::new(format!("the server refused a request: {trailers:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_taken_from_the_sorted_latencies() {
        let taken = Taken::new(1.0, (1..=101).rev().map(Duration::from_millis).collect());
        assert!((taken.percentile(0.5) - 51.0).abs() < 1e-9 && (taken.percentile(0.99) - 100.0).abs() < 1e-9);
    }
}
