//! When the log gets a marker. The table holds the applied state; a marker says in the log up to which index the table
//! is durable. Entries before it need not be read at a start, nor kept.

use std::collections::VecDeque;

use crate::proto::raftpb::ConfState;
use crate::wal::Marker;

use super::BatchId;

/// How far the table is durable, and which markers the log has.
#[derive(Debug)]
pub(crate) struct Markers {
    /// Applied entries between two markers: `--snapshot-count`.
    interval: u64,
    /// The index of the last marker that is durable or being written.
    index: u64,
    /// The job that writes the marker.
    writing: Option<BatchId>,
    /// Everything up to this index is durable in the table, or in a received snapshot.
    durable: u64,
    /// The configurations since `durable`, each with its first index.
    configurations: VecDeque<(u64, ConfState)>,
    /// The terms since `durable`, each with its first index.
    terms: VecDeque<(u64, u64)>,
    /// A marker is due as soon as the table is durable up to this index.
    requested: Option<u64>,
}

impl Markers {
    /// The last marker is at `index`, and the table durable up to `durable` (index, term) with `conf_state` as of then.
    pub(crate) fn new(interval: u64, index: u64, durable: (u64, u64), conf_state: ConfState) -> Self {
        Self {
            interval: interval.max(1),
            index,
            writing: None,
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

    /// Requests a marker at `index`, however few entries were applied since the last.
    pub(crate) fn request(&mut self, index: u64) {
        self.requested = Some(index);
    }

    /// The log continues after a received snapshot at `index`, which is on disk with the state up to there.
    pub(crate) fn installed(&mut self, index: u64, term: u64, conf_state: ConfState) {
        *self = Self::new(self.interval, index, (index, term), conf_state);
    }

    /// Whether a marker is due.
    pub(crate) fn is_due(&self) -> bool {
        let due = self.is_requested() || self.durable - self.index >= self.interval;
        due && self.writing.is_none() && self.durable != self.index
    }

    /// Takes the marker to write, if one is due. The caller then calls [`Markers::handed_over`].
    pub(crate) fn take_due(&mut self) -> Option<Marker> {
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
        self.index = self.durable;
        Some(Marker {
            index: self.durable,
            term,
            conf_state: Some(conf_state.clone()),
        })
    }

    /// This job writes the marker that was just taken. One marker is written at a time.
    pub(crate) fn handed_over(&mut self, batch: BatchId) {
        self.writing = Some(batch);
    }

    /// This job of the log, and every one before it, is durable. Returns whether that completed a marker.
    pub(crate) fn persisted(&mut self, batch: BatchId) -> bool {
        self.writing.take_if(|writing| *writing <= batch).is_some()
    }

    fn is_requested(&self) -> bool {
        self.requested.is_some_and(|index| index <= self.durable)
    }

    /// The state is durable up to `index`.
    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }
}

/// Drops all items of a history before the one that was current at `index`.
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

    fn marker(index: u64, term: u64, ids: &[u64]) -> Marker {
        Marker {
            index,
            term,
            conf_state: Some(voters(ids)),
        }
    }

    #[test]
    fn a_marker_is_due_once_enough_is_durable_and_has_the_configuration_of_its_index() {
        let mut markers = Markers::new(10, 0, (0, 0), voters(&[]));
        for (index, term) in [(1, 1), (2, 1), (10, 3), (20, 4)] {
            markers.applied(index, term);
        }
        markers.configured(1, voters(&[1]));
        markers.configured(12, voters(&[1, 2]));
        markers.durable_to(9);
        assert_eq!(markers.take_due(), None);
        markers.durable_to(11);
        assert_eq!(
            markers.take_due(),
            Some(marker(11, 3, &[1])),
            "the second change is not durable yet"
        );
        markers.handed_over(BatchId(5));
        markers.durable_to(40);
        assert_eq!(markers.take_due(), None, "one at a time");
        assert!(!markers.persisted(BatchId(4)), "that is a batch before it");
        assert!(markers.persisted(BatchId(5)));
        assert_eq!(markers.take_due(), Some(marker(40, 4, &[1, 2])));
    }

    #[test]
    fn a_received_snapshot_is_a_marker_even_while_another_is_written() {
        let mut markers = Markers::new(10, 0, (0, 0), voters(&[1]));
        markers.applied(1, 1);
        markers.durable_to(12);
        assert!(markers.take_due().is_some(), "its file is being written");
        markers.handed_over(BatchId(3));
        markers.request(13);
        markers.installed(100, 5, voters(&[1, 2]));
        assert!(!markers.is_due());
        assert!(!markers.persisted(BatchId(3)), "that marker was superseded");
        markers.durable_to(12);
        assert!(!markers.is_due(), "the table may still be behind");
        markers.applied(101, 6);
        markers.durable_to(110);
        assert_eq!(markers.take_due(), Some(marker(110, 6, &[1, 2])));
    }

    #[test]
    fn a_marker_can_be_requested() {
        let mut markers = Markers::new(100, 0, (0, 0), voters(&[1]));
        markers.request(5);
        markers.durable_to(4);
        assert_eq!(markers.take_due(), None);
        markers.durable_to(6);
        assert_eq!(markers.take_due().map(|marker| marker.index), Some(6));
        markers.handed_over(BatchId(1));
        assert!(markers.persisted(BatchId(2)), "a report covers every batch before it");
        markers.durable_to(8);
        assert_eq!(markers.take_due(), None, "one request makes one marker");
    }
}
