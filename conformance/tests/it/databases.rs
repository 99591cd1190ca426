//! Database files, checked with etcd itself: ours reads the files of a real etcd, and a real etcd reads, restores and
//! continues with the files of ours.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fs, io};

use quoin_conformance::{Kind, Launch, Server, binaries, command, fetch, wait};
use serde_json::Value;

/// The limit for one command on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
/// Transactions of [`fill`], and puts in each: enough for trees of three levels.
const TXNS: usize = 20;
const PUTS: usize = 1_000;
/// Lengths of large values in bytes: a little more than a page, many pages, and nearly the longest that etcd takes.
const LARGE_BYTES: [usize; 3] = [5_000, 100_000, 1_400_000];

fn etcd(flags: &[&str]) -> Server {
    let launch = Launch::of(Kind::Etcd).expect("a real etcd");
    let launch = flags.iter().fold(launch, |launch, flag| launch.flag(*flag));
    launch.start().expect("a healthy etcd")
}

fn succeeded(program: &mut Command, input: &[u8], what: &str) -> String {
    let finished = command::run(program, input, LIMIT).expect("a command ends");
    finished.success(what).expect("a command succeeds")
}

fn etcdctl(server: &Server, input: &[u8], arguments: &[&str]) -> String {
    let mut program = command::untouched(fetch::etcd().expect("a real etcdctl").etcdctl);
    program.args(["--endpoints", &server.address().to_string()]);
    succeeded(program.args(arguments), input, "etcdctl")
}

fn etcdutl(arguments: &[&str]) -> String {
    let etcdutl = fetch::etcd().expect("a real etcd").etcdutl;
    let mut program = command::untouched(etcdutl.expect("a package with etcdutl"));
    succeeded(program.args(arguments), b"", "etcdutl")
}

/// Runs the example `database` of the runtime, which reads a file and writes it anew. Returns its report.
fn rewritten(from: &Path, to: &Path) -> Value {
    let mut program = command::untouched(binaries::example("runtime", "database").expect("the example"));
    let said = succeeded(program.arg(from).arg(to), b"", "database");
    serde_json::from_str(&said).expect("it is JSON")
}

fn status(file: &Path) -> Value {
    let said = etcdutl(&["snapshot", "status", text(file), "-w", "json"]);
    serde_json::from_str(&said).expect("it is JSON")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

/// Makes rows of every kind that a sole member has: keys with history, deleted keys, large values, leases, and the
/// marks of a compaction.
fn fill(server: &Server) {
    for txn in 0..TXNS {
        let put = |number| format!("put key-{txn:02}-{number:04} {}\n", "v".repeat(number * 7 % 300 + 1));
        let puts: String = (0..PUTS).map(put).collect();
        etcdctl(server, format!("\n{puts}\n\n").as_bytes(), &["txn"]);
    }
    let granted = etcdctl(server, b"", &["lease", "grant", "100000"]);
    let lease = granted.split(' ').nth(1).expect("an id").to_owned();
    etcdctl(server, b"", &["put", "leased", "value", "--lease", &lease]);
    etcdctl(server, b"", &["del", "key-03", "--prefix"]);
    for (number, bytes) in LARGE_BYTES.iter().enumerate() {
        etcdctl(server, &vec![b'l'; *bytes], &["put", &format!("large-{number}")]);
    }
    compact(server, put(server, "last") - 10);
}

/// Puts a key; returns the revision.
fn put(server: &Server, key: &str) -> i64 {
    let said = etcdctl(server, b"", &["put", key, "value", "-w", "json"]);
    let said: Value = serde_json::from_str(&said).expect("it is JSON");
    said["header"]["revision"].as_i64().expect("a revision")
}

fn compact(server: &Server, revision: i64) {
    etcdctl(server, b"", &["compact", &revision.to_string(), "--physical"]);
}

/// Everything that clients can read from a server: all keys with their revisions, the hash of their history, and leases
/// with their keys.
#[derive(Debug, PartialEq)]
struct Seen {
    keys: Value,
    hash: Value,
    compact_revision: Value,
    leases: Vec<(String, Value)>,
}

fn see(server: &Server) -> Seen {
    let json = |arguments: &[&str]| -> Value {
        let said = etcdctl(server, b"", &[arguments, &["-w", "json"]].concat());
        serde_json::from_str(&said).expect("it is JSON")
    };
    let hash = json(&["endpoint", "hashkv"])[0]["HashKV"].take();
    let listed = etcdctl(server, b"", &["lease", "list"]);
    let leases = listed.lines().skip(1).map(|id| {
        let mut lease = json(&["lease", "timetolive", id, "--keys"]);
        (
            id.to_owned(),
            serde_json::json!([lease["granted-ttl"].take(), lease["keys"].take()]),
        )
    });
    let leases = leases.collect();
    Seen {
        keys: json(&["get", "", "--prefix"])["kvs"].take(),
        hash: hash["hash"].clone(),
        compact_revision: hash["compact_revision"].clone(),
        leases,
    }
}

/// Starts a real etcd on the state restored from a file.
fn restored(file: &Path, flags: &[&str]) -> Server {
    let mut server = etcd(&["--max-txn-ops=2000"]);
    restore(file, &mut server, flags);
    server.restart().expect("an etcd that starts");
    server
}

/// Makes bbolt change every tree of the file: it may fail on a form that it would never write itself.
fn goes_on(server: &mut Server) {
    etcdctl(server, b"", &["del", "key", "--prefix"]);
    fill(server);
    etcdctl(server, b"", &["del", "", "--prefix"]);
    compact(server, put(server, "last"));
    etcdctl(server, b"", &["defrag"]);
    server.terminate().expect("it stops");
    server.restart().expect("it starts again");
    assert_eq!(
        etcdctl(server, b"", &["get", "", "--prefix", "--print-value-only"]),
        "value\n"
    );
}

fn saved(server: &Server) -> PathBuf {
    let file = server.home().join("saved");
    etcdctl(server, b"", &["snapshot", "save", text(&file)]);
    file
}

#[test]
fn a_file_of_a_real_etcd_is_read_and_written_anew() {
    let mut server = etcd(&["--max-txn-ops=2000"]);
    fill(&server);
    let seen = see(&server);
    let (backup, copy) = (saved(&server), server.home().join("copy"));
    let read = rewritten(&backup, &copy);
    assert_eq!(
        (&read["hash"], &read["compact_revision"]),
        (&seen.hash, &seen.compact_revision)
    );
    assert_eq!(read["leases"], seen.leases.len());
    let (theirs, ours) = (status(&backup), status(&copy));
    assert_eq!(ours["revision"], theirs["revision"]);
    assert_eq!(ours["totalSize"], read["bytes"]);
    let mut after = restored(&copy, &["--skip-hash-check"]);
    assert_eq!(see(&after), seen);
    goes_on(&mut after);
    // Ours also reads the database files of the stopped etcds, with their free pages; one of them was written by ours
    // first.
    for server in [&mut server, &mut after] {
        let seen = see(server);
        server.terminate().expect("it stops");
        let database = server.data_dir().join("member").join("snap").join("db");
        let read = rewritten(&database, &server.home().join("copy of the database"));
        assert_eq!(
            (&read["hash"], &read["compact_revision"]),
            (&seen.hash, &seen.compact_revision)
        );
    }
}

#[test]
fn a_bumped_backup_is_read() {
    let mut server = etcd(&["--max-txn-ops=2000"]);
    fill(&server);
    let bumped = ["--bump-revision", "1000000", "--mark-compacted"];
    let mut after = restored(&saved(&server), &bumped);
    server.kill().expect("it runs");
    let revision = see(&after).compact_revision;
    after.terminate().expect("it stops");
    let database = after.data_dir().join("member").join("snap").join("db");
    let read = rewritten(&database, &after.home().join("copy"));
    assert_eq!(read["compact_revision"], revision);
}

#[test]
fn a_damaged_file_is_refused_with_the_page() {
    let server = etcd(&["--max-txn-ops=2000"]);
    fill(&server);
    let backup = saved(&server);
    let mut bytes = fs::read(&backup).expect("a file");
    let page = bytes.len() / 4_096 / 2 * 4_096;
    bytes[page..page + 4_096].fill(0);
    fs::write(&backup, bytes).expect("a file");
    let mut program = command::untouched(binaries::example("runtime", "database").expect("the example"));
    let finished = command::run(program.arg(&backup).arg(server.home().join("copy")), b"", LIMIT).expect("it ends");
    assert_ne!(finished.code, Some(0));
    assert!(
        finished.stderr.contains("its number is that of another page"),
        "{}",
        finished.stderr
    );
}

/// A real etcd's tools save, check and restore the backup that our server sends, and an etcd continues with it.
fn a_backup_is_restored_by_a_real_etcd(kind: Kind) {
    let launch = Launch::of(kind).expect("a program").flag("--max-txn-ops=2000");
    let server = launch.start().expect("it starts");
    fill(&server);
    let seen = see(&server);
    let backup = saved(&server);
    let bytes = fs::metadata(&backup).map(|of| of.len()).unwrap_or_default();
    assert_eq!(bytes % 512, 32, "whole pages, then a SHA-256");
    let status = status(&backup);
    assert_eq!(status["totalSize"], bytes - 32);
    let mut after = restored(&backup, &[]);
    assert_eq!(see(&after), seen, "{}", kind.name());
    goes_on(&mut after);
}

#[test]
fn a_backup_of_quoin_tokio_is_restored_by_a_real_etcd() {
    a_backup_is_restored_by_a_real_etcd(Kind::QuoinTokio);
}

#[test]
fn a_backup_of_quoin_smol_is_restored_by_a_real_etcd() {
    a_backup_is_restored_by_a_real_etcd(Kind::QuoinSmol);
}

/// If a client is killed in the middle of a backup, the server keeps nothing of it, and the next client gets the whole
/// file.
#[test]
fn a_backup_is_whole_after_an_earlier_one_was_interrupted() -> io::Result<()> {
    let launch = Launch::of(Kind::QuoinTokio)
        .expect("a program")
        .flag("--max-txn-ops=2000");
    let server = launch.start().expect("it starts");
    fill(&server);
    let mut program = command::untouched(fetch::etcd().expect("a real etcdctl").etcdctl);
    program.args(["--endpoints", &server.address().to_string(), "snapshot", "save"]);
    let mut child = program.arg(server.home().join("broken off")).spawn()?;
    let part = server.home().join("broken off.part");
    let has_begun = || (part.exists() || child.try_wait().is_ok_and(|ended| ended.is_some())).then_some(());
    wait::until(LIMIT, Duration::from_millis(1), has_begun).expect("etcdctl begins");
    child.kill()?;
    child.wait()?;
    status(&saved(&server));
    Ok(())
}

/// Stops a server, and makes its data directory anew from a file with etcdutl.
fn restore(file: &Path, server: &mut Server, flags: &[&str]) {
    server.terminate().expect("it stops");
    fs::remove_dir_all(server.data_dir()).expect("a directory");
    let peer = format!("http://{}", server.peer_address());
    let (data_dir, cluster) = (server.data_dir(), format!("judged={peer}"));
    let of_member = [
        "--name",
        "judged",
        "--initial-cluster",
        &cluster,
        "--initial-advertise-peer-urls",
        &peer,
    ];
    let arguments = [
        &["snapshot", "restore", text(file), "--data-dir", text(&data_dir)],
        &of_member[..],
        flags,
    ];
    etcdutl(&arguments.concat());
}

#[test]
fn ours_starts_on_a_directory_that_etcdutl_restored() {
    let real = etcd(&["--max-txn-ops=2000"]);
    fill(&real);
    let file = real.home().join("backup.db");
    etcdctl(&real, b"", &["snapshot", "save", text(&file)]);
    let seen = see(&real);
    for kind in [Kind::QuoinTokio, Kind::QuoinSmol] {
        let mut ours = Launch::of(kind).expect("a program").start().expect("a healthy server");
        restore(&file, &mut ours, &[]);
        ours.restart().expect("it starts on what was restored");
        assert!(ours.log().contains("the database that etcdutl restored is taken over"));
        assert_eq!(see(&ours), seen);
        put(&ours, "more");
        ours.kill().expect("it was running");
        ours.restart().expect("it starts again");
        etcdctl(&ours, b"", &["del", "more"]);
        assert_eq!(see(&ours).keys, seen.keys);
    }
}

/// Adds users and a role, enables auth, and saves a backup.
fn with_users(server: &Server) -> PathBuf {
    put(server, "key");
    for arguments in [
        &["user", "add", "root:secret"][..],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "reader"],
        &["role", "grant-permission", "reader", "read", "key"],
        &["user", "add", "ann:hidden"],
        &["user", "grant-role", "ann", "reader"],
        &["auth", "enable"],
    ] {
        etcdctl(server, b"", arguments);
    }
    let file = server.home().join("backup.db");
    etcdctl(server, b"", &["--user", "root:secret", "snapshot", "save", text(&file)]);
    file
}

/// Asserts that a server has what [`with_users`] made, and refuses what that does not permit.
fn has_users(server: &Server) {
    let root = |arguments: &[&str]| etcdctl(server, b"", &[&["--user", "root:secret"], arguments].concat());
    assert_eq!(root(&["user", "list"]), "ann\nroot\n");
    assert!(
        root(&["auth", "status"]).contains("AuthRevision: 7"),
        "{}",
        root(&["auth", "status"])
    );
    let role = root(&["role", "get", "reader"]);
    assert!(role.contains("KV Read:\n\tkey\n"), "{role}");
    let value = &["get", "key", "--print-value-only"];
    assert_eq!(
        etcdctl(server, b"", &[&["--user", "ann:hidden"], &value[..]].concat()),
        "value\n"
    );
    for arguments in [
        &["get", "key"][..],
        &["--user", "ann:secret", "get", "key"],
        &["--user", "ann:hidden", "put", "key", "x"],
        &["--user", "ann:hidden", "user", "list"],
    ] {
        let mut program = command::untouched(fetch::etcd().expect("a real etcdctl").etcdctl);
        program
            .args(["--endpoints", &server.address().to_string()])
            .args(arguments);
        let finished = command::run(&mut program, b"", LIMIT).expect("a command ends");
        assert_ne!(finished.code, Some(0), "{arguments:?}: {}", finished.stdout);
    }
}

#[test]
fn users_of_a_real_etcd_are_in_the_directory_that_ours_takes_over() {
    let mut real = etcd(&[]);
    let file = with_users(&real);
    has_users(&real);
    for kind in [Kind::QuoinTokio, Kind::QuoinSmol] {
        let mut ours = Launch::of(kind).expect("a program").start().expect("a healthy server");
        restore(&file, &mut ours, &[]);
        ours.restart().expect("it starts on what was restored");
        has_users(&ours);
        ours.kill().expect("it was running");
        ours.restart().expect("it starts again");
        has_users(&ours);
    }
    real.kill().expect("it was running");
}

#[test]
fn users_of_ours_are_in_the_directory_that_a_real_etcd_restores() {
    for kind in [Kind::QuoinTokio, Kind::QuoinSmol] {
        let mut ours = Launch::of(kind).expect("a program").start().expect("a healthy server");
        let file = with_users(&ours);
        has_users(&ours);
        ours.kill().expect("it was running");
        ours.restart().expect("it starts again, from its log and its table");
        has_users(&ours);
        has_users(&restored(&file, &[]));
    }
}
