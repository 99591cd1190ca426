//! Three members with a watcher each, in 200 seconds of virtual time: writes, leases, compaction, and the isolation of
//! each leader in turn. Disks and links take no time.
//!
//! `cargo run -p quoin-core --example story`. A test traces the system calls: between the first and the last line of
//! output, the program makes none except for memory (`conformance/tests/tidy/purity.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use quoin_core::boot;
use quoin_core::id::MemberId;
use quoin_core::jobs::{LogJob, PeerJob, TableJob};
use quoin_core::member::Token;
use quoin_core::membership::Member;
use quoin_core::node::{Config, Done, Effect, Input, Node, PeerEvent, Request};
use quoin_core::proto::etcdserverpb::watch_request::RequestUnion;
use quoin_core::proto::etcdserverpb::{
    CompactionRequest, LeaseGrantRequest, PutRequest, WatchCreateRequest, WatchRequest,
};
use quoin_core::store::{Store, StoreConfig};
use quoin_core::time::Instant;
use quoin_core::watch::{Hub, HubConfig, Origin, StreamId, WatchInput};

const MEMBERS: [MemberId; 3] = [MemberId(1), MemberId(2), MemberId(3)];
const TICK: Duration = Duration::from_millis(10);
const TICKS: u64 = 20_000;
/// Ticks of a span. In the second half of each span, the leader is isolated.
const SPAN: u64 = 2_000;
const STREAM: StreamId = StreamId(1);

/// One member, its watch hub, and the inputs of the member's next turn.
struct Host {
    node: Node,
    hub: Hub,
    inbox: Vec<Input>,
    watched_bytes: usize,
}

struct World {
    now: Instant,
    hosts: BTreeMap<MemberId, Host>,
    /// The isolated member: no message comes from it or goes to it.
    cut: Option<MemberId>,
    answered: u64,
    refused: u64,
}

fn main() {
    println!("stepping");
    let mut world = World::new();
    let mut leaders = BTreeMap::new();
    for tick in 1..=TICKS {
        world.now = world.now + TICK;
        let leader = world.leader();
        if let Some(leader) = leader {
            *leaders.entry(leader).or_insert(0) += 1;
            world.ask(leader, tick);
        }
        if tick % SPAN == SPAN / 2 {
            world.cut = leader;
        } else if tick % SPAN == 0 {
            world.cut = None;
        }
        world.turn();
    }
    let revisions = world.hosts.values().map(|host| host.node.view().header().revision);
    let revisions: Vec<i64> = revisions.collect();
    let watched: usize = world.hosts.values().map(|host| host.watched_bytes).sum();
    let (answered, refused) = (world.answered, world.refused);
    println!(
        "stepped {TICKS} ticks: {answered} answers, {refused} refusals, revisions {revisions:?}, {watched} bytes watched"
    );
    assert!(leaders.len() > 1, "a leader that is cut off is replaced: {leaders:?}");
    assert!(answered > TICKS / 2 && watched > 0, "the members serve");
}

impl World {
    fn new() -> Self {
        let hosts = MEMBERS.map(|id| (id, Host::founded(id)));
        Self {
            now: Instant::ZERO,
            hosts: hosts.into(),
            cut: None,
            answered: 0,
            refused: 0,
        }
    }

    /// The leader with the newest term among the members that are not isolated.
    fn leader(&self) -> Option<MemberId> {
        let statuses = self.hosts.iter().map(|(id, host)| (*id, host.node.status()));
        let leaders = statuses.filter(|(id, status)| status.leads && status.published && self.cut != Some(*id));
        leaders.max_by_key(|(_, status)| status.term).map(|(id, _)| id)
    }

    fn ask(&mut self, leader: MemberId, tick: u64) {
        let request = Input::Request {
            token: Token(tick),
            request: request(tick),
            deadline: self.now + Duration::from_secs(7),
        };
        self.hosts.get_mut(&leader).expect("a member leads").inbox.push(request);
    }

    /// Members take turns until none has anything to do at this moment.
    fn turn(&mut self) {
        for host in self.hosts.values_mut() {
            host.inbox.push(Input::Wake);
        }
        while let Some(id) = MEMBERS.into_iter().find(|id| !self.hosts[id].inbox.is_empty()) {
            let host = self.hosts.get_mut(&id).expect("a member");
            let mut effects = Vec::new();
            host.node.step(self.now, host.inbox.drain(..), &mut effects);
            for effect in effects {
                self.obey(id, effect);
            }
        }
        for host in self.hosts.values_mut() {
            host.watch(self.now, WatchInput::Wake);
        }
    }

    fn obey(&mut self, id: MemberId, effect: Effect) {
        let host = self.hosts.get_mut(&id).expect("a member");
        let done = match effect {
            Effect::Halt(halt) => panic!("member {id} ended: {halt:?}"),
            Effect::Log(LogJob { sync: false, .. }) => return,
            Effect::Log(LogJob { batch, .. }) => Done::Persisted { batch },
            Effect::Peer(job) => return self.send(id, job),
            Effect::Hash(_) | Effect::Tokens(_) => return,
            Effect::Publish {
                view, events, restored, ..
            } => {
                let view = view.kv;
                let change = if restored {
                    WatchInput::Restored { view }
                } else {
                    WatchInput::Applied { view, events }
                };
                return host.watch(self.now, change);
            }
            Effect::Reply { result, .. } => {
                *(if result.is_ok() {
                    &mut self.answered
                } else {
                    &mut self.refused
                }) += 1;
                return;
            }
            Effect::Table(TableJob { batch, index, .. }) => Done::Stored {
                batch,
                durable_index: index,
            },
        };
        host.inbox.push(Input::Done(done));
    }

    fn send(&mut self, from: MemberId, job: PeerJob) {
        let (to, inputs): (_, Vec<Input>) = match job {
            PeerJob::Messages { to, messages } if self.cut != Some(from) && self.cut != Some(to) => {
                let messages = messages.into_iter();
                (to, messages.map(|message| Input::Message { from, message }).collect())
            }
            PeerJob::Messages { .. } => return,
            // Snapshots fail. None is needed: an isolated member returns before the log entries that it lacks are
            // removed.
            PeerJob::Snapshot(job) => {
                let failed = PeerEvent::Snapshot {
                    to: job.to,
                    received: false,
                };
                (from, vec![Input::Peer(failed)])
            }
        };
        self.hosts.get_mut(&to).expect("a member").inbox.extend(inputs);
    }
}

impl Host {
    /// A member of a newly founded cluster, with a watcher of every key.
    fn founded(id: MemberId) -> Self {
        let members = MEMBERS.map(|id| Member {
            id,
            peer_urls: vec![format!("http://m{id}:2380")],
            ..Member::default()
        });
        let recovered = boot::founding(&members);
        let (store, unix_ms) = (Store::new(StoreConfig::default()), 1);
        let mut config = Config::new(id);
        config.member.name = format!("m{id}");
        let config_of_hub = HubConfig {
            progress_interval: Duration::from_secs(10),
            max_response_bytes: 1 << 20,
            seed: id.0,
            ..HubConfig::default()
        };
        let hub = Hub::new(config_of_hub, store.view().kv);
        let node = Node::start(config, recovered, store, id.0, unix_ms, Instant::ZERO).expect("log and table agree");
        let others = MEMBERS.into_iter().filter(|other| *other != id);
        let mut host = Self {
            node,
            hub,
            inbox: others.map(|other| Input::Peer(PeerEvent::Active(other))).collect(),
            watched_bytes: 0,
        };
        host.watch(Instant::ZERO, WatchInput::Open { stream: STREAM });
        let create = WatchCreateRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            progress_notify: true,
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        host.watch(
            Instant::ZERO,
            WatchInput::Request {
                stream: STREAM,
                request,
            },
        );
        host
    }

    /// Gives the hub the publication, takes its responses for the client, and reports them as sent.
    fn watch(&mut self, now: Instant, input: WatchInput) {
        let mut next = Some(input);
        while let Some(input) = next {
            let (mut outputs, mut bytes) = (Vec::new(), Vec::new());
            self.hub.step(now, input, &mut outputs);
            for output in &outputs {
                output.response.encode(Origin::default(), &mut bytes);
            }
            self.watched_bytes += bytes.len();
            next = (!outputs.is_empty()).then_some(WatchInput::Sent {
                stream: STREAM,
                responses: outputs.len(),
            });
        }
    }
}

/// Mostly puts; sometimes another request.
fn request(number: u64) -> Request {
    match number % 50 {
        10 => Request::LeaseGrant(LeaseGrantRequest {
            ttl: 2,
            id: number as i64,
        }),
        30 => Request::Compact(CompactionRequest {
            revision: number as i64 / 4,
            physical: false,
        }),
        40 => Request::Read,
        _ => Request::Put(PutRequest {
            key: format!("key/{:02}", number % 37).into(),
            value: vec![b'v'; 1_024].into(),
            ..PutRequest::default()
        }),
    }
}
