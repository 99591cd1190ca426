//! The body of every response: empty, bytes, one gRPC message, or a stream that is made as the client reads it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{self, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use quoin_core::error::Error;

use super::gateway::Json;
use super::grpc::call::Call;
use super::grpc::status::{self, Status};
use super::stop::Stop;
use super::{Context, facts};
use crate::peers;
use crate::seam::Sleep;

/// Makes the body of a long response piece by piece. It is polled only when the client has room for more, so a slow
/// client costs no more memory than the source itself.
pub(crate) trait Source: Send {
    /// The next bytes of the body: whole messages or parts of one. `None` ends the call with status OK.
    fn poll_bytes(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<Result<Bytes, Status>>>;
}

/// A response's body.
pub(crate) enum Reply {
    /// An HTTP answer, or the empty body of a call that failed at once.
    Bytes(Bytes),
    /// One message, after which the call ends.
    Message(Bytes),
    /// The trailers after a message.
    Trailers,
    /// Messages for a peer, as long as its stream is open.
    Peer(Box<peers::incoming::Exchange>),
    /// The output of a source.
    Stream(Box<Stream>),
    /// The JSON of the gateway, as the call goes on.
    Json(Box<Json>),
    /// Nothing more.
    Ended,
}

/// A call whose answer is a stream.
pub(crate) struct Stream {
    /// Makes the body.
    pub(crate) source: Box<dyn Source>,
    /// The call, whose end is counted when the stream ends.
    pub(crate) call: Call,
    /// The client's deadline.
    pub(crate) deadline: Option<Sleep>,
    /// Ends the stream when the server stops; `None` for a stream that ends by itself.
    pub(crate) stop: Option<Stop>,
    /// Ends the stream after three election timeouts without a leader; `None` unless the client requires a leader.
    pub(crate) leader: Option<LeaderWatch>,
}

/// After this many polls in a row without a leader, a stream that requires one ends.
const LEADERLESS_POLLS_MAX: u32 = 3;

/// Checks once per election timeout whether there is a leader.
pub(crate) struct LeaderWatch {
    next: Sleep,
    leaderless_polls: u32,
}

impl LeaderWatch {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            next: Self::pause(context),
            leaderless_polls: 0,
        }
    }

    fn pause(context: &Context) -> Sleep {
        context
            .runtime
            .sleep_until(context.clock.now() + context.settings.election_timeout)
    }

    /// Ready once there was no leader for too long.
    fn poll_lost(&mut self, context: &Context, cx: &mut task::Context<'_>) -> Poll<()> {
        loop {
            ready!(self.next.as_mut().poll(cx));
            self.leaderless_polls = if facts::has_leader(context) {
                0
            } else {
                self.leaderless_polls + 1
            };
            if self.leaderless_polls >= LEADERLESS_POLLS_MAX {
                return Poll::Ready(());
            }
            self.next = Self::pause(context);
        }
    }
}

impl Stream {
    /// The next bytes of the body; an error ends it.
    pub(crate) fn poll_bytes(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(Status::deadline_exceeded())));
        }
        if let Some(stop) = &mut self.stop
            && stop.poll_stopped(cx).is_ready()
        {
            return Poll::Ready(Some(Err(Error::Stopped.into())));
        }
        if let Some(leader) = &mut self.leader
            && leader.poll_lost(&self.call.context, cx).is_ready()
        {
            return Poll::Ready(Some(Err(Error::NoLeader.into())));
        }
        self.source.poll_bytes(cx)
    }

    /// The next frame, and whether it is the last.
    fn poll_frame(&mut self, cx: &mut task::Context<'_>) -> Poll<(Frame<Bytes>, bool)> {
        Poll::Ready(match ready!(self.poll_bytes(cx)) {
            Some(Ok(bytes)) => (Frame::data(bytes), false),
            Some(Err(status)) => {
                self.call.finish(status.code);
                (Frame::trailers(status.trailers()), true)
            }
            None => {
                self.call.finish(status::OK);
                (Frame::trailers(status::ok_trailers()), true)
            }
        })
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let (frame, next) = match &mut *self {
            Self::Bytes(bytes) if !bytes.is_empty() => (Frame::data(std::mem::take(bytes)), Self::Ended),
            Self::Bytes(_) | Self::Ended => return Poll::Ready(None),
            Self::Message(bytes) => (Frame::data(std::mem::take(bytes)), Self::Trailers),
            Self::Trailers => (Frame::trailers(status::ok_trailers()), Self::Ended),
            Self::Peer(exchange) => {
                let bytes = ready!(exchange.poll_bytes(cx));
                return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
            }
            Self::Json(json) => {
                let bytes = ready!(json.poll_bytes(cx));
                return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
            }
            Self::Stream(stream) => match ready!(stream.poll_frame(cx)) {
                (frame, false) => return Poll::Ready(Some(Ok(frame))),
                (frame, true) => (frame, Self::Ended),
            },
        };
        *self = next;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Ended => true,
            Self::Message(_) | Self::Trailers | Self::Peer(_) | Self::Stream(_) | Self::Json(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            // A gRPC response has no length header.
            _ => SizeHint::default(),
        }
    }
}
