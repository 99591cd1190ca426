//! The calls that are streams, one file each: what the client says on the way in, what it is sent on the way out.

pub(crate) mod backup;
pub(crate) mod keep_alive;
pub(crate) mod watch;

use std::task::{Context, Poll};

use bytes::Bytes;

use super::grpc::status::Status;
use super::reply::Source;

/// One message and then silence, until the server ends: what the health service's stream has to say.
pub(crate) struct Once(pub(crate) Option<Bytes>);

impl Source for Once {
    fn poll_bytes(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        match self.0.take() {
            Some(message) => Poll::Ready(Some(Ok(message))),
            None => Poll::Pending,
        }
    }
}
