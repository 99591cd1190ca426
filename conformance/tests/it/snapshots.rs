//! Snapshots between processes that are killed, or that need another snapshot at once. A proxy before each peer port
//! stops a snapshot at any byte.

use std::{fs, time::Duration};

use etcd_client::{Client, GetOptions};
use quoin_conformance::{
    Kind, Launch, Server, members::start_behind_proxies, proxy::Proxy, server::HEALTH_LIMIT, wait,
};
use tokio::runtime::Runtime;

use crate::common::asking;

/// Elections, and the timeouts of clients meanwhile, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(5);
/// A leader keeps only a few entries, so a member that was away needs a snapshot soon.
const FLAGS: [&str; 2] = ["--snapshot-count=10", "--experimental-snapshot-catchup-entries=5"];
/// Writes after which a member that missed them needs a snapshot.
const MANY: usize = 30;

/// Three members, each reached by its peers through a proxy.
struct Cluster {
    servers: Vec<Server>,
    proxies: Vec<Proxy>,
    runtime: Runtime,
}

impl Cluster {
    fn start(kind: Kind) -> Self {
        let launch = Launch::of(kind).expect("a program");
        let launch = FLAGS.iter().fold(launch, |launch, flag| launch.flag(*flag));
        let (servers, proxies) = start_behind_proxies(vec![launch; 3]).expect("three healthy members");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Self {
            servers,
            proxies,
            runtime: runtime.expect("a runtime for the clients"),
        }
    }

    /// Repeats a call at a member until it succeeds. Every call of these stories may be repeated.
    fn ask<T, F: Future<Output = Result<T, etcd_client::Error>>>(&self, at: usize, call: impl Fn(Client) -> F) -> T {
        asking::ask(&self.runtime, &self.servers[at], call)
    }

    /// The ids of a member and of the leader that it knows.
    fn ids(&self, at: usize) -> (u64, u64) {
        let status = self.ask(at, |mut client| async move { client.status().await });
        let own = status.header().map(etcd_client::ResponseHeader::member_id);
        (own.expect("a header"), status.leader())
    }

    /// The leader, and the two others.
    fn roles(&self) -> (usize, usize, usize) {
        let found = wait::until(PATIENCE, STEP, || {
            let ids = [0, 1, 2].map(|at| self.ids(at));
            let leader = ids.iter().position(|(own, leader)| own == leader)?;
            ids.iter().all(|(_, said)| *said == ids[leader].0).then_some(leader)
        });
        let leader = found.expect("the members agree on a leader");
        (leader, (leader + 1) % 3, (leader + 2) % 3)
    }

    fn put(&self, at: usize, count: usize, bytes: usize) {
        for number in 0..count {
            let (key, value) = (format!("{bytes}/{number}"), vec![b'x'; bytes]);
            self.ask(at, |mut client| {
                let (key, value) = (key.clone(), value.clone());
                async move { client.put(key, value, None).await }
            });
        }
    }

    /// Gives the leadership to a member.
    fn lead(&self, from: usize, to: usize) {
        let (id, _) = self.ids(to);
        self.ask(from, |mut client| async move {
            if client.status().await?.leader() == id {
                return Ok(());
            }
            client.move_leader(id).await.map(drop)
        });
    }

    /// Waits until a snapshot for this member, later than the first `before` ones, has come so far.
    fn await_bytes(&self, at: usize, before: usize, bytes: u64) {
        let proxy = &self.proxies[at];
        let arrived = wait::until(PATIENCE, STEP, || {
            let snapshot = proxy.snapshot();
            (snapshot.begun > before && snapshot.bytes >= bytes).then_some(())
        });
        assert!(
            arrived.is_some(),
            "no snapshot of {bytes} bytes comes: {:?}",
            proxy.snapshot()
        );
    }

    /// Waits until a member has logged this many received snapshots.
    fn await_saved(&self, at: usize, count: usize) {
        let saved = || self.servers[at].log().matches("saved database snapshot").count();
        let arrived = wait::until(PATIENCE, STEP, || (saved() >= count).then_some(()));
        assert!(arrived.is_some(), "{} snapshots arrived instead of {count}", saved());
    }

    /// Waits until all members have the same revision, and compares their hashes at it. No part of a snapshot is left.
    fn agree(&self) {
        let revision = |at| {
            let answer = self.ask(at, |mut client: Client| async move {
                let options = GetOptions::new().with_serializable().with_count_only();
                client.get("none", Some(options)).await
            });
            answer.header().map_or(0, etcd_client::ResponseHeader::revision)
        };
        let same = wait::until(PATIENCE, STEP, || {
            let revisions = [0, 1, 2].map(revision);
            let first = revisions[0];
            revisions.iter().all(|found| *found == first).then_some(first)
        });
        let revision = same.expect("the members reach the same revision");
        let hashes = [0, 1, 2].map(|at| {
            let answer = self.ask(at, move |mut client| async move { client.hash_kv(revision).await });
            answer.hash()
        });
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?} at {revision}");
        for server in &self.servers {
            let files = fs::read_dir(server.data_dir().join("member").join("snap")).expect("a directory");
            let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
            let parts: Vec<String> = names.filter(|name| name.ends_with(".snap.db.tmp")).collect();
            assert_eq!(parts, [""; 0], "parts of snapshots are left");
        }
    }
}

/// The follower is killed when a tenth of the snapshot has arrived, then when two tenths have, and so on; the last time,
/// while it restores the whole.
fn a_follower_is_killed_at_each_tenth_of_a_snapshot(kind: Kind) {
    let mut cluster = Cluster::start(kind);
    let (leader, late, other) = cluster.roles();
    cluster.servers[late].kill().expect("it was running");
    cluster.put(leader, 40, 50_000);
    cluster.servers[late].restart().expect("it starts again");
    cluster.agree();
    let first = cluster.proxies[late].snapshot();
    assert!(first.bytes > 2_000_000, "it got a snapshot: {first:?}");
    cluster.servers[late].kill().expect("it was running");
    // The old leader keeps the entries behind its snapshot for a while, the new one does not.
    cluster.lead(leader, other);
    cluster.put(other, MANY, 10);
    let mut killed = 0;
    for tenth in 1..=10 {
        let (bytes, before) = (first.bytes * tenth / 10, cluster.proxies[late].snapshot().begun);
        cluster.proxies[late].hold_snapshots_at((tenth < 10).then_some(bytes));
        cluster.servers[late].spawn().expect("a process");
        cluster.await_bytes(late, before, bytes);
        cluster.servers[late].kill().expect("it was running");
        killed += 1;
    }
    assert_eq!(killed, 10);
    cluster.servers[late].restart().expect("it starts after the kills");
    cluster.put(other, 1, 11);
    cluster.agree();
}

/// The leader changes while a snapshot is under way, and the new leader has not kept the entries behind it.
fn a_second_snapshot_is_needed_while_the_first_is_sent(kind: Kind) {
    let mut cluster = Cluster::start(kind);
    let (leader, late, other) = cluster.roles();
    cluster.servers[late].kill().expect("it was running");
    cluster.put(leader, 40, 50_000);
    cluster.proxies[late].hold_snapshots_at(Some(1_000_000));
    cluster.servers[late].spawn().expect("a process");
    cluster.await_bytes(late, 0, 1_000_000);
    let begun = cluster.proxies[late].snapshot().begun;
    cluster.lead(leader, other);
    cluster.put(other, MANY, 10);
    cluster.await_bytes(late, begun, 1);
    cluster.proxies[late].hold_snapshots_at(None);
    cluster.servers[late]
        .wait_healthy(HEALTH_LIMIT, STEP)
        .expect("a healthy member");
    cluster.put(other, 1, 11);
    cluster.agree();
}

/// The follower is killed just after it has got a snapshot, and needs another one when it is back.
fn a_second_snapshot_is_needed_when_the_first_is_installed(kind: Kind) {
    let mut cluster = Cluster::start(kind);
    let (leader, late, other) = cluster.roles();
    cluster.servers[late].kill().expect("it was running");
    cluster.put(leader, 40, 50_000);
    cluster.servers[late].spawn().expect("a process");
    cluster.await_saved(late, 1);
    cluster.servers[late].kill().expect("it was running");
    // The old leader keeps the entries behind its snapshot for a while, the new one does not.
    cluster.lead(leader, other);
    cluster.put(other, MANY, 10);
    cluster.servers[late].restart().expect("it starts again");
    cluster.await_saved(late, 2);
    cluster.put(other, 1, 11);
    cluster.agree();
}

macro_rules! on_both_runtimes {
    ($($story:ident),+ $(,)?) => {
        mod quoin_tokio {
            $(
                #[test]
                fn $story() {
                    super::$story(quoin_conformance::Kind::QuoinTokio);
                }
            )+
        }
        mod quoin_smol {
            $(
                #[test]
                fn $story() {
                    super::$story(quoin_conformance::Kind::QuoinSmol);
                }
            )+
        }
    };
}

on_both_runtimes!(
    a_follower_is_killed_at_each_tenth_of_a_snapshot,
    a_second_snapshot_is_needed_while_the_first_is_sent,
    a_second_snapshot_is_needed_when_the_first_is_installed,
);
