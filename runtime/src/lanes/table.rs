//! The table lane: writes the applied state behind, in atomic batches with the consistent index of their rows.
//!
//! A batch is *written* when a restart of the process will find it, and *durable* when a power loss will not remove it.
//! Log files are removed only once the table is durable past them. Nothing else waits for a sync, so one a second is
//! enough.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quoin_core::bug;
use quoin_core::error::Fault;
use quoin_core::jobs::{TableJob, TableRows};
use quoin_core::limits::TABLE_MERGE_ROWS;
use quoin_core::member::BatchId;
use quoin_core::node::Done;
use quoin_core::store::View;
use quoin_core::table::{Bucket, TableOp};
use quoin_core::time::Instant;

use crate::clock::Time;
use crate::datadir;
use crate::disk::Disk;
use crate::received;
use crate::table::Table;

use super::wal::LaneContext;
use super::{Lane, Observation, Observe, Report, disk_fault};

/// Written rows are synced after this time.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// The tasks of the lane.
#[derive(Debug)]
pub enum TableTask {
    /// Rewrite the table without superseded rows; the reply has the outcome.
    Defragment(futures_channel::oneshot::Sender<Result<(), String>>),
    /// Write the rows of a job of the node.
    Job(TableJob),
    /// Make all written rows durable now.
    Sync,
}

/// The rows of several jobs, to be written as one batch.
#[derive(Default)]
struct Merged {
    ops: Vec<TableOp>,
    last: Option<BatchId>,
}

/// The table, and how far it is written and durable.
pub struct Rows {
    table: Box<dyn Table>,
    disk: Arc<dyn Disk>,
    /// The directory of the table and of received states.
    snap_dir: PathBuf,
    clock: Arc<dyn Time>,
    report: Report,
    observe: Observe,
    /// The last batch written.
    last: Option<BatchId>,
    /// The consistent index of the written rows, and that of the durable ones.
    written: u64,
    durable: u64,
    synced_at: Instant,
    unsafe_no_fsync: bool,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows")
            .field("written", &self.written)
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}

impl Rows {
    /// A lane over `table`, whose content covers the log up to `index` and is synced.
    pub fn new(disk: Arc<dyn Disk>, table: Box<dyn Table>, index: u64, context: &LaneContext) -> Self {
        Self {
            table,
            disk,
            snap_dir: context.snap_dir.clone(),
            clock: Arc::clone(&context.clock),
            report: Arc::clone(&context.report),
            observe: Arc::clone(&context.observe),
            last: None,
            written: index,
            durable: index,
            synced_at: context.clock.now(),
            unsafe_no_fsync: context.unsafe_no_fsync,
        }
    }

    /// Writes the rows of merged jobs, if there are any, and reports the last of them.
    fn write(&mut self, merged: &mut Merged) -> Result<(), Fault> {
        let Some(batch) = merged.last.take() else { return Ok(()) };
        let mut ops = std::mem::take(&mut merged.ops);
        let begun = self.clock.now();
        keep_last_change_of_each_row(&mut ops);
        if bug!(IndexBeforeRows) {
            let index: Vec<_> = ops.extract_if(.., |op| op.bucket == Bucket::Meta).collect();
            self.table.write(&index).map_err(|error| self.fault("write", &error))?;
        }
        if !ops.is_empty() {
            self.table.write(&ops).map_err(|error| self.fault("write", &error))?;
        }
        self.last = Some(batch);
        let bytes = self.table.size_bytes().map_err(|error| self.fault("measure", &error))?;
        (self.observe)(Observation::TableWrite {
            bytes,
            took: self.clock.now().saturating_since(begun),
        });
        (self.report)(Done::Stored {
            batch,
            durable_index: self.durable,
        });
        Ok(())
    }

    /// Replaces the content of the table by a received state, which includes everything written before.
    fn replace(&mut self, batch: BatchId, index: u64, view: &View) -> Result<(), Fault> {
        received::put_in_place(&mut *self.table, &datadir::table(&self.snap_dir), view)?;
        self.last = Some(batch);
        self.written = self.written.max(index);
        if bug!(RemovesSnapshotEarly) {
            received::remove(&*self.disk, &self.snap_dir, |received| received <= index)?;
        }
        self.sync()?;
        received::remove(&*self.disk, &self.snap_dir, |received| received <= index)
    }

    fn sync(&mut self) -> Result<(), Fault> {
        if self.durable < self.written {
            if !self.unsafe_no_fsync {
                self.table.sync().map_err(|error| self.fault("sync", &error))?;
            }
            self.durable = self.written;
            if let Some(batch) = self.last {
                (self.report)(Done::Stored {
                    batch,
                    durable_index: self.durable,
                });
            }
        }
        self.synced_at = self.clock.now();
        Ok(())
    }

    fn fault(&self, operation: &'static str, error: &io::Error) -> Fault {
        disk_fault(operation, &datadir::table(&self.snap_dir), error)
    }
}

impl Lane for Rows {
    type Job = TableTask;

    fn run(&mut self, jobs: &mut Vec<TableTask>) -> Result<(), Fault> {
        let mut merged = Merged::default();
        for task in jobs.drain(..) {
            match task {
                TableTask::Job(TableJob { batch, index, rows }) => match rows {
                    TableRows::Changed(ops) => {
                        merged.ops.extend(ops);
                        merged.last = Some(batch);
                        self.written = self.written.max(index);
                        if merged.ops.len() >= TABLE_MERGE_ROWS {
                            self.write(&mut merged)?;
                        }
                    }
                    TableRows::All(view) => {
                        self.write(&mut merged)?;
                        self.replace(batch, index, &view)?;
                    }
                },
                TableTask::Sync => {
                    self.write(&mut merged)?;
                    self.sync()?;
                }
                TableTask::Defragment(reply) => {
                    // The caller may no longer wait; the table is rewritten all the same.
                    let _gone = reply.send(self.table.defragment().map_err(|error| error.to_string()));
                }
            }
        }
        self.write(&mut merged)?;
        if self.clock.now().saturating_since(self.synced_at) >= SYNC_INTERVAL {
            self.sync()?;
        }
        Ok(())
    }

    fn patience(&self) -> Option<Duration> {
        let waited = self.clock.now().saturating_since(self.synced_at);
        (self.durable < self.written).then(|| SYNC_INTERVAL.saturating_sub(waited))
    }

    fn rest(&mut self) -> Result<(), Fault> {
        self.sync()
    }

    fn close(&mut self) -> Result<(), Fault> {
        self.sync()
    }

    fn is_patient_with(task: &TableTask) -> bool {
        matches!(task, TableTask::Defragment(_))
    }

    fn broke(&mut self, fault: Fault) {
        (self.report)(Done::Failed(fault));
    }
}

/// Keeps only the last change of each row in `ops`. The order of different rows does not matter, because a batch is
/// atomic.
fn keep_last_change_of_each_row(ops: &mut Vec<TableOp>) {
    ops.sort_by(|a, b| (a.bucket, &a.key).cmp(&(b.bucket, &b.key)));
    ops.dedup_by(|later, earlier| {
        let same = (later.bucket, &later.key) == (earlier.bucket, &earlier.key);
        if same {
            std::mem::swap(later, earlier);
        }
        same
    });
}
