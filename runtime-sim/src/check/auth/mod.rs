//! C45 and C46: what users learn, and whether their requests and watches were permitted.
//!
//! A verdict is judged by the model. A request passes two places: the front door of its member, which identifies the
//! user at the state that the member has, and the log or a read, at a later state. So an answer, or a refusal, is right if
//! there are two such moments, between the request and its answer, that explain it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quoin_core::api::Credentials;
use quoin_core::error::Error;
use quoin_core::id::MemberId;
use quoin_core::proto::etcdserverpb::response_op::Response;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{
    RangeRequest, RequestHeader, TxnResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use quoin_core::proto::mvccpb::KeyValue;
use quoin_core::store::View;
use quoin_core::time::Instant;

use super::{Asked, Checker, Op, Point, Truth};
use crate::cluster::signed;
use crate::observe::{Observation, OpId, StreamId, Verdict, ensure};
use quoin_model::call::{Answer, Call, Refusal};

/// The largest number of moments that are tried for a request about leases, whose keys change with every entry.
const TRIED_MAX: u64 = 300;

/// The uses of a token at a member in its present life.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    /// The last one.
    at: Instant,
    /// Whether one was accepted.
    accepted: bool,
}

/// The moments of a request: the states of its member since it was asked.
#[derive(Clone, Copy, Debug)]
struct Moments {
    first: u64,
    /// What the verdict may rest on: for a request that all members decide alike, what was committed when it was asked.
    judged: u64,
    last: u64,
}

impl Moments {
    const fn moment(index: u64) -> Self {
        Self {
            first: index,
            judged: index,
            last: index,
        }
    }
}

/// A watch stream.
#[derive(Debug)]
struct UserStream {
    who: Credentials,
    member: MemberId,
    /// Watches that were asked for, and what the member had applied then.
    asked: VecDeque<(WatchCreateRequest, u64)>,
}

/// The checker.
#[derive(Debug, Default)]
pub(super) struct AuthChecker {
    /// The user of each simple token.
    tokens: BTreeMap<String, String>,
    used: BTreeMap<(MemberId, Arc<str>), Used>,
    /// Requests with a token that was not used for much longer than its lifetime.
    overdue: BTreeSet<OpId>,
    streams: BTreeMap<StreamId, UserStream>,
    /// The auth revision at which each member's users were compared.
    compared: BTreeMap<MemberId, u64>,
    /// How long a simple token is valid without use.
    token_ttl: Duration,
}

impl Checker for AuthChecker {
    fn see(&mut self, at: Instant, seen: &Observation<'_>, truth: &Truth) -> Verdict {
        match *seen {
            Observation::Started { member, view, .. } => {
                self.used.retain(|(of, _), _| *of != member);
                self.compared.remove(&member);
                self.compare(member, view, truth)
            }
            Observation::Published { member, view, .. } => self.compare(member, view, truth),
            Observation::Invoked { op, client, member, .. } => {
                self.uses(at, member, &truth.user_of(client), Some(op));
                Ok(())
            }
            Observation::Replied { op, result, .. } => self.replied(op, result, truth),
            Observation::StreamOpened { stream, client, member } => {
                let (who, asked) = (truth.user_of(client), VecDeque::new());
                self.streams.insert(stream, UserStream { who, member, asked });
                Ok(())
            }
            Observation::WatchRequested { stream, request } => {
                self.asks(at, stream, request, truth);
                Ok(())
            }
            Observation::Watched { stream, response } if response.created => self.created(stream, response, truth),
            Observation::StreamClosed { stream } => {
                self.streams.remove(&stream);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The moments between a request and its answer.
fn window(op: &Op, truth: &Truth) -> Moments {
    let is_agreed = is_agreed(&op.call);
    let life = truth.member(op.member).map_or(0, |facts| facts.life);
    let first = if life == op.life { op.applied } else { 0 };
    Moments {
        first,
        judged: if is_agreed { op.committed } else { first },
        last: if is_agreed && !op.call.is_read() {
            truth.committed()
        } else {
            applied(op.member, truth)
        },
    }
}

fn applied(member: MemberId, truth: &Truth) -> u64 {
    truth.member(member).map_or(0, |facts| facts.applied)
}

impl AuthChecker {
    /// A checker of members whose simple tokens end after this time without use.
    pub(super) fn new(token_ttl: Duration) -> Self {
        Self {
            token_ttl,
            ..Self::default()
        }
    }

    /// A member's users, roles and permissions are the model's, also after a restart.
    fn compare(&mut self, member: MemberId, view: &View, truth: &Truth) -> Verdict {
        let (found, known) = (&view.auth, truth.model().auth_at(view.applied_index));
        let numbers = (found.is_enabled(), found.revision());
        ensure(numbers == (known.enabled, known.revision), "C46", || {
            format!("member {member}: auth is {numbers:?} and should be {known:?}")
        })?;
        if self.compared.insert(member, known.revision) == Some(known.revision) {
            return Ok(());
        }
        let users = found.user_names().iter().eq(known.users.keys())
            && known.users.iter().all(|(name, user)| {
                let roles = found.roles_of(name);
                roles.is_ok_and(|roles| roles.iter().eq(&user.roles))
            });
        let roles = found.role_names().iter().eq(known.roles.keys())
            && known
                .roles
                .iter()
                .all(|(name, role)| found.permissions_of(name).as_ref() == Ok(role));
        ensure(users && roles, "C46", || {
            format!("member {member}: users and roles are {found:?} and should be {known:?}")
        })
    }

    fn replied(&mut self, id: OpId, result: Result<&Answer, &Refusal>, truth: &Truth) -> Verdict {
        let Some(op) = truth.op(id) else { return Ok(()) };
        let is_overdue = self.overdue.remove(&id);
        let window = window(op, truth);
        match result {
            Ok(answer) => {
                for key in keys_of(answer) {
                    let reads = |caller: Result<&RequestHeader, Error>, index| {
                        caller.is_ok_and(|caller| truth.model().auth_at(index).reads(caller, key).is_ok())
                    };
                    ensure(self.explains(&op.who, window, false, reads, truth), "C45", || {
                        format!("{:?} sees key {key:?}, which it may not read: {answer:?}", op.who)
                    })?;
                }
                self.authenticated(&op.call, answer, truth)?;
            }
            Err(refusal) => {
                let is_known = Error::ALL.iter().any(|error| error.message() == refusal.message);
                ensure(is_known, "C45", || {
                    format!("an error has a text of its own: {refusal:?}")
                })?;
            }
        }
        let verdict = result.map(drop).map_err(Clone::clone);
        let is_other = verdict.as_ref().is_err_and(|refusal| !is_of_auth(refusal));
        if is_other || matches!(op.call, Call::Authenticate(_) | Call::Lock(_)) {
            return Ok(());
        }
        let is_on = |index| truth.model().auth_at(index).enabled;
        let mut moments = truth.model().auth_moments(window.first, window.last);
        if verdict == Err(refusal(Error::InvalidAuthToken)) {
            truth.note(Point::TokenRefused);
            // A member may have forgotten a simple token.
            return ensure(moments.any(is_on), "C46", || {
                format!("{:?} is {verdict:?}, and auth is off", op.call)
            });
        }
        if moments.all(is_on) {
            truth.note(if verdict.is_ok() {
                Point::Permitted
            } else {
                Point::Denied
            });
            ensure(!(is_overdue && verdict.is_ok()), "C46", || {
                format!("{:?} is accepted long after its last use", op.who)
            })?;
            if let (Some(token), Ok(())) = (&op.who.token, &verdict) {
                self.used.entry((op.member, token.clone())).or_default().accepted = true;
            }
        }
        let permits = |caller: Result<&RequestHeader, Error>, index| match caller {
            Ok(caller) => truth.model().permits(caller, &op.call, index) == verdict,
            Err(error) => verdict == Err(refusal(error)),
        };
        ensure(
            self.explains(&op.who, window, is_about_leases(&op.call), permits, truth),
            "C46",
            || {
                let auth = truth.model().auth_at(window.last);
                format!(
                    "{:?} of {:?} is answered {verdict:?} in {window:?}; now {auth:?}",
                    op.call, op.who
                )
            },
        )
    }

    /// A client uses a token at a member.
    fn uses(&mut self, at: Instant, member: MemberId, who: &Credentials, op: Option<OpId>) {
        let Some(token) = &who.token else { return };
        let used = self.used.entry((member, token.clone())).or_default();
        let idle = at.saturating_since(used.at);
        used.at = at;
        if used.accepted && idle > self.token_ttl * 2 + IN_FLIGHT {
            self.overdue.extend(op);
        }
    }

    /// A client asks for a watch.
    fn asks(&mut self, at: Instant, stream: StreamId, request: &WatchRequest, truth: &Truth) {
        if let Some(RequestUnion::CreateRequest(create)) = &request.request_union
            && let Some(stream) = self.streams.get_mut(&stream)
        {
            stream.asked.push_back((create.clone(), applied(stream.member, truth)));
            let (member, who) = (stream.member, stream.who.clone());
            self.uses(at, member, &who, None);
        }
    }

    /// A token is that of the entry that gave it out.
    fn authenticated(&mut self, call: &Call, answer: &Answer, truth: &Truth) -> Verdict {
        let (Call::Authenticate(request), Answer::Authenticate(answer)) = (call, answer) else {
            return Ok(());
        };
        if signed(&answer.token).is_some() {
            return Ok(());
        }
        let entry = index_of(&answer.token).and_then(|index| truth.entry(index));
        let is_its = entry.is_some_and(|known| match &known.asked {
            Asked::Request(asked) => asked
                .authenticate
                .as_ref()
                .is_some_and(|asked| asked.name == request.name),
            Asked::Change(_) | Asked::Nothing => false,
        });
        self.tokens.insert(answer.token.clone(), request.name.clone());
        ensure(is_its, "C46", || {
            format!("no entry gave out {answer:?} for {request:?}")
        })
    }

    /// A watch was made, or refused.
    fn created(&mut self, stream: StreamId, response: &WatchResponse, truth: &Truth) -> Verdict {
        let Some(stream) = self.streams.get_mut(&stream) else {
            return Ok(());
        };
        let Some((request, at)) = stream.asked.pop_front() else {
            return Ok(());
        };
        let is_denied = response.cancel_reason.starts_with("rpc error: code = ");
        let is_forgotten = response.cancel_reason.ends_with(Error::InvalidAuthToken.message());
        if response.canceled && !is_denied || is_forgotten && truth.model().auth_at(at).enabled {
            return Ok(());
        }
        let call = Call::Range(RangeRequest {
            key: match &request.key[..] {
                [] => Bytes::from_static(&[0]),
                _ => request.key.clone(),
            },
            range_end: request.range_end.clone(),
            ..RangeRequest::default()
        });
        let (who, window) = (stream.who.clone(), Moments::moment(at));
        let permits = |caller: Result<&RequestHeader, Error>, index| {
            caller.is_ok_and(|caller| truth.model().permits(caller, &call, index).is_ok()) != is_denied
        };
        ensure(self.explains(&who, window, false, permits, truth), "C45", || {
            format!("{who:?} asks for {request:?} and gets {response:?}")
        })
    }

    /// Whether there are two moments that explain an observation: at the first the user is identified, at the second
    /// the request is judged.
    fn explains(
        &self,
        who: &Credentials,
        window: Moments,
        all_moments: bool,
        judge: impl Fn(Result<&RequestHeader, Error>, u64) -> bool,
        truth: &Truth,
    ) -> bool {
        let model = truth.model();
        let Moments { first, judged, last } = window;
        let cut = judged.max(last.saturating_sub(TRIED_MAX));
        // A member may have waited until it knew the token.
        let given = who.token.as_deref().and_then(index_of);
        let given = given.filter(|given| (first + 1..=last).contains(given));
        let mut asked = model.auth_moments(first, last).chain(given).rev();
        let found = asked.any(|asked| {
            let from = asked.max(judged);
            let fits = |index: u64| match self.caller(who, asked, truth) {
                Ok(caller) => judge(Ok(&caller), index),
                Err(error) => judge(Err(error), index),
            };
            if all_moments {
                (from.max(cut)..=last).rev().any(fits)
            } else {
                model.auth_moments(from, last).rev().any(fits)
            }
        });
        found || all_moments && cut > judged
    }

    /// The header of a client's request, made at an index.
    fn caller(&self, who: &Credentials, index: u64, truth: &Truth) -> Result<RequestHeader, Error> {
        let auth = truth.model().auth_at(index);
        let of = |username: &str| RequestHeader {
            username: username.to_owned(),
            auth_revision: auth.revision,
            ..RequestHeader::default()
        };
        match (&who.token, &who.common_name) {
            _ if !auth.enabled => Ok(RequestHeader::default()),
            (None, None) => Ok(RequestHeader::default()),
            (None, Some(name)) => Ok(of(name)),
            (Some(token), _) => {
                if let Some(caller) = signed(token) {
                    return Ok(caller);
                }
                let user = self.tokens.get(&token[..]).ok_or(Error::InvalidAuthToken)?;
                let given = index_of(token).unwrap_or(0);
                let since = auth.users.get(user).map_or(u64::MAX, |user| user.tokens_from);
                let is_good = (auth.tokens_from.max(since) + 1..=index).contains(&given);
                is_good.then(|| of(user)).ok_or(Error::InvalidAuthToken)
            }
        }
    }
}

/// The longest time for which a request may be on its way.
const IN_FLIGHT: Duration = Duration::from_secs(30);

/// The index of the entry that gave out a simple token.
fn index_of(token: &str) -> Option<u64> {
    token.split_once('.')?.1.parse().ok()
}

fn refusal(error: Error) -> Refusal {
    Refusal {
        code: i32::from(error.code().number()),
        message: error.message().to_owned(),
    }
}

/// Whether an error is about a user, not about its request.
fn is_of_auth(refusal: &Refusal) -> bool {
    let all = [
        Error::AuthOldRevision,
        Error::InvalidAuthToken,
        Error::PermissionDenied,
        Error::UserEmpty,
    ];
    all.map(Error::message).contains(&&refusal.message[..])
}

/// Whether a call is judged by what all members agree on: by the log, or by a member that is up to date.
fn is_agreed(call: &Call) -> bool {
    match call {
        Call::MemberList(request) => request.linearizable,
        Call::Range(request) => !request.serializable,
        Call::Txn(request) => !call.is_read() || !super::reads::is_serializable(request),
        Call::Auth(_) | Call::DeleteRange(_) | Call::LeaseRevoke(_) | Call::Put(_) => true,
        _ => false,
    }
}

/// Whether the keys of leases decide about a call.
fn is_about_leases(call: &Call) -> bool {
    match call {
        Call::LeaseKeepAlive { .. } | Call::LeaseLeases | Call::LeaseRevoke(_) | Call::LeaseTimeToLive(_) => true,
        Call::Put(put) => put.lease != 0,
        Call::Txn(_) => !call.is_read(),
        _ => false,
    }
}

/// The keys that an answer shows.
fn keys_of(answer: &Answer) -> Vec<&Bytes> {
    fn of_txn<'a>(txn: &'a TxnResponse, pairs: &mut Vec<&'a KeyValue>) {
        for op in &txn.responses {
            match &op.response {
                Some(Response::ResponseDeleteRange(response)) => pairs.extend(&response.prev_kvs),
                Some(Response::ResponsePut(response)) => pairs.extend(&response.prev_kv),
                Some(Response::ResponseRange(response)) => pairs.extend(&response.kvs),
                Some(Response::ResponseTxn(nested)) => of_txn(nested, pairs),
                None => {}
            }
        }
    }
    let mut pairs = Vec::new();
    match answer {
        Answer::DeleteRange(response) => pairs.extend(&response.prev_kvs),
        Answer::LeaseTimeToLive(response) => return response.keys.iter().collect(),
        Answer::Put(response) => pairs.extend(&response.prev_kv),
        Answer::Range(response) => pairs.extend(&response.kvs),
        Answer::Txn(response) => of_txn(response, &mut pairs),
        _ => {}
    }
    pairs.into_iter().map(|pair| &pair.key).collect()
}
