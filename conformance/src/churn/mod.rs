//! A cluster of five real members under churn: they are killed, stopped, cut off from each other, given full disks,
//! removed and replaced by empty ones, while clients record histories.
//!
//! A run is a row of series. In each, [`faults`] disturbs the members while the clients of [`crate::histories`] use
//! them; then all is healed, and the history is checked. Keys are deleted between two series, so each history begins
//! with an empty store and can be checked by itself. The members live on from series to series. At the end the state of
//! every member is saved by a real etcdctl, and all rows are compared.

mod cluster;
mod faults;
pub(crate) mod links;
mod replace;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cluster::{Cluster, NAMES};
pub use faults::Fault;
use faults::Faults;

use crate::binaries::{self, Kind};
use crate::command;
use crate::histories::check::{self, Summary};
use crate::histories::clients::{self, Shared};
use crate::histories::record::History;
use crate::paths;
use crate::rng::Rng;
use crate::trouble::{During as _, Trouble};
use crate::wait::Deadline;

/// Time with faults in a series. The effort of checking a history grows with the square of its length.
const SERIES: Duration = Duration::from_secs(22);
/// Time without faults in a series: for leases to expire, for the check, for members to catch up.
const REST: Duration = Duration::from_secs(9);
/// A history with fewer acknowledged requests is too short to count.
const ACKNOWLEDGED_MIN: usize = 100;
const COMPARE_LIMIT: Duration = Duration::from_secs(60);

/// What happened in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Histories that were checked.
    pub series: u64,
    /// The sum of all of them.
    pub total: Summary,
    /// Faults by kind, in the order of [`Fault::ALL`].
    pub faults: [u64; Fault::ALL.len()],
    /// Terms with a leader, apart from the first one.
    pub leader_changes: usize,
    /// Snapshots that members took over from a leader.
    pub snapshots: usize,
    /// Members that were removed, added or promoted.
    pub member_changes: u64,
    /// The report of the comparison of all rows.
    pub rows: String,
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{} series: {}", self.series, self.total)?;
        for (fault, count) in Fault::ALL.iter().zip(self.faults) {
            write!(out, "{fault:?} {count}, ")?;
        }
        writeln!(
            out,
            "{} changes of leader, {} snapshots, {} changes of members",
            self.leader_changes, self.snapshots, self.member_changes
        )?;
        write!(out, "{}", self.rows)
    }
}

/// Plays series for a time, on five members of these kinds, and compares their state at the end.
///
/// # Errors
/// A violation, a difference between two members, or a member that does not do what is asked of it.
pub fn run(kinds: [Kind; 5], time: Duration, seed: u64, tell: &mut dyn FnMut(&Tally)) -> Result<Tally, Trouble> {
    let deadline = Deadline::after(time);
    let mut rng = Rng::new(seed);
    let mut cluster = Cluster::start(kinds)?;
    let mut tally = Tally::default();
    let mut open = History::default();
    while tally.series == 0 || deadline.left() > (SERIES + REST) / 2 {
        open = series(&mut cluster, &mut rng, &mut tally, open)?;
        count_logs(&cluster, &mut tally)?;
        tell(&tally);
    }
    cluster.wait_healthy()?;
    tally.rows = same_rows(&cluster)?;
    Ok(tally)
}

/// Plays one series. Returns the writes that may still have an effect.
fn series(cluster: &mut Cluster, rng: &mut Rng, tally: &mut Tally, open: History) -> Result<History, Trouble> {
    let first = cluster.clear()?;
    let shared = Shared::following(cluster.addresses(), tally.series, first, open);
    let loading = load(shared.clone(), Rng::new(rng.bits()));
    let disturbed = Faults::new(cluster, &shared, rng, &mut tally.faults).play(SERIES);
    shared.stop();
    loading.join().map_err(|_| Trouble::new("the clients panicked"))??;
    disturbed?;
    let mut history = std::mem::take(&mut *shared.history());
    history.count_from(first - 1);
    let acknowledged = history.operations.iter().filter(|one| one.returned.is_some()).count();
    match check::all(&history) {
        Ok(summary) if acknowledged >= ACKNOWLEDGED_MIN => tally.total.add(summary),
        Ok(_) => return Err(Trouble::new(format!("only {acknowledged} requests were answered"))),
        Err(violation) => return Err(Trouble::new(check::tell(&history, &violation))),
    }
    tally.series += 1;
    Ok(history.unanswered())
}

fn load(shared: Arc<Shared>, rng: Rng) -> JoinHandle<Result<(), Trouble>> {
    thread::spawn(move || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().during("a runtime for the clients")?;
        runtime.block_on(clients::load(shared, rng));
        Ok(())
    })
}

/// Counts what the logs of all members have of elections, snapshots and changes of members.
fn count_logs(cluster: &Cluster, tally: &mut Tally) -> Result<(), Trouble> {
    let mut terms = BTreeSet::new();
    tally.snapshots = 0;
    for (server, name) in cluster.servers.iter().zip(NAMES) {
        let log = server.log();
        if let Some(panic) = log.lines().find(|line| line.contains("panicked at")) {
            return Err(Trouble::new(format!("{name} panicked: {panic}")));
        }
        tally.snapshots += log.matches("saved database snapshot").count();
        let won = log.split("became leader at term ").skip(1);
        terms.extend(won.filter_map(|rest| {
            rest.split(|char: char| !char.is_ascii_digit())
                .next()?
                .parse::<u64>()
                .ok()
        }));
    }
    tally.leader_changes = terms.len().saturating_sub(1);
    // Each replacement that has ended was a removal, an addition and a promotion.
    let replaced = Fault::ALL.iter().position(|fault| *fault == Fault::Replace);
    tally.member_changes = replaced.map_or(0, |kind| tally.faults[kind] * 3);
    Ok(())
}

/// Saves the state of every member and compares all rows; returns the report.
fn same_rows(cluster: &Cluster) -> Result<String, Trouble> {
    let folder = paths::fresh("churn-rows")?;
    let compared = cluster.save_all(&folder).and_then(|files| compare_rows(&files));
    if compared.is_ok() {
        // Files of a difference stay.
        let _ = std::fs::remove_dir_all(&folder);
    }
    compared
}

/// Compares the rows of database files; returns the number of rows of each bucket.
///
/// # Errors
/// If two files differ in a row other than those that name how far a member has come.
pub fn compare_rows(files: &[PathBuf]) -> Result<String, Trouble> {
    let mut program = command::untouched(binaries::example("runtime", "same_rows")?);
    command::run(program.args(files), b"", COMPARE_LIMIT)?.success("comparing the rows of all members")
}
