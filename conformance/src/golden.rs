//! Compares results with recorded ones, and shows the first difference.
//!
//! `UPDATE=1` records again, but only the results of the real etcd: ours are compared, they are never the reference.

use std::{fs, path::Path};

use crate::{
    binaries::Kind,
    trouble::{During, Trouble},
};

/// Whether this run records.
#[must_use]
pub fn updating(kind: Kind) -> bool {
    kind == Kind::Etcd && std::env::var_os("UPDATE").is_some_and(|value| value == "1")
}

/// Compares with the file, or writes it when [`updating`].
///
/// # Errors
/// If they differ, with the place; or if the file cannot be read or written.
pub fn check(file: &Path, kind: Kind, seen: &str) -> Result<(), Trouble> {
    if updating(kind) {
        return fs::write(file, seen).during(format_args!("writing {}", file.display()));
    }
    let expected = fs::read_to_string(file).during(format_args!("reading {}", file.display()))?;
    match difference(&expected, seen) {
        None => Ok(()),
        Some(difference) => Err(Trouble::new(format!(
            "{} differs from {}:\n{difference}",
            kind.name(),
            file.display()
        ))),
    }
}

/// Lines shown before and after the first difference.
const AROUND: usize = 6;

/// The first difference, with both sides; `None` if the texts are equal.
#[must_use]
pub fn difference(expected: &str, seen: &str) -> Option<String> {
    let (wanted, got): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), seen.lines().collect());
    if wanted == got {
        return None;
    }
    let same = wanted
        .iter()
        .zip(&got)
        .take_while(|(wanted, got)| wanted == got)
        .count();
    let from = same.saturating_sub(AROUND);
    let part = |lines: &[&str], mark: char| -> String {
        lines
            .iter()
            .skip(same)
            .take(AROUND)
            .map(|line| format!("{mark} {line}\n"))
            .collect()
    };
    let before: String = wanted[from..same].iter().map(|line| format!("  {line}\n")).collect();
    Some(format!(
        "line {}\n{before}{}{}",
        same + 1,
        part(&wanted, '-'),
        part(&got, '+')
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_both_sides_with_what_came_before() {
        assert_eq!(difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(
            difference("a\nb\nc\n", "a\nx\nc\n").unwrap(),
            "line 2\n  a\n- b\n- c\n+ x\n+ c\n"
        );
        assert_eq!(difference("a\nb\n", "a\n").unwrap(), "line 2\n  a\n- b\n");
    }
}
