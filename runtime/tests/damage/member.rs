//! A member of a cluster of one over real files, stepped on the calling thread: the real boot, node and lanes, and a
//! clock that moves only when the member waits.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quoin_core::boot::Damage;
use quoin_core::config::Config;
use quoin_core::error::Error;
use quoin_core::member::{Halt, Token};
use quoin_core::node::{Done, Effect, Input, Node, Request, Response};
use quoin_core::store::View;
use quoin_core::table::Bucket;
use quoin_core::time::Instant;
use quoin_runtime::boot::{BootError, Booted, World, boot};
use quoin_runtime::clock::Time;
use quoin_runtime::disk::{DiskFile, RealDisk};
use quoin_runtime::lanes::Lane as _;
use quoin_runtime::lanes::table::{Rows, TableTask};
use quoin_runtime::lanes::wal::{LaneContext, Log};
use quoin_runtime::progress::Progress;
use quoin_runtime::table::{FjallTable, Table};

/// Small files, so that a short history has many of each kind.
const SEGMENT_BYTES: u64 = 64 * 1024;
const MEMTABLE_BYTES: u64 = 48 * 1024;
/// Turns until an answer; more count as hanging.
const TURNS_MAX: usize = 10_000;
/// Time between two requests, so that the table is synced now and then.
const BETWEEN: Duration = Duration::from_millis(40);
/// After this time all work of a start is done.
const SETTLES: Duration = Duration::from_secs(15);

/// A clock that the test moves.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn move_to(&self, moment: Instant) {
        self.0.fetch_max(moment.as_nanos(), Ordering::Relaxed);
    }
}

impl Time for Hand {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// How much of the log a member keeps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Keeps {
    /// All of it.
    Everything,
    /// Two files, or as many as a start needs.
    Little,
}

/// A member that runs.
pub(crate) struct Member {
    node: Node,
    log: Log,
    rows: Rows,
    hand: Hand,
    reports: Arc<Mutex<Vec<Done>>>,
    answers: BTreeMap<Token, Result<Response, Error>>,
    last_token: u64,
    halt: Option<Halt>,
    last_index: u64,
    /// The damage of the table, if it is rebuilt.
    pub(crate) damage: Option<Damage>,
    _lock: Box<dyn DiskFile>,
}

impl Member {
    /// Starts the member in `dir`.
    pub(crate) fn start(dir: &Path, keeps: Keeps) -> Result<Self, BootError> {
        let (hand, reports) = (Hand::default(), Arc::new(Mutex::new(Vec::new())));
        let config = Config {
            data_dir: dir.display().to_string(),
            snapshot_count: 60,
            snapshot_catchup_entries: 5,
            ..Config::with_defaults()
        };
        let sink = Arc::clone(&reports);
        let keep = LaneContext {
            snap_dir: dir.join("member").join("snap"),
            max_wals: if keeps == Keeps::Little { 2 } else { 0 },
            max_snapshots: 3,
            segment_bytes: SEGMENT_BYTES,
            unsafe_no_fsync: true,
            clock: Arc::new(hand.clone()),
            report: Arc::new(move |done| sink.lock().unwrap_or_else(PoisonError::into_inner).push(done)),
            observe: Arc::new(|_| {}),
        };
        let world = World {
            disk: Arc::new(RealDisk),
            open_table: &|path: &Path| Ok(Box::new(FjallTable::open_with(path, MEMTABLE_BYTES)?) as Box<dyn Table>),
            resolve: &|url| Ok(url.authority().unwrap_or_default().to_owned()),
            ask: &|_, _| BTreeMap::new(),
            notify: &|_| {},
            progress: Progress::default(),
        };
        let booted = boot(&config, config.store_config(), keep.clone(), &world)?;
        let Booted {
            member,
            recovered,
            store,
            log,
            table,
            lock,
            damage,
            ..
        } = booted;
        let last_index = recovered
            .entries
            .last()
            .map_or(recovered.snapshot_index, |entry| entry.index);
        let rows = Rows::new(Arc::new(RealDisk), table, recovered.applied, &keep);
        let node = Node::start(config.node_config(member), recovered, store, 1, 0, hand.now())?;
        let mut member = Self {
            node,
            log,
            rows,
            hand,
            reports,
            answers: BTreeMap::new(),
            last_token: 0,
            halt: None,
            last_index,
            damage,
            _lock: lock,
        };
        member.settle();
        assert!(
            member.node.view().applied_index >= member.last_index,
            "everything in the log is applied"
        );
        Ok(member)
    }

    /// Sends a request and waits for the answer.
    pub(crate) fn ask(&mut self, request: Request) -> Result<Response, Error> {
        self.last_token += 1;
        let token = Token(self.last_token);
        self.hand.move_to(self.hand.now() + BETWEEN);
        self.wait();
        let deadline = self.hand.now() + Duration::from_secs(60);
        let mut inputs = vec![Input::Request {
            token,
            request,
            deadline,
        }];
        for _ in 0..TURNS_MAX {
            self.turn(std::mem::take(&mut inputs));
            if let Some(answer) = self.answers.remove(&token) {
                return answer;
            }
            self.wait();
        }
        panic!("a request is not answered");
    }

    /// Lets time pass until the work of a start, or of a compaction, is done.
    pub(crate) fn settle(&mut self) {
        let end = self.hand.now() + SETTLES;
        while self.hand.now() < end {
            self.turn(Vec::new());
            self.wait();
        }
    }

    /// Rewrites the table.
    pub(crate) fn defragment(&mut self) {
        let (sender, mut receiver) = futures_channel::oneshot::channel();
        self.rows.run(&mut vec![TableTask::Defragment(sender)]).unwrap();
        assert_eq!(receiver.try_recv(), Ok(Some(Ok(()))));
    }

    /// Stops in order: all data is durable afterwards.
    pub(crate) fn stop(mut self) {
        self.log.close().unwrap();
        self.rows.close().unwrap();
    }

    /// The whole state as text: the rows of every bucket, and the hash at every readable revision.
    pub(crate) fn state(&self) -> String {
        let view = self.node.view();
        let mut text = format!(
            "revision {} compacted {}\n",
            view.kv.revision(),
            view.kv.compact_revision()
        );
        for (bucket, key, value) in view.all_rows() {
            if !is_of_the_log(bucket, &key) {
                text += &format!("{} {} = {}\n", bucket.name(), key.escape_ascii(), value.escape_ascii());
            }
        }
        for revision in 1..=view.kv.revision() {
            let hash = view.kv.hash_kv(revision).ok().map(|hash| hash.hash);
            text += &format!("hash at {revision}: {hash:?}\n");
        }
        for (id, lease) in view.leases.iter() {
            text += &format!("lease {id}: {:?}\n", lease.keys().collect::<Vec<_>>());
        }
        text
    }

    fn wait(&mut self) {
        let is_quiet = self.reports.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if let Some((at, _)) = self.node.deadline().filter(|_| is_quiet) {
            self.hand.move_to(at);
        }
        if self.rows.patience().is_some_and(|patience| patience.is_zero()) {
            self.rows.rest().unwrap();
        }
    }

    /// One turn of the node, and of the lanes for its effects.
    fn turn(&mut self, mut inputs: Vec<Input>) {
        let reports = std::mem::take(&mut *self.reports.lock().unwrap_or_else(PoisonError::into_inner));
        inputs.extend(reports.into_iter().map(Input::Done));
        let mut effects = Vec::new();
        self.node.step(self.hand.now(), inputs, &mut effects);
        let (mut log_jobs, mut rows_jobs) = (Vec::new(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Halt(halt) => self.halt = Some(halt),
                Effect::Log(job) => log_jobs.push(job),
                Effect::Reply { token, result } => drop(self.answers.insert(token, result)),
                Effect::Hash(_) | Effect::Publish { .. } | Effect::Tokens(_) => {}
                Effect::Table(job) => rows_jobs.push(TableTask::Job(job)),
                Effect::Peer(job) => panic!("a cluster of one has no use for {job:?}"),
            }
        }
        assert!(self.halt.is_none(), "{:?}", self.halt);
        self.log.run(&mut log_jobs).unwrap();
        self.rows.run(&mut rows_jobs).unwrap();
    }
}

/// Whether the row changes with every start: it has the index up to which the log is applied.
fn is_of_the_log(bucket: Bucket, key: &Bytes) -> bool {
    bucket == Bucket::Meta && (key == "consistent_index" || key == "term")
}

/// The current state of a member as readers see it.
impl Member {
    /// The newest view.
    pub(crate) fn view(&self) -> View {
        self.node.view()
    }
}
