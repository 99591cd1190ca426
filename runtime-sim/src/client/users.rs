//! Users: who each client is, and a client that manages them.
//!
//! In a run with users, some clients are always root, by a certificate. The others change between users, and between a
//! certificate, tokens new and old, wrong tokens, and none.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use quoin_core::api::Credentials;
use quoin_core::proto::authpb::Permission;
use quoin_core::proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest,
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGrantRoleRequest,
    AuthUserRevokeRoleRequest, AuthenticateRequest,
};
use quoin_core::random::Prng;
use quoin_core::time::Instant;

use super::keys::ZERO;
use super::line::{Desk, Line, Rota};
use super::plan::Plan;
use super::{Client, earliest};
use crate::choose::one_of;
use crate::cluster::ports::{Act, OPERATOR, Returned};
use crate::observe::OpId;
use quoin_model::call::{AuthCall, Call};

/// The user with all permissions.
const ROOT: &str = "root";
const USERS: [&str; 4] = [ROOT, "ann", "bob", "cid"];
const ROLES: [&str; 3] = ["one", "some", "all"];
const PASSWORDS: [&str; 3] = ["red", "green", "blue"];

/// Tokens that are kept.
const TOKENS: usize = 8;

/// How long a request of the manager may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The hash of a password, in place of bcrypt's.
pub(crate) fn password_hash(password: &str) -> String {
    format!("hash of {password}")
}

/// A user by a certificate.
pub(crate) fn by_certificate(name: &str) -> Credentials {
    Credentials {
        token: None,
        common_name: Some(name.into()),
    }
}

/// A user by a token.
pub(crate) fn by_token(token: &str) -> Credentials {
    Credentials {
        token: Some(token.into()),
        common_name: None,
    }
}

/// The certificate of root.
pub(super) fn root() -> Credentials {
    by_certificate(ROOT)
}

/// Credentials the clients are.
#[derive(Debug)]
pub(super) struct Faces {
    prng: Prng,
    /// The newest tokens.
    tokens: VecDeque<String>,
    /// The user of each client by a certificate, if it does not stay root.
    certificates: Vec<Option<&'static str>>,
    shown: Vec<Credentials>,
    has_introduced: bool,
    is_quiet: bool,
}

impl Faces {
    /// `clients` is how many there are, of which the first `callers` change between users.
    pub(super) fn new(mut prng: Prng, clients: usize, callers: usize) -> Self {
        let certificates =
            (0..clients).map(|at| (at < callers && prng.below(4) > 0).then(|| one_of(&mut prng, &USERS)));
        Self {
            certificates: certificates.collect(),
            shown: vec![Credentials::NONE; clients],
            prng,
            tokens: VecDeque::new(),
            has_introduced: false,
            is_quiet: false,
        }
    }

    /// Operators are root, too.
    pub(super) fn introduce(&mut self) -> Option<Act> {
        let client = OPERATOR;
        let who = root();
        (!std::mem::replace(&mut self.has_introduced, true)).then_some(Act::Identify { client, who })
    }

    /// A user has authenticated.
    pub(super) fn learn(&mut self, token: &str) {
        self.tokens.push_front(token.to_owned());
        self.tokens.truncate(TOKENS);
    }

    /// From here on every client is root.
    pub(super) const fn quiet(&mut self) {
        self.is_quiet = true;
    }

    /// The user of a client's next requests, if it is another one.
    pub(super) fn next(&mut self, client: usize) -> Option<Credentials> {
        let who = match self.certificates[client] {
            Some(user) if !self.is_quiet => self.draw(user),
            Some(_) | None => root(),
        };
        let is_new = self.shown[client] != who;
        self.shown[client].clone_from(&who);
        is_new.then_some(who)
    }

    fn draw(&mut self, user: &str) -> Credentials {
        let newest = self.tokens.front().cloned();
        match self.prng.below(20) {
            0 => Credentials::NONE,
            1 => by_token("wrong"),
            2..5 => {
                let at = self.prng.below(self.tokens.len() as u64);
                let old = self.tokens.get(usize::try_from(at).unwrap_or(0));
                old.map_or(Credentials::NONE, |token| by_token(token))
            }
            5..12 => newest.map_or_else(root, |token| by_token(&token)),
            _ => by_certificate(user),
        }
    }
}

/// The client that adds users and roles, enables auth, and then changes all of it again and again.
#[derive(Debug)]
pub(super) struct Manager {
    prng: Prng,
    rota: Rota,
    line: Line,
    /// The first calls.
    first: VecDeque<Call>,
    next_at: Instant,
    is_quiet: bool,
}

impl Manager {
    pub(super) fn new(mut prng: Prng, plan: &Plan) -> Self {
        let mut first: VecDeque<Call> = USERS.iter().map(|user| Call::Auth(add_user(user, "red"))).collect();
        first.extend(ROLES.iter().map(|role| Call::Auth(add_role(role))));
        first.push_back(Call::Auth(grant_role(ROOT, ROOT)));
        for (user, role) in USERS.iter().skip(1).zip(ROLES) {
            first.push_back(Call::Auth(grant_role(user, role)));
            let (key, range_end) = range_of(role, plan, &mut prng);
            first.push_back(Call::Auth(grant(role, key, range_end, 2)));
        }
        first.push_back(Call::Auth(AuthCall::Enable));
        Self {
            rota: Rota::new(&mut prng, plan.round_robin),
            line: Line::default(),
            first,
            next_at: Instant::ZERO + Duration::from_secs(1),
            prng,
            is_quiet: false,
        }
    }

    fn call(&mut self, plan: &Plan) -> Call {
        if let Some(call) = self.first.pop_front() {
            return call;
        }
        let prng = &mut self.prng;
        let (user, role, password) = (one_of(prng, &USERS), one_of(prng, &ROLES), one_of(prng, &PASSWORDS));
        let change = match prng.below(40) {
            0 => AuthCall::Disable,
            1..4 => AuthCall::Enable,
            4 => AuthCall::UserDelete(AuthUserDeleteRequest { name: user.to_owned() }),
            5 | 6 => add_user(user, password),
            7 => AuthCall::RoleDelete(AuthRoleDeleteRequest { role: role.to_owned() }),
            8 | 9 => add_role(role),
            10 => AuthCall::UserChangePassword(AuthUserChangePasswordRequest {
                name: user.to_owned(),
                password: password.to_owned(),
                ..AuthUserChangePasswordRequest::default()
            }),
            11..15 => grant_role(user, one_of(prng, &["one", "some", "all", "all", ROOT])),
            15..18 => AuthCall::UserRevokeRole(AuthUserRevokeRoleRequest {
                name: user.to_owned(),
                role: role.to_owned(),
            }),
            18..22 => {
                let (key, range_end) = range_of(role, plan, prng);
                grant(role, key, range_end, i32::try_from(prng.below(3)).unwrap_or(2))
            }
            22..26 => {
                let (key, range_end) = range_of(role, plan, prng);
                AuthCall::RoleRevokePermission(AuthRoleRevokePermissionRequest {
                    role: role.to_owned(),
                    key,
                    range_end,
                })
            }
            _ => {
                return Call::Authenticate(AuthenticateRequest {
                    name: user.to_owned(),
                    password: one_of(prng, &["red", "red", password]).to_owned(),
                });
            }
        };
        Call::Auth(change)
    }
}

impl Client for Manager {
    fn wakes_at(&self) -> Option<Instant> {
        let asks = (self.line.is_free() && !self.is_quiet).then_some(self.next_at);
        earliest([asks, self.line.wakes_at()])
    }

    fn wake(&mut self, desk: &mut Desk<'_>) {
        // It goes on whatever the outcome.
        let _outcome = self.line.wake(desk, &mut self.rota);
        if self.line.is_free() && self.next_at <= desk.now && !self.is_quiet {
            let call = self.call(desk.plan);
            self.line.ask(desk, &mut self.rota, call, TIMEOUT);
            let mean_ms = if self.first.is_empty() { 600 } else { 20 };
            self.next_at = desk.now + Duration::from_millis(self.prng.below(2 * mean_ms));
        }
    }

    fn returned(&mut self, desk: &mut Desk<'_>, op: OpId, result: Returned) {
        if self.line.carries(op) {
            let _outcome = self.line.returned(desk, &mut self.rota, result);
        }
    }

    fn quiet(&mut self) {
        self.is_quiet = true;
    }
}

/// The keys of a role, one of two for each.
fn range_of(role: &str, plan: &Plan, prng: &mut Prng) -> (Bytes, Bytes) {
    let keys = plan.keys.all();
    let key = keys[usize::try_from(prng.below(2)).unwrap_or(0)].clone();
    match role {
        "one" => (key, Bytes::new()),
        "some" => {
            let end = keys.iter().filter(|end| **end > key).min();
            (key.clone(), end.cloned().unwrap_or(ZERO))
        }
        _ => (ZERO, ZERO),
    }
}

fn add_user(name: &str, password: &str) -> AuthCall {
    AuthCall::UserAdd(AuthUserAddRequest {
        name: name.to_owned(),
        password: password.to_owned(),
        ..AuthUserAddRequest::default()
    })
}

fn add_role(name: &str) -> AuthCall {
    AuthCall::RoleAdd(AuthRoleAddRequest { name: name.to_owned() })
}

fn grant_role(user: &str, role: &str) -> AuthCall {
    AuthCall::UserGrantRole(AuthUserGrantRoleRequest {
        user: user.to_owned(),
        role: role.to_owned(),
    })
}

fn grant(role: &str, key: Bytes, range_end: Bytes, perm_type: i32) -> AuthCall {
    AuthCall::RoleGrantPermission(AuthRoleGrantPermissionRequest {
        name: role.to_owned(),
        perm: Some(Permission {
            perm_type,
            key,
            range_end,
        }),
    })
}
