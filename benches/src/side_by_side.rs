//! Runs every workload against every server, in turn, as often as asked.
//!
//! Servers alternate within a workload: what disturbs the machine for a while disturbs them all.

use quoin_conformance::{Kind, Trouble, binaries::Profile, command, trouble::During};

use crate::{
    report::{Report, Row},
    workloads::{self, Workload},
};

/// What to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How often.
    pub runs: usize,
    /// Against which servers; the first is what the others are compared with.
    pub kinds: Vec<Kind>,
    /// How much of each number of requests and keys.
    pub scale: f64,
    /// Only the workloads whose names begin with one of these; all when empty.
    pub only: Vec<String>,
}

/// Runs the plan, telling on standard error how far it is.
///
/// # Errors
/// When a program cannot be had, or a server fails.
pub fn run(plan: &Plan) -> Result<Report, Trouble> {
    let mut versions = Vec::new();
    for kind in &plan.kinds {
        eprintln!("preparing {}", kind.name());
        versions.push(version(*kind)?);
    }
    let mut rows = Vec::new();
    for workload in workloads::ALL.iter().filter(|workload| plan.wants(workload)) {
        rows.extend(plan.measure(workload)?);
    }
    Ok(Report {
        kinds: plan.kinds.clone(),
        versions,
        runs: plan.runs,
        scale: plan.scale,
        rows,
    })
}

impl Plan {
    fn wants(&self, workload: &Workload) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| workload.name.starts_with(name.as_str()))
    }

    /// One row for each number that the workload measures, with all runs of all servers in it.
    fn measure(&self, workload: &Workload) -> Result<Vec<Row>, Trouble> {
        let mut rows: Vec<Row> = Vec::new();
        for run in 1..=self.runs {
            for (at, kind) in self.kinds.iter().enumerate() {
                eprintln!("{}: {}, run {run} of {}", workload.name, kind.name(), self.runs);
                let numbers = (workload.measure)(*kind, self.scale).during(format_args!(
                    "{} on {}",
                    workload.name,
                    kind.name()
                ))?;
                for (number, measured) in numbers.into_iter().enumerate() {
                    if rows.len() <= number {
                        rows.push(Row::new(workload.name, measured.what, self.kinds.len()));
                    }
                    rows[number].samples[at].push(measured.number);
                }
            }
        }
        Ok(rows)
    }
}

/// The version a program tells in the first line of its answer to `--version`.
fn version(kind: Kind) -> Result<String, Trouble> {
    let mut program = std::process::Command::new(kind.program(Profile::Release)?);
    let said = command::run(program.arg("--version"), b"", std::time::Duration::from_secs(20))?.success("--version")?;
    Ok(said
        .lines()
        .next()
        .unwrap_or_default()
        .trim_start_matches("etcd Version: ")
        .to_owned())
}
