//! The body of a request whose bytes are a client's WebSocket messages.

use std::convert::Infallible;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame};

/// No more is read from a client that has sent this many bytes ahead of its call.
const AHEAD_BYTES_MAX: usize = 64 * 1024;

/// Bytes for a call. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Inbox(Arc<Mutex<Ahead>>);

#[derive(Default)]
struct Ahead {
    bytes: Vec<u8>,
    /// The call, which waits for more.
    waiting: Option<Waker>,
}

impl Inbox {
    /// Gives the call more bytes.
    pub(super) fn push(&self, bytes: &[u8]) {
        let mut state = self.lock();
        state.bytes.extend_from_slice(bytes);
        if let Some(waiting) = state.waiting.take() {
            waiting.wake();
        }
    }

    /// Whether more may be read from the client.
    pub(super) fn has_room(&self) -> bool {
        self.lock().bytes.len() < AHEAD_BYTES_MAX
    }

    fn lock(&self) -> MutexGuard<'_, Ahead> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for Inbox {
    type Data = Bytes;
    type Error = Infallible;

    /// The body has no end: its call ends with the connection.
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut state = self.lock();
        if state.bytes.is_empty() {
            state.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(mem::take(&mut state.bytes).into()))))
    }
}
