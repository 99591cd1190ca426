//! The services of the API, one file each: checks, where the answer comes from, and its header.

pub(crate) mod auth;
pub(crate) mod cluster;
pub(crate) mod health;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod maintenance;
pub(crate) mod watch;

use async_channel::{Receiver, Sender};
use futures_channel::oneshot;
use quoin_core::error::Error;
use quoin_core::limits::HEAVY_WRITE_ROWS;
use quoin_core::node::{Request, Response};
use quoin_core::store::Response as Applied;

use self::kv::unexpected;
use super::Context;
use super::grpc::call::within;
use super::grpc::status::Status;

/// Asks the node, for as long as requests may take.
async fn ask(context: &Context, request: Request) -> Result<Response, Error> {
    context.node.request(request, context.request_deadline()).await
}

/// Has the cluster agree on a request and waits for what applying it led to.
async fn propose(context: &Context, request: Request) -> Result<Applied, Status> {
    applied(ask(context, request).await?)
}

/// The same for a request that may touch so many rows. Heavy ones are proposed one after the other, so that requests of
/// other clients are applied in between.
async fn propose_heavy(context: &Context, rows: usize, request: Request) -> Result<Applied, Status> {
    if rows < HEAVY_WRITE_ROWS {
        return propose(context, request).await;
    }
    let deadline = context.request_deadline();
    let turn = within(context, Some(deadline), async { Ok(context.heavy_writes.turn().await) }).await;
    let turn = turn.map_err(|_| Error::Timeout)?;
    let (reply, answer) = oneshot::channel();
    let node = context.node.clone();
    // On a task of its own: a client that goes away does not give its turn to the next while its request is applied.
    context.runtime.spawn(Box::pin(async move {
        let result = node.request(request, deadline).await;
        drop(turn);
        // A caller that has gone wants no answer.
        let _gone = reply.send(result);
    }));
    applied(answer.await.unwrap_or(Err(Error::Stopped))?)
}

fn applied(response: Response) -> Result<Applied, Status> {
    match response {
        Response::Applied(applied) => Ok(applied),
        other => Err(unexpected(&other)),
    }
}

/// Hands out one turn at a time.
#[derive(Debug)]
pub(crate) struct Turns {
    taken: Sender<()>,
    given_back: Receiver<()>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn(Receiver<()>);

impl Turns {
    pub(crate) fn new() -> Self {
        let (taken, given_back) = async_channel::bounded(1);
        Self { taken, given_back }
    }

    async fn turn(&self) -> Turn {
        // It is not closed: the other end is here.
        let _open = self.taken.send(()).await;
        Turn(self.given_back.clone())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _taken = self.0.try_recv();
    }
}
