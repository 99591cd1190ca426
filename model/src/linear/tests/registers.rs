//! Two registers without revisions: no hints and few values, so that the search has to backtrack.

use quoin_core::random::Prng;

use super::histories::Sample;
use crate::linear::{Spec, digest_of};

#[derive(Clone, Copy, Debug)]
pub(super) struct Registers;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Read(usize),
    Write(usize, u64),
    Swap(usize, u64, u64),
    /// Sets the first register to the value of the second.
    Copy,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    Value(u64),
    Swapped(bool),
}

impl Sample for Registers {
    fn draw(&self, prng: &mut Prng, _serial: u64) -> Ask {
        let register = prng.below(2) as usize;
        match prng.below(8) {
            0..4 => Ask::Read(register),
            4 | 5 => Ask::Write(register, prng.below(3)),
            6 => Ask::Swap(register, prng.below(3), prng.below(3)),
            _ => Ask::Copy,
        }
    }

    fn execute(&self, state: &[u64; 2], input: &Ask) -> ([u64; 2], Answer) {
        let mut next = *state;
        let answer = match *input {
            Ask::Read(register) => Answer::Value(state[register]),
            Ask::Write(register, value) => {
                next[register] = value;
                Answer::Done
            }
            Ask::Swap(register, expected, value) => {
                let swapped = state[register] == expected;
                if swapped {
                    next[register] = value;
                }
                Answer::Swapped(swapped)
            }
            Ask::Copy => {
                next[0] = state[1];
                Answer::Done
            }
        };
        (next, answer)
    }

    fn spoil(&self, prng: &mut Prng, output: &mut Answer) {
        match output {
            Answer::Done => {}
            Answer::Value(value) => *value = prng.below(3),
            Answer::Swapped(swapped) => *swapped = !*swapped,
        }
    }
}

impl Spec for Registers {
    type State = [u64; 2];
    type Input = Ask;
    type Output = Answer;

    fn initial(&self) -> [u64; 2] {
        [0, 0]
    }

    fn step(&self, state: &[u64; 2], input: &Ask, output: Option<&Answer>) -> Option<[u64; 2]> {
        let (next, answer) = self.execute(state, input);
        output.is_none_or(|output| *output == answer).then_some(next)
    }

    fn digest(&self, state: &[u64; 2]) -> u128 {
        digest_of(state)
    }

    fn changes_nothing(&self, input: &Ask, output: Option<&Answer>) -> bool {
        matches!(input, Ask::Read(_)) || output == Some(&Answer::Swapped(false))
    }
}
