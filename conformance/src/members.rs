//! Several servers as the members of one cluster on loopback.

use std::{net::SocketAddr, time::Duration};

use sha1::{Digest as _, Sha1};

use crate::proxy::Proxy;
use crate::server::{HEALTH_LIMIT, free_address};
use crate::{Launch, Server, Trouble};

const STEP: Duration = Duration::from_millis(20);
/// The names of members. A cluster has at most as many members as there are names.
const NAMES: [&str; 7] = ["one", "two", "three", "four", "five", "six", "seven"];
/// The default of `--initial-cluster-token`, from which ids are derived.
const TOKEN: &str = "etcd-cluster";
/// The lowest id of sixteen hexadecimal digits: some outputs of etcdctl pad shorter ids, others do not.
const LONG_ID: u64 = 1 << 60;

/// The id of a member that founds a cluster: the start of a hash of its URL and the token.
fn id(scheme: &str, peer: &SocketAddr) -> u64 {
    let hash = Sha1::digest(format!("{scheme}://{peer}{TOKEN}"));
    hash.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}

/// Names and free peer addresses for members that found a cluster and have URLs of this scheme. Their ids ascend, so that
/// every list of them has the same order in each run.
///
/// # Errors
/// If no address is free.
pub fn founders(scheme: &str, count: usize) -> Result<Vec<(&'static str, SocketAddr)>, Trouble> {
    let mut addresses = Vec::new();
    while addresses.len() < count.min(NAMES.len()) {
        let address = free_address()?;
        if id(scheme, &address) >= LONG_ID {
            addresses.push(address);
        }
    }
    addresses.sort_by_key(|address| id(scheme, address));
    Ok(NAMES.into_iter().zip(addresses).collect())
}

/// Starts these servers together as one cluster, and waits until all are healthy. Peers reach each of them through the
/// proxy at its place in the second list.
///
/// # Errors
/// If one of them does not become healthy; the message has the end of its log.
pub fn start_behind_proxies(launches: Vec<Launch>) -> Result<(Vec<Server>, Vec<Proxy>), Trouble> {
    let mut listening = Vec::new();
    for _ in &launches {
        listening.push(free_address()?);
    }
    let proxies: Result<Vec<Proxy>, Trouble> = listening.iter().map(|address| Proxy::before(*address)).collect();
    let proxies = proxies?;
    let members: Vec<_> = NAMES.into_iter().zip(proxies.iter().map(Proxy::address)).collect();
    let spawned = launches.into_iter().zip(&members).zip(listening);
    let spawned: Result<Vec<Server>, Trouble> = spawned
        .map(|((launch, (name, _)), address)| launch.member(name, &members).peers_at(address).spawn())
        .collect();
    Ok((all_healthy(spawned?)?, proxies))
}

/// Starts these servers together as one cluster, each on an empty data directory, and waits until all are healthy.
///
/// # Errors
/// If one of them does not become healthy; the message has the end of its log.
pub fn start_together(launches: impl IntoIterator<Item = Launch>) -> Result<Vec<Server>, Trouble> {
    let launches: Vec<Launch> = launches.into_iter().collect();
    let members = founders("http", launches.len())?;
    let started: Result<Vec<Server>, Trouble> = launches
        .into_iter()
        .zip(&members)
        .map(|(launch, (name, _))| launch.member(name, &members).spawn())
        .collect();
    all_healthy(started?)
}

fn all_healthy(mut servers: Vec<Server>) -> Result<Vec<Server>, Trouble> {
    for server in &mut servers {
        server.wait_healthy(HEALTH_LIMIT, STEP)?;
    }
    Ok(servers)
}
