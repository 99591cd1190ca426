//! The calls that are streams, one file each: the client's messages and the responses to them.

pub(crate) mod backup;
pub(crate) mod keep_alive;
pub(crate) mod observe;
pub(crate) mod watch;

use std::task::{Context, Poll};

use bytes::Bytes;

use super::grpc::status::Status;
use super::reply::Source;

/// One message, then nothing until the server ends: the health service's stream.
pub(crate) struct Once(pub(crate) Option<Bytes>);

impl Source for Once {
    fn poll_bytes(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        match self.0.take() {
            Some(message) => Poll::Ready(Some(Ok(message))),
            None => Poll::Pending,
        }
    }
}
