//! Serves requests of peers: each is reported to the peer thread, and answered by the thread's orders.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use async_channel::Receiver;
use bytes::Bytes;
use futures_core::Stream as _;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use quoin_core::peer::{ExchangeId, PATH_PIPELINE, PATH_PROBING, PeerHead, PeerInput};

use super::window::Window;
use super::{Order, Peers, dial};
use crate::logs;
use crate::serve::Context;
use crate::serve::http::go_error;
use crate::serve::reply::Reply;
use crate::serve::stop::Stopper;

/// Whether a path is one of the peer protocol.
pub(crate) fn is_raft(path: &str) -> bool {
    let rest = path.strip_prefix(PATH_PIPELINE);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a request of a peer. The request has its connection's [`Stopper`] as an extension.
pub(crate) async fn serve(context: Arc<Context>, request: Request<Incoming>) -> Response<Reply> {
    if request.uri().path() == PATH_PROBING {
        return probing(&context, request.method());
    }
    let cut = request.extensions().get::<Stopper>().cloned();
    let (Some(peers), Some(cut)) = (&context.peers, cut) else {
        return go_error(StatusCode::NOT_FOUND, "404 page not found");
    };
    let (parts, body) = request.into_parts();
    let head = PeerHead {
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        fields: dial::fields_of(&parts.headers),
    };
    let (number, window, orders) = peers.begin(head, cut);
    let exchange = Exchange {
        id: ExchangeId::Incoming(number),
        peers: peers.clone(),
        orders: Box::pin(orders),
        window,
        is_writing: false,
        is_over: false,
    };
    drop(context);
    exchange.answer(body).await
}

/// Answers `/raft/probing`, which etcd requests to learn whether a peer can be reached, and how fast.
fn probing(context: &Context, method: &Method) -> Response<Reply> {
    if method == Method::HEAD {
        return Response::new(Reply::Bytes(Bytes::new()));
    }
    let now = logs::timestamp(context.clock.wall());
    let body = format!("{{\"OK\":true,\"Now\":\"{now}\"}}\n");
    let mut response = Response::new(Reply::Bytes(body.into()));
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}

/// A request of a peer, as its connection holds it. If it is dropped before its end, it reports [`PeerInput::Closed`].
pub(crate) struct Exchange {
    id: ExchangeId,
    peers: Peers,
    orders: Pin<Box<Receiver<Order>>>,
    window: Window,
    /// Bytes were given to the connection, and [`PeerInput::Drained`] is not reported for them yet.
    is_writing: bool,
    /// The end of the exchange is known to the machine, so a drop reports nothing.
    is_over: bool,
}

/// The next event of an exchange.
enum Next {
    /// An order; `None` if the thread gives no more orders.
    Order(Option<Order>),
    /// A piece of the body; `None` at its end.
    Piece(Option<Result<Bytes, hyper::Error>>),
}

impl Exchange {
    /// Carries out orders until there is a response.
    async fn answer(mut self, mut body: Incoming) -> Response<Reply> {
        let mut is_read = false;
        loop {
            match self.next(is_read.then_some(&mut body)).await {
                Next::Order(Some(Order::Receive)) => is_read = true,
                Next::Order(Some(Order::Open(head))) => {
                    return response(StatusCode::OK.as_u16(), &head, Reply::Peer(Box::new(self)));
                }
                Next::Order(Some(Order::Respond {
                    status,
                    head,
                    body,
                    close,
                })) => {
                    self.is_over = true;
                    let mut response = response(status, &head, Reply::Bytes(body));
                    if close {
                        let close = HeaderValue::from_static("close");
                        response.headers_mut().insert(CONNECTION, close);
                    }
                    return response;
                }
                // The connection is cut, or the member ends.
                Next::Order(Some(Order::Write(_)) | None) => {
                    self.is_over = true;
                    return go_error(StatusCode::SERVICE_UNAVAILABLE, "the member has ended the exchange");
                }
                Next::Piece(Some(Ok(bytes))) => self.peers.bytes(self.id, bytes, &self.window),
                Next::Piece(Some(Err(error))) => {
                    is_read = false;
                    self.peers.report(PeerInput::Closed(self.id, dial::text_of(&error)));
                }
                Next::Piece(None) => {
                    is_read = false;
                    self.peers.report(PeerInput::End(self.id));
                }
            }
        }
    }

    /// The next order, or the next piece of a body that is read.
    async fn next(&mut self, mut body: Option<&mut Incoming>) -> Next {
        poll_fn(|cx| {
            if let Poll::Ready(order) = self.orders.as_mut().poll_next(cx) {
                return Poll::Ready(Next::Order(order));
            }
            let Some(body) = &mut body else {
                return Poll::Pending;
            };
            loop {
                ready!(self.window.poll_room(cx));
                let frame = ready!(Pin::new(&mut **body).poll_frame(cx));
                match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
                    None => return Poll::Ready(Next::Piece(None)),
                    Some(Ok(Ok(bytes))) => return Poll::Ready(Next::Piece(Some(Ok(bytes)))),
                    // Trailers, which no peer sends.
                    Some(Ok(Err(_))) => {}
                    Some(Err(error)) => return Poll::Ready(Next::Piece(Some(Err(error)))),
                }
            }
        })
        .await
    }

    /// The next bytes of an open body; `None` at its end. It is polled when the connection has room for more.
    pub(crate) fn poll_bytes(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Bytes>> {
        if std::mem::take(&mut self.is_writing) {
            self.peers.report(PeerInput::Drained(self.id));
        }
        match self.orders.as_mut().poll_next(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Order::Write(bytes))) => {
                self.is_writing = true;
                Poll::Ready(Some(bytes))
            }
            Poll::Ready(_) => {
                self.is_over = true;
                Poll::Ready(None)
            }
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.is_over {
            let why = "the connection was lost".to_owned();
            self.peers.report(PeerInput::Closed(self.id, why));
        }
    }
}

fn response(status: u16, head: &PeerHead, body: Reply) -> Response<Reply> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Err(error) = dial::set_fields(head, response.headers_mut()) {
        tracing::error!(error, "a response to a peer lacks a header");
    }
    response
}
