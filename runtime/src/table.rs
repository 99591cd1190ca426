//! The blocking seam to the applied state on disk: ordered rows in etcd's buckets, written in atomic batches.
//!
//! [`FjallTable`] has one fjall keyspace per etcd bucket; the simulator has its own table with crashes. A batch is
//! atomic across buckets once written, and durable once [`Table::sync`] has returned.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use bytes::Bytes;
use fjall::config::{CompressionPolicy, FilterPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use quoin_core::limits::{TABLE_CLOSE_SECONDS, TABLE_OPEN_FILES, TABLE_OPEN_SECONDS};
use quoin_core::table::{Bucket, TableOp};

use crate::disk::{DIR_MODE, Disk as _, FILE_MODE, RealDisk};
use crate::doubt::Doubt;
use crate::inspect::Inspection;
use crate::{libraries, threads};

/// Bytes of fjall's block cache: rows are read at start only, so it stays small.
const BLOCK_CACHE_BYTES: u64 = 4 << 20;
/// Bytes of unflushed rows kept in memory for each bucket before they become a table file.
const MEMTABLE_BYTES: u64 = 8 << 20;
/// Bytes of fjall journals at which its idle keyspaces are flushed too.
const JOURNAL_BYTES: u64 = 128 << 20;

/// The rows of a bucket in the order of their keys: key and value.
pub type Rows<'a> = Box<dyn Iterator<Item = io::Result<(Bytes, Bytes)>> + 'a>;

/// The applied state on disk. All calls block.
///
/// If the table finds content that has changed since it was written, opening or reading fails with kind `InvalidData`;
/// any other error is the disk's or the system's.
pub trait Table: Send {
    /// Writes all of `ops`, no two of which change the same row. If the process dies meanwhile, all or none are
    /// written.
    fn write(&mut self, ops: &[TableOp]) -> io::Result<()>;
    /// Makes everything written so far durable. After a failure no later sync in this process can be trusted; the next
    /// process that opens the table rewrites the files in doubt, or fails to open it.
    fn sync(&mut self) -> io::Result<()>;
    /// All rows of `bucket` in key order.
    fn scan(&self, bucket: Bucket) -> Rows<'_>;
    /// Bytes taken on disk.
    fn size_bytes(&self) -> io::Result<u64>;
    /// Rewrites the table without superseded and deleted rows.
    fn defragment(&mut self) -> io::Result<()>;
    /// The files that have changed since they were written, for an operator. Finding them may mean reading all files.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }
    /// Closes the table, so that another table may take its place. It fails if the engine does not end.
    fn close(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

/// The applied state in fjall. The database, and each keyspace, is created with the first row that needs it: creating
/// costs many syncs, and a starting member need not wait for them.
pub struct FjallTable {
    path: PathBuf,
    memtable_bytes: u64,
    opened: Option<Opened>,
    /// The inspection of its files before they were opened; `None` for a table created by this process.
    inspection: Option<Inspection>,
}

struct Opened {
    path: PathBuf,
    memtable_bytes: u64,
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
    /// Opens the table in directory `path`, if there is one. Fails with kind `WouldBlock` while another process has it
    /// open.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_with(path, MEMTABLE_BYTES)
    }

    /// The same with a limit of unflushed bytes for each bucket, for tests that need many files of few rows. A bucket
    /// keeps the limit it was created with.
    pub fn open_with(path: &Path, memtable_bytes: u64) -> io::Result<Self> {
        let mut table = Self {
            path: path.to_owned(),
            memtable_bytes,
            opened: None,
            inspection: None,
        };
        if table.unfinished().try_exists()? {
            // The mark is removed before the first row is written, so the directory has no rows.
            RealDisk.remove_dir(path)?;
        } else if path.try_exists()? {
            let doubt = table.doubt()?;
            let inspection = table.inspection.insert(Inspection::begin(path)?);
            let open = {
                let path = path.to_owned();
                move || Opened::open(&path, doubt, memtable_bytes)
            };
            let opened = within("quoin-table-open", TABLE_OPEN_SECONDS, open);
            table.opened = Some(opened.map_err(|error| {
                let remarks = inspection.remarks();
                if error.kind() != io::ErrorKind::InvalidData || remarks.is_empty() {
                    return error;
                }
                io::Error::new(error.kind(), format!("{error}; {}", remarks.join("; ")))
            })?);
        }
        Ok(table)
    }

    /// While this file exists, the database beside it is being created.
    fn unfinished(&self) -> PathBuf {
        self.path.with_extension("unfinished")
    }

    /// The mark of a failed sync. If it is set, the files in doubt are rewritten.
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
        let opened = Opened::open(&self.path, self.doubt()?, self.memtable_bytes)?;
        opened.database.persist(PersistMode::SyncAll).map_err(into_io)?;
        std::fs::remove_file(&mark)?;
        File::open(parent)?.sync_all()?;
        Ok(opened)
    }
}

impl Opened {
    fn open(path: &Path, doubt: Doubt, memtable_bytes: u64) -> io::Result<Self> {
        let database = Database::builder(path)
            .cache_size(BLOCK_CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .max_cached_files(Some(TABLE_OPEN_FILES))
            .manual_journal_persist(true)
            .worker_threads(1)
            .open()
            .map_err(into_io)?;
        let mut opened = Self {
            path: path.to_owned(),
            memtable_bytes,
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

    /// The keyspace of a bucket, created if necessary.
    fn keyspace(&mut self, bucket: Bucket) -> io::Result<&Keyspace> {
        let slot = &mut self.keyspaces[bucket as usize];
        match slot {
            Some(keyspace) => Ok(keyspace),
            None => {
                let made = self
                    .database
                    .keyspace(bucket.name(), || keyspace_options(self.memtable_bytes))
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
        explained(batch.durability(Some(PersistMode::Buffer)).commit(), &self.path)
    }

    fn defragment(&self) -> io::Result<()> {
        for keyspace in self.keyspaces.iter().flatten() {
            explained(keyspace.rotate_memtable_and_wait(), &self.path)?;
            explained(keyspace.major_compact(), &self.path)?;
        }
        Ok(())
    }

    /// Sets the mark if a call has failed, and returns its result. Any error except that of a full disk may come from a
    /// failed sync, perhaps on one of fjall's threads.
    fn noted<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| {
            if error.kind() != io::ErrorKind::StorageFull {
                self.doubt.raise();
            }
        })
    }
}

fn keyspace_options(memtable_bytes: u64) -> KeyspaceCreateOptions {
    // Rows are scanned at start and never looked up by key, so filters and compression are not worth their CPU.
    KeyspaceCreateOptions::default()
        .max_memtable_size(memtable_bytes)
        .manual_journal_persist(true)
        .filter_policy(FilterPolicy::disabled())
        .data_block_compression_policy(CompressionPolicy::disabled())
}

impl Table for FjallTable {
    fn write(&mut self, ops: &[TableOp]) -> io::Result<()> {
        // Within a batch fjall does not define the order of two changes of one row.
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
        let synced = explained(opened.database.persist(PersistMode::SyncData), &self.path);
        synced.inspect_err(|_| opened.doubt.raise())
    }

    fn scan(&self, bucket: Bucket) -> Rows<'_> {
        let keyspace = self
            .opened
            .as_ref()
            .and_then(|opened| opened.keyspaces[bucket as usize].as_ref());
        let rows = keyspace.into_iter().flat_map(Keyspace::iter).map(|guard| {
            let (key, value) = guard.into_inner().map_err(into_io)?;
            Ok((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)))
        });
        Box::new(Guarded(Some(rows)))
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

    fn remarks(&self) -> Vec<String> {
        self.inspection.as_ref().map_or(Vec::new(), Inspection::remarks)
    }

    fn close(self: Box<Self>) -> io::Result<()> {
        // fjall waits for its threads, even for one that died while reading.
        within("quoin-table-close", TABLE_CLOSE_SECONDS, move || {
            drop(self);
            Ok(())
        })
    }
}

/// Runs a call of the engine on a separate thread, which is left behind if the call does not end.
fn within<T: Send + 'static>(
    name: &str,
    seconds: u64,
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, result) = sync_channel(1);
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _given_up = sender.send(guarded(call));
    })?;
    result.recv_timeout(Duration::from_secs(seconds)).unwrap_or_else(|_| {
        let why = format!("its engine did not come to an end within {seconds} s");
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
    })
}

/// Guards a call, because the engine panics on content that it considers impossible.
fn guarded<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    threads::guarded(call).unwrap_or_else(|panic| {
        let why = format!("its engine panicked: {}", panic.words);
        Err(io::Error::new(io::ErrorKind::InvalidData, why))
    })
}

/// Rows up to the first one that cannot be read.
struct Guarded<I>(Option<I>);

impl<I: Iterator<Item = io::Result<(Bytes, Bytes)>>> Iterator for Guarded<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.0.as_mut()?;
        let next = guarded(|| Ok(rows.next())).unwrap_or_else(|error| Some(Err(error)));
        if !matches!(next, Some(Ok(_))) {
            self.0 = None;
        }
        next
    }
}

fn rows_are_distinct(ops: &[TableOp]) -> bool {
    let mut rows: Vec<_> = ops.iter().map(|op| (op.bucket, &op.key)).collect();
    rows.sort_unstable();
    rows.windows(2).all(|pair| pair[0] != pair[1])
}

fn into_io(error: fjall::Error) -> io::Error {
    use io::ErrorKind::{
        AlreadyExists, InvalidData, InvalidInput, IsADirectory, NotADirectory, NotFound, UnexpectedEof,
    };

    let cause = match error {
        fjall::Error::Locked => {
            return io::Error::new(io::ErrorKind::WouldBlock, "the table is locked by another process");
        }
        fjall::Error::Poisoned | fjall::Error::KeyspaceDeleted => return io::Error::other(error),
        fjall::Error::Io(cause) | fjall::Error::Storage(fjall::LsmError::Io(cause)) => cause,
        other => return io::Error::new(InvalidData, other),
    };
    match cause.kind() {
        // These errors come from the content of the table's own files.
        AlreadyExists | InvalidData | InvalidInput | IsADirectory | NotADirectory | NotFound | UnexpectedEof => {
            io::Error::new(InvalidData, cause)
        }
        _ => cause,
    }
}

/// The result of a call; an error that says only "poisoned" is replaced by its cause.
fn explained<T>(result: Result<T, fjall::Error>, dir: &Path) -> io::Result<T> {
    result.map_err(|error| match error {
        fjall::Error::Poisoned => libraries::earlier_error(dir),
        other => into_io(other),
    })
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
    fn no_file_is_created_before_the_first_row_and_rows_are_read_in_order() {
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
    fn after_a_failed_sync_the_next_process_rewrites_the_journal() {
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
    fn opening_a_locked_table_fails_with_would_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        let mut table = FjallTable::open(&path).unwrap();
        table.write(&[put(Bucket::Key, "a", "1")]).unwrap();
        assert_eq!(FjallTable::open(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_call_that_hangs_or_panics_is_an_error() {
        let (hold, held) = sync_channel::<()>(0);
        let hangs = within("hangs", 0, move || held.recv().map_err(io::Error::other));
        assert_eq!(hangs.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(hold);
        let panics: io::Result<()> = within("panics", 60, || panic!("at the disk"));
        let error = panics.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(error.to_string(), "its engine panicked: at the disk");
    }
}
