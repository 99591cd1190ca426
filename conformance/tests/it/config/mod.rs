//! Configuration compared with a real etcd's: each file, command line and environment of the tables starts a real etcd
//! and ours, and the results are compared: started or refused, the effective settings that both log, the exit code, and
//! the words of the refusal. A case with an intended difference has a reason, and fails once the difference is gone.

mod files;
mod lines;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use quoin_conformance::binaries::Profile;
use quoin_conformance::{Kind, command, paths, wait};
use serde_json::Value;

/// How long a start may take until it serves or ends, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(5);
/// Starts wait for disks more than they compute.
const WORKERS: usize = 4;

/// The line with the effective settings.
const STARTING: &str = "starting an etcd server";
/// The message that etcd logs once its configuration is accepted.
const ETCD_TOOK: &str = "now serving peer/client/metrics";
/// The message of ours. With some configurations no server becomes ready, for example with a request size of 0.
const OURS_TOOK: &str = "starting etcd server";

/// The settings that are compared, by their names in the log.
const SETTINGS: &[&str] = &[
    "advertise-client-urls",
    "auto-compaction-interval",
    "auto-compaction-mode",
    "auto-compaction-retention",
    "compact-check-time-enabled",
    "compact-check-time-interval",
    "corrupt-check-time-interval",
    "cors",
    "data-dir",
    "downgrade-check-interval",
    "election-timeout",
    "force-new-cluster",
    "heartbeat-interval",
    "host-whitelist",
    "initial-advertise-peer-urls",
    "initial-cluster",
    "initial-cluster-state",
    "initial-cluster-token",
    "initial-corrupt-check",
    "initial-election-tick-advance",
    "listen-client-urls",
    "listen-metrics-urls",
    "listen-peer-urls",
    "max-concurrent-streams",
    "max-request-bytes",
    "max-snapshots",
    "max-wals",
    "member-dir",
    "name",
    "pre-vote",
    "quota-backend-bytes",
    "snapshot-catchup-entries",
    "snapshot-count",
    "wal-dir",
    "wal-dir-dedicated",
];

/// A configuration of a server.
pub(crate) struct Case {
    /// The file for `--config-file`, if there is one.
    pub(crate) file: Option<Vec<u8>>,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    /// The reason for an intended difference, if there is one.
    pub(crate) differs: Option<&'static str>,
}

impl Case {
    fn shown(&self) -> String {
        let file = self
            .file
            .as_ref()
            .map(|bytes| String::from_utf8_lossy(bytes).chars().take(400).collect::<String>());
        format!("file {file:?} args {:?} env {:?}", self.args, self.env)
    }

    /// True if the case mentions a setting.
    fn mentions(&self, name: &str) -> bool {
        let variable = format!("ETCD_{}", name.to_uppercase().replace('-', "_"));
        let file = self
            .file
            .as_deref()
            .map(String::from_utf8_lossy)
            .unwrap_or_default()
            .to_lowercase();
        file.contains(name)
            || self.args.iter().any(|arg| arg.to_string_lossy().contains(name))
            || self.env.iter().any(|(key, _)| *key == *variable)
    }
}

/// The result of a start.
#[derive(Debug)]
enum Seen {
    Started(BTreeMap<&'static str, Value>),
    Refused { code: Option<i32>, why: String },
}

fn start(program: &Path, took: &str, case: &Case) -> Seen {
    let home = paths::fresh("config").expect("a folder for the start");
    let log = home.join("log");
    let written = File::create(&log).expect("the log can be made");
    let mut command = command::untouched(program);
    if let Some(bytes) = &case.file {
        fs::write(home.join("etcd.yml"), bytes).expect("the file can be written");
        command.arg("--config-file=etcd.yml");
    }
    let mut child = command
        .args(&case.args)
        .envs(case.env.iter().map(|(key, value)| (key, value)))
        .current_dir(&home)
        .stdin(Stdio::null())
        .stdout(written.try_clone().expect("the log can be shared"))
        .stderr(written)
        .spawn()
        .expect("the server can be started");
    let ended = wait::until(START_LIMIT, STEP, || outcome(&mut child, took, &log));
    let _ = child.kill();
    let _ = child.wait();
    let seen = ended.unwrap_or_else(|| {
        panic!(
            "neither took its configuration nor ended in {START_LIMIT:?}: {}",
            case.shown()
        )
    });
    fs::remove_dir_all(&home).expect("the folder can be removed");
    seen
}

fn outcome(child: &mut Child, took: &str, log: &Path) -> Option<Seen> {
    let ended = child.try_wait().expect("a child can be asked");
    let text = String::from_utf8_lossy(&fs::read(log).expect("the log can be read")).into_owned();
    if let Some(status) = ended {
        let code = status.code();
        let why = reason(&text);
        return Some(Seen::Refused { code, why });
    }
    let whole_lines = &text[..text.rfind('\n')? + 1];
    whole_lines
        .contains(&format!("\"msg\":\"{took}\""))
        .then(|| Seen::Started(settings(whole_lines)))
}

/// The fields of a log line in either of etcd's formats.
fn fields(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok().or_else(|| {
        let console = line.rsplit('\t').next()?;
        serde_json::from_str(console).ok()
    })
}

fn settings(text: &str) -> BTreeMap<&'static str, Value> {
    let line = text
        .lines()
        .find(|line| line.contains(STARTING))
        .expect("the settings are logged");
    let fields = fields(line).expect("a log line has fields");
    let value = |name: &&'static str| fields.get(*name).map(|value| (*name, value.clone()));
    SETTINGS.iter().filter_map(value).collect()
}

/// Why a start was refused: the last error in the log, or else the printed text.
fn reason(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let logged = lines.clone().filter_map(fields).collect::<Vec<_>>();
    let mut errors = logged.iter().filter_map(|line| line["error"].as_str());
    let mut fatal = logged
        .iter()
        .filter(|line| line["level"] == "fatal")
        .filter_map(|line| line["msg"].as_str());
    let printed = lines.clone().find(|line| fields(line).is_none());
    let why = errors
        .next_back()
        .or_else(|| fatal.next_back())
        .or(printed)
        .unwrap_or_default();
    words(why)
}

/// A reason without parts that differ between builds of etcd, or do not matter: the date before a printed line, the
/// structures in the path of a key (newer Go versions name the embedded ones), the number of a line (libyaml's is
/// sometimes one too low), a key in Go's syntax, the kind of quotes.
fn words(why: &str) -> String {
    let dated = why
        .splitn(3, ' ')
        .nth(2)
        .filter(|_| why.starts_with("20") && why.contains('/'));
    let mut text = dated.unwrap_or(why).to_owned();
    // `configYAML.Config.name`, `securityConfig.configJSON.peer-transport-security.cert-file`: the key is at the end.
    for structure in [
        "configYAML.",
        "configProxy.",
        "securityConfig.",
        "SocketOpts.",
        "Config.",
        "configJSON.",
    ] {
        text = text.replace(&format!("struct field {structure}"), "struct field ");
    }
    if let Some((before, after)) = text.split_once("yaml: line ") {
        let after = after.split_once(": ").map_or(after, |(_, after)| after);
        text = format!("{before}yaml: {after}");
    }
    // Go prints the key in its own syntax.
    let key = text
        .split_once("invalid map key")
        .map_or(text.as_str(), |(before, _)| before);
    key.replace('\'', "\"")
}

/// The first difference from etcd.
fn difference(case: &Case, etcd: &Seen, ours: &Seen) -> Option<String> {
    match (etcd, ours) {
        (Seen::Started(etcd), Seen::Started(ours)) => etcd.iter().find_map(|(name, value)| {
            // Ours reports 3.6, which has other defaults for these two.
            let other_default = matches!(*name, "snapshot-count" | "auto-compaction-mode") && !case.mentions(name);
            let ours = ours.get(name);
            (ours != Some(value) && !other_default).then(|| format!("{name}: etcd has {value}, ours {ours:?}"))
        }),
        (
            Seen::Refused { code, why },
            Seen::Refused {
                code: ours,
                why: our_why,
            },
        ) => {
            let same = code == ours && our_why.contains(why.as_str());
            (!same).then(|| format!("etcd ends with {code:?}: {why}\n    ours with {ours:?}: {our_why}"))
        }
        _ => Some(format!("etcd {}, ours {}", short(etcd), short(ours))),
    }
}

fn short(seen: &Seen) -> String {
    match seen {
        Seen::Started(_) => "starts".to_owned(),
        Seen::Refused { code, why } => format!("ends with {code:?}: {why}"),
    }
}

/// Starts both servers with every case and lists the cases with an unintended result.
fn compare(cases: &[Case]) {
    let etcd = Kind::Etcd.program(Profile::Dev).expect("a real etcd");
    let ours = Kind::QuoinTokio.program(Profile::Dev).expect("our server");
    let (next, complaints) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = difference(case, &start(&etcd, ETCD_TOOK, case), &start(&ours, OURS_TOOK, case));
            let complaint = match (found, case.differs) {
                (None, None) | (Some(_), Some(_)) => continue,
                (Some(difference), None) => difference,
                (None, Some(why)) => format!("no longer differs, though {why}"),
            };
            complaints
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(format!("{}\n    {complaint}", case.shown()));
        }
    };
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(work);
        }
    });
    let complaints = complaints.into_inner().unwrap_or_else(PoisonError::into_inner);
    let count = (complaints.len(), cases.len());
    assert!(
        complaints.is_empty(),
        "{} of {} cases:\n{}",
        count.0,
        count.1,
        complaints.join("\n")
    );
}

#[test]
fn files_are_read_as_etcd_reads_them() {
    let cases = files::cases();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    compare(&cases);
}

#[test]
fn command_lines_and_variables_are_read_as_etcd_reads_them() {
    compare(&lines::cases());
}

/// Flags in the format that envtest and others search for: blanks, two dashes, the name.
fn flags_of(help: &str) -> BTreeSet<String> {
    let named = help.lines().filter_map(|line| line.strip_prefix("  --"));
    named
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn help_has_every_flag_that_etcds_has() {
    let etcd = Kind::Etcd.program(Profile::Dev).expect("a real etcd");
    let ours = Kind::QuoinTokio.program(Profile::Dev).expect("our server");
    for word in ["--help", "-h", "-help"] {
        let [etcd, ours] = [&etcd, &ours].map(|program| {
            let mut asked = command::untouched(program);
            command::run(asked.arg(word), b"", START_LIMIT).expect("help ends")
        });
        assert_eq!((etcd.code, ours.code), (Some(0), Some(0)), "{word}");
        let flags = flags_of(&ours.stdout);
        let missing = flags_of(&etcd.stdout).difference(&flags).cloned().collect::<Vec<_>>();
        assert!(missing.is_empty() && flags.contains("unsafe-no-fsync"), "{missing:?}");
        assert!(ours.stdout.starts_with("Quoin "), "{}", ours.stdout);
    }
}

/// Bytes that are not UTF-8, as arguments and variables can be.
pub(crate) fn bytes(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}
