//! A member without consensus, disk or threads: requests are applied where they are made. For tests of serving, which
//! can put it into any state.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_channel::Sender;
use bytes::Bytes;
use futures_channel::oneshot;
use prost::Message as _;
use quoin_core::error::Error;
use quoin_core::id::MemberId;
use quoin_core::limits::{GRPC_OVERHEAD_BYTES, MAX_REQUEST_BYTES};
use quoin_core::member::{Status, Token};
use quoin_core::node::{Request, Response};
use quoin_core::proto::etcdserverpb::{InternalRaftRequest, RequestHeader};
use quoin_core::proto::raftpb::Entry;
use quoin_core::store::{Applied, ApplyContext, LeaseKeys, Store, StoreConfig};
use quoin_core::time::Instant;
use quoin_core::watch::{self, Hub, HubConfig, StreamId, WatchInput};
use quoin_runtime::clock::Clock;
use quoin_runtime::handle::{Call, NodeHandle, Published, Queues, WatchCall};
use quoin_runtime::pulse::Stuck;
use quoin_runtime::running::{Ended, Ending, Running};

/// The id of the member, and of its cluster plus one.
pub(crate) const MEMBER: u64 = 0x8e9e_05c5_2164_694d;

/// What a test may change while the member runs.
#[derive(Clone)]
pub(crate) struct Control {
    member: Arc<Mutex<Inline>>,
}

struct Inline {
    clock: Clock,
    store: Store,
    hub: Hub,
    streams: BTreeMap<u64, Sender<watch::Response>>,
    status: Status,
    published: Arc<ArcSwap<Published>>,
    ending: Ending,
    /// Requests are kept unanswered.
    stuck: bool,
    /// The thread that is said to be stuck.
    stuck_thread: Option<Stuck>,
    kept: Vec<Call>,
}

/// Makes a member, leader of itself.
pub(crate) fn start(clock: Clock) -> (Running, Control) {
    let store = Store::new(StoreConfig::default());
    let member = MemberId(MEMBER);
    let status = Status {
        member,
        leader: member,
        term: 2,
        leads: true,
        published: true,
        ..Status::default()
    };
    let published = Arc::new(ArcSwap::from_pointee(Published {
        view: store.view(),
        status,
    }));
    let config = HubConfig {
        progress_interval: watch::DEFAULT_PROGRESS_INTERVAL,
        max_response_bytes: MAX_REQUEST_BYTES + GRPC_OVERHEAD_BYTES,
        seed: 1,
    };
    let ending = Ending::default();
    let hub = Hub::new(config, store.view().kv);
    let inline = Inline {
        clock,
        store,
        hub,
        streams: BTreeMap::new(),
        status,
        published: Arc::clone(&published),
        ending: ending.clone(),
        stuck: false,
        stuck_thread: None,
        kept: Vec::new(),
    };
    let control = Control {
        member: Arc::new(Mutex::new(inline)),
    };
    let handle = NodeHandle::new(MEMBER + 1, MEMBER, published, Box::new(control.clone()));
    let stopping = control.clone();
    let stop = move |_| {
        stopping.with(|member| member.streams.clear());
        true
    };
    (Running::new(handle, ending, Box::new(stop)), control)
}

impl Control {
    fn with<T>(&self, work: impl FnOnce(&mut Inline) -> T) -> T {
        work(&mut self.member.lock().unwrap())
    }

    /// Changes what the member says of itself.
    pub(crate) fn set_status(&self, change: impl FnOnce(&mut Status)) {
        self.with(|member| {
            change(&mut member.status);
            member.publish();
        });
    }

    /// From now on requests wait for ever, or no longer do.
    pub(crate) fn set_stuck(&self, stuck: bool) {
        self.with(|member| member.stuck = stuck);
    }

    /// How many requests are kept unanswered.
    pub(crate) fn waiting(&self) -> usize {
        self.with(|member| member.kept.len())
    }

    /// From now on this thread is stuck, or none is.
    pub(crate) fn set_stuck_thread(&self, stuck: Option<Stuck>) {
        self.with(|member| member.stuck_thread = stuck);
    }

    /// Answers the requests that were kept, and tells how many they were.
    pub(crate) fn answer_kept(&self) -> usize {
        self.with(|member| {
            let kept = std::mem::take(&mut member.kept);
            let number = kept.len();
            kept.into_iter().for_each(|call| member.call(call));
            number
        })
    }

    /// Ends the member.
    pub(crate) fn end(&self, why: Ended) {
        self.with(|member| member.ending.announce(why));
    }
}

impl Queues for Control {
    fn call(&self, call: Call) -> Result<(), Error> {
        self.with(|member| member.call(call));
        Ok(())
    }

    fn cancel(&self, token: Token) {
        self.with(|member| member.kept.retain(|call| call.token != token));
    }

    fn watch(&self, call: WatchCall) -> bool {
        self.with(|member| member.watch(call));
        true
    }

    fn stuck(&self, _: Instant, limit: Duration) -> Option<Stuck> {
        self.with(|member| member.stuck_thread.filter(|stuck| stuck.duration >= limit))
    }

    fn defragment(&self, done: oneshot::Sender<Result<(), String>>) {
        let _ = done.send(Ok(()));
    }
}

impl Inline {
    fn publish(&self) {
        let published = Published {
            view: self.store.view(),
            status: self.status,
        };
        self.published.store(Arc::new(published));
    }

    fn call(&mut self, call: Call) {
        if self.stuck {
            self.kept.push(call);
            return;
        }
        let result = self.answer(call.request);
        let _ = call.reply.send(result);
    }

    fn answer(&mut self, request: Request) -> Result<Response, Error> {
        let mut entry = InternalRaftRequest::default();
        match request {
            Request::Alarm(request) => entry.alarm = Some(request),
            Request::Compact(request) => entry.compaction = Some(request),
            Request::DeleteRange(request) => entry.delete_range = Some(request),
            Request::LeaseGrant(request) => entry.lease_grant = Some(request),
            Request::LeaseRevoke(request) => entry.lease_revoke = Some(request),
            Request::Put(request) => entry.put = Some(request),
            Request::Txn(request) => entry.txn = Some(request),
            Request::Read => return Ok(Response::Read),
            Request::LeaseLeases => {
                let leases = self.store.view().leases.iter().map(|(id, _)| (None, id)).collect();
                return Ok(Response::Leases { leases });
            }
            Request::LeaseRenew { id } => {
                let ttl = self.store.view().leases.get(id).map_or(0, |lease| lease.ttl());
                return Ok(Response::Renewed { ttl });
            }
            Request::LeaseTimeToLive { id, keys } => {
                let view = self.store.view();
                let Some(lease) = view.leases.get(id) else {
                    return Ok(Response::TimeToLive {
                        ttl: -1,
                        granted_ttl: 0,
                        keys: LeaseKeys::default(),
                    });
                };
                let keys = if keys { lease.all_keys() } else { LeaseKeys::default() };
                return Ok(Response::TimeToLive {
                    ttl: lease.ttl(),
                    granted_ttl: lease.ttl(),
                    keys,
                });
            }
            other => panic!("no test asks {other:?}"),
        }
        self.apply(entry)
    }

    fn apply(&mut self, mut request: InternalRaftRequest) -> Result<Response, Error> {
        let index = self.store.consistent_index() + 1;
        request.header = Some(RequestHeader {
            id: index,
            ..RequestHeader::default()
        });
        let data = Bytes::from(request.encode_to_vec());
        let entry = Entry {
            index,
            term: 2,
            data,
            ..Entry::default()
        };
        let mut applied = Applied::default();
        let context = ApplyContext {
            quota_bytes: None,
            wanted: &|_| true,
        };
        self.store.apply(&entry, context, &mut applied).expect("a good entry");
        self.publish();
        let events = std::mem::take(&mut applied.events).into();
        self.hub_step(WatchInput::Applied {
            view: self.store.view().kv,
            events,
        });
        let (_, result) = applied.results.pop().expect("a result for every request");
        result.map(Response::Applied)
    }

    fn watch(&mut self, call: WatchCall) {
        let input = match call {
            WatchCall::Close { stream } => {
                self.streams.remove(&stream);
                WatchInput::Close {
                    stream: StreamId(stream),
                }
            }
            WatchCall::Open { stream, responses } => {
                self.streams.insert(stream, responses);
                WatchInput::Open {
                    stream: StreamId(stream),
                }
            }
            WatchCall::Request { stream, request } => WatchInput::Request {
                stream: StreamId(stream),
                request,
            },
            WatchCall::Sent { stream, responses } => WatchInput::Sent {
                stream: StreamId(stream),
                responses,
            },
        };
        self.hub_step(input);
    }

    fn hub_step(&mut self, input: WatchInput) {
        let mut outputs = Vec::new();
        self.hub.step(self.clock.now(), input, &mut outputs);
        // Watchers that catch up need more turns.
        for _ in 0..100 {
            if self.hub.deadline().is_none_or(|at| at > self.clock.now()) {
                break;
            }
            self.hub.step(self.clock.now(), WatchInput::Wake, &mut outputs);
        }
        for output in outputs {
            if let Some(responses) = self.streams.get(&output.stream.0) {
                responses
                    .try_send(output.response)
                    .expect("the hub keeps to its credit");
            }
        }
    }
}
