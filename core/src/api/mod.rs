//! The front door: the calls of clients and their answers, as pure functions.
//!
//! A codec (gRPC, the simulator's clients) turns the bytes of its client into a [`Call`], and an [`Answer`] into bytes
//! for its client. In between it follows [`Step`]s: [`Server::begin`] returns the first step of a call, and
//! [`Server::finish`] the next one once the node has answered. Every rule about a request is in these functions, in
//! [`store::check`](crate::store::check), which they call, or in the store if it depends on earlier entries. Codecs
//! have no rules.
//!
//! Who may make a call is decided in [`Server::begin`], which every call passes ([`access`]).
//!
//! - [`method`] is the table of methods, with their requests;
//! - [`kv`], [`lease`], [`cluster`], [`maintenance`], [`auth`], [`health`] have one function for each method of a
//!   service; [`downgrade`] has one method;
//! - [`read`] carries out reads of rows: plan, fetch, answer;
//! - [`recipe`] carries out calls that consist of other calls: those of [`lock`] and [`election`];
//! - [`backup`] makes the answer to `Snapshot`, which is a stream;
//! - [`peers`] has the requests that members send each other beside raft's messages;
//! - [`answer`] is the closed list of answers.

mod access;
mod answer;
mod auth;
mod backup;
mod cluster;
mod downgrade;
mod election;
mod health;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod method;
mod peers;
mod read;
mod recipe;
#[cfg(test)]
mod tests;

pub use answer::Answer;
pub use auth::{Login, PasswordResult, PasswordWork};
pub use backup::Backup;
pub use election::Observer;
pub use maintenance::{Computation, in_use_bytes};
pub use method::{Call, Kind, Method, SERVICES};
pub use peers::{PeerAnswer, PeerCall, PeerStep, forward, forwarded, hash_answer, hash_request, hashed, member_hash};
pub use read::{Fetch, Read};
pub use recipe::{Recipe, RecipeStep, relayed};

use std::sync::Arc;
use std::time::Duration;

use crate::auth::AuthChange;
use crate::config::Config;
use crate::error::Error;
use crate::id::{ClusterId, MemberId};
use crate::member::Status;
use crate::mvcc::HashKv;
use crate::node::{Request, Response};
use crate::proto::etcdserverpb::{RangeRequest, RequestHeader, ResponseHeader};
use crate::store::{Response as Applied, View, check};

/// The member's published state and settings, from which a call is answered.
#[derive(Clone, Copy)]
pub struct Server<'a> {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// The applied state.
    pub view: &'a View,
    /// The state of consensus that belongs to this view.
    pub status: &'a Status,
    /// The settings that the rules depend on.
    pub limits: Limits,
    /// The facts that only the host has.
    pub facts: &'a dyn Facts,
    /// What the client of the call has shown.
    pub credentials: &'a Credentials,
}

/// What a client has shown to say which user it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Credentials {
    /// The token in the metadata of its call: `token`, or else `authorization`.
    pub token: Option<Arc<str>>,
    /// The common name of its verified certificate, which counts if it sends no token.
    pub common_name: Option<Arc<str>>,
}

impl Credentials {
    /// No token and no certificate.
    pub const NONE: Self = Self {
        token: None,
        common_name: None,
    };
}

/// The settings that the rules depend on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest number of operations at one level of a transaction (`--max-txn-ops`).
    pub max_txn_ops: usize,
    /// Bytes that may be stored (`--quota-backend-bytes`); `None` is no limit.
    pub quota_bytes: Option<u64>,
    /// How long a call may wait for the cluster.
    pub request_timeout: Duration,
}

impl Limits {
    /// The limits that a configuration sets.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            max_txn_ops: usize::try_from(config.max_txn_ops).unwrap_or(usize::MAX),
            quota_bytes: config.quota_backend_bytes,
            request_timeout: Duration::from_secs(5) + 2 * Duration::from_millis(config.election_ms),
        }
    }
}

/// Facts that only the host has; few calls need them.
pub trait Facts {
    /// The remembered hash of the compaction at exactly this revision.
    fn compact_hash(&self, revision: i64) -> Option<HashKv>;

    /// Bytes of the table's files; 0 if unknown.
    fn table_bytes(&self) -> i64;

    /// The wall clock, in seconds since 1970.
    fn unix_seconds(&self) -> u64;

    /// The header of requests with this token, if the token is valid. `revision` is the present auth revision; a signed
    /// token has its own.
    fn user_of(&self, token: &str, revision: u64) -> Option<RequestHeader>;

    /// A random prefix for a simple token; empty if this member gives out other tokens.
    fn token_prefix(&self) -> String;

    /// The token of a user that has authenticated at this auth revision, to whom an entry gave a simple token.
    ///
    /// # Errors
    /// If this member gives out no tokens.
    fn sign(&self, user: &str, revision: u64, simple: &str) -> Result<String, Error>;
}

/// The next step of a call.
#[derive(Debug)]
pub enum Step {
    /// Nothing: this is the answer.
    Answer(Answer),
    /// Ask the node, then go on with [`Server::finish`].
    Ask {
        /// The request.
        request: Request,
        /// Applying it may take so long that such requests are proposed one at a time, with others in between.
        is_heavy: bool,
        /// The argument for [`Server::finish`].
        then: Then,
    },
    /// Send the messages that [`Backup::step`] makes.
    Backup(Box<Backup>),
    /// Call [`Computation::step`] until it is complete, then answer with [`Computation::answer`].
    Compute(Computation),
    /// Defragment the table, then answer with [`Answer::Defragment`].
    Defragment,
    /// Read rows: see [`Read`].
    Fetch(Read),
    /// Hash or compare a password, which takes long, then go on with [`Server::worked`].
    Password {
        /// The work.
        work: PasswordWork,
        /// The argument for [`Server::worked`].
        then: PasswordThen,
    },
    /// Send the leader the request that this member's node refused, then go on with [`Server::finish`].
    Forward {
        /// The request.
        request: Request,
        /// The argument for [`Server::finish`].
        then: Then,
    },
    /// Send the messages of an [`Observer`], for which the host makes calls and watches as for a [`Recipe`].
    Observe(Box<Observer>),
    /// Make the calls and watches of a [`Recipe`], which has the answer.
    Recipe(Box<dyn Recipe>),
    /// Refuse: this version has the checks of the method but not the method.
    Unserved,
}

/// The part of a call that is kept while its password is hashed or compared.
#[derive(Clone, Debug)]
pub enum PasswordThen {
    /// A user authenticates.
    Authenticate(Login),
    /// A user gets a password.
    Change(Call),
}

/// The part of a call that is kept until the node has answered.
#[derive(Clone, Debug)]
pub enum Then {
    /// The node's response is the whole answer.
    Answer,
    /// A user authenticates. Its password was right.
    Authenticate(Login),
    /// A change of the members.
    Change(Call),
    /// The begin of a downgrade, or its cancellation.
    Downgrade,
    /// The read of a health check.
    Probe(RangeRequest),
    /// A call that waits until this member is known to be up to date.
    Read(Call),
    /// A renewal of a lease.
    Renew {
        /// The lease.
        id: i64,
        /// The header of the answer.
        header: ResponseHeader,
    },
    /// A question about a lease.
    TimeToLive {
        /// The lease.
        id: i64,
        /// Whether the request asks for its keys.
        keys: bool,
        /// The header of the answer.
        header: ResponseHeader,
    },
}

impl Step {
    fn ask(request: Request, then: Then) -> Self {
        Self::Ask {
            request,
            is_heavy: false,
            then,
        }
    }

    fn recipe(recipe: impl Recipe + 'static) -> Self {
        Self::Recipe(Box::new(recipe))
    }

    /// The step as a user's: what is proposed is the user's request.
    fn by(self, caller: RequestHeader) -> Self {
        match self {
            Self::Ask {
                request,
                is_heavy,
                then,
            } if !caller.username.is_empty() => Self::Ask {
                request: Request::By {
                    caller,
                    request: Box::new(request),
                },
                is_heavy,
                then,
            },
            step => step,
        }
    }
}

impl Then {
    /// The request for the leader, if only the leader can answer.
    fn for_leader(&self) -> Option<Request> {
        match self {
            Self::Renew { id, .. } => Some(Request::LeaseRenew { id: *id }),
            Self::TimeToLive { id, keys, .. } => Some(Request::LeaseTimeToLive { id: *id, keys: *keys }),
            Self::Change(Call::MemberPromote(request)) => Some(Request::MemberPromote {
                id: MemberId(request.id),
            }),
            Self::Answer
            | Self::Authenticate(_)
            | Self::Change(_)
            | Self::Downgrade
            | Self::Probe(_)
            | Self::Read(_) => None,
        }
    }
}

impl Server<'_> {
    /// Begins a call. Every call passes here first, and is refused here if its user may not make it.
    ///
    /// # Errors
    /// The errors that follow from the request alone or from the published state.
    pub fn begin(&self, call: Call) -> Result<Step, Error> {
        self.admit(&call)?;
        self.check(&call)?;
        match self.authorize(&call) {
            Ok(caller) => Ok(self.start(call)?.by(caller)),
            // The permission may have been granted by an entry that this member has not applied.
            Err(_) if self.is_unsure(&call) => Ok(confirmed(call)),
            Err(error) => Err(error),
        }
    }

    /// Checks a request by itself.
    fn check(&self, call: &Call) -> Result<(), Error> {
        match call {
            Call::DeleteRange(request) => check::delete_range(request),
            Call::Put(request) => check::put(request),
            Call::Range(request) => check::range(request),
            Call::Txn(request) => check::txn(request, self.limits.max_txn_ops),
            _ => Ok(()),
        }
    }

    /// Checks that this member may serve a stream whose requests come later.
    ///
    /// # Errors
    /// [`Error::NotSupportedForLearner`].
    pub fn admit_stream(&self) -> Result<(), Error> {
        if self.status.is_learner {
            return Err(Error::NotSupportedForLearner);
        }
        Ok(())
    }

    /// A learner serves only calls that need no vote and may be answered from old state.
    fn admit(&self, call: &Call) -> Result<(), Error> {
        let may_be_old = match call {
            Call::Range(request) => request.serializable,
            Call::Snapshot(_) | Call::Status(_) => true,
            _ => false,
        };
        if may_be_old { Ok(()) } else { self.admit_stream() }
    }

    /// One function for each method.
    fn start(&self, call: Call) -> Result<Step, Error> {
        match call {
            Call::Alarm(request) => Ok(maintenance::alarm(request)),
            Call::AuthDisable(_) => auth::change(AuthChange::Disable),
            Call::AuthEnable(_) => auth::change(AuthChange::Enable),
            Call::AuthStatus(_)
            | Call::Authenticate(_)
            | Call::RoleGet(_)
            | Call::RoleList(_)
            | Call::UserGet(_)
            | Call::UserList(_) => Ok(confirmed(call)),
            Call::Campaign(request) => Ok(Step::recipe(election::Campaigning::new(request))),
            Call::Compact(request) => Ok(kv::compact(request)),
            Call::Defragment(_) => Ok(Step::Defragment),
            Call::DeleteRange(request) => Ok(kv::delete_range(self, request)),
            Call::Downgrade(request) => downgrade::begin(request),
            Call::Hash(_) => maintenance::hash(self),
            Call::HashKv(request) => maintenance::hash_kv(self, request),
            Call::HealthCheck(request) => health::check(&request),
            Call::HealthWatch(request) => Ok(health::watch(&request)),
            Call::Leader(request) => Ok(Step::recipe(election::Asking(request))),
            Call::LeaseGrant(request) => Ok(lease::grant(request)),
            Call::LeaseKeepAlive(request) => Ok(lease::keep_alive(self, request)),
            Call::LeaseLeases(_) => Ok(lease::leases()),
            Call::LeaseRevoke(request) => Ok(lease::revoke(self, request)),
            Call::LeaseTimeToLive(request) => Ok(lease::time_to_live(self, request)),
            Call::Lock(request) => Ok(Step::recipe(lock::Locking::new(&request))),
            Call::MemberAdd(request) => cluster::add(self, request),
            Call::MemberList(request) if request.linearizable => Ok(confirmed(call)),
            Call::MemberList(_) => self.read(call),
            Call::MemberPromote(request) => Ok(cluster::promote(request)),
            Call::MemberRemove(request) => Ok(cluster::remove(request)),
            Call::MemberUpdate(request) => Ok(cluster::update(request)),
            Call::MoveLeader(request) => maintenance::move_leader(self, request),
            Call::Observe(request) => Ok(Step::Observe(Box::new(Observer::new(&request)))),
            Call::Proclaim(request) => election::Leading::proclaim(request).map(Step::recipe),
            Call::Put(request) => Ok(kv::put(request)),
            Call::Range(request) => Ok(kv::range(request)),
            Call::Resign(request) => election::Leading::resign(request).map(Step::recipe),
            Call::RoleAdd(request) => auth::change(AuthChange::RoleAdd(request)),
            Call::RoleDelete(request) => auth::change(AuthChange::RoleDelete(request)),
            Call::RoleGrantPermission(request) => auth::change(AuthChange::RoleGrantPermission(request)),
            Call::RoleRevokePermission(request) => auth::change(AuthChange::RoleRevokePermission(request)),
            Call::Snapshot(_) => Ok(Step::Backup(Box::new(Backup::new(self.view)))),
            Call::Status(_) => Ok(maintenance::status(self)),
            Call::Txn(request) => kv::txn(self, request),
            Call::Unlock(request) => Ok(Step::recipe(lock::Unlocking(request))),
            Call::UserAdd(request) => auth::user_add(request),
            Call::UserChangePassword(request) => auth::user_change_password(request),
            Call::UserDelete(request) => auth::change(AuthChange::UserDelete(request)),
            Call::UserGrantRole(request) => auth::change(AuthChange::UserGrantRole(request)),
            Call::UserRevokeRole(request) => auth::change(AuthChange::UserRevokeRole(request)),
        }
    }

    /// The read of a health check. It is not a call: learners serve it, too.
    #[must_use]
    pub fn probe(serializable: bool) -> Step {
        health::probe(serializable)
    }

    /// Goes on with the response of this member's node, or of the leader's.
    ///
    /// # Errors
    /// The node's error, or one that follows from the view of the answer.
    ///
    /// # Panics
    /// If the response belongs to another request.
    pub fn finish(&self, then: Then, result: Result<Response, Error>) -> Result<Step, Error> {
        if result == Err(Error::NotLeader)
            && let Some(request) = then.for_leader()
        {
            return Ok(Step::Forward { request, then });
        }
        let answer = match (result?, then) {
            (Response::Read, Then::Probe(request)) => return Ok(Step::Fetch(Read::Probe(request))),
            (Response::Read, Then::Read(call)) => return self.read(call),
            (Response::Applied(Applied::Empty), Then::Downgrade) => downgrade::done(self),
            (Response::Applied(Applied::Authenticated(response)), Then::Authenticate(login)) => {
                return auth::authenticated(self, &response, login);
            }
            (Response::Applied(applied), then) => self.applied(applied, &then),
            (Response::Leases { leases }, _) => lease::list(self, leases),
            (Response::Moved, _) => maintenance::moved(self),
            (Response::Renewed { ttl }, Then::Renew { id, header }) => lease::renewed(header, id, ttl),
            (Response::TimeToLive { ttl, granted_ttl, keys }, Then::TimeToLive { id, header, .. }) => {
                self.authorize_keys(&keys)?;
                Answer::LeaseKeys {
                    header,
                    id,
                    ttl,
                    granted_ttl,
                    keys,
                }
            }
            (response, then) => unreachable!("{response:?} is no answer for {then:?}"),
        };
        Ok(Step::Answer(answer))
    }

    /// Goes on once this member is as up to date as the call demands.
    fn read(&self, call: Call) -> Result<Step, Error> {
        match call {
            Call::Range(request) => return Ok(Step::Fetch(Read::Range(request))),
            Call::Txn(request) if check::is_read_only(&request) => return Ok(Step::Fetch(Read::Txn(request))),
            _ => {}
        }
        let caller = self.authorize(&call)?;
        match call {
            Call::Authenticate(request) => auth::authenticate(self, request.name, request.password),
            Call::Downgrade(request) => downgrade::confirmed(self, &request),
            Call::MemberList(_) => Ok(Step::Answer(cluster::list(self))),
            Call::AuthStatus(_) | Call::RoleGet(_) | Call::RoleList(_) | Call::UserGet(_) | Call::UserList(_) => {
                auth::answer(self, &call).map(Step::Answer)
            }
            // It was not permitted before this member was up to date, and now it is.
            call => Ok(self.start(call)?.by(caller)),
        }
    }

    /// A header of the present state.
    fn header(&self) -> ResponseHeader {
        ResponseHeader {
            revision: self.view.kv.revision(),
            ..self.header_without_revision()
        }
    }

    /// A header without a revision, as the cluster service sends it.
    fn header_without_revision(&self) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster.0,
            member_id: self.status.member.0,
            raft_term: self.status.term,
            revision: 0,
        }
    }

    /// Adds this member's fields to a header; the revision is the store's unless the answer has its own.
    fn complete(&self, header: &mut Option<ResponseHeader>) {
        let own = header.as_ref().map_or(0, |header| header.revision);
        let mut complete = self.header();
        if own != 0 {
            complete.revision = own;
        }
        *header = Some(complete);
    }
}

/// A call that is answered once this member has applied everything acknowledged before the call.
fn confirmed(call: Call) -> Step {
    Step::ask(Request::Read, Then::Read(call))
}
