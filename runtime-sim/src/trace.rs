//! What happened in a run, as lines: hashed to compare runs, printed to look at one.

use std::fmt;
use std::io::Write as _;

use quoin_core::time::Instant;

/// A record of a run. It costs nothing where it is off.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    mode: Mode,
    hash: u64,
    lines: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Off,
    Hash,
    Print,
}

impl Trace {
    /// A record that is hashed.
    #[must_use]
    pub fn hashed() -> Self {
        Self {
            mode: Mode::Hash,
            hash: 0xcbf2_9ce4_8422_2325,
            lines: 0,
        }
    }

    /// A record that is printed to standard error too.
    #[must_use]
    pub fn printed() -> Self {
        Self {
            mode: Mode::Print,
            ..Self::hashed()
        }
    }

    /// Adds a line.
    pub fn add(&mut self, now: Instant, line: fmt::Arguments<'_>) {
        if self.mode == Mode::Off {
            return;
        }
        let line = format!("{now} {line}\n");
        if self.mode == Mode::Print {
            // Whoever closed standard error wants no lines.
            let _closed = std::io::stderr().write_all(line.as_bytes());
        }
        self.lines += 1;
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// The hash of all lines, and their number.
    #[must_use]
    pub fn result(&self) -> (u64, u64) {
        (self.hash, self.lines)
    }
}
