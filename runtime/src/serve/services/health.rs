//! The standard health service: the server as a whole serves, whatever the cluster does.

use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use quoin_core::proto::health::health_check_response::ServingStatus;
use quoin_core::proto::health::{HealthCheckRequest, HealthCheckResponse};

use crate::serve::grpc::Answer;
use crate::serve::grpc::call::Call;
use crate::serve::grpc::message::Encoding;
use crate::serve::grpc::status::{NOT_FOUND, Status};
use crate::serve::reply::Source;

/// The state at this moment.
pub(crate) fn check(request: &HealthCheckRequest) -> Result<HealthCheckResponse, Status> {
    if !request.service.is_empty() {
        return Err(Status::new(NOT_FOUND, "unknown service"));
    }
    Ok(HealthCheckResponse {
        status: ServingStatus::Serving.into(),
    })
}

/// The state now and at every change; there is none but the end of the server, which ends the stream.
pub(crate) fn watch(call: &Call, encoding: Encoding, request: &HealthCheckRequest) -> Result<Answer, Status> {
    let status = if request.service.is_empty() {
        ServingStatus::Serving
    } else {
        ServingStatus::ServiceUnknown
    };
    let message = call.encode(&HealthCheckResponse { status: status.into() }, encoding);
    Ok(Answer::Endless(Box::new(Once(Some(message)))))
}

/// One message and then silence.
struct Once(Option<Bytes>);

impl Source for Once {
    fn poll_bytes(&mut self, _: &mut TaskContext<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        match self.0.take() {
            Some(message) => Poll::Ready(Some(Ok(message))),
            None => Poll::Pending,
        }
    }
}
