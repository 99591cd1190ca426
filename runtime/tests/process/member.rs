//! A member in a separate process, as the tests see it from outside.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use quoin_runtime::clock::Clock;
use quoin_runtime::process::{Host, main};

use super::trap;

/// The arguments of the program in the child, one per line.
const ARGUMENTS: &str = "QUOIN_TEST_ARGUMENTS";
/// A bound for events that may take long on a machine with two busy cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// A bound for events that take less than a second on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// Runs the program, if this process was started as the child.
pub(crate) fn be_the_child(host: impl FnOnce(Clock) -> io::Result<Host>) {
    let Ok(arguments) = env::var(ARGUMENTS) else { return };
    trap::set();
    let none: [(OsString, OsString); 0] = [];
    let program = std::iter::once("quoin").chain(arguments.lines()).map(OsString::from);
    let exit = main(program, none, host);
    std::process::exit(i32::from(exit != ExitCode::SUCCESS));
}

/// A folder of one test, removed at its end.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn armed(&self) -> PathBuf {
        self.0.path().join("armed")
    }

    /// Arms the trap.
    pub(crate) fn arm(&self) {
        fs::write(self.armed(), b"").unwrap();
    }

    /// Disarms the trap; threads that hang in it continue.
    pub(crate) fn disarm(&self) {
        fs::remove_file(self.armed()).unwrap();
    }

    /// Starts a member here; `action` is the trap's action and the thread it is for.
    pub(crate) fn start(&self, action: Option<(&str, &str)>, flags: &[&str]) -> Member {
        Member::spawn(self, action, flags, &[])
    }
}

/// A running member.
pub(crate) struct Member {
    child: Child,
    lines: Receiver<(Instant, String)>,
    /// The log lines so far, each with its time.
    log: Vec<(Instant, String)>,
}

impl Member {
    /// Runs the commands of `shell` in a shell, which then becomes the program.
    pub(crate) fn spawn(folder: &Folder, action: Option<(&str, &str)>, flags: &[&str], shell: &[&str]) -> Self {
        let mut arguments = vec![
            format!("--data-dir={}", folder.data_dir().display()),
            "--listen-client-urls=http://127.0.0.1:0".to_owned(),
            "--advertise-client-urls=http://127.0.0.1:0".to_owned(),
            "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
        ];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let program = env::current_exe().unwrap();
        let mut command = if shell.is_empty() {
            Command::new(&program)
        } else {
            let mut command = Command::new("sh");
            let script = format!("{}; exec \"$0\" \"$@\"", shell.join("; "));
            command.arg("-c").arg(script).arg(&program);
            command
        };
        command
            .args(["child", "--exact", "--ignored", "--nocapture"])
            .env(ARGUMENTS, arguments.join("\n"))
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if let Some((action, thread)) = action {
            command.env(trap::ACTION, action).env(trap::THREAD, thread);
            command.env(trap::ARMED, folder.armed());
        }
        let mut child = command.spawn().unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        let log = Vec::new();
        Self { child, lines, log }
    }

    /// Waits for a line that contains `text`; returns its time and the line.
    pub(crate) fn line(&mut self, text: &str) -> (Instant, String) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self.log.iter().find(|(_, line)| line.contains(text)) {
                return found.clone();
            }
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.log.push(line),
                Err(error) => panic!("no line with {text:?} ({error}) in\n{}", self.text()),
            }
        }
    }

    /// Waits until it serves; returns the address.
    pub(crate) fn ready(&mut self) -> SocketAddr {
        let (_, line) = self.line("serving client traffic");
        let (_, address) = line.split_once("address=").unwrap();
        address.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Waits for the process to end; returns the time and the exit status.
    pub(crate) fn ended(&mut self) -> (Instant, ExitStatus) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => panic!("it does not end:\n{}", self.text()),
                None => thread::sleep(Duration::from_millis(2)),
            }
        };
        let at = Instant::now();
        // Reads until its output is closed.
        while let Ok(line) = self.lines.recv_timeout(SOON) {
            self.log.push(line);
        }
        (at, status)
    }

    /// Everything it has logged.
    pub(crate) fn text(&mut self) -> String {
        self.log.extend(self.lines.try_iter());
        self.log.iter().map(|(_, line)| format!("{line}\n")).collect()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: i32) {
        let pid = self.child.id();
        let mut shell = Command::new("sh");
        let status = shell.args(["-c", &format!("kill -{signal} {pid}")]).status().unwrap();
        assert!(status.success());
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the child said:\n{}", self.text());
        }
    }
}
