//! The report as one page of HTML: no script, no font, no picture from anywhere; light and dark as the reader's system is;
//! wide tables scroll in themselves on a narrow screen.

use std::fmt::Write as _;

use super::{Line, METHODS, NOT_HERE, Report, Score, words};
use crate::binaries::Kind;
use crate::outcome::Outcome;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d2129; --paper: #ffffff; --faint: #667085; --line: #d7dce3; --soft: #f3f5f8;
  --good: #0f6b3a; --good-paper: #dff5e6; --bad: #9b1c1c; --bad-paper: #fde3e3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --paper: #14171c; --faint: #98a2b3; --line: #333a45;
  --soft: #1d222a; --good: #8ee0ae; --good-paper: #12351f; --bad: #ffb3b3; --bad-paper: #4a1717; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.25rem; max-width: 70rem; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.faint { color: var(--faint); margin: 0 0 1rem; }
.verdict { display: inline-block; padding: .1rem .6rem; border-radius: 1rem; font-weight: 600; }
.good { color: var(--good); background: var(--good-paper); } .bad { color: var(--bad); background: var(--bad-paper); }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .35rem .7rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
th { background: var(--soft); font-weight: 600; white-space: nowrap; }
.score, .count { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
details { border: 1px solid var(--line); border-radius: .5rem; padding: .4rem .8rem; margin: .4rem 0; }
summary { cursor: pointer; overflow-wrap: anywhere; }
pre { overflow-x: auto; background: var(--soft); padding: .6rem; border-radius: .4rem; font-size: 13px; }
@media (max-width: 40rem) { body { padding: .75rem; font-size: 12px; } th, td { padding: .25rem .3rem; }
  th.score { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; } .score .verdict { padding: 0 .3rem; } }
dt { font-weight: 600; margin-top: .6rem; } dd { margin: 0; color: var(--faint); }
";

/// Writes it.
#[must_use]
pub fn html(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _written = write(report, &mut out);
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    let (verdict, class) = if report.passed() {
        ("everything passes", "good")
    } else {
        ("something fails", "bad")
    };
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Quoin beside a real etcd</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>Quoin beside a real etcd <span class=\"verdict {class}\">{verdict}</span></h1>\n"
    )?;
    let versions: Vec<_> = report
        .versions
        .iter()
        .map(|(name, version)| format!("{} {}", escaped(name), escaped(version)))
        .collect();
    writeln!(
        out,
        "<p class=\"faint\">{}; {}</p>",
        versions.join(", "),
        escaped(&report.made)
    )?;
    matrix(out, &["suite", "client"], &report.lines())?;
    list(out, "Failures", &report.failures())?;
    list(out, "What a real etcd itself does not pass", &report.failures_of_etcd())?;
    let methods = report.methods();
    if !methods.is_empty() {
        writeln!(out, "<h2>Scenarios of clients, by method</h2>")?;
        matrix(out, &["method"], &methods)?;
    }
    writeln!(out, "<h2>Every scenario</h2>")?;
    scenarios(report, out)?;
    if !report.answered.is_empty() {
        answers(report, out)?;
        intended(report, out)?;
    }
    writeln!(out, "</body>\n</html>")
}

fn matrix(out: &mut String, heads: &[&str], lines: &[Line]) -> std::fmt::Result {
    let heads: String = heads.iter().map(|head| format!("<th>{head}</th>")).collect();
    writeln!(out, "<div class=\"wide\"><table>\n<tr>{heads}{}</tr>", servers())?;
    for line in lines {
        let names: String = line
            .names
            .iter()
            .map(|name| format!("<td>{}</td>", escaped(name)))
            .collect();
        write!(out, "<tr>{names}")?;
        for score in &line.scores {
            cell(out, *score)?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</table></div>")
}

fn servers() -> String {
    Kind::ALL
        .iter()
        .map(|kind| format!("<th class=\"score\">{}</th>", kind.name()))
        .collect()
}

fn cell(out: &mut String, score: Score) -> std::fmt::Result {
    let Score { passed, tried } = score;
    match tried {
        0 => write!(out, "<td class=\"score\">–</td>"),
        _ => {
            let class = if score.is_full() { "good" } else { "bad" };
            write!(
                out,
                "<td class=\"score\"><span class=\"verdict {class}\">{passed}/{tried}</span></td>"
            )
        }
    }
}

fn list(out: &mut String, title: &str, outcomes: &[&Outcome]) -> std::fmt::Result {
    if outcomes.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h2>{title}</h2>")?;
    for outcome in outcomes {
        writeln!(
            out,
            "<details><summary>{} {} on {}: {}</summary><pre>{}</pre></details>",
            escaped(outcome.suite),
            escaped(&outcome.client),
            outcome.server.name(),
            escaped(&outcome.scenario),
            escaped(words(outcome))
        )?;
    }
    Ok(())
}

/// Every scenario of every client, one line each.
fn scenarios(report: &Report, out: &mut String) -> std::fmt::Result {
    for line in report.lines() {
        let of_line = |outcome: &&Outcome| outcome.origin() == line.names;
        let mut names: Vec<(&str, &str)> = Vec::new();
        for outcome in report.outcomes.iter().filter(of_line) {
            let name = (outcome.scenario.as_str(), outcome.method.as_str());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        writeln!(
            out,
            "<details><summary>{}: {} scenarios</summary>\n<div class=\"wide\"><table>\n<tr><th>scenario</th><th>method</th>{}</tr>",
            escaped(&line.names.join(" ")),
            names.len(),
            servers()
        )?;
        for (scenario, method) in names {
            write!(out, "<tr><td>{}</td><td>{}</td>", escaped(scenario), escaped(method))?;
            for kind in Kind::ALL {
                let meant = |outcome: &&Outcome| {
                    of_line(outcome) && (outcome.scenario.as_str(), outcome.server) == (scenario, kind)
                };
                cell(out, Score::of(report.outcomes.iter().filter(meant)))?;
            }
            writeln!(out, "</tr>")?;
        }
        writeln!(out, "</table></div></details>")?;
    }
    Ok(())
}

fn answers(report: &Report, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "<h2>Answers seen, by method</h2>\n<p class=\"faint\">Counted in the differential runs, where both servers gave the same \
         answer; what etcd does not live to answer is asked of ours alone. What must be seen is success and every error that etcd gives the method where one member serves.</p>\n\
         <div class=\"wide\"><table>\n<tr><th>method</th><th>answer</th><th class=\"count\">times</th></tr>"
    )?;
    for method in METHODS {
        for answer in std::iter::once("ok").chain(method.errors.iter().copied()) {
            let count = report.count(method, answer);
            let count = match count {
                0 => "<span class=\"verdict bad\">never</span>".to_owned(),
                count => count.to_string(),
            };
            let (name, answer) = (escaped(method.name), escaped(answer));
            writeln!(
                out,
                "<tr><td>{name}</td><td>{answer}</td><td class=\"count\">{count}</td></tr>"
            )?;
        }
    }
    writeln!(out, "</table></div>")
}

fn intended(report: &Report, out: &mut String) -> std::fmt::Result {
    writeln!(out, "<h2>Intended differences</h2>\n<dl>")?;
    for (name, reason, met) in report.intended() {
        writeln!(
            out,
            "<dt>{} (met {met} times)</dt><dd>{}</dd>",
            escaped(name),
            escaped(reason)
        )?;
    }
    for (title, list) in NOT_HERE {
        writeln!(out, "</dl>\n<h2>{title}</h2>\n<dl>")?;
        for (name, reason) in list {
            writeln!(out, "<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(reason))?;
        }
    }
    writeln!(out, "</dl>")
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}
