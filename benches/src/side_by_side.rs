//! Runs every workload against every server in turn, as often as requested.
//!
//! Servers alternate within a workload, so that disturbances of the machine affect all of them.

use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quoin_conformance::binaries::Profile;
use quoin_conformance::trouble::During as _;
use quoin_conformance::{Kind, Trouble, children, command, paths};
use quoin_tools::{Made, Progress, interrupt, note, say};

use crate::report::{Report, Row};
use crate::workloads::{self, Measured, Workload};

/// Runs of a workload by default: few, but enough for a median.
const RUNS: usize = 3;
/// A program must print its version within this time.
const VERSION_LIMIT: Duration = Duration::from_secs(20);

/// The plan of a run, and how to show the results.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The number of runs; by default three, or one for workloads of minutes.
    pub runs: Option<usize>,
    /// The servers; the others are compared with the first.
    pub kinds: Vec<Kind>,
    /// The scale of the numbers of requests and keys.
    pub scale: f64,
    /// The workloads, in this order.
    pub workloads: Vec<Workload>,
    /// Whether only README's rows are shown.
    pub in_readme: bool,
    /// Whether better and worse are coloured.
    pub colours: bool,
}

/// Runs the plan, with progress on standard error. A signal prints the results so far and ends the process.
///
/// # Errors
/// If a program cannot be built or downloaded, or a server fails; the results so far are shown.
pub fn run(plan: &Plan) -> Result<Report, Trouble> {
    note(format_args!("programs are kept in {}", paths::target().display()));
    let report = Arc::new(Mutex::new(plan.empty()?));
    let (so_far, shown) = (report.clone(), plan.clone());
    interrupt::on_signal(move |signal| {
        // The lock is held until the process ends, so failures that the signal causes do not change the report.
        let mut report = locked(&so_far);
        report.ended = Some(signal.to_owned());
        children::end_all();
        say(shown.shown(&report));
    })
    .during("handling signals")?;
    let total: usize = plan.workloads.iter().map(|workload| plan.runs_of(workload)).sum();
    let progress = Progress::counted("measured", (total * plan.kinds.len()) as u64);
    let measured = plan
        .workloads
        .iter()
        .try_for_each(|workload| plan.measure(workload, &report, &progress));
    drop(progress);
    let mut report = locked(&report).clone();
    if let Err(trouble) = measured {
        report.ended = Some("a server failed".to_owned());
        say(plan.shown(&report));
        return Err(trouble);
    }
    Ok(report)
}

fn locked(report: &Mutex<Report>) -> MutexGuard<'_, Report> {
    report.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Plan {
    /// The report as it is to be printed.
    #[must_use]
    pub fn shown(&self, report: &Report) -> String {
        if self.in_readme {
            report.readme()
        } else {
            report.table(self.colours)
        }
    }

    fn runs_of(&self, workload: &Workload) -> usize {
        self.runs.unwrap_or(if workload.is_long { 1 } else { RUNS })
    }

    /// A report without numbers.
    fn empty(&self) -> Result<Report, Trouble> {
        let versions: Result<Vec<String>, Trouble> = self.kinds.iter().map(|kind| version(*kind)).collect();
        let is_asked = |one: &Workload| self.workloads.iter().any(|asked| asked.name == one.name);
        let names = |all: &[Workload]| all.iter().map(|one| one.name).collect::<Vec<_>>();
        Ok(Report {
            kinds: self.kinds.clone(),
            versions: versions?,
            made: Made::now(&paths::workspace()),
            scale: self.scale,
            asked: names(&self.workloads),
            not_asked: names(
                &workloads::ALL
                    .into_iter()
                    .filter(|one| !is_asked(one))
                    .collect::<Vec<_>>(),
            ),
            ended: None,
            rows: Vec::new(),
        })
    }

    /// One row for each number of the workload, with all runs of all servers.
    fn measure(&self, workload: &Workload, report: &Mutex<Report>, progress: &Progress) -> Result<(), Trouble> {
        let runs = self.runs_of(workload);
        for run in 1..=runs {
            for (at, kind) in self.kinds.iter().enumerate() {
                progress.doing(format!("{}, {}, run {run} of {runs}", workload.name, kind.name()));
                let doing = format_args!("{} on {}", workload.name, kind.name());
                let numbers = (workload.measure)(*kind, self.scale).during(doing)?;
                progress.done();
                let mut report = locked(report);
                for measured in numbers {
                    self.row(&mut report, workload, &measured).samples[at].push(measured.number);
                }
            }
        }
        Ok(())
    }

    fn row<'r>(&self, report: &'r mut Report, workload: &Workload, measured: &Measured) -> &'r mut Row {
        let is_it = |row: &Row| row.workload.name == workload.name && row.measured.what == measured.what;
        let at = report.rows.iter().position(is_it).unwrap_or(report.rows.len());
        if at == report.rows.len() {
            report
                .rows
                .push(Row::new(*workload, measured.clone(), self.kinds.len()));
        }
        &mut report.rows[at]
    }
}

/// The first line of a program's answer to `--version`.
fn version(kind: Kind) -> Result<String, Trouble> {
    let mut program = Command::new(kind.program(Profile::Release)?);
    let said = command::run(program.arg("--version"), b"", VERSION_LIMIT)?.success("--version")?;
    Ok(said
        .lines()
        .next()
        .unwrap_or_default()
        .trim_start_matches("etcd Version: ")
        .to_owned())
}
