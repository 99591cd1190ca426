//! The services of the API, one file each: checks, where the answer comes from, and its header.

pub(crate) mod cluster;
pub(crate) mod health;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod maintenance;
pub(crate) mod watch;

use quoin_core::error::Error;
use quoin_core::node::{Request, Response};

use super::Context;

/// Has the cluster agree on a request and waits for its result.
async fn propose(context: &Context, request: Request) -> Result<Response, Error> {
    context.node.request(request, context.request_deadline()).await
}
