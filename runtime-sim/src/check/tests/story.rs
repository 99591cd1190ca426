//! A base for tests of checkers: a log, members that lead in turn, and a real store that applies what is committed.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message as _;
use quoin_core::id::MemberId;
use quoin_core::member::{BatchId, Recovered, Status};
use quoin_core::mvcc::Event;
use quoin_core::proto::etcdserverpb::{
    InternalRaftRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, TxnRequest,
};
use quoin_core::proto::raftpb::{Entry, Message, MessageType};
use quoin_core::store::{Applied, ApplyContext, Store, StoreConfig, View};
use quoin_core::time::Instant;

use crate::check::{Checker, Coverage, Truth};
use crate::observe::{ClientId, Observation, OpId, Verdict};
use quoin_model::call::{Answer, Call, Refusal};
use quoin_model::etcd::Rules;

/// The first leader of all sequences.
pub(crate) const FIRST: MemberId = MemberId(1);

/// The second.
pub(crate) const SECOND: MemberId = MemberId(2);

/// A cluster by its log, and a checker that observes it.
pub(crate) struct Story<C> {
    pub(crate) checker: C,
    pub(crate) truth: Truth,
    pub(crate) at: Instant,
    store: Store,
    log: Vec<Entry>,
    /// How much of the log was handed to each member.
    handed: BTreeMap<MemberId, usize>,
    term: u64,
    leader: MemberId,
    requests: u64,
    ops: u64,
}

impl<C: Checker> Story<C> {
    /// A cluster whose first member leads term 1.
    pub(crate) fn new(checker: C) -> Self {
        let mut story = Self {
            checker,
            truth: Truth::new(Coverage::default(), Rules::default()),
            at: Instant::ZERO,
            store: Store::new(StoreConfig::default()),
            log: Vec::new(),
            handed: BTreeMap::new(),
            term: 0,
            leader: FIRST,
            requests: 0,
            ops: 0,
        };
        story.lead(FIRST).expect("an election is no violation");
        story
    }

    pub(crate) fn see(&mut self, seen: &Observation<'_>) -> Verdict {
        self.at = self.at + Duration::from_micros(1);
        self.truth.see(self.at, seen).expect("the story makes sense");
        self.checker.see(self.at, seen, &self.truth)
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        self.at = self.at + Duration::from_secs(seconds);
    }

    /// A member leads the next term and has committed its first entry.
    pub(crate) fn lead(&mut self, member: MemberId) -> Verdict {
        self.term += 1;
        self.leader = member;
        self.append(Vec::new())?;
        self.publish()
    }

    /// The leader proposes and commits.
    pub(crate) fn commit(&mut self, request: InternalRaftRequest) -> Verdict {
        self.propose(self.leader, request)?;
        self.publish()
    }

    /// A proposal of `proposer` is handed to the leader's log.
    pub(crate) fn propose(&mut self, proposer: MemberId, request: InternalRaftRequest) -> Verdict {
        let data = self.encode(proposer, request);
        self.append(data)
    }

    /// A member that led `term`, and has not learned of a later one, appends an entry to its own log, after what it was
    /// handed.
    pub(crate) fn append_alone(&mut self, member: MemberId, term: u64, request: InternalRaftRequest) -> Verdict {
        let data = self.encode(member, request).into();
        let index = self.handed.get(&member).map_or(0, |handed| *handed as u64) + 1;
        let entry = Entry {
            index,
            term,
            data,
            ..Entry::default()
        };
        self.see(&Observation::Handed {
            member,
            batch: BatchId(1_000 + index),
            hard_state: None,
            entries: &[entry],
        })
    }

    /// A member forwards a proposal to the leader.
    pub(crate) fn forward(&mut self, member: MemberId, request: InternalRaftRequest) -> Verdict {
        let data = self.encode(member, request);
        let message = Message {
            msg_type: MessageType::MsgPropose as i32,
            entries: vec![Entry {
                data: data.into(),
                ..Entry::default()
            }],
            ..Message::default()
        };
        let to = self.leader;
        self.see(&Observation::Sent {
            member,
            to,
            message: &message,
        })
    }

    fn encode(&mut self, proposer: MemberId, mut request: InternalRaftRequest) -> Vec<u8> {
        self.requests += 1;
        request.header.get_or_insert_default().id = proposer.0 << 48 | self.requests;
        request.encode_to_vec()
    }

    fn append(&mut self, data: Vec<u8>) -> Verdict {
        let entry = Entry {
            index: self.log.len() as u64 + 1,
            term: self.term,
            data: data.into(),
            ..Entry::default()
        };
        self.log.push(entry);
        let handed = self.handed.entry(self.leader).or_default();
        let entries = self.log[*handed..].to_vec();
        *handed = self.log.len();
        self.see(&Observation::Handed {
            member: self.leader,
            batch: BatchId(self.log.len() as u64),
            hard_state: None,
            entries: &entries,
        })
    }

    /// The leader has applied everything.
    pub(crate) fn publish(&mut self) -> Verdict {
        let events = self.apply();
        self.publish_with(&events)
    }

    /// Applies everything; returns the changes.
    pub(crate) fn apply(&mut self) -> Vec<Event> {
        let mut applied = Applied::default();
        apply_all(&mut self.store, &self.log, &mut applied);
        applied.events
    }

    /// The leader has applied everything and publishes these changes.
    pub(crate) fn publish_with(&mut self, events: &[Event]) -> Verdict {
        let view = self.view();
        self.publish_as(self.leader, &view, events)
    }

    /// A member publishes a state, right or wrong.
    pub(crate) fn publish_as(&mut self, member: MemberId, view: &View, events: &[Event]) -> Verdict {
        let status = Status {
            member,
            leader: self.leader,
            term: self.term,
            leads: member == self.leader,
            ..Status::default()
        };
        self.see(&Observation::Published {
            member,
            view,
            events,
            status: &status,
            restored: false,
        })
    }

    pub(crate) fn view(&self) -> View {
        self.store.view()
    }

    /// The state of a log that has another entry at `index`.
    pub(crate) fn other_view(&self, index: u64, request: InternalRaftRequest) -> View {
        let mut log = self.log.clone();
        log[index as usize - 1].data = request.encode_to_vec().into();
        let mut store = Store::new(StoreConfig::default());
        apply_all(&mut store, &log, &mut Applied::default());
        store.view()
    }

    /// A member starts with the whole log and this state.
    pub(crate) fn start(&mut self, member: MemberId, view: &View) -> Verdict {
        let recovered = Recovered {
            hard_state: Default::default(),
            snapshot_index: 0,
            snapshot_term: 0,
            entries: self.log.clone(),
            applied: view.applied_index,
            conf_state: Default::default(),
        };
        self.see(&Observation::Started {
            member,
            recovered: &recovered,
            view,
        })
    }

    /// A client sends a member a request.
    pub(crate) fn invoke(&mut self, member: MemberId, call: &Call) -> OpId {
        self.ops += 1;
        let op = OpId(self.ops);
        let invoked = Observation::Invoked {
            op,
            client: ClientId(1),
            member,
            call,
        };
        self.see(&invoked).expect("a question is no violation");
        op
    }

    /// A member answers.
    pub(crate) fn reply(&mut self, op: OpId, member: MemberId, result: Result<&Answer, &Refusal>) -> Verdict {
        self.see(&Observation::Replied { op, member, result })
    }

    /// A client sends a request to a member, which answers at once.
    pub(crate) fn call(&mut self, member: MemberId, call: &Call, answer: &Answer) -> Verdict {
        let op = self.invoke(member, call);
        self.reply(op, member, Ok(answer))
    }
}

fn apply_all(store: &mut Store, log: &[Entry], applied: &mut Applied) {
    for entry in log {
        let context = ApplyContext {
            quota_bytes: None,
            wanted: &|_| false,
        };
        store
            .apply(entry, context, applied)
            .expect("the story's entries are good");
    }
}

pub(crate) fn put(key: &'static str, lease: i64) -> InternalRaftRequest {
    InternalRaftRequest {
        put: Some(PutRequest {
            key: key.into(),
            value: "v".into(),
            lease,
            ..PutRequest::default()
        }),
        ..InternalRaftRequest::default()
    }
}

pub(crate) fn txn(request: TxnRequest) -> InternalRaftRequest {
    InternalRaftRequest {
        txn: Some(request),
        ..InternalRaftRequest::default()
    }
}

pub(crate) fn grant(id: i64, ttl: i64) -> InternalRaftRequest {
    InternalRaftRequest {
        lease_grant: Some(LeaseGrantRequest { id, ttl }),
        ..InternalRaftRequest::default()
    }
}

pub(crate) fn revoke(id: i64) -> InternalRaftRequest {
    InternalRaftRequest {
        lease_revoke: Some(LeaseRevokeRequest { id }),
        ..InternalRaftRequest::default()
    }
}
