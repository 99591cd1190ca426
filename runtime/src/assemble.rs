//! Starts a member's threads in order; `parts` ends them in the reverse order.
//!
//! `server` adds listeners; each thread has its own file. This file only connects them with each other.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::sync::mpsc::TrySendError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_channel::oneshot;
use quoin_core::config::{Config, Url};
use quoin_core::error::Error;
use quoin_core::limits::{GRPC_OVERHEAD_BYTES, STORE_LANE_QUEUE_JOBS, WAL_LANE_QUEUE_JOBS, WAL_SEGMENT_BYTES};
use quoin_core::member::{Halt, Status, Token};
use quoin_core::mvcc::HashKv;
use quoin_core::node::{Input, Node, Request};
use quoin_core::peer;
use quoin_core::time::Instant;
use quoin_core::watch::HubConfig;

use crate::boot::{BootError, Booted, World, boot};
use crate::clock::Clock;
use crate::datadir::DataDir;
use crate::disk::RealDisk;
use crate::drive::{self, Caller, NodeQueue, NodeThread, OnEnd, TABLE_THREAD, WAL_THREAD};
use crate::handle::{NodeHandle, Queues, ReplySender, WatchCall};
use crate::hashes::{self, Hashes};
use crate::hub::{self, HubQueue};
use crate::lanes::table::{Rows, TableTask};
use crate::lanes::wal::LaneContext;
use crate::lanes::{self, Signs};
use crate::logs;
use crate::metrics::{LaneName, Metrics, QueueState, sources};
use crate::newest::{Newest, Published};
use crate::parts::{Parts, SharedTable};
use crate::peers::{self, PEER_THREAD, Shelf, questions};
use crate::progress::Progress;
use crate::pulse::{Pulse, Stuck};
use crate::running::{Ended, Ending, Running};
use crate::seam::Runtime;
use crate::table::{FjallTable, Table};
use crate::tls::Dialer;

/// Why a member could not be started: its disk, its configuration, or its threads.
pub type AssembleError = BootError;

/// Starts a member with this configuration: reads its disk, then starts its threads. `progress` shows how far that is.
pub fn start(
    config: &Config,
    runtime: &Arc<dyn Runtime>,
    metrics: &Arc<Metrics>,
    progress: &Progress,
) -> Result<Running, AssembleError> {
    let clock = runtime.clock();
    let dialer = Dialer::new(runtime, config).map_err(|why| thread_fault(&io::Error::other(why)))?;
    let queue = drive::queue();
    let reports = queue.clone();
    let context = LaneContext {
        snap_dir: DataDir::new(&config.data_dir, "").snap(),
        max_wals: count(config.max_wals),
        max_snapshots: count(config.max_snapshots),
        segment_bytes: WAL_SEGMENT_BYTES,
        unsafe_no_fsync: config.unsafe_no_fsync,
        clock: Arc::new(clock),
        report: Arc::new(move |done| reports.input(Input::Done(done))),
        observe: sources::observe_lanes(metrics),
    };
    let world = World {
        disk: Arc::new(RealDisk),
        open_table: &|path: &Path| open_table(path, clock),
        resolve: &resolve,
        ask: &|urls, why| questions::ask(&dialer, urls, why),
        notify: &logs::notice,
        progress: progress.clone(),
    };
    let booted = boot(config, config.store_config(), context.clone(), &world)?;
    assemble(config, dialer.clone(), queue, &context, metrics, booted).map_err(|error| thread_fault(&error))
}

fn assemble(
    config: &Config,
    dialer: Dialer,
    queue: NodeQueue,
    context: &LaneContext,
    metrics: &Arc<Metrics>,
    booted: Booted,
) -> io::Result<Running> {
    let clock = dialer.runtime().clock();
    let peer_site = peer_site(config, (dialer, metrics), &queue, context, &booted);
    let seed = RandomState::new().hash_one("quoin");
    tracing::info!(seed, "seeded the random numbers of this run, such as election timeouts");
    let published = first_published(config, &booted);
    let rows = Rows::new(Arc::new(RealDisk), booted.table, booted.recovered.applied, context);
    let node_config = config.node_config(booted.member);
    let unix_ms = u64::try_from(clock.wall().as_millis()).unwrap_or(u64::MAX);
    let node = Node::start(node_config, booted.recovered, booted.store, seed, unix_ms, clock.now())
        .map_err(io::Error::other)?;

    let ending = Ending::default();
    // Ordered by cause: health names the first of these that is stuck. A node that waits for a lane is stuck because of
    // the lane, so the lanes stand before it.
    let pulses = [WAL_THREAD, TABLE_THREAD, "quoin-node", PEER_THREAD, "quoin-watch"].map(Pulse::new);
    let [wal_pulse, table_pulse, node_pulse, peer_pulse, hub_pulse] = pulses.clone();
    let signs = |pulse, lane| Signs {
        ending: ending.clone(),
        pulse,
        clock: Arc::new(clock),
        ran: sources::count_lane(metrics, lane),
    };
    let (wal_jobs, wal_thread) = lanes::spawn(WAL_LANE_QUEUE_JOBS, booted.log, signs(wal_pulse, LaneName::Log))?;
    let (table_jobs, table_thread) = lanes::spawn(STORE_LANE_QUEUE_JOBS, rows, signs(table_pulse, LaneName::Table))?;
    let counting = Box::new(sources::count_watchers(metrics));
    let (hub, hub_thread) = hub::start(
        hub_config(config, seed),
        clock,
        published.clone(),
        counting,
        &ending,
        hub_pulse,
    )?;
    let shared_table = Arc::new(Mutex::new(Some(table_jobs.clone())));
    let (compacted, hashes, hash_thread) = hashes::start(&ending)?;
    let identity = (booted.cluster, booted.member);
    let mut turns = sources::Turns::new(identity, Arc::clone(metrics), clock, config.warning_apply_duration);
    let (peers, peer_thread) = peers::start(peer_site, &ending, peer_pulse)?;
    peers.roster(&published.load().view.cluster);
    let (sending, knowing) = (peers.clone(), peers.clone());
    let node_thread = NodeThread {
        node,
        queue: queue.clone(),
        clock,
        pulse: node_pulse,
        compacted,
        wal: wal_jobs,
        table: table_jobs,
        hub: hub.clone(),
        published: published.clone(),
        observe: Box::new(move |tally, took| turns.add(tally, took)),
        stage: sources::observe_stages(metrics),
        ended: clock.now(),
        send: Box::new(move |job| sending.send(job)),
        members: Box::new(move |cluster| knowing.roster(cluster)),
    }
    .start(tell_end(&ending), &ending)?;

    let ways = Ways {
        clock,
        node: queue.clone(),
        hub: hub.clone(),
        table: Arc::clone(&shared_table),
        hashes,
        pulses,
    };
    let handle = NodeHandle::new(booted.cluster.0, booted.member.0, published, Arc::new(ways));
    let parts = Parts {
        node: queue,
        peers: peers.clone(),
        hub,
        table: shared_table,
        node_thread,
        peer_thread,
        hub_thread,
        wal_thread,
        table_thread,
        hash_thread,
        lock: booted.lock,
    };
    let stop = move |patience| parts.take_apart_within(patience, clock);
    Ok(Running::new(handle, ending, Box::new(stop)).with_peers(peers))
}

/// The state that services see before the node's first turn.
fn first_published(config: &Config, booted: &Booted) -> Newest {
    let status = Status {
        member: booted.member,
        ..Status::default()
    };
    let view = booted.store.view();
    let published = Newest::new(Published { view, status });
    published.set_token_ttl(config.auth_token_ttl);
    published
}

/// The settings of the watch thread.
fn hub_config(config: &Config, seed: u64) -> HubConfig {
    HubConfig {
        progress_interval: config.watch_progress_notify_interval,
        max_response_bytes: count(config.max_request_bytes).saturating_add(GRPC_OVERHEAD_BYTES),
        seed,
        ..HubConfig::default()
    }
}

/// The settings and queues of the peer thread.
fn peer_site(
    config: &Config,
    (dialer, metrics): (Dialer, &Arc<Metrics>),
    queue: &NodeQueue,
    context: &LaneContext,
    booted: &Booted,
) -> peers::PeerSite {
    peers::PeerSite {
        config: peer::TransportConfig::of(config, booted.member, booted.cluster, booted.peers.clone()),
        dialer,
        node: queue.clone(),
        shelf: Shelf {
            disk: Arc::new(RealDisk),
            snap_dir: context.snap_dir.clone(),
            config: config.store_config(),
            clock: Arc::clone(&context.clock),
            observe: Arc::clone(&context.observe),
        },
        metrics: Arc::clone(metrics),
    }
}

/// Announces why the node halted, and logs a failure unless another thread has announced an end before.
fn tell_end(ending: &Ending) -> OnEnd {
    let ending = ending.clone();
    Box::new(move |halt| {
        let why = match halt {
            Halt::Fault(fault) => Ended::Failed(fault.to_string()),
            Halt::Removed => Ended::Removed,
            Halt::Stopped => Ended::Stopped,
        };
        // If a lane panicked, its thread has announced that already, and the node's halt follows from it.
        if ending.announce(why.clone())
            && let Ended::Failed(why) = why
        {
            tracing::error!(error = why, "the member cannot go on; nothing more is acknowledged");
        }
    })
}

/// The queues behind the services' [`Queues`].
struct Ways {
    clock: Clock,
    node: NodeQueue,
    hub: HubQueue,
    table: SharedTable,
    hashes: Hashes,
    /// The pulses of the log, table, node, peer and watch threads, in the order in which health names them.
    pulses: [Pulse; 5],
}

impl Queues for Ways {
    fn stuck(&self, now: Instant, limit: Duration) -> Option<Stuck> {
        self.pulses.iter().find_map(|pulse| pulse.stuck(now, limit))
    }

    fn queues(&self) -> Vec<QueueState> {
        let (items, refused) = self.node.state();
        let node = QueueState {
            name: "node",
            items,
            refused,
        };
        vec![node, self.hub.state()]
    }

    fn compact_hashes(&self) -> Vec<HashKv> {
        self.hashes.all()
    }

    fn call(&self, token: Token, request: Request, deadline: Instant, reply: ReplySender) -> Result<(), Error> {
        let since = self.clock.now();
        self.node.request(token, request, deadline, Caller { reply, since })
    }

    fn cancel(&self, token: Token) {
        self.node.input(Input::Cancel(token));
    }

    fn watch(&self, call: WatchCall) -> bool {
        self.hub.call(call)
    }

    fn defragment(&self, done: oneshot::Sender<Result<(), String>>) {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = table.as_ref().map(|table| table.try_send(TableTask::Defragment(done)));
        if let Some(Err(TrySendError::Full(_))) = sent {
            tracing::warn!("the table is too busy to be defragmented");
        }
    }
}

fn count(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn open_table(path: &Path, clock: Clock) -> io::Result<Box<dyn Table>> {
    let begun = clock.now();
    let table = FjallTable::open(path)?;
    let took = clock.now().saturating_since(begun);
    tracing::info!(path = %path.display(), ?took, "opened backend db");
    Ok(Box::new(table))
}

/// The address behind a URL's host as `ip:port`. A URL without a host, as for a Unix socket, is returned unchanged.
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

fn thread_fault(error: &io::Error) -> BootError {
    BootError::Fault(quoin_core::error::Fault::Inconsistent {
        cause: format!("the member cannot start: {error}"),
    })
}
