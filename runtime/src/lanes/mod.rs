//! Lanes: blocking file work on named threads with bounded queues, in order, reported back to the node.
//!
//! A lane's work is a plain struct with blocking methods ([`wal::Log`], [`table::Rows`]), which the simulator calls
//! directly; [`spawn`] starts the thread around it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use quoin_core::error::Fault;
use quoin_core::node::Done;

use crate::clock::Time;
use crate::pulse::Pulse;
use crate::running::Ending;
use crate::threads;

pub mod table;
pub mod wal;

/// Takes the completions, and at most one fault, of a lane.
pub type Report = Arc<dyn Fn(Done) + Send + Sync>;

/// Takes the measurements of lanes.
pub type Observe = Arc<dyn Fn(Observation) + Send + Sync>;

/// A measurement of a lane, for metrics.
#[derive(Clone, Copy, Debug)]
pub enum Observation {
    /// A marker and its file were written.
    SnapSave {
        /// How long it took to make the file's bytes.
        encoding: Duration,
        /// How long it took to write the file and make it durable.
        writing: Duration,
        /// How long it took in all.
        took: Duration,
    },
    /// The file of a snapshot from a peer was received.
    SnapReceived {
        /// How long it took to make it durable.
        syncing: Duration,
        /// How long it took in all.
        took: Duration,
    },
    /// A batch was written to the table.
    TableWrite {
        /// Bytes that the table takes on disk afterwards.
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

    /// How long the lane may wait for a job before [`Lane::rest`] is due; `None` if it has no work of its own.
    fn patience(&self) -> Option<Duration>;

    /// Work that is due although no job came.
    fn rest(&mut self) -> Result<(), Fault>;

    /// The queue is closed and empty: make everything durable.
    fn close(&mut self) -> Result<(), Fault>;

    /// Whether a job may take any time without the lane counting as stuck.
    fn is_patient_with(_job: &Self::Job) -> bool {
        false
    }

    /// Reports that the lane is broken: no later job is carried out.
    fn broke(&mut self, fault: Fault);
}

/// The means by which a lane's thread is supervised.
pub struct Signs {
    /// Where a panic of the thread is announced.
    pub ending: Ending,
    /// How long the thread has been at one piece of work.
    pub pulse: Pulse,
    /// The clock of the pulse.
    pub clock: Arc<dyn Time>,
    /// Called after each run with the number of jobs and the duration.
    pub ran: Box<dyn Fn(usize, Duration) + Send>,
}

/// Starts a lane's thread, named as its pulse. It ends when the sender is dropped, or at the first fault: after a
/// failed write or sync no further one is tried, because the contents of the disk are unknown.
pub fn spawn<L: Lane>(
    queue_jobs: usize,
    mut lane: L,
    signs: Signs,
) -> io::Result<(SyncSender<L::Job>, JoinHandle<()>)> {
    let (sender, receiver) = sync_channel(queue_jobs);
    let ending = signs.ending.clone();
    let thread = threads::spawn_keeping(signs.pulse.thread(), &ending, receiver, move |receiver| {
        if let Err(fault) = drive(&mut lane, receiver, &signs) {
            // This line is logged even if the node has already ended and takes no reports.
            tracing::error!(thread = signs.pulse.thread(), error = %fault, "a lane failed");
            lane.broke(fault);
        }
    })?;
    Ok((sender, thread))
}

fn drive<L: Lane>(lane: &mut L, receiver: &Receiver<L::Job>, signs: &Signs) -> Result<(), Fault> {
    let mut jobs = Vec::new();
    loop {
        let first = match lane.patience() {
            Some(patience) => receiver.recv_timeout(patience),
            None => receiver.recv().map_err(RecvTimeoutError::from),
        };
        signs.pulse.begin(signs.clock.now());
        match first {
            Ok(job) => {
                jobs.push(job);
                jobs.extend(receiver.try_iter());
                if jobs.iter().any(L::is_patient_with) {
                    signs.pulse.rest();
                }
                tracing::trace!(jobs = jobs.len(), "a lane runs");
                let (count, begun) = (jobs.len(), signs.clock.now());
                lane.run(&mut jobs)?;
                (signs.ran)(count, signs.clock.now().saturating_since(begun));
                jobs.clear();
            }
            Err(RecvTimeoutError::Timeout) => lane.rest()?,
            Err(RecvTimeoutError::Disconnected) => return lane.close(),
        }
        signs.pulse.rest();
    }
}

/// The fault of a failed file operation.
pub(crate) fn disk_fault(operation: &'static str, path: &Path, error: &io::Error) -> Fault {
    Fault::Disk {
        operation,
        file: path.display().to_string(),
        cause: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use quoin_core::error::Fault;

    use super::*;
    use crate::clock::Clock;

    /// A lane that fails at a job or at its end, and sends on the fault that it reports.
    struct Failing {
        at_job: bool,
        told: SyncSender<Fault>,
    }

    fn fault() -> Fault {
        disk_fault("sync", Path::new("0.wal"), &io::Error::other("on purpose"))
    }

    impl Lane for Failing {
        type Job = ();

        fn run(&mut self, _jobs: &mut Vec<()>) -> Result<(), Fault> {
            if self.at_job { Err(fault()) } else { Ok(()) }
        }

        fn patience(&self) -> Option<Duration> {
            None
        }

        fn rest(&mut self) -> Result<(), Fault> {
            Ok(())
        }

        fn close(&mut self) -> Result<(), Fault> {
            Err(fault())
        }

        fn broke(&mut self, fault: Fault) {
            let _full = self.told.try_send(fault);
        }
    }

    #[test]
    fn a_lane_that_fails_at_a_job_or_at_its_end_reports_it_and_takes_no_more() {
        for at_job in [true, false] {
            let (told, heard) = sync_channel(1);
            let signs = Signs {
                ending: Ending::default(),
                pulse: Pulse::new("quoin-test"),
                clock: Arc::new(Clock::new()),
                ran: Box::new(|_, _| ()),
            };
            let (jobs, thread) = spawn(4, Failing { at_job, told }, signs).unwrap();
            jobs.send(()).unwrap();
            if at_job {
                assert_eq!(heard.recv(), Ok(fault()));
                thread.join().unwrap();
                assert!(jobs.send(()).is_err(), "a job for a lane that has ended is refused");
            } else {
                drop(jobs);
                assert_eq!(heard.recv(), Ok(fault()));
                thread.join().unwrap();
            }
        }
    }
}
