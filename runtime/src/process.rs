//! A server as a process, from arguments to exit code. The binaries of the runtime crates only call [`main`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::UdpSocket;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Poll;

use quoin_core::config::{Checked, Config, Invocation, Notice, Outcome, Refusal};
use quoin_core::limits::MAX_CONFIG_FILE_BYTES;
use quoin_core::version::Build;

use crate::boot::BootError;
use crate::clock::Clock;
use crate::running::{Ended, Ending};
use crate::seam::{BoxFuture, Runtime, block_on};
use crate::server::{Handle, Server, StartError};
use crate::{descriptors, libraries, logs, threads};

/// A signal that asks the process to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signal {
    /// SIGINT
    Interrupt,
    /// SIGTERM
    Terminate,
}

/// The signals that [`ignore_signals`] ignores.
const IGNORED_SIGNALS: [i32; 9] = {
    use signal_hook::consts::{SIGALRM, SIGIO, SIGPROF, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ};
    /// Linux's signal of a power failure. `signal_hook` has only the signals that all systems have.
    const SIGPWR: i32 = 30;
    [
        SIGALRM, SIGIO, SIGPROF, SIGPWR, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ,
    ]
};

/// The real-time signals that Go's runtime leaves to programs; they are ignored too.
const REAL_TIME_SIGNALS: RangeInclusive<i32> = 35..=64;

/// A runtime crate's part of a process.
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

/// Runs a server with these arguments (the program's name first) and the environment, until a signal or its own end.
pub fn main(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    start: impl FnOnce(Clock) -> io::Result<Host>,
) -> ExitCode {
    // A release of a program for users cannot be made to misbehave: with the feature `mutants` it does not compile.
    const {
        assert!(
            cfg!(debug_assertions) || !quoin_core::mutant::AVAILABLE,
            "programs for users are built without the feature `mutants`"
        )
    };
    let mut args = args.into_iter();
    let program = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    let env: BTreeMap<OsString, OsString> = env.into_iter().collect();
    let default_host = default_host();
    let invocation = Invocation {
        program: &program,
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
            Ok(bytes) => invocation.with_file(path, &bytes),
            Err(why) => invocation.without_file(&why),
        };
    }
    match outcome {
        Outcome::Print { stdout, stderr } => {
            // The reader may have closed the pipe.
            let _ = io::stdout().write_all(stdout.as_bytes());
            let _ = io::stderr().write_all(stderr.as_bytes());
            ExitCode::SUCCESS
        }
        Outcome::Check(checked) => show(checked),
        Outcome::Refuse(refusal) => refuse(&refusal),
        Outcome::NeedsFile { path } => {
            fatal(&Notice::fatal("a configuration file named another one").with("path", path))
        }
        Outcome::Run {
            config,
            notices,
            starting,
        } => run(*config, &notices, *starting, start),
    }
}

/// Tries the files of a checked configuration, and prints all that was found.
fn show(mut checked: Checked) -> ExitCode {
    for (flag, path) in &checked.files {
        if let Err(error) = File::open(path) {
            checked.problems.push(format!("--{flag}: cannot open {path}: {error}"));
        }
    }
    let warnings = checked.warnings.iter().map(|warning| format!("warning: {warning}\n"));
    let problems = checked.problems.iter().map(|problem| format!("error: {problem}\n"));
    let _ = io::stdout().write_all(checked.configuration.as_bytes());
    let _ = io::stderr().write_all(warnings.chain(problems).collect::<String>().as_bytes());
    if checked.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn refuse(refusal: &Refusal) -> ExitCode {
    let _ = io::stderr().write_all(refusal.stderr.as_bytes());
    // The configuration is not known, so the log is in its default place; standard error is always available.
    let _ = logs::init(&Config::with_defaults().log, Clock::new());
    refusal.notices.iter().for_each(logs::notice);
    ExitCode::from(refusal.exit)
}

fn fatal(notice: &Notice) -> ExitCode {
    let _ = logs::init(&Config::with_defaults().log, Clock::new());
    logs::notice(notice);
    ExitCode::FAILURE
}

fn run(
    config: Config,
    notices: &[Notice],
    starting: Notice,
    start: impl FnOnce(Clock) -> io::Result<Host>,
) -> ExitCode {
    let clock = Clock::new();
    if let Err(error) = logs::init(&config.log, clock) {
        return fatal(&Notice::fatal("cannot open the log outputs").with("error", error.to_string()));
    }
    let strays = threads::end_on_stray_panic();
    libraries::log_records();
    notices.iter().for_each(logs::notice);
    if let Err(error) = descriptors::raise_limit() {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    match threads::guarded(|| host(config, starting, || start(clock), &strays)) {
        Ok(exit) => exit,
        Err(panic) => fail(&panic.to_string()),
    }
}

/// Starts a server and waits for its end, for a panic in a library's thread, or for a signal.
fn host(config: Config, starting: Notice, start: impl FnOnce() -> io::Result<Host>, strays: &Ending) -> ExitCode {
    let Host { runtime, mut signal } = match start() {
        Ok(host) => host,
        Err(error) => return fatal(&Notice::fatal("cannot start the runtime").with("error", error.to_string())),
    };
    if let Err(error) = ignore_signals() {
        tracing::warn!(%error, "cannot ignore the signals that etcd ignores");
    }
    logs::notice(&starting.with("runtime", runtime.name()));
    // A start may wait for another process' lock, or read for minutes: signals are handled meanwhile.
    let mut starting: BoxFuture<_> = Box::pin(Server::start(config, runtime));
    let handle = match first(&mut signal, strays, &mut starting) {
        First::Signal(signal) => {
            tracing::info!(signal = signal.go_name(), "received signal; the start is given up");
            return die(signal);
        }
        First::Stray(ended) => return end(ended),
        First::Done(Err(StartError::Panic(panic))) => return fail(&panic.to_string()),
        First::Done(Err(error)) => return not_started(&error),
        First::Done(Ok(handle)) => handle,
    };
    serve(handle, &mut signal, strays)
}

/// Waits for the end of a server that runs, or for a signal.
fn serve(handle: Handle, signal: &mut BoxFuture<Signal>, strays: &Ending) -> ExitCode {
    match first(signal, strays, &mut handle.ended()) {
        First::Signal(signal) => {
            tracing::info!(signal = signal.go_name(), "received signal; shutting down");
            // A member that does not serve yet has acknowledged no write, so a replay of its log is not waited for.
            if handle.is_ready() {
                block_on(handle.stop());
            } else {
                leave(handle);
            }
            die(signal)
        }
        First::Stray(ended) | First::Done(ended @ Ended::Failed(_)) => {
            leave(handle);
            end(ended)
        }
        First::Done(ended) => {
            block_on(handle.stop());
            end(ended)
        }
    }
}

/// Leaves a server running until the end of the process, which ends every call. No file needs to be closed:
/// acknowledged writes are durable. The data directory stays locked to the end, because threads may still write to it.
fn leave(handle: Handle) {
    std::mem::forget(handle);
}

/// The exit of a process whose server did not start: a refusal has etcd's words and exit code.
fn not_started(error: &StartError) -> ExitCode {
    if let StartError::Boot(BootError::Refused(refusal)) = error {
        logs::notice(&refusal.notice());
        return ExitCode::from(refusal.exit());
    }
    fatal(&Notice::fatal("failed to start etcd").with("error", error.to_string()))
}

/// The event that came first.
enum First<T> {
    Signal(Signal),
    /// A thread of a library panicked.
    Stray(Ended),
    Done(T),
}

fn first<T>(signal: &mut BoxFuture<Signal>, strays: &Ending, work: &mut BoxFuture<T>) -> First<T> {
    let mut stray = strays.reached();
    block_on(std::future::poll_fn(|cx| {
        if let Poll::Ready(signal) = signal.as_mut().poll(cx) {
            return Poll::Ready(First::Signal(signal));
        }
        if let Poll::Ready(ended) = stray.as_mut().poll(cx) {
            return Poll::Ready(First::Stray(ended));
        }
        work.as_mut().poll(cx).map(First::Done)
    }))
}

/// The exit of a process whose member has ended.
fn end(ended: Ended) -> ExitCode {
    match ended {
        Ended::Removed => {
            tracing::warn!("the member has been permanently removed from the cluster");
            ExitCode::SUCCESS
        }
        Ended::Stopped => ExitCode::SUCCESS,
        Ended::Failed(why) => fail(&why),
    }
}

fn fail(why: &str) -> ExitCode {
    tracing::error!(target: logs::FATAL, error = why, "the member cannot go on");
    ExitCode::FAILURE
}

/// Ignores the signals that end a process by default and that Go's runtime, and so etcd, catches and ignores.
fn ignore_signals() -> io::Result<()> {
    let unread = Arc::new(AtomicBool::new(false));
    for signal in IGNORED_SIGNALS.into_iter().chain(REAL_TIME_SIGNALS) {
        signal_hook::flag::register(signal, Arc::clone(&unread))?;
    }
    Ok(())
}

/// Ends as if the signal had not been caught, so that the parent process sees the signal. Process 1 of a container
/// cannot do this, and exits with success.
fn die(signal: Signal) -> ExitCode {
    if std::process::id() != 1
        && let Err(error) = signal_hook::low_level::emulate_default_handler(signal.number())
    {
        tracing::warn!(%error, "cannot end by the signal");
    }
    ExitCode::SUCCESS
}

/// Reads the file; the error is Go's text.
fn read_config_file(path: &str) -> Result<Vec<u8>, String> {
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
    let mut bytes = Vec::new();
    let limit = MAX_CONFIG_FILE_BYTES as u64 + 1;
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| refuse("read", error))?;
    Ok(bytes)
}

/// The address of this machine on its default route. Connecting a datagram socket sends no packet: it only asks the
/// routing table, here for an address that is reserved for documentation.
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
