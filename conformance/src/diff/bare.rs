//! Requests that are no calls of the simulator: the hash of a member's whole file, its health, and requests no client
//! library makes.

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::{HashKvResponse, HashRequest, HashResponse, RangeRequest};
use quoin_core::proto::health::health_check_response::ServingStatus;
use quoin_core::proto::health::{HealthCheckRequest, HealthCheckResponse};
use quoin_model::call::Answer;

use super::player::Reply;
use super::wire::{Exchange, NO_ANSWER, Wire, decoded, refusal};

const RANGE: &str = "/etcdserverpb.KV/Range";

/// The kinds of such requests.
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
    /// A range, under the name of another method.
    Unknown(&'static str),
    /// A range with the header for the version of the client's API.
    Version(&'static [u8]),
}

impl Bare {
    /// The kind in the counts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hash => "Hash",
            Self::Health(_) => "Health Check",
            Self::HealthWatch(_) => "Health Watch",
            Self::Oversized(_) | Self::Unknown(_) | Self::Version(_) => "any",
        }
    }

    /// Makes the request, and normalises the answer for comparison. A hash becomes that of keys, which has the same
    /// parts; its value depends on each server's own file.
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

/// An answer of which only the success or refusal is compared.
async fn ignored(exchange: Exchange) -> Reply {
    exchange.only().await.map(|_| Answer::Internal)
}
