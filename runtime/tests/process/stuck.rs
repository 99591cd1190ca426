//! A thread that is stuck, not dead, fails the health checks until it continues.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use quoin_core::proto::etcdserverpb::PutRequest;
use quoin_runtime::seam::Runtime;

use super::member::{Folder, PATIENCE};
use crate::client::{Grpc, http, run};

const WINDOW: u32 = 1 << 20;

/// Status and body of a GET.
fn get(runtime: &Arc<dyn Runtime>, address: SocketAddr, path: &'static str) -> (u16, String) {
    let client = Arc::clone(runtime);
    run(runtime, async move {
        let page = http(&client, address, Method::GET, path, &[]).await;
        (page.status, page.body)
    })
}

/// Waits until a check answers with this status and a body that contains the text.
fn wait(runtime: &Arc<dyn Runtime>, address: SocketAddr, path: &'static str, status: u16, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = get(runtime, address, path);
        if answer.0 == status && answer.1.contains(text) {
            return;
        }
        assert!(Instant::now() < deadline, "{path}: {answer:?}, not {status} {text:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn shows(runtime: &Arc<dyn Runtime>, thread: &str, checks: &[(&'static str, &str)]) {
    let folder = Folder::new();
    let mut member = folder.start(Some(("hang", thread)), &[]);
    let address = member.ready();
    for (path, _) in checks {
        assert_eq!(get(runtime, address, path).0, 200, "{path}");
    }
    folder.arm();
    let (client, (sender, put)) = (Arc::clone(runtime), std::sync::mpsc::channel());
    runtime.spawn(Box::pin(async move {
        let grpc = Grpc::connect(&client, address, WINDOW).await;
        let request = PutRequest {
            key: "k".into(),
            ..PutRequest::default()
        };
        // An error is an answer too.
        sender
            .send(grpc.call("/etcdserverpb.KV/Put", &[], &request).await)
            .unwrap();
    }));
    member.line("the trap springs");
    for (path, text) in checks {
        wait(runtime, address, path, 503, text);
    }
    folder.disarm();
    for (path, _) in checks {
        wait(runtime, address, path, 200, "");
    }
    put.recv_timeout(PATIENCE).expect("it is answered");
    assert!(member.is_running());
}

pub(crate) fn a_stuck_log_shows_in_every_check(runtime: Arc<dyn Runtime>) {
    let checks = [
        (
            "/readyz",
            "[-]linearizable_read failed: etcdserver: request timed out: quoin-wal has been stuck",
        ),
        ("/health", "quoin-wal has been stuck"),
        (
            "/livez",
            "[-]serializable_read failed: etcdserver: request timed out: quoin-wal has been stuck",
        ),
    ];
    shows(&runtime, "quoin-wal", &checks);
}

pub(crate) fn a_stuck_table_fails_health(runtime: Arc<dyn Runtime>) {
    shows(&runtime, "quoin-table", &[("/health", "quoin-table has been stuck")]);
}
