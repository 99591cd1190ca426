//! The blocking seam to the applied state on disk: ordered rows in etcd's buckets, written in atomic batches.
//!
//! [`FjallTable`] keeps one fjall keyspace per etcd bucket; the simulator has a table of its own with crashes.
//! A batch is atomic across buckets once written and durable once [`Table::sync`] returned.

use std::io;
use std::path::Path;

use bytes::Bytes;
use fjall::config::{CompressionPolicy, FilterPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use quoin_core::table::{Bucket, TableOp};

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
    /// Makes everything written so far durable.
    fn sync(&mut self) -> io::Result<()>;
    /// All rows of `bucket` in key order.
    fn scan(&self, bucket: Bucket) -> Rows<'_>;
    /// Bytes taken on disk.
    fn size_bytes(&self) -> io::Result<u64>;
    /// Rewrites the tables without superseded and deleted rows.
    fn defragment(&mut self) -> io::Result<()>;
}

/// The applied state in fjall.
pub struct FjallTable {
    keyspaces: Vec<Keyspace>,
    database: Database,
}

impl std::fmt::Debug for FjallTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FjallTable").finish_non_exhaustive()
    }
}

impl FjallTable {
    /// Opens the table in directory `path`, creating it when absent. Fails with kind `WouldBlock` while another
    /// process holds it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let database = Database::builder(path)
            .cache_size(BLOCK_CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .manual_journal_persist(true)
            .worker_threads(1)
            .open()
            .map_err(into_io)?;
        let mut keyspaces = Vec::with_capacity(Bucket::ALL.len());
        for bucket in Bucket::ALL {
            keyspaces.push(database.keyspace(bucket.name(), keyspace_options).map_err(into_io)?);
        }
        Ok(Self { keyspaces, database })
    }

    fn keyspace(&self, bucket: Bucket) -> &Keyspace {
        &self.keyspaces[bucket as usize]
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
        let mut batch = self.database.batch();
        for op in ops {
            let keyspace = self.keyspace(op.bucket);
            match &op.value {
                Some(value) => batch.insert(keyspace, &op.key[..], &value[..]),
                None => batch.remove(keyspace, &op.key[..]),
            }
        }
        batch.durability(Some(PersistMode::Buffer)).commit().map_err(into_io)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.database.persist(PersistMode::SyncData).map_err(into_io)
    }

    fn scan(&self, bucket: Bucket) -> Rows<'_> {
        Box::new(self.keyspace(bucket).iter().map(|guard| {
            let (key, value) = guard.into_inner().map_err(into_io)?;
            Ok((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)))
        }))
    }

    fn size_bytes(&self) -> io::Result<u64> {
        let tables: u64 = self.keyspaces.iter().map(Keyspace::disk_space).sum();
        Ok(tables + self.database.write_buffer_size())
    }

    fn defragment(&mut self) -> io::Result<()> {
        for keyspace in &self.keyspaces {
            keyspace.rotate_memtable_and_wait().map_err(into_io)?;
            keyspace.major_compact().map_err(into_io)?;
        }
        Ok(())
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
