//! Leases that are kept alive.

use std::cell::RefCell;
use std::rc::Rc;

use prost::Message as _;
use quoin_conformance::trouble::During as _;
use quoin_conformance::{Kind, Trouble, wait};
use quoin_core::proto::etcdserverpb::LeaseKeepAliveResponse;

use super::{LOADERS, Measured, each, higher, latencies, launch, peak_memory, scaled, spent};
use crate::load::{self, Clients, OpenStream, Shape, Taken};
use crate::requests;

const CONNECTIONS: usize = 10;
const STREAMS: u64 = 100;
const LEASES_PER_STREAM: u64 = 10;
/// Longer than the workload takes.
const TTL_SECONDS: i64 = 600;

/// Each stream keeps its leases alive in turn and waits for every answer.
pub(super) fn keepalives(kind: Kind, scale: f64) -> Result<Vec<Measured>, Trouble> {
    let server = launch(kind)?.start()?;
    let rounds = scaled(100, scale);
    let (taken, cpu) = load::run(async {
        let clients = Clients::connect(server.address(), CONNECTIONS).await?;
        let grants = Shape {
            requests: STREAMS * LEASES_PER_STREAM,
            ..LOADERS
        };
        let grant = |number| requests::grant(number as i64 + 1, TTL_SECONDS);
        clients.drive(grants, requests::LEASE_GRANT, grant).await?;
        let mut streams = Vec::new();
        for number in 0..STREAMS {
            let first = requests::keep_alive((number * LEASES_PER_STREAM) as i64 + 1);
            let mut stream = clients.open(number as usize, requests::KEEP_ALIVE, first).await?;
            stream.message().await?;
            streams.push(stream);
        }
        let before = server.usage()?;
        let taken = all(streams, rounds).await?;
        Ok((taken, spent(before, server.usage()?)))
    })?;
    let number = taken.latencies.len() as f64;
    let mut numbers = vec![
        each("CPU per keepalive", cpu, number).in_readme(),
        higher("throughput", "keepalives/s", number / taken.seconds),
    ];
    numbers.extend(latencies(&taken));
    numbers.push(peak_memory(&server)?);
    Ok(numbers)
}

async fn all(streams: Vec<OpenStream>, rounds: u64) -> Result<Taken, Trouble> {
    let latencies = Rc::new(RefCell::new(Vec::new()));
    let begun = wait::now();
    let mut tasks = Vec::new();
    for (number, mut stream) in streams.into_iter().enumerate() {
        let latencies = latencies.clone();
        tasks.push(tokio::task::spawn_local(async move {
            let first = number as u64 * LEASES_PER_STREAM + 1;
            for id in (0..rounds).flat_map(|_| first..first + LEASES_PER_STREAM) {
                let asked = wait::now();
                stream.send(requests::keep_alive(id as i64))?;
                let answer = LeaseKeepAliveResponse::decode(stream.message().await?).during("an answer")?;
                if answer.ttl <= 0 {
                    return Err(Trouble::new(format!("lease {id} is gone: {answer:?}")));
                }
                latencies.borrow_mut().push(asked.elapsed());
            }
            Ok(())
        }));
    }
    for task in tasks {
        task.await.during("a stream of keepalives")??;
    }
    Ok(Taken::new(begun.elapsed().as_secs_f64(), latencies.take()))
}
