//! Received snapshots as files in the directory `snap`, until their state is in the table.
//!
//! `<index>.snap.db` is written before the node gets the snapshot. It is needed from the moment the node's log
//! continues after that index until the table holds the state. Its bytes are those of core's [`snapshot`].

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use bytes::Bytes;
use quoin_core::bug;
use quoin_core::error::Fault;
use quoin_core::snap::{database_name, parse_database_name};
use quoin_core::snapshot::{self, SnapshotRow};
use quoin_core::store::{Seal, Store, StoreConfig, View};
use quoin_core::table::Bucket;

use crate::disk::{Disk, read_all, write_atomically};
use crate::lanes::disk_fault;
use crate::table::Table;

/// The suffix of a received state that was not written completely.
const UNFINISHED: &str = ".snap.db.tmp";

/// Checks the bytes of a received snapshot, makes them durable under the name for `index`, and returns their state,
/// which the node then gets.
pub fn save(disk: &dyn Disk, snap_dir: &Path, config: StoreConfig, index: u64, bytes: &Bytes) -> Result<Store, Fault> {
    let name = database_name(index);
    let store = snapshot::restore(config, &snapshot::decode(&name, bytes)?)?;
    if store.consistent_index() != index && !bug!(TakesAnyState) {
        let cause = format!("{name} holds the state at index {}", store.consistent_index());
        return Err(Fault::Inconsistent { cause });
    }
    write_atomically(disk, snap_dir, &name, bytes)
        .map_err(|error| disk_fault("write", &snap_dir.join(&name), &error))?;
    Ok(store)
}

/// The bytes to send for a view.
#[must_use]
pub fn bytes_of(view: &View) -> Bytes {
    snapshot::encode(view).into()
}

/// The indexes of all complete received states.
pub fn find(disk: &dyn Disk, snap_dir: &Path) -> Result<BTreeSet<u64>, Fault> {
    let whole = |index: &u64| load(disk, snap_dir, *index).is_ok();
    Ok(indexes(disk, snap_dir)?.into_iter().filter(whole).collect())
}

/// Reads a received state.
pub fn load(disk: &dyn Disk, snap_dir: &Path, index: u64) -> Result<Vec<SnapshotRow>, Fault> {
    let name = database_name(index);
    let path = snap_dir.join(&name);
    let bytes = read_all(disk, &path).map_err(|error| disk_fault("read", &path, &error))?;
    snapshot::decode(&name, &Bytes::from(bytes))
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

/// Removes the received states with these indexes.
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
