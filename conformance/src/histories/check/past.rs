//! The store's history as the watcher received it: whole revisions, in order, none lost, none twice, and every event
//! follows from the state before.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use quoin_model::linear::kv::KeyValue;

use super::Violation;
use crate::histories::record::{Event, History, Moment, Watched};

/// The revision of an empty store.
pub(in crate::histories) const FIRST_REVISION: i64 = 1;
const RULE: &str = "watch";

/// Every revision, and every key's versions.
#[derive(Debug, Default)]
pub(in crate::histories) struct Past {
    groups: BTreeMap<i64, Group>,
    /// Oldest first; `None` means deletion.
    versions: BTreeMap<Bytes, Vec<(i64, Option<KeyValue>)>>,
}

/// The changes of one revision.
#[derive(Debug)]
pub(in crate::histories) struct Group {
    /// When the watcher received it.
    pub(in crate::histories) at: Moment,
    /// The changes, in their order.
    pub(in crate::histories) events: Vec<Event>,
}

impl Past {
    /// The history that the watcher received, up to its end.
    pub(in crate::histories) fn of(history: &History) -> Result<Self, Violation> {
        let mut past = Self::default();
        for response in &history.watched {
            past.take(response)?;
        }
        if let Some(end) = &history.end {
            let last = past.last();
            if last != end.revision {
                let words = format!("the store ends at revision {}, the watch at {last}", end.revision);
                return Err(Violation::new("watch: none lost", last.min(end.revision), words));
            }
            let there = past.range(b"\0", Some(b"\0"), end.revision);
            if there != end.keys {
                let words = format!("the keys are {:?}, by the watch they are {there:?}", end.keys);
                return Err(Violation::new("watch: equal to the state", end.revision, words));
            }
        }
        Ok(past)
    }

    fn take(&mut self, response: &Watched) -> Result<(), Violation> {
        // The last revision of the previous response: another event of it means that the revision was split or
        // repeated.
        let before = self.last();
        for event in &response.events {
            let revision = event.revision;
            let fails = |rule, words: &str| {
                let words = format!(
                    "{words}: {event:?} on stream {} after revision {before}",
                    response.stream
                );
                Err(Violation::new(rule, revision, words))
            };
            if revision <= before {
                let known = self.groups.get(&revision).map(|group| group.events.as_slice());
                return if known.is_some_and(|known| known.contains(event)) {
                    fails("watch: none twice", "an event came again")
                } else if revision == before {
                    fails("watch: whole revisions", "a revision was split over responses")
                } else {
                    fails("watch: in order", "an event is out of order")
                };
            }
            let newest = self.last();
            if revision < newest {
                return fails("watch: in order", "an event is out of order");
            }
            if revision > newest + 1 {
                return fails("watch: none lost", &format!("no event of revision {} came", newest + 1));
            }
            if self
                .group(revision)
                .is_some_and(|group| group.events.iter().any(|other| other.key == event.key))
            {
                return fails("watch: none twice", "a revision changed a key twice");
            }
            self.change(event)?;
            let group = self.groups.entry(revision).or_insert_with(|| Group {
                at: response.at,
                events: Vec::new(),
            });
            group.events.push(event.clone());
        }
        Ok(())
    }

    /// Adds an event that follows from the state before.
    fn change(&mut self, event: &Event) -> Result<(), Violation> {
        let revision = event.revision;
        let before = self.at(&event.key, revision - 1);
        let fits = match (&event.set, before) {
            (Some(set), Some(before)) => {
                set.version == before.version + 1 && set.create_revision == before.create_revision
            }
            (Some(set), None) => set.version == 1 && set.create_revision == revision,
            (None, before) => before.is_some(),
        };
        if !fits
            || event
                .set
                .as_ref()
                .is_some_and(|set| set.mod_revision != revision || set.key != event.key)
        {
            let words = format!("{event:?} does not follow from {before:?}");
            return Err(Violation::new(RULE, revision, words));
        }
        let versions = self.versions.entry(event.key.clone()).or_default();
        versions.push((revision, event.set.clone()));
        Ok(())
    }

    /// The number of revisions.
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    /// The newest revision.
    pub(super) fn last(&self) -> i64 {
        self.groups
            .last_key_value()
            .map_or(FIRST_REVISION, |(revision, _)| *revision)
    }

    /// The changes of a revision.
    pub(super) fn group(&self, revision: i64) -> Option<&Group> {
        self.groups.get(&revision)
    }

    /// Every revision, oldest first.
    pub(super) fn groups(&self) -> impl Iterator<Item = (i64, &Group)> {
        self.groups.iter().map(|(revision, group)| (*revision, group))
    }

    /// When a key was deleted first.
    pub(super) fn deleted(&self, key: &[u8]) -> Option<(i64, Moment)> {
        let (revision, _) = self.versions.get(key)?.iter().find(|(_, set)| set.is_none())?;
        Some((*revision, self.groups.get(revision)?.at))
    }

    /// Whether a key was ever set.
    pub(super) fn was_set(&self, key: &[u8]) -> bool {
        self.versions.contains_key(key)
    }

    /// A key as of a revision.
    pub(super) fn at(&self, key: &[u8], revision: i64) -> Option<&KeyValue> {
        let versions = self.versions.get(key)?;
        let behind = versions.partition_point(|(at, _)| *at <= revision);
        versions.get(behind.checked_sub(1)?)?.1.as_ref()
    }

    /// A range as of a revision; without an end it is one key, the end `\0` is past the last key.
    pub(super) fn range(&self, key: &[u8], end: Option<&[u8]>, revision: i64) -> Vec<KeyValue> {
        let Some(end) = end else {
            return self.at(key, revision).cloned().into_iter().collect();
        };
        let keys = self
            .versions
            .range::<[u8], _>((Bound::Included(key), Bound::Unbounded))
            .map(|(found, _)| found);
        let inside = keys.take_while(|found| end == b"\0" || found.as_ref() < end);
        inside.filter_map(|found| self.at(found, revision).cloned()).collect()
    }
}
