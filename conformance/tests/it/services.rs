//! Locks, elections and downgrades in a cluster of three: a call at one member is seen at the others.

#![expect(clippy::disallowed_methods, reason = "the tests run on tokio only")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use etcd_client::{Client, DowngradeOptions, Error, LeaderKey, LeaseGrantOptions, LockOptions, ResignOptions};
use quoin_conformance::{Kind, Launch, Server, wait};

const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(50);

/// Three members, each with a client.
struct Cluster {
    first: Server,
    clients: [Client; 3],
}

impl Cluster {
    async fn start(kind: Kind) -> Self {
        let launch = Launch::of(kind).expect("a program").members(3);
        let first = launch.start().expect("a healthy cluster");
        let mut clients = Vec::new();
        for server in [&first].into_iter().chain(first.companions()) {
            let client = Client::connect([server.address().to_string()], None).await;
            clients.push(client.expect("a connection on loopback"));
        }
        let clients = clients.try_into().unwrap_or_else(|_| panic!("three members"));
        Self { first, clients }
    }

    fn members(&self) -> impl Iterator<Item = &Server> {
        [&self.first].into_iter().chain(self.first.companions())
    }

    /// Waits until every member answers a GET at its client port or its peer port with this at the end.
    fn all_answer(&self, path: &str, at_peer_port: bool, found: &str) {
        for server in self.members() {
            let address = if at_peer_port {
                server.peer_address()
            } else {
                server.address()
            };
            let mut last = String::new();
            let agreed = wait::until(PATIENCE, STEP, || {
                last = get(address, path).unwrap_or_default();
                last.contains(found).then_some(())
            });
            assert!(
                agreed.is_some(),
                "{} answers {last:?} to {path}, not {found}",
                server.name()
            );
        }
    }
}

/// The whole HTTP/1.1 answer to a GET.
fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn play(story: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().expect("a runtime for the clients");
    runtime.block_on(async {
        let limited = tokio::time::timeout(2 * PATIENCE, story).await;
        limited.expect("the story ends in time");
    });
}

async fn grant(client: &mut Client, id: i64, ttl: i64) {
    let options = Some(LeaseGrantOptions::new().with_id(id));
    client.lease_grant(ttl, options).await.expect("a lease");
}

/// Waits until a key exists, or does not.
async fn until(client: &mut Client, key: &str, exists: bool) {
    while (client.get(key, None).await.expect("an answer").count() > 0) != exists {
        tokio::time::sleep(STEP).await;
    }
}

async fn waits_across_members(kind: Kind) {
    let cluster = Cluster::start(kind).await;
    let [mut one, mut two, mut three] = cluster.clients.clone();
    for id in 1..=3 {
        grant(&mut one, id, 600).await;
    }
    let with = |lease| Some(LockOptions::new().with_lease(lease));
    let held = one.lock("l", with(1)).await.expect("a free lock");
    let waiter = tokio::spawn({
        let mut two = two.clone();
        async move { two.lock("l", with(2)).await }
    });
    until(&mut three, "l/2", true).await;
    three.unlock(held.key()).await.expect("any member unlocks");
    let got = waiter.await.expect("no panic").expect("the lock");
    assert_eq!(got.key(), b"l/2");

    // The holder's lease ends: every waiter is woken by its own member.
    grant(&mut one, 9, 2).await;
    one.campaign("e", "first", 9).await.expect("the first candidate");
    let candidate = tokio::spawn({
        let mut three = three.clone();
        async move { three.campaign("e", "second", 3).await }
    });
    let won = candidate.await.expect("no panic").expect("an election");
    let leader: LeaderKey = won.leader().cloned().expect("a leader");
    assert_eq!(leader.key(), b"e/3");
    let seen = two.leader("e").await.expect("a leader");
    assert_eq!(seen.kv().map(|kv| kv.value().to_vec()), Some(b"second".to_vec()));
    let mut observer = two.observe("e").await.expect("a stream");
    let first = observer.message().await.expect("a message").expect("an open stream");
    assert_eq!(first.kv().map(|kv| kv.value().to_vec()), Some(b"second".to_vec()));
    let options = Some(ResignOptions::new().with_leader(leader));
    one.resign(options).await.expect("any member resigns");
    one.campaign("e", "third", 1).await.expect("the last candidate");
    let next = observer.message().await.expect("a message").expect("an open stream");
    assert_eq!(next.kv().map(|kv| kv.key().to_vec()), Some(b"e/1".to_vec()));
}

#[test]
fn locks_and_elections_wait_across_members_of_etcd() {
    play(waits_across_members(Kind::Etcd));
}

#[test]
fn locks_and_elections_wait_across_members_of_quoin_tokio() {
    play(waits_across_members(Kind::QuoinTokio));
}

#[test]
fn locks_and_elections_wait_across_members_of_quoin_smol() {
    play(waits_across_members(Kind::QuoinSmol));
}

async fn downgrade(client: &Client, options: DowngradeOptions) -> Result<String, Error> {
    let answer = client.maintenance_client().downgrade(options).await?;
    Ok(answer.version().to_owned())
}

/// A cluster of ours has version 3.6. A member of etcd 3.5 can join after a downgrade.
#[test]
fn a_downgrade_lowers_the_cluster_version_and_outlives_a_restart() {
    play(async {
        let mut cluster = Cluster::start(Kind::QuoinTokio).await;
        let [one, two, _] = cluster.clients.clone();
        let at_peers = |cluster: &Cluster, enabled: &str| cluster.all_answer("/downgrade/enabled", true, enabled);
        let has_version = |cluster: &Cluster, minor: u64| {
            cluster.all_answer("/version", false, &format!("\"etcdcluster\":\"3.{minor}.0\""));
        };
        has_version(&cluster, 6);
        at_peers(&cluster, "false");
        let enable = || DowngradeOptions::Enable("3.5".to_owned());
        assert_eq!(downgrade(&one, enable()).await.expect("a downgrade"), "3.6.0");
        at_peers(&cluster, "true");
        has_version(&cluster, 5);
        let refusal = downgrade(&two, enable()).await.expect_err("3.4 would be the next");
        assert!(
            refusal.to_string().contains("invalid downgrade target version"),
            "{refusal}"
        );

        cluster.first.terminate().expect("a graceful end");
        cluster.first.restart().expect("its data is its own");
        at_peers(&cluster, "true");
        has_version(&cluster, 5);

        assert_eq!(
            downgrade(&two, DowngradeOptions::Cancel).await.expect("an end"),
            "3.5.0"
        );
        at_peers(&cluster, "false");
        has_version(&cluster, 5);
    });
}
