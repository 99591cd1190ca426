//! A member's watchers: one stream of a hub that gets every publication of the member, and the events it received.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message as _;

use crate::mvcc::{Event, EventKind, View};
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use crate::time::Instant;
use crate::watch::{Hub, HubConfig, Origin, StreamId, WatchInput};

const STREAM: StreamId = StreamId(1);

/// An event as a watcher received it: its revision, its key, and whether it was a put.
pub(super) type Seen = (i64, String, bool);

/// The hub and its only client.
pub(super) struct Watching {
    hub: Hub,
    pub(super) seen: BTreeMap<i64, Vec<Seen>>,
    /// Watches that a compaction cancelled, and the compact revision in their response.
    pub(super) compacted: BTreeMap<i64, i64>,
    /// Publications that replaced the state.
    pub(super) restored: usize,
}

impl Watching {
    pub(super) fn new(now: Instant, view: View) -> Self {
        let config = HubConfig {
            progress_interval: std::time::Duration::ZERO,
            max_response_bytes: 1 << 20,
            seed: 1,
            ..HubConfig::default()
        };
        let mut watching = Self {
            hub: Hub::new(config, view),
            seen: BTreeMap::new(),
            compacted: BTreeMap::new(),
            restored: 0,
        };
        watching.step(now, WatchInput::Open { stream: STREAM });
        watching
    }

    /// Watches every key from a revision on; 0 means from now on.
    pub(super) fn watch(&mut self, now: Instant, watch_id: i64, start_revision: i64) {
        let create = WatchCreateRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            start_revision,
            watch_id,
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        self.step(
            now,
            WatchInput::Request {
                stream: STREAM,
                request,
            },
        );
    }

    pub(super) fn published(&mut self, now: Instant, view: &View, events: Arc<[Event]>, restored: bool) {
        let view = view.clone();
        self.restored += usize::from(restored);
        if restored {
            assert_eq!(events.len(), 0, "a replaced state has no events");
            self.step(now, WatchInput::Restored { view });
        } else {
            self.step(now, WatchInput::Applied { view, events });
        }
    }

    fn step(&mut self, now: Instant, input: WatchInput) {
        let mut input = input;
        loop {
            let mut outputs = Vec::new();
            self.hub.step(now, input, &mut outputs);
            self.hub.check();
            let responses = outputs.len();
            for output in outputs {
                let mut bytes = Vec::new();
                output.response.encode(Origin::default(), &mut bytes);
                self.take(WatchResponse::decode(&bytes[..]).unwrap());
            }
            if responses > 0 {
                input = WatchInput::Sent {
                    stream: STREAM,
                    responses,
                };
            } else if self.hub.counts().slow_watchers > 0 {
                input = WatchInput::Wake;
            } else {
                return;
            }
        }
    }

    fn take(&mut self, response: WatchResponse) {
        if response.canceled {
            self.compacted.insert(response.watch_id, response.compact_revision);
        }
        let seen = self.seen.entry(response.watch_id).or_default();
        for event in response.events {
            let kv = event.kv.unwrap();
            let key = String::from_utf8(kv.key.to_vec()).unwrap();
            seen.push((kv.mod_revision, key, event.r#type == 0));
        }
    }
}

/// The events that a watcher of all keys from `start` on must get, from the history of a view.
pub(super) fn history(view: &View, start: i64) -> Vec<Seen> {
    let events = view.events_since(start, usize::MAX);
    let seen = events.map(|event| {
        let kv = event.kv();
        let key = String::from_utf8(kv.key.to_vec()).unwrap();
        (kv.mod_revision, key, event.kind() == EventKind::Put)
    });
    seen.collect()
}
