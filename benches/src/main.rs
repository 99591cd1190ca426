//! The command line of the load runs: reads its arguments and hands on.

use std::process::ExitCode;

use quoin_benches::side_by_side::{self, Plan};
use quoin_conformance::Kind;

const USAGE: &str = "usage: quoin-benches side-by-side [options]

Drives a real etcd and ours in turn with the same client and prints what each needed, as a Markdown table.

  --runs N        how often everything is repeated; medians are shown    [3]
  --runtime R     tokio, smol, async-std, both (tokio and smol), none    [tokio]
  --scale S       scales every number of requests and keys               [1]
  --only A,B      only these workloads, by the first word of their name

Programs can be named instead of built: QUOIN_BIN_TOKIO, QUOIN_BIN_SMOL, QUOIN_BIN_ASYNC_STD, QUOIN_BIN_ETCD.";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let plan = match parse(&args) {
        Ok(plan) => plan,
        Err(what) => {
            eprintln!("{what}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match side_by_side::run(&plan) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(trouble) => {
            eprintln!("{trouble}");
            ExitCode::FAILURE
        }
    }
}

fn parse(args: &[String]) -> Result<Plan, String> {
    let mut plan = Plan {
        runs: 3,
        kinds: vec![Kind::Etcd, Kind::QuoinTokio],
        scale: 1.0,
        only: Vec::new(),
    };
    let mut args = args.iter();
    match args.next().map(String::as_str) {
        Some("side-by-side") => {}
        Some(other) => return Err(format!("unknown command {other}")),
        None => return Err("what is to be run?".to_owned()),
    }
    while let Some(option) = args.next() {
        let value = args.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--runs" => {
                plan.runs = value
                    .parse()
                    .ok()
                    .filter(|runs| *runs > 0)
                    .ok_or("--runs takes a number above zero")?
            }
            "--scale" => {
                plan.scale = value
                    .parse()
                    .ok()
                    .filter(|scale| *scale > 0.0)
                    .ok_or("--scale takes a number above zero")?
            }
            "--only" => plan.only = value.split(',').map(str::to_owned).collect(),
            "--runtime" => {
                plan.kinds = match value.as_str() {
                    "tokio" => vec![Kind::Etcd, Kind::QuoinTokio],
                    "smol" => vec![Kind::Etcd, Kind::QuoinSmol],
                    "async-std" => vec![Kind::Etcd, Kind::QuoinAsyncStd],
                    "both" => vec![Kind::Etcd, Kind::QuoinTokio, Kind::QuoinSmol],
                    "none" => vec![Kind::Etcd],
                    other => return Err(format!("there is no runtime {other}")),
                }
            }
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(plan)
}
