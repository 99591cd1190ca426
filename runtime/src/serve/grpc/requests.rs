//! The body of a call's requests, from either kind of client.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;

use super::super::gateway;
use super::status::{CANCELED, Status};

/// A body of gRPC's length-prefixed messages.
pub(crate) enum Requests {
    /// Sent as such.
    Grpc(Incoming),
    /// Made of JSON by the gateway.
    Json(Box<gateway::Body>),
}

impl Body for Requests {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match &mut *self {
            Self::Grpc(incoming) => {
                let canceled = |_| Status::new(CANCELED, "context canceled");
                Pin::new(incoming)
                    .poll_frame(cx)
                    .map(|frame| frame.map(|frame| frame.map_err(canceled)))
            }
            Self::Json(body) => body.poll_message(cx),
        }
    }
}
