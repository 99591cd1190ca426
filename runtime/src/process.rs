//! A server as a process: arguments to exit code. The binaries of the runtime crates are a call of [`main`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::UdpSocket;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::Poll;

use quoin_core::config::{Config, Invocation, Notice, Outcome, Refusal};
use quoin_core::limits::MAX_CONFIG_FILE_BYTES;
use quoin_core::version::Build;

use crate::clock::Clock;
use crate::logs;
use crate::running::Ended;
use crate::seam::{BoxFuture, Runtime, block_on};
use crate::server::Server;

/// A signal that asks the process to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signal {
    /// SIGINT
    Interrupt,
    /// SIGTERM
    Terminate,
}

/// What a runtime crate gives a process.
pub struct Host {
    /// The runtime, its workers running.
    pub runtime: Arc<dyn Runtime>,
    /// Resolves at the first signal that asks the process to end.
    pub signal: BoxFuture<Signal>,
}

impl Signal {
    fn number(self) -> i32 {
        match self {
            Self::Interrupt => signal_hook::consts::SIGINT,
            Self::Terminate => signal_hook::consts::SIGTERM,
        }
    }

    /// The name as Go prints it.
    fn go_name(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupt",
            Self::Terminate => "terminated",
        }
    }
}

/// Runs a server as the arguments (after the program's name) and the environment say, until a signal or its own end.
pub fn main(
    args: impl IntoIterator<Item = String>,
    env: impl IntoIterator<Item = (String, String)>,
    start: impl FnOnce(Clock) -> io::Result<Host>,
) -> ExitCode {
    // No program that users run can be made to misbehave on purpose: one with the mutants in it does not compile.
    const {
        assert!(
            !quoin_core::mutant::AVAILABLE,
            "programs for users are built without the feature `mutants`"
        )
    };
    let args: Vec<String> = args.into_iter().collect();
    let env: BTreeMap<String, String> = env.into_iter().collect();
    let default_host = default_host();
    let invocation = Invocation {
        args: &args,
        env: &env,
        default_host: default_host.as_deref(),
        build: Build {
            git_sha: env!("QUOIN_GIT_SHA"),
            toolchain: env!("QUOIN_TOOLCHAIN"),
            platform: platform(),
        },
    };
    let mut outcome = invocation.parse();
    if let Outcome::NeedsFile { path } = &outcome {
        outcome = match read_config_file(path) {
            Ok(text) => invocation.with_file(path, &text),
            Err(why) => invocation.without_file(&why),
        };
    }
    match outcome {
        Outcome::Print { stdout, stderr } => {
            // Whoever closed the pipe does not want the text.
            let _ = io::stdout().write_all(stdout.as_bytes());
            let _ = io::stderr().write_all(stderr.as_bytes());
            ExitCode::SUCCESS
        }
        Outcome::Refuse(refusal) => refuse(&refusal),
        Outcome::NeedsFile { path } => {
            fatal(&Notice::fatal("a configuration file named another one").with("path", path))
        }
        Outcome::Run { config, notices } => run(&config, &notices, start),
    }
}

fn refuse(refusal: &Refusal) -> ExitCode {
    let _ = io::stderr().write_all(refusal.stderr.as_bytes());
    // What was configured is not known, so the log is where it is by default; standard error is always there.
    let _ = logs::init(&Config::with_defaults().log, Clock::new());
    refusal.notices.iter().for_each(logs::notice);
    ExitCode::from(refusal.exit)
}

fn fatal(notice: &Notice) -> ExitCode {
    let _ = logs::init(&Config::with_defaults().log, Clock::new());
    logs::notice(notice);
    ExitCode::FAILURE
}

fn run(config: &Config, notices: &[Notice], start: impl FnOnce(Clock) -> io::Result<Host>) -> ExitCode {
    let clock = Clock::new();
    if let Err(error) = logs::init(&config.log, clock) {
        return fatal(&Notice::fatal("cannot open the log outputs").with("error", error.to_string()));
    }
    notices.iter().for_each(logs::notice);
    let host = match start(clock) {
        Ok(host) => host,
        Err(error) => return fatal(&Notice::fatal("cannot start the runtime").with("error", error.to_string())),
    };
    tracing::info!(runtime = host.runtime.name(), "starting an etcd server");
    let handle = match Server::start(config, host.runtime) {
        Ok(handle) => handle,
        Err(error) => return fatal(&Notice::fatal("failed to start etcd").with("error", error.to_string())),
    };
    let mut signal = host.signal;
    let mut ended = handle.ended();
    let why = block_on(std::future::poll_fn(|cx| {
        if let Poll::Ready(signal) = signal.as_mut().poll(cx) {
            return Poll::Ready(Ok(signal));
        }
        ended.as_mut().poll(cx).map(Err)
    }));
    drop(ended);
    if let Ok(signal) = why {
        tracing::info!(signal = signal.go_name(), "received signal; shutting down");
    }
    handle.stop();
    match why {
        Ok(signal) => die(signal),
        Err(Ended::Removed) => {
            tracing::warn!("the member has been permanently removed from the cluster");
            ExitCode::SUCCESS
        }
        Err(Ended::Stopped) => ExitCode::SUCCESS,
        Err(Ended::Failed(why)) => {
            tracing::error!(target: logs::FATAL, error = why, "the member cannot go on");
            ExitCode::FAILURE
        }
    }
}

/// Ends as if the signal had not been caught, so that the parent sees why; the first process of a container cannot.
fn die(signal: Signal) -> ExitCode {
    if std::process::id() != 1
        && let Err(error) = signal_hook::low_level::emulate_default_handler(signal.number())
    {
        tracing::warn!(%error, "cannot end by the signal");
    }
    ExitCode::SUCCESS
}

/// Reads the file, or says why not as Go would.
fn read_config_file(path: &str) -> Result<String, String> {
    let refuse = |operation: &str, error: io::Error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            io::ErrorKind::IsADirectory => "is a directory".to_owned(),
            _ => error.to_string(),
        };
        format!("{operation} {path}: {why}")
    };
    let file = File::open(path).map_err(|error| refuse("open", error))?;
    let mut text = String::new();
    let limit = MAX_CONFIG_FILE_BYTES as u64 + 1;
    file.take(limit)
        .read_to_string(&mut text)
        .map_err(|error| refuse("read", error))?;
    Ok(text)
}

/// The address that this machine has on its default route. Connecting a datagram socket sends nothing: it only asks the
/// routing table, here for an address that is set aside for documentation.
fn default_host() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then(|| address.to_string())
}

/// Operating system and processor in Go's names.
fn platform() -> &'static str {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => "linux/amd64",
        ("linux", "aarch64") => "linux/arm64",
        ("linux", "powerpc64") => "linux/ppc64le",
        ("linux", "s390x") => "linux/s390x",
        ("macos", "x86_64") => "darwin/amd64",
        ("macos", "aarch64") => "darwin/arm64",
        _ => "unknown/unknown",
    }
}
