//! Five members on loopback whose traffic passes through [`Links`], and what a real etcdctl says about them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::links::{Links, Way};
use crate::binaries::Kind;
use crate::server::{HEALTH_LIMIT, Launch, Server, free_address};
use crate::trouble::{During as _, Trouble};
use crate::wait::{self, Deadline};
use crate::{command, fetch};

pub(super) const NAMES: [&str; 5] = ["one", "two", "three", "four", "five"];
/// So few entries are kept that a member which is away for a second needs a snapshot. Members are removed while others
/// are down, which the strict check would refuse.
const FLAGS: [&str; 5] = [
    "--snapshot-count=50",
    "--experimental-snapshot-catchup-entries=20",
    "--strict-reconfig-check=false",
    "--heartbeat-interval=60",
    "--election-timeout=600",
];
const STEP: Duration = Duration::from_millis(50);
const COMMAND_LIMIT: Duration = Duration::from_secs(30);
/// An etcdctl that meets a disturbed member gives up after this time.
const ASK_LIMIT: &str = "--command-timeout=2s";
const SAVE_LIMIT: &str = "--command-timeout=25s";

/// Five members.
pub(super) struct Cluster {
    pub(super) links: Links,
    pub(super) servers: Vec<Server>,
}

/// A member, as a member of the cluster lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: u64,
    pub(super) is_learner: bool,
}

impl Cluster {
    /// Starts five members together, and waits until all are healthy.
    pub(super) fn start(kinds: [Kind; 5]) -> Result<Self, Trouble> {
        let listen: Vec<SocketAddr> = NAMES.iter().map(|_| free_address()).collect::<Result<_, _>>()?;
        let links = Links::to(listen.clone())?;
        let members: Vec<(&str, SocketAddr)> = (0..NAMES.len()).map(|at| (NAMES[at], links.address(at))).collect();
        let mut servers = Vec::new();
        for ((kind, name), listen) in kinds.into_iter().zip(NAMES).zip(listen) {
            let launch = Launch::of(kind)?.member(name, &members);
            let launch = FLAGS.into_iter().fold(launch, Launch::flag);
            let server = launch.flag(format!("--listen-peer-urls=http://{listen}")).spawn()?;
            links.set_process(servers.len(), server.pid()?);
            servers.push(server);
        }
        let mut cluster = Self { links, servers };
        cluster.wait_healthy()?;
        Ok(cluster)
    }

    /// Starts a member whose process has ended.
    pub(super) fn spawn(&mut self, at: usize) -> Result<(), Trouble> {
        // Nothing is left of an ended process.
        let _ = self.servers[at].kill();
        self.servers[at].spawn()?;
        self.links.set_process(at, self.servers[at].pid()?);
        Ok(())
    }

    /// Kills a member.
    pub(super) fn kill(&mut self, at: usize) -> Result<(), Trouble> {
        self.links.set_process(at, 0);
        self.servers[at].kill()
    }

    /// Waits until every member is healthy.
    pub(super) fn wait_healthy(&mut self) -> Result<(), Trouble> {
        let deadline = Deadline::after(HEALTH_LIMIT);
        for server in &mut self.servers {
            server.wait_healthy(deadline.left(), STEP)?;
        }
        Ok(())
    }

    /// Lets all bytes pass.
    pub(super) fn open_links(&self) {
        for from in 0..NAMES.len() {
            for to in 0..NAMES.len() {
                self.links.set(from, to, Way::Open);
            }
        }
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(Server::address).collect()
    }

    /// Whether a member takes itself for the leader.
    pub(super) fn is_leader(&self, at: usize) -> bool {
        let page = self.servers[at].http("/metrics").unwrap_or_default();
        page.lines().any(|line| line == "etcd_server_is_leader 1")
    }

    /// Runs etcdctl against one member.
    pub(super) fn etcdctl(&self, at: usize, limit: &str, arguments: &[&str]) -> Result<String, Trouble> {
        let mut program = command::untouched(fetch::etcd()?.etcdctl);
        program.args(["--endpoints", &self.servers[at].address().to_string(), limit]);
        command::run(program.args(arguments), b"", COMMAND_LIMIT)?.success("etcdctl")
    }

    fn asked(&self, at: usize, arguments: &[&str]) -> Result<Value, Trouble> {
        let said = self.etcdctl(at, ASK_LIMIT, &[arguments, &["-w", "json"]].concat())?;
        serde_json::from_str(&said).during(format_args!("reading {said}"))
    }

    /// The member with the name and the peer address of this one, as another one lists it.
    pub(super) fn listed(&self, by: usize, at: usize) -> Result<Option<Listed>, Trouble> {
        let said = self.asked(by, &["member", "list"])?;
        let url = format!("http://{}", self.links.address(at));
        let members = said["members"].as_array().map(Vec::as_slice).unwrap_or_default();
        let own = members.iter().find(|member| member["peerURLs"][0] == url);
        Ok(own.map(|member| Listed {
            id: member["ID"].as_u64().unwrap_or_default(),
            is_learner: member["isLearner"] == true,
        }))
    }

    pub(super) fn remove(&self, by: usize, id: u64) -> Result<(), Trouble> {
        self.etcdctl(by, ASK_LIMIT, &["member", "remove", &format!("{id:x}")])
            .map(drop)
    }

    pub(super) fn add_learner(&self, by: usize, at: usize) -> Result<(), Trouble> {
        let url = format!("--peer-urls=http://{}", self.links.address(at));
        self.etcdctl(by, ASK_LIMIT, &["member", "add", NAMES[at], "--learner", &url])
            .map(drop)
    }

    pub(super) fn promote(&self, by: usize, id: u64) -> Result<(), Trouble> {
        self.etcdctl(by, ASK_LIMIT, &["member", "promote", &format!("{id:x}")])
            .map(drop)
    }

    /// Deletes every key and drops their history. Returns the revision, once every member has it.
    pub(super) fn clear(&self) -> Result<i64, Trouble> {
        let cleared = wait::until(HEALTH_LIMIT, STEP, || {
            self.asked(0, &["del", "", "--prefix"]).ok()?;
            let left = self.asked(0, &["get", "", "--prefix", "--limit=1"]).ok()?;
            left["kvs"].is_null().then(|| left["header"]["revision"].as_i64())?
        });
        let revision = cleared.ok_or_else(|| Trouble::new("the keys cannot be deleted"))?;
        self.wait_for_all(|cluster, at| {
            let read = cluster.asked(at, &["get", "none", "--consistency=s"]).ok()?;
            let reached = read["header"]["revision"].as_i64()?;
            (reached >= revision).then_some(())
        })?;
        // A store that is new has nothing to compact.
        if revision > 1 {
            self.compact(revision)?;
        }
        Ok(revision)
    }

    /// Compacts; the answer to an earlier try may be lost.
    fn compact(&self, revision: i64) -> Result<(), Trouble> {
        let revision = revision.to_string();
        let compacted = wait::until(HEALTH_LIMIT, STEP, || {
            match self.etcdctl(0, ASK_LIMIT, &["compact", &revision, "--physical"]) {
                Err(trouble) if !trouble.to_string().contains("has been compacted") => None,
                Ok(_) | Err(_) => Some(()),
            }
        });
        compacted.ok_or_else(|| Trouble::new(format!("revision {revision} cannot be compacted")))
    }

    fn wait_for_all(&self, reached: impl Fn(&Self, usize) -> Option<()>) -> Result<(), Trouble> {
        for (at, name) in NAMES.iter().enumerate() {
            wait::until(HEALTH_LIMIT, STEP, || reached(self, at))
                .ok_or_else(|| Trouble::new(format!("{name} does not catch up; its log:\n{}", self.tail(at))))?;
        }
        Ok(())
    }

    /// The end of a member's log.
    pub(super) fn tail(&self, at: usize) -> String {
        let log = self.servers[at].log();
        let lines: Vec<&str> = log.lines().rev().take(30).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Saves the state of each member, once all have applied the same entries and no more come.
    pub(super) fn save_all(&self, folder: &Path) -> Result<Vec<PathBuf>, Trouble> {
        let same = wait::until(HEALTH_LIMIT, STEP * 4, || {
            let index = self.applied()?;
            let files = self.save_each(folder).ok()?;
            (self.applied()? == index).then_some(files)
        });
        same.ok_or_else(|| Trouble::new(format!("the members do not reach the same entry: {:?}", self.indexes())))
    }

    fn save_each(&self, folder: &Path) -> Result<Vec<PathBuf>, Trouble> {
        let save = |at: usize| {
            let file = folder.join(format!("{}.db", NAMES[at]));
            self.etcdctl(at, SAVE_LIMIT, &["snapshot", "save", &file.to_string_lossy()])?;
            Ok(file)
        };
        (0..NAMES.len()).map(save).collect()
    }

    /// The index of the last applied entry, if it is the same at all members.
    fn applied(&self) -> Option<u64> {
        let indexes = self.indexes();
        let first = *indexes.first()?;
        indexes.iter().all(|index| *index == first).then_some(first)?
    }

    fn indexes(&self) -> Vec<Option<u64>> {
        let index = |at| {
            let said = self.asked(at, &["endpoint", "status"]).ok()?;
            said[0]["Status"]["raftAppliedIndex"].as_u64()
        };
        (0..NAMES.len()).map(index).collect()
    }
}
