//! The outcome as a Markdown table: medians, and ours in relation to the first server.

use std::fmt;

use quoin_conformance::Kind;

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The servers, as columns.
    pub kinds: Vec<Kind>,
    /// What each says it is.
    pub versions: Vec<String>,
    /// How often each number was taken.
    pub runs: usize,
    /// How much of each number of requests and keys was done.
    pub scale: f64,
    /// The numbers.
    pub rows: Vec<Row>,
}

/// One kind of number, of all servers.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The workload it belongs to.
    pub workload: &'static str,
    /// What it is, with its unit.
    pub what: &'static str,
    /// For each server its numbers, one a run.
    pub samples: Vec<Vec<f64>>,
}

impl Row {
    /// A row without numbers yet.
    #[must_use]
    pub fn new(workload: &'static str, what: &'static str, servers: usize) -> Self {
        Self {
            workload,
            what,
            samples: vec![Vec::new(); servers],
        }
    }
}

/// The middle one of the numbers; the lower of two middle ones.
#[must_use]
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
        .get(sorted.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or_default()
}

/// Three significant digits are more than a shared machine can promise.
fn shown(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = vec![self.heading()];
        let mut workload = "";
        for row in &self.rows {
            let mut cells = vec![if row.workload == workload {
                String::new()
            } else {
                row.workload.to_owned()
            }];
            workload = row.workload;
            cells.push(row.what.to_owned());
            let medians: Vec<f64> = row.samples.iter().map(|samples| median(samples)).collect();
            cells.extend(medians.iter().map(|median| shown(*median)));
            cells.extend(medians.iter().skip(1).map(|ours| format!("{:.2}", ours / medians[0])));
            table.push(cells);
        }
        write_table(out, &table)?;
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let versions: Vec<String> = self
            .kinds
            .iter()
            .zip(&self.versions)
            .map(|(kind, version)| format!("{}: {version}", kind.name()))
            .collect();
        write!(
            out,
            "\nMedians of {} runs on {cores} cores shared with the client",
            self.runs
        )?;
        if self.scale != 1.0 {
            write!(out, ", every number of requests and keys times {}", self.scale)?;
        }
        write!(out, ". {}.", versions.join("; "))
    }
}

impl Report {
    fn heading(&self) -> Vec<String> {
        let names = self.kinds.iter().map(|kind| kind.name().to_owned());
        let first = self.kinds.first().map_or("", |kind| kind.name());
        let ratios = self
            .kinds
            .iter()
            .skip(1)
            .map(|kind| format!("{} / {first}", kind.name()));
        ["workload".to_owned(), "number".to_owned()]
            .into_iter()
            .chain(names)
            .chain(ratios)
            .collect()
    }
}

/// Aligned, so that it reads well in a terminal too: text to the left, numbers to the right.
fn write_table(out: &mut fmt::Formatter<'_>, table: &[Vec<String>]) -> fmt::Result {
    let columns = table.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            table
                .iter()
                .map(|cells| cells[column].chars().count())
                .max()
                .unwrap_or(0)
                .max(3)
        })
        .collect();
    for (number, cells) in table.iter().enumerate() {
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            if column < 2 {
                write!(out, "| {cell:<width$} ")?;
            } else {
                write!(out, "| {cell:>width$} ")?;
            }
        }
        writeln!(out, "|")?;
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let line = "-".repeat(width + 1);
                write!(out, "|{line}{}", if column < 2 { "-" } else { ":" })?;
            }
            writeln!(out, "|")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_shows_medians_and_ratios() {
        let mut row = Row::new("gets", "requests/s", 2);
        row.samples = vec![vec![30_000.0, 10_000.0, 20_000.0], vec![50_000.0, 9_000.0, 40_000.0]];
        let mut latency = Row::new("gets", "p50 ms", 2);
        latency.samples = vec![vec![2.0], vec![0.5]];
        let kinds = vec![Kind::Etcd, Kind::QuoinTokio];
        let report = Report {
            kinds,
            versions: vec!["3".into(), "1".into()],
            runs: 3,
            scale: 1.0,
            rows: vec![row, latency],
        };
        let text = report.to_string();
        let expected = "\
| workload | number     |  etcd | quoin-tokio | quoin-tokio / etcd |
|----------|------------|------:|------------:|-------------------:|
| gets     | requests/s | 20000 |       40000 |               2.00 |
|          | p50 ms     |  2.00 |        0.50 |               0.25 |
";
        assert!(text.starts_with(expected), "{text}");
        assert!(
            text.contains("Medians of 3 runs") && text.ends_with("etcd: 3; quoin-tokio: 1."),
            "{text}"
        );
    }

    #[test]
    fn the_median_is_the_middle_one() {
        for (numbers, middle) in [
            (vec![], 0.0),
            (vec![3.0], 3.0),
            (vec![3.0, 1.0], 1.0),
            (vec![9.0, 1.0, 5.0], 5.0),
        ] {
            assert_eq!(median(&numbers), middle);
        }
    }
}
