//! A secured socket: the seam's trait over another socket of the seam.

use std::io::{self, Read, Write};
use std::task::{Context, Poll, ready};

use rustls::Connection;

use crate::seam::Socket;

/// A connection whose handshake is over. Its records are encrypted and decrypted by the worker that polls it.
pub(super) struct TlsSocket {
    socket: Box<dyn Socket>,
    connection: Box<Connection>,
    /// Bytes that were encrypted for a write whose records the socket has not taken yet.
    encrypted: usize,
    /// The announcement of the end was made.
    is_closing: bool,
}

impl TlsSocket {
    pub(super) fn new(socket: Box<dyn Socket>, connection: Box<Connection>) -> Self {
        Self {
            socket,
            connection,
            encrypted: 0,
            is_closing: false,
        }
    }
}

/// A socket with the traits that rustls reads from and writes to.
struct Polled<'a, 'b> {
    socket: &'a mut dyn Socket,
    cx: &'a mut Context<'b>,
}

fn blocking(polled: Poll<io::Result<usize>>) -> io::Result<usize> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn polled<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        other => Poll::Ready(other),
    }
}

impl Read for Polled<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        blocking(self.socket.poll_read(self.cx, buffer))
    }
}

impl Write for Polled<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        blocking(self.socket.poll_write(self.cx, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads encrypted bytes once; 0 is the end.
pub(super) fn poll_take(
    socket: &mut dyn Socket,
    connection: &mut Connection,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    polled(connection.read_tls(&mut Polled { socket, cx }))
}

/// Writes all records that wait.
pub(super) fn poll_send(
    socket: &mut dyn Socket,
    connection: &mut Connection,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while connection.wants_write() {
        if ready!(polled(connection.write_tls(&mut Polled {
            socket: &mut *socket,
            cx: &mut *cx,
        })))?
            == 0
        {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
    }
    Poll::Ready(Ok(()))
}

impl Socket for TlsSocket {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            if let Poll::Ready(read) = polled(self.connection.reader().read(buffer)) {
                return Poll::Ready(read);
            }
            ready!(poll_take(&mut *self.socket, &mut self.connection, cx))?;
            let processed = self.connection.process_new_packets();
            // An answer of the protocol, such as that to a key update, leaves now or with the next write.
            if let Poll::Ready(Err(error)) = poll_send(&mut *self.socket, &mut self.connection, cx) {
                return Poll::Ready(Err(error));
            }
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }

    /// As long as the socket does not take all records, the write is pending, and is to be repeated with the same
    /// bytes. So no record waits without a poll.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.encrypted == 0 && !bytes.is_empty() {
            ready!(poll_send(&mut *self.socket, &mut self.connection, cx))?;
            self.encrypted = self.connection.writer().write(bytes)?;
        }
        ready!(poll_send(&mut *self.socket, &mut self.connection, cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.encrypted)))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_closing {
            self.is_closing = true;
            self.connection.send_close_notify();
        }
        ready!(poll_send(&mut *self.socket, &mut self.connection, cx))?;
        self.socket.poll_shutdown(cx)
    }
}
