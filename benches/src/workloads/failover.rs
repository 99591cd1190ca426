//! The leader of three members fails under writes: how long no write is answered, and whether all answered ones are kept.
//!
//! All servers have the same flags: etcd's defaults, an election timeout of one second.

use std::thread;
use std::time::Duration;

use quoin_conformance::members::start_together;
use quoin_conformance::network::{Loss, Network};
use quoin_conformance::{Kind, Launch, Server, Trouble, command, wait};

use super::{MEMBERS, Measured, launch, lower, scaled};
use crate::load::Taken;
use crate::writers::{Writers, check_all_kept};

/// Faults in one run.
const FAULTS: u64 = 20;
/// How long a leader stays dead, stopped or cut off: longer than the election of another one. Neighbour entries of the
/// kernel outlive it.
const HELD: Duration = Duration::from_secs(6);
/// The pause after a fault has ended, so that the member is connected and can vote again.
const CALM: Duration = Duration::from_secs(4);
const HEALTH_LIMIT: Duration = Duration::from_mins(1);
const HEALTH_STEP: Duration = Duration::from_millis(50);
const LEADER_LIMIT: Duration = Duration::from_secs(30);

/// What happens to the leader.
#[derive(Clone, Copy)]
enum Fault<'n> {
    /// SIGKILL, and a start on the same data directory.
    Kill,
    /// SIGSTOP, and SIGCONT.
    Stop,
    /// The packets of one direction between it and its peers are lost: outgoing ones first, then incoming ones, in turn.
    Loss(&'n Network),
}

/// The leader is killed and started again.
pub(super) fn kills(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    measure(on_loopback(kind)?, Fault::Kill, scale)
}

/// The leader is stopped and goes on.
pub(super) fn stops(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    measure(on_loopback(kind)?, Fault::Stop, scale)
}

/// The leader's traffic with its peers is lost in one direction.
pub(super) fn losses(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    let network = Network::new(MEMBERS as u8)?;
    let measured = thread::scope(|scope| {
        let measuring = scope.spawn(|| {
            network.enter()?;
            measure(in_network(kind, &network)?, Fault::Loss(&network), scale)
        });
        measuring.join()
    });
    measured.map_err(|_| Trouble::new("the measurement panicked"))?
}

fn on_loopback(kind: Kind) -> Result<Vec<Server>, Trouble> {
    let launches: Result<Vec<Launch>, Trouble> = (0..MEMBERS).map(|_| launch(kind)).collect();
    start_together(launches?)
}

fn in_network(kind: Kind, network: &Network) -> Result<Vec<Server>, Trouble> {
    let names = ["one", "two", "three"];
    let members: Vec<_> = names.into_iter().zip((0..MEMBERS).map(Network::peer)).collect();
    let mut servers = Vec::new();
    for (at, (name, _)) in members.iter().enumerate() {
        let launch = launch(kind)?.under(network.wrapper(at)).client(Network::client(at));
        servers.push(launch.member(name, &members).spawn()?);
    }
    Ok(servers)
}

fn measure(mut servers: Vec<Server>, fault: Fault<'_>, scale: f64) -> Result<Vec<Measured>, Trouble> {
    let addresses: Vec<_> = servers.iter().map(Server::address).collect();
    wait_healthy(&mut servers)?;
    let writers = Writers::start(addresses.clone());
    let faults = scaled(FAULTS, scale);
    let mut begun = Vec::new();
    let disturbed = (0..faults).try_for_each(|number| {
        wait::pause(CALM);
        let leader = leader(&servers)?;
        begun.push(wait::now());
        fault.strike(&mut servers, leader, number)?;
        wait_healthy(&mut servers)
    });
    if disturbed.is_ok() {
        wait::pause(CALM);
    }
    let ended = wait::now();
    let written = writers.stop()?;
    disturbed?;
    check_all_kept(&addresses, &written)?;
    let until = begun.iter().skip(1).copied().chain([ended]);
    let gaps: Vec<Duration> = begun
        .iter()
        .zip(until)
        .map(|(from, until)| written.longest_gap(*from, until))
        .collect();
    let gaps = Taken::new(0.0, gaps);
    Ok(vec![
        lower("median gap", "ms", gaps.percentile(0.5)).in_readme(),
        lower("p99 gap", "ms", gaps.percentile(0.99)).in_readme(),
        lower(
            "failed writes per fault",
            "writes",
            written.failed as f64 / faults as f64,
        ),
    ])
}

impl Fault<'_> {
    /// Strikes the leader for a while. When this returns, the fault has ended.
    fn strike(self, servers: &mut [Server], leader: usize, number: u64) -> Result<(), Trouble> {
        match self {
            Self::Kill => {
                servers[leader].kill()?;
                wait::pause(HELD);
                servers[leader].spawn()
            }
            Self::Stop => {
                let pid = servers[leader].pid()?;
                command::signal(pid, "STOP")?;
                wait::pause(HELD);
                command::signal(pid, "CONT")
            }
            Self::Loss(network) => {
                let loss = if number.is_multiple_of(2) {
                    Loss::Outgoing
                } else {
                    Loss::Incoming
                };
                network.lose(leader, loss)?;
                wait::pause(HELD);
                network.mend(leader, loss)
            }
        }
    }
}

fn wait_healthy(servers: &mut [Server]) -> Result<(), Trouble> {
    servers
        .iter_mut()
        .try_for_each(|server| server.wait_healthy(HEALTH_LIMIT, HEALTH_STEP))
}

/// The member that leads, according to its page of metrics.
pub(super) fn leader(servers: &[Server]) -> Result<usize, Trouble> {
    let leads = |server: &Server| {
        let page = server.http("/metrics").unwrap_or_default();
        page.lines().any(|line| line == "etcd_server_is_leader 1")
    };
    let found = wait::until(LEADER_LIMIT, HEALTH_STEP, || servers.iter().position(leads));
    found.ok_or_else(|| Trouble::new("no member leads"))
}
