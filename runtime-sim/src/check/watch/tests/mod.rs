//! One member with one stream, played by hand; and random runs of the real hub, with true and changed responses.

mod hub;
mod numbers;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quoin_core::id::MemberId;
use quoin_core::member::{Recovered, Status};
use quoin_core::mvcc::Mvcc;
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, ResponseHeader, TxnRequest, WatchCancelRequest,
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse, request_op,
};
use quoin_core::proto::mvccpb;
use quoin_core::store::{Store, StoreConfig, View};
use quoin_core::time::Instant;

use super::WatchChecker;
use crate::observe::{ClientId, Observation, StreamId, Verdict};
use quoin_model::call::Call;
use quoin_model::etcd::{Event, EventKind, State};

/// The member of all sequences.
const MEMBER: MemberId = MemberId(7);

const TERM: u64 = 3;

/// One change of a write.
#[derive(Clone, Debug)]
enum Change {
    Delete(Bytes),
    /// Every key from this one on.
    DeleteFrom(Bytes),
    Put(Bytes, Bytes),
}

/// A member, its true history, and a checker that observes it.
struct Story {
    checker: WatchChecker,
    model: State,
    mvcc: Mvcc,
    /// The events of the last write, as the hub gets them.
    events: Vec<quoin_core::mvcc::Event>,
    view: View,
    at: Instant,
}

impl Story {
    /// A member that has just started, without a history.
    fn empty() -> Self {
        let mut story = Self {
            checker: WatchChecker::default(),
            model: State::new(),
            mvcc: Mvcc::new(),
            events: Vec::new(),
            view: Store::new(StoreConfig::default()).view(),
            at: Instant::ZERO,
        };
        story.start().expect("a start is no violation");
        story
    }

    /// A member with an open stream, after: 2 puts `a`, 3 puts `b`, 4 puts `a`, 5 puts `a` and `c`, 6 deletes `a`, 7 puts
    /// `a` and `d`.
    fn new() -> Self {
        let mut story = Self::empty();
        story.open(1);
        story.put("a", "1");
        story.put("b", "1");
        story.put("a", "2");
        story.write(&[put("a", "3"), put("c", "1")]);
        story.write(&[Change::Delete("a".into())]);
        story.write(&[put("a", "4"), put("d", "1")]);
        story
    }

    fn see(&mut self, seen: &Observation<'_>) -> Verdict {
        self.at = self.at + Duration::from_millis(1);
        self.checker.look(self.at, seen, &self.model)
    }

    fn start(&mut self) -> Verdict {
        let recovered = Recovered {
            hard_state: quoin_core::proto::raftpb::HardState {
                term: TERM,
                ..Default::default()
            },
            snapshot_index: 0,
            snapshot_term: 0,
            entries: Vec::new(),
            applied: 0,
            conf_state: Default::default(),
        };
        let view = self.view.clone();
        self.see(&Observation::Started {
            member: MEMBER,
            recovered: &recovered,
            view: &view,
        })
    }

    fn open(&mut self, stream: u64) {
        let opened = Observation::StreamOpened {
            stream: StreamId(stream),
            client: ClientId(1),
            member: MEMBER,
        };
        self.see(&opened).expect("opening a stream is no violation");
    }

    fn publish(&mut self, restored: bool) {
        self.view.kv = self.mvcc.view();
        let view = self.view.clone();
        let published = Observation::Published {
            member: MEMBER,
            view: &view,
            events: &[],
            status: &Status {
                term: TERM,
                ..Status::default()
            },
            restored,
        };
        self.see(&published).expect("a new state is no violation");
    }

    fn put(&mut self, key: &'static str, value: &'static str) {
        self.write(&[put(key, value)]);
    }

    /// One transaction, published by the member.
    fn write(&mut self, changes: &[Change]) {
        self.happen(changes);
        self.publish(false);
    }

    /// One transaction that the member has not applied.
    fn happen(&mut self, changes: &[Change]) {
        let ops = changes.iter().map(|change| {
            let request = match change.clone() {
                Change::Delete(key) => request_op::Request::RequestDeleteRange(DeleteRangeRequest {
                    key,
                    ..DeleteRangeRequest::default()
                }),
                Change::DeleteFrom(key) => request_op::Request::RequestDeleteRange(DeleteRangeRequest {
                    key,
                    range_end: "\0".into(),
                    ..DeleteRangeRequest::default()
                }),
                Change::Put(key, value) => request_op::Request::RequestPut(PutRequest {
                    key,
                    value,
                    ..PutRequest::default()
                }),
            };
            RequestOp { request: Some(request) }
        });
        let txn = TxnRequest {
            success: ops.collect(),
            ..TxnRequest::default()
        };
        self.model.execute(&Call::Txn(txn)).expect("a legal transaction");
        let mut write = self.mvcc.begin();
        for change in changes {
            match change.clone() {
                Change::Delete(key) => {
                    write.delete_range(&key, &[]);
                }
                Change::DeleteFrom(key) => {
                    write.delete_range(&key, b"\0");
                }
                Change::Put(key, value) => {
                    write.put(key, value, 0);
                }
            }
        }
        write.end(&mut self.events, &mut Vec::new());
        assert_eq!(self.model.revision(), self.mvcc.revision(), "model and key space agree");
    }

    fn compact(&mut self, revision: i64) {
        let request = CompactionRequest {
            revision,
            ..CompactionRequest::default()
        };
        self.model.execute(&Call::Compact(request)).expect("a legal compaction");
        assert!(self.mvcc.compact(revision, &mut Vec::new()).is_ok());
        self.publish(false);
    }

    fn ask(&mut self, union: RequestUnion) {
        let request = WatchRequest {
            request_union: Some(union),
        };
        let asked = Observation::WatchRequested {
            stream: StreamId(1),
            request: &request,
        };
        self.see(&asked).expect("a request is no violation");
    }

    fn ask_progress(&mut self) {
        self.ask(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    fn ask_cancel(&mut self, watch_id: i64) {
        self.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
    }

    /// A request to watch and its answer.
    fn watch(&mut self, request: WatchCreateRequest, id: i64) -> Verdict {
        self.ask(RequestUnion::CreateRequest(request));
        let created = WatchResponse {
            watch_id: id,
            created: true,
            ..self.response()
        };
        self.watched(created)
    }

    fn watched(&mut self, response: WatchResponse) -> Verdict {
        self.see(&Observation::Watched {
            stream: StreamId(1),
            response: &response,
        })
    }

    /// A response with the present header.
    fn response(&self) -> WatchResponse {
        WatchResponse {
            header: Some(header(self.view.kv.revision())),
            ..WatchResponse::default()
        }
    }

    /// The last event of a key at a revision, with its previous value.
    fn event(&self, revision: i64, key: &str) -> mvccpb::Event {
        let events = self.model.events(revision, revision);
        let event = events.iter().rfind(|event| event.kv.key == key);
        wire(event.expect("the story says that it happened"))
    }

    fn events(&self, places: &[(i64, &str)]) -> Vec<mvccpb::Event> {
        places
            .iter()
            .map(|(revision, key)| self.event(*revision, key))
            .collect()
    }

    /// A response of watch 0 with the present header.
    fn give(&mut self, places: &[(i64, &str)]) -> Verdict {
        let response = WatchResponse {
            events: self.events(places),
            ..self.response()
        };
        self.watched(response)
    }

    /// A response of watch 0 with changed events.
    fn give_changed(&mut self, places: &[(i64, &str)], change: impl FnOnce(&mut Vec<mvccpb::Event>)) -> Verdict {
        let mut events = self.events(places);
        change(&mut events);
        let response = WatchResponse {
            events,
            ..self.response()
        };
        self.watched(response)
    }

    /// A part of a response of watch 0.
    fn give_part(&mut self, places: &[(i64, &str)], fragment: bool) -> Verdict {
        let response = WatchResponse {
            events: self.events(places),
            fragment,
            ..self.response()
        };
        self.watched(response)
    }

    /// Progress of a watch, or of the stream.
    fn progress(&mut self, watch_id: i64, revision: i64) -> Verdict {
        self.watched(WatchResponse {
            header: Some(header(revision)),
            watch_id,
            ..WatchResponse::default()
        })
    }

    /// The end of watch 0 by compaction.
    fn lose(&mut self, compact_revision: i64) -> Verdict {
        self.watched(WatchResponse {
            header: Some(header(0)),
            canceled: true,
            compact_revision,
            ..WatchResponse::default()
        })
    }

    /// The member is not disturbed any more, for `after` from now.
    fn heal(&mut self, after: Duration) -> Verdict {
        self.see(&Observation::Healed {
            core: &[MEMBER],
            election_timeout: Duration::from_secs(1),
            pre_vote: true,
        })?;
        self.at = self.at + after;
        self.see(&Observation::Finished)
    }
}

fn put(key: &'static str, value: &'static str) -> Change {
    Change::Put(key.into(), value.into())
}

fn header(revision: i64) -> ResponseHeader {
    ResponseHeader {
        cluster_id: 1,
        member_id: MEMBER.0,
        revision,
        raft_term: TERM,
    }
}

/// A request for keys from `key` to `range_end`, with previous values.
fn keys(key: &'static str, range_end: &'static str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        start_revision,
        prev_kv: true,
        ..WatchCreateRequest::default()
    }
}

/// An event as it is sent.
fn wire(event: &Event) -> mvccpb::Event {
    let kind = match event.kind {
        EventKind::Delete => mvccpb::event::EventType::Delete,
        EventKind::Put => mvccpb::event::EventType::Put,
    };
    mvccpb::Event {
        r#type: kind.into(),
        kv: Some(event.kv.clone()),
        prev_kv: event.prev_kv.clone(),
    }
}

/// The hub's input.
fn shared(events: &mut Vec<quoin_core::mvcc::Event>) -> Arc<[quoin_core::mvcc::Event]> {
    Arc::from(std::mem::take(events))
}
