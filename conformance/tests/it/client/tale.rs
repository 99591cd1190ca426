//! The record of one sequence of requests: each request, and below it its answer.

use std::{fmt::Display, time::Duration};

use etcd_client::{Client, Error, WatchStream};
use quoin_conformance::Server;

use crate::common::shown::{Identity, Shown};

/// The limit for an answer that must come.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// A stream without a response for this long is silent.
const SILENCE: Duration = Duration::from_millis(400);

/// The text so far, and the server's identity.
pub(crate) struct Tale {
    client: Client,
    address: String,
    identity: Identity,
    text: String,
}

impl Tale {
    /// Connects to a server and asks for its identity.
    pub(crate) async fn begin(server: &Server) -> Self {
        let address = server.address().to_string();
        let mut client = Client::connect([&address], None)
            .await
            .expect("a connection on loopback");
        let status = client.status().await.expect("a healthy server has a status");
        let identity = Identity::of(status.header().expect("a status has a header"));
        Self {
            client,
            address,
            identity,
            text: String::new(),
        }
    }

    /// The whole text.
    pub(crate) fn end(self) -> String {
        self.text
    }

    /// A client of the server.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The server's address.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Records a request and its answer, and returns the answer.
    pub(crate) fn tell<R: Shown>(&mut self, asked: &str, answer: Result<R, Error>) -> Option<R> {
        self.line(asked);
        match answer {
            Ok(answer) => {
                let mut lines = Vec::new();
                answer.show(&self.identity, &mut lines);
                for line in lines {
                    self.line(format_args!("  {line}"));
                }
                Some(answer)
            }
            Err(error) => {
                self.line(format_args!("  {}", shown_error(&error)));
                None
            }
        }
    }

    /// Records a line.
    pub(crate) fn line(&mut self, line: impl Display) {
        self.text.push_str(&format!("{line}\n"));
    }

    /// Records the next response of a watch stream, or that none came within [`ANSWER_LIMIT`]. `expected` is the line
    /// above it.
    pub(crate) async fn next(&mut self, expected: &str, stream: &mut WatchStream) {
        match tokio::time::timeout(ANSWER_LIMIT, stream.message()).await {
            Ok(Ok(Some(response))) => {
                self.tell(expected, Ok(response));
            }
            Ok(Ok(None)) => self.line(format_args!("{expected}\n  the stream has ended")),
            Ok(Err(error)) => self.line(format_args!("{expected}\n  {}", shown_error(&error))),
            Err(_) => self.line(format_args!("{expected}\n  nothing came")),
        }
    }

    /// Waits for silence if `silence` is true, otherwise for the next response; records what came.
    pub(crate) async fn silence_or_next(&mut self, silence: bool, stream: &mut WatchStream) {
        if silence {
            self.silence("nothing is left", stream).await;
        } else {
            self.next("what is left", stream).await;
        }
    }

    /// Waits for [`SILENCE`] and records that nothing came on a watch stream, or what came.
    pub(crate) async fn silence(&mut self, expected: &str, stream: &mut WatchStream) {
        match tokio::time::timeout(SILENCE, stream.message()).await {
            Err(_) => self.line(format_args!("{expected}\n  nothing came")),
            Ok(Ok(Some(response))) => {
                self.tell(expected, Ok(response));
            }
            Ok(other) => self.line(format_args!("{expected}\n  {other:?}")),
        }
    }
}

/// An error as a line of text. For a gRPC status: its code and exact message, because clients compare both.
pub(crate) fn shown_error(error: &Error) -> String {
    match error {
        Error::GRpcStatus(status) => format!("{:?}: {}", status.code(), status.message()),
        other => format!("client: {other}"),
    }
}
