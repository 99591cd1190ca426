//! Checks a recorded history: the watch, the writes, the reads, the leases, and linearizability.
//!
//! The watch comes first ([`past`]): its events are the store's whole history. The other checks compare with it.
//! Finally the linearizability checker of `quoin-model` gets the requests; for requests without an answer, with the
//! outcomes that the watch shows.

mod leases;
mod order;
pub(super) mod past;
mod reads;
#[cfg(test)]
mod tests;
mod writes;

use std::fmt::{self, Write as _};

use super::record::History;
use past::Past;

/// Lines of the history shown around a violation, of requests and of events each.
const SHOWN_LINES: usize = 24;
/// Revisions shown before and after a violation.
const SHOWN_REVISIONS: i64 = 3;
const WORDS_MAX: usize = 4000;

/// A violated rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// What was seen, and what was expected.
    pub words: String,
    /// The revision.
    pub revision: Option<i64>,
}

/// The counts of a valid history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Requests about keys.
    pub operations: usize,
    /// Those without a known outcome.
    pub unknown: usize,
    /// Revisions the store went through.
    pub revisions: usize,
    /// Successive watch streams.
    pub streams: usize,
    /// Leases that were seen to end.
    pub expired: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} operations ({} of unknown outcome), {} revisions, {} watch streams, {} leases expired",
            self.operations, self.unknown, self.revisions, self.streams, self.expired
        )
    }
}

impl Summary {
    /// Adds the counts of another history.
    pub fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.unknown += other.unknown;
        self.revisions += other.revisions;
        self.streams += other.streams;
        self.expired += other.expired;
    }
}

impl Violation {
    fn new(rule: &'static str, revision: impl Into<Option<i64>>, words: String) -> Self {
        Self {
            rule,
            words,
            revision: revision.into(),
        }
    }
}

/// Checks a history.
///
/// # Errors
/// The first violation.
pub fn all(history: &History) -> Result<Summary, Violation> {
    if let Some(fault) = history.faults.first() {
        return Err(Violation::new("no faults", None, fault.clone()));
    }
    let past = Past::of(history)?;
    let claims = writes::check(history, &past)?;
    reads::check(history, &past, &claims)?;
    let expired = leases::check(history, &past)?;
    order::check(history, &past, &claims)?;
    Ok(Summary {
        operations: history.operations.len(),
        unknown: history.operations.iter().filter(|one| one.returned.is_none()).count(),
        revisions: past.len(),
        streams: history.watched.last().map_or(0, |last| last.stream as usize + 1),
        expired,
    })
}

/// The violation and the part of the history around it, for a reader.
#[must_use]
pub fn tell(history: &History, violation: &Violation) -> String {
    let mut text = format!("{}: {}", violation.rule, violation.words);
    if text.len() > WORDS_MAX {
        let end = (0..=WORDS_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str(" ...");
    }
    let Some(revision) = violation.revision else {
        return text;
    };
    let shown = revision - SHOWN_REVISIONS..=revision + SHOWN_REVISIONS;
    let is_near = |operation: &&super::record::Recorded| operation.revision().is_some_and(|one| shown.contains(&one));
    text.push_str("\nrequests around it (client, asked, answered in us):\n");
    for one in history.operations.iter().filter(is_near).take(SHOWN_LINES) {
        let (from, until) = (one.invoked, one.returned.map_or("?".to_owned(), |at| at.to_string()));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  {} [{from}, {until}] {:?} -> {:?}",
            one.client, one.request, one.reply
        );
    }
    text.push_str("watched around it:\n");
    let events = history.watched.iter().flat_map(|response| {
        let (at, stream) = (response.at, response.stream);
        response.events.iter().map(move |event| (at, stream, event))
    });
    let near = events.filter(|(_, _, event)| shown.contains(&event.revision));
    for (at, stream, event) in near.take(SHOWN_LINES) {
        let _ = writeln!(text, "  stream {stream} at {at}: {event:?}");
    }
    text
}
