//! Coverage as an oracle: situations that a good campaign meets sometimes, counted. A point nobody ever meets means that
//! the simulation is kinder than the world.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quoin_core::time::Instant;

use super::{Checker, Truth};
use crate::observe::{Observation, Verdict};

macro_rules! points {
    ($($name:ident $words:literal,)*) => {
        /// A situation worth meeting.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub enum Point { $(#[doc = $words] $name,)* }

        impl Point {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What it is, in a sentence.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self { $(Self::$name => $words,)* }
            }
        }
    };
}

points! {
    FirstCommit "An entry is committed.",
}

/// How often each point was met; clones share the counts.
#[derive(Clone, Debug)]
pub struct Coverage {
    counts: Arc<[AtomicU64]>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self {
            counts: Point::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Coverage {
    /// Once more.
    pub fn note(&self, point: Point) {
        self.counts[point as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was met.
    #[must_use]
    pub fn count(&self, point: Point) -> u64 {
        self.counts[point as usize].load(Ordering::Relaxed)
    }

    /// Adds another run's counts.
    pub fn add(&self, other: &Self) {
        for (mine, theirs) in self.counts.iter().zip(other.counts.iter()) {
            mine.fetch_add(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

/// Counts what can be seen from outside.
#[derive(Debug, Default)]
pub struct Observer {
    committed: u64,
}

impl Checker for Observer {
    fn see(&mut self, _at: Instant, _seen: &Observation<'_>, truth: &Truth) -> Verdict {
        if self.committed == 0 && truth.committed() > 0 {
            self.committed = truth.committed();
            truth.note(Point::FirstCommit);
        }
        Ok(())
    }
}
