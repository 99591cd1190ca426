//! The bytes of a request to the gateway, from either kind of client.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;

use super::super::websocket::Inbox;

/// The body of a request.
pub(crate) enum Entity {
    /// That of a request over HTTP.
    Http(Incoming),
    /// The messages of a WebSocket.
    WebSocket(Inbox),
}

impl Body for Entity {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Http(incoming) => Pin::new(incoming).poll_frame(cx),
            Self::WebSocket(inbox) => {
                let frame = Pin::new(inbox).poll_frame(cx);
                frame.map(|frame| frame.map(|frame| frame.map_err(|never| match never {})))
            }
        }
    }
}
