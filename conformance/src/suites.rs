//! The suites, and a run of the selected ones. A run writes a report even if it is interrupted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quoin_tools::{Made, Progress, interrupt, note};

use crate::diff::{self, Seeds, Sides, campaign, scripted, scripts};
use crate::outcome::{Outcome, Told, Verdict};
use crate::report::{Part, Report, html, markdown};
use crate::trouble::During as _;
use crate::{Kind, Launch, Setup, Trouble, children, clients, command, histories, paths, sweep, unserved, wait};

/// A program must print its version within this time.
const VERSION_LIMIT: Duration = Duration::from_secs(20);

/// The suites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Scenarios of third-party clients.
    Clients,
    /// The same requests to a real etcd, to ours and to a model.
    Differential,
    /// Recorded histories of concurrent clients under disturbances.
    Histories,
    /// Kills at each call that touches the disk.
    CrashPoints,
}

impl Suite {
    /// All suites, in the order in which they run.
    pub const ALL: [Self; 4] = [Self::Clients, Self::Differential, Self::Histories, Self::CrashPoints];

    /// Its name on the command line and in the report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Differential => "differential",
            Self::Histories => "histories",
            Self::CrashPoints => "crash-points",
        }
    }
}

/// The options of a run.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The suites.
    pub suites: Vec<Suite>,
    /// The servers.
    pub servers: Vec<Kind>,
    /// The set-up of the servers in the suites `clients` and `differential`. The suite `histories` has one member, secured
    /// or not; `crash-points` has one that is not secured.
    pub setup: Setup,
    /// Seeds of differential requests for each server. The rounds of histories count from the same first seed.
    pub seeds: Seeds,
    /// Rounds of each disturbance for each server.
    pub rounds: u64,
    /// Crash points for each server.
    pub points: usize,
    /// Where the report is written; by default under the target directory.
    pub out: Option<PathBuf>,
    /// The command line.
    pub options: String,
}

/// Runs the selected suites. Writes the report after each part and when a signal or an error ends the run; returns it
/// at the end.
///
/// # Errors
/// If a program cannot be found, built or started, or the report cannot be written. After an error in a suite, the
/// report so far is written; after an earlier error there is none.
pub fn run(asked: &Asked) -> Result<Report, Trouble> {
    let out = match &asked.out {
        Some(out) => out.clone(),
        None => paths::own()?,
    };
    fs::create_dir_all(&out).during(format!("making {}", out.display()))?;
    note(format_args!("programs are kept in {}", paths::target().display()));
    let run = Arc::new(Run {
        began: wait::now(),
        out,
        report: Mutex::new(Report {
            versions: versions(&asked.servers)?,
            made: Made::now(&paths::workspace()),
            options: asked.options.clone(),
            parts: parts(asked),
            unserved: unserved::of(&asked.servers)?,
            ..Report::default()
        }),
    });
    let interrupted = run.clone();
    interrupt::on_signal(move |signal| {
        // The lock keeps out later outcomes, which would be failures caused by the signal.
        let mut report = interrupted.report();
        report.ended = Some(signal.to_owned());
        let written = interrupted.write(&mut report);
        children::end_all();
        match written {
            Ok(()) => note(format_args!("{signal}: {}", report.headline())),
            Err(trouble) => note(format_args!("{signal}: {trouble}")),
        }
        note(format_args!(
            "report: {}",
            interrupted.out.join("report.html").display()
        ));
    })
    .during("handling signals")?;
    let played = play(asked, &run);
    let mut report = run.report();
    report.ended = played.as_ref().err().map(ToString::to_string);
    run.write(&mut report)?;
    note(format_args!("report: {}", run.out.join("report.html").display()));
    played.map(|()| report.clone())
}

/// A run in progress.
struct Run {
    began: Instant,
    out: PathBuf,
    report: Mutex<Report>,
}

impl Run {
    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, report: &mut Report) -> Result<(), Trouble> {
        report.took = self.began.elapsed();
        for (name, text) in [("report.html", html(report)), ("report.md", markdown(report))] {
            replace(&self.out.join(name), &text)?;
        }
        Ok(())
    }

    /// Shows an outcome and keeps it.
    fn take(&self, outcome: Outcome) {
        let word = match outcome.verdict {
            Verdict::Passed => "ok",
            Verdict::Failed(_) => "FAILED",
            Verdict::Differs(_) => "DIFFERS",
        };
        let (client, scenario, server) = (&outcome.client, &outcome.scenario, outcome.server.name());
        // After an interruption this blocks until the process ends.
        let mut report = self.report();
        note(format_args!("{word:8}{server:16} {client} {scenario}"));
        report.outcomes.push(outcome);
    }
}

/// Writes beside the file and renames: a second signal leaves the old file intact.
fn replace(path: &Path, text: &str) -> Result<(), Trouble> {
    let new = path.with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .during(format!("writing {}", path.display()))
}

/// Each suite on each server, except `clients`, which plays on all servers together.
fn parts(asked: &Asked) -> Vec<Part> {
    let part = |suite, server| Part {
        suite,
        server,
        took: None,
        is_done: false,
    };
    let of = |suite: &Suite| -> Vec<Part> {
        match suite {
            Suite::Clients => vec![part(Suite::Clients, None)],
            Suite::CrashPoints | Suite::Differential | Suite::Histories => {
                asked.servers.iter().map(|kind| part(*suite, Some(*kind))).collect()
            }
        }
    };
    asked.suites.iter().flat_map(of).collect()
}

fn play(asked: &Asked, run: &Run) -> Result<(), Trouble> {
    let parts = run.report().parts.clone();
    for (number, part) in parts.iter().enumerate() {
        let servers = part.server.map_or_else(|| asked.servers.clone(), |kind| vec![kind]);
        let on = part.server.map_or("all servers", Kind::name);
        let name = format!("{} on {on}, part {} of {}", part.suite.name(), number + 1, parts.len());
        note(format_args!("== {name}"));
        let began = wait::now();
        run.report().parts[number].took = Some(Duration::ZERO);
        let progress = Progress::counted(name, 0);
        let mut tell = |told| match told {
            Told::Outcome(outcome) => {
                run.report().parts[number].took = Some(began.elapsed());
                run.take(outcome);
            }
            Told::Planned(more) => progress.plan(more),
            Told::Step(words) => {
                progress.done();
                progress.doing(words);
            }
        };
        let figures: Vec<String> = match part.suite {
            Suite::Clients => {
                clients::run(&servers, asked.setup, &mut tell)?;
                Vec::new()
            }
            Suite::CrashPoints => shown(sweep::run(&servers, asked.points, &mut tell)?),
            Suite::Differential => {
                servers
                    .iter()
                    .try_for_each(|kind| differential(*kind, asked, run, &progress))?;
                Vec::new()
            }
            Suite::Histories => {
                let setup = Setup {
                    members: 1,
                    ..asked.setup
                };
                let (rounds, first) = (asked.rounds, asked.seeds.first);
                shown(histories::run(setup, &servers, rounds, first, &mut tell)?)
            }
        };
        drop(progress);
        figures.iter().for_each(note);
        let mut report = run.report();
        report.parts[number].took = Some(began.elapsed());
        report.parts[number].is_done = true;
        run.write(&mut report)?;
    }
    Ok(())
}

fn shown(figures: Vec<impl ToString>) -> Vec<String> {
    figures.iter().map(ToString::to_string).collect()
}

/// Plays hand-written and random scripts to a real etcd, to one of ours and to the model.
fn differential(kind: Kind, asked: &Asked, run: &Run, progress: &Progress) -> Result<(), Trouble> {
    let (seeds, sides) = (asked.seeds, Sides::of(kind, asked.setup)?);
    let outcome = |scenario: String, script: Option<String>| Outcome {
        suite: Suite::Differential.name(),
        client: "raw gRPC".to_owned(),
        method: String::new(),
        scenario,
        server: kind,
        verdict: script.map_or(Verdict::Passed, Verdict::Differs),
    };
    let scripts = scripts();
    progress.plan(scripts.len() as u64 + seeds.count);
    for script in scripts {
        let done = scripted(&script, &sides)?;
        let differs = done.divergence.map(|divergence| divergence.to_string());
        run.take(outcome(format!("script: {}", script.name), differs));
        progress.done();
        let mut report = run.report();
        add(&mut report.answered, done.answered);
        add(&mut report.met, done.met);
    }
    let requests = seeds.requests;
    let told = |done: &diff::Report| {
        let differs = done
            .divergence
            .as_ref()
            .map(|divergence| format!("QUOIN_SEED={}\n{divergence}", done.seed));
        run.take(outcome(format!("seed {}, {requests} requests", done.seed), differs));
        progress.done();
        let mut report = run.report();
        add(&mut report.answered, done.answered.clone());
        add(&mut report.met, done.met.clone());
    };
    campaign(seeds, &sides, &told).map(drop)
}

fn add<K: Ord>(counts: &mut BTreeMap<K, u64>, more: BTreeMap<K, u64>) {
    for (key, count) in more {
        *counts.entry(key).or_default() += count;
    }
}

/// The version that each program prints.
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
