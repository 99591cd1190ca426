//! A cluster of three, played by hand, one observation after another.

mod stories;
pub(crate) mod story;

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
use quoin_core::proto::raftpb::{
    ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState, Message, MessageType,
};
use quoin_core::store::{Applied, ApplyContext, Store, StoreConfig, View};
use quoin_core::time::Instant;

use super::{Checkers, Coverage, LIST};
use crate::observe::{ClientId, Observation, OpId, Violation};
use quoin_model::call::{Answer, Call, Refusal};
use quoin_model::etcd::Rules;

const CLUSTER: u64 = 0xc1;
const TIMEOUT: Duration = Duration::from_secs(1);

/// The true events, and what the checkers report.
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
    /// Three founders, the first of which leads in term 2 and has applied its first entry.
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
            term: 1,
            verdict: None,
        };
        for id in 1..=3 {
            story.start(id, 3, 1, 0);
            story.publish(id);
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

    /// A member starts with the entries up to `last`, in a term.
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

    /// Appends an entry and makes it durable on every disk.
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

    /// A member applies everything and publishes it.
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
            leads: id == 1 && self.term > 1,
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
            pre_vote: true,
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
