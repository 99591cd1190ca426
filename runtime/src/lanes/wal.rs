//! The log lane: appends and syncs the log, with one sync for all jobs that have queued.
//!
//! Core's `wal` makes the bytes and decides when a segment is full; this file writes them to a [`Disk`]. A segment is
//! preallocated under a temporary name, gets its head, is synced, and only then gets its real name: a segment under its
//! real name is complete.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quoin_core::bug;
use quoin_core::error::Fault;
use quoin_core::jobs::LogJob;
use quoin_core::node::Done;
use quoin_core::proto::raftpb::{Snapshot, SnapshotMetadata};
use quoin_core::snap::{self, MarkerName};
use quoin_core::time::Instant;
use quoin_core::wal::{Identity, Marker, Replay, Save, Segment, SegmentName, Source, Writer, select};

use crate::clock::Time;
use crate::disk::{Disk, DiskFile, write_atomically};
use crate::received;

use super::{Lane, Observation, Observe, Report, disk_fault};

/// The name under which the next segment is prepared.
const PREPARED: &str = "next.tmp";
/// A slower sync is logged; etcd's bound.
const SLOW_SYNC: Duration = Duration::from_secs(1);

/// The settings and callbacks of the log lane and the table lane.
#[derive(Clone)]
pub struct LaneContext {
    /// The directory of `*.snap` files.
    pub snap_dir: PathBuf,
    /// `--max-wals`; 0 keeps all.
    pub max_wals: usize,
    /// `--max-snapshots`; 0 keeps all.
    pub max_snapshots: usize,
    /// Length of a log file: [`WAL_SEGMENT_BYTES`](quoin_core::limits::WAL_SEGMENT_BYTES), except in simulations.
    pub segment_bytes: u64,
    /// `--unsafe-no-fsync`.
    pub unsafe_no_fsync: bool,
    /// The clock that measures times.
    pub clock: Arc<dyn Time>,
    /// Takes completions.
    pub report: Report,
    /// Takes measurements.
    pub observe: Observe,
}

/// A log open for appending.
pub struct Log {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    context: LaneContext,
    writer: Writer,
    file: Box<dyn DiskFile>,
    /// Earlier segments, oldest first, locked as long as they are needed.
    older: Vec<(SegmentName, Box<dyn DiskFile>)>,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("segment", &self.writer.name())
            .finish_non_exhaustive()
    }
}

/// The names of a log's segments; empty if there is no log.
pub fn segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<SegmentName>, Fault> {
    match disk.list(dir) {
        Ok(names) => Ok(names.iter().filter_map(|name| SegmentName::parse(name)).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(disk_fault("list", dir, &error)),
    }
}

/// Opens segments for reading and locks them. If another process holds a segment, that is an error at once: this
/// process holds the data directory's lock, so the other one has ignored it.
pub fn open(disk: &dyn Disk, dir: &Path, names: &[SegmentName]) -> Result<Vec<Segment>, Fault> {
    let mut opened = Vec::new();
    for name in names {
        let path = dir.join(name.to_string());
        let file = disk.open(&path).map_err(|error| disk_fault("open", &path, &error))?;
        if !file.try_lock().map_err(|error| disk_fault("lock", &path, &error))? {
            return Err(disk_fault("lock", &path, &io::Error::other("another process holds it")));
        }
        let size = file.len().map_err(|error| disk_fault("measure", &path, &error))?;
        opened.push(Segment {
            name: *name,
            source: Box::new(FileSource { file, path, size }),
        });
    }
    Ok(opened)
}

/// A segment's file as core reads it.
struct FileSource {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    size: u64,
}

impl Source for FileSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Fault> {
        let read = self
            .file
            .read_at(offset, into)
            .map_err(|error| disk_fault("read", &self.path, &error))?;
        if read < into.len() {
            return Err(disk_fault("read", &self.path, &io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }
}

impl Log {
    /// Begins the log of a new member in `dir` with its first batch. The log appears complete or not at all: its first
    /// segment gets its name last. Other files in the directory, such as the `lost+found` of a separate file system,
    /// stay there.
    pub fn create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        identity: Identity,
        first: &Save,
        context: LaneContext,
    ) -> Result<Self, Fault> {
        let fail = |operation| move |error: io::Error| disk_fault(operation, dir, &error);
        disk.create_dir(dir).map_err(fail("create"))?;
        if let Some(parent) = dir.parent() {
            disk.sync_dir(parent).map_err(fail("sync the parent of"))?;
        }
        let mut head = Vec::new();
        let mut writer = Writer::create(identity, &mut head).with_segment_bytes(context.segment_bytes);
        writer.write([first], &mut head);
        let path = dir.join(writer.name().to_string());
        let file = prepare(&*disk, dir, PREPARED, context.segment_bytes, &head)?;
        lock(&*file, &path)?;
        disk.rename(&dir.join(PREPARED), &path)
            .map_err(|error| disk_fault("name", &path, &error))?;
        disk.sync_dir(dir).map_err(fail("sync"))?;
        let mut log = Self {
            disk,
            dir: dir.to_owned(),
            context,
            writer,
            file,
            older: Vec::new(),
            buffer: Vec::new(),
        };
        log.cut_if_full()?;
        Ok(log)
    }

    /// Continues a log that was read. A torn tail is first copied and cut off. All bytes that were read are made
    /// durable, because an earlier process may have died before its sync, or because a sync failed.
    pub fn resume(disk: Arc<dyn Disk>, dir: &Path, replay: &Replay, context: LaneContext) -> Result<Self, Fault> {
        disk.sync_dir(dir).map_err(|error| disk_fault("sync", dir, &error))?;
        let mut names = segments(&*disk, dir)?;
        names.sort_unstable();
        let mut older = Vec::new();
        for name in names.into_iter().filter(|name| *name != replay.tail.name) {
            let path = dir.join(name.to_string());
            let file = disk.open(&path).map_err(|error| disk_fault("open", &path, &error))?;
            lock(&*file, &path)?;
            older.push((name, file));
        }
        let path = dir.join(replay.tail.name.to_string());
        let fail = |operation| {
            let path = path.clone();
            move |error: io::Error| disk_fault(operation, &path, &error)
        };
        let mut file = disk.open(&path).map_err(fail("open"))?;
        lock(&*file, &path)?;
        if replay.tail.torn.is_some() {
            set_aside(&*disk, dir, replay.tail.name, &*file, replay.tail.offset)?;
        }
        // The last batch is written again: after a failed sync the system considers its pages written.
        let mut unsettled = vec![0; usize::try_from(replay.tail.offset - replay.tail.unsettled).unwrap_or(usize::MAX)];
        file.read_at(replay.tail.unsettled, &mut unsettled)
            .map_err(fail("read"))?;
        file.write_at(replay.tail.unsettled, &unsettled)
            .map_err(fail("write"))?;
        file.truncate(replay.tail.offset).map_err(fail("truncate"))?;
        file.preallocate(context.segment_bytes.max(replay.tail.offset))
            .map_err(fail("preallocate"))?;
        file.sync_data().map_err(fail("sync"))?;
        let mut buffer = Vec::new();
        let writer = Writer::resume(replay, &mut buffer).with_segment_bytes(context.segment_bytes);
        let mut log = Self {
            disk,
            dir: dir.to_owned(),
            context,
            writer,
            file,
            older,
            buffer: Vec::new(),
        };
        log.append(&buffer, replay.tail.offset)?;
        log.cut_if_full()?;
        Ok(log)
    }

    /// Appends `saves` as one batch and makes it durable.
    pub fn save<'a>(&mut self, saves: impl IntoIterator<Item = &'a Save>) -> Result<(), Fault> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let offset = self.writer.offset();
        self.writer.write(saves, &mut buffer);
        let appended = self.append(&buffer, offset);
        self.buffer = buffer;
        appended?;
        self.cut_if_full()
    }

    fn append(&mut self, bytes: &[u8], offset: u64) -> Result<(), Fault> {
        if bytes.is_empty() {
            return Ok(());
        }
        let begun = self.context.clock.now();
        self.file
            .write_at(offset, bytes)
            .map_err(|error| self.fault("append to", &error))?;
        let written = self.context.clock.now();
        (self.context.observe)(Observation::WalWrite {
            bytes: bytes.len(),
            took: written.saturating_since(begun),
        });
        self.sync(written)
    }

    fn sync(&mut self, begun: Instant) -> Result<(), Fault> {
        if self.context.unsafe_no_fsync {
            return Ok(());
        }
        if let Err(error) = self.file.sync_data() {
            if !bug!(RetriesSync) {
                return Err(self.fault("sync", &error));
            }
            self.file.sync_data().map_err(|error| self.fault("sync", &error))?;
        }
        let took = self.context.clock.now().saturating_since(begun);
        if took >= SLOW_SYNC {
            tracing::warn!(took = ?took, "expected-duration" = ?SLOW_SYNC, "slow fdatasync");
        }
        (self.context.observe)(Observation::WalSync { took });
        Ok(())
    }

    fn cut_if_full(&mut self) -> Result<(), Fault> {
        if !self.writer.is_full() {
            return Ok(());
        }
        let mut head = Vec::new();
        let cut = self.writer.cut(&mut head);
        let closed = self.dir.join(cut.closed.to_string());
        let fail = |operation| {
            let closed = closed.clone();
            move |error: io::Error| disk_fault(operation, &closed, &error)
        };
        self.file.truncate(cut.closed_bytes).map_err(fail("truncate"))?;
        self.file.sync_data().map_err(fail("sync"))?;
        let next = prepare(&*self.disk, &self.dir, PREPARED, self.context.segment_bytes, &head)?;
        let path = self.dir.join(cut.opened.to_string());
        lock(&*next, &path)?;
        self.disk
            .rename(&self.dir.join(PREPARED), &path)
            .map_err(|error| disk_fault("name", &path, &error))?;
        if !bug!(ForgetsSegmentName) {
            self.disk
                .sync_dir(&self.dir)
                .map_err(|error| disk_fault("sync", &self.dir, &error))?;
        }
        let closed = std::mem::replace(&mut self.file, next);
        self.older.push((cut.closed, closed));
        tracing::info!(path = %path.display(), "created a new WAL segment");
        Ok(())
    }

    /// Writes the file of the save's marker, then appends the save, and removes files that no start needs any more.
    fn mark(&mut self, marker: &Marker, save: &Save) -> Result<(), Fault> {
        let begun = self.context.clock.now();
        let (index, term) = (marker.index, marker.term);
        let name = MarkerName { term, index };
        let metadata = SnapshotMetadata {
            conf_state: marker.conf_state.clone(),
            index,
            term,
        };
        let bytes = snap::encode(&Snapshot {
            metadata: Some(metadata),
            ..Snapshot::default()
        });
        let encoded = self.context.clock.now();
        write_atomically(&*self.disk, &self.context.snap_dir, &name.to_string(), &bytes)
            .map_err(|error| disk_fault("write", &self.context.snap_dir.join(name.to_string()), &error))?;
        let written = self.context.clock.now();
        self.save([save])?;
        (self.context.observe)(Observation::SnapSave {
            encoding: encoded.saturating_since(begun),
            writing: written.saturating_since(encoded),
            took: self.context.clock.now().saturating_since(begun),
        });
        tracing::info!("snapshot-index" = index, "saved snapshot to disk");
        self.release(index)
    }

    /// Removes the oldest segments that no start from a marker at `index` reads, and the oldest marker files, both down
    /// to the number to keep. Received snapshots of a lower index are removed too.
    fn release(&mut self, index: u64) -> Result<(), Fault> {
        let mut names: Vec<_> = self.older.iter().map(|(name, _)| *name).collect();
        names.push(self.writer.name());
        let needed = select(names.clone(), index)?.len();
        let released = names.len() - needed;
        let surplus = if self.context.max_wals == 0 {
            0
        } else {
            names.len().saturating_sub(self.context.max_wals)
        };
        for (name, _) in self.older.drain(..released.min(surplus)) {
            let path = self.dir.join(name.to_string());
            self.disk
                .remove(&path)
                .map_err(|error| disk_fault("remove", &path, &error))?;
            tracing::info!(path = %path.display(), "purged");
        }
        received::remove(&*self.disk, &self.context.snap_dir, |received| received < index)?;
        if self.context.max_snapshots == 0 {
            return Ok(());
        }
        let snapshots = marker_files(&*self.disk, &self.context.snap_dir)?;
        for name in snapshots.iter().rev().skip(self.context.max_snapshots) {
            let path = self.context.snap_dir.join(name.to_string());
            self.disk
                .remove(&path)
                .map_err(|error| disk_fault("remove", &path, &error))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Fault> {
        let mut bytes = Vec::new();
        let offset = self.writer.offset();
        self.writer.flush(&mut bytes);
        self.append(&bytes, offset)
    }

    fn fault(&self, operation: &'static str, error: &io::Error) -> Fault {
        disk_fault(operation, &self.dir.join(self.writer.name().to_string()), error)
    }

    /// Appends the saves of jobs without markers as one batch, and reports the last one that asked for a sync.
    fn save_jobs(&mut self, jobs: &[LogJob]) -> Result<(), Fault> {
        self.save(jobs.iter().map(|job| &job.save))?;
        if let Some(job) = jobs.iter().rev().find(|job| job.sync) {
            (self.context.report)(Done::Persisted { batch: job.batch });
        }
        Ok(())
    }
}

impl Lane for Log {
    type Job = LogJob;

    fn run(&mut self, jobs: &mut Vec<LogJob>) -> Result<(), Fault> {
        for group in jobs.chunk_by(|a, b| a.save.marker.is_none() && b.save.marker.is_none()) {
            if let [job] = group
                && let Some(marker) = &job.save.marker
            {
                self.mark(marker, &job.save)?;
                (self.context.report)(Done::Persisted { batch: job.batch });
            } else {
                self.save_jobs(group)?;
            }
        }
        Ok(())
    }

    fn patience(&self) -> Option<Duration> {
        None
    }

    fn rest(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        self.flush()
    }

    fn broke(&mut self, fault: Fault) {
        (self.context.report)(Done::Failed(fault));
    }
}

/// The names of the marker files in `dir`, oldest first.
pub fn marker_files(disk: &dyn Disk, dir: &Path) -> Result<Vec<MarkerName>, Fault> {
    let names = disk.list(dir).map_err(|error| disk_fault("list", dir, &error))?;
    let mut snapshots: Vec<_> = names.iter().filter_map(|name| MarkerName::parse(name)).collect();
    snapshots.sort_unstable_by_key(|name| (name.index, name.term));
    Ok(snapshots)
}

/// Creates a preallocated segment file with its head; everything but its name is synced.
fn prepare(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
    segment_bytes: u64,
    head: &[u8],
) -> Result<Box<dyn DiskFile>, Fault> {
    let path = dir.join(name);
    let fail = |operation| {
        let path = path.clone();
        move |error: io::Error| disk_fault(operation, &path, &error)
    };
    if crate::disk::exists(disk, &path).map_err(fail("look at"))? {
        disk.remove(&path).map_err(fail("remove"))?;
    }
    let mut file = disk.create(&path).map_err(fail("create"))?;
    file.preallocate(segment_bytes).map_err(fail("preallocate"))?;
    file.write_at(0, head).map_err(fail("write"))?;
    file.sync_data().map_err(fail("sync"))?;
    Ok(file)
}

fn lock(file: &dyn DiskFile, path: &Path) -> Result<(), Fault> {
    match file.try_lock() {
        Ok(true) => Ok(()),
        Ok(false) => Err(disk_fault("lock", path, &io::Error::other("another process holds it"))),
        Err(error) => Err(disk_fault("lock", path, &error)),
    }
}

/// Keeps a copy of the bytes that are about to be cut off a torn segment, for an operator.
fn set_aside(disk: &dyn Disk, dir: &Path, name: SegmentName, file: &dyn DiskFile, offset: u64) -> Result<(), Fault> {
    let path = dir.join(format!("{name}.broken"));
    let fail = |error: io::Error| disk_fault("write", &path, &error);
    let length = file.len().map_err(fail)?.saturating_sub(offset);
    let mut tail = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    let read = file.read_at(offset, &mut tail).map_err(fail)?;
    tail.truncate(read);
    let end = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut kept = vec![0; usize::try_from(offset).unwrap_or(usize::MAX)];
    file.read_at(0, &mut kept).map_err(fail)?;
    kept.extend_from_slice(&tail[..end]);
    write_atomically(disk, dir, &format!("{name}.broken"), &Bytes::from(kept)).map_err(fail)?;
    tracing::warn!(path = %path.display(), offset, "cut off a torn tail of the write-ahead log; a copy is kept");
    Ok(())
}
