//! The body of every response: nothing, bytes, one gRPC message, or a stream that is made as the client takes it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::grpc::call::Call;
use super::grpc::status::{self, Status};
use super::stop::Stop;
use crate::seam::Sleep;

/// Makes the body of a long response piece by piece. It is asked only when the client has room for more, so a slow
/// reader costs what the source itself holds.
pub(crate) trait Source: Send {
    /// The next bytes of the body: whole messages or parts of one. `None` ends the call well.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>>;
}

/// A response's body.
pub(crate) enum Reply {
    /// An HTTP answer, or the empty body of a call that failed at once.
    Bytes(Bytes),
    /// One message; its call is over.
    Message(Bytes),
    /// The trailers after a message.
    Trailers,
    /// What a source makes.
    Stream(Box<Stream>),
    /// All was said.
    Ended,
}

/// A call that is answered with a stream.
pub(crate) struct Stream {
    /// What makes it.
    pub(crate) source: Box<dyn Source>,
    /// The call it answers, until it is over.
    pub(crate) call: Call,
    /// The client's deadline.
    pub(crate) deadline: Option<Sleep>,
    /// Ends the stream with the server, unless it ends on its own.
    pub(crate) stop: Option<Stop>,
}

impl Stream {
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(Status::deadline_exceeded())));
        }
        if let Some(stop) = &mut self.stop
            && stop.poll_stopped(cx).is_ready()
        {
            return Poll::Ready(Some(Err(quoin_core::error::Error::Stopped.into())));
        }
        self.source.poll_bytes(cx)
    }

    /// The next frame, and whether it is the last.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<(Frame<Bytes>, bool)> {
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
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let (frame, next) = match &mut *self {
            Self::Bytes(bytes) if !bytes.is_empty() => (Frame::data(std::mem::take(bytes)), Self::Ended),
            Self::Bytes(_) | Self::Ended => return Poll::Ready(None),
            Self::Message(bytes) => (Frame::data(std::mem::take(bytes)), Self::Trailers),
            Self::Trailers => (Frame::trailers(status::ok_trailers()), Self::Ended),
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
            Self::Message(_) | Self::Trailers | Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            // A gRPC response names no length.
            Self::Message(_) | Self::Trailers | Self::Stream(_) | Self::Ended => SizeHint::default(),
        }
    }
}

/// The headers of a failed call whose body is empty: they carry the status.
pub(crate) fn failed_headers(status: &Status) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    status.write(&mut headers);
    headers
}
