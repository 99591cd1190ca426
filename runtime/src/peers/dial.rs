//! One HTTP/1.1 request to one URL of a peer, over a connection of its own: no pool, no retry.
//!
//! The connection is polled by the task that polls the answer, and is cut when the answer is dropped.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HOST, HeaderName};
use http::{HeaderMap, HeaderValue, Request};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::rt::ReadBufCursor;
use quoin_core::config::Url;
use quoin_core::limits::PEER_NAME_LOOKUPS;
use quoin_core::peer::PeerHead;
use quoin_core::time::Instant;

use crate::seam::{Address, Runtime, Socket, connect, read_into};
use crate::threads;
use crate::tls::Dialer;

/// The body of a request.
pub(crate) type RequestBody = Pin<Box<dyn Body<Data = Bytes, Error = io::Error> + Send>>;

/// The answer to a request. Dropping it cuts the connection.
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The headers.
    pub(crate) head: PeerHead,
    /// The time from the open connection to the headers.
    pub(crate) took: Duration,
    body: Incoming,
    link: Link,
}

impl Answer {
    /// The next piece of the body; `None` at its end.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, String>>> {
        self.link.poll(cx);
        loop {
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                return Poll::Ready(None);
            };
            match frame.map(Frame::into_data) {
                Ok(Ok(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                // Trailers, which no peer sends.
                Ok(Err(_)) => {}
                Err(error) => return Poll::Ready(Some(Err(text_of(&error)))),
            }
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// A connection, until it has ended.
struct Link(Option<Pin<Box<http1::Connection<Io, RequestBody>>>>);

impl Link {
    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.0
            && connection.as_mut().poll(cx).is_ready()
        {
            // The answer reports the same error.
            self.0 = None;
        }
    }
}

/// Sends a request whose answer is small, and returns its status, its headers and its whole body. At most `limit` bytes
/// of body are accepted, and the whole takes at most `patience`.
///
/// # Errors
/// Why there is no answer. The request may have been carried out nevertheless.
pub(crate) async fn ask(
    dialer: &Dialer,
    url: &str,
    head: &PeerHead,
    body: Bytes,
    limit: usize,
    patience: Duration,
) -> Result<(u16, PeerHead, Bytes), String> {
    let runtime = dialer.runtime();
    let deadline = runtime.clock().now() + patience;
    let asked = async {
        let mut answer = send(dialer, url, head, whole(body), deadline).await?;
        let mut bytes = BytesMut::new();
        while let Some(piece) = poll_fn(|cx| answer.poll_piece(cx)).await {
            let piece = piece?;
            if bytes.len() + piece.len() > limit {
                return Err(format!("the answer of {url} has more than {limit} bytes"));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok((answer.status, answer.head, bytes.freeze()))
    };
    let late = || Err(format!("{url} has not answered within {patience:?}"));
    within(runtime, deadline, asked).await.unwrap_or_else(late)
}

/// Connects to a URL and sends a request; returns the answer once its head has arrived. The body of the request may
/// still be on its way then. The deadline limits the time to connect, not the time to the answer.
///
/// # Errors
/// Why there is no answer.
pub(crate) async fn send(
    dialer: &Dialer,
    url: &str,
    head: &PeerHead,
    body: RequestBody,
    deadline: Instant,
) -> Result<Answer, String> {
    let url = Url::parse(url)?;
    let request = request_of(&url, head, body)?;
    let late = || Err(format!("dial {url}: no connection in time"));
    let connecting = within(dialer.runtime(), deadline, open(dialer, &url)).await;
    let socket = connecting.unwrap_or_else(late)?;
    let clock = dialer.runtime().clock();
    let sent = clock.now();
    let handshake = http1::Builder::new().handshake(Io(socket)).await;
    let (mut sender, connection) = handshake.map_err(|error| text_of(&error))?;
    let mut link = Link(Some(Box::pin(connection)));
    let mut response = pin!(sender.send_request(request));
    let response = poll_fn(|cx| {
        link.poll(cx);
        response.as_mut().poll(cx)
    });
    let (parts, body) = response.await.map_err(|error| text_of(&error))?.into_parts();
    Ok(Answer {
        status: parts.status.as_u16(),
        head: PeerHead {
            fields: fields_of(&parts.headers),
            ..PeerHead::default()
        },
        took: clock.now().saturating_since(sent),
        body,
        link,
    })
}

/// The result of a future, or `None` at the deadline.
pub(crate) async fn within<T>(
    runtime: &Arc<dyn Runtime>,
    deadline: Instant,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut future = pin!(future);
    let mut sleep = runtime.sleep_until(deadline);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Headers as the peer protocol has them: names in lower case, the first value of each.
pub(crate) fn fields_of(headers: &HeaderMap) -> std::collections::BTreeMap<String, String> {
    let names = headers.keys();
    let fields = names.filter_map(|name| Some((name, headers.get(name)?.to_str().ok()?)));
    fields
        .map(|(name, value)| (name.as_str().to_owned(), value.to_owned()))
        .collect()
}

/// Sets headers of the peer protocol.
///
/// # Errors
/// If HTTP does not allow the name or the value of a header; the text names the header.
pub(crate) fn set_fields(head: &PeerHead, headers: &mut HeaderMap) -> Result<(), String> {
    for (name, value) in &head.fields {
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|error| format!("header {name}: {error}"))?;
        let value = HeaderValue::from_str(value).map_err(|error| format!("header {name}: {error}"))?;
        headers.insert(key, value);
    }
    Ok(())
}

fn request_of(url: &Url, head: &PeerHead, body: RequestBody) -> Result<Request<RequestBody>, String> {
    let request = Request::builder().method(head.method.as_str()).uri(head.path.as_str());
    let mut request = request
        .body(body)
        .map_err(|error| format!("{} {}: {error}", head.method, head.path))?;
    let headers = request.headers_mut();
    let host = url.authority().unwrap_or("localhost");
    let host = HeaderValue::from_str(host).map_err(|error| format!("{url}: {error}"))?;
    headers.insert(HOST, host);
    set_fields(head, headers)?;
    Ok(request)
}

/// Connects to the first address of a URL that accepts, and secures the connection if the URL asks for it.
async fn open(dialer: &Dialer, url: &Url) -> Result<Box<dyn Socket>, String> {
    let mut why = "the name has no address".to_owned();
    for address in addresses_of(url).await? {
        match connect(dialer.runtime(), &address).await {
            Ok(socket) if url.is_tls() => {
                let secured = dialer.secure(url, socket).await;
                return secured.map_err(|why| format!("dial {url}: {why}"));
            }
            Ok(socket) => return Ok(socket),
            Err(error) => why = error.to_string(),
        }
    }
    Err(format!("dial {url}: {why}"))
}

/// The number of names being looked up in this process.
static LOOKUPS: AtomicUsize = AtomicUsize::new(0);

/// A lookup in progress, counted in [`LOOKUPS`] until it is dropped.
pub(crate) struct Lookup;

impl Lookup {
    /// Begins a lookup, unless too many are in progress.
    pub(crate) fn begin() -> Option<Self> {
        let lookup = Self;
        (LOOKUPS.fetch_add(1, Ordering::Relaxed) < PEER_NAME_LOOKUPS).then_some(lookup)
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        LOOKUPS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The addresses of a URL, those of IPv4 first. A name is looked up on a thread of its own, because the system's
/// resolver blocks.
async fn addresses_of(url: &Url) -> Result<Vec<Address>, String> {
    if let Some(path) = url.socket_path() {
        return Ok(vec![Address::Unix(path.into())]);
    }
    let (host, port) = (url.host().unwrap_or_default(), url.port().unwrap_or_default());
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port).into()]);
    }
    let fail = |why: &dyn fmt::Display| format!("lookup {host}: {why}");
    // `begin` raises the count before it compares. Dropping its `Lookup`, here or in `begin`, lowers the count again.
    let lookup = Lookup::begin().ok_or_else(|| fail(&"too many names are being looked up"))?;
    let name = host.to_owned();
    let look_up = move || {
        let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        drop(lookup);
        found
    };
    let looking = threads::apart("quoin-resolve", look_up).map_err(|error| fail(&error))?;
    let found = looking.await.map_err(|panic| fail(&panic))?;
    let mut found = found.map_err(|error| fail(&error))?;
    found.sort_by_key(SocketAddr::is_ipv6);
    Ok(found.into_iter().map(Address::from).collect())
}

/// The text of an error of hyper, with its cause.
pub(crate) fn text_of(error: &hyper::Error) -> String {
    let cause = std::error::Error::source(error);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// A body that is complete.
pub(crate) fn whole(bytes: Bytes) -> RequestBody {
    Box::pin(Whole(bytes))
}

struct Whole(Bytes);

impl Body for Whole {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let bytes = std::mem::take(&mut self.0);
        Poll::Ready(
            Some(bytes)
                .filter(|bytes| !bytes.is_empty())
                .map(|bytes| Ok(Frame::data(bytes))),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

/// A socket with hyper's traits.
struct Io(Box<dyn Socket>);

impl hyper::rt::Read for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        read_into(&mut *self.0, cx, into).map_ok(|_| ())
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
