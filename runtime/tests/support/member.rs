//! The real member behind the real sockets.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use quoin_core::config::Config;
use quoin_core::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
};
use quoin_runtime::seam::{Runtime, block_on};
use quoin_runtime::server::{Handle, Role, Server};

use super::client::{Grpc, run};
use super::config;

/// A folder of one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "quoin-serving-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start(runtime: &Arc<dyn Runtime>, config: &Config) -> Handle {
    let handle = block_on(Server::start(config.clone(), Arc::clone(runtime))).unwrap();
    block_on(handle.ready());
    handle
}

pub(crate) fn a_member_keeps_acknowledged_writes(runtime: Arc<dyn Runtime>) {
    let folder = Folder::new();
    let config = Config {
        data_dir: folder.0.display().to_string(),
        ..config()
    };
    for round in 0..3 {
        let handle = start(&runtime, &config);
        let address = handle.addresses(Role::Client).next().unwrap().clone();
        let client = Arc::clone(&runtime);
        run(&runtime, async move {
            let grpc = Grpc::connect(&client, address, 1 << 20).await;
            let grant = LeaseGrantRequest {
                ttl: 600,
                id: 100 + round,
            };
            let granted: LeaseGrantResponse = grpc.ok("/etcdserverpb.Lease/LeaseGrant", &grant).await;
            let put = PutRequest {
                key: format!("key{round}").into(),
                value: "value".into(),
                lease: granted.id,
                ..PutRequest::default()
            };
            let _: PutResponse = grpc.ok("/etcdserverpb.KV/Put", &put).await;
            let all = RangeRequest {
                key: "key".into(),
                range_end: "kez".into(),
                ..RangeRequest::default()
            };
            let found: RangeResponse = grpc.ok("/etcdserverpb.KV/Range", &all).await;
            assert_eq!(found.count, round + 1, "the writes of earlier rounds are there");
            let leases: Vec<i64> = found.kvs.iter().map(|kv| kv.lease).collect();
            assert_eq!(leases, (100..=100 + round).collect::<Vec<_>>());
            assert_eq!(found.header.unwrap().revision, round + 2);
        });
        block_on(handle.stop());
    }
}

/// Deletes each bucket's files in turn, so that the table's engine takes the bucket for one that was never created.
pub(crate) fn a_table_that_lost_a_bucket_is_rebuilt_from_the_log(runtime: Arc<dyn Runtime>) {
    let folder = Folder::new();
    let config = Config {
        data_dir: folder.0.display().to_string(),
        ..config()
    };
    let keyspaces = folder.0.join("member/snap/fjall/keyspaces");
    let mut revision = 1;
    for lost in 0..=4 {
        if lost > 0 {
            let current = keyspaces.join(lost.to_string()).join("current");
            std::fs::remove_file(&current).unwrap();
        }
        let handle = start(&runtime, &config);
        let address = handle.addresses(Role::Client).next().unwrap().clone();
        let client = Arc::clone(&runtime);
        let (sender, written) = std::sync::mpsc::channel();
        run(&runtime, async move {
            let grpc = Grpc::connect(&client, address, 1 << 20).await;
            let key = RangeRequest {
                key: "key".into(),
                ..RangeRequest::default()
            };
            let found: RangeResponse = grpc.ok("/etcdserverpb.KV/Range", &key).await;
            let version = found.kvs.first().map_or(0, |kv| kv.version);
            assert_eq!(
                (found.header.unwrap().revision, version),
                (revision, revision - 1),
                "after keyspace {lost} was lost"
            );
            let put = PutRequest {
                key: "key".into(),
                value: "value".into(),
                ..PutRequest::default()
            };
            let put: PutResponse = grpc.ok("/etcdserverpb.KV/Put", &put).await;
            sender.send(put.header.unwrap().revision).unwrap();
        });
        revision = written.recv().unwrap();
        block_on(handle.stop());
    }
    assert!(
        folder.0.join("member/snap/fjall.damaged").exists(),
        "the damaged table is kept"
    );
}
