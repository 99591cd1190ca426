//! A simulated table: ordered rows in memory, of which a loss of power keeps a prefix of the unsynced batches.
//!
//! The table lives in a directory of a [`SimDisk`], which appears with the first row; where there is none, there are no
//! rows.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quoin_core::random::Prng;
use quoin_core::table::{Bucket, TableOp};
use quoin_runtime::disk::{Disk as _, exists};
use quoin_runtime::table::{Rows, Table};

use crate::disk::SimDisk;
use crate::fuse::{Fuse, Touch};

type Content = BTreeMap<(Bucket, Bytes), Bytes>;

/// How a table behaves. The default is honest.
#[derive(Clone, Copy, Debug, Default)]
pub struct TableModel {
    /// Syncs do nothing.
    pub forgets: bool,
    /// A loss of power may keep a part of a batch.
    pub tears_batches: bool,
}

/// A table whose batches are atomic and become durable in order; handles share it.
#[derive(Clone, Debug)]
pub struct SimTable {
    shelf: Arc<Mutex<Shelf>>,
    fuse: Fuse,
}

#[derive(Clone, Debug)]
struct Shelf {
    current: Content,
    durable: Content,
    /// Batches not yet durable, oldest first.
    pending: Vec<Vec<TableOp>>,
    model: TableModel,
    prng: Prng,
}

impl SimTable {
    /// An empty table; `seed` decides what every loss of power keeps.
    #[must_use]
    pub fn new(seed: u64, fuse: Fuse) -> Self {
        let shelf = Shelf {
            current: Content::new(),
            durable: Content::new(),
            pending: Vec::new(),
            model: TableModel::default(),
            prng: Prng::new(seed).fork("table"),
        };
        Self {
            shelf: Arc::new(Mutex::new(shelf)),
            fuse,
        }
    }

    /// A copy of the table as it is, behind a fuse of its own.
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

    /// The table in the directory `path`.
    ///
    /// # Errors
    /// If the process is dead or a call is struck.
    pub fn open(&self, disk: &SimDisk, path: &Path) -> io::Result<Box<dyn Table>> {
        let is_there = exists(disk, path)?;
        if !is_there {
            let mut shelf = self.lock();
            shelf.current.clear();
            shelf.durable.clear();
            shelf.pending.clear();
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
        let mut shelf = self.lock();
        let pending = std::mem::take(&mut shelf.pending);
        let kept = usize::try_from(shelf.prng.below(pending.len() as u64 + 1)).unwrap_or(usize::MAX);
        for ops in pending.iter().take(kept) {
            write(&mut shelf.durable, ops);
        }
        if let Some(torn) = pending.get(kept).filter(|_| shelf.model.tears_batches) {
            let part = usize::try_from(shelf.prng.below(torn.len() as u64)).unwrap_or(0);
            write(&mut shelf.durable, &torn[..part]);
        }
        shelf.current = shelf.durable.clone();
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes the point of a call.
    fn enter(&self, touch: Touch) -> io::Result<MutexGuard<'_, Shelf>> {
        self.fuse.call(touch)?;
        Ok(self.lock())
    }
}

fn write(rows: &mut Content, ops: &[TableOp]) {
    for op in ops {
        match &op.value {
            Some(value) => drop(rows.insert((op.bucket, op.key.clone()), value.clone())),
            None => drop(rows.remove(&(op.bucket, op.key.clone()))),
        }
    }
}

/// A table as a process holds it.
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
        let mut shelf = self.table.enter(Touch::TableWrite)?;
        write(&mut shelf.current, ops);
        shelf.pending.push(ops.to_vec());
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut shelf = self.table.enter(Touch::TableSync)?;
        if !shelf.model.forgets {
            for ops in std::mem::take(&mut shelf.pending) {
                write(&mut shelf.durable, &ops);
            }
        }
        Ok(())
    }

    fn scan(&self, bucket: Bucket) -> Rows<'_> {
        match self.table.enter(Touch::TableRead) {
            Ok(shelf) => {
                let rows = shelf
                    .current
                    .range((bucket, Bytes::new())..)
                    .take_while(|((of, _), _)| *of == bucket);
                let rows: Vec<_> = rows.map(|((_, key), value)| Ok((key.clone(), value.clone()))).collect();
                Box::new(rows.into_iter())
            }
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }

    fn size_bytes(&self) -> io::Result<u64> {
        let shelf = self.table.lock();
        Ok(shelf
            .current
            .iter()
            .map(|((_, key), value)| (key.len() + value.len()) as u64)
            .sum())
    }

    fn defragment(&mut self) -> io::Result<()> {
        self.table.fuse.call(Touch::TableWrite)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A table and a process that holds it.
    fn table(seed: u64, model: TableModel) -> (SimTable, Box<dyn Table>) {
        let fuse = Fuse::default();
        let disk = SimDisk::new(seed, fuse.clone());
        let table = SimTable::new(seed, fuse);
        table.set_model(model);
        let opened = table.open(&disk, Path::new("/t")).unwrap();
        (table, opened)
    }

    fn batch(number: u8) -> Vec<TableOp> {
        let row = |row| TableOp::put(Bucket::Key, Bytes::from(vec![row]), Bytes::from(vec![number]));
        (0..3).map(row).collect()
    }

    fn values(opened: &dyn Table) -> Vec<u8> {
        opened.scan(Bucket::Key).map(|row| row.unwrap().1[0]).collect()
    }

    #[test]
    fn a_loss_of_power_keeps_what_was_synced_and_whole_batches_after_it() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..100 {
            let (table, mut opened) = table(seed, TableModel::default());
            opened.write(&batch(1)).unwrap();
            opened.sync().unwrap();
            opened.write(&batch(2)).unwrap();
            opened.write(&batch(3)).unwrap();
            assert_eq!(values(&*opened), [3; 3]);
            table.lose_power();
            outcomes.insert(values(&*opened));
        }
        assert_eq!(outcomes, [vec![1; 3], vec![2; 3], vec![3; 3]].into());
    }

    #[test]
    fn a_table_that_lies_forgets_or_tears() {
        let left = |model, syncs| -> BTreeSet<usize> {
            let lose = |seed| {
                let (table, mut opened) = table(seed, model);
                opened.write(&batch(1)).unwrap();
                if syncs {
                    opened.sync().unwrap();
                }
                table.lose_power();
                values(&*opened).len()
            };
            (0..50).map(lose).collect()
        };
        let (honest, forgets, tears) = (
            TableModel::default(),
            TableModel {
                forgets: true,
                ..TableModel::default()
            },
            TableModel {
                tears_batches: true,
                ..TableModel::default()
            },
        );
        assert_eq!(left(honest, true), BTreeSet::from([3]));
        assert_eq!(left(honest, false), BTreeSet::from([0, 3]));
        assert_eq!(left(forgets, true), BTreeSet::from([0, 3]));
        assert_eq!(left(tears, false), BTreeSet::from([0, 1, 2, 3]));
    }

    #[test]
    fn the_table_is_where_its_directory_is() {
        let fuse = Fuse::default();
        let disk = SimDisk::new(1, fuse.clone());
        let table = SimTable::new(1, fuse);
        let path = Path::new("/t");
        assert!(table.open(&disk, path).is_ok() && !exists(&disk, path).unwrap());
        table.open(&disk, path).unwrap().write(&batch(1)).unwrap();
        assert!(exists(&disk, path).unwrap());
        assert_eq!(values(&*table.open(&disk, path).unwrap()).len(), 3);
        disk.remove_dir(path).unwrap();
        assert_eq!(values(&*table.open(&disk, path).unwrap()).len(), 0);
    }
}
