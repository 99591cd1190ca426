//! The report for people: the results of each client and each suite on each server, and how often each API method gave
//! which answer. One self-contained page of HTML, and the same in Markdown.

mod document;
mod html;
mod markdown;
mod methods;

use std::collections::BTreeMap;
use std::time::Duration;

use quoin_tools::Made;

pub use html::html;
pub use markdown::markdown;
pub use methods::{Answered, ELSEWHERE, METHODS, Method};

use crate::binaries::Kind;
use crate::diff::INTENDED;
use crate::outcome::{Outcome, Verdict};
use crate::suites::Suite;

/// The contents of the report.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The servers: name and version.
    pub versions: Vec<(String, String)>,
    /// When, from which commit, on which machine.
    pub made: Made,
    /// The options of the run.
    pub options: String,
    /// How long the run took so far.
    pub took: Duration,
    /// Why it ended early.
    pub ended: Option<String>,
    /// The requested parts, in the order in which they run.
    pub parts: Vec<Part>,
    /// The methods that a server does not implement.
    pub unserved: Vec<(Kind, Vec<String>)>,
    /// All outcomes.
    pub outcomes: Vec<Outcome>,
    /// Answers of the differential runs, which were equal on both sides except for intended differences.
    pub answered: Answered,
    /// How often each intended difference occurred, by name.
    pub met: BTreeMap<&'static str, u64>,
}

/// One suite on one server, or on all of them at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The suite.
    pub suite: Suite,
    /// The server; `None` if the suite plays all servers together.
    pub server: Option<Kind>,
    /// How long it took so far; `None` before it has begun.
    pub took: Option<Duration>,
    /// Whether it finished.
    pub is_done: bool,
}

/// How many of a group passed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Score {
    /// Passed.
    pub passed: usize,
    /// In total.
    pub tried: usize,
}

impl Score {
    fn of<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Self {
        let mut score = Self::default();
        for outcome in outcomes {
            score.tried += 1;
            score.passed += usize::from(outcome.passed());
        }
        score
    }

    /// Whether there was at least one, and all passed.
    #[must_use]
    pub fn is_full(self) -> bool {
        self.tried > 0 && self.passed == self.tried
    }
}

/// One line of a matrix.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// The common property of its outcomes: the suite and the client, or the API method.
    pub names: Vec<String>,
    /// Per server of [`Kind::ALL`].
    pub scores: Vec<Score>,
}

impl Report {
    /// The matrix: suites in the order in which they ran, each followed by its clients.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.grouped(Outcome::origin)
    }

    /// The scenarios of clients by their API method.
    #[must_use]
    pub fn methods(&self) -> Vec<Line> {
        let mut lines = self.grouped(|outcome| vec![outcome.method.clone()]);
        lines.retain(|line| !line.names.concat().is_empty());
        lines.sort_by(|a, b| a.names.cmp(&b.names));
        lines
    }

    fn grouped(&self, names: impl Fn(&Outcome) -> Vec<String>) -> Vec<Line> {
        let mut order: Vec<Vec<String>> = Vec::new();
        for outcome in &self.outcomes {
            let names = names(outcome);
            if !order.contains(&names) {
                order.push(names);
            }
        }
        let line = |common: Vec<String>| {
            let of = |kind: &Kind| {
                let meant = |outcome: &&Outcome| outcome.server == *kind && names(outcome) == common;
                Score::of(self.outcomes.iter().filter(meant))
            };
            let scores = Kind::ALL.iter().map(of).collect();
            Line { names: common, scores }
        };
        order.into_iter().map(line).collect()
    }

    /// Failures on one of ours that a real etcd passes, or for which there is no real etcd to compare with.
    #[must_use]
    pub fn failures(&self) -> Vec<&Outcome> {
        let etcd_fails = |outcome: &Outcome| {
            let same = |other: &&Outcome| {
                (other.suite, &other.client, &other.scenario) == (outcome.suite, &outcome.client, &outcome.scenario)
            };
            let real = self
                .outcomes
                .iter()
                .filter(same)
                .find(|other| other.server == Kind::Etcd);
            real.is_some_and(|real| !real.passed())
        };
        let is_failure = |outcome: &&Outcome| !outcome.passed() && outcome.server != Kind::Etcd && !etcd_fails(outcome);
        self.outcomes.iter().filter(is_failure).collect()
    }

    /// Failures on a real etcd.
    #[must_use]
    pub fn failures_of_etcd(&self) -> Vec<&Outcome> {
        let fails = |outcome: &&Outcome| outcome.server == Kind::Etcd && !outcome.passed();
        self.outcomes.iter().filter(fails).collect()
    }

    /// Methods and answers that should have occurred but did not, in a report whose differential suite finished.
    #[must_use]
    pub fn unseen(&self) -> Vec<String> {
        if !self.is_whole(Suite::Differential) {
            return Vec::new();
        }
        let mut unseen = Vec::new();
        for method in METHODS {
            for answer in std::iter::once("ok").chain(method.errors.iter().copied()) {
                if self.count(method, answer) == 0 {
                    unseen.push(format!("{}: {answer}", method.name));
                }
            }
        }
        unseen
    }

    /// Whether a suite was requested and every part of it finished.
    fn is_whole(&self, suite: Suite) -> bool {
        let mut parts = self.parts.iter().filter(|part| part.suite == suite).peekable();
        parts.peek().is_some() && parts.all(|part| part.is_done)
    }

    /// Whether anything was played on a server.
    fn did_run(&self, kind: Kind) -> bool {
        self.outcomes.iter().any(|outcome| outcome.server == kind)
    }

    /// The subject of the report and its result, in one line.
    #[must_use]
    pub fn headline(&self) -> String {
        let suites = Suite::ALL.iter().filter(|suite| self.is_whole(**suite)).count();
        let servers = Kind::OURS.iter().filter(|kind| self.did_run(**kind)).count();
        let (failures, unseen) = (self.failures().len(), self.unseen().len());
        let of_ours = self
            .outcomes
            .iter()
            .filter(|outcome| outcome.server != Kind::Etcd)
            .count();
        let mut verdict = match (of_ours, failures) {
            (0, _) => "nothing was tried".to_owned(),
            (_, 0) => "all pass".to_owned(),
            (tried, failed) => format!("{failed} of {tried} fail"),
        };
        if unseen > 0 {
            verdict.push_str(&format!(", {unseen} answers were never seen"));
        }
        if self.ended.is_some() {
            verdict.push_str(", ended early");
        }
        format!(
            "{suites} of {} suites, {servers} of {} servers: {verdict}",
            Suite::ALL.len(),
            Kind::OURS.len()
        )
    }

    /// Suites, servers and parts that did not run, or did not finish, each with the reason.
    fn not_run(&self) -> Vec<(String, String)> {
        let mut missing = Vec::new();
        for suite in Suite::ALL {
            if self.parts.iter().all(|part| part.suite != suite) {
                missing.push((
                    format!("suite {}", suite.name()),
                    "not asked for with --only".to_owned(),
                ));
            }
        }
        for kind in Kind::OURS {
            if self.versions.iter().all(|(name, _)| name != kind.name()) {
                missing.push((kind.name().to_owned(), "not asked for with --servers".to_owned()));
            }
        }
        for part in self.parts.iter().filter(|part| !part.is_done) {
            let server = part.server.map_or("all servers", Kind::name);
            let how = if part.took.is_some() {
                "not finished"
            } else {
                "not begun"
            };
            let why = self.ended.as_deref().unwrap_or("the run is still going on");
            missing.push((format!("{} on {server}", part.suite.name()), format!("{how}: {why}")));
        }
        missing
    }

    /// How often a method gave an answer.
    #[must_use]
    pub fn count(&self, method: &Method, answer: &str) -> u64 {
        let key = (method.counted, answer.to_owned());
        self.answered.get(&key).copied().unwrap_or(0)
    }

    /// Whether the run ended normally, with outcomes, without failures of ours and without unseen answers.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.ended.is_none() && !self.outcomes.is_empty() && self.failures().is_empty() && self.unseen().is_empty()
    }

    /// Intended differences: name, reason, number of occurrences.
    fn intended(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        INTENDED.iter().map(|entry| {
            let met = self.met.get(entry.name).copied().unwrap_or(0);
            (entry.name, entry.reason, met)
        })
    }
}

/// The text for an outcome that did not pass.
fn words(outcome: &Outcome) -> &str {
    match &outcome.verdict {
        Verdict::Passed => "",
        Verdict::Failed(words) | Verdict::Differs(words) => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(client: &str, scenario: &str, server: Kind, verdict: Verdict) -> Outcome {
        Outcome {
            suite: "clients",
            client: client.to_owned(),
            method: "KV.Put".to_owned(),
            scenario: scenario.to_owned(),
            server,
            verdict,
        }
    }

    fn failed() -> Verdict {
        Verdict::Failed("<no> & \"quotes\"".to_owned())
    }

    fn report() -> Report {
        Report {
            outcomes: vec![
                outcome("Python", "put", Kind::Etcd, Verdict::Passed),
                outcome("Python", "put", Kind::QuoinTokio, failed()),
                outcome("Python", "odd", Kind::Etcd, failed()),
                outcome("Python", "odd", Kind::QuoinTokio, failed()),
                outcome("Node", "put", Kind::QuoinTokio, Verdict::Passed),
            ],
            ..Report::default()
        }
    }

    #[test]
    fn a_line_of_the_matrix_counts_what_passed_on_each_server() {
        let lines = report().lines();
        let shown: Vec<_> = lines
            .iter()
            .map(|line| {
                (
                    line.names[1].as_str(),
                    line.scores[0].passed,
                    line.scores[0].tried,
                    line.scores[1],
                )
            })
            .collect();
        let none_of_two = Score { passed: 0, tried: 2 };
        let one = Score { passed: 1, tried: 1 };
        assert_eq!(shown, [("Python", 1, 2, none_of_two), ("Node", 0, 0, one)]);
        assert!(one.is_full() && !none_of_two.is_full() && !lines[1].scores[0].is_full());
    }

    #[test]
    fn a_line_of_the_methods_counts_the_scenarios_of_all_clients() {
        let lines = report().methods();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].names, ["KV.Put"]);
        assert_eq!(lines[0].scores[1], Score { passed: 1, tried: 3 });
    }

    #[test]
    fn a_failure_of_etcd_is_not_counted_for_ours() {
        let report = report();
        let failures: Vec<_> = report.failures().iter().map(|outcome| &outcome.scenario).collect();
        assert_eq!(failures, ["put"]);
        assert_eq!(report.failures_of_etcd().len(), 1);
        assert!(!report.passed());
    }

    fn part(suite: Suite, server: Option<Kind>, is_done: bool) -> Part {
        Part {
            suite,
            server,
            took: is_done.then_some(Duration::from_secs(3)),
            is_done,
        }
    }

    #[test]
    fn an_answer_that_was_never_seen_is_named() {
        let mut report = Report::default();
        assert!(report.unseen().is_empty(), "nothing was to be seen");
        assert!(!report.passed(), "nothing was tried");
        report
            .parts
            .push(part(Suite::Differential, Some(Kind::QuoinTokio), false));
        assert!(report.unseen().is_empty(), "it may still come");
        report.parts[0].is_done = true;
        report.answered.insert(("Range", "ok".to_owned()), 3);
        report.answered.insert(("Watch create", "ok".to_owned()), 1);
        let unseen = report.unseen();
        assert!(unseen.contains(&"KV.Range: 3 etcdserver: key is not provided".to_owned()));
        assert!(!unseen.contains(&"KV.Range: ok".to_owned()));
        assert!(!unseen.contains(&"Watch.Watch (create): ok".to_owned()));
    }

    #[test]
    fn the_headline_counts_the_suites_and_servers_that_ran() {
        let mut report = Report {
            parts: vec![part(Suite::Clients, None, true)],
            ..report()
        };
        assert_eq!(report.headline(), "1 of 4 suites, 1 of 3 servers: 1 of 3 fail");
        report.outcomes.retain(Outcome::passed);
        assert_eq!(report.headline(), "1 of 4 suites, 1 of 3 servers: all pass");
        assert!(report.passed());
        report.parts.push(part(Suite::Histories, Some(Kind::QuoinTokio), false));
        report.ended = Some("SIGINT".to_owned());
        assert_eq!(
            report.headline(),
            "1 of 4 suites, 1 of 3 servers: all pass, ended early"
        );
        assert!(!report.passed(), "not everything was done");
    }

    #[test]
    fn parts_that_did_not_run_are_listed_with_the_reason() {
        let report = Report {
            versions: vec![("quoin-tokio".to_owned(), "1".to_owned())],
            parts: vec![
                part(Suite::Clients, None, true),
                part(Suite::Histories, Some(Kind::QuoinTokio), false),
            ],
            ended: Some("SIGTERM".to_owned()),
            unserved: vec![(Kind::QuoinTokio, vec!["Auth.AuthEnable".to_owned()])],
            ..report()
        };
        for shown in [html(&report), markdown(&report)] {
            for words in [
                "suite differential",
                "not asked for with --only",
                "quoin-smol",
                "not asked for with --servers",
                "histories on quoin-tokio",
                "not begun: SIGTERM",
                "not run",
                "Auth.AuthEnable",
                "ended early",
            ] {
                assert!(shown.contains(words), "{words} is missing in\n{shown}");
            }
        }
    }

    #[test]
    fn both_forms_show_the_same_and_html_is_escaped() {
        let report = report();
        let (page, text) = (html(&report), markdown(&report));
        for shown in [&page, &text] {
            assert!(
                shown.contains("Python") && shown.contains("Node") && shown.contains("0/2"),
                "{shown}"
            );
        }
        assert!(page.contains("&lt;no&gt; &amp; &quot;quotes&quot;") && !page.contains("<no>"));
        assert!(text.contains("\n~~~~\n<no> & \"quotes\"\n~~~~\n"), "{text}");
        assert!(
            !page.contains("http://") && !page.contains("https://") && !page.contains("src="),
            "it needs nothing else"
        );
    }
}
