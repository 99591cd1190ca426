//! Compares the changes of metrics with etcd's.

use std::collections::BTreeSet;
use std::fmt;

use super::exceptions::{DIFFERS, Exception, MISSING, VARIES};
use super::exposition::{Exposition, Kind};
use super::workload::{Moment, Played};

/// A deviation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Difference {
    /// A series does not have etcd's value.
    Amount {
        /// The moment.
        moment: Moment,
        /// The series.
        series: String,
        /// etcd's value and ours, as text.
        values: (String, String),
    },
    /// A family has another kind or other buckets.
    Kind(String),
    /// A family of etcd's is missing, without an exception.
    Missing(String),
    /// An exception that no longer applies.
    Stale(Exception),
    /// A metric that etcd changes stays unchanged.
    Unmoved(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amount {
                moment,
                series,
                values: (etcd, ours),
            } => write!(f, "{moment:?}: {series} is {etcd} in etcd and {ours} here"),
            Self::Kind(name) => write!(f, "{name} is of another kind or has other buckets than in etcd"),
            Self::Missing(name) => write!(f, "{name} is missing"),
            Self::Stale((name, reason)) => write!(f, "the exception for {name} ({reason}) no longer applies"),
            Self::Unmoved(name) => write!(f, "{name} changes in etcd, but not here"),
        }
    }
}

/// All deviations without an exception, and all exceptions that do not apply.
#[must_use]
pub fn compare(etcd: &Played, ours: &Played) -> Vec<Difference> {
    let mut differences = families(etcd.end(), ours.end());
    let mut differing = BTreeSet::new();
    for (moment, expected) in &etcd.moments {
        let Some(found) = ours.at(*moment) else { continue };
        for series in expected.samples.keys().filter(|series| moment.shows(series)) {
            let Some((family, kind)) = expected.family(series) else {
                continue;
            };
            if excepted(MISSING, family).is_some() || excepted(VARIES, family).is_some() {
                continue;
            }
            let values = (etcd.moved(*moment, series, kind), ours.moved(*moment, series, kind));
            if is_compared(series, kind) && values.0 != values.1 {
                match excepted(DIFFERS, family) {
                    Some(exception) => drop(differing.insert(exception.0)),
                    None => differences.push(Difference::Amount {
                        moment: *moment,
                        series: series.clone(),
                        values: (values.0.to_string(), values.1.to_string()),
                    }),
                }
            }
        }
        extra(expected, found, *moment, etcd, ours, &mut differences);
    }
    let agreeing = DIFFERS.iter().filter(|(name, _)| !differing.contains(name));
    differences.extend(agreeing.map(|exception| Difference::Stale(*exception)));
    differences.extend(unmoved(etcd, ours));
    differences
}

/// Families that are missing or of another kind, and exceptions for missing families that no longer apply.
#[must_use]
pub fn families(etcd: &Exposition, ours: &Exposition) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (name, kind) in &etcd.families {
        let exception = excepted(MISSING, name);
        match (ours.families.get(name), exception) {
            (None, None) => differences.push(Difference::Missing(name.clone())),
            (None, Some(_)) => {}
            (Some(_), Some(exception)) => differences.push(Difference::Stale(exception)),
            (Some(found), None) if found != kind || buckets(etcd, name) != buckets(ours, name) => {
                differences.push(Difference::Kind(name.clone()));
            }
            (Some(_), None) => {}
        }
    }
    let gone = MISSING.iter().filter(|(pattern, _)| {
        let mut names = etcd.families.keys();
        !names.any(|name| matches(pattern, name))
    });
    differences.extend(gone.map(|exception| Difference::Stale(*exception)));
    differences
}

/// Series that changed and that etcd does not have.
fn extra(
    expected: &Exposition,
    found: &Exposition,
    moment: Moment,
    etcd: &Played,
    ours: &Played,
    differences: &mut Vec<Difference>,
) {
    for series in found.samples.keys().filter(|series| moment.shows(series)) {
        let Some((family, kind)) = found.family(series) else {
            continue;
        };
        let is_etcds = expected.families.contains_key(family) && !expected.samples.contains_key(series);
        let is_excepted = excepted(VARIES, family).is_some() || excepted(DIFFERS, family).is_some();
        if !is_etcds || is_excepted || !is_compared(series, kind) {
            continue;
        }
        let values = (etcd.moved(moment, series, kind), ours.moved(moment, series, kind));
        if values.0 != values.1 {
            differences.push(Difference::Amount {
                moment,
                series: series.clone(),
                values: (values.0.to_string(), values.1.to_string()),
            });
        }
    }
}

/// Metrics whose amount is not compared must change too.
fn unmoved(etcd: &Played, ours: &Played) -> Vec<Difference> {
    let mut differences = Vec::new();
    for exception in VARIES {
        let moves = |played: &Played| {
            let end = played.end();
            let mut series = end.samples.keys();
            series.any(|series| {
                let is_it = end
                    .family(series)
                    .is_some_and(|(family, _)| matches(exception.0, family));
                is_it && end.value(series) != 0.0
            })
        };
        match (moves(etcd), moves(ours)) {
            (true, false) => differences.push(Difference::Unmoved(exception.0.to_owned())),
            (false, _) => differences.push(Difference::Stale(*exception)),
            (true, true) => {}
        }
    }
    differences
}

/// Whether a sample counts events or amounts, rather than time.
fn is_compared(series: &str, kind: Kind) -> bool {
    let name = series.split('{').next().unwrap_or(series);
    match kind {
        Kind::Histogram => name.ends_with("_count") || name == "etcd_debugging_lease_ttl_total_sum",
        Kind::Counter | Kind::Gauge => true,
        Kind::Summary => false,
    }
}

/// The bounds of a histogram's buckets; numbers may be written in several ways.
fn buckets(of: &Exposition, family: &str) -> BTreeSet<String> {
    let start = format!("{family}_bucket{{");
    let bound = |series: &String| {
        let (_, after) = series.strip_prefix(&start)?.split_once("le=\"")?;
        let number: f64 = after.split('"').next()?.parse().ok()?;
        Some(number.to_string())
    };
    of.samples.keys().filter_map(bound).collect()
}

fn excepted(list: &'static [Exception], family: &str) -> Option<Exception> {
    list.iter().find(|(pattern, _)| matches(pattern, family)).copied()
}

/// A pattern is a name, or the beginning of several names followed by `*`.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}
