//! Measures how much clients that ask for too much delay another client's puts, compared with a real etcd.
//!
//! Each load runs for a while against a fresh server with given content. Meanwhile a quiet client puts one key at a
//! time. The latencies of its puts and the server's peak memory are compared.

mod loads;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quoin_conformance::{Kind, Launch, Server, Trouble, binaries::Profile, trouble::During, wait};

use crate::load::{self, Clients, Taken};
use crate::requests;

pub use loads::ALL;

/// How long the quiet client pauses between its puts.
const PAUSE: Duration = Duration::from_millis(2);
/// The pause between filling a server and measuring it. The server finishes its work for the fill meanwhile.
const SETTLE: Duration = Duration::from_secs(2);
/// The quiet client's 99th percentile must stay below this, in milliseconds.
const P99_MAX_MS: f64 = 50.0;
const MIB: f64 = 1024.0;

/// One kind of hostile client.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Its description; the first word is its name on the command line.
    pub name: &'static str,
    /// The server's content before the load.
    pub content: Content,
    /// Runs it against the server for this long; returns how many requests were answered and how many refused.
    pub run: fn(&Server, Duration) -> Result<Done, Trouble>,
}

/// The content of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// This many keys of this many bytes each.
    Keys(u64, usize),
    /// This many leases, and as many keys, all of which are attached to the first lease.
    Leases(u64),
}

/// The result of a load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Requests answered.
    pub answered: u64,
    /// Requests refused.
    pub refused: u64,
}

/// The plan of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The servers; the others are compared with the first.
    pub kinds: Vec<Kind>,
    /// How long each load runs.
    pub duration: Duration,
    /// Only the loads whose names begin with one of these; all if empty.
    pub only: Vec<String>,
}

/// The cost of one load for one server's quiet client.
#[derive(Debug, Clone)]
pub struct Cost {
    puts: Taken,
    peak_mib: f64,
    done: Done,
}

/// All costs, a row for each load and a column for each server.
#[derive(Debug)]
pub struct Report {
    kinds: Vec<Kind>,
    rows: Vec<(&'static str, Vec<Cost>)>,
}

/// Runs the plan, with progress on standard error.
///
/// # Errors
/// If a program cannot be built or downloaded, or a server fails.
pub fn run(plan: &Plan) -> Result<Report, Trouble> {
    let wanted =
        |load: &&Load| plan.only.is_empty() || plan.only.iter().any(|name| load.name.starts_with(name.as_str()));
    let loads: Vec<&Load> = ALL.iter().filter(wanted).collect();
    let mut rows = Vec::new();
    for (number, load) in (1..).zip(&loads) {
        let mut costs = Vec::new();
        for kind in &plan.kinds {
            eprintln!("{number} of {}: {}: {}", loads.len(), load.name, kind.name());
            let cost = measure(load, *kind, plan.duration).during(format_args!("{} on {}", load.name, kind.name()))?;
            eprintln!("  {cost}");
            costs.push(cost);
        }
        rows.push((load.name, costs));
    }
    Ok(Report {
        kinds: plan.kinds.clone(),
        rows,
    })
}

fn measure(load: &Load, kind: Kind, duration: Duration) -> Result<Cost, Trouble> {
    let server = Launch::program(kind.name(), kind.program(Profile::Release)?)
        .flag("--quota-backend-bytes=8589934592")
        .start()?;
    load::run(loads::fill(&server, load.content))?;
    wait::pause(SETTLE);
    let over = AtomicBool::new(false);
    let (puts, done) = std::thread::scope(|scope| {
        let quiet = scope.spawn(|| load::run(put_until(&server, &over)));
        let done = (load.run)(&server, duration);
        over.store(true, Ordering::Relaxed);
        let puts = quiet.join().map_err(|_| Trouble::new("the quiet client panicked"));
        Ok::<_, Trouble>((puts??, done?))
    })?;
    Ok(Cost {
        puts,
        peak_mib: server.usage()?.peak_kib as f64 / MIB,
        done,
    })
}

/// Puts a key now and then. A put that fails counts as one that took a minute.
async fn put_until(server: &Server, over: &AtomicBool) -> Result<Taken, Trouble> {
    let clients = Clients::connect(server.address(), 1).await?;
    let put = requests::put("quiet", &requests::value(256));
    let mut latencies = Vec::new();
    let begun = wait::now();
    while !over.load(Ordering::Relaxed) {
        let asked = wait::now();
        let (_, status) = clients.call(0, requests::PUT, &[], put.clone()).await?;
        latencies.push(if status == 0 {
            asked.elapsed()
        } else {
            Duration::from_secs(60)
        });
        tokio::time::sleep(PAUSE).await;
    }
    latencies.sort_unstable();
    Ok(Taken {
        seconds: begun.elapsed().as_secs_f64(),
        latencies,
    })
}

impl Cost {
    fn p99(&self) -> f64 {
        self.puts.percentile(0.99)
    }

    /// Whether the cost is within the bounds: the 99th percentile below [`P99_MAX_MS`] and not above etcd's, and the
    /// peak memory at most half of etcd's.
    fn is_kept_beside(&self, etcd: &Self) -> bool {
        self.p99() < P99_MAX_MS && self.p99() <= etcd.p99() && self.peak_mib * 2.0 <= etcd.peak_mib
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "put p50 {:.1} ms, p99 {:.1} ms, max {:.0} ms of {}; peak {:.0} MiB; {} answered, {} refused",
            self.puts.percentile(0.5),
            self.p99(),
            self.puts.percentile(1.0),
            self.puts.latencies.len(),
            self.peak_mib,
            self.done.answered,
            self.done.refused
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| load | server | put p50 ms | p99 ms | max ms | peak MiB | answered | refused | p99 / etcd | memory / etcd | kept |"
        )?;
        writeln!(f, "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|")?;
        for (name, costs) in &self.rows {
            let first = costs.first();
            for (kind, cost) in self.kinds.iter().zip(costs) {
                let [p50, max] = [0.5, 1.0].map(|share| cost.puts.percentile(share));
                let Done { answered, refused } = cost.done;
                let (server, p99, peak) = (kind.name(), cost.p99(), cost.peak_mib);
                write!(
                    f,
                    "| {name} | {server} | {p50:.1} | {p99:.1} | {max:.0} | {peak:.0} | {answered} | {refused} |"
                )?;
                match first.filter(|first| !std::ptr::eq(*first, cost)) {
                    Some(etcd) => {
                        let kept = if cost.is_kept_beside(etcd) { "yes" } else { "NO" };
                        writeln!(f, " {:.2} | {:.2} | {kept} |", p99 / etcd.p99(), peak / etcd.peak_mib)?;
                    }
                    None => writeln!(f, " | | |")?,
                }
            }
        }
        Ok(())
    }
}
