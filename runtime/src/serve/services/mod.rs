//! The services of the API, one file each: checks, where the answer comes from, and its header.

pub(crate) mod cluster;
pub(crate) mod health;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod maintenance;
pub(crate) mod watch;

use quoin_core::error::Error;
use quoin_core::node::{Request, Response};
use quoin_core::store::Response as Applied;

use self::kv::unexpected;
use super::Context;
use super::grpc::status::Status;

/// Asks the node, for as long as requests may take.
async fn ask(context: &Context, request: Request) -> Result<Response, Error> {
    context.node.request(request, context.request_deadline()).await
}

/// Has the cluster agree on a request and waits for what applying it led to.
async fn propose(context: &Context, request: Request) -> Result<Applied, Status> {
    match ask(context, request).await? {
        Response::Applied(applied) => Ok(applied),
        other => Err(unexpected(&other)),
    }
}
