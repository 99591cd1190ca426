//! Sends old events to slow watchers, from the history of the newest view.
//!
//! A pass takes a bounded number of watchers that need about the same stretch of history, reads that stretch once for
//! all of them, and sends each at most one response. Passes alternate between the watchers with the least to catch up
//! and those with the most. The former are synced soon; the latter reach each other's revision and then share their
//! passes.

use super::encoder::Encoder;
use super::hub::Hub;
use super::matcher::Matcher;
use super::response::Response;
use super::slab::Slab;
use super::stream::Watcher;
use super::{HubConfig, WatchOutput};
use crate::bug;
use crate::limits::{WATCH_CATCHUP_BYTES, WATCH_PASS_BYTES, WATCH_PASS_DELIVERIES, WATCH_SYNC_BATCH_WATCHERS};
use crate::mvcc::{Event, EventRef, View};

/// A slow watcher: the revision it needs next, and its slot.
type Place = (i64, u32);

impl Hub {
    /// Makes one pass over some of the slow watchers whose streams have room.
    pub(super) fn catch_up(&mut self, out: &mut Vec<WatchOutput>) {
        let chosen = self.choose();
        let compact_revision = self.view.compact_revision();
        let (lost, members): (Vec<Place>, Vec<Place>) =
            chosen.into_iter().partition(|(next, _)| *next < compact_revision);
        for (_, slot) in lost {
            self.end_compacted(slot, compact_revision, out);
        }
        if members.is_empty() {
            return;
        }
        let view = self.view.clone();
        let stretch = Stretch::read(&view, &self.watchers, &members, &self.config);
        let mut encoder = Encoder::new(&view, &stretch.events);
        for ((next, slot), batch) in members.into_iter().zip(&stretch.batches) {
            let next = batch
                .more
                .filter(|_| !bug!(ForgetsCutPass))
                .unwrap_or(stretch.end + 1)
                .max(next);
            self.advance(slot, next, &batch.picks, &mut encoder, out);
        }
    }

    /// The watchers of the next pass, the oldest first. All of them start within one stretch of history.
    fn choose(&mut self) -> Vec<Place> {
        self.newest_first = !self.newest_first;
        let stretch = i64::try_from(self.config.pass_revisions).unwrap_or(i64::MAX);
        let (Some(&(oldest, _)), Some(&(newest, _))) = (self.ready.first(), self.ready.last()) else {
            return Vec::new();
        };
        if !self.newest_first {
            let near = self.ready.range(..(oldest.saturating_add(stretch), 0));
            return near.take(WATCH_SYNC_BATCH_WATCHERS).copied().collect();
        }
        let near = self.ready.range((newest.saturating_sub(stretch - 1), 0)..);
        let mut chosen: Vec<Place> = near.rev().take(WATCH_SYNC_BATCH_WATCHERS).copied().collect();
        chosen.reverse();
        chosen
    }

    /// Cancels a watch whose next events are compacted. If its stream's queue is full, a later pass does so.
    fn end_compacted(&mut self, slot: u32, compact_revision: i64, out: &mut Vec<WatchOutput>) {
        let Watcher { stream, id, .. } = self.watchers[slot];
        if self.streams[stream].room() == 0 {
            self.leave_slow(slot);
            self.enter_slow(slot);
            return;
        }
        self.remove_watcher(slot);
        self.streams[stream].compacted.insert(id);
        let ended = Response {
            watch_id: id,
            canceled: true,
            compact_revision,
            ..Response::default()
        };
        self.send(stream, ended, out);
    }

    /// Sends a watcher its picks and lets it continue at `next`. If its stream's queue is full, a later pass does so.
    fn advance(&mut self, slot: u32, next: i64, picks: &[u32], encoder: &mut Encoder<'_>, out: &mut Vec<WatchOutput>) {
        let revision = self.view.revision();
        let Watcher { stream, prev_kv, .. } = self.watchers[slot];
        self.leave_slow(slot);
        if picks.is_empty() {
            self.watchers[slot].next = next;
        } else if self.streams[stream].room() > 0 {
            self.watchers[slot].next = next;
            if prev_kv {
                self.ranges_total += encoder.changes(picks);
            }
            self.send_events(slot, revision, encoder.encode(picks, prev_kv), out);
        }
        if self.watchers[slot].next <= revision {
            self.enter_slow(slot);
        }
        self.admit(stream);
    }
}

/// A stretch of history, and which of its events are for which watcher.
#[derive(Default)]
struct Stretch {
    /// The events that at least one watcher gets.
    events: Vec<Event>,
    /// The events of each watcher.
    batches: Vec<Batch>,
    /// The last revision that was read.
    end: i64,
    /// Bytes of the events' keys and values.
    bytes: usize,
    /// How often an event was picked.
    deliveries: usize,
    /// How many watchers have reached their bound.
    full: usize,
    /// The largest number of revisions for one watcher.
    response_revisions: usize,
}

/// The events that one watcher gets of a stretch.
#[derive(Default)]
struct Batch {
    /// Indexes of events.
    picks: Vec<u32>,
    revisions: usize,
    bytes: usize,
    last: i64,
    /// The first revision that did not fit.
    more: Option<i64>,
}

impl Stretch {
    /// Reads for `members`, ordered by the revision that each needs next, as far as the bounds of a pass allow.
    fn read(view: &View, watchers: &Slab<Watcher>, members: &[Place], config: &HubConfig) -> Self {
        let mut group = Matcher::default();
        for (member, (_, slot)) in (0..).zip(members) {
            group.insert(&watchers[*slot].range, member);
        }
        let mut stretch = Self {
            batches: members.iter().map(|_| Batch::default()).collect(),
            response_revisions: config.response_revisions,
            ..Self::default()
        };
        let mut revisions = 0;
        let mut takers: Vec<(u32, bool)> = Vec::new();
        for event in view.events_since(members[0].0, config.pass_revisions) {
            let revision = event.revision().main;
            if revision != stretch.end {
                if stretch.is_full() {
                    return stretch;
                }
                stretch.end = revision;
                revisions += 1;
            }
            group.stab(event.key(), |member| {
                let watcher = &watchers[members[member as usize].1];
                let has_room = stretch.batches[member as usize].more.is_none();
                if has_room && revision >= watcher.next {
                    takers.push((member, watcher.wants(event.kind())));
                }
            });
            if !takers.is_empty() {
                stretch.hand_out(event, &takers);
                takers.clear();
            }
        }
        if revisions < config.pass_revisions {
            stretch.end = view.revision();
        }
        stretch
    }

    /// Whether no further revision is to be read.
    fn is_full(&self) -> bool {
        self.full == self.batches.len() || self.bytes >= WATCH_PASS_BYTES || self.deliveries >= WATCH_PASS_DELIVERIES
    }

    /// Gives an event to the watchers of its key, each with whether its filters let it pass.
    fn hand_out(&mut self, event: EventRef<'_>, takers: &[(u32, bool)]) {
        let kv = event.kv();
        let size = kv.key.len() + kv.value.len();
        let index = u32::try_from(self.events.len()).expect("a stretch is short");
        let before = self.deliveries;
        for &(taker, wanted) in takers {
            let most = self.response_revisions;
            if self.batches[taker as usize].take(wanted.then_some(index), kv.mod_revision, size, most) {
                self.deliveries += usize::from(wanted);
            } else {
                self.full += 1;
            }
        }
        if self.deliveries > before {
            self.bytes += size;
            self.events.push(Event {
                kind: event.kind(),
                kv,
                prev_kv: None,
            });
        }
    }
}

impl Batch {
    /// Takes an event, unless it begins a revision and there are already `most` revisions or enough bytes. As in etcd,
    /// which applies filters to whole responses, the revision of a filtered event counts too.
    fn take(&mut self, index: Option<u32>, revision: i64, size: usize, most: usize) -> bool {
        if revision != self.last {
            if self.revisions == most || self.bytes >= WATCH_CATCHUP_BYTES {
                self.more = Some(revision);
                return false;
            }
            self.last = revision;
            self.revisions += 1;
        }
        if let Some(index) = index {
            self.picks.push(index);
            self.bytes += size;
        }
        true
    }
}
