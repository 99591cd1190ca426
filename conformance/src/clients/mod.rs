//! Third-party clients, each with scenarios for its whole API. A scenario is played against a real etcd first, to prove
//! the scenario, then against ours.
//!
//! The scenarios of libraries are programs in their own languages, in `conformance/clients`; those of etcdctl are the
//! scripts of `conformance/scripts` and [`etcdctl`]. The stories of `tests/it/client` use Rust's etcd-client; [`stories`]
//! plays them.

mod etcdctl;
mod program;
mod stories;
mod tools;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Mutex, PoisonError, mpsc},
    thread,
};

use crate::{
    binaries::Kind,
    fetch,
    outcome::{Outcome, Tell, Told, Verdict},
    setup::Setup,
    trouble::Trouble,
};

use etcdctl::Etcdctl;
use program::{Program, Scenario};

const SUITE: &str = "clients";
/// Jobs that are played at the same time: scenarios mostly wait for processes, disks and time.
const AT_ONCE: usize = 4;
/// The same for jobs in clusters, each of which is several servers.
const CLUSTERS_AT_ONCE: usize = 2;

/// A client with its scenarios.
struct Client {
    name: String,
    scenarios: Vec<Scenario>,
    player: Player,
}

/// Beginnings of the methods whose scenarios expect a cluster of one member.
const OF_ONE_MEMBER: [&str; 2] = ["Cluster.", "Maintenance.Status"];

/// The program that plays the scenarios.
enum Player {
    Program(Program),
    Etcdctl(Etcdctl),
}

/// How many scenarios are played against a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Depth {
    /// All.
    Whole,
    /// Those that take at most a few seconds.
    Fast,
    /// Of those, the first for each API method.
    Smoke,
}

impl Depth {
    fn choose(self, scenarios: &[Scenario]) -> Vec<Scenario> {
        let mut methods = BTreeSet::new();
        let chosen = scenarios.iter().filter(|one| match self {
            Self::Whole => true,
            Self::Fast => one.fast,
            Self::Smoke => one.fast && methods.insert(one.method.clone()),
        });
        chosen.cloned().collect()
    }
}

/// Plays every scenario of every client, against a real etcd and then against these servers in this set-up. More than one
/// member, or security, leaves out the scenarios about members, and the stories of etcd-client, which start their own
/// servers.
///
/// # Errors
/// If a client or a server cannot be found or built. A wrong result is an outcome.
pub fn run(kinds: &[Kind], setup: Setup, tell: &mut Tell<'_>) -> Result<(), Trouble> {
    let plan: Vec<(Kind, Depth)> = kinds.iter().map(|kind| (*kind, Depth::Whole)).collect();
    play(&plan, setup, &clients()?, tell)?;
    if setup.members > 1 || setup.is_secured {
        return Ok(());
    }
    stories::play(kinds, tell)
}

/// Plays part of the scenarios of every client, against a real etcd and then against these servers.
///
/// # Errors
/// If a client or a server cannot be found or built. A wrong result is an outcome.
pub fn fast(plan: &[(Kind, Depth)], tell: &mut Tell<'_>) -> Result<(), Trouble> {
    play(plan, Setup::ALONE, &clients()?, tell)
}

/// Plays part of the scenarios of the clients whose names begin with `name`, in this set-up.
///
/// # Errors
/// If a client or a server cannot be found or built. A wrong result is an outcome.
pub fn fast_in(setup: Setup, name: &str, plan: &[(Kind, Depth)], tell: &mut Tell<'_>) -> Result<(), Trouble> {
    let mut clients = clients()?;
    clients.retain(|client| client.name.starts_with(name));
    play(plan, setup, &clients, tell)
}

/// The program of an etcdctl of version 3.4, downloaded if necessary.
///
/// # Errors
/// If it cannot be downloaded.
pub fn etcdctl_34() -> Result<PathBuf, Trouble> {
    tools::etcdctl_34()
}

/// All clients, in the order of the report.
fn clients() -> Result<Vec<Client>, Trouble> {
    let mut clients = Vec::new();
    let newest = fetch::etcd()?;
    for etcdctl in [tools::etcdctl_34()?, newest.etcdctl.clone()] {
        let name = format!("etcdctl {}", tools::version(&etcdctl)?);
        let etcdctl = Etcdctl::new(fetch::Etcd {
            etcdctl,
            ..newest.clone()
        })?;
        clients.push(Client {
            name,
            scenarios: etcdctl.scenarios(),
            player: Player::Etcdctl(etcdctl),
        });
    }
    let python = |module: &str| -> Result<Program, Trouble> {
        Ok(Program {
            program: PathBuf::from("python3"),
            arguments: vec![tools::sources().join(format!("python/{module}_scenarios.py"))],
            variables: vec![("PYTHONPATH", tools::python(module)?)],
        })
    };
    let node = Program {
        program: PathBuf::from("node"),
        arguments: vec![tools::sources().join("node/etcd3_scenarios.js")],
        variables: vec![("NODE_PATH", tools::node()?)],
    };
    let go = Program {
        program: tools::go()?,
        arguments: Vec::new(),
        variables: Vec::new(),
    };
    for (name, program) in [
        ("Python etcd3 0.12.0", python("etcd3")?),
        ("Python aetcd 1.0.0", python("aetcd")?),
        ("Node etcd3 1.1.2", node),
        ("Go clientv3 3.4.23", go),
    ] {
        clients.push(Client {
            name: name.to_owned(),
            scenarios: program.scenarios()?,
            player: Player::Program(program),
        });
    }
    Ok(clients)
}

/// The outcomes of one client with one server, by scenario.
type Outcomes = BTreeMap<String, Verdict>;

impl Client {
    fn play(&self, job: &Job<'_>, say: &mut dyn FnMut(&str, Verdict)) -> Result<(), Trouble> {
        let launch = job.setup.launch(job.kind)?;
        match &self.player {
            Player::Program(program) => program.play(&launch, &job.scenarios, say),
            Player::Etcdctl(etcdctl) => etcdctl.play(job.kind, &launch, &job.scenarios, say),
        }
    }
}

/// One client, one server, these scenarios.
struct Job<'a> {
    client: &'a Client,
    kind: Kind,
    setup: Setup,
    scenarios: Vec<Scenario>,
}

fn play(plan: &[(Kind, Depth)], setup: Setup, clients: &[Client], tell: &mut Tell<'_>) -> Result<(), Trouble> {
    let deepest = plan.iter().map(|(_, depth)| *depth).min_by_key(|depth| *depth as u8);
    let job = |client, kind, depth: Depth| -> Job<'_> {
        let client: &Client = client;
        let mut scenarios = depth.choose(&client.scenarios);
        let left_out = match (setup.members, setup.is_secured) {
            (1, false) => &[][..],
            // The members that they add have no certificates.
            (1, true) => &["Cluster."],
            _ => &OF_ONE_MEMBER,
        };
        scenarios.retain(|one| !left_out.iter().any(|prefix| one.method.starts_with(prefix)));
        Job {
            client,
            kind,
            setup,
            scenarios,
        }
    };
    let proofs = clients
        .iter()
        .filter_map(|client| Some(job(client, Kind::Etcd, deepest?)));
    let ours = plan.iter().filter(|(kind, _)| *kind != Kind::Etcd);
    let jobs = ours.flat_map(|(kind, depth)| clients.iter().map(|client| job(client, *kind, *depth)));
    let (proofs, jobs): (Vec<_>, Vec<_>) = (proofs.collect(), jobs.collect());
    let planned: usize = proofs.iter().chain(&jobs).map(|job| job.scenarios.len()).sum();
    tell(Told::Planned(planned as u64));
    let proven = play_jobs(proofs, &BTreeMap::new(), tell)?;
    play_jobs(jobs, &proven, tell).map(drop)
}

/// Plays a few jobs at a time, reports the outcome of each scenario at once, and collects them by client.
fn play_jobs(
    jobs: Vec<Job<'_>>,
    proven: &BTreeMap<String, Outcomes>,
    tell: &mut Tell<'_>,
) -> Result<BTreeMap<String, Outcomes>, Trouble> {
    let is_clusters = jobs.iter().any(|job| job.setup.members > 1);
    let at_once = if is_clusters { CLUSTERS_AT_ONCE } else { AT_ONCE };
    let waiting = Mutex::new(jobs.into_iter());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let (sender, told) = mpsc::channel();
    let mut gathered: BTreeMap<String, Outcomes> = BTreeMap::new();
    thread::scope(|scope| {
        for _ in 0..at_once {
            let sender = sender.clone();
            scope.spawn(move || {
                while let Some(job) = next() {
                    let played = job.client.play(&job, &mut |scenario, verdict| {
                        let _ = sender.send(Ok(outcome(&job, scenario, verdict)));
                    });
                    if let Err(trouble) = played {
                        let _ = sender.send(Err(trouble));
                    }
                }
            });
        }
        drop(sender);
        for outcome in told {
            let mut outcome: Outcome = outcome?;
            let etcd = proven.get(&outcome.client).and_then(|all| all.get(&outcome.scenario));
            outcome.verdict = beside(outcome.verdict, etcd);
            let client = gathered.entry(outcome.client.clone()).or_default();
            client.insert(outcome.scenario.clone(), outcome.verdict.clone());
            tell(Told::Step(format!("{}: {}", outcome.client, outcome.scenario)));
            tell(Told::Outcome(outcome));
        }
        Ok(gathered)
    })
}

fn outcome(job: &Job<'_>, scenario: &str, verdict: Verdict) -> Outcome {
    let known = job.scenarios.iter().find(|one| one.name == scenario);
    Outcome {
        suite: SUITE,
        client: job.client.name.clone(),
        method: known.map(|one| one.method.clone()).unwrap_or_default(),
        scenario: scenario.to_owned(),
        server: job.kind,
        verdict,
    }
}

/// Adds a real etcd's failure of the same scenario, if there is one, to a failure.
fn beside(verdict: Verdict, etcd: Option<&Verdict>) -> Verdict {
    match (verdict, etcd) {
        (Verdict::Failed(reason), Some(Verdict::Failed(theirs) | Verdict::Differs(theirs))) => {
            Verdict::Failed(format!("{reason} (a real etcd fails it too: {theirs})"))
        }
        (verdict, _) => verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smoke_test_takes_one_fast_scenario_for_each_method() {
        let all: Vec<Scenario> = [
            ("a", "KV.Put", false),
            ("b", "KV.Put", true),
            ("c", "KV.Put", true),
            ("d", "KV.Txn", true),
        ]
        .map(|(name, method, fast)| Scenario {
            name: name.into(),
            method: method.into(),
            fast,
        })
        .into();
        let chosen = |depth: Depth| -> Vec<String> { depth.choose(&all).into_iter().map(|one| one.name).collect() };
        assert_eq!(chosen(Depth::Whole), ["a", "b", "c", "d"]);
        assert_eq!(chosen(Depth::Fast), ["b", "c", "d"]);
        assert_eq!(chosen(Depth::Smoke), ["b", "d"]);
    }

    #[test]
    fn a_failure_of_a_real_etcd_too_is_mentioned() {
        let failed = |why: &str| Verdict::Failed(why.to_owned());
        assert_eq!(beside(Verdict::Passed, Some(&failed("x"))), Verdict::Passed);
        assert_eq!(beside(failed("y"), Some(&Verdict::Passed)), failed("y"));
        assert_eq!(
            beside(failed("y"), Some(&failed("x"))),
            failed("y (a real etcd fails it too: x)")
        );
    }
}
