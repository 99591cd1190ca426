//! Runs every workload against every server, in turn, as often as asked.
//!
//! Servers alternate within a workload: what disturbs the machine for a while disturbs them all.

use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quoin_conformance::binaries::Profile;
use quoin_conformance::trouble::During as _;
use quoin_conformance::{Kind, Trouble, children, command, paths};
use quoin_tools::{Made, Progress, interrupt, note, say};

use crate::report::{Report, Row};
use crate::workloads::{self, Measured, Workload};

/// Runs of a workload, where nothing else is said: the median of three is worth showing.
const RUNS: usize = 3;
/// A version is told at once.
const VERSION_LIMIT: Duration = Duration::from_secs(20);

/// What to run, and how to show it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How often; if it is not said, three times, and once where a run takes minutes.
    pub runs: Option<usize>,
    /// Against which servers; the first is what the others are compared with.
    pub kinds: Vec<Kind>,
    /// How much of each number of requests and keys.
    pub scale: f64,
    /// These workloads, in this order.
    pub workloads: Vec<Workload>,
    /// Whether README's rows are shown and nothing else.
    pub in_readme: bool,
    /// Whether better and worse are coloured.
    pub colours: bool,
}

/// Runs the plan, telling on standard error how far it is. A signal shows what there is and ends the process.
///
/// # Errors
/// When a program cannot be had, or a server fails; what was measured until then is shown.
pub fn run(plan: &Plan) -> Result<Report, Trouble> {
    note(format_args!("programs are kept in {}", paths::target().display()));
    let report = Arc::new(Mutex::new(plan.empty()?));
    let (so_far, shown) = (report.clone(), plan.clone());
    interrupt::on_signal(move |signal| {
        // Nothing is added any more: what fails from now on fails because of the signal.
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

    /// One row for each number that the workload measures, with all runs of all servers in it.
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

/// The version a program tells in the first line of its answer to `--version`.
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
