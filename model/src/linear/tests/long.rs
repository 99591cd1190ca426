//! The check of a long history, right or wrong, ends within a bounded number of steps.

use quoin_core::random::Prng;

use super::histories::{Shape, draw};
use crate::linear::kv::{Kv, Op, OpReply, Reply, Request};
use crate::linear::{OperationOf, Verdict, check};

const SEEDS: u64 = 40;
const SHAPE: Shape = Shape {
    operations: 400,
    clients: 8,
    unknown: 6,
    lost_percent: 5,
};

fn history(seed: u64, shape: Shape) -> Vec<OperationOf<Kv>> {
    draw(&Kv, &mut Prng::new(seed).fork("long"), shape)
}

/// Empties the answer of the last read that found something.
fn lose_a_read(history: &mut [OperationOf<Kv>]) {
    let found = history
        .iter_mut()
        .rev()
        .find_map(|operation| match (&operation.input, &mut operation.output) {
            (
                Request::One(Op::Range { .. }),
                Some(Reply::One {
                    reply: OpReply::Range(found),
                    ..
                }),
            ) if !found.is_empty() => Some(found),
            _ => None,
        });
    found.expect("some read found something").clear();
}

#[test]
fn four_hundred_operations_with_six_unknown_end_in_time() {
    let mut most = [0, 0];
    for seed in 0..SEEDS {
        let mut history = history(seed, SHAPE);
        let unknown = history.iter().filter(|operation| operation.returned.is_none()).count();
        assert!((3..=6).contains(&unknown), "seed {seed}: {unknown}");
        most[0] = most[0].max(nodes(&history, true, seed));
        lose_a_read(&mut history);
        most[1] = most[1].max(nodes(&history, false, seed));
    }
    eprintln!("steps needed at most: {most:?}");
    assert!(most[0] <= 4_096 && most[1] <= 32_768, "{most:?}");
}

/// The smallest power of two of steps that is enough, from 512 on.
fn nodes(history: &[OperationOf<Kv>], linearizable: bool, seed: u64) -> u64 {
    for max_nodes in (9..22).map(|power| 1 << power) {
        match check(&Kv, history, max_nodes) {
            Verdict::Linearizable { .. } => assert!(linearizable, "seed {seed}"),
            Verdict::Violation(violation) => assert!(!linearizable, "seed {seed}: {violation:?}"),
            Verdict::GaveUp { nodes } => {
                assert_eq!(nodes, max_nodes);
                continue;
            }
        }
        return max_nodes;
    }
    panic!("seed {seed}: no verdict");
}

#[test]
fn ten_thousand_known_operations_take_a_few_steps_each() {
    let shape = Shape {
        operations: 10_000,
        unknown: 0,
        ..SHAPE
    };
    let verdict = check(&Kv, &history(1, shape), 80_000);
    assert!(matches!(verdict, Verdict::Linearizable { .. }), "{verdict:?}");
}

#[test]
fn a_thousand_operations_of_which_thirty_are_unknown_end_in_time() {
    let shape = Shape {
        operations: 1_000,
        unknown: 30,
        lost_percent: 8,
        ..SHAPE
    };
    for seed in 0..10 {
        let verdict = check(&Kv, &history(seed, shape), 32_768);
        assert!(
            matches!(verdict, Verdict::Linearizable { .. }),
            "seed {seed}: {verdict:?}"
        );
    }
}
