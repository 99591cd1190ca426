//! A simulated table: ordered rows in memory, of which a loss of power keeps a prefix of the unsynced batches.
//!
//! The table is in a directory of a [`SimDisk`], which appears with the first row; without it there are no rows. Its
//! part of the fault model (the rest is in [`crate::disk`]):
//!
//! - **`LostSectors`**: a loss of power removes the last of the batches written since the last sync. Batches are
//!   atomic, so nothing is ever torn, unless [`TableModel::tears_batches`] is set.
//! - **`SyncError`**, **`SilentSyncError`**, **`WriteError`**, **`NoSpace`**, **`ReadError`**: as for files, by
//!   [`Fuse::fail`](crate::fuse::Fuse::fail). A write that fails has written nothing. After a sync that failed without
//!   an error, or that cleaned pages ([`TableModel::cleans_pages`]), some of the unsynced batches have reached the
//!   medium. The batches after them stand after a hole in the journal: a loss of power removes them, whatever later
//!   syncs return, until the table is rewritten ([`Table::defragment`]), or opened again if the sync returned an error.
//! - **`DamagedRow`**: a bit of a row's key or value flips. **`LostRow`**: a row is missing, as before it was written.
//!   **`LostBucket`**: all rows of a bucket are missing. **`OldBucket`**: a bucket has the rows that it had when the
//!   table was last opened. See [`SimTable::damage`]. The real table has checksums of its own; these are faults that
//!   they do not find: a journal cut short, a lost or older file of one keyspace.
//! - **`SlowDisk`**, **`StalledDisk`**: [`SimTable::take_cost`].
//! - **`LostDisk`**, **`OldBackup`**: with the disk's ([`Backup`](crate::disk::Backup)).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quoin_core::random::Prng;
use quoin_core::table::{Bucket, TableOp};
use quoin_core::time::Instant;
use quoin_runtime::disk::{Disk as _, exists};
use quoin_runtime::table::{Rows, Table};

use crate::disk::{Delay, Pace, SimDisk};
use crate::faults::{FaultKind, Struck};
use crate::fuse::{Fuse, Passage, Touch};

pub(crate) type Content = BTreeMap<(Bucket, Bytes), Bytes>;

/// The behaviour of a table. The default has no defects.
#[derive(Clone, Copy, Debug, Default)]
pub struct TableModel {
    /// Syncs have no effect.
    pub forgets: bool,
    /// A loss of power may keep a part of a batch.
    pub tears_batches: bool,
    /// After a sync that returns an error, the pages count as clean. Otherwise the next sync writes them.
    pub cleans_pages: bool,
}

/// The effect of rot on a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RowRot {
    /// A bit of its key flips.
    FlippedKey,
    /// A bit of its value flips.
    FlippedValue,
    /// The row is missing.
    Lost,
}

impl RowRot {
    /// All effects.
    pub const ALL: [Self; 3] = [Self::FlippedKey, Self::FlippedValue, Self::Lost];

    /// Its kind of fault.
    #[must_use]
    pub const fn kind(self) -> FaultKind {
        match self {
            Self::FlippedKey | Self::FlippedValue => FaultKind::DamagedRow,
            Self::Lost => FaultKind::LostRow,
        }
    }
}

/// The row that rot hit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RowHit {
    /// The effect.
    pub rot: RowRot,
    /// The row's bucket.
    pub bucket: Bucket,
    /// Its key before.
    pub key: Bytes,
}

impl fmt::Display for RowHit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} row {} {:?}", self.rot, self.bucket.name(), self.key)
    }
}

/// A table whose batches are atomic and become durable in order; clones share it.
#[derive(Clone, Debug)]
pub struct SimTable {
    shelf: Arc<Mutex<Shelf>>,
    fuse: Fuse,
}

/// The content of a row before it was written.
type Undo = ((Bucket, Bytes), Option<Bytes>);

#[derive(Clone, Debug)]
struct Shelf {
    rows: Content,
    /// The rows when the table was last opened.
    opened: Content,
    /// Bytes of all rows.
    bytes: u64,
    /// The changes that undo what is not durable, oldest first.
    undo: Vec<Undo>,
    /// The index in `undo` at which each batch that is not durable begins.
    batches: Vec<usize>,
    /// Whether those batches stand after a hole, where no sync reaches them.
    is_astray: bool,
    /// Whether a sync returned an error.
    in_doubt: bool,
    model: TableModel,
    pace: Pace,
    struck: Struck,
    prng: Prng,
    rot_prng: Prng,
}

impl Shelf {
    fn write(&mut self, ops: &[TableOp]) {
        self.batches.push(self.undo.len());
        for op in ops {
            let row = (op.bucket, op.key.clone());
            let before = self.put(row.clone(), op.value.clone());
            self.undo.push((row, before));
        }
    }

    /// Changes a row; returns its content before.
    fn put(&mut self, row: (Bucket, Bytes), value: Option<Bytes>) -> Option<Bytes> {
        let key_bytes = row.1.len();
        let size = |value: &Bytes| (key_bytes + value.len()) as u64;
        self.bytes += value.as_ref().map_or(0, size);
        let before = match value {
            Some(value) => self.rows.insert(row, value),
            None => self.rows.remove(&row),
        };
        self.bytes -= before.as_ref().map_or(0, size);
        before
    }

    fn sync(&mut self) {
        if !self.is_astray {
            self.undo.clear();
            self.batches.clear();
        }
    }

    /// Makes some of the unsynced batches durable; later syncs do not make the others durable.
    fn sync_fails(&mut self) {
        if self.batches.is_empty() || self.is_astray {
            return;
        }
        let reached = usize::try_from(self.prng.below(self.batches.len() as u64 + 1)).unwrap_or(0);
        let start = self.batches.get(reached).copied().unwrap_or(self.undo.len());
        self.undo.drain(..start);
        self.batches.drain(..reached);
        for batch in &mut self.batches {
            *batch -= start;
        }
        self.is_astray = !self.batches.is_empty();
    }

    fn lose_power(&mut self) {
        self.in_doubt = false;
        let pending = self.batches.len();
        let kept = if std::mem::take(&mut self.is_astray) {
            0
        } else {
            usize::try_from(self.prng.below(pending as u64 + 1)).unwrap_or(pending)
        };
        if let Some(start) = self.batches.get(kept).copied() {
            let end = self.batches.get(kept + 1).copied().unwrap_or(self.undo.len());
            let torn = if self.model.tears_batches {
                usize::try_from(self.prng.below((end - start) as u64)).unwrap_or(0)
            } else {
                0
            };
            for (row, before) in self.undo.split_off(start + torn).into_iter().rev() {
                self.put(row, before);
            }
            self.struck.note(FaultKind::LostSectors);
        }
        self.undo.clear();
        self.batches.clear();
    }

    fn replace(&mut self, rows: Content) {
        self.bytes = rows
            .iter()
            .map(|((_, key), value)| (key.len() + value.len()) as u64)
            .sum();
        self.rows = rows;
        self.undo.clear();
        self.batches.clear();
        self.is_astray = false;
        self.in_doubt = false;
    }

    /// Rewrites everything that can be read.
    fn settle(&mut self) {
        self.in_doubt = false;
        self.is_astray = false;
        if !self.model.forgets {
            self.sync();
        }
    }

    fn rot(&mut self, rot: RowRot, bucket: Option<Bucket>) -> Option<RowHit> {
        let unsynced: BTreeSet<&(Bucket, Bytes)> = self.undo.iter().map(|(row, _)| row).collect();
        let can_rot = |row: &(Bucket, Bytes), value: &Bytes| {
            let has_bits = match rot {
                RowRot::FlippedKey => !row.1.is_empty(),
                RowRot::FlippedValue => !value.is_empty(),
                RowRot::Lost => true,
            };
            has_bits && bucket.is_none_or(|bucket| row.0 == bucket) && !unsynced.contains(row)
        };
        let rows: Vec<_> = self.rows.iter().filter(|(row, value)| can_rot(row, value)).collect();
        let at = usize::try_from(self.rot_prng.below(rows.len() as u64)).unwrap_or(0);
        let (row, value) = rows.get(at).map(|(row, value)| ((*row).clone(), (*value).clone()))?;
        match rot {
            RowRot::FlippedKey => {
                self.put(row.clone(), None);
                let key = flip(&row.1, &mut self.rot_prng);
                self.put((row.0, key), Some(value));
            }
            RowRot::FlippedValue => {
                let value = flip(&value, &mut self.rot_prng);
                self.put(row.clone(), Some(value));
            }
            RowRot::Lost => drop(self.put(row.clone(), None)),
        }
        self.struck.note(rot.kind());
        let (bucket, key) = row;
        Some(RowHit { rot, bucket, key })
    }
}

impl Shelf {
    /// Replaces the rows of a bucket by those of `older`, which differ; the bucket is drawn.
    fn exchange_bucket(&mut self, kind: FaultKind, older: &Content) -> Option<String> {
        let of = |rows: &Content, bucket| -> Content {
            let rows = rows.iter().filter(|((of, _), _)| *of == bucket);
            rows.map(|(row, value)| (row.clone(), value.clone())).collect()
        };
        let differs = |bucket: &Bucket| of(&self.rows, *bucket) != of(older, *bucket);
        let buckets: Vec<Bucket> = Bucket::ALL.into_iter().filter(differs).collect();
        let at = usize::try_from(self.rot_prng.below(buckets.len() as u64)).unwrap_or(0);
        let bucket = *buckets.get(at)?;
        let mut rows = std::mem::take(&mut self.rows);
        rows.retain(|(of, _), _| *of != bucket);
        rows.append(&mut of(older, bucket));
        self.replace(rows);
        self.struck.note(kind);
        Some(format!("{kind:?} {}", bucket.name()))
    }
}

/// The bytes with one bit changed.
fn flip(bytes: &Bytes, prng: &mut Prng) -> Bytes {
    let mut bytes = bytes.to_vec();
    let at = usize::try_from(prng.below(bytes.len() as u64)).unwrap_or(0);
    bytes[at] ^= 1 << prng.below(8);
    bytes.into()
}

impl SimTable {
    /// An empty table; `seed` determines what every loss of power keeps.
    #[must_use]
    pub fn new(seed: u64, fuse: Fuse) -> Self {
        let prng = Prng::new(seed);
        let shelf = Shelf {
            rows: Content::new(),
            opened: Content::new(),
            bytes: 0,
            undo: Vec::new(),
            batches: Vec::new(),
            is_astray: false,
            in_doubt: false,
            model: TableModel::default(),
            pace: Pace::new(seed, "table pace"),
            struck: Struck::default(),
            prng: prng.fork("table"),
            rot_prng: prng.fork("table rot"),
        };
        Self {
            shelf: Arc::new(Mutex::new(shelf)),
            fuse,
        }
    }

    /// A copy of the table, behind a fuse of its own.
    #[must_use]
    pub fn fork(&self, fuse: Fuse) -> Self {
        Self {
            shelf: Arc::new(Mutex::new(self.lock().clone())),
            fuse,
        }
    }

    /// Behaves as `model` from now on.
    pub fn set_model(&self, model: TableModel) {
        self.lock().model = model;
    }

    /// Counts its faults, and the errors of its fuse, in `faults`.
    pub fn set_struck(&self, struck: &Struck) {
        self.lock().struck = struck.clone();
        self.fuse.set_struck(struck);
    }

    /// The table in the directory `path`.
    ///
    /// # Errors
    /// If the process is dead or a call is struck.
    pub fn open(&self, disk: &SimDisk, path: &Path) -> io::Result<Box<dyn Table>> {
        let is_there = exists(disk, path)?;
        if !is_there {
            self.replace(Content::new());
        }
        if self.lock().in_doubt {
            self.enter(Touch::TableSync)?.0.settle();
        }
        {
            let mut shelf = self.lock();
            shelf.opened = shelf.rows.clone();
        }
        Ok(Box::new(OpenTable {
            table: self.clone(),
            disk: disk.clone(),
            path: path.to_owned(),
            is_there,
        }))
    }

    /// Loses power and comes back with a prefix of the unsynced batches.
    pub fn lose_power(&self) {
        self.lock().lose_power();
    }

    /// Lets a durable row rot, drawn from one bucket or from all; `None` if no row can rot like that.
    pub fn rot(&self, rot: RowRot, bucket: Option<Bucket>) -> Option<RowHit> {
        self.lock().rot(rot, bucket)
    }

    /// Damages it by a fault of the family "table" and describes it; `None` if that is not possible. No process may be
    /// using it.
    pub fn damage(&self, kind: FaultKind) -> Option<String> {
        let mut shelf = self.lock();
        match kind {
            FaultKind::LostRow => shelf.rot(RowRot::Lost, None).map(|hit| hit.to_string()),
            FaultKind::DamagedRow => {
                let rot = if shelf.rot_prng.below(2) == 0 {
                    RowRot::FlippedKey
                } else {
                    RowRot::FlippedValue
                };
                shelf.rot(rot, None).map(|hit| hit.to_string())
            }
            FaultKind::LostBucket => shelf.exchange_bucket(kind, &Content::new()),
            FaultKind::OldBucket => {
                let older = shelf.opened.clone();
                shelf.exchange_bucket(kind, &older)
            }
            _ => None,
        }
    }

    /// From now on every call takes `factor` times its time plus `extra` in the mean; 1 and zero are a good disk.
    pub fn set_slow(&self, factor: u32, extra: Duration) {
        let delay = &mut self.lock().pace.delay;
        (delay.factor, delay.extra) = (factor, extra);
    }

    /// No call ends before this moment.
    pub fn set_stall(&self, until: Instant) {
        self.lock().pace.delay.stalled_until = until;
    }

    /// Its slowness.
    #[must_use]
    pub fn delay(&self) -> Delay {
        self.lock().pace.delay
    }

    /// How long the calls since the last question take together, if the first of them begins `now`.
    pub fn take_cost(&self, now: Instant) -> Duration {
        let Shelf { pace, struck, .. } = &mut *self.lock();
        pace.take(now, struck)
    }

    /// Whether a loss of power now would change no row. Whether the table's directory survives is a question to the
    /// disk.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.lock().batches.is_empty()
    }

    /// All rows, as a process would read them.
    pub(crate) fn content(&self) -> Content {
        self.lock().rows.clone()
    }

    /// Replaces all rows by these, durably.
    pub(crate) fn replace(&self, rows: Content) {
        self.lock().replace(rows);
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes the point of a call.
    fn enter(&self, touch: Touch) -> io::Result<(MutexGuard<'_, Shelf>, Passage)> {
        let passage = self.fuse.enter(touch)?;
        let mut shelf = self.lock();
        shelf.pace.charge(touch);
        Ok((shelf, passage))
    }
}

/// A table opened by a process.
struct OpenTable {
    table: SimTable,
    disk: SimDisk,
    path: PathBuf,
    is_there: bool,
}

impl Table for OpenTable {
    fn write(&mut self, ops: &[TableOp]) -> io::Result<()> {
        if !self.is_there {
            self.disk.create_dir(&self.path)?;
            self.disk.sync_dir(self.path.parent().unwrap_or(Path::new("/")))?;
            self.is_there = true;
        }
        self.table.enter(Touch::TableWrite)?.0.write(ops);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        match self.table.enter(Touch::TableSync) {
            Ok((shelf, Passage::Works)) if shelf.model.forgets => {}
            Ok((mut shelf, Passage::Works)) => shelf.sync(),
            Ok((mut shelf, Passage::FailsSilently)) => {
                if !shelf.batches.is_empty() {
                    shelf.struck.note(FaultKind::SilentSyncError);
                }
                shelf.sync_fails();
            }
            Err(error) => {
                if !self.table.fuse.blown() {
                    let mut shelf = self.table.lock();
                    shelf.in_doubt = true;
                    if shelf.model.cleans_pages {
                        shelf.sync_fails();
                    }
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn scan(&self, bucket: Bucket) -> Rows<'_> {
        match self.table.enter(Touch::TableRead) {
            Ok((shelf, _)) => {
                let rows = shelf
                    .rows
                    .range((bucket, Bytes::new())..)
                    .take_while(|((of, _), _)| *of == bucket);
                let rows: Vec<_> = rows.map(|((_, key), value)| Ok((key.clone(), value.clone()))).collect();
                Box::new(rows.into_iter())
            }
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.table.lock().bytes)
    }

    fn defragment(&mut self) -> io::Result<()> {
        let (mut shelf, _) = self.table.enter(Touch::TableWrite)?;
        if shelf.is_astray {
            shelf.settle();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
