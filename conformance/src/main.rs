//! The judge: does the same to a real etcd and to ours, and writes down what came of it.
//!
//! `cargo run --release -p quoin-conformance -- --help` names the options. Progress goes to standard error; the report is one
//! page of HTML and the same in Markdown. The exit code is 0 if everything passes.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;
use std::{env, fs};

use quoin_conformance::diff::{Seeds, Sides, campaign, scripted, scripts};
use quoin_conformance::outcome::{Outcome, Verdict};
use quoin_conformance::report::{Report, html, markdown};
use quoin_conformance::trouble::During as _;
use quoin_conformance::{Kind, Launch, Trouble, clients, command, histories, paths, sweep, wait};

const USAGE: &str = "usage: quoin-conformance [options]
  --only SUITES      of clients, differential, histories, crash-points, separated by commas; all if it is not said
  --servers NAMES    of tokio, smol, async-std, separated by commas; all of them if it is not said
  --seeds N          seeds of differential requests for each server (default 4)
  --first-seed N     the first of them (default 1000)
  --requests N       requests of each seed (default 2500)
  --jobs N           seeds at the same time (default 2); each waits more than it works
  --rounds N         rounds of each disturbance for each server (default 3)
  --points N         crash points for each server, spread over the first 500 (default 50)
  --out DIR          where report.html and report.md go (default target/conformance)";

/// What there is to run.
#[derive(Clone, Copy, Debug)]
enum Suite {
    Clients,
    Differential,
    Histories,
    CrashPoints,
}

impl Suite {
    /// All of them, in the order in which they run.
    const ALL: [Self; 4] = [Self::Clients, Self::Differential, Self::Histories, Self::CrashPoints];

    const fn name(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Differential => "differential",
            Self::Histories => "histories",
            Self::CrashPoints => "crash-points",
        }
    }
}

/// A version is told at once.
const VERSION_LIMIT: Duration = Duration::from_secs(20);

/// What was asked for.
struct Options {
    suites: Vec<Suite>,
    servers: Vec<Kind>,
    seeds: Seeds,
    rounds: u64,
    points: usize,
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help") {
        say(USAGE);
        return ExitCode::SUCCESS;
    }
    let options = match parse(&arguments) {
        Ok(options) => options,
        Err(words) => {
            say(&format!("{words}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match judge(&options, &arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(trouble) => {
            say(&format!("the suites cannot run: {trouble}"));
            ExitCode::from(3)
        }
    }
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options {
        suites: Suite::ALL.to_vec(),
        servers: Kind::OURS.to_vec(),
        seeds: Seeds {
            first: 1_000,
            count: 4,
            requests: 2_500,
            jobs: 2,
        },
        rounds: 3,
        points: 50,
        out: None,
    };
    let mut rest = arguments.iter();
    while let Some(name) = rest.next() {
        let value = rest.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| format!("{name} needs a number, not {value}"))
        };
        match name.as_str() {
            "--only" => options.suites = several(value, suite)?,
            "--servers" => options.servers = several(value, server)?,
            "--seeds" => options.seeds.count = number()?.max(1),
            "--first-seed" => options.seeds.first = number()?,
            "--requests" => options.seeds.requests = number()?.max(1),
            "--jobs" => options.seeds.jobs = number()?.max(1),
            "--rounds" => options.rounds = number()?.max(1),
            "--points" => options.points = usize::try_from(number()?.max(1)).unwrap_or(usize::MAX),
            "--out" => options.out = Some(PathBuf::from(value)),
            _ => return Err(format!("there is no option {name}")),
        }
    }
    Ok(options)
}

fn several<T>(value: &str, known: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    value
        .split(',')
        .map(|word| known(word).ok_or_else(|| format!("there is no {word} here")))
        .collect()
}

fn suite(word: &str) -> Option<Suite> {
    Suite::ALL.into_iter().find(|suite| suite.name() == word)
}

fn server(word: &str) -> Option<Kind> {
    Kind::OURS
        .into_iter()
        .find(|kind| kind.name().strip_prefix("quoin-") == Some(word))
}

/// Runs what was asked for and writes the report; whether everything passes.
fn judge(options: &Options, arguments: &[String]) -> Result<bool, Trouble> {
    let began = wait::now();
    let out = match &options.out {
        Some(out) => out.clone(),
        None => paths::own()?,
    };
    fs::create_dir_all(&out).during(format!("make {}", out.display()))?;
    let mut report = Report {
        versions: versions(&options.servers)?,
        ..Report::default()
    };
    for suite in &options.suites {
        say(&format!("== {}", suite.name()));
        match suite {
            Suite::Clients => clients::run(&options.servers, &mut |outcome| take(&mut report.outcomes, outcome))?,
            Suite::CrashPoints => {
                let mut tell = |outcome| take(&mut report.outcomes, outcome);
                for figures in sweep::run(&options.servers, options.points, &mut tell)? {
                    say(&figures.to_string());
                }
            }
            Suite::Differential => differential(options, &mut report)?,
            Suite::Histories => {
                let mut tell = |outcome| take(&mut report.outcomes, outcome);
                let first = options.seeds.first;
                for figures in histories::run(&options.servers, options.rounds, first, &mut tell)? {
                    say(&figures.to_string());
                }
            }
        }
        report.made = made(arguments, began.elapsed().as_secs());
        write(&out, &report)?;
    }
    for failure in report.failures() {
        say(&format!(
            "FAILED {} {}: {}",
            failure.suite, failure.client, failure.scenario
        ));
    }
    for unseen in report.unseen() {
        say(&format!("NEVER SEEN {unseen}"));
    }
    say(&format!("report: {}", out.join("report.html").display()));
    Ok(report.passed())
}

fn made(arguments: &[String], seconds: u64) -> String {
    let options = if arguments.is_empty() {
        "default options".to_owned()
    } else {
        format!("options {}", arguments.join(" "))
    };
    format!("made with {options} in {} min {} s", seconds / 60, seconds % 60)
}

fn write(out: &Path, report: &Report) -> Result<(), Trouble> {
    for (name, text) in [("report.html", html(report)), ("report.md", markdown(report))] {
        let path = out.join(name);
        fs::write(&path, text).during(format!("write {}", path.display()))?;
    }
    Ok(())
}

/// The version that each program tells of itself.
fn versions(servers: &[Kind]) -> Result<Vec<(String, String)>, Trouble> {
    let of = |kind: Kind| {
        let launch = Launch::of(kind)?;
        let mut asked = Command::new(launch.executable());
        asked.arg("--version");
        let told = command::run(&mut asked, b"", VERSION_LIMIT)?.success("--version")?;
        let first = told.lines().next().unwrap_or_default();
        let version = first.strip_prefix("etcd Version: ").unwrap_or(first);
        Ok((kind.name().to_owned(), version.to_owned()))
    };
    std::iter::once(Kind::Etcd)
        .chain(servers.iter().copied())
        .map(of)
        .collect()
}

/// Scripts, written and random, to a real etcd, to ours and to the model.
fn differential(options: &Options, report: &mut Report) -> Result<(), Trouble> {
    for kind in options.servers.iter().copied() {
        let sides = Sides::of(kind)?;
        let outcome = |scenario: String, script: Option<String>| Outcome {
            suite: "differential",
            client: "raw gRPC".to_owned(),
            method: String::new(),
            scenario,
            server: kind,
            verdict: script.map_or(Verdict::Passed, Verdict::Differs),
        };
        for script in scripts() {
            let done = scripted(&script, &sides)?;
            let differs = done.divergence.map(|divergence| divergence.to_string());
            take(
                &mut report.outcomes,
                outcome(format!("script: {}", script.name), differs),
            );
            add(&mut report.answered, done.answered);
            add(&mut report.met, done.met);
        }
        let told = |done: &quoin_conformance::diff::Report| {
            let end = if done.divergence.is_some() { "DIFFERS" } else { "alike" };
            say(&format!(
                "{}: seed {}: {} requests, {end}",
                kind.name(),
                done.seed,
                done.requests
            ));
        };
        let done = campaign(options.seeds, &sides, &told)?;
        let requests = options.seeds.requests;
        for seed in done.ran {
            let scenario = format!("seed {seed}, {requests} requests");
            take(
                &mut report.outcomes,
                outcome(scenario, done.divergences.get(&seed).cloned()),
            );
        }
        add(&mut report.answered, done.total.answered);
        add(&mut report.met, done.total.met);
    }
    Ok(())
}

/// Shows an outcome and keeps it.
fn take(outcomes: &mut Vec<Outcome>, outcome: Outcome) {
    let word = match outcome.verdict {
        Verdict::Passed => "ok",
        Verdict::Failed(_) => "FAILED",
        Verdict::Differs(_) => "DIFFERS",
    };
    let Outcome {
        client,
        scenario,
        server,
        ..
    } = &outcome;
    say(&format!("{word:8}{:16} {client} {scenario}", server.name()));
    outcomes.push(outcome);
}

fn add<K: Ord>(counts: &mut BTreeMap<K, u64>, more: BTreeMap<K, u64>) {
    for (key, count) in more {
        *counts.entry(key).or_default() += count;
    }
}

/// Progress; a reader that has gone is no reason to stop.
fn say(words: &str) {
    let _ = writeln!(io::stderr(), "{words}");
}
