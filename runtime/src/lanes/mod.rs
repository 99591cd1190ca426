//! Lanes: blocking file work on named threads with bounded queues, in order, reported back to the node.
//!
//! A lane's work is a plain struct with blocking methods ([`wal::Log`], [`table::Rows`]), which the simulator calls
//! directly; the thread around it is [`spawn`].

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use quoin_core::error::Fault;
use quoin_core::node::Done;

pub mod table;
pub mod wal;

/// How completions, and at most one fault, leave a lane.
pub type Report = Arc<dyn Fn(Done) + Send + Sync>;

/// Where measurements go.
pub type Observe = Arc<dyn Fn(Observation) + Send + Sync>;

/// A measurement of a lane, for metrics.
#[derive(Clone, Copy, Debug)]
pub enum Observation {
    /// A snapshot file and its marker were written.
    SnapSave {
        /// How long it took.
        took: Duration,
    },
    /// A batch was written to the table.
    TableWrite {
        /// Bytes the table takes on disk since.
        bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// A batch was written to the log.
    WalWrite {
        /// Its size.
        bytes: usize,
        /// How long it took.
        took: Duration,
    },
    /// The log was synced.
    WalSync {
        /// How long it took.
        took: Duration,
    },
}

/// The work of a lane.
pub trait Lane: Send + 'static {
    /// One piece of work.
    type Job: Send + 'static;

    /// Carries out `jobs`, which are in order, and reports each; one write and one sync may serve them all.
    fn run(&mut self, jobs: &mut Vec<Self::Job>) -> Result<(), Fault>;

    /// How long the lane may wait for a job before [`Lane::rest`] is due; `None` if it has nothing of its own to do.
    fn patience(&self) -> Option<Duration>;

    /// Work that is due while no job came.
    fn rest(&mut self) -> Result<(), Fault>;

    /// The queue is closed and empty: make everything durable.
    fn close(&mut self) -> Result<(), Fault>;

    /// The lane is broken: nothing it was given after this is carried out.
    fn broke(&mut self, fault: Fault);
}

/// Starts a lane's thread. It ends when the sender is dropped, or at the first fault: after a failed write or sync
/// nothing is tried again, because what is on the disk is no longer known.
pub fn spawn<L: Lane>(name: &str, queue_jobs: usize, mut lane: L) -> io::Result<(SyncSender<L::Job>, JoinHandle<()>)> {
    let (sender, receiver) = sync_channel(queue_jobs);
    let thread = Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(fault) = drive(&mut lane, &receiver) {
            lane.broke(fault);
        }
    })?;
    Ok((sender, thread))
}

fn drive<L: Lane>(lane: &mut L, receiver: &Receiver<L::Job>) -> Result<(), Fault> {
    let mut jobs = Vec::new();
    loop {
        let first = match lane.patience() {
            Some(patience) => receiver.recv_timeout(patience),
            None => receiver.recv().map_err(RecvTimeoutError::from),
        };
        match first {
            Ok(job) => {
                jobs.push(job);
                jobs.extend(receiver.try_iter());
                lane.run(&mut jobs)?;
                jobs.clear();
            }
            Err(RecvTimeoutError::Timeout) => lane.rest()?,
            Err(RecvTimeoutError::Disconnected) => return lane.close(),
        }
    }
}

/// A failed file operation as the fault it is.
pub(crate) fn disk_fault(operation: &'static str, path: &Path, error: &io::Error) -> Fault {
    Fault::Disk {
        operation,
        file: path.display().to_string(),
        cause: error.to_string(),
    }
}
