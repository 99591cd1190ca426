//! Backups: the messages of a [`Backup`] are made on the compute thread, a few at a time, as the client reads them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use prost::Message as _;
use quoin_core::api::{Backup, Method};
use quoin_core::limits::READ_SLICE_ROWS;
use quoin_core::proto::etcdserverpb::SnapshotResponse;
use quoin_core::time::Instant;

use crate::seam::BoxFuture;
use crate::serve::Context;
use crate::serve::grpc::call::Call;
use crate::serve::grpc::message::{self, Encoding};
use crate::serve::grpc::status::Status;
use crate::serve::reply;

/// The result of a turn on the compute thread: messages, and the backup again unless these are the last.
type Made = (Vec<SnapshotResponse>, Option<Box<Backup>>);

/// A backup being sent to a client.
pub(crate) struct Source {
    context: Arc<Context>,
    encoding: Encoding,
    began: Instant,
    /// The length of the file, once it is known.
    total: u64,
    /// Messages that are ready.
    ready: VecDeque<SnapshotResponse>,
    making: Option<BoxFuture<Result<Made, Status>>>,
    /// The backup, unless messages are being made of it.
    backup: Option<Box<Backup>>,
}

impl Source {
    pub(crate) fn new(call: &Call, backup: Box<Backup>) -> Self {
        let context = Arc::clone(&call.context);
        Self {
            began: context.clock.now(),
            context,
            encoding: call.encoding,
            total: 0,
            ready: VecDeque::new(),
            making: None,
            backup: Some(backup),
        }
    }

    fn send(&mut self, response: &SnapshotResponse) -> Bytes {
        if self.total == 0 {
            self.total = response.remaining_bytes + response.blob.len() as u64;
            tracing::info!("total-bytes" = self.total, "sending database snapshot to client");
        }
        let grpc = &self.context.metrics.grpc;
        grpc.method(Method::Snapshot).sent.inc();
        grpc.sent_bytes.inc_by(response.encoded_len() as u64);
        message::encode(response, self.encoding)
    }

    /// All messages were sent.
    fn note_end(&self) {
        let took = self.context.clock.now().saturating_since(self.began);
        let seconds = &self.context.metrics.disk.backend_snapshot_seconds;
        seconds.observe(took.as_secs_f64());
        tracing::info!(
            "total-bytes" = self.total,
            ?took,
            "successfully sent database snapshot to client"
        );
    }
}

impl reply::Source for Source {
    fn poll_bytes(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            if let Some(response) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(self.send(&response))));
            }
            if let Some(making) = &mut self.making {
                let made = ready!(making.as_mut().poll(cx));
                self.making = None;
                match made {
                    Ok((messages, backup)) => (self.ready, self.backup) = (messages.into(), backup),
                    Err(status) => return Poll::Ready(Some(Err(status))),
                }
            } else if let Some(backup) = self.backup.take() {
                self.making = Some(Box::pin(make(Arc::clone(&self.context), backup)));
            } else {
                self.note_end();
                return Poll::Ready(None);
            }
        }
    }
}

/// Makes the next messages.
async fn make(context: Arc<Context>, backup: Box<Backup>) -> Result<Made, Status> {
    let mut running = Some(backup);
    let step = move || {
        let messages = running.as_mut().and_then(|backup| backup.step(READ_SLICE_ROWS));
        match messages {
            Some(messages) if messages.is_empty() => None,
            Some(messages) => Some((messages, running.take())),
            None => Some((Vec::new(), None)),
        }
    };
    Ok(context.compute.steps(step).await?)
}
