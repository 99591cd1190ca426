//! An HTTP/2 client of raw frames, for bytes that no library sends.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use quoin_runtime::seam::{Runtime, Socket, connect};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

/// Flag of DATA and HEADERS: the last frame of the stream.
pub(crate) const END_STREAM: u8 = 1;
/// Flag of HEADERS: the header block ends in this frame.
pub(crate) const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A received frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A connection.
pub(crate) struct Raw {
    socket: Box<dyn Socket>,
    came: BytesMut,
}

impl Raw {
    /// Connects and sends the preface and SETTINGS.
    pub(crate) async fn connect(runtime: &Arc<dyn Runtime>, address: SocketAddr) -> Self {
        let mut raw = Self {
            socket: connect(runtime, &address.into()).await.unwrap(),
            came: BytesMut::new(),
        };
        raw.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        raw
    }

    /// Sends bytes; false if the server has closed the connection.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        let mut sent = 0;
        while sent < bytes.len() {
            // A server that writes while the client sends must not have to wait for the client's reads.
            let step = poll_fn(|cx| {
                let mut buffer = [0; 4096];
                while let Poll::Ready(Ok(length @ 1..)) = self.socket.poll_read(cx, &mut buffer) {
                    self.came.extend_from_slice(&buffer[..length]);
                }
                self.socket.poll_write(cx, &bytes[sent..])
            });
            match step.await {
                Ok(length) => sent += length,
                Err(_) => return false,
            }
        }
        true
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.split() {
                return Some(frame);
            }
            let mut buffer = [0; 4096];
            match poll_fn(|cx| self.socket.poll_read(cx, &mut buffer)).await {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.came.extend_from_slice(&buffer[..length]),
            }
        }
    }

    /// The next frame, if one comes within this time.
    pub(crate) async fn next_within(&mut self, runtime: &Arc<dyn Runtime>, time: Duration) -> Option<Frame> {
        let mut late = runtime.sleep_until(runtime.clock().now() + time);
        let mut next = std::pin::pin!(self.next());
        poll_fn(|cx| match next.as_mut().poll(cx) {
            Poll::Ready(frame) => Poll::Ready(frame),
            Poll::Pending => late.as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    fn split(&mut self) -> Option<Frame> {
        let head = self.came.first_chunk::<9>()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if self.came.len() < 9 + length {
            return None;
        }
        self.came.advance(9);
        let payload = self.came.split_to(length).to_vec();
        Some(Frame {
            kind,
            flags,
            stream,
            payload,
        })
    }
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Headers that are spelled out and added to the table: the last of them becomes entry 62, the one before 63 and so on.
pub(crate) fn headers(list: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in list {
        block.push(0x40);
        for text in [name, value] {
            assert!(text.len() < 127, "the length fits a byte");
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// References to entries of the table.
pub(crate) fn indexed(entries: &[u8]) -> Vec<u8> {
    entries.iter().map(|entry| 0x80 | entry).collect()
}
