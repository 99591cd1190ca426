//! Requests of the shapes by which permissions of etcd could once be passed, on a real etcd and on ours: a user with a
//! role of one key may neither make them nor learn of other keys by sizes and errors.

use prost::Message;
use quoin_core::proto::authpb::Permission;
use quoin_core::proto::authpb::permission::Type;
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{
    AlarmRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest,
    AuthUserGrantRoleRequest, AuthenticateRequest, AuthenticateResponse, CompactionRequest, Compare, DefragmentRequest,
    DeleteRangeRequest, HashKvRequest, HashRequest, LeaseGrantRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, MemberListRequest, MoveLeaderRequest, PutRequest, RangeRequest, RequestOp, SnapshotRequest,
    StatusRequest, TxnRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use quoin_model::call::Refusal;
use tokio::runtime::Runtime;

use crate::diff::wire::Wire;
use crate::trouble::During as _;
use crate::{Kind, Launch, Server, Trouble};

/// A server. The tokens are those of root and of a user who may read and write `a`, and write `w`.
struct Guarded {
    server: Server,
    wire: Wire,
    root: Option<String>,
    ann: Option<String>,
}

/// Who asks.
#[derive(Clone, Copy)]
enum By {
    Ann,
    Nobody,
    Root,
}

impl By {
    /// The code with which ours refuses: `PermissionDenied`, or `InvalidArgument` of a call without a user.
    const fn code(self) -> i32 {
        match self {
            Self::Ann | Self::Root => 7,
            Self::Nobody => 3,
        }
    }
}

/// What a real etcd 3.5.30 does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Real {
    /// It refuses the request as ours does.
    Refuses,
    /// It refuses the request with another error than ours.
    RefusesOtherwise,
}

/// Plays all shapes on a real etcd and on ours.
///
/// # Errors
/// The shapes that ours permits, or on which etcd is not what its row says; or a server that cannot be reached.
pub fn compare(kind: Kind) -> Result<(), Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .during("a runtime for the clients")?;
    let side = |kind: Kind| {
        let server = Launch::of(kind)?.flag("--bcrypt-cost=4").start()?;
        let wire = runtime.block_on(Wire::connect(server.address()))?;
        let mut side = Guarded {
            server,
            wire,
            root: None,
            ann: None,
        };
        runtime
            .block_on(side.begin())
            .map_err(|refusal| Trouble::new(format!("{}: {refusal:?}", side.server.address())))?;
        Ok::<Guarded, Trouble>(side)
    };
    let sides = [side(Kind::Etcd)?, side(kind)?];
    let wrong = Vec::new();
    Shapes { runtime, sides, wrong }.play()
}

impl Guarded {
    async fn ask(&self, by: By, path: &str, request: &impl Message) -> Result<bytes::Bytes, Refusal> {
        let token = match by {
            By::Ann => self.ann.as_deref(),
            By::Nobody => None,
            By::Root => self.root.as_deref(),
        };
        let header = token.map(|token| ("token", token.as_bytes()));
        let path = format!("/etcdserverpb.{path}");
        self.wire.call_with(&path, request, true, header).await?.only().await
    }

    /// Keys `a`, `w` and `b`, the last attached to lease 1; users root and ann.
    async fn begin(&mut self) -> Result<(), Refusal> {
        let lease = LeaseGrantRequest { id: 1, ttl: 600 };
        self.ask(By::Nobody, "Lease/LeaseGrant", &lease).await?;
        for (key, lease) in [("a", 0), ("b", 1), ("w", 0)] {
            self.ask(By::Nobody, "KV/Put", &put(key, lease)).await?;
        }
        for (name, role) in [("root", "root"), ("ann", "one")] {
            let user = AuthUserAddRequest {
                name: name.to_owned(),
                password: "secret".to_owned(),
                ..AuthUserAddRequest::default()
            };
            self.ask(By::Nobody, "Auth/UserAdd", &user).await?;
            let (user, role) = (name.to_owned(), role.to_owned());
            self.ask(By::Nobody, "Auth/RoleAdd", &AuthRoleAddRequest { name: role.clone() })
                .await?;
            self.ask(
                By::Nobody,
                "Auth/UserGrantRole",
                &AuthUserGrantRoleRequest { user, role },
            )
            .await?;
        }
        for (key, kind) in [("a", Type::Readwrite), ("w", Type::Write)] {
            let grant = AuthRoleGrantPermissionRequest {
                name: "one".to_owned(),
                perm: Some(Permission {
                    perm_type: kind.into(),
                    key: key.into(),
                    ..Permission::default()
                }),
            };
            self.ask(By::Nobody, "Auth/RoleGrantPermission", &grant).await?;
        }
        self.ask(By::Nobody, "Auth/AuthEnable", &AuthEnableRequest {}).await?;
        self.root = Some(self.token("root").await?);
        self.ann = Some(self.token("ann").await?);
        Ok(())
    }

    async fn token(&self, name: &str) -> Result<String, Refusal> {
        let request = AuthenticateRequest {
            name: name.to_owned(),
            password: "secret".to_owned(),
        };
        let answer = self
            .wire
            .ask::<AuthenticateResponse>("/etcdserverpb.Auth/Authenticate", &request);
        Ok(answer.await?.token)
    }

    /// Whether ann's watch is refused.
    async fn refuses_watch(&self, key: &'static str, range_end: &'static str) -> Result<bool, Refusal> {
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
                key: key.into(),
                range_end: range_end.into(),
                ..WatchCreateRequest::default()
            })),
        };
        let header = self.ann.as_deref().map(|token| ("token", token.as_bytes()));
        let mut stream = self
            .wire
            .call_with("/etcdserverpb.Watch/Watch", &request, false, header)
            .await?;
        let first = stream.next().await?.unwrap_or_default();
        Ok(WatchResponse::decode(first).unwrap_or_default().canceled)
    }
}

struct Shapes {
    runtime: Runtime,
    sides: [Guarded; 2],
    /// The shapes that had another end than their rows say.
    wrong: Vec<String>,
}

impl Shapes {
    /// A request that both refuse with the same error.
    fn refused(&mut self, shape: &str, by: By, path: &str, request: &impl Message) {
        self.judge(shape, by, path, request, Real::Refuses);
    }

    fn judge(&mut self, shape: &str, by: By, path: &str, request: &impl Message, etcd: Real) {
        let asked = |side: &Guarded| self.runtime.block_on(side.ask(by, path, request));
        let (real, ours) = (asked(&self.sides[0]), asked(&self.sides[1]));
        let found = match &real {
            Ok(_) => None,
            Err(_) if real == ours => Some(Real::Refuses),
            Err(_) => Some(Real::RefusesOtherwise),
        };
        if found != Some(etcd) || ours.as_ref().err().map(|refusal| refusal.code) != Some(by.code()) {
            self.wrong
                .push(format!("{shape}: etcd answers {real:?} and ours {ours:?}"));
        }
    }

    fn play(mut self) -> Result<(), Trouble> {
        self.transactions();
        self.leases();
        self.maintenance();
        self.watches();
        self.other_keys();
        if self.wrong.is_empty() {
            return Ok(());
        }
        Err(Trouble::new(self.wrong.join("\n")))
    }

    /// CVE-2026-33343: what a nested transaction does was not looked at.
    fn transactions(&mut self) {
        let other = put("b", 0);
        let prev = PutRequest {
            prev_kv: true,
            ..put("w", 0)
        };
        for (shape, op) in [
            ("put", Op::RequestPut(other)),
            ("range", Op::RequestRange(range("b", ""))),
            ("deletion", Op::RequestDeleteRange(delete("a", "c"))),
            // etcd #21681 and #21685.
            ("previous pair", Op::RequestPut(prev)),
            ("lease", Op::RequestPut(put("a", 1))),
        ] {
            let nested = Op::RequestTxn(txn(op.clone()));
            let deeper = Op::RequestTxn(txn(nested.clone()));
            for (depth, op) in [op, nested, deeper].into_iter().enumerate() {
                let shape = format!("{shape} at depth {depth} of a transaction");
                self.refused(&shape, By::Ann, "KV/Txn", &txn(op));
            }
        }
    }

    /// CVE-2023-32082, and what followed from it: keys are known by their leases.
    fn leases(&mut self) {
        let keys = LeaseTimeToLiveRequest { id: 1, keys: true };
        self.refused("keys of a lease", By::Ann, "Lease/LeaseTimeToLive", &keys);
        self.refused("all leases", By::Ann, "Lease/LeaseLeases", &LeaseLeasesRequest {});
        let revoke = LeaseRevokeRequest { id: 1 };
        self.refused("another's lease", By::Ann, "Lease/LeaseRevoke", &revoke);
        self.refused("a key at another's lease", By::Ann, "KV/Put", &put("a", 1));
        let grant = LeaseGrantRequest { id: 2, ttl: 60 };
        self.refused("a lease of nobody", By::Nobody, "Lease/LeaseGrant", &grant);
    }

    /// CVE-2026-33413: methods without any check.
    fn maintenance(&mut self) {
        let disarm = AlarmRequest {
            action: 2,
            ..AlarmRequest::default()
        };
        let compact = CompactionRequest {
            revision: 2,
            physical: false,
        };
        let leader = MoveLeaderRequest::default();
        self.refused("compaction", By::Ann, "KV/Compact", &compact);
        self.refused("alarm", By::Ann, "Maintenance/Alarm", &disarm);
        self.refused("leadership", By::Ann, "Maintenance/MoveLeader", &leader);
        self.refused("status of nobody", By::Nobody, "Maintenance/Status", &StatusRequest {});
        for linearizable in [false, true] {
            let list = MemberListRequest { linearizable };
            self.refused("members for nobody", By::Nobody, "Cluster/MemberList", &list);
        }
        // Etcd 3.5.30 refuses these with an error of code `Unknown`.
        let other = Real::RefusesOtherwise;
        let hash_kv = HashKvRequest::default();
        self.judge("hash", By::Ann, "Maintenance/Hash", &HashRequest {}, other);
        self.judge("hash of keys", By::Ann, "Maintenance/HashKV", &hash_kv, other);
        self.judge("backup", By::Ann, "Maintenance/Snapshot", &SnapshotRequest {}, other);
        let defragment = DefragmentRequest {};
        self.judge("defragmentation", By::Ann, "Maintenance/Defragment", &defragment, other);
    }

    /// GHSA-xg4h-6gfc-h4m8: 3.5.30 looks at the first key of a watch with an open end alone.
    fn watches(&mut self) {
        for (key, range_end, expected) in [
            ("a", "", [false, false]),
            ("a", "\0", [false, true]),
            ("a", "c", [true, true]),
        ] {
            let refuses = |side: &Guarded| self.runtime.block_on(side.refuses_watch(key, range_end));
            let found = [refuses(&self.sides[0]), refuses(&self.sides[1])];
            if found != expected.map(Ok) {
                self.wrong
                    .push(format!("a watch of {key:?} to {range_end:?}: {found:?}"));
            }
        }
    }

    /// A refusal does not depend on the keys that exist: neither their number nor their values can be learned.
    fn other_keys(&mut self) {
        for (key, end) in [("b", ""), ("a", "c"), ("b", "\0"), ("\0", "\0")] {
            for key in [key.to_owned(), key.replace('b', "y")] {
                let shape = format!("keys {key:?} to {end:?}");
                let counted = RangeRequest {
                    count_only: true,
                    limit: 1,
                    ..range(&key, end)
                };
                let compared = TxnRequest {
                    compare: vec![Compare {
                        key: key.clone().into(),
                        range_end: end.into(),
                        ..Compare::default()
                    }],
                    ..TxnRequest::default()
                };
                self.refused(&shape, By::Ann, "KV/Range", &range(&key, end));
                self.refused(&shape, By::Ann, "KV/Range", &counted);
                self.refused(&shape, By::Ann, "KV/Txn", &compared);
                self.refused(&shape, By::Ann, "KV/DeleteRange", &delete(&key, end));
            }
        }
        // The user may write this key, but not read it.
        let written = DeleteRangeRequest {
            prev_kv: true,
            ..delete("w", "")
        };
        self.refused("a pair that is deleted", By::Ann, "KV/DeleteRange", &written);
        for side in &self.sides {
            let read = self.runtime.block_on(side.ask(By::Root, "KV/Range", &range("b", "")));
            let refused = read.err().map(|refusal| format!("root's read: {refusal:?}"));
            self.wrong.extend(refused);
        }
    }
}

fn put(key: &str, lease: i64) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: "secret".into(),
        lease,
        ..PutRequest::default()
    }
}

fn range(key: &str, range_end: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        ..RangeRequest::default()
    }
}

fn delete(key: &str, range_end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        ..DeleteRangeRequest::default()
    }
}

fn txn(op: Op) -> TxnRequest {
    TxnRequest {
        success: vec![RequestOp { request: Some(op) }],
        ..TxnRequest::default()
    }
}
