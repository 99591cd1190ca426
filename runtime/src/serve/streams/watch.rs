//! The watch service: passes messages between a client's stream and the hub, in both directions independently.

use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use quoin_core::api::{Credentials, Kind, Method};
use quoin_core::error::Error;
use quoin_core::limits::{MESSAGE_PIECE_BYTES, WHOLE_MESSAGE_BYTES};
use quoin_core::proto::etcdserverpb::WatchRequest;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::time::Instant;
use quoin_core::watch::{Events, Origin, Response};

use crate::handle::WatchStream;
use crate::metrics::MethodMetrics;
use crate::seam::Sleep;
use crate::serve::Context;
use crate::serve::grpc::call::Call;
use crate::serve::grpc::message::{Encoding, Messages, frame, plain_prefix};
use crate::serve::grpc::requests::Requests;
use crate::serve::grpc::status::{CANCELED, Status};
use crate::serve::reply;

/// How long a request waits before it is offered again to a hub that had no room, or to a member that has not applied
/// the client's token.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// Responses that are ready at the same time leave in one piece, up to this size.
const BURST_BYTES: usize = 32 * 1024;

/// A client's watch stream.
pub(crate) struct Source {
    context: Arc<Context>,
    encoding: Encoding,
    credentials: Credentials,
    messages: Messages<Requests>,
    stream: WatchStream,
    /// A request for which the hub had no room, and when to offer it again.
    refused: Option<(WatchRequest, Sleep)>,
    /// How long a request may wait until the client's token is known.
    token_by: Instant,
    /// The unsent rest of a long response.
    rest: Option<Rest>,
    /// The client has ended its side; it may still read.
    input_ended: bool,
}

/// The events of a response from index `next` on.
struct Rest {
    events: Events,
    next: usize,
}

impl Rest {
    /// Appends a piece; true if it was the last.
    fn write(&mut self, piece: &mut Vec<u8>) -> bool {
        while piece.len() < MESSAGE_PIECE_BYTES
            && let Some(event) = self.events.parts().get(self.next)
        {
            piece.extend_from_slice(event);
            self.next += 1;
        }
        self.next == self.events.len()
    }
}

impl Source {
    pub(crate) fn new(call: &Call, messages: Messages<Requests>) -> Self {
        let context = Arc::clone(&call.context);
        let stream = context.node.watch_stream();
        Self {
            encoding: call.encoding,
            credentials: call.credentials.clone(),
            token_by: context.request_deadline(),
            context,
            messages,
            stream,
            refused: None,
            rest: None,
            input_ended: false,
        }
    }

    /// Passes on the client's requests as long as the hub takes them.
    fn poll_requests(&mut self, cx: &mut TaskContext<'_>) -> Result<(), Status> {
        while !self.input_ended {
            let request = match self.refused.take() {
                Some((request, mut pause)) => {
                    if pause.as_mut().poll(cx).is_pending() {
                        self.refused = Some((request, pause));
                        return Ok(());
                    }
                    request
                }
                None => match self.messages.poll_next(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(None) => {
                        self.input_ended = true;
                        return Ok(());
                    }
                    Poll::Ready(Some(message)) => self.decode(message)?,
                },
            };
            if !self.offer(&request) {
                let pause = self.context.runtime.sleep_until(self.context.clock.now() + RETRY_PAUSE);
                self.refused = Some((request, pause));
            }
        }
        Ok(())
    }

    /// Passes on a request, as a denied one if it is not permitted; false if it must be offered again later.
    fn offer(&self, request: &WatchRequest) -> bool {
        if let Some(RequestUnion::CreateRequest(create)) = &request.request_union {
            let (permitted, awaits_token) = self.context.server_for(&self.credentials, |server| {
                (server.authorize_watch(create), server.awaits_token())
            });
            if let Err(error) = permitted {
                if awaits_token && self.context.clock.now() < self.token_by {
                    return false;
                }
                return self.stream.deny(create.clone(), error);
            }
        }
        self.stream.offer(request.clone())
    }

    fn decode(&self, message: Result<Bytes, Status>) -> Result<WatchRequest, Status> {
        let read = message.and_then(|message| {
            self.context.metrics.grpc.received_bytes.inc_by(message.len() as u64);
            crate::serve::grpc::message::decode(message, Kind::BidiStream)
        });
        match read {
            Ok(request) => {
                self.metrics().received.inc();
                Ok(request)
            }
            Err(status) if status.code == CANCELED => Err(Error::WatchCanceled.into()),
            Err(status) => {
                self.context.metrics.grpc.stream_failed("receive", "watch");
                Err(status)
            }
        }
    }

    /// The response, or the first piece of a long one.
    fn encode(&mut self, response: &Response, origin: Origin) -> Bytes {
        let length = response.encoded_len(origin);
        self.metrics().sent.inc();
        self.context.metrics.grpc.sent_bytes.inc_by(length as u64);
        if length <= WHOLE_MESSAGE_BYTES {
            return frame(length, self.encoding, |buffer| response.encode(origin, buffer));
        }
        let mut piece = plain_prefix(length).to_vec();
        response.encode_head(origin, &mut piece);
        self.rest = Some(Rest {
            events: response.events.clone(),
            next: 0,
        });
        self.write_rest(&mut piece);
        piece.into()
    }

    /// Appends a piece of the unsent rest of a response.
    fn write_rest(&mut self, piece: &mut Vec<u8>) {
        let is_over = self.rest.as_mut().is_none_or(|rest| rest.write(piece));
        if is_over {
            self.rest = None;
        }
    }

    fn metrics(&self) -> &MethodMetrics {
        self.context.metrics.grpc.method(Method::Watch)
    }
}

impl reply::Source for Source {
    fn poll_bytes(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        if let Err(status) = self.poll_requests(cx) {
            return Poll::Ready(Some(Err(status)));
        }
        let mut burst = Vec::new();
        if self.rest.is_some() {
            self.write_rest(&mut burst);
            return Poll::Ready(Some(Ok(burst.into())));
        }
        let mut first = Bytes::new();
        while burst.len() < BURST_BYTES && self.rest.is_none() {
            let response = match self.stream.poll_recv(cx) {
                Poll::Ready(Some(response)) => response,
                Poll::Ready(None) if first.is_empty() => return Poll::Ready(Some(Err(Error::Stopped.into()))),
                Poll::Ready(None) | Poll::Pending => break,
            };
            let origin = self.context.origin();
            let message = self.encode(&response, origin);
            // A single response, the usual case, is not copied again.
            if first.is_empty() {
                first = message;
                if first.len() >= BURST_BYTES {
                    break;
                }
            } else {
                if burst.is_empty() {
                    burst.extend_from_slice(&first);
                }
                burst.extend_from_slice(&message);
            }
        }
        match (first.is_empty(), burst.is_empty()) {
            (true, _) => Poll::Pending,
            (false, true) => Poll::Ready(Some(Ok(first))),
            (false, false) => Poll::Ready(Some(Ok(burst.into()))),
        }
    }
}
