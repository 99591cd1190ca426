//! etcdctl of any version: the scripts of `conformance/scripts`, and scenarios that a script cannot express: a server
//! that goes away, many etcdctls at once, large input.
//!
//! Versions of etcdctl print some things differently. So each version plays a script against a real etcd first, which
//! is an outcome too; its output with ours is compared with that output.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError, mpsc::Receiver},
    thread,
    time::Duration,
};

use super::program::Scenario;
use crate::{
    binaries::Kind,
    children::{self, Registered},
    command,
    fetch::Etcd,
    golden,
    outcome::Verdict,
    paths, scene,
    server::{Launch, Server},
    trouble::{During, Trouble},
    wait,
};

const COMMAND_LIMIT: Duration = Duration::from_secs(30);
const LINE_LIMIT: Duration = Duration::from_secs(20);

/// An etcdctl with its scenarios.
pub(super) struct Etcdctl {
    programs: Etcd,
    scripts: BTreeMap<String, PathBuf>,
    /// By name, each script with its output against a real etcd.
    printed: Mutex<BTreeMap<String, String>>,
}

/// Plays a scenario; the error is its first wrong answer.
type Play = fn(&mut Stage<'_>) -> Result<(), Trouble>;

/// The scenarios that are not scripts: name, API method, whether it is fast, and the function that plays it.
const PLAYS: [(&str, &str, bool, Play); 9] = [
    (
        "transaction_of_128_operations",
        "KV.Txn",
        true,
        transaction_of_128_operations,
    ),
    ("large_value", "KV.Put", true, large_value),
    ("list_of_10000_keys", "KV.Range", false, list_of_10000_keys),
    ("contended_counter", "KV.Txn", true, contended_counter),
    ("reconnect_storm", "KV.Range", true, reconnect_storm),
    ("watch_resumes_after_a_restart", "Watch.Watch", true, watch_resumes),
    (
        "keep_alive_over_a_restart",
        "Lease.LeaseKeepAlive",
        false,
        keep_alive_over_a_restart,
    ),
    ("elections", "Lease.LeaseGrant", true, elections),
    ("make_mirror", "Watch.Watch", true, make_mirror),
];

impl Etcdctl {
    /// The etcdctl among these programs.
    ///
    /// # Errors
    /// If the scripts cannot be listed.
    pub(super) fn new(programs: Etcd) -> Result<Self, Trouble> {
        let folder = paths::scripts();
        let mut scripts = BTreeMap::new();
        for entry in fs::read_dir(&folder).during(format_args!("listing {}", folder.display()))? {
            let path = entry.during("listing scripts")?.path();
            if path.extension().is_some_and(|end| end == "txt") {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                scripts.insert(format!("script_{name}"), path);
            }
        }
        Ok(Self {
            programs,
            scripts,
            printed: Mutex::default(),
        })
    }

    /// All its scenarios.
    pub(super) fn scenarios(&self) -> Vec<Scenario> {
        let plays = PLAYS.iter().map(|(name, method, fast, _)| (*name, *method, *fast));
        // A separate test plays the scripts with the newer etcdctl, so they are not fast here; the report includes
        // them.
        let scripts = self.scripts.keys().map(|name| (name.as_str(), method(name), false));
        plays
            .chain(scripts)
            .map(|(name, method, fast)| Scenario {
                name: name.to_owned(),
                method: method.to_owned(),
                fast,
            })
            .collect()
    }

    /// Plays scenarios, each against a fresh server, and calls `say` with each outcome.
    ///
    /// # Errors
    /// If a server does not start.
    pub(super) fn play(
        &self,
        kind: Kind,
        launch: &Launch,
        scenarios: &[Scenario],
        say: &mut dyn FnMut(&str, Verdict),
    ) -> Result<(), Trouble> {
        for scenario in scenarios {
            let verdict = match self.scripts.get(&scenario.name) {
                Some(script) => self.play_script(kind, launch, &scenario.name, script),
                None => self.play_own(launch, &scenario.name)?,
            };
            say(&scenario.name, verdict);
        }
        Ok(())
    }

    fn play_script(&self, kind: Kind, launch: &Launch, name: &str, file: &PathBuf) -> Verdict {
        let known = self.printed().get(name).cloned();
        let text = match known.filter(|_| kind != Kind::Etcd) {
            Some(printed) => Ok(printed),
            None => fs::read_to_string(file).during(format_args!("reading {}", file.display())),
        };
        let seen = text.and_then(|text| Ok((scene::seen(&text, launch.clone(), self.programs.clone())?, text)));
        match seen {
            Err(trouble) => Verdict::Failed(trouble.to_string()),
            // A real etcd's answer is right by definition.
            Ok((seen, _)) if kind == Kind::Etcd => {
                self.printed().insert(name.to_owned(), seen);
                Verdict::Passed
            }
            Ok((seen, expected)) => match golden::difference(&expected, &seen) {
                None => Verdict::Passed,
                Some(difference) => Verdict::Differs(difference),
            },
        }
    }

    fn printed(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn play_own(&self, launch: &Launch, name: &str) -> Result<Verdict, Trouble> {
        let mut server = launch.clone().start()?;
        let mut stage = Stage {
            program: self.programs.etcdctl.clone(),
            server: &mut server,
        };
        let play = PLAYS.iter().find(|(known, ..)| *known == name);
        let played = match play {
            Some((.., play)) => play(&mut stage),
            None => Err(Trouble::new(format!("no scenario is called {name}"))),
        };
        Ok(match played {
            Ok(()) => Verdict::Passed,
            Err(trouble) => Verdict::Failed(trouble.to_string()),
        })
    }
}

/// The main API method of a script.
fn method(script: &str) -> &'static str {
    match script {
        "script_auth" => "Auth.UserAdd",
        "script_cluster" => "Cluster.MemberList",
        "script_compaction" => "KV.Compact",
        "script_delete" => "KV.DeleteRange",
        "script_endpoint" => "Maintenance.Status",
        "script_kv" => "KV.Put",
        "script_lease" => "Lease.LeaseGrant",
        "script_lock" | "script_txn" => "KV.Txn",
        "script_maintenance" => "Maintenance.Defragment",
        "script_membership" => "Cluster.MemberAdd",
        "script_range" => "KV.Range",
        "script_watch" => "Watch.Watch",
        _ => "",
    }
}

/// A server and its etcdctl.
struct Stage<'a> {
    program: PathBuf,
    server: &'a mut Server,
}

impl Stage<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command::untouched(&self.program);
        command
            .args(["--endpoints", &self.server.address().to_string()])
            .args(arguments);
        command
    }

    /// Runs etcdctl with this input; returns its standard output, or an error if it fails.
    fn run_with(&self, arguments: &[&str], input: &[u8]) -> Result<String, Trouble> {
        command::run(&mut self.command(arguments), input, COMMAND_LIMIT)?.success(&format!("etcdctl {arguments:?}"))
    }

    fn run(&self, arguments: &[&str]) -> Result<String, Trouble> {
        self.run_with(arguments, b"")
    }

    fn begin(&self, arguments: &[&str]) -> Result<Background, Trouble> {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let (mut child, registered) =
            children::spawn(&mut command, None).during("starting etcdctl in the background")?;
        let lines = command::lines(&mut child)?;
        Ok(Background {
            child,
            _registered: registered,
            lines,
        })
    }

    fn restart(&mut self) -> Result<(), Trouble> {
        self.server.kill()?;
        self.server.restart()
    }

    /// Repeats a command until it prints this, because background commands take effect with a delay.
    fn until(&self, arguments: &[&str], expected: &str) -> Result<(), Trouble> {
        let mut seen = String::new();
        let found = wait::until(LINE_LIMIT, Duration::from_millis(50), || {
            seen = self.run(arguments).unwrap_or_default();
            (seen == expected).then_some(())
        });
        found.ok_or_else(|| Trouble::new(format!("etcdctl {arguments:?} prints {seen:?}, never {expected:?}")))
    }
}

/// An etcdctl in the background.
struct Background {
    child: Child,
    _registered: Registered,
    lines: Receiver<String>,
}

impl Background {
    fn line(&self) -> Result<String, Trouble> {
        self.lines
            .recv_timeout(LINE_LIMIT)
            .during("waiting for a line of etcdctl")
    }

    fn terminate(&self) -> Result<(), Trouble> {
        command::signal(self.child.id(), "TERM")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn equal(seen: &str, expected: &str, what: &str) -> Result<(), Trouble> {
    if seen == expected {
        return Ok(());
    }
    let cut = |text: &str| text.chars().take(300).collect::<String>();
    Err(Trouble::new(format!(
        "{what}: {:?} instead of {:?}",
        cut(seen),
        cut(expected)
    )))
}

/// The input of a transaction without comparisons that puts these keys.
fn puts(names: impl Iterator<Item = String>) -> String {
    let mut input = String::from("\n");
    for name in names {
        let _ = writeln!(input, "put {name} x");
    }
    input + "\n\n"
}

fn transaction_of_128_operations(stage: &mut Stage<'_>) -> Result<(), Trouble> {
    let input = puts((0..128).map(|at| format!("a{at:03}")));
    let printed = stage.run_with(&["txn"], input.as_bytes())?;
    equal(&printed.matches("OK").count().to_string(), "128", "the number of puts")?;
    let input = puts((0..129).map(|at| format!("b{at:03}")));
    let refused = command::run(&mut stage.command(&["txn"]), input.as_bytes(), COMMAND_LIMIT)?;
    if refused.code == Some(0)
        || !refused
            .stderr
            .contains("etcdserver: too many operations in txn request")
    {
        return Err(Trouble::new(format!("129 operations: {refused:?}")));
    }
    let keys = stage.run(&["get", "", "--prefix", "--keys-only"])?;
    equal(
        &keys.lines().filter(|line| !line.is_empty()).count().to_string(),
        "128",
        "keys",
    )
}

fn large_value(stage: &mut Stage<'_>) -> Result<(), Trouble> {
    let value = "quoin123".repeat(1 << 17);
    stage.run_with(&["put", "big"], value.as_bytes())?;
    let seen = stage.run(&["get", "big", "--print-value-only"])?;
    equal(seen.trim_end_matches('\n'), &value, "a mebibyte")?;
    let huge = value.repeat(2);
    let refused = command::run(
        &mut stage.command(&["put", "huge"]),
        &huge.as_bytes()[..1_700_000],
        COMMAND_LIMIT,
    )?;
    if refused.code == Some(0) || !refused.stderr.contains("etcdserver: request is too large") {
        return Err(Trouble::new(format!(
            "a huge value: {:?} {}",
            refused.code, refused.stderr
        )));
    }
    Ok(())
}

fn list_of_10000_keys(stage: &mut Stage<'_>) -> Result<(), Trouble> {
    for start in (0..10_000).step_by(125) {
        let input = puts((start..start + 125).map(|at| format!("k{at:05}")));
        stage.run_with(&["txn"], input.as_bytes())?;
    }
    let printed = stage.run(&["get", "k", "--prefix", "--keys-only"])?;
    let keys: Vec<&str> = printed.lines().filter(|line| !line.is_empty()).collect();
    let expected: Vec<String> = (0..10_000).map(|at| format!("k{at:05}")).collect();
    if keys != expected {
        return Err(Trouble::new(format!("{} keys, or not in order", keys.len())));
    }
    equal(stage.run(&["del", "k", "--prefix"])?.trim(), "10000", "deleted")
}

fn contended_counter(stage: &mut Stage<'_>) -> Result<(), Trouble> {
    stage.run(&["put", "n", "0"])?;
    let stage = &*stage;
    let work = || -> Result<(), Trouble> {
        for _ in 0..5 {
            let deadline = wait::Deadline::after(COMMAND_LIMIT);
            loop {
                let value = stage.run(&["get", "n", "--print-value-only"])?;
                let next: u64 = value.trim().parse::<u64>().during("the counter")? + 1;
                let input = format!("val(\"n\") = \"{}\"\n\nput n {next}\n\n\n", value.trim());
                if stage.run_with(&["txn"], input.as_bytes())?.starts_with("SUCCESS") {
                    break;
                }
                if deadline.passed() {
                    return Err(Trouble::new("no transaction succeeded in time"));
                }
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(joined)
    })?;
    equal(
        stage.run(&["get", "n", "--print-value-only"])?.trim(),
        "20",
        "the counter",
    )
}

fn joined(worker: thread::ScopedJoinHandle<'_, Result<(), Trouble>>) -> Result<(), Trouble> {
    worker.join().unwrap_or_else(|_| Err(Trouble::new("a worker panicked")))
}

fn reconnect_storm(stage: &mut Stage<'_>) -> Result<(), Trouble> {
    stage.run(&["put", "a", "1"])?;
    let stage = &*stage;
    thread::scope(|scope| {
        let come_and_go = || (0..4).try_for_each(|_| equal(&stage.run(&["get", "a"])?, "a\n1\n", "the value"));
        let comers: Vec<_> = (0..10).map(|_| scope.spawn(come_and_go)).collect();
        comers.into_iter().try_for_each(joined)
    })
}

fn watch_resumes(stage: &mut Stage<'_>) -> Result<(), Trouble> {
    let watch = stage.begin(&["watch", "a", "--prefix", "--rev=1"])?;
    for round in ["1", "2", "3"] {
        let key = format!("a{round}");
        stage.run(&["put", &key, "v"])?;
        for expected in ["PUT", &key, "v"] {
            equal(&watch.line()?, expected, "the watch")?;
        }
        stage.restart()?;
    }
    stage.run(&["del", "a1"])?;
    for expected in ["DELETE", "a1", ""] {
        equal(&watch.line()?, expected, "nothing lost, nothing twice")?;
    }
    Ok(())
}

fn keep_alive_over_a_restart(stage: &mut Stage<'_>) -> Result<(), Trouble> {
    let granted = stage.run(&["lease", "grant", "6"])?;
    let lease = granted.split_whitespace().nth(1).unwrap_or_default().to_owned();
    stage.run(&["put", "a", "1", "--lease", &lease])?;
    let keeper = stage.begin(&["lease", "keep-alive", &lease])?;
    keeper.line()?;
    stage.restart()?;
    wait::pause(Duration::from_secs(9));
    equal(&stage.run(&["get", "a"])?, "a\n1\n", "kept alive")?;
    drop(keeper);
    stage.until(&["get", "a"], "")
}

fn elections(stage: &mut Stage<'_>) -> Result<(), Trouble> {
    let first = stage.begin(&["elect", "e", "one"])?;
    let key = first.line()?;
    equal(&first.line()?, "one", "the first leads")?;
    let second = stage.begin(&["elect", "e", "two"])?;
    let observer = stage.begin(&["elect", "-l", "e"])?;
    equal(&observer.line()?, &key, "the leader's key")?;
    equal(&observer.line()?, "one", "the leader")?;
    // The server restarts only after both campaigns are established: etcdctl does not repeat an unfinished one.
    let campaigns = [
        "get",
        "e/",
        "--prefix",
        "--print-value-only",
        "--sort-by=CREATE",
        "--order=ASCEND",
    ];
    stage.until(&campaigns, "one\ntwo\n")?;
    stage.restart()?;
    if let Ok(line) = second.lines.recv_timeout(Duration::from_secs(1)) {
        return Err(Trouble::new(format!("the second leads beside the first: {line}")));
    }
    first.terminate()?;
    second.line()?;
    equal(&second.line()?, "two", "the second leads")?;
    observer.line()?;
    equal(&observer.line()?, "two", "the second is seen")
}

fn make_mirror(stage: &mut Stage<'_>) -> Result<(), Trouble> {
    stage.run(&["put", "from/a", "1"])?;
    let itself = stage.server.address().to_string();
    let _mirror = stage.begin(&["make-mirror", "--prefix", "from/", "--dest-prefix", "to/", &itself])?;
    stage.until(&["get", "to/a"], "to/a\n1\n")?;
    stage.run(&["put", "from/b", "2"])?;
    stage.until(&["get", "to/b"], "to/b\n2\n")?;
    stage.run(&["del", "from/a"])?;
    stage.until(&["get", "to/", "--prefix"], "to/b\n2\n")
}
