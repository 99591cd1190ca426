//! Counts of the rare situations that a checker is made for: if a checker never met one, it proved nothing about it.

/// A checker's list of situations: an enum `Point`, and their descriptions in `POINTS`.
macro_rules! situations {
    ($($name:ident $words:literal,)*) => {
        /// A situation, by its index in the list.
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
    /// No situation was met so far.
    #[must_use]
    pub fn new(names: &'static [&'static str]) -> Self {
        Self {
            names,
            counts: vec![0; names.len()],
        }
    }

    /// Counts the situation at this index.
    pub fn note(&mut self, place: usize) {
        self.counts[place] += 1;
    }

    /// Every situation and how often it was met.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.names.iter().copied().zip(self.counts.iter().copied())
    }
}
