//! The simulated clients' codec: it converts their calls and answers to those of [`quoin_core::api`]. There is no other
//! layer between a simulated client and a member's rules.

use quoin_core::api;
use quoin_core::api::{Credentials, Facts, Limits, Server};
use quoin_core::error::Error;
use quoin_core::mvcc::HashKv;
use quoin_core::proto::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, RequestHeader, StatusRequest,
};
use quoin_core::time::Instant;

use super::member::{Life, Machine};
use quoin_model::call::{Answer, AuthCall, Call, Refusal};

/// Facts of a machine beside its member's published state.
struct Known<'a> {
    life: &'a Life,
    /// The monotonic clock.
    now: Instant,
    unix_seconds: u64,
    /// Whether tokens are signed.
    signs: bool,
}

/// The text of a signed token in place of a signature.
const SIGNED: &str = "signed";

/// The user and the auth revision in a signed token.
pub fn signed(token: &str) -> Option<RequestHeader> {
    let mut parts = token.split(' ');
    let (SIGNED, username, revision) = (parts.next()?, parts.next()?, parts.next()?) else {
        return None;
    };
    Some(RequestHeader {
        username: username.to_owned(),
        auth_revision: revision.parse().ok()?,
        ..RequestHeader::default()
    })
}

impl Facts for Known<'_> {
    fn compact_hash(&self, revision: i64) -> Option<HashKv> {
        self.life.hashes.find(revision)
    }

    fn table_bytes(&self) -> i64 {
        0
    }

    fn unix_seconds(&self) -> u64 {
        self.unix_seconds
    }

    fn user_of(&self, token: &str, revision: u64) -> Option<RequestHeader> {
        if self.signs {
            return signed(token);
        }
        Some(RequestHeader {
            username: self.life.tokens.borrow_mut().user(self.now, token)?.to_owned(),
            auth_revision: revision,
            ..RequestHeader::default()
        })
    }

    fn token_prefix(&self) -> String {
        // No other life of a member takes as many turns.
        let Life { process, turns, .. } = self.life;
        if self.signs {
            String::new()
        } else {
            format!("{:x}x{turns}", process.member.0)
        }
    }

    fn sign(&self, user: &str, revision: u64, simple: &str) -> Result<String, Error> {
        if !self.signs {
            return Ok(simple.to_owned());
        }
        Ok(format!("{SIGNED} {user} {revision}"))
    }
}

impl Machine {
    /// The member as a call of this user finds it now, if its process runs.
    pub(super) fn server<T>(
        &self,
        truth: Instant,
        who: &Credentials,
        look: impl FnOnce(&Server<'_>) -> T,
    ) -> Option<T> {
        let life = self.life.as_ref()?;
        let facts = Known {
            life,
            now: self.clock.now(truth),
            unix_seconds: self.clock.wall_ms(truth) / 1_000,
            signs: self.signs,
        };
        Some(look(&Server {
            cluster: life.process.cluster,
            view: &life.view,
            status: &life.status,
            limits: self.limits(),
            facts: &facts,
            credentials: who,
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
        Call::Auth(change) => auth_call(change),
        Call::Authenticate(request) => api::Call::Authenticate(request.clone()),
        Call::Compact(request) => api::Call::Compact(*request),
        Call::DeleteRange(request) => api::Call::DeleteRange(request.clone()),
        Call::HashKv(request) => api::Call::HashKv(*request),
        Call::LeaseGrant(request) => api::Call::LeaseGrant(*request),
        Call::LeaseKeepAlive { id } => api::Call::LeaseKeepAlive(LeaseKeepAliveRequest { id: *id }),
        Call::LeaseLeases => api::Call::LeaseLeases(LeaseLeasesRequest {}),
        Call::LeaseRevoke(request) => api::Call::LeaseRevoke(*request),
        Call::LeaseTimeToLive(request) => api::Call::LeaseTimeToLive(*request),
        Call::Lock(request) => api::Call::Lock(request.clone()),
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

fn auth_call(change: &AuthCall) -> api::Call {
    match change.clone() {
        AuthCall::Disable => api::Call::AuthDisable(AuthDisableRequest {}),
        AuthCall::Enable => api::Call::AuthEnable(AuthEnableRequest {}),
        AuthCall::RoleAdd(request) => api::Call::RoleAdd(request),
        AuthCall::RoleDelete(request) => api::Call::RoleDelete(request),
        AuthCall::RoleGrantPermission(request) => api::Call::RoleGrantPermission(request),
        AuthCall::RoleRevokePermission(request) => api::Call::RoleRevokePermission(request),
        AuthCall::UserAdd(request) => api::Call::UserAdd(request),
        AuthCall::UserChangePassword(request) => api::Call::UserChangePassword(request),
        AuthCall::UserDelete(request) => api::Call::UserDelete(request),
        AuthCall::UserGrantRole(request) => api::Call::UserGrantRole(request),
        AuthCall::UserRevokeRole(request) => api::Call::UserRevokeRole(request),
    }
}

/// A member's answer, in the types of clients.
pub(super) fn answer(answer: api::Answer) -> Answer {
    match answer.whole() {
        api::Answer::Alarm(response) => Answer::Alarm(response),
        api::Answer::AuthChanged(response) => Answer::Auth(response),
        api::Answer::Authenticate(response) => Answer::Authenticate(response),
        api::Answer::Compact(response) => Answer::Compact(response),
        api::Answer::DeleteRange(response) => Answer::DeleteRange(response),
        api::Answer::HashKv(response) => Answer::HashKv(response),
        api::Answer::LeaseGrant(response) => Answer::LeaseGrant(response),
        api::Answer::LeaseKeepAlive(response) => Answer::LeaseKeepAlive(response),
        api::Answer::LeaseLeases(response) => Answer::LeaseLeases(response),
        api::Answer::LeaseRevoke(response) => Answer::LeaseRevoke(response),
        api::Answer::LeaseTimeToLive(response) => Answer::LeaseTimeToLive(response),
        api::Answer::Lock(response) => Answer::Lock(response),
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
