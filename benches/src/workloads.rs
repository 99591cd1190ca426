//! The workloads: what is asked of a fresh server, and what is measured while it answers.

use std::time::Duration;

use quoin_conformance::{Kind, Launch, Server, Trouble, binaries::Profile, usage::Usage, wait};

use crate::{
    load::{self, Clients, Shape, Taken},
    requests,
};

/// One workload: a name and what it measures.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// How it is called in the report; its first word is its name on the command line.
    pub name: &'static str,
    /// Runs it against a server of this kind.
    pub measure: fn(Kind, f64) -> Result<Vec<Measured>, Trouble>,
}

/// One number that came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// What it is, with its unit.
    pub what: &'static str,
    /// The number.
    pub number: f64,
}

/// All of them, in the order of the report.
pub const ALL: [Workload; 7] = [
    Workload {
        name: "gets, serializable, one key of 256 B, 800 in flight",
        measure: serializable_gets,
    },
    Workload {
        name: "linearizable gets of the same",
        measure: linearizable_gets,
    },
    Workload {
        name: "puts of 256 B from 1000 clients",
        measure: puts,
    },
    Workload {
        name: "lists of 10,000 keys of 1 KiB",
        measure: lists,
    },
    Workload {
        name: "watch: 1000 watchers of one key",
        measure: watches,
    },
    Workload {
        name: "memory with 300,000 keys of 256 B",
        measure: memory,
    },
    Workload {
        name: "start until healthy",
        measure: start,
    },
];

const BYTES: usize = 256;
const HUNDRED_THOUSAND: f64 = 100_000.0;
const MIB: f64 = 1024.0;
const POLL: Duration = Duration::from_millis(2);
const START_LIMIT: Duration = Duration::from_secs(60);
/// Background work after a load is part of its price; so is memory given back.
const SETTLE: Duration = Duration::from_secs(2);
const PUTS_AT_ONCE: u64 = 100;
const LOADERS: Shape = Shape {
    connections: 4,
    streams: 8,
    requests: 0,
};

fn launched(kind: Kind) -> Result<Server, Trouble> {
    Launch::program(kind.name(), kind.program(Profile::Release)?).start()
}

fn scaled(number: u64, scale: f64) -> u64 {
    ((number as f64 * scale) as u64).max(1)
}

/// Processor seconds of the server between two looks.
fn spent(before: Usage, after: Usage) -> f64 {
    after.cpu_seconds - before.cpu_seconds
}

fn measured(what: &'static str, number: f64) -> Measured {
    Measured { what, number }
}

/// The numbers that every load has.
fn rates(taken: &Taken, cpu: f64) -> Vec<Measured> {
    let requests = taken.latencies.len() as f64;
    vec![
        measured("requests/s", requests / taken.seconds),
        measured("p50 ms", taken.percentile(0.5)),
        measured("p99 ms", taken.percentile(0.99)),
        measured("CPU s per 100k", cpu / requests * HUNDRED_THOUSAND),
    ]
}

fn serializable_gets(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    gets(kind, true, scaled(200_000, scale))
}

fn linearizable_gets(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    gets(kind, false, scaled(100_000, scale))
}

fn gets(kind: Kind, serializable: bool, requests: u64) -> Result<Vec<Measured>, Trouble> {
    let server = launched(kind)?;
    let shape = Shape {
        connections: 8,
        streams: 100,
        requests,
    };
    let (taken, cpu) = load::run(async {
        let clients = Clients::connect(server.address(), shape.connections).await?;
        let put = requests::put("key", &requests::value(BYTES));
        clients
            .drive(
                Shape {
                    connections: 1,
                    streams: 1,
                    requests: 1,
                },
                requests::PUT,
                move |_| put.clone(),
            )
            .await?;
        let get = requests::get("key", serializable);
        let warm_up = get.clone();
        let tenth = Shape {
            requests: requests / 10,
            ..shape
        };
        clients.drive(tenth, requests::RANGE, move |_| warm_up.clone()).await?;
        let before = server.usage()?;
        let taken = clients.drive(shape, requests::RANGE, move |_| get.clone()).await?;
        Ok((taken, spent(before, server.usage()?)))
    })?;
    Ok(rates(&taken, cpu))
}

fn puts(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    let server = launched(kind)?;
    let shape = Shape {
        connections: 10,
        streams: 100,
        requests: scaled(100_000, scale),
    };
    let (taken, cpu) = load::run(async {
        let clients = Clients::connect(server.address(), shape.connections).await?;
        let value = requests::value(BYTES);
        let before = server.usage()?;
        let put = move |number| requests::put(format!("put/{number:08}"), &value);
        let taken = clients.drive(shape, requests::PUT, put).await?;
        tokio::time::sleep(SETTLE).await;
        Ok((taken, spent(before, server.usage()?)))
    })?;
    let mut numbers = rates(&taken, cpu);
    numbers.push(measured("peak RSS MiB", server.usage()?.peak_kib as f64 / MIB));
    Ok(numbers)
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

fn lists(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    let server = launched(kind)?;
    let shape = Shape {
        connections: 1,
        streams: 1,
        requests: scaled(50, scale),
    };
    let (taken, cpu) = load::run(async {
        let clients = Clients::connect(server.address(), LOADERS.connections).await?;
        fill(&clients, scaled(10_000, scale), 1024).await?;
        tokio::time::sleep(SETTLE).await;
        let list = requests::list("key/", "key0");
        let before = server.usage()?;
        let taken = clients.drive(shape, requests::RANGE, move |_| list.clone()).await?;
        Ok((taken, spent(before, server.usage()?)))
    })?;
    let number = taken.latencies.len() as f64;
    Ok(vec![
        measured("lists/s", number / taken.seconds),
        measured("p50 ms", taken.percentile(0.5)),
        measured("p99 ms", taken.percentile(0.99)),
        measured("CPU ms per list", cpu / number * 1000.0),
        measured("peak RSS MiB", server.usage()?.peak_kib as f64 / MIB),
    ])
}

const WATCH_STREAMS: usize = 1000;

fn watches(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    let server = launched(kind)?;
    let puts = scaled(100, scale);
    let (seconds, cpu) = load::run(async {
        let clients = Clients::connect(server.address(), 8).await?;
        let mut streams = Vec::new();
        for number in 0..WATCH_STREAMS {
            let mut stream = clients.open(number, requests::WATCH, requests::watch("key")).await?;
            stream.message().await?;
            streams.push(stream);
        }
        let before = server.usage()?;
        let begun = wait::now();
        for _ in 0..puts {
            let put = requests::put("key", &requests::value(BYTES));
            clients
                .drive(
                    Shape {
                        connections: 1,
                        streams: 1,
                        requests: 1,
                    },
                    requests::PUT,
                    move |_| put.clone(),
                )
                .await?;
            for stream in &mut streams {
                stream.message().await?;
            }
        }
        Ok((begun.elapsed().as_secs_f64(), spent(before, server.usage()?)))
    })?;
    let events = puts as f64 * WATCH_STREAMS as f64;
    Ok(vec![
        measured("events/s", events / seconds),
        measured("CPU s per 100k", cpu / events * HUNDRED_THOUSAND),
        measured("peak RSS MiB", server.usage()?.peak_kib as f64 / MIB),
    ])
}

fn memory(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    let mut server = launched(kind)?;
    let before = server.usage()?;
    let taken = load::run(async {
        let clients = Clients::connect(server.address(), LOADERS.connections).await?;
        fill(&clients, scaled(300_000, scale), BYTES).await
    })?;
    wait::pause(SETTLE);
    let usage = server.usage()?;
    server.kill()?;
    let begun = wait::now();
    server.spawn()?;
    server.wait_healthy(START_LIMIT, POLL)?;
    let restart = begun.elapsed();
    Ok(vec![
        measured("RSS MiB", usage.resident_kib as f64 / MIB),
        measured("peak RSS MiB", usage.peak_kib as f64 / MIB),
        measured("CPU s to load", spent(before, usage)),
        measured("s to load", taken.seconds),
        measured("ms from kill -9 to healthy", restart.as_secs_f64() * 1000.0),
    ])
}

/// On an empty data directory; several times, for each is short.
fn start(kind: Kind, _scale: f64) -> Result<Vec<Measured>, Trouble> {
    let program = kind.program(Profile::Release)?;
    let mut times = Vec::new();
    for _ in 0..3 {
        let launch = Launch::program(kind.name(), program.clone());
        let begun = wait::now();
        let mut server = launch.spawn()?;
        server.wait_healthy(START_LIMIT, POLL)?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(vec![measured("ms", times[1])])
}
