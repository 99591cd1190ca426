//! Runs of random entries: applied twice they give the same bytes, and the rows restore the same state.

use bytes::Bytes;
use quoin_core::id::MemberId;
use quoin_core::membership::Member;
use quoin_core::mvcc::CompactProgress;
use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::compare::{CompareTarget, TargetUnion};
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, Compare, DeleteRangeRequest, InternalRaftRequest, LeaseCheckpoint,
    LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use quoin_core::proto::membershippb::ClusterVersionSetRequest;
use quoin_core::proto::raftpb::{ConfChange, ConfChangeType};
use quoin_core::random::Prng;
use quoin_core::snapshot;
use quoin_core::store::check;
use quoin_core::table::{Bucket, is_own};

use crate::harness::{Harness, fingerprint};

const SEEDS: std::ops::Range<u64> = 0..32;
const STEPS: u64 = 400;

/// One step of a run: an entry, or a step of compaction.
enum Step {
    Conf(ConfChange),
    Request(Box<InternalRaftRequest>),
    Sweep(usize),
}

/// Draws steps.
struct Draw {
    random: Prng,
    revision: i64,
}

impl Draw {
    fn step(&mut self) -> Step {
        let mut request = InternalRaftRequest::default();
        match self.random.below(100) {
            0..30 => request.put = Some(self.put()),
            30..40 => request.delete_range = Some(self.delete_range()),
            40..65 => request.txn = Some(self.txn(3)),
            65..73 => {
                request.lease_grant = Some(LeaseGrantRequest {
                    id: self.lease(),
                    ttl: self.number(20),
                })
            }
            73..78 => request.lease_revoke = Some(LeaseRevokeRequest { id: self.lease() }),
            78..82 => {
                let checkpoints = vec![LeaseCheckpoint {
                    id: self.lease(),
                    remaining_ttl: self.number(20),
                }];
                request.lease_checkpoint = Some(LeaseCheckpointRequest { checkpoints });
            }
            82..86 => {
                let revision = self.revision - 3 + self.number(8);
                request.compaction = Some(CompactionRequest {
                    revision,
                    physical: false,
                });
            }
            86..88 => {
                let action = if self.random.below(3) == 0 {
                    AlarmAction::Activate
                } else {
                    AlarmAction::Deactivate
                };
                let (alarm, member_id) = (self.number(3) as i32, self.random.below(2));
                request.alarm = Some(AlarmRequest {
                    action: action as i32,
                    member_id,
                    alarm,
                });
            }
            88..94 => return Step::Conf(self.conf_change()),
            _ => return Step::Sweep(1 + self.random.below(4) as usize),
        }
        Step::Request(Box::new(request))
    }

    fn number(&mut self, below: u64) -> i64 {
        self.random.below(below) as i64
    }

    /// A lease id from -2 to 3, so that ids repeat; 0 is no lease.
    fn lease(&mut self) -> i64 {
        self.number(6) - 2
    }

    fn key(&mut self) -> Vec<u8> {
        let mut key = vec![b'a' + self.random.below(4) as u8];
        if self.random.below(3) == 0 {
            key.push(self.random.below(3) as u8);
        }
        key
    }

    fn range_end(&mut self) -> Vec<u8> {
        match self.random.below(4) {
            0 => self.key(),
            1 => vec![0],
            _ => Vec::new(),
        }
    }

    fn put(&mut self) -> PutRequest {
        let ignore_value = self.random.below(6) == 0;
        let ignore_lease = self.random.below(4) == 0;
        PutRequest {
            key: self.key().into(),
            value: if ignore_value {
                Vec::new()
            } else {
                self.number(1000).to_string().into_bytes()
            }
            .into(),
            lease: if ignore_lease { 0 } else { self.lease() },
            prev_kv: true,
            ignore_value,
            ignore_lease,
        }
    }

    fn delete_range(&mut self) -> DeleteRangeRequest {
        DeleteRangeRequest {
            key: self.key().into(),
            range_end: self.range_end().into(),
            prev_kv: true,
        }
    }

    fn txn(&mut self, depth: usize) -> TxnRequest {
        let compare = (0..self.random.below(3))
            .map(|_| Compare {
                result: self.number(5) as i32,
                target: [CompareTarget::Version, CompareTarget::Lease][self.random.below(2) as usize] as i32,
                key: self.key().into(),
                range_end: self.range_end().into(),
                target_union: (self.random.below(3) > 0).then(|| TargetUnion::Version(self.number(3))),
            })
            .collect();
        let mut branch = || (0..self.random.below(4)).map(|_| self.op(depth)).collect();
        TxnRequest {
            compare,
            success: branch(),
            failure: branch(),
        }
    }

    fn op(&mut self, depth: usize) -> RequestOp {
        let request = match self.random.below(8) {
            0..4 => Op::RequestPut(self.put()),
            4 => Op::RequestDeleteRange(self.delete_range()),
            5 if depth > 0 => Op::RequestTxn(self.txn(depth - 1)),
            _ => Op::RequestRange(self.range()),
        };
        RequestOp { request: Some(request) }
    }

    fn range(&mut self) -> RangeRequest {
        let back = self.random.below(4) == 0;
        RangeRequest {
            key: self.key().into(),
            range_end: self.range_end().into(),
            revision: if back { self.revision - self.number(6) } else { 0 },
            ..RangeRequest::default()
        }
    }

    fn conf_change(&mut self) -> ConfChange {
        let id = MemberId(1 + self.random.below(6));
        let is_learner = self.random.below(2) == 0;
        let kinds = [
            if is_learner {
                ConfChangeType::AddLearnerNode as i32
            } else {
                ConfChangeType::AddNode as i32
            },
            ConfChangeType::RemoveNode as i32,
            ConfChange::UPDATE_NODE,
        ];
        let peer_urls = vec![format!("http://host-{}:2380", self.random.below(8))];
        let member = Member {
            id,
            peer_urls,
            is_learner,
            ..Member::default()
        };
        let change_type = kinds[self.random.below(3) as usize];
        ConfChange {
            id: 0,
            change_type,
            node_id: id.0,
            context: member.to_json().into(),
        }
    }
}

/// Plays one run and calls `look` with the harness after every step, with the rows written.
fn play(seed: u64, wanted: bool, mut look: impl FnMut(u64, &mut Harness, String)) {
    let mut draw = Draw {
        random: Prng::new(seed),
        revision: 1,
    };
    let mut harness = Harness::new();
    harness.wanted = wanted;
    let ver = "3.6.0".to_owned();
    let version = InternalRaftRequest {
        cluster_version_set: Some(ClusterVersionSetRequest { ver }),
        ..InternalRaftRequest::default()
    };
    harness.request(version).unwrap();
    for step in 0..STEPS {
        let ops = match draw.step() {
            Step::Request(request) => {
                if request.txn.as_ref().is_some_and(|txn| check::txn(txn, 128).is_err()) {
                    continue;
                }
                harness.request(*request).unwrap().1
            }
            Step::Conf(change) => harness.conf_change(change).unwrap().1,
            Step::Sweep(revisions) => harness.sweep(revisions).1,
        };
        draw.revision = harness.store.view().kv.revision();
        harness.store.check();
        look(step, &mut harness, format!("{ops:?}"));
    }
}

#[test]
fn the_same_log_gives_the_same_rows_with_and_without_waiting_clients() {
    for seed in SEEDS {
        let runs = [true, false].map(|wanted| {
            let (mut rows, mut last) = (Vec::new(), String::new());
            play(seed, wanted, |_, harness, ops| {
                rows.push(ops);
                last = fingerprint(&harness.store);
            });
            (rows, last)
        });
        assert!(runs[0] == runs[1], "seed {seed}");
    }
}

#[test]
fn the_rows_restore_the_state() {
    for seed in SEEDS {
        play(seed, true, |step, harness, _| {
            if step % 7 != 0 {
                return;
            }
            let restored = harness.restored().unwrap();
            assert_eq!(
                fingerprint(&restored),
                fingerprint(&harness.store),
                "seed {seed}, step {step}"
            );
            restored.check();
            harness.store = restored;
        });
    }
}

#[test]
fn a_view_lists_the_rows_of_its_table() {
    for seed in SEEDS {
        play(seed, true, |step, harness, _| {
            if step % 7 != 0 {
                return;
            }
            let table = harness.table.iter().filter(|((bucket, key), _)| !is_own(*bucket, key));
            let expected: Vec<_> = table
                .map(|((bucket, key), value)| (*bucket, key.clone(), value.clone()))
                .collect();
            let view = harness.store.view();
            assert_eq!(
                view.all_rows().collect::<Vec<_>>(),
                expected,
                "seed {seed}, step {step}"
            );
            let rows = snapshot::decode("image", &snapshot::encode(&view).into()).unwrap();
            let restored = snapshot::restore(harness.config, &rows).unwrap();
            assert_eq!(
                fingerprint(&restored),
                fingerprint(&harness.store),
                "seed {seed}, step {step}"
            );
        });
    }
}

#[test]
fn entries_applied_again_change_nothing() {
    for seed in SEEDS {
        play(seed, true, |step, harness, _| {
            let before = fingerprint(&harness.store);
            let count = (step as usize).min(harness.log.len());
            let mut applied = harness.replay(count);
            assert!(
                harness.take_ops(&mut applied).is_empty() && applied.results.is_empty() && applied.events.is_empty()
            );
            assert_eq!(fingerprint(&harness.store), before, "seed {seed}, step {step}");
        });
    }
}

#[test]
fn a_table_that_lags_catches_up_from_the_log() {
    for seed in SEEDS {
        let mut kept = None;
        play(seed, true, |step, harness, _| {
            if step % 50 == 0 {
                kept = Some((harness.table.clone(), harness.log.len()));
            }
            if step % 50 == 40
                && let Some((table, applied)) = kept.take()
            {
                let mut late = Harness::new();
                late.table = table;
                late.store = late.restored().unwrap();
                for entry in &harness.log[applied..] {
                    late.apply(entry.clone()).unwrap();
                }
                // Each member sweeps on its own; sweeping shows only in the stored rows.
                while late.sweep(1000).0 != CompactProgress::Idle {}
                while harness.sweep(1000).0 != CompactProgress::Idle {}
                assert_eq!(
                    fingerprint(&late.store),
                    fingerprint(&harness.store),
                    "seed {seed}, step {step}"
                );
            }
        });
    }
}

#[test]
fn a_table_in_a_state_that_no_batch_left_is_refused() {
    let mut buckets = std::collections::BTreeSet::new();
    for seed in SEEDS {
        let mut random = Prng::new(seed ^ 0x5ea1);
        play(seed, false, |step, harness, _| {
            if step % 40 != 39 {
                return;
            }
            harness
                .restored()
                .unwrap_or_else(|fault| panic!("seed {seed}, step {step}: {fault}"));
            let sound = harness.table.clone();
            for _ in 0..10 {
                let at = random.below(sound.len() as u64) as usize;
                let ((bucket, key), value) = sound
                    .iter()
                    .nth(at)
                    .map(|(row, value)| (row.clone(), value.clone()))
                    .unwrap();
                let how = random.below(3);
                match how {
                    0 => drop(harness.table.remove(&(bucket, key.clone()))),
                    1 if !value.is_empty() => {
                        drop(harness.table.insert((bucket, key.clone()), flip(&value, &mut random)))
                    }
                    _ => {
                        harness.table.remove(&(bucket, key.clone()));
                        harness.table.insert((bucket, flip(&key, &mut random)), value);
                    }
                }
                if harness.table != sound && must_be_seen(bucket, &key, how) {
                    assert!(
                        harness.restored().is_err(),
                        "seed {seed}, step {step}: {bucket:?} {key:?}"
                    );
                    buckets.insert(bucket);
                }
                harness.table.clone_from(&sound);
            }
        });
    }
    assert!(buckets.len() >= 5, "rows of many buckets were damaged: {buckets:?}");
}

/// Whether damage of a row must be found: a table without a seal is from a version that wrote none.
fn must_be_seen(bucket: Bucket, key: &[u8], how: u64) -> bool {
    !is_own(bucket, key) || how == 1
}

fn flip(bytes: &Bytes, random: &mut Prng) -> Bytes {
    let mut bytes = bytes.to_vec();
    let at = random.below(bytes.len() as u64) as usize;
    bytes[at] ^= 1 << random.below(8);
    bytes.into()
}
