//! The outputs of the world: observations for the observer, a hash over everything and, on request, the last events as
//! text.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write as _;

use quoin_core::time::Instant;

use super::ports::Observer;
use crate::observe::{Observation, Verdict};

/// Events kept as text.
const KEPT_LINES: usize = 400;

/// A hash of 128 bits over a sequence of words: it distinguishes runs, and keeps no secrets.
#[derive(Clone, Copy, Debug)]
pub(super) struct TraceHash {
    left: u64,
    right: u64,
}

impl TraceHash {
    const fn new() -> Self {
        Self {
            left: 0x243f_6a88_85a3_08d3,
            right: 0x1319_8a2e_0370_7344,
        }
    }

    /// Adds a word.
    pub(super) fn add(&mut self, word: u64) {
        let product = u128::from(self.left ^ word) * 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835_u128 as u64 as u128;
        self.left = (product as u64) ^ self.right;
        self.right = ((product >> 64) as u64).wrapping_add(self.right.rotate_left(23)) ^ word.rotate_left(32);
    }

    /// Adds bytes.
    pub(super) fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
    }

    pub(super) const fn value(self) -> u128 {
        (self.left as u128) << 64 | self.right as u128
    }
}

/// A mix of bytes to 64 bits, of what is in an exchange.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    let mut hash = TraceHash::new();
    hash.add_bytes(bytes);
    let value = hash.value();
    (value >> 64) as u64 ^ value as u64
}

/// How much is kept as text.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Tracing {
    /// Nothing: a run is fast.
    #[default]
    Off,
    /// The last events.
    Kept,
    /// All of it is written to standard error too.
    Printed,
}

/// The outputs of the world.
pub(super) struct Eyes<'o> {
    observer: &'o mut dyn Observer,
    pub(super) hash: TraceHash,
    tracing: Tracing,
    lines: VecDeque<String>,
    /// Observations so far.
    pub(super) observed: u64,
}

impl<'o> Eyes<'o> {
    pub(super) fn new(observer: &'o mut dyn Observer, tracing: Tracing) -> Self {
        Self {
            observer,
            hash: TraceHash::new(),
            tracing,
            lines: VecDeque::new(),
            observed: 0,
        }
    }

    /// Passes an event to the observer.
    pub(super) fn see(&mut self, at: Instant, seen: &Observation<'_>) -> Verdict {
        self.observed += 1;
        self.observer.see(at, seen)
    }

    /// Adds to the hash.
    pub(super) fn mix<const N: usize>(&mut self, words: [u64; N]) {
        for word in words {
            self.hash.add(word);
        }
    }

    /// Whether anything is kept as text.
    pub(super) fn traces(&self) -> bool {
        self.tracing != Tracing::Off
    }

    /// Keeps a line.
    pub(super) fn note(&mut self, at: Instant, line: fmt::Arguments<'_>) {
        if !self.traces() {
            return;
        }
        let line = format!("{at} {line}");
        if self.tracing == Tracing::Printed {
            // If standard error is closed, no lines are needed.
            let _closed = writeln!(std::io::stderr(), "{line}");
        }
        if self.lines.len() == KEPT_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The last events.
    pub(super) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines).into()
    }
}
