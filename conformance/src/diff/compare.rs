//! Compares the answers of two servers with each other and with the model's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Debug, Write as _};

use quoin_model::call::Answer;

use super::intended::{level_progress, level_replies};
use super::oracle::{Expected, Planned};
use super::player::{Reply, Seen};
use super::step::Step;
use super::watching::{Delivered, Deliveries, Due};

/// Lines shown around a differing one.
const CONTEXT: usize = 3;
/// The largest number of lines shown.
const MOST_LINES: usize = 60;
/// A longer line is cut.
const LONGEST_LINE: usize = 200;

/// How often each intended difference occurred.
pub type Met = BTreeMap<&'static str, u64>;

/// The two sides of a difference.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parties {
    /// The server under test differs from etcd.
    EtcdAndOurs,
    /// Both servers agree, and the model differs.
    EtcdAndModel,
}

/// One difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The two sides.
    pub between: Parties,
    /// The subject: a request by its name, or a watch.
    pub about: String,
    /// The difference in lines: `-` is etcd's, `+` the other's.
    pub shown: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let other = match self.between {
            Parties::EtcdAndOurs => "ours",
            Parties::EtcdAndModel => "the model",
        };
        write!(out, "{}: etcd (-) and {other} (+)\n{}", self.about, self.shown)
    }
}

/// The first difference at a step.
#[must_use]
pub fn compare(planned: &Planned, real: &Seen, ours: &Seen, met: &mut Met) -> Option<Difference> {
    if let (Some(due), Some(real), Some(ours)) = (&planned.due, &real.arrived, &ours.arrived) {
        let difference = arrivals(due, real, ours, met);
        if difference.is_some() {
            return difference;
        }
    }
    let about = || planned.step.name().to_owned();
    if real.replies.len() != ours.replies.len() {
        return Some(Difference {
            between: Parties::EtcdAndOurs,
            about: about(),
            shown: shown(&real.replies, &ours.replies),
        });
    }
    for (at, (real, ours)) in real.replies.iter().zip(&ours.replies).enumerate() {
        let between = if !alike(&planned.step, real, ours, |name| *met.entry(name).or_default() += 1) {
            Parties::EtcdAndOurs
        } else if !is_expected(planned, at, real) {
            Parties::EtcdAndModel
        } else {
            continue;
        };
        let other = match (between, planned.replies.get(at)) {
            (Parties::EtcdAndModel, Some(Expected::Known(known))) => format!("{known:#?}"),
            (Parties::EtcdAndModel, _) => "nothing".to_owned(),
            (Parties::EtcdAndOurs, _) => format!("{ours:#?}"),
        };
        let real = match between {
            Parties::EtcdAndModel => nameless(real),
            Parties::EtcdAndOurs => real.clone(),
        };
        return Some(Difference {
            between,
            about: about(),
            shown: unified(&format!("{real:#?}"), &other),
        });
    }
    None
}

fn alike(step: &Step, real: &Reply, other: &Reply, met: impl FnMut(&'static str)) -> bool {
    if real == other {
        return true;
    }
    let (mut real, mut other) = (real.clone(), other.clone());
    level_replies(step, &mut real, &mut other, met);
    real == other
}

/// Whether the model's answer agrees: true where the model is silent, false for a reply that it does not expect at all.
/// The model's headers name no cluster, member or term, so these are removed from the real reply first.
fn is_expected(planned: &Planned, at: usize, real: &Reply) -> bool {
    match planned.replies.get(at) {
        Some(Expected::Silent) => true,
        Some(Expected::Known(known)) => alike(&planned.step, &nameless(real), known, |_| {}),
        None => false,
    }
}

fn nameless(reply: &Reply) -> Reply {
    let mut reply = reply.clone().map(Answer::anonymous);
    match &mut reply {
        // etcd lists leases by their expiry. The model has no clock, so both lists are compared in the order of ids.
        Ok(Answer::LeaseLeases(response)) => response.leases.sort_by_key(|lease| lease.id),
        // The model leaves this field out: etcd has it since 3.6.
        Ok(Answer::HashKv(response)) => response.hash_revision = 0,
        _ => {}
    }
    reply
}

fn arrivals(due: &Due, real: &Deliveries, ours: &Deliveries, met: &mut Met) -> Option<Difference> {
    let watches: BTreeSet<_> = due.deliveries.keys().chain(real.keys()).chain(ours.keys()).collect();
    for watch in watches {
        let of = |deliveries: &Deliveries| deliveries.get(watch).cloned().unwrap_or_default();
        let (expected, real, mut ours) = (of(&due.deliveries), of(real), of(ours));
        if let Some(name) = level_progress(due, *watch, &real, &mut ours) {
            *met.entry(name).or_default() += 1;
        }
        let about = format!("watch {} on stream {}", watch.1, watch.0);
        if real != ours {
            return Some(Difference {
                between: Parties::EtcdAndOurs,
                about,
                shown: shown(&real, &ours),
            });
        }
        let nameless: Vec<Delivered> = real.iter().cloned().map(anonymous).collect();
        if nameless != expected {
            return Some(Difference {
                between: Parties::EtcdAndModel,
                about,
                shown: shown(&nameless, &expected),
            });
        }
    }
    None
}

pub(super) fn anonymous(mut delivered: Delivered) -> Delivered {
    if let Some(header) = &mut delivered.response.header {
        (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
    }
    delivered
}

fn shown(real: &impl Debug, other: &impl Debug) -> String {
    unified(&format!("{real:#?}"), &format!("{other:#?}"))
}

/// A diff of two texts: `-` marks a line that only `real` has, `+` one that only `other` has; with a few lines of
/// context.
fn unified(real: &str, other: &str) -> String {
    let (real, other): (Vec<&str>, Vec<&str>) = (real.lines().collect(), other.lines().collect());
    let mut lines: Vec<(char, &str)> = Vec::new();
    let (mut left, mut right) = (0, 0);
    while left < real.len() || right < other.len() {
        if left < real.len() && right < other.len() && real[left] == other[right] {
            lines.push((' ', real[left]));
            (left, right) = (left + 1, right + 1);
            continue;
        }
        let (skipped, added) = next_meeting(&real[left..], &other[right..]);
        lines.extend(real[left..left + skipped].iter().map(|line| ('-', *line)));
        lines.extend(other[right..right + added].iter().map(|line| ('+', *line)));
        (left, right) = (left + skipped, right + added);
    }
    let differing: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].0 != ' ').collect();
    let is_near = |at: usize| differing.iter().any(|differing| differing.abs_diff(at) <= CONTEXT);
    let mut text = String::new();
    let near = lines.iter().enumerate().filter(|(at, _)| is_near(*at));
    for (_, (mark, line)) in near.take(MOST_LINES) {
        let cut: String = line.chars().take(LONGEST_LINE).collect();
        let _ = writeln!(text, "{mark} {cut}");
    }
    text
}

/// How many lines of each must be skipped until the next common line.
fn next_meeting(real: &[&str], other: &[&str]) -> (usize, usize) {
    let furthest = (real.len() + other.len()).min(400);
    for distance in 1..furthest {
        for skipped in 0..=distance.min(real.len()) {
            let added = distance - skipped;
            if skipped < real.len() && added < other.len() && real[skipped] == other[added] {
                return (skipped, added);
            }
        }
    }
    (real.len(), other.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_differing_lines_and_some_context_are_shown() {
        let real = "a\nb\nc\nd\ne\nf\ng";
        let other = "a\nb\nc\nd\nE\nf\ng\nh";
        assert_eq!(unified(real, other), "  b\n  c\n  d\n- e\n+ E\n  f\n  g\n+ h\n");
        assert_eq!(unified("a\nb", "b"), "- a\n  b\n");
    }
}
