//! The threads of a running member, and how they are ended.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::clock::Clock;
use crate::disk::DiskFile;
use crate::drive::NodeQueue;
use crate::hub::HubQueue;
use crate::lanes::table::TableTask;
use crate::peers::Peers;

/// The sender into the table lane, for owners that live longer than the lane.
pub(crate) type SharedTable = Arc<Mutex<Option<SyncSender<TableTask>>>>;

/// All threads and what they own.
pub(crate) struct Parts {
    pub(crate) node: NodeQueue,
    pub(crate) peers: Peers,
    pub(crate) hub: HubQueue,
    pub(crate) table: SharedTable,
    pub(crate) node_thread: JoinHandle<()>,
    pub(crate) peer_thread: JoinHandle<()>,
    pub(crate) hub_thread: JoinHandle<()>,
    pub(crate) wal_thread: JoinHandle<()>,
    pub(crate) table_thread: JoinHandle<()>,
    pub(crate) hash_thread: JoinHandle<()>,
    /// The lock of the data directory.
    pub(crate) lock: Box<dyn DiskFile>,
}

impl Parts {
    /// Stops every thread and waits for it: first the machines, then the lanes they write to; then the data directory
    /// is free for other processes. `ended` is called with the name of each thread that has ended.
    fn take_apart(self, ended: &dyn Fn(String)) {
        let join = |thread: JoinHandle<()>| {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            // A thread that panicked has announced its panic.
            let _panicked = thread.join();
            ended(name);
        };
        self.node.stop();
        join(self.node_thread);
        // After the node, so that its last messages leave.
        self.peers.close();
        join(self.peer_thread);
        self.hub.close();
        join(self.hub_thread);
        // The node's senders are dropped with its thread; without this one the lanes get no further job.
        self.table.lock().unwrap_or_else(PoisonError::into_inner).take();
        join(self.wal_thread);
        join(self.table_thread);
        join(self.hash_thread);
        drop(self.lock);
    }

    /// The same, but waits no longer than `patience`. A thread whose disk does not answer is left behind, and with it
    /// the data directory's lock. Returns whether all threads have ended.
    pub(crate) fn take_apart_within(self, patience: Duration, clock: Clock) -> bool {
        let mut waited_for = vec![
            self.node_thread.thread().clone(),
            self.peer_thread.thread().clone(),
            self.hub_thread.thread().clone(),
            self.wal_thread.thread().clone(),
            self.table_thread.thread().clone(),
            self.hash_thread.thread().clone(),
        ];
        let (sender, ended) = channel();
        let work = move || {
            self.take_apart(&|name| {
                // The receiver may no longer wait.
                let _gone = sender.send(name);
            });
        };
        if let Err(error) = Builder::new().name("quoin-stop".to_owned()).spawn(work) {
            tracing::error!(%error, "cannot start the thread that stops the others");
            return false;
        }
        let deadline = clock.now() + patience;
        loop {
            match ended.recv_timeout(deadline.saturating_since(clock.now())) {
                Ok(name) => waited_for.retain(|thread| thread.name() != Some(&name)),
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => {
                    let threads: Vec<&str> = waited_for.iter().filter_map(|thread| thread.name()).collect();
                    tracing::error!(?threads, waited = ?patience, "threads did not end in time and are left behind");
                    return false;
                }
            }
        }
    }
}
