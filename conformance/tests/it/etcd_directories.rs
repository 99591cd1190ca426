//! Directories of a real etcd are refused with a hint, and no byte in them changes: the etcd starts on them again.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quoin_conformance::{Kind, Launch, Server, command, fetch};

/// The limit for a refusal, which waits for nothing, on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
const WORDS: &str = "was written by etcd, whose data this version cannot take over; nothing was changed";

/// The state of a file without its access time: kind and permissions, owner, time of change, length and a hash of its
/// content.
type File = (u32, u32, i64, i64, usize, u64);

/// The state of every file and directory below these directories.
fn picture(directories: &[&Path]) -> BTreeMap<PathBuf, File> {
    let mut files = BTreeMap::new();
    let mut open: Vec<PathBuf> = directories.iter().map(|path| path.to_path_buf()).collect();
    while let Some(path) = open.pop() {
        let Ok(of) = fs::symlink_metadata(&path) else { continue };
        let content = if of.is_dir() {
            let entries = fs::read_dir(&path).expect("a directory can be listed");
            open.extend(entries.map(|entry| entry.expect("an entry").path()));
            Vec::new()
        } else {
            fs::read(&path).expect("a file can be read")
        };
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let seen = (
            of.mode(),
            of.uid(),
            of.mtime(),
            of.mtime_nsec(),
            content.len(),
            hasher.finish(),
        );
        files.insert(path, seen);
    }
    files
}

/// Checks that each of ours refuses the directories with these words, and changes no file.
fn refused_by_ours(data_dir: &Path, wal_dir: Option<&Path>, words: &[&str]) {
    let mut directories = vec![data_dir];
    directories.extend(wal_dir);
    let before = picture(&directories);
    for kind in Kind::OURS {
        let launch = Launch::of(kind).expect("a program");
        let mut program = command::untouched(launch.executable());
        program.arg("--data-dir").arg(data_dir);
        program.args([
            "--listen-client-urls=http://127.0.0.1:0",
            "--listen-peer-urls=http://127.0.0.1:0",
        ]);
        program.arg("--advertise-client-urls=http://127.0.0.1:0");
        if let Some(wal_dir) = wal_dir {
            program.arg("--wal-dir").arg(wal_dir);
        }
        let finished = command::run(&mut program, b"", LIMIT).expect("a refusal waits for nothing");
        assert_eq!(
            finished.code,
            Some(if words == [PROXY] { 2 } else { 1 }),
            "{}",
            finished.stderr
        );
        for word in words {
            assert!(finished.stderr.contains(word), "{}: {}", kind.name(), finished.stderr);
        }
        assert!(picture(&directories) == before, "{} changed something", kind.name());
    }
}

const PROXY: &str = "v2 http proxy has already been deprecated";

fn etcd(flags: &[&str]) -> Server {
    let launch = Launch::of(Kind::Etcd).expect("a real etcd");
    let launch = flags.iter().fold(launch, |launch, flag| launch.flag(*flag));
    launch.start().expect("a healthy etcd")
}

fn etcdctl(server: &Server, input: &[u8], arguments: &[&str]) -> String {
    let mut program = command::untouched(fetch::etcd().expect("a real etcdctl").etcdctl);
    program
        .args(["--endpoints", &server.address().to_string()])
        .args(arguments);
    let finished = command::run(&mut program, input, LIMIT).expect("etcdctl ends");
    finished.success("etcdctl").expect("etcdctl succeeds")
}

/// Checks that ours refuse the directory of a stopped etcd, and that the etcd then starts there again, with its data.
fn refused_then_started_again(mut server: Server, wal_dir: Option<&Path>) {
    let database = server.data_dir().join("member").join("snap").join("db");
    refused_by_ours(
        &server.data_dir(),
        wal_dir,
        &[WORDS, &database.display().to_string(), "make-mirror"],
    );
    server.restart().expect("the etcd starts again");
    assert_eq!(etcdctl(&server, b"", &["get", "kept", "--print-value-only"]), "value\n");
}

#[test]
fn a_directory_of_a_new_etcd() {
    let mut server = etcd(&[]);
    etcdctl(&server, b"value", &["put", "kept"]);
    server.terminate().expect("it stops");
    refused_then_started_again(server, None);
}

#[test]
fn a_directory_of_an_etcd_that_was_killed_or_still_runs() {
    let mut server = etcd(&[]);
    etcdctl(&server, b"value", &["put", "kept"]);
    server.kill().expect("it runs");
    let database = server.data_dir().join("member").join("snap").join("db");
    refused_then_started_again_running(&mut server, &database);
    refused_then_started_again(server, None);
}

/// Checks that ours refuses the directory of a running etcd too. That etcd may change files meanwhile, so they are not
/// compared.
fn refused_then_started_again_running(server: &mut Server, database: &Path) {
    server.restart().expect("the etcd starts again");
    let mut program = command::untouched(Launch::of(Kind::QuoinTokio).expect("a program").executable());
    program.arg("--data-dir").arg(server.data_dir());
    program.args([
        "--listen-client-urls=http://127.0.0.1:0",
        "--listen-peer-urls=http://127.0.0.1:0",
    ]);
    program.arg("--advertise-client-urls=http://127.0.0.1:0");
    let finished = command::run(&mut program, b"", LIMIT).expect("a refusal waits for nothing");
    assert!(
        finished.stderr.contains(&database.display().to_string()),
        "{}",
        finished.stderr
    );
    server.kill().expect("it runs");
}

#[test]
fn a_directory_with_auth() {
    let mut server = etcd(&[]);
    etcdctl(&server, b"value", &["put", "kept"]);
    etcdctl(&server, b"", &["user", "add", "root:secret"]);
    etcdctl(&server, b"", &["user", "grant-role", "root", "root"]);
    etcdctl(&server, b"", &["auth", "enable"]);
    server.terminate().expect("it stops");
    let data_dir = server.data_dir();
    refused_by_ours(&data_dir, None, &[WORDS]);
    server.restart().expect("the etcd starts again");
    let got = etcdctl(
        &server,
        b"",
        &["--user", "root:secret", "get", "kept", "--print-value-only"],
    );
    assert_eq!(got, "value\n");
}

#[test]
fn a_directory_whose_log_was_purged() {
    let mut server = etcd(&["--snapshot-count=10", "--max-request-bytes=2000000"]);
    etcdctl(&server, b"value", &["put", "kept"]);
    let large = vec![b'v'; 1_400_000];
    for number in 0..60 {
        etcdctl(&server, &large, &["put", &format!("k{}", number % 4)]);
    }
    server.terminate().expect("it stops");
    // etcd removes old segments every 30 seconds: here the oldest one, which a snapshot covers.
    let wal = server.data_dir().join("member").join("wal");
    let names = fs::read_dir(&wal)
        .expect("a log")
        .map(|entry| entry.expect("an entry").path());
    let mut segments: Vec<PathBuf> = names
        .filter(|path| path.extension().is_some_and(|end| end == "wal"))
        .collect();
    segments.sort();
    assert!(segments.len() > 1, "{segments:?}");
    fs::remove_file(&segments[0]).expect("a segment");
    refused_then_started_again(server, None);
}

#[test]
fn a_log_outside_the_data_directory() {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let wal_dir = elsewhere.path().join("wal");
    let mut server = etcd(&[&format!("--wal-dir={}", wal_dir.display())]);
    etcdctl(&server, b"value", &["put", "kept"]);
    server.terminate().expect("it stops");
    // With another data directory only the log shows that it is etcd's.
    let empty = elsewhere.path().join("data");
    let segment = wal_dir.join("0000000000000000-0000000000000000.wal");
    refused_by_ours(&empty, Some(&wal_dir), &[WORDS, &segment.display().to_string()]);
    assert!(!empty.exists());
    refused_then_started_again(server, Some(&wal_dir));
}

#[test]
fn a_directory_without_its_log_or_its_database() {
    let mut server = etcd(&[]);
    etcdctl(&server, b"value", &["put", "kept"]);
    server.terminate().expect("it stops");
    let member = server.data_dir().join("member");
    let (wal, database) = (member.join("wal"), member.join("snap").join("db"));
    let (wal_aside, database_aside) = (server.home().join("wal"), server.home().join("db"));
    fs::rename(&wal, &wal_aside).expect("a log");
    refused_by_ours(&server.data_dir(), None, &[WORDS, &database.display().to_string()]);
    fs::rename(&wal_aside, &wal).expect("a log");
    fs::rename(&database, &database_aside).expect("a database");
    refused_by_ours(&server.data_dir(), None, &[WORDS, ".wal"]);
    fs::rename(&database_aside, &database).expect("a database");
    refused_then_started_again(server, None);
}

#[test]
fn a_directory_of_a_v2_proxy() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("proxy")).expect("a directory");
    fs::write(folder.path().join("proxy").join("cluster"), b"{}").expect("a file");
    refused_by_ours(folder.path(), None, &[PROXY]);
}

/// Other files in the log's directory do not prevent a start, and stay there.
#[test]
fn a_log_directory_with_other_files() {
    for kind in Kind::OURS {
        let folder = tempfile::tempdir().expect("a folder");
        let wal_dir = folder.path().join("wal");
        fs::create_dir_all(wal_dir.join("lost+found")).expect("a directory");
        fs::write(wal_dir.join("0.tmp"), b"half a segment").expect("a file");
        let launch = Launch::of(kind).expect("a program");
        let launch = launch.flag(format!("--wal-dir={}", wal_dir.display()));
        let mut server = launch.start().expect("it starts");
        etcdctl(&server, b"value", &["put", "kept"]);
        server.kill().expect("it runs");
        server.restart().expect("it starts again");
        assert_eq!(etcdctl(&server, b"", &["get", "kept", "--print-value-only"]), "value\n");
        assert!(wal_dir.join("lost+found").is_dir());
    }
}
