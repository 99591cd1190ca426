//! The tracer that makes system calls fail, wait or kill: found on the machine or downloaded, attached and detached.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::trouble::{During as _, Trouble};
use crate::{command, fetch, paths, wait};

const ATTACH_LIMIT: Duration = Duration::from_secs(10);
const DETACH_LIMIT: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(2);
const START_LIMIT: Duration = Duration::from_secs(10);
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// A strace that starts on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strace {
    program: PathBuf,
    /// The folder of the libraries downloaded with it.
    libraries: Option<OsString>,
}

/// A strace attached to a running process; it detaches when dropped.
#[derive(Debug)]
pub struct Attached {
    strace: Option<Child>,
}

impl Strace {
    /// The strace named by `QUOIN_BIN_STRACE`, or the machine's, or one kept from an earlier run, or one downloaded
    /// now.
    ///
    /// # Errors
    /// If there is none.
    pub fn find() -> Result<Self, Trouble> {
        static FOUND: OnceLock<Result<Strace, String>> = OnceLock::new();
        let found = FOUND.get_or_init(|| {
            let named = std::env::var_os("QUOIN_BIN_STRACE").unwrap_or_else(|| "strace".into());
            let machine = Self {
                program: named.into(),
                libraries: None,
            };
            let found = machine.starts().map(|()| machine).or_else(|_| Self::fetched());
            found.map_err(|trouble| trouble.to_string())
        });
        found.clone().map_err(Trouble::new)
    }

    fn fetched() -> Result<Self, Trouble> {
        let kept = paths::own()?.join("strace");
        let _lock = paths::lock("strace")?;
        if !kept.is_dir() {
            fetch::unpacked(&["strace", "libunwind8"], &kept)?;
        }
        let fetched = Self::in_dir(&kept)?;
        fetched.starts()?;
        Ok(fetched)
    }

    fn in_dir(dir: &Path) -> Result<Self, Trouble> {
        let mut libraries: Vec<PathBuf> = Vec::new();
        for file in fetch::files_under(dir)? {
            let is_library = file
                .file_name()
                .is_some_and(|name| name.to_string_lossy().contains(".so."));
            let parent = file.parent().map(Path::to_path_buf).unwrap_or_default();
            if is_library && !libraries.contains(&parent) {
                libraries.push(parent);
            }
        }
        let libraries = std::env::join_paths(libraries).during("naming the fetched libraries")?;
        Ok(Self {
            program: dir.join("usr/bin/strace"),
            libraries: Some(libraries),
        })
    }

    fn starts(&self) -> Result<(), Trouble> {
        command::run(self.command().arg("-V"), b"", START_LIMIT)?
            .success("strace -V")
            .map(drop)
    }

    /// strace itself, and the folder of its libraries.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(libraries) = &self.libraries {
            command.env(LIBRARY_PATH, libraries);
        }
        command
    }

    /// The command before a program, so that it runs traced in the process that was started.
    #[must_use]
    pub fn wrapper(&self, args: &[OsString]) -> Vec<OsString> {
        let mut line: Vec<OsString> = Vec::new();
        if let Some(libraries) = &self.libraries {
            let mut set = OsString::from(format!("{LIBRARY_PATH}="));
            set.push(libraries);
            line.extend(["env".into(), set]);
        }
        line.extend([self.program.clone().into(), "-D".into()]);
        if self.libraries.is_some() {
            // The libraries are for strace, not for the program.
            line.extend(["-E".into(), LIBRARY_PATH.into()]);
        }
        line.extend_from_slice(args);
        line
    }
}

impl Attached {
    /// Attaches to the threads of a process whose names `is_meant` accepts. The injection is active when this returns.
    ///
    /// # Errors
    /// If there is no such thread, or strace is not permitted to attach.
    pub fn new(strace: &Strace, pid: u32, inject: &str, is_meant: impl Fn(&str) -> bool) -> Result<Self, Trouble> {
        let threads: Vec<String> = threads(pid)?
            .into_iter()
            .filter_map(|(id, name)| is_meant(&name).then_some(id))
            .collect();
        if threads.is_empty() {
            return Err(Trouble::new(format!("process {pid} has no such threads")));
        }
        let calls = inject
            .trim_start_matches("inject=")
            .split(':')
            .next()
            .unwrap_or_default();
        let mut command = strace.command();
        command.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e", inject]);
        for thread in &threads {
            command.args(["-p", thread]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = child.during("starting strace")?;
        let tracer = child.id().to_string();
        let attached = Self { strace: Some(child) };
        let is_traced = |thread: &String| {
            let status = fs::read_to_string(format!("/proc/{pid}/task/{thread}/status")).unwrap_or_default();
            let of = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
            // A thread that has ended need not be traced.
            of.is_none_or(|of| of.trim() == tracer)
        };
        wait::until(ATTACH_LIMIT, STEP, || threads.iter().all(is_traced).then_some(()))
            .ok_or_else(|| Trouble::new(format!("strace could not attach to process {pid}")))?;
        Ok(attached)
    }

    /// Detaches, so that the process runs on undisturbed.
    ///
    /// # Errors
    /// If strace does not detach; it is killed then.
    pub fn detach(mut self) -> Result<(), Trouble> {
        self.let_go()
    }

    fn let_go(&mut self) -> Result<(), Trouble> {
        let Some(mut strace) = self.strace.take() else {
            return Ok(());
        };
        // It may have ended with the process.
        if strace.try_wait().ok().flatten().is_none() {
            let _ = command::signal(strace.id(), "TERM");
        }
        if wait::until(DETACH_LIMIT, STEP, || strace.try_wait().ok().flatten()).is_some() {
            return Ok(());
        }
        let _ = strace.kill();
        let _ = strace.wait();
        Err(Trouble::new("strace did not detach from the server"))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let _ = self.let_go();
    }
}

/// The threads of a process: id and name.
fn threads(pid: u32) -> Result<Vec<(String, String)>, Trouble> {
    let folder = format!("/proc/{pid}/task");
    let mut threads = Vec::new();
    for entry in fs::read_dir(&folder).during(format_args!("listing {folder}"))? {
        let id = entry
            .during("listing threads")?
            .file_name()
            .to_string_lossy()
            .into_owned();
        let name = fs::read_to_string(format!("{folder}/{id}/comm")).unwrap_or_default();
        threads.push((id, name.trim().to_owned()));
    }
    threads.sort();
    Ok(threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "reaches the network"]
    fn a_fetched_strace_starts() {
        Strace::fetched().expect("a strace from Debian");
    }

    #[test]
    fn strace_attaches_to_a_sleeping_program_and_detaches() {
        let mut sleeper = Command::new("sleep").arg("60").spawn().expect("sleep starts");
        let strace = Strace::find().expect("a strace");
        let inject = "inject=write:error=ENOSPC";
        let attached = Attached::new(&strace, sleeper.id(), inject, |_| true);
        let refused = Attached::new(&strace, sleeper.id(), inject, |name| name == "no-such-thread");
        let released = attached.and_then(Attached::detach);
        sleeper.kill().expect("it still sleeps");
        sleeper.wait().expect("it ends");
        released.expect("attached and detached");
        assert!(refused.is_err());
    }
}
