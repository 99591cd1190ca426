//! Repeated kill -9 under load: every acknowledged write exists, once, at the revision of its answer.
//!
//! `QUOIN_KILL_ROUNDS` sets the number of rounds, `QUOIN_SEED` repeats the choices (not the timing) of a run.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use etcd_client::{Client, Error, EventType, GetOptions, Txn, TxnOp, WatchOptions};
use quoin_conformance::{
    Kind, Launch, Server, on_every_server,
    rng::{self, Rng},
};
use tokio::task::JoinSet;

on_every_server!(acknowledged_writes_survive);

const ROUNDS: u64 = 12;
const WRITERS: u64 = 16;
/// The longest time before the kill of a round.
const LONGEST_LIFE: Duration = Duration::from_millis(400);
/// In one round out of this many the server is also killed while it starts.
const KILLED_STARTING: u64 = 4;
const STEP_LIMIT: Duration = Duration::from_secs(60);

/// The changes of one revision: keys with their new values, or `None` if deleted, in key order.
type Change = BTreeMap<String, Option<String>>;

/// The answers of every writer, and its last attempt.
#[derive(Debug, Default)]
struct Told {
    /// The newest revision before this round: its writers get higher ones only.
    floor: i64,
    acknowledged: BTreeMap<i64, Change>,
    tried: BTreeMap<u64, u64>,
    faults: Vec<String>,
}

/// Gives the tests their name; `play` is the whole story.
fn acknowledged_writes_survive() {}

fn play(kind: Kind, _name: &str, _story: fn()) {
    let seed = rng::seed();
    let rounds = rng::number_from_env("QUOIN_KILL_ROUNDS").unwrap_or(ROUNDS);
    println!("QUOIN_SEED={seed} QUOIN_KILL_ROUNDS={rounds} on {}", kind.name());
    let server = Launch::of(kind).and_then(Launch::start).expect("a healthy server");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime for the clients");
    let mut trial = Trial {
        server,
        rng: Rng::new(seed),
        told: Arc::default(),
        history: BTreeMap::new(),
        newest: 1,
    };
    for round in 1..=rounds {
        runtime.block_on(trial.load_and_kill(round));
        trial.start_again();
        runtime.block_on(trial.check(round));
    }
    runtime.block_on(trial.check_all());
    println!("{} revisions survived {rounds} kills", trial.history.len());
}

/// A server under test, and its known history.
struct Trial {
    server: Server,
    rng: Rng,
    told: Arc<Mutex<Told>>,
    /// Every revision that was ever seen after a restart.
    history: BTreeMap<i64, Change>,
    newest: i64,
}

impl Trial {
    /// Lets writers write until a moment that the seed chooses, and kills the server.
    async fn load_and_kill(&mut self, round: u64) {
        let stop = Arc::new(AtomicBool::new(false));
        lock(&self.told).floor = self.newest;
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let rng = Rng::new(self.rng.bits());
            let client = connect(&self.server).await;
            let tried = lock(&self.told).tried.get(&writer).copied().unwrap_or_default();
            let (told, stop) = (self.told.clone(), stop.clone());
            let writer = Writer {
                writer,
                number: tried,
                stood: None,
                rng,
                client,
                told,
                stop,
            };
            writers.spawn(writer.write());
        }
        let life = Duration::from_micros(self.rng.below(LONGEST_LIFE.as_micros() as u64));
        tokio::time::sleep(life).await;
        self.server.kill().expect("the server was running");
        stop.store(true, Ordering::Relaxed);
        let ended = tokio::time::timeout(STEP_LIMIT, async { while writers.join_next().await.is_some() {} });
        ended
            .await
            .unwrap_or_else(|_| panic!("round {round}: writers end once their server is gone"));
    }

    /// Starts the server, and sometimes kills it once while it starts.
    fn start_again(&mut self) {
        if self.rng.once_in(KILLED_STARTING) {
            self.server.spawn().expect("a process");
            quoin_conformance::wait::pause(Duration::from_millis(self.rng.below(300)));
            self.server.kill().expect("the server was running");
        }
        self.server.restart().expect("a server that was killed starts again");
    }

    /// Reads the revisions since the last check and compares them with the answers.
    async fn check(&mut self, round: u64) {
        let mut client = connect(&self.server).await;
        let now = revision(&mut client).await;
        let told = lock(&self.told)
            .acknowledged
            .last_key_value()
            .map_or(1, |(revision, _)| *revision);
        assert!(
            now >= told,
            "round {round}: revision {told} was acknowledged, the newest is {now}"
        );
        assert!(
            now >= self.newest,
            "round {round}: the newest revision went back from {} to {now}",
            self.newest
        );
        let fresh = replay(&mut client, self.newest + 1, now).await;
        self.check_acknowledged(&fresh, round);
        self.history.extend(fresh);
        self.newest = now;
        self.check_once(round);
        self.check_state(&mut client, round).await;
    }

    /// Checks that the history has the acknowledged writes since the last check, at their revisions.
    fn check_acknowledged(&self, fresh: &BTreeMap<i64, Change>, round: u64) {
        let told = lock(&self.told);
        assert!(told.faults.is_empty(), "round {round}: {:?}", told.faults);
        for (revision, change) in told.acknowledged.range(self.newest + 1..) {
            assert_eq!(
                fresh.get(revision),
                Some(change),
                "round {round}: revision {revision} was acknowledged"
            );
        }
    }

    /// Checks that no write was applied twice, and none without a request.
    fn check_once(&self, round: u64) {
        let told = lock(&self.told);
        let mut seen = BTreeMap::new();
        for (revision, change) in &self.history {
            let (_, value) = change
                .iter()
                .find(|(_, value)| value.is_some())
                .expect("every write puts something");
            let value = value.clone().unwrap_or_default();
            let (writer, number) = value.split_once(' ').expect("writers put their number and a count");
            let (writer, number): (u64, u64) = (writer.parse().expect("a writer"), number.parse().expect("a count"));
            assert!(
                told.tried[&writer] >= number,
                "round {round}: {value} at {revision} was never tried"
            );
            let before = seen.insert(value.clone(), revision);
            assert!(
                before.is_none(),
                "round {round}: {value} was done at {revision} and at {before:?}"
            );
        }
    }

    /// Checks that the keys of the server follow from the history.
    async fn check_state(&self, client: &mut Client, round: u64) {
        let mut expected = Change::new();
        for change in self.history.values() {
            for (key, value) in change {
                match value {
                    Some(value) => expected.insert(key.clone(), Some(value.clone())),
                    None => expected.remove(key),
                };
            }
        }
        let answer = client
            .get("", Some(GetOptions::new().with_all_keys()))
            .await
            .expect("a list of all keys");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let there: Change = answer
            .kvs()
            .iter()
            .map(|kv| (text(kv.key()), Some(text(kv.value()))))
            .collect();
        assert_eq!(expected, there, "round {round}: the keys follow from the history");
    }

    /// Checks the whole history again from its beginning: no revision changed after it was first seen.
    async fn check_all(&self) {
        let mut client = connect(&self.server).await;
        let again = replay(&mut client, 2, self.newest).await;
        let changed = self
            .history
            .iter()
            .find(|(revision, change)| again.get(revision) != Some(change));
        assert_eq!(changed, None, "a revision changed after it was first seen");
        assert_eq!(again.len(), self.history.len());
    }
}

/// Puts numbered values until its server has ended.
struct Writer {
    writer: u64,
    number: u64,
    /// The key of its last confirmed step.
    stood: Option<String>,
    rng: Rng,
    client: Client,
    told: Arc<Mutex<Told>>,
    stop: Arc<AtomicBool>,
}

impl Writer {
    async fn write(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            self.number += 1;
            lock(&self.told).tried.insert(self.writer, self.number);
            let change = self.change();
            match tokio::time::timeout(STEP_LIMIT, self.send(&change)).await {
                Ok(Ok(revision)) => self.acknowledged(revision, change),
                // Its outcome is unknown; the next round continues with the next number.
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    /// A put; or two keys that must change together; or a step from one key to the next.
    fn change(&mut self) -> Change {
        let Self { writer, number, .. } = *self;
        let value = Some(format!("{writer} {number}"));
        match self.rng.below(10) {
            0..7 => Change::from([(format!("one/{writer}"), value)]),
            7..9 => Change::from([
                (format!("pair/{writer}/a"), value.clone()),
                (format!("pair/{writer}/b"), value),
            ]),
            _ => {
                let next = format!("step/{writer}/{number}");
                let left = self.stood.replace(next.clone()).map(|left| (left, None));
                left.into_iter().chain([(next, value)]).collect()
            }
        }
    }

    async fn send(&mut self, change: &Change) -> Result<i64, Error> {
        let operation = |(key, value): (&String, &Option<String>)| match value {
            Some(value) => TxnOp::put(key.as_str(), value.as_str(), None),
            None => TxnOp::delete(key.as_str(), None),
        };
        let header = match change.first_key_value() {
            Some((key, Some(value))) if change.len() == 1 => {
                self.client.put(key.as_str(), value.as_str(), None).await?.take_header()
            }
            _ => {
                let operations: Vec<TxnOp> = change.iter().map(operation).collect();
                self.client.txn(Txn::new().and_then(operations)).await?.take_header()
            }
        };
        Ok(header.expect("an answer has a header").revision())
    }

    fn acknowledged(&self, revision: i64, change: Change) {
        let mut told = lock(&self.told);
        if revision <= told.floor {
            let floor = told.floor;
            told.faults.push(format!(
                "revision {revision} was acknowledged again, after {floor} had been seen"
            ));
        }
        if let Some(other) = told.acknowledged.insert(revision, change.clone()) {
            told.faults.push(format!(
                "revision {revision} was acknowledged for {other:?} and for {change:?}"
            ));
        }
    }
}

fn lock(told: &Mutex<Told>) -> std::sync::MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn connect(server: &Server) -> Client {
    Client::connect([server.address().to_string()], None)
        .await
        .expect("a connection on loopback")
}

async fn revision(client: &mut Client) -> i64 {
    let answer = client.get("none", None).await.expect("a linearizable read");
    answer.header().expect("an answer has a header").revision()
}

/// Every change between two revisions, by a watch; each revision must have changed something.
async fn replay(client: &mut Client, from: i64, to: i64) -> BTreeMap<i64, Change> {
    let mut history: BTreeMap<i64, Change> = BTreeMap::new();
    if from > to {
        return history;
    }
    let options = WatchOptions::new().with_all_keys().with_start_revision(from);
    let mut watch = client.watch("", Some(options)).await.expect("a watch stream");
    while history.last_key_value().is_none_or(|(revision, _)| *revision < to) {
        let next = tokio::time::timeout(STEP_LIMIT, watch.message())
            .await
            .expect("history comes in time");
        let response = next.expect("history").expect("the stream is open");
        assert!(!response.canceled(), "history is there: {response:?}");
        for event in response.events() {
            let kv = event.kv().expect("an event has a key");
            let value =
                (event.event_type() == EventType::Put).then(|| String::from_utf8_lossy(kv.value()).into_owned());
            let newest = history.last_key_value().map_or(from, |(revision, _)| *revision);
            assert!(
                kv.mod_revision() >= newest,
                "revisions only rise: {} after {newest}",
                kv.mod_revision()
            );
            let change = history.entry(kv.mod_revision()).or_default();
            let twice = change.insert(String::from_utf8_lossy(kv.key()).into_owned(), value);
            assert!(twice.is_none(), "a revision changed a key twice");
        }
    }
    let whole: Vec<i64> = (from..=to).collect();
    assert_eq!(
        history.keys().copied().collect::<Vec<_>>(),
        whole,
        "every revision is there, and no other"
    );
    history
}
