//! The report as a list of blocks, from which both HTML and Markdown are written, so that both have the same content.

use quoin_tools::screen::words as time;

use super::{ELSEWHERE, Line, METHODS, Part, Report, Score, words};
use crate::binaries::Kind;
use crate::diff::LEFT_OUT;
use crate::outcome::Outcome;

/// A part of the page.
#[derive(Clone, Debug)]
pub(super) enum Block {
    /// A part that can be unfolded: its title and content.
    Details(String, Vec<Self>),
    /// A title.
    Heading(&'static str),
    /// A list of names, each with a text.
    Items(Vec<(String, String)>),
    /// A paragraph.
    Note(String),
    /// Preformatted text.
    Pre(String),
    /// The titles of the columns, and the rows. Columns of names come first.
    Table(Vec<Cell>, Vec<Vec<Cell>>),
}

/// One cell of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// A failure.
    Bad(String),
    /// A success.
    Good(String),
    /// A number, or a placeholder for one.
    Number(String),
    /// Text.
    Text(String),
}

/// Lists of requests and errors that the scripts leave out, by title; each entry has its reason.
const NOT_HERE: [(&str, &[(&str, &str)]); 2] = [
    ("Requests sent to ours only", LEFT_OUT),
    ("Errors that no script causes", ELSEWHERE),
];

/// Everything after the headline.
pub(super) fn document(report: &Report) -> Vec<Block> {
    let mut blocks = vec![Block::Items(facts(report))];
    blocks.push(matrix(report, &["suite", "client"], &report.lines()));
    blocks.push(Block::Note(
        "“not run”: the server was not selected, or the run ended before its turn. “–”: this line has no outcomes for this \
         server; etcd has none where it is only the reference."
            .to_owned(),
    ));
    let not_run = report.not_run();
    if !not_run.is_empty() {
        blocks.push(Block::Heading("What this run did not do"));
        blocks.push(Block::Items(not_run));
    }
    blocks.extend(list("Failures", &report.failures()));
    blocks.extend(list("Failures of the real etcd", &report.failures_of_etcd()));
    blocks.extend(unserved(report));
    blocks.push(Block::Heading("How long each part took"));
    blocks.push(durations(&report.parts));
    let methods = report.methods();
    if !methods.is_empty() {
        blocks.push(Block::Heading("Scenarios of clients, by method"));
        blocks.push(matrix(report, &["method"], &methods));
    }
    blocks.push(Block::Heading("Every scenario"));
    blocks.extend(report.lines().iter().map(|line| scenarios(report, line)));
    if !report.answered.is_empty() {
        blocks.extend(answers(report));
        blocks.extend(intended(report));
    }
    blocks
}

fn facts(report: &Report) -> Vec<(String, String)> {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let mut facts: Vec<(String, String)> = report.versions.clone();
    facts.extend(report.made.facts().map(owned));
    facts.push(("options".to_owned(), report.options.clone()));
    facts.push(("took".to_owned(), time(report.took)));
    if let Some(ended) = &report.ended {
        facts.push(("ended early".to_owned(), ended.clone()));
    }
    facts
}

fn heads(names: &[&str]) -> Vec<Cell> {
    let names = names.iter().map(|name| Cell::Text((*name).to_owned()));
    let servers = Kind::ALL.iter().map(|kind| Cell::Number(kind.name().to_owned()));
    names.chain(servers).collect()
}

fn matrix(report: &Report, names: &[&str], lines: &[Line]) -> Block {
    let row = |line: &Line| {
        let names = line.names.iter().map(|name| Cell::Text(name.clone()));
        let scores = line.scores.iter().zip(Kind::ALL);
        names
            .chain(scores.map(|(score, kind)| cell(report, *score, kind)))
            .collect()
    };
    Block::Table(heads(names), lines.iter().map(row).collect())
}

fn cell(report: &Report, score: Score, kind: Kind) -> Cell {
    match score {
        Score { tried: 0, .. } if kind != Kind::Etcd && !report.did_run(kind) => Cell::Number("not run".to_owned()),
        Score { tried: 0, .. } => Cell::Number("–".to_owned()),
        Score { passed, tried } if passed == tried => Cell::Good(format!("{passed}/{tried}")),
        Score { passed, tried } => Cell::Bad(format!("{passed}/{tried}")),
    }
}

fn list(title: &'static str, outcomes: &[&Outcome]) -> Vec<Block> {
    if outcomes.is_empty() {
        return Vec::new();
    }
    let details = outcomes.iter().map(|outcome| {
        let (suite, client, scenario) = (outcome.suite, &outcome.client, &outcome.scenario);
        let summary = format!("{suite} {client} on {}: {scenario}", outcome.server.name());
        Block::Details(summary, vec![Block::Pre(words(outcome).to_owned())])
    });
    std::iter::once(Block::Heading(title)).chain(details).collect()
}

fn unserved(report: &Report) -> Vec<Block> {
    let mut items = Vec::new();
    for (kind, methods) in &report.unserved {
        let words = if methods.is_empty() {
            "every method is served".to_owned()
        } else {
            methods.join(", ")
        };
        items.push((kind.name().to_owned(), words));
    }
    if items.is_empty() {
        return Vec::new();
    }
    vec![
        Block::Heading("Not implemented"),
        Block::Note(
            "Every method of etcd's API was called once on each server. These were answered with UNIMPLEMENTED or, over HTTP, \
             with 404 or 501."
                .to_owned(),
        ),
        Block::Items(items),
    ]
}

fn durations(parts: &[Part]) -> Block {
    let row = |part: &Part| {
        let server = part.server.map_or("all", Kind::name);
        let took = match part.took {
            Some(took) if part.is_done => time(took),
            Some(took) => format!("{}, not finished", time(took)),
            None => "not run".to_owned(),
        };
        vec![
            Cell::Text(part.suite.name().to_owned()),
            Cell::Text(server.to_owned()),
            Cell::Number(took),
        ]
    };
    let heads = vec![
        Cell::Text("suite".to_owned()),
        Cell::Text("server".to_owned()),
        Cell::Number("time".to_owned()),
    ];
    Block::Table(heads, parts.iter().map(row).collect())
}

/// Every scenario of one line of the matrix.
fn scenarios(report: &Report, line: &Line) -> Block {
    let of_line: Vec<&Outcome> = report
        .outcomes
        .iter()
        .filter(|outcome| outcome.origin() == line.names)
        .collect();
    let mut names: Vec<(&str, &str)> = Vec::new();
    for outcome in &of_line {
        let name = (outcome.scenario.as_str(), outcome.method.as_str());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let row = |(scenario, method): &(&str, &str)| {
        let texts = [scenario, method].map(|text| Cell::Text((*text).to_owned()));
        let cells = Kind::ALL.map(|kind| {
            let meant = |outcome: &&&Outcome| (outcome.scenario.as_str(), outcome.server) == (*scenario, kind);
            cell(report, Score::of(of_line.iter().filter(meant).copied()), kind)
        });
        texts.into_iter().chain(cells).collect()
    };
    let table = Block::Table(heads(&["scenario", "method"]), names.iter().map(row).collect());
    Block::Details(
        format!("{}: {} scenarios", line.names.join(" "), names.len()),
        vec![table],
    )
}

fn answers(report: &Report) -> [Block; 3] {
    let mut rows = Vec::new();
    for method in METHODS {
        for answer in std::iter::once("ok").chain(method.errors.iter().copied()) {
            let count = match report.count(method, answer) {
                0 => Cell::Bad("never".to_owned()),
                count => Cell::Number(count.to_string()),
            };
            rows.push(vec![
                Cell::Text(method.name.to_owned()),
                Cell::Text(answer.to_owned()),
                count,
            ]);
        }
    }
    let heads = vec![
        Cell::Text("method".to_owned()),
        Cell::Text("answer".to_owned()),
        Cell::Number("times".to_owned()),
    ];
    [
        Block::Heading("Answers seen, by method"),
        Block::Note(
            "Counted in the differential runs, where both servers gave the same answer; requests that crash etcd were sent to \
             ours only. Each method must be seen to succeed, and to give every error that etcd gives with one member."
                .to_owned(),
        ),
        Block::Table(heads, rows),
    ]
}

fn intended(report: &Report) -> Vec<Block> {
    let met = |(name, reason, met)| (format!("{name} (met {met} times)"), str::to_owned(reason));
    let mut blocks = vec![
        Block::Heading("Intended differences"),
        Block::Items(report.intended().map(met).collect()),
    ];
    for (title, list) in NOT_HERE {
        blocks.push(Block::Heading(title));
        let owned = |(name, reason): &(&str, &str)| ((*name).to_owned(), (*reason).to_owned());
        blocks.push(Block::Items(list.iter().map(owned).collect()));
    }
    blocks
}
