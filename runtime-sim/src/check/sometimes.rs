//! How often a checker met each of the rare situations it is there for: a checker that never met one has proved nothing of it.

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
