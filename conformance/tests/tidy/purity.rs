//! Core does no I/O: none of the names for it is in its sources, and a program that steps a member makes no system call
//! except for memory.

use std::collections::BTreeMap;
use std::time::Duration;

use quoin_conformance::sweep::strace::Strace;
use quoin_conformance::{binaries, command, paths};

use super::{assert_none, is_test, sources};

/// Names that would break core's purity, searched for in its sources.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "std::os",
    "std::io",
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
    "dbg!",
];

/// System calls by which a program gets and returns memory.
const MEMORY_CALLS: [&str; 6] = ["brk", "madvise", "mmap", "mprotect", "mremap", "munmap"];
/// A system call of another crate, how often it may occur in a trace, and why it is allowed.
const EXCEPTION: (&str, usize, &str) = (
    "getrandom",
    2,
    "the raft crate seeds a generator once, for election timeouts; the member overwrites every one of them",
);
/// The traced examples: a member stepped by hand, and three with their watchers through a long run. Each writes a mark
/// before and after the steps.
const EXAMPLES: [&str; 2] = ["steps", "story"];
const MARKS: [&str; 2] = ["stepping", "stepped"];
const TRACE_LIMIT: Duration = Duration::from_mins(2);

#[test]
fn core_reaches_nothing_outside() {
    let mut breaches = Vec::new();
    for (path, text) in sources()
        .iter()
        .filter(|(path, _)| path.starts_with("core/src/") && !is_test(path))
    {
        for (number, line) in product_lines(text) {
            let words = IMPURE.iter().filter(|word| has_word(line, word));
            breaches.extend(words.map(|word| format!("{path}:{number}: {word}")));
        }
    }
    assert_none(
        "core has no file, socket, clock, thread, environment, hash map or executor",
        &breaches,
    );
}

/// The model checks core, and `conformance` checks the programs, so neither may share more with core than the messages.
#[test]
fn model_and_conformance_take_only_messages_from_core() {
    let mut breaches = Vec::new();
    for (path, text) in sources()
        .iter()
        .filter(|(path, _)| {
            ["model/src/", "conformance/src/"]
                .iter()
                .any(|room| path.starts_with(room))
        })
        .filter(|(path, _)| !is_test(path))
    {
        for (number, line) in product_lines(text) {
            let parts = line.split("quoin_core::").skip(1);
            let others = parts.filter(|part| !part.starts_with("proto"));
            breaches.extend(others.map(|part| format!("{path}:{number}: quoin_core::{part}")));
        }
    }
    assert_none("model and conformance take only messages from core", &breaches);
}

/// Whether a word stands alone in a line: `rand::` does not in `operand::`.
fn has_word(line: &str, word: &str) -> bool {
    let mut rest = line;
    while let Some(at) = rest.find(word) {
        let before = rest[..at].chars().next_back();
        if !before.is_some_and(|char| char.is_alphanumeric() || char == '_') {
            return true;
        }
        rest = &rest[at + word.len()..];
    }
    false
}

/// The lines of formatted source that are compiled into the product, with their numbers and without comments. Items
/// under `#[cfg(test)]` are left out, wherever they are.
pub(super) fn product_lines(text: &str) -> Vec<(usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut product = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        if lines[at].trim() == "#[cfg(test)]" {
            at = item_end(&lines, at) + 1;
        } else {
            product.push((at + 1, without_comment(lines[at])));
            at += 1;
        }
    }
    product
}

/// The last line of the item after an attribute: rustfmt closes an item at the indentation where it opened.
fn item_end(lines: &[&str], attribute: usize) -> usize {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let depth = indent(lines[attribute]);
    let is_no_item = |line: &str| line.trim_start().starts_with("#[") || line.trim_start().starts_with("//");
    let mut at = attribute + 1;
    while at < lines.len() && is_no_item(lines[at]) {
        at += 1;
    }
    let begun = at;
    while at < lines.len() {
        let (line, is_first) = (lines[at].trim_end(), at == begun);
        let closes = line.ends_with(['}', ';', ',']) && indent(line) == depth;
        let is_whole = is_first && !line.ends_with(['{', '(', '[']);
        if closes && (is_whole || line.trim_start().starts_with(['}', ')', ']'])) {
            return at;
        }
        at += 1;
    }
    lines.len()
}

/// A line up to its comment; two slashes inside quotation marks begin no comment.
fn without_comment(line: &str) -> &str {
    let comments = line.match_indices("//").map(|(at, _)| at);
    let mut outside = comments.filter(|at| line[..*at].matches('"').count().is_multiple_of(2));
    outside.next().map_or(line, |at| &line[..at])
}

#[test]
fn items_for_tests_are_left_out_and_what_follows_them_is_not() {
    let text = "\
use a; // std::fs
#[cfg(test)]
mod world;
let b = \"http://std::fs\";
#[cfg(test)]
#[derive(Debug)]
struct C {
    d: std::fs::File,
}
struct E {
    #[cfg(test)]
    f: G,
    h: I,
}
#[cfg(test)]
use j::{
    K,
};
#[cfg(test)]
mod tests {
    fn l() {
    }
}
fn m() {}
";
    let left: Vec<(usize, &str)> = product_lines(text);
    let expected = [
        (1, "use a; "),
        (4, "let b = \"http://std::fs\";"),
        (10, "struct E {"),
        (13, "    h: I,"),
        (14, "}"),
        (24, "fn m() {}"),
    ];
    assert_eq!(left, expected);
    assert!(has_word("x(rand::random())", "rand::") && !has_word("operand::new()", "rand::"));
}

#[test]
fn stepping_members_makes_no_system_call_but_for_memory() {
    for example in EXAMPLES {
        only_memory_is_called_for(example);
    }
}

fn only_memory_is_called_for(example: &str) {
    let program = binaries::example("core", example).expect("core's example builds");
    let folder = paths::fresh(example).expect("a folder");
    let trace = folder.join("trace");
    let mut strace = Strace::find().expect("a strace").command();
    strace
        .args(["-f", "-qq", "-s", "32", "-o"])
        .arg(&trace)
        .arg("--")
        .arg(program);
    let done = command::run(&mut strace, b"", TRACE_LIMIT).expect("the example runs under strace");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let traced = std::fs::read_to_string(&trace).expect("strace wrote what it saw");
    std::fs::remove_dir_all(folder).expect("the folder goes");
    let calls = calls_between(&traced, MARKS);
    let is_allowed = |call: &str, times: usize| {
        let (excepted, times_max, _) = EXCEPTION;
        MEMORY_CALLS.contains(&call) || call == excepted && times <= times_max
    };
    let others: Vec<_> = calls
        .iter()
        .filter(|(call, times)| !is_allowed(call, **times))
        .collect();
    assert!(others.is_empty(), "{example}: core makes system calls: {others:?}");
    // An empty trace would prove nothing: the program's memory must grow while it steps.
    assert!(!calls.is_empty(), "{traced}");
}

/// How often each system call was made after one mark was written and before the other.
fn calls_between(trace: &str, marks: [&str; 2]) -> BTreeMap<String, usize> {
    let mut calls = BTreeMap::new();
    let is_mark = |line: &str, mark: &str| line.contains(" write(1") && line.contains(mark);
    let begun = trace.lines().skip_while(|line| !is_mark(line, marks[0])).skip(1);
    let mut ended = false;
    for line in begun {
        if is_mark(line, marks[1]) {
            ended = true;
            break;
        }
        // A thread's number, the call, its arguments.
        let call = line.split_whitespace().nth(1).unwrap_or_default();
        let name = call.split('(').next().unwrap_or_default();
        *calls.entry(name.to_owned()).or_default() += 1;
    }
    assert!(ended, "the example did not write its marks:\n{trace}");
    calls
}

#[test]
fn calls_are_counted_between_the_marks() {
    let trace = "7 open(1) = 1\n7 write(1, \"stepping\\n\", 9) = 9\n7 mmap(NULL) = 1\n7 mmap(NULL) = 1\n7 getrandom(1) = 1\n\
                 7 write(1, \"stepped 9\\n\", 10) = 10\n7 close(1) = 0\n";
    let calls: Vec<_> = calls_between(trace, MARKS).into_iter().collect();
    assert_eq!(calls, [("getrandom".to_owned(), 1), ("mmap".to_owned(), 2)]);
}
