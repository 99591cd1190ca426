//! Puts a member's threads together in order, and takes them apart in the reverse of it.
//!
//! Above it, `server` adds listeners; below, each thread has a file of its own. Here is only who knows whom.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_channel::Sender;
use futures_channel::oneshot;
use quoin_core::config::{AutoCompaction, Config, Gate, Url};
use quoin_core::error::Error;
use quoin_core::id::MemberId;
use quoin_core::limits::{GRPC_OVERHEAD_BYTES, STORE_LANE_QUEUE_JOBS, WAL_LANE_QUEUE_JOBS, WAL_SEGMENT_BYTES};
use quoin_core::member::{self, Halt, Retention, Status};
use quoin_core::mvcc::{EventKind, HashKv};
use quoin_core::node::{self, Node, PeerEvent};
use quoin_core::store::StoreConfig;
use quoin_core::watch::{HubConfig, WatchCounts};

use crate::boot::{BootError, Booted, World, boot};
use crate::clock::Clock;
use crate::datadir::DataDir;
use crate::disk::{DiskFile, RealDisk};
use crate::drive::{self, Hands, NodeQueue};
use crate::handle::{Call, NodeHandle, Published, Queues, WatchCall};
use crate::hashes::{self, Hashes};
use crate::hub::{self, HubQueue};
use crate::lanes::table::{Rows, TableJob};
use crate::lanes::wal::Keep;
use crate::lanes::{self, Observation, Observe};
use crate::logs;
use crate::metrics::Metrics;
use crate::running::{Ended, Running};
use crate::table::{FjallTable, Table};

/// Why a member was not put together.
pub type AssembleError = BootError;

/// The way into the table's lane for those who live longer than it.
type SharedTable = Arc<Mutex<Option<SyncSender<TableJob>>>>;

/// Everything to be taken apart again.
struct Parts {
    node: NodeQueue,
    hub: HubQueue,
    table: SharedTable,
    node_thread: JoinHandle<()>,
    hub_thread: JoinHandle<()>,
    wal_thread: JoinHandle<()>,
    table_thread: JoinHandle<()>,
    hash_thread: JoinHandle<()>,
    /// Owns the data directory.
    lock: Box<dyn DiskFile>,
}

impl Parts {
    /// Stops every thread and waits for it: first the machines, then what they write to; at last the data directory is
    /// free for others.
    fn take_apart(self) {
        self.node.stop();
        join(self.node_thread);
        self.hub.close();
        join(self.hub_thread);
        // The node's senders went with its thread; with this one the lanes have had their last job.
        self.table.lock().unwrap_or_else(PoisonError::into_inner).take();
        join(self.wal_thread);
        join(self.table_thread);
        join(self.hash_thread);
        drop(self.lock);
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the member panicked");
    }
}

/// Starts a member as configured: reads back what is on disk, then starts its threads.
pub fn start(config: &Config, clock: Clock, metrics: &Arc<Metrics>) -> Result<Running, AssembleError> {
    let queue = NodeQueue::new();
    let reports = queue.clone();
    let keep = Keep {
        snap_dir: DataDir::new(&config.data_dir, "").snap(),
        max_wals: count(config.max_wals),
        max_snapshots: count(config.max_snapshots),
        segment_bytes: WAL_SEGMENT_BYTES,
        unsafe_no_fsync: config.unsafe_no_fsync,
        clock: Arc::new(clock),
        report: Arc::new(move |done| reports.report(done)),
        observe: observe(metrics),
    };
    let world = World {
        disk: Arc::new(RealDisk),
        open_table: &open_table,
        resolve: &resolve,
        // Peers cannot be spoken with yet, so that clusters of several members are refused.
        ask: None,
        notify: &logs::notice,
    };
    let booted = boot(config, store_config(config), keep.clone(), &world)?;
    assemble(config, clock, queue, &keep, metrics, booted).map_err(|error| thread_fault(&error))
}

fn assemble(
    config: &Config,
    clock: Clock,
    queue: NodeQueue,
    keep: &Keep,
    metrics: &Arc<Metrics>,
    booted: Booted,
) -> io::Result<Running> {
    let Booted {
        member,
        cluster,
        recovered,
        store,
        log,
        table,
        lock,
        peers: _,
    } = booted;
    let seed = RandomState::new().hash_one("quoin");
    tracing::info!(seed, "drew the seed of this run");
    let published = Published {
        view: store.view(),
        status: Status {
            member,
            ..Status::default()
        },
    };
    let published = Arc::new(ArcSwap::from_pointee(published));
    let rows = Rows::new(Arc::new(RealDisk), table, recovered.applied, keep);
    let unix_ms = u64::try_from(clock.wall().as_millis()).unwrap_or(u64::MAX);
    let node = Node::start(
        node_config(config, member),
        recovered,
        store,
        seed,
        unix_ms,
        clock.now(),
    )
    .map_err(io::Error::other)?;

    let (wal_jobs, wal_thread) = lanes::spawn("quoin-wal", WAL_LANE_QUEUE_JOBS, log)?;
    let (table_jobs, table_thread) = lanes::spawn("quoin-table", STORE_LANE_QUEUE_JOBS, rows)?;
    let hub_config = HubConfig {
        progress_interval: config.watch_progress_notify_interval,
        max_response_bytes: count(config.max_request_bytes).saturating_add(GRPC_OVERHEAD_BYTES),
        seed,
    };
    let (hub, hub_thread) = hub::start(hub_config, clock, Arc::clone(&published), count_watchers(metrics))?;
    let shared_table = Arc::new(Mutex::new(Some(table_jobs.clone())));
    let (compacted, hashes, hash_thread) = hashes::start()?;
    let unsent = queue.clone();
    let hands = Hands {
        compacted,
        wal: wal_jobs,
        table: table_jobs,
        hub: hub.clone(),
        published: Arc::clone(&published),
        observe: count_changes(metrics),
        // There is nobody to send to in a cluster of one, and boot refuses any other.
        send: Box::new(|to, _| tracing::warn!(%to, "dropped messages for a peer: peers are not connected")),
        send_snapshot: Box::new(move |to, _, _| {
            unsent.peer(PeerEvent::Snapshot { to, received: false });
        }),
    };
    let (end, ended) = async_channel::bounded(1);
    let node_thread = drive::start(
        node,
        queue.clone(),
        hands,
        clock,
        Box::new(move |halt| tell_end(&end, halt)),
    )?;

    let ways = Ways {
        node: queue.clone(),
        hub: hub.clone(),
        table: Arc::clone(&shared_table),
        hashes,
    };
    let handle = NodeHandle::new(cluster.0, member.0, published, Box::new(ways));
    let table = shared_table;
    let parts = Parts {
        node: queue,
        hub,
        table,
        node_thread,
        hub_thread,
        wal_thread,
        table_thread,
        hash_thread,
        lock,
    };
    Ok(Running::new(handle, ended, Box::new(move || parts.take_apart())))
}

fn tell_end(end: &Sender<Ended>, halt: Halt) {
    let reason = match halt {
        Halt::Fault(fault) => {
            tracing::error!(error = %fault, "the member cannot go on; nothing more is acknowledged");
            Ended::Failed(fault.to_string())
        }
        Halt::Removed => Ended::Removed,
        Halt::Stopped => Ended::Stopped,
    };
    // There is room for one, and this is the only one.
    let _full = end.try_send(reason);
}

/// The queues as the services use them.
struct Ways {
    node: NodeQueue,
    hub: HubQueue,
    table: SharedTable,
    hashes: Hashes,
}

impl Queues for Ways {
    fn compact_hash(&self, revision: i64) -> Option<HashKv> {
        self.hashes.find(revision)
    }

    fn call(&self, call: Call) -> Result<(), Error> {
        self.node.call(call)
    }

    fn watch(&self, call: WatchCall) -> bool {
        self.hub.call(call)
    }

    fn defragment(&self, done: oneshot::Sender<Result<(), String>>) {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = table.as_ref().map(|table| table.try_send(TableJob::Defragment(done)));
        if let Some(Err(TrySendError::Full(_))) = sent {
            tracing::warn!("the table is too busy to be defragmented");
        }
    }
}

/// The applied state's part of a configuration.
#[must_use]
pub fn store_config(config: &Config) -> StoreConfig {
    StoreConfig {
        min_lease_ttl_seconds: member_config(config, MemberId::NONE).min_lease_ttl_seconds(),
        max_learners: count(config.max_learners),
        persist_lease_checkpoints: config.feature_gates.enabled(Gate::LeaseCheckpointPersist),
    }
}

fn member_config(config: &Config, member: MemberId) -> member::Config {
    member::Config {
        heartbeat_interval: Duration::from_millis(config.heartbeat_ms),
        election_timeout: Duration::from_millis(config.election_ms),
        initial_election_tick_advance: config.initial_election_tick_advance,
        pre_vote: config.pre_vote,
        strict_reconfig_check: config.strict_reconfig_check,
        snapshot_count: config.snapshot_count,
        snapshot_catchup_entries: config.snapshot_catchup_entries,
        max_request_bytes: count(config.max_request_bytes),
        lease_checkpoint: config.feature_gates.enabled(Gate::LeaseCheckpoint),
        name: config.name.clone(),
        client_urls: config.advertise_client_urls.iter().map(Url::to_string).collect(),
        ..member::Config::new(member)
    }
}

/// The node's part of a configuration.
#[must_use]
pub fn node_config(config: &Config, member: MemberId) -> node::Config {
    node::Config {
        member: member_config(config, member),
        quota_bytes: config.quota_backend_bytes,
        auto_compaction: match config.auto_compaction {
            AutoCompaction::Off => None,
            AutoCompaction::Periodic(period) => Some(Retention::Period(period)),
            AutoCompaction::Revision(kept) => Some(Retention::Revisions(i64::try_from(kept).unwrap_or(i64::MAX))),
        },
        compaction_batch_limit: count(config.compaction_batch_limit),
        compaction_sleep_interval: config.compaction_sleep_interval,
        ..node::Config::new(member)
    }
}

fn count(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn open_table(path: &Path) -> io::Result<Box<dyn Table>> {
    Ok(Box::new(FjallTable::open(path)?))
}

/// The address behind a URL's host as `ip:port`.
fn resolve(url: &Url) -> Result<String, String> {
    let Some(address) = url.authority() else {
        return Ok(url.to_string());
    };
    let mut found = address
        .to_socket_addrs()
        .map_err(|error| format!("failed to resolve {address}: {error}"))?;
    found
        .next()
        .map(|address| address.to_string())
        .ok_or_else(|| format!("{address} has no address"))
}

fn observe(metrics: &Arc<Metrics>) -> Observe {
    let metrics = Arc::clone(metrics);
    Arc::new(move |observation| match observation {
        Observation::SnapSave { took } => metrics.disk.snap_save_seconds.observe(took.as_secs_f64()),
        Observation::TableWrite { bytes, took } => {
            metrics.disk.backend_commit_seconds.observe(took.as_secs_f64());
            metrics.mvcc.db_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        Observation::WalSync { took } => metrics.disk.wal_fsync_seconds.observe(took.as_secs_f64()),
        Observation::WalWrite { bytes, took } => {
            metrics
                .disk
                .wal_write_bytes
                .add(i64::try_from(bytes).unwrap_or(i64::MAX));
            metrics.disk.wal_write_seconds.observe(took.as_secs_f64());
        }
    })
}

/// Counts what is written, on this member as on every other.
fn count_changes(metrics: &Arc<Metrics>) -> drive::Observe {
    let metrics = Arc::clone(metrics);
    Box::new(move |events| {
        let (mut puts, mut put_bytes) = (0, 0);
        for event in events.iter().filter(|event| event.kind == EventKind::Put) {
            puts += 1;
            put_bytes += event.kv.key.len() + event.kv.value.len();
        }
        let mvcc = &metrics.mvcc;
        mvcc.puts.inc_by(puts);
        mvcc.deletes.inc_by(events.len() as u64 - puts);
        mvcc.put_bytes.add(i64::try_from(put_bytes).unwrap_or(i64::MAX));
    })
}

fn count_watchers(metrics: &Arc<Metrics>) -> hub::Observe {
    let metrics = Arc::clone(metrics);
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let mut events_seen = 0;
    Box::new(move |counts: WatchCounts| {
        let mvcc = &metrics.mvcc;
        mvcc.watch_streams.set(number(counts.streams));
        mvcc.watchers.set(number(counts.watchers));
        mvcc.slow_watchers.set(number(counts.slow_watchers));
        mvcc.pending_events.set(number(counts.pending_events));
        mvcc.events.inc_by(counts.events_total - events_seen);
        events_seen = counts.events_total;
    })
}

fn thread_fault(error: &io::Error) -> BootError {
    BootError::Fault(quoin_core::error::Fault::Inconsistent {
        cause: format!("the member cannot start: {error}"),
    })
}
