//! Random runs: many watchers, slow and quick streams, compaction, snapshots, merged inputs. Every response is checked
//! on arrival against a simple reference, which keeps the list of all events and walks it for each watcher.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use quoin_core::limits::WATCH_CATCHUP_REVISIONS;
use quoin_core::proto::etcdserverpb::watch_create_request::FilterType;
use quoin_core::proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use quoin_core::proto::mvccpb::event::EventType;
use quoin_core::proto::mvccpb::{Event, KeyValue};
use quoin_core::random::Prng;
use quoin_core::watch::{StreamId, WatchInput};

use crate::world::{Change, World};

/// The key space in its simplest form, with every event there ever was.
#[derive(Default)]
struct Reference {
    keys: BTreeMap<Bytes, KeyValue>,
    /// All events with their previous values, oldest first.
    log: Vec<Event>,
    revision: i64,
}

impl Reference {
    fn write(&mut self, changes: &[Change]) {
        let revision = self.revision + 1;
        let before = self.log.len();
        for change in changes {
            match change {
                Change::Put { key, value, lease } => {
                    let prev = self.keys.get(key).cloned();
                    let kv = KeyValue {
                        key: key.clone(),
                        create_revision: prev.as_ref().map_or(revision, |prev| prev.create_revision),
                        mod_revision: revision,
                        version: prev.as_ref().map_or(1, |prev| prev.version + 1),
                        value: value.clone(),
                        lease: *lease,
                    };
                    self.keys.insert(key.clone(), kv.clone());
                    self.log(EventType::Put, kv, prev);
                }
                Change::Delete { key, range_end } => {
                    let doomed: Vec<Bytes> = self
                        .keys
                        .keys()
                        .filter(|k| in_range(key, range_end, k))
                        .cloned()
                        .collect();
                    for key in doomed {
                        let prev = self.keys.remove(&key);
                        let kv = KeyValue {
                            key,
                            mod_revision: revision,
                            ..KeyValue::default()
                        };
                        self.log(EventType::Delete, kv, prev);
                    }
                }
            }
        }
        if self.log.len() > before {
            self.revision = revision;
        }
    }

    fn log(&mut self, kind: EventType, kv: KeyValue, prev_kv: Option<KeyValue>) {
        self.log.push(Event {
            r#type: kind.into(),
            kv: Some(kv),
            prev_kv,
        });
    }
}

fn in_range(key: &[u8], range_end: &[u8], k: &[u8]) -> bool {
    match range_end {
        [] => k == key,
        [0] => k >= key,
        end => k >= key && k < end,
    }
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// The state of a watch on the client's side.
struct Client {
    request: WatchCreateRequest,
    /// Index into the reference's log of the first event not received.
    cursor: usize,
    /// Everything before this revision was received.
    reached: i64,
    /// Set while the next response continues a fragmented one: the revision and the compacted revision at which that
    /// was made.
    in_fragment: Option<(i64, i64)>,
}

impl Client {
    /// Whether the watch is to receive `event`.
    fn wants(&self, event: &Event) -> bool {
        let WatchCreateRequest {
            key,
            range_end,
            filters,
            ..
        } = &self.request;
        let filter = match event.r#type() {
            EventType::Delete => FilterType::Nodelete,
            EventType::Put => FilterType::Noput,
        };
        let key_of_event = event.kv.as_ref().map_or(&b""[..], |kv| &kv.key);
        in_range(key, range_end, key_of_event) && !filters.contains(&filter.into())
    }

    /// Index of the next event to be received.
    fn next(&self, log: &[Event]) -> Option<usize> {
        (self.cursor..log.len()).find(|index| self.wants(&log[*index]) && revision_of(&log[*index]) >= self.reached)
    }
}

/// The parameters in which runs differ.
struct Habits {
    /// One of this many chances to compact is taken.
    rarely_compacts: u64,
    /// How far back in history a watch starts at most.
    looks_back: u64,
    /// How much more slowly each stream is read than the previous one.
    slowness: u64,
}

/// The run of one seed.
struct Run {
    prng: Prng,
    habits: Habits,
    world: World,
    reference: Reference,
    /// Revision and compact revision of the newest view the hub has.
    hub_revision: i64,
    hub_compacted: i64,
    clients: BTreeMap<StreamId, BTreeMap<i64, Client>>,
    /// A creation that is not yet answered.
    asked: Option<(StreamId, WatchCreateRequest)>,
    tally: Tally,
    /// A checksum of every response of the run.
    digest: u32,
}

/// How often each case occurred in all runs. Every case must occur, or the runs do not test it.
#[derive(Debug, Default)]
struct Tally {
    events: usize,
    compacted: usize,
    progress: usize,
    fragments: usize,
    batches: usize,
    full_batches: usize,
    forgotten_prev_kv: usize,
    ids_refused: usize,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut prng = Prng::new(seed);
        let habits = Habits {
            rarely_compacts: [1, 1, 20, u64::MAX][prng.below(4) as usize],
            looks_back: [20, 100, 100_000][prng.below(3) as usize],
            slowness: prng.below(30),
        };
        Self {
            prng,
            habits,
            // So few bytes that a handful of events needs fragments.
            world: World::new(seed, 400),
            reference: Reference {
                revision: 1,
                ..Reference::default()
            },
            hub_revision: 1,
            hub_compacted: -1,
            clients: BTreeMap::new(),
            asked: None,
            tally: Tally::default(),
            digest: 0,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.prng.below(bound)
    }

    fn key(&mut self) -> Bytes {
        vec![b'a' + self.below(6) as u8].into()
    }

    fn change(&mut self) -> Change {
        let key = self.key();
        if self.below(4) == 0 {
            let range_end = match self.below(4) {
                0 => vec![key[0] + 1 + self.below(3) as u8].into(),
                _ => Bytes::new(),
            };
            return Change::Delete { key, range_end };
        }
        let size = self.below(90);
        Change::Put {
            key,
            value: vec![b'v'; size as usize].into(),
            lease: self.below(3) as i64,
        }
    }

    /// One transaction: changes of different keys, deletions first.
    fn write(&mut self) {
        let mut changes = vec![self.change()];
        if self.below(4) == 0 {
            let mut keys = BTreeSet::new();
            changes = (0..self.below(5)).map(|_| self.change()).collect();
            changes.retain(|change| match change {
                Change::Put { key, .. } => keys.insert(key.clone()),
                Change::Delete { .. } => false,
            });
        }
        self.reference.write(&changes);
        self.sync_then(|world| world.write(&changes));
    }

    /// Gives the hub a new view in one of several ways, and tracks which view it has.
    fn sync_then(&mut self, act: impl FnOnce(&mut World)) {
        let holding = self.world.holding;
        if !holding {
            self.hub_revision = self.reference.revision;
        }
        act(&mut self.world);
        if !holding {
            self.hub_compacted = self.world.mvcc.compact_revision();
        }
        self.take_in();
    }

    fn compact(&mut self) {
        let most = self.below(60);
        let back = self.below(1 + most) as i64;
        let revision = self.reference.revision - back;
        let holding = self.world.holding;
        if revision > self.world.mvcc.compact_revision() && !holding {
            self.hub_compacted = revision;
        }
        self.world.compact(revision);
        self.take_in();
    }

    /// Ends the holding of changes, in one of three ways.
    fn release(&mut self) {
        self.world.holding = false;
        self.hub_revision = self.reference.revision;
        self.hub_compacted = self.world.mvcc.compact_revision();
        match self.below(3) {
            0 => self.world.tell(true),
            1 => self.world.tell(false),
            _ => self.world.restore(),
        }
        self.take_in();
    }

    fn stream(&mut self) -> StreamId {
        StreamId(self.below(5))
    }

    fn create(&mut self, stream: StreamId) {
        let key = self.key();
        let range_end = match self.below(4) {
            0 => Bytes::from_static(b"\0"),
            1 => vec![key[0] + 1 + self.below(4) as u8].into(),
            _ => Bytes::new(),
        };
        let revision = self.hub_revision;
        let start_revision = match self.below(6) {
            0 => 0,
            1 => revision + 1 + self.below(8) as i64,
            2 => (self.hub_compacted + self.below(3) as i64 - 1).max(1),
            3 => 1,
            _ => (revision - self.below(self.habits.looks_back) as i64).max(1),
        };
        let filters = match self.below(8) {
            0 => vec![FilterType::Noput.into()],
            1 => vec![FilterType::Nodelete.into()],
            _ => Vec::new(),
        };
        let request = WatchCreateRequest {
            key,
            range_end,
            start_revision,
            progress_notify: self.below(2) == 0,
            filters,
            prev_kv: self.below(2) == 0,
            watch_id: if self.below(4) == 0 { self.below(12) as i64 } else { 0 },
            fragment: self.below(2) == 0,
        };
        self.asked = Some((stream, request.clone()));
        self.world.create(stream, request);
        self.take_in();
    }

    fn cancel(&mut self, stream: StreamId) {
        let watches = self.clients.get(&stream).map_or(0, BTreeMap::len) as u64;
        let nth = self.below(watches.max(1)) as usize;
        let Some(id) = self
            .clients
            .get(&stream)
            .and_then(|watches| watches.keys().nth(nth))
            .copied()
        else {
            return;
        };
        self.world.cancel(stream, id);
        let last = self.take_in();
        let last = last.expect("the cancellation of a watch is answered");
        assert!(last.canceled && last.watch_id == id && last.compact_revision == 0);
    }

    /// One random action.
    fn act(&mut self) {
        let stream = self.stream();
        match self.below(100) {
            0..50 => self.write(),
            // The answers to these are expected at once; a full stream holds them back.
            50..61 if self.world.is_full(stream) => {}
            50..58 => self.create(stream),
            58..61 => self.cancel(stream),
            61..64 => {
                self.world.progress(stream);
                self.take_in();
            }
            64..66 if self.below(self.habits.rarely_compacts) == 0 => self.compact(),
            66..68 => {
                self.world.mvcc.compact_step(7, &mut Vec::new());
            }
            68..70 => self.world.holding = true,
            70..74 if self.world.holding => self.release(),
            74..76 => {
                self.world.now = self.world.now + Duration::from_secs(self.prng.below(400));
                self.world.step(WatchInput::Wake);
                self.take_in();
            }
            // Streams are read at different speeds: the last ones hardly ever.
            76..96 if self.below(1 + stream.0 * self.habits.slowness) == 0 => {
                let responses = self.below(200) as usize;
                self.world.sent(stream, responses);
                self.take_in();
            }
            96 if self.below(8) == 0 => {
                self.world.close(stream);
                self.clients.remove(&stream);
                self.world.step(WatchInput::Open { stream });
                self.take_in();
            }
            _ => {
                self.world.step(WatchInput::Wake);
                self.take_in();
            }
        }
    }

    /// Checks the responses that the hub sent; returns the last one.
    fn take_in(&mut self) -> Option<WatchResponse> {
        let mut last = None;
        for (stream, response) in self.world.fresh() {
            self.check(stream, &response);
            self.digest = crc32c::crc32c_append(self.digest, &response.encode_to_vec());
            last = Some(response);
        }
        assert!(self.asked.is_none(), "a request to watch is answered at once");
        last
    }

    fn check(&mut self, stream: StreamId, response: &WatchResponse) {
        let header = response.header.expect("checked on arrival").revision;
        if response.created {
            return self.check_created(stream, response, header);
        }
        if response.watch_id == -1 {
            assert!(response.events.is_empty() && !response.canceled);
            let watches: Vec<i64> = self.clients[&stream].keys().copied().collect();
            assert!(!watches.is_empty());
            for id in watches {
                self.check_progress(stream, id, header);
            }
            return;
        }
        if response.compact_revision != 0 {
            return self.check_compacted(stream, response, header);
        }
        if response.canceled {
            self.clients
                .get_mut(&stream)
                .and_then(|watches| watches.remove(&response.watch_id));
            assert_eq!(header, self.hub_revision);
        } else if response.events.is_empty() {
            self.check_progress(stream, response.watch_id, header);
            assert!(self.clients[&stream][&response.watch_id].request.progress_notify);
        } else {
            self.check_events(stream, response, header);
        }
    }

    fn check_created(&mut self, stream: StreamId, response: &WatchResponse, header: i64) {
        let (asked_by, request) = self.asked.take().expect("created once for every request");
        assert_eq!((asked_by, header), (stream, self.hub_revision));
        let watches = self.clients.entry(stream).or_default();
        if response.canceled {
            assert_eq!(response.watch_id, -1);
            assert_ne!(request.watch_id, 0, "only an id asked for can be refused here");
            self.tally.ids_refused += 1;
            return;
        }
        assert!(request.watch_id == 0 || request.watch_id == response.watch_id);
        let reached = if request.start_revision == 0 {
            header + 1
        } else {
            request.start_revision
        };
        let client = Client {
            request,
            cursor: 0,
            reached,
            in_fragment: None,
        };
        assert!(
            watches.insert(response.watch_id, client).is_none(),
            "no two watches share an id"
        );
    }

    /// Progress to `revision`: no event up to there is missing, and the watch has begun.
    fn check_progress(&mut self, stream: StreamId, id: i64, revision: i64) {
        assert_eq!(revision, self.hub_revision);
        let client = self
            .clients
            .get_mut(&stream)
            .and_then(|watches| watches.get_mut(&id))
            .expect("a watch");
        assert!(
            client.request.start_revision <= revision,
            "no progress of a future watch"
        );
        let missing = client
            .next(&self.reference.log)
            .map(|index| revision_of(&self.reference.log[index]));
        assert!(
            missing.is_none_or(|missing| missing > revision),
            "progress to {revision} without {missing:?}"
        );
        client.reached = client.reached.max(revision + 1);
        self.tally.progress += 1;
    }

    fn check_compacted(&mut self, stream: StreamId, response: &WatchResponse, header: i64) {
        assert!(response.canceled && response.events.is_empty() && response.cancel_reason.is_empty());
        assert_eq!((header, response.compact_revision), (0, self.hub_compacted));
        let client = self
            .clients
            .get_mut(&stream)
            .and_then(|watches| watches.remove(&response.watch_id));
        let client = client.expect("ended once");
        assert!(
            client.reached < self.hub_compacted,
            "compaction did not pass the received revisions"
        );
        self.tally.compacted += 1;
    }

    fn check_events(&mut self, stream: StreamId, response: &WatchResponse, header: i64) {
        let log = &self.reference.log;
        let watches = self.clients.get_mut(&stream).expect("an open stream");
        let client = watches
            .get_mut(&response.watch_id)
            .expect("a watch that was created and not cancelled");
        // All fragments are made at once; those for which the stream has no room are sent later.
        let made_at = client.in_fragment.unwrap_or((self.hub_revision, self.hub_compacted));
        let mut revisions = BTreeSet::new();
        for event in &response.events {
            let index = client.next(log).expect("every received event is in the log");
            check_event(client, event, &log[index], made_at.1, &mut self.tally);
            client.cursor = index + 1;
            revisions.insert(revision_of(event));
        }
        let last = revision_of(response.events.last().expect("not empty"));
        let next = client.next(log).map(|index| revision_of(&log[index]));
        assert!(!response.fragment || client.request.fragment);
        if response.fragment {
            self.tally.fragments += 1;
        } else {
            assert!(next.is_none_or(|next| next > last), "revision {last} comes whole");
            client.reached = last + 1;
        }
        client.in_fragment = response.fragment.then_some(made_at);
        assert!(revisions.len() <= WATCH_CATCHUP_REVISIONS);
        assert!(header == made_at.0 || header == last && revisions.len() == 1);
        self.tally.events += response.events.len();
        self.tally.batches += usize::from(revisions.len() > 1);
        self.tally.full_batches += usize::from(revisions.len() == WATCH_CATCHUP_REVISIONS);
    }

    /// Lets every stream read everything; then every watch must have received everything.
    fn finish(&mut self) {
        self.release();
        loop {
            self.world.settle();
            self.take_in();
            let streams: Vec<StreamId> = self.clients.keys().copied().collect();
            let sent: usize = streams
                .into_iter()
                .map(|stream| self.world.sent(stream, usize::MAX).len())
                .sum();
            self.take_in();
            if sent == 0 {
                break;
            }
        }
        for (stream, watches) in &self.clients {
            for (id, client) in watches {
                let missing = client.next(&self.reference.log).map(|index| &self.reference.log[index]);
                assert!(missing.is_none(), "{stream:?} watch {id} never got {missing:?}");
                assert!(
                    client.in_fragment.is_none(),
                    "{stream:?} watch {id} waits for the rest of a response"
                );
            }
        }
        assert_eq!(self.world.hub.counts().slow_watchers, 0);
    }
}

/// Compares an event with the expected one. A previous value is missing exactly if it is compacted.
fn check_event(client: &Client, event: &Event, expected: &Event, compacted: i64, tally: &mut Tally) {
    let mut expected = expected.clone();
    let known = revision_of(&expected) > compacted;
    if client.request.prev_kv && !known && expected.prev_kv.is_some() {
        tally.forgotten_prev_kv += 1;
    }
    if !client.request.prev_kv || !known {
        expected.prev_kv = None;
    }
    assert_eq!(event, &expected);
}

fn run(seed: u64, deeds: usize) -> Run {
    let mut run = Run::new(seed);
    for stream in 0..5 {
        run.world.step(WatchInput::Open {
            stream: StreamId(stream),
        });
    }
    for _ in 0..deeds {
        run.act();
    }
    run.finish();
    run
}

#[test]
fn every_watcher_gets_exactly_its_events() {
    let mut all = Tally::default();
    for seed in 0..200 {
        // Shown only when the run fails.
        println!("seed {seed}");
        let tally = run(seed, if seed % 10 == 0 { 6000 } else { 1500 }).tally;
        all.events += tally.events;
        all.compacted += tally.compacted;
        all.progress += tally.progress;
        all.fragments += tally.fragments;
        all.batches += tally.batches;
        all.full_batches += tally.full_batches;
        all.forgotten_prev_kv += tally.forgotten_prev_kv;
        all.ids_refused += tally.ids_refused;
    }
    println!("{all:?}");
    let Tally {
        events,
        compacted,
        progress,
        fragments,
        batches,
        full_batches,
        forgotten_prev_kv,
        ids_refused,
    } = all;
    let reached = [
        events,
        compacted,
        progress,
        fragments,
        batches,
        full_batches,
        forgotten_prev_kv,
        ids_refused,
    ];
    assert!(
        reached.iter().all(|times| *times > 0),
        "every case is reached: {reached:?}"
    );
}

#[test]
fn a_run_repeats_byte_for_byte() {
    let digests = [7, 7, 8].map(|seed| run(seed, 1000).digest);
    assert_eq!(digests[0], digests[1]);
    assert_ne!(digests[0], digests[2]);
}
