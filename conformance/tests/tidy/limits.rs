//! Product code reads every limit: a constant that no code reads limits nothing.

use std::fs;

use super::{assert_none, is_test, root, sources};

const LIMITS: &str = "core/src/limits.rs";

/// Limits that no product code outside their file reads, each with the reason. A limit that is read must not be in this
/// list.
const UNUSED: [(&str, &str); 4] = [
    ("CANCELLED_CALL_BYTES", SUM),
    ("MAX_SNAPSHOT_FILES", FLAG),
    ("MAX_WAL_FILES", FLAG),
    ("OTHER_DESCRIPTORS", SUM),
];
const SUM: &str = "a part of other limits, which an assert in their file adds up";
const FLAG: &str = "the default is text in the table of flags; a test of the configuration compares the two";

#[test]
fn every_limit_is_read_or_listed_with_a_reason() {
    let text = fs::read_to_string(root().join(LIMITS)).expect("there are limits");
    let limits: Vec<&str> = text.lines().filter_map(declared).collect();
    assert!(limits.len() > 30, "{limits:?}");
    let product: Vec<(String, String)> = sources()
        .into_iter()
        .filter(|(path, _)| {
            ["core/", "runtime/", "runtime-smol/", "runtime-tokio/"]
                .iter()
                .any(|room| path.starts_with(room))
        })
        .filter(|(path, _)| path != LIMITS && !is_test(path))
        .collect();
    let is_used = |limit: &str| product.iter().any(|(_, text)| has_name(text, limit));
    let waits = |limit: &str| UNUSED.iter().any(|(name, _)| *name == limit);
    let idle: Vec<_> = limits
        .iter()
        .filter(|limit| !is_used(limit) && !waits(limit))
        .map(|limit| format!("{LIMITS}: {limit}"))
        .collect();
    assert_none("every limit is read by product code", &idle);
    let stale: Vec<_> = UNUSED
        .iter()
        .filter(|(name, reason)| !limits.contains(name) || is_used(name) || reason.is_empty())
        .map(|(name, _)| (*name).to_owned())
        .collect();
    assert_none(
        "the list UNUSED has only limits that no code reads, each with a reason",
        &stale,
    );
}

/// The name of the constant that a line declares.
fn declared(line: &str) -> Option<&str> {
    line.strip_prefix("pub const ")?.split_once(':').map(|(name, _)| name)
}

/// Whether a name occurs in code, outside of comments and not as part of a longer name.
fn has_name(text: &str, name: &str) -> bool {
    let is_part = |char: char| char.is_ascii_alphanumeric() || char == '_';
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .any(|line| {
            let found = line.match_indices(name);
            let mut whole = found.filter(|(at, _)| {
                let before = line[..*at].chars().next_back();
                let after = line[at + name.len()..].chars().next();
                !before.is_some_and(is_part) && !after.is_some_and(is_part)
            });
            whole.next().is_some()
        })
}

#[test]
fn a_name_counts_only_by_itself_and_outside_comments() {
    assert_eq!(declared("pub const MAX_WALS: usize = 5;"), Some("MAX_WALS"));
    assert_eq!(declared("const _: () = {"), None);
    assert!(has_name("let a = limits::MAX_WALS;", "MAX_WALS"));
    assert!(!has_name("let a = MAX_WALS_KEPT;\n// MAX_WALS", "MAX_WALS"));
}
