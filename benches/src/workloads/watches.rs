//! Watches of one key by many streams.

use prost::Message as _;
use quoin_conformance::trouble::During as _;
use quoin_conformance::{Kind, Server, Trouble, wait};
use quoin_core::proto::etcdserverpb::WatchResponse;

use super::{BYTES, Measured, ONCE, each, higher, launch, peak_memory, scaled, spent};
use crate::load::{self, Clients, OpenStream, Shape};
use crate::requests;

/// Each put waits until every stream has received its event.
pub(super) fn one_by_one(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    const STREAMS: usize = 1_000;
    let server = launch(kind)?.start()?;
    let puts = scaled(100, scale);
    let (seconds, cpu) = load::run(async {
        let clients = Clients::connect(server.address(), 8).await?;
        let mut streams = watching(&clients, STREAMS).await?;
        let before = server.usage()?;
        let begun = wait::now();
        for _ in 0..puts {
            let put = requests::put("key", &requests::value(BYTES));
            clients.drive(ONCE, requests::PUT, move |_| put.clone()).await?;
            for stream in &mut streams {
                stream.message().await?;
            }
        }
        Ok((begun.elapsed().as_secs_f64(), spent(before, server.usage()?)))
    })?;
    numbers(&server, puts as f64 * STREAMS as f64, seconds, cpu)
}

/// Puts do not wait for events.
pub(super) fn throughput(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    const STREAMS: usize = 2_500;
    let server = launch(kind)?.start()?;
    let shape = Shape {
        connections: 1,
        streams: 8,
        requests: scaled(200, scale),
    };
    let (seconds, cpu) = load::run(async {
        let clients = Clients::connect(server.address(), 10).await?;
        let streams = watching(&clients, STREAMS).await?;
        let before = server.usage()?;
        let begun = wait::now();
        let all = shape.requests;
        let readers: Vec<_> = streams
            .into_iter()
            .map(|stream| tokio::task::spawn_local(count(stream, all)))
            .collect();
        let put = requests::put("key", &requests::value(BYTES));
        clients.drive(shape, requests::PUT, move |_| put.clone()).await?;
        for reader in readers {
            reader.await.during("a reader of events")??;
        }
        Ok((begun.elapsed().as_secs_f64(), spent(before, server.usage()?)))
    })?;
    let mut numbers = numbers(&server, shape.requests as f64 * STREAMS as f64, seconds, cpu)?;
    numbers[1].in_readme = true;
    Ok(numbers)
}

async fn watching(clients: &Clients, streams: usize) -> Result<Vec<OpenStream>, Trouble> {
    let mut opened = Vec::new();
    for number in 0..streams {
        let mut stream = clients.open(number, requests::WATCH, requests::watch("key")).await?;
        stream.message().await?;
        opened.push(stream);
    }
    Ok(opened)
}

/// Reads a stream until it has received this many events.
async fn count(mut stream: OpenStream, events: u64) -> Result<(), Trouble> {
    let mut had = 0;
    while had < events {
        let response = WatchResponse::decode(stream.message().await?).during("an event")?;
        if response.canceled {
            return Err(Trouble::new(format!("a watch was cancelled: {response:?}")));
        }
        had += response.events.len() as u64;
    }
    Ok(())
}

fn numbers(server: &Server, events: f64, seconds: f64, cpu: f64) -> Result<Vec<Measured>, Trouble> {
    Ok(vec![
        each("CPU per event", cpu, events).in_readme(),
        higher("throughput", "events/s", events / seconds),
        peak_memory(server)?,
    ])
}
