//! Clusters of three members on one machine.

use std::time::Duration;

use quoin_conformance::members::start_together;
use quoin_conformance::trouble::During as _;
use quoin_conformance::{Kind, Server, Trouble, usage, wait};

use super::{BYTES, Measured, each, higher, latencies, launch, lower, scaled, settling};
use crate::load::{self, Clients, Shape, Taken};
use crate::requests;

const MEMBERS: usize = 3;
/// Kills of the leader in one run.
const KILLS: u64 = 5;
/// A cluster elects a leader within this time.
const ELECTION_LIMIT: Duration = Duration::from_secs(30);
/// A write that is lost with its leader is given up after this time, and tried at the next member.
const TRY_LIMIT: Duration = Duration::from_millis(500);
/// The pause after a restart, so that the restarted member can vote again.
const CALM: Duration = Duration::from_secs(3);

fn start(kind: Kind) -> Result<Vec<Server>, Trouble> {
    let launches: Result<Vec<_>, Trouble> = (0..MEMBERS).map(|_| launch(kind)).collect();
    start_together(launches?)
}

/// Processor seconds and bytes written to disk by all members so far.
fn used(servers: &[Server]) -> Result<(f64, u64), Trouble> {
    let (mut cpu, mut written) = (0.0, 0);
    for server in servers {
        cpu += server.usage()?.cpu_seconds;
        written += usage::written(server.pid()?).unwrap_or_default();
    }
    Ok((cpu, written))
}

/// Puts from 999 clients, a third of them at each member.
pub(super) fn puts(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    let servers = start(kind)?;
    let third = Shape {
        connections: 3,
        streams: 111,
        requests: scaled(20_000, scale),
    };
    let (taken, cpu, written) = load::run(async {
        let value = requests::value(BYTES);
        let mut clients = Vec::new();
        for server in &servers {
            clients.push(Clients::connect(server.address(), third.connections).await?);
        }
        let (cpu, written) = used(&servers)?;
        let begun = wait::now();
        let drives = clients.into_iter().enumerate().map(|(at, clients)| {
            let value = value.clone();
            tokio::task::spawn_local(async move {
                let put = move |number| requests::put(format!("put/{at}/{number:08}"), &value);
                clients.drive(third, requests::PUT, put).await
            })
        });
        let mut all = Vec::new();
        for drive in drives.collect::<Vec<_>>() {
            all.extend(drive.await.during("the clients of a member")??.latencies);
        }
        let seconds = begun.elapsed().as_secs_f64();
        tokio::time::sleep(settling(scale)).await;
        let after = used(&servers)?;
        Ok((Taken::new(seconds, all), after.0 - cpu, after.1 - written))
    })?;
    let number = taken.latencies.len() as f64;
    let mut numbers = vec![
        each("CPU per request, all members", cpu, number).in_readme(),
        higher("throughput", "requests/s", number / taken.seconds).in_readme(),
    ];
    numbers.extend(latencies(&taken));
    numbers.push(lower(
        "written to disk per put, all members",
        "B",
        written as f64 / number,
    ));
    Ok(numbers)
}

/// The time without an answered write for one client after the leader is killed. All servers have the same flags.
pub(super) fn failover(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    let mut servers = start(kind)?;
    let mut gaps = Vec::new();
    for kill in 0..scaled(KILLS, scale) {
        wait::pause(CALM);
        let leader = leader(&servers)?;
        put_somewhere(&servers, leader, kill)?;
        servers[leader].kill()?;
        let begun = wait::now();
        put_somewhere(&servers, leader, kill)?;
        gaps.push(begun.elapsed());
        servers[leader].restart()?;
    }
    let gaps = Taken::new(0.0, gaps);
    Ok(vec![
        lower("median gap", "ms", gaps.percentile(0.5)).in_readme(),
        lower("longest gap", "ms", gaps.percentile(1.0)),
    ])
}

/// Puts a key at the members other than `avoided`, one after the other, until one of them answers.
fn put_somewhere(servers: &[Server], avoided: usize, number: u64) -> Result<(), Trouble> {
    let others = servers.iter().enumerate().filter(|(at, _)| *at != avoided);
    let addresses: Vec<_> = others.map(|(_, server)| server.address()).collect();
    let mut next = addresses.iter().cycle();
    let put = || {
        let address = *next.next()?;
        let tried = load::run(async {
            let put = async {
                let clients = Clients::connect(address, 1).await?;
                let message = requests::put(format!("failover/{number}"), &requests::value(BYTES));
                clients.call(0, requests::PUT, &[], message).await
            };
            tokio::time::timeout(TRY_LIMIT, put).await.during("a put")?
        });
        matches!(tried, Ok((_, 0))).then_some(())
    };
    let answered = wait::until(ELECTION_LIMIT, Duration::from_millis(5), put);
    answered.ok_or_else(|| Trouble::new("no member takes a write"))
}

/// The member that leads, according to its page of metrics.
pub(super) fn leader(servers: &[Server]) -> Result<usize, Trouble> {
    let leads = |server: &Server| {
        let page = server.http("/metrics").unwrap_or_default();
        page.lines().any(|line| line == "etcd_server_is_leader 1")
    };
    let found = wait::until(ELECTION_LIMIT, Duration::from_millis(50), || {
        servers.iter().position(leads)
    });
    found.ok_or_else(|| Trouble::new("no member leads"))
}
