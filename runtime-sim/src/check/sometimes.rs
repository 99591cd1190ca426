//! How often a checker met each of the rare situations it is there for: a checker that never met one has proved nothing of it.

/// A checker's list of situations: an enum `Point`, and the words for each in `POINTS`.
macro_rules! situations {
    ($($name:ident $words:literal,)*) => {
        /// A situation, by its place in the list.
        #[derive(Clone, Copy, Debug)]
        enum Point { $($name,)* }

        const POINTS: &[&str] = &[$($words,)*];
    };
}
pub(super) use situations;

/// Counts of named situations.
#[derive(Clone, Debug)]
pub struct Sometimes {
    names: &'static [&'static str],
    counts: Vec<u64>,
}

impl Sometimes {
    /// None of these was met so far.
    #[must_use]
    pub fn new(names: &'static [&'static str]) -> Self {
        Self {
            names,
            counts: vec![0; names.len()],
        }
    }

    /// The situation with this place in the list was met.
    pub fn note(&mut self, place: usize) {
        self.counts[place] += 1;
    }

    /// Every situation and how often it was met.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.names.iter().copied().zip(self.counts.iter().copied())
    }
}
