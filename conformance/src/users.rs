//! Random users, roles, permissions and requests, on a real etcd and on ours: each request must have the same verdict, and
//! the same answer if it is permitted. Permissions are granted and revoked between the requests.
//!
//! Left out, because etcd 3.5.30 differs from later versions or from itself: ranges without keys, whose verdict depends on
//! the order of grants; watches with an open end, which 3.5.30 permits by their first key; `Status`, `Hash`, `HashKV`,
//! `Snapshot` and `Defragment`, whose errors later versions changed; more than [`MAX_PERMISSIONS`] permissions of a role,
//! which Go's sort may put into any order; the permissions of the role `root`, which are all of them since etcd 3.6.

mod requests;

use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::Bytes;
use prost::Message;
use quoin_core::proto::authpb::Permission;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{
    AlarmRequest, AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest,
    AuthRoleGetResponse, AuthRoleGrantPermissionRequest, AuthRoleListRequest, AuthRoleRevokePermissionRequest,
    AuthStatusRequest, AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest,
    AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserRevokeRoleRequest, AuthenticateRequest,
    AuthenticateResponse, LeaseGrantRequest, LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    MemberListRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use quoin_core::proto::v3electionpb::{LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest};
use quoin_core::proto::v3lockpb::{LockRequest, UnlockRequest};
use quoin_model::call::Refusal;
use tokio::runtime::Runtime;

use crate::diff::wire::Wire;
use crate::rng::Rng;
use crate::trouble::During as _;
use crate::{Kind, Launch, Server, Trouble};

/// The longest list of permissions that Go sorts in an order that is the same in all its versions.
pub const MAX_PERMISSIONS: usize = 12;

const USERS: [&str; 5] = ["root", "ann", "bob", "cid", "dot"];
const ROLES: [&str; 4] = ["r", "s", "t", "root"];
/// The roles whose permissions are granted, revoked and asked for.
const PLAIN_ROLES: [&str; 3] = ["r", "s", "t"];
const KEYS: [&str; 8] = ["a", "a/b", "b", "b\0", "c", "d", "e", "f"];
const LEASES: [i64; 3] = [1, 2, 3];
const MISSING_LEASE: i64 = 9;
const ROOT: usize = 0;

/// What was compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared {
    /// Requests that both permitted.
    pub permitted: usize,
    /// Requests that both refused.
    pub refused: usize,
}

/// A server, and the tokens of its users.
struct Served {
    server: Server,
    wire: Wire,
    tokens: BTreeMap<usize, String>,
}

/// The body of an answer without its header, or the refusal.
type Judged = Result<Bytes, Refusal>;

struct Beside {
    runtime: Runtime,
    sides: [Served; 2],
    rng: Rng,
    compared: Compared,
    /// The last requests, for a difference.
    said: Vec<String>,
}

/// Plays this many random steps on a real etcd and on ours.
///
/// # Errors
/// The first difference with the requests before it, or a server that cannot be reached.
pub fn compare(kind: Kind, seed: u64, steps: usize) -> Result<Compared, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .during("a runtime for the clients")?;
    let side = |kind: Kind| {
        let server = Launch::of(kind)?.flag("--bcrypt-cost=4").start()?;
        let wire = runtime.block_on(Wire::connect(server.address()))?;
        Ok::<Served, Trouble>(Served {
            server,
            wire,
            tokens: BTreeMap::new(),
        })
    };
    let sides = [side(Kind::Etcd)?, side(kind)?];
    let mut pair = Beside {
        runtime,
        sides,
        rng: Rng::new(seed),
        compared: Compared::default(),
        said: Vec::new(),
    };
    pair.begin()?;
    for step in 0..steps {
        let played = pair.step();
        played.map_err(|trouble| {
            let before = pair.said.iter().rev().take(12).rev().cloned().collect::<Vec<_>>();
            Trouble::new(format!(
                "seed {seed}, step {step}: {trouble}\nafter\n{}",
                before.join("\n")
            ))
        })?;
    }
    Ok(pair.compared)
}

impl Served {
    async fn ask(&self, user: Option<usize>, path: &str, request: &impl Message) -> Judged {
        let token = user.and_then(|user| self.tokens.get(&user));
        let header = token.map(|token| ("token", token.as_bytes()));
        let answer = self.wire.call_with(path, request, true, header).await?.only().await?;
        Ok(without_header(answer))
    }

    /// Whether a watch is made, or why not.
    async fn watch(&self, user: Option<usize>, request: &WatchRequest) -> Judged {
        let token = user.and_then(|user| self.tokens.get(&user));
        let header = token.map(|token| ("token", token.as_bytes()));
        let mut stream = self
            .wire
            .call_with("/etcdserverpb.Watch/Watch", request, false, header)
            .await?;
        let first = stream.next().await?.unwrap_or_default();
        let first = WatchResponse::decode(first).unwrap_or_default();
        Ok(format!("{} {} {}", first.created, first.canceled, first.cancel_reason).into())
    }

    async fn authenticate(&mut self, user: usize, request: &AuthenticateRequest) -> Judged {
        let path = "/etcdserverpb.Auth/Authenticate";
        let answer = self.wire.ask::<AuthenticateResponse>(path, request).await?;
        self.tokens.insert(user, answer.token);
        Ok(Bytes::new())
    }
}

/// An answer without field 1, its header.
fn without_header(answer: Bytes) -> Bytes {
    let mut rest = answer.clone();
    if rest.first() != Some(&(1 << 3 | 2)) {
        return answer;
    }
    let _tag = rest.split_to(1);
    let Ok(length) = prost::decode_length_delimiter(&mut rest) else {
        return answer;
    };
    rest.slice(length.min(rest.len())..)
}

impl Beside {
    /// Users and roles, and auth enabled.
    fn begin(&mut self) -> Result<(), Trouble> {
        for user in 0..USERS.len() {
            self.user_add(user, Some(ROOT))?;
        }
        for role in ROLES {
            self.role_add(role)?;
        }
        self.grant_role(ROOT, "root")?;
        for (user, role) in [(1, "r"), (2, "s"), (3, "t"), (3, "r")] {
            self.grant_role(user, role)?;
        }
        self.auth("AuthEnable", None, &AuthEnableRequest {})?;
        (0..USERS.len()).try_for_each(|user| self.authenticate(user, false))
    }

    fn step(&mut self) -> Result<(), Trouble> {
        match self.rng.below(100) {
            0..12 => self.manage(),
            12..16 => {
                let (user, is_wrong) = (self.user(), self.rng.once_in(5));
                self.authenticate(user, is_wrong)
            }
            16..24 => self.question(),
            24..32 => self.lease(),
            32..34 => self.recipe(),
            34..44 => self.watch(),
            _ => self.keys(),
        }
    }

    /// Root, or now and then another user, changes users, roles or permissions.
    fn manage(&mut self) -> Result<(), Trouble> {
        let by = if self.rng.once_in(6) { self.caller() } else { Some(ROOT) };
        let (user, role) = (self.user(), *self.rng.pick(&ROLES));
        match self.rng.below(24) {
            0 => self.user_add(user, by),
            1 => {
                let name = USERS[user].to_owned();
                self.auth("UserDelete", by, &AuthUserDeleteRequest { name })?;
                self.user_add(user, Some(ROOT))
            }
            2 => {
                let request = AuthUserChangePasswordRequest {
                    name: USERS[user].to_owned(),
                    password: password(user),
                    ..AuthUserChangePasswordRequest::default()
                };
                self.auth("UserChangePassword", by, &request)?;
                self.authenticate(ROOT, false)
            }
            3 => {
                let request = AuthRoleDeleteRequest { role: role.to_owned() };
                self.auth("RoleDelete", by, &request)?;
                self.role_add(role)
            }
            4..9 => self.grant_role(user, role),
            9..12 => {
                let request = AuthUserRevokeRoleRequest {
                    name: USERS[user].to_owned(),
                    role: role.to_owned(),
                };
                self.auth("UserRevokeRole", by, &request)
            }
            12 if self.rng.once_in(4) => {
                self.auth("AuthDisable", Some(ROOT), &AuthDisableRequest {})?;
                self.keys()?;
                self.auth("AuthEnable", None, &AuthEnableRequest {})?;
                self.authenticate(ROOT, false)
            }
            12..18 => {
                let role = *self.rng.pick(&PLAIN_ROLES);
                self.revoke_permission(role, by)
            }
            _ => {
                let role = *self.rng.pick(&PLAIN_ROLES);
                self.grant_permission(role, by)
            }
        }
    }

    fn grant_permission(&mut self, role: &str, by: Option<usize>) -> Result<(), Trouble> {
        let (key, range_end) = self.range();
        let request = AuthRoleGrantPermissionRequest {
            name: role.to_owned(),
            perm: Some(Permission {
                perm_type: self.rng.below(3) as i32,
                key,
                range_end,
            }),
        };
        self.auth("RoleGrantPermission", by, &request)?;
        self.shorten(role)
    }

    /// Revokes permissions of a role that has too many.
    fn shorten(&mut self, role: &str) -> Result<(), Trouble> {
        let request = AuthRoleGetRequest { role: role.to_owned() };
        let answer = self.exchange(Some(ROOT), "/etcdserverpb.Auth/RoleGet", &request)?;
        let read = AuthRoleGetResponse::decode(answer.unwrap_or_default());
        for Permission { key, range_end, .. } in read.unwrap_or_default().perm.into_iter().skip(MAX_PERMISSIONS - 1) {
            let role = role.to_owned();
            let request = AuthRoleRevokePermissionRequest { role, key, range_end };
            self.auth("RoleRevokePermission", Some(ROOT), &request)?;
        }
        Ok(())
    }

    fn revoke_permission(&mut self, role: &str, by: Option<usize>) -> Result<(), Trouble> {
        let request = AuthRoleGetRequest { role: role.to_owned() };
        let answer = self.exchange(Some(ROOT), "/etcdserverpb.Auth/RoleGet", &request)?;
        let read = AuthRoleGetResponse::decode(answer.unwrap_or_default());
        let perms = read.unwrap_or_default().perm;
        let (key, range_end) = if perms.is_empty() || self.rng.once_in(5) {
            self.range()
        } else {
            let perm = self.rng.pick(&perms);
            (perm.key.clone(), perm.range_end.clone())
        };
        let role = role.to_owned();
        self.auth(
            "RoleRevokePermission",
            by,
            &AuthRoleRevokePermissionRequest { role, key, range_end },
        )
    }

    fn user_add(&mut self, user: usize, by: Option<usize>) -> Result<(), Trouble> {
        let request = AuthUserAddRequest {
            name: USERS[user].to_owned(),
            password: password(user),
            ..AuthUserAddRequest::default()
        };
        self.auth("UserAdd", by, &request)
    }

    fn role_add(&mut self, role: &str) -> Result<(), Trouble> {
        self.auth("RoleAdd", Some(ROOT), &AuthRoleAddRequest { name: role.to_owned() })
    }

    fn grant_role(&mut self, user: usize, role: &str) -> Result<(), Trouble> {
        let request = AuthUserGrantRoleRequest {
            user: USERS[user].to_owned(),
            role: role.to_owned(),
        };
        self.auth("UserGrantRole", Some(ROOT), &request)
    }

    fn question(&mut self) -> Result<(), Trouble> {
        let by = self.caller();
        let (name, role) = (USERS[self.user()].to_owned(), (*self.rng.pick(&PLAIN_ROLES)).to_owned());
        match self.rng.below(7) {
            0 => self.auth("UserGet", by, &AuthUserGetRequest { name }),
            1 => self.auth("RoleGet", by, &AuthRoleGetRequest { role }),
            2 => self.auth("UserList", by, &AuthUserListRequest {}),
            3 => self.auth("RoleList", by, &AuthRoleListRequest {}),
            4 => self.auth("AuthStatus", by, &AuthStatusRequest {}),
            5 => self.verdict(by, "/etcdserverpb.Maintenance/Alarm", &AlarmRequest::default()),
            _ => {
                let linearizable = self.rng.once_in(2);
                let request = MemberListRequest { linearizable };
                self.verdict(by, "/etcdserverpb.Cluster/MemberList", &request)
            }
        }
    }

    fn lease(&mut self) -> Result<(), Trouble> {
        let (by, id) = (self.caller(), *self.rng.pick(&LEASES));
        let path = |method: &str| format!("/etcdserverpb.Lease/{method}");
        match self.rng.below(5) {
            0 | 1 => {
                let request = LeaseGrantRequest { id, ttl: 100_000 };
                self.verdict(by, &path("LeaseGrant"), &request)
            }
            2 => self.verdict(by, &path("LeaseRevoke"), &LeaseRevokeRequest { id }),
            3 => {
                let keys = self.rng.once_in(2);
                self.verdict(by, &path("LeaseTimeToLive"), &LeaseTimeToLiveRequest { id, keys })
            }
            _ => self.verdict(by, &path("LeaseLeases"), &LeaseLeasesRequest {}),
        }
    }

    /// Calls of the lock and the election service, which the server carries out as the caller's transactions. None of
    /// them waits: the lock's lease does not exist.
    fn recipe(&mut self) -> Result<(), Trouble> {
        let (by, key) = (self.caller(), Bytes::from(*self.rng.pick(&KEYS)));
        let election = |method: &str| format!("/v3electionpb.Election/{method}");
        let leader = Some(LeaderKey {
            name: key.clone(),
            key: key.clone(),
            rev: 1,
            lease: MISSING_LEASE,
        });
        match self.rng.below(5) {
            0 => {
                let request = LockRequest {
                    name: key,
                    lease: MISSING_LEASE,
                };
                self.verdict(by, "/v3lockpb.Lock/Lock", &request)
            }
            1 => self.verdict(by, "/v3lockpb.Lock/Unlock", &UnlockRequest { key }),
            2 => self.verdict(by, &election("Leader"), &LeaderRequest { name: key }),
            3 => {
                let value = Bytes::from("v");
                self.verdict(by, &election("Proclaim"), &ProclaimRequest { leader, value })
            }
            _ => self.verdict(by, &election("Resign"), &ResignRequest { leader }),
        }
    }

    fn watch(&mut self) -> Result<(), Trouble> {
        let by = self.caller();
        let (key, range_end) = self.range();
        let range_end = if range_end[..] == [0] { Bytes::new() } else { range_end };
        let create = WatchCreateRequest {
            key,
            range_end,
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        self.said.push(format!("{by:?} {request:?}"));
        let [etcd, ours] = &self.sides;
        let watching = async { (etcd.watch(by, &request).await, ours.watch(by, &request).await) };
        let verdicts = self.runtime.block_on(watching);
        self.same(verdicts, true).map(drop)
    }

    fn user(&mut self) -> usize {
        self.rng.below(USERS.len() as u64) as usize
    }

    /// A user, or now and then none.
    fn caller(&mut self) -> Option<usize> {
        if self.rng.once_in(20) { None } else { Some(self.user()) }
    }

    fn authenticate(&mut self, user: usize, is_wrong: bool) -> Result<(), Trouble> {
        let request = AuthenticateRequest {
            name: USERS[user].to_owned(),
            password: if is_wrong { "wrong".to_owned() } else { password(user) },
        };
        self.said
            .push(format!("{} authenticates, wrongly: {is_wrong}", USERS[user]));
        let [etcd, ours] = &mut self.sides;
        let authenticating = async {
            (
                etcd.authenticate(user, &request).await,
                ours.authenticate(user, &request).await,
            )
        };
        let verdicts = self.runtime.block_on(authenticating);
        self.same(verdicts, true).map(drop)
    }

    fn auth(&mut self, method: &str, by: Option<usize>, request: &(impl Message + Debug)) -> Result<(), Trouble> {
        self.exact(by, &format!("/etcdserverpb.Auth/{method}"), request)
    }

    /// Makes a request whose answers must be equal.
    fn exact(&mut self, by: Option<usize>, path: &str, request: &(impl Message + Debug)) -> Result<(), Trouble> {
        self.exchange(by, path, request).map(drop)
    }

    /// Makes a request whose answers may have other times, ids or addresses.
    fn verdict(&mut self, by: Option<usize>, path: &str, request: &(impl Message + Debug)) -> Result<(), Trouble> {
        let verdicts = self.ask(by, path, request);
        self.same(verdicts, false).map(drop)
    }

    fn exchange(&mut self, by: Option<usize>, path: &str, request: &(impl Message + Debug)) -> Result<Judged, Trouble> {
        let verdicts = self.ask(by, path, request);
        self.same(verdicts, true)
    }

    fn ask(&mut self, by: Option<usize>, path: &str, request: &(impl Message + Debug)) -> (Judged, Judged) {
        self.said.push(format!("{by:?} {path} {request:?}"));
        let [etcd, ours] = &self.sides;
        let asking = async { (etcd.ask(by, path, request).await, ours.ask(by, path, request).await) };
        self.runtime.block_on(asking)
    }

    fn same(&mut self, (etcd, ours): (Judged, Judged), exactly: bool) -> Result<Judged, Trouble> {
        let is_same = match (&etcd, &ours) {
            (Ok(one), Ok(other)) => !exactly || one == other,
            (Err(one), Err(other)) => one == other,
            _ => false,
        };
        if !is_same {
            let [_, side] = &self.sides;
            return Err(Trouble::new(format!(
                "etcd: {etcd:?}\n{}: {ours:?}",
                side.server.name()
            )));
        }
        match &etcd {
            Ok(_) => self.compared.permitted += 1,
            Err(_) => self.compared.refused += 1,
        }
        Ok(etcd)
    }
}

fn password(user: usize) -> String {
    format!("pw-{user}")
}
