//! The API method of each call, and the message of its answer.

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseLeasesRequest, StatusRequest};
use quoin_model::call::{Answer, Call, Refusal};

use super::wire::{Exchange, Wire, decoded};

/// Sends a call. A keepalive is a stream of one request.
pub(super) async fn send(wire: &Wire, call: &Call) -> Result<Exchange, Refusal> {
    match call {
        Call::Alarm(request) => wire.call("/etcdserverpb.Maintenance/Alarm", request, true).await,
        Call::Compact(request) => wire.call("/etcdserverpb.KV/Compact", request, true).await,
        Call::DeleteRange(request) => wire.call("/etcdserverpb.KV/DeleteRange", request, true).await,
        Call::HashKv(request) => wire.call("/etcdserverpb.Maintenance/HashKV", request, true).await,
        Call::LeaseGrant(request) => wire.call("/etcdserverpb.Lease/LeaseGrant", request, true).await,
        Call::LeaseKeepAlive { id } => {
            let request = LeaseKeepAliveRequest { id: *id };
            wire.call("/etcdserverpb.Lease/LeaseKeepAlive", &request, true).await
        }
        Call::LeaseLeases => {
            wire.call("/etcdserverpb.Lease/LeaseLeases", &LeaseLeasesRequest {}, true)
                .await
        }
        Call::LeaseRevoke(request) => wire.call("/etcdserverpb.Lease/LeaseRevoke", request, true).await,
        Call::LeaseTimeToLive(request) => wire.call("/etcdserverpb.Lease/LeaseTimeToLive", request, true).await,
        Call::MemberAdd(request) => wire.call("/etcdserverpb.Cluster/MemberAdd", request, true).await,
        Call::MemberList(request) => wire.call("/etcdserverpb.Cluster/MemberList", request, true).await,
        Call::MemberPromote(request) => wire.call("/etcdserverpb.Cluster/MemberPromote", request, true).await,
        Call::MemberRemove(request) => wire.call("/etcdserverpb.Cluster/MemberRemove", request, true).await,
        Call::MemberUpdate(request) => wire.call("/etcdserverpb.Cluster/MemberUpdate", request, true).await,
        Call::MoveLeader(request) => wire.call("/etcdserverpb.Maintenance/MoveLeader", request, true).await,
        Call::Put(request) => wire.call("/etcdserverpb.KV/Put", request, true).await,
        Call::Range(request) => wire.call("/etcdserverpb.KV/Range", request, true).await,
        Call::Status => {
            wire.call("/etcdserverpb.Maintenance/Status", &StatusRequest {}, true)
                .await
        }
        Call::Txn(request) => wire.call("/etcdserverpb.KV/Txn", request, true).await,
        Call::Auth(_) | Call::Authenticate(_) | Call::Lock(_) => unreachable!("no step has users or locks: {call:?}"),
    }
}

/// Reads the answer to a call.
pub(super) fn read(call: &Call, bytes: Bytes) -> Result<Answer, Refusal> {
    Ok(match call {
        Call::Alarm(_) => Answer::Alarm(decoded(bytes)?),
        Call::Compact(_) => Answer::Compact(decoded(bytes)?),
        Call::DeleteRange(_) => Answer::DeleteRange(decoded(bytes)?),
        Call::HashKv(_) => Answer::HashKv(decoded(bytes)?),
        Call::LeaseGrant(_) => Answer::LeaseGrant(decoded(bytes)?),
        Call::LeaseKeepAlive { .. } => Answer::LeaseKeepAlive(decoded(bytes)?),
        Call::LeaseLeases => Answer::LeaseLeases(decoded(bytes)?),
        Call::LeaseRevoke(_) => Answer::LeaseRevoke(decoded(bytes)?),
        Call::LeaseTimeToLive(_) => Answer::LeaseTimeToLive(decoded(bytes)?),
        Call::MemberAdd(_) => Answer::MemberAdd(decoded(bytes)?),
        Call::MemberList(_) => Answer::MemberList(decoded(bytes)?),
        Call::MemberPromote(_) => Answer::MemberPromote(decoded(bytes)?),
        Call::MemberRemove(_) => Answer::MemberRemove(decoded(bytes)?),
        Call::MemberUpdate(_) => Answer::MemberUpdate(decoded(bytes)?),
        Call::MoveLeader(_) => Answer::MoveLeader(decoded(bytes)?),
        Call::Put(_) => Answer::Put(decoded(bytes)?),
        Call::Range(_) => Answer::Range(decoded(bytes)?),
        Call::Status => Answer::Status(decoded(bytes)?),
        Call::Txn(_) => Answer::Txn(decoded(bytes)?),
        Call::Auth(_) | Call::Authenticate(_) | Call::Lock(_) => unreachable!("no step has users or locks: {call:?}"),
    })
}
