//! A panic in each thread under load: the process ends at once and names the thread, and a restart has every
//! acknowledged write. A panic in a call or a hash ends only that call or hash.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quoin_core::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, HashKvRequest, HashKvResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, WatchCreateRequest, WatchRequest, WatchResponse, watch_request,
};
use quoin_runtime::seam::Runtime;

use super::member::{Folder, Member, PATIENCE, SOON};
use crate::client::{Grpc, Messages, Stream, run, sleep};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const WINDOW: u32 = 1 << 20;
/// Clients that write at the same time.
const WRITERS: usize = 8;
/// Acknowledged writes before the trap is armed: with values of this size fjall's own thread has work by then.
const WRITES_MIN: usize = 400;
const VALUE_BYTES: usize = 32 * 1024;

pub(crate) fn a_panic_of_the_node_ends_the_process(runtime: Arc<dyn Runtime>) {
    ends(&runtime, "quoin-node");
}

pub(crate) fn a_panic_of_the_log_lane_ends_the_process(runtime: Arc<dyn Runtime>) {
    ends(&runtime, "quoin-wal");
}

pub(crate) fn a_panic_of_the_table_lane_ends_the_process(runtime: Arc<dyn Runtime>) {
    ends(&runtime, "quoin-table");
}

pub(crate) fn a_panic_of_the_watch_thread_ends_the_process(runtime: Arc<dyn Runtime>) {
    ends(&runtime, "quoin-watch");
}

pub(crate) fn a_panic_of_fjalls_own_thread_ends_the_process(runtime: Arc<dyn Runtime>) {
    ends(&runtime, "fjall:worker");
}

fn put(key: String, bytes: usize) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: vec![b'v'; bytes].into(),
        ..PutRequest::default()
    }
}

fn everything(prefix: &'static str) -> RangeRequest {
    RangeRequest {
        key: prefix.into(),
        range_end: b"z"[..].into(),
        keys_only: true,
        ..RangeRequest::default()
    }
}

type Acknowledged = Arc<Mutex<BTreeSet<String>>>;

/// Starts clients that write until the server has ended, and a client that watches.
fn load(runtime: &Arc<dyn Runtime>, address: SocketAddr) -> Acknowledged {
    let acknowledged = Acknowledged::default();
    for writer in 0..WRITERS {
        let (client, acknowledged) = (Arc::clone(runtime), Arc::clone(&acknowledged));
        runtime.spawn(Box::pin(async move {
            let grpc = Grpc::connect(&client, address, WINDOW).await;
            for number in 0.. {
                let key = format!("k{writer}-{number}");
                if grpc.call(PUT, &[], &put(key.clone(), VALUE_BYTES)).await.status.0 != 0 {
                    return;
                }
                acknowledged.lock().unwrap().insert(key);
            }
        }));
    }
    let client = Arc::clone(runtime);
    runtime.spawn(Box::pin(async move {
        let grpc = Grpc::connect(&client, address, WINDOW).await;
        let (_requests, mut responses) = watch(&grpc).await;
        while responses.next().await.is_ok() {}
    }));
    acknowledged
}

async fn watch(grpc: &Grpc) -> (Messages, Stream) {
    let (requests, responses) = grpc.begin("/etcdserverpb.Watch/Watch", &[]).await;
    let create = WatchCreateRequest {
        key: "k".into(),
        range_end: "l".into(),
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest {
        request_union: Some(watch_request::RequestUnion::CreateRequest(create)),
    };
    requests.send(&request).await;
    (requests, responses)
}

fn ends(runtime: &Arc<dyn Runtime>, thread: &str) {
    let folder = Folder::new();
    let mut member = folder.start(Some(("panic", thread)), &[]);
    let acknowledged = load(runtime, member.ready());
    let deadline = Instant::now() + PATIENCE;
    while acknowledged.lock().unwrap().len() < WRITES_MIN {
        assert!(Instant::now() < deadline && member.is_running(), "{}", member.text());
        std::thread::sleep(Duration::from_millis(5));
    }
    folder.arm();
    let (sprung, _) = member.line("the trap springs");
    let (ended, status) = member.ended();
    let took = ended - sprung;
    println!("a panic of {thread} ends the process after {took:?}");
    assert!(took < SOON, "{took:?}");
    assert_eq!(status.code(), Some(1));
    let (_, last) = member.line("the member cannot go on");
    assert!(
        last.contains(&format!("thread {thread} panicked at "))
            && last.contains("trap.rs:")
            && last.contains("on purpose"),
        "{last}"
    );
    let text = member.text();
    assert_eq!(text.matches("on purpose").count(), expected_lines(thread), "{text}");
    folder.disarm();
    check_kept(runtime, &folder, &acknowledged);
}

/// A guarded thread's panic is logged when it is caught, and once more as the reason of the end.
fn expected_lines(thread: &str) -> usize {
    if thread.starts_with("quoin") { 2 } else { 1 }
}

/// Asserts that a restarted member has every acknowledged write.
fn check_kept(runtime: &Arc<dyn Runtime>, folder: &Folder, acknowledged: &Acknowledged) {
    let mut member = folder.start(None, &[]);
    let (address, client) = (member.ready(), Arc::clone(runtime));
    let found: RangeResponse = run(runtime, async move {
        let grpc = Grpc::connect(&client, address, WINDOW).await;
        grpc.ok(RANGE, &everything("k")).await
    });
    let found: BTreeSet<String> = found
        .kvs
        .iter()
        .map(|kv| String::from_utf8(kv.key.to_vec()).unwrap())
        .collect();
    let acknowledged = acknowledged.lock().unwrap();
    let lost: Vec<&String> = acknowledged.difference(&found).collect();
    assert!(
        lost.is_empty(),
        "{} of {} are lost: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
}

/// Waits until the trap has acted, then disarms it.
fn disarm(folder: &Folder, member: &mut Member) {
    member.line("the trap springs");
    folder.disarm();
}

pub(crate) fn a_panic_of_a_call_ends_only_that_call(runtime: Arc<dyn Runtime>) {
    let folder = Folder::new();
    let mut member = folder.start(Some(("panic", "quoin-worker")), &[]);
    let (address, client) = (member.ready(), Arc::clone(&runtime));
    let (grpc, _requests, mut responses) = run(&runtime, async move {
        let grpc = Grpc::connect(&client, address, WINDOW).await;
        let (requests, mut responses) = watch(&grpc).await;
        let created: WatchResponse = responses.message().await;
        assert!(created.created);
        (grpc, requests, responses)
    });
    folder.arm();
    let failing = grpc.clone();
    let outcome = run(&runtime, async move {
        failing.call(PUT, &[], &put("k".to_owned(), 1)).await
    });
    assert_ne!(outcome.status.0, 0);
    disarm(&folder, &mut member);
    member.line("a thread panicked");
    run(&runtime, async move {
        let _: PutResponse = grpc.ok(PUT, &put("k".to_owned(), 1)).await;
        let seen: WatchResponse = responses.message().await;
        assert_eq!(seen.events.len(), 1, "the connection and its watch still work");
    });
    assert!(member.is_running());
}

pub(crate) fn a_panic_of_a_hash_ends_only_that_hash(runtime: Arc<dyn Runtime>) {
    let folder = Folder::new();
    let mut member = folder.start(Some(("panic", "quoin-hash")), &[]);
    let address = member.ready();
    folder.arm();
    let client = Arc::clone(&runtime);
    run(&runtime, async move {
        let grpc = Grpc::connect(&client, address, WINDOW).await;
        for _ in 0..4 {
            let _: PutResponse = grpc.ok(PUT, &put("k".to_owned(), 1)).await;
        }
        let request = CompactionRequest {
            revision: 3,
            physical: true,
        };
        let _: CompactionResponse = grpc.ok("/etcdserverpb.KV/Compact", &request).await;
    });
    disarm(&folder, &mut member);
    member.line("a thread panicked");
    let client = Arc::clone(&runtime);
    run(&runtime, async move {
        let grpc = Grpc::connect(&client, address, WINDOW).await;
        let request = HashKvRequest { revision: 5 };
        let hash: HashKvResponse = grpc.ok("/etcdserverpb.Maintenance/HashKV", &request).await;
        assert_ne!(hash.hash, 0);
        let request = CompactionRequest {
            revision: 4,
            physical: true,
        };
        let _: CompactionResponse = grpc.ok("/etcdserverpb.KV/Compact", &request).await;
        sleep(&client, Duration::from_millis(1)).await;
    });
    member.line("storing new hash");
    assert!(member.is_running());
}

/// A disk that refuses a file as large as the table's journal, but takes one as large as a segment of the log: the last
/// line has the directory and the system's error, and a line of fjall before it has the file.
pub(crate) fn an_error_names_the_file_and_the_errno(_: Arc<dyn Runtime>) {
    let folder = Folder::new();
    // In units of 512 bytes.
    let mut member = Member::spawn(&folder, None, &[], &["ulimit -f 125001"]);
    let (_, status) = member.ended();
    assert_eq!(status.code(), Some(1));
    let table = folder.data_dir().join("member").join("snap").join("fjall");
    let (_, last) = member.line("the member cannot go on error");
    let expected = format!("cannot write {}: File too large (os error 27)", table.display());
    assert!(last.contains(&expected), "{last}");
    let (_, first) = member.line("library=fjall");
    assert!(first.contains(&table.join("0.jnl").display().to_string()), "{first}");
}
