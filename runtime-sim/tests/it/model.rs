//! The model beside the store: random entries are given to both, and every answer, event and revision of both is
//! compared; then moments of the past are read in every way. If they differ, one of two readings of etcd's behaviour is
//! wrong.

use std::collections::BTreeSet;

use prost::Message as _;
use quoin_core::error::Error;
use quoin_core::id::MemberId;
use quoin_core::membership::{ConfChangeContext, Member};
use quoin_core::mvcc::{CompactProgress, EventKind as StoreEventKind};
use quoin_core::proto::etcdserverpb::compare::TargetUnion;
use quoin_core::proto::etcdserverpb::request_op::Request as Op;
use quoin_core::proto::etcdserverpb::{
    self as pb, AlarmRequest, AlarmType, CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest, HashKvResponse,
    InternalRaftRequest, LeaseCheckpoint, LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
    RangeRequest, RequestHeader, RequestOp, TxnRequest,
};
use quoin_core::proto::membershippb::{
    Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest,
};
use quoin_core::proto::raftpb::{ConfChange, ConfChangeType, Entry, EntryType};
use quoin_core::random::Prng;
use quoin_core::store::check as store_check;
use quoin_core::store::{Applied, ApplyContext, Response, Store, StoreConfig, View};
use quoin_model::call::{Answer, Call, Refusal, is_read_only};
use quoin_model::etcd::{EventKind, Rules, State, check};

const SEEDS: std::ops::Range<u64> = 0..1000;
const STEPS: u64 = 300;
/// Reads of every checked moment of the past.
const READS: u64 = 12;
const MAX_TXN_OPS: usize = 8;

/// Draws requests, from few values, so that they meet.
struct Draw {
    random: Prng,
    revision: i64,
}

impl Draw {
    fn one_in(&mut self, many: u64) -> bool {
        self.random.below(many) == 0
    }

    fn number(&mut self, below: u64) -> i64 {
        self.random.below(below) as i64
    }

    /// Ids of leases, with negative ones and 0 among them.
    fn lease(&mut self) -> i64 {
        self.number(6) - 2
    }

    fn key(&mut self) -> Vec<u8> {
        match self.random.below(40) {
            0 => Vec::new(),
            1 => vec![0],
            2 => vec![0xff],
            _ => {
                let mut key = vec![b'a' + self.random.below(4) as u8];
                if self.one_in(3) {
                    key.push(self.random.below(3) as u8);
                }
                key
            }
        }
    }

    fn range_end(&mut self) -> Vec<u8> {
        match self.random.below(5) {
            0 => self.key(),
            1 => vec![0],
            2 => vec![b'z'],
            _ => Vec::new(),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        self.number(9).to_string().into_bytes()
    }

    fn some_revision(&mut self) -> i64 {
        self.revision - 12 + self.number(14)
    }

    fn put(&mut self) -> PutRequest {
        let (ignore_value, ignore_lease) = (self.one_in(6), self.one_in(4));
        PutRequest {
            key: self.key().into(),
            value: if ignore_value && !self.one_in(20) {
                Vec::new()
            } else {
                self.value()
            }
            .into(),
            lease: if self.one_in(2) { 0 } else { self.lease() },
            prev_kv: self.one_in(2),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete_range(&mut self) -> DeleteRangeRequest {
        DeleteRangeRequest {
            key: self.key().into(),
            range_end: self.range_end().into(),
            prev_kv: self.one_in(2),
        }
    }

    fn range(&mut self) -> RangeRequest {
        let mut bound = || if self.one_in(5) { self.some_revision().max(0) } else { 0 };
        let (min_mod, max_mod, min_create, max_create) = (bound(), bound(), bound(), bound());
        RangeRequest {
            key: self.key().into(),
            range_end: self.range_end().into(),
            limit: if self.one_in(2) { self.number(5) - 1 } else { 0 },
            revision: if self.one_in(3) { self.some_revision() } else { 0 },
            sort_order: if self.one_in(40) { 7 } else { self.number(3) as i32 },
            sort_target: if self.one_in(40) { -1 } else { self.number(5) as i32 },
            serializable: false,
            keys_only: self.one_in(4),
            count_only: self.one_in(8),
            min_mod_revision: min_mod,
            max_mod_revision: max_mod,
            min_create_revision: min_create,
            max_create_revision: max_create,
        }
    }

    fn compare(&mut self) -> Compare {
        let target = self.number(6) as i32;
        // Sometimes the operand is for another target.
        let given = if self.one_in(8) { self.number(6) as i32 } else { target };
        let number = self.number(4);
        Compare {
            result: self.number(5) as i32,
            target,
            key: self.key().into(),
            range_end: if self.one_in(3) { self.range_end() } else { Vec::new() }.into(),
            target_union: match given {
                0 => Some(TargetUnion::Version(number)),
                1 => Some(TargetUnion::CreateRevision(self.some_revision())),
                2 => Some(TargetUnion::ModRevision(self.some_revision())),
                3 => Some(TargetUnion::Value(self.value().into())),
                4 => Some(TargetUnion::Lease(self.lease())),
                _ => None,
            },
        }
    }

    fn txn(&mut self, depth: usize) -> TxnRequest {
        let compares = if self.one_in(2) { 0 } else { 1 + self.random.below(2) };
        let compare = (0..compares).map(|_| self.compare()).collect();
        let reads_only = self.one_in(5);
        let mut branch = || {
            let ops = 0..self.random.below(4);
            ops.map(|_| self.op(depth, reads_only)).collect()
        };
        TxnRequest {
            compare,
            success: branch(),
            failure: branch(),
        }
    }

    fn op(&mut self, depth: usize, reads_only: bool) -> RequestOp {
        let request = match self.random.below(9) {
            _ if self.one_in(60) => None,
            _ if reads_only => Some(Op::RequestRange(self.range())),
            0..3 => Some(Op::RequestPut(self.put())),
            3..5 => Some(Op::RequestDeleteRange(self.delete_range())),
            5..7 if depth > 0 => Some(Op::RequestTxn(self.txn(depth - 1))),
            _ => Some(Op::RequestRange(self.range())),
        };
        RequestOp { request }
    }

    fn alarm(&mut self) -> AlarmRequest {
        AlarmRequest {
            action: [0, 1, 2, 2, 2][self.random.below(5) as usize],
            member_id: self.random.below(2),
            alarm: self.number(3) as i32,
        }
    }

    fn call(&mut self) -> Call {
        let lease = self.lease();
        match self.random.below(100) {
            0..35 => Call::Put(self.put()),
            35..45 => Call::DeleteRange(self.delete_range()),
            45..75 => Call::Txn(self.txn(3)),
            75..82 => Call::LeaseGrant(LeaseGrantRequest {
                id: lease,
                ttl: if self.one_in(20) {
                    9_000_000_000 + self.number(2)
                } else {
                    self.number(20) - 2
                },
            }),
            82..88 => Call::LeaseRevoke(LeaseRevokeRequest { id: lease }),
            88..92 => Call::Compact(CompactionRequest {
                revision: self.some_revision(),
                physical: self.one_in(2),
            }),
            92..96 => Call::Alarm(self.alarm()),
            _ => Call::Range(self.range()),
        }
    }

    /// Proposals that members make by themselves.
    fn internal(&mut self) -> InternalRaftRequest {
        let mut request = InternalRaftRequest::default();
        match self.random.below(4) {
            0 => {
                request.cluster_version_set = Some(ClusterVersionSetRequest {
                    ver: ["3.5.0", "3.6.0"][self.random.below(2) as usize].to_owned(),
                });
            }
            1 => {
                request.cluster_member_attr_set = Some(ClusterMemberAttrSetRequest {
                    member_id: 1 + self.random.below(6),
                    member_attributes: Some(Attributes {
                        name: format!("m{}", self.number(3)),
                        client_urls: vec![format!("http://host-{}:2379", self.number(3))],
                    }),
                });
            }
            2 => {
                request.downgrade_info_set = Some(DowngradeInfoSetRequest {
                    enabled: self.one_in(2),
                    ver: "3.5.0".to_owned(),
                });
            }
            _ => {
                let checkpoints = (0..2).map(|_| LeaseCheckpoint {
                    id: self.lease(),
                    remaining_ttl: self.number(20),
                });
                request.lease_checkpoint = Some(LeaseCheckpointRequest {
                    checkpoints: checkpoints.collect(),
                });
            }
        }
        request
    }

    fn conf_change(&mut self) -> ConfChange {
        let id = MemberId(1 + self.random.below(6));
        let member = Member {
            id,
            peer_urls: vec![format!("http://host-{}:2380", self.random.below(8))],
            is_learner: self.one_in(2),
            ..Member::default()
        };
        let (change_type, context) = match self.random.below(5) {
            0 => (ConfChangeType::RemoveNode as i32, Vec::new()),
            1 => (ConfChange::UPDATE_NODE, member.to_json()),
            2 => (
                ConfChangeType::AddNode as i32,
                ConfChangeContext::promotion(id).to_json(),
            ),
            _ if member.is_learner => (ConfChangeType::AddLearnerNode as i32, member.to_json()),
            _ => (ConfChangeType::AddNode as i32, member.to_json()),
        };
        ConfChange {
            id: 0,
            change_type,
            node_id: id.0,
            context: context.into(),
        }
    }
}

/// Both machines and their log.
struct Pair {
    store: Store,
    model: State,
    /// The model that only gets the clients' calls.
    alone: State,
    index: u64,
    seed: u64,
    /// Whether the store has freed what was compacted.
    swept: bool,
    /// Results of requests: names of successful calls, texts of errors.
    seen: BTreeSet<String>,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let rules = if seed.is_multiple_of(2) {
            Rules::default()
        } else {
            Rules {
                min_lease_ttl: 5,
                max_learners: 2,
                checkpoints: None,
            }
        };
        let config = StoreConfig {
            min_lease_ttl_seconds: rules.min_lease_ttl,
            max_learners: rules.max_learners,
            // The model keeps checkpoints at every version; so must the store, to be compared with it.
            persist_lease_checkpoints: true,
        };
        Self {
            store: Store::new(config),
            model: State::with_rules(rules),
            alone: State::with_rules(rules),
            index: 0,
            seed,
            swept: true,
            seen: BTreeSet::new(),
        }
    }

    fn place(&self) -> String {
        format!("seed {}, index {}", self.seed, self.index)
    }

    fn request(&mut self, request: InternalRaftRequest) -> Result<Answer, Refusal> {
        let header = Some(RequestHeader {
            id: self.index + 1,
            ..RequestHeader::default()
        });
        let data = InternalRaftRequest { header, ..request }.encode_to_vec();
        self.apply(EntryType::EntryNormal, data)
    }

    fn conf_change(&mut self, change: ConfChange) -> Result<Answer, Refusal> {
        let id = self.index + 1;
        self.apply(EntryType::EntryConfChange, ConfChange { id, ..change }.encode_to_vec())
    }

    /// Gives both the next entry, compares their results, and returns them.
    fn apply(&mut self, kind: EntryType, data: Vec<u8>) -> Result<Answer, Refusal> {
        self.index += 1;
        let entry = Entry {
            entry_type: kind as i32,
            term: 2,
            index: self.index,
            data: data.into(),
            ..Entry::default()
        };
        let mut applied = Applied::default();
        let context = ApplyContext {
            quota_bytes: None,
            wanted: &|_| true,
        };
        let no_fault = self.store.apply(&entry, context, &mut applied);
        no_fault.expect("the log is sound");
        self.store.take_ops(&mut applied);
        let outcome = self.model.apply(&entry);
        let answer = outcome.result.clone();
        let place = self.place();
        assert_eq!(outcome.revision, self.store.view().kv.revision(), "{place}");
        let mut results = applied.results;
        if let Some((id, result)) = results.pop() {
            assert_eq!(outcome.id, id, "{place}");
            self.see(&outcome.result);
            self.swept &= !matches!(outcome.result, Ok(Answer::Compact(_)));
            assert_eq!(
                outcome.result.map(of_model),
                result.map(of_store).map_err(refusal),
                "{place}: {entry:?}"
            );
        } else {
            assert_eq!((outcome.id, outcome.result), (0, Ok(Answer::Internal)), "{place}");
        }
        assert!(results.is_empty(), "{place}");
        let ours = self.model.events(outcome.revisions.start, outcome.revisions.end - 1);
        let ours = ours
            .iter()
            .map(|event| (event.kind, event.kv.clone(), event.prev_kv.clone()));
        let view = self.store.view().kv;
        let theirs = applied.events.into_iter().map(|event| {
            let kind = match event.kind {
                StoreEventKind::Delete => EventKind::Delete,
                StoreEventKind::Put => EventKind::Put,
            };
            // The previous pair for watchers: none of a key that is new.
            let is_new = event.kv.create_revision == event.kv.mod_revision;
            let before = view.prev_kv(&event.kv.key, event.kv.mod_revision);
            (kind, event.kv, before.filter(|_| !is_new))
        });
        assert_eq!(ours.collect::<Vec<_>>(), theirs.collect::<Vec<_>>(), "{place}");
        answer
    }

    /// Sends a client's call through the log, and to a model without a log.
    fn call(&mut self, call: &Call) {
        let by_log = self.request(request_of(call));
        // A plain read does not go through the log, so alarms do not stop it.
        if !call.is_read() {
            assert_eq!(self.alone.execute(call), by_log, "{}: {call:?}", self.place());
        }
    }

    /// Frees some space in the store, sometimes all of it.
    fn sweep(&mut self, revisions: usize) {
        let mut applied = Applied::default();
        if revisions < 3 {
            self.store.compact_step(revisions, &mut applied);
        } else {
            while self.store.compact_step(1000, &mut applied) != CompactProgress::Idle {}
            self.swept = true;
        }
        self.store.take_ops(&mut applied);
    }

    /// Whether both refuse a request alike that cannot be proposed; returns whether it can be.
    fn can_be_proposed(&mut self, call: &Call) -> bool {
        let theirs = match call {
            Call::Put(request) => store_check::put(request),
            Call::DeleteRange(request) => store_check::delete_range(request),
            Call::Range(request) => store_check::range(request),
            Call::Txn(request) => store_check::txn(request, MAX_TXN_OPS),
            _ => Ok(()),
        };
        let ours = match call {
            // A grant is refused when it is applied.
            Call::LeaseGrant(_) => Ok(()),
            _ => check(call, MAX_TXN_OPS),
        };
        assert_eq!(ours, theirs.map_err(refusal), "{}: {call:?}", self.place());
        self.see(&ours);
        theirs.is_ok()
    }

    fn see<T>(&mut self, result: &Result<T, Refusal>) {
        if let Err(refusal) = result
            && !self.seen.contains(&refusal.message)
        {
            self.seen.insert(refusal.message.clone());
        }
    }

    /// Compares a view of the store with the model at that moment.
    fn look_back(&mut self, view: &View, swept: bool, draw: &mut Draw) {
        let index = view.applied_index;
        let place = format!("{}, back at {index}", self.place());
        let revision = view.kv.revision();
        assert_eq!(self.model.revision_at(index), revision, "{place}");
        assert_eq!(
            self.model.compact_revision_at(index),
            view.kv.compact_revision(),
            "{place}"
        );
        draw.revision = revision;
        for _ in 0..READS {
            self.look_back_by(&Call::Range(draw.range()), view);
            let txn = draw.txn(0);
            assert_eq!(is_read_only(&txn), store_check::is_read_only(&txn), "{place}: {txn:?}");
            if is_read_only(&txn) {
                self.look_back_by(&Call::Txn(txn), view);
            }
        }
        let everything = RangeRequest {
            key: b"\0"[..].into(),
            range_end: b"\0"[..].into(),
            ..RangeRequest::default()
        };
        let all = view.range(&everything).expect("the present can be read").kvs;
        assert_eq!(self.model.compare_kv(revision, all), Ok(()), "{place}");
        for asked in [0, draw.some_revision(), revision].into_iter().filter(|_| swept) {
            self.look_back_by(&Call::HashKv(HashKvRequest { revision: asked }), view);
        }
        self.look_at_tables(view, &place);
    }

    /// Compares the result of a possible call that reads.
    fn look_back_by(&mut self, call: &Call, view: &View) {
        if !self.can_be_proposed(call) {
            return;
        }
        let ours = self.model.answer(call, view.applied_index);
        let theirs = match call {
            Call::Range(range) => view.range(range).map(Answer::Range),
            Call::Txn(txn) => view.txn(txn).map(Answer::Txn),
            Call::HashKv(request) => view.kv.hash_kv(request.revision).map(|hash| {
                Answer::HashKv(HashKvResponse {
                    header: Some(view.header()),
                    hash: hash.hash,
                    compact_revision: hash.compact_revision,
                    hash_revision: hash.hash_revision,
                })
            }),
            other => panic!("{} is no read", other.name()),
        };
        let place = format!("{}, back at {}", self.place(), view.applied_index);
        assert_eq!(ours, theirs.map_err(refusal), "{place}: {call:?}");
        self.see(&ours);
    }

    /// Compares leases, alarms and members.
    fn look_at_tables(&self, view: &View, place: &str) {
        let (model, index) = (&self.model, view.applied_index);
        let leases = view.leases.iter().map(|(id, lease)| {
            let keys: Vec<_> = lease.keys().cloned().collect();
            (id, lease.ttl(), keys)
        });
        let ours = model.leases_at(index).into_iter();
        let ours = ours.map(|lease| (lease.id, lease.granted_ttl, lease.keys));
        assert_eq!(ours.collect::<Vec<_>>(), leases.collect::<Vec<_>>(), "{place}");
        for (id, lease) in view.leases.iter() {
            let ours = model.lease_at(id, index).expect("the lists were equal");
            let left = if ours.remaining_ttl > 0 {
                ours.remaining_ttl
            } else {
                ours.granted_ttl
            };
            let theirs = if lease.remaining_ttl() > 0 {
                lease.remaining_ttl()
            } else {
                lease.ttl()
            };
            assert_eq!(left, theirs, "{place}: lease {id}");
        }
        let alarms = view.alarms.list(AlarmType::None);
        assert_eq!(model.alarms_at(index), sorted(alarms.collect()), "{place}");
        let cluster = model.cluster_at(index);
        let members = view.cluster.members().cloned().map(member);
        assert_eq!(cluster.list(), members.collect::<Vec<_>>(), "{place}");
        let removed = view.cluster.removed().map(|id| id.0);
        assert!(cluster.removed.iter().copied().eq(removed), "{place}");
        let downgrade = view.cluster.downgrade().filter(|downgrade| downgrade.enabled);
        assert_eq!(
            cluster.downgrade,
            downgrade.map(|downgrade| downgrade.target.clone()),
            "{place}"
        );
    }
}

fn refusal(error: Error) -> Refusal {
    Refusal {
        code: i32::from(error.code().number()),
        message: error.message().to_owned(),
    }
}

fn member(member: Member) -> pb::Member {
    pb::Member {
        id: member.id.0,
        name: member.name,
        peer_urls: member.peer_urls,
        client_urls: member.client_urls,
        is_learner: member.is_learner,
    }
}

fn sorted(mut alarms: Vec<pb::AlarmMember>) -> Vec<pb::AlarmMember> {
    alarms.sort_by_key(|alarm| (alarm.alarm, alarm.member_id));
    alarms
}

/// The common part of both answers.
#[derive(Debug, PartialEq)]
enum Common {
    Answer(Answer),
    Members(Vec<pb::Member>),
}

fn of_model(answer: Answer) -> Common {
    match answer {
        Answer::MemberAdd(response) => Common::Members(response.members),
        Answer::MemberPromote(response) => Common::Members(response.members),
        Answer::MemberRemove(response) => Common::Members(response.members),
        Answer::MemberUpdate(response) => Common::Members(response.members),
        other => Common::Answer(other),
    }
}

fn of_store(response: Response) -> Common {
    Common::Answer(match response {
        Response::Alarm(mut response) => {
            response.alarms = sorted(response.alarms);
            Answer::Alarm(response)
        }
        Response::Compact(response) => Answer::Compact(response),
        Response::DeleteRange(response) => Answer::DeleteRange(response),
        Response::AuthChanged(_) | Response::Authenticated(_) | Response::Empty | Response::LeaseCheckpoint(_) => {
            Answer::Internal
        }
        Response::LeaseGrant(response) => Answer::LeaseGrant(response),
        Response::LeaseRevoke(response) => Answer::LeaseRevoke(response),
        Response::Members(members) => return Common::Members(members.into_iter().map(member).collect()),
        Response::Put(response) => Answer::Put(response),
        Response::Range(response) => Answer::Range(response),
        Response::Txn(response) => Answer::Txn(response),
    })
}

/// The entry of a client's call.
fn request_of(call: &Call) -> InternalRaftRequest {
    let mut request = InternalRaftRequest::default();
    match call.clone() {
        Call::Alarm(asked) => request.alarm = Some(asked),
        Call::Compact(asked) => request.compaction = Some(asked),
        Call::DeleteRange(asked) => request.delete_range = Some(asked),
        Call::LeaseGrant(asked) => request.lease_grant = Some(asked),
        Call::LeaseRevoke(asked) => request.lease_revoke = Some(asked),
        Call::Put(asked) => request.put = Some(asked),
        Call::Range(asked) => request.range = Some(asked),
        Call::Txn(asked) => request.txn = Some(asked),
        other => panic!("{} is no entry", other.name()),
    }
    request
}

/// Every error that a log can lead to; a run without one of them has tested less than it should.
const REFUSALS: &[&str] = &[
    "etcdserver: Peer URLs already exists",
    "etcdserver: can only promote a learner member",
    "etcdserver: corrupt cluster",
    "etcdserver: duplicate key given in txn request",
    "etcdserver: invalid sort option",
    "etcdserver: key is not provided",
    "etcdserver: key not found",
    "etcdserver: lease already exists",
    "etcdserver: lease is provided",
    "etcdserver: member ID already exist",
    "etcdserver: member not found",
    "etcdserver: mvcc: database space exceeded",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
    "etcdserver: re-configuration failed due to not enough started members",
    "etcdserver: requested lease not found",
    "etcdserver: too large lease TTL",
    "etcdserver: too many learner members in cluster",
    "etcdserver: too many operations in txn request",
    "etcdserver: value is provided",
];

#[test]
fn the_model_and_the_store_agree() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let mut draw = Draw {
            random: Prng::new(seed),
            revision: 1,
        };
        let mut pair = Pair::new(seed);
        let mut views = vec![(pair.store.view(), pair.swept)];
        for _ in 0..STEPS {
            draw.revision = pair.model.revision();
            match draw.random.below(20) {
                0 => drop(pair.conf_change(draw.conf_change())),
                1 => drop(pair.request(draw.internal())),
                2 => pair.sweep(1 + draw.random.below(4) as usize),
                3 if draw.one_in(4) => drop(pair.apply(EntryType::EntryNormal, Vec::new())),
                _ => {
                    let call = draw.call();
                    if pair.can_be_proposed(&call) {
                        pair.call(&call);
                    }
                }
            }
            if draw.one_in(20) {
                views.push((pair.store.view(), pair.swept));
            }
        }
        views.push((pair.store.view(), pair.swept));
        for (view, swept) in &views {
            pair.look_back(view, *swept, &mut draw);
        }
        seen.append(&mut pair.seen);
    }
    assert!(seen.iter().eq(REFUSALS), "{seen:#?}");
}
