//! The log, compared with etcd's: a program that reads etcd's lines can read ours.
//!
//! Both servers start, serve briefly, and are stopped. Messages of both must have the same level, names, types and
//! order of fields; missing fields of etcd's are listed with a reason.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use quoin_conformance::{Kind, Launch, Server, command, fetch};
use serde_json::{Map, Value};

const COMMAND_LIMIT: Duration = Duration::from_secs(20);

/// Messages that must be there, because programs and people wait for them.
const WANTED: [&str; 19] = [
    "Running: ",
    "starting an etcd server",
    "opened backend db",
    "starting etcd server",
    "now serving peer/client/metrics",
    "serving peer traffic",
    "published local member to cluster through raft",
    "set initial cluster version",
    "enabled capabilities for version",
    "ready to serve client requests",
    "serving client traffic insecurely; this is strongly discouraged!",
    "finished scheduled compaction",
    "storing new hash",
    "starting defragment",
    "finished defragmenting directory",
    "finished defragment",
    "received signal; shutting down",
    "closing etcd server",
    "closed etcd server",
];

/// Fields of etcd's lines that ours do not have, and why.
const ABSENT: [(&str, &str, &str); 11] = [
    (
        "published local member to cluster through raft",
        "request-path",
        "a path of the API v2",
    ),
    ("finished scheduled compaction", "hash", "another message has it"),
    (
        "finished scheduled compaction",
        "current-db-size",
        "the field in bytes has it",
    ),
    (
        "finished scheduled compaction",
        "current-db-size-in-use-bytes",
        "the table does not measure it",
    ),
    (
        "finished scheduled compaction",
        "current-db-size-in-use",
        "the table does not measure it",
    ),
    ("finished defragmenting directory", "path", "there is one table"),
    (
        "finished defragmenting directory",
        "current-db-size",
        "the field in bytes has it",
    ),
    (
        "finished defragmenting directory",
        "current-db-size-bytes-diff",
        "the new size is known only after files are removed",
    ),
    (
        "finished defragmenting directory",
        "current-db-size-in-use",
        "the table does not measure it",
    ),
    (
        "finished defragmenting directory",
        "current-db-size-in-use-bytes",
        "the table does not measure it",
    ),
    (
        "finished defragmenting directory",
        "current-db-size-in-use-bytes-diff",
        "the table does not measure it",
    ),
];

/// The message whose fields are the whole configuration, which another test compares with etcd's.
const CONFIGURATION: &str = "starting an etcd server";

/// A line, parsed and as text.
struct Line {
    text: String,
    fields: Map<String, Value>,
}

impl Line {
    fn text_of(&self, name: &str) -> &str {
        self.fields[name].as_str().unwrap_or_default()
    }

    /// The position of a field.
    fn place(&self, name: &str) -> usize {
        self.text.find(&format!("\"{name}\":")).expect("it is there")
    }
}

/// Everything a server logs from its start to its end.
fn logged(kind: Kind) -> Vec<Line> {
    let mut server = Launch::of(kind).and_then(Launch::start).expect("it starts");
    for line in ["put a 1", "put a 2", "compact 3 --physical", "defrag"] {
        etcdctl(&server, line);
    }
    server.terminate().expect("it ends");
    let log = server.log();
    let read = |text: &str| Line {
        fields: serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")),
        text: text.to_owned(),
    };
    log.lines().map(read).collect()
}

fn etcdctl(server: &Server, line: &str) {
    let program = fetch::etcd().expect("a real etcd").etcdctl;
    let mut etcdctl: Command = command::untouched(program);
    etcdctl.args(["--endpoints", &server.address().to_string()]);
    etcdctl.args(line.split(' '));
    command::run(&mut etcdctl, b"", COMMAND_LIMIT)
        .and_then(|finished| finished.success(line))
        .expect("etcdctl succeeds");
}

/// The first line of each message.
fn by_message(lines: &[Line]) -> BTreeMap<&str, &Line> {
    lines.iter().rev().map(|line| (line.text_of("msg"), line)).collect()
}

/// Checks that a line has zap's format, and names its source file and line number.
fn check_form(line: &Line) {
    let places = ["level", "ts", "caller", "msg"].map(|name| line.place(name));
    assert!(
        places.is_sorted() && line.text.starts_with("{\"level\":"),
        "{}",
        line.text
    );
    let time = line.text_of("ts");
    assert!(
        time.len() == "2006-01-02T15:04:05.000000Z".len() && time.ends_with('Z'),
        "{}",
        line.text
    );
    let (file, number) = line.text_of("caller").split_once(':').expect("a line number");
    let is_place = file.ends_with(".rs") && file.split('/').count() == 2 && number.parse::<u32>().is_ok_and(|n| n > 0);
    assert!(is_place && file != "runtime/logs.rs", "{}", line.text);
}

/// Compares a line of ours with etcd's of the same message; returns the fields of etcd's that it lacks.
fn check_fields<'a>(etcds: &'a Line, ours: &Line) -> Vec<&'a str> {
    assert_eq!(etcds.text_of("level"), ours.text_of("level"), "{}", ours.text);
    let shared: Vec<&str> = etcds.fields.keys().map(String::as_str).collect();
    let (shared, absent): (Vec<&str>, Vec<&str>) = shared.iter().partition(|name| ours.fields.contains_key(**name));
    let kind = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    };
    for name in &shared {
        let kinds = (kind(&etcds.fields[*name]), kind(&ours.fields[*name]));
        assert_eq!(kinds.0, kinds.1, "{name} in {}", ours.text);
    }
    let order = |of: &Line| {
        let mut names = shared.clone();
        names.sort_by_key(|name| of.place(name));
        names.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(order(etcds), order(ours), "{}", ours.text);
    absent
}

#[test]
fn a_program_that_reads_etcds_log_can_read_ours() {
    let etcd = logged(Kind::Etcd);
    let etcds = by_message(&etcd);
    for kind in [Kind::QuoinTokio, Kind::QuoinSmol] {
        let log = logged(kind);
        log.iter().for_each(check_form);
        let ours = by_message(&log);
        for message in WANTED {
            assert!(ours.contains_key(message), "{}: {message:?} is not logged", kind.name());
        }
        for end in ["became leader at term 2", "at term 2"] {
            assert!(
                ours.keys().any(|message| message.contains(end)),
                "{}: {end}",
                kind.name()
            );
        }
        let mut lacking = Vec::new();
        for (message, line) in &ours {
            let Some(etcds) = etcds.get(message).filter(|_| *message != CONFIGURATION) else {
                continue;
            };
            let absent = check_fields(etcds, line);
            lacking.extend(absent.into_iter().map(|name| (*message, name)));
        }
        for (message, name) in &lacking {
            let is_listed = ABSENT.iter().any(|(of, field, _)| (of, field) == (message, name));
            assert!(is_listed, "{}: {message:?} has no {name}", kind.name());
        }
        for (message, name, reason) in &ABSENT {
            let is_needed = lacking.contains(&(message, name));
            assert!(is_needed, "{}: {message:?} has {name} ({reason})", kind.name());
        }
    }
}

/// etcd 3.5 has no flag for the second of these durations.
#[test]
fn slow_requests_are_logged() {
    for kind in [Kind::QuoinTokio, Kind::QuoinSmol] {
        let server = Launch::of(kind)
            .map(|launch| launch.flag("--warning-apply-duration=1ns"))
            .map(|launch| launch.flag("--warning-unary-request-duration=1ns"))
            .and_then(Launch::start)
            .expect("a server");
        let mut wanted = Vec::new();
        for (method, body) in [("Put", "{\"key\":\"YQ==\"}"), ("Range", "{\"key\":\"YQ==\"}")] {
            let path = format!("/v3/kv/{}", method.to_ascii_lowercase());
            server.post(&path, body).expect("an answer");
            wanted.push(format!("\"response type\":\"/etcdserverpb.KV/{method}\""));
        }
        let log = server.log();
        for wanted in wanted {
            let line = log.lines().find(|line| line.contains(&wanted));
            let line = line.unwrap_or_else(|| panic!("{}: no line has {wanted} in\n{log}", kind.name()));
            for part in ["\"level\":\"warn\"", "\"msg\":\"request stats\"", "\"time spent\":\""] {
                assert!(line.contains(part), "{}: {line}", kind.name());
            }
        }
        let applied = log.matches("\"msg\":\"apply request took too long\"").count();
        assert!(applied >= 2, "{}: {log}", kind.name());
    }
}
