//! The blocking seam to the applied state on disk: ordered rows in etcd's buckets, written in atomic batches.
//!
//! [`FjallTable`] keeps one fjall keyspace per etcd bucket; the simulator has a table of its own with crashes.
//! A batch is atomic across buckets once written and durable once [`Table::sync`] returned.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fjall::config::{CompressionPolicy, FilterPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use quoin_core::table::{Bucket, TableOp};

use crate::disk::{DIR_MODE, FILE_MODE};
use crate::doubt::Doubt;

/// Bytes of fjall's block cache: rows are read at start only, so it stays small.
const BLOCK_CACHE_BYTES: u64 = 4 << 20;
/// Bytes of unflushed rows kept in memory for each bucket before they become a table file.
const MEMTABLE_BYTES: u64 = 8 << 20;
/// Bytes of fjall journals kept before its quiet keyspaces are flushed too.
const JOURNAL_BYTES: u64 = 128 << 20;

/// Rows as they are read: bucket key and value.
pub type Rows<'a> = Box<dyn Iterator<Item = io::Result<(Bytes, Bytes)>> + 'a>;

/// The applied state on disk. All calls block.
pub trait Table: Send {
    /// Writes all of `ops`, no two of which change the same row, or, if the process dies meanwhile, none of them.
    fn write(&mut self, ops: &[TableOp]) -> io::Result<()>;
    /// Makes everything written so far durable. After it failed, no other sync may be believed in this process; a table that
    /// is opened anew makes good what this one left in doubt, or cannot be opened.
    fn sync(&mut self) -> io::Result<()>;
    /// All rows of `bucket` in key order.
    fn scan(&self, bucket: Bucket) -> Rows<'_>;
    /// Bytes taken on disk.
    fn size_bytes(&self) -> io::Result<u64>;
    /// Rewrites the tables without superseded and deleted rows.
    fn defragment(&mut self) -> io::Result<()>;
}

/// The applied state in fjall. A database is created, and a keyspace in it, with the first row that needs it: creating
/// costs many syncs, and a member that starts need not wait for them.
pub struct FjallTable {
    path: PathBuf,
    opened: Option<Opened>,
}

struct Opened {
    doubt: Doubt,
    keyspaces: [Option<Keyspace>; Bucket::ALL.len()],
    database: Database,
}

impl std::fmt::Debug for FjallTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FjallTable")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl FjallTable {
    /// Opens the table in directory `path`, if there is one. Fails with kind `WouldBlock` while another process holds it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut table = Self {
            path: path.to_owned(),
            opened: None,
        };
        if table.unfinished().try_exists()? {
            // The mark goes before the first row comes, so there is nothing in it.
            remove_dir(path)?;
        } else if path.try_exists()? {
            table.opened = Some(Opened::open(path, table.doubt()?)?);
        }
        Ok(table)
    }

    /// While this file exists, the database beside it is being created.
    fn unfinished(&self) -> PathBuf {
        self.path.with_extension("unfinished")
    }

    /// The mark of a sync that failed; what one left in doubt is made good.
    fn doubt(&self) -> io::Result<Doubt> {
        Doubt::settle(&self.path.with_extension("doubt"), &self.path)
    }

    fn create(&self) -> io::Result<Opened> {
        let parent = self.path.parent().unwrap_or_else(|| Path::new("."));
        let mark = self.unfinished();
        OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(FILE_MODE)
            .open(&mark)?;
        File::open(parent)?.sync_all()?;
        DirBuilder::new().mode(DIR_MODE).create(&self.path)?;
        let opened = Opened::open(&self.path, self.doubt()?)?;
        opened.database.persist(PersistMode::SyncAll).map_err(into_io)?;
        std::fs::remove_file(&mark)?;
        File::open(parent)?.sync_all()?;
        Ok(opened)
    }
}

fn remove_dir(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl Opened {
    fn open(path: &Path, doubt: Doubt) -> io::Result<Self> {
        let database = Database::builder(path)
            .cache_size(BLOCK_CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .manual_journal_persist(true)
            .worker_threads(1)
            .open()
            .map_err(into_io)?;
        let mut opened = Self {
            doubt,
            keyspaces: Default::default(),
            database,
        };
        for bucket in Bucket::ALL {
            if opened.database.keyspace_exists(bucket.name()) {
                opened.keyspace(bucket)?;
            }
        }
        Ok(opened)
    }

    /// The keyspace of a bucket, created if need be.
    fn keyspace(&mut self, bucket: Bucket) -> io::Result<&Keyspace> {
        let slot = &mut self.keyspaces[bucket as usize];
        match slot {
            Some(keyspace) => Ok(keyspace),
            None => {
                let made = self
                    .database
                    .keyspace(bucket.name(), keyspace_options)
                    .map_err(into_io)?;
                Ok(slot.insert(made))
            }
        }
    }

    fn write(&mut self, ops: &[TableOp]) -> io::Result<()> {
        let mut batch = self.database.batch();
        for op in ops {
            let keyspace = self.keyspace(op.bucket)?;
            match &op.value {
                Some(value) => batch.insert(keyspace, &op.key[..], &value[..]),
                None => batch.remove(keyspace, &op.key[..]),
            }
        }
        batch.durability(Some(PersistMode::Buffer)).commit().map_err(into_io)
    }

    fn defragment(&self) -> io::Result<()> {
        for keyspace in self.keyspaces.iter().flatten() {
            keyspace.rotate_memtable_and_wait().map_err(into_io)?;
            keyspace.major_compact().map_err(into_io)?;
        }
        Ok(())
    }

    /// What came of a call. Any failure but a full disk's may be that of a sync, be it one of fjall's own threads'.
    fn noted<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            if error.kind() != io::ErrorKind::StorageFull {
                self.doubt.raise();
            }
        })
    }
}

fn keyspace_options() -> KeyspaceCreateOptions {
    // Rows are scanned at start and never looked up by key, so neither filters nor compression earn their CPU.
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        .manual_journal_persist(true)
        .filter_policy(FilterPolicy::disabled())
        .data_block_compression_policy(CompressionPolicy::disabled())
}

impl Table for FjallTable {
    fn write(&mut self, ops: &[TableOp]) -> io::Result<()> {
        // Within a batch fjall does not order two changes of one row.
        debug_assert!(rows_are_distinct(ops), "a batch changes a row once");
        if self.opened.is_none() {
            self.opened = Some(self.create()?);
        }
        let Some(opened) = &mut self.opened else { return Ok(()) };
        let written = opened.write(ops);
        opened.noted(written)
    }

    fn sync(&mut self) -> io::Result<()> {
        let Some(opened) = &self.opened else { return Ok(()) };
        let synced = opened.database.persist(PersistMode::SyncData).map_err(into_io);
        synced.inspect_err(|_| opened.doubt.raise())
    }

    fn scan(&self, bucket: Bucket) -> Rows<'_> {
        let keyspace = self
            .opened
            .as_ref()
            .and_then(|opened| opened.keyspaces[bucket as usize].as_ref());
        Box::new(keyspace.into_iter().flat_map(Keyspace::iter).map(|guard| {
            let (key, value) = guard.into_inner().map_err(into_io)?;
            Ok((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)))
        }))
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.opened.as_ref().map_or(0, |opened| {
            let tables: u64 = opened.keyspaces.iter().flatten().map(Keyspace::disk_space).sum();
            tables + opened.database.write_buffer_size()
        }))
    }

    fn defragment(&mut self) -> io::Result<()> {
        let Some(opened) = &self.opened else { return Ok(()) };
        opened.noted(opened.defragment())
    }
}

fn rows_are_distinct(ops: &[TableOp]) -> bool {
    let mut rows: Vec<_> = ops.iter().map(|op| (op.bucket, &op.key)).collect();
    rows.sort_unstable();
    rows.windows(2).all(|pair| pair[0] != pair[1])
}

fn into_io(error: fjall::Error) -> io::Error {
    match error {
        fjall::Error::Io(error) => error,
        fjall::Error::Locked => io::Error::new(io::ErrorKind::WouldBlock, "the table is locked by another process"),
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(table: &FjallTable, bucket: Bucket) -> Vec<(Bytes, Bytes)> {
        table.scan(bucket).map(Result::unwrap).collect()
    }

    fn put(bucket: Bucket, key: &'static str, value: &'static str) -> TableOp {
        TableOp::put(bucket, key.as_bytes(), value.as_bytes())
    }

    #[test]
    fn nothing_is_created_before_the_first_row_and_rows_come_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        let mut table = FjallTable::open(&path).unwrap();
        table.sync().unwrap();
        assert!(rows(&table, Bucket::Key).is_empty() && !path.exists());
        table
            .write(&[
                put(Bucket::Key, "b", "2"),
                put(Bucket::Key, "a", "1"),
                put(Bucket::Meta, "m", "3"),
            ])
            .unwrap();
        table.write(&[TableOp::delete(Bucket::Meta, &b"m"[..])]).unwrap();
        table.sync().unwrap();
        drop(table);
        let table = FjallTable::open(&path).unwrap();
        assert_eq!(
            rows(&table, Bucket::Key),
            [("a".into(), "1".into()), ("b".into(), "2".into())]
        );
        assert!(rows(&table, Bucket::Meta).is_empty() && rows(&table, Bucket::Lease).is_empty());
    }

    #[test]
    fn a_table_that_was_not_finished_is_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("0.jnl"), b"half").unwrap();
        std::fs::write(path.with_extension("unfinished"), b"").unwrap();
        let mut table = FjallTable::open(&path).unwrap();
        table.write(&[put(Bucket::Key, "a", "1")]).unwrap();
        drop(table);
        assert_eq!(rows(&FjallTable::open(&path).unwrap(), Bucket::Key).len(), 1);
    }

    #[test]
    fn after_a_sync_that_failed_the_next_process_writes_the_journal_anew() {
        use std::os::unix::fs::MetadataExt as _;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        let mut table = FjallTable::open(&path).unwrap();
        table.write(&[put(Bucket::Key, "a", "1")]).unwrap();
        let journal = || {
            let mut files = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
            files
                .find(|file| file.extension().is_some_and(|end| end == "jnl"))
                .unwrap()
        };
        let held = File::open(journal()).unwrap();
        let place = held.metadata().unwrap().ino();
        table.opened.as_ref().unwrap().doubt.raise();
        drop(table);
        let table = FjallTable::open(&path).unwrap();
        assert_ne!(std::fs::metadata(journal()).unwrap().ino(), place);
        assert_eq!(rows(&table, Bucket::Key), [("a".into(), "1".into())]);
    }

    #[test]
    fn a_second_process_is_told_that_the_table_is_locked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        let mut table = FjallTable::open(&path).unwrap();
        table.write(&[put(Bucket::Key, "a", "1")]).unwrap();
        assert_eq!(FjallTable::open(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
