//! What the programs that manage etcd pass, write and call, as sequences: each is played on a real etcd and on ours, and
//! asserts what the program relies on.

mod apiserver;
mod cluster_api;
mod deckhouse;
mod druid;
mod envtest;
mod k3s;
mod kubeadm;
mod openshift;
mod talos;

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use etcd_client::{Client, Error};
use quoin_conformance::{Kind, Server, server, wait};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::tls::etcdctl;
use quoin_conformance::certs::{Authority, CertPair};

const KINDS: [Kind; 3] = [Kind::Etcd, Kind::QuoinTokio, Kind::QuoinSmol];
/// Until a cluster has settled and answers as wanted, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(100);

/// Plays a story on each kind of server at the same time, because stories mostly wait.
fn on_each(story: fn(Kind)) {
    let failed: Vec<&str> = thread::scope(|scope| {
        let start = |kind: Kind| {
            let thread = thread::Builder::new().name(kind.name().to_owned());
            (kind, thread.spawn_scoped(scope, move || story(kind)).expect("a thread"))
        };
        let played = KINDS.map(start).into_iter();
        let failed = played.filter_map(|(kind, played)| played.join().err().map(|_| kind.name()));
        failed.collect()
    });
    assert!(failed.is_empty(), "the story failed on {failed:?}");
}

/// The tool of an administrator who has a certificate for one secure endpoint.
#[derive(Clone, Copy)]
struct Ctl<'a> {
    at: SocketAddr,
    ca: &'a Authority,
    pair: &'a CertPair,
}

impl Ctl<'_> {
    /// The output of a call; the error is what it says of the refusal.
    fn call(&self, words: &[&str]) -> Result<String, String> {
        etcdctl(self.at, self.ca, self.pair, words)
    }

    /// The output of a call that must succeed.
    fn done(&self, words: &[&str]) -> String {
        self.call(words)
            .unwrap_or_else(|refused| panic!("{words:?}: {refused}"))
    }

    /// The answer of a call that must succeed.
    fn json(&self, words: &[&str]) -> Value {
        let all: Vec<&str> = words.iter().copied().chain(["-w", "json"]).collect();
        let answer = self.done(&all);
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{words:?}: {error}: {answer}"))
    }

    /// What the server says when it refuses.
    fn refused(&self, words: &[&str]) -> String {
        self.call(words).expect_err("a refusal")
    }

    /// Repeats a call until it succeeds, as its program does; `passing` are the refusals that may come until then.
    fn until_done(&self, words: &[&str], passing: &[&str]) -> String {
        let done = wait::until(PATIENCE, STEP, || match self.call(words) {
            Ok(answer) => Some(answer),
            Err(refused) => {
                let passes = passing.iter().any(|text| refused.contains(text));
                assert!(passes, "{words:?}: {refused}");
                None
            }
        });
        done.unwrap_or_else(|| panic!("{words:?} is still refused"))
    }

    /// The members, once there is one of which this is true.
    fn until_member(&self, is_it: impl Fn(&Value) -> bool) -> Value {
        let found = wait::until(PATIENCE, STEP, || {
            self.json(&["member", "list"])["members"]
                .as_array()?
                .iter()
                .find(|member| is_it(member))
                .cloned()
        });
        found.expect("there is such a member in time")
    }
}

/// An id as etcdctl wants it.
fn hex(id: &Value) -> String {
    format!("{:x}", id.as_u64().unwrap_or_else(|| panic!("{id} is no id")))
}

/// The status and the body of the answer to a GET.
fn get(at: SocketAddr, path: &str) -> Option<(u16, String)> {
    let answer = server::ask_at(at, &format!("GET {path}"), "").ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// Waits until a probe succeeds, and returns its body.
fn until_probed(server: &mut Server, at: SocketAddr, path: &str) -> String {
    let body = wait::until(PATIENCE, STEP, || {
        assert!(server.exited().is_none(), "it ended: {}", server.log());
        get(at, path).filter(|(status, _)| *status == 200)
    });
    body.unwrap_or_else(|| panic!("{path} fails: {:?}\n{}", get(at, path), server.log()))
        .1
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime for the client")
}

async fn client(server: &Server) -> Client {
    let address = server.address().to_string();
    let connected = Client::connect([&address], None).await;
    connected.expect("a connection on loopback")
}

/// The code and the text of a refusal.
fn status(refused: Error) -> (i32, String) {
    match refused {
        Error::GRpcStatus(status) => (status.code() as i32, status.message().to_owned()),
        other => panic!("no status: {other}"),
    }
}
