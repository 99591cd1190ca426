//! Several servers as the members of one cluster on loopback.

use std::time::Duration;

use crate::server::{HEALTH_LIMIT, free_address};
use crate::{Launch, Server, Trouble};

const STEP: Duration = Duration::from_millis(20);
/// The names of members. A cluster has at most as many members as there are names.
const NAMES: [&str; 7] = ["one", "two", "three", "four", "five", "six", "seven"];

/// Starts these servers together as one cluster, each on an empty data directory, and waits until all are healthy.
///
/// # Errors
/// If one of them does not become healthy; the message has the end of its log.
pub fn start_together(launches: impl IntoIterator<Item = Launch>) -> Result<Vec<Server>, Trouble> {
    let launches: Vec<Launch> = launches.into_iter().collect();
    let names = NAMES.iter().take(launches.len());
    let members: Result<Vec<_>, Trouble> = names.map(|name| Ok((*name, free_address()?))).collect();
    let members = members?;
    let started: Result<Vec<Server>, Trouble> = launches
        .into_iter()
        .zip(&members)
        .map(|(launch, (name, _))| launch.member(name, &members).spawn())
        .collect();
    let mut servers = started?;
    for server in &mut servers {
        server.wait_healthy(HEALTH_LIMIT, STEP)?;
    }
    Ok(servers)
}
