//! Sizes of files and functions. What is large already is counted, and the count may only fall.

use super::{assert_none, is_test, sources};

/// Lines a file may have.
const FILE_LINES_MAX: usize = 800;
/// Lines a function may have, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 100;

/// Lines that a file should have at most; tests are left out here and below.
const FILE_LINES_WANTED: usize = 500;
/// How many have more.
const LONG_FILES: usize = 12;
/// Lines that a function should have at most.
const FUNCTION_LINES_WANTED: usize = 70;
/// How many have more.
const LONG_FUNCTIONS: usize = 14;

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
        let is_one_line = line.ends_with('}');
        let closing = format!("{}}}", " ".repeat(indent));
        let end = lines[start..].iter().position(|line| {
            is_one_line
                || *line == closing
                || line.ends_with(';') && line.len() > indent && line.find(|c| c != ' ') == Some(indent)
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
    assert_eq!(lengths, [("long".to_owned(), 3), ("short".to_owned(), 1)]);
}

#[test]
fn no_more_files_and_functions_become_long() {
    let (mut files, mut functions) = (Vec::new(), Vec::new());
    for (path, text) in sources() {
        if is_test(&path) {
            continue;
        }
        let lines = text.lines().count();
        if lines > FILE_LINES_WANTED {
            files.push(format!("{path}: {lines} lines"));
        }
        let long = function_lengths(&text)
            .into_iter()
            .filter(|(_, _, length)| *length > FUNCTION_LINES_WANTED);
        functions.extend(long.map(|(line, name, length)| format!("{path}:{line}: {name} has {length} lines")));
    }
    for (name, long, counted) in [
        ("LONG_FILES", files, LONG_FILES),
        ("LONG_FUNCTIONS", functions, LONG_FUNCTIONS),
    ] {
        let (count, list) = (long.len(), long.join("\n  "));
        assert!(
            count <= counted,
            "{count} are long, {counted} were; make shorter what became long:\n  {list}"
        );
        assert!(count >= counted, "fewer are long now: set {name} to {count}");
    }
}
