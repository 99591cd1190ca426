//! Users over the wire: tokens in etcd's two headers, and a watch that is refused.

use std::sync::Arc;

use quoin_core::proto::etcdserverpb::{
    AuthEnableRequest, AuthEnableResponse, AuthRoleAddRequest, AuthRoleAddResponse, AuthUserAddRequest,
    AuthUserAddResponse, AuthUserGrantRoleRequest, AuthUserGrantRoleResponse, AuthenticateRequest,
    AuthenticateResponse, PutRequest, WatchCreateRequest, WatchRequest, WatchResponse, watch_request,
};
use quoin_core::proto::v3electionpb::LeaderRequest;
use quoin_core::proto::v3lockpb::LockRequest;
use quoin_runtime::seam::Runtime;

use super::World;
use super::client::{Extra, Grpc, run};

const WINDOW: u32 = 1 << 20;
const PUT: &str = "/etcdserverpb.KV/Put";

fn auth(method: &str) -> String {
    format!("/etcdserverpb.Auth/{method}")
}

/// A header of a call. Calls take headers that live as long as the test.
fn header(name: &'static str, value: &str) -> Extra {
    let value: &'static str = String::leak(value.to_owned());
    Vec::leak(vec![(name, value)])
}

/// Adds root and ann, who has no role, and enables auth; returns their tokens.
async fn enable(grpc: &Grpc) -> [String; 2] {
    let user = |name: &str| AuthUserAddRequest {
        name: name.to_owned(),
        password: "secret".to_owned(),
        ..AuthUserAddRequest::default()
    };
    let role = AuthRoleAddRequest {
        name: "root".to_owned(),
    };
    let grant = AuthUserGrantRoleRequest {
        user: "root".to_owned(),
        role: "root".to_owned(),
    };
    let _: AuthUserAddResponse = grpc.ok(&auth("UserAdd"), &user("root")).await;
    let _: AuthUserAddResponse = grpc.ok(&auth("UserAdd"), &user("ann")).await;
    let _: AuthRoleAddResponse = grpc.ok(&auth("RoleAdd"), &role).await;
    let _: AuthUserGrantRoleResponse = grpc.ok(&auth("UserGrantRole"), &grant).await;
    let _: AuthEnableResponse = grpc.ok(&auth("AuthEnable"), &AuthEnableRequest {}).await;
    let mut tokens = [String::new(), String::new()];
    for (token, name) in tokens.iter_mut().zip(["root", "ann"]) {
        let asked = AuthenticateRequest {
            name: name.to_owned(),
            password: "secret".to_owned(),
        };
        let answer: AuthenticateResponse = grpc.ok(&auth("Authenticate"), &asked).await;
        *token = answer.token;
    }
    tokens
}

pub(crate) fn a_user_is_known_by_its_token_in_either_header(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        let grpc = Grpc::connect(&runtime, address, WINDOW).await;
        let [root, ann] = enable(&grpc).await;
        let (bearer, other) = (format!("Bearer {root}"), format!("{root}0"));
        let request = PutRequest {
            key: "a".into(),
            ..PutRequest::default()
        };
        let denied = (7, "etcdserver: permission denied");
        let invalid = (16, "etcdserver: invalid auth token");
        for (name, value, expected) in [
            ("other", &*root, (3, "etcdserver: user name is empty")),
            ("token", &root, (0, "")),
            ("token", &bearer, (0, "")),
            ("authorization", &root, (0, "")),
            ("authorization", &bearer, (0, "")),
            ("token", &ann, denied),
            ("token", &other, invalid),
            ("token", "", invalid),
            ("authorization", "Basic cm9vdDpzZWNyZXQ=", invalid),
        ] {
            let outcome = grpc.call(PUT, header(name, value), &request).await;
            let (code, text) = expected;
            assert_eq!(outcome.status, (code, text.to_owned()), "{name}: {value}");
        }
    });
    world.stop();
}

/// Calls that consist of other calls are made with the client's token.
pub(crate) fn a_lock_is_as_permitted_as_its_user(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        let grpc = Grpc::connect(&runtime, address, WINDOW).await;
        let [root, ann] = enable(&grpc).await;
        let lock = LockRequest {
            name: "a".into(),
            lease: 0,
        };
        let leader = LeaderRequest { name: "a".into() };
        // As in etcd, whose own client makes these calls, their errors have no code of their own.
        let unknown = |text: &str| (2, text.to_owned());
        for (token, expected) in [
            (None, unknown("etcdserver: user name is empty")),
            (Some(&ann), unknown("etcdserver: permission denied")),
            (Some(&root), (0, String::new())),
        ] {
            let extra = token.map_or(header("other", ""), |token| header("token", token));
            let outcome = grpc.call("/v3lockpb.Lock/Lock", extra, &lock).await;
            assert_eq!(outcome.status, expected, "{token:?} locks");
            let outcome = grpc.call("/v3electionpb.Election/Leader", extra, &leader).await;
            assert_eq!(outcome.status, expected, "{token:?} asks");
        }
    });
    world.stop();
}

pub(crate) fn a_watch_without_permission_is_refused_and_its_stream_goes_on(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        let grpc = Grpc::connect(&runtime, address, WINDOW).await;
        let [root, ann] = enable(&grpc).await;
        let create = || WatchRequest {
            request_union: Some(watch_request::RequestUnion::CreateRequest(WatchCreateRequest {
                key: "a".into(),
                ..WatchCreateRequest::default()
            })),
        };
        for (token, reason) in [
            (&root, ""),
            (
                &ann,
                "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
            ),
        ] {
            let (requests, mut responses) = grpc.begin("/etcdserverpb.Watch/Watch", header("token", token)).await;
            for _ in 0..2 {
                requests.send(&create()).await;
                let response: WatchResponse = responses.message().await;
                assert!(response.created);
                assert_eq!(
                    (response.canceled, response.cancel_reason.as_str()),
                    (!reason.is_empty(), reason)
                );
            }
        }
    });
    world.stop();
}
