//! The lease service.

use super::kv::heavy;
use super::{Answer, Server, Step, Then};
use crate::bug;
use crate::node::LeaseTimes;
use crate::node::Request;
use crate::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    ResponseHeader,
};
use crate::store::Lease;

/// Grants a lease. A TTL that is too long is refused when the grant is applied
/// ([`check::lease_ttl`](crate::store::check::lease_ttl)), because alarms are checked before it.
pub(super) fn grant(request: LeaseGrantRequest) -> Step {
    Step::ask(Request::LeaseGrant(request), Then::Answer)
}

/// Renews a lease once. The header is made first, as in etcd: at its revision the lease still existed.
pub(super) fn keep_alive(server: &Server<'_>, request: LeaseKeepAliveRequest) -> Step {
    let (id, header) = (request.id, server.header());
    // The mutant: a member answers from the leases it has applied, without the leader.
    if bug!(RenewsWhereItDoesNotLead)
        && !server.status.leads
        && let Some(lease) = server.view.leases.get(id)
    {
        return Step::Answer(renewed(header, id, lease.ttl()));
    }
    Step::ask(Request::LeaseRenew { id }, Then::Renew { id, header })
}

/// The answer to a renewal. For an unknown lease the TTL is 0.
pub(super) fn renewed(header: ResponseHeader, id: i64, ttl: i64) -> Answer {
    Answer::LeaseKeepAlive(LeaseKeepAliveResponse {
        header: Some(header),
        id,
        ttl,
    })
}

/// All leases that this member has applied. The leader orders them by expiry.
pub(super) fn leases() -> Step {
    Step::ask(Request::LeaseLeases, Then::Answer)
}

/// The answer with the node's list of leases.
pub(super) fn list(server: &Server<'_>, leases: LeaseTimes) -> Answer {
    Answer::LeaseList {
        header: server.header(),
        leases,
    }
}

/// Revokes a lease and deletes its keys.
pub(super) fn revoke(server: &Server<'_>, request: LeaseRevokeRequest) -> Step {
    let rows = server.view.leases.get(request.id).map_or(0, Lease::key_count);
    heavy(Request::LeaseRevoke(request), rows)
}

/// The remaining time of a lease, and the keys attached to it. An unknown lease is no error.
pub(super) fn time_to_live(server: &Server<'_>, request: LeaseTimeToLiveRequest) -> Step {
    let LeaseTimeToLiveRequest { id, keys } = request;
    let header = server.header();
    Step::ask(
        Request::LeaseTimeToLive { id, keys },
        Then::TimeToLive { id, keys, header },
    )
}
