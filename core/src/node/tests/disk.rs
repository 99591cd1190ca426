//! The disk of a machine: what it has durably, and what a start makes of it.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::image::{self, ImageRow};
use crate::member::Recovered;
use crate::proto::raftpb::{Entry, HardState};
use crate::store::{Restore, Seal, Store, StoreConfig};
use crate::table::{Bucket, TableOp};

/// What a machine has durably.
#[derive(Clone, Default)]
pub(super) struct Disk {
    pub(super) hard_state: HardState,
    pub(super) entries: Vec<Entry>,
    pub(super) snapshot: (u64, u64),
    pub(super) rows: BTreeMap<(Bucket, Bytes), Bytes>,
    /// States that came with snapshots, by index.
    pub(super) received: BTreeMap<u64, Vec<ImageRow>>,
}

/// Where a machine may die while it installs a snapshot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// The received state is on disk, the node knows nothing of it.
    Received,
    /// The node was told of it.
    Told,
    /// The log goes on after it, the node does not know yet.
    Installed,
    /// The table holds it, the received state is still there.
    Replaced,
    /// All is done, the node does not know yet.
    Cleared,
}

impl Disk {
    pub(super) fn persist(&mut self, hard_state: Option<HardState>, entries: Vec<Entry>) {
        if let Some(first) = entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
        }
        self.entries.extend(entries);
        self.hard_state = hard_state.unwrap_or(self.hard_state);
    }

    pub(super) fn store(&mut self, ops: Vec<TableOp>) {
        for TableOp { bucket, key, value } in ops {
            match value {
                Some(value) => self.rows.insert((bucket, key), value),
                None => self.rows.remove(&(bucket, key)),
            };
        }
    }

    /// The log goes on after a received snapshot, the state of which is there.
    pub(super) fn install(&mut self, index: u64, term: u64, hard_state: HardState) {
        assert!(
            self.received.contains_key(&index),
            "what the log goes on after is there"
        );
        assert_eq!(
            hard_state.commit, index,
            "a snapshot counts only if its index was committed"
        );
        self.entries.clear();
        self.snapshot = (index, term);
        self.hard_state = hard_state;
    }

    /// How many revisions of keys there are.
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

    pub(super) fn replace(&mut self, rows: Vec<ImageRow>) {
        let view = image::restore(StoreConfig::default(), &rows).unwrap().view();
        let (key, value) = Seal::of(&view).to_row();
        self.rows = view
            .all_rows()
            .chain([(Bucket::Meta, key, value)])
            .map(|(bucket, key, value)| ((bucket, key), value))
            .collect();
    }

    /// As boot decides: a log that goes on after a snapshot whose state is not in the table yet has it as it was received.
    pub(super) fn restore(&mut self) -> (Recovered, Store) {
        if self.table().consistent_index() < self.snapshot.0 {
            let rows = self.received.get(&self.snapshot.0).cloned();
            self.replace(rows.expect("what the log goes on after is in the table, or was received"));
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
