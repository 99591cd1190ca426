//! The standard health service: the server is always `SERVING`, whatever the state of the cluster. Also the read that
//! health checks over HTTP make.

use super::read::Read;
use super::{Answer, Step, Then};
use crate::error::Error;
use crate::node::Request;
use crate::proto::etcdserverpb::RangeRequest;
use crate::proto::health::health_check_response::ServingStatus;
use crate::proto::health::{HealthCheckRequest, HealthCheckResponse};

/// The present state.
pub(super) fn check(request: &HealthCheckRequest) -> Result<Step, Error> {
    if request.service.is_empty() {
        Ok(status(ServingStatus::Serving))
    } else {
        Err(Error::UnknownService)
    }
}

/// The present state and every change of it. The only change is the end of the server, which ends the stream.
pub(super) fn watch(request: &HealthCheckRequest) -> Step {
    status(if request.service.is_empty() {
        ServingStatus::Serving
    } else {
        ServingStatus::ServiceUnknown
    })
}

fn status(status: ServingStatus) -> Step {
    Step::Answer(Answer::Health(HealthCheckResponse { status: status.into() }))
}

/// Reads a key, as etcd's health checks do. It needs no permission.
pub(super) fn probe(serializable: bool) -> Step {
    let request = RangeRequest {
        key: vec![0].into(),
        limit: 1,
        keys_only: true,
        serializable,
        ..RangeRequest::default()
    };
    if serializable {
        Step::Fetch(Read::Probe(request))
    } else {
        Step::ask(Request::Read, Then::Probe(request))
    }
}
