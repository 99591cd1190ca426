//! Reads and writes of keys.

use quoin_conformance::{Kind, Trouble, usage};

use super::door::Door;
use super::{BYTES, LOADERS, Measured, ONCE, each, fill, higher, latencies, launch, lower, peak_memory};
use super::{scaled, settling, spent};
use crate::load::{self, Clients, Shape};
use crate::requests;

pub(super) fn serializable_gets(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    gets(kind, Door::Open, true, scaled(200_000, scale))
}

pub(super) fn linearizable_gets(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    gets(kind, Door::Open, false, scaled(100_000, scale))
}

pub(super) fn gets_over_tls(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    gets(kind, Door::Tls, true, scaled(200_000, scale))
}

pub(super) fn gets_of_a_user(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    gets(kind, Door::Users, true, scaled(200_000, scale))
}

pub(super) fn puts(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    puts_through(kind, Door::Open, scale)
}

pub(super) fn puts_over_tls(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    puts_through(kind, Door::Tls, scale)
}

pub(super) fn puts_of_a_user(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    puts_through(kind, Door::Users, scale)
}

fn gets(kind: Kind, door: Door, serializable: bool, requests: u64) -> Result<Vec<Measured>, Trouble> {
    let guarded = door.start(kind)?;
    let server = &guarded.server;
    let shape = Shape {
        connections: 8,
        streams: 100,
        requests,
    };
    let (taken, cpu) = load::run(async {
        let clients = guarded.connect(shape.connections).await?;
        let put = requests::put("key", &requests::value(BYTES));
        clients.drive(ONCE, requests::PUT, move |_| put.clone()).await?;
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
    let number = taken.latencies.len() as f64;
    let mut numbers = vec![
        each("CPU per request", cpu, number).in_readme(),
        higher("throughput", "requests/s", number / taken.seconds),
    ];
    numbers.extend(latencies(&taken));
    Ok(numbers)
}

fn puts_through(kind: Kind, door: Door, scale: f64) -> Result<Vec<Measured>, Trouble> {
    let guarded = door.start(kind)?;
    let server = &guarded.server;
    let pid = server.pid()?;
    let shape = Shape {
        connections: 10,
        streams: 100,
        requests: scaled(100_000, scale),
    };
    let (taken, cpu, written) = load::run(async {
        let clients = guarded.connect(shape.connections).await?;
        let value = requests::value(BYTES);
        let (before, written) = (server.usage()?, usage::written(pid));
        let put = move |number| requests::put(format!("put/{number:08}"), &value);
        let taken = clients.drive(shape, requests::PUT, put).await?;
        tokio::time::sleep(settling(scale)).await;
        let written = usage::written(pid).zip(written).map(|(after, before)| after - before);
        Ok((taken, spent(before, server.usage()?), written))
    })?;
    let number = taken.latencies.len() as f64;
    let mut numbers = vec![
        each("CPU per request", cpu, number).in_readme(),
        higher("throughput", "requests/s", number / taken.seconds).in_readme(),
    ];
    numbers.extend(latencies(&taken));
    numbers.push(peak_memory(server)?);
    if let Some(written) = written {
        numbers.push(lower("written to disk per put", "B", written as f64 / number).in_readme());
    }
    Ok(numbers)
}

pub(super) fn lists(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    let server = launch(kind)?.start()?;
    let shape = Shape {
        connections: 1,
        streams: 1,
        requests: scaled(50, scale),
    };
    let (taken, cpu) = load::run(async {
        let clients = Clients::connect(server.address(), LOADERS.connections).await?;
        fill(&clients, scaled(10_000, scale), 1024).await?;
        tokio::time::sleep(settling(scale)).await;
        let list = requests::list("key/", "key0");
        let before = server.usage()?;
        let taken = clients.drive(shape, requests::RANGE, move |_| list.clone()).await?;
        Ok((taken, spent(before, server.usage()?)))
    })?;
    let number = taken.latencies.len() as f64;
    let mut numbers = vec![
        lower("CPU per list", "ms", cpu / number * 1e3).in_readme(),
        higher("throughput", "lists/s", number / taken.seconds),
    ];
    numbers.extend(latencies(&taken));
    numbers.push(peak_memory(&server)?);
    Ok(numbers)
}
