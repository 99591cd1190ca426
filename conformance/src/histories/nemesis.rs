//! The disturbances of a server while clients use it: it is killed or stopped, or its disk is full or slow.

use std::time::Duration;

use quoin_model::linear::kv::{OpReply, Reply};

use super::clients::Shared;
use super::record::Moment;
use crate::command;
use crate::rng::Rng;
use crate::server::Server;
use crate::sweep::strace::{Attached, Strace};
use crate::trouble::Trouble;
use crate::wait;

/// The names of the threads that write to the disk.
const DISK_THREADS: [&str; 3] = ["quoin-wal", "quoin-table", "fjall:worker"];
/// The disk threads that do not write the raft log: with `--wal-dir`, its disk may have room while the other one is
/// full.
const TABLE_THREADS: [&str; 2] = ["quoin-table", "fjall:worker"];
/// The log's disk has room once in this many runs.
const LOG_HAS_ROOM_ONCE_IN: u64 = 3;
/// Makes the calls that need room fail. The threads above write only data files and lines of the server's log.
const FULL: &str = "inject=write,writev,pwrite64,pwritev,pwritev2,fallocate:error=ENOSPC";
/// Writes requested within this time after the disk became full may still be acknowledged.
const UNDER_WAY: Moment = 200_000;
/// A killed server is killed again during its start once in this many runs.
const KILLED_STARTING_ONCE_IN: u64 = 3;
/// A server that halts logs the reason within this time.
const HALT_LIMIT: Duration = Duration::from_secs(5);

/// A disturbance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nemesis {
    /// The disk is full for a while, then the server is started with room.
    FullDisk,
    /// SIGKILL and a restart on the same data directory.
    Kill,
    /// Every sync of a file takes long.
    SlowDisk,
    /// SIGSTOP and SIGCONT.
    Stop,
}

impl Nemesis {
    /// All disturbances.
    pub const ALL: [Self; 4] = [Self::Kill, Self::Stop, Self::FullDisk, Self::SlowDisk];

    /// The name in words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FullDisk => "a full disk",
            Self::Kill => "kill -9 and restart",
            Self::SlowDisk => "a slow disk",
            Self::Stop => "SIGSTOP and SIGCONT",
        }
    }

    /// Disturbs the server for some seconds; when this returns, the server is healthy again.
    pub(super) fn disturb(self, server: &mut Server, shared: &Shared, rng: &mut Rng) -> Result<(), Trouble> {
        let times = match self {
            Self::FullDisk | Self::SlowDisk => 1,
            Self::Kill => 2,
            Self::Stop => 3,
        };
        for _ in 0..times {
            wait::pause(Duration::from_millis(200 + rng.below(500)));
            let from = shared.now();
            match self {
                Self::FullDisk => full(server, shared, rng)?,
                Self::Kill => kill(server, rng)?,
                Self::SlowDisk => slow(server, rng)?,
                Self::Stop => stop(server, rng)?,
            }
            let until = shared.now();
            shared.history().disturbed.push((from, until));
        }
        wait::pause(Duration::from_millis(400));
        Ok(())
    }
}

fn kill(server: &mut Server, rng: &mut Rng) -> Result<(), Trouble> {
    server.kill()?;
    wait::pause(Duration::from_millis(rng.below(150)));
    if rng.once_in(KILLED_STARTING_ONCE_IN) {
        server.spawn()?;
        wait::pause(Duration::from_millis(rng.below(250)));
        server.kill()?;
    }
    server.restart()
}

fn stop(server: &Server, rng: &mut Rng) -> Result<(), Trouble> {
    let pid = server.pid()?;
    command::signal(pid, "STOP")?;
    wait::pause(Duration::from_millis(50 + rng.below(900)));
    command::signal(pid, "CONT")
}

/// Makes every write to the server's disk fail for lack of room, until the returned value is dropped.
pub(crate) fn fill_disk(server: &Server) -> Result<Attached, Trouble> {
    Attached::new(&Strace::find()?, server.pid()?, FULL, |name| {
        DISK_THREADS.iter().any(|known| name.starts_with(known))
    })
}

fn slow(server: &Server, rng: &mut Rng) -> Result<(), Trouble> {
    let micros = 2_000 + rng.below(80_000);
    let inject = format!("inject=fsync,fdatasync,sync_file_range:delay_enter={micros}");
    let attached = Attached::new(&Strace::find()?, server.pid()?, &inject, |_| true)?;
    wait::pause(Duration::from_millis(1500));
    attached.detach()
}

fn full(server: &mut Server, shared: &Shared, rng: &mut Rng) -> Result<(), Trouble> {
    let logged = server.log().len();
    let log_has_room = rng.once_in(LOG_HAS_ROOM_ONCE_IN);
    let meant: &[&str] = if log_has_room { &TABLE_THREADS } else { &DISK_THREADS };
    let attached = Attached::new(&Strace::find()?, server.pid()?, FULL, |name| {
        meant.iter().any(|known| name.starts_with(known))
    })?;
    let from = shared.now();
    wait::pause(Duration::from_millis(800 + rng.below(700)));
    let until = shared.now();
    let acknowledges = is_acknowledging(shared, from + UNDER_WAY, until);
    let mut halt = || wait::until(HALT_LIMIT, Duration::from_millis(20), || server.exited());
    let exited = if acknowledges { None } else { halt() };
    attached.detach()?;
    if acknowledges && !log_has_room {
        let words = format!("writes were acknowledged on a full disk between {from} and {until}");
        shared.history().faults.push(words);
    }
    match exited {
        Some(status) => {
            let log = server.log();
            let said = log.get(logged..).unwrap_or_default();
            let is_loud = !status.success() && said.to_lowercase().contains("no space left");
            if !is_loud {
                let words = format!("the disk was full; the server ended ({status}) with this log: {said}");
                shared.history().faults.push(words);
            }
            let _ = server.kill();
        }
        None => server.kill()?,
    }
    server.restart()
}

/// Whether a write was requested and acknowledged in this time.
fn is_acknowledging(shared: &Shared, from: Moment, until: Moment) -> bool {
    let wrote = |reply: &OpReply| !matches!(reply, OpReply::Range(_) | OpReply::Deleted(0));
    shared.history().operations.iter().any(|one| {
        let is_write = match &one.reply {
            Some(Reply::One { reply, .. }) => wrote(reply),
            Some(Reply::Txn { replies, .. }) => replies.iter().any(wrote),
            Some(Reply::Compacted { .. } | Reply::Refused(_)) | None => false,
        };
        is_write && one.invoked > from && one.returned.is_some_and(|at| at < until)
    })
}
