//! When a snapshot of the log's state is due. The table is that state; a snapshot only marks how far it durably got, so
//! that the log on disk may be cut below.

use std::collections::VecDeque;

use crate::proto::raftpb::ConfState;

/// What is durable, and what was snapshotted.
#[derive(Debug)]
pub(crate) struct Snapshots {
    /// Applied entries between two snapshots.
    interval: u64,
    /// The last one that is durable, or is being written.
    index: u64,
    /// One is being written.
    writing: bool,
    /// Everything up to here is durable in the table, or in a snapshot that was received.
    durable: u64,
    /// The configurations that were current since `durable`, and from which index on.
    configurations: VecDeque<(u64, ConfState)>,
    /// Likewise the terms.
    terms: VecDeque<(u64, u64)>,
    /// A snapshot is due as soon as the table is durable up to here.
    requested: Option<u64>,
}

impl Snapshots {
    /// The last snapshot is at `index`, and the table durable up to `durable` (index, term) with `conf_state` as of then.
    pub(crate) fn new(interval: u64, index: u64, durable: (u64, u64), conf_state: ConfState) -> Self {
        Self {
            interval: interval.max(1),
            index,
            writing: false,
            durable: durable.0,
            configurations: VecDeque::from([(durable.0, conf_state)]),
            terms: VecDeque::from([durable]),
            requested: None,
        }
    }

    /// The entry at `index` was applied.
    pub(crate) fn applied(&mut self, index: u64, term: u64) {
        if self.terms.back().is_none_or(|(_, last)| *last != term) {
            self.terms.push_back((index, term));
        }
    }

    /// The configuration changed by the entry at `index`.
    pub(crate) fn configured(&mut self, index: u64, conf_state: ConfState) {
        self.configurations.push_back((index, conf_state));
    }

    /// The table is durable up to `index`.
    pub(crate) fn durable_to(&mut self, index: u64) {
        self.durable = self.durable.max(index);
        forget_before(&mut self.configurations, self.durable);
        forget_before(&mut self.terms, self.durable);
    }

    /// A snapshot is wanted at `index`, whether or not enough entries were applied.
    pub(crate) fn request(&mut self, index: u64) {
        self.requested = Some(index);
    }

    /// A snapshot at `index` was received and is on disk, and with it the state up to there.
    pub(crate) fn installed(&mut self, index: u64, term: u64, conf_state: ConfState) {
        *self = Self::new(self.interval, index, (index, term), conf_state);
    }

    /// Whether a snapshot is due.
    pub(crate) fn is_due(&self) -> bool {
        let due = self.is_requested() || self.durable - self.index >= self.interval;
        due && !self.writing && self.durable != self.index
    }

    /// The index to snapshot, its term and its configuration, if that is due.
    pub(crate) fn take_due(&mut self) -> Option<(u64, u64, ConfState)> {
        if !self.is_due() {
            return None;
        }
        let (_, conf_state) = self
            .configurations
            .front()
            .expect("there always is a current configuration");
        let (_, term) = *self.terms.front().expect("there always is a current term");
        if self.is_requested() {
            self.requested = None;
        }
        self.writing = true;
        self.index = self.durable;
        Some((self.durable, term, conf_state.clone()))
    }

    /// The snapshot at `index` is on disk.
    pub(crate) fn saved(&mut self, index: u64) {
        self.writing &= index < self.index;
    }

    fn is_requested(&self) -> bool {
        self.requested.is_some_and(|index| index <= self.durable)
    }

    /// The state is durable up to here.
    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }
}

/// Leaves of a history what was current at `index`, and everything after.
fn forget_before<T>(history: &mut VecDeque<(u64, T)>, index: u64) {
    while history.get(1).is_some_and(|(from, _)| *from <= index) {
        history.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(ids: &[u64]) -> ConfState {
        ConfState::from((ids.to_vec(), vec![]))
    }

    #[test]
    fn a_snapshot_is_due_once_enough_is_durable_and_shows_the_configuration_of_its_index() {
        let mut snapshots = Snapshots::new(10, 0, (0, 0), voters(&[]));
        for (index, term) in [(1, 1), (2, 1), (10, 3), (20, 4)] {
            snapshots.applied(index, term);
        }
        snapshots.configured(1, voters(&[1]));
        snapshots.configured(12, voters(&[1, 2]));
        snapshots.durable_to(9);
        assert_eq!(snapshots.take_due(), None);
        snapshots.durable_to(11);
        assert_eq!(
            snapshots.take_due(),
            Some((11, 3, voters(&[1]))),
            "the second change is not durable yet"
        );
        snapshots.durable_to(40);
        assert_eq!(snapshots.take_due(), None, "one at a time");
        snapshots.saved(11);
        assert_eq!(snapshots.take_due(), Some((40, 4, voters(&[1, 2]))));
    }

    #[test]
    fn a_snapshot_that_was_received_counts_as_taken_whatever_was_under_way() {
        let mut snapshots = Snapshots::new(10, 0, (0, 0), voters(&[1]));
        snapshots.applied(1, 1);
        snapshots.durable_to(12);
        assert!(snapshots.take_due().is_some(), "its file is being written");
        snapshots.request(13);
        snapshots.installed(100, 5, voters(&[1, 2]));
        assert!(!snapshots.is_due());
        snapshots.saved(12);
        snapshots.durable_to(12);
        assert!(!snapshots.is_due(), "the table may still be behind");
        snapshots.applied(101, 6);
        snapshots.durable_to(110);
        assert_eq!(snapshots.take_due(), Some((110, 6, voters(&[1, 2]))));
    }

    #[test]
    fn a_snapshot_may_be_asked_for() {
        let mut snapshots = Snapshots::new(100, 0, (0, 0), voters(&[1]));
        snapshots.request(5);
        snapshots.durable_to(4);
        assert_eq!(snapshots.take_due(), None);
        snapshots.durable_to(6);
        assert_eq!(snapshots.take_due().map(|(index, ..)| index), Some(6));
        snapshots.saved(6);
        snapshots.durable_to(8);
        assert_eq!(snapshots.take_due(), None, "asked for once");
    }
}
