//! Three real etcds with a proxy before each peer port.

use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error, GetOptions, MemberAddOptions};
use quoin_conformance::{
    Kind, Launch, Server,
    proxy::Proxy,
    server::{HEALTH_LIMIT, free_address},
    wait,
};
use tokio::runtime::Runtime;

use super::http::Exchange;

const NAMES: [&str; 3] = ["one", "two", "three"];
const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(20);
const CALL_LIMIT: Duration = Duration::from_secs(5);
const FLAGS: [&str; 3] = [
    "--snapshot-count=10",
    "--experimental-snapshot-catchup-entries=5",
    "--strict-reconfig-check=false",
];

/// Two members found a cluster, and elect, append and beat by streams. Then the streams are cut, so that messages are
/// posted; a learner joins meanwhile and gets a snapshot. In the end there are streams again.
pub(crate) fn record() -> Vec<Exchange> {
    let listen = NAMES.map(|_| free_address().expect("a port"));
    let proxies = listen.map(|address| Proxy::before(address).expect("a proxy"));
    let members: Vec<_> = NAMES.into_iter().zip(proxies.iter().map(Proxy::address)).collect();
    let start = |at: usize, members: &[_], state: &str| {
        let launch = Launch::of(Kind::Etcd).expect("a real etcd").member(NAMES[at], members);
        let launch = FLAGS.iter().fold(launch, |launch, flag| launch.flag(*flag));
        let launch = launch.flag(format!("--initial-cluster-state={state}"));
        launch.peers_at(listen[at]).spawn().expect("a process")
    };
    let mut servers: Vec<Server> = (0..2).map(|at| start(at, &members[..2], "new")).collect();
    for server in &mut servers {
        server.wait_healthy(HEALTH_LIMIT, STEP).expect("a healthy etcd");
    }
    let clients = Clients::new();
    clients.put(&servers[0], 20, 1_000);
    clients.put(&servers[1], 20, 100);
    // Longer than a piece that the proxy reads, and than a chunk that etcd writes.
    clients.put(&servers[0], 2, 700_000);
    for proxy in &proxies {
        proxy.refuse(Some("/raft/stream/"));
    }
    clients.add_learner(&servers[0], format!("http://{}", proxies[2].address()));
    servers.push(start(2, &members, "existing"));
    clients.put(&servers[0], 10, 10);
    clients.await_key(&servers[2], "10/9");
    for proxy in &proxies {
        proxy.refuse(None);
    }
    clients.put(&servers[1], 20, 20);
    clients.await_key(&servers[2], "20/19");
    let all = || proxies.iter().flat_map(|proxy| proxy.passed()).collect::<Vec<_>>();
    let probed = || {
        let exchanges: Vec<Exchange> = all().iter().flat_map(Exchange::all).collect();
        exchanges
            .iter()
            .any(|exchange| exchange.path() == "/raft/probing")
            .then_some(())
    };
    wait::until(PATIENCE, STEP * 10, probed).expect("an etcd asks whether another can be reached");
    for mut server in servers {
        server.kill().expect("it was running");
    }
    all().iter().flat_map(Exchange::all).collect()
}

struct Clients(Runtime);

impl Clients {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Self(runtime.expect("a runtime for the clients"))
    }

    fn call<T>(&self, server: &Server, call: impl AsyncFn(&mut Client) -> Result<T, Error>) -> Result<T, Error> {
        self.0.block_on(async {
            let limit = ConnectOptions::new().with_timeout(CALL_LIMIT);
            let mut client = Client::connect([server.address().to_string()], Some(limit)).await?;
            call(&mut client).await
        })
    }

    /// Repeats a call that may be repeated until it succeeds.
    fn ask<T>(&self, server: &Server, call: impl AsyncFn(&mut Client) -> Result<T, Error>) -> T {
        let answer = wait::until(PATIENCE, STEP, || self.call(server, &call).ok());
        answer.expect("an answer")
    }

    /// Puts the keys `<bytes>/0` and so on, with values of this length.
    fn put(&self, server: &Server, count: usize, bytes: usize) {
        for number in 0..count {
            self.ask(server, async |client| {
                let key = format!("{bytes}/{number}");
                client.put(key, vec![b'x'; bytes], None).await.map(drop)
            });
        }
    }

    /// Adds a learner. A request that is repeated is refused if the first one succeeded late.
    fn add_learner(&self, server: &Server, url: String) {
        let added = wait::until(PATIENCE, STEP, || {
            let _refused = self.call(server, async |client| {
                let options = MemberAddOptions::new().with_is_learner();
                client.member_add([&url], Some(options)).await.map(drop)
            });
            let members = self.ask(server, async |client| client.member_list().await);
            (members.members().len() == 3).then_some(())
        });
        added.expect("a learner is added");
    }

    /// Waits until a member has a key in its own state.
    fn await_key(&self, server: &Server, key: &str) {
        let found = wait::until(PATIENCE, STEP, || {
            let options = GetOptions::new().with_serializable();
            let answer = self.call(server, async |client| client.get(key, Some(options.clone())).await);
            answer.is_ok_and(|answer| answer.count() == 1).then_some(())
        });
        found.expect("the member gets the key");
    }
}
