//! Draws scripts from seeds. The model applies each drawn step, so that revisions, leases and watches are drawn near
//! existing ones.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use quoin_core::proto::etcdserverpb::alarm_request::AlarmAction;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, HashKvRequest, LeaseGrantRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, MemberListRequest, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest,
    WatchRequest,
};
use quoin_model::call::Call;

use super::oracle::{Oracle, Planned, Settings};
use super::requests::Draw;
use super::step::{OWN_ID, Step};
use crate::rng::Rng;

/// The kinds of steps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Alarm,
    Brief,
    Cancel,
    Compact,
    Defragment,
    Delete,
    Expire,
    Grant,
    HashKv,
    KeepAlive,
    Leases,
    Members,
    Progress,
    Put,
    Range,
    Reset,
    Revoke,
    Status,
    TimeToLive,
    Txn,
    Watch,
}

/// The relative frequency of each kind.
const MIX: [(Kind, u64); 21] = [
    (Kind::Put, 2_200),
    (Kind::Range, 2_000),
    (Kind::Txn, 1_500),
    (Kind::Delete, 700),
    (Kind::TimeToLive, 250),
    (Kind::Grant, 250),
    (Kind::KeepAlive, 150),
    (Kind::HashKv, 100),
    (Kind::Revoke, 100),
    (Kind::Leases, 80),
    (Kind::Watch, 60),
    (Kind::Progress, 60),
    (Kind::Brief, 50),
    (Kind::Cancel, 50),
    (Kind::Compact, 50),
    (Kind::Alarm, 40),
    (Kind::Status, 40),
    (Kind::Members, 20),
    (Kind::Reset, 5),
    (Kind::Defragment, 4),
    (Kind::Expire, 1),
];

/// Streams in use at the same time.
const STREAMS: u64 = 4;
/// A stream with this many watches gets no more.
const MOST_WATCHES: usize = 10;
/// The most watches created together: those that start in the past catch up together, which takes etcd 0.1 s.
const MOST_AT_ONCE: u64 = 8;
/// The longest TTL, in seconds.
const MAX_TTL: i64 = 9_000_000_000;
/// TTLs of leases that outlive every run.
const TTLS: [i64; 6] = [100_000, 200_000, 300_000, 1_000_000, 400_000_000, MAX_TTL];
const ODD_TTLS: [i64; 7] = [0, 1, -1, i64::MIN, MAX_TTL + 1, i64::MAX, 3];
const LEASES: [i64; 9] = [1, 2, 3, 4, 5, 6, 7, -3, i64::MAX];
const NO_LEASES: [i64; 3] = [777, -1, i64::MIN];

/// The generator of an endless script.
pub struct Generator {
    oracle: Oracle,
    draw: Draw,
    mix: Vec<(Kind, u64)>,
    queue: VecDeque<Step>,
    expiring: i64,
}

impl Generator {
    /// The script of a seed, with its servers' settings. The seed also decides which kinds of requests are frequent or
    /// left out.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let settings = Settings {
            max_txn_ops: *rng.pick(&[128, 128, 9]),
            ..Settings::default()
        };
        let mut mix = Vec::new();
        for (kind, weight) in MIX {
            let factor = if kind == Kind::Put {
                2
            } else {
                *rng.pick(&[0, 1, 1, 2, 2, 2, 2, 6])
            };
            mix.push((kind, weight * factor));
        }
        Self {
            oracle: Oracle::new(settings),
            draw: Draw::new(rng),
            mix,
            queue: VecDeque::new(),
            expiring: 1_000_000,
        }
    }

    /// The settings of the servers.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.oracle.settings()
    }

    /// The model's state after the drawn part of the script.
    pub fn oracle(&mut self) -> &mut Oracle {
        &mut self.oracle
    }

    /// The next step.
    pub fn next_step(&mut self) -> Planned {
        if self.queue.is_empty() {
            let around = super::requests::Around {
                revision: self.oracle.state().revision(),
                compacted: self.oracle.compacted(),
                max_txn_ops: self.oracle.settings().max_txn_ops,
                max_request_bytes: self.oracle.settings().max_request_bytes,
                is_full: !self.oracle.state().alarms_at(u64::MAX).is_empty(),
            };
            self.draw.around = around;
            self.refill();
        }
        let step = self.queue.pop_front().expect("the queue was filled");
        self.oracle.plan(step)
    }

    fn refill(&mut self) {
        let alarms = self.oracle.state().alarms_at(u64::MAX);
        if !alarms.is_empty() && self.draw.rng.once_in(8) {
            for alarm in alarms {
                self.queue.push_back(Step::Ask(Call::Alarm(AlarmRequest {
                    action: AlarmAction::Deactivate as i32,
                    member_id: alarm.member_id,
                    alarm: alarm.alarm,
                })));
            }
            return;
        }
        let total = self.mix.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.draw.rng.below(total);
        let mut mix = self.mix.iter();
        let kind = loop {
            let (kind, weight) = *mix.next().expect("the number is below the sum");
            if drawn < weight {
                break kind;
            }
            drawn -= weight;
        };
        self.push(kind);
    }

    fn push(&mut self, kind: Kind) {
        let ask = |call| Step::Ask(call);
        let step = match kind {
            Kind::Alarm => self.alarm(),
            Kind::Brief => {
                let id = if self.draw.rng.once_in(3) { self.lease() } else { 0 };
                let ttl = *self.draw.rng.pick(&ODD_TTLS);
                Step::Brief(LeaseGrantRequest { ttl, id })
            }
            Kind::Cancel => self.cancel(),
            Kind::Compact => self.compact(),
            Kind::Defragment => Step::Defragment,
            Kind::Delete => ask(Call::DeleteRange(self.draw.delete())),
            Kind::Expire => self.expire(),
            Kind::Grant => self.grant(),
            Kind::HashKv => self.hash_kv(),
            Kind::KeepAlive => ask(Call::LeaseKeepAlive { id: self.lease() }),
            Kind::Leases => ask(Call::LeaseLeases),
            Kind::Members => ask(Call::MemberList(MemberListRequest {
                linearizable: self.draw.rng.once_in(2),
            })),
            Kind::Progress => {
                let progress = RequestUnion::ProgressRequest(WatchProgressRequest {});
                watch(self.stream(), Some(progress))
            }
            Kind::Put => ask(Call::Put(self.draw.put())),
            Kind::Range => {
                for _ in 0..self.draw.rng.below(4) {
                    let range = Call::Range(self.draw.range());
                    self.queue.push_back(Step::Ask(range));
                }
                ask(Call::Range(self.draw.range()))
            }
            Kind::Reset => Step::Reset(self.stream()),
            Kind::Revoke => ask(Call::LeaseRevoke(LeaseRevokeRequest { id: self.lease() })),
            Kind::Status => ask(Call::Status),
            Kind::TimeToLive => ask(Call::LeaseTimeToLive(LeaseTimeToLiveRequest {
                id: self.lease(),
                keys: self.draw.rng.once_in(2),
            })),
            Kind::Txn => ask(Call::Txn(self.draw.txn())),
            Kind::Watch => return self.watches(),
        };
        self.queue.push_back(step);
    }

    fn stream(&mut self) -> u8 {
        self.draw.rng.below(STREAMS) as u8
    }

    /// The id of a lease that may exist, or rarely of one that never does.
    fn lease(&mut self) -> i64 {
        if self.draw.rng.once_in(20) {
            *self.draw.rng.pick(&NO_LEASES)
        } else {
            *self.draw.rng.pick(&LEASES)
        }
    }

    fn grant(&mut self) -> Step {
        let id = *self.draw.rng.pick(&LEASES);
        let ttl = if self.draw.rng.once_in(15) {
            *self.draw.rng.pick(&[MAX_TTL + 1, i64::MAX])
        } else {
            *self.draw.rng.pick(&TTLS)
        };
        Step::Ask(Call::LeaseGrant(LeaseGrantRequest { ttl, id }))
    }

    /// Draws another step while alarms refuse the writes of an expiry.
    fn expire(&mut self) -> Step {
        if !self.oracle.state().alarms_at(u64::MAX).is_empty() {
            return Step::Ask(Call::LeaseLeases);
        }
        self.expiring += 1;
        let mut keys: Vec<Bytes> = (0..1 + self.draw.rng.below(3)).map(|_| self.draw.plain_key()).collect();
        keys.sort();
        keys.dedup();
        Step::Expire {
            id: self.expiring,
            ttl: 1 + self.draw.rng.below(3) as i64,
            keys,
        }
    }

    fn alarm(&mut self) -> Step {
        let on = self.oracle.state().alarms_at(u64::MAX);
        let rng = &mut self.draw.rng;
        let action = *rng.pick(&[
            AlarmAction::Get,
            AlarmAction::Get,
            AlarmAction::Activate,
            AlarmAction::Deactivate,
        ]);
        let mut kinds = if action == AlarmAction::Activate && rng.once_in(4) {
            [AlarmType::Corrupt, AlarmType::None]
        } else {
            [AlarmType::Nospace, AlarmType::None]
        };
        // Never both kinds: see `LEFT_OUT`.
        if action == AlarmAction::Activate && on.iter().any(|alarm| alarm.alarm != kinds[0] as i32) {
            kinds = [AlarmType::None; 2];
        }
        Step::Ask(Call::Alarm(AlarmRequest {
            action: action as i32,
            member_id: *rng.pick(&[OWN_ID, OWN_ID, 7, 0]),
            alarm: *rng.pick(&kinds) as i32,
        }))
    }

    fn compact(&mut self) -> Step {
        let physical = self.draw.rng.once_in(2);
        let revision = self.draw.compact_revision();
        // See `LEFT_OUT`.
        if self.is_recreation(revision) {
            return Step::Ask(Call::LeaseLeases);
        }
        Step::Ask(Call::Compact(CompactionRequest { revision, physical }))
    }

    /// Whether a revision both deleted a key and wrote it.
    fn is_recreation(&self, revision: i64) -> bool {
        let mut seen = BTreeSet::new();
        let mut events = self.oracle.state().events(revision, revision).iter();
        !events.all(|event| seen.insert(&event.kv.key))
    }

    fn hash_kv(&mut self) -> Step {
        let revision = self.draw.revision();
        let hashed = if revision == 0 {
            self.oracle.state().revision()
        } else {
            revision
        };
        // See `LEFT_OUT`.
        if self.is_recreation(hashed) {
            return Step::Ask(Call::LeaseLeases);
        }
        Step::Ask(Call::HashKv(HashKvRequest { revision }))
    }

    fn cancel(&mut self) -> Step {
        let stream = self.stream();
        let ids = self.oracle.watch_ids(stream);
        let watch_id = if ids.is_empty() || self.draw.rng.once_in(8) {
            *self.draw.rng.pick(&[0, 1, 5, -1, 99])
        } else {
            *self.draw.rng.pick(&ids)
        };
        watch(
            stream,
            Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })),
        )
    }

    fn watches(&mut self) {
        for _ in 0..1 + self.draw.rng.below(MOST_AT_ONCE) {
            let stream = self.stream();
            let queued = self.queue.len();
            let ids = self.oracle.watch_ids(stream);
            if ids.len() + queued >= MOST_WATCHES {
                let watch_id = *self.draw.rng.pick(&ids);
                let cancel = RequestUnion::CancelRequest(WatchCancelRequest { watch_id });
                self.queue.push_back(watch(stream, Some(cancel)));
                continue;
            }
            let create = if self.draw.rng.once_in(60) {
                None
            } else {
                Some(RequestUnion::CreateRequest(self.watch_create()))
            };
            self.queue.push_back(watch(stream, create));
        }
    }

    fn watch_create(&mut self) -> WatchCreateRequest {
        let (key, range_end) = self.draw.key_range();
        let start_revision = if self.draw.rng.once_in(2) {
            0
        } else {
            self.draw.revision()
        };
        let rng = &mut self.draw.rng;
        WatchCreateRequest {
            key,
            range_end,
            start_revision,
            progress_notify: rng.once_in(4),
            filters: rng
                .pick(&[vec![], vec![], vec![], vec![0], vec![1], vec![0, 1], vec![7]])
                .clone(),
            prev_kv: rng.once_in(2),
            watch_id: *rng.pick(&[0, 0, 0, 0, 1, 2, 5, -5]),
            fragment: rng.once_in(2),
        }
    }
}

fn watch(stream: u8, request_union: Option<RequestUnion>) -> Step {
    Step::Watch(stream, WatchRequest { request_union })
}
