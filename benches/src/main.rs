//! The command line of the load runs.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use quoin_benches::hostile;
use quoin_benches::side_by_side::{self, Plan};
use quoin_benches::workloads::{self, Workload};
use quoin_conformance::Kind;
use quoin_tools::{note, say};

/// Load runs against a real etcd and Quoin.
#[derive(Parser)]
#[command(
    name = "quoin-benches",
    version,
    after_help = "Exit codes: 0 if everything was measured, 1 if a server failed, 2 if the command line is wrong."
)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

/// A new command is a variant here and an arm in `main`.
#[derive(Subcommand)]
enum Command {
    /// Drives a real etcd and Quoin in turn with the same client and prints the costs of each, as a Markdown table
    #[command(after_help = "Examples:
  quoin-benches side-by-side
  quoin-benches side-by-side --only gets,puts --runs 5
  quoin-benches side-by-side --servers tokio,smol --readme > rows.md

SIGINT and SIGTERM end a run and print what was measured so far.
Programs can be named instead of built: QUOIN_BIN_TOKIO, QUOIN_BIN_SMOL, QUOIN_BIN_ASYNC_STD, QUOIN_BIN_ETCD.")]
    SideBySide(SideBySide),
    /// Runs clients that overload a real etcd and Quoin, and prints how much they delay the puts of another client
    #[command(after_help = "Examples:
  quoin-benches hostile
  quoin-benches hostile --only gzip --seconds 5 --servers tokio,smol

Programs can be named instead of built: QUOIN_BIN_TOKIO, QUOIN_BIN_SMOL, QUOIN_BIN_ASYNC_STD, QUOIN_BIN_ETCD.")]
    Hostile(Hostile),
}

#[derive(Args)]
struct Hostile {
    /// How long each load runs
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=120))]
    seconds: u64,
    #[command(flatten)]
    servers: Servers,
    /// Loads, by the first word of their names, separated by commas; all of them if this is not given
    #[arg(long, value_name = "LOADS", value_delimiter = ',', value_parser = load())]
    only: Vec<String>,
}

fn load() -> impl TypedValueParser<Value = String> {
    let names = hostile::ALL
        .iter()
        .filter_map(|load| load.name.split_whitespace().next());
    PossibleValuesParser::new(names)
}

/// Which servers.
#[derive(Args)]
struct Servers {
    /// Quoin's servers to compare with etcd, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "tokio", value_parser = server())]
    servers: Vec<Kind>,
}

impl Servers {
    /// etcd, with which the others are compared, followed by the others.
    fn beside_etcd(&self) -> Vec<Kind> {
        std::iter::once(Kind::Etcd)
            .chain(self.servers.iter().copied())
            .collect()
    }
}

#[derive(Args)]
struct SideBySide {
    /// How often each workload runs; medians are shown. By default 3, or 1 if a run takes minutes
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=99))]
    runs: Option<usize>,
    #[command(flatten)]
    servers: Servers,
    /// Scales every number of requests and keys
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = scale)]
    scale: f64,
    /// Workloads, separated by commas; all of them if this is not given
    #[arg(long, value_name = "WORKLOADS", value_delimiter = ',', value_parser = workload())]
    only: Vec<Workload>,
    /// Prints the rows of README's table of figures and nothing else
    #[arg(long)]
    readme: bool,
}

fn scale(word: &str) -> Result<f64, String> {
    let number: f64 = word.parse().map_err(|_| format!("{word} is no number"))?;
    let is_meant = number.is_finite() && number > 0.0 && number <= 10.0;
    is_meant
        .then_some(number)
        .ok_or_else(|| "a number above 0, at most 10".to_owned())
}

fn server() -> impl TypedValueParser<Value = Kind> {
    let names = Kind::OURS.map(Kind::short_name);
    PossibleValuesParser::new(names).map(|word| {
        let known = Kind::OURS.into_iter().find(|kind| kind.short_name() == word);
        known.expect("the parser has checked the name")
    })
}

fn workload() -> impl TypedValueParser<Value = Workload> {
    let names = workloads::ALL.map(|workload| workload.name);
    PossibleValuesParser::new(names).map(|word| {
        let known = workloads::ALL.into_iter().find(|workload| workload.name == word);
        known.expect("the parser has checked the name")
    })
}

impl From<SideBySide> for Plan {
    fn from(asked: SideBySide) -> Self {
        let is_wanted = |workload: &Workload| asked.only.iter().any(|one| one.name == workload.name);
        let all = workloads::ALL.into_iter();
        Self {
            runs: asked.runs,
            kinds: asked.servers.beside_etcd(),
            scale: asked.scale,
            workloads: all
                .filter(|workload| asked.only.is_empty() || is_wanted(workload))
                .collect(),
            in_readme: asked.readme,
            colours: io::stdout().is_terminal(),
        }
    }
}

impl From<Hostile> for hostile::Plan {
    fn from(asked: Hostile) -> Self {
        Self {
            kinds: asked.servers.beside_etcd(),
            duration: Duration::from_secs(asked.seconds),
            only: asked.only,
        }
    }
}

fn main() -> ExitCode {
    let shown = match Line::parse().command {
        Command::Hostile(asked) => hostile::run(&asked.into()).map(|report| report.to_string()),
        Command::SideBySide(asked) => {
            let plan = Plan::from(asked);
            side_by_side::run(&plan).map(|report| plan.shown(&report))
        }
    };
    match shown {
        Ok(shown) => {
            say(shown);
            ExitCode::SUCCESS
        }
        Err(trouble) => {
            note(trouble);
            ExitCode::FAILURE
        }
    }
}
