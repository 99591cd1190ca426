//! The report as Markdown.

use std::fmt::Write as _;

use super::{Line, METHODS, NOT_HERE, Report, Score, words};
use crate::binaries::Kind;
use crate::outcome::Outcome;

/// Writes it.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let mut out = String::from("# Quoin beside a real etcd\n\n");
    // Writing to a string cannot fail.
    let _written = write(report, &mut out);
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    for (name, version) in &report.versions {
        writeln!(out, "- {name}: {version}")?;
    }
    writeln!(out, "- {}\n", report.made)?;
    matrix(out, "suite | client", &report.lines())?;
    let methods = report.methods();
    if !methods.is_empty() {
        writeln!(out, "\n## Scenarios of clients, by method\n")?;
        matrix(out, "method", &methods)?;
    }
    list(out, "Failures", &report.failures())?;
    list(out, "What a real etcd itself does not pass", &report.failures_of_etcd())?;
    if !report.answered.is_empty() {
        writeln!(
            out,
            "\n## Answers seen, by method\n\n| method | answer | times |\n|---|---|---|"
        )?;
        for method in METHODS {
            for answer in std::iter::once("ok").chain(method.errors.iter().copied()) {
                let count = report.count(method, answer);
                let count = if count == 0 {
                    "**never**".to_owned()
                } else {
                    count.to_string()
                };
                writeln!(out, "| {} | {answer} | {count} |", method.name)?;
            }
        }
        writeln!(out, "\n## Intended differences\n")?;
        for (name, reason, met) in report.intended() {
            writeln!(out, "- {name} (met {met} times): {reason}")?;
        }
        for (title, list) in NOT_HERE {
            writeln!(out, "\n## {title}\n")?;
            for (name, reason) in list {
                writeln!(out, "- {name}: {reason}")?;
            }
        }
    }
    Ok(())
}

fn matrix(out: &mut String, heads: &str, lines: &[Line]) -> std::fmt::Result {
    let servers: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    let columns = heads.split(" | ").count() + servers.len();
    writeln!(out, "| {heads} | {} |", servers.join(" | "))?;
    writeln!(out, "|{}", "---|".repeat(columns))?;
    for line in lines {
        let scores: Vec<_> = line.scores.iter().map(|score| cell(*score)).collect();
        writeln!(out, "| {} | {} |", line.names.join(" | "), scores.join(" | "))?;
    }
    Ok(())
}

fn cell(score: Score) -> String {
    match score {
        Score { tried: 0, .. } => "–".to_owned(),
        Score { passed, tried } if passed == tried => format!("{passed}/{tried}"),
        Score { passed, tried } => format!("**{passed}/{tried}**"),
    }
}

fn list(out: &mut String, title: &str, outcomes: &[&Outcome]) -> std::fmt::Result {
    if outcomes.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## {title}\n")?;
    for outcome in outcomes {
        let Outcome {
            suite,
            client,
            scenario,
            server,
            ..
        } = outcome;
        writeln!(out, "- {suite} {client} on {}: {scenario}\n\n  ```", server.name())?;
        for line in words(outcome).lines() {
            writeln!(out, "  {line}")?;
        }
        writeln!(out, "  ```")?;
    }
    Ok(())
}
