//! Received snapshots as files in the directory `snap`, until their state is in the table.
//!
//! `<index>.snap.db` is written before the node gets the snapshot. It is needed from the moment the node's log
//! continues after that index until the table holds the state. Its bytes are those of core's [`snapshot`].

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use quoin_core::bbolt::{FilePart, FileSum};
use quoin_core::bug;
use quoin_core::error::Fault;
use quoin_core::snap::{database_name, parse_database_name};
use quoin_core::snapshot::{self, SnapshotFile};
use quoin_core::store::{Seal, Store, StoreConfig, View};
use quoin_core::table::Bucket;

use crate::disk::{Disk, DiskFile, exists};
use crate::lanes::disk_fault;
use crate::table::Table;

/// The suffix of a received state that was not written completely.
const UNFINISHED: &str = ".snap.db.tmp";

/// A received snapshot whose file is being written. The file gets its final name once it is complete, undamaged and
/// durable.
pub struct Arriving {
    disk: Arc<dyn Disk>,
    snap_dir: PathBuf,
    index: u64,
    file: Box<dyn DiskFile>,
    length: u64,
    sum: FileSum,
}

impl fmt::Debug for Arriving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arriving")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl Arriving {
    /// Begins an empty file for the state at `index`. There is at most one for an index at a time.
    ///
    /// # Errors
    /// The disk's error.
    pub fn begin(disk: Arc<dyn Disk>, snap_dir: &Path, index: u64) -> Result<Self, Fault> {
        let beside = unfinished(snap_dir, index);
        let begin = || {
            if exists(&*disk, &beside)? {
                disk.remove(&beside)?;
            }
            disk.create(&beside)
        };
        let file = begin().map_err(|error| disk_fault("create", &beside, &error))?;
        Ok(Self {
            disk,
            snap_dir: snap_dir.to_owned(),
            index,
            file,
            length: 0,
            sum: FileSum::default(),
        })
    }

    /// The bytes written so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether nothing was written so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends the next bytes of the file.
    ///
    /// # Errors
    /// The disk's error.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.sum.feed(bytes);
        let written = self.file.write_at(self.length, bytes);
        written.map_err(|error| disk_fault("write", &unfinished(&self.snap_dir, self.index), &error))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// The file is complete: checks it, makes it durable under the name for its index, and returns its state, which the
    /// node then gets. `sync` is called to make the file durable, so that its caller can measure that.
    ///
    /// # Errors
    /// The disk's error, or a fault that describes the damage. The file is removed then, if possible.
    pub fn finish(
        mut self,
        config: StoreConfig,
        sync: impl FnOnce(&mut dyn DiskFile) -> io::Result<()>,
    ) -> Result<Store, Fault> {
        let finished = self.check_and_rename(config, sync);
        if finished.is_err() {
            self.give_up();
        }
        finished
    }

    fn check_and_rename(
        &mut self,
        config: StoreConfig,
        sync: impl FnOnce(&mut dyn DiskFile) -> io::Result<()>,
    ) -> Result<Store, Fault> {
        let name = database_name(self.index);
        let beside = unfinished(&self.snap_dir, self.index);
        let sum = std::mem::take(&mut self.sum);
        sum.finish().map_err(|damage| damage.of_file(&name))?;
        let store = restore_from(&*self.file, &name, &beside, config)?;
        if store.consistent_index() != self.index && !bug!(TakesAnyState) {
            let cause = format!("{name} holds the state at index {}", store.consistent_index());
            return Err(Fault::Inconsistent { cause });
        }
        let path = self.snap_dir.join(&name);
        let keep = || {
            if !bug!(InstallsBeforeSync) {
                sync(&mut *self.file)?;
            }
            self.disk.rename(&beside, &path)?;
            self.disk.sync_dir(&self.snap_dir)
        };
        keep().map_err(|error| disk_fault("write", &path, &error))?;
        Ok(store)
    }

    /// Removes what was written. A file that cannot be removed is removed by the next start.
    pub fn give_up(self) {
        let _left = self.disk.remove(&unfinished(&self.snap_dir, self.index));
    }
}

fn unfinished(snap_dir: &Path, index: u64) -> PathBuf {
    snap_dir.join(format!("{}.tmp", database_name(index)))
}

/// Reads the state in a database file part by part.
fn restore_from(file: &dyn DiskFile, name: &str, path: &Path, config: StoreConfig) -> Result<Store, Fault> {
    let fail = |error: io::Error| disk_fault("read", path, &error);
    let length = file.len().map_err(fail)?;
    SnapshotFile::open(name, length, |part| read_part(file, part).map_err(fail))?.restore(config)
}

fn read_part(file: &dyn DiskFile, part: FilePart) -> io::Result<Bytes> {
    let mut bytes = vec![0; part.bytes];
    let read = file.read_at(part.offset, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes.into())
}

/// The bytes to send for a view.
#[must_use]
pub fn bytes_of(view: &View) -> Bytes {
    snapshot::encode(view).into()
}

/// The indexes of all complete received states.
///
/// # Errors
/// If the directory cannot be listed.
pub fn find(disk: &dyn Disk, snap_dir: &Path) -> Result<BTreeSet<u64>, Fault> {
    let whole = |index: &u64| check(disk, snap_dir, *index).is_ok();
    Ok(indexes(disk, snap_dir)?.into_iter().filter(whole).collect())
}

/// Bytes of a file that are read at a time.
const READ_BYTES: usize = 1024 * 1024;

/// Checks that a received state is complete and undamaged.
fn check(disk: &dyn Disk, snap_dir: &Path, index: u64) -> Result<(), Fault> {
    let name = database_name(index);
    check_file(disk, &snap_dir.join(&name), &name)
}

/// Checks that the database file at a path is complete and undamaged.
fn check_file(disk: &dyn Disk, path: &Path, name: &str) -> Result<(), Fault> {
    let fail = |error: io::Error| disk_fault("read", path, &error);
    let file = disk.open(path).map_err(fail)?;
    let mut sum = FileSum::default();
    let mut offset = 0;
    loop {
        let part = read_part(
            &*file,
            FilePart {
                offset,
                bytes: READ_BYTES,
            },
        )
        .map_err(fail)?;
        if part.is_empty() {
            break;
        }
        sum.feed(&part);
        offset += part.len() as u64;
    }
    sum.finish().map_err(|damage| damage.of_file(name))?;
    let file = SnapshotFile::open(name, offset, |part| read_part(&*file, part).map_err(fail))?;
    let mut rows = Bucket::ALL.into_iter().flat_map(|bucket| file.rows(bucket));
    rows.try_for_each(|row| row.map(drop))
}

/// Whether a database that etcd restored can be taken over: it is complete, undamaged, of this index, and without
/// anything that this version does not support, such as users.
pub fn can_take_over(disk: &dyn Disk, path: &Path, index: u64, config: StoreConfig) -> bool {
    let name = path.display().to_string();
    let restore = || {
        check_file(disk, path, &name)?;
        let file = disk.open(path).map_err(|error| disk_fault("read", path, &error))?;
        restore_from(&*file, &name, path, config)
    };
    restore().is_ok_and(|state| state.consistent_index() == index)
}

/// Reads a received state.
///
/// # Errors
/// If the file cannot be read or is damaged.
pub fn load(disk: &dyn Disk, snap_dir: &Path, index: u64, config: StoreConfig) -> Result<Store, Fault> {
    check(disk, snap_dir, index)?;
    let (name, path) = (database_name(index), snap_dir.join(database_name(index)));
    let file = disk.open(&path).map_err(|error| disk_fault("read", &path, &error))?;
    restore_from(&*file, &name, &path, config)
}

/// Makes the table in the directory `path` hold exactly the rows of a view, as one batch.
pub fn put_in_place(table: &mut dyn Table, path: &Path, view: &View) -> Result<(), Fault> {
    let fail = |operation: &'static str, error: &io::Error| disk_fault(operation, path, error);
    let mut ops = Vec::new();
    let seal = Seal::of(view).to_row();
    for bucket in Bucket::ALL {
        // The seal comes before all other rows of its bucket.
        let own = (bucket == Bucket::Meta).then(|| seal.clone());
        let rows = own.into_iter().chain(view.rows(bucket));
        let changed = snapshot::difference(bucket, table.scan(bucket), rows);
        ops.append(&mut changed.map_err(|error| fail("read", &error))?);
    }
    if bug!(ReplacesOverRows) {
        ops.retain(|op| op.value.is_some());
    }
    if ops.is_empty() {
        return Ok(());
    }
    table.write(&ops).map_err(|error| fail("write", &error))
}

/// Removes the received states whose index `forget` accepts.
pub fn remove(disk: &dyn Disk, snap_dir: &Path, forget: impl Fn(u64) -> bool) -> Result<(), Fault> {
    for index in indexes(disk, snap_dir)?.into_iter().filter(|index| forget(*index)) {
        let path = snap_dir.join(database_name(index));
        match disk.remove(&path) {
            // The lanes of log and table both remove them.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(|error| disk_fault("remove", &path, &error))?,
        }
    }
    Ok(())
}

/// Removes every received state, complete or not. No snapshot may be arriving meanwhile.
pub fn clear(disk: &dyn Disk, snap_dir: &Path) -> Result<(), Fault> {
    let names = list(disk, snap_dir)?;
    for name in names.iter().filter(|name| name.ends_with(UNFINISHED)) {
        let path = snap_dir.join(name);
        disk.remove(&path)
            .map_err(|error| disk_fault("remove", &path, &error))?;
    }
    remove(disk, snap_dir, |_| true)
}

fn indexes(disk: &dyn Disk, snap_dir: &Path) -> Result<Vec<u64>, Fault> {
    Ok(list(disk, snap_dir)?
        .iter()
        .filter_map(|name| parse_database_name(name))
        .collect())
}

fn list(disk: &dyn Disk, snap_dir: &Path) -> Result<Vec<String>, Fault> {
    disk.list(snap_dir)
        .map_err(|error| disk_fault("list", snap_dir, &error))
}
