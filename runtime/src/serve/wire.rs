//! A socket for hyper: writes are gathered and leave once per turn of the connection's task.
//!
//! hyper writes after every response. The connection's task answers a whole burst of requests in one turn, so its
//! answers are gathered here and written when the turn ends ([`Wire::finish_turn`]): one system call for the burst.
//! Each turn also reads a bounded number of times, so that a busy connection does not keep its worker from the others.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use hyper::rt::ReadBufCursor;
use quoin_core::limits::TURN_READ_BYTES;

use super::inbound::{Inbound, Pings};
use crate::seam::{Socket, read_with};

/// Gathered bytes above which a write waits for the socket.
const GATHERED_BYTES_MAX: usize = 128 * 1024;

/// Memory for gathered bytes that an idle connection keeps.
const IDLE_BYTES_MAX: usize = 16 * 1024;

/// Reads in one turn of the connection's task.
const READS_PER_TURN: u32 = 8;

/// hyper's side of a connection. The connection's task keeps a clone to end its turns.
#[derive(Clone)]
pub(crate) struct Wire(Arc<Mutex<State>>);

struct State {
    socket: Box<dyn Socket>,
    incoming: Incoming,
    /// Bytes to be written, from `written` on.
    gathered: Vec<u8>,
    written: usize,
    /// Reads that this turn may still make. It is set to 0 once a frame or the limit of bytes ends the turn's reading.
    reads_left: u32,
    /// Bytes this turn may still read.
    bytes_left: usize,
    /// The socket was empty, and will wake the task.
    drained: bool,
    /// The client was sent its last frame.
    is_dismissed: bool,
}

/// Bytes from the client that hyper has not read.
struct Incoming {
    /// Inspects them, if the client speaks HTTP/2.
    inbound: Option<Inbound>,
    /// Bytes not yet inspected: they came while the protocol was detected, or after a frame that ended the turn.
    unseen: Bytes,
    /// Bytes for which hyper had no room.
    passed: BytesMut,
}

impl Incoming {
    /// Passes bytes on in order, into hyper's buffer while it has room, then into `passed`. Returns how many; if not
    /// all, the turn ends.
    fn pass_on(&mut self, came: &[u8], into: &mut ReadBufCursor<'_>) -> usize {
        let Some(inbound) = &mut self.inbound else {
            into.put_slice(came);
            return came.len();
        };
        let passed = &mut self.passed;
        inbound.take(came, |bytes| {
            let (now, later) = bytes.split_at(bytes.len().min(into.remaining()));
            into.put_slice(now);
            passed.extend_from_slice(later);
        })
    }
}

impl Wire {
    /// A wire over `socket`, from which `first` was already read. `inbound` inspects all bytes that come.
    pub(crate) fn new(socket: Box<dyn Socket>, first: Bytes, inbound: Option<Inbound>) -> Self {
        let state = State {
            socket,
            incoming: Incoming {
                inbound,
                unseen: first,
                passed: BytesMut::new(),
            },
            gathered: Vec::new(),
            written: 0,
            reads_left: READS_PER_TURN,
            bytes_left: TURN_READ_BYTES,
            drained: false,
            is_dismissed: false,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Begins a turn of the connection's task.
    pub(crate) fn begin_turn(&self) {
        let mut state = self.lock();
        state.reads_left = READS_PER_TURN;
        state.bytes_left = TURN_READ_BYTES;
        state.drained = false;
    }

    /// Ends a turn: writes the gathered bytes as far as the socket takes them; ready once all are written. The task is
    /// woken when there is more to do.
    pub(crate) fn finish_turn(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        state.dismiss();
        let written = state.write_out(cx);
        if state.is_dismissed {
            return written.map(|_| Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if state.reads_left == 0 && !state.drained {
            cx.waker().wake_by_ref();
        }
        written
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gathers the last frame for a client that pings too often.
    fn dismiss(&mut self) {
        let pings = self
            .incoming
            .inbound
            .as_ref()
            .and_then(|inbound| inbound.pings.as_ref());
        if !self.is_dismissed
            && let Some(farewell) = pings.and_then(Pings::farewell)
        {
            self.gathered.extend_from_slice(&farewell);
            self.is_dismissed = true;
        }
    }

    fn write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.gathered.len() {
            let length = ready!(self.socket.poll_write(cx, &self.gathered[self.written..]))?;
            if length == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += length;
        }
        self.written = 0;
        self.gathered.clear();
        if self.gathered.capacity() > IDLE_BYTES_MAX {
            self.gathered = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and passes on the bytes; returns their number, 0 at the end of the stream.
    fn read(&mut self, cx: &mut Context<'_>, into: &mut ReadBufCursor<'_>) -> Poll<io::Result<usize>> {
        if self.drained {
            return Poll::Pending;
        }
        let incoming = &mut self.incoming;
        let room = into.remaining().min(self.bytes_left);
        let read = read_with(&mut *self.socket, cx, room, |came| {
            let seen = incoming.pass_on(came, into);
            incoming.unseen = Bytes::copy_from_slice(&came[seen..]);
            (came.len(), seen < came.len())
        });
        let Poll::Ready(read) = read else {
            self.drained = true;
            return Poll::Pending;
        };
        let (length, turn_ended) = read?;
        self.bytes_left -= length;
        let turn_ended = turn_ended || self.bytes_left == 0;
        self.reads_left = if turn_ended { 0 } else { self.reads_left - 1 };
        Poll::Ready(Ok(length))
    }

    /// Passes on bytes that came before.
    fn pass_on_unseen(&mut self, into: &mut ReadBufCursor<'_>) {
        let length = self.incoming.unseen.len().min(into.remaining());
        let came = self.incoming.unseen.slice(..length);
        let seen = self.incoming.pass_on(&came, into);
        self.incoming.unseen.advance(seen);
        if seen < length {
            self.reads_left = 0;
        }
    }

    fn gather(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.gathered.len() >= GATHERED_BYTES_MAX {
            ready!(self.write_out(cx))?;
        }
        let length = bytes.len().min(GATHERED_BYTES_MAX);
        if let Some(inbound) = &mut self.incoming.inbound
            && let Some(pings) = &mut inbound.pings
        {
            pings.left(&bytes[..length]);
        }
        self.gathered.extend_from_slice(&bytes[..length]);
        Poll::Ready(Ok(length))
    }
}

impl hyper::rt::Read for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.lock();
        let room = into.remaining();
        loop {
            let passed = &mut state.incoming.passed;
            let length = passed.len().min(into.remaining());
            into.put_slice(&passed.split_to(length));
            if into.remaining() < room {
                return Poll::Ready(Ok(()));
            }
            if state.reads_left == 0 {
                return Poll::Pending;
            }
            if !state.incoming.unseen.is_empty() {
                state.pass_on_unseen(&mut into);
            } else if ready!(state.read(cx, &mut into))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl hyper::rt::Write for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.lock().gather(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        let mut total = 0;
        for slice in slices {
            match state.gather(cx, slice) {
                Poll::Ready(Ok(length)) => {
                    total += length;
                    if length < slice.len() {
                        break;
                    }
                }
                // The bytes written so far are reported; the next call meets the same error.
                Poll::Ready(Err(_)) | Poll::Pending if total > 0 => break,
                refused => return refused,
            }
        }
        Poll::Ready(Ok(total))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The end of the turn flushes.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        ready!(state.write_out(cx))?;
        state.socket.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use hyper::rt::{Read as _, ReadBuf, Write as _};

    use super::*;

    /// A socket that returns given pieces, takes `room` bytes more, and records reads, writes and the shutdown.
    #[derive(Clone, Default)]
    struct Script(Arc<Mutex<Acts>>);

    #[derive(Default)]
    struct Acts {
        to_read: VecDeque<&'static [u8]>,
        reads: usize,
        room: usize,
        written: Vec<Vec<u8>>,
        is_shut: bool,
    }

    impl Script {
        fn acts(&self) -> MutexGuard<'_, Acts> {
            self.0.lock().unwrap()
        }
    }

    impl Socket for Script {
        fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
            let mut acts = self.acts();
            acts.reads += 1;
            let Some(piece) = acts.to_read.pop_front() else {
                return Poll::Pending;
            };
            buffer[..piece.len()].copy_from_slice(piece);
            Poll::Ready(Ok(piece.len()))
        }

        fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let mut acts = self.acts();
            let length = bytes.len().min(acts.room);
            if length == 0 {
                return Poll::Pending;
            }
            acts.room -= length;
            acts.written.push(bytes[..length].to_vec());
            Poll::Ready(Ok(length))
        }

        fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.acts().is_shut = true;
            Poll::Ready(Ok(()))
        }
    }

    fn wire(room: usize) -> (Wire, Script) {
        let script = Script::default();
        script.acts().room = room;
        (
            Wire::new(Box::new(script.clone()), Bytes::from_static(b"early"), None),
            script,
        )
    }

    fn read(wire: &mut Wire, room: usize) -> Option<Vec<u8>> {
        let mut storage = vec![0; room];
        let mut buffer = ReadBuf::new(&mut storage);
        let read = Pin::new(wire).poll_read(&mut Context::from_waker(Waker::noop()), buffer.unfilled());
        read.is_ready().then(|| buffer.filled().to_vec())
    }

    fn write(wire: &mut Wire, bytes: &[u8]) -> Poll<usize> {
        Pin::new(wire)
            .poll_write(&mut Context::from_waker(Waker::noop()), bytes)
            .map(Result::unwrap)
    }

    #[test]
    fn bytes_read_before_come_first() {
        let (mut wire, script) = wire(0);
        script.acts().to_read.push_back(b"late");
        assert_eq!(read(&mut wire, 3).unwrap(), b"ear");
        assert_eq!(read(&mut wire, 64).unwrap(), b"ly");
        assert_eq!(read(&mut wire, 64).unwrap(), b"late");
    }

    #[test]
    fn a_turn_reads_a_bounded_number_of_times_and_an_empty_socket_once() {
        let (mut wire, script) = wire(0);
        read(&mut wire, 64);
        script.acts().to_read.extend([b"x".as_slice(); 20]);
        let in_one_turn = std::iter::from_fn(|| read(&mut wire, 64)).count();
        assert_eq!(in_one_turn, READS_PER_TURN as usize);
        script.acts().to_read.clear();
        wire.begin_turn();
        let before = script.acts().reads;
        assert!(read(&mut wire, 64).is_none() && read(&mut wire, 64).is_none());
        assert_eq!(
            script.acts().reads,
            before + 1,
            "an empty socket is not read again in the turn"
        );
    }

    #[test]
    fn answers_of_a_turn_leave_in_one_write() {
        let (mut wire, script) = wire(usize::MAX);
        for answer in [b"one ".as_slice(), b"two ", b"three"] {
            assert_eq!(write(&mut wire, answer), Poll::Ready(answer.len()));
        }
        assert!(script.acts().written.is_empty());
        assert!(wire.finish_turn(&mut Context::from_waker(Waker::noop())).is_ready());
        assert_eq!(script.acts().written, [b"one two three"]);
    }

    #[test]
    fn a_client_that_reads_nothing_stops_the_writer() {
        let (mut wire, script) = wire(0);
        let chunk = vec![7; 50_000];
        let taken: usize = std::iter::from_fn(|| match write(&mut wire, &chunk) {
            Poll::Ready(length) => Some(length),
            Poll::Pending => None,
        })
        .sum();
        assert!(taken < GATHERED_BYTES_MAX + chunk.len(), "{taken} bytes are held");
        script.acts().room = usize::MAX;
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut wire).poll_shutdown(&mut cx).is_ready());
        let acts = script.acts();
        assert_eq!(acts.written.iter().map(Vec::len).sum::<usize>(), taken);
        assert!(acts.is_shut, "gathered bytes leave before the end");
    }
}
