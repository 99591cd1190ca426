//! Runs programs: to their end within a limit, or in the background, line by line.

use std::{
    ffi::OsStr,
    io::{self, BufRead as _, BufReader, Read, Write as _},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use crate::{
    children,
    trouble::{During, Trouble},
    wait,
};

/// The result of a program.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output, as text.
    pub stdout: String,
    /// Its standard error, as text.
    pub stderr: String,
}

impl Finished {
    /// Standard output of a program that succeeded.
    ///
    /// # Errors
    /// If it failed: its code and standard error.
    pub fn success(self, doing: &str) -> Result<String, Trouble> {
        if self.code == Some(0) {
            return Ok(self.stdout);
        }
        let code = self
            .code
            .map_or_else(|| "a signal".to_owned(), |code| format!("code {code}"));
        Err(Trouble::new(format!(
            "{doing} ended with {code}:\n{}{}",
            self.stdout, self.stderr
        )))
    }
}

/// A program that does not inherit the variables `ETCD...` of the user's shell, which etcd and its clients read.
#[must_use]
pub fn untouched(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ETCD")) {
        command.env_remove(name);
    }
    command
}

/// The lines of a program as it prints them.
///
/// # Errors
/// If its output is not piped, or was taken before.
pub fn lines(child: &mut Child) -> Result<Receiver<String>, Trouble> {
    let stdout: Option<ChildStdout> = child.stdout.take();
    let stdout = stdout.ok_or_else(|| Trouble::new("a program without output"))?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    Ok(lines)
}

/// Runs a program with this standard input, and kills it when the limit passes.
///
/// # Errors
/// If it cannot be started or did not end in time.
pub fn run(command: &mut Command, input: &[u8], limit: Duration) -> Result<Finished, Trouble> {
    let name = format!("{command:?}");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let (mut child, _registered) = children::spawn(command, None).during(format_args!("starting {name}"))?;
    feed(&mut child, input);
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let status = wait::until(limit, Duration::from_millis(2), || child.try_wait().transpose());
    let Some(status) = status else {
        let _ = child.kill();
        let _ = child.wait();
        let said = format!("{}{}", collect(&stdout), collect(&stderr));
        return Err(Trouble::new(format!(
            "{name} did not end within {limit:?}; it had said:\n{said}"
        )));
    };
    let status = status.during(format_args!("waiting for {name}"))?;
    Ok(Finished {
        code: status.code(),
        stdout: collect(&stdout),
        stderr: collect(&stderr),
    })
}

/// Sends a signal by its name, such as `TERM`, through the shell: the standard library itself only kills.
///
/// # Errors
/// If the shell cannot be run or the process has ended.
pub fn signal(pid: u32, signal: &str) -> Result<(), Trouble> {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("kill -{signal} {pid}")]);
    run(&mut shell, b"", Duration::from_secs(5))?.success("kill").map(drop)
}

/// Writes on a separate thread, so that a program that answers before it has read everything cannot block both sides.
fn feed(child: &mut Child, input: &[u8]) {
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        thread::spawn(move || {
            // A program that ends without reading its input has not failed.
            let _ = stdin.write_all(&input);
        });
    }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _: io::Result<usize> = pipe.read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}

/// The contents of the pipe; empty if a grandchild still keeps it open.
fn collect(pipe: &Receiver<Vec<u8>>) -> String {
    let bytes = pipe.recv_timeout(Duration::from_secs(2)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        shell
    }

    #[test]
    fn input_output_and_exit_code_are_passed_through() {
        let finished = run(&mut shell("cat; echo no >&2; exit 3"), b"yes", Duration::from_secs(10)).unwrap();
        assert_eq!(
            (finished.code, finished.stdout.as_str(), finished.stderr.as_str()),
            (Some(3), "yes", "no\n")
        );
        assert_eq!(
            finished.success("sh").unwrap_err().to_string(),
            "sh ended with code 3:\nyesno\n"
        );
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let error = run(&mut shell("echo begun; exec sleep 60"), b"", Duration::from_millis(50)).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("did not end within 50ms; it had said:\nbegun"),
            "{error}"
        );
    }
}
