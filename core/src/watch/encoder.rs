//! Encodes each event of a stretch of history at most once with and once without its previous value, however many
//! watchers get it, and lets watchers that get the same events share one list of them.

use bytes::Bytes;

use super::response::{Events, encode_event};
use crate::mvcc::{Event, EventKind, View};
use crate::proto::mvccpb::{self, KeyValue};

/// The events of a stretch of history, and their encodings so far.
pub(super) struct Encoder<'a> {
    view: &'a View,
    events: &'a [Event],
    plain: Variant,
    with_prev_kv: Variant,
}

/// Encodings with or without previous values.
struct Variant {
    encoded: Vec<Option<Bytes>>,
    /// The last list made, and the events in it.
    last: (Vec<u32>, Events),
}

impl<'a> Encoder<'a> {
    /// Encodes `events`, which are in the history of `view`.
    pub(super) fn new(view: &'a View, events: &'a [Event]) -> Self {
        Self {
            view,
            events,
            plain: Variant::new(events.len()),
            with_prev_kv: Variant::new(events.len()),
        }
    }

    /// How many of the events did not create their key, so that there may be a previous value.
    pub(super) fn changes(&self, picks: &[u32]) -> u64 {
        let changes = picks.iter().filter(|pick| !is_creation(&self.events[**pick as usize]));
        changes.count() as u64
    }

    /// The events whose indexes are `picks`.
    pub(super) fn encode(&mut self, picks: &[u32], prev_kv: bool) -> Events {
        let Self { view, events, .. } = *self;
        if prev_kv {
            self.with_prev_kv.list(picks, |pick| {
                let event = &events[pick];
                encode_event(&message(event, previous(view, event)))
            })
        } else {
            self.plain
                .list(picks, |pick| encode_event(&message(&events[pick], None)))
        }
    }
}

impl Variant {
    fn new(events: usize) -> Self {
        Self {
            encoded: vec![None; events],
            last: (Vec::new(), Events::default()),
        }
    }

    fn list(&mut self, picks: &[u32], encode: impl Fn(usize) -> Bytes) -> Events {
        if self.last.0 != picks {
            let encoded = &mut self.encoded;
            let of = |pick: &u32| {
                let pick = *pick as usize;
                encoded[pick].get_or_insert_with(|| encode(pick)).clone()
            };
            self.last = (picks.to_vec(), picks.iter().map(of).collect());
        }
        self.last.1.clone()
    }
}

/// The key's value before `event`, if there was one and history still has it.
fn previous(view: &View, event: &Event) -> Option<KeyValue> {
    if is_creation(event) {
        None
    } else {
        view.prev_kv(&event.kv.key, event.kv.mod_revision)
    }
}

/// Whether the event created its key. A deletion has no creation revision.
fn is_creation(event: &Event) -> bool {
    event.kv.create_revision == event.kv.mod_revision
}

fn message(event: &Event, prev_kv: Option<KeyValue>) -> mvccpb::Event {
    let kind = match event.kind {
        EventKind::Delete => mvccpb::event::EventType::Delete,
        EventKind::Put => mvccpb::event::EventType::Put,
    };
    mvccpb::Event {
        r#type: kind.into(),
        kv: Some(event.kv.clone()),
        prev_kv,
    }
}
