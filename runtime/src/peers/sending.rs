//! The body of a snapshot's request: the message, then the file of a view, made piece by piece on a thread of its own
//! as the peer reads it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::thread::Builder;

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use futures_core::Stream as _;
use http_body::{Body, Frame};
use quoin_core::error::Fault;
use quoin_core::limits::READ_SLICE_ROWS;
use quoin_core::snapshot::{SnapshotBytes, SnapshotCount};
use quoin_core::store::View;

use crate::threads::guarded;

/// Pieces that are ready before the connection takes them.
const PIECES: usize = 2;

/// A part of the body, as the thread makes it.
enum Made {
    Bytes(Bytes),
    /// The file is complete.
    End,
    Failed(Fault),
}

/// The state to send, and the receiver of its file's length, which is known once the file begins.
pub(super) struct File {
    pub(super) view: View,
    pub(super) length: Box<dyn FnOnce(u64) + Send>,
}

/// The body.
pub(super) struct SnapshotBody {
    message: Option<Bytes>,
    /// The state, until the thread starts and takes it.
    file: Option<File>,
    made: Pin<Box<Receiver<Made>>>,
    sender: Option<Sender<Made>>,
    /// Called when the connection has taken a piece and has room for the next.
    taken: Box<dyn Fn() + Send>,
}

impl SnapshotBody {
    /// A body of these bytes and this file.
    pub(super) fn new(message: Bytes, file: File, taken: Box<dyn Fn() + Send>) -> Self {
        let (sender, made) = async_channel::bounded(PIECES);
        Self {
            message: Some(message),
            file: Some(file),
            made: Box::pin(made),
            sender: Some(sender),
            taken,
        }
    }

    /// Starts the thread. It ends when the body is dropped.
    fn begin(&mut self) -> io::Result<()> {
        let (Some(file), Some(sender)) = (self.file.take(), self.sender.take()) else {
            return Ok(());
        };
        let make = move || {
            // If the thread panics, no last part comes: the body breaks off, and the peer drops what it has.
            let _logged = guarded(|| {
                let last = match make(file, &sender) {
                    Ok(()) => Made::End,
                    Err(fault) => Made::Failed(fault),
                };
                let _gone = sender.send_blocking(last);
            });
        };
        Builder::new().name("quoin-snap-send".to_owned()).spawn(make).map(drop)
    }
}

impl Body for SnapshotBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if let Err(error) = self.begin() {
            return Poll::Ready(Some(Err(error)));
        }
        let made = ready!(self.made.as_mut().poll_next(cx));
        (self.taken)();
        Poll::Ready(match made {
            Some(Made::Bytes(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(Made::End) => None,
            Some(Made::Failed(fault)) => Some(Err(io::Error::other(fault.to_string()))),
            None => Some(Err(io::Error::other("the file could not be made"))),
        })
    }
}

/// Makes the file, until it is complete or its receiver has gone.
fn make(file: File, sender: &Sender<Made>) -> Result<(), Fault> {
    let Some(mut walk) = count(file.view, sender)? else {
        return Ok(());
    };
    tracing::info!("total-bytes" = walk.total(), "sending database snapshot to a peer");
    (file.length)(walk.total());
    while let Some(pieces) = walk.step(READ_SLICE_ROWS)? {
        for piece in pieces {
            if sender.send_blocking(Made::Bytes(piece)).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Walks over the rows once, to learn the length of the file; `None` if the receiver has gone.
fn count(view: View, sender: &Sender<Made>) -> Result<Option<SnapshotBytes>, Fault> {
    let mut count = SnapshotCount::new(view);
    while !sender.is_closed() {
        if let Some(walk) = count.step(READ_SLICE_ROWS)? {
            return Ok(Some(walk));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use quoin_core::snapshot;
    use quoin_core::store::{Store, StoreConfig};

    use super::*;
    use crate::seam::block_on;

    #[test]
    fn the_body_is_the_message_and_then_the_file() {
        let view = Store::new(StoreConfig::default()).view();
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        let (told, length) = std::sync::mpsc::channel();
        let to_send = File {
            view: view.clone(),
            length: Box::new(move |bytes| told.send(bytes).unwrap()),
        };
        let count = move || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        let mut body = Box::pin(SnapshotBody::new("message".into(), to_send, Box::new(count)));
        let mut sent = Vec::new();
        while let Some(frame) = block_on(poll_fn(|cx| body.as_mut().poll_frame(cx))) {
            sent.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        let file = sent.strip_prefix(b"message").expect("the message comes first");
        assert!(file == snapshot::encode(&view));
        assert_eq!(length.recv(), Ok(file.len() as u64));
        assert!(taken.load(Ordering::Relaxed) > 0, "progress is reported");
    }
}
