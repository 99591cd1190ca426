//! The checker agrees with brute force on small histories, correct and spoiled ones, and disagrees if any of its rules
//! is broken.

use std::fmt::Debug;

use quoin_core::random::Prng;

use super::brute::{is_linearizable, is_possible};
use super::histories::{Sample, Shape, draw, spoil};
use super::registers::Registers;
use super::store::Headless;
use crate::linear::kv::Kv;
use crate::linear::search::{Rules, Search};
use crate::linear::{OperationOf, Verdict};

const SEED: u64 = 21;
const MAX_NODES: u64 = 100_000;

/// Histories of two to four clients, with the verdict of brute force on each.
struct Cases<S: Sample> {
    spec: S,
    cases: Vec<(Vec<OperationOf<S>>, bool)>,
}

impl<S: Sample<Input: Debug, Output: Debug>> Cases<S> {
    fn new(spec: S, label: &str, count: usize, operations: u64) -> Self {
        let mut prng = Prng::new(SEED).fork(label);
        let mut cases = Vec::with_capacity(count);
        for number in 0..count {
            let shape = Shape {
                operations: prng.range(2..operations + 1) as usize,
                clients: prng.range(2..5) as usize,
                unknown: 4,
                lost_percent: prng.below(4) * 15,
            };
            let mut history = draw(&spec, &mut prng, shape);
            let spoiled = number % 3 != 0;
            for _ in 0..if spoiled { prng.range(1..8) } else { 0 } {
                spoil(&spec, &mut prng, &mut history);
            }
            let expected = is_linearizable(&spec, &history);
            assert!(
                expected || spoiled,
                "seed {SEED}, {label} {number} was drawn as linearizable: {history:?}"
            );
            cases.push((history, expected));
        }
        Self { spec, cases }
    }

    /// The numbers of histories that are linearizable and that are not.
    fn counts(&self) -> (usize, usize) {
        let linearizable = self.cases.iter().filter(|(_, expected)| *expected).count();
        (linearizable, self.cases.len() - linearizable)
    }

    /// The first history on which a checker with `rules` is wrong.
    fn first_wrong(&self, rules: Rules) -> Option<usize> {
        self.cases.iter().position(
            |(history, expected)| match Search::new(&self.spec, history, rules).run(MAX_NODES) {
                Verdict::Linearizable { order } => {
                    let complete = (0..history.len()).all(|index| order.contains(&index) || !history[index].happened());
                    !expected || !complete || !is_possible(&self.spec, history, &order)
                }
                Verdict::Violation(violation) => *expected || !is_possible(&self.spec, history, &violation.longest),
                Verdict::GaveUp { .. } => true,
            },
        )
    }
}

/// The rules, with one broken.
fn broken() -> Vec<(&'static str, Rules)> {
    let broken = |name, breaks: fn(&mut Rules)| {
        let mut rules = Rules::default();
        breaks(&mut rules);
        (name, rules)
    };
    vec![
        broken("real_time", |rules| rules.real_time = false),
        broken("touching_overlap", |rules| rules.touching_overlap = false),
        broken("unknown_may_happen", |rules| rules.unknown_may_happen = false),
        broken("seen_has_happened", |rules| rules.seen_has_happened = false),
        broken("unknown_may_be_late", |rules| rules.unknown_may_be_late = false),
        broken("memory_minds_state", |rules| rules.memory_minds_state = false),
        broken("memory_minds_placed", |rules| rules.memory_minds_placed = false),
        broken("memory_minds_unknown", |rules| rules.memory_minds_unknown = false),
        broken("only_reads_are_final", |rules| rules.only_reads_are_final = false),
        broken("only_unknown_is_left_out", |rules| {
            rules.only_unknown_is_left_out = false
        }),
        broken("level_is_inclusive", |rules| rules.level_is_inclusive = false),
        broken("taken_back_is_pending", |rules| rules.taken_back_is_pending = false),
    ]
}

#[test]
fn the_search_agrees_with_brute_force_only_with_all_its_rules() {
    let registers = Cases::new(Registers, "registers", 100_000, 8);
    let stores = Cases::new(Kv, "store", 20_000, 6);
    let headless = Cases::new(Headless, "headless", 12_000, 6);
    let counts = [registers.counts(), stores.counts(), headless.counts()];
    for (linearizable, not) in counts {
        assert!(linearizable >= 10_000 && not >= 1_000, "{counts:?}");
    }
    let first_wrong = |rules| {
        [
            registers.first_wrong(rules),
            stores.first_wrong(rules),
            headless.first_wrong(rules),
        ]
    };
    assert_eq!(first_wrong(Rules::default()), [None; 3], "seed {SEED}");
    let caught: Vec<_> = broken()
        .into_iter()
        .map(|(name, rules)| (name, first_wrong(rules)))
        .collect();
    eprintln!("seed {SEED}; linearizable and not: {counts:?}; first history that shows each broken rule: {caught:?}");
    for (name, wrong) in caught {
        assert_ne!(wrong, [None; 3], "seed {SEED}: no history shows that {name} is broken");
    }
}
