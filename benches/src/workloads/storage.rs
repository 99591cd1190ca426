//! The cost of many keys: memory, disk, and the time of a start.

use std::time::Duration;

use quoin_conformance::{Kind, Server, Trouble, usage, wait};

use super::{BYTES, KIB_IN_MIB, LOADERS, MIB, Measured, fill, launch, lower, peak_memory, scaled, settling, spent};
use crate::load::{self, Clients};

const POLL: Duration = Duration::from_millis(2);
/// The longest time that a start may take. It reads a million keys in seconds, and needs more on a busy machine.
const START_LIMIT: Duration = Duration::from_mins(3);

pub(super) fn small_keys(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    many_keys(kind, scaled(300_000, scale), BYTES, settling(scale))
}

pub(super) fn million_keys(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    many_keys(kind, scaled(1_000_000, scale), 1024, settling(scale))
}

fn many_keys(kind: Kind, keys: u64, bytes: usize, rest: Duration) -> Result<Vec<Measured>, Trouble> {
    let mut server = launch(kind)?.start()?;
    let before = server.usage()?;
    let taken = load::run(async {
        let clients = Clients::connect(server.address(), LOADERS.connections).await?;
        fill(&clients, keys, bytes).await
    })?;
    wait::pause(rest);
    let filled = server.usage()?;
    let peak = peak_memory(&server)?;
    let disk = usage::on_disk(&server.data_dir())?;
    let restart = restarted(&mut server)?;
    wait::pause(rest);
    let restarted = server.usage()?;
    let resident = |usage: usage::Usage| usage.resident_kib as f64 / KIB_IN_MIB;
    Ok(vec![
        lower("memory after the fill (RSS)", "MiB", resident(filled)).in_readme(),
        lower("memory after a restart (RSS)", "MiB", resident(restarted)).in_readme(),
        peak,
        lower("disk used", "MiB", disk as f64 / MIB).in_readme(),
        lower("restart after kill -9 until healthy", "ms", restart).in_readme(),
        lower("CPU of that restart", "s", restarted.cpu_seconds),
        lower("CPU to fill", "s", spent(before, filled)),
        lower("time to fill", "s", taken.seconds),
    ])
}

/// A start on an empty data directory, then restarts on that directory; several times, because each is short.
pub(super) fn start(kind: Kind, _scale: f64) -> Result<Vec<Measured>, Trouble> {
    let launch = launch(kind)?;
    let (mut fresh, mut again) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let begun = wait::now();
        let mut server = launch.clone().spawn()?;
        server.wait_healthy(START_LIMIT, POLL)?;
        fresh.push(begun.elapsed().as_secs_f64() * 1e3);
        again.push(restarted(&mut server)?);
    }
    let middle = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[1]
    };
    Ok(vec![
        lower("fresh start until healthy", "ms", middle(fresh)).in_readme(),
        lower("restart after kill -9 until healthy", "ms", middle(again)).in_readme(),
    ])
}

/// Kills the server and restarts it; returns the milliseconds until it is healthy.
fn restarted(server: &mut Server) -> Result<f64, Trouble> {
    server.kill()?;
    let begun = wait::now();
    server.spawn()?;
    server.wait_healthy(START_LIMIT, POLL)?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}
