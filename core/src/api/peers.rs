//! Requests between members other than raft's messages, by HTTP on the peer port. A member that does not lead forwards
//! requests that only the leader can answer. Other requests are for the members, for a hash, and for the state of a
//! downgrade. Paths, statuses and texts are etcd's.
//!
//! [`PeerCall`] is the answering side. The asking side is [`forward`] and [`forwarded`], [`hash_request`] and
//! [`hash_answer`], and [`crate::boot::Question`] for a member that starts.

use bytes::Bytes;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::corruption::{MemberHash, NoHash};
use crate::error::Error;
use crate::id::MemberId;
use crate::membership::Member;
use crate::mvcc::HashKv;
use crate::node::{Request, Response};
use crate::proto::etcdserverpb::{
    HashKvRequest, HashKvResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, ResponseHeader,
};
use crate::proto::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use crate::store;

use super::{Answer, Computation, Server, Step, downgrade, maintenance};

const DOWNGRADE: &str = "/downgrade/enabled";
const HASH_KV: &str = "/members/hashkv";
const LEASES: &str = "/leases";
const LEASES_INTERNAL: &str = "/leases/internal";
const MEMBERS: &str = "/members";
const PROMOTE: &str = "/members/promote/";

const PROTOBUF: &str = "application/protobuf";
const JSON: &str = "application/json";
const PLAIN: &str = "text/plain";
const TEXT: &str = "text/plain; charset=utf-8";

/// etcd's text for a lease that its lessor does not have.
const LEASE_NOT_FOUND: &str = "requested lease not found";
/// etcd's text where a member does not lead.
const NOT_PRIMARY: &str = "not a primary lessor";
/// etcd's text where a member did not catch up in time.
const LEASE_TIMEOUT: &str = "waiting for node to catch up its applied index has timed out";

/// The path and body with which a request is posted to the leader. `None` for requests that are not forwarded.
#[must_use]
pub fn forward(request: &Request) -> Option<(String, Bytes)> {
    match request {
        Request::LeaseRenew { id } => {
            let request = LeaseKeepAliveRequest { id: *id };
            Some((LEASES.to_owned(), request.encode_to_vec().into()))
        }
        Request::LeaseTimeToLive { id, keys } => {
            let request = LeaseInternalRequest {
                lease_time_to_live_request: Some(LeaseTimeToLiveRequest { id: *id, keys: *keys }),
            };
            Some((LEASES_INTERNAL.to_owned(), request.encode_to_vec().into()))
        }
        Request::MemberPromote { id } => Some((format!("{PROMOTE}{}", id.0), Bytes::new())),
        _ => None,
    }
}

/// The leader's answer to a forwarded request. `None` if the request is to be tried again: the member that answered did
/// not lead, or not yet.
#[must_use]
pub fn forwarded(request: &Request, status: u16, body: &[u8]) -> Option<Result<Response, Error>> {
    match (request, status) {
        (Request::LeaseRenew { id }, 200) => {
            let answer = LeaseKeepAliveResponse::decode(body).ok()?;
            (answer.id == *id).then_some(Ok(Response::Renewed { ttl: answer.ttl }))
        }
        (Request::LeaseRenew { .. }, 404) => Some(Ok(Response::Renewed { ttl: 0 })),
        (Request::LeaseTimeToLive { id, .. }, 200) => {
            let answer = LeaseInternalResponse::decode(body).ok()?.lease_time_to_live_response?;
            (answer.id == *id).then(|| {
                Ok(Response::TimeToLive {
                    ttl: answer.ttl,
                    granted_ttl: answer.granted_ttl,
                    keys: answer.keys.into_iter().collect(),
                })
            })
        }
        (Request::LeaseTimeToLive { .. }, 404) => Some(Ok(Response::TimeToLive {
            ttl: -1,
            granted_ttl: 0,
            keys: store::LeaseKeys::default(),
        })),
        (Request::MemberPromote { .. }, 200) => {
            let members = Member::list_from_json(body).ok()?;
            Some(Ok(Response::Applied(store::Response::Members(members))))
        }
        (Request::MemberPromote { .. }, 404) => Some(Err(Error::MemberNotFound)),
        (Request::MemberPromote { .. }, 412) => {
            let refusals = [Error::LearnerNotReady, Error::MemberNotLearner];
            let text = String::from_utf8_lossy(body);
            refusals
                .into_iter()
                .find(|error| text.contains(error.message()))
                .map(Err)
        }
        _ => None,
    }
}

/// The path and the body of the request for a peer's hash, which is a `GET` with a body.
#[must_use]
pub fn hash_request(revision: i64) -> (&'static str, Bytes) {
    (HASH_KV, format!("{{\"revision\":{revision}}}").into())
}

/// A peer's answer to a request for its hash.
///
/// # Errors
/// The reason why the peer has no hash.
pub fn hash_answer(status: u16, body: &[u8]) -> Result<MemberHash, NoHash> {
    let text = String::from_utf8_lossy(body);
    match status {
        200 => {
            let answer: HashAnswerJson =
                serde_json::from_slice(body).map_err(|error| NoHash::Unknown(error.to_string()))?;
            Ok(MemberHash {
                hash: HashKv {
                    hash: answer.hash,
                    compact_revision: answer.compact_revision,
                    hash_revision: answer.hash_revision,
                },
                revision: answer.header.revision,
            })
        }
        400 if text.contains("mvcc: required revision has been compacted") => Err(NoHash::Compacted),
        400 if text.contains("mvcc: required revision is a future revision") => Err(NoHash::Future),
        412 => Err(NoHash::OtherCluster),
        _ => Err(NoHash::Unknown(format!("status {status}: {}", text.trim_end()))),
    }
}

/// The hash in an answer to a client's `HashKV`, for comparison with those of peers.
#[must_use]
pub fn member_hash(answer: &HashKvResponse) -> MemberHash {
    MemberHash {
        hash: HashKv {
            hash: answer.hash,
            compact_revision: answer.compact_revision,
            hash_revision: answer.hash_revision,
        },
        revision: answer.header.as_ref().map_or(0, |header| header.revision),
    }
}

/// A request of another member.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerCall {
    /// Whether a downgrade is going on.
    DowngradeEnabled,
    /// The hash of all keys at a revision.
    HashKv(HashKvRequest),
    /// The members.
    Members,
    /// Promote a learner.
    Promote(MemberId),
    /// Renew a lease.
    Renew(i64),
    /// The remaining time of a lease, and perhaps its keys.
    TimeToLive {
        /// The lease.
        id: i64,
        /// Whether its keys are wanted.
        keys: bool,
    },
}

/// The answer to a request of another member.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerAnswer {
    /// The status code.
    pub status: u16,
    /// The header `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

/// The next step in answering another member's request.
#[derive(Debug)]
pub enum PeerStep {
    /// Nothing: this is the answer.
    Answer(PeerAnswer),
    /// Ask the node, then go on with [`PeerCall::finish`].
    Ask(Request),
    /// Compute the hash as for a client, then go on with [`hashed`].
    Compute(Computation),
}

impl PeerAnswer {
    fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type,
            body: body.into(),
        }
    }

    /// A refusal as Go's `http.Error` writes it.
    fn error(status: u16, text: &str) -> Self {
        Self::new(status, TEXT, format!("{text}\n"))
    }
}

impl PeerCall {
    /// Reads a request: its method, path, the cluster that its sender names, if any, and its body.
    ///
    /// # Errors
    /// The refusal.
    pub fn parse(
        server: &Server<'_>,
        method: &str,
        path: &str,
        cluster: Option<&str>,
        body: &[u8],
    ) -> Result<Self, PeerAnswer> {
        let wanted = match path {
            LEASES | LEASES_INTERNAL => "POST",
            path if path.starts_with(PROMOTE) => "POST",
            DOWNGRADE | HASH_KV | MEMBERS => "GET",
            _ => return Err(PeerAnswer::error(404, "404 page not found")),
        };
        if method != wanted {
            return Err(PeerAnswer::error(405, "Method Not Allowed"));
        }
        let bad = || PeerAnswer::error(400, "error unmarshalling request");
        match path {
            DOWNGRADE => Ok(Self::DowngradeEnabled),
            HASH_KV => {
                if cluster.is_some_and(|cluster| cluster != server.cluster.to_string()) {
                    return Err(PeerAnswer::error(412, "cluster ID mismatch"));
                }
                let request: HashJson = serde_json::from_slice(body).map_err(|_| bad())?;
                Ok(Self::HashKv(HashKvRequest {
                    revision: request.revision,
                }))
            }
            LEASES => {
                let request = LeaseKeepAliveRequest::decode(body).map_err(|_| bad())?;
                Ok(Self::Renew(request.id))
            }
            LEASES_INTERNAL => {
                let request = LeaseInternalRequest::decode(body).map_err(|_| bad())?;
                let LeaseTimeToLiveRequest { id, keys } = request.lease_time_to_live_request.ok_or_else(bad)?;
                Ok(Self::TimeToLive { id, keys })
            }
            MEMBERS => Ok(Self::Members),
            _ => {
                let number = path.strip_prefix(PROMOTE).unwrap_or_default();
                let id = number.parse().map_err(|_| {
                    let text = format!("member {number} not found in cluster");
                    PeerAnswer::error(404, &text)
                })?;
                Ok(Self::Promote(MemberId(id)))
            }
        }
    }

    /// Begins the request.
    #[must_use]
    pub fn begin(&self, server: &Server<'_>) -> PeerStep {
        match self {
            Self::DowngradeEnabled => PeerStep::Ask(Request::Read),
            Self::HashKv(request) => match maintenance::hash_kv(server, *request) {
                Ok(Step::Compute(computation)) => PeerStep::Compute(computation),
                Ok(Step::Answer(answer)) => PeerStep::Answer(hashed(Ok(answer))),
                Ok(other) => unreachable!("{other:?} is no step of a hash"),
                Err(error) => PeerStep::Answer(hashed(Err(error))),
            },
            Self::Members => {
                let members: Vec<Member> = server.view.cluster.members().cloned().collect();
                PeerStep::Answer(members_answer(&members))
            }
            Self::Promote(id) => PeerStep::Ask(Request::MemberPromote { id: *id }),
            Self::Renew(id) => PeerStep::Ask(Request::LeaseRenew { id: *id }),
            Self::TimeToLive { id, keys } => PeerStep::Ask(Request::LeaseTimeToLive { id: *id, keys: *keys }),
        }
    }

    /// The answer that follows from the node's response.
    #[must_use]
    pub fn finish(&self, server: &Server<'_>, result: Result<Response, Error>) -> PeerAnswer {
        match (self, result) {
            (Self::DowngradeEnabled, Ok(_)) => {
                let is_enabled = downgrade::is_enabled(server);
                PeerAnswer::new(200, PLAIN, is_enabled.to_string())
            }
            (Self::DowngradeEnabled, Err(error)) => PeerAnswer::error(500, &format!("failed linearized read: {error}")),
            (Self::Promote(_), Ok(Response::Applied(store::Response::Members(members)))) => members_answer(&members),
            (Self::Promote(_), Err(error)) => promotion_refused(error),
            (_, Ok(Response::Renewed { ttl: 0 }) | Ok(Response::TimeToLive { ttl: -1, .. })) => {
                PeerAnswer::error(404, LEASE_NOT_FOUND)
            }
            (Self::Renew(id), Ok(Response::Renewed { ttl })) => {
                let (id, header) = (*id, None);
                let answer = LeaseKeepAliveResponse { header, id, ttl };
                PeerAnswer::new(200, PROTOBUF, answer.encode_to_vec())
            }
            (Self::TimeToLive { id, .. }, Ok(Response::TimeToLive { ttl, granted_ttl, keys })) => {
                let answer = LeaseTimeToLiveResponse {
                    header: Some(ResponseHeader::default()),
                    id: *id,
                    ttl,
                    granted_ttl,
                    keys: keys.iter().cloned().collect(),
                };
                let answer = LeaseInternalResponse {
                    lease_time_to_live_response: Some(answer),
                };
                PeerAnswer::new(200, PROTOBUF, answer.encode_to_vec())
            }
            (_, Ok(response)) => unreachable!("{response:?} is no answer for {self:?}"),
            // After these statuses the sender tries again, perhaps at a new leader. A 404 would be final: the client
            // would lose its lease.
            (_, Err(Error::Timeout | Error::TimeoutLeaderFail)) => PeerAnswer::error(408, LEASE_TIMEOUT),
            (_, Err(_)) => PeerAnswer::error(400, NOT_PRIMARY),
        }
    }
}

/// The answer with a hash.
#[must_use]
pub fn hashed(result: Result<Answer, Error>) -> PeerAnswer {
    match result {
        Ok(Answer::HashKv(answer)) => PeerAnswer::new(200, JSON, hash_json(&answer)),
        Ok(other) => unreachable!("{other:?} is no hash"),
        Err(error) => PeerAnswer::error(400, error.message()),
    }
}

fn members_answer(members: &[Member]) -> PeerAnswer {
    let mut body = Member::list_to_json(members);
    body.push(b'\n');
    PeerAnswer::new(200, JSON, body)
}

fn promotion_refused(error: Error) -> PeerAnswer {
    match error {
        Error::MemberNotFound => PeerAnswer::error(404, error.message()),
        Error::MemberNotLearner | Error::LearnerNotReady => PeerAnswer::error(412, error.message()),
        Error::Timeout | Error::TimeoutLeaderFail => PeerAnswer::error(408, error.message()),
        _ => PeerAnswer::error(500, "Internal Server Error"),
    }
}

/// The body of a request for a hash, in Go's JSON.
#[derive(Deserialize)]
struct HashJson {
    #[serde(default)]
    revision: i64,
}

/// The answer with a hash, in the order of Go's JSON, which leaves out fields that are zero.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct HashAnswerJson {
    header: HeaderJson,
    #[serde(skip_serializing_if = "is_zero")]
    hash: u32,
    #[serde(skip_serializing_if = "is_zero")]
    compact_revision: i64,
    #[serde(skip_serializing_if = "is_zero")]
    hash_revision: i64,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct HeaderJson {
    #[serde(skip_serializing_if = "is_zero")]
    revision: i64,
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

fn hash_json(answer: &HashKvResponse) -> Vec<u8> {
    let json = HashAnswerJson {
        header: HeaderJson {
            revision: answer.header.as_ref().map_or(0, |header| header.revision),
        },
        hash: answer.hash,
        compact_revision: answer.compact_revision,
        hash_revision: answer.hash_revision,
    };
    serde_json::to_vec(&json).expect("numbers always have a JSON form")
}
