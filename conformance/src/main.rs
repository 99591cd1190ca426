//! The program that runs the suites against a real etcd and ours, and writes a report.
//!
//! `cargo run --release -p quoin-conformance -- --help` names the options. Progress goes to standard error; the report
//! is one page of HTML and the same in Markdown, written after each part and when the run is interrupted.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand};
use quoin_conformance::diff::Seeds;
use quoin_conformance::suites::{self, Asked, Suite};
use quoin_conformance::{Kind, Setup, Trouble, unserved};
use quoin_tools::{note, say};

const AFTER: &str = "Examples:
  quoin-conformance
  quoin-conformance --only differential --servers tokio --seeds 210 --requests 4800 --jobs 10
  quoin-conformance --only histories,crash-points --servers tokio,smol --rounds 20
  quoin-conformance --only clients,differential --members 3 --seeds 40
  quoin-conformance unserved --servers smol

SIGINT and SIGTERM end a run and leave its report so far.
Exit codes: 0 if everything passes, 1 if not, 2 if the command line is wrong, 3 if the suites cannot run.
Programs can be named instead of built: QUOIN_BIN_TOKIO, QUOIN_BIN_SMOL, QUOIN_BIN_ASYNC_STD,
QUOIN_BIN_ETCD together with QUOIN_BIN_ETCDCTL.";

/// Runs suites against a real etcd and ours, and writes a report.
#[derive(Parser)]
#[command(name = "quoin-conformance", version, after_help = AFTER, args_conflicts_with_subcommands = true)]
struct Line {
    #[command(flatten)]
    judge: Judge,
    #[command(subcommand)]
    command: Option<Command>,
}

/// The other commands. A new command is a variant here and an arm in `main`.
#[derive(Subcommand)]
enum Command {
    /// Calls every method of etcd's API once and lists those that a server does not implement
    #[command(after_help = "Example:\n  quoin-conformance unserved --servers tokio")]
    Unserved(Servers),
}

/// The servers of ours that are selected.
#[derive(Args, Clone)]
struct Servers {
    /// Servers of ours, separated by commas; all of them if this is not given
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = server())]
    servers: Vec<Kind>,
}

impl Servers {
    fn or_all(&self) -> Vec<Kind> {
        if self.servers.is_empty() {
            Kind::OURS.to_vec()
        } else {
            self.servers.clone()
        }
    }
}

#[derive(Args)]
struct Judge {
    #[command(flatten)]
    servers: Servers,
    /// Suites, separated by commas; all of them if this is not given
    #[arg(long, value_name = "SUITES", value_delimiter = ',', value_parser = suite())]
    only: Vec<Suite>,
    /// Members of each cluster in the suites `clients` and `differential`; clients connect to the first
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(1..=7))]
    members: usize,
    /// Mutual TLS on every port, and auth on: each request of the suites `clients`, `differential` and `histories` is made
    /// over TLS by a user
    #[arg(long)]
    secured: bool,
    /// Seeds of differential requests for each server
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = positive())]
    seeds: u64,
    /// The first of those seeds
    #[arg(long, value_name = "S", default_value_t = 1_000)]
    first_seed: u64,
    /// Requests of each seed
    #[arg(long, value_name = "N", default_value_t = 2_500, value_parser = positive())]
    requests: u64,
    /// Seeds that run at the same time; each waits more than it computes
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = positive())]
    jobs: u64,
    /// Rounds of each disturbance for each server
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = positive())]
    rounds: u64,
    /// Crash points for each server, spread over the first 500
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    points: usize,
    /// Where report.html and report.md go; `conformance` in the target directory if this is not given
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn positive() -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(1..)
}

fn suite() -> impl clap::builder::TypedValueParser<Value = Suite> {
    let names = Suite::ALL.map(Suite::name);
    PossibleValuesParser::new(names).map(|word| {
        let known = Suite::ALL.into_iter().find(|suite| suite.name() == word);
        known.expect("the parser has checked the name")
    })
}

fn server() -> impl clap::builder::TypedValueParser<Value = Kind> {
    let names = Kind::OURS.map(Kind::short_name);
    PossibleValuesParser::new(names).map(|word| {
        let known = Kind::OURS.into_iter().find(|kind| kind.short_name() == word);
        known.expect("the parser has checked the name")
    })
}

impl Judge {
    fn asked(self, options: String) -> Asked {
        Asked {
            suites: if self.only.is_empty() {
                Suite::ALL.to_vec()
            } else {
                Suite::ALL
                    .into_iter()
                    .filter(|suite| self.only.contains(suite))
                    .collect()
            },
            servers: self.servers.or_all(),
            setup: Setup {
                members: self.members,
                is_secured: self.secured,
            },
            seeds: Seeds {
                first: self.first_seed,
                count: self.seeds,
                requests: self.requests,
                jobs: self.jobs,
            },
            rounds: self.rounds,
            points: self.points,
            out: self.out,
            options,
        }
    }
}

fn main() -> ExitCode {
    let line = Line::parse();
    let done = match line.command {
        None => {
            let words: Vec<String> = std::env::args().skip(1).collect();
            let options = if words.is_empty() {
                "default".to_owned()
            } else {
                words.join(" ")
            };
            judge(&line.judge.asked(options))
        }
        Some(Command::Unserved(servers)) => list_unserved(&servers.or_all()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(trouble) => {
            note(format_args!("the suites cannot run: {trouble}"));
            ExitCode::from(3)
        }
    }
}

/// Runs the selected suites; returns whether all pass.
fn judge(asked: &Asked) -> Result<bool, Trouble> {
    let report = suites::run(asked)?;
    for failure in report.failures() {
        let (suite, client, scenario) = (failure.suite, &failure.client, &failure.scenario);
        note(format_args!(
            "FAILED {suite} {client} on {}: {scenario}",
            failure.server.name()
        ));
    }
    for unseen in report.unseen() {
        note(format_args!("NEVER SEEN {unseen}"));
    }
    say(report.headline());
    Ok(report.passed())
}

fn list_unserved(servers: &[Kind]) -> Result<bool, Trouble> {
    for (kind, methods) in unserved::of(servers)? {
        if methods.is_empty() {
            say(format_args!("{}: every method is served", kind.name()));
        }
        for method in methods {
            say(format_args!("{}: {method}", kind.name()));
        }
    }
    Ok(true)
}
