//! One handshake, of a server or of a client.

use std::future::poll_fn;
use std::io;

use rustls::Connection;

use super::socket::{poll_send, poll_take};
use super::words;
use crate::seam::Socket;
use crate::serve::compute::Compute;

/// Why a handshake did not succeed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The other side has closed the connection.
    Closed,
    /// The reason, in Go's words.
    Refused(String),
}

/// Carries out a handshake. Its computations run on the thread of `compute`, if it is given: they take up to
/// milliseconds each, during which a worker could serve nothing.
pub(super) async fn shake(
    socket: &mut dyn Socket,
    mut connection: Box<Connection>,
    compute: Option<&Compute>,
) -> Result<Box<Connection>, Failure> {
    loop {
        let sent = poll_fn(|cx| poll_send(socket, &mut connection, cx)).await;
        sent.map_err(|error| lost(&error))?;
        if !connection.is_handshaking() {
            return Ok(connection);
        }
        let read = poll_fn(|cx| poll_take(socket, &mut connection, cx)).await;
        if read.map_err(|error| lost(&error))? == 0 {
            return Err(Failure::Closed);
        }
        let processed = match compute {
            None => connection.process_new_packets().map(drop),
            Some(compute) => {
                let work = move || {
                    let processed = connection.process_new_packets().map(drop);
                    (connection, processed)
                };
                let worked = compute.run(work).await;
                let (back, processed) =
                    worked.map_err(|_| Failure::Refused("too many handshakes are in progress".to_owned()))?;
                connection = back;
                processed
            }
        };
        if let Err(error) = processed {
            // The other side learns the reason by an alert, if it still reads.
            let _gone = poll_fn(|cx| poll_send(socket, &mut connection, cx)).await;
            return Err(Failure::Refused(words::of(&error)));
        }
    }
}

fn lost(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Failure::Closed,
        io::ErrorKind::ConnectionReset => Failure::Refused("read: connection reset by peer".to_owned()),
        _ => Failure::Refused(error.to_string()),
    }
}
