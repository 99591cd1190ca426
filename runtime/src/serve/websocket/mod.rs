//! WebSocket for the JSON gateway, as etcd has it: a client's messages are the body of a POST request of the same path,
//! and each line of its answer is a message. Unlike etcd, which cuts the connection, the end of an answer is told with a
//! close frame.

mod frames;
mod handshake;
mod inbox;
mod lines;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{self, Poll, ready};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use http_body::Body as _;
use hyper::rt::{Read as _, ReadBuf, Write as _};
use hyper::upgrade::OnUpgrade;

use self::frames::{Decoder, FrameEvent, Opcode};
use self::lines::LineFrames;
use super::Context;
use super::http::go_error;
use super::reply::Reply;
use super::stop::Stop;
use super::wire::Wire;
use crate::seam::Sleep;

pub(crate) use self::handshake::is_asked_for;
pub(crate) use self::inbox::Inbox;

/// Frames that wait to be written; while there are more, nothing is read from the client, and its answer waits.
const UNSENT_BYTES_MAX: usize = 64 * 1024;
const READ_BYTES: usize = 4 * 1024;
/// How often a turn of the connection's task reads, writes, and asks for more of the answer.
const MOVES_PER_TURN: u32 = 16;
/// How long a client may take to close its side after the last frame.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// The WebSocket that a connection becomes, once it is asked for.
#[derive(Clone, Default)]
pub(crate) struct Upgrade(Arc<Mutex<Option<Session>>>);

impl Upgrade {
    /// What the connection has become.
    pub(crate) fn take(&self) -> Option<Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

type Answering = Pin<Box<dyn Future<Output = Response<Reply>> + Send>>;

/// Makes the request's connection a WebSocket for the call that `begin` makes of headers and body. Returns the response
/// to the request.
pub(crate) fn begin<F>(
    context: &Arc<Context>,
    head: &Parts,
    begin: impl FnOnce(HeaderMap, Inbox) -> F,
) -> Response<Reply>
where
    F: Future<Output = Response<Reply>> + Send + 'static,
{
    let response = match handshake::accept(head) {
        Ok(response) => response,
        Err(status) => return handshake::refusal(status),
    };
    let extensions = &head.extensions;
    let (Some(upgrade), Some(on_upgrade)) = (extensions.get::<Upgrade>(), extensions.get::<OnUpgrade>()) else {
        return go_error(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
    };
    let inbox = Inbox::default();
    let call = begin(handshake::headers_of_call(&head.headers), inbox.clone());
    let session = Session {
        context: Arc::clone(context),
        on_upgrade: on_upgrade.clone(),
        talk: Talk {
            answer: CallState::Awaited(Box::pin(call)),
            inbox,
            decoder: Decoder::new(),
            lines: LineFrames::default(),
            unsent: Vec::new(),
            written: 0,
            end: Closing::Open,
        },
    };
    *upgrade.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    response
}

/// A connection that has become a WebSocket.
pub(crate) struct Session {
    context: Arc<Context>,
    on_upgrade: OnUpgrade,
    talk: Talk,
}

impl Session {
    /// Serves the WebSocket until it ends, or is cut by `abort`.
    pub(crate) async fn run(self, abort: &mut Stop) {
        let Self {
            context,
            on_upgrade,
            mut talk,
        } = self;
        let Ok(upgraded) = on_upgrade.await else { return };
        let Ok(parts) = upgraded.downcast::<Wire>() else { return };
        talk.decoder.push(&parts.read_buf);
        let mut wire = parts.io;
        poll_fn(|cx| {
            if abort.poll_stopped(cx).is_ready() {
                return Poll::Ready(());
            }
            wire.begin_turn();
            let ended = talk.poll(&mut wire, &context, cx);
            // An error of the connection concerns only its client.
            match wire.finish_turn(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(()),
                Poll::Ready(Ok(())) | Poll::Pending => ended,
            }
        })
        .await;
    }
}

/// The answer of the call.
enum CallState {
    Awaited(Answering),
    Begun(Reply),
    Over,
}

/// How far the end of the connection is.
enum Closing {
    Open,
    /// The last frame is among those to be written.
    Told,
    /// The last frame was written, and the client may close its side until then.
    Awaited(Sleep),
}

/// The two directions of the connection.
struct Talk {
    answer: CallState,
    inbox: Inbox,
    decoder: Decoder,
    lines: LineFrames,
    /// Frames to be written, from `written` on.
    unsent: Vec<u8>,
    written: usize,
    end: Closing,
}

impl Talk {
    /// Moves what can be moved in one turn; ready once the connection is over.
    fn poll(&mut self, wire: &mut Wire, context: &Context, cx: &mut task::Context<'_>) -> Poll<()> {
        for _ in 0..MOVES_PER_TURN {
            let mut has_moved = self.poll_answer(cx).is_ready();
            match self.poll_write(wire, context, cx) {
                Err(()) => return Poll::Ready(()),
                Ok(has_written) => has_moved |= has_written,
            }
            match self.poll_read(wire, cx) {
                Poll::Ready(Err(())) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => has_moved = true,
                Poll::Pending => {}
            }
            if let Closing::Awaited(patience) = &mut self.end
                && patience.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(());
            }
            if !has_moved {
                return Poll::Pending;
            }
        }
        // The worker's other connections come first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Makes frames of the answer's next bytes, while there is room for them.
    fn poll_answer(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        if self.unsent.len() >= UNSENT_BYTES_MAX {
            return Poll::Pending;
        }
        match &mut self.answer {
            CallState::Over => return Poll::Pending,
            CallState::Awaited(answering) => {
                let response = ready!(answering.as_mut().poll(cx));
                self.answer = CallState::Begun(response.into_body());
            }
            CallState::Begun(reply) => match ready!(Pin::new(reply).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.lines.push(bytes, &mut self.unsent);
                    }
                }
                None => {
                    self.lines.finish(&mut self.unsent);
                    self.close(Some(frames::NORMAL), "");
                }
            },
        }
        Poll::Ready(())
    }

    /// Writes frames; whether any were written.
    fn poll_write(&mut self, wire: &mut Wire, context: &Context, cx: &mut task::Context<'_>) -> Result<bool, ()> {
        let before = self.written;
        while self.written < self.unsent.len() {
            match Pin::new(&mut *wire).poll_write(cx, &self.unsent[self.written..]) {
                Poll::Ready(Ok(length)) => self.written += length,
                Poll::Ready(Err(_)) => return Err(()),
                Poll::Pending => return Ok(self.written > before),
            }
        }
        let has_written = self.written > before;
        self.unsent = Vec::new();
        self.written = 0;
        if matches!(self.end, Closing::Told) {
            match Pin::new(wire).poll_shutdown(cx) {
                Poll::Ready(Ok(())) => {
                    let until = context.clock.now() + CLOSE_PATIENCE;
                    self.end = Closing::Awaited(context.runtime.sleep_until(until));
                    return Ok(true);
                }
                Poll::Ready(Err(_)) => return Err(()),
                Poll::Pending => {}
            }
        }
        Ok(has_written)
    }

    /// Reads from the client, while there is room for what it sends. An error is the end of the connection.
    fn poll_read(&mut self, wire: &mut Wire, cx: &mut task::Context<'_>) -> Poll<Result<(), ()>> {
        if !self.inbox.has_room() || self.unsent.len() >= UNSENT_BYTES_MAX {
            return Poll::Pending;
        }
        // Bytes may have come together with the request.
        self.take_events();
        let mut bytes = [0; READ_BYTES];
        let mut buffer = ReadBuf::new(&mut bytes);
        let read = ready!(Pin::new(wire).poll_read(cx, buffer.unfilled()));
        if read.is_err() || buffer.filled().is_empty() {
            return Poll::Ready(Err(()));
        }
        if matches!(self.end, Closing::Open) {
            self.decoder.push(buffer.filled());
            self.take_events();
        }
        Poll::Ready(Ok(()))
    }

    /// Acts on the frames that have arrived.
    fn take_events(&mut self) {
        while matches!(self.end, Closing::Open) {
            match self.decoder.next_event() {
                Ok(None) => return,
                Ok(Some(FrameEvent::Data(bytes))) => self.inbox.push(&bytes),
                Ok(Some(FrameEvent::End)) => self.inbox.push(b"\n"),
                Ok(Some(FrameEvent::Ping(content))) => frames::encode(Opcode::Pong, true, &content, &mut self.unsent),
                Ok(Some(FrameEvent::Pong)) => {}
                Ok(Some(FrameEvent::Close(code))) => self.close(code, ""),
                Err(why) => self.close(Some(frames::PROTOCOL_ERROR), &why),
            }
        }
    }

    /// Ends the call, and tells the client.
    fn close(&mut self, code: Option<u16>, why: &str) {
        self.answer = CallState::Over;
        self.end = Closing::Told;
        frames::encode_close(code, why, &mut self.unsent);
    }
}
