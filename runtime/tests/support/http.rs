//! The plain HTTP endpoints, byte by byte.

use std::sync::Arc;

use http::Method;
use quoin_core::config::{AllowList, Config};
use quoin_core::id::MemberId;
use quoin_core::limits::{STUCK_NOT_ALIVE, STUCK_NOT_READY};
use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::{AlarmRequest, AlarmResponse, AlarmType, PutRequest, PutResponse};
use quoin_runtime::pulse::Stuck;
use quoin_runtime::seam::Runtime;

use super::client::{Grpc, http, run};
use super::{World, config, inline};

const WINDOW: u32 = 1 << 20;

/// Status and body of a GET.
fn get(world: &World, path: &'static str) -> (u16, String) {
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        let page = http(&runtime, address, Method::GET, path, &[]).await;
        (page.status, page.body)
    })
}

fn raise(world: &World, alarm: AlarmType) {
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        let grpc = Grpc::connect(&runtime, address, WINDOW).await;
        let request = AlarmRequest {
            action: AlarmAction::Activate.into(),
            member_id: inline::MEMBER,
            alarm: alarm.into(),
        };
        let _: AlarmResponse = grpc.ok("/etcdserverpb.Maintenance/Alarm", &request).await;
    });
}

pub(crate) fn health_gives_the_reason_of_a_failure(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    assert_eq!(
        get(&world, "/health"),
        (200, r#"{"health":"true","reason":""}"#.to_owned())
    );
    world.control.set_status(|status| status.leader = MemberId::NONE);
    let no_leader = "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n";
    assert_eq!(get(&world, "/health"), (503, no_leader.to_owned()));
    assert_eq!(get(&world, "/health?serializable=true").0, 200);
    raise(&world, AlarmType::Nospace);
    let alarm = "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n";
    assert_eq!(get(&world, "/health?serializable=true"), (503, alarm.to_owned()));
    assert_eq!(get(&world, "/health?serializable=true&exclude=NOSPACE").0, 200);
    world.stop();
}

pub(crate) fn a_stuck_thread_shows_in_every_check(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    let stick = |duration| {
        let thread = "quoin-wal";
        world.control.set_stuck_thread(Some(Stuck { thread, duration }));
    };
    let what = "etcdserver: request timed out: quoin-wal has been stuck for";
    stick(STUCK_NOT_READY / 2);
    for path in ["/health", "/livez", "/readyz"] {
        assert_eq!(get(&world, path).0, 200, "{path}");
    }
    stick(STUCK_NOT_READY);
    let health = format!("{{\"health\":\"false\",\"reason\":\"RANGE ERROR:{what} 5 s\"}}\n");
    assert_eq!(get(&world, "/health"), (503, health));
    let readyz = get(&world, "/readyz");
    assert_eq!(readyz.0, 503);
    assert!(
        readyz.1.contains(&format!("[-]linearizable_read failed: {what} 5 s\n")),
        "{}",
        readyz.1
    );
    assert!(readyz.1.contains("[+]serializable_read ok\n"), "{}", readyz.1);
    assert_eq!(get(&world, "/livez").0, 200, "the liveness check does not fail yet");
    stick(STUCK_NOT_ALIVE);
    let livez = format!("[-]serializable_read failed: {what} 10 s\n\n");
    assert_eq!(get(&world, "/livez"), (503, livez));
    world.control.set_stuck_thread(None);
    for path in ["/health", "/livez", "/readyz"] {
        assert_eq!(get(&world, path).0, 200, "{path}");
    }
    world.stop();
}

pub(crate) fn livez_and_readyz_run_their_checks(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    assert_eq!(get(&world, "/livez"), (200, "ok\n".to_owned()));
    assert_eq!(
        get(&world, "/livez?verbose"),
        (200, "[+]serializable_read ok\nok\n".to_owned())
    );
    let all = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n";
    assert_eq!(get(&world, "/readyz?verbose"), (200, all.to_owned()));
    world.control.set_status(|status| status.is_learner = true);
    assert_eq!(
        get(&world, "/readyz/non_learner"),
        (503, "[-]non_learner failed: not supported for learner\n\n".to_owned())
    );
    assert_eq!(get(&world, "/readyz?exclude=non_learner"), (200, "ok\n".to_owned()));
    world.control.set_status(|status| status.is_learner = false);
    raise(&world, AlarmType::Corrupt);
    let corrupt = "[-]data_corruption failed: alarm activated: CORRUPT\n\n";
    assert_eq!(get(&world, "/readyz/data_corruption"), (503, corrupt.to_owned()));
    assert_eq!(get(&world, "/livez").0, 200);
    assert_eq!(get(&world, "/livez/data_corruption").0, 404);
    world.stop();
}

pub(crate) fn the_version_is_served(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    let version = quoin_core::version::SERVER_VERSION;
    let body = format!(r#"{{"etcdserver":"{version}","etcdcluster":"3.6.0","storage":"3.6.0"}}"#);
    assert_eq!(get(&world, "/version"), (200, body));
    world.stop();
}

pub(crate) fn other_paths_and_methods_are_refused(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    assert_eq!(get(&world, "/v2/keys"), (404, "404 page not found\n".to_owned()));
    assert_eq!(get(&world, "/").0, 404);
    assert_eq!(get(&world, "/v3/kv/range").0, 501);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        for path in ["/health", "/version", "/livez", "/readyz/non_learner"] {
            let page = http(&runtime, address, Method::POST, path, &[]).await;
            assert_eq!(
                (page.status, page.body.as_str()),
                (405, "Method Not Allowed\n"),
                "{path}"
            );
            assert_eq!(page.headers["allow"], "GET");
        }
        let page = http(&runtime, address, Method::GET, "/health", &[]).await;
        assert_eq!(page.headers["content-type"], "text/plain; charset=utf-8");
        let page = http(&runtime, address, Method::GET, "/version", &[]).await;
        assert_eq!(page.headers["content-type"], "application/json");
        let page = http(&runtime, address, Method::GET, "/nothing", &[]).await;
        assert_eq!(page.headers["x-content-type-options"], "nosniff");
    });
    world.stop();
}

pub(crate) fn origins_and_hosts_are_checked(runtime: Arc<dyn Runtime>) {
    let mut config = config();
    config.cors = AllowList::Only(["http://a.example".to_owned()].into());
    config.host_whitelist = AllowList::Only(["etcd.example".to_owned()].into());
    let world = World::start_with(runtime, &config);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        let good = ("host", "etcd.example:2379");
        let page = http(&runtime, address, Method::GET, "/health", &[]).await;
        assert_eq!(page.status, 421);
        assert!(
            page.body.contains("CVE-2018-5702") && page.body.contains("127.0.0.1"),
            "{}",
            page.body
        );
        let page = http(&runtime, address, Method::GET, "/health", &[good]).await;
        assert_eq!(page.status, 200);
        assert!(!page.headers.contains_key("access-control-allow-origin"));
        let origin = ("origin", "http://a.example");
        let page = http(&runtime, address, Method::OPTIONS, "/v3/kv/range", &[good, origin]).await;
        assert_eq!((page.status, page.body.as_str()), (200, ""));
        assert_eq!(page.headers["access-control-allow-origin"], "http://a.example");
        assert_eq!(
            page.headers["access-control-allow-methods"],
            "POST, GET, OPTIONS, PUT, DELETE"
        );
        assert_eq!(
            page.headers["access-control-allow-headers"],
            "accept, content-type, authorization"
        );
    });
    world.stop();
}

pub(crate) fn metrics_are_counted(runtime: Arc<dyn Runtime>) {
    let world = World::start(runtime);
    let (runtime, address) = (Arc::clone(&world.runtime), world.client);
    run(&world.runtime, async move {
        let grpc = Grpc::connect(&runtime, address, WINDOW).await;
        let put = PutRequest {
            key: "key".into(),
            ..PutRequest::default()
        };
        let _: PutResponse = grpc.ok("/etcdserverpb.KV/Put", &put).await;
        let _ = grpc
            .call(
                "/etcdserverpb.KV/Put",
                &[("client-api-version", "3.5")],
                &PutRequest::default(),
            )
            .await;
    });
    let (status, text) = get(&world, "/metrics");
    assert_eq!(status, 200);
    let put = "grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"";
    for line in [
        format!("grpc_server_started_total{{{put}}} 2"),
        format!("grpc_server_msg_received_total{{{put}}} 2"),
        format!("grpc_server_msg_sent_total{{{put}}} 1"),
        format!("grpc_server_handled_total{{grpc_code=\"OK\",{put}}} 1"),
        format!("grpc_server_handled_total{{grpc_code=\"InvalidArgument\",{put}}} 1"),
        "etcd_network_client_grpc_received_bytes_total 5".to_owned(),
        "etcd_server_client_requests_total{client_api_version=\"unknown\",type=\"unary\"} 1".to_owned(),
        "etcd_server_client_requests_total{client_api_version=\"3.5\",type=\"unary\"} 1".to_owned(),
        "etcd_debugging_mvcc_current_revision 2".to_owned(),
        "etcd_debugging_mvcc_keys_total 1".to_owned(),
        "etcd_server_has_leader 1".to_owned(),
        "etcd_server_is_leader 1".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nis missing in\n{text}");
    }
    world.stop();
}

pub(crate) fn debug_paths_answer_as_far_as_they_have_a_meaning(runtime: Arc<dyn Runtime>) {
    let world = World::start(Arc::clone(&runtime));
    let (status, vars) = get(&world, "/debug/vars");
    assert_eq!(status, 200);
    for part in [
        "\"cmdline\": [",
        "\"file_descriptor_limit\": ",
        "\"raftState\": \"StateLeader\"",
    ] {
        assert!(vars.contains(part), "{part}\nis missing in\n{vars}");
    }
    assert_eq!(
        get(&world, "/debug/pprof/heap").0,
        404,
        "as in etcd without --enable-pprof"
    );
    world.stop();

    let asked = Config {
        enable_pprof: true,
        ..config()
    };
    let world = World::start_with(runtime, &asked);
    for path in ["/debug/pprof/", "/debug/pprof/heap"] {
        let (status, text) = get(&world, path);
        assert!(
            status == 501 && text.contains("serves no profiles"),
            "{path}: {status} {text}"
        );
    }
    assert_eq!(get(&world, "/debug/pproff").0, 404);
    world.stop();
}

pub(crate) fn the_metrics_port_serves_nothing_else(runtime: Arc<dyn Runtime>) {
    let mut world = World::start(runtime);
    world.client = world.metrics;
    for path in ["/metrics", "/health", "/livez", "/readyz/non_learner"] {
        assert_eq!(get(&world, path).0, 200, "{path}");
    }
    for path in ["/version", "/v3/kv/range", "/debug/vars", "/debug/pprof/"] {
        assert_eq!(get(&world, path).0, 404, "{path}");
    }
    world.stop();
}
