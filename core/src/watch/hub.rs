//! The hub itself: takes inputs, keeps the tables of streams and watchers, and sets its deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::Duration;

use super::matcher::Matcher;
use super::response::Response;
use super::slab::Slab;
use super::stream::{Progress, Stream, Watcher};
use super::{
    DEFAULT_PROGRESS_INTERVAL, HubConfig, MIN_PROGRESS_INTERVAL, StreamId, WatchCounts, WatchInput, WatchOutput,
};
use crate::bug;
use crate::limits::WATCH_PATIENCE_INPUTS;
use crate::mvcc::View;
use crate::random::Prng;
use crate::time::Instant;

/// All watch streams of a member. A step handles its input, and makes at most one bounded pass over slow watchers.
#[derive(Debug)]
pub struct Hub {
    pub(super) config: HubConfig,
    pub(super) now: Instant,
    /// The newest state of the store. Synced watchers have received everything up to its revision.
    pub(super) view: View,
    pub(super) streams: Slab<Stream>,
    pub(super) watchers: Slab<Watcher>,
    /// Finds the watchers of a key.
    pub(super) matcher: Matcher,
    /// Slow watchers whose streams have room for them: the revision each needs next, and its slot.
    pub(super) ready: BTreeSet<(i64, u32)>,
    /// Whether the last pass took the newest of `ready`; the next takes the other end.
    pub(super) newest_first: bool,
    /// Scratch space of `fan_out`: slot of a watcher, index of an event. It is a field so that its memory is reused.
    pub(super) hits: Vec<(u32, u32)>,
    names: BTreeMap<StreamId, u32>,
    /// When streams are next sent progress.
    ticks: BTreeSet<(Instant, u32)>,
    /// Inputs since the last pass of catching up.
    waited: usize,
    slow: usize,
    pending_events: usize,
    events_total: u64,
    pub(super) ranges_total: u64,
    prng: Prng,
}

impl Hub {
    /// A hub without streams over the store's state `view`.
    #[must_use]
    pub fn new(mut config: HubConfig, view: View) -> Self {
        config.progress_interval = if config.progress_interval.is_zero() {
            DEFAULT_PROGRESS_INTERVAL
        } else {
            config.progress_interval.max(MIN_PROGRESS_INTERVAL)
        };
        Self {
            config,
            now: Instant::ZERO,
            view,
            streams: Slab::default(),
            watchers: Slab::default(),
            matcher: Matcher::default(),
            ready: BTreeSet::new(),
            newest_first: false,
            hits: Vec::new(),
            names: BTreeMap::new(),
            ticks: BTreeSet::new(),
            waited: 0,
            slow: 0,
            pending_events: 0,
            events_total: 0,
            ranges_total: 0,
            prng: Prng::new(config.seed).fork("watch"),
        }
    }

    /// Handles one input and appends the resulting outputs to `out`. The responses of a stream are in the order of
    /// sending.
    ///
    /// The host's queue for a stream needs room for [`crate::limits::WATCH_STREAM_QUEUE_RESPONSES`]: the hub hands out no
    /// more than that until the host reports that some were taken ([`WatchInput::Sent`]). While the queue is full, the
    /// stream's requests are held back. The host bounds their number: it reads no requests of a client that reads no
    /// responses.
    pub fn step(&mut self, now: Instant, input: WatchInput, out: &mut Vec<WatchOutput>) {
        self.now = self.now.max(now);
        let woken = matches!(input, WatchInput::Wake);
        match input {
            WatchInput::Applied { view, events } => self.apply(view, &events, out),
            WatchInput::Close { stream } => self.close(stream),
            WatchInput::Deny { stream, .. } | WatchInput::Request { stream, .. } => {
                if let Some(slot) = self.stream(stream) {
                    self.streams[slot].held.push_back(input);
                    self.take_up(slot, usize::MAX, out);
                }
            }
            WatchInput::Open { stream } => self.open(stream),
            WatchInput::Restored { view } => {
                if view.revision() >= self.view.revision() {
                    self.forget_places();
                    self.move_to(view);
                }
            }
            WatchInput::Sent { stream, responses } => {
                if let Some(slot) = self.stream(stream) {
                    self.sent(slot, responses, out);
                }
            }
            WatchInput::Wake => {}
        }
        self.tick(out);
        // A pass reads history once for many watchers, so it waits for more of them: until the host has no other input,
        // or for a number of inputs.
        self.waited += 1;
        if woken || self.waited >= WATCH_PATIENCE_INPUTS {
            self.waited = 0;
            self.catch_up(out);
        }
    }

    /// The revision up to which synced watchers have received everything.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.view.revision()
    }

    /// When the hub needs its next [`WatchInput::Wake`]. A time in the past means: as soon as the host has handed over
    /// all waiting inputs.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.ready.is_empty() {
            self.ticks.first().map(|(at, _)| *at)
        } else {
            Some(self.now)
        }
    }

    /// The counts of the hub.
    #[must_use]
    pub fn counts(&self) -> WatchCounts {
        WatchCounts {
            streams: self.streams.len(),
            watchers: self.watchers.len(),
            slow_watchers: self.slow,
            pending_events: self.pending_events,
            events_total: self.events_total,
            ranges_total: self.ranges_total,
        }
    }

    /// How many revisions the slowest watcher is behind; 0 if all have everything. Looks at every stream.
    #[must_use]
    pub fn lag(&self) -> i64 {
        if self.slow == 0 {
            return 0;
        }
        let waiting = self.streams.iter().filter_map(|(_, stream)| stream.waiting.first());
        let next = waiting.chain(self.ready.first()).map(|(next, _)| *next).min();
        next.map_or(0, |next| self.view.revision() + 1 - next)
    }

    /// Asserts the invariants between steps:
    ///
    /// - a watcher is in the tables of its stream;
    /// - a watcher is slow exactly if it is ready or waits for room, and then needs a revision that the store has;
    /// - no watcher waits while there is room;
    /// - a stream has a tick exactly while one of its watchers asks for progress;
    /// - a response waits, and a request is held back, only while the host's queue is full;
    /// - the counts equal what they count.
    pub fn check(&self) {
        let mut slow = 0;
        for (slot, watcher) in self.watchers.iter() {
            let stream = &self.streams[watcher.stream];
            assert_eq!(stream.watchers.get(&watcher.id), Some(&slot));
            let place = (watcher.next, slot);
            let ready = self.ready.contains(&place);
            let waiting = stream.waiting.contains(&place);
            assert_eq!(watcher.slow, ready ^ waiting, "slow is ready or waiting");
            assert!(!(ready && waiting));
            assert!(!watcher.slow || watcher.next <= self.view.revision());
            slow += usize::from(watcher.slow);
        }
        let (mut waiting, mut admitted, mut watchers, mut events, mut ticks) = (0, 0, 0, 0, 0);
        for (slot, stream) in self.streams.iter() {
            stream.check();
            assert_eq!(self.names.get(&stream.id), Some(&slot));
            assert!(stream.waiting.is_empty() || stream.admitted >= stream.room());
            assert_eq!(stream.tick.is_some(), stream.notifying > 0);
            assert!(stream.tick.is_none_or(|at| self.ticks.contains(&(at, slot))));
            waiting += stream.waiting.len();
            admitted += stream.admitted;
            watchers += stream.watchers.len();
            events += stream.unsent_events();
            ticks += usize::from(stream.tick.is_some());
        }
        assert_eq!(self.watchers.len(), watchers);
        assert_eq!(self.ready.len(), admitted);
        assert_eq!(self.slow, slow);
        assert_eq!(self.slow, admitted + waiting);
        assert_eq!(self.pending_events, events);
        assert_eq!(self.ticks.len(), ticks);
        assert_eq!(self.names.len(), self.streams.len());
    }

    fn stream(&self, stream: StreamId) -> Option<u32> {
        self.names.get(&stream).copied()
    }

    /// Opens a stream. If one with this number is open, it is closed first.
    fn open(&mut self, id: StreamId) {
        self.close(id);
        let interval = self.config.progress_interval;
        let tenth = u64::try_from(interval.as_nanos() / 10).unwrap_or(u64::MAX);
        let jitter = Duration::from_nanos(self.prng.below(tenth));
        let stream = Stream::new(id, self.now, interval.saturating_add(jitter));
        let slot = self.streams.insert(stream);
        self.names.insert(id, slot);
    }

    fn close(&mut self, id: StreamId) {
        let Some(slot) = self.names.remove(&id) else {
            return;
        };
        let watchers: Vec<u32> = self.streams[slot].watchers.values().copied().collect();
        for watcher in watchers {
            self.remove_watcher(watcher);
        }
        self.pending_events -= self.streams.remove(slot).unsent_events();
    }

    fn sent(&mut self, stream: u32, responses: usize, out: &mut Vec<WatchOutput>) {
        let events = self.streams[stream].sent(responses, out);
        self.pending_events -= events;
        self.events_total += events as u64;
        self.admit(stream);
        let requests = if bug!(TakesUpOneHeldRequest) { 1 } else { usize::MAX };
        self.take_up(stream, requests, out);
    }

    /// Handles up to `requests` of the stream's held requests, as long as the host's queue has room.
    fn take_up(&mut self, stream: u32, requests: usize, out: &mut Vec<WatchOutput>) {
        for _ in 0..requests {
            if self.streams[stream].is_full() {
                return;
            }
            match self.streams[stream].held.pop_front() {
                Some(WatchInput::Deny { request, error, .. }) => self.deny(stream, &request, error, out),
                Some(WatchInput::Request { request, .. }) => self.request(stream, request, out),
                Some(_) | None => return,
            }
        }
    }

    /// Appends `response` to a stream's queue.
    pub(super) fn send(&mut self, stream: u32, response: Response, out: &mut Vec<WatchOutput>) {
        self.pending_events += response.events.len();
        self.streams[stream].send(response, out);
    }

    /// Adds `watcher` to its stream and returns its slot. It is synced until it is made slow.
    pub(super) fn insert_watcher(&mut self, watcher: Watcher) -> u32 {
        let stream_slot = watcher.stream;
        let notified = watcher.progress != Progress::Off;
        let id = watcher.id;
        let slot = self.watchers.insert(watcher);
        self.matcher.insert(&self.watchers[slot].range, slot);
        let stream = &mut self.streams[stream_slot];
        stream.watchers.insert(id, slot);
        if notified {
            stream.notifying += 1;
            if stream.tick.is_none() {
                let at = stream.tick_after(self.now);
                stream.tick = Some(at);
                self.ticks.insert((at, stream_slot));
            }
        }
        slot
    }

    /// Removes a watcher.
    pub(super) fn remove_watcher(&mut self, slot: u32) {
        self.leave_slow(slot);
        let watcher = self.watchers.remove(slot);
        self.matcher.remove(&watcher.range, slot);
        let stream = &mut self.streams[watcher.stream];
        stream.watchers.remove(&watcher.id);
        if watcher.progress != Progress::Off {
            stream.notifying -= 1;
            if stream.notifying == 0
                && let Some(at) = stream.tick.take()
            {
                self.ticks.remove(&(at, watcher.stream));
            }
        }
        self.admit(watcher.stream);
    }

    /// Makes a synced watcher slow: it will catch up from its next revision.
    pub(super) fn enter_slow(&mut self, slot: u32) {
        let watcher = &mut self.watchers[slot];
        watcher.slow = true;
        self.slow += 1;
        let stream = watcher.stream;
        self.streams[stream].waiting.insert((watcher.next, slot));
        self.admit(stream);
    }

    /// Makes a slow watcher synced.
    pub(super) fn leave_slow(&mut self, slot: u32) {
        let watcher = &mut self.watchers[slot];
        if !watcher.slow {
            return;
        }
        watcher.slow = false;
        self.slow -= 1;
        let place = (watcher.next, slot);
        let stream = &mut self.streams[watcher.stream];
        if self.ready.remove(&place) {
            stream.admitted -= 1;
        } else {
            stream.waiting.remove(&place);
        }
    }

    /// Lets slow watchers of a stream catch up, one for each response that its queue has room for. Those that need the
    /// lowest revision come first.
    pub(super) fn admit(&mut self, stream: u32) {
        let stream = &mut self.streams[stream];
        while stream.admitted < stream.room()
            && let Some(place) = stream.waiting.pop_first()
        {
            stream.admitted += 1;
            self.ready.insert(place);
        }
    }

    /// Only for mutants: when a snapshot is restored, synced watchers start again, or forget that they wait for a future
    /// revision.
    fn forget_places(&mut self) {
        if bug!(RewindsWatchers) || bug!(HastensWatchers) {
            let synced = self.watchers.iter().filter(|(_, watcher)| !watcher.slow);
            for slot in synced.map(|(slot, _)| slot).collect::<Vec<_>>() {
                if bug!(RewindsWatchers) {
                    self.watchers[slot].next = 1;
                    self.enter_slow(slot);
                } else {
                    self.watchers[slot].next = 0;
                }
            }
        }
    }

    /// Takes `view` without its events: synced watchers that missed some catch up from history.
    pub(super) fn move_to(&mut self, view: View) {
        let seen = self.view.revision();
        self.view = view;
        let synced: Vec<u32> = self
            .watchers
            .iter()
            .filter(|(_, w)| !w.slow)
            .map(|(slot, _)| slot)
            .collect();
        for slot in synced {
            let watcher = &mut self.watchers[slot];
            watcher.next = watcher.next.max(seen + 1);
            if watcher.next <= self.view.revision() {
                self.enter_slow(slot);
            }
        }
    }

    /// Sends progress to the streams whose tick is due.
    fn tick(&mut self, out: &mut Vec<WatchOutput>) {
        let later = self.ticks.split_off(&(self.now.after(Duration::from_nanos(1)), 0));
        for (_, slot) in mem::replace(&mut self.ticks, later) {
            self.notify(slot, out);
            let stream = &mut self.streams[slot];
            let next = stream.tick_after(self.now);
            stream.tick = Some(next);
            self.ticks.insert((next, slot));
        }
    }

    fn notify(&mut self, stream: u32, out: &mut Vec<WatchOutput>) {
        let revision = self.view.revision();
        let watchers: Vec<u32> = self.streams[stream].watchers.values().copied().collect();
        for slot in watchers {
            let watcher = &mut self.watchers[slot];
            let was = watcher.progress;
            if was == Progress::Off {
                continue;
            }
            watcher.progress = Progress::Due;
            if was == Progress::Due
                && (watcher.has_all(revision) || bug!(ProgressWhileBehind))
                && self.streams[stream].room() > 0
            {
                let watch_id = watcher.id;
                self.send(
                    stream,
                    Response {
                        watch_id,
                        revision,
                        ..Response::default()
                    },
                    out,
                );
            }
        }
    }
}
