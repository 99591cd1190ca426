//! The simulated clients' codec: it converts their calls and answers to those of [`quoin_core::api`]. There is no other
//! layer between a simulated client and a member's rules.

use quoin_core::api;
use quoin_core::api::{Credentials, Facts, Limits, Server};
use quoin_core::error::Error;
use quoin_core::mvcc::{CompactHashes, HashKv};
use quoin_core::proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseLeasesRequest, RequestHeader, StatusRequest};
use quoin_core::time::Instant;

use super::member::Machine;
use quoin_model::call::{Answer, Call, Refusal};

/// Facts of a machine beside its member's published state.
struct Known<'a> {
    hashes: &'a CompactHashes,
    unix_seconds: u64,
}

impl Facts for Known<'_> {
    fn compact_hash(&self, revision: i64) -> Option<HashKv> {
        self.hashes.find(revision)
    }

    fn table_bytes(&self) -> i64 {
        0
    }

    fn unix_seconds(&self) -> u64 {
        self.unix_seconds
    }

    fn user_of(&self, _token: &str, _revision: u64) -> Option<RequestHeader> {
        None
    }

    fn token_prefix(&self) -> String {
        String::new()
    }

    fn sign(&self, _user: &str, _revision: u64, _simple: &str) -> Result<String, Error> {
        Err(Error::AuthFailed)
    }
}

impl Machine {
    /// The member as a call finds it now, if its process runs.
    pub(super) fn server<T>(&self, truth: Instant, look: impl FnOnce(&Server<'_>) -> T) -> Option<T> {
        let life = self.life.as_ref()?;
        let facts = Known {
            hashes: &life.hashes,
            unix_seconds: self.clock.wall_ms(truth) / 1_000,
        };
        Some(look(&Server {
            cluster: life.process.cluster,
            view: &life.view,
            status: &life.status,
            limits: self.limits(),
            facts: &facts,
            credentials: &Credentials::NONE,
        }))
    }

    pub(super) fn limits(&self) -> Limits {
        Limits::of(&self.site.config)
    }
}

/// A client's call, in the types of core.
pub(super) fn call(call: &Call) -> api::Call {
    match call {
        Call::Alarm(request) => api::Call::Alarm(*request),
        Call::Compact(request) => api::Call::Compact(*request),
        Call::DeleteRange(request) => api::Call::DeleteRange(request.clone()),
        Call::HashKv(request) => api::Call::HashKv(*request),
        Call::LeaseGrant(request) => api::Call::LeaseGrant(*request),
        Call::LeaseKeepAlive { id } => api::Call::LeaseKeepAlive(LeaseKeepAliveRequest { id: *id }),
        Call::LeaseLeases => api::Call::LeaseLeases(LeaseLeasesRequest {}),
        Call::LeaseRevoke(request) => api::Call::LeaseRevoke(*request),
        Call::LeaseTimeToLive(request) => api::Call::LeaseTimeToLive(*request),
        Call::MemberAdd(request) => api::Call::MemberAdd(request.clone()),
        Call::MemberList(request) => api::Call::MemberList(*request),
        Call::MemberPromote(request) => api::Call::MemberPromote(*request),
        Call::MemberRemove(request) => api::Call::MemberRemove(*request),
        Call::MemberUpdate(request) => api::Call::MemberUpdate(request.clone()),
        Call::MoveLeader(request) => api::Call::MoveLeader(*request),
        Call::Put(request) => api::Call::Put(request.clone()),
        Call::Range(request) => api::Call::Range(request.clone()),
        Call::Status => api::Call::Status(StatusRequest {}),
        Call::Txn(request) => api::Call::Txn(request.clone()),
    }
}

/// A member's answer, in the types of clients.
pub(super) fn answer(answer: api::Answer) -> Answer {
    match answer.whole() {
        api::Answer::Alarm(response) => Answer::Alarm(response),
        api::Answer::Compact(response) => Answer::Compact(response),
        api::Answer::DeleteRange(response) => Answer::DeleteRange(response),
        api::Answer::HashKv(response) => Answer::HashKv(response),
        api::Answer::LeaseGrant(response) => Answer::LeaseGrant(response),
        api::Answer::LeaseKeepAlive(response) => Answer::LeaseKeepAlive(response),
        api::Answer::LeaseLeases(response) => Answer::LeaseLeases(response),
        api::Answer::LeaseRevoke(response) => Answer::LeaseRevoke(response),
        api::Answer::LeaseTimeToLive(response) => Answer::LeaseTimeToLive(response),
        api::Answer::MemberAdd(response) => Answer::MemberAdd(response),
        api::Answer::MemberList(response) => Answer::MemberList(response),
        api::Answer::MemberPromote(response) => Answer::MemberPromote(response),
        api::Answer::MemberRemove(response) => Answer::MemberRemove(response),
        api::Answer::MemberUpdate(response) => Answer::MemberUpdate(response),
        api::Answer::MoveLeader(response) => Answer::MoveLeader(response),
        api::Answer::Put(response) => Answer::Put(response),
        api::Answer::Range(response) => Answer::Range(response),
        api::Answer::Status(response) => Answer::Status(response),
        api::Answer::Txn(response) => Answer::Txn(response),
        other => unreachable!("no client asks for {other:?}"),
    }
}

/// An error as a client gets it.
pub(super) fn refusal(error: Error) -> Refusal {
    Refusal {
        code: i32::from(error.code().number()),
        message: error.message().to_owned(),
    }
}
