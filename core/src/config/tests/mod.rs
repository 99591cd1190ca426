//! Tables of settings and their outcomes: the command line, the environment, refusals, the file.

mod advertised;
mod checks;
mod environment;
mod file;
mod flags;
mod hostile;
mod refusals;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::notice::{Level, Notice};
use super::{Config, Invocation, Outcome, Refusal};
use crate::version::Build;

const BUILD: Build<'static> = Build {
    git_sha: "abc1234",
    toolchain: "rustc 1.95.0",
    platform: "linux/amd64",
};

/// Words of a command line.
fn words(line: &[&str]) -> Vec<OsString> {
    line.iter().map(OsString::from).collect()
}

fn variables(env: &[(&str, &str)]) -> BTreeMap<OsString, OsString> {
    env.iter().map(|(k, v)| (k.into(), v.into())).collect()
}

fn outcome(line: &[&str], env: &[(&str, &str)]) -> Outcome {
    let (args, env) = (words(line), variables(env));
    outcome_of(&args, &env)
}

fn outcome_of(args: &[OsString], env: &BTreeMap<OsString, OsString>) -> Outcome {
    Invocation {
        program: OsStr::new("/usr/bin/quoin"),
        args,
        env,
        default_host: None,
        build: BUILD,
    }
    .parse()
}

fn run(line: &[&str]) -> (Config, Vec<Notice>) {
    accepted(line, outcome(line, &[]))
}

fn accepted(line: &[&str], outcome: Outcome) -> (Config, Vec<Notice>) {
    match outcome {
        Outcome::Run { config, notices, .. } => (*config, notices),
        other => panic!("{line:?} should run: {other:?}"),
    }
}

/// The exit code and the reason of a refusal.
fn refused(outcome: Outcome) -> (u8, String) {
    match outcome {
        Outcome::Refuse(Refusal {
            exit: 2,
            stderr,
            notices,
        }) => {
            assert!(notices.is_empty());
            (2, stderr.lines().next().unwrap_or_default().to_owned())
        }
        Outcome::Refuse(Refusal { exit, stderr, notices }) => {
            assert_eq!(stderr, "");
            let failed = notices.iter().find(|notice| notice.msg == "failed to verify flags");
            match failed {
                Some(notice) => (exit, notice.fields[0].1.to_string()),
                None => (exit, notices.last().unwrap().msg.clone()),
            }
        }
        other => panic!("should be refused: {other:?}"),
    }
}

/// A configuration file's outcome.
fn from_file(text: impl AsRef<[u8]>) -> Outcome {
    let env = BTreeMap::new();
    Invocation {
        program: OsStr::new("quoin"),
        args: &[],
        env: &env,
        default_host: None,
        build: BUILD,
    }
    .with_file("etcd.yml", text.as_ref())
}

fn warnings(notices: &[Notice]) -> Vec<String> {
    notices
        .iter()
        .filter(|notice| notice.level == Level::Warn)
        .map(|notice| notice.msg.clone())
        .collect()
}
