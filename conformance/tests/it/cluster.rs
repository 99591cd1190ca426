//! Three members on loopback, over etcd's peer protocol: clusters of one kind of server, and a cluster of ours and a
//! real etcd. All clusters play the same stories, so the cluster of real etcds checks the stories themselves.

use std::{fmt, time::Duration};

use etcd_client::{Client, GetOptions};
use quoin_conformance::{
    Kind, Launch, Server,
    server::{HEALTH_LIMIT, free_address},
    wait,
};
use tokio::{runtime::Runtime, task::JoinSet};

use crate::common::asking;

const NAMES: [&str; 3] = ["one", "two", "three"];
/// The limit for an election, with the timeouts of clients during it, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(20);
/// A call is repeated after this time: a write that is lost with a leader gets an answer only after seven seconds.
const WRITERS: usize = 32;
const WRITES: usize = 20;

macro_rules! in_every_cluster {
    ($($story:ident),+ $(,)?) => {
        in_every_cluster!(@row real_etcd, [Etcd, Etcd, Etcd]: $($story)+);
        in_every_cluster!(@row quoin_tokio, [QuoinTokio, QuoinTokio, QuoinTokio]: $($story)+);
        in_every_cluster!(@row quoin_smol, [QuoinSmol, QuoinSmol, QuoinSmol]: $($story)+);
        in_every_cluster!(@row beside_an_etcd, [QuoinTokio, QuoinSmol, Etcd]: $($story)+);
    };
    (@row $row:ident, [$a:ident, $b:ident, $c:ident]: $($story:ident)+) => {
        mod $row {
            use quoin_conformance::Kind;
            $(
                #[test]
                fn $story() {
                    super::$story([Kind::$a, Kind::$b, Kind::$c]);
                }
            )+
        }
    };
}

in_every_cluster!(
    what_is_written_at_one_member_is_read_at_the_others,
    a_killed_leader_is_replaced_and_catches_up,
    a_leader_that_is_asked_to_end_hands_over,
    a_member_that_missed_the_log_gets_a_snapshot,
);

/// Three members and a runtime for their clients.
struct Cluster {
    servers: Vec<Server>,
    runtime: Runtime,
}

impl Cluster {
    /// Starts three members together, and waits until each is healthy.
    fn start(kinds: [Kind; 3], flags: &[&str]) -> Self {
        let members = NAMES.map(|name| (name, free_address().expect("a port")));
        let begun = wait::now();
        let mut servers: Vec<Server> = kinds
            .into_iter()
            .zip(NAMES)
            .map(|(kind, name)| {
                let launch = Launch::of(kind).expect("a program").member(name, &members);
                let launch = flags.iter().fold(launch, |launch, flag| launch.flag(*flag));
                launch.spawn().expect("a process")
            })
            .collect();
        for server in &mut servers {
            server.wait_healthy(HEALTH_LIMIT, STEP).expect("a healthy member");
        }
        println!("three members were healthy after {:?}", begun.elapsed());
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime for the clients");
        Self { servers, runtime }
    }

    /// Repeats a call at a member until it succeeds. Every call of these stories may be repeated.
    fn ask<T, F: Future<Output = Result<T, etcd_client::Error>>>(&self, at: usize, call: impl Fn(Client) -> F) -> T {
        asking::ask(&self.runtime, &self.servers[at], call)
    }

    fn put(&self, at: usize, key: impl fmt::Display, value: impl Into<Vec<u8>> + Clone) {
        let key = key.to_string();
        self.ask(at, |mut client| {
            let (key, value) = (key.clone(), value.clone());
            async move { client.put(key, value, None).await }
        });
    }

    /// The value of a key, by a linearizable read.
    fn get(&self, at: usize, key: impl fmt::Display) -> Option<String> {
        let key = key.to_string();
        let answer = self.ask(at, |mut client| {
            let key = key.clone();
            async move { client.get(key, None).await }
        });
        let value = answer.kvs().first().map(|kv| kv.value_str().map(str::to_owned));
        value.map(|value| value.expect("text"))
    }

    /// Waits until the members of `among` agree that one of them is the leader, and returns it.
    fn leader(&self, among: &[usize]) -> usize {
        let found = wait::until(PATIENCE, STEP, || {
            let said = among.iter().map(|at| {
                let status = self.ask(*at, |mut client| async move { client.status().await });
                let own = status.header().map(etcd_client::ResponseHeader::member_id);
                (*at, own.expect("a header"), status.leader())
            });
            let said: Vec<(usize, u64, u64)> = said.collect();
            let (leader, id, _) = said.iter().find(|(_, own, leader)| own == leader)?;
            said.iter().all(|(_, _, leader)| leader == id).then_some(*leader)
        });
        found.expect("the members agree on a leader")
    }

    /// Waits until all members have the same revision, and compares their hashes at it.
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
            revisions
                .iter()
                .all(|found| *found == revisions[0])
                .then_some(revisions[0])
        });
        let revision = same.expect("the members reach the same revision");
        let hashes = [0, 1, 2].map(|at| {
            let answer = self.ask(at, move |mut client| async move { client.hash_kv(revision).await });
            answer.hash()
        });
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?} at {revision}");
    }

    /// Many clients write at every member; returns the number of writes.
    fn load(&self) -> usize {
        let addresses: Vec<String> = self.servers.iter().map(|server| server.address().to_string()).collect();
        self.runtime.block_on(async {
            let mut writers = JoinSet::new();
            for writer in 0..WRITERS {
                let address = addresses[writer % addresses.len()].clone();
                writers.spawn(async move {
                    let mut client = Client::connect([address], None).await.expect("a client");
                    for write in 0..WRITES {
                        let key = format!("load/{writer}/{write}");
                        client.put(key, "x", None).await.expect("a write");
                    }
                });
            }
            while let Some(ended) = writers.join_next().await {
                ended.expect("a writer ends");
            }
        });
        WRITERS * WRITES
    }
}

fn what_is_written_at_one_member_is_read_at_the_others(kinds: [Kind; 3]) {
    let cluster = Cluster::start(kinds, &[]);
    for writer in 0..3 {
        cluster.put(writer, format_args!("k{writer}"), format!("v{writer}"));
        for reader in 0..3 {
            let read = cluster.get(reader, format_args!("k{writer}"));
            assert_eq!(
                read,
                Some(format!("v{writer}")),
                "written at {writer}, read at {reader}"
            );
        }
    }
    let begun = wait::now();
    let writes = cluster.load();
    println!("{writes} writes took {:?}", begun.elapsed());
    cluster.agree();
}

fn a_killed_leader_is_replaced_and_catches_up(kinds: [Kind; 3]) {
    let mut cluster = Cluster::start(kinds, &[]);
    let leader = cluster.leader(&[0, 1, 2]);
    cluster.put(leader, "before", "1");
    cluster.servers[leader].kill().expect("it was running");
    let begun = wait::now();
    let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    cluster.put(others[0], "after", "2");
    println!("a write succeeded {:?} after the leader was killed", begun.elapsed());
    assert_ne!(cluster.leader(&others), leader);
    for at in &others {
        assert_eq!(cluster.get(*at, "before").as_deref(), Some("1"));
        assert_eq!(cluster.get(*at, "after").as_deref(), Some("2"));
    }
    cluster.servers[leader].restart().expect("it starts again");
    assert_eq!(cluster.get(leader, "after").as_deref(), Some("2"));
    cluster.put(leader, "again", "3");
    cluster.agree();
}

fn a_leader_that_is_asked_to_end_hands_over(kinds: [Kind; 3]) {
    let mut cluster = Cluster::start(kinds, &[]);
    let leader = cluster.leader(&[0, 1, 2]);
    cluster.put(leader, "before", "1");
    cluster.servers[leader].terminate().expect("it ends");
    let begun = wait::now();
    let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    cluster.put(others[0], "after", "2");
    println!("a write succeeded {:?} after the leader had ended", begun.elapsed());
    cluster.servers[leader].restart().expect("it starts again");
    assert_eq!(cluster.get(leader, "after").as_deref(), Some("2"));
    cluster.agree();
}

fn a_member_that_missed_the_log_gets_a_snapshot(kinds: [Kind; 3]) {
    let flags = ["--snapshot-count=10", "--experimental-snapshot-catchup-entries=5"];
    let mut cluster = Cluster::start(kinds, &flags);
    let leader = cluster.leader(&[0, 1, 2]);
    // In the mixed cluster, the last member is the real etcd.
    let late = if leader == 2 { 1 } else { 2 };
    cluster.servers[late].kill().expect("it was running");
    for number in 0..60 {
        cluster.put(leader, format_args!("k{number}"), vec![b'x'; 100_000]);
    }
    cluster.servers[late].restart().expect("it starts again");
    let read = cluster.get(late, "k59").expect("it has the last key");
    assert_eq!(read.len(), 100_000);
    let log = cluster.servers[late].log();
    assert!(log.contains("saved database snapshot"), "it got no snapshot");
    cluster.agree();
}
