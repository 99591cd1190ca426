//! What the services of a member do with a request: the same questions to the node, the same reads of the published state,
//! the same headers. What only a leader can answer is handed on to it.

use std::time::Duration;

use quoin_core::config::Config;
use quoin_core::error::Error;
use quoin_core::id::MemberId;
use quoin_core::limits::MAX_LEASE_TTL_SECONDS;
use quoin_core::membership::Member as Peer;
use quoin_core::node::{Request, Response};
use quoin_core::proto::etcdserverpb::{
    AlarmType, HashKvResponse, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseStatus, LeaseTimeToLiveResponse,
    Member, MemberAddResponse, MemberListResponse, MemberPromoteResponse, MemberRemoveResponse, MemberUpdateResponse,
    MoveLeaderResponse, ResponseHeader, StatusResponse,
};
use quoin_core::store::{Response as Applied, check};
use quoin_core::version::SERVER_VERSION;

use super::member::Life;
use crate::call::{Answer, Call, Refusal};

/// What members, leases and the store's own notes take, as the services tell it.
const NOTES_BYTES: u64 = 4096;

/// What becomes of a request next.
#[derive(Debug)]
pub(super) enum Next {
    /// It is answered.
    Answer(Result<Answer, Error>),
    /// The node must be asked.
    Ask(Request),
    /// Whoever leads must be asked.
    HandOn,
}

/// An error as a client sees it.
pub(super) fn refusal(error: Error) -> Refusal {
    Refusal {
        code: i32::from(error.code().number()),
        message: error.message().to_owned(),
    }
}

/// How long a request may wait for the cluster.
pub(super) fn request_timeout(config: &Config) -> Duration {
    Duration::from_secs(5) + 2 * Duration::from_millis(config.election_ms)
}

/// A request arrived.
pub(super) fn begin(call: &Call, life: &Life, config: &Config, unix_seconds: u64) -> Next {
    if life.status.is_learner && !matches!(call, Call::Range(_) | Call::Status) {
        return Next::Answer(Err(Error::NotSupportedForLearner));
    }
    match checked(call, life, config, unix_seconds) {
        Ok(next) => next,
        Err(error) => Next::Answer(Err(error)),
    }
}

fn checked(call: &Call, life: &Life, config: &Config, unix_seconds: u64) -> Result<Next, Error> {
    Ok(match call {
        Call::Alarm(request) => Next::Ask(Request::Alarm(*request)),
        Call::Compact(request) => Next::Ask(Request::Compact(*request)),
        Call::DeleteRange(request) => {
            check::delete_range(request)?;
            Next::Ask(Request::DeleteRange(request.clone()))
        }
        Call::HashKv(request) => {
            let remembered = life.hashes.find(request.revision);
            let hash = match remembered {
                Some(hash) => hash,
                None => life.view.kv.hash_kv(request.revision)?,
            };
            Next::Answer(Ok(Answer::HashKv(HashKvResponse {
                header: Some(header(life, None)),
                hash: hash.hash,
                compact_revision: hash.compact_revision,
                hash_revision: hash.hash_revision,
            })))
        }
        Call::LeaseGrant(request) => {
            if request.ttl > MAX_LEASE_TTL_SECONDS {
                return Err(Error::LeaseTtlTooLarge);
            }
            Next::Ask(Request::LeaseGrant(*request))
        }
        Call::LeaseKeepAlive { id } => Next::Ask(Request::LeaseRenew { id: *id }),
        Call::LeaseLeases => Next::Ask(Request::LeaseLeases),
        Call::LeaseRevoke(request) => Next::Ask(Request::LeaseRevoke(*request)),
        Call::LeaseTimeToLive(request) => Next::Ask(Request::LeaseTimeToLive {
            id: request.id,
            keys: request.keys,
        }),
        Call::MemberAdd(request) => Next::Ask(Request::MemberAdd {
            peer_urls: request.peer_urls.clone(),
            is_learner: request.is_learner,
            unix_seconds,
        }),
        Call::MemberList(request) if request.linearizable => Next::Ask(Request::Read),
        Call::MemberPromote(request) => Next::Ask(Request::MemberPromote {
            id: MemberId(request.id),
        }),
        Call::MemberRemove(request) => Next::Ask(Request::MemberRemove {
            id: MemberId(request.id),
        }),
        Call::MemberUpdate(request) => Next::Ask(Request::MemberUpdate {
            id: MemberId(request.id),
            peer_urls: request.peer_urls.clone(),
        }),
        Call::MoveLeader(request) => {
            if !life.status.leads {
                return Err(Error::NotLeader);
            }
            Next::Ask(Request::MoveLeader {
                to: MemberId(request.target_id),
            })
        }
        Call::Put(request) => {
            check::put(request)?;
            Next::Ask(Request::Put(request.clone()))
        }
        Call::Range(request) => {
            check::range(request)?;
            if !request.serializable && life.status.is_learner {
                return Err(Error::NotSupportedForLearner);
            }
            if request.serializable {
                read(call, life)
            } else {
                Next::Ask(Request::Read)
            }
        }
        Call::Txn(request) => {
            check::txn(request, usize::try_from(config.max_txn_ops).unwrap_or(usize::MAX))?;
            if !check::is_read_only(request) {
                Next::Ask(Request::Txn(request.clone()))
            } else if check::is_serializable(request) {
                read(call, life)
            } else {
                Next::Ask(Request::Read)
            }
        }
        Call::MemberList(_) => read(call, life),
        Call::Status => Next::Answer(Ok(Answer::Status(status(life, config)))),
    })
}

/// Answers a read from the published state.
fn read(call: &Call, life: &Life) -> Next {
    Next::Answer(match call {
        Call::Range(request) => life.view.range(request).map(|mut response| {
            response.header = Some(header(life, response.header));
            Answer::Range(response)
        }),
        Call::Txn(request) => life.view.txn(request).map(|mut response| {
            response.header = Some(header(life, response.header));
            Answer::Txn(response)
        }),
        Call::MemberList(_) => Ok(Answer::MemberList(MemberListResponse {
            header: Some(header_without_revision(life)),
            members: life.view.cluster.members().map(member).collect(),
        })),
        _ => unreachable!("nothing else is read from the state"),
    })
}

/// The node answered, `early` being a header made before it was asked.
pub(super) fn finish(
    call: &Call,
    life: &Life,
    config: &Config,
    early: ResponseHeader,
    result: Result<Response, Error>,
) -> Next {
    let is_leaders = matches!(
        call,
        Call::LeaseKeepAlive { .. } | Call::LeaseTimeToLive(_) | Call::MemberPromote(_)
    );
    match (result, call) {
        (Err(Error::NotLeader), _) if is_leaders => Next::HandOn,
        (Err(error), _) => Next::Answer(Err(error)),
        (Ok(Response::Read), _) => read(call, life),
        (Ok(Response::Leases { leases }), _) => Next::Answer(Ok(Answer::LeaseLeases(LeaseLeasesResponse {
            header: Some(header(life, None)),
            leases: leases.by_expiry().into_iter().map(|id| LeaseStatus { id }).collect(),
        }))),
        (Ok(Response::Moved), _) => Next::Answer(Ok(Answer::MoveLeader(MoveLeaderResponse {
            header: Some(header(life, None)),
        }))),
        (Ok(Response::Renewed { ttl }), Call::LeaseKeepAlive { id }) => {
            Next::Answer(Ok(Answer::LeaseKeepAlive(LeaseKeepAliveResponse {
                header: Some(early),
                id: *id,
                ttl,
            })))
        }
        (Ok(Response::TimeToLive { ttl, granted_ttl, keys }), Call::LeaseTimeToLive(request)) => {
            Next::Answer(Ok(Answer::LeaseTimeToLive(LeaseTimeToLiveResponse {
                header: Some(early),
                id: request.id,
                ttl,
                granted_ttl,
                keys: keys.iter().cloned().collect(),
            })))
        }
        (Ok(Response::Applied(applied)), _) => Next::Answer(applied_answer(call, life, config, applied)),
        (Ok(other), _) => unreachable!("{other:?} answers {call:?}"),
    }
}

fn applied_answer(call: &Call, life: &Life, config: &Config, applied: Applied) -> Result<Answer, Error> {
    Ok(match applied {
        Applied::Alarm(mut response) => {
            response.header = Some(header(life, response.header));
            Answer::Alarm(response)
        }
        Applied::Compact(mut response) => {
            response.header = Some(header(life, None));
            Answer::Compact(response)
        }
        Applied::DeleteRange(mut response) => {
            response.header = Some(header(life, response.header));
            Answer::DeleteRange(response)
        }
        Applied::LeaseGrant(mut response) => {
            response.header = Some(header(life, response.header));
            Answer::LeaseGrant(response)
        }
        Applied::LeaseRevoke(mut response) => {
            response.header = Some(header(life, response.header));
            Answer::LeaseRevoke(response)
        }
        Applied::Put(mut response) => {
            response.header = Some(header(life, response.header));
            Answer::Put(response)
        }
        Applied::Txn(mut response) => {
            response.header = Some(header(life, response.header));
            Answer::Txn(response)
        }
        Applied::Members(members) => changed(call, life, config, &members),
        Applied::Empty | Applied::LeaseCheckpoint(_) | Applied::Range(_) => {
            unreachable!("no client's request leads to {applied:?}")
        }
    })
}

/// The answer to a change of the members.
fn changed(call: &Call, life: &Life, _: &Config, all: &[Peer]) -> Answer {
    let header = Some(header_without_revision(life));
    let members = all.iter().map(member).collect();
    match call {
        Call::MemberAdd(request) => {
            let mut urls = request.peer_urls.clone();
            urls.sort_unstable();
            Answer::MemberAdd(MemberAddResponse {
                header,
                member: all.iter().find(|found| found.peer_urls == urls).map(member),
                members,
            })
        }
        Call::MemberPromote(_) => Answer::MemberPromote(MemberPromoteResponse { header, members }),
        Call::MemberRemove(_) => Answer::MemberRemove(MemberRemoveResponse { header, members }),
        _ => Answer::MemberUpdate(MemberUpdateResponse { header, members }),
    }
}

fn member(peer: &Peer) -> Member {
    Member {
        id: peer.id.0,
        name: peer.name.clone(),
        peer_urls: peer.peer_urls.clone(),
        client_urls: peer.client_urls.clone(),
        is_learner: peer.is_learner,
    }
}

/// A header as of now; the revision is the store's unless the answer has its own.
pub(super) fn header(life: &Life, begun: Option<ResponseHeader>) -> ResponseHeader {
    let mut header = header_without_revision(life);
    header.revision = begun.map_or(0, |header| header.revision);
    if header.revision == 0 {
        header.revision = life.view.kv.revision();
    }
    header
}

fn header_without_revision(life: &Life) -> ResponseHeader {
    ResponseHeader {
        cluster_id: life.process.cluster.0,
        member_id: life.process.member.0,
        raft_term: life.status.term,
        revision: 0,
    }
}

fn status(life: &Life, config: &Config) -> StatusResponse {
    let (view, status) = (&life.view, &life.status);
    let mut errors = Vec::new();
    if status.leader == MemberId::NONE {
        errors.push(Error::NoLeader.message().to_owned());
    }
    errors.extend(view.alarms.list(AlarmType::None).map(|alarm| format!("{alarm:?}")));
    let in_use = i64::try_from(view.size_bytes.saturating_add(NOTES_BYTES)).unwrap_or(i64::MAX);
    StatusResponse {
        header: Some(header(life, None)),
        version: SERVER_VERSION.to_owned(),
        db_size: in_use,
        leader: status.leader.0,
        raft_index: status.commit_index,
        raft_term: status.term,
        raft_applied_index: view.applied_index,
        errors,
        db_size_in_use: in_use,
        is_learner: status.is_learner,
        storage_version: view
            .cluster
            .version()
            .map(|version| version.to_string())
            .unwrap_or_default(),
        db_size_quota: config
            .quota_backend_bytes
            .map_or(0, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        downgrade_info: None,
    }
}
