//! Sends new events to synced watchers, one revision per response.

use std::mem;

use super::WatchOutput;
use super::encoder::Encoder;
use super::hub::Hub;
use super::response::{Events, Response};
use super::stream::Progress;
use crate::bug;
use crate::mvcc::{Event, View};

impl Hub {
    /// Moves on to `view` and sends `events` to their watchers. A view older than the hub's is ignored: it was queued
    /// before a new stream brought a newer one.
    pub(super) fn apply(&mut self, view: View, events: &[Event], out: &mut Vec<WatchOutput>) {
        if view.revision() < self.view.revision() {
            return;
        }
        if !leads_from_to(events, self.view.revision(), view.revision()) {
            self.move_to(view);
            return;
        }
        self.view = view;
        for revision in events.chunk_by(|a, b| a.kv.mod_revision == b.kv.mod_revision) {
            self.fan_out(revision, out);
        }
    }

    /// Sends the events of one revision to their synced watchers.
    fn fan_out(&mut self, events: &[Event], out: &mut Vec<WatchOutput>) {
        let revision = events[0].kv.mod_revision;
        let mut hits = mem::take(&mut self.hits);
        for (index, event) in (0..).zip(events) {
            self.matcher.stab(&event.kv.key, |slot| hits.push((slot, index)));
        }
        hits.sort_unstable();
        let view = self.view.clone();
        let mut encoder = Encoder::new(&view, events);
        let mut picks = Vec::new();
        for of_watcher in hits.chunk_by(|a, b| a.0 == b.0) {
            let slot = of_watcher[0].0;
            let watcher = &self.watchers[slot];
            if watcher.slow || revision < watcher.next {
                continue;
            }
            picks.clear();
            let wanted = |index: &u32| watcher.wants(events[*index as usize].kind);
            picks.extend(of_watcher.iter().map(|hit| hit.1).filter(wanted));
            if picks.is_empty() {
                continue;
            }
            if self.streams[watcher.stream].room() == 0 {
                if !bug!(DropsEvents) {
                    self.watchers[slot].next = revision;
                    self.enter_slow(slot);
                }
                continue;
            }
            if watcher.prev_kv {
                self.ranges_total += encoder.changes(&picks);
            }
            let list = encoder.encode(&picks, watcher.prev_kv);
            self.send_events(slot, revision, list, out);
        }
        hits.clear();
        self.hits = hits;
    }

    /// Sends `events` to the watcher, in fragments if it accepts them.
    pub(super) fn send_events(&mut self, slot: u32, revision: i64, events: Events, out: &mut Vec<WatchOutput>) {
        let watcher = &mut self.watchers[slot];
        if watcher.progress == Progress::Due {
            watcher.progress = Progress::Skipped;
        }
        let stream = watcher.stream;
        let response = Response {
            watch_id: watcher.id,
            revision,
            events,
            ..Response::default()
        };
        if watcher.fragment {
            for part in response.split(self.config.max_response_bytes) {
                self.send(stream, part, out);
            }
        } else {
            self.send(stream, response, out);
        }
    }
}

/// Whether `events` are all events after revision `from` up to `to`: every revision has at least one.
fn leads_from_to(events: &[Event], from: i64, to: i64) -> bool {
    let mut reached = from;
    for event in events {
        let revision = event.kv.mod_revision;
        if revision != reached && revision != reached + 1 || revision == from {
            return false;
        }
        reached = revision;
    }
    reached == to
}
