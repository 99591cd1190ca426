//! The memory of a server that sends its whole state: a backup to a client, and a snapshot to a follower that reads
//! slowly. Another client writes meanwhile.

use std::thread;
use std::time::Duration;

use quoin_conformance::members::start_behind_proxies;
use quoin_conformance::{Kind, Server, Trouble, command, fetch, trouble::During as _, wait};

use super::failover::leader;
use super::{BYTES, KIB_IN_MIB, MIB, Measured, launch, lower, scaled, settling};
use crate::load::{self, Clients, Shape};
use crate::requests;

/// Values of 1 MiB and as many bytes of values of 4 KiB, at the scale 1.
const LARGE_BYTES: usize = 1 << 20;
const LARGE_VALUES: u64 = 1_024;
const SMALL_BYTES: usize = 4 << 10;
const SMALL_VALUES: u64 = 262_144;
const QUOTA: &str = "--quota-backend-bytes=8589934592";
const FILLERS: Shape = Shape {
    connections: 2,
    streams: 4,
    requests: 0,
};
/// The other client's puts between two looks at the server's memory: a hundred a second.
const PUTS: u64 = 5;
const LOOK: Duration = Duration::from_millis(50);
/// Bytes a second that the slow follower reads.
const PACE: u64 = 5_000_000;
/// Longer than any run takes.
const LIMIT: Duration = Duration::from_mins(9);
/// A leader that keeps few entries, so that a follower that was away needs a snapshot.
const FEW_ENTRIES: [&str; 2] = ["--snapshot-count=100", "--experimental-snapshot-catchup-entries=10"];

async fn fill(server: &Server, scale: f64) -> Result<(), Trouble> {
    let clients = Clients::connect(server.address(), FILLERS.connections).await?;
    for (name, bytes, count) in [
        ("large", LARGE_BYTES, LARGE_VALUES),
        ("small", SMALL_BYTES, SMALL_VALUES),
    ] {
        let value = requests::value(bytes);
        let shape = Shape {
            requests: scaled(count, scale),
            ..FILLERS
        };
        let put = move |number| requests::put(format!("{name}/{number:08}"), &value);
        clients.drive(shape, requests::PUT, put).await?;
    }
    Ok(())
}

/// Puts keys until something has happened. Returns the largest memory of the server meanwhile, in MiB.
async fn write_until(server: &Server, happened: impl Fn() -> bool) -> Result<f64, Trouble> {
    let clients = Clients::connect(server.address(), 1).await?;
    let value = requests::value(BYTES);
    let (mut most, mut number) = (0.0_f64, 0);
    let deadline = wait::Deadline::after(LIMIT);
    while !happened() {
        if deadline.passed() {
            return Err(Trouble::new(format!("nothing happened within {LIMIT:?}")));
        }
        for _ in 0..PUTS {
            number += 1;
            let put = requests::put(format!("meanwhile/{number}"), &value);
            clients.call(0, requests::PUT, &[], put).await?;
        }
        most = most.max(resident(server)?);
        tokio::time::sleep(LOOK).await;
    }
    Ok(most)
}

fn resident(server: &Server) -> Result<f64, Trouble> {
    Ok(server.usage()?.resident_kib as f64 / KIB_IN_MIB)
}

fn numbers(before: f64, most: f64, seconds: f64, bytes: u64) -> Vec<Measured> {
    vec![
        lower("growth of memory meanwhile (RSS)", "MiB", (most - before).max(0.0)),
        lower("memory before (RSS)", "MiB", before),
        lower("time", "s", seconds),
        lower("size", "MiB", bytes as f64 / MIB),
    ]
}

/// `etcdctl snapshot save` of two gigabytes.
pub(super) fn backup(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    let server = launch(kind)?.flag(QUOTA).start()?;
    load::run(fill(&server, scale))?;
    wait::pause(settling(scale));
    let before = resident(&server)?;
    let file = server.home().join("backup");
    let mut etcdctl = command::untouched(fetch::etcd()?.etcdctl);
    etcdctl.args(["--endpoints", &server.address().to_string(), "snapshot", "save"]);
    etcdctl.arg(&file);
    let begun = wait::now();
    let saving = thread::spawn(move || command::run(&mut etcdctl, b"", LIMIT));
    let most = load::run(write_until(&server, || saving.is_finished()))?;
    let seconds = begun.elapsed().as_secs_f64();
    let saved = saving
        .join()
        .map_err(|_| Trouble::new("the thread of etcdctl panicked"))?;
    saved?.success("etcdctl snapshot save")?;
    let bytes = file.metadata().during("looking at the backup")?.len();
    Ok(numbers(before, most, seconds, bytes))
}

/// A snapshot of two gigabytes to a follower that was away, and that reads five megabytes a second.
pub(super) fn slow_follower(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    let one = FEW_ENTRIES
        .iter()
        .fold(launch(kind)?.flag(QUOTA), |launch, flag| launch.flag(*flag));
    let (mut servers, proxies) = start_behind_proxies(vec![one; 3])?;
    let first = leader(&servers)?;
    let late = (first + 1) % servers.len();
    servers[late].kill()?;
    load::run(fill(&servers[first], scale))?;
    wait::pause(settling(scale));
    let first = leader(&servers)?;
    let before = resident(&servers[first])?;
    proxies[late].pace_snapshots(Some(PACE));
    let begun = wait::now();
    servers[late].spawn()?;
    let arrived = || servers[late].log().contains("saved database snapshot") && servers[late].is_healthy();
    let most = load::run(write_until(&servers[first], arrived))?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(numbers(before, most, seconds, proxies[late].snapshot().bytes))
}
