//! Statements of the documents about the tree are true: links and paths exist, commands name existing packages and
//! targets, and each bug in BUGS.md is shown by a test.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{assert_none, cargo, root, sources};

/// Every document of the tree: its path and its lines with their numbers.
fn documents() -> Vec<(String, Vec<(usize, String)>)> {
    let listed = fs::read_dir(root())
        .expect("the root can be listed")
        .filter_map(Result::ok);
    let mut folders: Vec<_> = listed.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.push(root());
    let mut documents = Vec::new();
    for folder in folders {
        for entry in fs::read_dir(&folder)
            .expect("a folder can be listed")
            .filter_map(Result::ok)
        {
            let path = entry.path();
            let name = path
                .strip_prefix(root())
                .expect("it is in the tree")
                .to_string_lossy()
                .into_owned();
            if !name.ends_with(".md") || name.starts_with("target") || name.starts_with('.') {
                continue;
            }
            let text = fs::read_to_string(&path).expect("a document is text");
            let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.to_owned()));
            documents.push((name, lines.collect()));
        }
    }
    documents.sort();
    documents
}

/// The words between single backticks in a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for (document, lines) in documents() {
        let here = root().join(&document);
        for (number, line) in &lines {
            for target in links(line).filter(|target| !target.contains("://") && !target.starts_with("mailto:")) {
                let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
                let file = if file.is_empty() {
                    here.clone()
                } else {
                    here.with_file_name(file)
                };
                let is_there = file.exists() && (anchor.is_empty() || has_anchor(&file, anchor));
                if !is_there {
                    broken.push(format!("{document}:{number}: {target}"));
                }
            }
        }
    }
    assert_none("a link leads to a file of the tree, and to a title in it", &broken);
}

/// The targets of a line's links.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// Whether a document has a title with this anchor.
fn has_anchor(file: &Path, anchor: &str) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    let titles = text.lines().filter(|line| line.starts_with('#'));
    titles
        .map(|title| slug(title.trim_start_matches('#').trim()))
        .any(|slug| slug == anchor)
}

fn slug(title: &str) -> String {
    let kept = title
        .chars()
        .filter(|char| char.is_alphanumeric() || *char == ' ' || *char == '-');
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_path_that_a_document_names_exists() {
    let files = file_names();
    let mut missing = Vec::new();
    for (document, lines) in documents() {
        for (number, line) in &lines {
            let paths = quoted(line).filter(|word| is_path(word));
            let gone = paths.filter(|path| !root().join(path).exists());
            missing.extend(gone.map(|path| format!("{document}:{number}: {path}")));
            let gone = quoted(line).filter(|word| is_file_name(word) && !files.contains(*word));
            missing.extend(gone.map(|name| format!("{document}:{number}: {name}")));
            let modules = quoted(line).filter(|word| is_module(word));
            let gone = modules.filter(|module| !module_exists(module));
            missing.extend(gone.map(|module| format!("{document}:{number}: {module}")));
        }
    }
    assert_none("a path or module that a document names exists", &missing);
}

/// Whether a word is a path of the tree: its first part is a folder at the root.
fn is_path(word: &str) -> bool {
    let is_plain = word
        .chars()
        .all(|char| char.is_ascii_alphanumeric() || "/._-".contains(char));
    let first = word.split('/').next().unwrap_or_default();
    is_plain && word.contains('/') && first != "target" && !first.is_empty() && root().join(first).is_dir()
}

/// Whether a word is the name of a file that would be in the tree, without its folder.
fn is_file_name(word: &str) -> bool {
    let is_plain = word
        .chars()
        .all(|char| char.is_ascii_alphanumeric() || "._-".contains(char));
    is_plain
        && [".md", ".rs", ".service", ".toml"]
            .iter()
            .any(|end| word.len() > end.len() && word.ends_with(end))
}

/// The names of all files of the tree.
fn file_names() -> BTreeSet<String> {
    fn walk(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder)
            .expect("a folder can be listed")
            .filter_map(Result::ok)
        {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() && name != "target" && name != ".git" {
                walk(&path, names);
            } else {
                names.insert(name);
            }
        }
    }
    let mut names = BTreeSet::new();
    walk(&root(), &mut names);
    names
}

/// Whether a word is a path in the code of a room, such as `core::boot::decide`.
fn is_module(word: &str) -> bool {
    let is_plain = word
        .chars()
        .all(|char| char.is_ascii_alphanumeric() || ":_".contains(char));
    is_plain
        && word
            .split_once("::")
            .is_some_and(|(room, _)| root().join(room).join("src").is_dir())
}

/// Whether the module exists, and the name in it if there is one. Modules are files; any other name is searched for in
/// the text.
fn module_exists(word: &str) -> bool {
    let mut parts = word.split("::");
    let mut folder = root().join(parts.next().unwrap_or_default()).join("src");
    let mut file = folder.join("lib.rs");
    for part in parts {
        let (plain, deep) = (folder.join(format!("{part}.rs")), folder.join(part).join("mod.rs"));
        if plain.is_file() || deep.is_file() {
            file = if plain.is_file() { plain } else { deep };
            folder.push(part);
        } else {
            return fs::read_to_string(&file).is_ok_and(|text| text.contains(part));
        }
    }
    true
}

#[test]
fn every_command_names_existing_packages_and_targets() {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps"])).unwrap();
    let (mut packages, mut targets) = (BTreeSet::new(), BTreeSet::new());
    for package in metadata["packages"].as_array().unwrap() {
        packages.insert(package["name"].as_str().unwrap().to_owned());
        for target in package["targets"].as_array().unwrap() {
            targets.insert(target["name"].as_str().unwrap().to_owned());
        }
    }
    let suites: BTreeSet<String> = sources().iter().filter_map(|(path, _)| suite_of(path)).collect();
    let mut unknown = Vec::new();
    for (document, lines) in documents() {
        for (number, line) in lines.iter().filter(|(_, line)| line.contains("cargo ")) {
            let mut words = line.split(|char: char| char.is_whitespace() || char == '`');
            while let Some(word) = words.next() {
                let known = match word {
                    "-p" | "--package" => &packages,
                    "--bin" | "--test" | "--example" | "--bench" => &targets,
                    _ => continue,
                };
                let name = words.next().unwrap_or_default();
                if !known.contains(name) {
                    unknown.push(format!("{document}:{number}: {word} {name}"));
                }
                // A filter that matches no test would let the command succeed without one.
                let mut after = words.clone();
                let filter = after.next().and_then(|filter| filter.split_once("::"));
                if let Some((suite, _)) = filter.filter(|(suite, _)| word == "--test" && !suites.contains(*suite)) {
                    unknown.push(format!("{document}:{number}: {suite}::"));
                }
            }
        }
    }
    assert_none("a command names packages and targets of the workspace", &unknown);
}

/// The suite that a file is, as a module of the program `it` of its crate.
fn suite_of(path: &str) -> Option<String> {
    let (_, inner) = path.split_once("/tests/it/")?;
    let suite = inner.strip_suffix("/mod.rs").or_else(|| inner.strip_suffix(".rs"))?;
    (!suite.contains('/')).then(|| suite.to_owned())
}

#[test]
fn every_bug_is_shown_by_a_test() {
    let text = fs::read_to_string(root().join("BUGS.md")).expect("the faults are written down");
    let rows: Vec<(usize, &str)> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.starts_with("| ") && !line.starts_with("| fault |"))
        .map(|(at, line)| (at + 1, line))
        .collect();
    assert!(rows.len() > 10, "the table was not found");
    let functions: BTreeSet<String> = sources().iter().flat_map(|(_, text)| tests_of(text)).collect();
    let mut breaches = Vec::new();
    for (number, row) in rows {
        let cells: Vec<&str> = row.trim().trim_matches('|').split(" | ").collect();
        let [_, _, shown_by] = cells[..] else {
            breaches.push(format!("line {number} has {} columns", cells.len()));
            continue;
        };
        let mut named = quoted(shown_by).peekable();
        if named.peek().is_none() {
            breaches.push(format!("line {number} names no test"));
        }
        let wrong = named.filter(|name| !shows(name, &functions));
        breaches.extend(wrong.map(|name| format!("line {number}: {name}")));
    }
    assert_none(
        "a fault is shown by a file with tests, a script of tests, or a test's name",
        &breaches,
    );
}

/// Whether this is a file with tests in it, a script that tests play, or the name of a test.
fn shows(name: &str, functions: &BTreeSet<String>) -> bool {
    let path = root().join(name);
    if !name.contains('/') {
        return functions.contains(name);
    }
    if name.ends_with(".rs") {
        // The stories of a file may become tests by a macro, or steps of a test elsewhere.
        let is_played = name.contains("/tests/") || name.contains("conformance/src/diff/scripts/");
        return path.is_file() && (is_played || fs::read_to_string(&path).is_ok_and(|text| text.contains("#[test]")));
    }
    path.is_file() && (name.contains("/tests/") || name.contains("/scripts/"))
}

/// The names of all functions. The attribute `#[test]` is not required, because a macro makes stories into tests.
fn tests_of(text: &str) -> Vec<String> {
    let names = text
        .lines()
        .filter_map(|line| line.trim_start().split_once("fn ").map(|(_, rest)| rest));
    names
        .map(|rest| rest.split(['(', '<']).next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn paths_modules_and_links_are_recognised() {
    let line = "see [a](ARCHITECTURE.md#the-rooms), `core/src/limits.rs` and `core::boot::decide`, not `a/b` or `x::y`";
    assert_eq!(links(line).collect::<Vec<_>>(), ["ARCHITECTURE.md#the-rooms"]);
    assert_eq!(
        quoted(line).filter(|word| is_path(word)).collect::<Vec<_>>(),
        ["core/src/limits.rs"]
    );
    assert_eq!(
        quoted(line).filter(|word| is_module(word)).collect::<Vec<_>>(),
        ["core::boot::decide"]
    );
    assert!(is_file_name("deny.toml") && !is_file_name("core/src/limits.rs") && !is_file_name(".rs"));
    assert!(module_exists("core::boot::decide") && !module_exists("core::boot::no_such_thing"));
    assert_eq!(slug("A tour, with etcdctl"), "a-tour-with-etcdctl");
    assert!(!shows("core/src/node/tests", &BTreeSet::new()), "a folder is no test");
}

/// Types of ours that a put passes through from socket to reply. Change it only to a lower figure.
const TYPES_OF_A_PUT: usize = 50;

#[test]
fn the_types_that_a_put_meets_are_where_architecture_says() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("there is an ARCHITECTURE.md");
    let table = text
        .split("### The types that a put meets")
        .nth(1)
        .expect("it lists them");
    let rows = table.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let (mut breaches, mut total) = (Vec::new(), 0);
    for row in rows.take_while(|line| line.starts_with('|')) {
        let [_, files, types, number, _] = row.split('|').collect::<Vec<_>>()[..] else {
            panic!("a row has three columns: {row}");
        };
        let named = |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
        let texts: Vec<String> = named(files)
            .iter()
            .map(|file| fs::read_to_string(root().join(file)).unwrap_or_default())
            .collect();
        let types = named(types);
        for name in &types {
            if !texts.iter().any(|text| defines(text, name)) {
                breaches.push(format!("{name} is not defined in {}", files.trim()));
            }
        }
        if number.trim().parse() != Ok(types.len()) {
            breaches.push(format!("{} types are not {}: {row}", types.len(), number.trim()));
        }
        total += types.len();
    }
    assert_none("ARCHITECTURE's table of a put's types is true", &breaches);
    assert_eq!(total, TYPES_OF_A_PUT, "the figure only falls");
    assert!(
        table.contains(&format!("These are {total}.")),
        "the sum below the table is {total}"
    );
}

/// Whether a source defines a struct, an enum or a trait of this name.
fn defines(text: &str, name: &str) -> bool {
    text.lines().any(|line| {
        let words: Vec<&str> = line
            .split(|char: char| !char.is_alphanumeric() && char != '_')
            .collect();
        let is_definition = |pair: &[&str]| matches!(pair[0], "struct" | "enum" | "trait") && pair[1] == name;
        words.windows(2).any(is_definition)
    })
}
