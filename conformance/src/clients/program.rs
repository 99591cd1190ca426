//! Plays the scenarios of a program in the client's own language, and controls the server for it.
//!
//! `clients/python/harness.py` describes the protocol: lists, outcomes, and commands for the server, one JSON line
//! each.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::Receiver,
    time::Duration,
};

use serde_json::Value;

use crate::{
    children::{self, Registered},
    command,
    outcome::Verdict,
    server::{Launch, Server},
    trouble::{During, Trouble},
};

/// Longer than a program's own limit for a scenario.
const SCENARIO_LIMIT: Duration = Duration::from_secs(110);
const LIST_LIMIT: Duration = Duration::from_secs(60);
const COMPLAINT_TAIL: usize = 600;

/// A program with scenarios.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// The command.
    pub(super) program: PathBuf,
    /// The arguments before those that are added here.
    pub(super) arguments: Vec<PathBuf>,
    /// Environment variables, such as the path of its packages.
    pub(super) variables: Vec<(&'static str, PathBuf)>,
}

/// One scenario of a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Scenario {
    /// Its name.
    pub(super) name: String,
    /// Its main API method.
    pub(super) method: String,
    /// Whether it is part of every test run.
    pub(super) fast: bool,
}

/// The lines of a program.
enum Said {
    Ask(String),
    Ended(String, Verdict),
    /// The program ended, or printed nothing for too long.
    Nothing(String),
}

impl Program {
    fn command(&self) -> Command {
        let mut command = command::untouched(&self.program);
        command
            .args(&self.arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            // No file may be written into the tree.
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// Its scenarios.
    ///
    /// # Errors
    /// If it does not start, or prints something else.
    pub(super) fn scenarios(&self) -> Result<Vec<Scenario>, Trouble> {
        let said = command::run(self.command().arg("list"), b"", LIST_LIMIT)?.success("listing scenarios")?;
        let known = |line: &str| {
            let line: Value = serde_json::from_str(line).ok()?;
            Some(Scenario {
                name: line["scenario"].as_str()?.to_owned(),
                method: line["method"].as_str()?.to_owned(),
                fast: line["fast"].as_bool()?,
            })
        };
        let all: Option<Vec<Scenario>> = said.lines().map(known).collect();
        all.filter(|all| !all.is_empty())
            .ok_or_else(|| Trouble::new(format!("{} lists no scenarios: {said}", self.program.display())))
    }

    /// Plays scenarios one after the other against one fresh server, and calls `say` with each outcome.
    ///
    /// # Errors
    /// If the server does not start.
    pub(super) fn play(
        &self,
        launch: &Launch,
        scenarios: &[Scenario],
        say: &mut dyn FnMut(&str, Verdict),
    ) -> Result<(), Trouble> {
        let mut server = launch.clone().start()?;
        let mut left: Vec<&str> = scenarios.iter().map(|one| one.name.as_str()).collect();
        while !left.is_empty() {
            if let Err(reason) = self.play_some(&mut server, &mut left, say) {
                say(left.remove(0), Verdict::Failed(reason));
            }
            if server.pid().is_err() || !server.is_healthy() {
                server = launch.clone().start()?;
            }
        }
        Ok(())
    }

    /// Runs the program until all scenarios are played, or until it prints nothing more.
    fn play_some(
        &self,
        server: &mut Server,
        left: &mut Vec<&str>,
        say: &mut dyn FnMut(&str, Verdict),
    ) -> Result<(), String> {
        let mut run = Run::begin(self, server, left).map_err(|trouble| trouble.to_string())?;
        while !left.is_empty() {
            match run.listen() {
                Said::Ask(wish) => {
                    let done = steer(server, &wish).and_then(|()| run.answer());
                    done.map_err(|trouble| trouble.to_string())?;
                }
                Said::Ended(name, verdict) => {
                    left.retain(|one| *one != name);
                    say(&name, verdict);
                    // A scenario that failed half way may have left the server stopped.
                    if server.pid().is_err() {
                        server.restart().map_err(|trouble| trouble.to_string())?;
                    }
                }
                Said::Nothing(reason) => return Err(reason),
            }
        }
        Ok(())
    }
}

/// Carries out a scenario's command for the server.
fn steer(server: &mut Server, wish: &str) -> Result<(), Trouble> {
    match wish {
        "kill" => server.kill(),
        "start" => server.restart(),
        "restart" => server.kill().and_then(|()| server.restart()),
        other => Err(Trouble::new(format!(
            "a scenario asked for an unknown command: {other}"
        ))),
    }
}

/// A running program.
struct Run {
    child: Child,
    _registered: Registered,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    complaints: PathBuf,
}

impl Run {
    fn begin(program: &Program, server: &Server, names: &[&str]) -> Result<Self, Trouble> {
        let complaints = server.home().join("client.log");
        let log = File::create(&complaints).during(format_args!("making {}", complaints.display()))?;
        let mut command = program.command();
        command
            .args(["run", &server.address().to_string()])
            .args(names)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        let (mut child, registered) =
            children::spawn(&mut command, None).during(format_args!("starting {}", program.program.display()))?;
        let stdin = child.stdin.take();
        let lines = command::lines(&mut child)?;
        Ok(Self {
            child,
            _registered: registered,
            stdin,
            lines,
            complaints,
        })
    }

    fn listen(&self) -> Said {
        loop {
            let line = match self.lines.recv_timeout(SCENARIO_LIMIT) {
                Ok(line) => line,
                Err(error) => {
                    return Said::Nothing(format!("the program prints nothing more ({error}): {}", self.tail()));
                }
            };
            // All other lines are the client's own output.
            let Ok(said) = serde_json::from_str::<Value>(&line) else {
                continue;
            };
            if let Some(wish) = said["ask"].as_str() {
                return Said::Ask(wish.to_owned());
            }
            if let (Some(name), Some(ok)) = (said["scenario"].as_str(), said["ok"].as_bool()) {
                let error = said["error"].as_str().unwrap_or_default().to_owned();
                let verdict = if ok { Verdict::Passed } else { Verdict::Failed(error) };
                return Said::Ended(name.to_owned(), verdict);
            }
        }
    }

    fn answer(&mut self) -> Result<(), Trouble> {
        let stdin = self
            .stdin
            .as_mut()
            .ok_or_else(|| Trouble::new("the program reads nothing"))?;
        writeln!(stdin, "done")
            .and_then(|()| stdin.flush())
            .during("answering the program")
    }

    fn tail(&self) -> String {
        let said = fs::read(&self.complaints).unwrap_or_default();
        String::from_utf8_lossy(&said[said.len().saturating_sub(COMPLAINT_TAIL)..]).into_owned()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
