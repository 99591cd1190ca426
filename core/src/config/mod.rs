//! Configuration as data: arguments, environment and file text in, one [`Outcome`] out. This module does not read the
//! environment, open a file or end the process; the host carries out the outcome.
//!
//! The steps: [`table`] has a row for every flag; `args` and `file` read the given settings into `Settings`; `check`
//! reports mistakes in etcd's words; `build` makes the typed [`Config`].

mod args;
mod auth_token;
mod build;
mod check;
mod cluster;
mod effective;
mod file;
pub mod flag;
mod gates;
pub(crate) mod gotext;
mod help;
mod keys;
mod machines;
mod model;
mod notice;
mod report;
pub mod rotation;
mod settings;
mod suggest;
pub mod table;
#[cfg(test)]
mod tests;
mod tls;
mod url;
mod yaml;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

pub use auth_token::{AuthToken, JwtOptions, SignMethod};
pub use cluster::InitialCluster;
pub use gates::{FeatureGates, Gate, Stage};
pub use gotext::{quote, quote_bytes};
pub use model::{AllowList, AutoCompaction, ClusterState, Config, Keepalive, Log, LogFormat, LogLevel, LogOutput};
pub use notice::{Field, Level, Notice, Source};
pub use report::Checked;
pub use tls::{CipherSuite, Tls, TlsSide, TlsVersion};
pub use url::{Scheme, Url, join as join_urls};

use crate::version::{Build, version_text};
use args::{EnvError, Stop};
use report::{checked, reading_problems};
use settings::Settings;

/// The inputs of a start, as the host found them.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<'a> {
    /// The name of the program, as it was started.
    pub program: &'a OsStr,
    /// The arguments after the program's name.
    pub args: &'a [OsString],
    /// The environment; only names that begin with `ETCD_` are used.
    pub env: &'a BTreeMap<OsString, OsString>,
    /// This machine's address on its default route, if it has one.
    pub default_host: Option<&'a str>,
    /// How the program was built, for `--version`.
    pub build: Build<'a>,
}

/// What the host must do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Read this file, then call [`Invocation::with_file`].
    NeedsFile {
        /// Its path.
        path: String,
    },
    /// Print both texts and end with exit code 0.
    Print {
        /// For standard output.
        stdout: String,
        /// For standard error.
        stderr: String,
    },
    /// Try the files, print what was found, and end.
    Check(Checked),
    /// Do not start.
    Refuse(Refusal),
    /// Log the notices and start a member.
    Run {
        /// The configuration.
        config: Box<Config>,
        /// The notices to log first.
        notices: Vec<Notice>,
        /// The line with the effective settings, to be logged when the start begins.
        starting: Box<Notice>,
    },
}

/// How the process ends if it cannot start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The exit code: 2 for a command line that cannot be read, 1 for everything else.
    pub exit: u8,
    /// Raw text for standard error, before the notices.
    pub stderr: String,
    /// The notices to log; the last gives the reason.
    pub notices: Vec<Notice>,
}

impl Config {
    /// The configuration without any settings; tests and embedders start from it.
    ///
    /// # Panics
    /// Never: a test builds it.
    #[must_use]
    pub fn with_defaults() -> Self {
        build::build(&Settings::default(), None, &mut Vec::new()).expect("the table's defaults are right")
    }
}

impl Invocation<'_> {
    /// The outcome of the command line and the environment.
    #[must_use]
    pub fn parse(&self) -> Outcome {
        if let Some(command @ ("gateway" | "grpc-proxy")) = self.args.first().and_then(|arg| arg.to_str()) {
            let why = format!("the command {command} is not supported by this version");
            return refuse(vec![Notice::fatal(why)]);
        }
        if self.only_checks() {
            return self.check();
        }
        let mut settings = match args::read_args(self.args) {
            Ok(settings) => settings,
            Err(Stop::Help) => {
                return Outcome::Print {
                    stdout: help::text(&self.program_name()),
                    stderr: String::new(),
                };
            }
            Err(Stop::Bad(error)) => {
                let stderr = format!("{error}\n{}", help::usage(&self.program_name()));
                return Outcome::Refuse(Refusal {
                    exit: 2,
                    stderr,
                    notices: Vec::new(),
                });
            }
            Err(Stop::Positional(arg)) => {
                let hint = if arg == "help" { "; did you mean --help?" } else { "" };
                return self.refuse_flags(Vec::new(), &format!("{} is not a valid flag{hint}", quote(&arg)));
            }
        };
        if settings.switch("version") {
            return Outcome::Print {
                stdout: version_text(self.build),
                stderr: String::new(),
            };
        }
        if let Some(path) = self.file_path(&settings) {
            return Outcome::NeedsFile { path };
        }
        let mut notices = Vec::new();
        match args::read_env(self.env, &mut settings, &mut notices).into_iter().next() {
            None => self.finish(&settings, notices),
            Some(EnvError::BadValue(error)) => self.refuse_flags(notices, &error),
            Some(EnvError::Shadowed(variable)) => {
                // etcd's text has the unbalanced bracket, and log searches rely on it.
                let notice = Notice::fatal(
                    "conflicting environment variable is shadowed by corresponding command-line flag \
                     (either unset environment variable or disable flag))",
                );
                notices.push(notice.with("environment-variable", variable));
                refuse(notices)
            }
        }
    }

    /// The outcome of the configuration file, once the host has read it; flags and environment are ignored then.
    #[must_use]
    pub fn with_file(&self, path: &str, bytes: &[u8]) -> Outcome {
        let mut notices = Vec::new();
        if self.only_checks() {
            let (settings, problems) = file::read_all(bytes, &mut notices);
            return Outcome::Check(checked(&settings, self.default_host, problems, notices));
        }
        match file::read_file(bytes, &mut notices) {
            Ok(settings) => {
                let loaded = Notice::info(
                    "loaded server configuration, other configuration command line flags and environment variables \
                     will be ignored if provided",
                );
                notices.insert(0, loaded.with("path", path));
                self.finish(&settings, notices)
            }
            Err(errors) => self.refuse_flags(notices, &errors[0]),
        }
    }

    /// The outcome if the file could not be read; `why` is the host's text, e.g. `open x: no such file or directory`.
    #[must_use]
    pub fn without_file(&self, why: &str) -> Outcome {
        if self.only_checks() {
            let problems = vec![why.to_owned()];
            return Outcome::Check(checked(&Settings::of_file(), self.default_host, problems, Vec::new()));
        }
        self.refuse_flags(Vec::new(), why)
    }

    /// Whether the configuration is only checked.
    fn only_checks(&self) -> bool {
        args::read_all(self.args).0.switch("check-config")
    }

    /// The outcome of `--check-config`.
    fn check(&self) -> Outcome {
        let (mut settings, stops) = args::read_all(self.args);
        if let Some(path) = self.file_path(&settings) {
            return Outcome::NeedsFile { path };
        }
        let mut notices = Vec::new();
        let errors = args::read_env(self.env, &mut settings, &mut notices);
        let problems = reading_problems(stops, errors);
        Outcome::Check(checked(&settings, self.default_host, problems, notices))
    }

    /// The configuration file that flags or environment name.
    fn file_path(&self, settings: &Settings) -> Option<String> {
        let flagged = Some(settings.text("config-file")).filter(|path| !path.is_empty());
        let named = args::variable(self.env, "ETCD_CONFIG_FILE").and_then(OsStr::to_str);
        flagged.or_else(|| named.map(str::to_owned))
    }

    fn finish(&self, settings: &Settings, mut notices: Vec<Notice>) -> Outcome {
        let built = check::check(settings).and_then(|()| build::build(settings, self.default_host, &mut notices));
        match built {
            Ok(config) => {
                notices.push(self.running());
                Outcome::Run {
                    starting: Box::new(effective::starting(settings, &config, self.build)),
                    config: Box::new(config),
                    notices,
                }
            }
            Err(error) => self.refuse_flags(notices, &error),
        }
    }

    fn refuse_flags(&self, mut notices: Vec<Notice>, error: &str) -> Outcome {
        let unset = error == check::UNSET_ADVERTISE;
        notices.push(self.running());
        notices.push(Notice::warn("failed to verify flags").with("error", error));
        if unset {
            notices.push(Notice::warn("advertise client URLs are not set").with("error", error));
        }
        refuse(notices)
    }

    fn running(&self) -> Notice {
        let args = std::iter::once(self.program).chain(self.args.iter().map(OsString::as_os_str));
        let args = args.map(|arg| arg.to_string_lossy().into_owned());
        Notice::info("Running: ").with("args", args.collect::<Vec<_>>())
    }

    /// The file name of the program, for help.
    fn program_name(&self) -> String {
        let name = self.program.to_string_lossy();
        name.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

fn refuse(notices: Vec<Notice>) -> Outcome {
    Outcome::Refuse(Refusal {
        exit: 1,
        stderr: String::new(),
        notices,
    })
}
