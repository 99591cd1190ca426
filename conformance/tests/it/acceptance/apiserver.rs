//! kube-apiserver: its look at Status, consistent reads by progress of a watch, lists and the compaction of history.

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse, WatchOptions, WatchResponse,
};
use quoin_conformance::{Launch, wait};
use tokio::task::JoinSet;

use super::{PATIENCE, client, on_each, runtime, status};

const REQUESTS: usize = 20;
/// How often it asks for progress while a consistent read waits.
const PROGRESS_STEP: Duration = Duration::from_millis(100);
const WRITERS: usize = 8;
const OUT_OF_RANGE: i32 = 11;

#[test]
fn kube_apiserver_reads_and_compacts() {
    on_each(|kind| {
        let server = Launch::of(kind)
            .expect("a program")
            .flag("--max-snapshots=5")
            .flag("--v2-deprecation=write-only")
            .start()
            .expect("a healthy server");
        runtime().block_on(async {
            let mut client = client(&server).await;
            the_status_allows_progress(&mut client).await;
            lists_are_read_in_pages(&mut client).await;
            keys_are_counted_without_values(&mut client).await;
            history_is_compacted_by_one_of_several(&mut client).await;
            progress_never_is_ahead_of_events(&client).await;
        });
    });
}

/// Watch progress is used from 3.5.13 on; a database of size 0 makes tools divide by it.
async fn the_status_allows_progress(client: &mut Client) {
    let status = client.status().await.expect("a status");
    let parts = status.version().split('.').map(str::parse::<u32>);
    let version: Vec<u32> = parts.map(|part| part.expect("a number")).collect();
    assert!(version.len() == 3 && version >= vec![3, 5, 13], "{}", status.version());
    assert!(status.db_size() > 0 && status.raft_used_db_size() > 0, "{status:?}");
}

/// The pages of a list have the revision of the first.
async fn lists_are_read_in_pages(client: &mut Client) {
    for number in 0..25 {
        let key = format!("/registry/configmaps/{number:02}");
        client.put(key, "old", None).await.expect("a put");
    }
    let end = "/registry/configmaps0";
    let page = GetOptions::new().with_range(end).with_limit(10);
    let first = client.get("/registry/configmaps/", Some(page.clone())).await;
    let first = first.expect("the first page");
    let revision = first.header().expect("a header").revision();
    assert_eq!((first.count(), first.more(), first.kvs().len()), (25, true, 10));
    let mut last = first.kvs()[9].key().to_vec();
    client.put("/registry/configmaps/24", "new", None).await.expect("a put");
    for (left, length) in [(15, 10), (5, 5)] {
        last.push(0);
        let options = page.clone().with_revision(revision);
        let next = client.get(last, Some(options)).await.expect("the next page");
        assert_eq!((next.count(), next.more(), next.kvs().len()), (left, left > 10, length));
        assert!(next.kvs().iter().all(|kv| kv.value() == b"old"));
        last = next.kvs()[length - 1].key().to_vec();
    }
    client.compact(revision + 1, None).await.expect("a compaction");
    let late = client.get(last, Some(page.with_revision(revision))).await;
    let compacted = "etcdserver: mvcc: required revision has been compacted".to_owned();
    assert_eq!(status(late.expect_err("a refusal")), (OUT_OF_RANGE, compacted));
}

/// The sizes of resources are estimated from keys alone; the lease of a key is not left out with its value.
async fn keys_are_counted_without_values(client: &mut Client) {
    let lease = client.lease_grant(3600, None).await.expect("a lease").id();
    let leased = PutOptions::new().with_lease(lease);
    client
        .put("/registry/events/a", "value", Some(leased))
        .await
        .expect("a put");
    let options = GetOptions::new().with_prefix().with_keys_only();
    let found = client.get("/registry/events/", Some(options)).await.expect("keys");
    let [kv] = found.kvs() else { panic!("{found:?}") };
    assert_eq!((kv.value(), kv.lease(), kv.version()), (&b""[..], lease, 1));
    assert!(kv.create_revision() > 0 && kv.mod_revision() == kv.create_revision());
}

/// All servers of the API try this every five minutes; the version of one key decides which of them compacts.
async fn history_is_compacted_by_one_of_several(client: &mut Client) {
    let key = "compact_rev_key";
    let turn = |version: i64, revision: i64| {
        Txn::new()
            .when([Compare::version(key, CompareOp::Equal, version)])
            .and_then([TxnOp::put(key, revision.to_string(), None)])
            .or_else([TxnOp::get(key, None)])
    };
    let now = client.txn(turn(0, 0)).await.expect("a transaction");
    assert!(now.succeeded());
    let revision = now.header().expect("a header").revision();
    let won = client.txn(turn(1, revision)).await.expect("a transaction");
    let lost = client.txn(turn(1, revision)).await.expect("a transaction");
    assert!(won.succeeded() && !lost.succeeded());
    let Some(TxnOpResponse::Get(current)) = lost.op_responses().into_iter().next() else {
        panic!("{lost:?}");
    };
    let current = &current.kvs()[0];
    assert_eq!(
        (current.version(), current.value()),
        (2, revision.to_string().as_bytes())
    );
    client.compact(revision, None).await.expect("a compaction");
    let again = client.compact(revision, None).await.expect_err("a refusal");
    assert_eq!(status(again).0, OUT_OF_RANGE);
}

/// What a watch of one prefix has been sent.
struct WatchCache {
    /// The revision of the last event, or of the read before the watch.
    revision: i64,
    reports: usize,
}

impl WatchCache {
    /// Checks that no event is missing, and that a report of progress is not ahead of the events. Only this prefix is
    /// written, one key at each revision.
    fn take(&mut self, answer: &WatchResponse) {
        assert!(!answer.canceled(), "{answer:?}");
        for event in answer.events() {
            let revision = event.kv().expect("a key").mod_revision();
            assert_eq!(revision, self.revision + 1, "an event is missing");
            self.revision = revision;
        }
        if answer.events().is_empty() {
            self.reports += 1;
            let revision = answer.header().expect("a header").revision();
            assert_eq!(revision, self.revision, "progress is not where the events are");
        }
    }
}

/// While others write, each consistent read from the cache takes a revision, and waits until the watch is there.
async fn progress_never_is_ahead_of_events(client: &Client) {
    let writing = writers(client);
    let mut reads = client.clone();
    let begin = current(&mut reads).await;
    let options = WatchOptions::new()
        .with_prefix()
        .with_start_revision(begin + 1)
        .with_progress_notify();
    let stream = reads.watch("/registry/", Some(options)).await.expect("a watch");
    let (mut asking, mut answers) = stream.split();
    let created = answers.message().await.expect("an answer").expect("an open stream");
    assert!(created.created());
    let mut cache = WatchCache {
        revision: begin,
        reports: 0,
    };
    for _ in 0..REQUESTS {
        let wanted = current(&mut reads).await;
        asking.request_progress().await.expect("an open stream");
        let next = wait::Deadline::after(PROGRESS_STEP);
        while cache.revision < wanted || !next.passed() {
            let limit = if cache.revision < wanted {
                PATIENCE
            } else {
                PROGRESS_STEP
            };
            let Ok(answer) = tokio::time::timeout(limit, answers.message()).await else {
                assert!(cache.revision >= wanted, "the watch does not reach {wanted}");
                break;
            };
            cache.take(&answer.expect("an answer").expect("an open stream"));
        }
    }
    drop(writing);
    assert!(cache.reports > 0, "no request for progress was answered");
}

/// Clients that write without a pause, until this is dropped.
fn writers(client: &Client) -> JoinSet<()> {
    let mut writing = JoinSet::new();
    for writer in 0..WRITERS {
        let mut client = client.clone();
        writing.spawn(async move {
            loop {
                let key = format!("/registry/pods/{writer}");
                client.put(key, vec![b'v'; 1_000], None).await.expect("a put");
            }
        });
    }
    writing
}

/// The current revision, by a linearizable read.
async fn current(client: &mut Client) -> i64 {
    let count = GetOptions::new().with_count_only();
    let read = client.get("/registry/pods/0", Some(count)).await.expect("a read");
    read.header().expect("a header").revision()
}
