//! Sizes of files and functions, and type names with more than one meaning. One table has today's figures, which may
//! only fall.

use std::collections::BTreeMap;

use super::purity::product_lines;
use super::{is_test, sources};

/// The most lines that a file should have; files of tests are left out.
const FILE_LINES_WANTED: usize = 500;
/// The most lines that a function should have, from `fn` to its closing brace; files of tests are left out.
const FUNCTION_LINES_WANTED: usize = 70;

/// What is measured, and today's figure. Change a figure only to a lower one.
const HELD: [(Measure, usize); 5] = [
    (Measure::LongestFile, 728),
    (Measure::LongestFunction, 98),
    (Measure::LongFiles, 11),
    (Measure::LongFunctions, 6),
    (Measure::SharedTypeNames, 74),
];

#[derive(Clone, Copy, Debug)]
enum Measure {
    /// Lines of the longest file, including tests.
    LongestFile,
    /// Lines of the longest function, including tests.
    LongestFunction,
    /// Files of more than [`FILE_LINES_WANTED`].
    LongFiles,
    /// Functions of more than [`FUNCTION_LINES_WANTED`].
    LongFunctions,
    /// Names that more than one type of a crate has.
    SharedTypeNames,
}

/// A figure, and the places that make it up.
type Measured = (usize, Vec<String>);

impl Measure {
    fn take(self, sources: &[(String, String)]) -> Measured {
        match self {
            Self::LongestFile => longest(file_lengths(sources)),
            Self::LongestFunction => longest(all_functions(sources)),
            Self::LongFiles => counted(file_lengths(product(sources)), FILE_LINES_WANTED),
            Self::LongFunctions => counted(all_functions(product(sources)), FUNCTION_LINES_WANTED),
            Self::SharedTypeNames => shared_type_names(sources),
        }
    }
}

#[test]
fn large_files_and_ambiguous_names_do_not_grow() {
    let sources = sources();
    let mut breaches = Vec::new();
    for (measure, held) in HELD {
        let (figure, places) = measure.take(&sources);
        let places = places.join("\n    ");
        if figure > held {
            breaches.push(format!(
                "{measure:?} is {figure} and was {held}; make it smaller:\n    {places}"
            ));
        } else if figure < held {
            breaches.push(format!("{measure:?} is lower now: write {figure} instead of {held}"));
        }
    }
    super::assert_none("the table HELD has today's figures, which only fall", &breaches);
}

fn product(sources: &[(String, String)]) -> impl Iterator<Item = &(String, String)> {
    sources.iter().filter(|(path, _)| !is_test(path))
}

fn file_lengths<'a>(sources: impl IntoIterator<Item = &'a (String, String)>) -> Vec<(usize, String)> {
    let lengths = sources
        .into_iter()
        .map(|(path, text)| (text.lines().count(), path.clone()));
    lengths.collect()
}

fn all_functions<'a>(sources: impl IntoIterator<Item = &'a (String, String)>) -> Vec<(usize, String)> {
    let functions = sources.into_iter().flat_map(|(path, text)| {
        let functions = function_lengths(text).into_iter();
        functions.map(move |(line, name, length)| (length, format!("{path}:{line}: {name}")))
    });
    functions.collect()
}

fn longest(lengths: Vec<(usize, String)>) -> Measured {
    let (length, place) = lengths.into_iter().max().expect("there are sources");
    (length, vec![place])
}

fn counted(lengths: Vec<(usize, String)>, wanted: usize) -> Measured {
    let long = lengths.into_iter().filter(|(length, _)| *length > wanted);
    let places: Vec<String> = long.map(|(length, place)| format!("{place}: {length} lines")).collect();
    (places.len(), places)
}

/// The names that a crate gives to more than one struct, enum, union or trait; tests do not count.
fn shared_type_names(sources: &[(String, String)]) -> Measured {
    let mut types: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for (path, text) in product(sources) {
        let room = path.split("/src/").next().unwrap_or_default();
        for (number, line) in product_lines(text) {
            if let Some(name) = type_name(line) {
                types.entry((room, name)).or_default().push(format!("{path}:{number}"));
            }
        }
    }
    types.retain(|_, places| places.len() > 1);
    let names = types
        .iter()
        .map(|((_, name), places)| format!("{name}: {}", places.join(", ")));
    (types.len(), names.collect())
}

/// The name of the type that a line defines, if it defines one.
fn type_name(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let mut word = words.next()?;
    if word == "pub" || word.starts_with("pub(") {
        word = words.next()?;
    }
    if !matches!(word, "struct" | "enum" | "union" | "trait") {
        return None;
    }
    let name = words.next()?;
    name.split(|char: char| !char.is_alphanumeric())
        .next()
        .filter(|name| !name.is_empty())
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
fn a_type_is_named_by_the_line_that_defines_it() {
    for (line, name) in [
        ("pub(crate) struct Room(Arc<Mutex<State>>);", Some("Room")),
        ("enum Job {", Some("Job")),
        ("    pub trait Socket: Send {", Some("Socket")),
        ("let structure = 1;", None),
        ("type Output = Job;", None),
    ] {
        assert_eq!(type_name(line), name);
    }
    let source = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let sources = [
        source("a/src/x.rs", "struct Job;\n#[cfg(test)]\nstruct Other;\n"),
        source("a/src/y.rs", "enum Job {}\nstruct Other;\n"),
        source("b/src/x.rs", "struct Job;\n"),
    ];
    let shared = (1, vec!["Job: a/src/x.rs:1, a/src/y.rs:1".to_owned()]);
    assert_eq!(shared_type_names(&sources), shared);
}
