//! A request of this member to a peer, as a task on a worker.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use quoin_core::limits::PEER_BODY_WINDOW_BYTES;
use quoin_core::peer::{Body, ExchangeId, PeerHead, PeerInput};

use super::dial::{self, RequestBody};
use super::sending::{File, SnapshotBody};
use super::window::Window;
use super::{Peers, dial::Answer};
use crate::serve::stop::Stop;
use crate::tls::Dialer;

/// A request to be sent.
pub(super) struct Outgoing {
    pub(super) peers: Peers,
    pub(super) dialer: Dialer,
    pub(super) exchange: ExchangeId,
    pub(super) url: String,
    pub(super) head: PeerHead,
    pub(super) body: Body,
    /// How long the connection may take to be made.
    pub(super) patience: Duration,
    /// Ends the exchange without a report.
    pub(super) cut: Stop,
}

/// Reports the end of an exchange once, even if its task ends by a panic.
struct End {
    peers: Peers,
    exchange: ExchangeId,
    is_over: bool,
}

impl End {
    fn report(mut self, input: Option<PeerInput>) {
        self.is_over = true;
        if let Some(input) = input {
            self.peers.report(input);
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if !self.is_over {
            let why = "its task has ended".to_owned();
            self.peers.report(PeerInput::Closed(self.exchange, why));
        }
    }
}

impl Outgoing {
    /// Sends the request, and reports the answer as it arrives.
    pub(super) async fn run(mut self) {
        let exchange = self.exchange;
        let end = End {
            peers: self.peers.clone(),
            exchange,
            is_over: false,
        };
        let mut cut = self.cut.clone();
        let outcome = {
            let mut work = pin!(self.work());
            let first = poll_fn(|cx| {
                if cut.poll_stopped(cx).is_ready() {
                    return Poll::Ready(None);
                }
                work.as_mut().poll(cx).map(Some)
            });
            first.await
        };
        end.report(outcome.map(|outcome| match outcome {
            Ok(()) => PeerInput::End(exchange),
            Err(why) => PeerInput::Closed(exchange, why),
        }));
    }

    async fn work(&mut self) -> Result<(), String> {
        let body = self.body();
        let deadline = self.dialer.runtime().clock().now() + self.patience;
        let mut answer = dial::send(&self.dialer, &self.url, &self.head, body, deadline).await?;
        self.peers.report(PeerInput::Response {
            exchange: self.exchange,
            status: answer.status,
            head: std::mem::take(&mut answer.head),
            took: answer.took,
        });
        let window = Window::new(PEER_BODY_WINDOW_BYTES);
        while let Some(piece) = next_piece(&mut answer, &window).await {
            self.peers.bytes(self.exchange, piece?, &window);
        }
        Ok(())
    }

    fn body(&mut self) -> RequestBody {
        match std::mem::replace(&mut self.body, Body::None) {
            Body::None => dial::whole(Bytes::new()),
            Body::Bytes(bytes) => dial::whole(bytes),
            Body::Snapshot(message, job) => {
                let (peers, exchange) = (self.peers.clone(), self.exchange);
                let taken = {
                    let peers = peers.clone();
                    move || peers.report(PeerInput::Drained(exchange))
                };
                let length = move |bytes| peers.report(PeerInput::FileLength(exchange, bytes));
                let file = File {
                    view: job.view,
                    length: Box::new(length),
                };
                Box::pin(SnapshotBody::new(message, file, Box::new(taken)))
            }
        }
    }
}

async fn next_piece(answer: &mut Answer, window: &Window) -> Option<Result<Bytes, String>> {
    poll_fn(|cx| {
        ready!(window.poll_room(cx));
        answer.poll_piece(cx)
    })
    .await
}
