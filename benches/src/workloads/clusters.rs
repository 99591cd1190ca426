//! Clusters of three members on one machine.

use quoin_conformance::members::start_together;
use quoin_conformance::trouble::During as _;
use quoin_conformance::{Kind, Server, Trouble, usage, wait};

use super::{BYTES, MEMBERS, Measured, each, higher, latencies, launch, lower, scaled, settling};
use crate::load::{self, Clients, Shape, Taken};
use crate::requests;

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
