//! Requests that no call of the simulator is: the hash of a member's whole file, its health, and what no client library sends.

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::{HashKvResponse, HashRequest, HashResponse, RangeRequest};
use quoin_core::proto::health::health_check_response::ServingStatus;
use quoin_core::proto::health::{HealthCheckRequest, HealthCheckResponse};
use quoin_model::call::Answer;

use super::player::Reply;
use super::wire::{Exchange, NO_ANSWER, Wire, decoded, refusal};

const RANGE: &str = "/etcdserverpb.KV/Range";

/// One of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bare {
    /// A hash of all the member keeps.
    Hash,
    /// The health of a service; "" is the whole server.
    Health(&'static str),
    /// The health of a service and what becomes of it; broken off after the first answer.
    HealthWatch(&'static str),
    /// A range with a key of so many bytes.
    Oversized(usize),
    /// A range, asked of a method by another name.
    Unknown(&'static str),
    /// A range whose client says which version of the API it speaks.
    Version(&'static [u8]),
}

impl Bare {
    /// What it is counted under.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hash => "Hash",
            Self::Health(_) => "Health Check",
            Self::HealthWatch(_) => "Health Watch",
            Self::Oversized(_) | Self::Unknown(_) | Self::Version(_) => "any",
        }
    }

    /// Asks, and makes of the answer what can be compared. A hash becomes that of keys, which has the same parts; its value
    /// is of each server's own file.
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
        return Err(refusal(NO_ANSWER, "well, but without an answer"));
    };
    let response: HealthCheckResponse = decoded(bytes)?;
    match response.status() {
        ServingStatus::Serving => Ok(Answer::Internal),
        other => Err(refusal(NO_ANSWER, other.as_str_name())),
    }
}

/// An answer of which only matters whether it is a refusal.
async fn ignored(exchange: Exchange) -> Reply {
    exchange.only().await.map(|_| Answer::Internal)
}
