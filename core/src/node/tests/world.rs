//! A world for nodes: links with delays, losses and cuts; disks that lose all unsynced data; one clock and one seed.
//!
//! After every step it asserts the invariants: promises leave only after their batches are durable, no entry is applied
//! that a quorum does not have on disk, a term has one leader, and the same entry leads to the same state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use crate::boot::founding;
use crate::error::Error;
use crate::id::MemberId;
use crate::jobs::{LogJob, PeerJob, SnapshotJob, TableJob, TableRows};
use crate::member::{Halt, Token};
use crate::membership::Member as Peer;
use crate::node::{Config, Done, Effect, Input, Node, PeerEvent, Request, Response, Tally};
use crate::proto::etcdserverpb::RangeRequest;
use crate::proto::raftpb::{Entry, EntryType, HardState, Message, MessageType};
use crate::random::Prng;
use crate::snapshot;
use crate::store::StoreConfig;
use crate::time::Instant;

use super::disk::{Disk, Step};
use super::watching::Watching;

/// One member's machine.
pub(super) struct Machine {
    pub(super) node: Option<Node>,
    pub(super) disk: Disk,
    pub(super) config: Config,
    /// How often it was started or lost power. Work of an earlier run is never reported.
    boot: u64,
    wal_free: Instant,
    table_free: Instant,
    /// Reports of the disk that a suspended member has not taken yet.
    reports: Vec<Input>,
    pub(super) halt: Option<Halt>,
    /// How long a sync of the log takes.
    pub(super) sync_takes: Duration,
    /// How long a batch of the table takes.
    pub(super) table_takes: Duration,
    /// The step at which the machine dies.
    pub(super) dies_at: Option<Step>,
    /// The number of snapshots it installed.
    pub(super) installed: usize,
    /// Its watchers.
    pub(super) hub: Option<Watching>,
    /// The counts of its turns.
    pub(super) tallies: Vec<Tally>,
}

enum Mail {
    /// A machine's disk has done a job of its node.
    Disk { member: MemberId, boot: u64, job: Job },
    Message {
        from: MemberId,
        to: MemberId,
        message: Message,
    },
    Snapshot {
        from: MemberId,
        to: MemberId,
        message: Message,
        bytes: Bytes,
    },
    /// The outcome of a snapshot, for its sender.
    Sent {
        from: MemberId,
        to: MemberId,
        received: bool,
    },
}

enum Job {
    Log(LogJob),
    Table(TableJob),
}

pub(super) struct World {
    pub(super) now: Instant,
    founders: u64,
    pub(super) prng: Prng,
    pub(super) machines: BTreeMap<MemberId, Machine>,
    mail: BTreeMap<(Instant, u64), Mail>,
    sequence: u64,
    /// Directions, as (from, to), in which no message arrives.
    pub(super) cut: BTreeSet<(MemberId, MemberId)>,
    pub(super) loss_percent: u64,
    /// Snapshots take this much longer than other messages.
    pub(super) snapshot_takes: Duration,
    pub(super) answers: BTreeMap<Token, Result<Response, Error>>,
    last_token: u64,
    leaders: BTreeMap<u64, MemberId>,
    states: BTreeMap<u64, (i64, u32)>,
    /// Every effect as text, if a test asks for it.
    pub(super) record: Option<Vec<String>>,
}

impl World {
    /// A cluster of `size` founders with ids from 1.
    pub(super) fn new(size: u64, seed: u64) -> Self {
        Self::with(size, seed, |_| {})
    }

    /// The same, with a change to every member's configuration.
    pub(super) fn with(size: u64, seed: u64, change: impl Fn(&mut Config)) -> Self {
        let founders: Vec<MemberId> = (1..=size).map(MemberId).collect();
        let mut world = Self {
            now: Instant::ZERO,
            founders: size,
            prng: Prng::new(seed).fork("world"),
            machines: BTreeMap::new(),
            mail: BTreeMap::new(),
            sequence: 0,
            cut: BTreeSet::new(),
            loss_percent: 0,
            snapshot_takes: Duration::ZERO,
            answers: BTreeMap::new(),
            last_token: 0,
            leaders: BTreeMap::new(),
            states: BTreeMap::new(),
            record: None,
        };
        let member = |id: &MemberId| Peer {
            id: *id,
            peer_urls: vec![format!("http://p{id}:1")],
            ..Peer::default()
        };
        let log = founding(&founders.iter().map(member).collect::<Vec<_>>());
        for id in &founders {
            let disk = Disk {
                hard_state: log.hard_state,
                entries: log.entries.clone(),
                ..Disk::default()
            };
            world.add_machine(*id, disk, &change);
        }
        for id in &founders {
            world.start(*id);
        }
        for id in &founders {
            world.connect(*id);
        }
        world
    }

    /// A machine with its own disk, not started yet.
    pub(super) fn add_machine(&mut self, id: MemberId, disk: Disk, change: impl Fn(&mut Config)) {
        let mut config = Config::new(id);
        config.member.name = format!("m{id}");
        config.member.client_urls = vec![format!("http://c{id}:1")];
        change(&mut config);
        let machine = Machine {
            node: None,
            disk,
            config,
            boot: 0,
            wal_free: Instant::ZERO,
            table_free: Instant::ZERO,
            reports: Vec::new(),
            halt: None,
            sync_takes: Duration::from_millis(1),
            table_takes: Duration::from_millis(5),
            dies_at: None,
            installed: 0,
            hub: None,
            tallies: Vec::new(),
        };
        self.machines.insert(id, machine);
    }

    /// Starts a machine from what its disk holds.
    pub(super) fn start(&mut self, id: MemberId) {
        let (now, seed) = (self.now, id.0);
        let machine = self.machine(id);
        machine.boot += 1;
        machine.reports.clear();
        let (recovered, store) = machine.disk.restore();
        let unix_ms = now.as_nanos() / 1_000_000 + machine.boot * 1_000_000;
        machine.node = Some(Node::start(machine.config.clone(), recovered, store, seed, unix_ms, now).unwrap());
        machine.halt = None;
        self.step(id, vec![Input::Wake]);
    }

    /// Reports to a member that it is connected to all others, and to them that they are connected to it.
    pub(super) fn connect(&mut self, id: MemberId) {
        let others: Vec<MemberId> = self.machines.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            self.step(id, vec![Input::Peer(PeerEvent::Active(other))]);
            self.step(other, vec![Input::Peer(PeerEvent::Active(id))]);
        }
    }

    /// A machine loses power: unsynced data is lost.
    pub(super) fn crash(&mut self, id: MemberId) {
        let machine = self.machine(id);
        machine.node = None;
        machine.boot += 1;
        let others: Vec<MemberId> = self.machines.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            self.step(other, vec![Input::Peer(PeerEvent::Inactive(id))]);
        }
    }

    /// Isolates a member, in both directions.
    pub(super) fn isolate(&mut self, id: MemberId) {
        for other in self.machines.keys() {
            self.cut.insert((id, *other));
            self.cut.insert((*other, id));
        }
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
        self.loss_percent = 0;
    }

    pub(super) fn machine(&mut self, id: MemberId) -> &mut Machine {
        self.machines.get_mut(&id).unwrap()
    }

    pub(super) fn node(&self, id: MemberId) -> &Node {
        self.machines[&id].node.as_ref().unwrap()
    }

    /// Sends a member a request; its answer will be in `answers`.
    pub(super) fn ask(&mut self, id: MemberId, request: Request) -> Token {
        self.ask_within(id, request, Duration::from_secs(60))
    }

    pub(super) fn ask_within(&mut self, id: MemberId, request: Request, patience: Duration) -> Token {
        self.last_token += 1;
        let token = Token(self.last_token);
        let deadline = self.now + patience;
        self.step(
            id,
            vec![Input::Request {
                token,
                request,
                deadline,
            }],
        );
        token
    }

    /// Sends a member a request and lets time pass until it answers.
    pub(super) fn call(&mut self, id: MemberId, request: Request) -> Result<Response, Error> {
        let token = self.ask(id, request);
        self.wait(token)
    }

    /// Lets time pass until a request is answered.
    pub(super) fn wait(&mut self, token: Token) -> Result<Response, Error> {
        let limit = self.now + Duration::from_secs(30);
        while !self.answers.contains_key(&token) {
            assert!(self.now < limit, "request {} is never answered", token.0);
            self.run(Duration::from_millis(10));
        }
        self.answers[&token].clone()
    }

    /// The leader that every reachable member follows; lets time pass until there is one.
    pub(super) fn leader(&mut self) -> MemberId {
        for _ in 0..2_000 {
            let running = || {
                self.machines
                    .iter()
                    .filter_map(|(id, machine)| Some((*id, machine.node.as_ref()?.status())))
            };
            let candidates = running().filter(|(_, status)| status.leads);
            if let Some((leader, status)) = candidates.max_by_key(|(_, status)| status.term) {
                let hears = |id: &MemberId| *id == leader || !self.cut.contains(&(leader, *id));
                if running()
                    .all(|(id, of)| !hears(&id) || (of.leader == leader && of.published && of.term == status.term))
                {
                    return leader;
                }
            }
            self.run(Duration::from_millis(10));
        }
        panic!("no leader within twenty seconds");
    }

    /// All members except the leader.
    pub(super) fn followers(&mut self) -> Vec<MemberId> {
        let leader = self.leader();
        self.machines.keys().copied().filter(|id| *id != leader).collect()
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let wake = self.next_wake();
            let mail = self.mail.first_key_value().map(|((at, _), _)| *at);
            match (wake, mail) {
                (Some((at, id)), mail) if at <= end && mail.is_none_or(|mail| at <= mail) => {
                    self.now = self.now.max(at);
                    self.step(id, vec![Input::Wake]);
                }
                (_, Some(at)) if at <= end => {
                    self.now = self.now.max(at);
                    let (_, mail) = self.mail.pop_first().unwrap();
                    self.deliver(mail);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn next_wake(&self) -> Option<(Instant, MemberId)> {
        let deadline = |(id, machine): (&MemberId, &Machine)| Some((machine.node.as_ref()?.deadline()?.0, *id));
        self.machines.iter().filter_map(deadline).min()
    }

    fn deliver(&mut self, mail: Mail) {
        match mail {
            Mail::Message { from, to, message } => {
                if self.machines.get(&to).is_some_and(|machine| machine.node.is_some()) {
                    self.step(to, vec![Input::Message { from, message }]);
                }
            }
            Mail::Disk { member, boot, job } => {
                if self.machines[&member].boot == boot {
                    self.disk_done(member, job);
                }
            }
            Mail::Snapshot {
                from,
                to,
                message,
                bytes,
            } => self.snapshot_arrives(from, to, message, &bytes),
            Mail::Sent { from, to, received } => {
                self.step(from, vec![Input::Peer(PeerEvent::Snapshot { to, received })]);
            }
        }
    }

    fn disk_done(&mut self, id: MemberId, job: Job) {
        let done = match job {
            Job::Log(job) => self.log_done(id, job),
            Job::Table(job) => self.table_done(id, job),
        };
        if let Some(done) = done {
            self.machine(id).reports.push(Input::Done(done));
            self.step(id, Vec::new());
        }
    }

    /// The log lane's report; `None` if the machine dies first, or if the job needs no sync.
    fn log_done(&mut self, id: MemberId, job: LogJob) -> Option<Done> {
        let machine = self.machine(id);
        if machine.disk.save(job.save) {
            machine.installed += 1;
            if self.dies(id, Step::Installed) {
                return None;
            }
        }
        job.sync.then_some(Done::Persisted { batch: job.batch })
    }

    /// The table lane's report; `None` if the machine dies first.
    fn table_done(&mut self, id: MemberId, job: TableJob) -> Option<Done> {
        let TableJob { batch, index, rows } = job;
        let disk = &mut self.machine(id).disk;
        match rows {
            TableRows::Changed(ops) => disk.store(ops),
            TableRows::All(view) => {
                disk.replace(&view);
                assert_eq!(disk.table().consistent_index(), index);
                if self.dies(id, Step::Replaced) {
                    return None;
                }
                self.machine(id).disk.received.retain(|received, _| *received > index);
                if self.dies(id, Step::Cleared) {
                    return None;
                }
            }
        }
        let durable_index = index;
        Some(Done::Stored { batch, durable_index })
    }

    /// A snapshot is made durable before its receiver gets it.
    fn snapshot_arrives(&mut self, from: MemberId, to: MemberId, message: Message, bytes: &Bytes) {
        let is_up = self.machines.get(&to).is_some_and(|machine| machine.node.is_some());
        if is_up {
            let index = message.get_snapshot().get_metadata().index;
            let rows = snapshot::decode("received", bytes).unwrap();
            let store = Box::new(snapshot::restore(StoreConfig::default(), &rows).unwrap());
            self.machine(to).disk.received.insert(index, rows);
            if !self.dies(to, Step::Received) {
                self.step(to, vec![Input::Snapshot { from, message, store }]);
                self.dies(to, Step::Told);
            }
        }
        let back = Mail::Sent {
            from,
            to,
            received: is_up,
        };
        self.post(self.now + Duration::from_millis(1), back);
    }

    /// Whether a machine dies at this step.
    fn dies(&mut self, id: MemberId, step: Step) -> bool {
        let dies = self.machine(id).dies_at.take_if(|at| *at == step).is_some();
        if dies {
            self.crash(id);
        }
        dies
    }

    /// One turn of a member, and the assertions after it.
    pub(super) fn step(&mut self, id: MemberId, inputs: Vec<Input>) {
        let now = self.now;
        let machine = self.machine(id);
        let Some(node) = machine.node.as_mut() else {
            return;
        };
        let mut effects = Vec::new();
        node.step(now, machine.reports.drain(..).chain(inputs), &mut effects);
        node.check();
        if !node.tally().is_empty() {
            machine.tallies.push(node.tally().clone());
        }
        if let Some(record) = &mut self.record {
            record.extend(effects.iter().map(|effect| format!("{now} {id} {effect:?}")));
        }
        self.check_applied(id);
        for effect in effects {
            self.carry_out(id, effect);
        }
    }

    fn carry_out(&mut self, id: MemberId, effect: Effect) {
        match effect {
            Effect::Halt(halt) => self.machine(id).halt = Some(halt),
            Effect::Log(job) => {
                let writes = job.save.marker.is_none() || job.save.state.is_some();
                let takes = if job.sync && writes {
                    self.machine(id).sync_takes
                } else {
                    Duration::ZERO
                };
                self.queue(id, takes, Job::Log(job));
            }
            Effect::Peer(PeerJob::Messages { to, messages }) => {
                for message in messages {
                    self.check_promise(id, &message);
                    self.send(id, to, message);
                }
            }
            Effect::Peer(PeerJob::Snapshot(job)) => self.send_snapshot(id, *job),
            Effect::Hash(_) | Effect::Tokens(_) => {}
            Effect::Publish {
                view, events, restored, ..
            } => {
                let now = self.now;
                if let Some(hub) = &mut self.machine(id).hub {
                    hub.published(now, &view.kv, events, restored);
                }
                let everything = RangeRequest {
                    key: "\0".into(),
                    range_end: "\0".into(),
                    ..RangeRequest::default()
                };
                let found = view.range(&everything).unwrap().encode_to_vec();
                let state = (view.kv.revision(), crc32c::crc32c(&found));
                let known = *self.states.entry(view.applied_index).or_insert(state);
                assert_eq!(
                    known, state,
                    "{id} at index {} has the state that the others had there",
                    view.applied_index
                );
            }
            Effect::Reply { token, result } => {
                assert!(
                    self.answers.insert(token, result).is_none(),
                    "request {} is answered once",
                    token.0
                );
            }
            Effect::Table(job) => self.queue(id, self.machines[&id].table_takes, Job::Table(job)),
        }
    }

    /// Every lane does its jobs in order.
    fn queue(&mut self, id: MemberId, takes: Duration, job: Job) {
        let now = self.now;
        let machine = self.machine(id);
        let free = match job {
            Job::Log(_) => &mut machine.wal_free,
            Job::Table(_) => &mut machine.table_free,
        };
        *free = (*free).max(now) + takes;
        let (at, boot) = (*free, machine.boot);
        self.post(at, Mail::Disk { member: id, boot, job });
    }

    fn send(&mut self, from: MemberId, to: MemberId, message: Message) {
        if self.cut.contains(&(from, to)) || self.prng.below(100) < self.loss_percent {
            return;
        }
        let delay = Duration::from_micros(self.prng.range(200..2_000));
        self.post(self.now + delay, Mail::Message { from, to, message });
    }

    fn send_snapshot(&mut self, from: MemberId, job: SnapshotJob) {
        let SnapshotJob { to, message, view } = job;
        self.check_promise(from, &message);
        let metadata = message.get_snapshot().get_metadata();
        assert_eq!((metadata.index, metadata.term), (view.applied_index, view.term));
        if self.cut.contains(&(from, to)) || self.prng.below(100) < self.loss_percent {
            let lost = Mail::Sent {
                from,
                to,
                received: false,
            };
            return self.post(self.now + Duration::from_millis(100), lost);
        }
        let delay = self.snapshot_takes + Duration::from_micros(self.prng.range(1_000..50_000));
        let mail = Mail::Snapshot {
            from,
            to,
            message,
            bytes: snapshot::encode(&view).into(),
        };
        self.post(self.now + delay, mail);
    }

    fn post(&mut self, at: Instant, mail: Mail) {
        self.sequence += 1;
        self.mail.insert((at, self.sequence), mail);
    }

    /// Asserts that everything a message promises is on the sender's disk.
    fn check_promise(&self, id: MemberId, message: &Message) {
        let disk = &self.machines[&id].disk;
        let HardState { term, vote, .. } = disk.hard_state;
        let kind = message.get_msg_type();
        let is_kept = match kind {
            MessageType::MsgPropose
            | MessageType::MsgReadIndex
            | MessageType::MsgRequestPreVote
            | MessageType::MsgRequestPreVoteResponse => true,
            // A member that was suspended may still send messages of an earlier term.
            _ if term > message.term => true,
            MessageType::MsgAppendResponse if !message.reject => {
                term == message.term && disk.last_index() >= message.index
            }
            MessageType::MsgRequestVoteResponse if !message.reject => (term, vote) == (message.term, message.to),
            MessageType::MsgRequestVote => (term, vote) == (message.term, id.0),
            _ => term == message.term,
        };
        assert!(
            is_kept,
            "{id} promises what its disk, at term {term}, does not have: {message:?}"
        );
    }

    /// Asserts that applied entries are on this member's disk and on a quorum's, and that a term has one leader.
    fn check_applied(&mut self, id: MemberId) {
        let node = self.node(id);
        let status = node.status();
        if status.leads {
            let leader = *self.leaders.entry(status.term).or_insert(id);
            assert_eq!(leader, id, "one leader in term {}", status.term);
        }
        let (disk, index) = (&self.machines[&id].disk, status.applied_index);
        assert!(
            index <= disk.last_index(),
            "{id} applied entry {index}, which is not on its own disk"
        );
        let Some(term) = disk.term_of(index) else { return };
        let conf_state = self.node(id).view().cluster.conf_state().clone();
        let has = |voter: &&u64| {
            let disk = &self.machines.get(&MemberId(**voter)).map(|machine| &machine.disk);
            disk.is_some_and(|disk| disk.snapshot.0 >= index || disk.term_of(index) == Some(term))
        };
        let holders = conf_state.voters.iter().filter(has).count();
        // After a change of membership the quorum may be one of the previous voters, so this is checked only before.
        let founders = self.founders;
        let is_change = |entry: &Entry| entry.index > founders && entry.entry_type != EntryType::EntryNormal as i32;
        if conf_state.voters.len() as u64 == founders && !disk.entries.iter().any(is_change) {
            assert!(
                holders as u64 > founders / 2,
                "entry {index} is applied and only {holders} voters have it"
            );
        }
    }
}
