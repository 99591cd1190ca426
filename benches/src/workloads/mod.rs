//! The workloads: requests to a fresh server, and the numbers measured meanwhile.

mod clusters;
mod door;
mod failover;
mod keys;
mod leases;
mod snapshots;
mod storage;
mod watches;

use std::time::Duration;

use quoin_conformance::binaries::Profile;
use quoin_conformance::usage::Usage;
use quoin_conformance::{Kind, Launch, Server, Trouble};

use crate::load::{Clients, Shape, Taken};
use crate::requests;

/// One workload: its names and its measurement. A new workload is a row of [`ALL`].
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its title in the report.
    pub title: &'static str,
    /// Whether a run takes minutes; then there is one run by default.
    pub is_long: bool,
    /// Runs it against a server of this kind, with this scale of requests and keys.
    pub measure: fn(Kind, f64) -> Result<Vec<Measured>, Trouble>,
}

/// Whether higher or lower numbers are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// For example requests per second.
    Higher,
    /// For example memory.
    Lower,
}

/// One measured number.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Its description.
    pub what: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Which way is better.
    pub better: Better,
    /// Whether README shows it.
    pub in_readme: bool,
    /// The number.
    pub number: f64,
}

/// All workloads, in the order of the report.
pub const ALL: [Workload; 20] = [
    Workload {
        name: "gets",
        title: "serializable gets of one key of 256 B, 800 in flight",
        is_long: false,
        measure: keys::serializable_gets,
    },
    Workload {
        name: "linearizable-gets",
        title: "linearizable gets of the same",
        is_long: false,
        measure: keys::linearizable_gets,
    },
    Workload {
        name: "puts",
        title: "puts of 256 B from 1,000 clients",
        is_long: false,
        measure: keys::puts,
    },
    Workload {
        name: "gets-tls",
        title: "serializable gets over TLS",
        is_long: false,
        measure: keys::gets_over_tls,
    },
    Workload {
        name: "puts-tls",
        title: "puts over TLS",
        is_long: false,
        measure: keys::puts_over_tls,
    },
    Workload {
        name: "gets-users",
        title: "serializable gets of a user with a role",
        is_long: false,
        measure: keys::gets_of_a_user,
    },
    Workload {
        name: "puts-users",
        title: "puts of a user with a role",
        is_long: false,
        measure: keys::puts_of_a_user,
    },
    Workload {
        name: "lists",
        title: "lists of 10,000 keys of 1 KiB",
        is_long: false,
        measure: keys::lists,
    },
    Workload {
        name: "keepalives",
        title: "keepalives of 1,000 leases on 100 streams",
        is_long: false,
        measure: leases::keepalives,
    },
    Workload {
        name: "watch",
        title: "one put at a time, watched by 1,000 streams",
        is_long: false,
        measure: watches::one_by_one,
    },
    Workload {
        name: "watch-throughput",
        title: "8 puts in flight, watched by 2,500 streams",
        is_long: false,
        measure: watches::throughput,
    },
    Workload {
        name: "start",
        title: "start of a new member",
        is_long: false,
        measure: storage::start,
    },
    Workload {
        name: "memory",
        title: "300,000 keys of 256 B",
        is_long: false,
        measure: storage::small_keys,
    },
    Workload {
        name: "million",
        title: "1,000,000 keys of 1 KiB",
        is_long: true,
        measure: storage::million_keys,
    },
    Workload {
        name: "cluster-puts",
        title: "puts of 256 B from 1,000 clients, three members",
        is_long: false,
        measure: clusters::puts,
    },
    Workload {
        name: "failover",
        title: "kill -9 of the leader of three members, under writes",
        is_long: true,
        measure: failover::kills,
    },
    Workload {
        name: "failover-stop",
        title: "SIGSTOP of the leader for 6 s",
        is_long: true,
        measure: failover::stops,
    },
    Workload {
        name: "failover-loss",
        title: "one-way loss between the leader and its peers for 6 s",
        is_long: true,
        measure: failover::losses,
    },
    Workload {
        name: "backup",
        title: "etcdctl snapshot save of 2 GiB, 100 puts a second meanwhile",
        is_long: true,
        measure: snapshots::backup,
    },
    Workload {
        name: "slow-follower",
        title: "a snapshot of 2 GiB to a follower that reads 5 MB/s, 100 puts a second meanwhile",
        is_long: true,
        measure: snapshots::slow_follower,
    },
];

const BYTES: usize = 256;
/// Members of a cluster.
const MEMBERS: usize = 3;
const MIB: f64 = 1024.0 * 1024.0;
const KIB_IN_MIB: f64 = 1024.0;
/// The pause after a load, before it is measured: the server's later work, and memory that it gives back, count too.
const SETTLE: Duration = Duration::from_secs(2);
const PUTS_AT_ONCE: u64 = 100;
const LOADERS: Shape = Shape {
    connections: 4,
    streams: 8,
    requests: 0,
};
const ONCE: Shape = Shape {
    connections: 1,
    streams: 1,
    requests: 1,
};

impl Measured {
    fn new(what: &'static str, unit: &'static str, better: Better, number: f64) -> Self {
        Self {
            what,
            unit,
            better,
            in_readme: false,
            number,
        }
    }

    /// README shows it.
    fn in_readme(self) -> Self {
        Self {
            in_readme: true,
            ..self
        }
    }
}

fn higher(what: &'static str, unit: &'static str, number: f64) -> Measured {
    Measured::new(what, unit, Better::Higher, number)
}

fn lower(what: &'static str, unit: &'static str, number: f64) -> Measured {
    Measured::new(what, unit, Better::Lower, number)
}

fn launch(kind: Kind) -> Result<Launch, Trouble> {
    Ok(Launch::program(kind.name(), kind.program(Profile::Release)?))
}

fn scaled(number: u64, scale: f64) -> u64 {
    ((number as f64 * scale) as u64).max(1)
}

/// How long the server is left idle after a load; shorter after a small one.
fn settling(scale: f64) -> Duration {
    SETTLE.mul_f64((scale * 10.0).min(1.0))
}

/// Processor seconds of the server between two measurements.
fn spent(before: Usage, after: Usage) -> f64 {
    after.cpu_seconds - before.cpu_seconds
}

/// Processor time per item, in microseconds.
fn each(what: &'static str, cpu_seconds: f64, number: f64) -> Measured {
    lower(what, "µs", cpu_seconds / number * 1e6)
}

fn latencies(taken: &Taken) -> [Measured; 2] {
    [
        lower("p50", "ms", taken.percentile(0.5)),
        lower("p99", "ms", taken.percentile(0.99)),
    ]
}

fn peak_memory(server: &Server) -> Result<Measured, Trouble> {
    let peak = server.usage()?.peak_kib as f64 / KIB_IN_MIB;
    Ok(lower("peak memory (RSS)", "MiB", peak))
}

/// Puts this many keys of this size, in transactions.
async fn fill(clients: &Clients, keys: u64, bytes: usize) -> Result<Taken, Trouble> {
    let value = requests::value(bytes);
    let shape = Shape {
        requests: keys.div_ceil(PUTS_AT_ONCE),
        ..LOADERS
    };
    let many = move |number: u64| {
        let from = number * PUTS_AT_ONCE;
        let names = (from..(from + PUTS_AT_ONCE).min(keys)).map(|at| format!("key/{at:08}"));
        requests::put_many(names, &value)
    };
    clients.drive(shape, requests::TXN, many).await
}
