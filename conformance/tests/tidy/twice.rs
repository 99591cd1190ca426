//! Duplicated code: equal lines of logic in two rooms are one rule, which would drift apart.

use std::collections::BTreeMap;

use super::purity::product_lines;
use super::{assert_none, is_test, sources};

/// This many equal lines in a row count as one rule.
const EQUAL_LINES: usize = 12;

/// Where each host matches on the effects of the node. The simulator's `twin` starts a member a second time from its
/// disk, outside any cluster.
const HOSTS: [(&str, &str); 4] = [
    ("benches", "benches/benches/node.rs"),
    ("runtime", "runtime/src/drive.rs"),
    ("runtime-sim", "runtime-sim/src/cluster/effects.rs"),
    ("runtime-sim", "runtime-sim/src/cluster/twin.rs"),
];

#[test]
fn no_two_rooms_have_a_dozen_equal_lines_of_logic() {
    let sources = sources();
    let product = sources.iter().filter(|(path, _)| !is_test(path));
    assert_none("code that two rooms need is in one of them", &written_twice(product));
}

#[test]
fn each_host_matches_on_effects_once() {
    let is_match = |line: &str| line.trim_start().starts_with("Effect::") && line.contains("=>");
    let found: Vec<(String, String)> = sources()
        .into_iter()
        .filter(|(path, _)| !is_test(path) && !path.starts_with("core/"))
        .filter(|(_, text)| product_lines(text).iter().any(|(_, line)| is_match(line)))
        .map(|(path, _)| (path.split('/').next().unwrap_or_default().to_owned(), path))
        .collect();
    assert_eq!(found, HOSTS.map(|(room, path)| (room.to_owned(), path.to_owned())));
}

#[test]
fn a_copy_is_found_in_any_surroundings() {
    let lines: Vec<String> = (0..EQUAL_LINES)
        .map(|number| format!("let a{number} = {number};"))
        .collect();
    let copied = |indent: &str, count: usize| {
        let body: Vec<String> = lines[..count]
            .iter()
            .map(|line| format!("{indent}{line} // why\n\n"))
            .collect();
        format!("use a::b;\nfn f() {{\n{}}}\n", body.concat())
    };
    let pair = |first: (&str, String), second: (&str, String)| {
        let files = [first, second].map(|(path, text)| (path.to_owned(), text));
        written_twice(files.iter()).len()
    };
    let whole = EQUAL_LINES;
    assert_eq!(
        pair(
            ("core/src/a.rs", copied("", whole)),
            ("runtime/src/b.rs", copied("    ", whole))
        ),
        1
    );
    assert_eq!(
        pair(
            ("core/src/a.rs", copied("", whole)),
            ("core/src/b.rs", copied("", whole))
        ),
        0,
        "one room"
    );
    assert_eq!(
        pair(
            ("core/src/a.rs", copied("", whole)),
            ("runtime/src/b.rs", copied("", whole - 2))
        ),
        0,
        "short"
    );
}

/// The places at which two rooms have [`EQUAL_LINES`] of logic in common; for a longer copy, its first lines.
fn written_twice<'a>(files: impl Iterator<Item = &'a (String, String)>) -> Vec<String> {
    let mut first: BTreeMap<Vec<&str>, (&str, usize)> = BTreeMap::new();
    let mut copies: BTreeMap<(&str, &str), String> = BTreeMap::new();
    for (path, text) in files {
        let lines: Vec<(usize, &str)> = product_lines(text)
            .into_iter()
            .map(|(number, line)| (number, line.trim()))
            .filter(|(_, line)| is_logic(line))
            .collect();
        for window in lines.windows(EQUAL_LINES) {
            let number = window[0].0;
            let text = window.iter().map(|(_, line)| *line).collect();
            let (other, at) = *first.entry(text).or_insert((path, number));
            if room(other) != room(path) {
                let place = || format!("{other}:{at} and {path}:{number}");
                copies.entry((other, path)).or_insert_with(place);
            }
        }
    }
    copies.into_values().collect()
}

fn room(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

/// Whether a line is not only a bracket, an import or an attribute, which many files share.
fn is_logic(line: &str) -> bool {
    line.chars().any(char::is_alphanumeric) && !line.starts_with("use ") && !line.starts_with("#[")
}
