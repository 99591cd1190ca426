//! The search of Wing and Gong, with Lowe's memory of failed states, for few operations of unknown outcome.
//!
//! The search is depth-first: it places an operation that real time allows and the specification accepts, and takes it
//! back if nothing can follow. These rules shorten the search without losing an order:
//!
//! - A set of placed operations is not tried twice in the same state. Nor is a set that only adds operations of unknown
//!   outcome to a tried one: everything that can follow the larger set can follow the smaller one.
//! - An operation that changes nothing in any state is placed where it first fits, and no alternative to it is tried:
//!   in any order that has it later, it can be moved here.
//! - An operation of unknown outcome that would change nothing here is not placed: the order without it is as good.
//! - Hints: operations are tried in the order of the levels they report, and a state above the level of an operation
//!   that is still to be placed is abandoned.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::timeline::Timeline;
use super::{OperationOf, Spec, Verdict, Violation};

/// The rules of the search. The default has all of them; the tests of the checker switch them off one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// An operation comes after those that returned before it was invoked.
    pub(super) real_time: bool,
    /// An operation that returns at the time at which another is invoked overlaps it.
    pub(super) touching_overlap: bool,
    /// An operation of unknown outcome may have happened.
    pub(super) unknown_may_happen: bool,
    /// An operation whose reply is known has happened, even if the time is unknown.
    pub(super) seen_has_happened: bool,
    /// An operation of unknown outcome may happen after operations invoked later.
    pub(super) unknown_may_be_late: bool,
    /// The memory of tried sets distinguishes states.
    pub(super) memory_minds_state: bool,
    /// The memory of tried sets distinguishes sets of required operations.
    pub(super) memory_minds_placed: bool,
    /// The memory of tried sets distinguishes sets of operations of unknown outcome.
    pub(super) memory_minds_unknown: bool,
    /// Only an operation that changes nothing is placed for good.
    pub(super) only_reads_are_final: bool,
    /// Only an operation of unknown outcome is left out if it changes nothing.
    pub(super) only_unknown_is_left_out: bool,
    /// A state is beyond an operation's level if its own level is higher, not if it is equal.
    pub(super) level_is_inclusive: bool,
    /// An operation that was taken back has to be placed again.
    pub(super) taken_back_is_pending: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            real_time: true,
            touching_overlap: true,
            unknown_may_happen: true,
            seen_has_happened: true,
            unknown_may_be_late: true,
            memory_minds_state: true,
            memory_minds_placed: true,
            memory_minds_unknown: true,
            only_reads_are_final: true,
            only_unknown_is_left_out: true,
            level_is_inclusive: true,
            taken_back_is_pending: true,
        }
    }
}

/// A search in progress.
pub(super) struct Search<'a, S: Spec> {
    spec: &'a S,
    operations: &'a [OperationOf<S>],
    rules: Rules,
    traits: Vec<Traits>,
    timeline: Timeline,
    /// The placed operations, in order. Between steps, `frames` has one entry more.
    order: Vec<usize>,
    frames: Vec<Frame<S::State>>,
    /// The number of required operations still to be placed.
    pending: usize,
    /// The hints of these operations, each with its count.
    pending_hints: BTreeMap<i64, usize>,
    /// The placed operations by their bits: the required ones, and those of unknown outcome.
    required: Bits,
    unknown: Bits,
    /// By the placed required operations and the state: the sets of operations of unknown outcome with which they were
    /// tried.
    memory: BTreeMap<(Vec<u64>, u128), Vec<Bits>>,
    /// The longest order so far, by the number of required operations in it.
    best: Option<((usize, Reverse<usize>), Violation)>,
}

/// Properties of an operation, computed before the search.
struct Traits {
    must_happen: bool,
    changes_nothing: bool,
    hint: Option<i64>,
    /// Its place in the order in which candidates are tried.
    rank: usize,
    /// Its number among the required operations, or among those of unknown outcome.
    bit: usize,
}

/// A state, the operations that may come next in it, and how many of those were tried.
struct Frame<T> {
    state: T,
    candidates: Vec<usize>,
    tried: usize,
}

impl<'a, S: Spec> Search<'a, S> {
    /// A search before its first step.
    pub(super) fn new(spec: &'a S, operations: &'a [OperationOf<S>], rules: Rules) -> Self {
        let traits = traits(spec, operations, rules);
        let spans: Vec<_> = operations
            .iter()
            .zip(&traits)
            .map(|(operation, traits)| {
                let until = operation.returned.unwrap_or(u64::MAX);
                (operation.invoked, traits.must_happen.then_some(until))
            })
            .collect();
        let mut pending_hints = BTreeMap::new();
        for hint in traits.iter().filter_map(|traits| traits.hint) {
            *pending_hints.entry(hint).or_default() += 1;
        }
        let pending = traits.iter().filter(|traits| traits.must_happen).count();
        Self {
            spec,
            operations,
            rules,
            timeline: Timeline::new(&spans, rules),
            order: Vec::new(),
            frames: Vec::new(),
            pending,
            pending_hints,
            required: Bits::new(pending),
            unknown: Bits::new(operations.len() - pending),
            traits,
            memory: BTreeMap::new(),
            best: None,
        }
    }

    /// Searches until the verdict is clear or `max_nodes` steps were tried.
    pub(super) fn run(mut self, max_nodes: u64) -> Verdict {
        let mut nodes = 0;
        self.enter(self.spec.initial());
        while self.pending > 0 {
            let Some(operation) = self.next_candidate() else {
                if !self.take_back() {
                    let violation = self.best.map(|(_, violation)| violation);
                    return Verdict::Violation(violation.expect("the first frame was left, so one was recorded"));
                }
                continue;
            };
            if nodes == max_nodes {
                return Verdict::GaveUp { nodes };
            }
            nodes += 1;
            let Some(state) = self.step(operation) else { continue };
            self.place(operation);
            self.order.push(operation);
            if self.is_beyond(&state) {
                self.record(|search| search.passed_by(&state));
                self.leave();
            } else if self.is_new(&state) {
                self.enter(state);
            } else {
                self.leave();
            }
        }
        Verdict::Linearizable { order: self.order }
    }

    fn enter(&mut self, state: S::State) {
        let mut candidates = self.timeline.candidates(self.rules);
        let oldest = candidates.first().copied();
        candidates.retain(|&operation| {
            let traits = &self.traits[operation];
            let in_time = self.rules.unknown_may_be_late || oldest == Some(operation);
            traits.must_happen || (!traits.changes_nothing && self.rules.unknown_may_happen && in_time)
        });
        candidates.sort_unstable_by_key(|&operation| self.traits[operation].rank);
        self.frames.push(Frame {
            state,
            candidates,
            tried: 0,
        });
    }

    fn next_candidate(&mut self) -> Option<usize> {
        let frame = self.frames.last_mut()?;
        let candidate = frame.candidates.get(frame.tried).copied();
        frame.tried += 1;
        candidate
    }

    /// The state after `operation`, if it is worth trying.
    fn step(&mut self, operation: usize) -> Option<S::State> {
        let frame = self.frames.last_mut()?;
        let traits = &self.traits[operation];
        let asked = &self.operations[operation];
        let state = self.spec.step(&frame.state, &asked.input, asked.output.as_ref())?;
        let may_be_left_out = !traits.must_happen || !self.rules.only_unknown_is_left_out;
        if may_be_left_out && state == frame.state {
            return None;
        }
        if traits.changes_nothing || !self.rules.only_reads_are_final {
            frame.tried = frame.candidates.len();
        }
        Some(state)
    }

    /// Leaves the last frame, in which everything was tried. Returns whether there is another.
    fn take_back(&mut self) -> bool {
        if let Some(frame) = self.frames.pop() {
            self.record(|_| frame.candidates);
        }
        self.leave()
    }

    /// Takes back the operation placed last, if there is one.
    fn leave(&mut self) -> bool {
        let last = self.order.pop();
        if let Some(operation) = last {
            self.unplace(operation);
        }
        last.is_some()
    }

    /// Keeps the current order if it is the longest so far. Of two orders of the same length, it keeps the one with
    /// fewer operations of unknown outcome.
    fn record(&mut self, stuck: impl FnOnce(&Self) -> Vec<usize>) {
        let depth = (self.required.count(), Reverse(self.order.len()));
        if self.best.as_ref().is_none_or(|(best, _)| depth > *best) {
            let mut stuck = stuck(self);
            stuck.sort_by_key(|&operation| self.operations[operation].returned.unwrap_or(u64::MAX));
            let longest = self.order.clone();
            self.best = Some((depth, Violation { longest, stuck }));
        }
    }

    /// Operations still to be placed whose level is below that of `state`.
    fn passed_by(&self, state: &S::State) -> Vec<usize> {
        let level = self.spec.level(state);
        let is_passed = |operation: &usize| {
            let traits = &self.traits[*operation];
            traits.must_happen && !self.required.has(traits.bit) && traits.hint.is_some() && traits.hint < level
        };
        (0..self.traits.len()).filter(is_passed).collect()
    }

    fn place(&mut self, operation: usize) {
        self.timeline.lift(operation);
        let traits = &self.traits[operation];
        if !traits.must_happen {
            self.unknown.set(traits.bit, true);
            return;
        }
        self.required.set(traits.bit, true);
        self.pending -= 1;
        if let Some(hint) = traits.hint
            && let Some(count) = self.pending_hints.get_mut(&hint)
        {
            *count -= 1;
            if *count == 0 {
                self.pending_hints.remove(&hint);
            }
        }
    }

    fn unplace(&mut self, operation: usize) {
        let traits = &self.traits[operation];
        if traits.must_happen {
            self.required.set(traits.bit, false);
            if let Some(hint) = traits.hint {
                *self.pending_hints.entry(hint).or_default() += 1;
            }
            self.pending += 1;
            if !self.rules.taken_back_is_pending {
                return;
            }
        } else {
            self.unknown.set(traits.bit, false);
        }
        self.timeline.put_back(operation);
    }

    /// Whether the level of `state` is above that of an operation still to be placed.
    fn is_beyond(&self, state: &S::State) -> bool {
        match (self.spec.level(state), self.pending_hints.first_key_value()) {
            (Some(level), Some((hint, _))) if self.rules.level_is_inclusive => level > *hint,
            (Some(level), Some((hint, _))) => level >= *hint,
            (None, _) | (_, None) => false,
        }
    }

    /// Whether `state` was not yet tried with the placed operations. Remembers it as tried.
    fn is_new(&mut self, state: &S::State) -> bool {
        let mut key = (Vec::new(), 0);
        if self.rules.memory_minds_placed {
            key.0 = self.required.key();
        }
        if self.rules.memory_minds_state {
            key.1 = self.spec.digest(state);
        }
        let tried = self.memory.entry(key).or_default();
        if !tried.is_empty() && !self.rules.memory_minds_unknown {
            return false;
        }
        if tried.iter().any(|unknown| unknown.is_within(&self.unknown)) {
            return false;
        }
        tried.push(self.unknown.clone());
        true
    }
}

fn traits<S: Spec>(spec: &S, operations: &[OperationOf<S>], rules: Rules) -> Vec<Traits> {
    let mut traits: Vec<_> = operations
        .iter()
        .map(|operation| {
            let output = operation.output.as_ref();
            Traits {
                must_happen: operation.returned.is_some() || (output.is_some() && rules.seen_has_happened),
                changes_nothing: spec.changes_nothing(&operation.input, output),
                hint: output.and_then(|output| spec.hint(&operation.input, output)),
                rank: 0,
                bit: 0,
            }
        })
        .collect();
    let mut by_call: Vec<_> = (0..operations.len()).collect();
    by_call.sort_by_key(|&operation| operations[operation].invoked);
    let (mut required, mut unknown) = (0, 0);
    for &operation in &by_call {
        let traits = &mut traits[operation];
        let counter = if traits.must_happen {
            &mut required
        } else {
            &mut unknown
        };
        traits.bit = *counter;
        *counter += 1;
    }
    // Required operations are tried first, then those that change nothing, then those with a known level, by level.
    by_call.sort_by_key(|&operation| {
        let Traits {
            must_happen,
            changes_nothing,
            hint,
            ..
        } = traits[operation];
        let returned = operations[operation].returned.unwrap_or(u64::MAX);
        (!must_happen, !changes_nothing, hint.is_none(), hint, returned)
    });
    for (rank, operation) in by_call.into_iter().enumerate() {
        traits[operation].rank = rank;
    }
    traits
}

/// A set of small numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(count: usize) -> Self {
        // There is always a number that is in no set, so the last word is never full.
        Self(vec![0; count / 64 + 1])
    }

    fn set(&mut self, number: usize, to: bool) {
        let mask = 1 << (number % 64);
        if to {
            self.0[number / 64] |= mask;
        } else {
            self.0[number / 64] &= !mask;
        }
    }

    fn has(&self, number: usize) -> bool {
        self.0[number / 64] & (1 << (number % 64)) != 0
    }

    fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    fn is_within(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(own, others)| own & !others == 0)
    }

    /// The number of full words at the start, then the other words without empty ones at the end. It is short, because
    /// operations are placed roughly in order.
    fn key(&self) -> Vec<u64> {
        let words = &self.0;
        let full = words.iter().take_while(|word| **word == u64::MAX).count();
        let empty = words[full..].iter().rev().take_while(|word| **word == 0).count();
        let mut key = vec![full as u64];
        key.extend(&words[full..words.len() - empty]);
        key
    }
}
