//! Stories of a cluster of three, told by hand: a good one passes, and each bad one breaks exactly the promise it names.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message as _;
use quoin_core::error::{Error, Fault};
use quoin_core::id::MemberId;
use quoin_core::member::{BatchId, Recovered, Status};
use quoin_core::membership::{ConfChangeContext, Member};
use quoin_core::mvcc::Event;
use quoin_core::proto::etcdserverpb::{
    CompactionRequest, HashKvRequest, HashKvResponse, InternalRaftRequest, LeaseGrantRequest, LeaseLeasesResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, MemberListRequest, MemberListResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RequestHeader, ResponseHeader, StatusResponse,
};
use quoin_core::proto::raftpb::{ConfChange, ConfState, Entry, EntryType, HardState, Message, MessageType};
use quoin_core::store::{Applied, ApplyContext, Store, StoreConfig, View};
use quoin_core::time::Instant;

use super::{Checkers, Coverage, LIST};
use crate::call::{Answer, Call, Refusal};
use crate::model::Rules;
use crate::observe::{ClientId, Observation, OpId, Violation};

const CLUSTER: u64 = 0xc1;
const TIMEOUT: Duration = Duration::from_secs(1);

/// What really happens, and what the checkers say of it.
struct Story {
    checkers: Checkers,
    coverage: Coverage,
    now: Instant,
    log: Vec<Entry>,
    stores: BTreeMap<u64, Store>,
    batches: BTreeMap<u64, u64>,
    ops: u64,
    term: u64,
    verdict: Option<Violation>,
}

impl Story {
    /// Three founders, of whom the first leads in term 2 and has opened it.
    fn new() -> Self {
        let coverage = Coverage::default();
        let mut story = Self {
            checkers: Checkers::new(coverage.clone(), Rules::default()),
            coverage,
            now: Instant::ZERO,
            log: (1..=3).map(founder).collect(),
            stores: (1..=3).map(|id| (id, Store::new(StoreConfig::default()))).collect(),
            batches: BTreeMap::new(),
            ops: 0,
            term: 2,
            verdict: None,
        };
        for id in 1..=3 {
            story.start(id, 3, 1, 0);
        }
        story.elect(1, 2);
        story.commit(Vec::new());
        story
    }

    fn see(&mut self, seen: &Observation<'_>) {
        self.now = self.now + Duration::from_millis(1);
        if self.verdict.is_none() {
            self.verdict = self.checkers.see(self.now, seen).err();
        }
    }

    /// A member comes back with so many entries, in a term.
    fn start(&mut self, id: u64, last: usize, term: u64, vote: u64) {
        let view = self.stores[&id].view();
        let recovered = Recovered {
            hard_state: hard_state(term, vote, 3),
            entries: self.log[..last].to_vec(),
            applied: view.applied_index,
            ..Recovered::default()
        };
        self.started(id, &recovered, &view);
    }

    fn started(&mut self, id: u64, recovered: &Recovered, view: &View) {
        self.batches.insert(id, 0);
        let member = MemberId(id);
        self.see(&Observation::Started {
            member,
            recovered,
            view,
        });
    }

    fn hand(&mut self, id: u64, state: Option<HardState>, entries: &[Entry]) {
        let batch = self.batches.entry(id).or_default();
        *batch += 1;
        let batch = BatchId(*batch);
        self.see(&Observation::Handed {
            member: MemberId(id),
            batch,
            hard_state: state.as_ref(),
            entries,
        });
    }

    fn sync(&mut self, id: u64) {
        let batch = BatchId(self.batches[&id]);
        let member = MemberId(id);
        self.see(&Observation::Durable { member, batch });
    }

    fn send(&mut self, from: u64, message: Message) {
        let to = MemberId(message.to);
        self.see(&Observation::Sent {
            member: MemberId(from),
            to,
            message: &message,
        });
    }

    fn elect(&mut self, leader: u64, term: u64) {
        self.term = term;
        for id in 1..=3 {
            self.hand(id, Some(hard_state(term, leader, 3)), &[]);
            self.sync(id);
            let kind = if id == leader {
                MessageType::MsgRequestVote
            } else {
                MessageType::MsgRequestVoteResponse
            };
            self.send(id, message(kind, leader, term));
        }
        self.send(leader, message(MessageType::MsgHeartbeat, 2, term));
    }

    /// Appends an entry and has it on every disk.
    fn append(&mut self, data: Vec<u8>, kind: EntryType) -> u64 {
        let entry = Entry {
            entry_type: kind as i32,
            index: self.log.len() as u64 + 1,
            term: self.term,
            data: data.into(),
            ..Entry::default()
        };
        self.log.push(entry.clone());
        for id in 1..=3 {
            self.hand(id, None, std::slice::from_ref(&entry));
            self.sync(id);
        }
        self.log.len() as u64
    }

    fn commit(&mut self, data: Vec<u8>) -> u64 {
        let index = self.append(data, EntryType::EntryNormal);
        (1..=3).for_each(|id| self.publish(id));
        index
    }

    /// A member applies everything and shows it.
    fn publish(&mut self, id: u64) {
        let (view, events) = self.apply(id);
        let status = self.status(id, &view);
        self.show(id, &view, &events, &status);
    }

    fn apply(&mut self, id: u64) -> (View, Vec<Event>) {
        let store = self.stores.get_mut(&id).unwrap();
        let mut applied = Applied::default();
        let context = ApplyContext {
            quota_bytes: None,
            wanted: &|_| false,
        };
        for entry in &self.log {
            store.apply(entry, context, &mut applied).unwrap();
        }
        (store.view(), applied.events)
    }

    fn status(&self, id: u64, view: &View) -> Status {
        Status {
            member: MemberId(id),
            leader: MemberId(1),
            term: self.term,
            leads: id == 1,
            published: true,
            commit_index: view.applied_index,
            applied_index: view.applied_index,
            ..Status::default()
        }
    }

    fn show(&mut self, id: u64, view: &View, events: &[Event], status: &Status) {
        let member = MemberId(id);
        self.see(&Observation::Published {
            member,
            view,
            events,
            status,
            restored: false,
        });
    }

    fn ask(&mut self, member: u64, call: &Call) -> OpId {
        self.ops += 1;
        let op = OpId(self.ops);
        self.see(&Observation::Invoked {
            op,
            client: ClientId(1),
            member: MemberId(member),
            call,
        });
        op
    }

    fn answer(&mut self, op: OpId, member: u64, result: Result<&Answer, &Refusal>) {
        let member = MemberId(member);
        self.see(&Observation::Replied { op, member, result });
        let result = Some(result);
        self.see(&Observation::Returned { op, result });
    }

    /// A client's write from beginning to end.
    fn put(&mut self, id: u64, value: &'static str) {
        let op = self.ask(1, &Call::Put(put(value)));
        let data = request(id, value);
        self.commit(data);
        let revision = self.stores[&1].view().kv.revision();
        self.answer(op, 1, Ok(&written(revision)));
    }

    /// A read, answered at a revision with these values.
    fn read(&mut self, request: &RangeRequest, op: OpId, revision: i64, value: Option<&'static str>) {
        let view = self.stores[&1].view();
        let mut found = view.kv.range(request).unwrap_or_default();
        if let Some(value) = value {
            for kv in &mut found.kvs {
                kv.value = value.into();
            }
        }
        let header = head(revision);
        let response = RangeResponse { header, ..found };
        self.answer(op, 1, Ok(&Answer::Range(response)));
    }

    fn heal(&mut self) {
        let core = [1, 2, 3].map(MemberId);
        self.see(&Observation::Healed {
            core: &core,
            election_timeout: TIMEOUT,
        });
    }

    fn wait(&mut self, timeouts: u32) {
        self.now = self.now + TIMEOUT * timeouts;
        self.see(&Observation::Returned {
            op: OpId(0),
            result: None,
        });
    }
}

fn founder(id: u64) -> Entry {
    let member = Member {
        id: MemberId(id),
        peer_urls: vec![format!("http://m{id}:1")],
        ..Member::default()
    };
    let context = ConfChangeContext {
        member,
        is_promote: false,
    };
    let change = ConfChange {
        node_id: id,
        context: context.to_json().into(),
        ..ConfChange::default()
    };
    Entry {
        entry_type: EntryType::EntryConfChange as i32,
        index: id,
        term: 1,
        data: change.encode_to_vec().into(),
        ..Entry::default()
    }
}

fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term, vote, commit }
}

fn message(kind: MessageType, to: u64, term: u64) -> Message {
    Message {
        msg_type: kind as i32,
        to,
        term,
        ..Message::default()
    }
}

fn put(value: &'static str) -> PutRequest {
    PutRequest {
        key: "k".into(),
        value: value.into(),
        ..PutRequest::default()
    }
}

/// A request of member 1.
fn request(id: u64, value: &'static str) -> Vec<u8> {
    with_id(
        id,
        InternalRaftRequest {
            put: Some(put(value)),
            ..InternalRaftRequest::default()
        },
    )
}

fn with_id(id: u64, request: InternalRaftRequest) -> Vec<u8> {
    let header = Some(RequestHeader {
        id: (1 << 48) + id,
        ..RequestHeader::default()
    });
    InternalRaftRequest { header, ..request }.encode_to_vec()
}

fn head(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: CLUSTER,
        member_id: 1,
        revision,
        raft_term: 2,
    })
}

fn written(revision: i64) -> Answer {
    Answer::Put(PutResponse {
        header: head(revision),
        prev_kv: None,
    })
}

fn refusal(error: Error) -> Refusal {
    Refusal {
        code: i32::from(error.code().number()),
        message: error.message().to_owned(),
    }
}

fn range(serializable: bool, revision: i64) -> RangeRequest {
    RangeRequest {
        key: "k".into(),
        serializable,
        revision,
        ..RangeRequest::default()
    }
}

/// Two writes, so that there is something to get wrong; a read of every kind.
fn good() -> Story {
    let mut story = Story::new();
    story.put(1, "a");
    story.put(2, "b");
    for (serializable, revision) in [(false, 0), (true, 0), (false, 2), (true, 3)] {
        let request = range(serializable, revision);
        let op = story.ask(1, &Call::Range(request.clone()));
        story.read(&request, op, 3, None);
    }
    story
}

#[test]
fn a_good_story_passes() {
    let mut story = good();
    let op = story.ask(1, &Call::Range(range(false, 9)));
    story.answer(op, 1, Err(&refusal(Error::FutureRevision)));
    let grant = LeaseGrantRequest { id: 7, ttl: 60 };
    story.commit(with_id(
        3,
        InternalRaftRequest {
            lease_grant: Some(grant),
            ..InternalRaftRequest::default()
        },
    ));
    let compaction = CompactionRequest {
        revision: 3,
        physical: false,
    };
    story.commit(with_id(
        4,
        InternalRaftRequest {
            compaction: Some(compaction),
            ..InternalRaftRequest::default()
        },
    ));
    let op = story.ask(1, &Call::Range(range(false, 2)));
    story.answer(op, 1, Err(&refusal(Error::Compacted)));
    // A member dies and comes back with its log and an older state.
    let store = Store::new(StoreConfig::default());
    story.stores.insert(3, store);
    story.see(&Observation::Ended {
        member: MemberId(3),
        lost_power: true,
    });
    let last = story.log.len();
    story.start(3, last, 2, 1);
    story.publish(3);
    story.heal();
    story.put(5, "c");
    for _ in 0..30 {
        story.wait(1);
    }
    story.see(&Observation::Finished);
    assert_eq!(story.verdict, None);
    assert!(story.coverage.met().1 >= 4, "{}", story.coverage.table());
}

/// Tells each bad story after the good one, and compares which promise is broken.
fn breaks(stories: &[(&str, &str, fn(&mut Story))]) {
    for (number, name, tell) in stories {
        let mut story = good();
        assert_eq!(story.verdict, None, "before {name}");
        tell(&mut story);
        let broken = story.verdict.as_ref().map(|violation| violation.checker);
        assert_eq!(broken, Some(*number), "{name}: {:?}", story.verdict);
        assert!(
            LIST.iter().any(|(listed, _)| listed == number),
            "{number} is in the list"
        );
    }
}

#[test]
fn answers_that_are_wrong() {
    breaks(&[
        ("C1", "another value is told to watchers", |story| {
            story.append(request(3, "c"), EntryType::EntryNormal);
            let (view, mut events) = story.apply(1);
            events[0].kv.value = "x".into();
            let status = story.status(1, &view);
            story.show(1, &view, &events, &status);
        }),
        ("C1", "a write is answered with another revision", |story| {
            let op = story.ask(1, &Call::Put(put("c")));
            story.commit(request(3, "c"));
            story.answer(op, 1, Ok(&written(9)));
        }),
        ("C1", "a write without a key is answered", |story| {
            let op = story.ask(1, &Call::Put(PutRequest::default()));
            story.answer(op, 1, Ok(&written(4)));
        }),
        ("C2", "a write is answered with an entry from before it", |story| {
            story.commit(request(3, "c"));
            let op = story.ask(1, &Call::Put(put("c")));
            story.answer(op, 1, Ok(&written(4)));
        }),
        ("C6", "a write is answered that is nowhere", |story| {
            let op = story.ask(1, &Call::Put(put("c")));
            story.answer(op, 1, Ok(&written(4)));
        }),
        ("C6", "a request happens twice", |story| {
            story.commit(request(2, "b"));
        }),
        ("C6", "a request is refused and happens", |story| {
            let op = story.ask(1, &Call::Put(put("c")));
            story.answer(op, 1, Err(&refusal(Error::TooManyRequests)));
            story.commit(request(3, "c"));
        }),
        ("C6", "a request is answered twice", |story| {
            story.answer(OpId(1), 1, Ok(&written(2)));
        }),
        ("C7", "events leave a revision out", |story| {
            story.append(request(3, "c"), EntryType::EntryNormal);
            story.append(request(4, "d"), EntryType::EntryNormal);
            let (view, events) = story.apply(1);
            let status = story.status(1, &view);
            story.show(1, &view, &events[1..], &status);
        }),
    ]);
}

#[test]
fn reads_that_are_wrong() {
    breaks(&[
        ("C3", "a linearizable read is old", |story| {
            let request = range(false, 0);
            let op = story.ask(1, &Call::Range(request.clone()));
            story.read(&request, op, 2, Some("a"));
        }),
        ("C3", "a linearizable read shows what never was", |story| {
            let request = range(false, 0);
            let op = story.ask(1, &Call::Range(request.clone()));
            story.read(&request, op, 3, Some("x"));
        }),
        ("C3", "a lease that is not there is listed with keys", |story| {
            let op = story.ask(1, &Call::LeaseTimeToLive(LeaseTimeToLiveRequest { id: 9, keys: true }));
            let response = LeaseTimeToLiveResponse {
                header: head(3),
                id: 9,
                ttl: 5,
                granted_ttl: 5,
                ..LeaseTimeToLiveResponse::default()
            };
            story.answer(op, 1, Ok(&Answer::LeaseTimeToLive(response)));
        }),
        ("C3", "a member list has nobody", |story| {
            let op = story.ask(1, &Call::MemberList(MemberListRequest { linearizable: true }));
            story.answer(op, 1, Ok(&Answer::MemberList(MemberListResponse::default())));
        }),
        ("C4", "a serializable read is older than the member", |story| {
            let request = range(true, 0);
            let op = story.ask(1, &Call::Range(request.clone()));
            story.read(&request, op, 2, Some("a"));
        }),
        ("C4", "a status is of no moment", |story| {
            let op = story.ask(1, &Call::Status);
            let response = StatusResponse {
                header: head(2),
                raft_applied_index: 6,
                ..StatusResponse::default()
            };
            story.answer(op, 1, Ok(&Answer::Status(response)));
        }),
        ("C4", "leases are listed that are not there", |story| {
            let op = story.ask(1, &Call::LeaseLeases);
            let response = LeaseLeasesResponse {
                header: head(3),
                leases: vec![Default::default()],
            };
            story.answer(op, 1, Ok(&Answer::LeaseLeases(response)));
        }),
        ("C5", "the past is not what it was", |story| {
            let request = range(false, 2);
            let op = story.ask(1, &Call::Range(request.clone()));
            story.read(&request, op, 3, Some("x"));
        }),
        ("C5", "a revision is refused as compacted and is not", |story| {
            let op = story.ask(1, &Call::Range(range(false, 2)));
            story.answer(op, 1, Err(&refusal(Error::Compacted)));
        }),
        ("C5", "a revision is refused as of the future and is not", |story| {
            let op = story.ask(1, &Call::Range(range(false, 3)));
            story.answer(op, 1, Err(&refusal(Error::FutureRevision)));
        }),
    ]);
}

#[test]
fn elections_and_logs_that_are_wrong() {
    breaks(&[
        ("C32", "two lead in a term", |story| {
            story.send(2, message(MessageType::MsgHeartbeat, 1, 2));
        }),
        ("C33", "an entry is another elsewhere", |story| {
            story.append(request(3, "c"), EntryType::EntryNormal);
            let mut other = story.log.last().unwrap().clone();
            other.data = request(3, "x").into();
            story.hand(2, None, &[other]);
        }),
        ("C34", "a leader lacks what was committed", |story| {
            let entry = Entry {
                index: 5,
                term: 3,
                ..Entry::default()
            };
            story.hand(3, Some(hard_state(3, 3, 3)), &[entry]);
            story.sync(3);
            story.send(3, message(MessageType::MsgHeartbeat, 1, 3));
        }),
        ("C36", "a vote leaves before it is durable", |story| {
            story.hand(2, Some(hard_state(3, 3, 3)), &[]);
            story.send(2, message(MessageType::MsgRequestVoteResponse, 3, 3));
        }),
        ("C36", "a member votes twice", |story| {
            story.send(2, message(MessageType::MsgRequestVoteResponse, 3, 2));
        }),
        ("C41", "a member takes itself for a learner", |story| {
            let view = story.stores[&2].view();
            let status = Status {
                is_learner: true,
                ..story.status(2, &view)
            };
            story.show(2, &view, &[], &status);
        }),
        ("C41", "a leader appends a second membership change", |story| {
            story.append(Vec::new(), EntryType::EntryConfChange);
            story.append(Vec::new(), EntryType::EntryConfChange);
        }),
        ("C41", "a member campaigns past a membership change", |story| {
            let index = story.append(Vec::new(), EntryType::EntryConfChange);
            story.hand(2, Some(hard_state(2, 1, index)), &[]);
            story.hand(2, Some(hard_state(3, 2, index)), &[]);
        }),
        ("C42", "a snapshot is of the future", |story| {
            story.see(&Observation::Installed {
                member: MemberId(3),
                index: 99,
                term: 2,
                conf_state: &ConfState::default(),
            });
        }),
        ("C42", "a snapshot has another configuration", |story| {
            story.see(&Observation::Installed {
                member: MemberId(3),
                index: 5,
                term: 2,
                conf_state: &ConfState::default(),
            });
        }),
        ("C42", "a snapshot's state is another", |story| {
            let view = Store::new(StoreConfig::default()).view();
            let status = story.status(3, &view);
            let shown = View {
                applied_index: 6,
                term: 2,
                cluster: story.stores[&3].view().cluster,
                ..view
            };
            let (member, view) = (MemberId(3), &shown);
            let status = &Status {
                commit_index: 6,
                applied_index: 6,
                ..status
            };
            story.see(&Observation::Started {
                member,
                recovered: &Recovered {
                    hard_state: hard_state(2, 1, 3),
                    entries: story.log.clone(),
                    ..Recovered::default()
                },
                view: &Store::new(StoreConfig::default()).view(),
            });
            story.see(&Observation::Published {
                member,
                view,
                events: &[],
                status,
                restored: true,
            });
        }),
        ("C44", "an answer comes from another cluster", |story| {
            let op = story.ask(1, &Call::Range(range(true, 0)));
            let header = Some(ResponseHeader {
                cluster_id: 9,
                ..head(3).unwrap()
            });
            let response = RangeResponse {
                header,
                ..RangeResponse::default()
            };
            story.answer(op, 1, Ok(&Answer::Range(response)));
        }),
        ("C44", "a member that lost its disk votes", |story| {
            story.checkers.tampered(MemberId(3));
            story.stores.insert(3, Store::new(StoreConfig::default()));
            story.start(3, 0, 0, 0);
            story.hand(3, Some(hard_state(4, 2, 0)), &[]);
            story.sync(3);
            story.send(3, message(MessageType::MsgRequestVoteResponse, 2, 4));
        }),
    ]);
}

#[test]
fn states_and_disks_that_are_wrong() {
    breaks(&[
        ("C35", "another entry is applied", |story| {
            let view = story.stores[&3].view();
            let status = story.status(3, &view);
            story.show(3, &View { term: 1, ..view }, &[], &status);
        }),
        ("C37", "an entry is applied that one disk has", |story| {
            let entry = Entry {
                index: 7,
                term: 2,
                ..Entry::default()
            };
            story.log.push(entry.clone());
            story.hand(1, None, &[entry]);
            story.sync(1);
            story.publish(1);
        }),
        ("C37", "a follower says it has what its disk has not", |story| {
            let response = Message {
                index: 99,
                ..message(MessageType::MsgAppendResponse, 1, 2)
            };
            story.send(2, response);
        }),
        ("C37", "a term leaves that is on no disk", |story| {
            story.send(2, message(MessageType::MsgHeartbeatResponse, 1, 3));
        }),
        ("C38", "a term goes back", |story| {
            let view = story.stores[&2].view();
            let status = Status {
                term: 1,
                ..story.status(2, &view)
            };
            story.show(2, &view, &[], &status);
        }),
        ("C38", "a term is lost in a restart", |story| {
            let last = story.log.len();
            story.start(3, last, 1, 0);
        }),
        ("C39", "durable entries are lost in a restart", |story| {
            story.start(3, 5, 2, 1);
        }),
        ("C40", "the state is not that of the applied index", |story| {
            let view = story.stores[&3].view();
            let recovered = Recovered {
                hard_state: hard_state(2, 1, 3),
                entries: story.log.clone(),
                applied: view.applied_index - 1,
                ..Recovered::default()
            };
            story.started(3, &recovered, &view);
        }),
        ("C40", "the index is ahead of the state", |story| {
            let view = View {
                kv: Store::new(StoreConfig::default()).view().kv,
                ..story.stores[&3].view()
            };
            let recovered = Recovered {
                hard_state: hard_state(2, 1, 3),
                entries: story.log.clone(),
                applied: view.applied_index,
                ..Recovered::default()
            };
            story.started(3, &recovered, &view);
        }),
        ("C43", "hashes differ", |story| {
            for hash in [1, 2] {
                let op = story.ask(1, &Call::HashKv(HashKvRequest { revision: 3 }));
                let response = HashKvResponse {
                    header: head(3),
                    hash,
                    compact_revision: -1,
                    hash_revision: 3,
                };
                story.answer(op, 1, Ok(&Answer::HashKv(response)));
            }
        }),
        ("C47", "a member stops by itself", |story| {
            story.see(&Observation::Faulted {
                member: MemberId(2),
                fault: &Fault::Inconsistent { cause: "bug".into() },
                excused: false,
            });
        }),
        ("C47", "too much is under way", |story| {
            let view = story.stores[&2].view();
            let status = Status {
                proposals_pending: 1_000_000,
                ..story.status(2, &view)
            };
            story.show(2, &view, &[], &status);
        }),
        ("C48", "a member has applied what is not committed", |story| {
            let view = story.stores[&2].view();
            let status = Status {
                commit_index: 1,
                ..story.status(2, &view)
            };
            story.show(2, &view, &[], &status);
        }),
    ]);
}

#[test]
fn promises_with_a_deadline() {
    breaks(&[
        ("L1", "nobody leads", |story| {
            let view = story.stores[&1].view();
            let status = Status {
                leads: false,
                leader: MemberId::NONE,
                ..story.status(1, &view)
            };
            story.show(1, &view, &[], &status);
            story.heal();
            story.wait(4);
            assert_eq!(story.verdict, None, "there is time left");
            story.wait(2);
        }),
        ("L2", "a write has no answer", |story| {
            story.heal();
            story.ask(1, &Call::Put(put("c")));
            story.wait(7);
        }),
        ("L3", "a member lags", |story| {
            story.heal();
            story.append(request(3, "c"), EntryType::EntryNormal);
            story.publish(1);
            story.publish(2);
            story.wait(16);
            story.wait(5);
        }),
        ("L4", "terms grow", |story| {
            story.heal();
            let view = story.stores[&2].view();
            let status = Status {
                term: 9,
                ..story.status(2, &view)
            };
            story.show(2, &view, &[], &status);
        }),
    ]);
}

#[test]
fn a_cluster_founded_anew_gives_up_what_it_had_not() {
    let mut story = good();
    let kept = 5;
    for id in 1..=3 {
        let (member, lost_power) = (MemberId(id), false);
        story.see(&Observation::Ended { member, lost_power });
    }
    story.checkers.refounded(MemberId(1), kept);
    assert_eq!(story.checkers.truth().committed(), kept);
    story.log.truncate(5);
    story.stores.insert(1, Store::new(StoreConfig::default()));
    for id in [2, 3] {
        let change = ConfChange {
            change_type: 1,
            node_id: id,
            ..ConfChange::default()
        };
        let entry = Entry {
            entry_type: EntryType::EntryConfChange as i32,
            index: story.log.len() as u64 + 1,
            term: 2,
            data: change.encode_to_vec().into(),
            ..Entry::default()
        };
        story.log.push(entry);
    }
    story.start(1, 7, 2, 1);
    story.publish(1);
    assert_eq!(story.verdict, None);
    assert_eq!(story.checkers.truth().committed(), 7);
}
