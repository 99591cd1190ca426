//! A value with its history: its content at every index of the log.

/// The contents of a value, each with the index from which on it held.
#[derive(Clone, Debug)]
pub(super) struct Timeline<T> {
    /// By index, ascending; the first is the content before the log.
    changes: Vec<(u64, T)>,
}

impl<T: Clone> Timeline<T> {
    pub(super) fn new(first: T) -> Self {
        Self {
            changes: vec![(0, first)],
        }
    }

    /// The content after the last change.
    pub(super) fn now(&self) -> &T {
        &self.changes.last().expect("it starts with a value").1
    }

    /// The content after the entry at `index`.
    pub(super) fn at(&self, index: u64) -> &T {
        let later = self.changes.partition_point(|(since, _)| *since <= index);
        &self.changes[later.saturating_sub(1)].1
    }

    /// The indices of its changes.
    pub(super) fn since(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.changes.iter().map(|(since, _)| *since)
    }

    /// Changes the content by the entry at `index`, which is not before the last change.
    pub(super) fn set(&mut self, index: u64, value: T) {
        match self.changes.last_mut() {
            Some((since, last)) if *since == index => *last = value,
            Some(_) | None => self.changes.push((index, value)),
        }
    }
}
