//! The table lane: writes the applied state behind, in atomic batches with the index that covers them.
//!
//! A batch is *written* when a restart of the process will find it and *durable* when a power loss will not take it.
//! The log is kept until the table is durably past it, so nothing waits for the sync but the log's retention: one a
//! second is enough.

use std::sync::Arc;
use std::time::Duration;

use quoin_core::error::Fault;
use quoin_core::node::{BatchId, Done};
use quoin_core::table::TableOp;
use quoin_core::time::Instant;

use crate::clock::Clock;
use crate::table::Table;

use super::Lane;

/// The longest that written rows stay volatile.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// Rows that jobs may have together to be written as one batch.
const MERGE_OPS_MAX: usize = 4096;

/// Work for the table.
#[derive(Debug)]
pub enum TableJob {
    /// Rewrite the table without superseded rows; the reply says whether it went well.
    Defragment(futures_channel::oneshot::Sender<Result<(), String>>),
    /// Make everything written durable now.
    Sync,
    /// Write a batch.
    Write {
        /// The batch's number.
        batch: BatchId,
        /// Index of the newest entry whose effects it holds.
        index: u64,
        /// Its rows.
        ops: Vec<TableOp>,
    },
}

/// How completions and the final fault leave the lane.
pub type Report = Arc<dyn Fn(Result<Done, Fault>) + Send + Sync>;

/// The table with what is known of its durability.
pub struct Rows {
    table: Box<dyn Table>,
    clock: Clock,
    report: Report,
    /// Index covered by what was written, and by what is durable.
    written: u64,
    durable: u64,
    synced_at: Instant,
    unsafe_no_fsync: bool,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("written", &self.written).field("durable", &self.durable).finish_non_exhaustive()
    }
}

impl Rows {
    /// A lane over `table`, whose content was found to cover the log up to `index`.
    pub fn new(table: Box<dyn Table>, index: u64, clock: Clock, unsafe_no_fsync: bool, report: Report) -> Self {
        let synced_at = clock.now();
        // What a crashed process had written may not be durable yet: assume nothing until the first sync.
        Self { table, clock, report, written: index, durable: 0, synced_at, unsafe_no_fsync }
    }

    fn write(&mut self, batch: BatchId, ops: &[TableOp]) -> Result<(), Fault> {
        if !ops.is_empty() {
            self.table.write(ops).map_err(|error| Fault::disk("write the table", &error))?;
        }
        let size_bytes = self.table.size_bytes().map_err(|error| Fault::disk("measure the table", &error))?;
        (self.report)(Ok(Done::Stored { batch, durable_index: self.durable, size_bytes }));
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Fault> {
        if self.durable < self.written {
            if !self.unsafe_no_fsync {
                self.table.sync().map_err(|error| Fault::disk("sync the table", &error))?;
            }
            self.durable = self.written;
            (self.report)(Ok(Done::Durable { index: self.durable }));
        }
        self.synced_at = self.clock.now();
        Ok(())
    }
}

impl Lane for Rows {
    type Job = TableJob;

    fn run(&mut self, jobs: &mut Vec<TableJob>) -> Result<(), Fault> {
        let mut merged: Vec<TableOp> = Vec::new();
        let mut last = None;
        for job in jobs.drain(..) {
            match job {
                TableJob::Write { batch, index, ops } => {
                    merged.extend(ops);
                    self.written = self.written.max(index);
                    last = Some(batch);
                    if merged.len() >= MERGE_OPS_MAX {
                        self.write(batch, &merged)?;
                        merged.clear();
                        last = None;
                    }
                }
                TableJob::Sync => {
                    if let Some(batch) = last.take() {
                        self.write(batch, &merged)?;
                        merged.clear();
                    }
                    self.sync()?;
                }
                TableJob::Defragment(reply) => {
                    // The caller may have given up; the table is rewritten all the same.
                    let _gone = reply.send(self.table.defragment().map_err(|error| error.to_string()));
                }
            }
        }
        if let Some(batch) = last {
            self.write(batch, &merged)?;
        }
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

    fn broke(&mut self, fault: Fault) {
        (self.report)(Err(fault));
    }
}
