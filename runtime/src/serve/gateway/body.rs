//! The requests of a call, made of the JSON values in a body: the first value is the request of a unary call, all of them
//! are the requests of a stream.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use quoin_core::api::{Kind, Method};

use super::super::grpc::message::plain_prefix;
use super::super::grpc::partial::{Partial, Partials};
use super::super::grpc::status::{CANCELED, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, Status};
use super::entity::Entity;
use super::read::read;
use super::scan::{Scanned, Scanner, is_space};
use super::shape::Shapes;

/// JSON is at most this many times as long as its message, but for white space and unknown fields.
const JSON_FACTOR: usize = 2;
/// White space, names and unknown fields, besides that.
const JSON_EXTRA_BYTES: usize = 1 << 20;

/// Bytes after the request of a unary call that are read and ignored, as in Go. A client that still sends when its
/// connection is closed may not see its answer.
const IGNORED_BYTES: usize = 256 * 1024;

/// A body of JSON values that is read as one of gRPC's messages.
pub(crate) struct Body<B = Entity> {
    body: B,
    shape: usize,
    /// Only the first value counts, and an empty body is an empty request.
    is_single: bool,
    scanner: Scanner,
    /// Bytes that are read and not yet part of a message.
    buffer: Vec<u8>,
    /// Largest value.
    limit: usize,
    partials: Partials,
    /// The memory of an incomplete value.
    partial: Option<Partial>,
    /// The request, read ahead of the call.
    ahead: Option<Frame<Bytes>>,
    input_ended: bool,
    /// Bytes after the last request.
    ignored: usize,
    is_over: bool,
}

impl<B: http_body::Body<Data = Bytes> + Unpin> Body<B> {
    /// The requests of a call of `method`, of which none is longer than `limit` bytes.
    pub(crate) fn new(body: B, method: Method, limit: usize, partials: Partials) -> Self {
        Self {
            body,
            shape: Shapes::get().of(method).0,
            is_single: method.parts().2 != Kind::BidiStream,
            scanner: Scanner::new(),
            buffer: Vec::new(),
            limit: limit.saturating_mul(JSON_FACTOR).saturating_add(JSON_EXTRA_BYTES),
            partials,
            partial: None,
            ahead: None,
            input_ended: false,
            ignored: 0,
            is_over: false,
        }
    }

    /// Whether the body has one request.
    pub(crate) fn is_single(&self) -> bool {
        self.is_single
    }

    /// Reads the request of a unary call ahead of the call.
    pub(crate) fn poll_single(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.ahead = ready!(self.poll_message(cx)).transpose()?;
        Poll::Ready(Ok(()))
    }

    /// The next frame of gRPC: one whole message with its prefix.
    pub(crate) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(frame) = self.ahead.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        while !self.is_over {
            let scanned = match self.scanner.scan(&self.buffer) {
                Ok(Scanned::More) if self.input_ended => match self.scanner.end() {
                    Ok(Some(length)) => Ok(Some(length)),
                    // A unary call needs no body.
                    Ok(None) if self.is_single => return Poll::Ready(Some(Ok(self.frame(&[])))),
                    Ok(None) => break,
                    Err(why) => Err(why),
                },
                Ok(Scanned::More) => Ok(None),
                Ok(Scanned::Value(length)) => Ok(Some(length)),
                Err(why) => Err(why),
            };
            match scanned.and_then(|length| length.map(|length| self.take(length)).transpose()) {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(self.frame(&message)))),
                Ok(None) => ready!(self.poll_more(cx))?,
                Err(why) if self.is_single => return Poll::Ready(Some(Err(self.fail(INVALID_ARGUMENT, why)))),
                // As in etcd, a stream simply has no more requests.
                Err(_) => break,
            }
        }
        self.is_over = true;
        Poll::Ready(None)
    }

    /// Reads and ignores the rest of the body, if it is short.
    pub(crate) fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.input_ended && self.ignored < IGNORED_BYTES {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => self.ignored += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) | None => self.input_ended = true,
            }
        }
        Poll::Ready(())
    }

    /// Reads more of the body, while there is room for it.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        if self.buffer.len() > self.limit {
            let why = format!("JSON value larger than max ({} vs. {})", self.buffer.len(), self.limit);
            return Poll::Ready(Err(self.fail(RESOURCE_EXHAUSTED, why)));
        }
        if !self.buffer.is_empty() {
            let partial = self.partial.get_or_insert_with(|| self.partials.begin());
            ready!(partial.poll_room(self.buffer.capacity(), cx))?;
        }
        Poll::Ready(match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => {
                self.input_ended = true;
                Ok(())
            }
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.buffer.extend_from_slice(&data);
                }
                Ok(())
            }
            Some(Err(_)) => Err(self.fail(CANCELED, "context canceled".to_owned())),
        })
    }

    /// Takes the value of this length off the buffer; its message.
    fn take(&mut self, length: usize) -> Result<Vec<u8>, String> {
        let value = &self.buffer[..length];
        let blank = value.iter().take_while(|byte| is_space(**byte)).count();
        let mut message = Vec::new();
        read(&value[blank..], self.shape, &mut message)?;
        self.buffer.drain(..length);
        self.scanner = Scanner::new();
        self.partial = None;
        Ok(message)
    }

    fn frame(&mut self, message: &[u8]) -> Frame<Bytes> {
        self.is_over = self.is_single;
        if self.is_over {
            self.buffer = Vec::new();
        }
        Frame::data([&plain_prefix(message.len())[..], message].concat().into())
    }

    fn fail(&mut self, code: u8, why: String) -> Status {
        self.is_over = true;
        self.partial = None;
        drop(mem::take(&mut self.buffer));
        Status::new(code, why)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::task::Waker;

    use super::*;

    struct Pieces(VecDeque<Bytes>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    /// The frames of a body that arrives in pieces, and the error at its end.
    fn frames(method: Method, text: &str, size: usize) -> (Vec<Bytes>, Option<Status>) {
        let pieces = Pieces(text.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect());
        let mut body = Body::new(pieces, method, 100, Partials::alone());
        let mut found = Vec::new();
        loop {
            match body.poll_message(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(Ok(frame))) => found.push(frame.into_data().unwrap()),
                Poll::Ready(Some(Err(status))) => return (found, Some(status)),
                Poll::Ready(None) => return (found, None),
                Poll::Pending => panic!("all pieces are there"),
            }
        }
    }

    #[test]
    fn a_unary_call_takes_the_first_value() {
        let key = Bytes::from_static(&[0, 0, 0, 0, 3, 10, 1, b'a']);
        for size in [1, 7, 100] {
            for text in [
                r#"{"key":"YQ=="}"#,
                " \n{\"key\":\"YQ==\"} x",
                r#"{"key":"YQ=="}{"key":"Yg=="}"#,
            ] {
                assert_eq!(frames(Method::Range, text, size), (vec![key.clone()], None), "{text}");
            }
        }
        let empty = Bytes::from_static(&[0; 5]);
        for text in ["", " ", "{}"] {
            assert_eq!(frames(Method::Range, text, 1), (vec![empty.clone()], None));
        }
    }

    #[test]
    fn a_unary_call_is_refused_for_bad_json() {
        let refused = |text: &str| {
            frames(Method::Range, text, 3)
                .1
                .map(|status| (status.code, status.message))
        };
        let because = |why: &'static str| Some((INVALID_ARGUMENT, why.into()));
        assert_eq!(refused("{"), because("unexpected EOF"));
        assert_eq!(
            refused("x"),
            because("invalid character 'x' looking for beginning of value")
        );
        assert_eq!(
            refused(r#" {"limit":"x"}"#),
            because("proto: (line 1:10): invalid value for int64 field limit: \"x\"")
        );
        let long = format!("{}{{}}", " ".repeat(2 * JSON_EXTRA_BYTES));
        let refused = frames(Method::Range, &long, 1 << 16).1.unwrap();
        assert_eq!(refused.code, RESOURCE_EXHAUSTED);
    }

    #[test]
    fn a_stream_takes_all_values_up_to_a_bad_one() {
        let progress = r#"{"progress_request":{}}"#;
        let message = Bytes::from_static(&[0, 0, 0, 0, 6, 26, 0x80, 0x80, 0x80, 0x80, 0]);
        for (text, count) in [
            (format!("{progress}{progress}\n{progress}"), 3),
            (format!("{progress} x {progress}"), 1),
            (format!("{progress}{{"), 1),
            (String::new(), 0),
        ] {
            assert_eq!(
                frames(Method::Watch, &text, 4),
                (vec![message.clone(); count], None),
                "{text}"
            );
        }
    }
}
