//! Which crates may link which: README's diagram has the allowed edges, `core-crates.txt` the crates of core.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::{assert_none, cargo, root};

/// Every crate that core's library may link, directly or not.
const CORE_CRATES: &str = include_str!("core-crates.txt");

/// The crates in README's diagram, by their names there.
const ROOMS: [(&str, &str); 9] = [
    ("benches", "quoin-benches"),
    ("conformance", "quoin-conformance"),
    ("core", "quoin-core"),
    ("model", "quoin-model"),
    ("runtime", "quoin-runtime"),
    ("sim", "quoin-runtime-sim"),
    ("smol", "quoin-runtime-smol"),
    ("tokio", "quoin-runtime-tokio"),
    ("tools", "quoin-tools"),
];

/// Features of the tokio crate that would make it an executor; the smol binary may link none of them.
const TOKIO_EXECUTOR_FEATURES: &[&str] = &["fs", "net", "process", "rt", "rt-multi-thread", "signal", "time"];

type Edges = BTreeSet<(String, String)>;

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
fn readme_shows_every_edge_between_rooms_and_no_other() {
    let readme = fs::read_to_string(root().join("README.md")).expect("there is a README");
    let (shown, real) = (diagram(&readme), dependencies());
    let words = |(from, to): &(String, String)| format!("{from} --> {to}");
    let missing: Vec<_> = real.difference(&shown).map(words).collect();
    assert_none("README's diagram has every edge that Cargo.toml files have", &missing);
    let stale: Vec<_> = shown.difference(&real).map(words).collect();
    assert_none("README's diagram has no edge that Cargo.toml files do not have", &stale);
}

/// These edges are written here too, so that a new line in the diagram does not allow another one.
#[test]
fn rooms_depend_on_no_more_than_they_should() {
    let edges = dependencies();
    let of = |room: &str| -> Vec<String> {
        let of_it = edges.iter().filter(|(from, _)| from == room);
        of_it.map(|(_, to)| to.clone()).collect()
    };
    assert_eq!(of("core"), [""; 0]);
    assert_eq!(of("model"), ["core"]);
    assert_eq!(of("runtime"), ["core"]);
    assert_eq!(of("conformance"), ["core", "model", "tools"]);
    assert_eq!(of("tokio"), ["core", "runtime"]);
    assert_eq!(of("smol"), ["core", "runtime"]);
    assert_eq!(of("tools"), [""; 0]);
}

/// The dependencies of the first diagram of a page: its solid arrows.
fn diagram(page: &str) -> Edges {
    let begun = page.split("```mermaid").nth(1).expect("there is a diagram");
    let lines = begun.split("```").next().unwrap_or_default().lines();
    let name = |node: &str| node.trim().split('[').next().unwrap_or_default().trim().to_owned();
    let edge = |line: &str| line.split_once("-->").map(|(from, to)| (name(from), name(to)));
    lines.filter_map(edge).collect()
}

/// The dependencies of each crate, without those of tests.
fn dependencies() -> Edges {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps"])).expect("it is JSON");
    let room = |package: &Value| {
        let name = package["name"].as_str().expect("a name");
        ROOMS
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(room, _)| (*room).to_owned())
    };
    let mut edges = Edges::new();
    for package in metadata["packages"].as_array().expect("a list") {
        let name = package["name"].as_str().expect("a name");
        let Some(from) = room(package) else {
            assert!(!name.starts_with("quoin-"), "README's diagram lacks {name}");
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("a list") {
            if let Some(to) = room(dependency).filter(|_| dependency["kind"].is_null()) {
                edges.insert((from.clone(), to));
            }
        }
    }
    edges
}

#[test]
fn solid_arrows_of_a_diagram_are_edges() {
    let page = "a\n```mermaid\nflowchart TD\n  a[\"A: b --\"]\n  a[\"x\"] --> b\n  b -. starts .-> c\n```\nd --> e\n";
    assert_eq!(diagram(page), Edges::from([("a".to_owned(), "b".to_owned())]));
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
