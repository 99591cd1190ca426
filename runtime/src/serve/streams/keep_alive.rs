//! Renewals of leases: a stream of requests, answered one after the other.

use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use prost::Message as _;
use quoin_core::api;
use quoin_core::api::{Answer, Credentials, Kind, Method};
use quoin_core::proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};

use crate::metrics::MethodMetrics;
use crate::seam::BoxFuture;
use crate::serve::Context;
use crate::serve::calls::take;
use crate::serve::grpc::call::Call;
use crate::serve::grpc::message::{self, Encoding, Messages};
use crate::serve::grpc::requests::Requests;
use crate::serve::grpc::status::{CANCELED, Status};
use crate::serve::reply::Source;

/// Renews a lease.
async fn renew(
    context: Arc<Context>,
    credentials: Credentials,
    request: LeaseKeepAliveRequest,
) -> Result<LeaseKeepAliveResponse, Status> {
    let step = context.server_for(&credentials, |server| server.begin(api::Call::LeaseKeepAlive(request)))?;
    match take(&context, &credentials, Method::LeaseKeepAlive, step).await? {
        Answer::LeaseKeepAlive(response) => Ok(response),
        other => unreachable!("{other:?} is no answer to a renewal"),
    }
}

/// A client's stream of renewals, answered one after the other.
pub(crate) struct KeepAlive {
    context: Arc<Context>,
    encoding: Encoding,
    credentials: Credentials,
    messages: Messages<Requests>,
    renewing: Option<BoxFuture<Result<LeaseKeepAliveResponse, Status>>>,
}

impl KeepAlive {
    pub(crate) fn new(call: &Call, messages: Messages<Requests>) -> Self {
        Self {
            context: Arc::clone(&call.context),
            encoding: call.encoding,
            credentials: call.credentials.clone(),
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
                Ok(request) => {
                    let (context, credentials) = (Arc::clone(&self.context), self.credentials.clone());
                    self.renewing = Some(Box::pin(renew(context, credentials, request)));
                }
                Err(status) => return Poll::Ready(Some(Err(status))),
            }
        }
    }
}
