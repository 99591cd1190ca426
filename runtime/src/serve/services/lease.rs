//! The lease service.

use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use hyper::body::Incoming;
use prost::Message as _;
use quoin_core::node::{Request, Response};
use quoin_core::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use quoin_core::store::{Lease, Response as Applied};

use super::kv::unexpected;
use super::{ask, propose, propose_heavy};
use crate::metrics::MethodMetrics;
use crate::seam::BoxFuture;
use crate::serve::grpc::call::Call;
use crate::serve::grpc::message::{self, Encoding, Messages};
use crate::serve::grpc::method::{Kind, Method};
use crate::serve::grpc::status::{CANCELED, Status};
use crate::serve::reply::Source;
use crate::serve::{Context, facts};

/// Makes a lease.
pub(crate) async fn grant(context: &Context, request: LeaseGrantRequest) -> Result<LeaseGrantResponse, Status> {
    // A time too long is refused when the grant is applied, as in etcd: alarms come before it.
    match propose(context, Request::LeaseGrant(request)).await? {
        Applied::LeaseGrant(mut response) => {
            facts::complete(context, &mut response.header);
            Ok(response)
        }
        other => Err(unexpected(&other)),
    }
}

/// Ends a lease and deletes its keys.
pub(crate) async fn revoke(context: &Context, request: LeaseRevokeRequest) -> Result<LeaseRevokeResponse, Status> {
    let leases = context.node.published().view.leases.clone();
    let rows = leases.get(request.id).map_or(0, Lease::key_count);
    drop(leases);
    match propose_heavy(context, rows, Request::LeaseRevoke(request)).await? {
        Applied::LeaseRevoke(mut response) => {
            facts::complete(context, &mut response.header);
            Ok(response)
        }
        other => Err(unexpected(&other)),
    }
}

/// How long a lease has left, and which keys are attached to it. An unknown lease is no error.
pub(crate) async fn time_to_live(
    call: &Call,
    encoding: Encoding,
    request: LeaseTimeToLiveRequest,
) -> Result<Bytes, Status> {
    let context = &*call.context;
    let mut header = None;
    facts::complete(context, &mut header);
    match ask(
        context,
        Request::LeaseTimeToLive {
            id: request.id,
            keys: request.keys,
        },
    )
    .await?
    {
        Response::TimeToLive { ttl, granted_ttl, keys } => {
            let count = keys.len();
            let make = move || LeaseTimeToLiveResponse {
                header,
                id: request.id,
                ttl,
                granted_ttl,
                keys: keys.iter().cloned().collect(),
            };
            call.encode_many(count, encoding, make).await
        }
        other => Err(unexpected(&other)),
    }
}

/// All leases, as this member knows them; on the leader those first that end first.
pub(crate) async fn leases(call: &Call, encoding: Encoding, _: LeaseLeasesRequest) -> Result<Bytes, Status> {
    let context = &*call.context;
    match ask(context, Request::LeaseLeases).await? {
        Response::Leases { leases } => {
            let mut header = None;
            facts::complete(context, &mut header);
            let count = leases.len();
            let make = move || {
                let ids = leases.by_expiry().into_iter();
                let leases = ids.map(|id| LeaseStatus { id }).collect();
                LeaseLeasesResponse { header, leases }
            };
            call.encode_many(count, encoding, make).await
        }
        other => Err(unexpected(&other)),
    }
}

/// Renews a lease. An unknown one is answered with no time left.
async fn renew(context: Arc<Context>, id: i64) -> Result<LeaseKeepAliveResponse, Status> {
    let mut header = None;
    // Before it is renewed, as in etcd: the revision is one at which the lease still was.
    facts::complete(&context, &mut header);
    let ttl = match ask(&context, Request::LeaseRenew { id }).await? {
        Response::Renewed { ttl } => ttl,
        other => return Err(unexpected(&other)),
    };
    Ok(LeaseKeepAliveResponse { header, id, ttl })
}

/// A client's stream of renewals, answered one after the other.
pub(crate) struct KeepAlive {
    context: Arc<Context>,
    encoding: Encoding,
    messages: Messages<Incoming>,
    renewing: Option<BoxFuture<Result<LeaseKeepAliveResponse, Status>>>,
}

impl KeepAlive {
    pub(crate) fn new(call: &Call, encoding: Encoding, messages: Messages<Incoming>) -> Self {
        Self {
            context: Arc::clone(&call.context),
            encoding,
            messages,
            renewing: None,
        }
    }

    fn receive(&self, message: Bytes) -> Result<LeaseKeepAliveRequest, Status> {
        self.context.metrics.grpc.received_bytes.inc_by(message.len() as u64);
        let request = message::decode(message, Kind::BidiStream)?;
        self.metrics().received.inc();
        Ok(request)
    }

    fn send(&self, response: &LeaseKeepAliveResponse) -> Bytes {
        let message = message::encode(response, self.encoding);
        self.metrics().sent.inc();
        self.context
            .metrics
            .grpc
            .sent_bytes
            .inc_by(response.encoded_len() as u64);
        message
    }

    fn metrics(&self) -> &MethodMetrics {
        self.context.metrics.grpc.method(Method::LeaseKeepAlive)
    }
}

impl Source for KeepAlive {
    fn poll_bytes(&mut self, cx: &mut TaskContext<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            if let Some(renewing) = &mut self.renewing {
                let renewed = ready!(renewing.as_mut().poll(cx));
                self.renewing = None;
                return Poll::Ready(Some(renewed.map(|response| self.send(&response))));
            }
            let Some(message) = ready!(self.messages.poll_next(cx)) else {
                return Poll::Ready(None);
            };
            let request = message.and_then(|message| self.receive(message)).inspect_err(|status| {
                if status.code != CANCELED {
                    self.context.metrics.grpc.stream_failed("receive", "lease-keepalive");
                }
            });
            match request {
                Ok(request) => self.renewing = Some(Box::pin(renew(Arc::clone(&self.context), request.id))),
                Err(status) => return Poll::Ready(Some(Err(status))),
            }
        }
    }
}
