//! What etcdctl and the servers printed, without what is different in each run and is no name: widths of tables, orders of
//! maps, sizes, terms.

use std::fmt::Write as _;

/// The columns of `endpoint status`, and those whose values are different in each run.
const STATUS_COLUMNS: usize = 10;
const VARYING: [(usize, &str); 4] = [(3, "<size>"), (6, "<term>"), (7, "<index>"), (8, "<index>")];
/// The characters of a table's frame: of old versions of etcdctl, and of new ones.
const RULES: [char; 4] = ['+', '┌', '├', '└'];
const BARS: [char; 2] = ['|', '│'];

const REMOVED: &str = "the member has been permanently removed from the cluster";

/// Differences that are intended: what a real etcd prints, what ours prints, and what the record has for both.
///
/// A member that comes back without its data under its old identity: a real etcd starts, and ends with a panic of raft at
/// its leader's first heartbeat, or votes a second time in the same term before that. Ours refuses to start.
const INTENDED: [(&str, &str, &str); 1] = [(
    "Was the raft log corrupted, truncated, or lost?",
    "has run before and its data is gone",
    "its data are lost",
)];

/// The output of etcdctl.
pub(crate) fn plain(shown: &str) -> String {
    let mut plain = String::new();
    let mut lines: Vec<&str> = shown
        .trim_end()
        .lines()
        .filter(|line| !line.starts_with(RULES))
        .collect();
    // They are in the order of ids, and those of added members differ in each run, or in that of the answers.
    if lines
        .iter()
        .all(|line| line.contains("started, ") || line.contains("is healthy"))
    {
        lines.sort_unstable();
    }
    for line in lines {
        let is_status = line.split(',').count() == STATUS_COLUMNS;
        let line = match line.strip_prefix(BARS) {
            Some(line) => row(line.trim_end_matches(BARS).split(BARS)),
            None if is_status => row(line.split(',')),
            None => sorted(line, "ETCD_INITIAL_CLUSTER=\"", "\"", ","),
        };
        let _ = writeln!(plain, "{}", line.trim_end());
    }
    plain
}

fn row<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let mut cells: Vec<&str> = cells.map(str::trim).collect();
    if cells.len() == STATUS_COLUMNS && cells[0] != "ENDPOINT" {
        VARYING.into_iter().for_each(|(at, name)| cells[at] = name);
    }
    cells.join(" | ")
}

/// A text whose list between two marks is sorted.
fn sorted(text: &str, from: &str, to: &str, between: &str) -> String {
    let parts = text
        .split_once(from)
        .and_then(|(before, rest)| Some((before, rest.split_once(to)?)));
    let Some((before, (list, after))) = parts else {
        return text.to_owned();
    };
    let mut list: Vec<&str> = list.split(between).collect();
    list.sort_unstable();
    format!("{before}{from}{}{to}{after}", list.join(between))
}

/// Why the process ended that wrote the end of this log: its last complaint.
pub(crate) fn reason(log: &str) -> String {
    let run = log.rsplit("\"Running: \"").next().unwrap_or(log);
    if run.contains(REMOVED) {
        return REMOVED.to_owned();
    }
    let said = run.lines().rev().find_map(complaint).unwrap_or_default();
    let intended = |(etcds, ours, _): &&(&str, &str, &str)| said.contains(etcds) || said.contains(ours);
    match INTENDED.iter().find(intended) {
        Some((.., both)) => (*both).to_owned(),
        None => {
            let said = said.split(", last resolver error").next().unwrap_or(&said);
            let said = sorted(said, "Members:[&", "] RemovedMemberIDs", " &");
            sorted(&said, "initial cluster ", " has duplicate url", ",")
        }
    }
}

/// The message and the error of a log line that says why the process ends.
fn complaint(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let part = |key: &str| line[key].as_str();
    part("level").filter(|level| matches!(*level, "fatal" | "panic"))?;
    let parts: Vec<&str> = [part("msg"), part("error")].into_iter().flatten().collect();
    Some(parts.join(": "))
}

#[test]
fn lists_of_a_map_are_sorted() {
    let line = "ETCD_INITIAL_CLUSTER=\"b=2,a=1\"";
    assert_eq!(plain(line), "ETCD_INITIAL_CLUSTER=\"a=1,b=2\"\n");
}

#[test]
fn a_status_has_no_sizes_terms_and_indexes() {
    let rows = "┌──┐\n│ c │ 1 │ 3.5 │ 20 kB │ true │ false │ 2 │ 8 │ 8 │ │\n└──┘\n";
    let lines = "c, 1, 3.5, 25 kB, true, false, 3, 9, 9, \n";
    let same = "c | 1 | 3.5 | <size> | true | false | <term> | <index> | <index> |\n";
    assert_eq!((plain(rows), plain(lines)), (same.to_owned(), same.to_owned()));
}
