//! One random history on the real etcd and on ours: all answers are equal, and HashKV is equal at many revisions, also
//! after a restart.
//!
//! `QUOIN_HASH_OPS` sets the number of operations, `QUOIN_SEED` repeats a run.

use std::{collections::BTreeSet, sync::OnceLock, thread, time::Duration};

use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, DeleteOptions, Error, GetOptions, LeaseGrantOptions,
    LeaseTimeToLiveOptions, PutOptions, Txn, TxnOp,
};
use quoin_conformance::{
    Kind, Launch, Server, on_every_server,
    rng::{self, Rng},
};

use crate::common::shown::{Identity, Shown};

on_every_server!(random_history);

const OPERATIONS: u64 = 10_000;
/// Hashes are compared after this many operations.
const BETWEEN_HASHES: u64 = 250;
/// Older revisions hashed each time, besides the newest.
const OLDER_HASHES: u64 = 3;
const KEYS: u64 = 200;
/// The TTL of leases in seconds, longer than any run: leases would expire at different revisions.
const LIFE: i64 = 1_000_000;
const COMPACTION_PAUSE: Duration = Duration::from_millis(100);
/// The largest number of differences shown; later ones often follow from the first.
const SHOWN: usize = 5;
const RUN_LIMIT: Duration = Duration::from_mins(20);

/// The requests and their answers.
type Record = Vec<(String, String)>;

/// Gives the tests their name; `play` runs both sides of the comparison.
fn random_history() {}

fn play(kind: Kind, _name: &str, _story: fn()) {
    static SEED: OnceLock<u64> = OnceLock::new();
    static REAL: OnceLock<Record> = OnceLock::new();
    let seed = *SEED.get_or_init(rng::seed);
    println!("QUOIN_SEED={seed}");
    // Beside the other run, because both mostly wait for the disk.
    let (real, ours) = thread::scope(|scope| {
        let real = scope.spawn(|| REAL.get_or_init(|| run(Kind::Etcd, seed)));
        // For the real etcd this is a second run: it shows that the answers depend only on the seed.
        let ours = run(kind, seed);
        (real.join().expect("a run of a real etcd"), ours)
    });
    let steps = real.iter().zip(&ours).enumerate();
    let differing: Vec<_> = steps.filter(|(_, (expected, seen))| expected != seen).collect();
    let first: Vec<_> = differing.iter().take(SHOWN).collect();
    assert!(
        differing.is_empty() && real.len() == ours.len(),
        "{} of {} steps differ on {} with QUOIN_SEED={seed}: {first:#?}",
        differing.len(),
        real.len(),
        kind.name()
    );
}

fn run(kind: Kind, seed: u64) -> Record {
    let mut server = Launch::of(kind).and_then(Launch::start).expect("a healthy server");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime for the client");
    let play = async {
        let (client, identity) = connect(&server).await;
        let mut history = History::new(client, identity, seed);
        history.play().await;
        server.terminate().expect("a server that stops");
        server.restart().expect("a server that starts again");
        (history.client, history.identity) = connect(&server).await;
        history.look().await;
        history.record
    };
    runtime
        .block_on(async { tokio::time::timeout(RUN_LIMIT, play).await })
        .expect("a run ends in time")
}

async fn connect(server: &Server) -> (Client, Identity) {
    let mut client = Client::connect([server.address().to_string()], None)
        .await
        .expect("a connection on loopback");
    let status = client.status().await.expect("a healthy server has a status");
    (client, Identity::of(status.header().expect("a status has a header")))
}

/// One run: choices depend on the seed, and on no answer except the revision, which is compared.
struct History {
    client: Client,
    identity: Identity,
    rng: Rng,
    record: Record,
    leases: BTreeSet<i64>,
    revision: i64,
    compacted: i64,
}

impl History {
    fn new(client: Client, identity: Identity, seed: u64) -> Self {
        let rng = Rng::new(seed);
        Self {
            client,
            identity,
            rng,
            record: Vec::new(),
            leases: BTreeSet::new(),
            revision: 1,
            compacted: -1,
        }
    }

    async fn play(&mut self) {
        let operations = rng::number_from_env("QUOIN_HASH_OPS").unwrap_or(OPERATIONS);
        for done in 1..=operations {
            self.operate().await;
            if done % BETWEEN_HASHES == 0 || done == operations {
                self.look().await;
            }
        }
    }

    async fn operate(&mut self) {
        match self.rng.below(100) {
            0..50 => self.put().await,
            50..65 => self.delete().await,
            65..85 => self.transact().await,
            85..90 => self.grant().await,
            90..93 => self.revoke().await,
            93..95 if self.rng.once_in(4) => self.compact().await,
            _ => self.get().await,
        }
    }

    /// Records an answer; its revision is the basis of the next choices.
    fn note<R: Shown>(&mut self, asked: String, answer: Result<R, Error>) {
        let mut lines = Vec::new();
        match answer {
            Ok(answer) => answer.show(&self.identity, &mut lines),
            Err(Error::GRpcStatus(status)) => lines.push(format!("{:?}: {}", status.code(), status.message())),
            Err(other) => panic!("{asked}: {other}"),
        }
        let told = lines
            .first()
            .and_then(|line| line.strip_prefix("rev=")?.split(' ').next()?.parse().ok());
        self.revision = told.unwrap_or(self.revision).max(self.revision);
        self.record.push((asked, lines.join("\n")));
    }

    fn key(&mut self) -> String {
        format!("key/{:03}", self.rng.below(KEYS))
    }

    fn value(&mut self) -> Vec<u8> {
        let length = if self.rng.once_in(20) {
            self.rng.below(3000)
        } else {
            self.rng.below(30)
        };
        (0..length).map(|_| self.rng.bits() as u8).collect()
    }

    /// Mostly a live lease, sometimes one that does not exist, or none.
    fn lease(&mut self) -> i64 {
        let live: Vec<i64> = self.leases.iter().copied().collect();
        match self.rng.below(10) {
            0..4 if !live.is_empty() => *self.rng.pick(&live),
            4 if self.rng.once_in(10) => 1_000_000,
            _ => 0,
        }
    }

    fn put_options(&mut self) -> PutOptions {
        let mut options = PutOptions::new();
        if self.rng.once_in(4) {
            options = options.with_prev_key();
        }
        match self.rng.below(20) {
            0 => options.with_ignore_value(),
            1 => options.with_ignore_lease(),
            _ => options.with_lease(self.lease()),
        }
    }

    async fn put(&mut self) {
        let (key, value, options) = (self.key(), self.value(), self.put_options());
        let asked = format!("put {key} with {} bytes, {options:?}", value.len());
        let answer = self.client.put(key, value, Some(options)).await;
        self.note(asked, answer);
    }

    /// One key, or a range of up to a tenth of all.
    fn delete_options(&mut self, from: &str) -> DeleteOptions {
        let options = if self.rng.once_in(2) {
            DeleteOptions::new().with_prev_key()
        } else {
            DeleteOptions::new()
        };
        if self.rng.once_in(3) {
            let number: u64 = from
                .rsplit('/')
                .next()
                .and_then(|digits| digits.parse().ok())
                .unwrap_or_default();
            return options.with_range(format!("key/{:03}", number + self.rng.below(KEYS / 10)));
        }
        options
    }

    async fn delete(&mut self) {
        let key = self.key();
        let options = self.delete_options(&key);
        let asked = format!("delete {key}, {options:?}");
        let answer = self.client.delete(key, Some(options)).await;
        self.note(asked, answer);
    }

    fn operations(&mut self, depth: u32) -> Vec<TxnOp> {
        let count = self.rng.below(5);
        (0..count)
            .map(|_| {
                let key = self.key();
                match self.rng.below(8) {
                    0..4 => {
                        let (value, options) = (self.value(), self.put_options());
                        TxnOp::put(key, value, Some(options))
                    }
                    4 => {
                        let options = self.delete_options(&key);
                        TxnOp::delete(key, Some(options))
                    }
                    5 if depth < 2 => {
                        let inner = self.txn(depth + 1);
                        TxnOp::txn(inner)
                    }
                    _ => TxnOp::get(key, None),
                }
            })
            .collect()
    }

    fn txn(&mut self, depth: u32) -> Txn {
        let mut compares = Vec::new();
        for _ in 0..self.rng.below(3) {
            let key = self.key();
            let operator = *self.rng.pick(&[
                CompareOp::Less,
                CompareOp::Equal,
                CompareOp::NotEqual,
                CompareOp::Greater,
            ]);
            let revision = self.rng.below(self.revision.unsigned_abs() + 1) as i64;
            compares.push(match self.rng.below(4) {
                0 => Compare::version(key, operator, self.rng.below(4) as i64),
                1 => Compare::create_revision(key, operator, revision),
                2 => Compare::mod_revision(key, operator, revision),
                _ => Compare::value(key, operator, [self.rng.bits() as u8]),
            });
        }
        let then = self.operations(depth);
        Txn::new().when(compares).and_then(then).or_else(self.operations(depth))
    }

    async fn transact(&mut self) {
        let txn = self.txn(0);
        let asked = format!("transaction {txn:?}");
        let answer = self.client.txn(txn).await;
        self.note(asked, answer);
    }

    async fn grant(&mut self) {
        let id = 1 + self.rng.below(60) as i64;
        let answer = self
            .client
            .lease_grant(LIFE, Some(LeaseGrantOptions::new().with_id(id)))
            .await;
        self.leases.insert(id);
        self.note(format!("grant {id}"), answer);
    }

    async fn revoke(&mut self) {
        let id = 1 + self.rng.below(60) as i64;
        let keys = self
            .client
            .lease_time_to_live(id, Some(LeaseTimeToLiveOptions::new().with_keys()))
            .await;
        self.note(format!("keys of {id}"), keys);
        let answer = self.client.lease_revoke(id).await;
        self.leases.remove(&id);
        self.note(format!("revoke {id}"), answer);
    }

    /// In the older half of the kept history, or at the compacted revision, which is refused.
    async fn compact(&mut self) {
        let left = (self.revision - self.compacted).unsigned_abs();
        let revision = self.compacted + self.rng.below(left / 2 + 1) as i64;
        // HashKV at a compacted revision is the hash stored by the compaction, so every compaction is awaited.
        let physical = self.rng.once_in(2).then(|| CompactionOptions::new().with_physical());
        let pause = if physical.is_none() {
            COMPACTION_PAUSE
        } else {
            Duration::ZERO
        };
        let asked = format!("compact at {revision}, {physical:?}");
        let answer = self.client.compact(revision, physical).await;
        tokio::time::sleep(pause).await;
        self.compacted = self.compacted.max(revision);
        self.note(asked, answer);
    }

    async fn get(&mut self) {
        let key = self.key();
        let left = (self.revision - self.compacted).unsigned_abs();
        let revision = self.compacted + self.rng.below(left + 1) as i64;
        let options = GetOptions::new()
            .with_from_key()
            .with_revision(revision.max(0))
            .with_limit(10);
        let asked = format!("get from {key}, {options:?}");
        let answer = self.client.get(key, Some(options)).await;
        self.note(asked, answer);
    }

    /// The hash at the newest and at some older revisions, all keys, and the keys of each lease.
    async fn look(&mut self) {
        let mut revisions = vec![0, self.revision, self.compacted.max(1)];
        let left = (self.revision - self.compacted).unsigned_abs();
        for _ in 0..OLDER_HASHES {
            revisions.push((self.compacted + self.rng.below(left + 1) as i64).max(1));
        }
        for revision in revisions {
            let asked = format!("hash at {revision}");
            match self.client.hash_kv(revision).await {
                Ok(answer) => {
                    let hash = format!("{} compacted={}", answer.hash(), answer.compact_version());
                    self.record.push((asked, hash));
                }
                Err(error) => panic!("{asked}: {error}"),
            }
        }
        let answer = self.client.get("", Some(GetOptions::new().with_all_keys())).await;
        self.note("everything".to_owned(), answer);
        for id in self.leases.clone() {
            let keys = self
                .client
                .lease_time_to_live(id, Some(LeaseTimeToLiveOptions::new().with_keys()))
                .await;
            self.note(format!("keys of {id}"), keys);
        }
    }
}
