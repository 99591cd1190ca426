//! Plays a script against a server with a real etcdctl.

use std::{
    collections::BTreeMap,
    io::Write,
    mem,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::Receiver,
    time::Duration,
};

use crate::{
    binaries::Kind,
    children::{self, Registered},
    command,
    fetch::{self, Etcd},
    golden,
    normalise::{self, Names},
    script::{self, Action, Script},
    server::{Launch, Server},
    trouble::{During, Trouble},
    wait,
};

const COMMAND_LIMIT: Duration = Duration::from_secs(20);
const UNTIL_LIMIT: Duration = Duration::from_secs(20);
const UNTIL_STEP: Duration = Duration::from_millis(50);
const LINE_LIMIT: Duration = Duration::from_secs(15);

/// Plays the script in a file against a fresh server and compares every output.
///
/// # Errors
/// If an output differs, or a step fails.
pub fn play(file: &Path, kind: Kind) -> Result<(), Trouble> {
    let text = std::fs::read_to_string(file).during(format_args!("reading {}", file.display()))?;
    golden::check(
        file,
        kind,
        &seen(&text, Launch::of(kind)?, fetch::etcd()?).during(file.display())?,
    )
}

/// A script with the output of these programs when it is played against a fresh server.
///
/// # Errors
/// If it is invalid, or a step fails.
pub fn seen(text: &str, mut launch: Launch, programs: Etcd) -> Result<String, Trouble> {
    let script = Script::parse(text)?;
    for flag in &script.server {
        launch = launch.flag(flag);
    }
    let server = launch.start()?;
    let mut scene = Scene::open(&server, programs)?;
    let mut outputs = Vec::new();
    for step in &script.steps {
        let output = scene.act(&step.action, &step.expected);
        outputs.push(output.during(format_args!("on {}, at {:?}", server.name(), step.action))?);
    }
    Ok(script.with_outputs(&outputs))
}

/// A server, its etcdctl, and the background commands.
struct Scene {
    programs: Etcd,
    endpoint: String,
    names: Names,
    background: BTreeMap<String, Background>,
}

impl Scene {
    /// Asks the server for its ids, so that they get names.
    fn open(server: &Server, programs: Etcd) -> Result<Self, Trouble> {
        let endpoint = server.address().to_string();
        let mut scene = Self {
            programs,
            endpoint,
            names: Names::default(),
            background: BTreeMap::new(),
        };
        let status = scene.run("etcdctl endpoint status -w json", &[])?;
        let known = |key: &str| {
            normalise::json_number(&status, key)
                .ok_or_else(|| Trouble::new(format!("no {key} in the status: {status}")))
        };
        let (cluster, member) = (known("cluster_id")?, known("member_id")?);
        let version = normalise::json_text(&status, "version");
        scene.names.number("cluster", cluster);
        scene.names.number("member", member);
        scene.names.members_there(1 + server.companions().len());
        scene.name_companions(server, member)?;
        scene.names.text("<dir>", server.home().display().to_string());
        scene.names.text("<client>", server.address().to_string());
        scene.names.text("<peer>", server.peer_address().to_string());
        scene.names.text(
            "<version>",
            version.ok_or_else(|| Trouble::new("no version in the status"))?,
        );
        Ok(scene)
    }

    /// Names the ids and addresses of the other members of a cluster, and makes the first member its leader, so that the
    /// outputs of each run are alike.
    fn name_companions(&mut self, server: &Server, first: u64) -> Result<(), Trouble> {
        for (number, companion) in server.companions().iter().enumerate() {
            let address = companion.address().to_string();
            let own = mem::replace(&mut self.endpoint, address.clone());
            let status = self.run("etcdctl endpoint status -w json", &[])?;
            let known = |key: &str| normalise::json_number(&status, key);
            let id = known("member_id").ok_or_else(|| Trouble::new(format!("no id in the status: {status}")))?;
            if known("leader") == Some(id) {
                self.run(&format!("etcdctl move-leader {first:x}"), &[])?;
            }
            self.endpoint = own;
            let number = number + 2;
            self.names.number(&format!("founder{number}"), id);
            self.names.text(&format!("<client{number}>"), address);
            self.names
                .text(&format!("<peer{number}>"), companion.peer_address().to_string());
        }
        Ok(())
    }

    fn act(&mut self, action: &Action, expected: &str) -> Result<String, Trouble> {
        match action {
            Action::Begin(name, command) => {
                let begun = Background::begin(self.command(command)?)?;
                self.background.insert(name.clone(), begun);
                Ok(String::new())
            }
            Action::Lines(name, count) => {
                let lines = self.behind(name)?.lines(*count)?;
                self.names.learn(&lines.join("\n"));
                Ok(self.shown(&lines))
            }
            Action::Run(command, input) => self.run(command, input),
            Action::Say(name, line) => {
                let line = self.names.fill(line);
                self.behind(name)?.say(&line).map(|()| String::new())
            }
            Action::Stop(name) => {
                let lines = self.background.remove(name).ok_or_else(|| not_running(name))?.stop()?;
                Ok(self.shown(&lines))
            }
            Action::Until(command, input) => self.until(command, input, expected),
        }
    }

    fn until(&mut self, command: &str, input: &[String], expected: &str) -> Result<String, Trouble> {
        let deadline = wait::Deadline::after(UNTIL_LIMIT);
        loop {
            let output = self.run(command, input)?;
            if output == expected || deadline.passed() {
                return Ok(output);
            }
            wait::pause(UNTIL_STEP);
        }
    }

    fn run(&mut self, command: &str, input: &[String]) -> Result<String, Trouble> {
        let (command, filter) = command.split_once(" | ").unwrap_or((command, ""));
        let input: String = input.iter().map(|line| self.names.fill(line) + "\n").collect();
        let finished = command::run(&mut self.command(command)?, input.as_bytes(), COMMAND_LIMIT)?;
        self.names.learn(&finished.stdout);
        let printed: Vec<String> = finished.stdout.lines().map(str::to_owned).collect();
        let mut lines = filtered(self.shown(&printed).lines().map(str::to_owned).collect(), filter)?;
        // etcdctl's log of retries contains times, and adds nothing to the error.
        let errors = finished.stderr.lines().filter(|line| !line.starts_with("{\"level\""));
        lines.extend(errors.map(|line| format!("! {line}")));
        match finished.code {
            Some(0) => {}
            Some(code) => lines.push(format!("[exit {code}]")),
            None => lines.push("[killed]".to_owned()),
        }
        Ok(self.shown(&lines))
    }

    fn command(&self, text: &str) -> Result<Command, Trouble> {
        let words = script::words(&self.names.fill(text));
        let (name, args) = words.split_first().ok_or_else(|| Trouble::new("an empty command"))?;
        let mut command = match (name.as_str(), &self.programs.etcdutl) {
            ("etcdctl", _) => command::untouched(&self.programs.etcdctl),
            ("etcdutl", Some(etcdutl)) => command::untouched(etcdutl),
            _ => return Err(Trouble::new(format!("there is no program {name}"))),
        };
        if name == "etcdctl" {
            command.args(["--endpoints", &self.endpoint]);
        }
        command.args(args);
        Ok(command)
    }

    fn behind(&mut self, name: &str) -> Result<&mut Background, Trouble> {
        self.background.get_mut(name).ok_or_else(|| not_running(name))
    }

    fn shown(&self, lines: &[String]) -> String {
        self.names.hide(lines.join("\n").trim_end())
    }
}

/// Sorts the lines (`sort`) or keeps the first ones (`head N`), for output without a fixed order.
fn filtered(mut lines: Vec<String>, filter: &str) -> Result<Vec<String>, Trouble> {
    match filter.split_once(' ').unwrap_or((filter, "")) {
        ("", _) => {}
        ("sort", "") => lines.sort(),
        ("head", count) => lines.truncate(count.parse().during("head")?),
        _ => return Err(Trouble::new(format!("no filter is called {filter}"))),
    }
    Ok(lines)
}

fn not_running(name: &str) -> Trouble {
    Trouble::new(format!("nothing runs in the background as {name}"))
}

/// A background command, whose lines arrive as it prints them.
struct Background {
    child: Child,
    _registered: Registered,
    stdin: Option<ChildStdin>,
    printed: Receiver<String>,
}

impl Background {
    fn begin(mut command: Command) -> Result<Self, Trouble> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let (mut child, registered) =
            children::spawn(&mut command, None).during("starting etcdctl in the background")?;
        let stdin = child.stdin.take();
        let printed = command::lines(&mut child)?;
        Ok(Self {
            child,
            _registered: registered,
            stdin,
            printed,
        })
    }

    fn say(&mut self, line: &str) -> Result<(), Trouble> {
        let stdin = self
            .stdin
            .as_mut()
            .ok_or_else(|| Trouble::new("etcdctl reads no input"))?;
        writeln!(stdin, "{line}")
            .and_then(|()| stdin.flush())
            .during("writing to etcdctl")
    }

    fn lines(&self, count: usize) -> Result<Vec<String>, Trouble> {
        let deadline = wait::Deadline::after(LINE_LIMIT);
        let mut lines = Vec::new();
        while lines.len() < count {
            match self.printed.recv_timeout(deadline.left()) {
                Ok(line) => lines.push(line),
                // Missing lines appear as a difference from the lines that came.
                Err(error) => {
                    lines.push(format!("[no further line: {error}]"));
                    break;
                }
            }
        }
        Ok(lines)
    }

    fn stop(mut self) -> Result<Vec<String>, Trouble> {
        // Not INT: a shell starts background processes with INT ignored, and etcdctl inherits that.
        command::signal(self.child.id(), "TERM")?;
        let ended = wait::until(COMMAND_LIMIT, Duration::from_millis(5), || {
            self.child.try_wait().ok().flatten()
        });
        if ended.is_none() {
            return Err(Trouble::new("etcdctl did not end when it was stopped"));
        }
        Ok(self.printed.iter().collect())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
