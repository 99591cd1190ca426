//! The disk of a machine: its durable contents, and how a start recovers from them.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::member::Recovered;
use crate::proto::raftpb::{Entry, HardState};
use crate::snapshot::{self, SnapshotRow};
use crate::store::{Restore, Seal, Store, StoreConfig, View};
use crate::table::{Bucket, TableOp};
use crate::wal::Save;

/// The durable contents of a machine's disk.
#[derive(Clone, Default)]
pub(super) struct Disk {
    pub(super) hard_state: HardState,
    pub(super) entries: Vec<Entry>,
    pub(super) snapshot: (u64, u64),
    pub(super) rows: BTreeMap<(Bucket, Bytes), Bytes>,
    /// The states of received snapshots, by index.
    pub(super) received: BTreeMap<u64, Vec<SnapshotRow>>,
}

/// The steps of an installation at which a machine may die.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// The received state is on disk; the node does not have it yet.
    Received,
    /// The node has taken the state.
    Told,
    /// The log continues after the snapshot; this is not reported to the node yet.
    Installed,
    /// The table has the state; the received file is still there.
    Replaced,
    /// The received file is removed; the end is not reported to the node yet.
    Cleared,
}

impl Disk {
    /// Appends to the log. Returns whether the log now continues after a received snapshot.
    pub(super) fn save(&mut self, save: Save) -> bool {
        let Save { marker, entries, state } = save;
        let installs = marker.is_some() && state.is_some();
        if let Some(first) = entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
        }
        self.entries.extend(entries);
        if let Some(marker) = marker {
            self.snapshot = (marker.index, marker.term);
            self.entries.retain(|entry| entry.index > marker.index && !installs);
        }
        if installs {
            assert!(
                self.received.contains_key(&self.snapshot.0),
                "the state before the log's first entry exists"
            );
        }
        self.hard_state = state.unwrap_or(self.hard_state);
        assert!(
            (self.snapshot.0..=self.last_index()).contains(&self.hard_state.commit),
            "the marker is committed, and committed entries are in the log"
        );
        installs
    }

    pub(super) fn store(&mut self, ops: Vec<TableOp>) {
        for TableOp { bucket, key, value } in ops {
            match value {
                Some(value) => self.rows.insert((bucket, key), value),
                None => self.rows.remove(&(bucket, key)),
            };
        }
    }

    /// The number of revisions of keys.
    pub(super) fn keys(&self) -> usize {
        self.rows.keys().filter(|(bucket, _)| *bucket == Bucket::Key).count()
    }

    pub(super) fn term_of(&self, index: u64) -> Option<u64> {
        self.entries
            .iter()
            .find(|entry| entry.index == index)
            .map(|entry| entry.term)
    }

    pub(super) fn last_index(&self) -> u64 {
        self.entries.last().map_or(self.snapshot.0, |entry| entry.index)
    }

    pub(super) fn table(&self) -> Store {
        let scan = |bucket| -> Vec<_> {
            let rows = self.rows.iter().filter(|((of, _), _)| *of == bucket);
            rows.map(|((_, key), value)| Ok((key.clone(), value.clone()))).collect()
        };
        Restore::from_sealed_table(StoreConfig::default(), scan).unwrap()
    }

    pub(super) fn replace(&mut self, view: &View) {
        let (key, value) = Seal::of(view).to_row();
        self.rows = view
            .all_rows()
            .chain([(Bucket::Meta, key, value)])
            .map(|(bucket, key, value)| ((bucket, key), value))
            .collect();
    }

    /// Decides like boot: if the log continues after a snapshot whose state is not in the table yet, the received state
    /// is used.
    pub(super) fn restore(&mut self) -> (Recovered, Store) {
        if self.table().consistent_index() < self.snapshot.0 {
            let rows = self.received.get(&self.snapshot.0);
            let rows = rows.expect("the state before the log is in the table, or was received");
            let view = snapshot::restore(StoreConfig::default(), rows).unwrap().view();
            self.replace(&view);
        }
        self.received.clear();
        let store = self.table();
        let recovered = Recovered {
            hard_state: self.hard_state,
            snapshot_index: self.snapshot.0,
            snapshot_term: self.snapshot.1,
            entries: self.entries.clone(),
            ..Recovered::default()
        };
        (recovered, store)
    }
}
