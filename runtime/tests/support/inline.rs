//! A member without disk or threads: core's real node and real watch hub, stepped when a request is made, with a log
//! and a table that are written at once. For tests of serving, which can put it into any state.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_channel::Sender;
use futures_channel::oneshot;
use quoin_core::boot;
use quoin_core::config;
use quoin_core::error::Error;
use quoin_core::jobs::{LogJob, TableJob};
use quoin_core::limits::{GRPC_OVERHEAD_BYTES, MAX_REQUEST_BYTES};
use quoin_core::member::{Recovered, Status, Token};
use quoin_core::node::{Config, Done, Effect, Input, Node, Request};
use quoin_core::store::{Store, StoreConfig, View};
use quoin_core::time::Instant;
use quoin_core::watch::{self, Hub, HubConfig, StreamId, WatchInput};
use quoin_runtime::clock::Clock;
use quoin_runtime::handle::{NodeHandle, Queues, ReplySender, WatchCall};
use quoin_runtime::newest::{Newest, Published};
use quoin_runtime::pulse::Stuck;
use quoin_runtime::running::{Ended, Ending, Running};

/// The ids of a member and its cluster by the default configuration.
pub(crate) const MEMBER: u64 = 0x8e9e_05c5_2164_694d;
pub(crate) const CLUSTER: u64 = 0xcdf8_1819_4e3a_8c32;

/// A test's control over a member that runs.
#[derive(Clone)]
pub(crate) struct Control {
    member: Arc<Mutex<Inline>>,
}

struct Inline {
    clock: Clock,
    node: Node,
    callers: HashMap<Token, ReplySender>,
    hub: Hub,
    streams: BTreeMap<StreamId, Sender<watch::Response>>,
    /// The status that the test has set: its `leader` and `is_learner` replace the real ones.
    pretended: Option<Status>,
    published: Newest,
    ending: Ending,
    /// Whether requests are kept without an answer.
    stuck: bool,
    /// The thread that counts as stuck.
    stuck_thread: Option<Stuck>,
    kept: Vec<(Token, Request, Instant)>,
}

/// The node of a newly founded cluster with the default configuration.
fn founded(now: Instant) -> Node {
    let plan = boot::decide(&boot::Found::default(), &config::Config::with_defaults());
    let Ok(boot::Plan::StartNew {
        member,
        entries,
        hard_state,
        ..
    }) = plan
    else {
        panic!("the defaults found a cluster: {plan:?}")
    };
    let recovered = Recovered {
        hard_state,
        entries,
        ..Recovered::default()
    };
    let store = Store::new(StoreConfig::default());
    Node::start(Config::new(member), recovered, store, 1, 1, now).unwrap()
}

/// Makes a member, which leads its cluster of one.
pub(crate) fn start(clock: Clock) -> (Running, Control) {
    let node = founded(clock.now());
    let published = Newest::new(Published {
        view: node.view(),
        status: node.status(),
    });
    let config = HubConfig {
        progress_interval: watch::DEFAULT_PROGRESS_INTERVAL,
        max_response_bytes: MAX_REQUEST_BYTES + GRPC_OVERHEAD_BYTES,
        seed: 1,
        ..HubConfig::default()
    };
    let ending = Ending::default();
    let mut inline = Inline {
        clock,
        hub: Hub::new(config, node.view().kv),
        node,
        callers: HashMap::new(),
        streams: BTreeMap::new(),
        pretended: None,
        published: published.clone(),
        ending: ending.clone(),
        stuck: false,
        stuck_thread: None,
        kept: Vec::new(),
    };
    inline.turn(Input::Wake);
    let control = Control {
        member: Arc::new(Mutex::new(inline)),
    };
    let handle = NodeHandle::new(CLUSTER, MEMBER, published, Arc::new(control.clone()));
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

    /// Changes the published status, whatever the real one is.
    pub(crate) fn set_status(&self, change: impl FnOnce(&mut Status)) {
        self.with(|member| {
            let mut status = member.pretended.unwrap_or(member.node.status());
            change(&mut status);
            member.pretended = Some(status);
            member.publish(member.node.view(), member.node.status());
        });
    }

    /// Sets whether requests are kept without an answer.
    pub(crate) fn set_stuck(&self, stuck: bool) {
        self.with(|member| member.stuck = stuck);
    }

    /// How many requests are kept without an answer.
    pub(crate) fn waiting(&self) -> usize {
        self.with(|member| member.kept.len())
    }

    /// Sets the thread that counts as stuck, or none.
    pub(crate) fn set_stuck_thread(&self, stuck: Option<Stuck>) {
        self.with(|member| member.stuck_thread = stuck);
    }

    /// Answers the kept requests, and returns their number.
    pub(crate) fn answer_kept(&self) -> usize {
        self.with(|member| {
            let kept = std::mem::take(&mut member.kept);
            let number = kept.len();
            for (token, request, deadline) in kept {
                member.request(token, request, deadline);
            }
            number
        })
    }

    /// Ends the member.
    pub(crate) fn end(&self, why: Ended) {
        self.with(|member| member.ending.announce(why));
    }
}

impl Queues for Control {
    fn call(&self, token: Token, request: Request, deadline: Instant, reply: ReplySender) -> Result<(), Error> {
        self.with(|member| {
            member.callers.insert(token, reply);
            member.request(token, request, deadline);
        });
        Ok(())
    }

    fn cancel(&self, token: Token) {
        self.with(|member| {
            member.callers.remove(&token);
            member.kept.retain(|(kept, ..)| *kept != token);
        });
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
    fn publish(&self, view: View, status: Status) {
        let status = self.pretended.map_or(status, |pretended| Status {
            leader: pretended.leader,
            is_learner: pretended.is_learner,
            ..status
        });
        self.published.store(Published { view, status });
    }

    fn request(&mut self, token: Token, request: Request, deadline: Instant) {
        if self.stuck {
            self.kept.push((token, request, deadline));
            return;
        }
        self.turn(Input::Request {
            token,
            request,
            deadline,
        });
    }

    /// Gives the node an input, and carries out its effects until there are no more.
    fn turn(&mut self, input: Input) {
        let (mut inputs, mut effects) = (vec![input], Vec::new());
        while !inputs.is_empty() {
            self.node.step(self.clock.now(), inputs.drain(..), &mut effects);
            for effect in effects.drain(..) {
                match effect {
                    Effect::Log(LogJob { batch, sync: true, .. }) => {
                        inputs.push(Input::Done(Done::Persisted { batch }));
                    }
                    Effect::Table(TableJob { batch, index, .. }) => inputs.push(Input::Done(Done::Stored {
                        batch,
                        durable_index: index,
                    })),
                    Effect::Publish {
                        view, events, status, ..
                    } => {
                        self.publish(view.clone(), status);
                        self.step_hub(WatchInput::Applied { view: view.kv, events });
                    }
                    Effect::Reply { token, result } => {
                        if let Some(reply) = self.callers.remove(&token) {
                            let _ = reply.send(result);
                        }
                    }
                    Effect::Hash(_) | Effect::Log(_) => {}
                    Effect::Tokens(changes) => self.published.change_tokens(self.clock.now(), changes),
                    other => panic!("no test leads to {other:?}"),
                }
            }
        }
    }

    fn watch(&mut self, call: WatchCall) {
        let input = match call {
            WatchCall::Close { stream } => {
                let stream = StreamId(stream);
                self.streams.remove(&stream);
                WatchInput::Close { stream }
            }
            WatchCall::Open { stream, responses } => {
                let stream = StreamId(stream);
                self.streams.insert(stream, responses);
                WatchInput::Open { stream }
            }
            WatchCall::Deny { stream, request, error } => WatchInput::Deny {
                stream: StreamId(stream),
                request,
                error,
            },
            WatchCall::Request { stream, request } => WatchInput::Request {
                stream: StreamId(stream),
                request,
            },
            WatchCall::Sent { stream, responses } => WatchInput::Sent {
                stream: StreamId(stream),
                responses,
            },
        };
        self.step_hub(input);
    }

    fn step_hub(&mut self, input: WatchInput) {
        let mut outputs = Vec::new();
        self.hub.step(self.clock.now(), input, &mut outputs);
        // Watchers that catch up need several turns.
        for _ in 0..100 {
            if self.hub.deadline().is_none_or(|at| at > self.clock.now()) {
                break;
            }
            self.hub.step(self.clock.now(), WatchInput::Wake, &mut outputs);
        }
        for output in outputs {
            if let Some(responses) = self.streams.get(&output.stream) {
                responses
                    .try_send(output.response)
                    .expect("the hub keeps to its credit");
            }
        }
    }
}
