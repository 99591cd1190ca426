//! Requests for which the model has no `Call`: the hash of a member's whole file, its health, and requests that no
//! client library makes.

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::{HashKvResponse, HashRequest, HashResponse, RangeRequest};
use quoin_core::proto::health::health_check_response::ServingStatus;
use quoin_core::proto::health::{HealthCheckRequest, HealthCheckResponse};
use quoin_model::call::Answer;

use super::player::Reply;
use super::wire::{Exchange, NO_ANSWER, Wire, decoded, refusal};

const RANGE: &str = "/etcdserverpb.KV/Range";

/// The kinds of these requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bare {
    /// A hash of everything the member stores.
    Hash,
    /// The health of a service; "" is the whole server.
    Health(&'static str),
    /// A watch of the health of a service; cancelled after the first answer.
    HealthWatch(&'static str),
    /// A range with a key of this many bytes.
    Oversized(usize),
    /// A range request to this path, which is not a method of etcd's.
    Unknown(&'static str),
    /// A range with this value in the header `client-api-version`.
    Version(&'static [u8]),
}

impl Bare {
    /// The name under which the request is counted.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hash => "Hash",
            Self::Health(_) => "Health Check",
            Self::HealthWatch(_) => "Health Watch",
            Self::Oversized(_) | Self::Unknown(_) | Self::Version(_) => "any",
        }
    }

    /// Makes the request and normalises the answer for comparison. The answer to `Hash` becomes an answer to `HashKV`
    /// with 1 for any hash but 0, because each server's hash depends on its own file.
    pub(super) async fn ask(self, wire: &Wire) -> Reply {
        let key_a = || range(Bytes::from_static(b"a"));
        match self {
            Self::Hash => {
                let bytes = wire
                    .call("/etcdserverpb.Maintenance/Hash", &HashRequest {}, true)
                    .await?;
                let response: HashResponse = decoded(bytes.only().await?)?;
                Ok(Answer::HashKv(HashKvResponse {
                    header: response.header,
                    hash: u32::from(response.hash != 0),
                    ..HashKvResponse::default()
                }))
            }
            Self::Health(service) => health(wire, "/grpc.health.v1.Health/Check", service).await,
            Self::HealthWatch(service) => health(wire, "/grpc.health.v1.Health/Watch", service).await,
            Self::Oversized(bytes) => ignored(wire.call(RANGE, &range(vec![b'k'; bytes].into()), true).await?).await,
            Self::Unknown(path) => ignored(wire.call(path, &key_a(), true).await?).await,
            Self::Version(version) => {
                let header = ("client-api-version", version);
                ignored(wire.call_with(RANGE, &key_a(), true, Some(header)).await?).await
            }
        }
    }
}

fn range(key: Bytes) -> RangeRequest {
    RangeRequest {
        key,
        ..RangeRequest::default()
    }
}

async fn health(wire: &Wire, path: &str, service: &str) -> Reply {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let mut exchange = wire.call(path, &request, true).await?;
    let Some(bytes) = exchange.next().await? else {
        return Err(refusal(NO_ANSWER, "ended without an answer"));
    };
    let response: HealthCheckResponse = decoded(bytes)?;
    match response.status() {
        ServingStatus::Serving => Ok(Answer::Internal),
        other => Err(refusal(NO_ANSWER, other.as_str_name())),
    }
}

/// Reduces an answer to its success or refusal.
async fn ignored(exchange: Exchange) -> Reply {
    exchange.only().await.map(|_| Answer::Internal)
}
