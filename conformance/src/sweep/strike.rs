//! One run: a server is killed at a point, restarted, and checked.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use super::plan::{STEP, launch};
use super::{Point, series};
use crate::binaries::Kind;
use crate::histories::check;
use crate::server::{HEALTH_LIMIT, Server};
use crate::trouble::Trouble;
use crate::{paths, wait};

/// After a broken connection the process must have ended within this time.
const END_LIMIT: Duration = Duration::from_secs(5);
/// Rows written behind may still lead to the point.
const REST: Duration = Duration::from_millis(300);
const SIGKILL: i32 = 9;

/// The result of a run without loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Struck {
    /// Whether the process was killed at the point.
    pub hit: bool,
    /// Requests that were answered before.
    pub acknowledged: usize,
}

/// Kills a server at a point, restarts it and checks it.
///
/// # Errors
/// If it does not start again, or an acknowledged write is lost, or a write is partial.
pub fn strike(kind: Kind, point: &Point) -> Result<Struck, Trouble> {
    let folder = paths::fresh("sweep")?;
    let mut server = launch(kind, &folder.join("trace"), Some(point))?.spawn()?;
    let served = wait::until(HEALTH_LIMIT, STEP, || match server.exited() {
        Some(_) => Some(false),
        None => server.is_healthy().then_some(true),
    });
    let played = match served {
        Some(true) => series::play(server.address())?,
        Some(false) => series::nothing(server.address())?,
        None => return Err(Trouble::new("the server neither became healthy nor was killed")),
    };
    let limit = if played.is_whole { REST } else { END_LIMIT };
    let ended = wait::until(limit, STEP, || server.exited());
    let hit = ended.is_some_and(|status| status.signal() == Some(SIGKILL));
    if let Some(status) = ended.filter(|_| !hit) {
        return Err(Trouble::new(format!("the server ended by itself: {status}")));
    }
    server.kill()?;
    let _ = fs::remove_dir_all(&folder);
    start_again(&mut server)?;
    played.finish()?;
    let history = std::mem::take(&mut *played.shared.history());
    let acknowledged = history.operations.iter().filter(|one| one.returned.is_some()).count();
    match check::all(&history) {
        Ok(_) => Ok(Struck { hit, acknowledged }),
        Err(violation) => Err(Trouble::new(check::tell(&history, &violation))),
    }
}

fn start_again(server: &mut Server) -> Result<(), Trouble> {
    server.unwrap_program();
    server.spawn()?;
    server.wait_healthy(HEALTH_LIMIT, STEP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Launch;

    #[test]
    fn a_server_that_lost_acknowledged_writes_is_found() {
        let mut server = Launch::of(Kind::QuoinTokio)
            .and_then(Launch::start)
            .expect("a healthy server");
        let played = series::play(server.address()).expect("a client");
        assert!(played.is_whole);
        server.kill().expect("it was running");
        fs::remove_dir_all(server.data_dir()).expect("it had a data directory");
        start_again(&mut server).expect("a server without data");
        let lost_lease = played.finish().expect_err("leases are lost").to_string();
        assert!(lost_lease.contains("was granted and is not among"), "{lost_lease}");

        let history = std::mem::take(&mut *played.shared.history());
        let violation = check::all(&history).expect_err("writes are lost");
        assert_eq!(violation.rule, "no acknowledged write lost");
    }
}
