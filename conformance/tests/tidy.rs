//! The rules of the house that a compiler does not check: purity of core, allowed edges between rooms, sizes
//! of files and functions, a header on every file. Each rule names the place that breaks it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Lines a file may have.
const FILE_LINES_MAX: usize = 800;
/// Lines a function may have, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 100;

/// Edges between rooms that may exist (design: rooms). Anything may use nothing else of ours.
const EDGES: &[(&str, &[&str])] = &[
    (
        "quoin-benches",
        &[
            "quoin-conformance",
            "quoin-core",
            "quoin-runtime",
            "quoin-runtime-smol",
            "quoin-runtime-tokio",
            "quoin-runtime-sim",
        ],
    ),
    // The messages of the API, and the reference model and checkers of the simulator: nothing of a member.
    ("quoin-conformance", &["quoin-core", "quoin-runtime-sim"]),
    ("quoin-core", &[]),
    ("quoin-runtime", &["quoin-core"]),
    ("quoin-runtime-sim", &["quoin-core", "quoin-runtime"]),
    ("quoin-runtime-smol", &["quoin-core", "quoin-runtime"]),
    ("quoin-runtime-tokio", &["quoin-core", "quoin-runtime"]),
];

/// Every crate that core's library may link, directly or not.
const CORE_CRATES: &str = include_str!("core-crates.txt");

/// Ways out of core's purity, searched for in its sources.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "std::os",
    "Instant::now",
    "SystemTime",
    "std::time::Instant",
    "HashMap",
    "HashSet",
    "RandomState",
    "thread_local!",
    "getrandom",
    "rand::",
    "tokio",
    "smol",
    "async_std",
    "println!",
    "eprintln!",
];

/// Features of the tokio crate that would make it an executor; the smol binary may link none of them.
const TOKIO_EXECUTOR_FEATURES: &[&str] = &["fs", "net", "process", "rt", "rt-multi-thread", "signal", "time"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate stands in the workspace")
        .to_owned()
}

/// Rust files of the workspace as (path from the root, text), without build outputs.
fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a folder of the tree can be listed") {
            let path = entry.expect("a folder of the tree can be listed").path();
            let name = path
                .file_name()
                .expect("an entry has a name")
                .to_string_lossy()
                .into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                walk(&path, found);
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    let root = root();
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a source file is text");
            (
                path.strip_prefix(&root)
                    .expect("every file is under the root")
                    .to_string_lossy()
                    .into_owned(),
                text,
            )
        })
        .collect()
}

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("cargo and git print text")
}

fn assert_none(rule: &str, breaches: &[String]) {
    assert!(breaches.is_empty(), "{rule}:\n  {}", breaches.join("\n  "));
}

#[test]
fn every_file_says_what_it_is_for() {
    let breaches: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| path)
        .collect();
    assert_none("a file opens with a line `//! ...` that says what it is for", &breaches);
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let breaches: Vec<_> = sources()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines >= FILE_LINES_MAX)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    assert_none(&format!("a file has fewer than {FILE_LINES_MAX} lines"), &breaches);
}

#[test]
fn functions_fit_a_screen() {
    let mut breaches = Vec::new();
    for (path, text) in sources() {
        for (line, name, length) in function_lengths(&text) {
            if length >= FUNCTION_LINES_MAX {
                breaches.push(format!("{path}:{line}: {name} has {length} lines"));
            }
        }
    }
    assert_none(
        &format!("a function has fewer than {FUNCTION_LINES_MAX} lines"),
        &breaches,
    );
}

/// Functions of formatted source as (line, name, lines): rustfmt closes a function at the indentation it opened.
fn function_lengths(text: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut functions = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let Some(at) = code.find("fn ") else { continue };
        let is_item = code[..at]
            .split_whitespace()
            .all(|word| matches!(word, "pub" | "const" | "async" | "extern" | "unsafe") || word.starts_with("pub("));
        if code.starts_with("//") || !is_item {
            continue;
        }
        let closing = format!("{}}}", " ".repeat(indent));
        let end = lines[start..].iter().position(|line| {
            *line == closing || line.ends_with(';') && line.len() > indent && line.find(|c| c != ' ') == Some(indent)
        });
        let name = code[at + 3..].split(['(', '<']).next().unwrap_or_default();
        functions.push((start + 1, name.to_owned(), end.map_or(1, |end| end + 1)));
    }
    functions
}

#[test]
fn the_length_of_a_function_is_counted_from_fn_to_brace() {
    let text = "impl A {\n    pub fn long(&self) {\n        a();\n    }\n}\n\nfn short() {}\n";
    let lengths: Vec<_> = function_lengths(text)
        .into_iter()
        .map(|(_, name, lines)| (name, lines))
        .collect();
    assert_eq!(lengths[0], ("long".to_owned(), 3));
}

/// Whether a file is compiled for tests only.
fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("tests.rs")
}

#[test]
fn core_reaches_nothing_outside() {
    let mut breaches = Vec::new();
    for (path, text) in sources()
        .iter()
        .filter(|(path, _)| path.starts_with("core/src/") && !is_test(path))
    {
        // Unit tests, at the end of a file or in files of their own, may use what they like.
        let code = text.split("#[cfg(test)]").next().unwrap_or(text);
        for (number, line) in code.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            breaches.extend(
                IMPURE
                    .iter()
                    .filter(|word| code.contains(**word))
                    .map(|word| format!("{path}:{}: {word}", number + 1)),
            );
        }
    }
    assert_none(
        "core has no file, socket, clock, thread, environment, hash map or executor",
        &breaches,
    );
}

#[test]
fn core_links_only_what_is_listed() {
    let allowed: BTreeSet<&str> = CORE_CRATES.lines().filter(|line| !line.starts_with('#')).collect();
    let tree = cargo(&[
        "tree",
        "-p",
        "quoin-core",
        "-e",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    let linked: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let breaches: Vec<_> = linked.difference(&allowed).map(|name| (*name).to_owned()).collect();
    assert_none("core links only crates listed in core-crates.txt", &breaches);
    let stale: Vec<_> = allowed.difference(&linked).map(|name| (*name).to_owned()).collect();
    assert_none("core-crates.txt lists only crates that core links", &stale);
}

#[test]
fn rooms_touch_only_along_allowed_edges() {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps"])).unwrap();
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let mut breaches = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let from = package["name"].as_str().unwrap();
        let ours = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|dependency| dependency["name"].as_str());
        for to in ours.filter(|name| name.starts_with("quoin-")) {
            // A test build may give a crate its own features.
            if from != to && !allowed.get(from).is_some_and(|edges| edges.contains(&to)) {
                breaches.push(format!("{from} -> {to}"));
            }
        }
    }
    assert_none("an edge between rooms is one of design's", &breaches);
}

#[test]
fn smol_links_no_tokio_executor() {
    let tree = cargo(&[
        "tree",
        "-p",
        "quoin-runtime-smol",
        "--features",
        "async-std",
        "-e",
        "normal,features",
        "--prefix",
        "none",
        "--format",
        "{p} {f}",
    ]);
    let breaches: Vec<_> = tree
        .lines()
        .filter(|line| line.starts_with("tokio v"))
        .flat_map(|line| line.split_whitespace().last().unwrap_or_default().split(','))
        .filter(|feature| TOKIO_EXECUTOR_FEATURES.contains(feature))
        .map(ToOwned::to_owned)
        .collect();
    assert_none("the smol binary enables no executor feature of tokio", &breaches);
}
