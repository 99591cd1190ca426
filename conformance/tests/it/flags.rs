//! Checks the effects in the table of flags against the code: product code reads the field of `Config` of each flag
//! with an effect, and of no flag without one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use quoin_conformance::binaries::Profile;
use quoin_conformance::{Kind, command, paths};
use quoin_core::config::flag::Disposition;
use quoin_core::config::table::FLAGS;

const LIMIT: Duration = Duration::from_secs(30);

/// Flags whose field has another name.
const OTHER_FIELDS: &[(&str, &str)] = &[
    ("auto-compaction-mode", "auto_compaction"),
    ("auto-compaction-retention", "auto_compaction"),
    ("auto-tls", "tls.clients"),
    ("cert-file", "tls.clients"),
    ("cipher-suites", "tls"),
    ("client-cert-allowed-hostname", "tls.clients"),
    ("client-cert-auth", "tls.clients"),
    ("client-cert-file", "tls.clients"),
    ("client-crl-file", "tls.clients"),
    ("client-key-file", "tls.clients"),
    ("election-timeout", "election_ms"),
    ("enable-log-rotation", "log"),
    ("grpc-keepalive-interval", "grpc_keepalive"),
    ("grpc-keepalive-timeout", "grpc_keepalive"),
    ("heartbeat-interval", "heartbeat_ms"),
    ("initial-advertise-peer-urls", "advertise_peer_urls"),
    ("key-file", "tls.clients"),
    ("log-format", "log"),
    ("log-level", "log"),
    ("log-outputs", "log"),
    ("log-rotation-config-json", "log"),
    ("metrics", "extensive_metrics"),
    ("peer-auto-tls", "tls.peers"),
    ("peer-cert-allowed-cn", "tls.peers"),
    ("peer-cert-allowed-hostname", "tls.peers"),
    ("peer-cert-file", "tls.peers"),
    ("peer-client-cert-auth", "tls.peers"),
    ("peer-client-cert-file", "tls.peers"),
    ("peer-client-key-file", "tls.peers"),
    ("peer-crl-file", "tls.peers"),
    ("peer-key-file", "tls.peers"),
    ("peer-skip-client-san-verification", "tls.peers"),
    ("peer-trusted-ca-file", "tls.peers"),
    ("self-signed-cert-validity", "tls"),
    ("tls-max-version", "tls"),
    ("tls-min-version", "tls"),
    ("trusted-ca-file", "tls.clients"),
];

/// Flags that only determine how the configuration is read.
const OF_READING: &[&str] = &[
    "auth-token",
    "check-config",
    "config-file",
    "debug",
    "logger",
    "version",
];

/// Product sources outside of the configuration, without tests.
fn readers() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate stands in the workspace");
    let mut texts = Vec::new();
    let mut folders: Vec<PathBuf> = ["core/src", "runtime/src", "runtime-tokio/src", "runtime-smol/src"]
        .map(|folder| root.join(folder))
        .into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the tree can be listed") {
            let path = entry.expect("a folder of the tree can be listed").path();
            let skipped = path.ends_with("core/src/config") || path.ends_with("tests") || path.ends_with("tests.rs");
            if path.is_dir() && !skipped {
                folders.push(path);
            } else if !skipped && path.extension().is_some_and(|end| end == "rs") {
                texts.push(fs::read_to_string(&path).expect("a source file is text"));
            }
        }
    }
    // This file derives the machines' settings from the configuration, so it reads fields like other product code.
    let machines = fs::read_to_string(root.join("core/src/config/machines.rs")).expect("a source file is text");
    texts.push(machines.replace("self.", "config."));
    texts
}

/// `config.field`, and not a longer name.
fn reads(text: &str, field: &str) -> bool {
    let read = format!("config.{field}");
    // rustfmt may break the line before the field.
    let text = text.split_whitespace().collect::<String>();
    text.match_indices(&read)
        .any(|(at, _)| !text[at + read.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
}

#[test]
fn a_flag_has_the_effect_that_its_row_states() {
    let readers = readers();
    let mut breaches = Vec::new();
    for flag in FLAGS.iter().filter(|flag| !OF_READING.contains(&flag.name)) {
        let other = OTHER_FIELDS.iter().find(|(name, _)| *name == flag.name);
        let field = other.map_or_else(|| flag.name.replace('-', "_"), |(_, field)| (*field).to_owned());
        let is_read = readers.iter().any(|text| reads(text, &field));
        let breach = match flag.disposition {
            Disposition::Used if !is_read => "has an effect by the table, but no code reads its field",
            Disposition::Accepted(why) if is_read && why.contains("has no effect") => {
                "has no effect by the table, but code reads its field"
            }
            _ => continue,
        };
        breaches.push(format!("--{} {breach}", flag.name));
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

/// A program only prints what it found, and its exit code tells whether a start would be refused.
#[test]
fn a_configuration_is_checked_without_a_start() {
    let program = Kind::QuoinTokio.program(Profile::Dev).expect("a program");
    let folder = paths::fresh("checked").expect("a folder");
    let file = folder.join("quoin.yml");
    let check = |text: &str| {
        fs::write(&file, text).expect("written");
        let mut command = Command::new(&program);
        command
            .arg("--check-config")
            .arg("--config-file")
            .arg(&file)
            .current_dir(&folder);
        command::run(&mut command, b"", LIMIT).expect("an end")
    };
    let right = check("name: one\nheartbeat-interval: 50\n");
    assert_eq!(right.code, Some(0), "{}", right.stderr);
    for line in ["--name=one\n", "--heartbeat-interval=50\n", "--data-dir=one.etcd\n"] {
        assert!(right.stdout.contains(line), "{}", right.stdout);
    }
    let wrong = check("log-level: loud\ntls-min-version: x\nclient-transport-security:\n  cert-file: /no/such/file\n");
    assert_eq!(wrong.code, Some(1));
    for words in [
        "error: unrecognized level: \"loud\"\n",
        "error: unexpected TLS version \"x\"",
        "error: --cert-file: cannot open /no/such/file: No such file",
    ] {
        assert!(wrong.stderr.contains(words), "{}", wrong.stderr);
    }
    assert!(!folder.join("one.etcd").exists(), "nothing was started");
    fs::remove_dir_all(&folder).expect("removed");
}
