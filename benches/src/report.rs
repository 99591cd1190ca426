//! The results as a Markdown table: medians with their spread, and their ratios to the first server's.

use std::fmt::Write as _;

use quoin_conformance::Kind;
use quoin_tools::Made;

use crate::workloads::{Better, Measured, Workload};

/// A ratio this near to 1 counts as equal on a shared machine.
const ALIKE: f64 = 0.05;

/// The results of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The servers, as columns.
    pub kinds: Vec<Kind>,
    /// The version that each server reports.
    pub versions: Vec<String>,
    /// When and on which machine.
    pub made: Made,
    /// The scale of the numbers of requests and keys.
    pub scale: f64,
    /// The workloads that were selected.
    pub asked: Vec<&'static str>,
    /// The workloads that were not selected.
    pub not_asked: Vec<&'static str>,
    /// Why the run ended early, if it did.
    pub ended: Option<String>,
    /// The numbers.
    pub rows: Vec<Row>,
}

/// One measured number, for all servers.
#[derive(Debug, Clone)]
pub struct Row {
    /// The workload it belongs to.
    pub workload: Workload,
    /// Its description; its number is that of the first run.
    pub measured: Measured,
    /// The numbers of each server, one for each run.
    pub samples: Vec<Vec<f64>>,
}

impl Row {
    /// A row without numbers yet.
    #[must_use]
    pub fn new(workload: Workload, measured: Measured, servers: usize) -> Self {
        Self {
            workload,
            measured,
            samples: vec![Vec::new(); servers],
        }
    }

    /// The median of each server divided by the first one's; `None` if one of the two has no number.
    fn ratios(&self) -> Vec<Option<f64>> {
        let medians: Vec<Option<f64>> = self.samples.iter().map(|samples| median(samples)).collect();
        let first = medians.first().copied().flatten().filter(|first| *first != 0.0);
        let ratio = |ours: &Option<f64>| Some((*ours)? / first?);
        medians.iter().skip(1).map(ratio).collect()
    }
}

/// The median; of two middle numbers the lower one.
#[must_use]
pub fn median(numbers: &[f64]) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

/// A number as text: two decimals below 10, one below 100, none above. A shared machine gives no more precision.
fn shown(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// The median; for several runs also the least and the greatest.
fn spread(samples: &[f64]) -> String {
    let Some(median) = median(samples) else {
        return "not run".to_owned();
    };
    if samples.len() == 1 {
        return shown(median);
    }
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let most = samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{} ({}–{})", shown(median), shown(least), shown(most))
}

/// One cell of the table: its text, and whether it is better or worse than the first server's.
type Cell = (String, Option<bool>);

impl Report {
    /// The whole table, aligned for terminals too, and the description of the run.
    #[must_use]
    pub fn table(&self, colours: bool) -> String {
        let mut table = vec![self.heading(&["workload", "number", "unit", "better", "runs"])];
        let mut last = "";
        for row in &self.rows {
            let workload = if row.workload.title == last {
                ""
            } else {
                row.workload.title
            };
            last = row.workload.title;
            let runs = row.samples.iter().map(Vec::len).max().unwrap_or(0).to_string();
            let texts = [
                workload,
                row.measured.what,
                row.measured.unit,
                better(&row.measured),
                &runs,
            ];
            let mut cells: Vec<Cell> = texts.map(plain).into();
            cells.extend(row.samples.iter().map(|samples| plain(&spread(samples))));
            cells.extend(row.ratios().into_iter().map(|ratio| judged(ratio, row.measured.better)));
            table.push(cells);
        }
        let mut out = aligned(&table, 5, colours);
        // Writing to a string cannot fail.
        let _written = self.about(&mut out);
        out
    }

    /// The rows of README's table.
    #[must_use]
    pub fn readme(&self) -> String {
        let mut table = vec![self.heading(&["workload", "number", "unit", "better"])];
        let mut last = "";
        for row in self.rows.iter().filter(|row| row.measured.in_readme) {
            let workload = if row.workload.title == last {
                ""
            } else {
                row.workload.title
            };
            last = row.workload.title;
            let texts = [workload, row.measured.what, row.measured.unit, better(&row.measured)];
            let mut cells: Vec<Cell> = texts.map(plain).into();
            let medians = row.samples.iter().map(|samples| median(samples));
            cells.extend(medians.map(|median| plain(&median.map_or_else(|| "not run".to_owned(), shown))));
            cells.extend(row.ratios().into_iter().map(|ratio| judged(ratio, row.measured.better)));
            table.push(cells);
        }
        aligned(&table, 4, false).trim_end().to_owned()
    }

    fn heading(&self, names: &[&str]) -> Vec<Cell> {
        let first = self.kinds.first().map_or("", |kind| kind.name());
        let servers = self.kinds.iter().map(|kind| plain(kind.name()));
        let ours = self.kinds.iter().skip(1);
        let ratios = ours.map(|kind| plain(&format!("{} / {first}", kind.name())));
        names
            .iter()
            .map(|name| plain(name))
            .chain(servers)
            .chain(ratios)
            .collect()
    }

    fn about(&self, out: &mut String) -> std::fmt::Result {
        let mut done: Vec<&str> = self.rows.iter().map(|row| row.workload.name).collect();
        done.dedup();
        let all = self.asked.len() + self.not_asked.len();
        write!(out, "\n{} of {all} workloads.", done.len())?;
        if !self.not_asked.is_empty() {
            write!(out, " Not asked for: {}.", self.not_asked.join(", "))?;
        }
        if let Some(ended) = &self.ended {
            let missing = self.asked.iter().filter(|name| !done.contains(name));
            let missing: Vec<&str> = missing.copied().collect();
            write!(out, " Ended early ({ended})")?;
            if !missing.is_empty() {
                write!(out, ", without {}", missing.join(", "))?;
            }
            write!(out, ".")?;
        }
        writeln!(
            out,
            "\nMedians (least–most) of the runs shown; one run has no spread. Client and servers share the cores."
        )?;
        if self.scale != 1.0 {
            writeln!(
                out,
                "Every number of requests and keys is multiplied by {}.",
                self.scale
            )?;
        }
        let versions = self.kinds.iter().zip(&self.versions);
        let versions: Vec<String> = versions
            .map(|(kind, version)| format!("{} {version}", kind.name()))
            .collect();
        write!(out, "{}. {}.", versions.join(", "), self.made)
    }
}

fn plain(text: &str) -> Cell {
    (text.to_owned(), None)
}

fn better(measured: &Measured) -> &'static str {
    match measured.better {
        Better::Higher => "higher",
        Better::Lower => "lower",
    }
}

fn judged(ratio: Option<f64>, better: Better) -> Cell {
    let Some(ratio) = ratio else { return plain("–") };
    let is_good = (ratio > 1.0) == (better == Better::Higher);
    (format!("{ratio:.2}"), ((ratio - 1.0).abs() > ALIKE).then_some(is_good))
}

/// Text to the left, numbers to the right.
fn aligned(table: &[Vec<Cell>], texts: usize, colours: bool) -> String {
    let columns = table.first().map_or(0, Vec::len);
    let width = |column: usize| table.iter().map(|cells| cells[column].0.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0).max(3)).collect();
    let mut out = String::new();
    for (number, cells) in table.iter().enumerate() {
        for (column, ((text, news), width)) in cells.iter().zip(&widths).enumerate() {
            let padded = if column < texts {
                format!("{text:<width$}")
            } else {
                format!("{text:>width$}")
            };
            let cell = match news.filter(|_| colours) {
                Some(true) => format!("| \x1b[32m{padded}\x1b[0m "),
                Some(false) => format!("| \x1b[31m{padded}\x1b[0m "),
                None => format!("| {padded} "),
            };
            out.push_str(&cell);
        }
        out.push_str("|\n");
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                out.push_str(&format!(
                    "|{}{}",
                    "-".repeat(width + 1),
                    if column < texts { "-" } else { ":" }
                ));
            }
            out.push_str("|\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads;

    fn report() -> Report {
        let measured = |what, unit, better, in_readme| Measured {
            what,
            unit,
            better,
            in_readme,
            number: 0.0,
        };
        let gets = Workload {
            title: "gets",
            ..workloads::ALL[0]
        };
        let mut rate = Row::new(gets, measured("throughput", "requests/s", Better::Higher, false), 2);
        rate.samples = vec![vec![30_000.0, 10_000.0, 20_000.0], vec![50_000.0, 9_000.0, 40_000.0]];
        let mut memory = Row::new(gets, measured("memory", "MiB", Better::Lower, true), 2);
        memory.samples = vec![vec![2.0], vec![4.5]];
        let mut missing = Row::new(gets, measured("disk", "MiB", Better::Lower, true), 2);
        missing.samples[0] = vec![1.0];
        Report {
            kinds: vec![Kind::Etcd, Kind::QuoinTokio],
            versions: vec!["3".into(), "1".into()],
            made: Made {
                date: "2024-02-29".into(),
                ..Made::default()
            },
            scale: 0.5,
            asked: vec!["gets", "puts"],
            not_asked: vec!["million"],
            ended: Some("SIGINT".into()),
            rows: vec![rate, memory, missing],
        }
    }

    #[test]
    fn a_report_shows_medians_their_spread_and_ratios() {
        let text = report().table(false);
        let expected = "\
| workload | number     | unit       | better | runs |                etcd |        quoin-tokio | quoin-tokio / etcd |
|----------|------------|------------|--------|------|--------------------:|-------------------:|-------------------:|
| gets     | throughput | requests/s | higher | 3    | 20000 (10000–30000) | 40000 (9000–50000) |               2.00 |
|          | memory     | MiB        | lower  | 1    |                2.00 |               4.50 |               2.25 |
|          | disk       | MiB        | lower  | 1    |                1.00 |            not run |                  – |
";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn a_report_lists_what_was_measured_and_what_was_not() {
        let text = report().table(false);
        for words in [
            "1 of 3 workloads.",
            "Not asked for: million.",
            "Ended early (SIGINT), without puts.",
            "multiplied by 0.5",
            "etcd 3, quoin-tokio 1. 2024-02-29,",
        ] {
            assert!(text.contains(words), "{words} is missing in\n{text}");
        }
    }

    #[test]
    fn better_and_worse_are_coloured_on_a_terminal_only() {
        let text = report().table(true);
        assert!(text.contains("\x1b[32m              2.00\x1b[0m"), "{text}");
        assert!(text.contains("\x1b[31m              2.25\x1b[0m"), "{text}");
        assert!(!report().table(false).contains('\x1b'));
    }

    #[test]
    fn readme_gets_its_rows_without_runs_and_spread() {
        let text = report().readme();
        let expected = "\
| workload | number | unit | better | etcd | quoin-tokio | quoin-tokio / etcd |
|----------|--------|------|--------|-----:|------------:|-------------------:|
| gets     | memory | MiB  | lower  | 2.00 |        4.50 |               2.25 |
|          | disk   | MiB  | lower  | 1.00 |     not run |                  – |";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_median_is_the_middle_one() {
        for (numbers, middle) in [
            (vec![], None),
            (vec![3.0], Some(3.0)),
            (vec![3.0, 1.0], Some(1.0)),
            (vec![9.0, 1.0, 5.0], Some(5.0)),
        ] {
            assert_eq!(median(&numbers), middle);
        }
    }
}
